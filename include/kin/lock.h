/* A lock: mutual exclusion between processes and threads that survives the death of its owner.
 *
 * It is a plain struct that may live in shared memory of yours (kin_lock_init) or in a segment of its own
 * (kin_lock_create), and is used in the same way in both. Taking and releasing it when nobody waits are one atomic
 * operation each and no system call, on every system.
 *
 * Death     who dies                          what the others see
 *           the owner, holding it             the next to acquire it gets KIN_EOWNERDEAD, and holds it
 *           a thread that ends while holding  the same
 *           a waiter                          nothing
 *           the owner while releasing         either it was released, or KIN_EOWNERDEAD: never a lost lock
 * A process that is only stopped keeps what it holds.
 */
#ifndef KIN_LOCK_H
#define KIN_LOCK_H

#include "any.h"

KIN_BEGIN

/* 64 bytes; treat what is inside as kin's. Aligned to 8; give it a cache line of its own if it is contended. */
struct kin_lock {
    uint64_t kin__word; /* owner and wait bit, in one */
    uint64_t kin__id;
    uint32_t kin__magic;
    uint32_t kin__reserved;
    char kin__name[40];
};

typedef struct kin_lock_options {
    const char *name; /* for messages; up to 39 bytes are kept */
} kin_lock_options;

/* Creates a lock in a segment of its own, free. NULL options: no name.
 * KIN_ENOMEM, KIN_EMFILE, KIN_ESTATE (before kin_init). */
KIN_API kin_err kin_lock_create(kin_lock **lock, const kin_lock_options *options);

/* Makes the struct at `lock` a free lock: in a kin_segment or kin_array, before others use it. Nothing to undo: it goes
 * with its memory. KIN_EINVAL for NULL or an address not aligned to 8. */
KIN_API kin_err kin_lock_init(kin_lock *lock, const kin_lock_options *options);

/* Takes the lock, waiting up to `timeout_ms` (KIN_FOREVER, KIN_NOWAIT).
 *
 * KIN_OK          the calling thread holds it
 * KIN_EOWNERDEAD  the calling thread holds it; the last owner died with it, so look at what it protects
 * KIN_ETIMEDOUT   not free in time
 * KIN_EDEADLK     the calling thread holds it already
 * KIN_EINVAL      no lock, closed, or a negative time-out other than KIN_FOREVER */
KIN_API kin_err kin_lock_acquire(kin_lock *lock, int64_t timeout_ms);

/* Releases it; wakes one waiter. KIN_EPERM, and nothing changes, if the calling thread does not hold it. */
KIN_API kin_err kin_lock_release(kin_lock *lock);

/* Whether the calling thread holds it. */
KIN_API bool kin_lock_held(const kin_lock *lock);

/* Gives back the reference that kin_lock_create or kin_unpack gave. A lock that is still held stays so for the others,
 * until this process ends. NULL does nothing. */
KIN_API void kin_lock_close(kin_lock *lock);

KIN_END

#endif
