/* Every crash point of the synchronisation objects, in every arrangement in which it is passed: a process dies there,
 * and two threads of another one go on at once and find what the Death tables of the headers say. Points that are in
 * no arrangement must be named in another crash test, so that a new point cannot be forgotten.
 * @ctest TIMEOUT 120 */
#include "crash_support.h"

#include "atomic.h"
#include "crash_points.h"

#include <string.h>
#include <uv.h>

#define OTHERS 2
#define SURVIVED 77
#define LATE_MS 2000 /* the aim is 100 ms; the machine may be busy */

enum { NOT_SOUND = 40, NOT_RELEASED = 41, WRONG_COUNT = 42 };
enum { LOCK, RLOCK, WRITE, READ };

/* In shared memory; made anew for each death. */
struct world {
    kin_lock lock, a, b, own;
    kin_rlock rlock;
    kin_rwlock rw;
    kin_semaphore semaphore;
    kin_event event;
    kin_condition more;
    kin_barrier barrier;
    uint64_t first, second; /* equal whenever nobody is in the middle */
    int64_t items;
    uint32_t ready, go, at_a;
};

static kin_segment *segment;
static struct world *world;

typedef struct arrangement arrangement;

/* One of the others. */
typedef struct other {
    uv_thread_t thread;
    const arrangement *a;
    int number, code;
    uint32_t done;
    uint64_t done_ns;
    char says[512];
} other;

/* What is being done to one victim. */
typedef struct run {
    const arrangement *a;
    const char *point;
    int nth;
    kin_process *victim;
    int64_t pid;
    bool died;
    int heirs; /* how often the lock was got with KIN_EOWNERDEAD */
    other others[OTHERS];
} run;

/* In this order: prepare; the victim's begin; the others, if they come first, go to sleep; the victim's act, at a
 * point of which it may die, or before which it may sleep; else the others now; let_go; the victim has ended: after;
 * the others have ended: settle. */
struct arrangement {
    const char *name, *points; /* beginnings of the names of points that may be passed */
    int kind, other_kind, units;
    bool undo;
    bool others_first, others_sleep, sleeps;
    void (*prepare)(run *r);
    int (*begin)(struct world *w, const arrangement *a);
    int (*enter)(struct world *w, const arrangement *a); /* just before act */
    int (*act)(struct world *w, const arrangement *a);
    int (*other)(struct world *w, const arrangement *a, int number);
    void (*let_go)(run *r);
    void (*after)(run *r);
    void (*settle)(run *r);
};

static bool is(const run *r, const char *beginning) { return strncmp(r->point, beginning, strlen(beginning)) == 0; }

static bool is_one_of(const run *r, const char *const *points)
{
    for (; *points != NULL; points++) {
        if (strcmp(r->point, *points) == 0)
            return true;
    }
    return false;
}

/* ---- locks: kin_lock, kin_rlock, kin_rwlock ---- */

static kin_err take(struct world *w, int kind)
{
    switch (kind) {
    case LOCK:
        return kin_lock_acquire(&w->lock, KIN_FOREVER);
    case RLOCK:
        return kin_rlock_acquire(&w->rlock, KIN_FOREVER);
    case WRITE:
        return kin_rwlock_acquire_write(&w->rw, KIN_FOREVER);
    default:
        return kin_rwlock_acquire_read(&w->rw, KIN_FOREVER);
    }
}

static kin_err give(struct world *w, int kind)
{
    return kind == LOCK    ? kin_lock_release(&w->lock)
           : kind == RLOCK ? kin_rlock_release(&w->rlock)
                           : kin_rwlock_release(&w->rw);
}

/* Once, soundly; how it was got. */
static int use(struct world *w, int kind)
{
    kin_err err = take(w, kind);
    if (err == KIN_EOWNERDEAD && kind != READ)
        w->second = w->first;
    else if (err != KIN_OK && err != KIN_EOWNERDEAD)
        return err;
    bool sound = w->first == w->second || (kind == READ && err == KIN_EOWNERDEAD);
    if (kind == RLOCK && kin_rlock_count(&w->rlock) != 1)
        return WRONG_COUNT;
    if (kind != READ) {
        w->first++;
        w->second++;
    }
    if (give(w, kind) != KIN_OK)
        return NOT_RELEASED;
    return sound ? err : NOT_SOUND;
}

static int act_use(struct world *w, const arrangement *a)
{
    int code = use(w, a->kind);
    return code == KIN_EOWNERDEAD ? KIN_OK : code;
}

static int begin_hold(struct world *w, const arrangement *a)
{
    kin_err err = take(w, a->kind);
    if (a->kind == RLOCK && err == KIN_OK)
        err = kin_rlock_acquire(&w->rlock, KIN_NOWAIT);
    if (a->kind != READ)
        w->first++;
    return err;
}

static int act_give(struct world *w, const arrangement *a)
{
    if (a->kind != READ)
        w->second++;
    if (a->kind == RLOCK && kin_rlock_release(&w->rlock) != KIN_OK)
        return NOT_RELEASED;
    return give(w, a->kind);
}

static int other_use(struct world *w, const arrangement *a, int number)
{
    (void)number;
    return use(w, a->other_kind);
}

static void prepare_take(run *r) { check(take(world, r->a->units)); /* `units`: as what the parent has it */ }

static void let_go_give(run *r) { check(give(world, r->a->units)); }

static void take_and_end(void *arg)
{
    (void)take(world, *(int *)arg);
    world->first++;
}

static void prepare_leave(run *r)
{
    uv_thread_t thread;
    int kind = r->a->kind;
    assert_int_equal(uv_thread_create(&thread, take_and_end, &kind), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
}

/* How many of the others get it with KIN_EOWNERDEAD when the victim died here. */
static bool died_holding(const run *r)
{
    static const char *const holding[] = {"lock.acquired",  "lock.acquired.slowly", "lock.taken.over",
                                          "lock.releasing", "rlock.acquired",       "rlock.releasing",
                                          "rwlock.writing", "rwlock.releasing",     NULL};
    static const char *const damaged[] = {
        "rwlock.owned", "rwlock.drained", "rwlock.entered", "rwlock.reading", "rwlock.leaving", "rwlock.left", NULL};
    return r->died && (is_one_of(r, holding) || (r->a->prepare == prepare_leave && is_one_of(r, damaged)));
}

/* One heir, which may be the parent; but readers all are, until a writer has had it. */
static void settle_locks(run *r)
{
    bool held = died_holding(r), readers = r->a->other_kind == READ;
    int kind = r->a->kind == READ ? WRITE : r->a->kind, last = use(world, kind);
    for (int i = 0; i < OTHERS; i++) {
        if (r->others[i].code != KIN_OK && r->others[i].code != KIN_EOWNERDEAD)
            fail_msg("%s, %s: another ended with %d: %s", r->a->name, r->point, r->others[i].code, r->others[i].says);
    }
    if (r->heirs + (last == KIN_EOWNERDEAD) != (held ? readers ? OTHERS + 1 : 1 : 0))
        fail_msg("%s, %s:%d: %d of the others, and the parent with %d, got it with KIN_EOWNERDEAD", r->a->name,
                 r->point, r->nth, r->heirs, last);
    assert_int_equal(use(world, kind), KIN_OK);
    assert_int_equal(use(world, kind == WRITE ? READ : kind), KIN_OK);
}

/* ---- semaphores: `units` are there at the beginning ---- */

static int act_units(struct world *w, const arrangement *a)
{
    (void)a;
    kin_err err = kin_semaphore_acquire(&w->semaphore, KIN_FOREVER);
    return err != KIN_OK ? err : kin_semaphore_release(&w->semaphore);
}

static int other_units(struct world *w, const arrangement *a, int number)
{
    (void)number;
    return act_units(w, a);
}

static int begin_all_units(struct world *w, const arrangement *a)
{
    kin_err err = KIN_OK;
    for (int i = 0; i < a->units && err == KIN_OK; i++)
        err = kin_semaphore_acquire(&w->semaphore, KIN_NOWAIT);
    return err;
}

static int act_give_units(struct world *w, const arrangement *a)
{
    return a->units == 1 ? kin_semaphore_release(&w->semaphore) : kin_semaphore_release_many(&w->semaphore, a->units);
}

static void prepare_unit(run *r)
{
    (void)r;
    check(kin_semaphore_acquire(&world->semaphore, KIN_NOWAIT));
}

static void let_go_unit(run *r)
{
    (void)r;
    check(kin_semaphore_release(&world->semaphore));
}

/* Without undo a unit dies with who has it. Who knows that can give it. */
static void after_units(run *r)
{
    if (r->died && !r->a->undo && is(r, "semaphore.taken"))
        check(kin_semaphore_release(&world->semaphore));
}

static void settle_units(run *r)
{
    for (int i = 0; i < OTHERS; i++)
        assert_int_equal(r->others[i].code, KIN_OK);
    if (kin_semaphore_units(&world->semaphore) != r->a->units)
        fail_msg("%s, %s:%d: %d units instead of %d", r->a->name, r->point, r->nth,
                 (int)kin_semaphore_units(&world->semaphore), r->a->units);
    for (int i = 0; i < r->a->units; i++)
        check(kin_semaphore_acquire(&world->semaphore, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&world->semaphore, KIN_NOWAIT));
    check(kin_semaphore_release_many(&world->semaphore, r->a->units));
    check_fails(r->a->undo ? KIN_EPERM : KIN_ERANGE, kin_semaphore_release(&world->semaphore));
}

/* ---- events ---- */

static int act_wait_event(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_event_wait(&w->event, KIN_FOREVER);
}

static int other_wait_event(struct world *w, const arrangement *a, int number)
{
    (void)number;
    return act_wait_event(w, a);
}

static int act_set(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_event_set(&w->event);
}

/* Cleared before anybody can have run. */
static void let_go_event(run *r)
{
    (void)r;
    check(kin_event_set(&world->event));
    check(kin_event_clear(&world->event));
}

static void settle_event(run *r)
{
    for (int i = 0; i < OTHERS; i++)
        assert_int_equal(r->others[i].code, KIN_OK);
    assert_true(kin_event_is_set(&world->event) == (r->a->act == act_set));
}

/* ---- conditions: items, one for each of the three ---- */

static kin_err wait_more(struct world *w, int kind)
{
    return kind == LOCK ? kin_condition_wait(&w->more, &w->lock, KIN_FOREVER)
                        : kin_condition_wait(&w->more, &w->rlock, KIN_FOREVER);
}

static kin_err notify(struct world *w, int kind, int n)
{
    if (n > OTHERS)
        return kind == LOCK ? kin_condition_notify_all(&w->more, &w->lock)
                            : kin_condition_notify_all(&w->more, &w->rlock);
    return kind == LOCK ? kin_condition_notify(&w->more, &w->lock, n) : kin_condition_notify(&w->more, &w->rlock, n);
}

/* With the lock; KIN_EOWNERDEAD if it came from a dead one. */
static int consume(struct world *w, int kind)
{
    int result = KIN_OK;
    while (w->items == 0) {
        kin_err err = wait_more(w, kind);
        if (err == KIN_EOWNERDEAD)
            result = err;
        else if (err != KIN_OK)
            return err;
    }
    w->items--;
    return result;
}

static int act_consume(struct world *w, const arrangement *a)
{
    int code = consume(w, a->kind);
    if (code != KIN_OK && code != KIN_EOWNERDEAD)
        return code;
    w->second++;
    if (a->kind == RLOCK && (kin_rlock_count(&w->rlock) != 2 || kin_rlock_release(&w->rlock) != KIN_OK))
        return WRONG_COUNT;
    return give(w, a->kind);
}

static int other_consume(struct world *w, const arrangement *a, int number)
{
    (void)number;
    kin_err err = take(w, a->kind);
    if (err != KIN_OK && err != KIN_EOWNERDEAD)
        return err;
    int code = consume(w, a->kind);
    return give(w, a->kind) != KIN_OK ? NOT_RELEASED : code == KIN_OK ? err : code;
}

/* To the one that waits last: if that is the victim, its death must do for the others. */
static void let_go_items(run *r)
{
    kin_err err = take(world, r->a->kind);
    r->heirs += err == KIN_EOWNERDEAD;
    world->items = 1 + OTHERS;
    check(notify(world, r->a->kind, crash_asleep(r->pid) > 0 ? 1 : OTHERS + 1));
    check(give(world, r->a->kind));
}

/* But if it lives, it was the one to be notified. */
static void after_items(run *r)
{
    if (r->died)
        return;
    check(take(world, r->a->kind));
    check(notify(world, r->a->kind, OTHERS + 1));
    check(give(world, r->a->kind));
}

static int act_notify(struct world *w, const arrangement *a)
{
    w->items = OTHERS;
    w->second++;
    kin_err err = notify(w, a->kind, a->units);
    if (a->kind == RLOCK && err == KIN_OK)
        err = kin_rlock_release(&w->rlock);
    return err != KIN_OK ? err : give(w, a->kind);
}

static void settle_items(run *r)
{
    static const char *const waiting[] = {"lock.acquired.slowly",
                                          "lock.taken.over",
                                          "lock.releasing",
                                          "rlock.releasing",
                                          "condition.relocked",
                                          "park.published",
                                          NULL};
    static const char *const notifying[] = {"lock.releasing", "rlock.releasing", "condition.notified", NULL};
    bool held = is_one_of(r, r->a->act == act_notify ? notifying : waiting);
    if (r->a->act == act_notify && strcmp(r->point, "park.waking") == 0)
        held = r->nth <= OTHERS; /* the next wake is that of the release */
    if (r->a->act == act_consume && strcmp(r->point, "park.published") == 0)
        held = r->nth == 1; /* the second time it sleeps on the lock */
    for (int i = 0; i < OTHERS; i++) {
        if (r->others[i].code != KIN_OK && r->others[i].code != KIN_EOWNERDEAD)
            fail_msg("%s, %s: another ended with %d: %s", r->a->name, r->point, r->others[i].code, r->others[i].says);
    }
    if (r->heirs != (r->died && held))
        fail_msg("%s, %s:%d: %d got the lock with KIN_EOWNERDEAD", r->a->name, r->point, r->nth, r->heirs);
    check(take(world, r->a->kind));
    /* Waking another it may have been on its way into the wait, or out of it. */
    bool either = is(r, "lock.released") || is(r, "park.waking"),
         had_it = !r->died || is(r, "lock.rel") || is(r, "rlock.rel");
    if (r->a->act == act_consume && (either ? world->items > 1 : world->items == had_it))
        fail_msg("%s, %s:%d: %d items are left", r->a->name, r->point, r->nth, (int)world->items);
    if (r->a->act == act_notify && world->items != 0)
        fail_msg("%s, %s:%d: %d items are left", r->a->name, r->point, r->nth, (int)world->items);
    check(give(world, r->a->kind));
}

/* ---- barriers: for `units` ---- */

static int act_barrier(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_barrier_wait(&w->barrier, KIN_FOREVER, NULL);
}

static int other_barrier(struct world *w, const arrangement *a, int number)
{
    (void)number;
    return act_barrier(w, a);
}

static kin_err nothing(void *arg)
{
    (void)arg;
    return KIN_OK;
}

static int act_action(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_barrier_wait_action(&w->barrier, nothing, NULL, KIN_FOREVER, NULL);
}

static int act_late(struct world *w, const arrangement *a)
{
    (void)a;
    kin_err err = kin_barrier_wait(&w->barrier, 1, NULL);
    return err == KIN_ETIMEDOUT ? KIN_OK : err;
}

static int act_abort(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_barrier_abort(&w->barrier);
}

static int act_reset(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_barrier_reset(&w->barrier);
}

static void wait_barrier(void *arg) { *(kin_err *)arg = kin_barrier_wait(&world->barrier, test_ms(20000), NULL); }

/* As new, once it was reset. */
static void use_barrier(int parties)
{
    uv_thread_t threads[4];
    kin_err errors[4];
    check(kin_barrier_reset(&world->barrier));
    assert_false(kin_barrier_is_broken(&world->barrier));
    for (int i = 1; i < parties; i++)
        assert_int_equal(uv_thread_create(&threads[i], wait_barrier, &errors[i]), 0);
    wait_barrier(&errors[0]);
    for (int i = 0; i < parties; i++) {
        if (i > 0)
            assert_int_equal(uv_thread_join(&threads[i]), 0);
        assert_int_equal(errors[i], KIN_OK);
    }
}

static void settle_barrier(run *r)
{
    static const char *const complete[] = {"barrier.completed", "park.waking", "park.woken", NULL};
    bool in_round = r->a->act == act_barrier || r->a->act == act_action,
         went_on = in_round && (!r->died || is_one_of(r, complete));
    for (int i = 0; i < OTHERS; i++) {
        const other *o = &r->others[i];
        char who[64];
        (void)snprintf(who, sizeof who, "'Victim' (pid %lld, ended by signal 9)", (long long)r->pid);
        if (o->code != (went_on ? KIN_OK : KIN_EBROKEN))
            fail_msg("%s, %s:%d: another's wait gave %d: %s", r->a->name, r->point, r->nth, o->code, o->says);
        if (in_round && !went_on && strstr(o->says, who) == NULL)
            fail_msg("%s, %s:%d: %s is not in \"%s\"", r->a->name, r->point, r->nth, who, o->says);
    }
    if (r->died && in_round) {
        check_fails(KIN_EBROKEN, kin_barrier_wait(&world->barrier, KIN_NOWAIT, NULL));
        check_says("'Victim' (pid ");
    }
    use_barrier(r->a->units);
}

/* ---- a deadlock that the victim's wait closes ---- */

static int begin_b(struct world *w, const arrangement *a)
{
    (void)a;
    return kin_lock_acquire(&w->b, KIN_NOWAIT);
}

static int act_cycle(struct world *w, const arrangement *a)
{
    (void)a;
    kin_err err = kin_lock_acquire(&w->a, KIN_FOREVER);
    if (err == KIN_OK)
        err = kin_lock_release(&w->a);
    return err == KIN_EDEADLK || err == KIN_OK ? kin_lock_release(&w->b) : err;
}

/* One has a and wants b; one wants a only. */
static int other_cycle(struct world *w, const arrangement *a, int number)
{
    (void)a;
    if (number > 0 && !crash_until_at_least(&w->at_a, 1))
        return NOT_SOUND;
    kin_err err = kin_lock_acquire(&w->a, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    kin__store32(&w->at_a, 1);
    if (number == 0) {
        err = kin_lock_acquire(&w->b, KIN_FOREVER);
        if ((err == KIN_OK || err == KIN_EOWNERDEAD) && kin_lock_release(&w->b) != KIN_OK)
            return NOT_RELEASED;
    }
    kin_err end = kin_lock_release(&w->a);
    return end != KIN_OK ? NOT_RELEASED : err;
}

static void settle_cycle(run *r)
{
    assert_int_equal(r->others[1].code, KIN_OK);
    int code = r->others[0].code;
    if (code != KIN_EDEADLK && code != (r->died ? KIN_EOWNERDEAD : KIN_OK))
        fail_msg("%s, %s:%d: the other in the cycle ended with %d: %s", r->a->name, r->point, r->nth, code,
                 r->others[0].says);
    check(kin_lock_acquire(&world->a, KIN_NOWAIT));
    check(kin_lock_release(&world->a));
    kin_err err = kin_lock_acquire(&world->b, KIN_NOWAIT);
    assert_int_equal(err, code == KIN_EDEADLK && r->died ? KIN_EOWNERDEAD : KIN_OK);
    check(kin_lock_release(&world->b));
}

/* ---- all of them ---- */

#define ALL_LOCKS "lock. rlock. rwlock. park."
#define LOCKS(what, how)                                                                                               \
    {what ": gives",       ALL_LOCKS,           .kind = how,     .other_kind = how,  .others_first = true,             \
     .others_sleep = true, .begin = begin_hold, .act = act_give, .other = other_use, .settle = settle_locks},          \
        {what ": waits",        ALL_LOCKS,                                                                             \
         .kind = how,           .other_kind = how,                                                                     \
         .units = how,          .others_sleep = true,                                                                  \
         .sleeps = true,        .prepare = prepare_take,                                                               \
         .act = act_use,        .other = other_use,                                                                    \
         .let_go = let_go_give, .settle = settle_locks},                                                               \
        {what ": waits last",   ALL_LOCKS,          .kind = how,                                                       \
         .other_kind = how,     .units = how,       .others_first = true,                                              \
         .others_sleep = true,  .sleeps = true,     .prepare = prepare_take,                                           \
         .act = act_use,        .other = other_use, .let_go = let_go_give,                                             \
         .settle = settle_locks},                                                                                      \
        {what ": nobody else", ALL_LOCKS,          .kind = how,           .other_kind = how,                           \
         .act = act_use,       .other = other_use, .settle = settle_locks},                                            \
    {                                                                                                                  \
        what ": inherits", ALL_LOCKS, .kind = how, .other_kind = how, .prepare = prepare_leave, .act = act_use,        \
                                      .other = other_use, .settle = settle_locks                                       \
    }

#define UNITS(what, with)                                                                                              \
    {what ": nobody else", "semaphore. park.",   .undo = with,         .units = 3,                                     \
     .act = act_units,     .other = other_units, .after = after_units, .settle = settle_units},                        \
        {what ": waits",       "semaphore. park.",      .undo = with,     .units = 1,           .others_sleep = true,  \
         .sleeps = true,       .prepare = prepare_unit, .act = act_units, .other = other_units, .let_go = let_go_unit, \
         .after = after_units, .settle = settle_units},                                                                \
        {what ": waits last",   "semaphore. park.",   .undo = with,          .units = 1,                               \
         .others_first = true,  .others_sleep = true, .sleeps = true,        .prepare = prepare_unit,                  \
         .act = act_units,      .other = other_units, .let_go = let_go_unit, .after = after_units,                     \
         .settle = settle_units},                                                                                      \
        {what ": gives",                                                                                               \
         "semaphore. park.",                                                                                           \
         .undo = with,                                                                                                 \
         .units = 1,                                                                                                   \
         .others_first = true,                                                                                         \
         .others_sleep = true,                                                                                         \
         .begin = begin_all_units,                                                                                     \
         .act = act_give_units,                                                                                        \
         .other = other_units,                                                                                         \
         .settle = settle_units},                                                                                      \
    {                                                                                                                  \
        what ": gives two", "semaphore. park.", .undo = with, .units = 2, .others_first = true, .others_sleep = true,  \
                                                .begin = begin_all_units, .act = act_give_units, .other = other_units, \
                                                .settle = settle_units                                                 \
    }

#define CONDITIONS(what, how)                                                                                          \
    {what ": waits",                                                                                                   \
     "condition. lock. rlock. park.",                                                                                  \
     .kind = how,                                                                                                      \
     .others_sleep = true,                                                                                             \
     .sleeps = true,                                                                                                   \
     .begin = begin_hold,                                                                                              \
     .act = act_consume,                                                                                               \
     .other = other_consume,                                                                                           \
     .let_go = let_go_items,                                                                                           \
     .after = after_items,                                                                                             \
     .settle = settle_items},                                                                                          \
        {what ": notifies",                                                                                            \
         "condition. lock. rlock. park.",                                                                              \
         .kind = how,                                                                                                  \
         .units = OTHERS,                                                                                              \
         .others_first = true,                                                                                         \
         .others_sleep = true,                                                                                         \
         .enter = begin_hold,                                                                                          \
         .act = act_notify,                                                                                            \
         .other = other_consume,                                                                                       \
         .settle = settle_items},                                                                                      \
    {                                                                                                                  \
        what ": notifies all", "condition. lock. rlock. park.",                                                        \
            .kind = how, .units = OTHERS + 1, .others_first = true, .others_sleep = true, .enter = begin_hold,         \
            .act = act_notify, .other = other_consume, .settle = settle_items                                          \
    }

#define BARRIERS "barrier. park."

static const arrangement arrangements[] = {
    LOCKS("lock", LOCK),
    LOCKS("rlock", RLOCK),
    LOCKS("rwlock, writer", WRITE),
    {"rwlock, writer: readers inherit", ALL_LOCKS, .kind = WRITE, .other_kind = READ, .prepare = prepare_leave,
     .act = act_use, .other = other_use, .settle = settle_locks},
    {"rwlock, writer: gives to readers", ALL_LOCKS, .kind = WRITE, .other_kind = READ, .others_first = true,
     .others_sleep = true, .begin = begin_hold, .act = act_give, .other = other_use, .settle = settle_locks},
    {"rwlock, writer: waits for readers", ALL_LOCKS, .kind = WRITE, .other_kind = READ, .units = READ,
     .others_sleep = false, .sleeps = true, .prepare = prepare_take, .act = act_use, .other = other_use,
     .let_go = let_go_give, .settle = settle_locks},
    {"rwlock, reader: nobody else", ALL_LOCKS, .kind = READ, .other_kind = WRITE, .act = act_use, .other = other_use,
     .settle = settle_locks},
    {"rwlock, reader: waits", ALL_LOCKS, .kind = READ, .other_kind = WRITE, .units = WRITE, .others_sleep = true,
     .sleeps = true, .prepare = prepare_take, .act = act_use, .other = other_use, .let_go = let_go_give,
     .settle = settle_locks},
    {"rwlock, reader: leaves", ALL_LOCKS, .kind = READ, .other_kind = WRITE, .others_first = true, .others_sleep = true,
     .begin = begin_hold, .act = act_give, .other = other_use, .settle = settle_locks},
    UNITS("semaphore", false),
    UNITS("semaphore with undo", true),
    {"event: waits", "event. park.", .others_sleep = true, .sleeps = true, .act = act_wait_event,
     .other = other_wait_event, .let_go = let_go_event, .settle = settle_event},
    {"event: waits last", "event. park.", .others_first = true, .others_sleep = true, .sleeps = true,
     .act = act_wait_event, .other = other_wait_event, .let_go = let_go_event, .settle = settle_event},
    {"event: sets", "event. park.", .others_first = true, .others_sleep = true, .act = act_set,
     .other = other_wait_event, .settle = settle_event},
    CONDITIONS("condition with a lock", LOCK),
    CONDITIONS("condition with an rlock", RLOCK),
    {"barrier: comes first", BARRIERS, .units = 3, .sleeps = true, .act = act_barrier, .other = other_barrier,
     .settle = settle_barrier},
    {"barrier: comes last", BARRIERS, .units = 3, .others_first = true, .others_sleep = true, .act = act_barrier,
     .other = other_barrier, .settle = settle_barrier},
    {"barrier: comes last, with an action", BARRIERS, .units = 3, .others_first = true, .others_sleep = true,
     .act = act_action, .other = other_barrier, .settle = settle_barrier},
    {"barrier: times out", "barrier.b park.", .units = 4, .others_first = true, .others_sleep = true, .act = act_late,
     .other = other_barrier, .settle = settle_barrier},
    {"barrier: aborts", BARRIERS, .units = 4, .others_first = true, .others_sleep = true, .act = act_abort,
     .other = other_barrier, .settle = settle_barrier},
    {"barrier: resets", BARRIERS, .units = 4, .others_first = true, .others_sleep = true, .act = act_reset,
     .other = other_barrier, .settle = settle_barrier},
    {"deadlock", "deadlock. park.", .others_first = true, .others_sleep = true, .sleeps = true, .begin = begin_b,
     .act = act_cycle, .other = other_cycle, .settle = settle_cycle},
};
#define ARRANGEMENTS (sizeof arrangements / sizeof arrangements[0])

#define POINT(name, file, tests) {name, file, tests, 0},
static struct {
    const char *name, *file, *tests;
    int deaths;
} points[] = {CRASH_POINTS(POINT)};
#define POINTS (sizeof points / sizeof points[0])

/* ---- one death ---- */

static int victim(kin_args *args)
{
    kin_segment *mine;
    int64_t index;
    const char *point;
    CHILD_CHECK(kin_unpack(args, &mine, &index, &point) == KIN_OK && index >= 0 && (size_t)index < ARRANGEMENTS);
    const arrangement *a = &arrangements[index];
    struct world *w = kin_segment_data(mine);
    CHILD_CHECK(kin_lock_acquire(&w->own, KIN_NOWAIT) == KIN_OK &&
                kin_lock_release(&w->own) == KIN_OK); /* the first is never the short way */
    CHILD_CHECK(a->begin == NULL || a->begin(w, a) == KIN_OK);
    kin__store32(&w->ready, 1);
    CHILD_CHECK(crash_until_at_least(&w->go, 1));
    CHILD_CHECK(a->enter == NULL || a->enter(w, a) == KIN_OK);
    crash_at(point);
    int code = a->act(w, a);
    crash_at(NULL);
    CHILD_CHECK(code == KIN_OK);
    return SURVIVED;
}

static void be_another(void *arg)
{
    other *o = arg;
    o->code = o->a->other(world, o->a, o->number);
    (void)snprintf(o->says, sizeof o->says, "%s", kin_last_error());
    o->done_ns = uv_hrtime();
    kin__store32(&o->done, 1);
}

static void make_world(const arrangement *a)
{
    memset(world, 0, sizeof *world);
    check(kin_lock_init(&world->lock, NULL));
    check(kin_lock_init(&world->a, &(kin_lock_options){.name = "a"}));
    check(kin_lock_init(&world->b, &(kin_lock_options){.name = "b"}));
    check(kin_lock_init(&world->own, NULL));
    check(kin_rlock_init(&world->rlock, NULL));
    check(kin_rwlock_init(&world->rw, NULL));
    int units = a->units > 0 ? a->units : 1;
    check(kin_semaphore_init(&world->semaphore, units, &(kin_semaphore_options){.bound = units, .undo = a->undo}));
    check(kin_event_init(&world->event, NULL));
    check(kin_condition_init(&world->more, NULL));
    check(kin_barrier_init(&world->barrier, units, &(kin_barrier_options){.name = "start line"}));
}

static void start_others(run *r)
{
    for (int i = 0; i < OTHERS; i++) {
        r->others[i] = (other){.a = r->a, .number = i};
        assert_int_equal(uv_thread_create(&r->others[i].thread, be_another, &r->others[i]), 0);
    }
    if (r->a->others_sleep && !crash_until_asleep(OTHERS))
        fail_msg("%s, %s:%d: the others do not sleep", r->a->name, r->point, r->nth);
}

static bool sleeps_or_ended(void *arg)
{
    const run *r = arg;
    bool on_its_way =
        r->nth == 1 && (is(r, "park.published") || is(r, "park.sleeping")); /* looks asleep before it is dead */
    return !kin_process_alive(r->victim) || (r->a->sleeps && !on_its_way && crash_asleep(r->pid) > 0);
}

/* How often somebody went on too late. A machine that stood still for a moment is no fault of kin's. */
static int late;

static void end_others(run *r, uint64_t since)
{
    static uint64_t slowest;
    for (int i = 0; i < OTHERS; i++) {
        other *o = &r->others[i];
        if (!crash_until_at_least(&o->done, 1)) {
            crash_print_threads(&world->lock);
            fail_msg("%s, %s:%d: another waits for ever", r->a->name, r->point, r->nth);
        }
        assert_int_equal(uv_thread_join(&o->thread), 0);
        r->heirs += o->code == KIN_EOWNERDEAD;
        uint64_t took = o->done_ns > since ? (o->done_ns - since) / 1000 : 0;
        if (took > slowest && r->died) {
            slowest = took;
            print_message("slowest so far: %llu us in '%s' at %s:%d\n", (unsigned long long)took, r->a->name, r->point,
                          r->nth);
        }
        late += took > (uint64_t)test_ms(LATE_MS) * 1000;
    }
}

/* Whether the victim died at the point. */
static bool die(size_t index, const char *point, int nth)
{
    const arrangement *a = &arrangements[index];
    run r = {.a = a, .point = point, .nth = nth};
    char at[80];
    (void)snprintf(at, sizeof at, "%s:%d", point, nth);
    make_world(a);
    if (a->prepare != NULL)
        a->prepare(&r);
    r.victim = test_start_with(victim, KIN_ARGS(segment, (int64_t)index, at), (kin_process_options){.name = "Victim"});
    r.pid = kin_process_pid(r.victim);
    assert_true(crash_until_at_least(&world->ready, 1));
    if (a->others_first)
        start_others(&r);
    uint64_t since = uv_hrtime();
    kin__store32(&world->go, 1);
    assert_true(crash_until(sleeps_or_ended, &r));
    if (!a->others_first) {
        since = uv_hrtime();
        start_others(&r);
    }
    if (a->let_go != NULL) {
        since = uv_hrtime();
        a->let_go(&r);
    }
    int code = crash_join(r.victim);
    r.died = code == -9;
    if (!r.died && code != SURVIVED)
        fail_msg("%s, %s: the victim ended with %d", a->name, at, code);
    if (a->after != NULL)
        a->after(&r);
    end_others(&r, since);
    a->settle(&r);
    return r.died;
}

static bool may_pass(const arrangement *a, const char *point)
{
    for (const char *beginning = a->points; beginning != NULL; beginning = strchr(beginning, ' ')) {
        beginning += *beginning == ' ';
        if (strncmp(beginning, point, strcspn(beginning, " ")) == 0)
            return true;
    }
    return false;
}

/* Each point that the arrangement passes, as often as it passes it; a few times only where a process is dear. */
static int die_everywhere_in(size_t index)
{
    int deaths = 0, often = test_scale(1, 0);
    for (size_t i = 0; i < POINTS; i++) {
        int nth = 1, most = test_scale(40, 1) >= 4 ? 4 : 1;
        if (!may_pass(&arrangements[index], points[i].name) || (often == 0 && points[i].deaths >= 2))
            continue;
        while (nth <= most && die(index, points[i].name, nth))
            nth++;
        points[i].deaths += nth - 1;
        deaths += nth - 1;
    }
    return deaths;
}

static void every_point(void **state)
{
    (void)state;
    int deaths = 0;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    for (size_t i = 0; i < ARRANGEMENTS; i++)
        deaths += die_everywhere_in(i);
    print_message("%d deaths\n", deaths);
    assert_true(late <= 2 * OTHERS);
}

/* Files whose points must all be passed here. */
static bool is_ours(const char *file)
{
    static const char *const files[] = {"lock",      "rlock",   "rwlock", "semaphore", "event",
                                        "condition", "barrier", "park",   "deadlock"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "src/%s.c", files[i]);
        if (strcmp(file, path) == 0)
            return true;
    }
    return false;
}

/* Files whose points must all be passed in queue_points_test. */
static bool is_a_queues(const char *file)
{
    static const char *const files[] = {"src/ring.c",       "src/ring_put.c", "src/ring_get.c",
                                        "src/ring_quick.h", "src/bag.c",      "src/latch.c",
                                        "src/latch.h",      "src/region.c",   "src/large.c",
                                        "src/queue.c",      "src/queue_join.c"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(file, files[i]) == 0)
            return true;
    }
    return false;
}

static bool is_tested_elsewhere(const char *tests) { return tests[0] != 0 && strcmp(tests, "points_test") != 0; }

static void no_point_is_forgotten(void **state)
{
    (void)state;
    int forgotten = 0;
    for (size_t i = 0; i < POINTS; i++) {
        if (points[i].deaths > 0 || is_a_queues(points[i].file) ||
            (!is_ours(points[i].file) && is_tested_elsewhere(points[i].tests)))
            continue;
        print_error("nobody dies at %s of %s\n", points[i].name, points[i].file);
        forgotten++;
    }
    assert_int_equal(forgotten, 0);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_point), cmocka_unit_test(no_point_is_forgotten)};
    return cmocka_run_group_tests_name("points", tests, NULL, NULL);
}
