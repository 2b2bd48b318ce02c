"""lock, contended, event, roundtrip, barrier and many, peer: what Python's multiprocessing has for each.

    sync.py lock Lock|Semaphore PAIRS
    sync.py contended PROCESSES MILLISECONDS
    sync.py event set|again|set-clear TIMES
    sync.py roundtrip semaphore|condition|event 1cpu|2cpu free|parked TIMES
    sync.py barrier PROCESSES ROUNDS
    sync.py many LOCKS

What each measures is said in the C programs of the same names; the loops are the same, in Python.
"""
import ctypes
import multiprocessing
import os
import signal
import sys
import time

SECONDS = 60
context = multiprocessing.get_context("fork")
now = time.monotonic_ns


def check(ok, what):
    if not ok:
        sys.exit(f"bench: failed: {what}")


def start(target, *args):
    child = context.Process(target=_child, args=(os.getpid(), target, args), daemon=True)
    child.start()
    return child


def _child(parent, target, args):
    """Ends with its parent, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == parent:
        target(*args)


def join(child):
    child.join(SECONDS)
    check(child.exitcode == 0, "a child failed")


def show(group, param, value, unit, subject="python"):
    print(f"{group} {subject} {param} {value:.6g} {unit}", flush=True)


def pair_ns(take, give, n):
    for times in (n // 10 + 1, n):
        began = now()
        for _ in range(times):
            take()
            give()
        took = now() - began
    return took / n


def lock(kind, n):
    one = getattr(context, kind)()
    show("lock", "pair", pair_ns(one.acquire, one.release, int(n)), "ns", f"python-{kind.lower()}")


def pin(which):
    """Binds the caller to one of the CPUs it may use, beginning again after the last."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[which % len(cpus)]})


def _contend(one, words, pairs, me, ready, go, stop):
    pin(me)
    with ready.get_lock():
        ready.value += 1
    while not go.value:
        time.sleep(0.0002)
    acquire, release, n = one.acquire, one.release, 0
    while not stop.value:
        acquire()
        words[0] += 1
        words[1] += 1
        release()
        n += 1
    pairs[me] = n


def contended(processes, ms):
    processes = int(processes)
    one, words, pairs = context.Lock(), context.RawArray("Q", 2), context.RawArray("Q", processes)
    ready, go, stop = context.Value("i", 0), context.RawValue("i", 0), context.RawValue("i", 0)
    children = [start(_contend, one, words, pairs, i, ready, go, stop) for i in range(processes)]
    while ready.value < processes:
        time.sleep(0.0002)
    began, go.value = now(), 1
    time.sleep(int(ms) / 1000)
    took, stop.value = now() - began, 1
    for child in children:
        join(child)
    total = sum(pairs)
    check(total and list(words) == [total, total], "a lock did not exclude")
    show("contended", f"{processes}-processes", took / total, "ns")
    show("contended", f"{processes}-least", 100 * min(pairs) * processes / total, "%")


def event(kind, n):
    n = int(n)
    events = [context.Event() for _ in range(16)]
    one = events[0]
    if kind == "set":
        total, batches = 0, n // len(events) + 1
        for _ in range(batches):
            for e in events:
                e.clear()
            began = now()
            for e in events:
                e.set()
            total += now() - began
        ns = total / (batches * len(events))
    elif kind == "again":
        one.set()
        ns = pair_ns(one.set, one.set, n) / 2
    else:
        ns = pair_ns(one.set, one.clear, n)
    show("event", kind, ns, "ns")


class Condition:
    """One direction of a round trip through a condition, its lock and a flag."""

    def __init__(self):
        self.condition, self.flag = context.Condition(), context.RawValue("i", 0)

    def give(self):
        with self.condition:
            self.flag.value = 1
            self.condition.notify()

    def take(self):
        with self.condition:
            while not self.flag.value:
                self.condition.wait()
            self.flag.value = 0


class Event:
    def __init__(self):
        self.event = context.Event()
        self.give = self.event.set

    def take(self):
        self.event.wait()
        self.event.clear()


class Semaphore:
    def __init__(self):
        semaphore = context.Semaphore(0)
        self.give, self.take = semaphore.release, semaphore.acquire


def await_sleep(other):
    while (state := os.pread(other, 256, 0).rpartition(b")")[2][1:2]) != b"S":
        check(state != b"Z", "the other process has ended")
        os.sched_yield()


def prepare(which, how, pid):
    """Binds the caller to a CPU; gives a file that tells what the other does, or None."""
    pin(which)
    return os.open(f"/proc/{pid}/stat", os.O_RDONLY) if how == "parked" else None


def _answer(there, back, moments, second, how, asker, n):
    other = prepare(second, how, asker)
    take, give = there.take, back.give
    for _ in range(n):
        take()
        if other is not None:
            moments[0] = now()
            await_sleep(other)
            moments[1] = now()
        give()


def roundtrip(kind, place, how, n):
    n, warm = int(n), int(n) // 10
    there, back = [{"semaphore": Semaphore, "condition": Condition, "event": Event}[kind]() for _ in range(2)]
    moments = context.RawArray("Q", 2)
    child = start(_answer, there, back, moments, int(place == "2cpu"), how, os.getpid(), n + warm)
    other = prepare(0, how, child.pid)
    give, take = there.give, back.take
    for times in (warm, n):
        total, began = 0, now()
        for _ in range(times):
            if other is None:
                give()
                take()
                continue
            await_sleep(other)
            asked = now()
            give()
            take()
            total += now() - moments[1] + moments[0] - asked
        took = now() - began if other is None else total
    join(child)
    show("roundtrip", f"{place}-{how}", took / n / 1e3, "us", f"python-{kind}")


def _come(one, me, n):
    pin(me)
    for _ in range(n):
        one.wait()


def barrier(processes, n):
    n, warm = int(n), int(n) // 10
    one = context.Barrier(int(processes))
    children = [start(_come, one, i, n + warm) for i in range(1, int(processes))]
    _come(one, 0, warm)
    began = now()
    for _ in range(n):
        one.wait()
    took = now() - began
    for child in children:
        join(child)
    show("barrier", f"{processes}-processes", took / n / 1e3, "us")


def many(n):
    began = now()
    locks = [context.Lock() for _ in range(int(n))]
    show("many", "create", (now() - began) / 1e6, "ms")
    began = now()
    for one in locks:
        check(one.acquire(block=False), "a new lock is free")
    for one in locks:
        one.release()
    show("many", "take-release", (now() - began) / 1e6, "ms")


def main():
    signal.alarm(SECONDS)
    kinds = {f.__name__: f for f in (lock, contended, event, roundtrip, barrier, many)}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    kinds[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
