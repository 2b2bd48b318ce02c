/* Errors, time-outs and the version: what every other header of kin uses. */
#ifndef KIN_BASE_H
#define KIN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KIN_VERSION_MAJOR 0
#define KIN_VERSION_MINOR 1
#define KIN_VERSION_PATCH 0

#ifdef __cplusplus
#define KIN_BEGIN extern "C" {
#define KIN_END }
#else
#define KIN_BEGIN
#define KIN_END
#endif

/* Marks what the library exports. Empty for the static library; set by the build for a shared one. */
#ifndef KIN_API
#define KIN_API
#endif

#if defined(__MINGW32__)
#include <stdio.h>
#define KIN_PRINTF(text, first) __attribute__((format(__MINGW_PRINTF_FORMAT, text, first)))
#elif defined(__GNUC__)
#define KIN_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define KIN_PRINTF(text, first)
#endif

KIN_BEGIN

/* What a function of kin answers: one of the constants below. The numbers are the same on every system and never
 * change. A plain int, so that targets and tasks can return it. */
typedef int kin_err;
enum {
    KIN_OK = 0,
    KIN_EINVAL = 1,       /* a wrong argument, or an object that was closed                            */
    KIN_ENOMEM = 2,       /* no memory, private or shared                                              */
    KIN_EAGAIN = 3,       /* a limit of the system or of kin is reached: processes, threads            */
    KIN_EMFILE = 4,       /* too many open descriptors or handles                                      */
    KIN_ETIMEDOUT = 5,    /* the time-out passed                                                       */
    KIN_EPERM = 6,        /* not yours to do: releasing another's lock, joining another's child        */
    KIN_EOWNERDEAD = 7,   /* the lock IS HELD now; its last owner died with it                         */
    KIN_EDEADLK = 8,      /* waiting would never end                                                   */
    KIN_ELOST = 9,        /* the process that could have told is gone (a fork server that was killed)  */
    KIN_ECHILD = 10,      /* a child died before it could run its target, or a worker during a task    */
    KIN_ETYPE = 11,       /* kin_unpack: another number or another type of values than was passed      */
    KIN_ERANGE = 12,      /* a number does not fit, an index is out of bounds                          */
    KIN_ENOENT = 13,      /* there is no such thing: a target, a module, a file                        */
    KIN_ESTATE = 14,      /* not now: before kin_init, or after close                                  */
    KIN_ENOTSUP = 15,     /* not on any system, or not on this one                                     */
    KIN_EINTERRUPTED = 16,/* asked to stop                                                             */
    KIN_ETASK = 17,       /* a map ended, and at least one of its tasks failed                         */
    KIN_EPROTO = 18,      /* damaged or foreign data: another build, a wrong segment                   */
    KIN_EIO = 19,         /* the system failed in a way that has no number of its own here             */
    KIN_EPIPE = 20,       /* the other end is gone                                                     */
    KIN_EEXIST = 21,      /* the name is taken                                                         */
    KIN_ECANCELLED = 22,  /* ended before it ran                                                       */
    KIN_EBROKEN = 23,     /* the barrier is broken                                                     */
    KIN_EMSGSIZE = 24,    /* a message is too large: for the buffer (it stays), or for what is allowed   */
    KIN_EFULL = 25,       /* no room in the queue now                                                  */
    KIN_EEMPTY = 26,      /* no message in the queue now                                               */
    KIN_EAUTH = 27        /* the other side does not know the key                                      */
};

/* The name of an error and what it means, as in "KIN_ENOMEM: no memory". Never NULL; static. */
KIN_API const char *kin_strerror(kin_err error);

/* The last failure in this thread as a sentence: what was tried, with what, why, and the system's own code. "" if
 * nothing failed yet. Valid until the next failing call in this thread. A call that succeeds leaves it as it is. */
KIN_API const char *kin_last_error(void);

/* The code of that failure; KIN_OK if nothing failed yet. For the few functions that answer with a value. */
KIN_API kin_err kin_last_code(void);

/* Time-outs are in milliseconds of the monotonic clock: setting the wall clock changes nothing. */
#define KIN_FOREVER ((int64_t)-1)
#define KIN_NOWAIT ((int64_t)0)

/* Frees memory that a function of kin gave ("..._new"). NULL does nothing. */
KIN_API void kin_free(void *memory);

/* The version of the library that is linked, as "0.1.0"; KIN_VERSION_* is that of the headers. */
KIN_API const char *kin_version(void);

/* How many CPUs this process may use: the affinity mask and, on Linux, the cgroup's CPU quota (rounded up). At least 1. */
KIN_API int kin_cpu_count(void);

/* Milliseconds of the monotonic clock, from an arbitrary start. */
KIN_API int64_t kin_now(void);

KIN_END

#endif
