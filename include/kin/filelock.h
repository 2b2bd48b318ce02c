/* A file lock: mutual exclusion between unrelated programs that agree on a path. Underneath is the system's own lock on the whole file
 * (flock on Linux, LockFileEx on Windows), so it is released by the system when its owner dies, however it dies, and other programs can take part:
 * the flock command, Python's fcntl.flock, anything that uses LockFileEx.
 *
 * Within one process a kin_filelock excludes threads from each other as kin_lock does, and has an owner: the thread. It is not passed to a
 * child; pass the path and open it there.
 *
 * Death     who dies                          what the others see
 *           the owner's process               the lock is free; the system does not tell whether it was released
 *           the owner's thread alone          the next thread of that process gets KIN_EOWNERDEAD and holds it; other programs see it
 *                                             held until then
 *           a waiter                          nothing
 */
#ifndef KIN_FILELOCK_H
#define KIN_FILELOCK_H

#include "base.h"

KIN_BEGIN

typedef struct kin_filelock kin_filelock;

/* Prepares a lock on the file `path` (UTF-8, copied), which is created empty when it is first locked if it does not exist, and never written to or
 * removed. Opens nothing yet. KIN_EINVAL: NULL or empty; KIN_ENOMEM; KIN_ESTATE (before kin_init). */
KIN_API kin_err kin_filelock_open(kin_filelock **lock, const char *path);

/* Takes it, waiting up to `timeout_ms`. If the file was removed or replaced meanwhile, the one that is there now is locked.
 *
 * KIN_OK, KIN_EOWNERDEAD (held), KIN_ETIMEDOUT
 * KIN_EDEADLK   the calling thread holds it already
 * KIN_ENOENT, KIN_EPERM, KIN_EMFILE, KIN_EIO   the file cannot be opened or locked; the sentence names it
 * KIN_EINVAL    no lock, closed, or a wrong time-out */
KIN_API kin_err kin_filelock_acquire(kin_filelock *lock, int64_t timeout_ms);

/* Releases it. KIN_EPERM, and nothing changes, if the calling thread does not hold it. */
KIN_API kin_err kin_filelock_release(kin_filelock *lock);

/* Whether the calling thread holds it. */
KIN_API bool kin_filelock_held(const kin_filelock *lock);

/* Frees it; released if it is held. No other thread may be using it. NULL does nothing. */
KIN_API void kin_filelock_close(kin_filelock *lock);

KIN_END

#endif
