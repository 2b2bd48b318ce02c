"""map, peers: multiprocessing.Pool(workers).map.

    map.py default|chunk1|100us ITEMS REPEATS WORKERS ROUNDS LIBRARY [CHUNKSIZE]

The pool is created before the clock starts, and the first repeat is the warm-up. For 100us the workers call the same
compiled work as every other subject; what a call by ctypes costs (about a microsecond) is part of Python's figure.
"""
import ctypes
import multiprocessing
import sys
import time

_work = None
_rounds = 0


def square(x):
    return x * x


def load(library, rounds):
    global _work, _rounds
    _work = ctypes.CDLL(library).work
    _work.argtypes, _work.restype = [ctypes.c_uint64, ctypes.c_uint64], ctypes.c_uint64
    _rounds = rounds


def work(x):
    return _work(x, _rounds)


def main():
    kind, items, repeats, workers, rounds = sys.argv[1], *map(int, sys.argv[2:6])
    library = sys.argv[6]
    chunk = int(sys.argv[7]) if len(sys.argv) > 7 else 1 if kind == "chunk1" else None
    function = work if kind == "100us" else square
    subject = "python-chunk1" if kind == "100us" and chunk == 1 else "python"
    data = list(range(items))
    load(library, rounds)
    want = None if kind == "100us" else [x * x for x in data]
    total = 0.0
    with multiprocessing.Pool(workers, load, (library, rounds)) as pool:
        for repeat in range(repeats + 1):
            began = time.monotonic()
            out = pool.map(function, data, chunk)
            took = time.monotonic() - began
            if len(out) != items or (want and out != want) or (kind == "100us" and out[-1] != work(data[-1])):
                sys.exit("bench: a map gave a wrong result")
            total += took if repeat else 0.0
    print(f"map {subject} {kind} {total / repeats / items * 1e9:.6g} ns/item", flush=True)


if __name__ == "__main__":
    main()
