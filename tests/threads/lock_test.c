/* kin's shared structures from several threads of one process, where ThreadSanitizer can see every access: what a lock protects is plain data here, so
 * a lock that let two in, or did not order memory, would be a race it reports. No child is started.
 * @ctest LABELS threads */
#include "support.h"

#include <uv.h>

#define THREADS 4

typedef struct shared {
    kin_lock *lock;
    kin_lock inside[8];
    long counter, copy; /* plain on purpose */
    int times, died;
    kin_value *value;
    kin_array *array;
} shared;

static void count(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        if (kin_lock_acquire(s->lock, KIN_FOREVER) != KIN_OK)
            return;
        s->counter++;
        s->copy = s->counter;
        (void)kin_lock_release(s->lock);
        (void)kin_value_add_i64(s->value, 1, NULL);
    }
}

static void run(uv_thread_cb body, shared *s, int threads)
{
    uv_thread_t many[16];
    for (int i = 0; i < threads; i++)
        assert_int_equal(uv_thread_create(&many[i], body, s), 0);
    for (int i = 0; i < threads; i++)
        uv_thread_join(&many[i]);
}

static void mutual_exclusion(void **state)
{
    (void)state;
    shared s = {.times = test_scale(20000, 2000)};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_value_create(&s.value, 0));
    run(count, &s, THREADS);
    assert_int_equal(s.counter, THREADS * s.times);
    assert_int_equal(s.copy, s.counter);
    assert_int_equal(kin_value_get_i64(s.value), THREADS * s.times);
    kin_lock_close(s.lock);
    kin_value_close(s.value);
}

/* Holds it for so long that the others must sleep, not only spin. */
static void hold_long(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        if (kin_lock_acquire(s->lock, KIN_FOREVER) != KIN_OK)
            return;
        long seen = s->counter;
        uint64_t until = uv_hrtime() + 200000;
        while (uv_hrtime() < until) {
        }
        s->counter = seen + 1;
        (void)kin_lock_release(s->lock);
    }
}

static void sleepers_are_woken(void **state)
{
    (void)state;
    shared s = {.times = test_scale(400, 50)};
    check(kin_lock_create(&s.lock, NULL));
    run(hold_long, &s, THREADS * 2);
    assert_int_equal(s.counter, THREADS * 2 * s.times);
    kin_lock_close(s.lock);
}

/* Times out, again and again, while the lock is held for ever; and must leave nothing behind. */
static void try_for_a_while(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        if (kin_lock_acquire(s->lock, i % 3) != KIN_ETIMEDOUT)
            s->died++;
    }
}

static void time_outs(void **state)
{
    (void)state;
    shared s = {.times = 40};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_lock_acquire(s.lock, KIN_FOREVER));
    run(try_for_a_while, &s, THREADS);
    assert_int_equal(s.died, 0);
    check_fails(KIN_EDEADLK, kin_lock_acquire(s.lock, KIN_FOREVER));
    check(kin_lock_release(s.lock));
    check(kin_lock_acquire(s.lock, KIN_NOWAIT));
    check(kin_lock_release(s.lock));
    kin_lock_close(s.lock);
}

static void end_while_holding(void *arg)
{
    shared *s = arg;
    kin_err err = kin_lock_acquire(s->lock, KIN_FOREVER);
    if (err == KIN_OK || err == KIN_EOWNERDEAD) {
        s->counter++;
        s->died += err == KIN_EOWNERDEAD;
    }
}

/* Each thread ends with the lock in its hand: the next one, asleep or not, gets it. */
static void threads_end_while_holding(void **state)
{
    (void)state;
    shared s = {0};
    check(kin_lock_create(&s.lock, NULL));
    for (int round = 0; round < 20; round++)
        run(end_while_holding, &s, THREADS);
    assert_int_equal(s.counter, 20 * THREADS);
    assert_int_equal(s.died, 20 * THREADS - 1);
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(s.lock, KIN_FOREVER));
    check(kin_lock_release(s.lock));
    kin_lock_close(s.lock);
}

static void move_between(void *arg)
{
    shared *s = arg;
    uint32_t chance = (uint32_t)(uintptr_t)&chance | 1;
    for (int i = 0; i < s->times; i++) {
        chance = chance * 1664525u + 1013904223u;
        kin_lock *lock = &s->inside[chance >> 24 & 7];
        if (kin_lock_acquire(lock, (int)(chance >> 16 & 3)) != KIN_OK)
            continue;
        (void)kin_lock_release(lock);
    }
}

/* Sleepers that give up one lock and sleep on another must neither take nor lose the wakes of others. */
static void many_locks_many_sleepers(void **state)
{
    (void)state;
    shared s = {.times = test_scale(20000, 500)};
    for (int i = 0; i < 8; i++)
        check(kin_lock_init(&s.inside[i], NULL));
    run(move_between, &s, THREADS);
    for (int i = 0; i < 8; i++) {
        check(kin_lock_acquire(&s.inside[i], KIN_NOWAIT));
        check(kin_lock_release(&s.inside[i]));
    }
}

static void make_and_close(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        kin_value *value;
        kin_array *array;
        double item = i;
        if (kin_value_create_f64(&value, 0.5) != KIN_OK || kin_array_create(&array, KIN_F64, 10) != KIN_OK)
            return;
        (void)kin_value_add_f64(value, 1.0, NULL);
        (void)kin_array_set(array, 3, &item);
        kin_value_close(value);
        kin_array_close(array);
    }
}

static void objects_come_and_go(void **state)
{
    (void)state;
    shared s = {.times = test_scale(500, 50)};
    run(make_and_close, &s, THREADS);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutual_exclusion),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(time_outs),
        cmocka_unit_test(threads_end_while_holding),
        cmocka_unit_test(many_locks_many_sleepers),
        cmocka_unit_test(objects_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
