/* Locks whose owners and waiters die, at any time and at every crash point of lock.c and park.c. */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <uv.h>

/* The two words are equal whenever nobody is in the middle. */
struct shared {
    kin_lock lock;
    uint64_t first, second;
    uint32_t ready, go, done, owner_died;
};

static kin_segment *segment;
static struct shared *shared;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "till"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static struct shared *attach(kin_args *args)
{
    kin_segment *mine;
    return kin_args_get(args, 0, KIN_OUT(&mine)) == KIN_OK ? kin_segment_data(mine) : NULL;
}

static void must_be_free_and_sound(void)
{
    check(kin_lock_acquire(&shared->lock, test_ms(20000)));
    assert_true(shared->first == shared->second);
    check(kin_lock_release(&shared->lock));
}

/* ---- who plays ---- */

/* Takes the lock, changes half of what it protects, and stays so until told to go on. */
static int hold(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    s->first++;
    kin__store32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    s->second++;
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return 0;
}

static kin_process *start_holder(void)
{
    kin__store32(&shared->ready, 0);
    kin__store32(&shared->go, 0);
    kin_process *p = test_start(hold, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    return p;
}

/* Takes the lock once, repairs, and says with its exit code how it got it. */
static int take(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    kin_err err = kin_lock_acquire(&s->lock, KIN_FOREVER);
    CHILD_CHECK(kin_lock_held(&s->lock));
    if (err == KIN_EOWNERDEAD)
        s->second = s->first;
    CHILD_CHECK(s->first == s->second);
    s->first++;
    s->second++;
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return err;
}

/* As take, by looking again and again. */
static int take_spinning(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    kin_err err;
    int64_t end = kin_now() + test_ms(20000);
    do {
        err = kin_lock_acquire(&s->lock, KIN_NOWAIT);
        kin__store32(&s->done, 1);
    } while (err == KIN_ETIMEDOUT && kin_now() < end);
    CHILD_CHECK(err == KIN_OK || err == KIN_EOWNERDEAD);
    if (err == KIN_EOWNERDEAD)
        s->second = s->first;
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return err;
}

/* Takes the lock and dies with it. */
static int take_and_die(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    kin_err err = kin_lock_acquire(&s->lock, KIN_FOREVER);
    s->first++;
    crash_end(100 + err);
    return 0;
}

static void start_takers(kin_process **takers, int count)
{
    for (int i = 0; i < count; i++)
        takers[i] = test_start(take, KIN_ARGS(segment));
}

/* Joins them; how many got the lock with KIN_EOWNERDEAD. */
static int join_takers(kin_process **takers, int count)
{
    int heirs = 0;
    for (int i = 0; i < count; i++) {
        int code = crash_join(takers[i]);
        if (code != KIN_OK && code != KIN_EOWNERDEAD)
            fail_msg("waiter %d ended with %d", i, code);
        heirs += code == KIN_EOWNERDEAD;
    }
    return heirs;
}

static void kill_and_join(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(crash_join(p), -9);
}

/* ---- an owner dies ---- */

static void nobody_waits(void **state)
{
    (void)state;
    kill_and_join(start_holder());
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    check_says("till");
    assert_true(kin_lock_held(&shared->lock));
    assert_true(shared->first == 1 && shared->second == 0);
    shared->second = 1;
    check_fails(KIN_EDEADLK, kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    check(kin_lock_release(&shared->lock));
    must_be_free_and_sound();
}

static void nobody_joins_it(void **state)
{
    (void)state;
    kin_process *p = start_holder();
    check(kin_process_kill(p));
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, test_ms(20000)));
    shared->second = shared->first;
    check(kin_lock_release(&shared->lock));
    assert_int_equal(crash_join(p), -9);
}

static void a_waiter_sleeps(void **state)
{
    (void)state;
    kin_process *taker, *p = start_holder();
    start_takers(&taker, 1);
    assert_true(crash_until_sleeping(&shared->lock));
    kill_and_join(p);
    assert_int_equal(join_takers(&taker, 1), 1);
    must_be_free_and_sound();
}

static void a_waiter_spins(void **state)
{
    (void)state;
    kin_process *p = start_holder(), *taker = test_start(take_spinning, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->done, 1));
    kill_and_join(p);
    assert_int_equal(crash_join(taker), KIN_EOWNERDEAD);
    must_be_free_and_sound();
}

/* The owner dies at any moment of a waiter's way to sleep. */
static void a_waiter_is_on_its_way_to_sleep(void **state)
{
    (void)state;
    uint32_t chance = crash_seed();
    for (int round = 0, rounds = test_scale(60, 5); round < rounds; round++) {
        kin_process *taker, *p = start_holder();
        start_takers(&taker, 1);
        crash_spin_us(crash_random(&chance, 400));
        check(kin_process_kill(p));
        assert_int_equal(join_takers(&taker, 1), 1);
        assert_int_equal(crash_join(p), -9);
    }
    must_be_free_and_sound();
}

static void of_several_waiters_one_inherits(void **state)
{
    (void)state;
    enum { WAITERS = 5 };
    for (int round = 0, rounds = test_scale(10, 2); round < rounds; round++) {
        kin_process *takers[WAITERS], *p = start_holder();
        start_takers(takers, WAITERS);
        assert_true(crash_until_sleepers(&shared->lock, WAITERS));
        kill_and_join(p);
        assert_int_equal(join_takers(takers, WAITERS), 1);
        must_be_free_and_sound();
    }
}

static void heirs_that_die_too(void **state)
{
    (void)state;
    enum { WAITERS = 5 };
    kin_process *takers[WAITERS], *p = start_holder();
    for (int i = 0; i < WAITERS; i++)
        takers[i] = test_start(take_and_die, KIN_ARGS(segment));
    assert_true(crash_until_sleepers(&shared->lock, WAITERS));
    kill_and_join(p);
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(crash_join(takers[i]), 100 + KIN_EOWNERDEAD);
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, test_ms(20000)));
    assert_true(shared->first == 1 + WAITERS);
    shared->second = shared->first;
    check(kin_lock_release(&shared->lock));
    must_be_free_and_sound();
}

static int return_holding(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    return 5;
}

static int exit_holding(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    exit(6);
}

static int abort_holding(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    abort();
}

static void however_it_ends(void **state)
{
    (void)state;
    const struct {
        kin_target target;
        int code;
    } ends[] = {{return_holding, 5}, {exit_holding, 6}, {abort_holding, -6}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        assert_int_equal(crash_join(test_start(ends[i].target, KIN_ARGS(segment))), ends[i].code);
        check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, KIN_NOWAIT));
        check(kin_lock_release(&shared->lock));
        must_be_free_and_sound();
    }
}

/* ---- a thread ends, its process lives ---- */

static void acquire_and_end(void *arg)
{
    *(kin_err *)arg = kin_lock_acquire(&shared->lock, KIN_FOREVER);
}

static void wait_and_end(void *arg)
{
    *(kin_err *)arg = kin_lock_acquire(&shared->lock, KIN_FOREVER);
    kin__store32(&shared->ready, 1);
    (void)crash_until_at_least(&shared->go, 1);
}

static void a_thread_ends_while_holding(void **state)
{
    (void)state;
    uv_thread_t thread;
    kin_err err = KIN_EIO;
    for (int round = 0; round < 50; round++) {
        assert_int_equal(uv_thread_create(&thread, acquire_and_end, &err), 0);
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_int_equal(err, KIN_OK);
        check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, test_ms(20000)));
        check(kin_lock_release(&shared->lock));
    }
    must_be_free_and_sound();
}

static void a_thread_ends_while_others_wait(void **state)
{
    (void)state;
    enum { WAITERS = 3 };
    uv_thread_t thread;
    kin_err err = KIN_EIO;
    kin_process *takers[WAITERS];
    assert_int_equal(uv_thread_create(&thread, wait_and_end, &err), 0);
    assert_true(crash_until_at_least(&shared->ready, 1));
    start_takers(takers, WAITERS);
    assert_true(crash_until_sleepers(&shared->lock, WAITERS));
    kin__store32(&shared->go, 1);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(err, KIN_OK);
    assert_int_equal(join_takers(takers, WAITERS), 1);
    must_be_free_and_sound();
}

/* ---- a waiter dies ---- */

static void a_waiter_is_killed(void **state)
{
    (void)state;
    enum { WAITERS = 4 };
    for (int victim = 0; victim < WAITERS; victim++) {
        kin_process *takers[WAITERS];
        check(kin_lock_acquire(&shared->lock, KIN_NOWAIT));
        start_takers(takers, WAITERS);
        assert_true(crash_until_sleepers(&shared->lock, WAITERS));
        kill_and_join(takers[victim]);
        check(kin_lock_release(&shared->lock));
        takers[victim] = takers[WAITERS - 1];
        assert_int_equal(join_takers(takers, WAITERS - 1), 0);
        must_be_free_and_sound();
    }
}

/* The one who was woken is killed at any moment: before it takes the lock, with it, after it. */
static void the_woken_is_killed(void **state)
{
    (void)state;
    enum { WAITERS = 3 };
    uint32_t chance = crash_seed();
    for (int round = 0, rounds = test_scale(40, 4); round < rounds; round++) {
        kin_process *takers[WAITERS];
        check(kin_lock_acquire(&shared->lock, test_ms(20000)));
        start_takers(takers, WAITERS);
        assert_true(crash_until_sleepers(&shared->lock, WAITERS));
        int victim = (int)crash_random(&chance, WAITERS);
        check(kin_lock_release(&shared->lock));
        crash_spin_us(crash_random(&chance, 60));
        check(kin_process_kill(takers[victim]));
        int code = crash_join(takers[victim]);
        if (code != -9 && code != KIN_OK && code != KIN_EOWNERDEAD)
            fail_msg("the victim ended with %d", code);
        takers[victim] = takers[WAITERS - 1];
        assert_true(join_takers(takers, WAITERS - 1) <= 1);
        kin_err err = kin_lock_acquire(&shared->lock, test_ms(20000));
        if (err == KIN_EOWNERDEAD)
            shared->second = shared->first; /* it had taken it last */
        else
            check(err);
        assert_true(shared->first == shared->second);
        check(kin_lock_release(&shared->lock));
    }
}

/* ---- a stopped owner ---- */

static void a_stopped_owner_keeps_what_it_holds(void **state)
{
    (void)state;
    kin_process *taker, *p = start_holder();
    if (!test_process_stop(kin_process_pid(p))) {
        kin__store32(&shared->go, 1);
        assert_int_equal(crash_join(p), 0);
        test_skip("no process can be stopped here");
    }
    start_takers(&taker, 1);
    assert_true(crash_until_sleeping(&shared->lock));
    kin__store32(&shared->go, 1);
    /* Longer than anything in kin that happens from time to time. */
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, 1300));
    assert_true(kin_process_alive(p));
    assert_true(kin_process_alive(taker));
    assert_true(test_process_continue(kin_process_pid(p)));
    assert_int_equal(crash_join(p), 0); /* it finds itself the owner still */
    assert_int_equal(join_takers(&taker, 1), 0);
    must_be_free_and_sound();
}

/* Death reaches a stopped one, too. */
static void a_stopped_owner_is_killed(void **state)
{
    (void)state;
    kin_process *p = start_holder();
    if (!test_process_stop(kin_process_pid(p))) {
        kill_and_join(p);
        test_skip("no process can be stopped here");
    }
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, 50));
    check(kin_process_kill(p));
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, test_ms(20000)));
    check(kin_lock_release(&shared->lock));
    assert_int_equal(crash_join(p), -9);
}

/* ---- crash points ---- */

/* Dies at a point, having been told to go on. */
static int die_on_the_way(kin_args *args)
{
    const char *point;
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_args_get(args, 1, KIN_OUT(&point)) == KIN_OK);
    crash_at(point);
    (void)kin_lock_acquire(&s->lock, KIN_FOREVER);
    crash_at(NULL); /* waiting for the parent is no part of it */
    kin__store32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    crash_at(point);
    (void)kin_lock_release(&s->lock);
    return 77;
}

/* Dies on its way to sleep, or when it is woken, while the parent holds the lock and others sleep. */
static void dies_waiting(const char *point, bool woken)
{
    enum { WAITERS = 2 };
    kin_process *takers[WAITERS], *victim;
    check(kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    start_takers(takers, 1);
    assert_true(crash_until_surely_asleep(&shared->lock, 1));
    victim = test_start(die_on_the_way, KIN_ARGS(segment, point));
    if (woken)
        assert_true(crash_until_surely_asleep(&shared->lock, 2));
    else
        assert_int_equal(crash_join(victim), -9);
    start_takers(takers + 1, 1);
    assert_true(crash_until_surely_asleep(&shared->lock, woken ? 3 : 2));
    check(kin_lock_release(&shared->lock));
    if (woken)
        assert_int_equal(crash_join(victim), -9);
    assert_int_equal(join_takers(takers, WAITERS), 0);
    must_be_free_and_sound();
}

static void dies_before_it_sleeps(void **state)
{
    (void)state;
    dies_waiting("park.published", false);
    dies_waiting("park.sleeping", false);
}

static void dies_when_it_is_woken(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(10, 2); round < rounds; round++)
        dies_waiting("park.woken", true);
}

static void dies_with_the_lock_just_taken(void **state)
{
    (void)state;
    enum { WAITERS = 2 };
    kin_process *takers[WAITERS], *victim = test_start(die_on_the_way, KIN_ARGS(segment, "lock.acquired"));
    assert_int_equal(crash_join(victim), -9);
    start_takers(takers, WAITERS);
    assert_int_equal(join_takers(takers, WAITERS), 1);
    must_be_free_and_sound();
}

static void dies_releasing(const char *point, int heirs)
{
    enum { WAITERS = 3 };
    kin_process *takers[WAITERS], *victim;
    kin__store32(&shared->ready, 0);
    kin__store32(&shared->go, 0);
    victim = test_start(die_on_the_way, KIN_ARGS(segment, point));
    assert_true(crash_until_at_least(&shared->ready, 1));
    start_takers(takers, WAITERS);
    assert_true(crash_until_sleepers(&shared->lock, WAITERS));
    kin__store32(&shared->go, 1);
    assert_int_equal(crash_join(victim), -9);
    assert_int_equal(join_takers(takers, WAITERS), heirs);
    must_be_free_and_sound();
}

static void dies_about_to_release(void **state)
{
    (void)state;
    dies_releasing("lock.releasing", 1);
}

/* Released, but nobody was woken: the death itself is what wakes them. */
static void dies_before_it_wakes_the_next(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(10, 2); round < rounds; round++)
        dies_releasing("lock.released", 0);
}

/* It has marked the next as woken, but not woken it: the death itself must. */
static void dies_waking_the_next(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(10, 2); round < rounds; round++)
        dies_releasing("park.waking", 0);
}

/* In the crowd: the n-th time it passes the point. */
static int work_in_the_crowd(kin_args *args)
{
    const char *point;
    int64_t times;
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_args_get(args, 1, KIN_OUT(&point)) == KIN_OK && kin_args_get(args, 2, KIN_OUT(&times)) == KIN_OK);
    crash_at(point[0] != 0 ? point : NULL);
    int64_t end = kin_now() + test_ms(60000);
    for (int64_t i = 0; times < 0 ? kin_now() < end : i < times; i++) {
        kin_err err = kin_lock_acquire(&s->lock, test_ms(20000));
        if (err == KIN_EOWNERDEAD) {
            kin__add32(&s->owner_died, 1);
            s->second = s->first;
        } else {
            CHILD_CHECK(err == KIN_OK);
        }
        CHILD_CHECK(s->first == s->second);
        s->first++;
        crash_spin_us(i % 16 == 0 ? 80 : 2); /* so that others have to sleep */
        s->second++;
        CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    }
    return 0;
}

static void dies_in_the_crowd(void **state)
{
    (void)state;
    static const char *const points[] = {"lock.acquired", "lock.acquired:9",  "lock.releasing", "lock.releasing:40", "lock.released",
                                         "lock.released:3", "park.published", "park.published:4", "park.sleeping",   "park.sleeping:3",
                                         "park.woken",      "park.woken:3",    "park.waking",    "park.waking:3"};
    enum { WORKERS = 3 };
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        kin_process *workers[WORKERS], *victim;
        int64_t times = test_scale(400, 60);
        uint32_t before = kin__load32(&shared->owner_died);
        for (int w = 0; w < WORKERS; w++)
            workers[w] = test_start_with(work_in_the_crowd, KIN_ARGS(segment, "", (int64_t)-1), (kin_process_options){.daemon = true});
        victim = test_start(work_in_the_crowd, KIN_ARGS(segment, points[i], (int64_t)-1));
        int code = crash_join(victim);
        if (code != -9)
            fail_msg("%s: the victim ended with %d", points[i], code);
        /* The others go on without end, so a new one gets its turns. */
        assert_int_equal(test_run(work_in_the_crowd, KIN_ARGS(segment, "", times)), 0);
        if (kin__load32(&shared->owner_died) > before + 1)
            fail_msg("%s: one death, %lu heirs", points[i], (unsigned long)(kin__load32(&shared->owner_died) - before));
        for (int w = 0; w < WORKERS; w++)
            kill_and_join(workers[w]);
        kin_err err = kin_lock_acquire(&shared->lock, test_ms(20000));
        if (err == KIN_EOWNERDEAD)
            shared->second = shared->first;
        else
            check(err);
        check(kin_lock_release(&shared->lock));
        must_be_free_and_sound();
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(nobody_waits),
        TEST(nobody_joins_it),
        TEST(a_waiter_sleeps),
        TEST(a_waiter_spins),
        TEST(a_waiter_is_on_its_way_to_sleep),
        TEST(of_several_waiters_one_inherits),
        TEST(heirs_that_die_too),
        TEST(however_it_ends),
        TEST(a_thread_ends_while_holding),
        TEST(a_thread_ends_while_others_wait),
        TEST(a_waiter_is_killed),
        TEST(the_woken_is_killed),
        TEST(a_stopped_owner_keeps_what_it_holds),
        TEST(a_stopped_owner_is_killed),
        TEST(dies_before_it_sleeps),
        TEST(dies_when_it_is_woken),
        TEST(dies_with_the_lock_just_taken),
        TEST(dies_about_to_release),
        TEST(dies_before_it_wakes_the_next),
        TEST(dies_waking_the_next),
        TEST(dies_in_the_crowd),
    };
    return cmocka_run_group_tests_name("lock_death", tests, NULL, NULL);
}
