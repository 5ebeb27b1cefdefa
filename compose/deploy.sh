#!/usr/bin/env bash
# Starts or ends a deployment with Docker Compose.
#
#   compose/deploy.sh up cloud              build what is missing, start it, wait until it is healthy
#   compose/deploy.sh down cloud            end it; what its volumes hold stays
#   compose/deploy.sh down cloud --volumes  end it, and remove what its volumes hold as well
#   compose/deploy.sh run cloud ps          any other command of Docker Compose, such as logs
#   compose/deploy.sh check vehicle         see whether what is set can be meant
#
#   compose/deploy.sh renew cloud           give all its parts new certificates, while it runs
#
# The same with `vehicle`, of which OODIDA_VEHICLE is the name; to start it, OODIDA_BROKER_URL is set, and
# OODIDA_IDENTITY, the folder that `oodida enroll vehicle` has made; a cloud of `make up` on the same
# machine enrols it itself.
#
# OODIDA_POLICY is the file with what the vehicle allows, in a folder of its own, which it sees but cannot
# change; without one, everything but its location.
#
# OODIDA_RUN (default: compose/run) is where the names of images and the secrets are kept. OODIDA_WAIT_S
# is how long it may take to become healthy, in seconds (default: 180, a vehicle 60).
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

say() {
    printf 'deploy: %s\n' "$@"
}

usage() {
    sed -n 's/^# \{0,1\}//; 2,21p' "${BASH_SOURCE[0]}" >&2
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
    mkdir -p "$OODIDA_RUN/no-policy"
    "$python" -m images.build --env "$OODIDA_RUN/$what.env.new" "${images[@]}" >/dev/null
    # By its group a container may use the socket, and by nothing else.
    echo "OODIDA_ENGINE_GROUP=$(stat -L -c %g "$OODIDA_ENGINE_SOCKET")" >>"$OODIDA_RUN/$what.env.new"
    mv "$OODIDA_RUN/$what.env.new" "$OODIDA_RUN/$what.env"
    if [ "$what" = cloud ]; then
        mkdir -p -m 0700 "$OODIDA_RUN/secrets"
        make_secret store_password
        certify
        authorise
    elif [ -z "${OODIDA_IDENTITY:-}" ]; then
        certify_one vehicle "$OODIDA_VEHICLE" "$OODIDA_VEHICLE_IDENTITY"
    fi
}

oodida() {
    "$python" -c 'from oodida.cli import main; main()' "$@"
}

# The user of the images of orchestrators, workers and vehicles.
container_user=10001

enroll() { # ROLE NAME FOLDER
    # Whoever may enter the folder can be that part: its container's user, and nobody else here.
    install -d -m 0700 -o $container_user -g $container_user "$3"
    oodida enroll "$1" "$2" --pki "$OODIDA_RUN/pki" --to "$3" >/dev/null
}

# A certificate for each part. What is there and holds for long enough is left, unless it is renewed.
certify() {
    [ "$(id -u)" = 0 ] || fail "certificates are handed to the containers' users, which only root can do."
    local name bind=${OODIDA_BIND:-127.0.0.1} identities=$OODIDA_RUN/identities
    name=$(project)
    if [ ! -f "$OODIDA_RUN/pki/ca.key" ]; then
        local -a hosts=(--host broker --host localhost --host 127.0.0.1 --host "$(hostname)")
        case $bind in 127.0.0.1 | 0.0.0.0 | ::) ;; *) hosts+=(--host "$bind") ;; esac
        for host in ${OODIDA_HOSTS:-}; do hosts+=(--host "$host"); done
        oodida pki init "$OODIDA_RUN/pki" "${hosts[@]}" >/dev/null
    fi
    # A folder, so that a list that takes the place of the one before is seen; without the broker's key.
    if [ ! -f "$OODIDA_RUN/pki/revoked/crl.pem" ]; then
        install -d -m 0755 "$OODIDA_RUN/pki/revoked"
        install -m 0644 "$OODIDA_RUN/pki/broker/crl.pem" "$OODIDA_RUN/pki/revoked/crl.pem"
    fi
    install -d -m 0711 "$identities"
    for number in 1 2; do
        certify_one orchestrator "$name-$number" "$identities/orchestrator-$number" "$@"
        certify_one worker "$name-$number" "$identities/worker-$number" "$@"
    done
    local asks=$identities/analyst
    if [ ! -f "$asks/cert.pem" ]; then
        oodida enroll analyst "$(analyst)" --pki "$OODIDA_RUN/pki" --to "$asks" >/dev/null
    elif [ "${1:-}" = renew ]; then # it stays whose it is, whoever renews it
        oodida enroll analyst "$(whose "$asks/cert.pem")" --pki "$OODIDA_RUN/pki" --to "$asks" >/dev/null
    fi
}

whose() { # CERTIFICATE
    openssl x509 -noout -subject -nameopt multiline -in "$1" | sed -n 's/^ *commonName *= //p'
}

# Who may do what. It is written once, and whoever runs the cloud goes on with it.
authorise() {
    local file=$OODIDA_RUN/authority/roles.toml
    [ ! -f "$file" ] || return 0
    install -d -m 0755 "$OODIDA_RUN/authority"
    cat >"$file.new" <<END
# Who may do what, read again when it changes: docs/how-to/say-who-may-do-what.md
[default]
role = "analyst"

[users."$(analyst)"]
role = "administrator"

# A second person has to approve what asks for this much or more: docs/how-to/review-before-run.md
# [review]
# min_score = 3
END
    chmod 0644 "$file.new"
    mv "$file.new" "$file"
}

certify_one() { # ROLE NAME FOLDER [renew]
    [ "${4:-}" != renew ] && openssl x509 -checkend 864000 -noout -in "$3/cert.pem" >/dev/null 2>&1 ||
        enroll "$1" "$2" "$3"
}

analyst() {
    echo "${OODIDA_USER:-$(id -un)}"
}

compose() {
    [ -f "$OODIDA_RUN/$what.env" ] || fail "nothing has been started from here: $OODIDA_RUN is empty."
    docker compose --env-file "$OODIDA_RUN/$what.env" --file "compose/$what.yaml" "$@"
}

# What can be known to be wrong before anything is built or started.
check_vehicle() {
    local try="OODIDA_VEHICLE=car-1 OODIDA_BROKER_URL=mqtts://broker.example:8883 OODIDA_IDENTITY=FOLDER make vehicle-up"
    local name=${OODIDA_VEHICLE:-} url=${OODIDA_BROKER_URL:-} starts=
    [ "$verb" != up ] && [ "$verb" != check ] || starts=yes
    local -a missing=()
    [ -n "$name" ] || missing+=("OODIDA_VEHICLE is not set: the vehicle's name.")
    [ -n "$url" ] || [ -z "$starts" ] ||
        missing+=("OODIDA_BROKER_URL is not set: where the vehicle finds its cloud.")
    [ ${#missing[@]} = 0 ] || fail "${missing[@]}" "For example:" "    $try"
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$ ]] || fail \
        "OODIDA_VEHICLE='$name' is no name: letters and digits, and . _ - after the first, at most 64."
    [ -n "$starts" ] || return 0
    [[ $url =~ ^mqtts://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?$ ]] ||
        fail "OODIDA_BROKER_URL='$url' is no mqtts://host:port."
    local network=${OODIDA_NETWORK:-bridge}
    case $url in
        *//localhost* | *//127.* | *//\[::1\]*)
            [ "$network" = host ] || fail \
                "OODIDA_BROKER_URL='$url' is the vehicle's own container. Give this machine's address on" \
                "its network; or, for a cloud that 'make up' has started here:" \
                "    OODIDA_BROKER_URL=mqtts://broker:8883 OODIDA_NETWORK=oodida-cloud_outside"
            ;;
    esac
}

# Who the vehicle is: a folder that was made for it elsewhere, or one that is made here.
check_identity() {
    if [ -z "${OODIDA_IDENTITY:-}" ]; then
        [ -f "$OODIDA_RUN/pki/ca.key" ] || fail \
            "OODIDA_IDENTITY is not set: the folder that proves who the vehicle is. Its keeper makes it:" \
            "    oodida enroll vehicle $OODIDA_VEHICLE --pki PKI --to FOLDER"
        return
    fi
    local file
    for file in ca.pem cert.pem key.pem; do
        [ -f "$OODIDA_IDENTITY/$file" ] || fail "OODIDA_IDENTITY='$OODIDA_IDENTITY' holds no $file."
    done
    [ "$(id -u)" != 0 ] || chown -R $container_user:$container_user "$OODIDA_IDENTITY"
}

# With a file that is wrong nothing would start; what runs already must not end for it.
check_file() { # MODULE FILE
    local told
    told=$("$python" -m "$1" "$2" 2>&1) || fail "$told" "Nothing has been changed."
}

check_policy() {
    [ -n "${OODIDA_POLICY:-}" ] || return 0
    [ -f "$OODIDA_POLICY" ] ||
        fail "OODIDA_POLICY='$OODIDA_POLICY' is no file; examples/policy.toml is one to begin with."
    check_file edge_runtime.policy "$OODIDA_POLICY"
}

check_authority() {
    local file=$OODIDA_RUN/authority/roles.toml
    [ ! -f "$file" ] || check_file orchestrator.authority "$file"
}

name_policy() {
    export OODIDA_POLICY_FOLDER=$OODIDA_RUN/no-policy OODIDA_POLICY_INSIDE=
    if [ -n "${OODIDA_POLICY:-}" ]; then
        OODIDA_POLICY_FOLDER=$(realpath -m "$(dirname "$OODIDA_POLICY")")
        OODIDA_POLICY_INSIDE=/policy/$(basename "$OODIDA_POLICY")
    fi
}

check_network() {
    docker network inspect "${OODIDA_NETWORK:-bridge}" >/dev/null 2>&1 ||
        fail "there is no network '$OODIDA_NETWORK'. 'docker network ls' lists those that there are."
}

# A name of Compose has no capital letters and no dots. Two vehicles must not get one and the same,
# and none that of the cloud.
name_project() {
    local name=$OODIDA_VEHICLE
    [[ $name =~ ^[a-z0-9][a-z0-9_-]*$ && $name != cloud ]] || name=_$(printf %s "$name" | sha256sum | cut -c1-16)
    export OODIDA_PROJECT=oodida-$name
    # The name of a cloud, if one is set: a vehicle in its project would end what else is in it.
    unset COMPOSE_PROJECT_NAME
}

project() {
    compose config | sed -n 's/^name: //p'
}

volumes() {
    docker volume ls --quiet --filter "label=com.docker.compose.project=$(project)"
}

# Compose may say so when the time is over just as well, so it is looked at.
healthy() {
    local -a services=()
    for word in "$@"; do
        [[ $word == -* ]] || services+=("$word")
    done
    local states
    states=$(compose ps --all --format '{{.State}} {{.Health}}' "${services[@]}" | sort -u)
    [ "$states" = "running healthy" ]
}

start() {
    local before kept
    before=$(compose ps --all --quiet) kept=$(volumes)
    say "starting the $what, and waiting until it is healthy"
    compose --progress quiet up --detach --wait --wait-timeout "$wait_s" --remove-orphans "$@" &&
        healthy "$@" && return
    compose ps --all >&2
    compose logs --no-log-prefix --tail 8 ${1:+"$@"} >&2 || true
    if [ -n "$before" ]; then
        local named=
        [ "$what" = cloud ] || named="OODIDA_VEHICLE=$OODIDA_VEHICLE "
        fail "it did not become healthy, and stays, as it was there before;" \
            "'${named}compose/deploy.sh run $what logs' tells more."
    fi
    compose --progress quiet down --remove-orphans $([ -n "$kept" ] || echo --volumes)
    remove_left
    fail "it did not become healthy within $wait_s s, and is removed again; its last words are above."
}

up_said() {
    if [ "$what" = vehicle ]; then
        say "vehicle $OODIDA_VEHICLE is up." \
            "    OODIDA_VEHICLE=$OODIDA_VEHICLE make vehicle-down    ends it"
        return
    fi
    local host=${OODIDA_BIND:-127.0.0.1}
    case $host in 0.0.0.0 | ::) host=$(hostname) ;; esac
    say "the cloud is up. To ask it as $(analyst), who has a certificate:" \
        "    export OODIDA_URL=mqtts://$host:${OODIDA_BROKER_PORT:-8883}" \
        "    export OODIDA_IDENTITY=$OODIDA_RUN/identities/analyst" \
        "    .venv/bin/oodida vehicles    who is there" \
        "    export OODIDA_PKI=$OODIDA_RUN/pki" \
        "    .venv/bin/oodida enroll analyst NAME    a certificate for another" \
        "    compose/deploy.sh run cloud ps    how each part is; '... logs' what it says" \
        "    make down    ends it"
}

# A runtime that was killed removes its modules' containers when it starts again, which it will not.
remove_left() {
    local name
    name=$(project)
    local -a owners=("worker-$name-1" "worker-$name-2")
    [ "$what" = cloud ] || owners=("vehicle-$OODIDA_VEHICLE")
    for owner in "${owners[@]}"; do
        docker ps --all --quiet --filter "label=io.oodida.owner=$owner" | xargs -r docker rm -f >/dev/null
    done
}

end() {
    local remove="make down VOLUMES=remove"
    [ "$what" = cloud ] || remove="OODIDA_VEHICLE=$OODIDA_VEHICLE make vehicle-down VOLUMES=remove"
    if [ ! -f "$OODIDA_RUN/$what.env" ] || [ -z "$(compose ps --all --quiet)$(volumes)" ]; then
        say "there is nothing to end"
        return
    fi
    compose --progress quiet down --remove-orphans "$@"
    remove_left
    if [ -n "$(volumes)" ]; then
        say "it has ended; its volumes are kept. '$remove' removes them"
    else
        say "it has ended, and nothing of it is left"
    fi
}

[ $# -ge 2 ] || usage
verb=$1 what=$2
shift 2
case $what in
    cloud | vehicle) ;;
    *) usage ;;
esac
wait_s=${OODIDA_WAIT_S:-180}
if [ "$what" = vehicle ]; then
    check_vehicle
    name_project
    name_policy
    wait_s=${OODIDA_WAIT_S:-60}
    # Compose reads its file whole, whatever is to be done.
    export OODIDA_BROKER_URL=${OODIDA_BROKER_URL:-unset}
    export OODIDA_VEHICLE_IDENTITY=${OODIDA_IDENTITY:-$OODIDA_RUN/identities/vehicle-$OODIDA_VEHICLE}
fi
case $verb in
    up)
        [ -S "$OODIDA_ENGINE_SOCKET" ] ||
            fail "there is no engine's socket at $OODIDA_ENGINE_SOCKET; set OODIDA_ENGINE_SOCKET."
        if [ "$what" = cloud ]; then check_authority; else
            check_policy
            check_identity
            check_network
        fi
        prepare
        start "$@"
        up_said
        ;;
    down) end "$@" ;;
    check) ;;
    renew)
        if [ "$what" = cloud ]; then certify renew; else fail "'oodida enroll vehicle' renews it."; fi
        say "every part has a new certificate, and takes it when its connection is made again"
        ;;
    run) compose "$@" ;;
    *) usage ;;
esac
