/* The frame of the peers of the groups queue and queue-trip: forks the processes, and prints.
 *
 *     rate PRODUCERS CONSUMERS SIZE MILLISECONDS
 *     trip SIZE TIMES free|parked */
#ifndef BENCH_PEERS_QUEUE_H
#define BENCH_PEERS_QUEUE_H

#include "../queue/queue.h"
#include "children.h"

#define PEER_USAGE "rate PRODUCERS CONSUMERS SIZE MILLISECONDS | trip SIZE TIMES free|parked"

/* A subject. An end is made before the processes are forked, and each opens its copy. Of trip, there is an end for there and
 * one for back, or twice the same if it goes both ways: then a giver is who asks. */
struct peer {
    const char *name;
    void *ends[2];
    void (*make)(void *end, size_t size, unsigned consumers, const char *name);
    void (*open)(void *end, int giver, unsigned me); /* in each process, or NULL: it need not be opened */
    rate_fill *fill;                                 /* or NULL: unknown */
    int ends_itself;                                 /* take knows when there is nothing left */
    void (*close)(void *end);                        /* or NULL */
};

BENCH_INLINE void peer_rate(const struct peer *p, queue_give *give, queue_take *take, char **words)
{
    struct rate *r = bench_shared(sizeof *r);
    rate_shape(r, words);
    uint64_t ms = bench_number(words[3], 1, 30000);
    void *end = p->ends[0];
    p->make(end, r->size, r->consumers, "there");

    pid_t children[2 * QUEUE_SIDE_MAX];
    unsigned all = r->producers + r->consumers;
    for (unsigned i = 0; i < all; i++) {
        children[i] = bench_fork();
        if (children[i] != 0)
            continue;
        int giver = i < r->producers;
        unsigned me = giver ? i : i - r->producers;
        if (p->open != NULL)
            p->open(end, giver, me);
        bench_pin((int)(giver ? me : me + 1));
        if (!giver)
            rate_consume(r, me, end, take);
        else if (rate_produce(r, me, end, give, NULL) && !p->ends_itself)
            bench_check(rate_tell_all(r, end, give) == 0, "the last message");
        if (p->close != NULL)
            p->close(end);
        exit(0);
    }
    struct rate_result result = rate_measure(r, children, ms, p->fill, end);
    for (unsigned i = 0; i < all; i++)
        bench_wait_for(children[i]);
    rate_print(r, p->name, result);
}

BENCH_INLINE void peer_trip(const struct peer *p, queue_give *give, queue_take *take, char **words)
{
    size_t size = (size_t)bench_number(words[0], sizeof(uint64_t), QUEUE_SIZE_MAX);
    uint64_t n = bench_number(words[1], 10, 100000000);
    const char *how = words[2];
    struct trip *t = bench_shared(sizeof *t);
    void *there = p->ends[0], *back = p->ends[1];
    p->make(there, size, 1, "there");
    if (back != there)
        p->make(back, size, 1, "back");
    pid_t parent = getpid(), child = bench_fork();
    if (p->open != NULL) {
        p->open(there, child != 0, 0);
        if (back != there)
            p->open(back, child == 0, 0);
    }
    bench_place("2cpu", child == 0);
    if (child == 0) {
        int other = roundtrip_other(how, parent);
        trip_line(t, 1);
        trip_answer(t, there, back, give, take, other);
        exit(0);
    }
    trip_measure(t, there, back, give, take, n, how, child, size, p->name);
    bench_wait_for(child);
}

BENCH_INLINE void peer_run(const struct peer *p, queue_give *give, queue_take *take, int argc, char **argv)
{
    alarm(BENCH_SYNC_SECONDS);
    if (argc == 5 && strcmp(argv[0], "rate") == 0)
        peer_rate(p, give, take, argv + 1);
    else if (argc == 4 && strcmp(argv[0], "trip") == 0)
        peer_trip(p, give, take, argv + 1);
    else
        bench_check(0, PEER_USAGE);
}

#endif
