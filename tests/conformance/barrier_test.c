/* kin/barrier.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 9, ROUNDS = 1000 };

struct shared {
    kin_barrier barrier;
    uint32_t actions, ran_by; /* plain: only the action writes them, while nobody else runs */
    uint32_t step[ACTORS];
    uint32_t owners[KIN_BARRIER_MAX];
    uint8_t index[ROUNDS][ACTORS];
    uint32_t ready, go;
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
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (sync_abandon(&crew))
        kin_segment_close(segment);
    return 0;
}

static void make(int64_t parties, int64_t timeout_ms)
{
    check(kin_barrier_init(&shared->barrier, parties, &(kin_barrier_options){.name = "curtain", .timeout_ms = timeout_ms}));
}

/* ---- actors ---- */

enum { WAIT, WAIT_ACTION, WAIT_FAILING, WAIT_LONG_ACTION, WAIT_ABORTING, WAIT_RESETTING, ABORT, RESET };

static kin_err note_action(void *arg)
{
    sync_actor *order = arg;
    order->result += 1000;
    return KIN_OK;
}

static kin_err fail_action(void *arg)
{
    (void)arg;
    return KIN_ETASK;
}

/* Goes on until it is told. */
static kin_err act_long(void *arg)
{
    struct shared *s = arg;
    kin__add32(&s->ready, 1);
    return crash_until_at_least(&s->go, 1) ? KIN_OK : KIN_ETIMEDOUT;
}

static kin_err abort_action(void *arg) { return kin_barrier_abort(&((struct shared *)arg)->barrier); }
static kin_err reset_action(void *arg) { return kin_barrier_reset(&((struct shared *)arg)->barrier); }

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    int index = -1;
    kin_err err;
    order->result = 0;
    switch (order->call) {
    case WAIT:
        err = kin_barrier_wait(&s->barrier, order->number, &index);
        break;
    case WAIT_ACTION:
        err = kin_barrier_wait_action(&s->barrier, note_action, order, order->number, &index);
        break;
    case WAIT_FAILING:
        err = kin_barrier_wait_action(&s->barrier, fail_action, NULL, order->number, &index);
        break;
    case WAIT_LONG_ACTION:
        err = kin_barrier_wait_action(&s->barrier, act_long, s, order->number, &index);
        break;
    case WAIT_ABORTING:
        err = kin_barrier_wait_action(&s->barrier, abort_action, s, order->number, &index);
        break;
    case WAIT_RESETTING:
        err = kin_barrier_wait_action(&s->barrier, reset_action, s, order->number, &index);
        break;
    case ABORT:
        return kin_barrier_abort(&s->barrier);
    case RESET:
        return kin_barrier_reset(&s->barrier);
    default:
        return KIN_ENOTSUP;
    }
    order->result += index;
    return err;
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

static bool enough_wait(void *arg)
{
    return kin_barrier_waiting(&shared->barrier) >= *(int *)arg;
}

static void until_waiting(int number)
{
    if (!crash_until(enough_wait, &number))
        fail_msg("%d of %d wait", kin_barrier_waiting(&shared->barrier), number);
    assert_int_equal(kin_barrier_waiting(&shared->barrier), number);
}

/* ---- numbers ---- */

static void numbers_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        int64_t parties, timeout_ms;
    } wrong[] = {{0, 0},  {-1, 0}, {KIN_BARRIER_MAX + 1, 0}, {INT64_MAX, 0},         {INT64_MIN, 0}, {((int64_t)1 << 32) + 2, 0},
                 {2, -1}, {2, -2}, {2, INT64_MIN},           {KIN_BARRIER_MAX, -100}};
    make(3, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        kin_barrier *made = NULL;
        kin_barrier_options options = {.timeout_ms = wrong[i].timeout_ms};
        check_fails(KIN_EINVAL, kin_barrier_create(&made, wrong[i].parties, &options));
        assert_null(made);
        check_fails(KIN_EINVAL, kin_barrier_init(&shared->barrier, wrong[i].parties, &options));
        assert_int_equal(kin_barrier_parties(&shared->barrier), 3);
    }
    for (int parties = 1; parties <= KIN_BARRIER_MAX; parties += 239) {
        kin_barrier *made;
        check(kin_barrier_create(&made, parties, NULL));
        assert_int_equal(kin_barrier_parties(made), parties);
        assert_int_equal(kin_barrier_waiting(made), 0);
        assert_false(kin_barrier_is_broken(made));
        kin_barrier_close(made);
    }
    check_fails(KIN_EINVAL, kin_barrier_wait(&shared->barrier, -2, NULL));
    check_says("curtain");
    check_fails(KIN_EINVAL, kin_barrier_wait(&shared->barrier, INT64_MIN, NULL));
    check_fails(KIN_EINVAL, kin_barrier_wait_action(&shared->barrier, fail_action, NULL, -3, NULL));
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    assert_false(kin_barrier_is_broken(&shared->barrier));
}

static void of_one(void **state)
{
    (void)state;
    sync_actor order = {0};
    make(1, 0);
    for (int i = 0; i < 100; i++) {
        int index = -7;
        check(kin_barrier_wait(&shared->barrier, i % 2 == 0 ? KIN_NOWAIT : KIN_FOREVER, &index));
        assert_int_equal(index, 0);
        check(kin_barrier_wait(&shared->barrier, 1, NULL));
        check(kin_barrier_wait_action(&shared->barrier, note_action, &order, KIN_NOWAIT, &index));
        assert_int_equal(order.result, 1000 * (i + 1));
        assert_int_equal(index, 0);
    }
    check_fails(KIN_ETASK, kin_barrier_wait_action(&shared->barrier, fail_action, NULL, KIN_FOREVER, NULL));
    assert_true(kin_barrier_is_broken(&shared->barrier));
    check_fails(KIN_EBROKEN, kin_barrier_wait(&shared->barrier, KIN_FOREVER, NULL));
    check(kin_barrier_reset(&shared->barrier));
    check(kin_barrier_wait(&shared->barrier, KIN_FOREVER, NULL));
}

/* ---- in step ---- */

/* What each of `parties` threads does. Nobody is ever more than one step behind or ahead; indices are unique, and each keeps its own. */
static int step(struct shared *s, kin_barrier *barrier, int number, int parties, int rounds)
{
    int own = -1;
    for (int round = 1; round <= rounds; round++) {
        int index = -1;
        kin__store32(&s->step[number], (uint32_t)round);
        CHILD_CHECK(kin_barrier_wait(barrier, round % 2 == 0 ? KIN_FOREVER : test_ms(30000), round % 5 == 4 ? NULL : &index) == KIN_OK);
        for (int i = 0; i < parties; i++) {
            uint32_t other = kin__load32(&s->step[i]);
            CHILD_CHECK(other == (uint32_t)round || other == (uint32_t)round + 1);
        }
        if (round % 5 == 4)
            continue;
        CHILD_CHECK(index >= 0 && index < parties);
        CHILD_CHECK(own < 0 || own == index);
        own = index;
    }
    kin__add32(&s->owners[own], 1);
    return 0;
}

static int keep_in_step(kin_args *args)
{
    kin_segment *mine;
    kin_barrier *barrier;
    int number, parties, rounds;
    CHILD_CHECK(kin_unpack(args, &mine, &barrier, &number, &parties, &rounds) == KIN_OK);
    int code = step(kin_segment_data(mine), barrier, number, parties, rounds);
    kin_barrier_close(barrier);
    return code;
}

static void in_step(int parties, bool own)
{
    kin_process *children[8];
    kin_barrier *barrier = &shared->barrier;
    int rounds = test_scale(parties == 2 ? 2000 : 500, 100);
    make(parties, 0);
    if (own)
        check(kin_barrier_create(&barrier, parties, NULL));
    for (int i = 0; i < parties; i++)
        children[i] = test_start(keep_in_step, KIN_ARGS(segment, barrier, i, parties, rounds));
    int bad = 0;
    for (int i = 0; i < parties; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
    for (int i = 0; i < parties; i++)
        assert_int_equal(shared->owners[i], 1); /* each index is somebody's */
    if (own)
        kin_barrier_close(barrier);
}

static void two_in_step(void **state)
{
    (void)state;
    in_step(2, false);
}

static void four_in_step(void **state)
{
    (void)state;
    in_step(4, true);
}

static void eight_in_step(void **state)
{
    (void)state;
    in_step(8, false);
}

typedef struct stepper {
    int number, parties, rounds, code;
} stepper;

static void step_thread(void *arg)
{
    stepper *me = arg;
    me->code = step(shared, &shared->barrier, me->number, me->parties, me->rounds);
}

static void eight_threads_in_step(void **state)
{
    (void)state;
    stepper steppers[8];
    make(8, 0);
    for (int i = 0; i < 8; i++)
        steppers[i] = (stepper){i, 8, test_scale(300, 100), -1};
    sync_threads(step_thread, steppers, sizeof steppers[0], 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(steppers[i].code, 0);
        assert_int_equal(shared->owners[i], 1);
    }
}

/* As many as there can be: threads of several processes. */
static void step_much(void *arg)
{
    stepper *me = arg;
    int index = -1, before = -1;
    me->code = 1;
    for (int round = 0; round < me->rounds; round++) {
        if (kin_barrier_wait(&shared->barrier, test_ms(30000), &index) != KIN_OK || index < 0 || index >= me->parties)
            return;
        if (before >= 0 && before != index)
            return;
        before = index;
    }
    me->number = index;
    me->code = 0;
}

static int step_with_threads(kin_args *args)
{
    kin_segment *mine;
    int threads, parties, rounds;
    stepper steppers[60];
    uv_thread_t running[60];
    CHILD_CHECK(kin_unpack(args, &mine, &threads, &parties, &rounds) == KIN_OK);
    shared = kin_segment_data(mine);
    for (int i = 0; i < threads; i++) {
        steppers[i] = (stepper){-1, parties, rounds, -1};
        CHILD_CHECK(uv_thread_create(&running[i], step_much, &steppers[i]) == 0);
    }
    for (int i = 0; i < threads; i++)
        CHILD_CHECK(uv_thread_join(&running[i]) == 0);
    for (int i = 0; i < threads; i++) {
        CHILD_CHECK(steppers[i].code == 0);
        kin__add32(&shared->owners[steppers[i].number], 1);
    }
    return 0;
}

static void as_many_as_there_can_be(void **state)
{
    (void)state;
    int threads = test_scale(60, 10), parties = 4 * threads;
    kin_process *children[4];
    if (test_with_sanitizer())
        threads = 10, parties = 40;
    make(parties, 0);
    for (int i = 0; i < 4; i++)
        children[i] = test_start(step_with_threads, KIN_ARGS(segment, threads, parties, 20));
    for (int i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    for (int i = 0; i < parties; i++)
        assert_int_equal(shared->owners[i], 1); /* each index was somebody's */
}

/* More come than it has parties: each round takes as many as it needs. */
static void more_than_it_has_parties(void **state)
{
    (void)state;
    make(2, 0);
    sync_actor *a = actor(0, false), *b = actor(1, true), *c = actor(2, false);
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    assert_int_equal(sync_do(b, WAIT, 0, KIN_NOWAIT), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(a->result + b->result, 1);
    sync_ask(c, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    assert_int_equal(sync_do(a, WAIT, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    assert_int_equal(a->result + c->result, 1);
    sync_ask(b, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    assert_int_equal(sync_do(c, WAIT, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_answer(b), KIN_OK);
    assert_int_equal(b->result + c->result, 1);
    sync_dismiss(&crew);
}

/* Whoever else comes, one that comes in each round keeps its index. */
static void who_comes_in_each_round_keeps_its_index(void **state)
{
    (void)state;
    make(2, 0);
    sync_actor *always = actor(0, false);
    int64_t index = -1;
    for (int i = 1; i <= 3; i++)
        (void)actor(i, i % 2 != 0);
    for (int round = 0; round < 12; round++) {
        sync_actor *other = &shared->actors[1 + round % 3], *first = round % 4 == 0 ? always : other;
        sync_ask(first, WAIT, 0, KIN_FOREVER);
        until_waiting(1);
        assert_int_equal(sync_do(first == always ? other : always, WAIT, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_answer(first), KIN_OK);
        assert_int_equal(always->result + other->result, 1);
        assert_true(index < 0 || index == always->result);
        index = always->result;
    }
    sync_dismiss(&crew);
}

/* Who ends by itself is replaced by whoever comes in its stead. */
static void who_ends_is_replaced(void **state)
{
    (void)state;
    make(3, 0);
    sync_actor *stays = actor(0, false);
    for (int round = 0; round < 6; round++) {
        bool thread = round % 2 != 0;
        sync_actor *one = actor(1 + round % 4 * 2 % 8, thread), *other = actor(2 + round % 4 * 2 % 8, !thread);
        for (int turn = 0; turn < 3; turn++) {
            sync_ask(stays, WAIT, 0, KIN_FOREVER);
            sync_ask(one, WAIT, 0, test_ms(20000));
            until_waiting(2);
            assert_int_equal(sync_do(other, WAIT, 0, KIN_FOREVER), KIN_OK);
            assert_int_equal(sync_answer(one), KIN_OK);
            assert_int_equal(sync_answer(stays), KIN_OK);
            assert_int_equal(stays->result + one->result + other->result, 0 + 1 + 2);
        }
        sync_dismiss_one(&crew, crew.count - 1);
        sync_dismiss_one(&crew, crew.count - 2);
    }
    assert_false(kin_barrier_is_broken(&shared->barrier));
    sync_dismiss(&crew);
}

/* ---- the action ---- */

static kin_err act_once(void *arg)
{
    struct shared *s = arg;
    s->actions++;
    s->ran_by = (uint32_t)kin_current_pid();
    crash_spin_us(s->actions % 50);
    for (int i = 0; i < 4; i++) {
        if (kin__load32(&s->step[i]) != s->actions)
            return KIN_EIO; /* somebody has not come, or has gone on already */
    }
    return KIN_OK;
}

static int step_with_action(kin_args *args)
{
    kin_segment *mine;
    int number, rounds;
    CHILD_CHECK(kin_unpack(args, &mine, &number, &rounds) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int round = 1; round <= rounds; round++) {
        kin__store32(&s->step[number], (uint32_t)round);
        CHILD_CHECK(kin_barrier_wait_action(&s->barrier, act_once, s, test_ms(30000), NULL) == KIN_OK);
        CHILD_CHECK(s->actions == (uint32_t)round); /* nobody can have begun the next: this one has not come */
    }
    return 0;
}

static void an_action_in_each_round(void **state)
{
    (void)state;
    kin_process *children[4];
    int rounds = test_scale(1000, 100);
    make(4, 0);
    for (int i = 0; i < 4; i++)
        children[i] = test_start(step_with_action, KIN_ARGS(segment, i, rounds));
    int bad = 0;
    for (int i = 0; i < 4; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
    assert_int_equal(shared->actions, rounds);
}

static void the_last_to_come_acts(bool thread)
{
    make(3, 0);
    sync_actor *a = actor(0, thread), *b = actor(1, thread), *c = actor(2, !thread);
    sync_ask(a, WAIT_ACTION, 0, KIN_FOREVER);
    until_waiting(1);
    sync_ask(b, WAIT_FAILING, 0, KIN_FOREVER); /* its own, which is not run */
    until_waiting(2);
    sync_ask(c, WAIT_ACTION, 0, KIN_FOREVER);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_answer(b), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    assert_true(a->result < 1000 && b->result < 1000);
    assert_true(c->result >= 1000 && c->result < 1003);
    /* The last has none. */
    sync_ask(c, WAIT_ACTION, 0, KIN_FOREVER);
    sync_ask(a, WAIT_FAILING, 0, KIN_FOREVER);
    until_waiting(2);
    assert_int_equal(sync_do(b, WAIT, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    assert_true(c->result < 1000);
    /* The last one's fails. */
    sync_ask(a, WAIT_ACTION, 0, KIN_FOREVER);
    sync_ask(b, WAIT, 0, KIN_FOREVER);
    until_waiting(2);
    assert_int_equal(sync_do(c, WAIT_FAILING, 0, KIN_FOREVER), KIN_ETASK);
    assert_int_equal(sync_answer(a), KIN_EBROKEN);
    assert_int_equal(sync_answer(b), KIN_EBROKEN);
    assert_non_null(strstr(a->said, "curtain"));
    assert_true(a->result < 1000);
    assert_true(kin_barrier_is_broken(&shared->barrier));
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    assert_int_equal(sync_do(c, WAIT_ACTION, 0, KIN_FOREVER), KIN_EBROKEN);
    assert_true(c->result < 1000);
    sync_dismiss(&crew);
}

static void the_last_to_come_acts_over_processes(void **state)
{
    (void)state;
    the_last_to_come_acts(false);
}

static void the_last_to_come_acts_over_threads(void **state)
{
    (void)state;
    the_last_to_come_acts(true);
}

/* While the last one acts: the barrier is aborted or reset, by others or by the action itself; and others come. */
static void during_an_action(void **state)
{
    (void)state;
    make(2, 0);
    sync_actor *a = actor(0, false), *b = actor(1, true), *c = actor(2, false);
    for (int way = WAIT_ABORTING; way <= WAIT_RESETTING; way++) {
        sync_ask(a, WAIT, 0, KIN_FOREVER);
        until_waiting(1);
        assert_int_equal(sync_do(b, way, 0, KIN_FOREVER), KIN_EBROKEN);
        assert_non_null(strstr(b->said, way == WAIT_ABORTING ? "abort" : "reset"));
        assert_int_equal(sync_answer(a), KIN_EBROKEN);
        assert_non_null(strstr(a->said, way == WAIT_ABORTING ? "abort" : "reset"));
        assert_true(kin_barrier_is_broken(&shared->barrier) == (way == WAIT_ABORTING));
        check(kin_barrier_reset(&shared->barrier));
    }
    /* Nobody goes on before the action has ended, and who comes meanwhile waits for the next round. */
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    sync_ask(b, WAIT_LONG_ACTION, 0, KIN_FOREVER);
    assert_true(crash_until_at_least(&shared->ready, 1));
    sync_ask_asleep(c, WAIT, 0, KIN_FOREVER);
    assert_false(sync_answered(a));
    kin__store32(&shared->go, 1);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_answer(b), KIN_OK);
    until_waiting(1);
    assert_false(sync_answered(c));
    assert_int_equal(sync_do(a, WAIT, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    sync_dismiss(&crew);
}

/* Reset while one acts: what begins then is not disturbed by the action's end. */
static void a_new_beginning_during_an_action(void **state)
{
    (void)state;
    make(2, 0);
    sync_actor *a = actor(0, false), *b = actor(1, true);
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    sync_ask(b, WAIT_LONG_ACTION, 0, KIN_FOREVER);
    assert_true(crash_until_at_least(&shared->ready, 1));
    check(kin_barrier_reset(&shared->barrier));
    assert_int_equal(sync_answer(a), KIN_EBROKEN);
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    kin__store32(&shared->go, 1);
    assert_int_equal(sync_answer(b), KIN_EBROKEN);
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 1);
    assert_non_null(strstr(b->said, "reset"));
    assert_int_equal(sync_do(b, WAIT, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- breaking ---- */

static void round_trip(void) /* after a reset it is as new */
{
    sync_actor *a = &shared->actors[0], *b = &shared->actors[1], *c = &shared->actors[2];
    assert_false(kin_barrier_is_broken(&shared->barrier));
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    for (int i = 0; i < 2; i++) {
        sync_ask(a, WAIT, 0, KIN_FOREVER);
        sync_ask(b, WAIT, 0, KIN_FOREVER);
        until_waiting(2);
        assert_int_equal(sync_do(c, WAIT, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_answer(a), KIN_OK);
        assert_int_equal(sync_answer(b), KIN_OK);
        assert_int_equal(a->result + b->result + c->result, 0 + 1 + 2);
        assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    }
}

static void abort_and_reset(bool thread)
{
    make(3, 0);
    sync_actor *a = actor(0, thread), *b = actor(1, !thread), *c = actor(2, thread);
    round_trip();
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    sync_ask(b, WAIT_ACTION, 0, test_ms(20000));
    until_waiting(2);
    assert_int_equal(sync_do(c, ABORT, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_EBROKEN);
    assert_int_equal(sync_answer(b), KIN_EBROKEN);
    assert_non_null(strstr(a->said, "curtain"));
    assert_non_null(strstr(a->said, "abort"));
    assert_true(kin_barrier_is_broken(&shared->barrier));
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    assert_int_equal(kin_barrier_parties(&shared->barrier), 3);
    for (int i = 0; i < 4; i++) { /* and who comes now */
        assert_int_equal(sync_do(c, WAIT, 0, i % 2 == 0 ? KIN_FOREVER : KIN_NOWAIT), KIN_EBROKEN);
        assert_non_null(strstr(c->said, "abort"));
    }
    check(kin_barrier_abort(&shared->barrier)); /* already */
    check(kin_barrier_reset(&shared->barrier));
    round_trip();
    check(kin_barrier_reset(&shared->barrier)); /* of one that is whole: nothing to see */
    round_trip();
    /* A reset while some wait: they are told, and it is whole. */
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    sync_ask(b, WAIT, 0, KIN_FOREVER);
    until_waiting(2);
    assert_int_equal(sync_do(c, RESET, 0, 0), KIN_OK);
    assert_false(kin_barrier_is_broken(&shared->barrier));
    assert_int_equal(sync_answer(a), KIN_EBROKEN);
    assert_int_equal(sync_answer(b), KIN_EBROKEN);
    assert_non_null(strstr(b->said, "reset"));
    round_trip();
    /* An abort and a reset at once, before those who wait have run. */
    for (int i = 0; i < test_scale(50, 10); i++) {
        sync_ask(a, WAIT, 0, KIN_FOREVER);
        sync_ask(b, WAIT, 0, KIN_FOREVER);
        until_waiting(2);
        check(kin_barrier_abort(&shared->barrier));
        check(kin_barrier_reset(&shared->barrier));
        assert_int_equal(sync_answer(a), KIN_EBROKEN);
        assert_int_equal(sync_answer(b), KIN_EBROKEN);
        if (i % 8 == 0)
            round_trip();
    }
    sync_dismiss(&crew);
}

static void abort_and_reset_over_processes(void **state)
{
    (void)state;
    abort_and_reset(false);
}

static void abort_and_reset_over_threads(void **state)
{
    (void)state;
    abort_and_reset(true);
}

/* A time-out breaks it for all. */
static void a_time_out_breaks_it(bool thread)
{
    make(4, 0);
    sync_actor *a = actor(0, thread), *b = actor(1, !thread), *c = actor(2, thread);
    for (int way = 0; way < 3; way++) {
        static const int64_t time_out[] = {50, 1, KIN_NOWAIT};
        sync_ask(a, WAIT, 0, KIN_FOREVER);
        sync_ask(b, WAIT_ACTION, 0, test_ms(20000));
        until_waiting(2);
        int64_t before = kin_now();
        assert_int_equal(sync_do(c, WAIT, 0, time_out[way]), KIN_ETIMEDOUT);
        assert_true(kin_now() - before >= time_out[way] - 1);
        assert_non_null(strstr(c->said, "curtain"));
        assert_int_equal(sync_answer(a), KIN_EBROKEN);
        assert_int_equal(sync_answer(b), KIN_EBROKEN);
        assert_non_null(strstr(a->said, "curtain"));
        assert_true(kin_barrier_is_broken(&shared->barrier));
        assert_int_equal(sync_do(c, WAIT, 0, KIN_FOREVER), KIN_EBROKEN);
        check_fails(KIN_EBROKEN, kin_barrier_wait(&shared->barrier, KIN_NOWAIT, NULL));
        check(kin_barrier_reset(&shared->barrier));
        assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
    }
    make(1 + 2, 0);
    round_trip();
    /* The last to come need not wait. */
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    sync_ask(b, WAIT, 0, KIN_FOREVER);
    until_waiting(2);
    assert_int_equal(sync_do(c, WAIT, 0, KIN_NOWAIT), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_answer(b), KIN_OK);
    sync_dismiss(&crew);
}

static void a_time_out_breaks_it_over_processes(void **state)
{
    (void)state;
    a_time_out_breaks_it(false);
}

static void a_time_out_breaks_it_over_threads(void **state)
{
    (void)state;
    a_time_out_breaks_it(true);
}

static void its_own_time_out(void **state)
{
    (void)state;
    make(2, 300);
    int64_t before = kin_now(), cpu = sync_cpu_ms();
    check_fails(KIN_ETIMEDOUT, kin_barrier_wait(&shared->barrier, KIN_FOREVER, NULL));
    assert_true(kin_now() - before >= 299);
    assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
    check_says("curtain");
    assert_true(kin_barrier_is_broken(&shared->barrier));
    check(kin_barrier_reset(&shared->barrier));
    /* It is for waits with KIN_FOREVER; others have their own, shorter or longer. */
    before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_barrier_wait(&shared->barrier, 600, NULL));
    assert_true(kin_now() - before >= 599);
    check(kin_barrier_reset(&shared->barrier));
    before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_barrier_wait(&shared->barrier, 1, NULL));
    assert_true(kin_now() - before < 299 || test_ms(1) > 1);
    check(kin_barrier_reset(&shared->barrier));
    check_fails(KIN_ETIMEDOUT, kin_barrier_wait_action(&shared->barrier, fail_action, NULL, KIN_FOREVER, NULL)); /* not run */
    make(2, test_ms(20000));
    sync_actor *a = actor(0, false);
    sync_ask(a, WAIT, 0, KIN_FOREVER);
    until_waiting(1);
    check(kin_barrier_wait(&shared->barrier, KIN_FOREVER, NULL));
    assert_int_equal(sync_answer(a), KIN_OK);
    sync_dismiss(&crew);
}

/* Time-outs that race with the last to come: each round is complete for all or broken for all. */
static int race_with_time(kin_args *args)
{
    kin_segment *mine;
    int number, rounds;
    CHILD_CHECK(kin_unpack(args, &mine, &number, &rounds) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int round = 0; round < rounds; round++) {
        crash_spin_us((uint32_t)(number == 2 ? 900 + round * 37 % 300 : 0));
        kin_err err = kin_barrier_wait(&s->barrier, number == 0 ? 1 : KIN_FOREVER, NULL);
        CHILD_CHECK(err == KIN_OK || err == KIN_EBROKEN || (err == KIN_ETIMEDOUT && number == 0));
        s->index[round][number] = err == KIN_OK ? 1 : 2;
        /* All meet again, by other means, and one of them mends it. */
        kin__add32(&s->ready, 1);
        CHILD_CHECK(crash_until_at_least(&s->ready, (uint32_t)(3 * (2 * round + 1))));
        CHILD_CHECK(s->index[round][0] == s->index[round][1] && s->index[round][1] == s->index[round][2]);
        if (number == 1 && err != KIN_OK)
            CHILD_CHECK(kin_barrier_is_broken(&s->barrier) && kin_barrier_reset(&s->barrier) == KIN_OK);
        kin__add32(&s->ready, 1);
        CHILD_CHECK(crash_until_at_least(&s->ready, (uint32_t)(3 * (2 * round + 2))));
    }
    return 0;
}

static void complete_for_all_or_for_none(void **state)
{
    (void)state;
    kin_process *children[3];
    make(3, 0);
    for (int i = 0; i < 3; i++)
        children[i] = test_start(race_with_time, KIN_ARGS(segment, i, test_scale(300, 40)));
    int bad = 0;
    for (int i = 0; i < 3; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
}

/* Aborted and reset at any moment: nobody hangs. */
static int wait_whatever_happens(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->ready, 1);
    for (int64_t end = kin_now() + test_ms(20000); kin__load32(&s->go) == 0;) {
        kin_err err = kin_barrier_wait(&s->barrier, KIN_FOREVER, NULL);
        CHILD_CHECK(err == KIN_OK || err == KIN_EBROKEN);
        CHILD_CHECK(kin_now() < end);
    }
    return 0;
}

static void aborted_and_reset_at_any_moment(void **state)
{
    (void)state;
    kin_process *children[3];
    make(3, 0);
    for (int i = 0; i < 3; i++)
        children[i] = test_start(wait_whatever_happens, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 3));
    uint32_t chance = crash_seed();
    for (int i = 0; i < test_scale(2000, 200); i++) {
        crash_spin_us(crash_random(&chance, 200));
        if (crash_random(&chance, 2) == 0)
            check(kin_barrier_abort(&shared->barrier));
        check(kin_barrier_reset(&shared->barrier));
    }
    kin__store32(&shared->go, 1);
    check(kin_barrier_abort(&shared->barrier));
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_int_equal(kin_barrier_waiting(&shared->barrier), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(numbers_that_are_refused),
        TEST(of_one),
        TEST(two_in_step),
        TEST(four_in_step),
        TEST(eight_in_step),
        TEST(eight_threads_in_step),
        TEST(as_many_as_there_can_be),
        TEST(more_than_it_has_parties),
        TEST(who_comes_in_each_round_keeps_its_index),
        TEST(who_ends_is_replaced),
        TEST(an_action_in_each_round),
        TEST(the_last_to_come_acts_over_processes),
        TEST(the_last_to_come_acts_over_threads),
        TEST(during_an_action),
        TEST(a_new_beginning_during_an_action),
        TEST(abort_and_reset_over_processes),
        TEST(abort_and_reset_over_threads),
        TEST(a_time_out_breaks_it_over_processes),
        TEST(a_time_out_breaks_it_over_threads),
        TEST(its_own_time_out),
        TEST(complete_for_all_or_for_none),
        TEST(aborted_and_reset_at_any_moment),
    };
    return cmocka_run_group_tests_name("barrier", tests, NULL, NULL);
}
