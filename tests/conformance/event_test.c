/* kin/event.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 5 };

struct shared {
    kin_event event, other;
    uint32_t ready, go, done, handled;
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

enum { WAIT, SET, CLEAR };

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_event *event = order->object == 0 ? &s->event : &s->other;
    switch (order->call) {
    case WAIT:
        return kin_event_wait(event, order->number);
    case SET:
        return kin_event_set(event);
    case CLEAR:
        return kin_event_clear(event);
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

/* ---- the flag ---- */

static void set_and_cleared(void **state)
{
    (void)state;
    kin_event *event = &shared->event;
    assert_false(kin_event_is_set(event));
    check_fails(KIN_ETIMEDOUT, kin_event_wait(event, KIN_NOWAIT));
    check_says("dawn");
    for (int round = 0; round < 3; round++) {
        check(kin_event_clear(event)); /* already */
        assert_false(kin_event_is_set(event));
        check(kin_event_set(event));
        check(kin_event_set(event));
        assert_true(kin_event_is_set(event));
        check(kin_event_wait(event, KIN_NOWAIT));
        check(kin_event_wait(event, 1)); /* it stays set */
        check(kin_event_wait(event, KIN_FOREVER));
        assert_true(kin_event_is_set(event));
        check(kin_event_clear(event));
        assert_false(kin_event_is_set(event));
        check_fails(KIN_ETIMEDOUT, kin_event_wait(event, 1));
    }
}

static void begins_as_told(void **state)
{
    (void)state;
    kin_event *event;
    check(kin_event_create(&event, NULL));
    assert_false(kin_event_is_set(event));
    kin_event_close(event);
    check(kin_event_create(&event, &(kin_event_options){.set = true}));
    assert_true(kin_event_is_set(event));
    check(kin_event_wait(event, KIN_NOWAIT));
    check(kin_event_clear(event));
    check_fails(KIN_ETIMEDOUT, kin_event_wait(event, KIN_NOWAIT));
    kin_event_close(event);
    check(kin_event_init(&shared->event, &(kin_event_options){.set = true}));
    assert_true(kin_event_is_set(&shared->event));
    check(kin_event_init(&shared->event, NULL));
    assert_false(kin_event_is_set(&shared->event));
}

static void time_outs(void **state)
{
    (void)state;
    int64_t before = kin_now(), cpu = sync_cpu_ms();
    check_fails(KIN_ETIMEDOUT, kin_event_wait(&shared->event, 300));
    assert_true(kin_now() - before >= 299);
    assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
    check_says("dawn");
    check_says("300 ms");
    for (int i = 0; i < 20; i++)
        check_fails(KIN_ETIMEDOUT, kin_event_wait(&shared->event, 1));
    assert_false(kin_event_is_set(&shared->event));
}

/* ---- waking ---- */

static void wakes_all(bool thread)
{
    for (int i = 0; i < 4; i++)
        (void)actor(i, thread);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            sync_ask_asleep(&shared->actors[i], WAIT, 0, i % 2 == 0 ? KIN_FOREVER : test_ms(20000));
        check(kin_event_clear(&shared->event)); /* wakes nobody */
        check(kin_event_set(&shared->other));
        for (int i = 0; i < 4; i++)
            assert_false(sync_answered(&shared->actors[i]));
        check(kin_event_set(&shared->event));
        for (int i = 0; i < 4; i++)
            assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
        for (int i = 0; i < 4; i++)
            assert_int_equal(sync_do(&shared->actors[i], WAIT, 0, KIN_NOWAIT), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[0], CLEAR, 0, 0), KIN_OK);
        assert_false(kin_event_is_set(&shared->event));
    }
    sync_dismiss(&crew);
}

static void wakes_all_over_processes(void **state)
{
    (void)state;
    wakes_all(false);
}

static void wakes_all_over_threads(void **state)
{
    (void)state;
    wakes_all(true);
}

/* Set and cleared at once: who was waiting goes on, who comes then waits. */
static void pulse(bool thread)
{
    for (int i = 0; i < 4; i++)
        (void)actor(i, thread);
    for (int round = 0; round < test_scale(200, 30); round++) {
        for (int i = 0; i < 3; i++)
            sync_ask_asleep(&shared->actors[i], WAIT, 0, KIN_FOREVER);
        if (round % 2 == 0) {
            check(kin_event_set(&shared->event));
            check(kin_event_clear(&shared->event));
        } else { /* several in a row, and none is missed or counted for the next */
            for (int i = 0; i < 3; i++) {
                check(kin_event_set(&shared->event));
                check(kin_event_clear(&shared->event));
            }
        }
        if (round % 8 == 0)
            assert_int_equal(sync_do(&shared->actors[3], WAIT, 0, 1), KIN_ETIMEDOUT);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[round % 4], WAIT, 0, KIN_NOWAIT), KIN_ETIMEDOUT);
    }
    sync_dismiss(&crew);
}

static void pulse_over_processes(void **state)
{
    (void)state;
    pulse(false);
}

static void pulse_over_threads(void **state)
{
    (void)state;
    pulse(true);
}

/* A waiter that is stopped when the event is set and cleared goes on all the same. */
static void pulse_for_one_who_does_not_run(void **state)
{
    (void)state;
    sync_actor *a = actor(0, false);
    sync_ask_asleep(a, WAIT, 0, KIN_FOREVER);
    if (!test_process_stop(a->pid)) {
        check(kin_event_set(&shared->event));
        assert_int_equal(sync_answer(a), KIN_OK);
        sync_dismiss(&crew);
        test_skip("this system cannot stop a process");
    }
    check(kin_event_set(&shared->event));
    check(kin_event_clear(&shared->event));
    check_fails(KIN_ETIMEDOUT, kin_event_wait(&shared->event, 20));
    assert_false(sync_answered(a));
    assert_true(test_process_continue(a->pid));
    assert_int_equal(sync_answer(a), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- under load ---- */

static int answer_the_other(kin_args *args)
{
    kin_segment *mine;
    kin_event *ping, *pong;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &mine, &ping, &pong, &times) == KIN_OK);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_event_wait(ping, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(kin_event_clear(ping) == KIN_OK);
        CHILD_CHECK(kin_event_set(pong) == KIN_OK);
    }
    return 0;
}

static void no_wake_is_lost(void **state)
{
    (void)state;
    kin_event *own;
    int64_t times = test_scale(5000, 300);
    check(kin_event_create(&own, NULL));
    kin_process *other = test_start(answer_the_other, KIN_ARGS(segment, own, &shared->event, times));
    for (int64_t i = 0; i < times; i++) {
        check(kin_event_set(own));
        check(kin_event_wait(&shared->event, test_ms(20000)));
        check(kin_event_clear(&shared->event));
    }
    assert_int_equal(test_finish(other), 0);
    kin_event_close(own);
}

/* Whatever some set and clear meanwhile: in the end it is set, and everybody goes on. */
static int toggle(kin_args *args)
{
    kin_segment *mine;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &mine, &times) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_event_set(&s->event) == KIN_OK);
        CHILD_CHECK(kin_event_clear(&s->event) == KIN_OK);
    }
    kin__add32(&s->done, 1);
    return 0;
}

static int wait_often(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->ready, 1);
    for (int64_t i = 0, end = kin_now() + test_ms(20000); kin__load32(&s->go) == 0; i++) {
        kin_err err = kin_event_wait(&s->event, i % 3 == 0 ? 1 : test_ms(20000));
        CHILD_CHECK(err == KIN_OK || (err == KIN_ETIMEDOUT && i % 3 == 0));
        CHILD_CHECK(kin_now() < end);
    }
    return 0;
}

static void set_cleared_and_awaited_by_many(void **state)
{
    (void)state;
    kin_process *togglers[2], *waiters[2];
    int64_t times = test_scale(50000, 2000);
    for (int i = 0; i < 2; i++)
        waiters[i] = test_start(wait_often, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 2));
    for (int i = 0; i < 2; i++)
        togglers[i] = test_start(toggle, KIN_ARGS(segment, times));
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_finish(togglers[i]), 0);
    kin__store32(&shared->go, 1);
    check(kin_event_set(&shared->event));
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_finish(waiters[i]), 0);
    assert_true(kin_event_is_set(&shared->event));
}

/* ---- in a signal handler ---- */

static struct shared *handlers_view;

static void set_in_handler(void)
{
    if (kin_event_set(&handlers_view->event) == KIN_OK && kin_event_is_set(&handlers_view->event))
        kin__add32(&handlers_view->handled, 1);
}

static int be_signalled(kin_args *args)
{
    kin_segment *mine;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &mine, &times) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    handlers_view = s;
    CHILD_CHECK(test_on_signal(set_in_handler));
    for (int64_t i = 1; i <= times; i++) {
        kin__add32(&s->ready, 1);
        CHILD_CHECK(kin_event_wait(&s->event, test_ms(20000)) == KIN_OK); /* woken by its own handler */
        CHILD_CHECK(crash_until_at_least(&s->handled, (uint32_t)i)); /* another thread may have run it */
        CHILD_CHECK(kin_event_clear(&s->event) == KIN_OK);
    }
    kin__store32(&s->done, 1);
    /* The handler comes in the middle of other calls. */
    for (int64_t end = kin_now() + test_ms(20000); kin__load32(&s->go) == 0;) {
        CHILD_CHECK(kin_event_set(&s->event) == KIN_OK);
        CHILD_CHECK(kin_event_clear(&s->event) == KIN_OK);
        kin_err err = kin_event_wait(&s->event, 1);
        CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
        CHILD_CHECK(kin_now() < end);
    }
    return 0;
}

static void set_in_a_signal_handler(void **state)
{
    (void)state;
    int64_t times = test_scale(200, 0);
    if (!test_has_signals())
        test_skip("this system has no signals");
    kin_process *process = test_start(be_signalled, KIN_ARGS(segment, times));
    for (uint32_t i = 1; i <= times; i++) {
        assert_true(crash_until_at_least(&shared->ready, i));
        if (i % 4 != 0)
            crash_spin_us(i * 3); /* asleep, or on the way there */
        test_signal(kin_process_pid(process));
        assert_true(crash_until_at_least(&shared->handled, i));
    }
    assert_true(crash_until_at_least(&shared->done, 1));
    for (int i = 0; i < 200; i++) {
        uint32_t seen = kin__load32(&shared->handled);
        test_signal(kin_process_pid(process));
        assert_true(crash_until_at_least(&shared->handled, seen + 1));
    }
    kin__store32(&shared->go, 1);
    assert_int_equal(test_finish(process), 0);
}

/* It wakes others as well: those of other processes. */
static int signalled_for_others(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    handlers_view = s;
    CHILD_CHECK(test_on_signal(set_in_handler));
    kin__store32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1)); /* this process never waits for the event, or for anything of kin's */
    return 0;
}

static void set_for_others_in_a_signal_handler(void **state)
{
    (void)state;
    if (!test_has_signals())
        test_skip("this system has no signals");
    kin_process *process = test_start(signalled_for_others, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    sync_actor *a = actor(0, false), *b = actor(1, true);
    for (int i = 0; i < 20; i++) {
        sync_ask_asleep(a, WAIT, 0, KIN_FOREVER);
        sync_ask_asleep(b, WAIT, 0, KIN_FOREVER);
        test_signal(kin_process_pid(process));
        assert_int_equal(sync_answer(a), KIN_OK);
        assert_int_equal(sync_answer(b), KIN_OK);
        assert_true(kin_event_is_set(&shared->event));
        check(kin_event_clear(&shared->event));
    }
    kin__store32(&shared->go, 1);
    assert_int_equal(test_finish(process), 0);
    sync_dismiss(&crew);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(set_and_cleared),
        TEST(begins_as_told),
        TEST(time_outs),
        TEST(wakes_all_over_processes),
        TEST(wakes_all_over_threads),
        TEST(pulse_over_processes),
        TEST(pulse_over_threads),
        TEST(pulse_for_one_who_does_not_run),
        TEST(no_wake_is_lost),
        TEST(set_cleared_and_awaited_by_many),
        TEST(set_in_a_signal_handler),
        TEST(set_for_others_in_a_signal_handler),
    };
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
