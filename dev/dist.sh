#!/usr/bin/env bash
# make dist: the release zip, from the last commit, with the server's Python packages for this
# platform's interpreter, so that it installs without a network.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$TOP"

version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" hartonomous.control)
grep -q "^    \"version\": \"$version\",$" META.json || die "the version in META.json is not $version"
bash dev/server-python.sh wheels

options=()
for wheel in plpython/wheels/*.whl; do
    options+=("--add-file=$wheel")
done
name=hartonomous-$version
git archive --format=zip --output="$name.zip" \
    --prefix="$name/plpython/wheels/" "${options[@]}" --prefix="$name/" HEAD
rm -rf plpython/wheels
note "made $name.zip"
