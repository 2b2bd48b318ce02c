/* crash_support.h for Windows. */
#include "crash_support.h"

#include "os.h"

#if OS_WINDOWS

#include <stdlib.h>

void crash_at(const char *point)
{
    (void)_putenv_s("KIN_CRASH_AT", point != NULL ? point : ""); /* "" removes it */
}

int crash_children_of(int64_t pid, int64_t *children, int most)
{
    (void)pid;
    (void)children;
    (void)most;
    return -1;
}

bool crash_limit_processes(int64_t pid, bool limited)
{
    (void)pid;
    (void)limited;
    return false;
}

bool crash_give_up_privileges(void)
{
    return false;
}

#else

typedef int crash_nothing_here;

#endif
