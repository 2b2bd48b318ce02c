/* The semaphore: one word [units:32][0:30][UNDO:1][WAIT:1], so that taking a unit and staying within the bound are
 * one CAS each.
 *
 * With undo there is a place for each unit instead: 0 while the unit is there, the name of the process that has it
 * while it is not. Taking is a CAS on a place that is free or names a dead process, so a unit and its user can never
 * disagree, and nothing needs to be given back for the dead. Only threads of its own process take a process's name
 * out, one at a time: so either all that are to be given are given, or none.
 *
 * Who gives a unit and finds WAIT clears it and wakes; who was woken and takes a unit passes on what is left, and
 * sets WAIT again if others sleep on. */
#include "kin/semaphore.h"

#include "error.h"
#include "fault.h"
#include "lock.h"
#include "segment.h"
#include "wait.h"

#include <stdlib.h>
#include <uv.h>

#define WAIT ((uint64_t)1)
#define UNDO ((uint64_t)2)
#define ONE ((uint64_t)1 << 32)

static bool has_undo(const kin_semaphore *s)
{
    return (kin__load64_relaxed(&s->kin__o.word) & UNDO) != 0;
}

kin_err kin_semaphore_init(kin_semaphore *semaphore, int64_t units, const kin_semaphore_options *options)
{
    bool undo = options != NULL && options->undo;
    int64_t bound = options != NULL ? options->bound : 0;
    const char *name = options != NULL && options->name != NULL ? options->name : "(unnamed)";
    if (bound == 0)
        bound = undo ? units : KIN_SEMAPHORE_MAX;
    if (units < 0 || bound < 0 || bound > KIN_SEMAPHORE_MAX || units > bound)
        return kin__fail(KIN_EINVAL, "semaphore '%s': %lld units of at most %lld", name, (long long)units, (long long)bound);
    if (undo && (units != bound || bound < 1 || bound > KIN_SEMAPHORE_UNDO_MAX))
        return kin__fail(KIN_EINVAL, "semaphore '%s': with undo it must begin full, with 1 to %d units, not with %lld of %lld", name,
                         KIN_SEMAPHORE_UNDO_MAX, (long long)units, (long long)bound);
    kin_err err = kin__object_begin(semaphore, KIN_TYPE_SEMAPHORE, options != NULL ? options->name : NULL);
    if (err != KIN_OK)
        return err;
    semaphore->kin__o.number = (uint32_t)bound;
    semaphore->kin__o.word = undo ? UNDO : (uint64_t)units * ONE;
    kin__object_ready(semaphore, KIN_TYPE_SEMAPHORE);
    return KIN_OK;
}

kin_err kin_semaphore_create(kin_semaphore **semaphore, int64_t units, const kin_semaphore_options *options)
{
    void *p;
    kin_err err = kin__object_create(semaphore != NULL ? &p : NULL, KIN_TYPE_SEMAPHORE);
    if (err != KIN_OK)
        return err;
    err = kin_semaphore_init(p, units, options);
    if (err == KIN_OK)
        *semaphore = p;
    else
        kin__segment_release(p);
    return err;
}

void kin_semaphore_close(kin_semaphore *semaphore)
{
    kin__object_close(semaphore, KIN_TYPE_SEMAPHORE);
}

/* ---- units with a user ---- */

static bool is_there(uint64_t user)
{
    return user == 0 || !kin__process_alive(user);
}

static int64_t count_there(const kin_semaphore *s)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < s->kin__o.number && i < KIN_SEMAPHORE_UNDO_MAX; i++)
        n += is_there(kin__load64(&s->kin__users[i]));
    return n;
}

/* Looks from another place on in each process, so that they do not get into each other's way. */
static bool take_with_undo(kin_semaphore *s)
{
    uint32_t bound = s->kin__o.number < KIN_SEMAPHORE_UNDO_MAX ? s->kin__o.number : KIN_SEMAPHORE_UNDO_MAX;
    for (uint32_t i = 0; i < bound; i++) {
        uint64_t *place = &s->kin__users[(kin__my.place + i) % bound], user = kin__load64(place);
        if (is_there(user) && kin__cas64(place, &user, kin__my.id))
            return true;
    }
    return false;
}

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t giving;

static void make_mutex(void)
{
    if (uv_mutex_init(&giving) != 0)
        abort(); /* no memory for a few bytes */
}

/* Takes the process's name out of `units` places; false, and nothing changed, if it is not in so many. */
static bool take_out(kin_semaphore *s, uint32_t units)
{
    uint32_t bound = s->kin__o.number < KIN_SEMAPHORE_UNDO_MAX ? s->kin__o.number : KIN_SEMAPHORE_UNDO_MAX, mine = 0;
    uv_once(&once, make_mutex);
    uv_mutex_lock(&giving);
    for (uint32_t i = 0; i < bound; i++)
        mine += kin__load64(&s->kin__users[i]) == kin__my.id;
    bool enough = mine >= units;
    for (uint32_t i = 0; i < bound && enough && units > 0; i++) {
        uint64_t *place = &s->kin__users[(kin__my.place + i) % bound];
        if (kin__load64(place) == kin__my.id) {
            units--;
            kin__store64(place, 0);
            KIN_CRASH_POINT("semaphore.taken.out");
        }
    }
    uv_mutex_unlock(&giving);
    return enough;
}

static kin_err give_with_undo(kin_semaphore *s, uint32_t units)
{
    kin__object *o = &s->kin__o;
    uint64_t id = o->id;
    if (!take_out(s, units))
        return kin__fail(KIN_EPERM, "semaphore '%s': this process has not %lu unit%s of it", kin__object_name(o), (unsigned long)units,
                         units == 1 ? "" : "s");
    KIN_CRASH_POINT("semaphore.given.back");
    if ((kin__load64(&o->word) & WAIT) != 0) /* it stays: nothing may be written here once the units are given */
        kin__wake_some(id, units);
    return KIN_OK;
}

/* ---- taking ---- */

/* Takes a unit, leaving WAIT set if `wait`. */
static bool take(kin_semaphore *s, bool undo, bool wait)
{
    if (undo) {
        if (!take_with_undo(s))
            return false;
        if (wait)
            kin__or64(&s->kin__o.word, WAIT);
        return true;
    }
    uint64_t word = kin__load64(&s->kin__o.word);
    while (word >= ONE) {
        if (kin__cas64(&s->kin__o.word, &word, (word - ONE) | (wait ? WAIT : 0)))
            return true;
    }
    return false;
}

static bool none_there(void *object)
{
    kin_semaphore *s = object;
    if (has_undo(s)) {
        kin__or64(&s->kin__o.word, WAIT); /* first: who gives a unit after the look must see it */
        return count_there(s) == 0;
    }
    uint64_t word = kin__load64(&s->kin__o.word);
    do {
        if (word >= ONE)
            return false;
    } while ((word & WAIT) == 0 && !kin__cas64(&s->kin__o.word, &word, word | WAIT));
    return true;
}

static int64_t units_there(const kin_semaphore *s)
{
    return has_undo(s) ? count_there(s) : (int64_t)(kin__load64(&s->kin__o.word) / ONE);
}

static kin_err acquire_slow(kin_semaphore *s, bool undo, int64_t timeout_ms)
{
    kin__object *o = &s->kin__o;
    uint64_t deadline = kin__deadline(timeout_ms), since = 0;
    if (timeout_ms != KIN_NOWAIT) {
        for (kin__spin spin = {0}; kin__spin_more(&spin);) {
            if (take(s, undo, false))
                return KIN_OK;
        }
    }
    bool slept = false;
    for (kin_err err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;;) {
        bool others = slept && kin__anybody_sleeps(o->id);
        if (take(s, undo, others)) {
            KIN_CRASH_POINT("semaphore.taken.slowly");
            if (others && units_there(s) > 0)
                kin__wake_one(o->id); /* two were given, and the second saw no WAIT */
            return KIN_OK;
        }
        if (err != KIN_OK)
            return kin__timed_out(o, KIN_TYPE_SEMAPHORE, "no unit", timeout_ms);
        if (since == 0)
            since = kin__now_ns();
        err = kin__park_on(&(kin__wait){.key = o->id, .must_sleep = none_there, .object = s, .deadline = deadline, .since = since,
                                        .kind = KIN_TYPE_SEMAPHORE, .name = o->name, .interruptible = true});
        if (err == KIN_EINTERRUPTED)
            return err;
        slept = true;
    }
}

/* All but the common case; apart from it, so that the common one needs no room for it. */
static KIN__NOINLINE kin_err acquire_any(kin_semaphore *semaphore, int64_t timeout_ms)
{
    if (!kin__is_object(semaphore, KIN_TYPE_SEMAPHORE))
        return kin__no_object(semaphore, KIN_TYPE_SEMAPHORE);
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&semaphore->kin__o, KIN_TYPE_SEMAPHORE, timeout_ms);
    if (kin__thread_me() == 0)
        return kin_last_code();
    bool undo = has_undo(semaphore);
    if (!take(semaphore, undo, false))
        return acquire_slow(semaphore, undo, timeout_ms);
    KIN_CRASH_POINT("semaphore.taken");
    return KIN_OK;
}

kin_err kin_semaphore_acquire(kin_semaphore *semaphore, int64_t timeout_ms)
{
    if (kin__is_object(semaphore, KIN_TYPE_SEMAPHORE) && timeout_ms >= KIN_FOREVER && kin__me != 0) {
        uint64_t word = kin__load64_relaxed(&semaphore->kin__o.word);
        if (word >= ONE && kin__cas64(&semaphore->kin__o.word, &word, word - ONE)) {
            KIN_CRASH_POINT("semaphore.taken");
            return KIN_OK;
        }
    }
    return acquire_any(semaphore, timeout_ms);
}

/* ---- giving ---- */

static kin_err give(kin_semaphore *s, uint32_t units)
{
    kin__object *o = &s->kin__o;
    uint64_t word = kin__load64(&o->word), id = o->id;
    if ((word & UNDO) != 0)
        return give_with_undo(s, units);
    do {
        if (word / ONE + units > o->number)
            return kin__fail(KIN_ERANGE, "semaphore '%s': %lu units more than the %lu that are there would be over its bound of %lu",
                             kin__object_name(o), (unsigned long)units, (unsigned long)(word / ONE), (unsigned long)o->number);
    } while (!kin__cas64(&o->word, &word, (word + units * ONE) & ~WAIT));
    KIN_CRASH_POINT("semaphore.given");
    if ((word & WAIT) != 0)
        kin__wake_some(id, units);
    return KIN_OK;
}

static KIN__NOINLINE kin_err release_any(kin_semaphore *semaphore)
{
    if (!kin__is_object(semaphore, KIN_TYPE_SEMAPHORE))
        return kin__no_object(semaphore, KIN_TYPE_SEMAPHORE);
    if (kin__check_init() != KIN_OK)
        return kin_last_code();
    return give(semaphore, 1);
}

kin_err kin_semaphore_release(kin_semaphore *semaphore)
{
    if (kin__is_object(semaphore, KIN_TYPE_SEMAPHORE) && kin__me != 0) {
        uint64_t word = kin__load64_relaxed(&semaphore->kin__o.word);
        if ((word & (WAIT | UNDO)) == 0 && word / ONE < semaphore->kin__o.number && kin__cas64(&semaphore->kin__o.word, &word, word + ONE)) {
            KIN_CRASH_POINT("semaphore.given");
            return KIN_OK;
        }
    }
    return release_any(semaphore);
}

kin_err kin_semaphore_release_many(kin_semaphore *semaphore, int64_t units)
{
    if (!kin__is_object(semaphore, KIN_TYPE_SEMAPHORE))
        return kin__no_object(semaphore, KIN_TYPE_SEMAPHORE);
    if (units < 1)
        return kin__fail(KIN_EINVAL, "semaphore '%s': %lld units to give", kin__object_name(&semaphore->kin__o), (long long)units);
    if (units > KIN_SEMAPHORE_MAX)
        return kin__fail(KIN_ERANGE, "semaphore '%s': %lld units to give", kin__object_name(&semaphore->kin__o), (long long)units);
    if (kin__check_init() != KIN_OK)
        return kin_last_code();
    return give(semaphore, (uint32_t)units);
}

int64_t kin_semaphore_units(const kin_semaphore *semaphore)
{
    if (!kin__is_object(semaphore, KIN_TYPE_SEMAPHORE))
        (void)kin__no_object(semaphore, KIN_TYPE_SEMAPHORE);
    else if (kin__check_init() == KIN_OK)
        return units_there(semaphore);
    return -1;
}

kin_err kin__semaphore_watch(const kin_semaphore *semaphore, kin__watched *watched)
{
    if (!kin__is_object(semaphore, KIN_TYPE_SEMAPHORE))
        return kin__no_object(semaphore, KIN_TYPE_SEMAPHORE);
    watched->key = semaphore->kin__o.id;
    return KIN_OK;
}

void kin__semaphore_arm(const kin_semaphore *semaphore)
{
    (void)none_there((void *)(uintptr_t)semaphore);
}

bool kin__semaphore_ready(const kin_semaphore *semaphore)
{
    return units_there(semaphore) > 0;
}
