# Sourced by .ci/run: finds what synthetic songs are made with, or gets it where it can. POSIX sh.
#
#   songgen_find_singers   says what it did; the tests that sing are skipped without

songgen_has_singers() {
    "$songgen_python" - <<'PYTHON' 2>/dev/null
import ctypes, os, sys
ctypes.CDLL("libespeak-ng.so.1")
ctypes.CDLL("libfluidsynth.so.3")
sys.exit(not os.path.exists("/usr/share/sounds/sf2/TimGM6mb.sf2"))
PYTHON
}

songgen_has_singers_packages() {
    "$songgen_python" -W ignore -c 'import pyworld, fluidsynth, scipy' >/dev/null 2>&1
}

songgen_find_singers() {
    if ! songgen_has_singers; then
        if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
            songgen_say "no espeak-ng or FluidSynth, and this is not root on a Debian: tests that sing are skipped"
            return 0
        fi
        songgen_say "installing Debian's espeak-ng and FluidSynth for the tests that sing"
        songgen_install_singers >/dev/null 2>&1 ||
            { apt-get update && songgen_install_singers; } >/dev/null 2>&1 || :
        songgen_has_singers || {
            songgen_say "apt-get install espeak-ng failed: tests that sing are skipped"
            return 0
        }
    fi
    songgen_has_singers_packages && return 0
    if [ ! -f "$songgen_root/.venv/.songgen-made" ] || [ "$songgen_python" != "$songgen_root/.venv/bin/python" ]; then
        songgen_say "no pyworld or pyfluidsynth in $songgen_python: tests that sing are skipped"
        return 0
    fi
    "$songgen_python" -m pip install --quiet --disable-pip-version-check \
        -r "$songgen_root/requirements_data.txt" >/dev/null 2>&1 || :
    songgen_has_singers_packages ||
        songgen_say "pip install -r requirements_data.txt failed: tests that sing are skipped"
}

songgen_install_singers() {
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y --no-install-recommends \
        espeak-ng libespeak-ng1 espeak-ng-data libfluidsynth3 timgm6mb-soundfont
}
