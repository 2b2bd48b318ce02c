/* What the files of src/posix share: failing with errno, and descriptors that only start.c knows by name. */
#ifndef KIN_SRC_POSIX_H
#define KIN_SRC_POSIX_H

#include "../error.h"
#include "../fault.h"
#include "../os.h"

#include <errno.h>

/* A system call that tests can make fail: TRY("mmap", MAP_FAILED, ENOMEM, mmap(…)). */
#define TRY(name, failed, code, call) (KIN_FAULT(name) ? (errno = (code), (failed)) : (call))

/* kin__fail with the code that errno stands for, and with the system's own words. */
kin_err kin__fail_errno(const char *call, const char *format, ...) KIN_PRINTF(2, 3);
kin_err kin__errno_code(int number);

/* Blocks all signals around the creation of a thread or process that must not run the program's handlers. */
typedef struct kin__signals {
    unsigned long set[16];
} kin__signals;
void kin__signals_block(kin__signals *before);
void kin__signals_restore(const kin__signals *before);

/* The same file under a number above those of the standard streams, which a program may have closed: what kin opens
 * must not become its standard output. Closes `fd` if it has to; -1 with errno (as `fd` may be). */
int kin__above_streams(int fd);
/* socketpair for whole messages, likewise. */
int kin__socket_pair(int ends[2]);

/* Raises the soft limit of open descriptors by at least `more`, and to twice what it was, within the hard limit.
 * That is what the soft limit is for: it protects programs that use select(), and those do not have that many
 * objects. False if it is as high as it may be. */
bool kin__more_descriptors(uint64_t more);
/* Whether what was to make one, and gave `fd`, is to be tried again: the soft limit was met, and has been raised. */
bool kin__try_again(int fd);
/* epoll_create1, above the standard streams. -1 with errno. */
int kin__new_epoll(void);

/* pidfd_open, which the C library has no function for before glibc 2.36. */
int kin__pidfd_open(int64_t pid);

/* True in a thread of kin's that forks for kin: such a copy is no stranger. */
extern _Thread_local bool kin__own_fork;

#endif
