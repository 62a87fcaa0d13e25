# Sourced by .ci/run: finds Chromium for the tests that drive the page, or gets Debian's. POSIX sh.
#
#   songgen_find_browser   says what it did; the tests find the browser on the PATH, and are skipped without one

songgen_has_browser() { command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; }

songgen_find_browser() {
    songgen_has_browser && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        songgen_say "no Chromium, and this is not root on a Debian: the tests of the page in a browser are skipped"
        return 0
    fi
    songgen_say "installing Debian's Chromium for the tests of the page"
    songgen_install_browser >/dev/null 2>&1 ||
        { apt-get update && songgen_install_browser; } >/dev/null 2>&1 || :
    songgen_has_browser ||
        songgen_say "apt-get install chromium failed: the tests of the page in a browser are skipped"
}

songgen_install_browser() {
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y --no-install-recommends chromium
}
