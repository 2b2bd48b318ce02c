/* kin_process_interrupt: who sleeps is asked to stop, and what goes on all the same. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 4 };

struct shared {
    kin_event event, other;
    kin_semaphore semaphore, undo;
    kin_lock lock;
    kin_rlock rlock;
    kin_rwlock rwlock;
    kin_condition condition;
    kin_barrier barrier;
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
    check(kin_event_init(&shared->event, &(kin_event_options){.name = "dawn"}));
    check(kin_event_init(&shared->other, NULL));
    check(kin_semaphore_init(&shared->semaphore, 0, &(kin_semaphore_options){.name = "seats"}));
    check(kin_semaphore_init(&shared->undo, 1, &(kin_semaphore_options){.name = "desks", .undo = true}));
    check(kin_lock_init(&shared->lock, NULL));
    check(kin_rlock_init(&shared->rlock, NULL));
    check(kin_rwlock_init(&shared->rwlock, NULL));
    check(kin_condition_init(&shared->condition, NULL));
    check(kin_barrier_init(&shared->barrier, 2, NULL));
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

enum { EVENT, SEMAPHORE, UNDO, JOIN, INTERRUPTIBLE, ITEMS, LOCK, RLOCK, READ, WRITE, CONDITION, BARRIER, ALL, UNLOCK, REQUESTED, ACCEPT, START, END };

static kin_process *below; /* of an actor */

static int until_set(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_event_wait(&s->other, test_ms(30000)) == KIN_OK);
    return 5;
}

static kin_segment *actors_segment;

static kin_err wait_for_items(struct shared *s, int64_t timeout_ms)
{
    kin_waitable items[] = {KIN_WAIT_FOR(&s->other), KIN_WAIT_FOR(&s->event)};
    return kin_wait(items, 2, NULL, timeout_ms);
}

static kin_err unlock(struct shared *s, int call)
{
    switch (call) {
    case LOCK:
    case CONDITION:
        return kin_lock_release(&s->lock);
    case RLOCK:
        return kin_rlock_release(&s->rlock);
    case READ:
    case WRITE:
        return kin_rwlock_release(&s->rwlock);
    default:
        return KIN_OK;
    }
}

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    switch (order->call) {
    case EVENT:
        return kin_event_wait(&s->event, order->number);
    case SEMAPHORE:
        return kin_semaphore_acquire(&s->semaphore, order->number);
    case UNDO:
        return kin_semaphore_acquire(&s->undo, order->number);
    case JOIN:
        return kin_process_join(below, order->number);
    case ITEMS:
        return wait_for_items(s, order->number);
    case LOCK:
        return kin_lock_acquire(&s->lock, order->number);
    case RLOCK:
        return kin_rlock_acquire(&s->rlock, order->number);
    case READ:
        return kin_rwlock_acquire_read(&s->rwlock, order->number);
    case WRITE:
        return kin_rwlock_acquire_write(&s->rwlock, order->number);
    case CONDITION:
        if (kin_lock_acquire(&s->lock, order->number) != KIN_OK)
            return KIN_EIO;
        return kin_condition_wait(&s->condition, &s->lock, order->number);
    case BARRIER:
        return kin_barrier_wait(&s->barrier, order->number, NULL);
    case UNLOCK:
        return unlock(s, order->object);
    case REQUESTED:
        order->result = kin_stop_requested();
        return KIN_OK;
    case ACCEPT:
        order->result = kin_stop_accept();
        return KIN_OK;
    case START:
        return kin_process_start(&below, until_set, KIN_ARGS(actors_segment), NULL);
    case END:
        kin_process_close(below);
        below = NULL;
        return KIN_OK;
    default:
        return KIN_ENOTSUP;
    }
}

static int act(kin_args *args)
{
    int index;
    CHILD_CHECK(kin_unpack(args, &actors_segment, &index) == KIN_OK);
    struct shared *s = kin_segment_data(actors_segment);
    return sync_act(&s->actors[index], perform, s);
}

static sync_actor *actor(int index)
{
    sync_enlist_process(&crew, &shared->actors[index], act, KIN_ARGS(segment, index));
    return &shared->actors[index];
}

static void interrupt(int index)
{
    check(kin_process_interrupt(crew.members[index].process));
}

static int64_t asks(sync_actor *a, int call)
{
    assert_int_equal(sync_do(a, call, 0, 0), KIN_OK);
    return a->result;
}

/* ---- who sleeps ---- */

static const char *const names[] = {[EVENT] = "dawn", [SEMAPHORE] = "seats", [UNDO] = "desks", [JOIN] = "join of"};

static void ends_sleeps(void **state)
{
    (void)state;
    check(kin_semaphore_acquire(&shared->undo, KIN_NOWAIT));
    for (int call = EVENT; call < INTERRUPTIBLE; call++) {
        sync_actor *a = actor(call % 2);
        if (call == JOIN)
            assert_int_equal(sync_do(a, START, 0, 0), KIN_OK);
        assert_false(asks(a, REQUESTED));
        sync_ask_asleep(a, call, 0, call % 2 == 0 ? KIN_FOREVER : test_ms(30000));
        interrupt(crew.count - 1);
        assert_int_equal(sync_answer(a), KIN_EINTERRUPTED);
        assert_non_null(strstr(a->said, "asked to stop"));
        assert_non_null(strstr(a->said, names[call]));
        assert_true(asks(a, REQUESTED));
        /* It stays asked, and an interruption comes before the sleep too. */
        for (int i = 0; i < 3; i++)
            assert_int_equal(sync_do(a, call, 0, i == 0 ? 1 : test_ms(30000)), KIN_EINTERRUPTED);
        assert_int_equal(sync_do(a, call, 0, KIN_NOWAIT), KIN_ETIMEDOUT); /* that does not sleep */
        interrupt(crew.count - 1);
        assert_true(asks(a, REQUESTED));
        if (call == JOIN) {
            check(kin_event_set(&shared->other));
            assert_true(asks(a, ACCEPT));
            assert_int_equal(sync_do(a, JOIN, 0, test_ms(30000)), KIN_OK);
            assert_int_equal(sync_do(a, END, 0, 0), KIN_OK);
            check(kin_event_clear(&shared->other));
        }
        sync_dismiss(&crew);
    }
    check(kin_semaphore_release(&shared->undo));
    assert_false(kin_stop_requested());
    assert_false(kin_stop_accept());
}

/* What is there comes before the wish that it stop. */
static void takes_what_is_there(void **state)
{
    (void)state;
    sync_actor *a = actor(0);
    assert_int_equal(sync_do(a, START, 0, 0), KIN_OK);
    interrupt(0);
    check(kin_event_set(&shared->event));
    check(kin_event_set(&shared->other)); /* so that the process below ends */
    check(kin_semaphore_release_many(&shared->semaphore, 2));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sync_do(a, EVENT, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(a, SEMAPHORE, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(a, ITEMS, 0, KIN_FOREVER), KIN_OK);
    }
    assert_int_equal(sync_do(a, UNDO, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(a, SEMAPHORE, 0, KIN_FOREVER), KIN_EINTERRUPTED);
    assert_true(asks(a, ACCEPT));
    assert_int_equal(sync_do(a, JOIN, 0, test_ms(30000)), KIN_OK);
    assert_int_equal(sync_do(a, END, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void sleeps_again_when_accepted(void **state)
{
    (void)state;
    sync_actor *a = actor(0);
    assert_false(asks(a, ACCEPT));
    interrupt(0);
    assert_int_equal(sync_do(a, EVENT, 0, KIN_FOREVER), KIN_EINTERRUPTED);
    assert_true(asks(a, ACCEPT));
    assert_true(asks(a, ACCEPT));
    assert_true(asks(a, REQUESTED));
    for (int call = EVENT; call <= SEMAPHORE; call++) {
        sync_ask_asleep(a, call, 0, KIN_FOREVER);
        interrupt(0); /* it was asked, and knows it */
        assert_true(sync_until_asleep(a));
        check(call == EVENT ? kin_event_set(&shared->event) : kin_semaphore_release(&shared->semaphore));
        assert_int_equal(sync_answer(a), KIN_OK);
    }
    sync_dismiss(&crew);
}

/* Locks are taken, and conditions and barriers waited for, as if nothing had happened. */
static void leaves_locks_alone(void **state)
{
    (void)state;
    sync_actor *a = actor(0);
    for (int round = 0; round < 2; round++) { /* asked while it sleeps; asked before */
        for (int call = LOCK; call < ALL; call++) {
            check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
            check(kin_rlock_acquire(&shared->rlock, KIN_FOREVER));
            check(kin_rwlock_acquire_write(&shared->rwlock, KIN_FOREVER));
            if (call == CONDITION)
                check(kin_lock_release(&shared->lock));
            sync_ask_asleep(a, call, 0, test_ms(30000));
            interrupt(0);
            assert_true(sync_until_asleep(a));
            if (call == CONDITION) {
                check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
                check(kin_condition_notify(&shared->condition, &shared->lock, 1));
            } else if (call == BARRIER) {
                check(kin_barrier_wait(&shared->barrier, test_ms(30000), NULL));
            }
            check(kin_lock_release(&shared->lock));
            check(kin_rlock_release(&shared->rlock));
            check(kin_rwlock_release(&shared->rwlock));
            assert_int_equal(sync_answer(a), KIN_OK);
            assert_int_equal(sync_do(a, UNLOCK, call, 0), KIN_OK);
        }
    }
    assert_true(asks(a, REQUESTED));
    sync_dismiss(&crew);
}

/* ---- who is meant ---- */

static void asks_nobody_else(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        (void)actor(i);
    for (int i = 0; i < 3; i++)
        sync_ask_asleep(&shared->actors[i], EVENT, 0, KIN_FOREVER);
    interrupt(1);
    assert_int_equal(sync_answer(&shared->actors[1]), KIN_EINTERRUPTED);
    assert_true(sync_is_asleep(&shared->actors[0]) && sync_is_asleep(&shared->actors[2]));
    check(kin_event_set(&shared->event));
    assert_int_equal(sync_answer(&shared->actors[0]), KIN_OK);
    assert_int_equal(sync_answer(&shared->actors[2]), KIN_OK);
    assert_false(asks(&shared->actors[0], REQUESTED));
    assert_true(asks(&shared->actors[1], REQUESTED));
    sync_dismiss(&crew);
    assert_false(kin_stop_requested());
}

static void of_the_ended(void **state)
{
    (void)state;
    check(kin_event_set(&shared->other));
    kin_process *p = test_start(until_set, KIN_ARGS(segment));
    check(kin_process_join(p, test_ms(30000)));
    check(kin_process_interrupt(p));
    check(kin_process_interrupt(p));
    sync_actor *a = actor(0); /* probably in its place */
    check(kin_process_interrupt(p));
    assert_false(asks(a, REQUESTED));
    interrupt(0);
    sync_dismiss(&crew);
    (void)actor(1); /* in the place of one that was asked */
    assert_false(asks(&shared->actors[1], REQUESTED));
    sync_dismiss(&crew);
    kin_process_close(p);
    check_fails(KIN_EINVAL, kin_process_interrupt(p));
    check_fails(KIN_EINVAL, kin_process_interrupt(NULL));
}

static void wait_in_thread(void *arg)
{
    struct shared *s = arg;
    kin__add32(&s->go, 1);
    if (kin_event_wait(&s->event, test_ms(30000)) == KIN_EINTERRUPTED)
        kin__add32(&s->done, 1);
}

static int three_threads(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    uv_thread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHILD_CHECK(uv_thread_create(&threads[i], wait_in_thread, kin_segment_data(mine)) == 0);
    for (int i = 0; i < 3; i++)
        uv_thread_join(&threads[i]);
    return kin_stop_requested() ? 7 : 8;
}

static void ends_the_sleep_of_every_thread(void **state)
{
    (void)state;
    kin_process *p = test_start(three_threads, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->go, 3));
    check(kin_process_interrupt(p));
    assert_int_equal(test_finish(p), 7);
    assert_int_equal(shared->done, 3);
}

/* ---- nothing is lost ---- */

/* Two wait for one unit; one of them is interrupted just as it is given. Whoever gets it, it is not lost. */
static void a_unit_is_not_lost(void **state)
{
    (void)state;
    sync_actor *a = actor(0), *b = actor(1);
    for (int round = 0, rounds = test_scale(300, 40); round < rounds; round++) {
        sync_ask_asleep(a, SEMAPHORE, 0, KIN_FOREVER);
        sync_ask_asleep(b, SEMAPHORE, 0, KIN_FOREVER);
        if (round % 2 == 0) {
            check(kin_semaphore_release(&shared->semaphore));
            interrupt(0);
        } else {
            interrupt(0);
            check(kin_semaphore_release(&shared->semaphore));
        }
        kin_err err = sync_answer(a);
        if (err == KIN_OK) /* then the other still waits for its own */
            check(kin_semaphore_release(&shared->semaphore));
        else
            assert_int_equal(err, KIN_EINTERRUPTED);
        assert_int_equal(sync_answer(b), KIN_OK);
        assert_int_equal(kin_semaphore_units(&shared->semaphore), 0);
        sync_dismiss_one(&crew, 0);
        crew.members[0] = crew.members[1];
        crew.count = 1;
        /* One that is not asked yet, in the first seat. */
        sync_actor *fresh = actor(a == &shared->actors[0] ? 2 : 0);
        sync_member swap = crew.members[0];
        crew.members[0] = crew.members[1];
        crew.members[1] = swap;
        a = fresh;
    }
    sync_dismiss(&crew);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(ends_sleeps), CASE(takes_what_is_there), CASE(sleeps_again_when_accepted), CASE(leaves_locks_alone), CASE(asks_nobody_else),
        CASE(of_the_ended), CASE(ends_the_sleep_of_every_thread), CASE(a_unit_is_not_lost),
    };
    return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
