# shellcheck shell=bash disable=SC2034
# A Windows of our own to run tests in. Sourced: wine_start (exports the settings; may be called again), wine_stop.
wine_prefix=${KIN_WINEPREFIX:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/wine}
wine_started=
wineserver=wineserver
command -v wineserver >/dev/null 2>&1 || wineserver=/usr/lib/wine/wineserver

# It is warmed up here: its services keep the pipes of whoever starts them open, and ctest would wait for those. The loader
# is the same as in cmake/toolchains/mingw-w64-x86_64.cmake.
wine_start() {
    [ -n "$wine_started" ] && return 0
    local wine=/usr/lib/wine/wine64
    [ -x $wine ] || wine=$(command -v wine64 || command -v wine) || {
        echo "Wine is not installed"
        return 1
    }
    export WINEPREFIX=$wine_prefix WINEDEBUG=-all DISPLAY='' WINEDLLOVERRIDES="winedbg.exe=d;mscoree=d;mshtml=d"
    mkdir -p "$WINEPREFIX" || return 1
    "$wineserver" -p >/dev/null 2>&1 </dev/null
    timeout 180 "$wine" cmd /c exit >/dev/null 2>&1 </dev/null || {
        echo "Wine does not start: $wine cmd /c exit"
        return 1
    }
    wine_started=yes
}

# Ends every program in it.
wine_stop() {
    [ -n "$wine_started" ] && WINEPREFIX=$wine_prefix "$wineserver" -k >/dev/null 2>&1
    wine_started=
    return 0
}
