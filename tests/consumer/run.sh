#!/usr/bin/env bash
# Uses kin the way its users do: installs it into a fresh directory and builds a small program against it in four ways, for
# Linux (shared and fully static) and for Windows (mingw-w64, run with Wine). Also compiles the headers as C++.
#
#     tests/consumer/run.sh [DIRECTORY]        default: a temporary one; the directory is emptied first
#
#     KIN_WINDOWS_DEPS   libuv for Windows, as built by ci/deps.sh; default build/deps/windows
#
# One line for each: PASS, FAIL or SKIP with the reason. Ends with 0 if nothing failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
if [ $# -gt 0 ]; then
    work=$1
    rm -rf "$work"
    mkdir -p "$work" || exit 1
    work=$(cd "$work" && pwd)
else
    work=$(mktemp -d "${TMPDIR:-/tmp}/kin-consumer.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
fi
windows_deps=${KIN_WINDOWS_DEPS:-$tree/build/deps/windows}
toolchain=$tree/cmake/toolchains/mingw-w64-x86_64.cmake
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
failed=0

have() { command -v "$1" >/dev/null 2>&1; }
skip() { printf 'SKIP %s (%s)\n' "$1" "$2"; }

# check NAME COMMAND…: PASS if the command succeeds; otherwise shows what it said.
check() {
    local name=$1 log=$work/$1.log
    shift
    if ("$@") >"$log" 2>&1 </dev/null; then
        printf 'PASS %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n' "$name"
        tail -n 40 "$log" | sed 's/^/    /'
    fi
}

# says WHAT COMMAND…: the program prints just that, and ends with 0.
says() {
    local expected=$1 said
    shift
    said=$("$@") || {
        echo "it ended with $?: $*"
        return 1
    }
    [ "${said%$'\r'}" = "$expected" ] && return 0
    echo "it printed '$said' instead of '$expected': $*"
    return 1
}

# configure_and_build BUILD SOURCE OPTION…
configure_and_build() {
    local build=$1 source=$2
    shift 2
    cmake -S "$source" -B "$build" ${generator[@]+"${generator[@]}"} "$@" && cmake --build "$build"
}

# install_kin PREFIX OPTION…
install_kin() {
    local prefix=$1
    shift
    configure_and_build "$prefix-build" "$tree" -DCMAKE_BUILD_TYPE=Release -DKIN_TESTS=OFF -DKIN_EXAMPLES=OFF \
        -DCMAKE_INSTALL_PREFIX="$prefix" "$@" && cmake --install "$prefix-build"
}

# through_cmake WAY OPTION…: builds and runs the program
through_cmake() {
    local way=$1
    shift
    configure_and_build "$work/$way" "$here" -DUSE="$way" -DKIN_TREE="$tree" "$@" && says 42 "$work/$way/consumer" && says 42 "$work/$way/consumer_uv"
}

# through_pkg_config NAME PREFIX SOURCE OUTPUT LINK-OPTION…   (module=kin unless set)
through_pkg_config() {
    local name=$1 prefix=$2 source=$3 output=$4 flags libs
    shift 4
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name kin.pc)")
    export PKG_CONFIG_PATH
    flags=$(pkg-config --cflags "${module:-kin}") && libs=$(pkg-config --static --libs "${module:-kin}") || return 1
    # shellcheck disable=SC2086
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror $flags "$source" -o "$work/$name" "$@" $libs && says "$output" "$work/$name"
}

static_libuv() { pkg-config --exists libuv-static 2>/dev/null || ls /usr/lib/*/libuv.a /usr/lib/libuv.a >/dev/null 2>&1; }

static_build() {
    install_kin "$work/static" -DLibuv_USE_STATIC=ON &&
        through_pkg_config static-program "$work/static" "$here/main.c" 42 -static &&
        ! ldd "$work/static-program"
}

shared_build() {
    install_kin "$work/shared" -DBUILD_SHARED_LIBS=ON && rm -rf "$work/find_package" &&
        through_cmake find_package -DCMAKE_PREFIX_PATH="$work/shared" &&
        readelf -d "$work/find_package/consumer" | grep -q 'NEEDED.*libkin'
}

# Only what every Windows has: kin, libuv and the compiler's runtime are inside the program.
only_system_dlls() {
    local dll bad=0
    while read -r dll; do
        case $(printf %s "$dll" | tr '[:upper:]' '[:lower:]') in
        advapi32.dll | bcrypt.dll | dbghelp.dll | iphlpapi.dll | kernel32.dll | msvcrt.dll | ntdll.dll | ole32.dll | \
            psapi.dll | rpcrt4.dll | shell32.dll | user32.dll | userenv.dll | ws2_32.dll | ucrtbase.dll | api-ms-win-*) ;;
        *)
            echo "it needs $dll"
            bad=1
            ;;
        esac
    done < <(x86_64-w64-mingw32-objdump -p "$1" | sed -n 's/^.*DLL Name: //p' | tr -d '\r')
    return $bad
}

windows_build() {
    install_kin "$work/windows" --toolchain "$toolchain" -DCMAKE_PREFIX_PATH="$windows_deps" &&
        configure_and_build "$work/windows-program" "$here" --toolchain "$toolchain" -DUSE=find_package \
            -DCMAKE_PREFIX_PATH="$work/windows;$windows_deps" -DCMAKE_EXE_LINKER_FLAGS=-static &&
        only_system_dlls "$work/windows-program/consumer.exe"
}

windows_run() {
    # In a shell of its own (check): a Wine that ci/test.sh has started already is the same one and goes on.
    local wine mine=yes
    [ -n "${WINEPREFIX:-}" ] && mine=
    . "$tree/ci/wine.sh" && wine_start || return 1
    [ -n "$mine" ] && trap wine_stop EXIT
    wine=$(sed -n 's/^KIN_WINE:[A-Z]*=//p' "$work/windows-program/CMakeCache.txt")
    says 42 "$wine" "$work/windows-program/consumer.exe"
}

check install install_kin "$work/prefix"
check find_package through_cmake find_package -DCMAKE_PREFIX_PATH="$work/prefix"
check add_subdirectory through_cmake add_subdirectory
check fetchcontent through_cmake fetchcontent
if have pkg-config; then
    check pkg-config through_pkg_config pkg-config "$work/prefix" "$here/main.c" 42
    module=kin-uv check pkg-config-uv through_pkg_config pkg-config-uv "$work/prefix" "$here/uv.c" 42 -D_GNU_SOURCE
    # The first program in README.md.
    sed -n '/^```c$/,/^```$/{/^```/!p;/^```$/q}' "$tree/README.md" >"$work/readme.c"
    check readme through_pkg_config readme-program "$work/prefix" "$work/readme.c" 20
else
    skip pkg-config "pkg-config is not installed"
fi
check shared shared_build
if have pkg-config && static_libuv; then
    check static static_build
else
    skip static "no static libuv here"
fi
if ! have x86_64-w64-mingw32-gcc; then
    skip windows-build "mingw-w64 is not installed"
elif [ ! -f "$windows_deps/lib/libuv_a.a" ]; then
    skip windows-build "no libuv for Windows: run ci/deps.sh windows"
else
    check windows-build windows_build
    if [ ! -f "$work/windows-program/consumer.exe" ]; then
        skip windows-run "there is no program"
    elif have wine || [ -x /usr/lib/wine/wine64 ]; then
        check windows-run windows_run
    else
        skip windows-run "Wine is not installed"
    fi
fi
# Each header on its own; kin/uv.h needs libuv's.
headers_alone() {
    local header libuv
    libuv="-D_GNU_SOURCE $(pkg-config --cflags libuv 2>/dev/null)"
    for header in kin.h $(cd "$tree/include" && ls kin/*.h); do
        # shellcheck disable=SC2086
        "$@" -Wall -Wextra -Werror -fsyntax-only -I "$tree/include" $([ "$header" = kin/uv.h ] && echo "$libuv") - <<<"#include <$header>" || return 1
    done
}
check c11-headers headers_alone "${CC:-cc}" -std=c11 -pedantic -x c
if have g++; then
    check c++17-headers-alone headers_alone g++ -std=c++17 -pedantic -x c++
    check c++17-headers g++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -I "$tree/include" "$here/header.cpp"
else
    skip c++17-headers "g++ is not installed"
fi
exit $((failed > 0))
