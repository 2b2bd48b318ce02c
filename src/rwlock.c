/* The reader-writer lock: the writers' word, which is a lock's, and a place for each reader.
 *
 * A reader puts its name into a free place and then looks at the word: if no writer is there it reads, else it takes
 * its name out again and waits for the writer. A writer takes the word as it would a lock, which stops all readers
 * to come, waits until every place is free or names a dead thread, and only then sets HELD. Both write first and
 * look after, so never do both go on. As the word can be taken while readers read, a writer that waits goes before
 * readers that come later.
 *
 * A writer that releases wakes the writer that has waited longest, else all readers. A reader's place counts in its
 * upper bits how often its owner reads more than once. Nobody writes to the memory of the lock after giving up what
 * it held: it may be another's by then.
 *
 * The word: 0; owner (waiting for the readers to go), owner|HELD; each with WAIT when somebody sleeps; or DAMAGED
 * (and WAIT) when a writer died holding it and only readers have come since. A writer that died without HELD has
 * changed nothing. The owner's name leaves room: [generation:32][0:13][HELD:1][DAMAGED:1][place + 1:16][WAIT:1]. */
#include "kin/rwlock.h"

#include "deadlock.h"
#include "error.h"
#include "fault.h"
#include "lock.h"

#define WAIT KIN__WAIT
#define DAMAGED ((uint64_t)1 << 17)
#define HELD ((uint64_t)1 << 18)
#define OWNER(word) ((word) & ~(WAIT | DAMAGED | HELD))

/* What a reader's place holds beside its owner. */
#define AGAIN ((uint64_t)1 << 17)
#define READER(place) ((place) & ~((uint64_t)0x7fff << 17))
#define AGAIN_MOST 0x7fff

/* Who waits for the word sleeps on the id, if it is to write; all others apart from that and from each other. */
static uint64_t readers_key(uint64_t id) { return id ^ (uint64_t)1 << 60; }
static uint64_t place_key(uint64_t id) { return id ^ (uint64_t)1 << 61; }
static uint64_t drain_key(uint64_t id) { return id ^ (uint64_t)1 << 62; }

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
        if (READER(kin__load64(place_at(lock, i))) == kin__me)
            return place_at(lock, i);
    }
    return NULL;
}

/* Writes the caller into a place that is its own already, or is free, or names a dead one. */
static uint64_t *enter(kin_rwlock *lock)
{
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        uint64_t *at = place_at(lock, i), place = kin__load64(at);
        if (READER(place) == kin__me && place / AGAIN % (AGAIN_MOST + 1) < AGAIN_MOST) {
            kin__store64(at, place + AGAIN); /* nobody else changes the place of one that lives */
            return at;
        }
        if ((place == 0 || !kin__owner_alive(READER(place))) && kin__cas64(at, &place, kin__me))
            return at;
    }
    return NULL;
}

/* Gives up a place, or one reading of several. A writer may have waited for that, or a reader for the place. */
static void leave(kin_rwlock *lock, uint64_t *at)
{
    const kin__object *o = &lock->kin__o;
    uint64_t id = o->id, place = kin__load64(at);
    if (place != kin__me) {
        kin__store64(at, place - AGAIN);
        return;
    }
    kin__store64(at, 0);
    KIN_CRASH_POINT("rwlock.left");
    uint64_t word = kin__load64(&o->word);
    if (OWNER(word) != 0 && (word & HELD) == 0)
        kin__wake_those_on(drain_key(id), 1);
    if (kin__load32(&o->number) != 0)
        kin__wake_those_on(place_key(id), KIN__EVERYONE);
}

static bool any_reader(kin_rwlock *lock)
{
    for (uint32_t i = 0; i < KIN_RWLOCK_READERS; i++) {
        uint64_t place = kin__load64(&lock->kin__readers[i]);
        if (place == 0)
            continue;
        if (kin__owner_alive(READER(place)))
            return true;
        (void)kin__cas64(&lock->kin__readers[i], &place, 0);
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

static kin_err sleep_on_owner(kin_rwlock *lock, uint64_t key, uint64_t owner, uint64_t deadline, uint64_t *since)
{
    kin__object *o = &lock->kin__o;
    sleep_on object = {lock, owner};
    if (*since == 0)
        *since = kin__now_ns();
    return kin__park_on(&(kin__wait){.key = key, .must_sleep = still_owned, .object = &object, .deadline = deadline, .lock = o->id,
                                     .holder = owner, .since = *since, .kind = KIN_TYPE_RWLOCK, .name = o->name});
}

/* Wakes the writer that has waited longest, who speaks for all others; if there is none, the readers. */
static void wake_next(uint64_t id)
{
    if (kin__wake_those_on(id, 1) == 0)
        kin__wake_those_on(readers_key(id), KIN__EVERYONE);
}

static bool anybody_waits(uint64_t id)
{
    return kin__anybody_sleeps_on(id) || kin__anybody_sleeps_on(readers_key(id));
}

/* After the word was given up. */
static void wake_after(uint64_t id, uint64_t word, bool pointed)
{
    KIN_CRASH_POINT("rwlock.released");
    if ((word & WAIT) != 0 || pointed)
        kin__edges_drop(id);
    if ((word & WAIT) != 0)
        wake_next(id);
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
        uint64_t place = kin__load64(&lock->kin__readers[i]);
        if (place == 0 || !kin__owner_alive(READER(place)))
            return false;
    }
    return true;
}

/* Takes the word from a dead writer: damaged if it held it, else as if it had never been there. */
static void bury_writer(kin__object *o, uint64_t word)
{
    uint64_t after = (word & (HELD | DAMAGED)) != 0 ? DAMAGED : 0;
    if (kin__cas64(&o->word, &word, after) && (word & WAIT) != 0)
        wake_next(o->id);
}

/* Nobody waits for a place any more: who leaves need not look. */
static void forget_full(kin__object *o)
{
    uint64_t full = place_key(o->id);
    if (kin__anybody_sleeps_on(full))
        return;
    kin__store32(&o->number, 0);
    if (!kin__anybody_sleeps_on(full))
        return;
    kin__store32(&o->number, 1); /* one has come, and those who left just now did not see it */
    kin__wake_those_on(full, KIN__EVERYONE);
}

static kin_err reading(kin__object *o, uint64_t word)
{
    kin__held.unlisted++;
    KIN_CRASH_POINT("rwlock.reading");
    if (kin__load32(&o->number) != 0)
        forget_full(o);
    return (word & DAMAGED) != 0 ? damaged(o, "reading") : KIN_OK;
}

kin_err kin_rwlock_acquire_read(kin_rwlock *lock, int64_t timeout_ms)
{
    kin_err err = check(lock, timeout_ms);
    if (err != KIN_OK)
        return err;
    kin__object *o = &lock->kin__o;
    uint64_t deadline = kin__deadline(timeout_ms), since = 0;
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
            end = sleep_on_owner(lock, readers_key(o->id), owner, deadline, &since);
        else if (find_mine(lock) != NULL)
            return kin__fail(KIN_ERANGE, "rwlock '%s': this thread reads it %d times", kin__object_name(o), AGAIN_MOST + 1);
        else
            end = kin__park_on(&(kin__wait){.key = place_key(o->id), .must_sleep = no_place, .object = lock, .deadline = deadline,
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
            err = kin__park_on(&(kin__wait){.key = drain_key(o->id), .must_sleep = still_read, .object = lock, .deadline = deadline,
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
    uint64_t deadline = kin__deadline(timeout_ms), since = 0;
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
            /* DAMAGED stays in the word, so that it is not forgotten if this one dies before it holds. One who slept
             * speaks for those who still do. */
            uint64_t wait = since != 0 && anybody_waits(o->id) ? WAIT : 0;
            if (!kin__cas64(&o->word, &word, kin__me | word | wait))
                continue;
            kin__hold(o->id);
            KIN_CRASH_POINT("rwlock.owned");
            return drain(lock, (word & DAMAGED) != 0, timeout_ms, deadline);
        } else if (kin__held.unlisted != 0 && find_mine(lock) != NULL) {
            end = kin__fail(KIN_EDEADLK, "rwlock '%s': this thread holds it for reading", kin__object_name(o));
            break; /* the writer that waits for readers would wait for us */
        } else if (end != KIN_OK) {
            break;
        } else if (spinning) {
            spinning = kin__spin_more(&spin);
        } else {
            end = sleep_on_owner(lock, o->id, owner, deadline, &since);
        }
    }
    if (since != 0) /* the wake that was for this one went to another writer, if there is one: readers have none to speak for them */
        kin__wake_those_on(readers_key(o->id), KIN__EVERYONE);
    return end == KIN_ETIMEDOUT ? kin__timed_out(o, KIN_TYPE_RWLOCK, "not free for writing", timeout_ms) : end;
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
