/* lock: an uncontended kin_lock in shared memory, taken and released.
 *
 *     lock PAIRS
 */
#include "bench.h"

#include <kin.h>

static uint64_t pairs(kin_lock *lock, uint64_t n)
{
    uint64_t bad = 0, began = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        bad += (uint64_t)kin_lock_acquire(lock, KIN_FOREVER);
        bad += (uint64_t)kin_lock_release(lock);
    }
    uint64_t took = bench_now() - began;
    bench_check(bad == 0, kin_last_error());
    return took;
}

int main(int argc, char **argv)
{
    bench_check(kin_init(argc, argv) == KIN_OK, kin_last_error());
    bench_check(argc == 2, "usage: lock PAIRS");
    uint64_t n = bench_number(argv[1], 1, 1000000000);

    kin_lock *lock;
    bench_check(kin_lock_create(&lock, NULL) == KIN_OK, kin_last_error());
    pairs(lock, n / 10 + 1);
    double ns = (double)pairs(lock, n) / (double)n;
    kin_lock_close(lock);
    bench_print("lock", "kin", "pair", ns, "ns");
    return 0;
}
