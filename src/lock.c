/* The lock: one word in shared memory that holds the owner and, in its lowest bit, whether somebody sleeps.
 *
 * States of the word: 0 (free), owner, owner|WAIT. Only these steps change it: 0 -> me (acquire), owner -> owner|WAIT (before a sleep),
 * dead -> me|WAIT (take over), me -> 0 (release). A release that finds WAIT wakes one sleeper; that one sets WAIT again if others sleep on.
 * The owner is a thread, named with its generation, so a word can always be told dead from alive; a takeover is a CAS that names the dead,
 * so of several heirs one wins, and if that one dies the next does the same again. No repair is needed: the word is all there is. */
#include "lock.h"

#include "error.h"
#include "fault.h"
#include "park.h"
#include "segment.h"

#include <string.h>

#define LOCK_MAGIC 0x6b696e6cu /* "kinl" */
#define WAIT ((uint64_t)1)

_Static_assert(sizeof(kin_lock) == 64, "layout in shared memory");

bool kin__is_lock(const void *p)
{
    const kin_lock *lock = p;
    return lock != NULL && ((uintptr_t)lock & 7) == 0 && lock->kin__o.magic == LOCK_MAGIC;
}

static kin_err not_a_lock(const kin_lock *lock)
{
    return kin__fail(KIN_EINVAL, lock == NULL ? "the lock is NULL" : "not a lock, or it was closed");
}

static const char *name_of(const kin_lock *lock)
{
    return lock->kin__o.name[0] != 0 ? lock->kin__o.name : "(unnamed)";
}

kin_err kin_lock_init(kin_lock *lock, const kin_lock_options *options)
{
    if (lock == NULL || ((uintptr_t)lock & 7) != 0)
        return kin__fail(KIN_EINVAL, "a lock needs an address that is a multiple of 8");
    memset(lock, 0, sizeof *lock);
    lock->kin__o.id = kin__unique();
    if (options != NULL && options->name != NULL)
        (void)snprintf(lock->kin__o.name, sizeof lock->kin__o.name, "%s", options->name);
    lock->kin__o.magic = LOCK_MAGIC;
    return KIN_OK;
}

kin_err kin_lock_create(kin_lock **lock, const kin_lock_options *options)
{
    if (lock == NULL)
        return kin__fail(KIN_EINVAL, "kin_lock_create needs a place for the lock");
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_LOCK, sizeof(kin_lock), &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot create a lock");
    *lock = kin__header_data(header);
    return kin_lock_init(*lock, options);
}

void kin_lock_close(kin_lock *lock)
{
    if (kin__is_lock(lock))
        kin__segment_release(lock);
}

/* What a sleeper looks at: still held by the same living owner, and everybody knows that somebody sleeps. */
typedef struct sleep_on {
    uint64_t *word, owner;
} sleep_on;

static bool still_held(void *object)
{
    sleep_on *s = object;
    uint64_t word = kin__load64(s->word);
    if ((word & ~WAIT) != s->owner || !kin__owner_alive(s->owner))
        return false;
    return (word & WAIT) != 0 || kin__cas64(s->word, &word, word | WAIT);
}

static kin_err acquire_slow(kin_lock *lock, uint64_t me, int64_t timeout_ms)
{
    uint64_t deadline = kin__deadline(timeout_ms);
    kin__spin spin = {0};
    bool spinning = timeout_ms != KIN_NOWAIT, slept = false, last_look = timeout_ms == KIN_NOWAIT;
    for (;;) {
        uint64_t word = kin__load64(&lock->kin__o.word);
        uint64_t owner = word & ~WAIT;
        if (word == 0) {
            /* One who slept speaks for those who still do: they must be woken by our release. */
            uint64_t wait = slept && kin__anybody_sleeps(lock->kin__o.id) ? WAIT : 0;
            if (kin__cas64(&lock->kin__o.word, &word, me | wait)) {
                kin__held++;
                return KIN_OK;
            }
            continue;
        }
        if (owner == me)
            return kin__fail(KIN_EDEADLK, "lock '%s': this thread holds it already", name_of(lock));
        if (!kin__owner_alive(owner)) {
            if (kin__cas64(&lock->kin__o.word, &word, me | WAIT)) {
                kin__held++;
                return kin__fail(KIN_EOWNERDEAD, "lock '%s': its owner died with it; it is held now by this thread", name_of(lock));
            }
            continue;
        }
        if (spinning) {
            spinning = kin__spin_more(&spin);
            continue;
        }
        sleep_on object = {&lock->kin__o.word, owner};
        if (last_look)
            return kin__fail(KIN_ETIMEDOUT, "lock '%s': not free within %lld ms", name_of(lock), (long long)timeout_ms);
        last_look = kin__park(lock->kin__o.id, owner, still_held, &object, deadline) != KIN_OK;
        slept = true;
    }
}

kin_err kin_lock_acquire(kin_lock *lock, int64_t timeout_ms)
{
    if (!kin__is_lock(lock))
        return not_a_lock(lock);
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "lock '%s': a time-out of %lld ms", name_of(lock), (long long)timeout_ms);
    uint64_t me = kin__thread_me(), free_word = 0;
    if (me == 0)
        return kin_last_code();
    if (kin__cas64(&lock->kin__o.word, &free_word, me)) {
        kin__held++;
        KIN_CRASH_POINT("lock.acquired");
        return KIN_OK;
    }
    return acquire_slow(lock, me, timeout_ms);
}

kin_err kin_lock_release(kin_lock *lock)
{
    if (!kin__is_lock(lock))
        return not_a_lock(lock);
    if ((kin__load64_relaxed(&lock->kin__o.word) & ~WAIT) != kin__me || kin__me == 0)
        return kin__fail(KIN_EPERM, "lock '%s': this thread does not hold it", name_of(lock));
    uint64_t id = lock->kin__o.id; /* once released, the next owner may give the memory up */
    kin__held--;
    KIN_CRASH_POINT("lock.releasing");
    if ((kin__exchange64(&lock->kin__o.word, 0) & WAIT) != 0) {
        KIN_CRASH_POINT("lock.released");
        kin__wake_one(id);
    }
    return KIN_OK;
}

bool kin_lock_held(const kin_lock *lock)
{
    return kin__is_lock(lock) && kin__me != 0 && (kin__load64(&lock->kin__o.word) & ~WAIT) == kin__me;
}
