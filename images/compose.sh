#!/usr/bin/env bash
# Makes sure that `docker compose` answers, in its second version. A machine that has it keeps its own.
#
# Where it is missing, root on Debian gets the distribution's package `docker-compose`. A release
# whose own is the first version takes it from trixie, whose package needs nothing newer; apt is told
# to take that one package from there, and nothing else ever.
set -euo pipefail

suite=trixie
entry=/etc/apt/sources.list.d/oodida-compose.list
pin=/etc/apt/preferences.d/oodida-compose
log=/var/log/oodida-compose-install.log

say() { printf 'compose: %s\n' "$*"; }

fail() {
    printf 'compose: %s\n' "$@" >&2
    exit 1
}

answers() { docker compose version >/dev/null 2>&1; }

# The version that apt would install, empty where there is none.
candidate() { LC_ALL=C apt-cache policy docker-compose | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'; }

mirror() {
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian //p' | head -n 1
}

# Lists of packages may be missing (a fresh image).
find_mirror() {
    local found
    found=$(mirror)
    if [ -z "$found" ]; then
        apt-get update -q >>"$log" 2>&1 || true
        found=$(mirror)
    fi
    [ -n "$found" ] || fail "apt knows no mirror of Debian; install Docker Compose 2.20 or newer."
    printf '%s\n' "$found"
}

add_source() {
    local mirror
    mirror=$(find_mirror)
    printf 'Package: *\nPin: release n=%s\nPin-Priority: -1\n\n' "$suite" >"$pin"
    printf 'Package: docker-compose\nPin: release n=%s\nPin-Priority: 990\n' "$suite" >>"$pin"
    printf 'deb %s %s main\n' "$mirror" "$suite" >"$entry"
    # This one list alone: the others are as new as the machine wants them.
    apt-get update -q -o "Dir::Etc::SourceList=$entry" -o Dir::Etc::SourceParts=/dev/null \
        -o APT::Get::List-Cleanup=0 >>"$log" 2>&1
}

if answers; then
    exit 0
fi
command -v docker >/dev/null || fail "the command 'docker' is missing; 'make setup' installs it."
command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || fail \
    "'docker compose' does not answer, and only root on Debian can install it." \
    "Install Docker Compose 2.20 or newer (the plug-in of the command 'docker')."

exec 9>/run/oodida-engine.lock
flock 9
if answers; then
    exit 0
fi
say "installing docker-compose from Debian"
: >"$log"
case $(candidate) in
    '' | 0* | 1*) add_source || true ;;
esac
if ! env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    docker-compose >>"$log" 2>&1 || ! answers; then
    rm -f "$entry" "$pin"
    tail -n 15 "$log" >&2
    fail "apt-get could not install docker-compose 2; its last lines are above."
fi
say "$(docker compose version)"
