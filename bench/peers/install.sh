#!/usr/bin/env bash
# The peers in a Python environment of their own, made once; llama.cpp is built for this processor, which takes some ten minutes.
#
#   install.sh FOLDER PYTHON     prints the environment's interpreter
#
# Where the packages come from is pip's configuration. They are some GB; where PyPI's torch brings more than its build for
# processors, point pip to that build.

. "$(dirname "${BASH_SOURCE[0]}")/../../dev/common.sh"

[ $# = 2 ] || { sed -n '2,7s/^# *//p' "$0" >&2; exit 2; }
venv=$1 requirements=$TOP/bench/peers/requirements.txt

if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    command -v c++ >/dev/null || die "a C++ compiler is needed to build llama.cpp (Debian: g++)"
    note "installing the peers into $venv; $venv.log shows how far it is"
    rm -rf "$venv"
    "$2" -m venv "$venv"
    # compiled here even where pip has a built one, which would be for some common processor
    CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --verbose --no-binary llama-cpp-python --no-cache-dir \
        -r "$requirements" >"$venv.log" 2>&1 || die "could not install the peers; see $venv.log"
    cp "$requirements" "$venv/requirements.txt"
fi
echo "$venv/bin/python"
