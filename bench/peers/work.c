/* The work as a shared library, so that Python's workers do the same as everybody's; and as a program that says how
 * much of it takes 100 µs here. */
#include "../bench.h"

uint64_t work(uint64_t seed, uint64_t rounds)
{
    return bench_work(seed, rounds);
}

/* Prints the rounds that take 100 µs, by the fastest of many runs: the others were disturbed. */
int main(void)
{
    uint64_t rounds = 1 << 20, best = UINT64_MAX;
    for (int i = 0; i < 200; i++) {
        uint64_t began = bench_now();
        bench_sink = bench_work(bench_sink, rounds);
        uint64_t took = bench_now() - began;
        best = took < best ? took : best;
    }
    printf("%.0f\n", (double)rounds * 100000.0 / (double)best);
    return 0;
}
