/* death, peer: how long it takes from the kill of a robust pthread mutex's owner until a process that was waiting, asleep,
 * holds the mutex.
 *
 *     death TIMES
 */
#include "children.h"
#include "mutex.h"

#include <errno.h>

int main(int argc, char **argv)
{
    bench_check(argc == 2, "usage: death TIMES");
    alarm(BENCH_SYNC_SECONDS);
    uint32_t n = (uint32_t)bench_number(argv[1], 1, DEATH_MAX);
    static uint64_t took[DEATH_MAX];

    struct death *d = bench_shared(sizeof *d);
    pthread_mutex_t *mutex = (pthread_mutex_t *)d->lock;
    bench_mutex(mutex, "robust");
    pid_t killer = bench_fork();
    if (killer == 0) {
        death_kill(d, n);
        _exit(0);
    }
    for (uint32_t round = 1; round <= n; round++) {
        pid_t owner = bench_fork();
        if (owner == 0) {
            bench_check(pthread_mutex_lock(mutex) == 0, "pthread_mutex_lock");
            atomic_store(&d->held, round);
            for (;;)
                pause();
        }
        atomic_store(&d->owner, owner);
        bench_await(&d->held, round);
        atomic_store(&d->wanted, round);
        int e = pthread_mutex_lock(mutex);
        took[round - 1] = bench_now() - atomic_load(&d->killed);
        bench_check(e == EOWNERDEAD && pthread_mutex_consistent(mutex) == 0 && pthread_mutex_unlock(mutex) == 0,
                    "the owner of the mutex was killed, and that was not told");
        bench_check(waitpid(owner, NULL, 0) == owner, "waitpid");
    }
    bench_wait_for(killer);
    death_print("robust", took, n);
    return 0;
}
