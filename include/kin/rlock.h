/* A recursive lock: its owner may take it again, and releases it as often as it took it (Python's RLock; POSIX's
 * recursive mutex). The owner is a thread. Deaths and deadlocks as with kin_lock; an heir holds it once, however
 * deep the dead owner was.
 */
#ifndef KIN_RLOCK_H
#define KIN_RLOCK_H

#include "object.h"

KIN_BEGIN

/* 64 bytes, aligned to 8. */
struct kin_rlock {
    kin__object kin__o;
};

typedef struct kin_rlock_options {
    const char *name; /* for messages; copied, the first 39 bytes */
} kin_rlock_options;

/* As kin_lock_create, kin_lock_init and kin_lock_close. */
KIN_API kin_err kin_rlock_create(kin_rlock **lock, const kin_rlock_options *options);
KIN_API kin_err kin_rlock_init(kin_rlock *lock, const kin_rlock_options *options);
KIN_API void kin_rlock_close(kin_rlock *lock);

/* Takes the lock once more, or waits for it up to `timeout_ms`. Answers as kin_lock_acquire; never KIN_EDEADLK for
 * an own lock. KIN_ERANGE: held 2^32 - 1 times. */
KIN_API kin_err kin_rlock_acquire(kin_rlock *lock, int64_t timeout_ms);

/* Undoes one acquire; the last one releases it. KIN_EPERM, and nothing changes, if the calling thread does not hold it. */
KIN_API kin_err kin_rlock_release(kin_rlock *lock);

/* How many times the calling thread holds it; 0 if it does not. */
KIN_API uint32_t kin_rlock_count(const kin_rlock *lock);

KIN_END

#endif
