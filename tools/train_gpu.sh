#!/bin/sh
# Makes the model of a recipe (nano unless told) on this machine's GPU, its songs on this machine's cores, for SECONDS
# (540 unless told) or until it is done. Safe to stop; the same command goes on, on the same machine. PACK is what
# tools/pack_training.sh made, for a machine without a network (needs root once, to put libraries in their places);
# leave it empty where everything is installed. What is finished goes to OUT: the checkpoint as nano.tar in parts of
# 15 MB, loss curves, and the report.
#
#     [PYTHON=python3] [WORK=train] [RECIPE=nano] sh tools/train_gpu.sh OUT [SECONDS] [PACK]
set -u
out=${1:?"usage: sh tools/train_gpu.sh OUT [SECONDS] [PACK]"}
seconds=${2:-540}
pack=${3:-}
python=${PYTHON:-python3}
work=${WORK:-train}
mkdir -p "$out" && out=$(CDPATH='' cd -- "$out" && pwd -P) || exit 2
if [ -n "$pack" ]; then
    pack=$(CDPATH='' cd -- "$pack" && pwd -P) || exit 2
    if [ ! -d "$pack/site" ]; then
        "$python" -m pip install --quiet --no-index --no-deps --target "$pack/site" "$pack"/wheels/*.whl || exit 2
    fi
    PYTHONPATH=$pack/site${PYTHONPATH:+:$PYTHONPATH}
    if [ ! -e /usr/share/sounds/sf2/TimGM6mb.sf2 ]; then
        cp -R -n "$pack/root/." / && ldconfig || exit 2
    fi
fi
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)" || exit 2
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

"$python" -m songgen.cli train all "recipe=${RECIPE:-nano}" device=cuda "workers=$cores" "data=$work/data" \
    "work=$work/work" "out=$work/nano" "max_seconds=$seconds" 2>&1 | tee -a "$out/train.log"
for curve in "$work"/work/*/losses.jsonl; do
    [ -f "$curve" ] && cp -- "$curve" "$out/$(basename -- "$(dirname -- "$curve")")_losses.jsonl"
done
[ -f "$work/work/report/report.json" ] && cp -- "$work/work/report/report.json" "$out/"
if [ -f "$work/nano/config.yaml" ]; then
    tar -C "$work" -cf - nano | split -b 15000000 - "$out/nano.tar."
    echo "cat $out/nano.tar.* | tar -x gives the checkpoint"
fi
tail -n 1 "$out/train.log" | grep -q '^report: done$'
