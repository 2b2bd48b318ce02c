/* Who dies in kin_wait, or while asking another to stop: nobody else notices. */
#include "crash_support.h"

#include "atomic.h"

struct shared {
    kin_event event, other;
    kin_semaphore semaphore;
    uint32_t asleep, interrupted;
};

static kin_segment *segment;
static struct shared *shared;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_event_init(&shared->event, NULL));
    check(kin_event_init(&shared->other, NULL));
    check(kin_semaphore_init(&shared->semaphore, 0, NULL));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static kin_err wait_for_any(struct shared *s)
{
    kin_waitable items[] = {KIN_WAIT_FOR(&s->event), KIN_WAIT_FOR(&s->semaphore)};
    return kin_wait(items, 2, NULL, test_ms(30000));
}

static int dies(kin_args *args)
{
    kin_segment *mine;
    const char *point;
    CHILD_CHECK(kin_unpack(args, &mine, &point) == KIN_OK);
    crash_at(point);
    return (int)wait_for_any(kin_segment_data(mine));
}

static int waits(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->asleep, 1);
    CHILD_CHECK(wait_for_any(s) == KIN_OK);
    return 11;
}

static int acquires(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->asleep, 1);
    CHILD_CHECK(kin_semaphore_acquire(&s->semaphore, test_ms(30000)) == KIN_OK);
    return 12;
}

/* One that dies while it waits for several things, others that wait for the same: one for all of them, one for the unit alone. */
static void a_waiter_dies(void **state)
{
    (void)state;
    static const char *const points[] = {"park.published", "wait.armed", "park.sleeping"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        kin_process *victim = test_start(dies, KIN_ARGS(segment, points[i]));
        kin_process *one = test_start(waits, KIN_ARGS(segment)), *two = test_start(acquires, KIN_ARGS(segment));
        assert_true(crash_until_at_least(&shared->asleep, 2 * (uint32_t)(i + 1)));
        assert_int_equal(crash_join(victim), -9);
        check(kin_semaphore_release(&shared->semaphore));
        assert_int_equal(crash_join(two), 12); /* the unit is not lost */
        (void)kin_event_set(&shared->event);
        assert_int_equal(crash_join(one), 11);
        check(kin_event_clear(&shared->event));
    }
}

/* ---- asking ---- */

static int sleeps(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->asleep, 1);
    if (kin_event_wait(&s->event, test_ms(30000)) == KIN_EINTERRUPTED)
        kin__add32(&s->interrupted, 1);
    return 0;
}

static int asks_and_dies(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin_process *below;
    CHILD_CHECK(kin_process_start(&below, sleeps, KIN_ARGS(mine), NULL) == KIN_OK);
    while (kin_event_wait(&s->other, test_ms(30000)) == KIN_EINTERRUPTED) {
    }
    crash_at("process.interrupted");
    CHILD_CHECK(kin_process_interrupt(below) == KIN_OK);
    return 1;
}

/* It has written down that the other is to stop, and dies before it wakes it: its death does that. */
static void who_asks_dies(void **state)
{
    (void)state;
    kin_process *p = test_start(asks_and_dies, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->asleep, 1));
    check(kin_event_set(&shared->other));
    assert_int_equal(crash_join(p), -9);
    assert_true(crash_until_at_least(&shared->interrupted, 1));
    assert_true(crash_until_places(test_on_windows() ? 1 : 2));
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {CASE(a_waiter_dies), CASE(who_asks_dies)};
    return cmocka_run_group_tests_name("wait_death", tests, NULL, NULL);
}
