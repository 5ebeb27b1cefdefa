#!/usr/bin/env bash
# Makes the locks again from pyproject.toml: exact versions with hashes, and no addresses, so that
# each site installs from its own index.
#
# Usage: images/lock.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
locks=images/locks
# Debian trixie's interpreter, which all images have.
image_python=3.13

# The resolver is needed only here, so it is no dependency of the project.
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" --disable-pip-version-check install --quiet uv

compile() {
    local lock=$1
    shift
    "$tools/bin/uv" pip compile --quiet --upgrade --generate-hashes --only-binary=:all: \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
        --output-file "$locks/$lock.txt" "$@"
    printf 'lock: %s: %s packages\n' "$lock" "$(grep -c == "$locks/$lock.txt")"
}

# For the machines of people and CI: any supported Python.
compile dev --universal --python-version 3.11 --extra dev pyproject.toml
# For the images: one Python, no markers, because pip would read those of the downloading Python.
compile edge --python-version "$image_python" --python-platform linux --extra edge pyproject.toml
compile cloud --python-version "$image_python" --python-platform linux --extra cloud pyproject.toml
compile science --python-version "$image_python" --python-platform linux "$locks/science.in"
