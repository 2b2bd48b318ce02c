/* A reader-writer lock: many readers or one writer. A writer that waits goes before readers that come later (but
 * for one that comes in the very moment of a release).
 *
 * Death     who dies                          what the others see
 *           a reader                          nothing: it changed nothing
 *           a writer, holding it              whoever gets it next, for writing or reading, gets KIN_EOWNERDEAD and holds it; with readers this
 *                                             goes on until a writer has had it, since only a writer can repair what it protects
 *           a writer, waiting                 nothing
 *           who is releasing                  it was released, or as above
 *           a thread that ends while holding  as if its process had died
 *
 * Waiting for a writer takes part in the search for deadlocks (see kin/lock.h), waiting for readers does not, except
 * for oneself.
 */
#ifndef KIN_RWLOCK_H
#define KIN_RWLOCK_H

#include "object.h"

KIN_BEGIN

#define KIN_RWLOCK_READERS 56 /* at once; more wait for their turn */

/* 512 bytes, aligned to 8; best to 64. */
struct kin_rwlock {
    kin__object kin__o;
    uint64_t kin__readers[KIN_RWLOCK_READERS];
};

typedef struct kin_rwlock_options {
    const char *name; /* for messages; copied, the first 39 bytes */
} kin_rwlock_options;

/* As kin_lock_create, kin_lock_init and kin_lock_close. */
KIN_API kin_err kin_rwlock_create(kin_rwlock **lock, const kin_rwlock_options *options);
KIN_API kin_err kin_rwlock_init(kin_rwlock *lock, const kin_rwlock_options *options);
KIN_API void kin_rwlock_close(kin_rwlock *lock);

/* Takes it for reading, waiting up to `timeout_ms`. A thread that reads already may take it once more, also if a
 * writer waits.
 *
 * KIN_OK          held
 * KIN_EOWNERDEAD  held; a writer died with it and no writer has had it since: what is read may be half written
 * KIN_ETIMEDOUT   not in time
 * KIN_EDEADLK     the calling thread holds it for writing, or a cycle was found
 * KIN_EINVAL      as kin_lock_acquire */
KIN_API kin_err kin_rwlock_acquire_read(kin_rwlock *lock, int64_t timeout_ms);

/* Takes it for writing. KIN_OK, KIN_EOWNERDEAD (held; a writer died with it), KIN_ETIMEDOUT, KIN_EINVAL;
 * KIN_EDEADLK: the calling thread holds it already, for reading or for writing, or a cycle was found. */
KIN_API kin_err kin_rwlock_acquire_write(kin_rwlock *lock, int64_t timeout_ms);

/* Releases what the calling thread holds: for writing, or once for reading. KIN_EPERM, and nothing changes, if it
 * holds neither. */
KIN_API kin_err kin_rwlock_release(kin_rwlock *lock);

/* Whether the calling thread holds it for reading, for writing. */
KIN_API bool kin_rwlock_reading(const kin_rwlock *lock);
KIN_API bool kin_rwlock_writing(const kin_rwlock *lock);

KIN_END

#endif
