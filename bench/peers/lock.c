/* lock, peers: what else can be a lock between processes, in shared memory, uncontended.
 *
 *     lock normal|adaptive|robust|semaphore PAIRS
 */
#include "../bench.h"

#include <pthread.h>
#include <semaphore.h>

static uint64_t mutex_pairs(pthread_mutex_t *mutex, uint64_t n)
{
    uint64_t bad = 0, began = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        bad += (uint64_t)pthread_mutex_lock(mutex);
        bad += (uint64_t)pthread_mutex_unlock(mutex);
    }
    uint64_t took = bench_now() - began;
    bench_check(bad == 0, "pthread_mutex");
    return took;
}

static uint64_t semaphore_pairs(sem_t *semaphore, uint64_t n)
{
    uint64_t bad = 0, began = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        bad += (uint64_t)(unsigned)sem_wait(semaphore);
        bad += (uint64_t)(unsigned)sem_post(semaphore);
    }
    uint64_t took = bench_now() - began;
    bench_check(bad == 0, "semaphore");
    return took;
}

static void make_mutex(pthread_mutex_t *mutex, const char *kind)
{
    pthread_mutexattr_t a;
    int e = pthread_mutexattr_init(&a) | pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    if (strcmp(kind, "robust") == 0)
        e |= pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    else if (strcmp(kind, "adaptive") == 0)
        e |= pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
    else
        bench_check(strcmp(kind, "normal") == 0, "the lock is normal, adaptive, robust or semaphore");
    bench_check(e == 0 && pthread_mutex_init(mutex, &a) == 0, "pthread_mutex_init");
}

int main(int argc, char **argv)
{
    bench_check(argc == 3, "usage: lock normal|adaptive|robust|semaphore PAIRS");
    uint64_t n = bench_number(argv[2], 1, 1000000000), took;
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(shared != MAP_FAILED, "mmap");

    if (strcmp(argv[1], "semaphore") == 0) {
        bench_check(sem_init(shared, 1, 1) == 0, "sem_init");
        semaphore_pairs(shared, n / 10 + 1);
        took = semaphore_pairs(shared, n);
    } else {
        make_mutex(shared, argv[1]);
        mutex_pairs(shared, n / 10 + 1);
        took = mutex_pairs(shared, n);
    }
    bench_print("lock", argv[1], "pair", (double)took / (double)n, "ns");
    return 0;
}
