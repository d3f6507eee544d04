#!/usr/bin/env bash
# Install the Debian packages that building and testing need, as far as they are missing. Asks nothing.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The server's major version: that of pg_config, or else of an installed server, or else the distribution's.
server_version() {
    if command -v "$PG_CONFIG" >/dev/null; then
        "$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'
    elif compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
        ls -d /usr/lib/postgresql/*/bin/postgres | cut -d/ -f5 | sort -n | tail -n 1
    else
        apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
    fi
}

packages() {
    local v=$1
    echo gcc libc6-dev libpcre2-dev make python3-dev python3-pip python3-venv \
         "postgresql-$v" "postgresql-server-dev-$v" "postgresql-plpython3-$v" \
         "postgresql-$v-postgis-3" "postgresql-$v-pgtap" libtap-parser-sourcehandler-pgtap-perl
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing() {
    local package
    for package in $(packages "$1"); do
        installed "$package" || echo "$package"
    done
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

# Debian creates and starts a cluster when a server is first installed. This project has its own: hold that off.
no_main_cluster=/etc/postgresql-common/createcluster.d/hartonomous.conf
hold_main_cluster() {
    as_root mkdir -p "$(dirname "$no_main_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_main_cluster" >/dev/null
    trap 'as_root rm -f "$no_main_cluster"; as_root rmdir --ignore-fail-on-non-empty "$(dirname "$no_main_cluster")"' EXIT
}

# A PostgreSQL that is not Debian's comes with its extensions from elsewhere too.
if ! command -v apt-get >/dev/null ||
   { command -v "$PG_CONFIG" >/dev/null && [[ $("$PG_CONFIG" --bindir) != /usr/lib/postgresql/* ]]; }; then
    note "not Debian's PostgreSQL: expecting server headers, PL/Python, PostGIS, pgTAP, the headers of PCRE2, gcc, make and Python with venv and pip"
    exit 0
fi

version=$(server_version)
if [ -z "$version" ]; then
    apt_get update
    version=$(server_version)
fi
missing=$(missing "$version")
[ -n "$missing" ] || exit 0

note "installing" $missing
apt_get update
installed "postgresql-$version" || hold_main_cluster
log=$(apt_get install -y --no-install-recommends $missing 2>&1) || {
    printf '%s\n' "$log" >&2
    die "could not install these packages; see apt-get's message above"
}
