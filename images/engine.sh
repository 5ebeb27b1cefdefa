#!/usr/bin/env bash
# Makes sure that a container engine answers where docker.from_env() looks for it.
#
# An engine that answers is kept as it is. Where there is none, root on Debian gets the
# distribution's own: installed if it is missing, started in the background, and left running.
# Anywhere else the script says what is missing and what to do, and fails.
#
# An engine that this script has started gets gVisor as a second runtime (runsc), also while it runs.
# That one is a choice: where it cannot be had, a line says so and all is well.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
log=/var/log/oodida-dockerd.log
gvisor_log=/var/log/oodida-gvisor-install.log
patience_s=60

# The client would follow its contexts; docker.from_env() does not. Name the place that both use.
default_host=unix:///var/run/docker.sock
host=${DOCKER_HOST:-$default_host}

say() { printf 'engine: %s\n' "$*"; }

fail() {
    printf 'engine: %s\n' "$@" >&2
    exit 1
}

answers() {
    if command -v docker >/dev/null; then
        DOCKER_HOST=$host timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null
    elif [ -x "$here/../.venv/bin/python" ]; then
        timeout 10 "$here/../.venv/bin/python" -c \
            'import docker; print(docker.from_env(timeout=5).version()["Version"])' 2>/dev/null
    else
        return 1
    fi
}

# Installs packages. The lists may be missing (a fresh image) or old enough to name files that are
# gone: they are refreshed where a first try fails, and only then.
install_packages() {
    local to=$1
    shift
    local -a install=(env DEBIAN_FRONTEND=noninteractive
        apt-get install -y -q --no-install-recommends "$@")
    "${install[@]}" >"$to" 2>&1 && return
    { apt-get update -q && "${install[@]}"; } >"$to" 2>&1
}

install_engine() {
    say "installing docker.io and iptables from Debian (about a minute)"
    install_packages "$1" docker.io iptables && return
    tail -n 15 "$1" >&2
    fail "apt-get could not install docker.io and iptables; its last lines are above." \
        "Check the package sources ('apt-get update'), or install a container engine yourself."
}

python() {
    if [ -x "$here/../.venv/bin/python" ]; then
        "$here/../.venv/bin/python" "$@"
    else
        python3 "$@"
    fi
}

# True if the engine that answers is one that this script started: its output goes to our log.
is_ours() {
    local pid
    [ "$(id -u)" -eq 0 ] && [ "$host" = "$default_host" ] || return 1
    pid=$(cat /var/run/docker.pid 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/fd/1" 2>/dev/null)" = "$log" ]
}

knows_gvisor() {
    if command -v docker >/dev/null; then
        DOCKER_HOST=$host timeout 10 docker info --format '{{json .Runtimes}}' 2>/dev/null |
            grep '"runsc"' >/dev/null
    else
        python -c 'import docker, sys; sys.exit("runsc" not in docker.from_env().info()["Runtimes"])' \
            2>/dev/null
    fi
}

# Installs gVisor and names it in the engine's settings, which the engine reads at its start.
prepare_gvisor() {
    if ! command -v runsc >/dev/null; then
        # Once a day is enough where it cannot be had: without a network this takes a while.
        if [ -n "$(find "$gvisor_log" -mtime -1 2>/dev/null)" ]; then
            say "without gVisor, which could not be installed (remove $gvisor_log to try again)"
            return 1
        fi
        say "installing gVisor (runsc) from Debian"
        if ! install_packages "$gvisor_log" runsc; then
            say "going on without gVisor: no package runsc could be installed, see $gvisor_log"
            return 1
        fi
        rm -f "$gvisor_log"
    fi
    python "$here/daemon_config.py" /etc/docker/daemon.json ||
        { say "going on without gVisor"; return 1; }
}

# Adds gVisor to an engine that runs. Its settings are read again at a signal; no container notices.
add_gvisor() {
    if grep -qs '"runsc"' /etc/docker/daemon.json && command -v runsc >/dev/null; then
        return 0
    fi
    prepare_gvisor || return 0
    kill -HUP "$(cat /var/run/docker.pid)"
    for ((waited = 0; waited < 100; waited++)); do
        if knows_gvisor; then
            say "gVisor is there as the runtime runsc"
            return 0
        fi
        sleep 0.1
    done
    say "the engine has not taken gVisor up; it will at its next start (see $log)"
}

# A pid file that outlived its process stops the daemon from starting, when another process has that
# number now, or when the dead one was never reaped: then it has a name still, but no command line.
drop_stale_pid() {
    local file=$1 name=$2 pid program
    [ -f "$file" ] || return 0
    pid=$(cat "$file")
    IFS= read -r -d '' program 2>/dev/null <"/proc/$pid/cmdline" || program=
    if [ "${program##*/}" != "$name" ]; then
        rm -f "$file"
    fi
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "starting the service docker"
        systemctl start docker && version=$(answers) && return
        fail "the service docker did not come up; see 'journalctl -u docker'."
    fi
    drop_stale_pid /var/run/docker.pid dockerd
    drop_stale_pid /var/run/docker/containerd/containerd.pid containerd
    drop_stale_pid /run/containerd/containerd.pid containerd
    say "starting dockerd, its log is $log"
    (
        # As many descriptors as Debian's own service asks for, or as may be had: root in a
        # virtual machine does not always have the right to raise a hard limit. Containers start
        # with the usual soft limit, because programs that close every possible descriptor crawl
        # at a million of them.
        ulimit -c 0
        ulimit -n 1048576 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
        # A session of its own, and none of our descriptors: it outlives make and holds no pipe.
        exec setsid nohup dockerd --host "$default_host" \
            --default-ulimit "nofile=1024:$(ulimit -Hn)" \
            </dev/null >>"$log" 2>&1 3>&- 4>&- 9>&-
    ) &
    local daemon=$!
    disown
    for ((waited = 0; waited < patience_s * 10; waited++)); do
        if version=$(answers); then return; fi
        # setsid keeps the process id, so the child's end is the daemon's end.
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 15 "$log" >&2
    fail "dockerd did not come up; the last lines of $log are above."
}

# One at a time: a second 'make' waits here, and then finds what the first one started.
one_at_a_time() {
    exec 9>/run/oodida-engine.lock
    flock 9
}

if version=$(answers); then
    if is_ours; then
        one_at_a_time
        add_gvisor
    fi
    exit 0
fi

if [ "$host" != "$default_host" ]; then
    fail "no engine answers at DOCKER_HOST=$host." \
        "Start it, or unset DOCKER_HOST to use the engine of this machine."
fi
if [ -S "${default_host#unix://}" ] && [ ! -w "${default_host#unix://}" ]; then
    fail "there is an engine, but $(id -un) may not use it." \
        "Add the user to the group 'docker' ('sudo usermod -aG docker $(id -un)') and log in again."
fi
if [ "$(id -u)" -ne 0 ]; then
    fail "no container engine answers at $host, and only root can install one." \
        "Start Docker (or set DOCKER_HOST), or run this as root on Debian."
fi
if ! command -v dockerd >/dev/null && ! command -v apt-get >/dev/null; then
    fail "no container engine answers at $host, and this is no Debian where it could be installed." \
        "Install Docker Engine 20.10 or newer and start it."
fi

one_at_a_time
if version=$(answers); then
    exit 0
fi
# An engine that somebody installed and a service manager starts keeps its settings.
ours=
[ -d /run/systemd/system ] || ours=yes
if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then
    install_engine /var/log/oodida-engine-install.log
    ours=yes
fi
if [ -n "$ours" ]; then
    prepare_gvisor || ours=
fi
# Where services are started by their installation, there is nothing left to do.
if version=$(answers); then
    if [ -n "$ours" ] && [ -d /run/systemd/system ] && ! knows_gvisor; then
        systemctl reload docker || say "gVisor will be there when the engine starts again"
    fi
else
    start_engine
fi
say "version $version answers at $host"
