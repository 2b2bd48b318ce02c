"""queue and queue-trip, peer: what Python's multiprocessing has to carry messages.

    channel.py Queue|SimpleQueue|Pipe rate PRODUCERS CONSUMERS SIZE MILLISECONDS
    channel.py Queue|SimpleQueue|Pipe trip SIZE TIMES free|parked

What each measures is said in queue/queue.h; the loops are the same, in Python. Messages are bytes objects; those of a Pipe are
sent by send_bytes. A Queue is bounded to what queues of a size in bytes hold.

(Not called queue.py: Python has a module of that name, and multiprocessing needs it.)
"""
import ctypes
import multiprocessing
import os
import signal
import struct
import sys
import time

SECONDS = 60
WARM, SAMPLE = 0.05, 0.005
STOP = (1 << 64) - 1
PRODUCER = 48
CAPACITY = 1 << 20
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


def pin(which):
    """Binds the caller to one of the CPUs it may use, beginning again after the last."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[which % len(cpus)]})


def cpu(pid):
    """CPU time that a process, with all its threads, has used so far: the clock that clock_getcpuclockid gives."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class Way:
    """One direction: put and get move a bytes object."""

    def __init__(self, kind, size):
        capacity = CAPACITY if size <= 65536 else 8 * size
        if kind == "Queue":
            queue = context.Queue(capacity // (size + 16))
            self.put, self.get, self.queue = queue.put, queue.get, queue
        elif kind == "SimpleQueue":
            queue = context.SimpleQueue()
            self.put, self.get = queue.put, queue.get
        else:
            check(kind == "Pipe", "it is a Queue, SimpleQueue or Pipe")
            self.ends = context.Pipe(duplex=False)
            self.put, self.get = self.ends[1].send_bytes, self.ends[0].recv_bytes

    def flush(self):
        """Waits until all that this process put is on its way: a Queue has a thread that feeds it."""
        if hasattr(self, "queue"):
            self.queue.close()
            self.queue.join_thread()


def message_of(size):
    """A function that makes the message of a tag, with the tag at both ends, and one that checks it and gives the tag."""
    if size < 16:
        check(size == 8, "a message has 8 bytes, or at least 16")
        one = struct.Struct("<Q")
        return one.pack, lambda message: one.unpack(message)[0]
    whole = struct.Struct(f"<Q{size - 16}sQ")
    pad, tags, last = bytes(size - 16), struct.Struct("<Q"), size - 8

    def read(message):
        tag = tags.unpack_from(message)[0]
        check(len(message) == size and tags.unpack_from(message, last)[0] == tag, "a message is damaged")
        return tag

    return (lambda tag: whole.pack(tag, pad, tag)), read


class Shared:
    def __init__(self, producers, consumers):
        self.ready = context.Value("i", 0)
        self.go, self.stop = context.RawValue("i", 0), context.RawValue("i", 0)
        self.put, self.got = context.RawArray("Q", producers), context.RawArray("Q", consumers)
        self.put_sum, self.got_sum = context.RawArray("Q", producers), context.RawArray("Q", consumers)

    def begin(self):
        with self.ready.get_lock():
            self.ready.value += 1
        while not self.go.value:
            time.sleep(0.0002)


def _produce(shared, way, me, size):
    pin(me)
    put, (make, _), tag, total, stop = way.put, message_of(size), me << PRODUCER, 0, shared.stop
    shared.begin()
    while not stop.value:
        tag += 1
        put(make(tag))
        total += tag
    shared.put[me], shared.put_sum[me] = tag - (me << PRODUCER), total & STOP
    way.flush()


def _consume(shared, way, me, size, producers):
    pin(me + 1)
    get, (_, read), n, total, last, got = way.get, message_of(size), 0, 0, [0] * producers, shared.got
    shared.begin()
    while (tag := read(get())) != STOP:
        who = tag >> PRODUCER
        check(tag > last[who], "messages of one producer came in another order")
        last[who] = tag
        total += tag
        n += 1
        got[me] = n
    shared.got_sum[me] = total & STOP


def rate(kind, producers, consumers, size, ms):
    producers, consumers, size, ms = int(producers), int(consumers), int(size), int(ms)
    check(kind != "Pipe" or producers == consumers == 1, "a Pipe is for one and one")
    way, shared = Way(kind, size), Shared(producers, consumers)
    givers = [start(_produce, shared, way, i, size) for i in range(producers)]
    takers = [start(_consume, shared, way, i, size, producers) for i in range(consumers)]
    children = givers + takers
    while shared.ready.value < len(children):
        time.sleep(0.0002)
    shared.go.value = 1
    time.sleep(WARM)
    began, n, used = now(), sum(shared.got), sum(cpu(child.pid) for child in children)
    while now() - began < ms * 1000000:
        time.sleep(SAMPLE)
    n = sum(shared.got) - n
    took = now() - began
    used = sum(cpu(child.pid) for child in children) - used
    shared.stop.value = 1
    for child in givers:
        join(child)
    make, _ = message_of(size)
    for _ in takers:
        way.put(make(STOP))
    for child in takers:
        join(child)
    check(n > 0, "no message came")
    check(sum(shared.put) == sum(shared.got) and sum(shared.put_sum) & STOP == sum(shared.got_sum) & STOP,
          "not every message came once")
    param = f"{producers}-{consumers}-{size}"
    print(f"queue python-{kind.lower()} {param} {took / n:.6g} ns")
    print(f"queue-cpu python-{kind.lower()} {param} {used / n:.6g} ns", flush=True)


def await_sleep(other):
    while (state := os.pread(other, 256, 0).rpartition(b")")[2][1:2]) != b"S":
        check(state != b"Z", "the other process has ended")
        os.sched_yield()


def file_about(how, pid):
    """A file that tells what the process does, or None."""
    return os.open(f"/proc/{pid}/stat", os.O_RDONLY) if how == "parked" else None


def _answer(there, back, moments, size, how, asker):
    pin(1)
    other, get, put, (_, read) = file_about(how, asker), there.get, back.put, message_of(size)
    while True:
        message = get()
        if read(message) == STOP:
            break
        if other is not None:
            moments[0] = now()
            await_sleep(other)
            moments[1] = now()
        put(message)


def trip(kind, size, n, how):
    size, n = int(size), int(n)
    there, back, moments = Way(kind, size), Way(kind, size), context.RawArray("Q", 2)
    child = start(_answer, there, back, moments, size, how, os.getpid())
    pin(0)
    other, put, get, (make, read) = file_about(how, child.pid), there.put, back.get, message_of(size)
    for times in (n // 10 + 1, n):
        total, began, used = 0, now(), cpu(child.pid) + cpu(os.getpid())
        for i in range(times):
            if other is None:
                put(make(i))
                check(read(get()) == i, "another message came back")
                continue
            await_sleep(other)
            asked = now()
            put(make(i))
            message = get()
            total += now() - moments[1] + moments[0] - asked
            check(read(message) == i, "another message came back")
        took = now() - began if other is None else total
        used = cpu(child.pid) + cpu(os.getpid()) - used
    put(make(STOP))
    join(child)
    print(f"queue-trip python-{kind.lower()} {size}-{how} {took / n:.6g} ns", flush=True)
    if other is None:
        print(f"queue-trip-cpu python-{kind.lower()} {size}-{how} {used / n:.6g} ns", flush=True)


def main():
    signal.alarm(SECONDS)
    kinds = {f.__name__: f for f in (rate, trip)}
    if len(sys.argv) < 4 or sys.argv[2] not in kinds:
        sys.exit(__doc__)
    kinds[sys.argv[2]](sys.argv[1], *sys.argv[3:])


if __name__ == "__main__":
    main()
