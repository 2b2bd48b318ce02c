#!/usr/bin/env bash
# Kills at random among processes that use every synchronisation object (tests/crash/storm_test.c) or queues and pipes
# (tests/crash/queue_storm_test.c), for as long as you like. Linux.
#
#     ci/storm.sh [--kills N] [--seed S] [--seconds T] [--members M] [--method fork|spawn] [--only locks|queues]
#
# Each of both until N were killed (default 20000) or T seconds are over (default 3600), whichever is first; with M members (2 to 16), or
# with 4 to 8 in turn. The seed is printed, so that a failure can be repeated (as far as chance has it: the system schedules as it likes).
set -u
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
cd "$root" || exit 1

kills=20000
seed=
seconds=3600
members=
method=fork
only=
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "$1 needs a value"
    case $1 in
    --kills) kills=$2 ;;
    --seed) seed=$2 ;;
    --seconds) seconds=$2 ;;
    --members) members=$2 ;;
    --method) method=$2 ;;
    --only) only=$2 ;;
    *) die "what is $1?" ;;
    esac
    shift 2
done
for number in "$kills" "$seconds" "${seed:-1}" "${members:-4}"; do
    [[ $number =~ ^[0-9]+$ ]] || die "$number is not a number"
done
[[ $method =~ ^(fork|spawn)$ ]] || die "which method? fork or spawn"
[[ $only =~ ^(|locks|queues)$ ]] || die "only what? locks or queues"

build=$root/build/storm
log=$build/build.log
mkdir -p "$build" || die "cannot write to $build"
{
    "$root/ci/setup.sh" test
    cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKIN_TESTS=ON -DKIN_EXAMPLES=OFF \
        -DFETCHCONTENT_FULLY_DISCONNECTED=ON && cmake --build "$build" --target crash_storm_test crash_queue_storm_test -j "$jobs"
} >"$log" 2>&1 || {
    tail -n 40 "$log"
    die "the build failed"
}

export KIN_STORM_KILLS=$kills KIN_STORM_SECONDS=$seconds KIN_START_METHOD=$method
[ -n "$seed" ] && export KIN_TEST_SEED=$seed
[ -n "$members" ] && export KIN_STORM_MEMBERS=$members
# In a world of processes of its own where the system allows that: then a mistake in a test that kills hits nobody else.
alone=()
unshare -pf --mount-proc true 2>/dev/null && alone=(unshare -pf --mount-proc)
result=0
if [ "$only" != queues ]; then
    ${alone[@]+"${alone[@]}"} "$build/tests/crash_storm_test" || result=1
fi
if [ "$only" != locks ]; then
    ${alone[@]+"${alone[@]}"} "$build/tests/crash_queue_storm_test" || result=1
fi
exit $result
