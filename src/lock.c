/* The lock: one word in shared memory that holds the owner and, in its lowest bit, whether somebody sleeps.
 *
 * States of the word: 0 (free), owner, owner|WAIT. Only these steps change it: 0 -> me (acquire), owner ->
 * owner|WAIT (before a sleep), dead -> me|WAIT (take over), me -> 0 (release). A release that finds WAIT wakes one
 * sleeper; that one sets WAIT again if others sleep on. The owner is a thread, named with its generation, so a word
 * can always be told dead from alive; a takeover is a CAS that names the dead, so of several heirs one wins, and if
 * that one dies the next does the same again. No repair is needed: the word is all there is. */
#include "lock.h"

#include "deadlock.h"
#include "error.h"
#include "fault.h"

OS_THREAD_LOCAL uint64_t kin__heir_of;

/* What a sleeper looks at: still held by the same living owner, and everybody knows that somebody sleeps. */
typedef struct sleep_on {
    uint64_t *word, owner;
} sleep_on;

static bool still_held(void *object)
{
    sleep_on *s = object;
    uint64_t word = kin__load64(s->word);
    if ((word & ~KIN__WAIT) != s->owner || !kin__owner_alive(s->owner))
        return false;
    return (word & KIN__WAIT) != 0 || kin__cas64(s->word, &word, word | KIN__WAIT);
}

static kin_err taken_over(const kin__object *o, kin_type kind, uint64_t from)
{
    char who[192];
    kin__heir_of = from;
    kin__describe_thread(from, who, sizeof who);
    return kin__fail(KIN_EOWNERDEAD, "%s '%s': its owner, %s, died with it; it is held now by this thread", kin__object_kind(kind),
                     kin__object_name(o), who);
}

kin_err kin__lock_acquire_slow(kin__object *o, kin_type kind, uint64_t me, int64_t timeout_ms, bool stays)
{
    uint64_t deadline = kin__deadline(timeout_ms), since = 0;
    kin__spin spin = {.apart = KIN__APART};
    bool spinning = timeout_ms != KIN_NOWAIT, slept = false;
    kin_err end = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK; /* how it ends if the next look finds no free lock */
    for (;;) {
        uint64_t word = kin__load64(&o->word);
        uint64_t owner = word & ~KIN__WAIT;
        if (word == 0) {
            /* One who slept speaks for those who still do: they must be woken by our release. */
            uint64_t wait = slept && kin__anybody_sleeps_on(o->id) ? KIN__WAIT : 0;
            if (!kin__cas64(&o->word, &word, me | wait))
                continue;
            kin__hold(o->id);
            KIN_CRASH_POINT("lock.acquired.slowly");
            return KIN_OK;
        }
        if (owner == me)
            return kin__fail(KIN_EDEADLK, "%s '%s': this thread holds it already", kin__object_kind(kind), kin__object_name(o));
        if (!kin__owner_alive(owner)) {
            if (!kin__cas64(&o->word, &word, me | KIN__WAIT))
                continue;
            kin__hold(o->id);
            KIN_CRASH_POINT("lock.taken.over");
            return taken_over(o, kind, owner);
        }
        if (end == KIN_ETIMEDOUT)
            return kin__timed_out(o, kind, "not free", timeout_ms);
        if (end != KIN_OK)
            return end;
        if (spinning) {
            spinning = kin__spin_more(&spin);
            continue;
        }
        sleep_on object = {&o->word, owner};
        if (since == 0)
            since = kin__now_ns();
        end = kin__park_on(&(kin__wait){.key = o->id, .must_sleep = still_held, .object = &object, .deadline = deadline, .lock = o->id,
                                        .holder = owner, .since = since, .kind = (uint32_t)kind, .name = o->name, .stays = stays});
        slept = true;
    }
}

kin_err kin__lock_release_slow(uint64_t id, bool wake)
{
    KIN_CRASH_POINT("lock.released");
    if (wake)
        kin__wake_those_on(id, 1);
    else
        kin__edges_drop(id);
    return KIN_OK;
}

kin_err kin_lock_init(kin_lock *lock, const kin_lock_options *options)
{
    kin_err err = kin__object_begin(lock, KIN_TYPE_LOCK, options != NULL ? options->name : NULL);
    if (err == KIN_OK)
        kin__object_ready(lock, KIN_TYPE_LOCK);
    return err;
}

kin_err kin_lock_create(kin_lock **lock, const kin_lock_options *options)
{
    void *p;
    kin_err err = kin__object_create(lock != NULL ? &p : NULL, KIN_TYPE_LOCK);
    if (err != KIN_OK)
        return err;
    *lock = p;
    return kin_lock_init(*lock, options);
}

void kin_lock_close(kin_lock *lock)
{
    kin__object_close(lock, KIN_TYPE_LOCK);
}

/* All but the common case; apart from it, so that the common one needs no room for it. */
static KIN__NOINLINE kin_err acquire_any(kin_lock *lock, int64_t timeout_ms)
{
    if (!kin__is_object(lock, KIN_TYPE_LOCK))
        return kin__no_object(lock, KIN_TYPE_LOCK);
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&lock->kin__o, KIN_TYPE_LOCK, timeout_ms);
    uint64_t me = kin__thread_me();
    if (me == 0)
        return kin_last_code();
    kin_err err = kin__lock_acquire(&lock->kin__o, KIN_TYPE_LOCK, me, timeout_ms);
    KIN_CRASH_POINT("lock.acquired");
    return err;
}

kin_err kin_lock_acquire(kin_lock *lock, int64_t timeout_ms)
{
    uint64_t free_word = 0, me = kin__me;
    if (!kin__is_object(lock, KIN_TYPE_LOCK) || timeout_ms < KIN_FOREVER || me == 0 || !kin__cas64(&lock->kin__o.word, &free_word, me))
        return acquire_any(lock, timeout_ms);
    KIN_CRASH_POINT("lock.acquired");
    kin__hold(lock->kin__o.id);
    return KIN_OK;
}

static KIN__NOINLINE kin_err release_any(kin_lock *lock)
{
    if (!kin__is_object(lock, KIN_TYPE_LOCK))
        return kin__no_object(lock, KIN_TYPE_LOCK);
    if (!kin__lock_held(&lock->kin__o))
        return kin__fail(KIN_EPERM, "lock '%s': this thread does not hold it", kin__object_name(&lock->kin__o));
    return kin__lock_release(&lock->kin__o);
}

kin_err kin_lock_release(kin_lock *lock)
{
    kin__holds *held = &kin__held;
    uint32_t n = held->count;
    if (!kin__is_object(lock, KIN_TYPE_LOCK) || (kin__load64_relaxed(&lock->kin__o.word) & ~KIN__WAIT) != held->me || n == 0 ||
        held->ids[n - 1] != lock->kin__o.id || held->pointed != 0)
        return release_any(lock);
    uint64_t id = lock->kin__o.id; /* once released, the next owner may give the memory up */
    held->count = n - 1;
    KIN_CRASH_POINT("lock.releasing");
    return (kin__exchange64(&lock->kin__o.word, 0) & KIN__WAIT) == 0 ? KIN_OK : kin__lock_release_slow(id, true);
}

bool kin_lock_held(const kin_lock *lock)
{
    return kin__is_object(lock, KIN_TYPE_LOCK) && kin__lock_held(&lock->kin__o);
}
