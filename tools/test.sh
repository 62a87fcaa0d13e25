#!/bin/sh
# Sets up what the tests need and runs them all, offline, on up to four cores. Arguments are passed on to pytest,
# and then all is up to them: sh tools/test.sh tests/test_lyrics.py -k tags
set -eu
songgen_root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$songgen_root/tools/setup_env.sh"
songgen_setup test
cd "$songgen_root"
HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 OMP_NUM_THREADS=1
export HF_HUB_OFFLINE TRANSFORMERS_OFFLINE OMP_NUM_THREADS
if [ $# -eq 0 ] && "$songgen_python" -c 'import xdist' 2>/dev/null; then
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    [ "$cores" -le 4 ] || cores=4
    [ "$cores" -eq 1 ] || set -- -n "$cores"
fi
exec "$songgen_python" -m pytest "$@"
