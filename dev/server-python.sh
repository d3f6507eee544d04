#!/usr/bin/env bash
# The Python side of the server: package hartonomous_server and the packages it needs, in a folder of
# the extension's own, for the interpreter that plpython3 links. Called by make with DESTDIR, PKGLIBDIR
# and PYTHON set.
#
#   server-python.sh check       exit status 0 when everything is installed and current
#   server-python.sh install     install what is missing
#   server-python.sh uninstall   remove the folder
#   server-python.sh python      print the interpreter
#   server-python.sh wheels      download the packages to plpython/wheels, for the release zip

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

pkglibdir=${PKGLIBDIR:-$("$PG_CONFIG" --pkglibdir)}
final=$pkglibdir/hartonomous/python
target=${DESTDIR:-}$final
source=$TOP/plpython
wheels=$source/wheels
requirements=$source/requirements.txt

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Print the interpreter of the libpython that plpython3 links: PYTHON when it is that one, or else
# the one of that version beside PostgreSQL's, in /usr/bin or on PATH.
find_python() {
    local library=$pkglibdir/plpython3.so version candidate
    [ -f "$library" ] || die "$library is missing: install PL/Python for this PostgreSQL (Debian: postgresql-plpython3-NN)"
    version=$(ldd "$library" | sed -n 's/.*libpython\(3\.[0-9]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] || die "cannot tell which libpython $library links: set PYTHON"
    for candidate in "${PYTHON:-/usr/bin/python3}" "$(dirname "${PYTHON:-/usr/bin/python3}")/python$version" \
                     "/usr/bin/python$version" "$(command -v "python$version" || true)"; do
        if [ "$(version_of "$candidate")" = "$version" ]; then
            echo "$candidate"
            return
        fi
    done
    die "plpython3 links libpython$version, but python$version was not found: install it or set PYTHON"
}

# Ask the package itself whether it finds what it needs, in the target folder and nowhere else
# (-I -S: no environment, no site-packages).
packages_present() {
    "$python" -I -S -B - "$source" "$target" <<'PY'
import sys
sys.path[:0] = sys.argv[1:]
import hartonomous_server
hartonomous_server.check_packages()
PY
}

package_current() { diff -rq -x __pycache__ "$source/hartonomous_server" "$target/hartonomous_server" >/dev/null 2>&1; }

# Byte-compile: the server's user cannot write here, and would compile at every connection.
compile() { "$python" -c 'import compileall, sys; compileall.compile_dir(sys.argv[1], ddir=sys.argv[2], quiet=1, workers=0)' "$1" "$final"; }

pip_install() {
    rm -rf "$new"
    mkdir -p "$new"
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1 \
        "$python" -m pip install --quiet --no-deps --no-compile --prefer-binary --target "$new" -r "$requirements" "$@"
}

# Install into a new folder, then put it in the old one's place.
install_packages() {
    local new=$target.new
    "$python" -m pip --version >/dev/null 2>&1 ||
        die "$python has no pip: install it (Debian: python3-pip), then run make install again"
    note "installing the server's Python packages into $target"
    if [ -d "$wheels" ] && pip_install --no-index --find-links "$wheels" 2>/dev/null; then
        :
    elif ! pip_install; then
        rm -rf "$new"
        die "could not install the packages of plpython/requirements.txt. With a network, see pip's message above.
             Without one, fetch them on a machine like this one and copy the folder plpython/wheels here:
             $python -m pip download --no-deps -d plpython/wheels -r plpython/requirements.txt"
    fi
    rm -rf "$target" "$new/bin"
    mv "$new" "$target"
}

install_all() {
    packages_present 2>/dev/null || install_packages
    if ! package_current; then
        rm -rf "$target/hartonomous_server"
        cp -R "$source/hartonomous_server" "$target/"
    fi
    find "$target/hartonomous_server" -name __pycache__ -prune -exec rm -rf {} +
    chmod -R u=rwX,go=rX "$target"
    compile "$target"
    packages_present || die "the Python packages in $target do not satisfy plpython/requirements.txt"
}

case ${1:-} in
    check)     python=$(find_python); package_current && packages_present 2>/dev/null ;;
    install)   python=$(find_python); install_all ;;
    uninstall) rm -rf "$target"; rmdir "$(dirname "$target")" 2>/dev/null || true ;;
    python)    find_python ;;
    wheels)    python=$(find_python)
               rm -rf "$wheels"
               "$python" -m pip download --quiet --no-deps --only-binary :all: -d "$wheels" -r "$requirements" ;;
    *)         sed -n '6,10s/^# *//p' "$0" >&2; exit 2 ;;
esac
