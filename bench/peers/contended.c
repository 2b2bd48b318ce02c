/* contended, peers: processes that take and release one lock without a pause.
 *
 *     contended normal|adaptive|robust|semaphore PROCESSES MILLISECONDS
 */
#include "children.h"
#include "mutex.h"

#include <semaphore.h>

static int take_unit(void *o) { return sem_wait(o); }
static int give_unit(void *o) { return sem_post(o); }

int main(int argc, char **argv)
{
    bench_check(argc == 4, "usage: contended normal|adaptive|robust|semaphore PROCESSES MILLISECONDS");
    alarm(BENCH_SYNC_SECONDS);
    unsigned processes = (unsigned)bench_number(argv[2], 1, CONTENDED_MAX);
    uint64_t ms = bench_number(argv[3], 1, 30000);

    struct contended *c = bench_shared(sizeof *c);
    int semaphore = strcmp(argv[1], "semaphore") == 0;
    if (semaphore)
        bench_check(sem_init((sem_t *)c->lock, 1, 1) == 0, "sem_init");
    else
        bench_mutex((pthread_mutex_t *)c->lock, argv[1]);

    pid_t children[CONTENDED_MAX];
    for (unsigned i = 0; i < processes; i++) {
        children[i] = bench_fork();
        if (children[i] != 0)
            continue;
        if (semaphore)
            contended_work(c, i, take_unit, give_unit);
        else
            contended_work(c, i, bench_take_mutex, bench_give_mutex);
        _exit(0);
    }
    uint64_t took = contended_run(c, processes, ms);
    for (unsigned i = 0; i < processes; i++)
        bench_wait_for(children[i]);
    contended_print(c, argv[1], processes, took);
    return 0;
}
