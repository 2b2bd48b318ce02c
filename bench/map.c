/* map: kin_pool_map of items that cost nearly nothing, or 100 µs.
 *
 *     map default|chunk1|100us ITEMS REPEATS WORKERS ROUNDS
 *
 * The pool is created before the clock starts, as is every peer's. The copies of the items into and out of shared
 * memory are part of kin_pool_map, and so of the time. ROUNDS is the amount of work that takes 100 µs; it travels inside
 * the item, as a child has what it was passed and nothing else. */
#include "bench.h"

#include <kin.h>

/* The work's size in an item's upper bits: items stay 8 bytes, as everybody's are. */
#define SEED_BITS 24
#define SEED_MASK ((1u << SEED_BITS) - 1)

static int square(kin_task *task, const void *in, void *out)
{
    (void)task;
    uint64_t x = *(const uint64_t *)in;
    *(uint64_t *)out = x * x;
    return 0;
}

static int work(kin_task *task, const void *in, void *out)
{
    (void)task;
    uint64_t x = *(const uint64_t *)in;
    *(uint64_t *)out = bench_work(x & SEED_MASK, x >> SEED_BITS);
    return 0;
}

static uint64_t map_once(kin_pool *pool, enum bench_kind kind, const uint64_t *in, uint64_t *out, size_t n)
{
    kin_map_options options = {.chunk = kind == BENCH_CHUNK1 ? 1 : 0};
    uint64_t began = bench_now();
    kin_map_fn task = kind == BENCH_WORK ? work : square;
    kin_err e = kin_pool_map(pool, task, in, sizeof *in, out, sizeof *out, n, &options);
    uint64_t took = bench_now() - began;
    bench_check(e == KIN_OK, kin_last_error());
    return took;
}

int main(int argc, char **argv)
{
    bench_check(kin_init(argc, argv) == KIN_OK, kin_last_error());
    bench_check(argc == 6, "usage: map default|chunk1|100us ITEMS REPEATS WORKERS ROUNDS");
    enum bench_kind kind = bench_kind_of(argv[1]);
    size_t n = (size_t)bench_number(argv[2], 1, SEED_MASK);
    uint64_t repeats = bench_number(argv[3], 1, 1000);
    kin_pool_options options = {.workers = (int)bench_number(argv[4], 1, 1024)};
    uint64_t rounds = bench_number(argv[5], 0, 1ull << 32);

    uint64_t *in = bench_items(n, 1), *out = bench_items(n, 0), *sent = bench_items(n, 1);
    for (size_t i = 0; kind == BENCH_WORK && i < n; i++)
        sent[i] |= rounds << SEED_BITS;

    kin_pool *pool;
    bench_check(kin_pool_create(&pool, &options) == KIN_OK, kin_last_error());
    uint64_t total = 0;
    for (uint64_t r = 0; r <= repeats; r++) {
        uint64_t took = map_once(pool, kind, sent, out, n);
        bench_verify(kind, in, out, n, rounds);
        total += r == 0 ? 0 : took; /* the first is the warm-up */
    }
    kin_pool_close(pool);
    bench_print("map", "kin", argv[1], (double)total / (double)repeats / (double)n, "ns/item");
    return 0;
}
