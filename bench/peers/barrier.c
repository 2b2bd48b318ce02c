/* barrier, peer: rounds of a pthread barrier.
 *
 *     barrier PROCESSES ROUNDS
 */
#include "children.h"

#include <pthread.h>

static int come(void *o)
{
    int e = pthread_barrier_wait(o);
    return e == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : e;
}

int main(int argc, char **argv)
{
    bench_check(argc == 3, "usage: barrier PROCESSES ROUNDS");
    alarm(BENCH_SYNC_SECONDS);
    unsigned parties = (unsigned)bench_number(argv[1], 1, BARRIER_MAX);
    uint64_t n = bench_number(argv[2], 10, 10000000);

    struct rounds *r = bench_shared(sizeof *r);
    pthread_barrierattr_t a;
    int e = pthread_barrierattr_init(&a) | pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    bench_check(e == 0 && pthread_barrier_init((pthread_barrier_t *)r->barrier, &a, parties) == 0,
                "pthread_barrier_init");
    pid_t children[BARRIER_MAX];
    for (unsigned i = 1; i < parties; i++) {
        children[i] = bench_fork();
        if (children[i] != 0)
            continue;
        barrier_rounds(r, i, parties, come, n);
        _exit(0);
    }
    barrier_measure(r, parties, come, n, "pthread");
    for (unsigned i = 1; i < parties; i++)
        bench_wait_for(children[i]);
    return 0;
}
