/* Descriptors becoming ready. Each watch has an epoll set of its own for its descriptors, which is itself a descriptor that
 * becomes readable; one thread per process of the program, made when first needed, waits for all those sets in another. So
 * several may watch the same descriptor, which is neither duplicated nor changed. A watch is known to it by number: what it
 * hears of one that was removed meanwhile means nothing. `ready` is called with the mutex, so that who removes a watch has
 * waited for that. */
#include "posix.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOK_AT_ONCE 64u /* no process may have fewer descriptors */
#define STACK 131072u

static bool is_fd(intptr_t source)
{
    return source >= 0 && source <= INT_MAX;
}

static kin_err look_at_some(os_source *sources, size_t count, size_t *wrong)
{
    struct pollfd fds[LOOK_AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = is_fd(sources[i].source) ? (int)sources[i].source : -1,
                                 .events = sources[i].events == OS_WRITABLE ? POLLOUT : POLLIN};
    }
    int n;
    do {
        n = TRY("poll", -1, ENOMEM, poll(fds, (nfds_t)count, 0));
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return kin__fail_errno("poll", "cannot look at %zu descriptors", count);
    for (size_t i = 0; i < count; i++) {
        if (fds[i].fd < 0 || (fds[i].revents & POLLNVAL) != 0) {
            *wrong = i;
            return kin__fail(KIN_EINVAL, "%lld is no open descriptor", (long long)sources[i].source);
        }
        sources[i].ready = sources[i].ready || fds[i].revents != 0;
    }
    return KIN_OK;
}

kin_err os_sources_look(os_source *sources, size_t count, size_t *wrong)
{
    for (size_t i = 0; i < count; i += LOOK_AT_ONCE) {
        size_t some = count - i < LOOK_AT_ONCE ? count - i : LOOK_AT_ONCE, at = 0;
        kin_err err = look_at_some(sources + i, some, &at);
        if (err != KIN_OK) {
            *wrong = i + at;
            return err;
        }
    }
    return KIN_OK;
}

/* ---- the watching thread ---- */

struct os_watch {
    os_watch *next, **before;
    uint64_t number;
    int set; /* of its descriptors */
    bool called;
    void (*ready)(void *arg);
    void *arg;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static os_watch *watches;
static uint64_t numbers;
static int all_sets = -1; /* epoll */
static pid_t owner;       /* a copy of this process has no such thread */

/* With the mutex. */
static void call(os_watch *w)
{
    if (!w->called) {
        w->called = true;
        w->ready(w->arg);
    }
}

static void watch_thread(void *arg)
{
    int set = (int)(intptr_t)arg;
    for (;;) {
        struct epoll_event events[16];
        int n = epoll_wait(set, events, 16, -1);
        if (n < 0 && errno != EINTR)
            break; /* the program has closed every descriptor there is */
        pthread_mutex_lock(&mutex);
        for (int i = 0; i < n; i++) {
            for (os_watch *w = watches; w != NULL; w = w->next) {
                if (w->number == events[i].data.u64)
                    call(w);
            }
        }
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    if (all_sets == set)
        all_sets = -1;
    for (os_watch *w = watches; w != NULL; w = w->next) /* who waits looks, and watches again */
        call(w);
    pthread_mutex_unlock(&mutex);
}

/* With the mutex. */
static kin_err start_thread(void)
{
    if (owner != getpid())
        all_sets = -1;
    if (all_sets >= 0)
        return KIN_OK;
    int set = kin__new_epoll();
    if (set < 0)
        return kin__fail_errno("epoll_create1", "cannot watch descriptors");
    kin_err err = os_thread_start(watch_thread, (void *)(intptr_t)set, STACK);
    if (err != KIN_OK) {
        (void)close(set);
        return kin__fail_in(err, "cannot watch descriptors");
    }
    all_sets = set;
    owner = getpid();
    return KIN_OK;
}

static int by_source(const void *a, const void *b)
{
    intptr_t x = ((const os_source *)a)->source, y = ((const os_source *)b)->source;
    return (x > y) - (x < y);
}

/* A set holds each descriptor once, for all that is asked of it. `now`: one cannot be watched, as it is always ready, or
 * is not open any more: a look will tell. */
static kin_err fill(int set, os_source *sources, size_t count, bool *now)
{
    qsort(sources, count, sizeof *sources, by_source);
    for (size_t i = 0; i < count;) {
        struct epoll_event event = {.events = 0};
        int fd = (int)sources[i].source;
        for (; i < count && sources[i].source == fd; i++)
            event.events |= sources[i].events == OS_WRITABLE ? EPOLLOUT : EPOLLIN;
        if (TRY("epoll_ctl", -1, ENOMEM, epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) == 0)
            continue;
        if (errno != EPERM && errno != EBADF)
            return kin__fail_errno("epoll_ctl", "cannot watch descriptor %d", fd);
        *now = true;
    }
    return KIN_OK;
}

static kin_err make_set(os_watch *w, const os_source *sources, size_t count, bool *now)
{
    os_source *sorted = KIN_FAULT("malloc") ? NULL : malloc(count * sizeof *sorted);
    if (sorted == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to watch %zu descriptors", count);
    memcpy(sorted, sources, count * sizeof *sorted);
    w->set = kin__new_epoll();
    kin_err err = w->set < 0 ? kin__fail_errno("epoll_create1", "cannot watch %zu descriptors", count)
                             : fill(w->set, sorted, count, now);
    free(sorted);
    if (err != KIN_OK && w->set >= 0)
        (void)close(w->set);
    return err;
}

/* With the mutex. Each watch is reported once, even if it is ready for ever. */
static kin_err enter(os_watch *w)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};
    w->number = event.data.u64 = ++numbers;
    for (int tries = 0;; tries++) {
        kin_err err = start_thread();
        if (err != KIN_OK)
            return err;
        if (TRY("epoll_ctl", -1, ENOMEM, epoll_ctl(all_sets, EPOLL_CTL_ADD, w->set, &event)) == 0)
            return KIN_OK;
        if (tries > 0 || (errno != EBADF && errno != EINVAL))
            return kin__fail_errno("epoll_ctl", "cannot watch descriptors");
        all_sets = -1; /* closed behind our back */
    }
}

kin_err os_watch_add(const os_source *sources, size_t count, void (*ready)(void *arg), void *arg, os_watch **watch)
{
    os_watch *w = KIN_FAULT("malloc") ? NULL : malloc(sizeof *w);
    if (w == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to watch %zu descriptors", count);
    *w = (os_watch){.ready = ready, .arg = arg};
    bool now = false;
    kin_err err = make_set(w, sources, count, &now);
    if (err != KIN_OK) {
        free(w);
        return err;
    }
    pthread_mutex_lock(&mutex);
    err = enter(w);
    if (err == KIN_OK) {
        w->next = watches;
        w->before = &watches;
        if (w->next != NULL)
            w->next->before = &w->next;
        watches = w;
        *watch = w;
        if (now)
            call(w);
    }
    pthread_mutex_unlock(&mutex);
    if (err != KIN_OK) {
        (void)close(w->set);
        free(w);
    }
    return err;
}

void os_watch_remove(os_watch *w, os_source *sources)
{
    (void)sources; /* looking at a descriptor does not change it */
    if (w == NULL)
        return;
    pthread_mutex_lock(&mutex);
    *w->before = w->next;
    if (w->next != NULL)
        w->next->before = w->before;
    if (all_sets >= 0)
        (void)epoll_ctl(all_sets, EPOLL_CTL_DEL, w->set, NULL);
    pthread_mutex_unlock(&mutex);
    (void)close(w->set);
    free(w);
}
