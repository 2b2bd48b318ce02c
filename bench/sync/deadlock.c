/* deadlock: how long it takes from the call that closes a cycle of waiting processes until one of them gets KIN_EDEADLK; and
 * whether locks taken in an order that is right ever get it.
 *
 *     deadlock ring PROCESSES TIMES          each holds a lock and waits for the next one's
 *     deadlock order PROCESSES OPERATIONS    all take the same two, in the same order, until so many calls had to wait
 *
 * With two processes the ring is the usual AB-BA. */
#include "children.h"

#define RING_MAX 64
#define ROUNDS_MAX 10000

struct ring {
    kin_lock locks[RING_MAX];
    _Alignas(64) _Atomic uint32_t round; /* which one it is                      */
    _Alignas(64) _Atomic uint32_t held;  /* locks taken so far, of all rounds    */
    _Alignas(64) _Atomic uint32_t ended; /* who has let go so far, of all rounds */
    _Atomic uint32_t waiting;            /* who is about to wait, of this round  */
    _Atomic uint32_t found;              /* who got KIN_EDEADLK                  */
    _Atomic uint64_t closed_at, found_at;
};

static int link_of_ring(kin_args *args)
{
    kin_segment *segment;
    uint32_t me, size, times;
    bench_kin(kin_unpack(args, &segment, &me, &size, &times));
    struct ring *r = kin_segment_data(segment);
    kin_lock *mine = &r->locks[me], *next = &r->locks[(me + 1) % size];
    for (uint32_t round = 1; round <= times; round++) {
        bench_await(&r->round, round);
        bench_kin(kin_lock_acquire(mine, KIN_FOREVER));
        atomic_fetch_add(&r->held, 1);
        bench_await(&r->held, round * size);
        if (me == round % size) { /* it closes the cycle, when all others sleep */
            bench_await(&r->waiting, size - 1);
            bench_nap(BENCH_ASLEEP_US);
            atomic_store(&r->closed_at, bench_now());
        } else {
            atomic_fetch_add(&r->waiting, 1);
        }
        kin_err error = kin_lock_acquire(next, KIN_FOREVER);
        if (error == KIN_EDEADLK) {
            atomic_store(&r->found_at, bench_now());
            atomic_fetch_add(&r->found, 1);
        } else {
            bench_kin(error);
            bench_kin(kin_lock_release(next));
        }
        bench_kin(kin_lock_release(mine));
        atomic_fetch_add(&r->ended, 1);
    }
    return 0;
}

static void ring(uint32_t size, uint32_t times)
{
    static uint64_t took[ROUNDS_MAX];
    kin_segment *segment = bench_segment(sizeof(struct ring));
    struct ring *r = kin_segment_data(segment);
    kin_process *children[RING_MAX];
    for (uint32_t i = 0; i < size; i++)
        bench_kin(kin_lock_init(&r->locks[i], NULL));
    for (uint32_t i = 0; i < size; i++)
        children[i] = bench_start(link_of_ring, KIN_ARGS(segment, i, size, times));
    for (uint32_t round = 1; round <= times; round++) {
        atomic_store(&r->waiting, 0);
        atomic_store(&r->found, 0);
        atomic_store(&r->round, round);
        bench_await(&r->ended, round * size);
        bench_check(atomic_load(&r->found) == 1, "not exactly one of a cycle was told");
        uint64_t closed = atomic_load(&r->closed_at), found = atomic_load(&r->found_at);
        took[round - 1] = found > closed ? found - closed : 0;
    }
    for (uint32_t i = 0; i < size; i++)
        bench_join(children[i]);
    char param[32];
    snprintf(param, sizeof param, "%u-p50", size);
    bench_print("deadlock", "kin", param, bench_percentile(took, times, 50) / 1e6, "ms");
    snprintf(param, sizeof param, "%u-max", size);
    bench_print("deadlock", "kin", param, bench_percentile(took, times, 100) / 1e6, "ms");
}

struct order {
    _Alignas(64) kin_lock first;
    _Alignas(64) kin_lock second;
    _Alignas(64) volatile uint64_t done;              /* protected by the second lock */
    _Alignas(64) _Atomic uint32_t waited, alarms;
    _Atomic uint32_t ready;
    _Atomic uint64_t rounds;
};

/* Counts the calls that find the lock taken. */
static kin_err take(struct order *o, kin_lock *lock)
{
    kin_err error = kin_lock_acquire(lock, KIN_NOWAIT);
    if (error == KIN_ETIMEDOUT) {
        atomic_fetch_add(&o->waited, 1);
        error = kin_lock_acquire(lock, KIN_FOREVER);
    }
    if (error == KIN_EDEADLK)
        atomic_fetch_add(&o->alarms, 1);
    else
        bench_kin(error);
    return error;
}

/* The first is released before the second, so that there are waits for both, and chains of two. */
static int in_order(kin_args *args)
{
    kin_segment *segment;
    uint32_t processes, times;
    bench_kin(kin_unpack(args, &segment, &processes, &times));
    struct order *o = kin_segment_data(segment);
    atomic_fetch_add(&o->ready, 1);
    bench_await(&o->ready, processes);
    uint64_t rounds = 0;
    for (uint32_t i = 0; atomic_load(&o->waited) < times; i++) {
        if (take(o, &o->first) != KIN_OK)
            continue;
        kin_err second = take(o, &o->second);
        bench_kin(kin_lock_release(&o->first));
        if (second != KIN_OK)
            continue;
        o->done++;
        rounds++;
        if (i % 16 == 0)
            sched_yield(); /* so that others run into a lock that is held for long, and go to sleep */
        bench_kin(kin_lock_release(&o->second));
    }
    atomic_fetch_add(&o->rounds, rounds);
    return 0;
}

static void order(uint32_t processes, uint32_t operations)
{
    kin_segment *segment = bench_segment(sizeof(struct order));
    struct order *o = kin_segment_data(segment);
    bench_kin(kin_lock_init(&o->first, NULL));
    bench_kin(kin_lock_init(&o->second, NULL));
    kin_process *children[RING_MAX];
    for (uint32_t i = 0; i < processes; i++)
        children[i] = bench_start(in_order, KIN_ARGS(segment, processes, operations));
    for (uint32_t i = 0; i < processes; i++)
        bench_join(children[i]);
    bench_check(o->done == atomic_load(&o->rounds), "a lock did not exclude");
    bench_print("deadlock", "kin", "false-alarms", atomic_load(&o->alarms), "alarms");
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bench_check(argc == 4, "usage: deadlock ring PROCESSES TIMES | deadlock order PROCESSES OPERATIONS");
    uint32_t processes = (uint32_t)bench_number(argv[2], 2, RING_MAX);
    if (strcmp(argv[1], "ring") == 0) {
        ring(processes, (uint32_t)bench_number(argv[3], 1, ROUNDS_MAX));
    } else {
        bench_check(strcmp(argv[1], "order") == 0, "it is a ring or an order");
        order(processes, (uint32_t)bench_number(argv[3], 1, 1000000000));
    }
    return 0;
}
