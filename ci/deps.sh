#!/usr/bin/env bash
# Builds libuv, Mbed TLS and cmocka for another system, as static libraries, from the distribution's source packages.
#
#     ci/deps.sh windows|aarch64 [PREFIX]        default prefix: build/deps/<system>
#
# Needs no root and leaves the machine's own package lists alone. Does nothing if the prefix holds this build already.
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

target=${1:-}
case $target in
windows) toolchain=$root/cmake/toolchains/mingw-w64-x86_64.cmake ;;
aarch64) toolchain=$root/cmake/toolchains/aarch64-linux-gnu.cmake ;;
*) die "which system? ci/deps.sh windows|aarch64 [PREFIX]" ;;
esac
prefix=${2:-$root/build/deps/$target}
sources=$root/build/deps/sources
build=$root/build/deps/build-$target
packages=(libuv1 mbedtls cmocka)
recipe=2 # raise it when this script builds something else from the same sources

# Where the machine's packages come from: prints a source list, with the mirror and the key that apt uses for its packages.
source_list() {
    local codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [ -n "$codename" ] || die "/etc/os-release names no codename"
    local files=()
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do [ -r "$f" ] && files+=("$f"); done
    [ ${#files[@]} -gt 0 ] && awk -v codename="$codename" '
        # deb [options] uri suite component…
        $1 == "deb" {
            options = ""; i = 2
            if ($2 ~ /^\[/) { while (i <= NF) { options = options $i " "; if ($(i++) ~ /\]$/) break } }
            if ($(i + 1) == codename && $0 ~ / main( |$)/) { $1 = ""; sub(/^ /, ""); print "deb-src " $0 }
        }' "${files[@]}"
    files=()
    for f in /etc/apt/sources.list.d/*.sources; do [ -r "$f" ] && files+=("$f"); done
    [ ${#files[@]} -gt 0 ] && awk -v codename="$codename" '
        # Paragraphs of "Field: values"; a Signed-By may also be a key in the text, which the file itself then carries.
        function flush(   i, n, u) {
            if (types ~ /deb/ && (" " suites " ") ~ (" " codename " ") && (" " components " ") ~ / main / && enabled != "no") {
                n = split(uris, u, " ")
                for (i = 1; i <= n; i++)
                    print "deb-src " (key ~ /^\// ? "[signed-by=" key "] " : "") u[i] " " codename " " components
            }
            types = uris = suites = components = key = enabled = ""
        }
        FNR == 1 { flush() }
        /^[ \t]*$/ { flush(); next }
        /^#/ { next }
        { field = tolower($1); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
        field == "types:" { types = value }
        field == "uris:" { uris = value }
        field == "suites:" { suites = value }
        field == "components:" { components = value }
        field == "signed-by:" { key = value }
        field == "enabled:" { enabled = tolower(value) }
        END { flush() }' "${files[@]}"
}

# Downloads the source packages to $sources and unpacks each to $sources/<its name>.
fetch() {
    [ -f "$sources/complete" ] && [ "$(cat "$sources/complete")" = "${packages[*]}" ] && return 0
    have apt-get || die "no apt-get: fill the folders ${packages[*]} of $sources with their sources by hand, then write that list to $sources/complete"
    have dpkg-source || die "no dpkg-source: run ci/setup.sh test"
    rm -rf "$sources"
    mkdir -p "$sources/lists/partial" "$sources/cache/archives/partial" || die "cannot write to $sources"
    source_list | sort -u >"$sources/src.list"
    [ -s "$sources/src.list" ] || die "found no package mirror for this release in /etc/apt"
    local apt=(apt-get -q -o "Dir::Etc::SourceList=$sources/src.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$sources/lists" -o "Dir::Cache=$sources/cache" -o "APT::Sandbox::User=$(id -un)"
        -o Acquire::Languages=none -o Acquire::Retries=3)
    (cd "$sources" && "${apt[@]}" update) || die "apt-get update of the source lists failed"
    (cd "$sources" && "${apt[@]}" source --download-only "${packages[@]}") || die "apt-get source ${packages[*]} failed"
    local package dsc
    for package in "${packages[@]}"; do
        dsc=$(ls "$sources/${package}_"*.dsc 2>/dev/null | head -n 1)
        [ -n "$dsc" ] || die "no source package $package arrived"
        (cd "$sources" && dpkg-source -x "$dsc" "$package") || die "cannot unpack $dsc"
    done
    rm -rf "$sources/lists" "$sources/cache"
    printf '%s\n' "${packages[*]}" >"$sources/complete"
}

fetch
version=$(cd "$sources" && ls ./*.dsc 2>/dev/null | sort | tr '\n' ' ')"recipe $recipe"
if [ -f "$prefix/built-from" ] && [ "$(cat "$prefix/built-from")" = "$version" ]; then
    say "deps.sh: $prefix is up to date"
    exit 0
fi

rm -rf "$prefix" "$build"
mkdir -p "$prefix/lib" "$prefix/include" || die "cannot write to $prefix"
common=(-G Ninja --toolchain "$toolchain" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF -DCMAKE_POLICY_DEFAULT_CMP0077=NEW
    -Wno-dev)

# libuv: its install target wants the DLL as well, so only the parts needed are built and copied.
cmake -S "$sources/libuv1" -B "$build/libuv" "${common[@]}" -DLIBUV_BUILD_TESTS=OFF || die "configuring libuv failed"
cmake --build "$build/libuv" --target uv_a -j "$jobs" || die "building libuv failed"
library=$(find "$build/libuv" -maxdepth 1 -name 'libuv*.a' ! -name '*.dll.a' | head -n 1)
[ -n "$library" ] || die "libuv's build left no static library"
cp "$library" "$prefix/lib/libuv_a.a" && cp -R "$sources/libuv1/include/." "$prefix/include/" || die "cannot copy libuv"

# Mbed TLS: of its three libraries the one with the algorithms.
cmake -S "$sources/mbedtls" -B "$build/mbedtls" "${common[@]}" -DENABLE_TESTING=OFF -DENABLE_PROGRAMS=OFF \
    -DUSE_STATIC_MBEDTLS_LIBRARY=ON -DUSE_SHARED_MBEDTLS_LIBRARY=OFF -DMBEDTLS_FATAL_WARNINGS=OFF || die "configuring Mbed TLS failed"
cmake --build "$build/mbedtls" --target mbedcrypto -j "$jobs" || die "building Mbed TLS failed"
library=$(find "$build/mbedtls" -name 'libmbedcrypto*.a' ! -name '*.dll.a' | head -n 1)
[ -n "$library" ] || die "Mbed TLS's build left no static library"
cp "$library" "$prefix/lib/libmbedcrypto.a" && cp -R "$sources/mbedtls/include/mbedtls" "$sources/mbedtls/include/psa" "$prefix/include/" ||
    die "cannot copy Mbed TLS"

cmake -S "$sources/cmocka" -B "$build/cmocka" "${common[@]}" -DBUILD_SHARED_LIBS=OFF -DWITH_STATIC_LIB=ON \
    -DWITH_EXAMPLES=OFF -DUNIT_TESTING=OFF || die "configuring cmocka failed"
cmake --build "$build/cmocka" -j "$jobs" || die "building cmocka failed"
library=$(find "$build/cmocka" -name 'libcmocka*.a' ! -name '*.dll.a' | sort | head -n 1)
[ -n "$library" ] || die "cmocka's build left no static library"
cp "$library" "$prefix/lib/libcmocka.a" && cp "$sources/cmocka/include/cmocka.h" "$prefix/include/" || die "cannot copy cmocka"

rm -rf "$build"
printf '%s\n' "$version" >"$prefix/built-from"
say "deps.sh: libuv, Mbed TLS and cmocka for $target are in $prefix"
