/* A file lock: mutual exclusion between unrelated programs that agree on a path. Underneath is the system's own lock
 * on the whole file (flock on Linux, LockFileEx on Windows), so it is released by the system when its owner dies,
 * however it dies, and other programs can take part: the flock command, Python's fcntl.flock, anything that uses
 * LockFileEx.
 *
 * Within one process a kin_filelock excludes threads from each other as kin_lock does, and has an owner: the thread.
 * It is not passed to a child; pass the path and open it there. Who waits with a time-out looks again every few
 * milliseconds (20 at most), as the system cannot.
 *
 * Who removes or replaces the file while somebody holds it gives the others another file to lock: then two hold
 * "the" lock, each of another file. On Windows nobody else can read or write the file while it is held.
 *
 * Death     who dies                          what the others see
 *           the owner's process               the lock is free; the system does not tell whether it was released. A copy of the process
 *                                             that the program made by a plain fork() while it held the lock keeps it until it ends too
 *           the owner's thread alone          the next thread of that process to use the same kin_filelock gets KIN_EOWNERDEAD and holds it;
 *                                             everybody else sees it held until then
 *           a waiter                          nothing
 */
#ifndef KIN_FILELOCK_H
#define KIN_FILELOCK_H

#include "base.h"

KIN_BEGIN

typedef struct kin_filelock kin_filelock;

/* Prepares a lock on the file `path` (UTF-8, copied), which is created empty when it is first locked if it does not
 * exist, and never written to or removed. Opens nothing yet: a relative path means what it means when the lock is
 * acquired. To read the file is enough to lock it. KIN_EINVAL: NULL or empty; KIN_ENOMEM; KIN_ESTATE (before
 * kin_init). */
KIN_API kin_err kin_filelock_open(kin_filelock **lock, const char *path);

/* Takes it, waiting up to `timeout_ms`. If the file was removed or replaced meanwhile, the one that is there now is
 * locked.
 *
 * KIN_OK, KIN_EOWNERDEAD (held), KIN_ETIMEDOUT
 * KIN_EDEADLK   waiting would never end: the calling thread holds it already, or waits within this process for a lock that waits for it. Between
 *               processes this is not found, as the system does not tell who holds a file
 * KIN_ENOENT    the folder does not exist
 * KIN_EPERM, KIN_EMFILE, KIN_ENOMEM, KIN_EIO   the file cannot be opened or locked, or is none (a folder, a FIFO); the sentence names it
 * KIN_EINVAL    no lock, or a wrong time-out    KIN_EAGAIN  too many threads    KIN_ESTATE  in a copy made by a plain fork() */
KIN_API kin_err kin_filelock_acquire(kin_filelock *lock, int64_t timeout_ms);

/* Releases it. KIN_EPERM, and nothing changes, if the calling thread does not hold it. KIN_EINVAL, KIN_ESTATE: as
 * above. */
KIN_API kin_err kin_filelock_release(kin_filelock *lock);

/* Whether the calling thread holds it. */
KIN_API bool kin_filelock_held(const kin_filelock *lock);

/* Frees it; released if it is held. No other thread may be using it, and none may use it afterwards: its memory is
 * gone, so that this is not always noticed. NULL does nothing. */
KIN_API void kin_filelock_close(kin_filelock *lock);

KIN_END

#endif
