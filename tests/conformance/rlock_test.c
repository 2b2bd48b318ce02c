/* kin/rlock.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 4 };

struct shared {
    kin_rlock lock, other;
    uint64_t first;
    uint32_t order[ACTORS], ordered;
    sync_actor actors[ACTORS];
    uint64_t second;
};

static kin_segment *segment;
static struct shared *shared;
static sync_crew crew;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_rlock_init(&shared->lock, &(kin_rlock_options){.name = "books"}));
    check(kin_rlock_init(&shared->other, &(kin_rlock_options){.name = "shelves"}));
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

enum { ACQUIRE, RELEASE, COUNT, ACQUIRE_AND_NOTE };

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_rlock *lock = order->object == 0 ? &s->lock : &s->other;
    kin_err err;
    switch (order->call) {
    case ACQUIRE:
        return kin_rlock_acquire(lock, order->number);
    case RELEASE:
        return kin_rlock_release(lock);
    case COUNT:
        order->result = kin_rlock_count(lock);
        return KIN_OK;
    case ACQUIRE_AND_NOTE:
        err = kin_rlock_acquire(lock, KIN_FOREVER);
        s->order[s->ordered++ % ACTORS] = (uint32_t)order->number;
        return err != KIN_OK ? err : kin_rlock_release(lock);
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

static int64_t count_of(sync_actor *a, int object)
{
    assert_int_equal(sync_do(a, COUNT, object, 0), KIN_OK);
    return a->result;
}

/* ---- tests ---- */

static int count_up(kin_args *args)
{
    kin_segment *mine;
    kin_rlock *lock;
    int64_t times, seed;
    CHILD_CHECK(kin_unpack(args, &mine, &lock, &times, &seed) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times; i++) {
        uint32_t depth = 1 + crash_random(&chance, 4);
        for (uint32_t d = 0; d < depth; d++) {
            CHILD_CHECK(kin_rlock_acquire(lock, d == 0 ? KIN_FOREVER : KIN_NOWAIT) == KIN_OK);
            CHILD_CHECK(s->first == s->second + d);
            s->first++;
        }
        if (i % 64 == 0)
            crash_spin_us(5);
        for (uint32_t d = depth; d > 0; d--) {
            CHILD_CHECK(kin_rlock_count(lock) == d);
            s->second++;
            CHILD_CHECK(kin_rlock_release(lock) == KIN_OK);
        }
    }
    kin_rlock_close(lock);
    return 0;
}

static void exclude(kin_rlock *lock)
{
    kin_process *children[4];
    int64_t times = test_scale(10000, 1000);
    for (int64_t i = 0; i < 4; i++)
        children[i] = test_start(count_up, KIN_ARGS(segment, lock, times, i + 1));
    for (int i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_true(shared->first == shared->second);
    assert_true(shared->first > (uint64_t)(4 * times));
    assert_int_equal(kin_rlock_count(lock), 0);
}

static void one_at_a_time_with_a_lock_in_a_struct(void **state)
{
    (void)state;
    exclude(&shared->lock);
}

static void one_at_a_time_with_a_lock_of_its_own(void **state)
{
    (void)state;
    kin_rlock *own;
    check(kin_rlock_create(&own, NULL));
    exclude(own);
    kin_rlock_close(own);
}

static void its_owner_takes_it_again(void **state)
{
    (void)state;
    static const int64_t time_outs[] = {KIN_FOREVER, KIN_NOWAIT, 1, INT64_MAX};
    uint32_t depth = (uint32_t)test_scale(100000, 1000);
    assert_int_equal(kin_rlock_count(&shared->lock), 0);
    for (uint32_t i = 0; i < depth; i++) {
        check(kin_rlock_acquire(&shared->lock, time_outs[i % 4]));
        assert_int_equal(kin_rlock_count(&shared->lock), i + 1);
    }
    assert_int_equal(kin_rlock_count(&shared->other), 0);
    check_fails(KIN_EINVAL, kin_rlock_acquire(&shared->lock, -2));
    assert_int_equal(kin_rlock_count(&shared->lock), depth);
    for (uint32_t i = depth; i > 0; i--) {
        assert_int_equal(kin_rlock_count(&shared->lock), i);
        check(kin_rlock_release(&shared->lock));
    }
    assert_int_equal(kin_rlock_count(&shared->lock), 0);
    check_fails(KIN_EPERM, kin_rlock_release(&shared->lock));
    check_says("books");
    assert_int_equal(kin_rlock_count(&shared->lock), 0);
}

static void others_wait_until_the_last_release(bool thread)
{
    sync_actor *owner = actor(0, thread), *waiter = actor(1, thread);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sync_do(owner, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    check_fails(KIN_ETIMEDOUT, kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
    check_says("books");
    sync_ask_asleep(waiter, ACQUIRE, 0, KIN_FOREVER);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sync_do(owner, RELEASE, 0, 0), KIN_OK);
        assert_false(sync_answered(waiter));
        check_fails(KIN_ETIMEDOUT, kin_rlock_acquire(&shared->lock, 1));
    }
    assert_int_equal(count_of(owner, 0), 1);
    assert_int_equal(sync_do(owner, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(waiter), KIN_OK);
    assert_int_equal(count_of(waiter, 0), 1);
    assert_int_equal(count_of(owner, 0), 0);
    assert_int_equal(sync_do(owner, RELEASE, 0, 0), KIN_EPERM);
    assert_int_equal(sync_do(waiter, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void others_wait_until_the_last_release_over_processes(void **state)
{
    (void)state;
    others_wait_until_the_last_release(false);
}

static void others_wait_until_the_last_release_over_threads(void **state)
{
    (void)state;
    others_wait_until_the_last_release(true);
}

static void time_outs(void **state)
{
    (void)state;
    sync_actor *owner = actor(0, false);
    assert_int_equal(sync_do(owner, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    int64_t before = kin_now(), cpu = sync_cpu_ms();
    check_fails(KIN_ETIMEDOUT, kin_rlock_acquire(&shared->lock, 300));
    assert_true(kin_now() - before >= 299);
    assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
    check_says("books");
    check_says("300 ms");
    for (int i = 0; i < 20; i++)
        check_fails(KIN_ETIMEDOUT, kin_rlock_acquire(&shared->lock, 1));
    assert_int_equal(kin_rlock_count(&shared->lock), 0);
    assert_int_equal(sync_do(owner, RELEASE, 0, 0), KIN_OK);
    check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
    check(kin_rlock_release(&shared->lock));
    sync_dismiss(&crew);
}

static void releasing_what_another_holds(void **state)
{
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *a = actor(0, thread != 0);
        check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
        check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_EPERM);
        assert_non_null(strstr(a->said, "books"));
        assert_int_equal(count_of(a, 0), 0);
        assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_NOWAIT), KIN_ETIMEDOUT);
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_EPERM);
        assert_int_equal(kin_rlock_count(&shared->lock), 2);
        check(kin_rlock_release(&shared->lock));
        check(kin_rlock_release(&shared->lock));
        check_fails(KIN_EPERM, kin_rlock_release(&shared->lock));
        sync_dismiss(&crew);
    }
}

/* The longest waiting is woken; who is woken wakes the next when it releases. */
static void first_come_first_served(void **state)
{
    (void)state;
    static const int turns[ACTORS] = {2, 0, 3, 1};
    check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
    for (int i = 0; i < ACTORS; i++)
        (void)actor(i, i % 2 != 0);
    for (int i = 0; i < ACTORS; i++)
        sync_ask_asleep(&shared->actors[turns[i]], ACQUIRE_AND_NOTE, 0, i);
    check(kin_rlock_release(&shared->lock));
    for (int i = 0; i < ACTORS; i++)
        assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
    for (uint32_t i = 0; i < ACTORS; i++)
        assert_int_equal(shared->order[i], i);
    sync_dismiss(&crew);
}

/* Whoever has a deep hold of it and is told of a deadlock keeps it as deep. */
static void deadlock(bool thread)
{
    sync_actor *a = actor(0, thread), *b = actor(1, thread);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(b, ACQUIRE, 1, KIN_FOREVER), KIN_OK);
    }
    sync_ask_asleep(a, ACQUIRE, 1, KIN_FOREVER);
    assert_int_equal(sync_do(b, ACQUIRE, 0, KIN_FOREVER), KIN_EDEADLK);
    assert_non_null(strstr(b->said, "books"));
    assert_non_null(strstr(b->said, "shelves"));
    assert_int_equal(count_of(b, 0), 0);
    assert_int_equal(count_of(b, 1), 3);
    assert_int_equal(sync_do(b, ACQUIRE, 1, KIN_FOREVER), KIN_OK); /* never for an own lock */
    for (int i = 0; i < 4; i++) {
        assert_false(sync_answered(a));
        assert_int_equal(sync_do(b, RELEASE, 1, 0), KIN_OK);
    }
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(count_of(a, 1), 1);
    assert_int_equal(count_of(a, 0), 3);
    assert_int_equal(sync_do(a, RELEASE, 1, 0), KIN_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void deadlock_over_processes(void **state)
{
    (void)state;
    deadlock(false);
}

static void deadlock_over_threads(void **state)
{
    (void)state;
    deadlock(true);
}

/* An heir holds it once, however deep the dead owner was. */
static void whoever_ends_leaves_it_to_an_heir(void **state)
{
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *a = actor(0, thread != 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
        sync_dismiss(&crew);
        check_fails(KIN_EOWNERDEAD, kin_rlock_acquire(&shared->lock, test_ms(20000)));
        check_says("books");
        assert_int_equal(kin_rlock_count(&shared->lock), 1);
        check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
        check(kin_rlock_release(&shared->lock));
        check(kin_rlock_release(&shared->lock));
        check_fails(KIN_EPERM, kin_rlock_release(&shared->lock));
        check(kin_rlock_acquire(&shared->lock, KIN_NOWAIT));
        check(kin_rlock_release(&shared->lock));
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
        TEST(one_at_a_time_with_a_lock_in_a_struct),
        TEST(one_at_a_time_with_a_lock_of_its_own),
        TEST(its_owner_takes_it_again),
        TEST(others_wait_until_the_last_release_over_processes),
        TEST(others_wait_until_the_last_release_over_threads),
        TEST(time_outs),
        TEST(releasing_what_another_holds),
        TEST(first_come_first_served),
        TEST(deadlock_over_processes),
        TEST(deadlock_over_threads),
        TEST(whoever_ends_leaves_it_to_an_heir),
    };
    return cmocka_run_group_tests_name("rlock", tests, NULL, NULL);
}
