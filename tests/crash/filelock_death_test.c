/* File locks whose owners and waiters are killed. */
#include "crash_support.h"

#include "atomic.h"

#include <uv.h>

struct shared {
    uint32_t holding; /* how many have held it until they were killed */
    uint32_t owner;   /* which of them holds it */
    uint32_t waiting, first, second;
};

static kin_segment *segment;
static struct shared *shared;
static char path[256];
static kin_filelock *lock;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    (void)snprintf(path, sizeof path, "%s", test_file("filelock_death"));
    check(kin_filelock_open(&lock, path));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    uv_fs_t request;
    kin_filelock_close(lock);
    (void)uv_fs_unlink(NULL, &request, path, NULL);
    kin_segment_close(segment);
    return 0;
}

static bool attach(kin_args *args)
{
    const char *name;
    if (kin_args_get(args, 0, KIN_OUT(&segment)) != KIN_OK || kin_args_get(args, 1, KIN_OUT(&name)) != KIN_OK)
        return false;
    shared = kin_segment_data(segment);
    return kin_filelock_open(&lock, name) == KIN_OK;
}

static void must_be_free(void)
{
    check(kin_filelock_acquire(lock, test_ms(20000)));
    check(kin_filelock_release(lock));
}

static void kill_and_join(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(crash_join(p), -9);
}

/* ---- who plays ---- */

/* Holds it until it is killed. */
static int hold(kin_args *args)
{
    static uint32_t never;
    uint32_t number;
    CHILD_CHECK(attach(args) && kin_args_get(args, 2, KIN_OUT(&number)) == KIN_OK);
    CHILD_CHECK(kin_filelock_acquire(lock, KIN_FOREVER) == KIN_OK);
    kin__store32(&shared->owner, number);
    kin__add32(&shared->holding, 1);
    (void)crash_until_at_least(&never, 1);
    return 1;
}

static kin_process *start_holder(void)
{
    uint32_t before = kin__load32(&shared->holding);
    kin_process *p = test_start(hold, KIN_ARGS(segment, path, (uint32_t)0));
    assert_true(crash_until_at_least(&shared->holding, before + 1));
    return p;
}

/* Tries without success first, so that it is known to wait. */
static int take(kin_args *args)
{
    int64_t timeout_ms;
    CHILD_CHECK(attach(args) && kin_args_get(args, 2, KIN_OUT(&timeout_ms)) == KIN_OK);
    CHILD_CHECK(kin_filelock_acquire(lock, KIN_NOWAIT) == KIN_ETIMEDOUT);
    kin__add32(&shared->waiting, 1);
    CHILD_CHECK(kin_filelock_acquire(lock, timeout_ms) == KIN_OK);
    CHILD_CHECK(shared->first == shared->second);
    shared->first++;
    crash_spin_us(20);
    shared->second++;
    CHILD_CHECK(kin_filelock_release(lock) == KIN_OK);
    return 0;
}

static kin_process *start_waiter(int64_t timeout_ms) { return test_start(take, KIN_ARGS(segment, path, timeout_ms)); }

/* ---- an owner dies ---- */

static void nobody_waits(void **state)
{
    (void)state;
    kin_process *p = start_holder();
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, KIN_NOWAIT));
    kill_and_join(p);
    must_be_free();
}

static void nobody_joins_it(void **state)
{
    (void)state;
    kin_process *p = start_holder();
    check(kin_process_kill(p));
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    check(kin_filelock_release(lock));
    assert_int_equal(crash_join(p), -9);
}

static void all_who_wait_get_it(void **state)
{
    (void)state;
    uint32_t chance = crash_seed();
    for (uint32_t round = 1, rounds = (uint32_t)test_scale(50, 3); round <= rounds; round++) {
        kin_process *owner = start_holder();
        kin_process *patient = start_waiter(KIN_FOREVER), *other = start_waiter(test_ms(20000));
        assert_true(crash_until_at_least(&shared->waiting, 2 * round));
        if (round % 2 == 0)
            assert_true(crash_until_file_waiters(path, 1));
        else
            crash_spin_us(crash_random(&chance, 3000)); /* at any moment of their way to sleep */
        kill_and_join(owner);
        assert_int_equal(crash_join(patient), 0);
        assert_int_equal(crash_join(other), 0);
        assert_int_equal(shared->second, 2 * round);
    }
    must_be_free();
}

/* Each owner dies with it; the next has it all the same. */
static void heirs_that_die_too(void **state)
{
    (void)state;
    enum { HEIRS = 4 };
    kin_process *heirs[HEIRS];
    kin_process *owner = start_holder();
    uint32_t before = kin__load32(&shared->holding);
    for (uint32_t i = 0; i < HEIRS; i++)
        heirs[i] = test_start(hold, KIN_ARGS(segment, path, i));
    assert_true(crash_until_file_waiters(path, HEIRS));
    assert_int_equal(kin__load32(&shared->holding), before);
    kill_and_join(owner);
    for (uint32_t died = 1; died <= HEIRS; died++) {
        assert_true(crash_until_at_least(&shared->holding, before + died));
        assert_int_equal(kin__load32(&shared->holding), before + died);
        kill_and_join(heirs[kin__load32(&shared->owner)]);
    }
    must_be_free();
}

/* ---- a waiter dies ---- */

static void waiters_are_killed(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(10, 2); round < rounds; round++) {
        uint32_t waiting = kin__load32(&shared->waiting), first = shared->first;
        check(kin_filelock_acquire(lock, KIN_NOWAIT));
        kin_process *victims[] = {start_waiter(KIN_FOREVER), start_waiter(test_ms(20000))};
        kin_process *others[] = {start_waiter(KIN_FOREVER), start_waiter(test_ms(20000))};
        assert_true(crash_until_at_least(&shared->waiting, waiting + 4));
        assert_true(crash_until_file_waiters(path, 2));
        for (int i = 0; i < 2; i++)
            kill_and_join(victims[i]);
        assert_true(kin_filelock_held(lock));
        assert_int_equal(shared->first, first);
        check(kin_filelock_release(lock));
        for (int i = 0; i < 2; i++)
            assert_int_equal(crash_join(others[i]), 0);
        assert_int_equal(shared->second, first + 2);
    }
    must_be_free();
}

/* A process that is only stopped keeps what it holds. */
static void a_stopped_owner(void **state)
{
    (void)state;
    kin_process *p = start_holder();
    if (!test_process_stop(kin_process_pid(p))) {
        kill_and_join(p);
        test_skip("this system stops no processes");
    }
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, 50));
    kill_and_join(p);
    must_be_free();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(nobody_waits),       TEST(nobody_joins_it),    TEST(all_who_wait_get_it),
        TEST(heirs_that_die_too), TEST(waiters_are_killed), TEST(a_stopped_owner),
    };
    return cmocka_run_group_tests_name("filelock_death", tests, NULL, NULL);
}
