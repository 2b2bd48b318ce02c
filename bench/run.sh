#!/usr/bin/env bash
# Builds kin and its peers with the same optimisation, runs them in one run, interleaved, and writes the figures and
# their ratios as markdown. Linux only. Run it on a machine that does nothing else.
#
#     bench/run.sh [--rounds N] [--quick] [--out FILE] [--build DIR] [group...]
#
#     --rounds N   how often every subject runs (default 7); in each round all subjects of a group run once, in turn
#     --quick      3 rounds, fewer repeats and no 4 GB parent: to see that everything works, not for figures
#     --out FILE   writes the report there too; it always goes to standard output
#     --build DIR  where to build (default build/bench)
#     groups       start lock sync queue queue-trip map crunch (default: all)
#
# A subject that fails or gives a wrong result is named in the report, and the exit code is then 1.
#
# Needed, of Debian's packages: cmake gcc libuv1-dev python3. What needs one of these is left out without it, and that is said:
# libboost-dev and g++ (the peer Boost.Interprocess), libzmq3-dev (the peer ZeroMQ), strace (the system calls of an event).
set -u -o pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
command_line="bench/run.sh${*:+ $*}"
rounds='' quick=0 out='' build=$root/build/bench groups=()
all_groups=(start lock sync queue queue-trip map crunch)

die()
{
    echo "bench: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --rounds) [ $# -gt 1 ] || die "--rounds needs a number"; rounds=$2; shift ;;
    --out) [ $# -gt 1 ] || die "--out needs a file"; out=$2; shift ;;
    --build) [ $# -gt 1 ] || die "--build needs a directory"; build=$2; shift ;;
    --quick) quick=1 ;;
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    start | lock | sync | queue | queue-trip | map | crunch) groups+=("$1") ;;
    *) die "unknown option or group: $1" ;;
    esac
    shift
done
[ ${#groups[@]} -gt 0 ] || groups=("${all_groups[@]}")
if [ $quick = 1 ]; then
    rounds=${rounds:-3} start_n=50 python_start_n=5 lock_n=1000000 repeats=2 sizes=(0 100 1000) rows=30000
    contended_ms=100 trips=300 barrier_n=500 deaths=20 rings=5 waits=20000 idle_s=3 locks=1000 passed=100
    rate_ms=100 queue_trips=300 storm_kills=300 calm_s=1
else
    rounds=${rounds:-7} start_n=200 python_start_n=20 lock_n=10000000 repeats=20 sizes=(0 100 1000 4000) rows=300000
    contended_ms=500 trips=2000 barrier_n=5000 deaths=200 rings=50 waits=1000000 idle_s=10 locks=10000 passed=1000
    rate_ms=300 queue_trips=2000 storm_kills=10000 calm_s=2
fi
[[ $rounds =~ ^[1-9][0-9]{0,2}$ ]] || die "--rounds takes a number from 1 to 999"
ring_of_20=$(((rings + 4) / 5))
waits_each=$(((waits + rounds - 1) / rounds)) # all rounds together make up `waits`
workers=2
load=$(cut -d' ' -f1-3 /proc/loadavg) # before the build adds to it

cc=${CC:-gcc}
python=${PYTHON:-python3}
flags=(-O2 -std=c11 -Wall -Wextra)
strace=no
strace -o /dev/null true 2>/dev/null && strace=yes

boost=no zeromq=no
printf '#include <boost/interprocess/ipc/message_queue.hpp>\n' | "${CXX:-g++}" -E -x c++ - >/dev/null 2>&1 && boost=yes
printf '#include <zmq.h>\n' | "$cc" -E - >/dev/null 2>&1 && zeromq=yes

build_kin()
{
    cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE="-O2 -DNDEBUG" \
        -DCMAKE_C_COMPILER="$cc" -DKIN_BENCH=ON -DKIN_EXAMPLES=ON -DKIN_TESTS=OFF || return
    cmake --build "$build" -j "$(nproc)"
}

build_peers()
{
    local p=$root/bench/peers to=$build/peers name
    mkdir -p "$to" || return
    "$cc" "${flags[@]}" "$p/start.c" -o "$to/start" || return
    "$cc" "${flags[@]}" -static "$p/true.c" -o "$to/true" || return
    for name in lock contended roundtrip barrier death; do
        "$cc" "${flags[@]}" "$p/$name.c" -o "$to/$name" -pthread || return
    done
    "$cc" "${flags[@]}" -fopenmp "$p/map.c" -o "$to/map" || return
    "$cc" "${flags[@]}" "$p/work.c" -o "$to/work" || return
    "$cc" "${flags[@]}" -shared -fPIC "$p/work.c" -o "$to/libwork.so" || return
    "$cc" "${flags[@]}" "$p/wall.c" -o "$to/wall" || return
    "$cc" "${flags[@]}" "$p/ring.c" -o "$to/ring" -pthread || return
    "$cc" "${flags[@]}" "$p/channel.c" -o "$to/channel" -lrt || return
    if [ $boost = yes ]; then
        "${CXX:-g++}" -O2 -Wall -Wextra -c "$p/boost.cpp" -o "$to/boost-queue.o" || return
        "$cc" "${flags[@]}" -c "$p/boost.c" -o "$to/boost.o" || return
        "${CXX:-g++}" "$to/boost.o" "$to/boost-queue.o" -o "$to/boost" -pthread -lrt || return
    else
        echo "bench: left out: Boost.Interprocess (libboost-dev and g++ are not installed)" >&2
    fi
    if [ $zeromq = yes ]; then
        "$cc" "${flags[@]}" "$p/zeromq.c" -o "$to/zeromq" -lzmq
    else
        echo "bench: left out: ZeroMQ (libzmq3-dev is not installed)" >&2
    fi
}

# Lines of a subject go to the raw file, with the round before each.
record()
{
    echo "$round ${1//$'\n'/$'\n'$round }" | tee -a "$results/raw" >&2
}

# What has failed, and the last it said.
failed()
{
    echo "$round: $*: $(tail -1 "$results/error")" | sed "s|$root/||g" | tee -a "$results/failed" >&2
}

# Runs one subject.
run()
{
    local lines
    if lines=$(timeout -k 10 180 "$@" 2>"$results/error"); then
        record "$lines"
    else
        failed "$(basename "$1") ${*:2}"
    fi
}

# The system calls for one set and clear of an event: what strace sees of bench_event between its two marks.
system_calls()
{
    local n=1000 line
    if timeout -k 10 60 strace -o "$results/strace" "$build/bench/bench_event" marked $n 2>"$results/error" &&
        line=$(awk -v n=$n '/^getppid\(/ { marks++; next } marks == 1 && /^[a-z]/ { calls++ }
            END { if (marks != 2) exit 1; printf "event kin system-calls %g calls\n", calls / n }' "$results/strace"); then
        record "$line"
    else
        failed "system calls of an event"
    fi
}

# One round of the group sync. Its programs end by themselves after a minute.
run_sync()
{
    local kin=$build/bench peers=$build/peers py=$root/bench/peers n what place how who
    for n in 2 4; do
        run "$kin/bench_contended" $n $contended_ms
        for who in normal adaptive robust semaphore; do
            run "$peers/contended" $who $n $contended_ms
        done
        run "$python" "$py/sync.py" contended $n $contended_ms
    done
    for what in set again set-clear; do
        run "$kin/bench_event" $what "$lock_n"
        run "$python" "$py/sync.py" event $what $((lock_n / 1000))
    done
    [ $strace = no ] || system_calls
    for place in 2cpu 1cpu; do
        for how in parked free; do
            for what in semaphore condition event; do
                run "$kin/bench_roundtrip" $what $place $how $trips
            done
            for what in futex semaphore condition; do
                run "$peers/roundtrip" $what $place $how $trips
            done
            for what in semaphore condition event; do
                run "$python" "$py/sync.py" roundtrip $what $place $how $((trips / 2))
            done
        done
    done
    for n in 2 4; do
        run "$kin/bench_barrier" $n $barrier_n
        run "$peers/barrier" $n $barrier_n
        run "$python" "$py/sync.py" barrier $n $((barrier_n / 5))
    done
    run "$kin/bench_death" $deaths
    run "$peers/death" $deaths
    run "$kin/bench_deadlock" ring 2 $rings
    run "$kin/bench_deadlock" ring 20 $ring_of_20
    run "$kin/bench_deadlock" order 4 $waits_each
    [ "$round" -gt 1 ] || run "$kin/bench_idle" $idle_s # nothing else takes so long
    run "$kin/bench_many" $locks $passed
    run "$python" "$py/sync.py" many $locks
}

# One round of the group queue: how fast messages go one way. What a subject cannot do, it is not asked to: the rings know one size,
# a pipe that several use carries at most 4 096 bytes, and POSIX queues are limited by the system.
run_queue()
{
    local kin=$build/bench/bench_queue peers=$build/peers py=$root/bench/peers/channel.py size n who how
    for size in 8 64 1024 65536 1048576; do
        for who in plain many relaxed relaxed-many place pipe; do
            [ $size-$who != 1048576-many ] && [ $size-$who != 1048576-relaxed-many ] || continue
            run "$kin" rate $who 1 1 $size $rate_ms
        done
        for who in spsc vyukov robust; do
            run "$peers/ring" $who rate 1 1 $size $rate_ms
        done
        [ $boost = no ] || run "$peers/boost" rate 1 1 $size $rate_ms
        [ $zeromq = no ] || run "$peers/zeromq" push rate 1 1 $size $rate_ms
        run "$peers/channel" pipe rate 1 1 $size $rate_ms
        [ $size -gt 65536 ] || run "$peers/channel" socketpair rate 1 1 $size $rate_ms
        [ $size -gt 1024 ] || run "$peers/channel" mq rate 1 1 $size $rate_ms
        for who in Queue SimpleQueue Pipe; do
            run "$python" "$py" $who rate 1 1 $size $rate_ms
        done
        run "$peers/channel" memcpy $size $rate_ms
    done
    run "$kin" rate segment 1 1 1048576 $rate_ms
    run "$kin" rate place-few 1 1 64 $rate_ms
    for how in spin parked; do
        run "$kin" rate plain 1 1 64 $rate_ms $how
    done
    for n in 2 4; do
        for who in plain many relaxed relaxed-many place pipe; do
            run "$kin" rate $who $n $n 64 $rate_ms
        done
        for how in spin parked; do
            run "$kin" rate plain $n $n 64 $rate_ms $how
        done
        for who in vyukov robust; do
            run "$peers/ring" $who rate $n $n 64 $rate_ms
        done
        [ $boost = no ] || run "$peers/boost" rate $n $n 64 $rate_ms
        [ $zeromq = no ] || run "$peers/zeromq" push rate $n $n 64 $rate_ms
        for who in pipe socketpair mq; do
            run "$peers/channel" $who rate $n $n 64 $rate_ms
        done
        for who in Queue SimpleQueue; do
            run "$python" "$py" $who rate $n $n 64 $rate_ms
        done
    done
    [ "$round" -gt 1 ] || run_storm # takes half a minute each
}

run_storm()
{
    local who
    for who in plain relaxed place; do
        run "$build/bench/bench_queue_storm" $who $storm_kills $calm_s
    done
}

# One round of the group queue-trip: a message there and one back. Who spins makes a hundred times as many.
run_queue_trip()
{
    local kin=$build/bench/bench_queue peers=$build/peers py=$root/bench/peers/channel.py size who how
    local many=$((100 * queue_trips))
    for size in 8 64 1024 65536; do
        for who in plain relaxed place pipe; do
            run "$kin" trip $who $size $((size > 1024 ? queue_trips : many)) free
        done
        run "$peers/ring" spsc trip $size $((size > 1024 ? queue_trips : many)) free
        [ $boost = no ] || run "$peers/boost" trip $size $queue_trips free
        [ $zeromq = no ] || run "$peers/zeromq" pair trip $size $queue_trips free
        for who in pipe socketpair; do
            run "$peers/channel" $who trip $size $queue_trips free
        done
        for who in Queue SimpleQueue Pipe; do
            run "$python" "$py" $who trip $size $((queue_trips / 2)) free
        done
    done
    for who in vyukov robust; do
        run "$peers/ring" $who trip 64 $many free
    done
    [ $zeromq = no ] || run "$peers/zeromq" req trip 64 $queue_trips free
    for who in mq futex; do
        run "$peers/channel" $who trip 64 $queue_trips free
    done
    run "$kin" trip plain 64 $many free spin
    run "$kin" trip plain 64 $queue_trips free parked
    for who in plain relaxed pipe; do
        run "$kin" trip $who 64 $queue_trips parked
    done
    for who in futex pipe socketpair mq; do
        run "$peers/channel" $who trip 64 $queue_trips parked
    done
    [ $boost = no ] || run "$peers/boost" trip 64 $queue_trips parked
    for who in Queue SimpleQueue Pipe; do
        run "$python" "$py" $who trip 64 $((queue_trips / 2)) parked
    done
}

# One round of a group: its subjects, one after another.
run_group()
{
    local kin=$build/bench peers=$build/peers py=$root/bench/peers n r mb who
    case $1 in
    start)
        for mb in "${sizes[@]}"; do
            run "$kin/bench_start" fork "$mb" "$start_n"
            run "$peers/start" fork "$mb" "$start_n"
            run "$peers/start" posix_spawn "$mb" "$start_n" "$peers/true"
            run "$kin/bench_start" spawn "$mb" "$start_n"
            [ "$mb" -gt 100 ] || run "$python" "$py/start.py" fork "$mb" "$python_start_n"
            [ "$mb" -gt 0 ] || run "$python" "$py/start.py" forkserver "$mb" "$python_start_n"
            [ "$mb" -gt 0 ] || run "$python" "$py/start.py" spawn "$mb" "$python_start_n"
        done
        ;;
    lock)
        for who in lock rlock rwlock-read rwlock-write semaphore semaphore-undo; do
            run "$kin/bench_lock" "$who" "$lock_n"
        done
        for who in normal adaptive robust rwlock-read rwlock-write semaphore; do
            run "$peers/lock" "$who" "$lock_n"
        done
        for who in Lock Semaphore; do
            run "$python" "$py/sync.py" lock "$who" $((lock_n / 10))
        done
        ;;
    sync) run_sync ;;
    queue) run_queue ;;
    queue-trip) run_queue_trip ;;
    map)
        n=1000000 r=$repeats
        run "$kin/bench_map" default $n "$r" $workers 0
        for who in libgomp libgomp-static one; do
            run "$peers/map" "$who" default $n "$r" 0
        done
        run "$python" "$py/map.py" default $n 2 $workers 0 "$peers/libwork.so"
        n=200000
        run "$kin/bench_map" chunk1 $n "$r" $workers 0
        for who in libgomp one; do
            run "$peers/map" "$who" chunk1 $n "$r" 0
        done
        run "$python" "$py/map.py" chunk1 20000 1 $workers 0 "$peers/libwork.so"
        n=2000 r=3
        run "$kin/bench_map" 100us $n $r $workers "$work"
        for who in two libgomp one; do
            run "$peers/map" "$who" 100us $n $r "$work"
        done
        run "$python" "$py/map.py" 100us $n 2 $workers "$work" "$peers/libwork.so"
        run "$python" "$py/map.py" 100us $n 2 $workers "$work" "$peers/libwork.so" 1
        ;;
    crunch)
        for who in 1 $workers; do
            run "$peers/wall" crunch "workers-$who" program "$build/examples/crunch" --quiet --rows "$rows" \
                --workers "$who"
            # What it says itself of the part that is the pool's: "crunch: N rows, … s, R rows/s, …" on stderr.
            sed -n "s|^crunch: \([0-9]*\) rows,.* \([0-9]*\) rows/s.*|\1 \2|p" "$results/error" |
                awk -v head="$round crunch workers-$who pool" '$2 { printf "%s %.6g s\n", head, $1 / $2 }' |
                tee -a "$results/raw" >&2
        done
        ;;
    esac
}

# Processor time taken by other guests of the host, and all processor time, in ticks.
stolen()
{
    awk '$1 == "cpu" { t = 0; for (i = 2; i <= 9; i++) t += $i; print $9, t }' /proc/stat
}

about_machine()
{
    local commit
    commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo "not a checkout")
    echo "command=$command_line"
    echo "date=$(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "rounds=$rounds"
    echo "quick=$quick"
    echo "start_n=$start_n"
    echo "python_start_n=$python_start_n"
    echo "lock_n=$lock_n"
    echo "rows=$rows"
    echo "groups=${groups[*]}"
    echo "contended_ms=$contended_ms"
    echo "trips=$trips"
    echo "barrier_n=$barrier_n"
    echo "deaths=$deaths"
    echo "rings=$rings"
    echo "ring_of_20=$ring_of_20"
    echo "waits_each=$waits_each"
    echo "idle_s=$idle_s"
    echo "locks=$locks"
    echo "passed=$passed"
    echo "rate_ms=$rate_ms"
    echo "queue_trips=$queue_trips"
    echo "storm_kills=$storm_kills"
    echo "calm_s=$calm_s"
    [ $boost = yes ] || echo "no_boost=libboost-dev or g++ is not installed"
    [ $zeromq = yes ] || echo "no_zeromq=libzmq3-dev is not installed"
    echo "boost=$(sed -n 's/#define BOOST_LIB_VERSION "\(.*\)"/\1/p' /usr/include/boost/version.hpp 2>/dev/null | tr _ .)"
    echo "zeromq=$(sed -n 's/#define ZMQ_VERSION_[MP][A-Z]* //p' /usr/include/zmq.h 2>/dev/null | paste -sd.)"
    echo "strace=$strace"
    echo "kin=$(sed -n 's/#define KIN_VERSION_[A-Z]* //p' "$root/include/kin/base.h" | paste -sd.) ($commit), -O2"
    echo "cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
    echo "cores=$(nproc)"
    echo "memory=$(awk '/^MemTotal/ { printf "%.1f GB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel=$(uname -sr)"
    echo "virtual=$(systemd-detect-virt --vm 2>/dev/null ||
        sed -n 's/^flags.* hypervisor .*/yes/p' /proc/cpuinfo | head -1)"
    echo "hugepages=$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)"
    echo "gcc=$("$cc" -dumpfullversion)"
    echo "glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
    echo "libgomp=$(readlink -f "$("$cc" -print-file-name=libgomp.so)" | sed 's/.*libgomp/libgomp/')"
    echo "python=$("$python" -V 2>&1)"
    echo "load=$load"
}

mkdir -p "$build" || die "cannot write to $build"
if ! build_kin >"$build/bench.log" 2>&1; then
    tail -30 "$build/bench.log" >&2
    die "kin does not build"
fi
build_peers || die "a peer does not build"
results=$build/results
rm -rf "$results"
mkdir -p "$results"
: >"$results/raw"
: >"$results/failed"
work=$("$build/peers/work") || die "calibration failed"
about_machine >"$results/about"
read -r stolen0 ticks0 < <(stolen)
for group in "${groups[@]}"; do
    for ((round = 1; round <= rounds; round++)); do
        run_group "$group"
    done
done
read -r stolen1 ticks1 < <(stolen)
awk -v s=$((stolen1 - stolen0)) -v t=$((ticks1 - ticks0)) 'BEGIN { printf "stolen=%.2f %%\n", t ? 100 * s / t : 0 }' \
    >>"$results/about"

"$python" "$root/bench/report.py" "$results" >"$results/report.md" || die "the report could not be made"
cat "$results/report.md"
[ -z "$out" ] || cp "$results/report.md" "$out" || die "cannot write $out"
[ ! -s "$results/failed" ]
