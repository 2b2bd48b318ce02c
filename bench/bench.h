/* What every benchmark program here shares, kin's and its peers': the clock, the result line, the ballast and the work.
 *
 * Each program measures one subject and prints a line, "group subject parameter value unit", or a few; run.sh collects them.
 * Header only, and included first by every program, so that all subjects run the same code under the same flags. */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(_MSC_VER)
#define BENCH_NOINLINE __declspec(noinline)
#define BENCH_INLINE static __forceinline
#else
#define BENCH_NOINLINE __attribute__((noinline))
#define BENCH_INLINE static inline __attribute__((always_inline))
#endif

/* Results go here, so that no compiler can leave the work out. */
static volatile uint64_t bench_sink;

/* Nanoseconds of the monotonic clock. */
static inline uint64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void bench_print(const char *group, const char *subject, const char *param, double value,
                               const char *unit)
{
    printf("%s %s %s %.6g %s\n", group, subject, param, value, unit);
    fflush(stdout);
}

/* Ends the program when `ok` is false: a wrong result or a failing call must not become a figure. */
static inline void bench_check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench: failed: %s\n", what);
    exit(1);
}

/* A number of the command line, from `low` to `high`. */
static inline uint64_t bench_number(const char *text, uint64_t low, uint64_t high)
{
    char *end = NULL;
    unsigned long long n = strtoull(text, &end, 10);
    bench_check(end != text && *end == '\0' && n >= low && n <= high, "a number on the command line is out of range");
    return n;
}

/* Makes the process `megabytes` larger, in pages that are really there: every one is written to. Small pages on every
 * system, as the cost of a fork is in the page tables and huge pages would hide it. Never given back. */
static inline void bench_ballast(uint64_t megabytes)
{
    size_t size = (size_t)megabytes << 20, page = 4096;
    if (size == 0)
        return;
    char *p = malloc(size + page);
    bench_check(p != NULL, "no memory for the ballast");
    p += page - (uintptr_t)p % page;
#if defined(__linux__)
    bench_check(madvise(p, size, MADV_NOHUGEPAGE) == 0, "madvise(MADV_NOHUGEPAGE)");
#endif
    for (size_t i = 0; i < size; i += page)
        *(volatile char *)(p + i) = 1;
}

/* One operation on an object that is measured; 0 if it succeeded. Loops that take some are always inlined into a place that
 * names them, so no subject pays for a call through a pointer, and all run the same loop. */
typedef int bench_call(void *object);

/* Nanoseconds for `n` times take and give. */
BENCH_INLINE uint64_t bench_pairs(void *object, bench_call *take, bench_call *give, uint64_t n)
{
    unsigned bad = 0;
    uint64_t began = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        bad |= (unsigned)take(object);
        bad |= (unsigned)give(object);
    }
    uint64_t took = bench_now() - began;
    bench_check(bad == 0, "an operation of a pair");
    return took;
}

/* The same per pair, after a warm-up of a tenth. */
BENCH_INLINE double bench_pair_ns(void *object, bench_call *take, bench_call *give, uint64_t n)
{
    bench_pairs(object, take, give, n / 10 + 1);
    return (double)bench_pairs(object, take, give, n) / (double)n;
}

/* A start+join loop ends after this many iterations or, where one takes long, after this time. */
#define BENCH_START_SECONDS 3
#define BENCH_START_WARMUP 5

static inline int bench_start_enough(uint64_t done, uint64_t wanted, uint64_t began)
{
    return done >= wanted || (done >= 5 && bench_now() - began >= BENCH_START_SECONDS * 1000000000ull);
}

/* A fixed amount of work: a chain of dependent multiplications. It does not look at a clock, so two processes that
 * share a core are seen to share it; and being bound by latency, not by memory or issue width, it takes the same time in
 * every program. `rounds` is calibrated once for all subjects of a run. */
static BENCH_NOINLINE uint64_t bench_work(uint64_t seed, uint64_t rounds)
{
    uint64_t x = seed * 2 + 1;
    for (uint64_t i = 0; i < rounds; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

/* The three maps; the same items for every subject. */
enum bench_kind {
    BENCH_TRIVIAL, /* out = in * in, chunks as the subject likes them */
    BENCH_CHUNK1,  /* the same, each item handed out by itself        */
    BENCH_WORK     /* out = bench_work(in)                            */
};

static inline enum bench_kind bench_kind_of(const char *name)
{
    if (strcmp(name, "default") == 0)
        return BENCH_TRIVIAL;
    if (strcmp(name, "chunk1") == 0)
        return BENCH_CHUNK1;
    bench_check(strcmp(name, "100us") == 0, "the map is default, chunk1 or 100us");
    return BENCH_WORK;
}

/* Items of a map, touched, so that no timed section pays for their page faults. */
static inline uint64_t *bench_items(size_t n, uint64_t step)
{
    uint64_t *p = malloc(n * sizeof *p);
    bench_check(p != NULL, "no memory for the items");
    for (size_t i = 0; i < n; i++)
        p[i] = i * step;
    return p;
}

/* Whether out is what the map had to give. Of the work only a few items are computed again. Clears out for the next. */
static inline void bench_verify(enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n, uint64_t rounds)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int look = kind != BENCH_WORK || i % (n / 8 + 1) == 0 || i == n - 1;
        uint64_t want = !look ? out[i] : kind == BENCH_WORK ? bench_work(in[i], rounds) : in[i] * in[i];
        bench_check(out[i] == want, "a map gave a wrong result");
        sum += out[i];
    }
    bench_sink = sum;
    memset(out, 0xff, n * sizeof *out);
}

#endif
