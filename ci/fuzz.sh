#!/usr/bin/env bash
# Builds the fuzzers (clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each for a while, as many at once as there
# are CPUs.
#
#     ci/fuzz.sh [SECONDS [TARGET…]]     60 seconds each; all of tests/fuzz/*_fuzz.c
#
# One line for each: PASS or FAIL fuzz/<target>. What it learns stays in build/fuzz/corpus/<target>, what it finds is
# build/fuzz/found/<target>-crash-…, its log is build/fuzz/<target>.log. The stored inputs in tests/fuzz/corpus are read, never written:
# see tests/fuzz/README.md for what to do with a finding. Ends with 0 only if nothing was found.
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
cd "$root" || exit 1

seconds=${1:-60}
[ $# -gt 0 ] && shift
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "usage: ci/fuzz.sh [SECONDS [TARGET…]]"
targets=("$@")
if [ $# -eq 0 ]; then
    for file in tests/fuzz/*_fuzz.c; do
        name=${file##*/}
        targets+=("${name%_fuzz.c}")
    done
fi

have clang || die "clang is not installed"
build=$root/build/fuzz
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKIN_FUZZ=ON -DKIN_WERROR=ON \
    -DKIN_EXAMPLES=OFF -DFETCHCONTENT_FULLY_DISCONNECTED=ON && cmake --build "$build" -j "$jobs" --target fuzzers || exit 1
mkdir -p "$build/found"

# Inputs are small and quick: one that is not is a finding too.
fuzz() {
    local name=$1
    mkdir -p "$build/corpus/$name"
    if "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/found/$name-" "$build/corpus/$name" "$root/tests/fuzz/corpus/$name" >"$build/$name.log" 2>&1; then
        say "PASS fuzz/$name: $(awk '/stat::number_of_executed_units/ { print $2 }' "$build/$name.log") inputs"
    else
        say "FAIL fuzz/$name"
        tail -n 40 "$build/$name.log"
        return 1
    fi
}

failed=0
running=0
for name in "${targets[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    fuzz "$name" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
