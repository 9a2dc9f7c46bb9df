#!/bin/sh
# Get what only the system can give: `prepare.sh venv PYTHON DIRECTORY` makes a virtual environment, `prepare.sh debian
# PACKAGE..` installs Debian packages. As root on Debian it installs what is missing; otherwise it names the one command.
set -eu

as_root_on_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    echo "hostline: installing $*"
    apt-get -qq update
    apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

make_venv() {
    python=$1 directory=$2
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "hostline: want python3 >= 3.11; choose one with: make PYTHON=/path/of/python3" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if ! as_root_on_debian; then
            echo "hostline: want Python's venv module; on Debian: sudo apt-get install --yes python3-venv" >&2
            exit 1
        fi
        install_packages python3-venv
    fi
    "$python" -m venv "$directory"
}

# Tests that lack a package are skipped and named, so nothing here is an error.
debian_packages() {
    missing=
    for package in "$@"; do
        dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if as_root_on_debian; then
        # shellcheck disable=SC2086  # one word for each package
        install_packages $missing || echo "hostline: could not install$missing; the tests that need them are skipped" >&2
    else
        echo "hostline: some tests will be skipped; they need: sudo apt-get install --yes$missing" >&2
    fi
}

case $1 in
venv) make_venv "$2" "$3" ;;
debian)
    shift
    debian_packages "$@"
    ;;
esac
