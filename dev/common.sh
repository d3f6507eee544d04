# shellcheck shell=bash
# Shared by the scripts in dev/: where things are, who runs the server. Source it, do not run it.

set -euo pipefail
shopt -s inherit_errexit

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PG_CONFIG=${PG_CONFIG:-pg_config}

note() { printf '%s\n' "hartonomous: $*" >&2; }
die()  { note "$*"; exit 1; }

# Run a command as root: directly, or through sudo when that asks nothing.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        die "needs root for: $*
             Run that command as root, then start again."
    fi
}

# The user the server runs as when root calls: PostgreSQL refuses to run as root. Empty otherwise.
server_user() {
    [ "$(id -u)" = 0 ] || return 0
    local user=${HART_RUN_AS:-postgres}
    id "$user" >/dev/null 2>&1 || useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    echo "$user"
}

# Run a command as the server's user, from a directory that anyone can enter.
as_server() {
    local user
    user=$(server_user)
    if [ -n "$user" ]; then
        (cd / && runuser -u "$user" -- "$@")
    else
        (cd / && "$@")
    fi
}

# A folder named after this checkout, outside it. Refuses one that somebody else made.
outside_folder() {
    local folder
    folder=$1/hartonomous-$(printf '%s' "$TOP" | cksum | cut -d' ' -f1)
    mkdir -p -m 755 "$folder"
    [ -O "$folder" ] && [ ! -L "$folder" ] || die "$folder belongs to another user"
    echo "$folder"
}

# The folder that holds the clusters: .cluster in the checkout, or, when the server's user cannot
# enter the checkout (a folder below /root, say), one in /var/tmp that .cluster links to.
cluster_root() {
    local root="$TOP/.cluster"
    if [ ! -e "$root" ]; then
        rm -f "$root"               # a link to a folder that is gone
        if as_server test -x "$TOP"; then
            mkdir -m 755 "$root"
        else
            ln -s "$(outside_folder /var/tmp)" "$root"
            note "user $(server_user) cannot enter $TOP: the clusters are in $(readlink "$root")"
        fi
    fi
    root=$(cd "$root" && pwd -P)
    as_server test -x "$root" || die "user $(server_user) cannot enter $root (was the checkout moved?): remove it, then start again"
    echo "$root"
}

# A folder as the server can read it: the folder itself, or a copy beside the clusters.
readable_by_server() {
    local folder copy
    folder=$(cd "$1" && pwd -P)
    if [ -z "$(as_server find "$folder" \( ! -readable -o -type d ! -executable \) -print -quit 2>&1)" ]; then
        echo "$folder"
        return
    fi
    copy="$(cluster_root)/copies$folder"
    if ! diff -rq "$folder" "$copy" >/dev/null 2>&1; then
        rm -rf "$copy"
        mkdir -p "$copy"
        cp -R "$folder/." "$copy/"
        chmod -R u=rwX,go=rX "$(cluster_root)/copies"
    fi
    echo "$copy"
}

# Build, and install when what is installed is not what was built. Prints "installed" when it did.
build_and_install() {
    unset MAKEFLAGS MAKELEVEL MFLAGS
    make -s --no-print-directory -C "$TOP" "$@" >&2
    make -s --no-print-directory -C "$TOP" check-installed 2>/dev/null && return
    note "installing the extension"
    as_root env "PG_CONFIG=$PG_CONFIG" make -s --no-print-directory -C "$TOP" install >&2
    echo installed
}
