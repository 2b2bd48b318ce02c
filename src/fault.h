/* Failing on purpose: in test builds the n-th system call of the contract can be made to fail.
 *
 *     int fd = KIN_FAULT("memfd_create") ? (errno = EMFILE, -1) : memfd_create(…);
 *
 * In other builds KIN_FAULT is false and costs nothing. */
#ifndef KIN_SRC_FAULT_H
#define KIN_SRC_FAULT_H

#include <stdbool.h>

#if defined(KIN_TEST_HOOKS)

/* Whether this call is the one to fail. Counts calls in this process. */
bool kin__fault(const char *name);
/* Makes the n-th call from now (1 is the next) fail; 0: none. */
void kin__fault_arm(int n);
/* The name of the call that was made to fail; NULL if none was since arming. */
const char *kin__fault_hit(void);

/* Kills this process, as by kill -9, if the environment variable KIN_CRASH_AT names this point ("name" or "name:n", the
 * n-th time it is passed). */
void kin__crash_point(const char *name);
/* Instead, if it is not NULL: called at each point, by the thread that passes it. */
extern void (*kin__at_crash_point)(const char *name);

#define KIN_FAULT(name) kin__fault(name)
#define KIN_CRASH_POINT(name) kin__crash_point(name)

#else

#define KIN_FAULT(name) false
#define KIN_CRASH_POINT(name) ((void)0)

#endif

#endif
