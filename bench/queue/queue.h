/* What the programs of the groups queue and queue-trip share, kin's and its peers': the message, its check, and the loops that
 * have to be the same for all subjects. Linux only.
 *
 * A subject is a few operations on an end, which is what one process has of a queue. All loops are inlined into a place that
 * names the operations. */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include "../sync/sync.h"

/* ---- messages ---- */

/* Every message carries a tag in its first 8 bytes: who put it, and how many that one had put then. What is copied carries
 * it in its last 8 bytes too. */
#define QUEUE_STOP UINT64_MAX /* the tag of a message that tells a consumer to end */
#define QUEUE_PRODUCER 48     /* where the producer's number is in a tag */

#define QUEUE_SIDE_MAX 16

/* Puts, or gets, one message that carries this tag; both wait. 0: done. A take gives QUEUE_ENDED after the last message where
 * the subject has its own way to tell; anything else has failed. */
typedef int queue_give(void *end, uint64_t tag);
typedef int queue_take(void *end, uint64_t *tag);
#define QUEUE_ENDED 1

static inline void queue_write(char *message, size_t size, uint64_t tag)
{
    memcpy(message, &tag, sizeof tag);
    memcpy(message + size - sizeof tag, &tag, sizeof tag);
}

/* Whether both tags are there and are the same; gives it. */
static inline int queue_read(const char *message, size_t size, uint64_t *tag)
{
    uint64_t last;
    memcpy(tag, message, sizeof *tag);
    memcpy(&last, message + size - sizeof last, sizeof last);
    return *tag == last;
}

/* A message's own memory, touched. */
static inline char *queue_buffer(size_t size)
{
    void *p = aligned_alloc(64, (size + 63) / 64 * 64);
    bench_check(p != NULL, "no memory for a message");
    memset(p, 1, (size + 63) / 64 * 64);
    return p;
}

#define QUEUE_SIZE_MAX ((size_t)1 << 20)

/* The bytes that a queue for messages of this size holds, in every subject that can be told: 1 MB, or 8 large messages. */
static inline size_t queue_capacity(size_t size) { return size <= 65536 ? (size_t)1 << 20 : 8 * size; }

/* The same in messages, for subjects that count them; 16 bytes are for what is beside a message. */
static inline size_t queue_messages(size_t size) { return queue_capacity(size) / (size + 16); }

/* CPU time that a process, with all its threads, has used so far. */
static inline uint64_t queue_cpu(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    bench_check(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &t) == 0, "the CPU time of a process");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- rate: producers put without a pause, consumers get ---- */

#define RATE_WARM_US 50000  /* goes on for so long before the measured time begins */
#define RATE_SAMPLE_US 5000 /* in it, how full the queue is is looked at so often   */

struct rate_side {
    _Alignas(64) _Atomic uint64_t count; /* messages put or got so far */
    uint64_t sum;                        /* of their tags              */
};

/* In memory that all processes share, zeroed. */
struct rate {
    uint32_t producers, consumers;
    uint64_t size;
    _Alignas(64) _Atomic uint32_t ready;
    _Alignas(64) _Atomic uint32_t go;
    _Alignas(64) _Atomic uint32_t stop;
    _Alignas(64) _Atomic uint32_t finished; /* producers that have put their last */
    struct rate_side put[QUEUE_SIDE_MAX], got[QUEUE_SIDE_MAX];
};

static inline void rate_begin(struct rate *r)
{
    atomic_fetch_add(&r->ready, 1);
    bench_await(&r->go, 1);
}

/* The usual way to end: a message for each consumer, after all others. */
BENCH_INLINE int rate_tell_all(const struct rate *r, void *end, queue_give *give)
{
    int bad = 0;
    for (uint32_t i = 0; i < r->consumers; i++)
        bad |= give(end, QUEUE_STOP);
    return bad;
}

/* A producer. Gives whether it was the last one to finish, who has to tell the consumers. `flush` puts what give has kept back. */
BENCH_INLINE int rate_produce(struct rate *r, unsigned me, void *end, queue_give *give, bench_call *flush)
{
    uint64_t n = 0, sum = 0;
    unsigned bad = 0;
    rate_begin(r);
    while (atomic_load_explicit(&r->stop, memory_order_relaxed) == 0) {
        uint64_t tag = ((uint64_t)me << QUEUE_PRODUCER) + ++n;
        bad |= (unsigned)give(end, tag);
        sum += tag;
    }
    if (flush != NULL)
        bad |= (unsigned)flush(end);
    bench_check(bad == 0, "a message was not put");
    r->put[me].sum = sum;
    atomic_store(&r->put[me].count, n);
    return atomic_fetch_add(&r->finished, 1) + 1 == r->producers;
}

/* A consumer. What it gets of one producer must be in that one's order. */
BENCH_INLINE void rate_consume(struct rate *r, unsigned me, void *end, queue_take *take)
{
    uint64_t n = 0, sum = 0, tag = 0, last[QUEUE_SIDE_MAX] = {0};
    unsigned bad = 0;
    int error;
    rate_begin(r);
    while ((error = take(end, &tag)) == 0 && tag != QUEUE_STOP) {
        uint64_t *before = &last[(tag >> QUEUE_PRODUCER) % QUEUE_SIDE_MAX];
        bad |= tag <= *before;
        *before = tag;
        sum += tag;
        atomic_store_explicit(&r->got[me].count, ++n, memory_order_relaxed);
    }
    bench_check(error == 0 || error == QUEUE_ENDED, "a message was not got");
    bench_check(bad == 0, "messages of one producer came in another order");
    r->got[me].sum = sum;
}

static inline uint64_t rate_total(const struct rate_side *side, unsigned n)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += atomic_load(&side[i].count);
    return total;
}

struct rate_result {
    double ns, cpu_ns; /* for each message */
    double fill;       /* how full the queue was in the mean, in percent; negative: unknown */
};

/* How full a queue is, from 0 to 1, or negative if that cannot be said. */
typedef double rate_fill(void *queue);

static inline uint64_t rate_cpu(const pid_t *pids, unsigned n)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += queue_cpu(pids[i]);
    return total;
}

/* In the parent, which does not take part: lets all go, and ends it after `ms` measured milliseconds. `pids` are all who take
 * part. */
static inline struct rate_result rate_measure(struct rate *r, const pid_t *pids, uint64_t ms, rate_fill *fill,
                                              void *queue)
{
    unsigned all = r->producers + r->consumers;
    bench_await(&r->ready, all);
    atomic_store(&r->go, 1);
    bench_nap(RATE_WARM_US);
    uint64_t began = bench_now(), n = rate_total(r->got, r->consumers), cpu = rate_cpu(pids, all), took;
    double filled = 0;
    unsigned samples = 0;
    do {
        bench_nap(RATE_SAMPLE_US);
        filled += fill != NULL ? fill(queue) : -1;
        samples++;
        took = bench_now() - began;
    } while (took < ms * 1000000);
    n = rate_total(r->got, r->consumers) - n;
    took = bench_now() - began;
    cpu = rate_cpu(pids, all) - cpu;
    atomic_store(&r->stop, 1);
    bench_check(n > 0, "no message came");
    return (struct rate_result){(double)took / (double)n, (double)cpu / (double)n, 100 * filled / samples};
}

/* When all have ended: whether what was put was got, once; and the figures. */
static inline void rate_print(const struct rate *r, const char *subject, struct rate_result result)
{
    uint64_t put_sum = 0, got_sum = 0;
    for (unsigned i = 0; i < r->producers; i++)
        put_sum += r->put[i].sum;
    for (unsigned i = 0; i < r->consumers; i++)
        got_sum += r->got[i].sum;
    bench_check(rate_total(r->put, r->producers) == rate_total(r->got, r->consumers) && put_sum == got_sum,
                "not every message came once");
    char param[64];
    snprintf(param, sizeof param, "%u-%u-%llu", r->producers, r->consumers, (unsigned long long)r->size);
    bench_print("queue", subject, param, result.ns, "ns");
    bench_print("queue-cpu", subject, param, result.cpu_ns, "ns");
    if (result.fill >= 0)
        bench_print("queue-fill", subject, param, result.fill, "%");
}

/* PRODUCERS CONSUMERS SIZE of a command line. */
static inline void rate_shape(struct rate *r, char **words)
{
    r->producers = (uint32_t)bench_number(words[0], 1, QUEUE_SIDE_MAX);
    r->consumers = (uint32_t)bench_number(words[1], 1, QUEUE_SIDE_MAX);
    r->size = bench_number(words[2], sizeof(uint64_t), QUEUE_SIZE_MAX);
}

/* ---- trip: a message there and one back ---- */

#define LINE_TRIPS 50000

/* In memory that both share, zeroed. */
struct trip {
    struct roundtrip moments;
    _Alignas(64) _Atomic uint32_t line;
    _Alignas(64) _Atomic uint32_t ready;
};

/* One cache line goes there and back: what no message can be faster than. Both sides call it. Nanoseconds of one trip. */
static inline double trip_line(struct trip *t, uint32_t me)
{
    atomic_fetch_add(&t->ready, 1);
    while (atomic_load(&t->ready) < 2)
        sched_yield();
    uint64_t began = bench_now();
    for (uint32_t i = 0; i < LINE_TRIPS; i++) {
        uint32_t turns = 0;
        while (atomic_load_explicit(&t->line, memory_order_acquire) != 2 * i + me) {
            if (++turns % 65536 == 0)
                sched_yield();
        }
        atomic_store_explicit(&t->line, 2 * i + me + 1, memory_order_release);
    }
    while (atomic_load(&t->line) != 2 * LINE_TRIPS)
        sched_yield();
    return (double)(bench_now() - began) / LINE_TRIPS;
}

/* The side that asks: `n` trips, nanoseconds in all. What comes back is what went there. See sync.h for `other`. */
BENCH_INLINE uint64_t trip_ask(struct trip *t, void *to, void *from, queue_give *give, queue_take *take, uint64_t n,
                               int other)
{
    unsigned bad = 0;
    uint64_t began = bench_now(), sum = 0, tag = 0;
    for (uint64_t i = 1; i <= n; i++) {
        if (other != ROUNDTRIP_FREE)
            roundtrip_await_sleep(other);
        uint64_t asked = other != ROUNDTRIP_FREE ? bench_now() : 0;
        bad |= (unsigned)give(to, i);
        bad |= (unsigned)take(from, &tag);
        bad |= tag != i;
        if (other != ROUNDTRIP_FREE)
            sum += bench_now() - atomic_load(&t->moments.answered) + atomic_load(&t->moments.arrived) - asked;
    }
    bench_check(bad == 0, "a message of a round trip");
    return other == ROUNDTRIP_FREE ? bench_now() - began : sum;
}

/* The other side, until it is told to end. */
BENCH_INLINE void trip_answer(struct trip *t, void *from, void *to, queue_give *give, queue_take *take, int other)
{
    unsigned bad = 0;
    uint64_t tag = 0;
    for (;;) {
        bad |= (unsigned)take(from, &tag);
        if (tag == QUEUE_STOP || bad != 0)
            break;
        if (other != ROUNDTRIP_FREE) {
            atomic_store(&t->moments.arrived, bench_now());
            roundtrip_await_sleep(other);
            atomic_store(&t->moments.answered, bench_now());
        }
        bad |= (unsigned)give(to, tag);
    }
    bench_check(bad == 0, "a message of a round trip");
}

/* The side that asks, with a warm-up, the line beside it, and the figures. `peer` is the process that answers. */
BENCH_INLINE void trip_measure(struct trip *t, void *to, void *from, queue_give *give, queue_take *take, uint64_t n,
                               const char *how, pid_t peer, size_t size, const char *subject)
{
    int other = roundtrip_other(how, peer);
    double line = trip_line(t, 0);
    trip_ask(t, to, from, give, take, n / 10 + 1, other);
    uint64_t cpu = queue_cpu(peer) + queue_cpu(getpid());
    uint64_t took = trip_ask(t, to, from, give, take, n, other);
    cpu = queue_cpu(peer) + queue_cpu(getpid()) - cpu;
    bench_check(give(to, QUEUE_STOP) == 0, "the last message");
    char param[64];
    snprintf(param, sizeof param, "%zu-%s", size, how);
    bench_print("queue-trip", subject, param, (double)took / (double)n, "ns");
    if (other == ROUNDTRIP_FREE) /* who waits for the other's sleep uses CPU for that */
        bench_print("queue-trip-cpu", subject, param, (double)cpu / (double)n, "ns");
    bench_print("queue-line", subject, param, line, "ns");
}

#endif
