/* The barrier: who has come is written down under a guard, a lock that is held for moments and never while anybody
 * waits. A round is complete when every member has come; then one CAS on the word begins the next, and all who sleep
 * are woken.
 *
 * The word is [epoch:31][round:32][BROKEN:1]; a reset begins a new epoch and a new round, and writes down that it
 * was a reset that ended the last one, for those who have not yet seen that theirs was complete before. Breaking is
 * one OR, so it needs no guard and can be done for the dead by anybody. Who dies with the guard leaves it to
 * somebody who breaks the barrier, so that nothing half done is ever repaired. Who sleeps looks, after each death of
 * any process, for members that died; those who came are named with their thread, those who came last round with
 * their process too. */
#include "kin/barrier.h"

#include "error.h"
#include "fault.h"
#include "lock.h"
#include "segment.h"

#include <string.h>

#define BROKEN ((uint64_t)1)
#define ROUNDS (((uint64_t)0xffffffff) << 1)
#define EPOCH ((uint64_t)1 << 33)
#define REMEMBERED (sizeof((kin_barrier *)NULL)->kin__resets * 8) /* rounds */
#define ARRIVED ((uint64_t)1) /* in a member's thread */
#define GUARD_MS 1000         /* the guard is held for moments, but a stopped process may hold it */

enum { TIMED_OUT = 1, ABORTED, ACTION_FAILED, DIED };

static uint64_t next_round(uint64_t word)
{
    return (word & ~ROUNDS) | ((word + 2) & ROUNDS);
}

static uint64_t next_epoch(uint64_t word)
{
    return (word / EPOCH + 1) * EPOCH | ((word + 2) & ROUNDS);
}

/* With the guard, before the word shows that the round is over. */
static void write_end(kin_barrier *b, uint64_t word, bool by_reset)
{
    uint64_t round = (word & ROUNDS) >> 1, bit = (uint64_t)1 << (round % 64), *bits = &b->kin__resets[round % REMEMBERED / 64];
    if (by_reset)
        kin__or64(bits, bit);
    else if ((kin__load64(bits) & bit) != 0)
        kin__and64(bits, ~bit);
}

/* Whether the round that began with `before` ended by a reset, or so long ago that nobody knows. */
static bool ended_by_reset(const kin_barrier *b, uint64_t before, uint64_t word)
{
    uint64_t round = (before & ROUNDS) >> 1;
    return (((word - before) & ROUNDS) >> 1) >= REMEMBERED || (kin__load64(&b->kin__resets[round % REMEMBERED / 64]) >> (round % 64) & 1) != 0;
}

kin_err kin_barrier_init(kin_barrier *barrier, int64_t parties, const kin_barrier_options *options)
{
    const char *name = options != NULL && options->name != NULL ? options->name : "(unnamed)";
    int64_t timeout = options != NULL ? options->timeout_ms : 0;
    if (parties < 1 || parties > KIN_BARRIER_MAX)
        return kin__fail(KIN_EINVAL, "barrier '%s': for %lld parties; it can be for 1 to %d", name, (long long)parties, KIN_BARRIER_MAX);
    if (timeout < 0)
        return kin__fail(KIN_EINVAL, "barrier '%s': a time-out of %lld ms", name, (long long)timeout);
    kin_err err = kin__object_begin(barrier, KIN_TYPE_BARRIER, options != NULL ? options->name : NULL);
    if (err == KIN_OK)
        err = kin_lock_init(&barrier->kin__guard, &(kin_lock_options){.name = options != NULL ? options->name : NULL});
    if (err != KIN_OK)
        return err;
    barrier->kin__o.number = (uint32_t)parties;
    barrier->kin__timeout = timeout;
    kin__object_ready(barrier, KIN_TYPE_BARRIER);
    return KIN_OK;
}

kin_err kin_barrier_create(kin_barrier **barrier, int64_t parties, const kin_barrier_options *options)
{
    void *p;
    kin_err err = kin__object_create(barrier != NULL ? &p : NULL, KIN_TYPE_BARRIER);
    if (err != KIN_OK)
        return err;
    err = kin_barrier_init(p, parties, options);
    if (err == KIN_OK)
        *barrier = p;
    else
        kin__segment_release(p);
    return err;
}

void kin_barrier_close(kin_barrier *barrier)
{
    kin__object_close(barrier, KIN_TYPE_BARRIER);
}

static uint32_t parties_of(const kin_barrier *b)
{
    return b->kin__o.number < KIN_BARRIER_MAX ? b->kin__o.number : KIN_BARRIER_MAX;
}

/* ---- breaking ---- */

static void break_it(kin_barrier *b, uint64_t reason, uint64_t culprit)
{
    if ((kin__load64(&b->kin__o.word) & BROKEN) != 0)
        return;
    kin__store64(&b->kin__culprit, culprit);
    kin__store64(&b->kin__reason, reason);
    kin__or64(&b->kin__o.word, BROKEN);
    KIN_CRASH_POINT("barrier.broken");
    kin__wake_those_on(b->kin__o.id, KIN__EVERYONE);
}

static kin_err is_broken(const kin_barrier *b)
{
    const char *name = kin__object_name(&b->kin__o);
    char who[192];
    switch (kin__load64(&b->kin__reason)) {
    case TIMED_OUT:
        return kin__fail(KIN_EBROKEN, "barrier '%s' is broken: a wait timed out", name);
    case ABORTED:
        return kin__fail(KIN_EBROKEN, "barrier '%s' is broken: it was aborted", name);
    case ACTION_FAILED:
        return kin__fail(KIN_EBROKEN, "barrier '%s' is broken: its action failed", name);
    default:
        kin__describe_process(kin__load64(&b->kin__culprit), who, sizeof who);
        return kin__fail(KIN_EBROKEN, "barrier '%s' is broken: a participant died, %s", name, who);
    }
}

/* The process of a thread that died with the guard; 0 if it died before it could say. Its place in the thread table
 * may be another's by now. */
static uint64_t process_of_guardian(const kin_barrier *b, uint64_t thread)
{
    uint64_t process = 0;
    if (kin__load64(&b->kin__guardian.thread) == thread)
        process = kin__load64(&b->kin__guardian.process);
    return kin__load64(&b->kin__guardian.thread) == thread ? process : 0;
}

static void become_guardian(kin_barrier *b)
{
    if (kin__load64(&b->kin__guardian.thread) == kin__me)
        return;
    kin__store64(&b->kin__guardian.thread, 0);
    kin__store64(&b->kin__guardian.process, kin__my.id);
    kin__store64(&b->kin__guardian.thread, kin__me);
}

/* Whether somebody died that the round needs, or that had the guard; *who is its process. */
static bool somebody_died(kin_barrier *b, uint64_t *who)
{
    for (uint32_t i = 0; i < parties_of(b); i++) {
        uint64_t thread = kin__load64(&b->kin__members[i].thread), process = kin__load64(&b->kin__members[i].process);
        if (thread == 0 || kin__owner_alive(thread & ~ARRIVED) || kin__load64(&b->kin__members[i].thread) != thread)
            continue;
        if ((thread & ARRIVED) != 0 || kin__has_fallen(process)) {
            *who = process;
            return true;
        }
    }
    uint64_t guard = kin__load64(&b->kin__guard.kin__o.word) & ~KIN__WAIT;
    *who = process_of_guardian(b, guard);
    return guard != 0 && !kin__owner_alive(guard) && kin__load64(&b->kin__guard.kin__o.word) / 2 == guard / 2;
}

/* ---- the guard ---- */

static int64_t time_left(uint64_t deadline)
{
    uint64_t now = kin__now_ns();
    if (deadline == KIN__NEVER)
        return KIN_FOREVER;
    int64_t left = now < deadline ? (int64_t)((deadline - now) / 1000000) : 0;
    return left > GUARD_MS ? left : GUARD_MS;
}

/* KIN_OK: the caller has the guard. KIN_ETIMEDOUT: a stopped process has it, and the barrier was broken. */
static kin_err guard_in(kin_barrier *b, uint64_t deadline)
{
    kin_err err = kin__lock_acquire(&b->kin__guard.kin__o, KIN_TYPE_LOCK, kin__me, time_left(deadline));
    if (err == KIN_EOWNERDEAD) {
        break_it(b, DIED, process_of_guardian(b, kin__heir_of));
        err = KIN_OK;
    }
    if (err == KIN_OK)
        become_guardian(b);
    if (err == KIN_ETIMEDOUT)
        break_it(b, TIMED_OUT, 0);
    return err;
}

static void guard_out(kin_barrier *b)
{
    kin__lock_release(&b->kin__guard.kin__o);
}

/* ---- coming and going, with the guard ---- */

static uint32_t count_arrived(const kin_barrier *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < parties_of(b); i++)
        n += (kin__load64(&b->kin__members[i].thread) & ARRIVED) != 0;
    return n;
}

/* The index for the caller: the one it had, else a free one, else that of a member that has ended or, at last, just
 * has not come. */
static uint32_t find_seat(const kin_barrier *b)
{
    uint32_t best = KIN_BARRIER_MAX, best_rank = 4;
    for (uint32_t i = 0; i < parties_of(b); i++) {
        uint64_t thread = kin__load64(&b->kin__members[i].thread);
        uint32_t rank = (thread & ARRIVED) != 0 ? 4 : thread == kin__me ? 0 : thread == 0 ? 1 : !kin__owner_alive(thread) ? 2 : 3;
        if (rank < best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

/* All have come: the next round begins. False if it was broken before. */
static bool complete(kin_barrier *b, uint64_t word)
{
    for (uint32_t i = 0; i < parties_of(b); i++) {
        kin__store64(&b->kin__members[i].thread, kin__load64(&b->kin__members[i].thread) & ~ARRIVED);
        KIN_CRASH_POINT("barrier.completing");
    }
    write_end(b, word, false);
    return kin__cas64(&b->kin__o.word, &word, next_round(word));
}

/* ---- waiting ---- */

typedef struct look {
    kin_barrier *barrier;
    uint64_t word;
} look;

static bool must_sleep(void *object)
{
    look *l = object;
    uint64_t who;
    return kin__load64(&l->barrier->kin__o.word) == l->word && !somebody_died(l->barrier, &who);
}

/* What became of the round that began with `before`: KIN_EAGAIN if it goes on. */
static kin_err outcome(const kin_barrier *b, uint64_t before)
{
    uint64_t word = kin__load64(&b->kin__o.word);
    if (word == before)
        return KIN_EAGAIN;
    if (word / EPOCH != before / EPOCH && ended_by_reset(b, before, word))
        return kin__fail(KIN_EBROKEN, "barrier '%s' was reset while this thread waited", kin__object_name(&b->kin__o));
    return (word & ROUNDS) != (before & ROUNDS) ? KIN_OK : is_broken(b);
}

/* Without the guard, until the round that began with `before` is over. */
static kin_err wait_for_round(kin_barrier *b, uint64_t before, int64_t timeout_ms, uint64_t deadline)
{
    kin_err end = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;
    look l = {b, before};
    if (timeout_ms != KIN_NOWAIT) {
        for (kin__spin spin = {0}; kin__load64(&b->kin__o.word) == before && kin__spin_more(&spin);) {
        }
    }
    for (;;) {
        uint64_t who;
        kin_err err = outcome(b, before);
        if (err != KIN_EAGAIN)
            return err;
        if (somebody_died(b, &who) || end != KIN_OK) {
            err = guard_in(b, deadline); /* so that it is not completed meanwhile */
            bool guarded = err == KIN_OK;
            err = outcome(b, before);
            if (err == KIN_EAGAIN) {
                if (somebody_died(b, &who))
                    break_it(b, DIED, who);
                else if (end != KIN_OK)
                    break_it(b, TIMED_OUT, 0);
                err = outcome(b, before);
            }
            if (guarded)
                guard_out(b);
            if (err != KIN_EAGAIN)
                return err == KIN_EBROKEN && end != KIN_OK && kin__load64(&b->kin__reason) == TIMED_OUT
                           ? kin__timed_out(&b->kin__o, KIN_TYPE_BARRIER, "not all have come", timeout_ms)
                           : err;
        }
        end = kin__park_on(&(kin__wait){.key = b->kin__o.id, .must_sleep = must_sleep, .object = &l, .deadline = deadline,
                                        .kind = KIN_TYPE_BARRIER, .name = b->kin__o.name});
    }
}

/* With the guard, which it gives up: the caller is the last to come. */
static kin_err release_all(kin_barrier *b, uint64_t word, kin_err (*action)(void *arg), void *arg)
{
    uint64_t id = b->kin__o.id;
    if (action != NULL) {
        guard_out(b);
        KIN_CRASH_POINT("barrier.acting");
        kin__held.unlisted++; /* if the thread ends in the action, all who sleep look again */
        kin_err failed = action(arg);
        kin__held.unlisted--;
        kin_err err = guard_in(b, KIN__NEVER);
        if (err != KIN_OK)
            return failed != KIN_OK ? failed : err;
        if (failed != KIN_OK) {
            if (kin__load64(&b->kin__o.word) == word) /* else it is broken, or was reset and is no business of this round's */
                break_it(b, ACTION_FAILED, 0);
            guard_out(b);
            return failed;
        }
    }
    /* A reset during the action began another epoch, whose members must not be touched. */
    bool done = kin__load64(&b->kin__o.word) == word && complete(b, word);
    KIN_CRASH_POINT("barrier.completed");
    kin_err err = done ? KIN_OK : outcome(b, word);
    guard_out(b);
    if (done)
        kin__wake_those_on(id, KIN__EVERYONE);
    return err;
}

static kin_err wait_once(kin_barrier *b, kin_err (*action)(void *arg), void *arg, int64_t timeout_ms, uint64_t deadline, int *index,
                         bool *came)
{
    kin_err err = guard_in(b, deadline);
    if (err != KIN_OK)
        return err;
    uint64_t word = kin__load64(&b->kin__o.word), who;
    if ((word & BROKEN) == 0 && somebody_died(b, &who))
        break_it(b, DIED, who);
    if ((kin__load64(&b->kin__o.word) & BROKEN) != 0) {
        guard_out(b);
        return is_broken(b);
    }
    uint32_t seat = find_seat(b);
    *came = seat < KIN_BARRIER_MAX;
    if (!*came) { /* one too many, while the last runs its action: for the next round */
        guard_out(b);
        return wait_for_round(b, word, timeout_ms, deadline);
    }
    kin__store64(&b->kin__members[seat].process, kin__my.id);
    KIN_CRASH_POINT("barrier.arriving");
    kin__store64(&b->kin__members[seat].thread, kin__me | ARRIVED);
    KIN_CRASH_POINT("barrier.arrived");
    if (index != NULL)
        *index = (int)seat;
    if (count_arrived(b) == parties_of(b))
        return release_all(b, word, action, arg);
    guard_out(b);
    return wait_for_round(b, word, timeout_ms, deadline);
}

kin_err kin_barrier_wait_action(kin_barrier *barrier, kin_err (*action)(void *arg), void *arg, int64_t timeout_ms, int *index)
{
    if (!kin__is_object(barrier, KIN_TYPE_BARRIER))
        return kin__no_object(barrier, KIN_TYPE_BARRIER);
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(&barrier->kin__o, KIN_TYPE_BARRIER, timeout_ms);
    if (kin__thread_me() == 0)
        return kin_last_code();
    if (timeout_ms == KIN_FOREVER && barrier->kin__timeout != 0)
        timeout_ms = barrier->kin__timeout;
    uint64_t deadline = kin__deadline(timeout_ms);
    for (;;) {
        bool came = true;
        kin_err err = wait_once(barrier, action, arg, timeout_ms, deadline, index, &came);
        if (came || err != KIN_OK)
            return err;
    }
}

kin_err kin_barrier_wait(kin_barrier *barrier, int64_t timeout_ms, int *index)
{
    return kin_barrier_wait_action(barrier, NULL, NULL, timeout_ms, index);
}

kin_err kin_barrier_abort(kin_barrier *barrier)
{
    if (!kin__is_object(barrier, KIN_TYPE_BARRIER))
        return kin__no_object(barrier, KIN_TYPE_BARRIER);
    if (kin__check_init() != KIN_OK)
        return kin_last_code();
    break_it(barrier, ABORTED, 0);
    return KIN_OK;
}

kin_err kin_barrier_reset(kin_barrier *barrier)
{
    if (!kin__is_object(barrier, KIN_TYPE_BARRIER))
        return kin__no_object(barrier, KIN_TYPE_BARRIER);
    if (kin__thread_me() == 0)
        return kin_last_code();
    kin_err err = guard_in(barrier, KIN__NEVER);
    if (err != KIN_OK)
        return err;
    uint64_t id = barrier->kin__o.id;
    uint64_t word = kin__or64(&barrier->kin__o.word, BROKEN); /* who dies from here on leaves it broken */
    KIN_CRASH_POINT("barrier.resetting");
    for (uint32_t i = 0; i < parties_of(barrier); i++)
        kin__store64(&barrier->kin__members[i].thread, 0);
    kin__store64(&barrier->kin__reason, 0);
    write_end(barrier, word, true);
    kin__store64(&barrier->kin__o.word, next_epoch(word));
    KIN_CRASH_POINT("barrier.reset");
    guard_out(barrier);
    kin__wake_those_on(id, KIN__EVERYONE);
    return KIN_OK;
}

int kin_barrier_parties(const kin_barrier *barrier)
{
    if (kin__is_object(barrier, KIN_TYPE_BARRIER))
        return (int)parties_of(barrier);
    (void)kin__no_object(barrier, KIN_TYPE_BARRIER);
    return 0;
}

int kin_barrier_waiting(const kin_barrier *barrier)
{
    if (kin__is_object(barrier, KIN_TYPE_BARRIER))
        return kin_barrier_is_broken(barrier) ? 0 : (int)count_arrived(barrier);
    (void)kin__no_object(barrier, KIN_TYPE_BARRIER);
    return 0;
}

bool kin_barrier_is_broken(const kin_barrier *barrier)
{
    if (kin__is_object(barrier, KIN_TYPE_BARRIER))
        return (kin__load64(&barrier->kin__o.word) & BROKEN) != 0;
    (void)kin__no_object(barrier, KIN_TYPE_BARRIER);
    return false;
}
