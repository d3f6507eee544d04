#!/usr/bin/env bash
# make bench: build, start a private server, measure, print a table. Arguments: see `bench/run.sh --help`.

. "$(dirname "${BASH_SOURCE[0]}")/../dev/common.sh"

bash "$TOP/dev/setup.sh"
build_and_install >/dev/null

# The interpreter and numpy are those of the server, so nothing else needs to be installed.
python=$(bash "$TOP/dev/server-python.sh" python)
export PYTHONPATH="$("$PG_CONFIG" --pkglibdir)/hartonomous/python" PYTHONDONTWRITEBYTECODE=1 PG_CONFIG
exec "$python" "$TOP/bench/run.py" --folder "$(cluster_root)/bench-files" "$@"
