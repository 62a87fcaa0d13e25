#!/bin/sh
# Serves the page that makes songs. Sets up what is missing first. Runs under any POSIX sh.
set -eu

usage() {
    cat <<'USAGE'
usage: sh tools/gradio/run.sh CKPT [OUT] [flags] [key=value ...]

  CKPT    nano (built in: our own small model that sings English), tiny, tiny-fast or tiny-songbloom (built in, for
          tests: noise, not music), a checkpoint's folder, or the name of a published model:
          base, base-new, base-full, large, v2-medium, v2-large, v2-fast,
          songbloom_full_150s, songbloom_full_150s_dpo, songbloom_full_240s
  OUT     the folder that songs are written to; output unless given

flags:
  --low_mem              keep only one stage's weights in memory at a time     (memory=low)
  --not_use_flash_attn   use PyTorch's own attention                           (attention=sdpa)
  --share                also open a public address through gradio.live        (ui.share=true)
  --help                 show this

The page is at http://127.0.0.1:7860, on this machine alone. Any other setting is given as key=value, such as
ui.port=7861 ui.host=0.0.0.0 ui.max_upload_mb=50; `songgen ui --help` lists them. Exit status: 0 ended by Ctrl-C,
2 nothing could start.
USAGE
}

fail() {
    printf '%s\n' "run.sh: $*" >&2
    exit 2
}

take_path() {
    num_paths=$((num_paths + 1))
    case $num_paths in
    1) ckpt=$1 ;;
    2) out=$1 ;;
    *) fail "one argument too many: $1 (CKPT [OUT], then flags and key=value; see --help)" ;;
    esac
}

ckpt='' out='' num_paths=0 unread=$#
while [ "$unread" -gt 0 ]; do # settings gather behind the arguments that are still to be read
    argument=$1
    unread=$((unread - 1))
    shift
    case $argument in
    -h | --help)
        usage
        exit 0
        ;;
    --low_mem) set -- "$@" memory=low ;;
    --not_use_flash_attn) set -- "$@" attention=sdpa ;;
    --share) set -- "$@" ui.share=true ;;
    -*)
        fail "unknown flag $argument; the flags are --low_mem --not_use_flash_attn --share --help," \
            "and other settings are written key=value"
        ;;
    '') fail "an argument is empty" ;;
    *=*)
        case ${argument%%=*} in
        */*) take_path "$argument" ;;
        *) if [ -e "$argument" ]; then take_path "$argument"; else set -- "$@" "$argument"; fi ;;
        esac
        ;;
    *) take_path "$argument" ;;
    esac
done
if [ "$num_paths" -lt 1 ]; then
    usage >&2
    exit 2
fi
case $ckpt in
*/*) [ -e "$ckpt" ] || fail "$ckpt: no such folder" ;;
esac
[ -z "$out" ] || set -- "output.dir=$out" "$@"

songgen_root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
. "$songgen_root/tools/setup_env.sh"
songgen_setup ui

songgen_exec ui "model=$ckpt" "$@"
