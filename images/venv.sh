#!/usr/bin/env bash
# Makes the virtual environment VENV with the hash-pinned packages of the lock LOCK.
#
# Usage: images/venv.sh VENV LOCK
# PYTHON names the interpreter; otherwise the newest of 3.11 to 3.13 on the path is taken.
set -euo pipefail

venv=$1
lock=$2

say() { printf 'venv: %s\n' "$*"; }

fail() {
    printf 'venv: %s\n' "$@" >&2
    exit 1
}

# A name on the path is not enough: version managers put shims there for versions they lack.
usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

find_python() {
    local name
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        if usable "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 is needed, and ${PYTHON:-none is on the path}${PYTHON:+ is not one}." \
        "Install one (on Debian: 'apt-get install python3 python3-venv'), or name it: make PYTHON=/path/to/python3"
}

make_venv() {
    local said
    said=$("$1" -m venv --clear "$venv" 2>&1) && return
    # Debian splits ensurepip off. Root can get it; others are told.
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing python3-venv from Debian"
        said=$({ apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv &&
            "$1" -m venv --clear "$venv"; } 2>&1) && return
    fi
    printf '%s\n' "$said" | tail -n 15 >&2
    fail "'$1 -m venv' does not work (above)." \
        "On Debian, install the package python3-venv; elsewhere a Python that has ensurepip."
}

python=$(find_python)
say "making $venv with $("$python" --version) ($(grep -c == "$lock") locked packages)"
make_venv "$python"
# Twice quiet: no warnings about the settings of the site, but errors.
pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check)
"${pip[@]}" install --require-hashes --only-binary=:all: --requirement "$lock"
"${pip[@]}" check
