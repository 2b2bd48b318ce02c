#!/usr/bin/env bash
# Builds and tests kin on everything this machine can run. Installs what is missing (ci/setup.sh), works below build/ only.
#
#     ci/test.sh              all stages
#     ci/test.sh STAGE…       these: see the list below
#
# One line for each stage, its log in build/ci/<stage>.log; a stage that fails does not stop the others. The last line is
# "N passed, N failed, N skipped": tests, over all stages. Ends with 0 only if nothing failed.
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=wine.sh
. "$root/ci/wine.sh"
cd "$root" || exit 1

all_stages=(linux-gcc linux-clang-asan-ubsan linux-tsan linux-helgrind linux-fuzz windows-wine aarch64-qemu consumer format)
logs=$root/build/ci
NOT_HERE=77 # what a stage returns that could not judge anything here, having said why

# ---- building and running --------------------------------------------------------------------------------------------

# build NAME CMAKE-OPTION…. No downloads: libuv and cmocka are the distribution's, or come from ci/deps.sh. $target: what is built.
build() {
    local build=$root/build/$1
    shift
    cmake -S "$root" -B "$build" -G Ninja -DKIN_WERROR=ON -DKIN_TESTS=ON -DFETCHCONTENT_FULLY_DISCONNECTED=ON "$@" &&
        cmake --build "$build" -j "$jobs" --target "${target:-all}"
}

# run_tests NAME CTEST-OPTION…. One more at once than there are CPUs: many tests wait most of the time.
run_tests() {
    local build=$root/build/$1
    shift
    # A test that fails is run once more, and the stage's line says so: machines that stand still for seconds, and Wine, make
    # time-outs that mean nothing, but a test that fails twice means something.
    ctest --test-dir "$build" -j $((jobs + 1)) --output-on-failure --no-tests=error --repeat until-pass:2 "$@"
}

stage_linux_gcc() {
    build linux-gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKIN_BENCH=ON -DKIN_TEST_TIMEOUT_SCALE=2 &&
        run_tests linux-gcc
}

# Children that crash on purpose must die of the signal itself, so the sanitizers leave those alone.
signals=handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0

stage_linux_clang_asan_ubsan() {
    local -x ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:$signals
    local -x UBSAN_OPTIONS=print_stacktrace=1:$signals
    build linux-clang-asan-ubsan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DKIN_SANITIZE=address,undefined \
        -DKIN_TEST_TIMEOUT_SCALE=5 && run_tests linux-clang-asan-ubsan
}

# ThreadSanitizer sees one process only: the tests that run kin's shared structures from several threads of one.
stage_linux_tsan() {
    local target=threads_tests
    local -x TSAN_OPTIONS=suppressions=$root/ci/tsan.supp:die_after_fork=0:second_deadlock_stack=1:$signals
    build linux-tsan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKIN_SANITIZE=thread \
        -DKIN_EXAMPLES=OFF -DKIN_TEST_TIMEOUT_SCALE=10 && run_tests linux-tsan -L '^threads$'
}

# The same tests, as helgrind sees them.
stage_linux_helgrind() {
    local target=threads_tests
    build linux-helgrind -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug -DKIN_HELGRIND=ON -DKIN_EXAMPLES=OFF -DKIN_TEST_TIMEOUT_SCALE=20 &&
        run_tests linux-helgrind -L '^threads$'
}

# Every fuzz target for a moment: what a change breaks at once. ci/fuzz.sh by hand goes on for longer.
stage_linux_fuzz() {
    "$root/ci/fuzz.sh" 10
}

stage_windows_wine() {
    "$root/ci/deps.sh" windows && wine_start &&
        build windows-wine --toolchain "$root/cmake/toolchains/mingw-w64-x86_64.cmake" \
            -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$root/build/deps/windows" -DKIN_TEST_TIMEOUT_SCALE=10 &&
        run_tests windows-wine
}

stage_aarch64_qemu() {
    # qemu's user mode cannot start a program of the foreign kind anew unless the kernel knows how (binfmt_misc).
    local methods=fork filter
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] && methods='fork;spawn'
    [ "$methods" = fork ] && say "start method spawn is not tested: no binfmt_misc entry for arm64 programs"
    local -x QEMU_LD_PREFIX=/usr/aarch64-linux-gnu KIN_TEST_EMULATOR=1
    "$root/ci/deps.sh" aarch64 &&
        build aarch64-qemu --toolchain "$root/cmake/toolchains/aarch64-linux-gnu.cmake" \
            -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$root/build/deps/aarch64" \
            -DKIN_TEST_START_METHODS="$methods" -DKIN_TEST_TIMEOUT_SCALE=10 || return 1
    # What looks at processes from outside (names, descriptors, kills, ten thousand starts) sees the emulator and its threads, not the program, which it cannot start anew;
    # it is left to native systems.
    # It cannot peek behind the oldest message of a socket either (SO_PEEK_OFF): what gets descriptors out of their order is left out too.
    say "not run under the emulator: the crash tests, those of kin_init and of processes, of failing system calls, and of bags out of order"
    filter=(-E '^(crash/|conformance/(init|process|process_many|connection_pass)_test|unit/(fault|pair|ring|queue_moment)_test)')
    run_tests aarch64-qemu ${filter[@]+"${filter[@]}"}
}

# kin as its users get it: installed, packaged, included.
stage_consumer() {
    "$root/ci/deps.sh" windows && wine_start && "$root/tests/consumer/run.sh" "$root/build/consumer"
}

# Another release of clang-format lays some things out differently: it warns and does not fail.
stage_format() {
    have clang-format || {
        say "clang-format is not installed"
        return $NOT_HERE
    }
    # shellcheck disable=SC2046 # no blanks in these names
    if clang-format --dry-run --Werror include/*.h include/kin/*.h $(find src tests examples bench -name '*.[ch]'); then
        say "format: clean"
    else
        say "$(grep -c 'error: code should be clang-formatted' "$logs/format.log") places differ from .clang-format: not counted as a failure"
        return $NOT_HERE
    fi
}

# ---- the run ---------------------------------------------------------------------------------------------------------

# Counts results in a log of ctest or of tests/consumer/run.sh: prints "passed failed skipped again", the last being those that passed
# when they were run once more.
count() {
    awk '
        /^ *([0-9]+\/[0-9]+ +)?Test +#[0-9]+: / {
            name = $0
            sub(/.*Test +#[0-9]+: /, "", name)
            sub(/ .*/, "", name)
            before = result[name]
            result[name] = /\*\*\*(Skipped|Not Run \(Disabled\))/ ? "skipped" : / Passed +[0-9.]+ sec/ ? "passed" : "failed"
            if (before == "failed" && result[name] == "passed") again++
        }
        /^PASS / { passed++ }
        /^FAIL / { failed++ }
        /^SKIP / { skipped++ }
        END {
            for (name in result) {
                if (result[name] == "passed") passed++
                else if (result[name] == "skipped") skipped++
                else failed++
            }
            print passed + 0, failed + 0, skipped + 0, again + 0
        }' "$1"
}

passed=0
failed=0
skipped=0
run_stage() {
    local stage=$1 log=$logs/$1.log begin=$SECONDS result counts
    "stage_${stage//-/_}" >"$log" 2>&1 </dev/null
    result=$?
    read -r -a counts < <(count "$log")
    if [ $result -eq $NOT_HERE ]; then
        printf 'SKIP  %-24s %s\n' "$stage" "$(tail -n 1 "$log")"
        return
    fi
    # A stage that breaks before or beside its tests is a failure too.
    [ $result -ne 0 ] && [ "${counts[1]}" -eq 0 ] && counts[1]=1
    passed=$((passed + counts[0]))
    failed=$((failed + counts[1]))
    skipped=$((skipped + counts[2]))
    local verdict=PASS note=
    [ $result -ne 0 ] || [ "${counts[1]}" -gt 0 ] && verdict=FAIL
    [ "${counts[2]}" -gt 0 ] && note=", ${counts[2]} skipped"
    [ "${counts[3]}" -gt 0 ] && note+="; ${counts[3]} of the passed only when run once more"
    printf '%s  %-24s %4d s   %d passed, %d failed%s\n' $verdict "$stage" $((SECONDS - begin)) "${counts[0]}" "${counts[1]}" \
        "$note"
    if [ $verdict = FAIL ]; then
        say "---- the end of ${log#"$root"/}:"
        tail -n 60 "$log"
        say "----"
    fi
}

stages=("$@")
[ $# -eq 0 ] && stages=("${all_stages[@]}")
for stage in "${stages[@]}"; do
    [[ " ${all_stages[*]} " == *" $stage "* ]] || die "no stage '$stage'; there are: ${all_stages[*]}"
done

mkdir -p "$logs" || die "cannot write to $logs"
if ! "$root/ci/setup.sh" test >"$logs/setup.log" 2>&1; then
    say "FAIL  setup: see ${logs#"$root"/}/setup.log; going on with what is there"
    tail -n 20 "$logs/setup.log"
    failed=1
fi
trap wine_stop EXIT
for stage in "${stages[@]}"; do
    # In this shell: wine_start tells the stages that follow.
    run_stage "$stage"
done

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
