/* CPUs, threads, terminals and the words for errno. */
#include "posix.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

kin_err kin__errno_code(int number)
{
    switch (number) {
    case ENOMEM:
    case ENOSPC:
    case ENOBUFS:
        return KIN_ENOMEM;
    case EMFILE:
    case ENFILE:
    case ETOOMANYREFS:
        return KIN_EMFILE;
    case EAGAIN:
        return KIN_EAGAIN;
    case EPERM:
    case EACCES:
        return KIN_EPERM;
    case ENOENT:
    case ESRCH:
        return KIN_ENOENT;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ECONNREFUSED:
        return KIN_EPIPE;
    case EINVAL:
    case EBADF:
        return KIN_EINVAL;
    case ENOSYS:
        return KIN_ENOTSUP;
    default:
        return KIN_EIO;
    }
}

kin_err kin__fail_errno(const char *call, const char *format, ...)
{
    int number = errno;
    char tried[256], words[128];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(tried, sizeof tried, format, values);
    va_end(values);
    uv_strerror_r(-number, words, sizeof words);
    kin_err err = kin__fail(kin__errno_code(number), "%s: %s [%s, errno %d]", tried, words, call, number);
    errno = number;
    return err;
}

int kin__above_streams(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), number = errno;
    (void)close(fd);
    errno = number;
    return copy;
}

bool kin__more_descriptors(uint64_t more)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return false;
    rlim_t wanted = limit.rlim_cur + (more > limit.rlim_cur ? more : limit.rlim_cur);
    limit.rlim_cur = wanted < limit.rlim_cur || wanted > limit.rlim_max ? limit.rlim_max : wanted;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

bool kin__try_again(int fd)
{
    return fd < 0 && errno == EMFILE && kin__more_descriptors(1);
}

int kin__new_epoll(void)
{
    int set;
    do {
        set = TRY("epoll_create1", -1, EMFILE, kin__above_streams(epoll_create1(EPOLL_CLOEXEC)));
    } while (kin__try_again(set));
    return set;
}

int kin__socket_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        ends[i] = kin__above_streams(ends[i]);
        if (ends[i] >= 0)
            continue;
        int number = errno;
        (void)close(ends[1 - i]);
        errno = number;
        return -1;
    }
    return 0;
}

_Static_assert(sizeof(kin__signals) >= sizeof(sigset_t), "room for a signal set");

void kin__signals_block(kin__signals *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, (sigset_t *)(void *)before->set);
}

void kin__signals_restore(const kin__signals *before)
{
    pthread_sigmask(SIG_SETMASK, (const sigset_t *)(const void *)before->set, NULL);
}

/* The CPUs that a quota is worth, rounded up; 0 if the file holds none. `period_path` is NULL when both numbers are
 * in the first file. */
static int quota_in(const char *path, const char *period_path)
{
    char text[64] = "";
    long long quota = -1, period = 0;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fgets(text, sizeof text, f) != NULL && strncmp(text, "max", 3) != 0) {
        char *rest;
        quota = strtoll(text, &rest, 10);
        period = strtoll(rest, NULL, 10);
    }
    fclose(f);
    if (period_path != NULL && (f = fopen(period_path, "re")) != NULL) {
        period = fgets(text, sizeof text, f) != NULL ? strtoll(text, NULL, 10) : 0;
        fclose(f);
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* The smallest quota of the cgroup and those above it. `root` is where its hierarchy is mounted, `group` its path in
 * it. */
static int quota_of(const char *root, char *group, bool v2)
{
    int least = 0;
    for (;;) {
        char path[2048], period[2048];
        (void)snprintf(path, sizeof path, "%s%s/%s", root, group, v2 ? "cpu.max" : "cpu.cfs_quota_us");
        (void)snprintf(period, sizeof period, "%s%s/cpu.cfs_period_us", root, group);
        int n = quota_in(path, v2 ? NULL : period);
        if (n > 0 && (least == 0 || n < least))
            least = n;
        char *slash = strrchr(group, '/');
        if (slash == NULL || group[0] == 0)
            return least;
        *slash = 0;
    }
}

static int cgroup_cpus(void)
{
    int least = 0;
    char line[1024];
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = 0;
        controllers++;
        int n = 0;
        if (controllers[0] == 0)
            n = quota_of("/sys/fs/cgroup", group, true);
        else if (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0 || strstr(controllers, ",cpu,") != NULL)
            n = quota_of("/sys/fs/cgroup/cpu", group, false);
        if (n > 0 && (least == 0 || n < least))
            least = n;
    }
    fclose(f);
    return least;
}

int os_cpu_count(void)
{
    int count = (int)uv_available_parallelism(); /* heeds the affinity mask */
    int quota = cgroup_cpus();
    return quota > 0 && quota < count ? quota : count > 0 ? count : 1;
}

void os_yield(void)
{
    (void)sched_yield();
}

static pthread_key_t key;
static void (*thread_ended)(void *value);

static void call_ended(void *value)
{
    thread_ended(value);
}

kin_err os_thread_on_end(void (*ended)(void *value))
{
    thread_ended = ended;
    int err = TRY("pthread_key_create", EAGAIN, EAGAIN, pthread_key_create(&key, call_ended));
    errno = err;
    return err == 0 ? KIN_OK : kin__fail_errno("pthread_key_create", "cannot follow the ends of threads");
}

kin_err os_thread_set(void *value)
{
    int err = TRY("pthread_setspecific", ENOMEM, ENOMEM, pthread_setspecific(key, value));
    errno = err;
    return err == 0 ? KIN_OK : kin__fail_errno("pthread_setspecific", "cannot follow the end of this thread");
}

uint32_t os_thread_number(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

bool os_is_terminal(FILE *file)
{
    return isatty(fileno(file)) == 1;
}

typedef struct beginning {
    void (*body)(void *arg);
    void *arg;
} beginning;

static void *run_thread(void *arg)
{
    beginning b = *(beginning *)arg;
    free(arg);
    b.body(b.arg);
    return NULL;
}

kin_err os_thread_start(void (*body)(void *arg), void *arg, size_t stack)
{
    beginning *b = malloc(sizeof *b);
    pthread_attr_t attributes;
    if (b == NULL || pthread_attr_init(&attributes) != 0) {
        free(b);
        return kin__fail(KIN_ENOMEM, "no memory to start a thread");
    }
    *b = (beginning){body, arg};
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN); /* which contains the thread-local variables of the program */
    (void)pthread_attr_setstacksize(&attributes, stack + least);
    pthread_t thread;
    kin__signals before;
    kin__signals_block(&before);
    int err = TRY("pthread_create", EAGAIN, EAGAIN, pthread_create(&thread, &attributes, run_thread, b));
    kin__signals_restore(&before);
    (void)pthread_attr_destroy(&attributes);
    if (err == 0)
        return KIN_OK;
    free(b);
    errno = err;
    return kin__fail_errno("pthread_create", "cannot start a thread");
}
