#!/bin/sh
# Sets up what the tests need and runs them all, offline. Arguments are passed on to pytest.
set -eu
songgen_root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$songgen_root/tools/setup_env.sh"
songgen_setup test
cd "$songgen_root"
HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 OMP_NUM_THREADS=1
export HF_HUB_OFFLINE TRANSFORMERS_OFFLINE OMP_NUM_THREADS
exec "$songgen_python" -m pytest "$@"
