/* A lock: mutual exclusion between threads of any processes, that survives the death of its owner. Taking and
 * releasing it when nobody waits are one atomic operation each and no system call, on every system.
 *
 * Death     who dies                          what the others see
 *           the owner, holding it             the next to acquire it gets KIN_EOWNERDEAD, and holds it; so does the next heir if
 *                                             that one dies too
 *           a thread that ends while holding  the same
 *           the owner while releasing         either it was released, or KIN_EOWNERDEAD: never a lost lock
 *           a waiter, before it has it        nothing, also if it was the one just woken
 *           a waiter, as it gets it           KIN_EOWNERDEAD, as for any owner
 *
 * Deadlock  A cycle of up to 512 threads, of any processes, each waiting for a lock (kin_lock, kin_rlock, kin_rwlock held by a writer) that the
 *           next one holds, is found when it closes, also if some wait with a time-out. Exactly one of them gets KIN_EDEADLK; its
 *           kin_last_error() names every process, thread and lock of the cycle. The others wait on, for what that one should release now.
 */
#ifndef KIN_LOCK_H
#define KIN_LOCK_H

#include "object.h"

KIN_BEGIN

/* 64 bytes. Aligned to 8; give it a cache line of its own if it is contended. */
struct kin_lock {
    kin__object kin__o;
};

typedef struct kin_lock_options {
    const char *name; /* for messages; copied, the first 39 bytes */
} kin_lock_options;

/* Creates a lock in a segment of its own, free. NULL options: no name. kin_lock_close gives it back.
 * KIN_ENOMEM, KIN_EMFILE, KIN_ESTATE (before kin_init). */
KIN_API kin_err kin_lock_create(kin_lock **lock, const kin_lock_options *options);

/* Makes the struct at `lock` a free lock: in a kin_segment or kin_array, before others use it. Nothing to undo: it goes
 * with its memory. KIN_EINVAL for NULL or an address not aligned to 8. */
KIN_API kin_err kin_lock_init(kin_lock *lock, const kin_lock_options *options);

/* Takes the lock, waiting up to `timeout_ms`.
 *
 * KIN_OK          the calling thread holds it
 * KIN_EOWNERDEAD  the calling thread holds it; the last owner died with it, so look at what it protects
 * KIN_ETIMEDOUT   not free in time
 * KIN_EDEADLK     waiting would never end: the calling thread holds it already, or is in a cycle (see above). It does not hold it
 *                 by this call; to go on, release what others of the cycle wait for
 * KIN_EINVAL      no lock, closed, or a negative time-out other than KIN_FOREVER */
KIN_API kin_err kin_lock_acquire(kin_lock *lock, int64_t timeout_ms);

/* Releases it; wakes the longest waiting. KIN_EPERM, and nothing changes, if the calling thread does not hold it. */
KIN_API kin_err kin_lock_release(kin_lock *lock);

/* Whether the calling thread holds it. */
KIN_API bool kin_lock_held(const kin_lock *lock);

/* Gives back the reference that kin_lock_create or kin_unpack gave. A lock that is still held stays so for the others,
 * until this process ends. NULL does nothing. */
KIN_API void kin_lock_close(kin_lock *lock);

KIN_END

#endif
