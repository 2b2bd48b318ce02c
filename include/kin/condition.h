/* A condition: waiting, under a lock, for others to change what the lock protects. The lock is a kin_lock or a
 * kin_rlock of your choice, given with each call; all who use one condition at the same time must use it with the
 * same lock.
 *
 *     kin_lock_acquire(&s->lock, KIN_FOREVER);
 *     while (s->count == 0)
 *         kin_condition_wait(&s->more, &s->lock, KIN_FOREVER);
 *     s->count--;
 *     kin_lock_release(&s->lock);
 *
 * Death     who dies                          what the others see
 *           a waiter, at any moment           nothing: a notification that went to it is not lost, since after a death all waiters
 *                                             are woken to look again. Who notifies never waits for a waiter
 *           a waiter, as it gets the lock     the next to acquire the lock gets KIN_EOWNERDEAD
 *           who is notifying                  the same; and those it did not come to notify are woken all the same
 *
 * So, as with POSIX's, a wait may end without a notification: look again, or use kin_condition_wait_for.
 */
#ifndef KIN_CONDITION_H
#define KIN_CONDITION_H

#include "lock.h"
#include "rlock.h"

KIN_BEGIN

/* 64 bytes, aligned to 8. */
struct kin_condition {
    kin__object kin__o;
};

typedef struct kin_condition_options {
    const char *name; /* for messages; copied, the first 39 bytes */
} kin_condition_options;

/* As kin_lock_create, kin_lock_init and kin_lock_close. */
KIN_API kin_err kin_condition_create(kin_condition **condition, const kin_condition_options *options);
KIN_API kin_err kin_condition_init(kin_condition *condition, const kin_condition_options *options);
KIN_API void kin_condition_close(kin_condition *condition);

/* kin_condition_wait(condition, lock, timeout_ms)   lock: kin_lock * or kin_rlock *, held by the calling thread
 *
 * Releases the lock (a kin_rlock entirely, however often it is held), waits up to `timeout_ms` for a notification,
 * and takes the lock again, for which it waits as long as it takes; a kin_rlock is then held as often as before.
 * Nobody who notifies after the lock was released can be missed.
 *
 * KIN_OK          notified, or woken for nothing; the lock is held
 * KIN_ETIMEDOUT   not notified in time; the lock is held
 * KIN_EOWNERDEAD  as KIN_OK or KIN_ETIMEDOUT, but the lock's last owner died with it; the lock is held
 * KIN_EPERM       the calling thread does not hold the lock; nothing changed
 * KIN_EINVAL      wrong arguments, or others are waiting with another lock; nothing changed
 * KIN_EDEADLK     taking the lock again would never end, and no other thread of the cycle could be told so: the lock is NOT held */
#define kin_condition_wait(condition, lock, timeout_ms) kin__condition_wait((condition), KIN__MUTEX(lock), (timeout_ms))

/* kin_condition_wait_for(condition, lock, ready, arg, timeout_ms)
 *
 * Waits until ready(arg), which is called with the lock held. Answers as kin_condition_wait; KIN_OK means that it is
 * ready. After KIN_EOWNERDEAD the caller must look for itself. */
#define kin_condition_wait_for(condition, lock, ready, arg, timeout_ms)                                                \
    kin__condition_wait_for((condition), KIN__MUTEX(lock), (ready), (arg), (timeout_ms))

/* kin_condition_notify(condition, lock, n), kin_condition_notify_all(condition, lock)
 *
 * Wakes the n (n >= 1) that wait longest, or all. They go on when the lock is released. KIN_EPERM: the calling
 * thread does not hold the lock. KIN_EINVAL: wrong arguments, or others are waiting with another lock. */
#define kin_condition_notify(condition, lock, n) kin__condition_notify((condition), KIN__MUTEX(lock), (n))
#define kin_condition_notify_all(condition, lock) kin__condition_notify((condition), KIN__MUTEX(lock), KIN__ALL)

/* ---- below: how the macros do it ---- */

#define KIN__ALL INT64_MAX
KIN_API kin_err kin__condition_wait(kin_condition *condition, kin__object *lock, int64_t timeout_ms);
KIN_API kin_err kin__condition_wait_for(kin_condition *condition, kin__object *lock, bool (*ready)(void *arg), void *arg,
                                        int64_t timeout_ms);
KIN_API kin_err kin__condition_notify(kin_condition *condition, kin__object *lock, int64_t n);
static inline kin__object *kin__lock_object(kin_lock *lock) { return lock != NULL ? &lock->kin__o : NULL; }
static inline kin__object *kin__rlock_object(kin_rlock *lock) { return lock != NULL ? &lock->kin__o : NULL; }

KIN_END

#ifndef __cplusplus
#define KIN__MUTEX(lock) _Generic((lock), kin_lock *: kin__lock_object, kin_rlock *: kin__rlock_object)(lock)
#else
static inline kin__object *kin__mutex(kin_lock *lock) { return kin__lock_object(lock); }
static inline kin__object *kin__mutex(kin_rlock *lock) { return kin__rlock_object(lock); }
#define KIN__MUTEX(lock) kin__mutex(lock)
#endif

#endif
