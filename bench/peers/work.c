/* The work as a shared library, so that Python's workers do the same as everybody's; and as a program that says how
 * much of it takes 100 µs here. */
#include "../bench.h"

uint64_t work(uint64_t seed, uint64_t rounds)
{
    return bench_work(seed, rounds);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Prints the rounds that take 100 µs, by the median of many runs. */
int main(void)
{
    enum { RUNS = 501 };
    uint64_t rounds = 1 << 17, took[RUNS];
    for (int i = 0; i < RUNS; i++) {
        uint64_t began = bench_now();
        bench_sink = bench_work(bench_sink, rounds);
        took[i] = bench_now() - began;
    }
    qsort(took, RUNS, sizeof took[0], by_size);
    printf("%.0f\n", (double)rounds * 100000.0 / (double)took[RUNS / 2]);
    return 0;
}
