#!/bin/sh
# Makes the cluster if there is none yet, and becomes the server. What is given on the command line
# goes to the server, such as -c max_connections=200.
#
# The database `oodida` belongs to the user `oodida`, whose password is in POSTGRES_PASSWORD_FILE or
# in POSTGRES_PASSWORD. The superuser `postgres` has none: it comes in from inside the container.
set -eu

fail() {
    echo "postgres: $*" >&2
    exit 1
}

make_cluster() {
    # The order of texts is that of their bytes: the same wherever the data is moved to.
    initdb --pgdata="$1" --username=postgres --data-checksums --encoding=UTF8 \
        --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256
    # Through standard input: arguments are seen by everybody on the machine.
    postgres --single -D "$1" postgres >/run/postgresql/made <<EOT
CREATE ROLE oodida LOGIN PASSWORD '$password'
CREATE DATABASE oodida OWNER oodida
EOT
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=${POSTGRES_PASSWORD:-}
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        # The last line need not end.
        read -r password <"$POSTGRES_PASSWORD_FILE" || [ -n "$password" ] ||
            fail "no password can be read from $POSTGRES_PASSWORD_FILE"
    fi
    case $password in
        '') fail "set POSTGRES_PASSWORD_FILE to a file with the password of oodida" ;;
        *[!A-Za-z0-9._~+/=-]*) fail "a password has letters, digits, and . _ ~ + / = - alone" ;;
    esac
    umask 077
    # Made beside its place and moved there whole: what a power cut has left is begun again.
    rm -rf "$PGDATA.new"
    make_cluster "$PGDATA.new"
    mv "$PGDATA.new" "$PGDATA"
fi
unset POSTGRES_PASSWORD

exec postgres -D "$PGDATA" -c config_file=/etc/postgresql/postgresql.conf "$@"
