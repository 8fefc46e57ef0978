#!/bin/sh
# Make the virtual environment. usage: venv.sh PYTHON DIR EXTRAS
# On Debian the venv module and libgomp are packages of their own: fetch what is missing, when we may.
set -eu
python=$1 dir=$2 extras=$3

apt() {
    if [ "$(id -u)" = 0 ]; then run=; elif sudo -n true 2>/dev/null; then run="sudo -n"; else run=; fi
    if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && [ -z "$run" ]; }; then
        echo "halotui: please install: $*" >&2
        return 1
    fi
    $run apt-get update -qq && $run apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "halotui: needs Python 3.11 or later; name one: make PYTHON=python3.11" >&2
    exit 2
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || apt python3-venv
case $extras in
*demo* | *test* | *dev*) # the llama.cpp wheel links libgomp and does not bring it
    "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || apt libgomp1 ;;
esac
[ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
# compat: a plain path in site-packages; the other way costs each start 14 ms
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    --config-settings editable_mode=compat -e ".[$extras]"
