#!/usr/bin/env bash
# make demo: set everything up, start a private server and let the demo model speak. Again: takes seconds, changes nothing.
# make demo-stop (demo.sh stop): stop that server.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "${1:-}" = stop ]; then
    [ ! -e "$TOP/.cluster" ] || bash "$TOP/dev/cluster.sh" stop demo
    exit 0
fi

bash "$TOP/dev/setup.sh"
installed=$(build_and_install)

# Sessions of a running server may hold the old shared object: start it anew.
cluster() { bash "$TOP/dev/cluster.sh" "$1" demo "${@:2}"; }
[ -z "$installed" ] || ! cluster status || cluster stop

model=$(readable_by_server "$TOP/demo/model")
cluster start shared_buffers=256MB "hart.model_directory=${model%/demo/model}"
eval "$(cluster env)"
bindir=$("$PG_CONFIG" --bindir)
sql() { "$bindir/psql" -X -q -At -v ON_ERROR_STOP=1 -d "${database:-demo}" "$@"; }

# Remember what the database was made from: with the same version number, a development build can
# change the catalog, and the model can be trained again.
state=$(dirname "$PGDATA")
current() { [ "$(cat "$state/$1.sha256" 2>/dev/null)" = "$2" ]; }
remember() { echo "$2" >"$state/$1.sha256"; }
checksum() { cat "$@" | sha256sum | cut -d' ' -f1; }

[ "$(database=postgres sql -c "SELECT count(*) FROM pg_database WHERE datname = 'demo'")" = 1 ] ||
    database=postgres sql -c 'CREATE DATABASE demo'

script=$(checksum "$TOP"/sql/hartonomous--?.?.?.sql)
if ! current extension "$script"; then
    sql -c 'SET client_min_messages = warning' \
        -c 'DROP EXTENSION IF EXISTS hartonomous CASCADE' -c 'CREATE EXTENSION hartonomous CASCADE'
    remember extension "$script"
fi

weights=$(checksum "$TOP"/demo/model/*)
ready=$(sql -c "SELECT count(*) FROM hart.models WHERE name = 'model' AND state = 'ready'")
if [ "$ready" = 1 ] && ! current model "$weights"; then
    sql -c "CALL hart.drop_model('model')"
    ready=0
fi
if [ "$ready" = 0 ]; then
    sql -c "CALL hart.ingest_model('demo/model')"
    remember model "$weights"
fi

sql -f "$TOP/dev/demo.sql"

cat <<END

The server keeps running (make demo-stop ends it). To talk to it:

    $bindir/psql -h $PGHOST -U $PGUSER -d demo
END
