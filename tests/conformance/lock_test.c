/* kin/lock.h as long as nobody dies; see tests/crash/lock_death_test.c for the rest. */
#include "crash_support.h"

#include "atomic.h"

#include <string.h>
#include <uv.h>

/* What the processes share. The two words are plain: only the lock keeps them equal. */
struct shared {
    kin_lock lock;
    uint64_t first;
    uint32_t ready, go;
    char remote[128];
    uint64_t second;
};

static kin_segment *segment;
static struct shared *shared;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "accounts"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static bool attach(kin_args *args, struct shared **s)
{
    kin_segment *mine;
    if (kin_unpack(args, &mine) != KIN_OK)
        return false;
    *s = kin_segment_data(mine);
    return true;
}

/* ---- mutual exclusion ---- */

static int count_up(kin_args *args)
{
    kin_segment *mine;
    kin_lock *own; /* in a segment of its own */
    bool use_own;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &mine, &own, &use_own, &times) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin_lock *lock = use_own ? own : &s->lock;
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_lock_acquire(lock, KIN_FOREVER) == KIN_OK);
        CHILD_CHECK(s->first == s->second);
        s->first++;
        if (i % 64 == 0)
            crash_spin_us(5); /* long enough for another CPU to run into it */
        s->second++;
        CHILD_CHECK(kin_lock_release(lock) == KIN_OK);
    }
    kin_lock_close(own);
    return 0;
}

static void exclude(bool use_own)
{
    enum { PROCESSES = 4 };
    kin_process *children[PROCESSES];
    int64_t times = test_scale(20000, 2000);
    kin_lock *own;
    check(kin_lock_create(&own, NULL));
    for (int i = 0; i < PROCESSES; i++)
        children[i] = test_start(count_up, KIN_ARGS(segment, own, use_own, times));
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_true(shared->first == (uint64_t)(PROCESSES * times));
    assert_true(shared->second == shared->first);
    kin_lock_close(own);
}

static void one_at_a_time_with_a_lock_in_a_struct(void **state)
{
    (void)state;
    exclude(false);
}

static void one_at_a_time_with_a_lock_of_its_own(void **state)
{
    (void)state;
    exclude(true);
}

/* ---- waiting ---- */

static int hold_until_told(kin_args *args)
{
    struct shared *s;
    CHILD_CHECK(attach(args, &s));
    CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    kin__store32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    CHILD_CHECK(kin_lock_held(&s->lock));
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return 0;
}

static void time_outs(void **state)
{
    (void)state;
    kin_process *owner = test_start(hold_until_told, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    check_says("accounts");
    int64_t before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, 50));
    assert_true(kin_now() - before >= 49); /* two clocks of whole milliseconds */
    check_says("50 ms");
    for (int i = 0; i < 20; i++)
        check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, 1));
    assert_false(kin_lock_held(&shared->lock));
    kin__store32(&shared->go, 1);
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    check(kin_lock_release(&shared->lock));
    assert_int_equal(test_finish(owner), 0);
}

static int take_once(kin_args *args)
{
    struct shared *s;
    CHILD_CHECK(attach(args, &s));
    CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    s->first++;
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return 0;
}

static void a_release_wakes_one_after_the_other(void **state)
{
    (void)state;
    enum { WAITERS = 4 };
    kin_process *waiters[WAITERS];
    check(kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = test_start(take_once, KIN_ARGS(segment));
    assert_true(crash_until_sleepers(&shared->lock, WAITERS));
    assert_true(shared->first == 0);
    check(kin_lock_release(&shared->lock));
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(test_finish(waiters[i]), 0);
    assert_true(shared->first == WAITERS);
}

/* Waiters that give up take no wake along that was another's. */
static int take_with_short_time_outs(kin_args *args)
{
    struct shared *s;
    CHILD_CHECK(attach(args, &s));
    kin__add32(&s->ready, 1);
    for (int got = 0; got < 30;) {
        kin_err err = kin_lock_acquire(&s->lock, 1);
        if (err == KIN_ETIMEDOUT)
            continue;
        CHILD_CHECK(err == KIN_OK);
        got++;
        crash_spin_us(700);
        CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    }
    return 0;
}

static int take_with_patience(kin_args *args)
{
    struct shared *s;
    CHILD_CHECK(attach(args, &s));
    kin__add32(&s->ready, 1);
    for (int i = 0; i < 30; i++) {
        CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
        crash_spin_us(300);
        CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    }
    return 0;
}

static void who_gives_up_takes_no_wake_along(void **state)
{
    (void)state;
    enum { PROCESSES = 6 };
    kin_process *children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++)
        children[i] = test_start(i % 2 == 0 ? take_with_short_time_outs : take_with_patience, KIN_ARGS(segment));
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
}

/* ---- misuse ---- */

static void taking_it_twice(void **state)
{
    (void)state;
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    check_fails(KIN_EDEADLK, kin_lock_acquire(&shared->lock, KIN_FOREVER));
    check_says("accounts");
    check_fails(KIN_EDEADLK, kin_lock_acquire(&shared->lock, KIN_NOWAIT));
    assert_true(kin_lock_held(&shared->lock));
    check(kin_lock_release(&shared->lock));
    check_fails(KIN_EPERM, kin_lock_release(&shared->lock));
}

static int release_anothers(kin_args *args)
{
    struct shared *s;
    CHILD_CHECK(attach(args, &s));
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_EPERM); /* before this thread has a name */
    CHILD_CHECK(kin_lock_acquire(&s->lock, KIN_NOWAIT) == KIN_ETIMEDOUT);
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_EPERM);
    CHILD_CHECK(strstr(kin_last_error(), "accounts") != NULL);
    CHILD_CHECK(!kin_lock_held(&s->lock));
    return 0;
}

struct threads_try {
    kin_err released, taken;
    bool held;
};

static void thread_releases_anothers(void *arg)
{
    struct threads_try *try = arg;
    try->held = kin_lock_held(&shared->lock);
    try->released = kin_lock_release(&shared->lock);
    try->taken = kin_lock_acquire(&shared->lock, KIN_NOWAIT);
}

static void releasing_what_another_holds(void **state)
{
    (void)state;
    check_fails(KIN_EPERM, kin_lock_release(&shared->lock)); /* nobody does */
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    assert_int_equal(test_run(release_anothers, KIN_ARGS(segment)), 0);
    uv_thread_t thread;
    struct threads_try try = {0};
    assert_int_equal(uv_thread_create(&thread, thread_releases_anothers, &try), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_false(try.held);
    assert_int_equal(try.released, KIN_EPERM);
    assert_int_equal(try.taken, KIN_ETIMEDOUT);
    assert_true(kin_lock_held(&shared->lock));
    check(kin_lock_release(&shared->lock));
}

static void wrong_arguments(void **state)
{
    (void)state;
    struct shared *s = shared;
    check_fails(KIN_EINVAL, kin_lock_acquire(NULL, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_lock_release(NULL));
    assert_false(kin_lock_held(NULL));
    kin_lock_close(NULL);
    check_fails(KIN_EINVAL, kin_lock_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_lock_init(NULL, NULL));
    check_fails(KIN_EINVAL, kin_lock_init((kin_lock *)(void *)((char *)&s->lock + 4), NULL));
    check_fails(KIN_EINVAL, kin_lock_acquire((kin_lock *)(void *)((char *)&s->lock + 4), KIN_FOREVER));
    /* Checked whether it would have to wait or not. */
    check_fails(KIN_EINVAL, kin_lock_acquire(&s->lock, -2));
    check_fails(KIN_EINVAL, kin_lock_acquire(&s->lock, INT64_MIN));
    assert_false(kin_lock_held(&s->lock));
    check(kin_lock_acquire(&s->lock, KIN_NOWAIT));
    check_fails(KIN_EDEADLK, kin_lock_acquire(&s->lock, KIN_FOREVER));
    check(kin_lock_release(&s->lock));
    /* Memory that is no lock. */
    static kin_lock zeros;
    check_fails(KIN_EINVAL, kin_lock_acquire(&zeros, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_lock_release(&zeros));
}

static void after_close(void **state)
{
    (void)state;
    kin_lock *lock;
    check(kin_lock_create(&lock, NULL));
    check(kin_lock_acquire(lock, KIN_NOWAIT));
    check(kin_lock_release(lock));
    kin_lock_close(lock);
    check_fails(KIN_EINVAL, kin_lock_acquire(lock, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_lock_release(lock));
    assert_false(kin_lock_held(lock));
    kin_lock_close(lock);
    kin_process *child;
    check_fails(KIN_EINVAL, kin_process_start(&child, take_once, KIN_ARGS(lock), NULL));
}

/* ---- names, holding, structs ---- */

static void names_in_messages(void **state)
{
    (void)state;
    kin_lock *named, *unnamed, *long_named;
    char name[100];
    memset(name, 'x', sizeof name);
    memcpy(name, "0123456789", 10);
    name[sizeof name - 1] = 0;
    check(kin_lock_create(&named, &(kin_lock_options){.name = "stock of \"apples\" 100%s"}));
    check(kin_lock_create(&unnamed, NULL));
    check(kin_lock_create(&long_named, &(kin_lock_options){.name = name}));
    check_fails(KIN_EPERM, kin_lock_release(named));
    check_says("stock of \"apples\" 100%s");
    check_fails(KIN_EPERM, kin_lock_release(unnamed));
    check_says("lock");
    check_fails(KIN_EPERM, kin_lock_release(long_named));
    name[39] = 0;
    check_says(name);
    kin_lock_close(named);
    kin_lock_close(unnamed);
    kin_lock_close(long_named);
}

static void holding(void **state)
{
    (void)state;
    kin_lock *other;
    check(kin_lock_create(&other, NULL));
    assert_false(kin_lock_held(&shared->lock));
    check(kin_lock_acquire(&shared->lock, KIN_FOREVER));
    assert_true(kin_lock_held(&shared->lock));
    assert_false(kin_lock_held(other));
    check(kin_lock_release(&shared->lock));
    assert_false(kin_lock_held(&shared->lock));
    kin_lock_close(other);
}

/* A lock for each item of an array: as many as one likes, each by itself. */
struct item {
    kin_lock lock;
    uint64_t first, second;
};

static int work_on_items(kin_args *args)
{
    kin_array *array;
    uint64_t seed;
    CHILD_CHECK(kin_unpack(args, &array, &seed) == KIN_OK);
    struct item *items = kin_array_data(array);
    uint32_t count = (uint32_t)kin_array_count(array), chance = (uint32_t)seed;
    for (uint32_t turn = 0; turn < 20 * count; turn++) {
        struct item *item = &items[crash_random(&chance, count)];
        CHILD_CHECK(kin_lock_acquire(&item->lock, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(item->first++ == item->second++);
        CHILD_CHECK(kin_lock_release(&item->lock) == KIN_OK);
    }
    return 0;
}

static void many_locks_in_an_array(void **state)
{
    (void)state;
    uint32_t count = (uint32_t)test_scale(1000, 200);
    kin_array *array;
    kin_process *children[3];
    check(kin_array_create_of(&array, sizeof(struct item), count));
    struct item *items = kin_array_data(array);
    for (uint32_t i = 0; i < count; i++)
        check(kin_lock_init(&items[i].lock, NULL));
    for (unsigned i = 0; i < 3; i++)
        children[i] = test_start(work_on_items, KIN_ARGS(array, i + 7));
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(children[i]), 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(items[i].first == items[i].second);
        sum += items[i].first;
    }
    assert_true(sum == 60u * count);
    kin_array_close(array);
}

/* ---- passing ---- */

enum { MANY = 200 };

static int look_at_many(kin_args *args)
{
    kin_lock *locks[MANY];
    CHILD_CHECK(kin_args_count(args) == MANY);
    for (size_t i = 0; i < MANY; i++)
        CHILD_CHECK(kin_args_get(args, i, KIN_OUT(&locks[i])) == KIN_OK);
    for (size_t i = 0; i < MANY; i++)
        CHILD_CHECK(kin_lock_acquire(locks[i], KIN_NOWAIT) == (i % 3 == 0 ? KIN_ETIMEDOUT : KIN_OK));
    for (size_t i = 0; i < MANY; i++)
        CHILD_CHECK(kin_lock_release(locks[i]) == (i % 3 == 0 ? KIN_EPERM : KIN_OK));
    for (size_t i = 0; i < MANY; i++)
        kin_lock_close(locks[i]);
    return 0;
}

static void passing_200_locks(void **state)
{
    (void)state;
    kin_lock *locks[MANY];
    kin_any items[MANY];
    for (size_t i = 0; i < MANY; i++) {
        check(kin_lock_create(&locks[i], NULL));
        items[i] = KIN_ANY(locks[i]);
        if (i % 3 == 0)
            check(kin_lock_acquire(locks[i], KIN_NOWAIT));
    }
    assert_int_equal(test_run(look_at_many, ((kin_pack){items, MANY})), 0);
    for (size_t i = 0; i < MANY; i++) {
        if (i % 3 == 0)
            check(kin_lock_release(locks[i]));
        check(kin_lock_acquire(locks[i], KIN_NOWAIT));
        check(kin_lock_release(locks[i]));
        kin_lock_close(locks[i]);
    }
}

/* The same lock passed twice, and received twice, is one lock. */
static int look_at_twins(kin_args *args)
{
    kin_lock *one, *other;
    CHILD_CHECK(kin_unpack(args, &one, &other) == KIN_OK);
    CHILD_CHECK(kin_lock_acquire(one, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_lock_held(other));
    CHILD_CHECK(kin_lock_acquire(other, KIN_NOWAIT) == KIN_EDEADLK);
    kin_lock_close(one);
    CHILD_CHECK(kin_lock_release(other) == KIN_OK);
    kin_lock_close(other);
    return 0;
}

static void passing_one_lock_twice(void **state)
{
    (void)state;
    kin_lock *lock;
    check(kin_lock_create(&lock, NULL));
    assert_int_equal(test_run(look_at_twins, KIN_ARGS(lock, lock)), 0);
    check(kin_lock_acquire(lock, KIN_NOWAIT));
    check(kin_lock_release(lock));
    kin_lock_close(lock);
}

/* The sender's close takes nothing from the receiver. */
static int use_after_senders_close(kin_args *args)
{
    kin_lock *lock;
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &lock, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    CHILD_CHECK(kin_lock_acquire(lock, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_lock_release(lock) == KIN_OK);
    return 0;
}

static void the_sender_closes_first(void **state)
{
    (void)state;
    kin_lock *lock;
    check(kin_lock_create(&lock, NULL));
    kin_process *child = test_start(use_after_senders_close, KIN_ARGS(lock, segment));
    kin_lock_close(lock);
    kin__store32(&shared->go, 1);
    assert_int_equal(test_finish(child), 0);
}

/* A close gives up the reference, not the lock. */
static int hold_and_close(kin_args *args)
{
    kin_lock *lock;
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &lock, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_lock_acquire(lock, KIN_NOWAIT) == KIN_OK);
    kin_lock_close(lock);
    CHILD_CHECK(kin_lock_release(lock) == KIN_EINVAL);
    kin__store32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    return 0;
}

static void a_closed_lock_stays_held_until_its_owner_ends(void **state)
{
    (void)state;
    kin_lock *lock;
    check(kin_lock_create(&lock, NULL));
    kin_process *child = test_start(hold_and_close, KIN_ARGS(lock, segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(lock, 20));
    kin__store32(&shared->go, 1);
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(lock, test_ms(20000)));
    check(kin_lock_release(lock));
    assert_int_equal(test_finish(child), 0);
    kin_lock_close(lock);
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
        TEST(time_outs),
        TEST(a_release_wakes_one_after_the_other),
        TEST(who_gives_up_takes_no_wake_along),
        TEST(taking_it_twice),
        TEST(releasing_what_another_holds),
        TEST(wrong_arguments),
        TEST(after_close),
        TEST(names_in_messages),
        TEST(holding),
        TEST(many_locks_in_an_array),
        TEST(passing_200_locks),
        TEST(passing_one_lock_twice),
        TEST(the_sender_closes_first),
        TEST(a_closed_lock_stays_held_until_its_owner_ends),
    };
    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
