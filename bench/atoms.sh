#!/usr/bin/env bash
# Speed of the Hilbert curve, of texts as atoms, and of a vocabulary as atoms, on a private server.
#
#   bash bench/atoms.sh [FOLDER]     FOLDER holds the tokenizer.json to ingest (default: the demo model's)

. "$(dirname "${BASH_SOURCE[0]}")/../dev/common.sh"

files=$(mkdir -p "$(cluster_root)/bench-files" && echo "$(cluster_root)/bench-files")
tokenizer=$(cd "${1:-$TOP/demo/model}" && pwd)
"${CC:-cc}" -O2 -I"$TOP/src_c" -o "$files/hilbert" "$TOP/bench/hilbert.c" "$TOP/src_c/hilbert.c"
read -r encode decode < <("$files/hilbert")
echo "Hilbert kernel alone, one core             encode $encode, decode $decode million points/s"

# a model with that vocabulary and hardly any weights
model=$files/vocabulary
python=$(bash "$TOP/dev/server-python.sh" python)
PYTHONPATH=$("$PG_CONFIG" --pkglibdir)/hartonomous/python:$TOP/bench PYTHONDONTWRITEBYTECODE=1 "$python" - "$model" "$tokenizer" <<'PYTHON'
import pathlib
import sys

from make_model import Shape, write_model

tiny = Shape(dim=16, hidden=16, heads=2, kv_heads=2, head_dim=8, layers=1)
write_model(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), tiny)
PYTHON

cluster() { bash "$TOP/dev/cluster.sh" "$1" bench-atoms "${@:2}"; }
trap 'cluster stop' EXIT
cluster start shared_buffers=512MB
eval "$(cluster env)"
bindir=$("$PG_CONFIG" --bindir)
"$bindir/createdb" bench 2>/dev/null || true
"$bindir/psql" -X -v ON_ERROR_STOP=1 -v model="$model" -d bench -f "$TOP/bench/atoms.sql"
