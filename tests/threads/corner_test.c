/* Corners of the synchronisation objects that need two or three threads in a certain order, and no child.
 * @ctest LABELS threads */
#include "atomic.h"
#include "support.h"

#include <uv.h>

typedef struct shared {
    kin_barrier *barrier;
    kin_event *acting, *go;
    kin_err action_gives, waited, acted;
    kin_rwlock *rw;
    kin_lock *lock, *last;
} shared;

static void come(void *arg)
{
    shared *s = arg;
    s->waited = kin_barrier_wait(s->barrier, test_ms(20000), NULL);
}

static kin_err action(void *arg)
{
    shared *s = arg;
    (void)kin_event_set(s->acting);
    (void)kin_event_wait(s->go, test_ms(20000));
    return s->action_gives;
}

static void come_last(void *arg)
{
    shared *s = arg;
    s->acted = kin_barrier_wait_action(s->barrier, action, s, KIN_FOREVER, NULL);
}

/* Whoever came after the reset is of another round than the action that still runs: it is neither forgotten nor broken by it. */
static void reset_during_action(kin_err action_gives, kin_err expected)
{
    shared s = {.action_gives = action_gives};
    uv_thread_t first, last, next;
    check(kin_barrier_create(&s.barrier, 2, NULL));
    check(kin_event_create(&s.acting, NULL));
    check(kin_event_create(&s.go, NULL));
    assert_int_equal(uv_thread_create(&first, come, &s), 0);
    while (kin_barrier_waiting(s.barrier) != 1)
        uv_sleep(1);
    assert_int_equal(uv_thread_create(&last, come_last, &s), 0);
    check(kin_event_wait(s.acting, test_ms(20000)));
    check(kin_barrier_reset(s.barrier));
    uv_thread_join(&first);
    assert_int_equal(s.waited, KIN_EBROKEN);
    assert_int_equal(uv_thread_create(&next, come, &s), 0);
    while (kin_barrier_waiting(s.barrier) != 1)
        uv_sleep(1);
    check(kin_event_set(s.go));
    uv_thread_join(&last);
    assert_int_equal(s.acted, expected);
    assert_int_equal(kin_barrier_waiting(s.barrier), 1);
    check(kin_barrier_wait(s.barrier, test_ms(20000), NULL));
    uv_thread_join(&next);
    assert_int_equal(s.waited, KIN_OK);
    kin_barrier_close(s.barrier);
    kin_event_close(s.acting);
    kin_event_close(s.go);
}

static void barrier_reset_during_action(void **state)
{
    (void)state;
    reset_during_action(KIN_OK, KIN_EBROKEN);
}

static void barrier_reset_during_action_that_fails(void **state)
{
    (void)state;
    reset_during_action(KIN_EIO, KIN_EIO);
}

/* Whose round was complete before the reset goes on, however late it wakes. */
static void barrier_reset_after_round(void **state)
{
    (void)state;
    shared s = {0};
    check(kin_barrier_create(&s.barrier, 2, NULL));
    for (int i = 0; i < test_scale(300, 50); i++) {
        uv_thread_t other;
        assert_int_equal(uv_thread_create(&other, come, &s), 0);
        while (kin_barrier_waiting(s.barrier) != 1)
            uv_sleep(1);
        check(kin_barrier_wait(s.barrier, test_ms(20000), NULL));
        for (int n = 0; n <= i % 3; n++)
            check(kin_barrier_reset(s.barrier));
        uv_thread_join(&other);
        assert_int_equal(s.waited, KIN_OK);
    }
    kin_barrier_close(s.barrier);
}

static void write_once(void *arg)
{
    shared *s = arg;
    s->waited = kin_rwlock_acquire_write(s->rw, KIN_FOREVER);
    (void)kin_rwlock_release(s->rw);
}

/* A reader that wants to write is told so, also when another writer waits for the readers already. */
static void reader_wants_to_write(void **state)
{
    (void)state;
    shared s = {0};
    uv_thread_t writer;
    check(kin_rwlock_create(&s.rw, NULL));
    check(kin_rwlock_acquire_read(s.rw, KIN_NOWAIT));
    check_fails(KIN_EDEADLK, kin_rwlock_acquire_write(s.rw, test_ms(20000)));
    assert_int_equal(uv_thread_create(&writer, write_once, &s), 0);
    while (kin__load64(&s.rw->kin__o.word) == 0)
        uv_sleep(1);
    check_fails(KIN_EDEADLK, kin_rwlock_acquire_write(s.rw, test_ms(20000)));
    check(kin_rwlock_release(s.rw));
    uv_thread_join(&writer);
    assert_int_equal(s.waited, KIN_OK);
    check(kin_rwlock_acquire_write(s.rw, KIN_NOWAIT));
    check(kin_rwlock_release(s.rw));
    kin_rwlock_close(s.rw);
}

static void hold_and_want(void *arg)
{
    shared *s = arg;
    (void)kin_lock_acquire(s->lock, KIN_FOREVER);
    (void)kin_event_set(s->go);
    s->waited = kin_lock_acquire(s->last, KIN_FOREVER);
    (void)kin_lock_release(s->last);
    (void)kin_lock_release(s->lock);
}

/* A lock that no list had room for is all that this thread holds. */
static void deadlock_with_the_129th(void **state)
{
    (void)state;
    shared s = {0};
    kin_lock *many[129];
    uv_thread_t other;
    check(kin_event_create(&s.go, NULL));
    check(kin_lock_create(&s.lock, NULL));
    for (int i = 0; i < 129; i++) {
        check(kin_lock_create(&many[i], NULL));
        check(kin_lock_acquire(many[i], KIN_NOWAIT));
    }
    for (int i = 0; i < 128; i++)
        check(kin_lock_release(many[i]));
    s.last = many[128];
    assert_int_equal(uv_thread_create(&other, hold_and_want, &s), 0);
    check(kin_event_wait(s.go, test_ms(20000)));
    uv_sleep(100); /* it sleeps now: the cycle closes here. Else it closes there, and it is told */
    kin_err err = kin_lock_acquire(s.lock, test_ms(20000));
    if (err == KIN_OK)
        check(kin_lock_release(s.lock));
    check(kin_lock_release(s.last));
    uv_thread_join(&other);
    assert_true((err == KIN_EDEADLK && s.waited == KIN_OK) || (err == KIN_OK && s.waited == KIN_EDEADLK));
    for (int i = 0; i < 129; i++)
        kin_lock_close(many[i]);
    kin_lock_close(s.lock);
    kin_event_close(s.go);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barrier_reset_during_action), cmocka_unit_test(barrier_reset_during_action_that_fails),
        cmocka_unit_test(barrier_reset_after_round),   cmocka_unit_test(reader_wants_to_write),
        cmocka_unit_test(deadlock_with_the_129th),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
