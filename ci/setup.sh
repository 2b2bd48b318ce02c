#!/usr/bin/env bash
# Installs what the other scripts need on Debian or Ubuntu, with apt-get, as root or through sudo. Looks first: where
# everything is there already it changes nothing and needs neither.
#
#     ci/setup.sh demo      compiler, CMake, Ninja, libuv, Mbed TLS
#     ci/setup.sh [test]    that, and what ci/test.sh needs: cmocka, clang, mingw-w64, Wine, an arm64 compiler, qemu …
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

level=${1:-test}
case $level in
demo | test) ;;
*) die "which level? ci/setup.sh demo|test" ;;
esac

scratch=$(mktemp -d "${TMPDIR:-/tmp}/kin-setup.XXXXXX") || die "cannot make a temporary directory"
trap 'rm -rf "$scratch"' EXIT

# ---- what is needed: a question to the machine, and the packages that answer it ----------------------------------------

compiles() { # COMPILER FLAGS… < program
    local compiler=$1
    shift
    have "$compiler" && "$compiler" -x c - -o "$scratch/a.out" "$@" >/dev/null 2>&1
}
has_cc() { compiles cc <<<'#include <stdio.h>
int main(void) { return puts("") < 0; }'; }
has_gcc() { have gcc; }
has_cmake() {
    have cmake || return 1
    local version
    version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
    [ "$(printf '3.25\n%s\n' "$version" | sort -V | head -n 1)" = 3.25 ]
}
has_ninja() { have ninja; }
has_libuv() { compiles cc -luv <<<'#include <uv.h>
int main(void) { return uv_version() == 0; }'; }
has_mbedtls() { compiles cc -lmbedcrypto <<<'#include <psa/crypto.h>
int main(void) { return psa_crypto_init() != PSA_SUCCESS; }'; }
has_pkg_config() { have pkg-config; }
has_cmocka() { compiles cc -lcmocka <<<'#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
int main(void) { assert_true(1); }'; }
has_cxx() { have g++ && g++ -x c++ -fsyntax-only - <<<'#include <utility>' >/dev/null 2>&1; }
has_clang() {
    compiles clang -fsanitize=address,undefined <<<'int main(void) { return 0; }' &&
        compiles clang -fsanitize=thread <<<'int main(void) { return 0; }'
}
has_mingw() { compiles x86_64-w64-mingw32-gcc -static -lws2_32 <<<'#include <windows.h>
int main(void) { return GetCurrentProcessId() == 0; }'; }
has_wine() { { [ -x /usr/lib/wine/wine64 ] || have wine64 || have wine; } && { have wineserver || [ -x /usr/lib/wine/wineserver ]; }; }
has_dpkg_source() { have dpkg-source && have patch && have xz; }
has_arm64() { compiles aarch64-linux-gnu-gcc <<<'#include <stdio.h>
int main(void) { return puts("") < 0; }'; }
has_qemu() { have qemu-aarch64 || have qemu-aarch64-static; }
has_python() { have python3; }
has_valgrind() { have valgrind; }
has_spin() { have spin; }

wants_demo=(
    "cc: gcc libc6-dev"
    "cmake: cmake"
    "ninja: ninja-build"
    "libuv: libuv1-dev"
    "mbedtls: libmbedtls-dev"
    "pkg_config: pkg-config"
)
wants_test=(
    "gcc: gcc"
    "cmocka: libcmocka-dev"
    "cxx: g++"
    "clang: clang libclang-rt-dev?"
    "mingw: gcc-mingw-w64-x86-64"
    "wine: wine wine64"
    "dpkg_source: dpkg-dev patch xz-utils"
    "arm64: gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    "qemu: qemu-user"
    "python: python3"
    "valgrind: valgrind"
    "spin: spin"
)
wants=("${wants_demo[@]}")
[ "$level" = test ] && wants+=("${wants_test[@]}")

missing=()
packages=()
look() {
    missing=()
    packages=()
    local want
    for want in "${wants[@]}"; do
        "has_${want%%:*}" && continue
        missing+=("${want%%:*}")
        # shellcheck disable=SC2206
        packages+=(${want#*: })
    done
}

look
if [ ${#missing[@]} -eq 0 ]; then
    say "setup.sh: everything for '$level' is there"
    exit 0
fi
say "setup.sh: missing: ${missing[*]}"
have apt-get || die "this is not Debian or Ubuntu (no apt-get): please install by hand what is missing: ${missing[*]}"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    have sudo || die "not root and no sudo: ask an administrator for: apt-get install ${packages[*]//\?/}"
    as_root=(sudo)
fi
apt() { ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 "$@"; }

apt update || say "setup.sh: apt-get update failed; trying with the package lists that are here"
install=()
for package in "${packages[@]}"; do
    # With a question mark: some releases have it as a package of its own, others inside another one.
    if [ "${package%\?}" = "$package" ] || apt-cache show "${package%\?}" >/dev/null 2>&1; then
        install+=("${package%\?}")
    fi
done
apt install -y --no-install-recommends "${install[@]}" || die "apt-get install failed: ${install[*]}"

# The sanitizers' runtime: where no package stands for the default version, the one with the version in its name.
if [ "$level" = test ] && have clang && ! has_clang; then
    apt install -y --no-install-recommends "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi

look
if [ ${#missing[@]} -gt 0 ]; then
    for what in "${missing[@]}"; do
        if [ "$what" = cmake ] && have cmake; then
            say "setup.sh: CMake 3.25 or newer is needed, this release has $(cmake --version | head -n 1): please install one by hand"
        else
            say "setup.sh: still missing after the installation: $what"
        fi
    done
    exit 1
fi
say "setup.sh: everything for '$level' is there now"
