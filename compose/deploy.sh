#!/usr/bin/env bash
# Starts or ends a deployment with Docker Compose.
#
#   compose/deploy.sh up cloud              build what is missing, start it, wait until it is healthy
#   compose/deploy.sh down cloud            end it; what its volumes hold stays
#   compose/deploy.sh down cloud --volumes  end it, and remove what its volumes hold as well
#   compose/deploy.sh run cloud ps          any other command of Docker Compose, such as logs
#
# The same with `vehicle`, for which OODIDA_VEHICLE and OODIDA_BROKER_URL are set.
#
# OODIDA_RUN (default: compose/run) is where the names of images and the secrets are kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
python=${PYTHON:-.venv/bin/python}
export OODIDA_RUN=${OODIDA_RUN:-$here/run}
export OODIDA_ENGINE_SOCKET=${OODIDA_ENGINE_SOCKET:-/var/run/docker.sock}

fail() {
    printf 'deploy: %s\n' "$@" >&2
    exit 1
}

usage() {
    sed -n 's/^# \{0,1\}//; 2,12p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# A secret is a file that a container's user can read, in a folder that nobody here can enter.
make_secret() {
    local file=$OODIDA_RUN/secrets/$1
    [ -s "$file" ] && return
    (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$file.new")
    chmod 0444 "$file.new"
    mv "$file.new" "$file"
}

prepare() {
    local images=(edge sandbox-minimal sandbox-science)
    [ "$what" = vehicle ] || images+=(broker postgres registry orchestrator)
    mkdir -p "$OODIDA_RUN"
    "$python" -m images.build --env "$OODIDA_RUN/$what.env.new" "${images[@]}"
    # By its group a container may use the socket, and by nothing else.
    echo "OODIDA_ENGINE_GROUP=$(stat -L -c %g "$OODIDA_ENGINE_SOCKET")" >>"$OODIDA_RUN/$what.env.new"
    mv "$OODIDA_RUN/$what.env.new" "$OODIDA_RUN/$what.env"
    if [ "$what" = cloud ]; then
        mkdir -p -m 0700 "$OODIDA_RUN/secrets"
        make_secret store_password
    fi
}

compose() {
    [ -f "$OODIDA_RUN/$what.env" ] || fail "nothing has been started from here: $OODIDA_RUN is empty."
    docker compose --env-file "$OODIDA_RUN/$what.env" --file "compose/$what.yaml" "$@"
}

# A runtime that was killed removes its modules' containers when it starts again, which it will not.
remove_left() {
    local name
    name=$(compose config | sed -n 's/^name: //p')
    local -a owners=("worker-$name-1" "worker-$name-2")
    [ "$what" = cloud ] || owners=("vehicle-$OODIDA_VEHICLE")
    for owner in "${owners[@]}"; do
        docker ps --all --quiet --filter "label=io.oodida.owner=$owner" | xargs -r docker rm -f >/dev/null
    done
}

[ $# -ge 2 ] || usage
verb=$1 what=$2
shift 2
case $what in
    cloud | vehicle) ;;
    *) usage ;;
esac
case $verb in
    up)
        [ -S "$OODIDA_ENGINE_SOCKET" ] ||
            fail "there is no engine's socket at $OODIDA_ENGINE_SOCKET; set OODIDA_ENGINE_SOCKET."
        prepare
        compose up --detach --wait --wait-timeout 180 --remove-orphans "$@" || {
            compose ps --all
            fail "it did not become healthy; 'compose/deploy.sh run $what logs' tells why."
        }
        ;;
    down)
        compose down --remove-orphans "$@"
        remove_left
        case " $* " in
            *' --volumes '* | *' -v '*) ;;
            *) echo "deploy: volumes are kept; 'compose/deploy.sh down $what --volumes' removes them" ;;
        esac
        ;;
    run) compose "$@" ;;
    *) usage ;;
esac
