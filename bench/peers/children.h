/* Forked children for the peers of the group sync: none outlives the program. */
#ifndef BENCH_FORKED_H
#define BENCH_FORKED_H

#include "../sync/sync.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* As fork(). */
static inline pid_t bench_fork(void)
{
    pid_t parent = getpid(), child = fork();
    bench_check(child >= 0, "fork");
    if (child == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        _exit(1);
    return child;
}

static inline void bench_wait_for(pid_t child)
{
    int status = -1;
    bench_check(waitpid(child, &status, 0) == child && status == 0, "a child failed");
}

#endif
