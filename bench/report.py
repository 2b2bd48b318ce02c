"""Reduces the lines that run.sh collected to a report in markdown.

    report.py DIRECTORY        with the files raw, failed and about that run.sh wrote there

All ratios are of times, kin's by the other's or the other way round, computed from the medians; what the single rounds
gave is beside them. The goals are in GOALS; nothing else here knows a figure.
"""
import os
import statistics
import sys
from typing import Callable, NamedTuple, Optional, Union


class Quantity(NamedTuple):
    """Something that was measured, or is computed from what was: `of(data)` gives the value over all rounds and, by round,
    each single one, or None where a part of it is missing."""
    groups: frozenset
    of: Callable


class Goal(NamedTuple):
    text: str
    above: Quantity
    below: Optional[Quantity]  # the goal is for above / below, or without it for what is above alone
    sign: str                  # "<=" or ">="
    goal: Union[float, str]    # a number, or the name of one that run.sh has said
    unit: str = ""
    either: str = ""           # of the goals with the same word here, one is enough


def one(group, parameter, subject, over_rounds=statistics.median):
    """The median of a subject; or its max or min, where one bad round is enough to fail."""
    def of(data):
        values = find(data, group, parameter, subject)
        return (over_rounds(values.values()), values) if values else None
    return Quantity(frozenset([group]), of)


def combined(function, parts):
    """function(list of the parts' values), overall and for each round that all parts took part in."""
    def of(data):
        found = [part.of(data) for part in parts]
        if None in found:
            return None
        rounds = set.intersection(*(set(values) for _, values in found))
        return (function([value for value, _ in found]),
                {r: function([values[r] for _, values in found]) for r in sorted(rounds)})
    return Quantity(frozenset().union(*(part.groups for part in parts)), of)


def total(*terms):
    """The sum of terms, each a (factor, quantity)."""
    factors = [factor for factor, _ in terms]
    return combined(lambda values: sum(f * v for f, v in zip(factors, values)), [part for _, part in terms])


def largest(*parts):
    return combined(max, parts)


def better(*parts):
    """Of some quantities the one with the smallest value overall."""
    def of(data):
        found = [part.of(data) for part in parts]
        return None if None in found else min(found, key=lambda value: value[0])
    return Quantity(frozenset().union(*(part.groups for part in parts)), of)


def median(group, parameter, subject):
    return one(group, parameter, subject)


def worst(group, parameter, subject):
    return one(group, parameter, subject, max)


STORM_FORMS = ("kin", "kin-relaxed", "kin-place")

GOALS = [
    Goal("start+join, small parent: time / fork+_exit+wait",
         median("start", "0MB", "kin-fork"), median("start", "0MB", "fork"), "<=", 1.5),
    Goal("start+join, small parent: times as fast as posix_spawn",
         median("start", "0MB", "posix_spawn"), median("start", "0MB", "kin-fork"), ">=", 3.0),
    Goal("start+join, 4 GB parent: time / its own with a small parent",
         median("start", "4000MB", "kin-fork"), median("start", "0MB", "kin-fork"), "<=", 1.2),
    Goal("lock+unlock, uncontended: time / pthread mutex",
         median("lock", "pair", "kin"), median("lock", "pair", "normal"), "<=", 1.05),
    Goal("lock+unlock, uncontended: time / robust pthread mutex",
         median("lock", "pair", "kin"), median("lock", "pair", "robust"), "<=", 0.7),
    Goal("semaphore taken and given, uncontended: time / POSIX semaphore",
         median("lock", "pair", "kin-semaphore"), median("lock", "pair", "semaphore"), "<=", 0.8),
    Goal("lock, 2 processes contend: times as many pairs/s as adaptive pthread mutex",
         median("contended", "2-processes", "adaptive"), median("contended", "2-processes", "kin"), ">=", 1.0),
    Goal("lock, 2 processes contend: times as many pairs/s as robust pthread mutex",
         median("contended", "2-processes", "robust"), median("contended", "2-processes", "kin"), ">=", 2.0),
    Goal("lock, 4 processes contend: times as many pairs/s as pthread mutex",
         median("contended", "4-processes", "normal"), median("contended", "4-processes", "kin"), ">=", 0.8),
    Goal("event set, nobody waits (the slower of: it was cleared, it was set)",
         largest(median("event", "set", "kin"), median("event", "again", "kin")), None, "<=", 15, "ns"),
    Goal("event set and cleared, nobody waits: system calls (worst round)",
         worst("event", "system-calls", "kin"), None, "<=", 0),
    Goal("round trip, parked, 2 CPUs: time of the better of condition and semaphore / raw futex",
         better(median("roundtrip", "2cpu-parked", "kin-condition"), median("roundtrip", "2cpu-parked", "kin-semaphore")),
         median("roundtrip", "2cpu-parked", "futex"), "<=", 1.1),
    Goal("lock of a dead owner handed over: p50 / (p50 of a pidfd + one wake-up: half a round trip by raw futex)",
         median("death", "p50", "kin"),
         total((1, median("death", "p50", "pidfd")), (0.5, median("roundtrip", "2cpu-parked", "futex"))), "<=", 1.0),
    Goal("lock of a dead owner handed over: p99 (worst round)",
         total((1e-3, worst("death", "p99", "kin"))), None, "<=", 20, "ms"),
    Goal("deadlock found, AB-BA and ring of 20: longest (worst round)",
         largest(worst("deadlock", "2-max", "kin"), worst("deadlock", "20-max", "kin")), None, "<=", 20, "ms"),
    Goal("deadlock: false alarms (worst round)", worst("deadlock", "false-alarms", "kin"), None, "<=", 0),
    Goal("blocked waiter: wake-ups", worst("idle", "wake-ups", "kin"), None, "<=", 0),
    Goal("many locks at once: created, taken and released", one("many", "worked", "kin", min), None, ">=", "locks"),
    Goal("many locks at once: passed to a child, taken and released there",
         one("many", "passed", "kin", min), None, ">=", "passed"),
    Goal("queue 1→1, 64 B: times as many messages/s as Boost.Interprocess",
         median("queue", "1-1-64", "boost"), median("queue", "1-1-64", "kin"), ">=", 4),
    Goal("queue 1→1, 64 B: times as many messages/s as ZeroMQ",
         median("queue", "1-1-64", "zeromq"), median("queue", "1-1-64", "kin"), ">=", 7),
    Goal("queue 1→1, 64 B: times as many messages/s as Python's Queue",
         median("queue", "1-1-64", "python-queue"), median("queue", "1-1-64", "kin"), ">=", 100),
    Goal("queue 1→1, 64 B: times as many messages/s as a bare ring for one and one",
         median("queue", "1-1-64", "spsc"), median("queue", "1-1-64", "kin"), ">=", 0.45),
    Goal("queue 2→2, 64 B: times as many messages/s as Vyukov's ring",
         median("queue", "2-2-64", "vyukov"), median("queue", "2-2-64", "kin"), ">=", 1.0),
    Goal("queue 2→2, 64 B: times as many messages/s as a ring under a robust pthread mutex",
         median("queue", "2-2-64", "robust"), median("queue", "2-2-64", "kin"), ">=", 5),
    Goal("queue 1→1, 64 B, relaxed order, batches: times as many messages/s as a bare ring for one and one",
         median("queue", "1-1-64", "spsc"), median("queue", "1-1-64", "kin-relaxed-many"), ">=", 0.8),
    Goal("queue 1→1, 1 MB in place: time / 64 B in place, as many on their way at most",
         median("queue", "1-1-1048576", "kin-place"), median("queue", "1-1-64", "kin-place-few"), "<=", 1.5),
    Goal("queue 1→1, 1 MB in place: time / 64 B in place", median("queue", "1-1-1048576", "kin-place"),
         median("queue", "1-1-64", "kin-place"), "<=", 1.5),
    Goal("queue 1→1, 1 MB copied in and out: share of the bandwidth of one memcpy",
         median("queue", "1-1-1048576", "memcpy"), median("queue", "1-1-1048576", "kin"), ">=", 0.4),
    Goal("queue, round trip, 64 B: times as fast as Python's Queue",
         median("queue-trip", "64-free", "python-queue"), median("queue-trip", "64-free", "kin"), ">=", 100),
    Goal("queue, round trip, 64 B: times as fast as ZeroMQ (PAIR, or REQ and REP)",
         better(median("queue-trip", "64-free", "zeromq"), median("queue-trip", "64-free", "zeromq-req")),
         median("queue-trip", "64-free", "kin"), ">=", 40),
    Goal("queue, round trip, 64 B: time / one cache line there and back, measured beside it",
         median("queue-trip", "64-free", "kin"), median("queue-line", "64-free", "kin"), "<=", 4),
    Goal("queue, round trip, 64 B, parked: time / raw futex",
         median("queue-trip", "64-parked", "kin"), median("queue-trip", "64-parked", "futex"), "<=", 1.1),
    Goal("queue, kill storm: kills", median("queue-storm", "kills", "kin"), None, ">=", 10000),
    Goal("queue, kill storm: kills per second", median("queue-storm", "per-second", "kin"), None, ">=", 300),
    Goal("queue, kill storm, whatever the form: a process put or got nothing for 100 ms",
         largest(*(worst("queue-storm", "stalls", form) for form in STORM_FORMS)), None, "<=", 0),
    Goal("queue, kill storm, whatever the form: messages corrupt, in disorder, lost or too many",
         total(*((1, worst("queue-storm", what, form)) for form in STORM_FORMS for what in ("corrupt", "disorder", "lost"))),
         None, "<=", 0),
    Goal("queue, kill storm, whatever the form: messages that do not fit any more",
         largest(*(worst("queue-storm", "capacity", form) for form in STORM_FORMS)), None, "<=", 0),
    Goal("queue, kill storm: share of the calm rate", median("queue-storm", "calm", "kin"), median("queue-storm", "storm", "kin"),
         ">=", 0.25),
    Goal("map, trivial task, default chunk: times as many tasks/s as Python's Pool",
         median("map", "default", "python"), median("map", "default", "kin"), ">=", 20.0),
    Goal("map, trivial task, default chunk: time per item / libgomp dynamic,1",
         median("map", "default", "kin"), median("map", "default", "libgomp"), "<=", 1.5),
    Goal("map, trivial task, chunk 1: times as many tasks/s as Python's Pool, chunksize 1",
         median("map", "chunk1", "python"), median("map", "chunk1", "kin"), ">=", 100.0),
    Goal("map, 100 µs task, 2 workers: times as fast as one process (or the next line)",
         median("map", "100us", "one"), median("map", "100us", "kin"), ">=", 1.9, either="100us"),
    Goal("map, 100 µs task, 2 workers: share of what two independent processes reach (or the line before)",
         median("map", "100us", "two"), median("map", "100us", "kin"), ">=", 0.95, either="100us"),
]

# The groups of lines that run.sh makes when it is asked for one; others make lines of their own name.
MADE_BY = {"sync": ("contended", "event", "roundtrip", "barrier", "death", "deadlock", "idle", "many"),
           "queue": ("queue", "queue-cpu", "queue-fill", "queue-storm"),
           "queue-trip": ("queue-trip", "queue-trip-cpu", "queue-line")}
# Lines that are columns in the table of another group, and what these are called.
BESIDE = {"queue": {"queue-cpu": "CPU, ns", "queue-fill": "full, %"},
          "queue-trip": {"queue-trip-cpu": "CPU, ns", "queue-line": "line, ns"}}

TITLES = {
    "start": "start: one process started and joined",
    "lock": "lock: taken and released in shared memory, nobody else wants it",
    "contended": "contended: one lock, taken and released by several processes without a pause",
    "event": "event: set, and nobody waits",
    "roundtrip": "roundtrip: two processes wake each other in turn",
    "barrier": "barrier: one round",
    "death": "death: from the kill of a lock's owner until a process that waited has the lock",
    "deadlock": "deadlock: from the call that closes a cycle until one of it is told",
    "idle": "idle: a process that waits for a lock",
    "many": "many: many locks at once",
    "queue": "queue: messages one way, without a pause",
    "queue-trip": "queue-trip: a message there and one back",
    "queue-storm": "queue-storm: producers and consumers are killed at random and replaced",
    "map": "map: time per item with 2 workers",
    "crunch": "crunch: a whole program, wall time",
}
PARAMETERS = {
    "default": "trivial, default chunk",
    "chunk1": "trivial, chunk 1",
    "100us": "100 µs task",
    "pair": "",
    "2-processes": "2 processes", "4-processes": "4 processes",
    "2-least": "2 processes, the least share", "4-least": "4 processes, the least share",
    "set": "set a cleared one", "again": "set one that is set", "set-clear": "set and clear",
    "system-calls": "set and clear, system calls",
    "2cpu-parked": "2 CPUs, parked", "2cpu-free": "2 CPUs, free", "1cpu-parked": "1 CPU, parked", "1cpu-free": "1 CPU, free",
    "2-p50": "AB-BA, p50", "2-max": "AB-BA, longest", "20-p50": "ring of 20, p50", "20-max": "ring of 20, longest",
    "false-alarms": "false alarms", "wake-ups": "wake-ups", "take-release": "take and release all", "pass": "pass to a child",
    "worked": "worked", "passed": "passed to a child",
    "kills": "kills", "per-second": "kills per second", "calm": "before, per message", "storm": "meanwhile, per message",
    "stalls": "100 ms without a message", "longest": "longest without a message", "corrupt": "corrupt", "disorder": "in disorder",
    "lost": "lost or too many", "capacity": "do not fit any more",
    "program": "whole program",
    "pool": "the pool alone",
}
SIZES = {8: "8 B", 64: "64 B", 1024: "1 KB", 65536: "64 KB", 1048576: "1 MB"}
PARAMETERS.update({f"{n}-{n}-{size}": f"{n} → {n}, {text}" for n in (1, 2, 4) for size, text in SIZES.items()})
PARAMETERS.update({f"{size}-{how}": f"{text}, {how}" for how in ("free", "parked") for size, text in SIZES.items()})
# What the others of a group are compared with.
REFERENCE = {"start": "kin-fork", "roundtrip": "futex", "crunch": "workers-2"}  # kin in the others
NAMES = {
    "kin": "kin", "kin-fork": "kin, fork server", "kin-spawn": "kin, spawn", "fork": "fork + _exit + waitpid",
    "posix_spawn": "posix_spawn (static program) + waitpid", "python-fork": "Python Process, fork",
    "python-forkserver": "Python Process, forkserver", "python-spawn": "Python Process, spawn",
    "normal": "pthread mutex, process-shared", "adaptive": "pthread mutex, process-shared, adaptive",
    "robust": "pthread mutex, process-shared, robust", "semaphore": "POSIX semaphore, process-shared",
    "rwlock-read": "pthread rwlock, process-shared, reading", "rwlock-write": "pthread rwlock, process-shared, writing",
    "kin-rlock": "kin, recursive lock", "kin-rwlock-read": "kin, reader-writer lock, reading",
    "kin-rwlock-write": "kin, reader-writer lock, writing", "kin-semaphore": "kin, semaphore",
    "kin-semaphore-undo": "kin, semaphore with undo", "kin-condition": "kin, condition", "kin-event": "kin, event",
    "python-lock": "Python Lock", "python-semaphore": "Python Semaphore", "python-condition": "Python Condition",
    "python-event": "Python Event", "futex": "raw futex", "condition": "pthread condition, process-shared",
    "pthread": "pthread barrier, process-shared", "pidfd": "poll() of a pidfd",
    "libgomp": "libgomp, schedule(dynamic,1), 2 threads", "libgomp-static": "libgomp, schedule(static), 2 threads",
    "one": "one process, a loop", "two": "two independent processes, half each",
    "python": "Python Pool(2).map", "python-chunk1": "Python Pool(2).map, chunksize 1",
    ("contended", "python"): "Python Lock", ("event", "python"): "Python Event", ("barrier", "python"): "Python Barrier",
    ("many", "python"): "Python Lock",
    "kin-many": "kin, batches", "kin-relaxed": "kin, relaxed order", "kin-relaxed-many": "kin, relaxed order, batches",
    "kin-place": "kin, in place", "kin-place-few": "kin, in place, at most 51", "kin-segment": "kin, memory of their own",
    "kin-pipe": "kin, pipe", "kin-spin": "kin, KIN_SPIN=1000", "kin-parked": "kin, KIN_SPIN=0",
    "spsc": "bare ring for one and one", "vyukov": "Vyukov's ring", ("queue", "robust"): "ring under a robust pthread mutex",
    ("queue-trip", "robust"): "ring under a robust pthread mutex", "boost": "Boost.Interprocess message_queue",
    "zeromq": "ZeroMQ, ipc, PUSH and PULL", ("queue-trip", "zeromq"): "ZeroMQ, ipc, PAIR", "zeromq-req": "ZeroMQ, ipc, REQ and REP",
    "pipe": "pipe", "socketpair": "socketpair, SOCK_SEQPACKET", "mq": "POSIX message queue", "memcpy": "memcpy alone",
    "python-queue": "Python Queue", "python-simplequeue": "Python SimpleQueue", "python-pipe": "Python Pipe",
    "workers-1": "kin, 1 worker", "workers-2": "kin, 2 workers",
}
NOTES = {
    "start": "The parent's memory is allocated after `kin_init` and touched page by page, in 4 KB pages. Mean of up to "
             "{start_n} starts per round (Python: {python_start_n}), at most 3 s, one after the other without a pause: what "
             "kin's fork server does ahead of the next start is paid for in the same time.",
    "lock": "Mean of {lock_n} pairs per round (Python: a tenth), one process.",
    "contended": "{contended_ms} ms per round, in which all processes, bound to the CPUs in turn, take the lock, add to two "
                 "words that it protects and release it; the time per pair is that of all together. Both words must be the sum "
                 "at the end. *The least share* is what the process that had the lock least often had, in percent of an equal "
                 "share: a lock that lets one process run on is fast.",
    "event": "Mean of {lock_n} per round (Python: a thousandth). Cleared ones are set in batches, and cleared again while the "
             "clock stands still. System calls are counted with strace; without it the line is missing (here: {strace}).",
    "roundtrip": "Mean of {trips} per round (Python: half). Each process is bound to a CPU, with *1 CPU* both to the same. "
                 "*Parked*: each gives only when the other is asleep, as the system says, and kin does not spin "
                 "(KIN_SPIN=0); two wake-ups from just before a give to just after the take that it ends. *Free*: both as "
                 "fast as they can, kin as it is. A raw futex sleeps while a word is 0, and wakes with each give.",
    "barrier": "Mean of {barrier_n} per round (Python: a fifth), by processes bound to the CPUs in turn. After each, every "
               "process looks whether the next one has come.",
    "death": "{deaths} deaths per round. A third process notes the time and kills the owner with SIGKILL, 2 ms after the waiting "
             "process went to wait. In turn with kin's, in the same program: until poll() of a pidfd returns, which is what the "
             "system needs to end a process and to tell.",
    "deadlock": "AB-BA {rings} times per round, the ring of 20 {ring_of_20} times; all others of the cycle are asleep when the "
                "last call closes it. Exactly one of the cycle must be told. False alarms: 4 processes take two locks in "
                "the same order, per round until {waits_each} calls found a lock taken.",
    "idle": "Voluntary context switches of all its threads, for {idle_s} s, from a second after it went to sleep. In the first "
            "round only.",
    "many": "{locks} locks of their own, each with its segment; {passed} of them passed to one child in a list, from before the "
            "start to after the join.",
    "queue": "{rate_ms} ms per round after 50 ms of warm-up, with a queue of 1 MB (8 MB for messages of 1 MB; in place 64 MB, which "
             "are 63 of them; *at most 51*: a queue of so few), or what comes next to that in a subject. Processes are bound to the CPUs "
             "in turn, so that of more than one and one a producer and a consumer share a CPU. Each message carries its number at both "
             "ends (in place only at its beginning: the rest is neither written nor read), and each consumer checks it; all must "
             "have come at the end. *CPU* is what all processes together used for a message, "
             "*full* how full the queue was in the mean: when it is nearly empty each message is a cache miss of its own, when it "
             "is backlogged several share one, and the same program is then several times as fast. Rings spin, then yield. "
             "Batches are of 32. Python's Pipe moves bytes, the others pickle. {peers}",
    "queue-trip": "Mean of {queue_trips} per round (Python: half; those that spin: a hundred times as many), by two processes on "
                  "two CPUs. *Free*: both as fast as they can. *Parked*: each answers only when the other is asleep, as the system "
                  "says, and kin does not spin (KIN_SPIN=0); two wake-ups. *Line* is one cache line there and back between the "
                  "same two processes, just before: no message is faster. *CPU* is that of both for a trip.",
    "queue-storm": "{storm_kills} kills, in the first round only. Two producers and two consumers on a queue of 64 KB, nowhere "
                   "bound; a victim is chosen at random, killed with SIGKILL and replaced when it has ended, about every 3 ms. "
                   "Messages of 24 to 256 bytes have a number and a checksum. *Lost or too many* are those beyond one for each "
                   "kill; *in disorder* is not counted in place, where what a dead consumer had taken comes again. Capacity is "
                   "counted in empty messages before and after.",
    "map": "Items of 8 bytes in, 8 bytes out; 1 000 000 of them, 200 000 with chunk 1 (Python: 20 000), 2 000 of 100 µs. "
           "Pools and threads exist before the clock starts. kin's time includes copying the items into and out of "
           "shared memory; threads need no copies, Python's objects are pickled. The 100 µs task is a fixed chain of "
           "multiplications, the same machine code for every subject, Python's included (by ctypes). Every result is "
           "checked.",
    "crunch": "`examples/crunch --quiet` on {rows} rows of its built-in input. The whole program makes its input and writes "
              "its output in one process; the pool alone is from `kin_pool_create` to the last result, in its own words. "
              "Per second: rows.",
}


def read_raw(path):
    """{(group, parameter): {subject: {round: value}}} and the units by (group, parameter), in the order of the first line."""
    data, units = {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            number, group, subject, parameter, value, unit = line.split()
            data.setdefault((group, parameter), {}).setdefault(subject, {})[int(number)] = float(value)
            units[group, parameter] = unit
    return data, units


def figure(x):
    """Three significant digits, no exponent: 0.0123, 1.23, 123, 12 300, 1.23 M."""
    if x >= 1e6:
        return f"{x / 1e6:.3g} M" if x < 1e9 else f"{x / 1e6:.0f} M"
    if x >= 1000:
        return f"{round(x, 3 - len(str(int(x)))):,.0f}".replace(",", " ")
    return f"{x:.1f}" if x >= 100 else f"{x:.3g}"


def figure_of(values):
    return figure(statistics.median(values.values())) if values else ""


# Units in which "how often per second" makes sense, in parts of a second; but not for these groups.
PER_SECOND = {"us": 1e6, "ns": 1e9, "ns/item": 1e9}
ONE_BY_ONE = ("death", "deadlock", "idle", "many", "queue-storm")


def per_second(value, group, unit, about):
    if group in ONE_BY_ONE or not (unit == "s" or unit in PER_SECOND):
        return ""
    return figure(PER_SECOND.get(unit, float(about["rows"])) / value)


def span(values, shape=figure):
    return f"{shape(min(values))} – {shape(max(values))}"


def ratio(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def compare(above, below):
    """The ratio of two quantities' values, and of each round both took part in."""
    both = sorted(set(above[1]) & set(below[1]))
    return above[0] / below[0], [above[1][r] / below[1][r] for r in both]


def compare_values(above, below):
    return compare((statistics.median(above.values()), above), (statistics.median(below.values()), below))


def name(group, subject):
    return NAMES.get((group, subject), NAMES.get(subject, subject))


def find(data, group, parameter, subject):
    return data.get((group, parameter), {}).get(subject)


def judge(goal, data, about):
    """(wanted, measured, single rounds, whether it is met), or None if a part is missing."""
    limit = float(about[goal.goal]) if isinstance(goal.goal, str) else goal.goal
    above, below = goal.above.of(data), goal.below.of(data) if goal.below else None
    wanted = f"{goal.sign.replace('<=', '≤').replace('>=', '≥')} {limit:g} {goal.unit}".rstrip()
    if above is None or (goal.below and below is None):
        return wanted, None, None, None
    if below:
        value, rounds = compare(above, below)
        shown, single = ratio(value), span(rounds, ratio) if rounds else ""
    else:
        value = above[0]
        shown, single = f"{figure(value)} {goal.unit}".rstrip(), span(above[1].values())
    return wanted, shown, single, value <= limit if goal.sign == "<=" else value >= limit


def goals(data, about):
    asked = {made for group in about["groups"].split() for made in MADE_BY.get(group, (group,))}
    asked_goals = [(goal, judge(goal, data, about)) for goal in GOALS
                   if all(groups <= asked for groups in (goal.above.groups, goal.below.groups if goal.below else asked))]
    if not asked_goals:
        return
    by_other = {goal.either for goal, (_, _, _, met) in asked_goals if met and goal.either}
    print("## Goals\n\n| goal | wanted | measured | single rounds | met |\n|---|---|---|---|---|")
    for goal, (wanted, shown, single, met) in asked_goals:
        answer = "yes" if met else "by the other line" if goal.either in by_other else "**no**"
        if shown is None:
            shown, single, answer = "not measured", "", ""
        print(f"| {goal.text} | {wanted} | {shown} | {single} | {answer} |")
    print("\nRatios are of medians, and so is what has a unit, but where it says *worst round*; *single rounds* is the smallest "
          "and the largest of one round.\n")
    alone, two = find(data, "map", "100us", "one"), find(data, "map", "100us", "two")
    if alone and two:
        value, rounds = compare_values(alone, two)
        print(f"What the machine had to give: two independent processes were {ratio(value)} times as fast as one "
              f"({span(rounds, ratio)}).")
        if value < 1.8:
            print("**That is much less than 2: something else was running, or the two cores are one. Do not trust figures "
                  "that need both.**")
        print()


def group_table(data, units, group, about):
    used = {unit for (g, _), unit in units.items() if g == group}
    short = {unit: "µs" if unit == "us" else unit for unit in used}
    reference = REFERENCE.get(group, "kin")
    print(f"## {TITLES[group]}\n\n{NOTES[group].format(**about)}\n")
    beside = BESIDE.get(group, {})
    print(f"| | subject | median{', ' + short[min(used)] if len(used) == 1 else ''} | min – max | per second "
          f"{''.join(f'| {title} ' for title in beside.values())}| time / {name(group, reference)} | single rounds |")
    print("|---|---|---|---|---|---|---|" + "---|" * len(beside))
    for (g, parameter), subjects in data.items():
        if g != group:
            continue
        unit, shown = units[g, parameter], PARAMETERS.get(parameter, parameter.replace("MB", " MB"))
        for subject, values in subjects.items():
            value = statistics.median(values.values())
            against = "| | |"
            if unit != "%" and reference in subjects and len(subjects) > 1 and min(subjects[reference].values()) > 0:
                against = "| 1 | |"
                if subject != reference:
                    r, rounds = compare_values(values, subjects[reference])
                    against = f"| {ratio(r)} | {span(rounds, ratio) if rounds else ''} |"
            print(f"| {shown} | {name(group, subject)} | {figure(value)}{' ' + short[unit] if len(used) > 1 else ''} "
                  f"| {span(values.values())} | {per_second(value, group, unit, about)} "
                  f"{''.join(f'| {figure_of(find(data, g, parameter, subject))} ' for g in beside)}{against}")
    print()


def head(about):
    print("# kin beside its peers\n")
    print(f"`{about['command']}`, {about['date']}: {about['rounds']} rounds; in each, every subject of a group ran once, in "
          "turn, alone. Optimisation -O2 for everything compiled; nothing is pinned to a CPU but where it is said.\n")
    if about["quick"] == "1" or int(about["rounds"]) < 7:
        print("**A short run, to see that everything works: not for figures.**\n")
    if float(about["load"].split()[0]) > 0.5:
        print("**The machine was not idle when this began: do not trust the figures.**\n")
    for key, name in (("kin", "kin"), ("cpu", "CPU"), ("cores", "usable cores"), ("memory", "memory"), ("kernel", "kernel"),
                      ("virtual", "virtual machine"), ("hugepages", "transparent huge pages"), ("gcc", "gcc"),
                      ("glibc", "C library"), ("libgomp", "libgomp"), ("boost", "Boost"), ("zeromq", "ZeroMQ"),
                      ("python", "Python"),
                      ("load", "load average before"), ("stolen", "CPU time stolen by the host")):
        if about.get(key):
            print(f"- {name}: {about[key]}")
    print()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = sys.argv[1]
    with open(os.path.join(directory, "about"), encoding="utf-8") as lines:
        about = dict(line.rstrip("\n").split("=", 1) for line in lines)
    data, units = read_raw(os.path.join(directory, "raw"))
    head(about)
    goals(data, about)
    columns = {group for groups in BESIDE.values() for group in groups}
    about["peers"] = " ".join(f"Left out: {what} ({about[key]})." for key, what in
                              (("no_boost", "Boost.Interprocess"), ("no_zeromq", "ZeroMQ")) if key in about)
    for group in dict.fromkeys(group for group, _ in data if group not in columns):
        group_table(data, units, group, about)
    with open(os.path.join(directory, "failed"), encoding="utf-8") as lines:
        failed = lines.read().splitlines()
    if failed:
        print("## Failed\n")
        print("\n".join(f"- round {line}" for line in failed))


if __name__ == "__main__":
    main()
