/* Processes on Linux, by pidfd: a descriptor that stays with one process whatever becomes of its number. One thread
 * per process of the program, made when it is first needed, waits for the ends that were asked for. */
#include "posix.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define STACK 131072u

int64_t os_process_self(void)
{
    return getpid();
}

static uint64_t boot_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t os_process_birthday(void)
{
    return boot_clock();
}

int kin__pidfd_open(int64_t pid)
{
    return (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
}

/* When the process with this number began, on the boot clock, to a clock tick; 0 if that cannot be read. */
static uint64_t began(int64_t pid)
{
    char path[64], text[1024];
    (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int i = 2; field != NULL && i < 22; i++)
        field = strchr(field + 1, ' ');
    if (field == NULL)
        return 0;
    uint64_t per_second = (uint64_t)sysconf(_SC_CLK_TCK);
    return strtoull(field + 1, NULL, 10) * (1000000000u / per_second);
}

kin_err os_process_open(int64_t pid, uint64_t birthday, os_handle *process)
{
    int fd;
    do {
        fd = TRY("pidfd_open", -1, EMFILE, kin__above_streams(kin__pidfd_open(pid)));
    } while (kin__try_again(fd));
    if (fd < 0)
        return kin__fail_errno("pidfd_open", "cannot open process %lld", (long long)pid);
    if (began(pid) > birthday) { /* its number was given to a younger one */
        (void)close(fd);
        return kin__fail(KIN_ENOENT, "process %lld has ended", (long long)pid);
    }
    *process = fd;
    return KIN_OK;
}

kin_err os_process_end(os_handle process, bool force)
{
    if (TRY("pidfd_send_signal", -1, EPERM, (int)syscall(SYS_pidfd_send_signal, (int)process, force ? SIGKILL : SIGTERM, NULL, 0)) == 0 ||
        errno == ESRCH)
        return KIN_OK;
    return kin__fail_errno("pidfd_send_signal", "cannot signal a process");
}

/* ---- the watching thread ---- */

typedef struct watched {
    struct watched *next, **before; /* all of them, for whoever looks for leaks: the kernel's pointer does not count */
    int fd;
    uint64_t who;
    void (*ended)(uint64_t who, int status);
} watched;

static pthread_mutex_t watch_mutex = PTHREAD_MUTEX_INITIALIZER;
static watched *all_watched;
static int watch_set = -1; /* epoll */
static pid_t watch_owner;  /* a copy of this process has no such thread */

static void watch_thread(void *arg)
{
    int set = (int)(intptr_t)arg;
    for (;;) {
        struct epoll_event event;
        int n = epoll_wait(set, &event, 1, -1);
        if (n < 0 && errno != EINTR)
            break;
        if (n < 1)
            continue;
        watched *w = event.data.ptr;
        (void)epoll_ctl(set, EPOLL_CTL_DEL, w->fd, NULL);
        (void)close(w->fd);
        w->ended(w->who, OS_STATUS_UNKNOWN);
        pthread_mutex_lock(&watch_mutex);
        *w->before = w->next;
        if (w->next != NULL)
            w->next->before = w->before;
        pthread_mutex_unlock(&watch_mutex);
        free(w);
    }
    pthread_mutex_lock(&watch_mutex);
    if (watch_set == set)
        watch_set = -1;
    pthread_mutex_unlock(&watch_mutex);
    kin__watch_lost();
}

static kin_err start_watching(void)
{
    if (watch_set >= 0 && watch_owner == getpid())
        return KIN_OK;
    int set = kin__new_epoll();
    if (set < 0)
        return kin__fail_errno("epoll_create1", "cannot watch processes");
    kin_err err = os_thread_start(watch_thread, (void *)(intptr_t)set, STACK);
    if (err != KIN_OK) {
        (void)close(set);
        return kin__fail_in(err, "cannot watch processes");
    }
    watch_set = set;
    watch_owner = getpid();
    return KIN_OK;
}

kin_err os_process_watch(os_handle process, uint64_t who, void (*ended)(uint64_t who, int status))
{
    watched *w = malloc(sizeof *w);
    if (w == NULL) {
        (void)close((int)process);
        return kin__fail(KIN_ENOMEM, "no memory to watch a process");
    }
    *w = (watched){.fd = (int)process, .who = who, .ended = ended};
    pthread_mutex_lock(&watch_mutex);
    kin_err err = start_watching();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
    if (err == KIN_OK && TRY("epoll_ctl", -1, ENOMEM, epoll_ctl(watch_set, EPOLL_CTL_ADD, w->fd, &event)) != 0)
        err = kin__fail_errno("epoll_ctl", "cannot watch a process");
    if (err == KIN_OK) {
        w->next = all_watched;
        w->before = &all_watched;
        if (w->next != NULL)
            w->next->before = &w->next;
        all_watched = w;
    }
    pthread_mutex_unlock(&watch_mutex);
    if (err != KIN_OK) {
        (void)close((int)process);
        free(w);
    }
    return err;
}

void os_process_set_name(const char *name)
{
    (void)prctl(PR_SET_NAME, name, 0, 0, 0); /* the kernel keeps the first 15 bytes */
}

_Noreturn void os_process_exit(int code)
{
    _exit(code);
}

_Thread_local bool kin__own_fork;
static void (*after_fork)(void);

static void in_copy(void)
{
    if (!kin__own_fork)
        after_fork();
}

kin_err os_on_fork(void (*forked)(void))
{
    after_fork = forked;
    errno = TRY("pthread_atfork", ENOMEM, ENOMEM, pthread_atfork(NULL, NULL, in_copy));
    return errno == 0 ? KIN_OK : kin__fail_errno("pthread_atfork", "cannot follow forks");
}
