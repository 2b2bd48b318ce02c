/* The reader-writer lock: the writers' word, which is a lock's, and a place for each reader.
 *
 * A reader puts its name into a free place and then looks at the word: if no writer is there it reads, else it takes its name out again and
 * waits for the writer. A writer takes the word as it would a lock, which stops all readers to come, waits until every place is free or
 * names a dead thread, and only then sets HELD. Both write first and look after, so never do both go on. As the word can be taken while readers read, a
 * writer that waits goes before readers that come later.
 *
 * The word: 0; owner (waiting for the readers to go), owner|HELD; each with WAIT when somebody sleeps; or DAMAGED (and WAIT) when a writer died
 * holding it and only readers have come since. A writer that died without HELD has changed nothing. The owner's name leaves room:
 * [generation:32][0:13][HELD:1][DAMAGED:1][place + 1:16][WAIT:1]. */
#include "kin/rwlock.h"

#include "deadlock.h"
#include "error.h"
#include "fault.h"
#include "lock.h"

#define WAIT KIN__WAIT
#define DAMAGED ((uint64_t)1 << 17)
#define HELD ((uint64_t)1 << 18)
#define OWNER(word) ((word) & ~(WAIT | DAMAGED | HELD))

/* Writers that wait for readers, and readers that wait for a place, sleep apart from those who wait for the word. */
static uint64_t drain_key(const kin__object *o) { return o->id ^ (uint64_t)1 << 62; }
static uint64_t place_key(const kin__object *o) { return o->id ^ (uint64_t)1 << 61; }

kin_err kin_rwlock_init(kin_rwlock *lock, const kin_rwlock_options *options)
{
    kin_err err = kin__object_begin(lock, KIN_TYPE_RWLOCK, options != NULL ? options->name : NULL);
    if (err == KIN_OK)
        kin__object_ready(lock, KIN_TYPE_RWLOCK);
    return err;
}

kin_err kin_rwlock_create(kin_rwlock **lock, const kin_rwlock_options *options)
{
    void *p;
    kin_err err = kin__object_create(lock != NULL ? &p : NULL, KIN_TYPE_RWLOCK);
    if (err != KIN_OK)
        return err;
    *lock = p;
    return kin_rwlock_init(*lock, options);
}

void kin_rwlock_close(kin_rwlock *lock)
{
    kin__object_close(lock, KIN_TYPE_RWLOCK);
}

static kin_err check(const kin_rwlock *lock, int64_t timeout_ms)
{
    if (!kin__is_object(lock, KIN_TYPE_RWLOCK))
        return kin__no_object(lock, KIN_TYPE_RWLOCK);
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&lock->kin__o, KIN_TYPE_RWLOCK, timeout_ms);
    return kin__thread_me() != 0 ? KIN_OK : kin_last_code();
}

/* ---- readers' places ---- */

/* Where the caller looks first: its own place, as long as nobody else's is the same. */
static uint64_t *place_at(kin_rwlock *lock, uint32_t i)
{
    return &lock->kin__readers[(kin__owner_place(kin__me) + i) % KIN_RWLOCK_READERS];
}

/* A place that names the caller. */
static uint64_t *find_mine(kin_rwlock *lock)
{
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        if (kin__load64(place_at(lock, i)) == kin__me)
            return place_at(lock, i);
    }
    return NULL;
}

static uint64_t *enter(kin_rwlock *lock)
{
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        uint64_t reader = kin__load64(place_at(lock, i));
        if ((reader == 0 || !kin__owner_alive(reader)) && kin__cas64(place_at(lock, i), &reader, kin__me))
            return place_at(lock, i);
    }
    return NULL;
}

/* After the place was given up: a writer may have waited for that, or a reader for the place. */
static void leave(kin_rwlock *lock, uint64_t *place)
{
    kin__object *o = &lock->kin__o;
    uint64_t drain = drain_key(o), full = place_key(o);
    kin__store64(place, 0);
    KIN_CRASH_POINT("rwlock.left");
    uint64_t word = kin__load64(&o->word); /* the memory is still there: who gives it up while others use it is wrong */
    if (OWNER(word) != 0 && (word & HELD) == 0)
        kin__wake_one(drain);
    if (kin__load32(&o->number) != 0) {
        kin__store32(&o->number, 0);
        kin__wake_all(full);
    }
}

static bool any_reader(kin_rwlock *lock)
{
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        uint64_t reader = kin__load64(&lock->kin__readers[i]);
        if (reader == 0)
            continue;
        if (kin__owner_alive(reader))
            return true;
        (void)kin__cas64(&lock->kin__readers[i], &reader, 0);
    }
    return false;
}

/* ---- waiting for the word ---- */

typedef struct sleep_on {
    kin_rwlock *lock;
    uint64_t owner;
} sleep_on;

static bool still_owned(void *object)
{
    sleep_on *s = object;
    uint64_t *at = &s->lock->kin__o.word, word = kin__load64(at);
    do {
        if (OWNER(word) != s->owner || !kin__owner_alive(s->owner))
            return false;
    } while ((word & WAIT) == 0 && !kin__cas64(at, &word, word | WAIT));
    return true;
}

static kin_err sleep_on_owner(kin_rwlock *lock, uint64_t owner, uint64_t deadline)
{
    kin__object *o = &lock->kin__o;
    sleep_on object = {lock, owner};
    return kin__park_on(&(kin__wait){.key = o->id, .must_sleep = still_owned, .object = &object, .deadline = deadline, .holder = owner,
                                     .kind = KIN_TYPE_RWLOCK, .name = o->name});
}

/* Who releases the word wakes all who sleep on it: readers go on together, writers sort it out. */
static void wake_after(uint64_t id, uint64_t word, bool pointed)
{
    KIN_CRASH_POINT("rwlock.released");
    if ((word & WAIT) != 0)
        kin__wake_all(id);
    else if (pointed)
        kin__edges_drop(id);
}

static kin_err damaged(const kin__object *o, const char *how)
{
    return kin__fail(KIN_EOWNERDEAD, "rwlock '%s': a writer died with it; it is held now for %s by this thread", kin__object_name(o), how);
}

/* ---- reading ---- */

static bool no_place(void *object)
{
    kin_rwlock *lock = object;
    kin__store32(&lock->kin__o.number, 1); /* before the look: who leaves after it must see it */
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        uint64_t reader = kin__load64(&lock->kin__readers[i]);
        if (reader == 0 || !kin__owner_alive(reader))
            return false;
    }
    return true;
}

/* Takes the word from a dead writer: damaged if it held it, else as if it had never been there. */
static void bury_writer(kin__object *o, uint64_t word)
{
    uint64_t after = (word & (HELD | DAMAGED)) != 0 ? DAMAGED : 0;
    if (kin__cas64(&o->word, &word, after) && (word & WAIT) != 0)
        kin__wake_all(o->id);
}

static kin_err reading(const kin__object *o, uint64_t word)
{
    kin__held.unlisted++;
    KIN_CRASH_POINT("rwlock.reading");
    return (word & DAMAGED) != 0 ? damaged(o, "reading") : KIN_OK;
}

kin_err kin_rwlock_acquire_read(kin_rwlock *lock, int64_t timeout_ms)
{
    kin_err err = check(lock, timeout_ms);
    if (err != KIN_OK)
        return err;
    kin__object *o = &lock->kin__o;
    uint64_t deadline = kin__deadline(timeout_ms);
    kin__spin spin = {0};
    bool spinning = timeout_ms != KIN_NOWAIT;
    kin_err end = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;
    for (;;) {
        uint64_t word = kin__load64(&o->word), owner = OWNER(word);
        if (owner == kin__me)
            return kin__fail(KIN_EDEADLK, "rwlock '%s': this thread holds it for writing", kin__object_name(o));
        if (owner != 0 && !kin__owner_alive(owner)) {
            bury_writer(o, word);
            continue;
        }
        /* One that reads already goes on even if a writer waits, for that one waits for it. */
        bool again = owner != 0 && (word & HELD) == 0 && find_mine(lock) != NULL;
        uint64_t *place = owner == 0 || again ? enter(lock) : NULL;
        if (place != NULL) {
            KIN_CRASH_POINT("rwlock.entered");
            word = kin__load64(&o->word);
            if (again || OWNER(word) == 0)
                return reading(o, word);
            leave(lock, place);
            continue;
        }
        if (end != KIN_OK)
            return end == KIN_ETIMEDOUT ? kin__timed_out(o, KIN_TYPE_RWLOCK, "not free for reading", timeout_ms) : end;
        if (spinning)
            spinning = kin__spin_more(&spin);
        else if (owner != 0)
            end = sleep_on_owner(lock, owner, deadline);
        else
            end = kin__park_on(&(kin__wait){.key = place_key(o), .must_sleep = no_place, .object = lock, .deadline = deadline,
                                            .kind = KIN_TYPE_RWLOCK, .name = o->name});
    }
}

/* ---- writing ---- */

static bool still_read(void *object)
{
    return any_reader(object);
}

static void give_up(kin_rwlock *lock, bool was_damaged)
{
    kin__object *o = &lock->kin__o;
    uint64_t id = o->id;
    bool pointed = kin__unhold(id);
    wake_after(id, kin__exchange64(&o->word, was_damaged ? DAMAGED : 0), pointed);
}

/* The caller has the word, so that no more readers come; waits for those that are there. */
static kin_err drain(kin_rwlock *lock, bool was_damaged, int64_t timeout_ms, uint64_t deadline)
{
    kin__object *o = &lock->kin__o;
    kin__spin spin = {0};
    bool spinning = timeout_ms != KIN_NOWAIT;
    kin_err err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;
    while (any_reader(lock)) {
        if (find_mine(lock) != NULL) {
            give_up(lock, was_damaged);
            return kin__fail(KIN_EDEADLK, "rwlock '%s': this thread holds it for reading", kin__object_name(o));
        }
        if (err != KIN_OK) {
            give_up(lock, was_damaged);
            return kin__timed_out(o, KIN_TYPE_RWLOCK, "readers did not leave", timeout_ms);
        }
        if (spinning)
            spinning = kin__spin_more(&spin);
        else
            err = kin__park_on(&(kin__wait){.key = drain_key(o), .must_sleep = still_read, .object = lock, .deadline = deadline,
                                            .kind = KIN_TYPE_RWLOCK, .name = o->name});
    }
    KIN_CRASH_POINT("rwlock.drained");
    kin__or64(&o->word, HELD);
    KIN_CRASH_POINT("rwlock.writing");
    return was_damaged ? damaged(o, "writing") : KIN_OK;
}

kin_err kin_rwlock_acquire_write(kin_rwlock *lock, int64_t timeout_ms)
{
    kin_err err = check(lock, timeout_ms);
    if (err != KIN_OK)
        return err;
    kin__object *o = &lock->kin__o;
    uint64_t deadline = kin__deadline(timeout_ms);
    kin__spin spin = {0};
    bool spinning = timeout_ms != KIN_NOWAIT;
    kin_err end = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;
    for (;;) {
        uint64_t word = kin__load64(&o->word), owner = OWNER(word);
        if (owner == kin__me)
            return kin__fail(KIN_EDEADLK, "rwlock '%s': this thread holds it for writing already", kin__object_name(o));
        if (owner != 0 && !kin__owner_alive(owner)) {
            bury_writer(o, word);
        } else if (owner == 0) {
            /* DAMAGED stays in the word, so that it is not forgotten if this one dies before it holds. */
            if (!kin__cas64(&o->word, &word, kin__me | word))
                continue;
            kin__hold(o->id);
            KIN_CRASH_POINT("rwlock.owned");
            return drain(lock, (word & DAMAGED) != 0, timeout_ms, deadline);
        } else if ((word & HELD) == 0 && kin__held.unlisted != 0 && find_mine(lock) != NULL) {
            /* A writer waits for the readers, and so for this thread: nobody would go on. */
            return kin__fail(KIN_EDEADLK, "rwlock '%s': this thread holds it for reading", kin__object_name(o));
        } else if (end != KIN_OK) {
            return end == KIN_ETIMEDOUT ? kin__timed_out(o, KIN_TYPE_RWLOCK, "not free for writing", timeout_ms) : end;
        } else if (spinning) {
            spinning = kin__spin_more(&spin);
        } else {
            end = sleep_on_owner(lock, owner, deadline);
        }
    }
}

/* ---- both ---- */

kin_err kin_rwlock_release(kin_rwlock *lock)
{
    kin_err err = check(lock, KIN_NOWAIT);
    if (err != KIN_OK)
        return err;
    kin__object *o = &lock->kin__o;
    uint64_t word = kin__load64_relaxed(&o->word);
    if (OWNER(word) == kin__me) {
        KIN_CRASH_POINT("rwlock.releasing");
        give_up(lock, false);
        return KIN_OK;
    }
    uint64_t *place = find_mine(lock);
    if (place == NULL)
        return kin__fail(KIN_EPERM, "rwlock '%s': this thread holds it neither for reading nor for writing", kin__object_name(o));
    kin__held.unlisted--;
    KIN_CRASH_POINT("rwlock.leaving");
    leave(lock, place);
    return KIN_OK;
}

bool kin_rwlock_reading(const kin_rwlock *lock)
{
    return kin__is_object(lock, KIN_TYPE_RWLOCK) && kin__me != 0 && find_mine((kin_rwlock *)(uintptr_t)lock) != NULL;
}

bool kin_rwlock_writing(const kin_rwlock *lock)
{
    return kin__is_object(lock, KIN_TYPE_RWLOCK) && kin__me != 0 && OWNER(kin__load64(&lock->kin__o.word)) == kin__me;
}
