#!/bin/sh
# Makes songs from a JSON Lines file of lyrics. Sets up what is missing first. Runs under any POSIX sh.
set -eu

usage() {
    cat <<'USAGE'
usage: sh generate.sh CKPT LYRICS OUT [flags] [key=value ...]

  CKPT    nano (built in: our own small model that sings English), tiny, tiny-fast or tiny-songbloom (built in, for
          tests: noise, not music), a checkpoint's folder, or the name of a published model:
          base, base-new, base-full, large, v2-medium, v2-large, v2-fast,
          songbloom_full_150s, songbloom_full_150s_dpo, songbloom_full_240s
  LYRICS  a JSON Lines file, one song a line, such as sample/lyrics.jsonl
  OUT     the folder to write to: OUT/audio, OUT/jsonl

flags:
  --low_mem              keep only one stage's weights in memory at a time     (memory=low)
  --not_use_flash_attn   use PyTorch's own attention                           (attention=sdpa)
  --separate             write the song, its vocals and its accompaniment      (generate_type=separate)
  --bgm                  write the accompaniment only                          (generate_type=bgm)
  --vocal                write the vocals only                                 (generate_type=vocal)
  --help                 show this

Any other setting is given as key=value, such as batch=4 seed=7 output.format=flac; `songgen generate --help` lists
them. A new folder with a = in its name is written ./a=b. Exit status: 0 all songs made, 1 some failed,
2 nothing could start.
USAGE
}

fail() {
    printf '%s\n' "generate.sh: $*" >&2
    exit 2
}

take_path() {
    num_paths=$((num_paths + 1))
    case $num_paths in
    1) ckpt=$1 ;;
    2) lyrics=$1 ;;
    3) out=$1 ;;
    *) fail "one argument too many: $1 (CKPT LYRICS OUT, then flags and key=value; see --help)" ;;
    esac
}

take_stems() {
    [ -z "$stems" ] || [ "$stems" = "$1" ] || fail "--$stems and --$1 exclude each other"
    stems=$1
}

ckpt='' lyrics='' out='' stems='' num_paths=0 unread=$#
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
    --separate | --bgm | --vocal) take_stems "${argument#--}" ;;
    -*)
        fail "unknown flag $argument; the flags are --low_mem --not_use_flash_attn --separate --bgm --vocal --help," \
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
if [ "$num_paths" -lt 3 ]; then
    usage >&2
    exit 2
fi
[ -e "$lyrics" ] || fail "$lyrics: no such file"
[ ! -d "$lyrics" ] || fail "$lyrics is a folder; name the JSON Lines file"
case $ckpt in
*/*) [ -e "$ckpt" ] || fail "$ckpt: no such folder" ;;
esac
[ -z "$stems" ] || set -- "generate_type=$stems" "$@"

songgen_root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
. "$songgen_root/tools/setup_env.sh"
songgen_setup run

songgen_exec generate "model=$ckpt" "input=$lyrics" "output.dir=$out" "$@"
