/* The condition: no queue and no count of its own, the thread table is its queue.
 *
 * A waiter shows its sleep in the table and then releases the lock; whoever notifies holds the lock, so it sees
 * every waiter before it. It marks the sleeps of the n oldest as woken, each in one step, and wakes them; it waits
 * for nobody. A wake belongs to that sleep of that thread, so nobody who comes later can steal it, and a time-out
 * that comes at the same moment finds itself notified. A wake that went to one who dies is made good by the wake
 * that follows every death.
 *
 * The word is the id of the lock that is used with it while anybody may be waiting, else 0: it says whether to look
 * into the table at all. It changes only under that lock. */
#include "kin/condition.h"

#include "error.h"
#include "fault.h"
#include "lock.h"

kin_err kin_condition_init(kin_condition *condition, const kin_condition_options *options)
{
    kin_err err = kin__object_begin(condition, KIN_TYPE_CONDITION, options != NULL ? options->name : NULL);
    if (err == KIN_OK)
        kin__object_ready(condition, KIN_TYPE_CONDITION);
    return err;
}

kin_err kin_condition_create(kin_condition **condition, const kin_condition_options *options)
{
    void *p;
    kin_err err = kin__object_create(condition != NULL ? &p : NULL, KIN_TYPE_CONDITION);
    if (err != KIN_OK)
        return err;
    *condition = p;
    return kin_condition_init(*condition, options);
}

void kin_condition_close(kin_condition *condition)
{
    kin__object_close(condition, KIN_TYPE_CONDITION);
}

/* The condition and the lock are what they should be, and the lock is the caller's. */
static kin_err check(const kin_condition *condition, const kin__object *lock, kin_type *kind)
{
    if (!kin__is_object(condition, KIN_TYPE_CONDITION))
        return kin__no_object(condition, KIN_TYPE_CONDITION);
    const kin__object *o = &condition->kin__o;
    if (kin__is_object(lock, KIN_TYPE_LOCK))
        *kind = KIN_TYPE_LOCK;
    else if (kin__is_object(lock, KIN_TYPE_RLOCK))
        *kind = KIN_TYPE_RLOCK;
    else
        return kin__fail(KIN_EINVAL, "condition '%s': %s", kin__object_name(o), lock == NULL ? "the lock is NULL" : "not a lock, or it was closed");
    if (!kin__lock_held(lock))
        return kin__fail(KIN_EPERM, "condition '%s': this thread does not hold the %s '%s'", kin__object_name(o), kin__object_kind(*kind),
                         kin__object_name(lock));
    return KIN_OK;
}

/* Whether it is used with another lock now. */
static kin_err check_word(const kin__object *o, const kin__object *lock)
{
    uint64_t word = kin__load64(&o->word);
    if (word == 0 || word == lock->id || !kin__anybody_sleeps_on(o->id))
        return KIN_OK;
    return kin__fail(KIN_EINVAL, "condition '%s': others wait on it with another lock than '%s'", kin__object_name(o), kin__object_name(lock));
}

static bool release_then_sleep(void *lock)
{
    kin__lock_release(lock);
    KIN_CRASH_POINT("condition.released");
    return true;
}

kin_err kin__condition_wait(kin_condition *condition, kin__object *lock, int64_t timeout_ms)
{
    kin_type kind;
    kin_err err = check(condition, lock, &kind);
    if (err != KIN_OK)
        return err;
    kin__object *o = &condition->kin__o;
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(o, KIN_TYPE_CONDITION, timeout_ms);
    err = check_word(o, lock);
    if (err != KIN_OK)
        return err;
    uint32_t count = lock->number;
    kin__store64(&o->word, lock->id);
    err = kin__park_on(&(kin__wait){.key = o->id, .must_sleep = release_then_sleep, .object = lock, .deadline = kin__deadline(timeout_ms),
                                    .kind = KIN_TYPE_CONDITION, .name = o->name, .directed = true, .spins = timeout_ms != KIN_NOWAIT});
    KIN_CRASH_POINT("condition.woken");
    kin_err again = kin__lock_acquire_slow(lock, kind, kin__me, KIN_FOREVER, true);
    if (again != KIN_OK && again != KIN_EOWNERDEAD)
        return kin__fail_in(again, "condition '%s': the lock is not held any more", kin__object_name(o));
    if (kind == KIN_TYPE_RLOCK)
        lock->number = count;
    KIN_CRASH_POINT("condition.relocked");
    if (again != KIN_OK)
        return again;
    return err == KIN_OK ? KIN_OK : kin__timed_out(o, KIN_TYPE_CONDITION, "not notified", timeout_ms);
}

kin_err kin__condition_wait_for(kin_condition *condition, kin__object *lock, bool (*ready)(void *arg), void *arg, int64_t timeout_ms)
{
    kin_type kind;
    kin_err err = check(condition, lock, &kind);
    if (err != KIN_OK)
        return err;
    if (ready == NULL)
        return kin__fail(KIN_EINVAL, "condition '%s': no function to say whether it is ready", kin__object_name(&condition->kin__o));
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&condition->kin__o, KIN_TYPE_CONDITION, timeout_ms);
    uint64_t deadline = kin__deadline(timeout_ms);
    int64_t left = timeout_ms;
    while (!ready(arg)) {
        if (deadline != KIN__NEVER) {
            uint64_t now = kin__now_ns();
            left = now < deadline ? (int64_t)((deadline - now + 999999) / 1000000) : KIN_NOWAIT;
        }
        err = kin__condition_wait(condition, lock, left);
        if (err == KIN_ETIMEDOUT)
            return ready(arg) ? KIN_OK : kin__timed_out(&condition->kin__o, KIN_TYPE_CONDITION, "not ready", timeout_ms);
        if (err != KIN_OK)
            return err;
    }
    return KIN_OK;
}

kin_err kin__condition_notify(kin_condition *condition, kin__object *lock, int64_t n)
{
    kin_type kind;
    kin_err err = check(condition, lock, &kind);
    if (err != KIN_OK)
        return err;
    kin__object *o = &condition->kin__o;
    if (n < 1)
        return kin__fail(KIN_EINVAL, "condition '%s': notify %lld", kin__object_name(o), (long long)n);
    if (kin__load64(&o->word) == 0)
        return KIN_OK;
    err = check_word(o, lock);
    if (err != KIN_OK)
        return err;
    uint32_t most = n < KIN__EVERYONE ? (uint32_t)n : KIN__EVERYONE;
    uint32_t woken = kin__wake_those_on(o->id, most);
    KIN_CRASH_POINT("condition.notified");
    if (woken < most)
        kin__store64(&o->word, 0); /* nobody is left, and nobody can come while we hold the lock */
    return KIN_OK;
}
