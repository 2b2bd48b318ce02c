/* crash_support.h for Linux. */
#include "crash_support.h"

#include "os.h"

#if !OS_WINDOWS

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

void crash_at(const char *point)
{
    if (point != NULL)
        (void)setenv("KIN_CRASH_AT", point, 1);
    else
        (void)unsetenv("KIN_CRASH_AT");
}

/* The state letter and the parent of a process, 0 and 0 if there is none. */
static char state_of(int64_t pid, int64_t *parent)
{
    char path[64], text[512];
    (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "re");
    *parent = 0;
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = 0;
    char state = 0, *rest = strrchr(text, ')');
    long long from = 0;
    if (rest == NULL || sscanf(rest + 1, " %c %lld", &state, &from) != 2)
        return 0;
    *parent = from;
    return state;
}

int crash_children_of(int64_t pid, int64_t *children, int most)
{
    int count = 0;
    if (pid <= 1)
        return 0;
    DIR *d = opendir("/proc");
    if (d == NULL)
        return -1;
    for (struct dirent *e; count < most && (e = readdir(d)) != NULL;) {
        int64_t parent, child = strtoll(e->d_name, NULL, 10);
        char state = child > 0 ? state_of(child, &parent) : 0;
        if (state != 0 && state != 'Z' && parent == pid)
            children[count++] = child;
    }
    (void)closedir(d);
    return count;
}

bool crash_limit_processes(int64_t pid, bool limited)
{
    struct rlimit limit;
    if (geteuid() == 0 || prlimit((pid_t)pid, RLIMIT_NPROC, NULL, &limit) != 0)
        return false;
    limit.rlim_cur = limited ? 1 : limit.rlim_max;
    return prlimit((pid_t)pid, RLIMIT_NPROC, &limit, NULL) == 0;
}

bool crash_give_up_privileges(void)
{
    if (geteuid() != 0)
        return true;
    if (setgid(65534) != 0 || setuid(65534) != 0)
        return false;
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return geteuid() != 0;
}

#else

typedef int crash_nothing_here;

#endif
