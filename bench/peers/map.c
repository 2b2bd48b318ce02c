/* map, peers: OpenMP threads, one process, and two processes that know nothing of each other.
 *
 *     map libgomp|libgomp-static|one|two default|chunk1|100us ITEMS REPEATS ROUNDS
 *
 * OpenMP's threads exist before the clock starts, as kin's workers do: the first repeat is the warm-up. Nothing is copied
 * here, as threads need no copies. "two" is what this machine gives at best: two processes, each with its half of the
 * items known beforehand, timed from the word go until both have said that they are done. */
#include "../bench.h"

#include <sys/wait.h>
#include <unistd.h>

static void one(enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t from, size_t to, uint64_t rounds)
{
    if (kind == BENCH_WORK)
        for (size_t i = from; i < to; i++)
            out[i] = bench_work(in[i], rounds);
    else
        for (size_t i = from; i < to; i++)
            out[i] = in[i] * in[i];
}

static void omp_dynamic(enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n, uint64_t rounds)
{
    if (kind == BENCH_WORK) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
        for (size_t i = 0; i < n; i++)
            out[i] = bench_work(in[i], rounds);
    } else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(2)
        for (size_t i = 0; i < n; i++)
            out[i] = in[i] * in[i];
    }
}

static void omp_static(enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n, uint64_t rounds)
{
    if (kind == BENCH_WORK) {
#pragma omp parallel for schedule(static) num_threads(2)
        for (size_t i = 0; i < n; i++)
            out[i] = bench_work(in[i], rounds);
    } else {
#pragma omp parallel for schedule(static) num_threads(2)
        for (size_t i = 0; i < n; i++)
            out[i] = in[i] * in[i];
    }
}

/* Nanoseconds from go to done of two processes with half of the items each. They spin for a few milliseconds before, so
 * that the system has given each its CPU when the word comes: the limit should not contain a wake-up. */
static uint64_t two(enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n, uint64_t rounds)
{
    static int *go;
    int done[2];
    char byte = 0;
    if (go == NULL)
        go = mmap(NULL, sizeof *go, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(go != MAP_FAILED && pipe(done) == 0, "mmap, pipe");
    __atomic_store_n(go, 0, __ATOMIC_SEQ_CST);
    for (int half = 0; half < 2; half++) {
        pid_t pid = fork();
        bench_check(pid >= 0, "fork");
        if (pid > 0)
            continue;
        uint64_t began = bench_now();
        while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
            if (bench_now() - began > 10000000000u)
                _exit(1);
        one(kind, in, out, half == 0 ? 0 : n / 2, half == 0 ? n / 2 : n, rounds);
        _exit(write(done[1], &byte, 1) != 1);
    }
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    uint64_t began = bench_now();
    __atomic_store_n(go, 1, __ATOMIC_RELEASE);
    bench_check(read(done[0], &byte, 1) == 1 && read(done[0], &byte, 1) == 1, "children done");
    uint64_t took = bench_now() - began;
    for (int half = 0; half < 2; half++) {
        int status = -1;
        bench_check(wait(&status) > 0 && status == 0, "a child failed");
        close(done[half]);
    }
    return took;
}

static uint64_t map_once(const char *who, enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n,
                         uint64_t rounds)
{
    if (strcmp(who, "two") == 0)
        return two(kind, in, out, n, rounds);
    uint64_t began = bench_now();
    if (strcmp(who, "libgomp") == 0)
        omp_dynamic(kind, in, out, n, rounds);
    else if (strcmp(who, "libgomp-static") == 0)
        omp_static(kind, in, out, n, rounds);
    else
        one(kind, in, out, 0, n, rounds);
    return bench_now() - began;
}

int main(int argc, char **argv)
{
    bench_check(argc == 6, "usage: map libgomp|libgomp-static|one|two default|chunk1|100us ITEMS REPEATS ROUNDS");
    enum bench_kind kind = bench_kind_of(argv[2]);
    size_t n = (size_t)bench_number(argv[3], 1, 1 << 24);
    uint64_t repeats = bench_number(argv[4], 1, 1000), rounds = bench_number(argv[5], 0, 1ull << 32), total = 0;

    uint64_t *in = bench_items(n, 1);
    /* Shared, so that the parent sees what "two" computed. */
    uint64_t *out = mmap(NULL, n * sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(out != MAP_FAILED, "mmap");
    memset(out, 0xff, n * sizeof *out);
    for (uint64_t r = 0; r <= repeats; r++) {
        uint64_t took = map_once(argv[1], kind, in, out, n, rounds);
        bench_verify(kind, in, out, n, rounds);
        total += r == 0 ? 0 : took;
    }
    bench_print("map", argv[1], argv[2], (double)total / (double)repeats / (double)n, "ns/item");
    return 0;
}
