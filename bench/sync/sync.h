/* What the programs of the group sync share, kin's and its peers': where processes meet without using what is measured, and
 * the loops that have to be the same for all subjects. Linux only. */
#ifndef BENCH_SYNC_H
#define BENCH_SYNC_H

#include "../bench.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- time ---- */

/* A program of this group that takes longer has failed: it is killed, and its children with it. */
#define BENCH_SYNC_SECONDS 60

static inline void bench_nap(uint64_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

/* Waits until *word is at least `value`. It looks often enough for a start and seldom enough to leave the CPUs alone. */
static inline void bench_await(const _Atomic uint32_t *word, uint32_t value)
{
    uint64_t began = bench_now();
    while (atomic_load(word) < value) {
        bench_nap(200);
        bench_check(bench_now() - began < BENCH_SYNC_SECONDS * 1000000000ull, "another process does not come");
    }
}

/* Long enough for a process that is about to sleep to be asleep, spinning included. */
#define BENCH_ASLEEP_US 2000

static int bench_by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The value that `percent` of the n values do not exceed. Sorts them. */
static inline double bench_percentile(uint64_t *values, size_t n, unsigned percent)
{
    qsort(values, n, sizeof *values, bench_by_size);
    size_t rank = (n * percent + 99) / 100;
    return (double)values[rank > 0 ? rank - 1 : 0];
}

/* ---- memory and CPUs ---- */

static inline void *bench_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(p != MAP_FAILED, "mmap");
    return p;
}

/* Binds the calling thread to the `which`-th (0, 1, …) of the CPUs it may use, beginning again after the last. Gives how many
 * they are. Once in a process. */
static inline int bench_pin(int which)
{
    cpu_set_t all, one;
    bench_check(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    int count = CPU_COUNT(&all);
    which %= count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &all) || which-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET((size_t)cpu, &one);
        bench_check(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
        break;
    }
    return count;
}

/* For one of two processes, the first or the second: binds it to a CPU of its own ("2cpu") or both to the same ("1cpu"). */
static inline void bench_place(const char *place, int second)
{
    int two = strcmp(place, "2cpu") == 0;
    bench_check(two || strcmp(place, "1cpu") == 0, "a place is 1cpu or 2cpu");
    int count = bench_pin(two ? second : 0);
    bench_check(!two || count > 1, "there is only one CPU");
}

/* ---- contended: everybody takes and gives the lock for a time ---- */

#define CONTENDED_MAX 16

struct contended {
    _Alignas(64) char lock[64];
    /* What the lock protects: one line, two words, never different under the lock. */
    _Alignas(64) volatile uint64_t first;
    volatile uint64_t second;
    _Alignas(64) _Atomic uint32_t ready;
    _Alignas(64) _Atomic uint32_t go;
    _Alignas(64) _Atomic uint32_t stop;
    _Alignas(64) uint64_t pairs[CONTENDED_MAX];
};

/* In each child. They are bound to the CPUs in turn: where they run must not be luck. */
BENCH_INLINE void contended_work(struct contended *c, unsigned me, bench_call *take, bench_call *give)
{
    bench_pin((int)me);
    atomic_fetch_add(&c->ready, 1);
    bench_await(&c->go, 1);
    uint64_t n = 0;
    unsigned bad = 0;
    while (atomic_load_explicit(&c->stop, memory_order_relaxed) == 0) {
        bad |= (unsigned)take(c->lock);
        bad |= c->first != c->second;
        c->first++;
        c->second++;
        bad |= (unsigned)give(c->lock);
        n++;
    }
    bench_check(bad == 0, "a contended lock, or what it protects");
    c->pairs[me] = n;
}

/* In the parent, which does not take part: lets the children run for `ms`. The nanoseconds it really was. */
static inline uint64_t contended_run(struct contended *c, unsigned processes, uint64_t ms)
{
    bench_await(&c->ready, processes);
    uint64_t began = bench_now();
    atomic_store(&c->go, 1);
    bench_nap(ms * 1000);
    uint64_t took = bench_now() - began;
    atomic_store(&c->stop, 1);
    return took;
}

/* When they have ended: prints the time per pair, all processes together; and what the one that had the lock least often had of
 * an equal share, since a lock that lets one process run on is fast. */
static inline void contended_print(const struct contended *c, const char *subject, unsigned processes, uint64_t took)
{
    uint64_t sum = 0, least = UINT64_MAX;
    for (unsigned i = 0; i < processes; i++) {
        sum += c->pairs[i];
        least = c->pairs[i] < least ? c->pairs[i] : least;
    }
    bench_check(sum > 0 && c->first == sum && c->second == sum, "a lock did not exclude");
    char param[32];
    snprintf(param, sizeof param, "%u-processes", processes);
    bench_print("contended", subject, param, (double)took / (double)sum, "ns");
    snprintf(param, sizeof param, "%u-least", processes);
    bench_print("contended", subject, param, 100.0 * (double)least * processes / (double)sum, "%");
}

/* ---- roundtrip: two processes wake each other in turn ---- */

/* What the figure is of.
 *
 * free:   both go as fast as they can. An answer may be there before who asked has gone to sleep, since waking another CPU
 *         takes the waker about as long as the woken one needs to answer; then it is less than two wake-ups.
 * parked: each answers only when the other is asleep, as the system says; the figure is the sum of the two times from just
 *         before a give to just after the take that it ends. */
struct roundtrip {
    _Alignas(64) _Atomic uint64_t arrived; /* when the other side had what it was given */
    _Atomic uint64_t answered;             /* when it began to answer                   */
};

#define ROUNDTRIP_FREE (-1)

/* For the functions below: a file that tells what the process does, or ROUNDTRIP_FREE. */
static inline int roundtrip_other(const char *how, int64_t pid)
{
    bench_check(strcmp(how, "free") == 0 || strcmp(how, "parked") == 0, "a round trip is free or parked");
    if (how[0] == 'f')
        return ROUNDTRIP_FREE;
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bench_check(file >= 0, path);
    return file;
}

static inline void roundtrip_await_sleep(int other)
{
    for (char state = 'R'; state != 'S';) {
        char text[256] = "";
        bench_check(pread(other, text, sizeof text - 1, 0) > 0, "the other process is gone");
        const char *name_end = strrchr(text, ')');
        state = name_end != NULL ? name_end[2] : 'R';
        bench_check(state != 'Z', "the other process has ended");
        if (state != 'S')
            sched_yield();
    }
}

/* One side: nanoseconds of `n` round trips. */
BENCH_INLINE uint64_t roundtrip_ask(struct roundtrip *r, void *to, void *from, bench_call *give, bench_call *take,
                                    uint64_t n, int other)
{
    unsigned bad = 0;
    uint64_t began = bench_now(), sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (other == ROUNDTRIP_FREE) {
            bad |= (unsigned)give(to);
            bad |= (unsigned)take(from);
            continue;
        }
        roundtrip_await_sleep(other);
        uint64_t asked = bench_now();
        bad |= (unsigned)give(to);
        bad |= (unsigned)take(from);
        sum += bench_now() - atomic_load(&r->answered) + atomic_load(&r->arrived) - asked;
    }
    bench_check(bad == 0, "an operation of a round trip");
    return other == ROUNDTRIP_FREE ? bench_now() - began : sum;
}

/* The same with a warm-up before it, and printed. `place` is 1cpu or 2cpu. */
BENCH_INLINE void roundtrip_measure(struct roundtrip *r, void *to, void *from, bench_call *give, bench_call *take,
                                    uint64_t n, int other, const char *subject, const char *place)
{
    roundtrip_ask(r, to, from, give, take, n / 10, other);
    uint64_t took = roundtrip_ask(r, to, from, give, take, n, other);
    char param[32];
    snprintf(param, sizeof param, "%s-%s", place, other == ROUNDTRIP_FREE ? "free" : "parked");
    bench_print("roundtrip", subject, param, (double)took / (double)n / 1e3, "us");
}

/* The other side, of as many. */
BENCH_INLINE void roundtrip_answer(struct roundtrip *r, void *from, void *to, bench_call *give, bench_call *take,
                                   uint64_t n, int other)
{
    unsigned bad = 0;
    for (uint64_t i = 0; i < n + n / 10; i++) {
        bad |= (unsigned)take(from);
        if (other != ROUNDTRIP_FREE) {
            atomic_store(&r->arrived, bench_now());
            roundtrip_await_sleep(other);
            atomic_store(&r->answered, bench_now());
        }
        bad |= (unsigned)give(to);
    }
    bench_check(bad == 0, "an operation of a round trip");
}

/* ---- barrier: rounds of all processes ---- */

#define BARRIER_MAX 16

struct rounds {
    _Alignas(64) char barrier[4096];
    struct {
        _Alignas(64) _Atomic uint64_t n;
    } came[BARRIER_MAX];
};

/* In each of the processes: `n` rounds after a warm-up. Nobody may go on before all have come: each looks at the next one.
 * They are bound to the CPUs in turn. Gives nanoseconds. */
BENCH_INLINE uint64_t barrier_rounds(struct rounds *r, unsigned me, unsigned parties, bench_call *wait, uint64_t n)
{
    bench_pin((int)me);
    unsigned bad = 0;
    uint64_t began = 0;
    for (uint64_t i = 0; i < n / 10 + n; i++) {
        if (i == n / 10)
            began = bench_now();
        uint64_t mine = atomic_fetch_add_explicit(&r->came[me].n, 1, memory_order_relaxed) + 1;
        bad |= (unsigned)wait(r->barrier);
        bad |= atomic_load_explicit(&r->came[(me + 1) % parties].n, memory_order_relaxed) < mine;
    }
    uint64_t took = bench_now() - began;
    bench_check(bad == 0, "a barrier");
    return took;
}

/* The same in the process that prints. */
BENCH_INLINE void barrier_measure(struct rounds *r, unsigned parties, bench_call *wait, uint64_t n, const char *subject)
{
    uint64_t took = barrier_rounds(r, 0, parties, wait, n);
    char param[32];
    snprintf(param, sizeof param, "%u-processes", parties);
    bench_print("barrier", subject, param, (double)took / (double)n / 1e3, "us");
}

/* ---- death: from the kill of an owner to the next one who holds the lock ---- */

#define DEATH_MAX 10000

struct death {
    _Alignas(64) char lock[64];
    _Alignas(64) _Atomic uint32_t held;   /* the round whose owner has it               */
    _Alignas(64) _Atomic uint32_t wanted; /* the round in which somebody waits for it   */
    _Atomic int64_t owner;                /* who is to be killed                        */
    _Alignas(64) _Atomic uint64_t killed; /* when, just before the kill                 */
};

/* In the third process, the one that kills: every owner of rounds 1 to n. */
static inline void death_kill(struct death *d, uint32_t n)
{
    for (uint32_t round = 1; round <= n; round++) {
        bench_await(&d->wanted, round);
        bench_nap(BENCH_ASLEEP_US);
        atomic_store(&d->killed, bench_now());
        bench_check(kill((pid_t)atomic_load(&d->owner), SIGKILL) == 0, "kill");
    }
}

static inline void death_print(const char *subject, uint64_t *took, size_t n)
{
    bench_print("death", subject, "p50", bench_percentile(took, n, 50) / 1e3, "us");
    bench_print("death", subject, "p99", bench_percentile(took, n, 99) / 1e3, "us");
}

#endif
