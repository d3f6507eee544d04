#!/usr/bin/env bash
# make test: set everything up, then run the C unit tests, pgTAP and pytest against a fresh cluster.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

bash "$TOP/dev/setup.sh"
build_and_install WERROR=1 >/dev/null

cluster() { bash "$TOP/dev/cluster.sh" "$1" "${2:-test}" "${@:3}"; }

# Stop the test cluster and those that tests started.
stop_clusters() {
    local folder
    for folder in "$TOP"/.cluster/test "$TOP"/.cluster/test-*; do
        [ ! -d "$folder" ] || cluster stop "$(basename "$folder")" immediate
    done
}
trap stop_clusters EXIT

failed=0
run() { "$@" || failed=1; }

cd "$TOP"
unset MAKEFLAGS MAKELEVEL MFLAGS
run make -s --no-print-directory -C test/c check

# A fresh cluster, and pgTAP in it.
stop_clusters
rm -rf "$(cluster_root)"/test "$(cluster_root)"/test-*
model=$(readable_by_server "$TOP/demo/model")
cluster start test shared_buffers=512MB fsync=off "hart.model_directory=${model%/demo/model}"
eval "$(cluster env)"
bindir=$("$PG_CONFIG" --bindir)
"$bindir/createdb" hart_test
"$bindir/psql" -X -q -v ON_ERROR_STOP=1 -d hart_test -c 'SET client_min_messages = warning' \
    -c 'CREATE EXTENSION hartonomous CASCADE' -c 'CREATE EXTENSION pgtap'
run pg_prove --psql-bin "$bindir/psql" -d hart_test test/sql/*.sql

# pytest, in an environment of its own that is made once.
venv=$TOP/.venv
requirements=$TOP/test/python/requirements.txt
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    note "making the Python environment of the tests"
    rm -rf "$venv"
    "$(bash "$TOP/dev/server-python.sh" python)" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
tmp=$(cluster_root)/tmp
rm -rf "$tmp"
if [ -n "$(server_user)" ]; then install -d -o "$(server_user)" "$tmp"; else mkdir "$tmp"; fi
if [ -n "${HART_TEST_DATA:-}" ]; then
    HART_TEST_DATA=$(readable_by_server "$HART_TEST_DATA")
    export HART_TEST_DATA
fi
export HART_TEST_DSN="host=$PGHOST port=$PGPORT user=$PGUSER dbname=hart_test" HART_TEST_BINDIR=$bindir \
       HART_TEST_RUN_AS="$(server_user)" HART_TEST_TMP=$tmp PYTHONDONTWRITEBYTECODE=1
run "$venv/bin/python" -m pytest -p no:cacheprovider test/python
exit "$failed"
