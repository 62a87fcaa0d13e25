#!/bin/sh
# What only a GPU can show: the tests marked gpu, then the matrix of docs/benchmarks/README.md at SECONDS of audio a
# song (60 unless told). Each result goes to OUT as it is ready, so that a run that is cut short has kept the rest.
#
#     [PYTHON=python3] sh tools/measure_gpu.sh OUT [SECONDS]
set -u
out=${1:?"usage: sh tools/measure_gpu.sh OUT [SECONDS]"}
seconds=${2:-60}
python=${PYTHON:-python3}
mkdir -p "$out" && out=$(CDPATH='' cd -- "$out" && pwd -P) || exit 2
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)" || exit 2
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
failed=0

bench() { # NAME KEY=VALUE...: the report for people on the screen, its JSON in OUT/NAME.json
    name=$1
    shift
    if "$python" -m songgen.cli bench weights=random "seconds=$seconds" "output.dir=$out/$name" "$@" >"$out/$name.txt"; then
        sed '$d' "$out/$name.txt"
        tail -n 1 "$out/$name.txt" >"$out/$name.json"
    else
        echo "failed: $name" >&2
        failed=1
    fi
}

# shellcheck disable=SC2046 # file names without blanks; only these are collected, as others need more packages
"$python" -m pytest -q -m gpu --continue-on-collection-errors $(grep -rl 'pytest.mark.gpu' tests --include='test_*.py') \
    >"$out/gpu_tests.txt" 2>&1 || failed=1
tail -n 15 "$out/gpu_tests.txt"
bench base model=songgeneration_base batch=1,4,16 baseline=true profile=true
bench large model=songgeneration_large batch=1,16
bench large_int8 model=songgeneration_large batch=1,16 kv_cache=int8 render=false
bench large_sdpa model=songgeneration_large batch=1 attention=sdpa render=false
bench fast model=songgeneration_v2_fast batch=1,16
bench base_full model=songgeneration_base_full batch=16
"$python" tools/measure_int8_cache.py songgeneration_base --frames 300 >"$out/int8_cache.txt" 2>&1 || failed=1
tail -n 8 "$out/int8_cache.txt"
exit "$failed"
