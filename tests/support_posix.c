/* What the tests ask of Linux. */
#include "os.h"

#if !OS_WINDOWS

#include "support.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls `visit` for every descriptor but the one that this takes itself; gives their number. */
static int each_descriptor(bool (*visit)(int fd, void *data), void *data, bool *found)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    if (d == NULL)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        int fd = (int)strtol(e->d_name, NULL, 10);
        if (fd == dirfd(d))
            continue;
        count++;
        if (visit != NULL && visit(fd, data))
            *found = true;
    }
    (void)closedir(d);
    return count;
}

int test_count_handles(void)
{
    return each_descriptor(NULL, NULL, NULL);
}

static bool is_file(int fd, void *data)
{
    const struct stat *wanted = data;
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == wanted->st_dev && st.st_ino == wanted->st_ino;
}

bool test_has_open(const char *path)
{
    struct stat wanted;
    bool found = false;
    return stat(path, &wanted) == 0 && each_descriptor(is_file, &wanted, &found) >= 0 && found;
}

intptr_t test_open_inheritable(const char *path)
{
    return open(path, O_RDWR | O_CREAT, 0600);
}

void test_close_handle(intptr_t handle)
{
    (void)close((int)handle);
}

void test_allow_handles(int count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t)count)
        return;
    limit.rlim_cur = limit.rlim_max < (rlim_t)count ? limit.rlim_max : (rlim_t)count;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

bool test_limit_handles(int soft, int hard)
{
    struct rlimit limit = {.rlim_cur = (rlim_t)soft, .rlim_max = (rlim_t)hard};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* State and parent of a process, from /proc/<pid>/stat; 0 if there is none. */
static char state_of(int64_t pid, int64_t *parent)
{
    char path[64], text[512], *rest;
    (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = 0;
    rest = strrchr(text, ')');
    if (rest == NULL || rest[1] != ' ')
        return 0;
    *parent = strtoll(rest + 3, NULL, 10);
    return rest[2];
}

bool test_process_exists(int64_t pid)
{
    int64_t parent;
    char state = state_of(pid, &parent);
    return state != 0 && state != 'Z' && state != 'X';
}

void test_process_kill(int64_t pid)
{
    (void)kill((pid_t)pid, SIGKILL);
}

bool test_process_stop(int64_t pid)
{
    return kill((pid_t)pid, SIGSTOP) == 0;
}

bool test_process_continue(int64_t pid)
{
    return kill((pid_t)pid, SIGCONT) == 0;
}

void test_process_title(int64_t pid, char title[64])
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%lld/comm", (long long)pid);
    FILE *f = fopen(path, "re");
    size_t n = f != NULL ? fread(title, 1, 63, f) : 0;
    if (f != NULL)
        (void)fclose(f);
    title[n > 0 && title[n - 1] == '\n' ? n - 1 : n] = 0;
}

static bool is_below(int64_t pid, int64_t top)
{
    for (int depth = 0; pid > 1 && depth < 64; depth++) {
        int64_t parent;
        if (state_of(pid, &parent) == 0)
            return false;
        if (parent == top)
            return true;
        pid = parent;
    }
    return false;
}

int test_count_zombies(void)
{
    int count = 0;
    DIR *d = opendir("/proc");
    if (d == NULL)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t pid = strtoll(e->d_name, NULL, 10), parent;
        if (pid > 0 && state_of(pid, &parent) == 'Z' && is_below(pid, getpid()))
            count++;
    }
    (void)closedir(d);
    return count;
}

bool test_under_wine(void)
{
    return false;
}

bool test_has_children(void)
{
    return waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals = signals + 1;
}

void test_watch_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal};
    signals = 0;
    (void)sigaction(SIGCHLD, &action, NULL);
}

int test_signals(void)
{
    return signals;
}

bool test_has_signals(void)
{
    return true;
}

static void (*on_signal)(void);

static void call_on_signal(int number)
{
    (void)number;
    int kept = errno;
    on_signal();
    errno = kept;
}

bool test_on_signal(void (*function)(void))
{
    struct sigaction action = {.sa_handler = call_on_signal};
    on_signal = function;
    return sigaction(SIGUSR1, &action, NULL) == 0;
}

void test_signal(int64_t pid)
{
    (void)kill((pid_t)pid, SIGUSR1);
}

int test_in_copy(int (*function)(void))
{
    int status;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int number = 1; number < 32; number++) /* cmocka's handlers would go on with the tests in the copy */
            (void)signal(number, SIG_DFL);
        _exit(function());
    }
    if (pid < 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int test_umask(int mask)
{
    return (int)umask((mode_t)mask);
}

int64_t test_memory(void)
{
    long long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lld %lld", &pages, &resident) != 2)
        resident = 0;
    (void)fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

#if defined(__clang__)
#define AS_WRITTEN __attribute__((no_sanitize("undefined", "address")))
#else
#define AS_WRITTEN __attribute__((no_sanitize_undefined))
#endif

AS_WRITTEN void test_crash_access(void)
{
    static int *volatile nowhere;
    *(volatile int *)nowhere = 1;
}

AS_WRITTEN void test_crash_divide(void)
{
    static volatile int one = 1, zero, result;
    result = one / zero;
    (void)result;
}

void test_close_descriptors(int from, int to)
{
    for (int fd = from; fd <= to; fd++)
        (void)close(fd);
}

#else

typedef int test_nothing_here; /* ISO C wants a declaration in every file */

#endif
