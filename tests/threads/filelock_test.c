/* A file lock between threads of one process, where ThreadSanitizer can see every access: what it protects is plain data
 * here, and so is what the lock keeps for its owner. No child is started.
 * @ctest LABELS threads */
#include "support.h"

#include <uv.h>

#define THREADS 4

static kin_filelock *lock;
static long counter, copy; /* plain on purpose */

static void count(void *arg)
{
    for (int i = 0, times = *(const int *)arg; i < times; i++) {
        kin_err err = kin_filelock_acquire(lock, i % 2 == 0 ? KIN_FOREVER : test_ms(20000));
        if (err != KIN_OK && err != KIN_EOWNERDEAD)
            return;
        counter++;
        copy = counter;
        (void)kin_filelock_release(lock);
    }
}

/* As count, but each thread ends with the lock. */
static void count_and_end(void *arg)
{
    kin_err err = kin_filelock_acquire(lock, test_ms(20000));
    if (err == KIN_OK || err == KIN_EOWNERDEAD)
        counter++;
    *(kin_err *)arg = err;
}

static void mutual_exclusion(void **state)
{
    (void)state;
    uv_thread_t threads[THREADS];
    int times = test_scale(1000, 50);
    counter = 0;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], count, &times), 0);
    for (int i = 0; i < THREADS; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(counter, THREADS * times);
    assert_int_equal(copy, counter);
}

static void threads_that_end_with_it(void **state)
{
    (void)state;
    uv_thread_t threads[THREADS];
    kin_err found[THREADS];
    int heirs = 0;
    counter = 0;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], count_and_end, &found[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        uv_thread_join(&threads[i]);
        heirs += found[i] == KIN_EOWNERDEAD;
    }
    assert_int_equal(heirs, THREADS - 1);
    check_fails(KIN_EOWNERDEAD, kin_filelock_acquire(lock, KIN_NOWAIT));
    assert_int_equal(counter, THREADS);
    check(kin_filelock_release(lock));
}

static int setup(void **state)
{
    (void)state;
    check(kin_filelock_open(&lock, test_file("threads_filelock")));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_filelock_close(lock);
    (void)remove(test_file("threads_filelock"));
    return 0;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mutual_exclusion, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_that_end_with_it, setup, teardown),
    };
    return cmocka_run_group_tests_name("filelock threads", tests, NULL, NULL);
}
