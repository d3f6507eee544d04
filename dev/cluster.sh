#!/usr/bin/env bash
# Private PostgreSQL clusters, in .cluster/NAME of the checkout.
#
#   cluster.sh init NAME                      make it (no-op when it is there)
#   cluster.sh start NAME [SETTING=VALUE...]  start it; settings stay until the next start with settings
#   cluster.sh stop NAME [fast|immediate|smart]
#   cluster.sh restart NAME                   stop, then start with the same settings
#   cluster.sh status NAME                    exit status 0 when it runs
#   cluster.sh env NAME                       PGHOST, PGPORT, PGUSER, PGDATA, to be eval'd
#   cluster.sh remove NAME                    stop it and delete it
#
# The server listens on a Unix socket only. Its superuser is "postgres", without a password: the socket
# and its folder belong to the user who runs the server and are closed to everyone else but root.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { sed -n '4,10s/^# *//p' "$0" >&2; exit 2; }

[ $# -ge 2 ] || usage
command=$1 name=$2
shift 2
[[ $name =~ ^[a-z0-9_-]+$ ]] || die "invalid cluster name: $name"

command -v "$PG_CONFIG" >/dev/null || die "$PG_CONFIG not found: run \`make setup\` or set PG_CONFIG"
bindir=$("$PG_CONFIG" --bindir)
root=$(cluster_root)
home=$root/$name
data=$home/data

socket_name=.s.PGSQL.5432

# Socket paths are limited to 107 bytes: a long checkout path needs a folder elsewhere.
socket_folder() {
    local folder=$home/run
    if [ $((${#folder} + 1 + ${#socket_name})) -gt 107 ]; then
        folder=$(outside_folder /tmp)/$name
    fi
    echo "$folder"
}

# Make a folder that only the server's user (and root) can enter.
private_folder() {
    local user
    user=$(server_user)
    if [ -n "$user" ]; then
        install -d -m 700 -o "$user" -g "$(id -gn "$user")" "$1"
    else
        mkdir -p "$1"
        chmod 700 "$1"
    fi
}

running() { [ -f "$data/postmaster.pid" ] && as_server "$bindir/pg_ctl" -D "$data" status >/dev/null; }

init() {
    [ -f "$data/PG_VERSION" ] && return
    private_folder "$home"
    as_server rm -rf "$data"
    as_server "$bindir/initdb" -D "$data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 >"$home/initdb.log" 2>&1 ||
        { cat "$home/initdb.log" >&2; die "initdb failed"; }
    as_server mkdir "$data/conf.d"
    as_server tee -a "$data/postgresql.conf" >/dev/null <<CONF

listen_addresses = ''
unix_socket_permissions = 0700
max_wal_size = '4GB'
include_dir = 'conf.d'
CONF
}

start() {
    running && return
    init
    private_folder "$(socket_folder)"
    # The folder is written at each start: the checkout may have been moved.
    printf "unix_socket_directories = '%s'\n" "$(socket_folder)" | as_server tee "$data/conf.d/00-socket.conf" >/dev/null
    if [ $# -gt 0 ]; then
        local setting value
        for setting; do
            value=${setting#*=}
            printf "%s = '%s'\n" "${setting%%=*}" "${value//\'/\'\'}"
        done | as_server tee "$data/conf.d/10-start.conf" >/dev/null
    fi
    as_server "$bindir/pg_ctl" -D "$data" -l "$home/server.log" -w -t 120 start >/dev/null ||
        { tail -n 20 "$home/server.log" >&2; die "cluster $name did not start"; }
}

stop() {
    running || return 0
    as_server "$bindir/pg_ctl" -D "$data" -m "${1:-fast}" -w -t 120 stop >/dev/null
}

print_env() {
    printf 'export PGHOST=%q PGPORT=5432 PGUSER=postgres PGDATA=%q\n' "$(socket_folder)" "$data"
}

case $command in
    init)    init ;;
    start)   start "$@" ;;
    stop)    stop "$@" ;;
    restart) stop fast; start ;;
    status)  running ;;
    env)     print_env ;;
    remove)  stop immediate; rm -rf "$home"; [ "$(socket_folder)" = "$home/run" ] || rm -rf "$(socket_folder)" ;;
    *)       usage ;;
esac
