/* lock: an uncontended lock of kin in shared memory, taken and released.
 *
 *     lock lock|rlock|rwlock-read|rwlock-write|semaphore|semaphore-undo PAIRS
 */
#include "bench.h"

#include <kin.h>

static int take_lock(void *o) { return kin_lock_acquire(o, KIN_FOREVER); }
static int give_lock(void *o) { return kin_lock_release(o); }
static int take_rlock(void *o) { return kin_rlock_acquire(o, KIN_FOREVER); }
static int give_rlock(void *o) { return kin_rlock_release(o); }
static int take_read(void *o) { return kin_rwlock_acquire_read(o, KIN_FOREVER); }
static int take_write(void *o) { return kin_rwlock_acquire_write(o, KIN_FOREVER); }
static int give_rwlock(void *o) { return kin_rwlock_release(o); }
static int take_unit(void *o) { return kin_semaphore_acquire(o, KIN_FOREVER); }
static int give_unit(void *o) { return kin_semaphore_release(o); }

static double measure(const char *kind, uint64_t n)
{
    double ns = 0;
    if (strcmp(kind, "lock") == 0) {
        kin_lock *lock;
        bench_check(kin_lock_create(&lock, NULL) == KIN_OK, kin_last_error());
        ns = bench_pair_ns(lock, take_lock, give_lock, n);
        kin_lock_close(lock);
    } else if (strcmp(kind, "rlock") == 0) {
        kin_rlock *lock;
        bench_check(kin_rlock_create(&lock, NULL) == KIN_OK, kin_last_error());
        ns = bench_pair_ns(lock, take_rlock, give_rlock, n);
        kin_rlock_close(lock);
    } else if (strncmp(kind, "rwlock-", 7) == 0) {
        kin_rwlock *lock;
        bench_check(kin_rwlock_create(&lock, NULL) == KIN_OK, kin_last_error());
        if (strcmp(kind, "rwlock-read") == 0)
            ns = bench_pair_ns(lock, take_read, give_rwlock, n);
        else
            ns = bench_pair_ns(lock, take_write, give_rwlock, n);
        kin_rwlock_close(lock);
    } else {
        kin_semaphore *semaphore;
        kin_semaphore_options options = {.undo = strcmp(kind, "semaphore-undo") == 0};
        bench_check(options.undo || strcmp(kind, "semaphore") == 0, "there is no such lock");
        bench_check(kin_semaphore_create(&semaphore, 1, &options) == KIN_OK, kin_last_error());
        ns = bench_pair_ns(semaphore, take_unit, give_unit, n);
        kin_semaphore_close(semaphore);
    }
    return ns;
}

int main(int argc, char **argv)
{
    bench_check(kin_init(argc, argv) == KIN_OK, kin_last_error());
    bench_check(argc == 3, "usage: lock lock|rlock|rwlock-read|rwlock-write|semaphore|semaphore-undo PAIRS");
    double ns = measure(argv[1], bench_number(argv[2], 1, 1000000000));

    char subject[32] = "kin";
    if (strcmp(argv[1], "lock") != 0)
        snprintf(subject, sizeof subject, "kin-%s", argv[1]);
    bench_print("lock", subject, "pair", ns, "ns");
    return 0;
}
