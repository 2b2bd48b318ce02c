/* A pthread mutex that processes share. */
#ifndef BENCH_MUTEX_H
#define BENCH_MUTEX_H

#include "../bench.h"

#include <pthread.h>

/* kind: normal, adaptive or robust */
static inline void bench_mutex(pthread_mutex_t *mutex, const char *kind)
{
    pthread_mutexattr_t a;
    int e = pthread_mutexattr_init(&a) | pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    if (strcmp(kind, "robust") == 0)
        e |= pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    else if (strcmp(kind, "adaptive") == 0)
        e |= pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
    else
        bench_check(strcmp(kind, "normal") == 0, "a mutex is normal, adaptive or robust");
    bench_check(e == 0 && pthread_mutex_init(mutex, &a) == 0, "pthread_mutex_init");
}

static inline int bench_take_mutex(void *o) { return pthread_mutex_lock(o); }
static inline int bench_give_mutex(void *o) { return pthread_mutex_unlock(o); }

#endif
