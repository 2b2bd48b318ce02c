/* Failing and dying on purpose, in test builds. Empty otherwise. */
#include "fault.h"

#if defined(KIN_TEST_HOOKS)

#include "atomic.h"
#include "os.h"

#include <stdlib.h>
#include <string.h>

static uint32_t countdown;
static const char *hit;

bool kin__fault(const char *name)
{
    uint32_t left = kin__load32(&countdown);
    do {
        if (left == 0)
            return false;
    } while (!kin__cas32(&countdown, &left, left - 1));
    if (left != 1)
        return false;
    hit = name;
    return true;
}

void kin__fault_arm(int n)
{
    hit = NULL;
    kin__store32(&countdown, (uint32_t)n);
}

const char *kin__fault_hit(void)
{
    return hit;
}

void (*kin__at_crash_point)(const char *name);

void kin__crash_point(const char *name)
{
    if (kin__at_crash_point != NULL) {
        kin__at_crash_point(name);
        return;
    }
    static uint32_t passed;
    const char *at = getenv("KIN_CRASH_AT");
    size_t length = strlen(name);
    if (at == NULL || strncmp(at, name, length) != 0 || (at[length] != 0 && at[length] != ':'))
        return;
    uint32_t wanted = at[length] == ':' ? (uint32_t)strtoul(at + length + 1, NULL, 10) : 1;
    if (kin__add32(&passed, 1) + 1 != wanted)
        return;
    os_handle self;
    if (os_process_open(os_process_self(), os_process_birthday(), &self) == KIN_OK)
        (void)os_process_end(self, true);
    os_process_exit(255); /* not reached: the signal to oneself comes first */
}

#else

typedef int kin__nothing_here; /* ISO C wants a declaration in every file */

#endif
