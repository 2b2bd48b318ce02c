/* roundtrip, peers: two processes that wake each other in turn.
 *
 *     roundtrip futex|semaphore|condition 1cpu|2cpu free|parked TIMES
 *
 * futex is the least that a system call can do: sleep while a word is 0, wake who sleeps. Nobody spins. */
#include "children.h"
#include "mutex.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <sys/syscall.h>

struct way {
    _Alignas(64) _Atomic uint32_t word;
    sem_t semaphore;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    int flag;
};

static int give_futex(void *o)
{
    struct way *w = o;
    atomic_store(&w->word, 1);
    return syscall(SYS_futex, &w->word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0;
}

static int take_futex(void *o)
{
    struct way *w = o;
    while (atomic_exchange(&w->word, 0) == 0)
        syscall(SYS_futex, &w->word, FUTEX_WAIT, 0, NULL, NULL, 0);
    return 0;
}

static int give_semaphore(void *o) { return sem_post(&((struct way *)o)->semaphore); }
static int take_semaphore(void *o) { return sem_wait(&((struct way *)o)->semaphore); }

static int give_condition(void *o)
{
    struct way *w = o;
    int e = pthread_mutex_lock(&w->mutex);
    w->flag = 1;
    e |= pthread_cond_signal(&w->condition);
    return e | pthread_mutex_unlock(&w->mutex);
}

static int take_condition(void *o)
{
    struct way *w = o;
    int e = pthread_mutex_lock(&w->mutex);
    while (w->flag == 0 && e == 0)
        e |= pthread_cond_wait(&w->condition, &w->mutex);
    w->flag = 0;
    return e | pthread_mutex_unlock(&w->mutex);
}

static void make(struct way *w)
{
    pthread_condattr_t a;
    int e = pthread_condattr_init(&a) | pthread_condattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    bench_check(e == 0 && pthread_cond_init(&w->condition, &a) == 0, "pthread_cond_init");
    bench_check(sem_init(&w->semaphore, 1, 0) == 0, "sem_init");
    bench_mutex(&w->mutex, "normal");
}

int main(int argc, char **argv)
{
    bench_check(argc == 5, "usage: roundtrip futex|semaphore|condition 1cpu|2cpu free|parked TIMES");
    alarm(BENCH_SYNC_SECONDS);
    const char *kind = argv[1], *place = argv[2], *how = argv[3];
    int by_futex = strcmp(kind, "futex") == 0, by_semaphore = strcmp(kind, "semaphore") == 0;
    bench_check(by_futex || by_semaphore || strcmp(kind, "condition") == 0,
                "a round trip is through a futex, semaphore or condition");
    uint64_t n = bench_number(argv[4], 10, 10000000);

    struct roundtrip *r = bench_shared(sizeof *r);
    struct way *there = bench_shared(sizeof *there), *back = bench_shared(sizeof *back);
    make(there);
    make(back);
    pid_t parent = getpid(), child = bench_fork();
    if (child == 0) {
        bench_place(place, 1);
        int other = roundtrip_other(how, parent);
        if (by_futex)
            roundtrip_answer(r, there, back, give_futex, take_futex, n, other);
        else if (by_semaphore)
            roundtrip_answer(r, there, back, give_semaphore, take_semaphore, n, other);
        else
            roundtrip_answer(r, there, back, give_condition, take_condition, n, other);
        _exit(0);
    }
    bench_place(place, 0);
    int other = roundtrip_other(how, child);
    if (by_futex)
        roundtrip_measure(r, there, back, give_futex, take_futex, n, other, kind, place);
    else if (by_semaphore)
        roundtrip_measure(r, there, back, give_semaphore, take_semaphore, n, other, kind, place);
    else
        roundtrip_measure(r, there, back, give_condition, take_condition, n, other, kind, place);
    bench_wait_for(child);
    return 0;
}
