/* lock, peers: what else can be a lock between processes, in shared memory, uncontended.
 *
 *     lock normal|adaptive|robust|semaphore|rwlock-read|rwlock-write PAIRS
 */
#include "mutex.h"

#include <semaphore.h>

static int take_unit(void *o) { return sem_wait(o); }
static int give_unit(void *o) { return sem_post(o); }
static int take_read(void *o) { return pthread_rwlock_rdlock(o); }
static int take_write(void *o) { return pthread_rwlock_wrlock(o); }
static int give_rwlock(void *o) { return pthread_rwlock_unlock(o); }

static void make_rwlock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t a;
    int e = pthread_rwlockattr_init(&a) | pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    bench_check(e == 0 && pthread_rwlock_init(lock, &a) == 0, "pthread_rwlock_init");
}

int main(int argc, char **argv)
{
    bench_check(argc == 3, "usage: lock normal|adaptive|robust|semaphore|rwlock-read|rwlock-write PAIRS");
    const char *kind = argv[1];
    uint64_t n = bench_number(argv[2], 1, 1000000000);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(shared != MAP_FAILED, "mmap");

    double ns;
    if (strcmp(kind, "semaphore") == 0) {
        bench_check(sem_init(shared, 1, 1) == 0, "sem_init");
        ns = bench_pair_ns(shared, take_unit, give_unit, n);
    } else if (strcmp(kind, "rwlock-read") == 0) {
        make_rwlock(shared);
        ns = bench_pair_ns(shared, take_read, give_rwlock, n);
    } else if (strcmp(kind, "rwlock-write") == 0) {
        make_rwlock(shared);
        ns = bench_pair_ns(shared, take_write, give_rwlock, n);
    } else {
        bench_mutex(shared, kind);
        ns = bench_pair_ns(shared, bench_take_mutex, bench_give_mutex, n);
    }
    bench_print("lock", kind, "pair", ns, "ns");
    return 0;
}
