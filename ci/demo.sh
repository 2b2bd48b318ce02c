#!/usr/bin/env bash
# From a fresh checkout to a computation on all cores: installs what is missing, builds, runs examples/crunch.
#
#     ci/demo.sh [options of crunch]
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
cd "$root" || exit 1

"$root/ci/setup.sh" demo || die "setup failed"
build=$root/build/demo
log=$build/build.log
mkdir -p "$build" || die "cannot write to $build"
say "demo.sh: building (log: ${log#"$root"/})"
{
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DKIN_TESTS=OFF &&
        cmake --build "$build" --target crunch -j "$jobs"
} >"$log" 2>&1 || {
    tail -n 40 "$log"
    die "the build failed"
}

output=$build/flights.csv
say "demo.sh: crunch computes its built-in input with $jobs workers"
"$build/examples/crunch" --output "$output" "$@" || die "crunch ended with $?"
say "demo.sh: $(wc -l <"$output") lines in ${output#"$root"/}; the first of them:"
head -n 4 "$output"
