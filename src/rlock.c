/* The recursive lock: the lock's word, and a count that only the owner reads and writes. A dead owner's count means
 * nothing to its heir, so there is nothing to repair. */
#include "kin/rlock.h"

#include "error.h"
#include "fault.h"
#include "lock.h"

kin_err kin_rlock_init(kin_rlock *lock, const kin_rlock_options *options)
{
    kin_err err = kin__object_begin(lock, KIN_TYPE_RLOCK, options != NULL ? options->name : NULL);
    if (err == KIN_OK)
        kin__object_ready(lock, KIN_TYPE_RLOCK);
    return err;
}

kin_err kin_rlock_create(kin_rlock **lock, const kin_rlock_options *options)
{
    void *p;
    kin_err err = kin__object_create(lock != NULL ? &p : NULL, KIN_TYPE_RLOCK);
    if (err != KIN_OK)
        return err;
    *lock = p;
    return kin_rlock_init(*lock, options);
}

void kin_rlock_close(kin_rlock *lock)
{
    kin__object_close(lock, KIN_TYPE_RLOCK);
}

kin_err kin_rlock_acquire(kin_rlock *lock, int64_t timeout_ms)
{
    if (!kin__is_object(lock, KIN_TYPE_RLOCK))
        return kin__no_object(lock, KIN_TYPE_RLOCK);
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&lock->kin__o, KIN_TYPE_RLOCK, timeout_ms);
    uint64_t me = kin__thread_me();
    if (me == 0)
        return kin_last_code();
    if (kin__lock_held(&lock->kin__o)) {
        if (lock->kin__o.number == UINT32_MAX)
            return kin__fail(KIN_ERANGE, "rlock '%s': held %lu times", kin__object_name(&lock->kin__o), (unsigned long)UINT32_MAX);
        lock->kin__o.number++;
        return KIN_OK;
    }
    kin_err err = kin__lock_acquire(&lock->kin__o, KIN_TYPE_RLOCK, me, timeout_ms);
    if (err == KIN_OK || err == KIN_EOWNERDEAD) {
        KIN_CRASH_POINT("rlock.acquired");
        lock->kin__o.number = 1;
    }
    return err;
}

kin_err kin_rlock_release(kin_rlock *lock)
{
    if (!kin__is_object(lock, KIN_TYPE_RLOCK))
        return kin__no_object(lock, KIN_TYPE_RLOCK);
    if (!kin__lock_held(&lock->kin__o))
        return kin__fail(KIN_EPERM, "rlock '%s': this thread does not hold it", kin__object_name(&lock->kin__o));
    if (--lock->kin__o.number == 0) {
        KIN_CRASH_POINT("rlock.releasing");
        kin__lock_release(&lock->kin__o);
    }
    return KIN_OK;
}

uint32_t kin_rlock_count(const kin_rlock *lock)
{
    return kin__is_object(lock, KIN_TYPE_RLOCK) && kin__lock_held(&lock->kin__o) ? lock->kin__o.number : 0;
}
