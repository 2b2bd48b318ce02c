"""start, peers: multiprocessing.Process, start and join.

    start.py fork|forkserver|spawn MEGABYTES ITERATIONS
"""
import mmap
import multiprocessing
import sys
import time


def nothing():
    pass


def ballast(megabytes):
    """Private memory in small pages, every one written to, as bench_ballast does."""
    size = megabytes << 20
    if size == 0:
        return None
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(getattr(mmap, "MADV_NOHUGEPAGE", 15))
    for i in range(0, size, 4096):
        memory[i] = 1
    return memory


def start_and_join(context):
    child = context.Process(target=nothing)
    child.start()
    child.join()
    if child.exitcode != 0:
        sys.exit("bench: a child failed")
    child.close()


def main():
    method, megabytes, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = multiprocessing.get_context(method)
    kept = ballast(megabytes)
    for _ in range(2):
        start_and_join(context)
    done, began = 0, time.monotonic()
    while done < wanted and (done < 5 or time.monotonic() - began < 3):
        start_and_join(context)
        done += 1
    us = (time.monotonic() - began) / done * 1e6
    print(f"start python-{method} {megabytes}MB {us:.6g} us", flush=True)
    del kept


if __name__ == "__main__":
    main()
