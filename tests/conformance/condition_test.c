/* kin/condition.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 8, SLOTS = 4 };

struct shared {
    kin_lock lock, another;
    kin_rlock rlock;
    kin_condition condition, not_full, not_empty;
    /* Protected by one of the locks. */
    uint32_t waiting, woken, order[64], patient, notified, told, timed_out;
    bool ready;
    int64_t turn;
    int64_t slots[SLOTS];
    uint64_t put, got, sum_put, sum_got;
    /* For all. */
    uint32_t go, done;
    sync_actor actors[ACTORS];
};

static kin_segment *segment;
static struct shared *shared;
static sync_crew crew;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "desk"}));
    check(kin_lock_init(&shared->another, &(kin_lock_options){.name = "drawer"}));
    check(kin_rlock_init(&shared->rlock, &(kin_rlock_options){.name = "deep"}));
    check(kin_condition_init(&shared->condition, &(kin_condition_options){.name = "letters"}));
    check(kin_condition_init(&shared->not_full, NULL));
    check(kin_condition_init(&shared->not_empty, NULL));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (sync_abandon(&crew))
        kin_segment_close(segment);
    return 0;
}

/* ---- actors ---- */

enum { ACQUIRE, RELEASE, WAIT, WAIT_FOR, NOTIFY, WAIT_AND_NOTE, DEEP_WAIT, HELD, RACQUIRE, RRELEASE };

static bool is_ready(void *arg)
{
    const struct shared *s = arg;
    return s->ready && kin_lock_held(&s->lock);
}

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_lock *lock = order->object == 0 ? &s->lock : &s->another;
    kin_err err, end;
    switch (order->call) {
    case ACQUIRE:
        return kin_lock_acquire(lock, order->number);
    case RELEASE:
        return kin_lock_release(lock);
    case RACQUIRE:
        return kin_rlock_acquire(&s->rlock, order->number);
    case RRELEASE:
        return kin_rlock_release(&s->rlock);
    case WAIT: /* with the lock held before and after */
        s->waiting++;
        err = kin_condition_wait(&s->condition, lock, order->number);
        order->result = kin_lock_held(lock);
        return err;
    case WAIT_FOR:
        err = kin_lock_acquire(&s->lock, KIN_FOREVER);
        s->waiting++;
        if (err == KIN_OK)
            err = kin_condition_wait_for(&s->condition, &s->lock, is_ready, s, order->number);
        order->result = s->ready;
        end = kin_lock_release(&s->lock);
        return err != KIN_OK ? err : end;
    case NOTIFY:
        return kin_condition_notify(&s->condition, lock, order->number);
    case WAIT_AND_NOTE: /* object: who; number: the time-out */
        err = kin_lock_acquire(&s->lock, KIN_FOREVER);
        if (err != KIN_OK)
            return err;
        s->waiting++;
        err = kin_condition_wait(&s->condition, &s->lock, order->number);
        if (err == KIN_OK)
            s->order[s->woken++ % 64] = (uint32_t)order->object;
        else
            s->timed_out++;
        end = kin_lock_release(&s->lock);
        return err != KIN_OK ? err : end;
    case DEEP_WAIT: /* object: how deep */
        for (int i = 0; i < order->object; i++) {
            if ((err = kin_rlock_acquire(&s->rlock, KIN_FOREVER)) != KIN_OK)
                return err;
        }
        s->waiting++;
        err = kin_condition_wait(&s->condition, &s->rlock, order->number);
        s->woken++;
        order->result = kin_rlock_count(&s->rlock);
        while (kin_rlock_release(&s->rlock) == KIN_OK) {
        }
        return err;
    case HELD:
        order->result = kin_lock_held(lock) ? 1 : kin_rlock_count(&s->rlock);
        return KIN_OK;
    default:
        return KIN_ENOTSUP;
    }
}

static int act(kin_args *args)
{
    kin_segment *mine;
    int index;
    CHILD_CHECK(kin_unpack(args, &mine, &index) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    return sync_act(&s->actors[index], perform, s);
}

static sync_actor *actor(int index, bool thread)
{
    sync_actor *a = &shared->actors[index];
    if (thread)
        sync_enlist_thread(&crew, a, perform, shared);
    else
        sync_enlist_process(&crew, a, act, KIN_ARGS(segment, index));
    return a;
}

/* Until `number` have said under the lock that they wait: then they do, as the lock could be taken. */
static bool enough_wait(void *arg)
{
    bool enough = false;
    if (kin_lock_acquire(&shared->lock, KIN_FOREVER) == KIN_OK) {
        enough = shared->waiting >= *(uint32_t *)arg;
        (void)kin_lock_release(&shared->lock);
    }
    return enough;
}

static void until_waiting(uint32_t number)
{
    assert_true(crash_until(enough_wait, &number));
}

static void notify(int64_t n)
{
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    check(kin_condition_notify(&shared->condition, &shared->lock, n));
    check(kin_lock_release(&shared->lock));
}

/* ---- alone ---- */

static void waits_and_holds_the_lock_afterwards(void **state)
{
    (void)state;
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->lock, KIN_NOWAIT));
    check_says("letters");
    assert_true(kin_lock_held(&shared->lock));
    int64_t before = kin_now(), cpu = sync_cpu_ms();
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->lock, 300));
    assert_true(kin_now() - before >= 299);
    assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
    check_says("letters");
    assert_true(kin_lock_held(&shared->lock));
    check(kin_condition_notify(&shared->condition, &shared->lock, 1)); /* nobody waits: nothing is kept for later */
    check(kin_condition_notify(&shared->condition, &shared->lock, INT64_MAX));
    check(kin_condition_notify_all(&shared->condition, &shared->lock));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->lock, 20));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->lock, KIN_NOWAIT));
    assert_true(kin_lock_held(&shared->lock));
    check(kin_lock_release(&shared->lock));
    for (int i = 0; i < 3; i++)
        check(kin_rlock_acquire(&shared->rlock, KIN_FOREVER));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->rlock, 20));
    assert_int_equal(kin_rlock_count(&shared->rlock), 3);
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&shared->condition, &shared->rlock, KIN_NOWAIT));
    assert_int_equal(kin_rlock_count(&shared->rlock), 3);
    for (int i = 0; i < 3; i++)
        check(kin_rlock_release(&shared->rlock));
}

static void without_the_lock(void **state)
{
    (void)state;
    struct shared *s = shared;
    kin_lock *closed;
    check(kin_lock_create(&closed, NULL));
    kin_lock_close(closed);
    for (int held_by_other = 0; held_by_other < 2; held_by_other++) {
        if (held_by_other != 0) {
            assert_int_equal(sync_do(actor(0, true), ACQUIRE, 0, KIN_NOWAIT), KIN_OK);
            assert_int_equal(sync_do(&s->actors[0], RACQUIRE, 0, KIN_NOWAIT), KIN_OK);
        }
        check_fails(KIN_EPERM, kin_condition_wait(&s->condition, &s->lock, 1));
        check_fails(KIN_EPERM, kin_condition_wait(&s->condition, &s->lock, KIN_FOREVER));
        check_says("letters");
        check_fails(KIN_EPERM, kin_condition_wait(&s->condition, &s->rlock, 1));
        check_fails(KIN_EPERM, kin_condition_wait_for(&s->condition, &s->lock, is_ready, s, 1));
        s->ready = true;
        check_fails(KIN_EPERM, kin_condition_wait_for(&s->condition, &s->lock, is_ready, s, 1)); /* ready or not */
        s->ready = false;
        check_fails(KIN_EPERM, kin_condition_notify(&s->condition, &s->lock, 1));
        check_fails(KIN_EPERM, kin_condition_notify(&s->condition, &s->rlock, 1));
        check_fails(KIN_EPERM, kin_condition_notify_all(&s->condition, &s->lock));
        assert_false(kin_lock_held(&s->lock));
        assert_int_equal(kin_rlock_count(&s->rlock), 0);
    }
    assert_int_equal(sync_do(&s->actors[0], HELD, 0, 0), KIN_OK);
    assert_int_equal(s->actors[0].result, 1);
    assert_int_equal(sync_do(&s->actors[0], RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(&s->actors[0], RRELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, (kin_lock *)NULL, 1));
    check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, (kin_rlock *)NULL, 1));
    check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, closed, 1));
    check_fails(KIN_EINVAL, kin_condition_wait(NULL, &s->lock, 1));
    check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, &s->lock, -2));
    check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, &s->lock, INT64_MIN));
    check_fails(KIN_EINVAL, kin_condition_wait_for(&s->condition, &s->lock, is_ready, s, -2));
    check_fails(KIN_EINVAL, kin_condition_wait_for(&s->condition, &s->lock, NULL, s, 1));
    check_fails(KIN_EINVAL, kin_condition_wait_for(&s->condition, (kin_lock *)NULL, is_ready, s, 1));
    check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, (kin_lock *)NULL, 1));
    check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, closed, 1));
    check_fails(KIN_EINVAL, kin_condition_notify_all(&s->condition, (kin_rlock *)NULL));
    check_fails(KIN_EINVAL, kin_condition_notify(NULL, &s->lock, 1));
    check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, &s->lock, 0));
    check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, &s->lock, -1));
    check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, &s->lock, INT64_MIN));
    assert_true(kin_lock_held(&s->lock));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&s->condition, &s->lock, 1)); /* and it works */
    check(kin_lock_release(&s->lock));
}

/* ---- notifying ---- */

/* Those who wait longest go on, exactly as many as are notified, whatever the order of their processes. */
static void notifies_exactly_n(int threads)
{
    static const int turns[ACTORS] = {5, 2, 7, 0, 3, 6, 1, 4};
    struct shared *s = shared;
    for (int i = 0; i < ACTORS; i++)
        (void)actor(i, threads == 2 || (threads == 1 && i % 2 != 0));
    for (int round = 0; round < test_scale(20, 4); round++) {
        s->waiting = s->woken = 0;
        for (int i = 0; i < ACTORS; i++) {
            sync_ask(&s->actors[turns[(i + round) % ACTORS]], WAIT_AND_NOTE, i, i % 2 == 0 ? KIN_FOREVER : test_ms(20000));
            until_waiting((uint32_t)i + 1);
        }
        static const int64_t at_once[] = {1, 2, 1, 3, 5}; /* the last: more than there are */
        uint32_t expected = 0;
        for (int step = 0; step < 5; step++) {
            uint32_t from = expected;
            expected += (uint32_t)at_once[step];
            if (expected > ACTORS)
                expected = ACTORS;
            notify(at_once[step]);
            assert_true(crash_until_at_least(&s->woken, expected));
            /* Nobody else has woken; who has woken one too many would be on its way to the lock. */
            for (int i = 0; i < ACTORS; i++)
                (void)sync_until_asleep(&s->actors[i]);
            check(kin_lock_acquire(&s->lock, KIN_FOREVER));
            assert_int_equal(s->woken, expected);
            uint32_t seen = 0;
            for (uint32_t i = from; i < expected; i++) {
                assert_true(s->order[i] >= from && s->order[i] < expected);
                seen |= 1u << s->order[i];
            }
            assert_int_equal(seen, (1u << expected) - (1u << from));
            check(kin_lock_release(&s->lock));
        }
        for (int i = 0; i < ACTORS; i++)
            assert_int_equal(sync_answer(&s->actors[i]), KIN_OK);
    }
    sync_dismiss(&crew);
}

static void notifies_exactly_n_processes(void **state)
{
    (void)state;
    notifies_exactly_n(0);
}

static void notifies_exactly_n_of_both(void **state)
{
    (void)state;
    notifies_exactly_n(1);
}

static void notifies_exactly_n_threads(void **state)
{
    (void)state;
    notifies_exactly_n(2);
}

/* Several notifications under one hold of the lock add up. */
static void notifications_add_up(void **state)
{
    (void)state;
    struct shared *s = shared;
    for (int i = 0; i < 6; i++) {
        sync_ask(actor(i, i % 2 != 0), WAIT_AND_NOTE, i, KIN_FOREVER);
        until_waiting((uint32_t)i + 1);
    }
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    check(kin_condition_notify(&s->condition, &s->lock, 1));
    check(kin_condition_notify(&s->condition, &s->lock, 2));
    check(kin_condition_notify(&s->condition, &s->lock, 1));
    assert_int_equal(s->woken, 0); /* they go on when the lock is released */
    check(kin_lock_release(&s->lock));
    for (int i = 0; i < 4; i++)
        assert_int_equal(sync_answer(&s->actors[i]), KIN_OK);
    assert_false(sync_answered(&s->actors[4]));
    assert_false(sync_answered(&s->actors[5]));
    notify(1);
    assert_int_equal(sync_answer(&s->actors[4]), KIN_OK);
    assert_false(sync_answered(&s->actors[5]));
    notify(1);
    assert_int_equal(sync_answer(&s->actors[5]), KIN_OK);
    sync_dismiss(&crew);
}

static void notifies_all(void **state)
{
    (void)state;
    struct shared *s = shared;
    for (int i = 0; i < ACTORS; i++)
        (void)actor(i, i % 2 != 0);
    for (int round = 0; round < test_scale(50, 8); round++) {
        s->waiting = s->woken = 0;
        for (int i = 0; i < ACTORS; i++)
            sync_ask(&s->actors[i], WAIT_AND_NOTE, i, KIN_FOREVER);
        until_waiting(ACTORS);
        check(kin_lock_acquire(&s->lock, KIN_FOREVER));
        check(kin_condition_notify_all(&s->condition, &s->lock));
        assert_int_equal(s->woken, 0);
        check(kin_lock_release(&s->lock));
        for (int i = 0; i < ACTORS; i++)
            assert_int_equal(sync_answer(&s->actors[i]), KIN_OK);
    }
    sync_dismiss(&crew);
}

/* Nobody who comes to wait after a notification profits from it, and nobody who waited before is passed over. */
static void who_comes_later_waits_on(void **state)
{
    (void)state;
    struct shared *s = shared;
    sync_actor *a = actor(0, false), *b = actor(1, true);
    sync_ask(a, WAIT_AND_NOTE, 0, KIN_FOREVER);
    until_waiting(1);
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    check(kin_condition_notify(&s->condition, &s->lock, 1));
    sync_ask_asleep(b, WAIT_AND_NOTE, 1, KIN_FOREVER); /* asleep on the lock */
    check(kin_lock_release(&s->lock));
    assert_int_equal(sync_answer(a), KIN_OK);
    until_waiting(2);
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    assert_int_equal(s->woken, 1);
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&s->condition, &s->lock, 20));
    assert_false(sync_answered(b));
    check(kin_condition_notify(&s->condition, &s->lock, 1));
    check(kin_lock_release(&s->lock));
    assert_int_equal(sync_answer(b), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- wait_for ---- */

static int asked; /* how often is_asked was called, in this process */

static bool is_asked(void *arg)
{
    asked += kin_lock_held(&shared->lock) ? 1 : 1000;
    return arg != NULL && asked >= *(int *)arg;
}

static void waits_for_what_is_asked(void **state)
{
    (void)state;
    struct shared *s = shared;
    int enough = 1;
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    asked = 0;
    check(kin_condition_wait_for(&s->condition, &s->lock, is_asked, &enough, KIN_FOREVER)); /* ready at once */
    assert_int_equal(asked, 1);
    asked = 0;
    check(kin_condition_wait_for(&s->condition, &s->lock, is_asked, &enough, KIN_NOWAIT));
    assert_int_equal(asked, 1);
    asked = 0;
    check_fails(KIN_ETIMEDOUT, kin_condition_wait_for(&s->condition, &s->lock, is_asked, NULL, KIN_NOWAIT));
    assert_true(asked >= 1 && asked <= 2);
    asked = 0;
    int64_t before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_condition_wait_for(&s->condition, &s->lock, is_asked, NULL, 100));
    assert_true(kin_now() - before >= 99);
    assert_true(asked >= 1 && asked < 1000); /* always with the lock held */
    assert_true(kin_lock_held(&s->lock));
    check(kin_lock_release(&s->lock));
}

static void goes_on_only_when_ready(void **state)
{
    (void)state;
    struct shared *s = shared;
    sync_actor *a = actor(0, false), *b = actor(1, true), *late = actor(2, false);
    sync_ask(a, WAIT_FOR, 0, KIN_FOREVER);
    sync_ask(b, WAIT_FOR, 0, KIN_FOREVER);
    sync_ask(late, WAIT_FOR, 0, 100);
    until_waiting(3);
    /* Notified all the time, and not ready: its time-out is one for the whole wait. */
    for (int64_t end = kin_now() + test_ms(20000); !sync_answered(late) && kin_now() < end;) {
        check(kin_lock_acquire(&s->lock, KIN_FOREVER));
        check(kin_condition_notify_all(&s->condition, &s->lock));
        check(kin_lock_release(&s->lock));
    }
    assert_int_equal(sync_answer(late), KIN_ETIMEDOUT);
    assert_false(sync_answered(a));
    assert_false(sync_answered(b));
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    s->ready = true;
    check(kin_condition_notify_all(&s->condition, &s->lock));
    check(kin_lock_release(&s->lock));
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_answer(b), KIN_OK);
    assert_true(a->result == 1 && b->result == 1);
    sync_dismiss(&crew);
}

/* ---- rlock ---- */

static bool deep_enough_wait(void *arg)
{
    bool enough = false;
    if (kin_rlock_acquire(&shared->rlock, KIN_FOREVER) == KIN_OK) {
        enough = shared->waiting >= *(uint32_t *)arg;
        (void)kin_rlock_release(&shared->rlock);
    }
    return enough;
}

static void however_deep_it_is_held(bool thread)
{
    struct shared *s = shared;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t waiters = i + 1;
        sync_ask(actor((int)i, thread), DEEP_WAIT, 1 + 2 * (int)i, i == 2 ? test_ms(20000) : KIN_FOREVER);
        assert_true(crash_until(deep_enough_wait, &waiters)); /* it could be taken, so all have released it entirely */
    }
    check(kin_rlock_acquire(&s->rlock, KIN_FOREVER));
    check(kin_rlock_acquire(&s->rlock, KIN_FOREVER));
    check(kin_condition_notify(&s->condition, &s->rlock, 2));
    check(kin_rlock_release(&s->rlock));
    for (int i = 0; i < 3; i++)
        assert_false(sync_answered(&s->actors[i])); /* it is still held */
    check(kin_rlock_release(&s->rlock));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sync_answer(&s->actors[i]), KIN_OK);
        assert_int_equal(s->actors[i].result, 1 + 2 * i);
    }
    check(kin_rlock_acquire(&s->rlock, KIN_FOREVER));
    assert_int_equal(s->woken, 2);
    check(kin_condition_notify_all(&s->condition, &s->rlock));
    check(kin_rlock_release(&s->rlock));
    assert_int_equal(sync_answer(&s->actors[2]), KIN_OK);
    assert_int_equal(s->actors[2].result, 5);
    sync_dismiss(&crew);
}

static void however_deep_it_is_held_over_processes(void **state)
{
    (void)state;
    however_deep_it_is_held(false);
}

static void however_deep_it_is_held_over_threads(void **state)
{
    (void)state;
    however_deep_it_is_held(true);
}

/* ---- time-outs ---- */

/* The lock is waited for as long as it takes, also past the time-out. */
static void takes_the_lock_again_however_late(void **state)
{
    (void)state;
    struct shared *s = shared;
    sync_actor *a = actor(0, false);
    assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask(a, WAIT, 0, 100);
    until_waiting(1);
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    uint64_t waits_for = s->lock.kin__o.id;
    assert_true(waits_for != 0);
    assert_true(crash_until_sleepers(&s->lock, 1)); /* its time has passed, and now it waits for the lock */
    assert_false(sync_answered(a));
    check(kin_condition_notify(&s->condition, &s->lock, 1)); /* too late for it, or not: it must not hang */
    check(kin_lock_release(&s->lock));
    kin_err err = sync_answer(a);
    assert_true(err == KIN_ETIMEDOUT || err == KIN_OK);
    assert_int_equal(a->result, 1); /* held */
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&s->lock, KIN_NOWAIT));
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

/* Some wait with patience, some for a moment only. Each notification is spent exactly once: on one who waits for ever, or on one whose time ran
 * out at the same moment, who then says so. */
static int wait_again_and_again(kin_args *args)
{
    kin_segment *mine;
    bool patient;
    CHILD_CHECK(kin_unpack(args, &mine, &patient) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    for (int64_t i = 0, end = kin_now() + test_ms(20000); !s->ready; i++) {
        s->patient += patient;
        kin_err err = kin_condition_wait(&s->condition, &s->lock, patient ? KIN_FOREVER : i % 3);
        s->patient -= patient;
        if (err == KIN_OK)
            s->told++;
        else
            CHILD_CHECK(err == KIN_ETIMEDOUT && !patient);
        CHILD_CHECK(kin_lock_held(&s->lock));
        CHILD_CHECK(kin_now() < end);
        if (!patient && i % 8 == 0) { /* let others have the lock */
            CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
            crash_spin_us(30);
            CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
        }
    }
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return 0;
}

static bool all_told(void *arg)
{
    (void)arg;
    bool all = false;
    if (kin_lock_acquire(&shared->lock, KIN_FOREVER) == KIN_OK) {
        all = shared->told >= shared->notified;
        (void)kin_lock_release(&shared->lock);
    }
    return all;
}

static void notified_and_timed_out_at_once_counts_once(void **state)
{
    (void)state;
    enum { PATIENT = 3, IMPATIENT = 3 };
    struct shared *s = shared;
    kin_process *children[PATIENT + IMPATIENT];
    for (int i = 0; i < PATIENT + IMPATIENT; i++)
        children[i] = test_start(wait_again_and_again, KIN_ARGS(segment, (bool)(i < PATIENT)));
    for (int64_t end = kin_now() + test_ms(20000), wanted = test_scale(1500, 150); s->notified < wanted;) {
        assert_true(kin_now() < end);
        check(kin_lock_acquire(&s->lock, KIN_FOREVER));
        assert_true(s->told <= s->notified);
        if (s->patient > s->notified - s->told) { /* one at least is waiting to whom this can go */
            s->notified++;
            check(kin_condition_notify(&s->condition, &s->lock, 1));
        }
        check(kin_lock_release(&s->lock));
        crash_spin_us(s->notified % 64 * 10);
    }
    assert_true(crash_until(all_told, NULL));
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    assert_int_equal(s->told, s->notified);
    s->ready = true;
    check(kin_condition_notify_all(&s->condition, &s->lock));
    check(kin_lock_release(&s->lock));
    for (int i = 0; i < PATIENT + IMPATIENT; i++)
        assert_int_equal(test_finish(children[i]), 0);
}

/* ---- two locks ---- */

static void one_condition_one_lock(void **state)
{
    (void)state;
    struct shared *s = shared;
    sync_actor *a = actor(0, false);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
        s->waiting = 0;
        sync_ask(a, WAIT, 0, round == 0 ? KIN_FOREVER : 500);
        until_waiting(1);
        check(kin_lock_acquire(&s->another, KIN_FOREVER));
        check(kin_rlock_acquire(&s->rlock, KIN_FOREVER));
        if (round == 0 || !sync_answered(a)) {
            check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, &s->another, 1));
            check_says("letters");
            check_fails(KIN_EINVAL, kin_condition_wait(&s->condition, &s->rlock, KIN_FOREVER));
            check_fails(KIN_EINVAL, kin_condition_wait_for(&s->condition, &s->another, is_asked, NULL, 1));
            check_fails(KIN_EINVAL, kin_condition_notify(&s->condition, &s->another, 1));
            check_fails(KIN_EINVAL, kin_condition_notify_all(&s->condition, &s->rlock));
            assert_true(kin_lock_held(&s->another));
            assert_int_equal(kin_rlock_count(&s->rlock), 1);
            assert_false(sync_answered(a));
        }
        if (round == 0)
            notify(1);
        assert_int_equal(sync_answer(a), round == 0 ? KIN_OK : KIN_ETIMEDOUT);
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
        /* Nobody waits any more: another lock is as good. */
        check_fails(KIN_ETIMEDOUT, kin_condition_wait(&s->condition, &s->another, 1));
        check(kin_condition_notify(&s->condition, &s->rlock, 1));
        check_fails(KIN_ETIMEDOUT, kin_condition_wait(&s->condition, &s->rlock, 1));
        check(kin_lock_release(&s->another));
        check(kin_rlock_release(&s->rlock));
    }
    sync_dismiss(&crew);
}

/* Who waited goes on to wait for its own lock while others use the condition with another: it was theirs for as long as somebody waited. */
static void another_lock_after_a_notification(void **state)
{
    (void)state;
    struct shared *s = shared;
    sync_actor *a = actor(0, false);
    assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    check(kin_lock_acquire(&s->lock, KIN_FOREVER));
    check(kin_condition_notify(&s->condition, &s->lock, 1));
    check(kin_lock_release(&s->lock));
    assert_int_equal(sync_answer(a), KIN_OK);
    check(kin_lock_acquire(&s->another, KIN_FOREVER));
    check_fails(KIN_ETIMEDOUT, kin_condition_wait(&s->condition, &s->another, 10));
    check(kin_lock_release(&s->another));
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- under load ---- */

/* A buffer of a few slots. Each number that is put in comes out once, under a lock of either kind. */
static bool enter(struct shared *s, bool deep) { return (deep ? kin_rlock_acquire(&s->rlock, KIN_FOREVER) : kin_lock_acquire(&s->lock, KIN_FOREVER)) == KIN_OK; }
static bool leave(struct shared *s, bool deep) { return (deep ? kin_rlock_release(&s->rlock) : kin_lock_release(&s->lock)) == KIN_OK; }
static bool pause_on(struct shared *s, kin_condition *c, bool deep)
{
    return (deep ? kin_condition_wait(c, &s->rlock, test_ms(20000)) : kin_condition_wait(c, &s->lock, test_ms(20000))) == KIN_OK;
}
static bool notify_one(struct shared *s, kin_condition *c, bool deep)
{
    return (deep ? kin_condition_notify(c, &s->rlock, 1) : kin_condition_notify(c, &s->lock, 1)) == KIN_OK;
}

static int produce(kin_args *args)
{
    kin_segment *mine;
    int64_t times;
    bool deep;
    CHILD_CHECK(kin_unpack(args, &mine, &times, &deep) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 1; i <= times; i++) {
        CHILD_CHECK(enter(s, deep));
        while (s->put - s->got == SLOTS)
            CHILD_CHECK(pause_on(s, &s->not_full, deep));
        s->slots[s->put++ % SLOTS] = i;
        s->sum_put += (uint64_t)i;
        CHILD_CHECK(notify_one(s, &s->not_empty, deep));
        CHILD_CHECK(leave(s, deep));
    }
    return 0;
}

static int consume(kin_args *args)
{
    kin_segment *mine;
    int64_t times;
    bool deep;
    CHILD_CHECK(kin_unpack(args, &mine, &times, &deep) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 1; i <= times; i++) {
        CHILD_CHECK(enter(s, deep));
        while (s->put == s->got)
            CHILD_CHECK(pause_on(s, &s->not_empty, deep));
        s->sum_got += (uint64_t)s->slots[s->got++ % SLOTS];
        CHILD_CHECK(s->put - s->got <= SLOTS);
        CHILD_CHECK(notify_one(s, &s->not_full, deep));
        CHILD_CHECK(leave(s, deep));
    }
    return 0;
}

static void a_bounded_buffer(void **state)
{
    (void)state;
    int64_t times = test_scale(5000, 500);
    for (int deep = 0; deep < 2; deep++) {
        kin_process *children[4];
        shared->put = shared->got = 0;
        for (int i = 0; i < 4; i++)
            children[i] = test_start(i % 2 == 0 ? produce : consume, KIN_ARGS(segment, times, (bool)(deep != 0)));
        for (int i = 0; i < 4; i++)
            assert_int_equal(test_finish(children[i]), 0);
        assert_true(shared->put == (uint64_t)(2 * times));
        assert_true(shared->got == shared->put);
        assert_true(shared->sum_put == shared->sum_got);
    }
}

/* In turn, each waking the other: nobody who notifies after the lock was released can be missed. */
static int take_turns(kin_args *args)
{
    kin_segment *mine;
    kin_condition *condition;
    kin_lock *lock;
    int64_t times, parity;
    CHILD_CHECK(kin_unpack(args, &mine, &condition, &lock, &times, &parity) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_lock_acquire(lock, KIN_FOREVER) == KIN_OK);
    while (s->turn < times) {
        if (s->turn % 2 == parity) {
            s->turn++;
            CHILD_CHECK(kin_condition_notify_all(condition, lock) == KIN_OK);
        } else {
            CHILD_CHECK(kin_condition_wait(condition, lock, test_ms(20000)) == KIN_OK);
        }
    }
    CHILD_CHECK(kin_lock_release(lock) == KIN_OK);
    kin_condition_close(condition);
    kin_lock_close(lock);
    return 0;
}

static void no_wake_is_lost(void **state)
{
    (void)state;
    kin_condition *condition;
    kin_lock *lock;
    kin_process *children[2];
    int64_t times = test_scale(10000, 600);
    check(kin_condition_create(&condition, NULL));
    check(kin_lock_create(&lock, NULL));
    for (int64_t i = 0; i < 2; i++)
        children[i] = test_start(take_turns, KIN_ARGS(segment, condition, lock, times, i));
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_true(shared->turn >= times);
    kin_condition_close(condition);
    kin_lock_close(lock);
}

/* ---- deadlock ---- */

/* Who waits for a notification holds another lock, which the one wants that now has the condition's. The one who can give up is told. */
static void a_cycle_over_the_lock_of_a_wait(bool thread)
{
    struct shared *s = shared;
    sync_actor *x = actor(0, thread), *y = actor(1, thread);
    assert_int_equal(sync_do(x, ACQUIRE, 1, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(x, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask(x, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    assert_int_equal(sync_do(y, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(y, NOTIFY, 0, 1), KIN_OK);
    sync_ask(y, ACQUIRE, 1, KIN_FOREVER); /* y has desk and wants drawer; x has drawer and wants desk again */
    assert_int_equal(sync_answer(y), KIN_EDEADLK);
    assert_non_null(strstr(y->said, "desk"));
    assert_non_null(strstr(y->said, "drawer"));
    assert_false(sync_answered(x));
    assert_int_equal(sync_do(y, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(x), KIN_OK);
    assert_int_equal(x->result, 1);
    assert_int_equal(sync_do(x, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(x, RELEASE, 1, 0), KIN_OK);
    /* The other way round: y waits for drawer before x begins to want desk again. */
    assert_int_equal(sync_do(x, ACQUIRE, 1, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(x, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    s->waiting = 0;
    sync_ask(x, WAIT, 0, 1000);
    until_waiting(1);
    assert_int_equal(sync_do(y, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(y, ACQUIRE, 1, KIN_FOREVER);
    assert_int_equal(sync_answer(y), KIN_EDEADLK); /* as x's time runs out */
    assert_false(sync_answered(x));
    assert_int_equal(sync_do(y, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(x), KIN_ETIMEDOUT);
    assert_int_equal(x->result, 1);
    assert_int_equal(sync_do(x, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(x, RELEASE, 1, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void a_cycle_over_the_lock_of_a_wait_over_processes(void **state)
{
    (void)state;
    a_cycle_over_the_lock_of_a_wait(false);
}

static void a_cycle_over_the_lock_of_a_wait_over_threads(void **state)
{
    (void)state;
    a_cycle_over_the_lock_of_a_wait(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(waits_and_holds_the_lock_afterwards),
        TEST(without_the_lock),
        TEST(notifies_exactly_n_processes),
        TEST(notifies_exactly_n_of_both),
        TEST(notifies_exactly_n_threads),
        TEST(notifications_add_up),
        TEST(notifies_all),
        TEST(who_comes_later_waits_on),
        TEST(waits_for_what_is_asked),
        TEST(goes_on_only_when_ready),
        TEST(however_deep_it_is_held_over_processes),
        TEST(however_deep_it_is_held_over_threads),
        TEST(takes_the_lock_again_however_late),
        TEST(notified_and_timed_out_at_once_counts_once),
        TEST(one_condition_one_lock),
        TEST(another_lock_after_a_notification),
        TEST(a_bounded_buffer),
        TEST(no_wake_is_lost),
        TEST(a_cycle_over_the_lock_of_a_wait_over_processes),
        TEST(a_cycle_over_the_lock_of_a_wait_over_threads),
    };
    return cmocka_run_group_tests_name("condition", tests, NULL, NULL);
}
