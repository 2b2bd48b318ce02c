/* The synchronisation objects from several threads of one process, where ThreadSanitizer can see every access: what they protect is plain data here, so
 * one that let two in, let somebody go too early or did not order memory would be a race it reports. No child is started.
 * @ctest LABELS threads */
#include "support.h"

#include "atomic.h"

#include <uv.h>

#define THREADS 4

typedef struct shared {
    kin_lock *lock;
    kin_rlock *rlock;
    kin_semaphore *semaphore, *other_semaphore;
    kin_event *event, *other_event;
    kin_condition *condition, *other_condition;
    kin_barrier *barrier;
    kin_rwlock *rwlock;
    int times;
    /* Plain on purpose. */
    long counter, copy, slots[4], put, got, sum_put, sum_got;
    long rows[THREADS], total, actions;
    /* Not. */
    uint32_t number, failures, done, inside;
} shared;

static void note_failure(shared *s) { kin__add32(&s->failures, 1); }
#define EXPECT(what)                                                                                                   \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            print_error("%s:%d: not so: %s; %s\n", __FILE__, __LINE__, #what, kin_last_error());                       \
            note_failure(s);                                                                                           \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void run(uv_thread_cb body, shared *s, int threads)
{
    uv_thread_t many[16];
    for (int i = 0; i < threads; i++)
        assert_int_equal(uv_thread_create(&many[i], body, s), 0);
    for (int i = 0; i < threads; i++)
        uv_thread_join(&many[i]);
    assert_int_equal(s->failures, 0);
}

static uint32_t chance_of(const shared *s, uint32_t number)
{
    (void)s;
    return number * 2654435761u | 1;
}

static uint32_t next(uint32_t *chance, uint32_t below)
{
    *chance = *chance * 1664525u + 1013904223u;
    return (*chance >> 16) % below;
}

/* ---- rlock ---- */

static void count_deep(void *arg)
{
    shared *s = arg;
    uint32_t chance = chance_of(s, kin__add32(&s->number, 1));
    for (int i = 0; i < s->times; i++) {
        uint32_t depth = 1 + next(&chance, 3);
        bool have = true;
        for (uint32_t d = 0; d < depth && have; d++) {
            kin_err err =
                kin_rlock_acquire(s->rlock, d == 0 && next(&chance, 4) == 0 ? (int64_t)next(&chance, 2) : KIN_FOREVER);
            have = err == KIN_OK;
            EXPECT(have || (d == 0 && err == KIN_ETIMEDOUT));
        }
        if (!have)
            continue;
        s->counter++;
        s->copy = s->counter;
        for (uint32_t d = depth; d > 0; d--) {
            EXPECT(kin_rlock_count(s->rlock) == d);
            EXPECT(kin_rlock_release(s->rlock) == KIN_OK);
        }
        kin__add32(&s->done, 1);
    }
}

static void recursive_lock(void **state)
{
    (void)state;
    shared s = {.times = test_scale(10000, 1000)};
    check(kin_rlock_create(&s.rlock, NULL));
    run(count_deep, &s, THREADS);
    assert_int_equal(s.counter, s.done);
    assert_int_equal(s.copy, s.counter);
    kin_rlock_close(s.rlock);
}

/* ---- semaphore ---- */

static void count_with_one_unit(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        EXPECT(kin_semaphore_acquire(s->semaphore, KIN_FOREVER) == KIN_OK);
        s->counter++;
        s->copy = s->counter;
        EXPECT(kin_semaphore_release(s->semaphore) == KIN_OK);
    }
}

static void semaphore_of_one_is_a_lock(void **state)
{
    (void)state;
    for (int undo = 0; undo < 2; undo++) {
        shared s = {.times = test_scale(10000, 1000)};
        check(kin_semaphore_create(&s.semaphore, 1, &(kin_semaphore_options){.bound = 1, .undo = undo != 0}));
        run(count_with_one_unit, &s, THREADS);
        assert_int_equal(s.counter, THREADS * s.times);
        assert_int_equal(s.copy, s.counter);
        assert_int_equal(kin_semaphore_units(s.semaphore), 1);
        kin_semaphore_close(s.semaphore);
    }
}

static void give_and_take(void *arg)
{
    shared *s = arg;
    uint32_t chance = chance_of(s, kin__add32(&s->number, 1));
    for (int i = 0; i < s->times; i++) {
        int64_t many = 1 + next(&chance, 3);
        if (next(&chance, 2) == 0) {
            kin_err err = kin_semaphore_acquire(s->semaphore, next(&chance, 8) == 0 ? 1 : KIN_NOWAIT);
            EXPECT(err == KIN_OK || err == KIN_ETIMEDOUT);
            if (err == KIN_OK)
                kin__add32(&s->done, (uint32_t)-1);
        } else {
            kin_err err = kin_semaphore_release_many(s->semaphore, many);
            EXPECT(err == KIN_OK || err == KIN_ERANGE);
            if (err == KIN_OK)
                kin__add32(&s->done, (uint32_t)many);
        }
        int64_t units = kin_semaphore_units(s->semaphore);
        EXPECT(units >= 0 && units <= 5);
    }
}

static void semaphore_within_its_bound(void **state)
{
    (void)state;
    shared s = {.times = test_scale(20000, 2000)};
    check(kin_semaphore_create(&s.semaphore, 0, &(kin_semaphore_options){.bound = 5}));
    run(give_and_take, &s, THREADS);
    assert_int_equal(kin_semaphore_units(s.semaphore), s.done);
    kin_semaphore_close(s.semaphore);
}

/* A release that must fail, since the process has not so many, takes nothing from one that must not. */
static void ask_too_much(void *arg)
{
    shared *s = arg;
    bool greedy = kin__add32(&s->number, 1) % 2 == 0;
    for (int i = 0; i < s->times; i++) {
        if (greedy) {
            EXPECT(kin_semaphore_release_many(s->semaphore, 5) == KIN_EPERM); /* two threads have two at most each */
        } else {
            EXPECT(kin_semaphore_acquire(s->semaphore, KIN_FOREVER) == KIN_OK);
            EXPECT(kin_semaphore_acquire(s->semaphore, KIN_FOREVER) == KIN_OK);
            EXPECT(kin_semaphore_release(s->semaphore) == KIN_OK);
            EXPECT(kin_semaphore_release(s->semaphore) == KIN_OK);
        }
    }
}

static void undo_in_many_threads(void **state)
{
    (void)state;
    shared s = {.times = test_scale(20000, 2000)};
    check(kin_semaphore_create(&s.semaphore, 8, &(kin_semaphore_options){.undo = true}));
    run(ask_too_much, &s, THREADS);
    assert_int_equal(kin_semaphore_units(s.semaphore), 8);
    kin_semaphore_close(s.semaphore);
}

/* ---- event ---- */

static void play_with_events(void *arg)
{
    shared *s = arg;
    uint32_t side = kin__add32(&s->number, 1);
    for (int i = 0; i < s->times; i++) {
        kin_event *mine = side == 0 ? s->event : s->other_event, *theirs = side == 0 ? s->other_event : s->event;
        EXPECT(kin_event_wait(mine, test_ms(20000)) == KIN_OK);
        EXPECT(kin_event_clear(mine) == KIN_OK);
        s->counter++; /* in turn */
        EXPECT(kin_event_set(theirs) == KIN_OK);
    }
}

static void events_in_turn(void **state)
{
    (void)state;
    shared s = {.times = test_scale(5000, 500)};
    check(kin_event_create(&s.event, &(kin_event_options){.set = true}));
    check(kin_event_create(&s.other_event, NULL));
    run(play_with_events, &s, 2);
    assert_int_equal(s.counter, 2 * s.times);
    kin_event_close(s.event);
    kin_event_close(s.other_event);
}

/* What was written before the event was set is seen by all who waited for it. */
static void publish_and_read(void *arg)
{
    shared *s = arg;
    if (kin__add32(&s->number, 1) == 0) {
        s->counter = 1234;
        EXPECT(kin_event_set(s->event) == KIN_OK);
    } else {
        EXPECT(kin_event_wait(s->event, test_ms(20000)) == KIN_OK);
        EXPECT(s->counter == 1234);
    }
}

static void event_orders_memory(void **state)
{
    (void)state;
    for (int i = 0; i < test_scale(300, 50); i++) {
        shared s = {0};
        check(kin_event_create(&s.event, NULL));
        run(publish_and_read, &s, THREADS);
        kin_event_close(s.event);
    }
}

static void set_clear_and_wait(void *arg)
{
    shared *s = arg;
    uint32_t number = kin__add32(&s->number, 1);
    for (int i = 0; i < s->times; i++) {
        if (number % 2 == 0) {
            EXPECT(kin_event_set(s->event) == KIN_OK);
            EXPECT(kin_event_clear(s->event) == KIN_OK);
        } else {
            kin_err err = kin_event_wait(s->event, i % 2);
            EXPECT(err == KIN_OK || err == KIN_ETIMEDOUT);
        }
    }
}

static void event_under_load(void **state)
{
    (void)state;
    shared s = {.times = test_scale(3000, 300)};
    check(kin_event_create(&s.event, NULL));
    run(set_clear_and_wait, &s, THREADS);
    assert_false(kin_event_is_set(s.event));
    kin_event_close(s.event);
}

/* ---- condition ---- */

static void fill_and_empty(void *arg)
{
    shared *s = arg;
    bool producer = kin__add32(&s->number, 1) % 2 == 0;
    for (int i = 1; i <= s->times; i++) {
        EXPECT(kin_lock_acquire(s->lock, KIN_FOREVER) == KIN_OK);
        if (producer) {
            while (s->put - s->got == 4)
                EXPECT(kin_condition_wait(s->condition, s->lock, test_ms(20000)) == KIN_OK);
            s->slots[s->put++ % 4] = i;
            s->sum_put += i;
            EXPECT(kin_condition_notify(s->other_condition, s->lock, 1) == KIN_OK);
        } else {
            while (s->put == s->got)
                EXPECT(kin_condition_wait(s->other_condition, s->lock, test_ms(20000)) == KIN_OK);
            s->sum_got += s->slots[s->got++ % 4];
            EXPECT(kin_condition_notify(s->condition, s->lock, 1) == KIN_OK);
        }
        EXPECT(kin_lock_release(s->lock) == KIN_OK);
    }
}

static void bounded_buffer(void **state)
{
    (void)state;
    shared s = {.times = test_scale(5000, 500)};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_condition_create(&s.condition, NULL));
    check(kin_condition_create(&s.other_condition, NULL));
    run(fill_and_empty, &s, THREADS);
    assert_int_equal(s.put, 2 * s.times);
    assert_int_equal(s.got, s.put);
    assert_int_equal(s.sum_got, s.sum_put);
    kin_lock_close(s.lock);
    kin_condition_close(s.condition);
    kin_condition_close(s.other_condition);
}

static bool my_turn(void *arg)
{
    const long *turn = arg;
    return turn[0] % THREADS == turn[1];
}

static void in_turn(void *arg)
{
    shared *s = arg;
    long me = (long)kin__add32(&s->number, 1);
    for (int i = 0; i < s->times; i++) {
        for (int d = 0; d < 2; d++)
            EXPECT(kin_rlock_acquire(s->rlock, KIN_FOREVER) == KIN_OK);
        for (;;) {
            long turn[2] = {s->counter, me};
            if (my_turn(turn))
                break;
            EXPECT(kin_condition_wait(s->condition, s->rlock, test_ms(20000)) == KIN_OK);
            EXPECT(kin_rlock_count(s->rlock) == 2);
        }
        s->counter++;
        EXPECT(kin_condition_notify_all(s->condition, s->rlock) == KIN_OK);
        for (int d = 0; d < 2; d++)
            EXPECT(kin_rlock_release(s->rlock) == KIN_OK);
    }
}

static void turns_under_a_deep_lock(void **state)
{
    (void)state;
    shared s = {.times = test_scale(2000, 200)};
    check(kin_rlock_create(&s.rlock, NULL));
    check(kin_condition_create(&s.condition, NULL));
    run(in_turn, &s, THREADS);
    assert_int_equal(s.counter, THREADS * s.times);
    kin_rlock_close(s.rlock);
    kin_condition_close(s.condition);
}

static bool is_enough(void *arg) { return ((const shared *)arg)->counter >= THREADS; }

static void come_and_wait_for_all(void *arg)
{
    shared *s = arg;
    EXPECT(kin_lock_acquire(s->lock, KIN_FOREVER) == KIN_OK);
    s->counter++;
    EXPECT(kin_condition_notify_all(s->condition, s->lock) == KIN_OK);
    EXPECT(kin_condition_wait_for(s->condition, s->lock, is_enough, s, test_ms(20000)) == KIN_OK);
    EXPECT(s->counter == THREADS);
    EXPECT(kin_lock_release(s->lock) == KIN_OK);
}

static void wait_for(void **state)
{
    (void)state;
    shared s = {0};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_condition_create(&s.condition, NULL));
    for (int i = 0; i < test_scale(300, 50); i++) {
        s.counter = 0;
        run(come_and_wait_for_all, &s, THREADS);
    }
    kin_lock_close(s.lock);
    kin_condition_close(s.condition);
}

/* Waits that run out, notified or not, while others notify. */
static void wait_briefly(void *arg)
{
    shared *s = arg;
    bool notifier = kin__add32(&s->number, 1) == 0;
    for (int i = 0; i < s->times; i++) {
        EXPECT(kin_lock_acquire(s->lock, KIN_FOREVER) == KIN_OK);
        s->counter++;
        if (notifier) {
            EXPECT(kin_condition_notify(s->condition, s->lock, 1 + i % 2) == KIN_OK);
        } else {
            kin_err err = kin_condition_wait(s->condition, s->lock, i % 3);
            EXPECT(err == KIN_OK || err == KIN_ETIMEDOUT);
            EXPECT(kin_lock_held(s->lock));
        }
        s->copy = s->counter;
        EXPECT(kin_lock_release(s->lock) == KIN_OK);
    }
}

static void waits_that_run_out(void **state)
{
    (void)state;
    shared s = {.times = test_scale(1000, 200)};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_condition_create(&s.condition, NULL));
    run(wait_briefly, &s, THREADS);
    assert_int_equal(s.counter, THREADS * s.times);
    kin_lock_close(s.lock);
    kin_condition_close(s.condition);
}

/* ---- barrier ---- */

/* Each writes its own row, all read all rows after the barrier, and again before the next is written. */
static void in_step(void *arg)
{
    shared *s = arg;
    uint32_t me = kin__add32(&s->number, 1);
    int own = -1;
    for (int i = 1; i <= s->times; i++) {
        int index = -1;
        s->rows[me] = i;
        EXPECT(kin_barrier_wait(s->barrier, test_ms(20000), &index) == KIN_OK);
        for (int k = 0; k < THREADS; k++)
            EXPECT(s->rows[k] == i);
        EXPECT(index >= 0 && index < THREADS && (own < 0 || own == index));
        own = index;
        EXPECT(kin_barrier_wait(s->barrier, KIN_FOREVER, NULL) == KIN_OK);
    }
}

static void steps(void **state)
{
    (void)state;
    shared s = {.times = test_scale(3000, 300)};
    check(kin_barrier_create(&s.barrier, THREADS, NULL));
    run(in_step, &s, THREADS);
    assert_int_equal(kin_barrier_waiting(s.barrier), 0);
    kin_barrier_close(s.barrier);
}

static kin_err sum_up(void *arg)
{
    shared *s = arg;
    s->total = 0;
    for (int k = 0; k < THREADS; k++)
        s->total += s->rows[k];
    s->actions++;
    return KIN_OK;
}

static void in_step_with_action(void *arg)
{
    shared *s = arg;
    uint32_t me = kin__add32(&s->number, 1);
    for (int i = 1; i <= s->times; i++) {
        s->rows[me] = i * (long)(me + 1);
        EXPECT(kin_barrier_wait_action(s->barrier, sum_up, s, test_ms(20000), NULL) == KIN_OK);
        EXPECT(s->total == i * (1 + 2 + 3 + 4L) && s->actions == i);
        /* The next row is written before the others have looked at the total: that is not touched until all have come. */
    }
}

static void actions(void **state)
{
    (void)state;
    shared s = {.times = test_scale(3000, 300)};
    check(kin_barrier_create(&s.barrier, THREADS, NULL));
    run(in_step_with_action, &s, THREADS);
    assert_int_equal(s.actions, s.times);
    kin_barrier_close(s.barrier);
}

static void break_and_mend(void *arg)
{
    shared *s = arg;
    uint32_t me = kin__add32(&s->number, 1);
    for (int i = 0; i < s->times; i++) {
        if (me == 0) {
            EXPECT((i % 2 == 0 ? kin_barrier_abort(s->barrier) : kin_barrier_reset(s->barrier)) == KIN_OK);
        } else {
            kin_err err = kin_barrier_wait(s->barrier, me == 1 ? 1 : 5, NULL);
            EXPECT(err == KIN_OK || err == KIN_EBROKEN || err == KIN_ETIMEDOUT);
        }
    }
}

static void broken_and_mended(void **state)
{
    (void)state;
    shared s = {.times = test_scale(2000, 200)};
    check(kin_barrier_create(&s.barrier, THREADS - 1, NULL));
    run(break_and_mend, &s, THREADS);
    check(kin_barrier_reset(s.barrier));
    assert_int_equal(kin_barrier_waiting(s.barrier), 0);
    kin_barrier_close(s.barrier);
}

/* ---- rwlock ---- */

static void read_and_write(void *arg)
{
    shared *s = arg;
    uint32_t chance = chance_of(s, kin__add32(&s->number, 1));
    for (int i = 0; i < s->times; i++) {
        uint32_t what = next(&chance, 8);
        if (what < 2) {
            kin_err err = kin_rwlock_acquire_write(s->rwlock, what == 0 ? KIN_FOREVER : 1);
            EXPECT(err == KIN_OK || (err == KIN_ETIMEDOUT && what == 1));
            if (err != KIN_OK)
                continue;
            s->counter++;
            s->copy = s->counter;
            kin__add32(&s->done, 1);
        } else {
            kin_err err = kin_rwlock_acquire_read(s->rwlock, what == 2 ? 1 : KIN_FOREVER);
            EXPECT(err == KIN_OK || (err == KIN_ETIMEDOUT && what == 2));
            if (err != KIN_OK)
                continue;
            if (what == 3) {
                EXPECT(kin_rwlock_acquire_read(s->rwlock, KIN_FOREVER) == KIN_OK);
                EXPECT(kin_rwlock_release(s->rwlock) == KIN_OK);
            }
            EXPECT(s->counter == s->copy);
        }
        EXPECT(kin_rwlock_release(s->rwlock) == KIN_OK);
    }
}

static void readers_and_writers(void **state)
{
    (void)state;
    shared s = {.times = test_scale(10000, 1000)};
    check(kin_rwlock_create(&s.rwlock, NULL));
    run(read_and_write, &s, THREADS);
    assert_int_equal(s.counter, s.done);
    assert_int_equal(s.copy, s.counter);
    check(kin_rwlock_acquire_write(s.rwlock, KIN_NOWAIT));
    check(kin_rwlock_release(s.rwlock));
    kin_rwlock_close(s.rwlock);
}

/* ---- deadlock ---- */

static void linger(int i) /* so that others come to want it */
{
    for (uint64_t end = uv_hrtime() + (i % 4 == 0 ? 100000 : 0); uv_hrtime() < end;) {
    }
}

static void both_orders(void *arg)
{
    shared *s = arg;
    uint32_t me = kin__add32(&s->number, 1);
    for (int i = 0; i < s->times;) {
        kin_err err;
        if (me % 2 == 0) {
            EXPECT(kin_lock_acquire(s->lock, KIN_FOREVER) == KIN_OK);
            linger(i);
            err = kin_rlock_acquire(s->rlock, KIN_FOREVER);
        } else {
            EXPECT(kin_rlock_acquire(s->rlock, KIN_FOREVER) == KIN_OK);
            linger(i);
            err = kin_lock_acquire(s->lock, KIN_FOREVER);
        }
        EXPECT(err == KIN_OK || err == KIN_EDEADLK);
        if (err == KIN_OK) {
            s->counter++;
            i++;
        } else {
            kin__add32(&s->done, 1);
        }
        if (me % 2 == 0 || err == KIN_OK)
            EXPECT(kin_lock_release(s->lock) == KIN_OK);
        if (me % 2 != 0 || err == KIN_OK)
            EXPECT(kin_rlock_release(s->rlock) == KIN_OK);
    }
}

static void deadlocks(void **state)
{
    (void)state;
    shared s = {.times = test_scale(1000, 100)};
    check(kin_lock_create(&s.lock, NULL));
    check(kin_rlock_create(&s.rlock, NULL));
    run(both_orders, &s, THREADS);
    assert_int_equal(s.counter, THREADS * s.times);
    print_message("%lu deadlocks\n", (unsigned long)s.done);
    kin_lock_close(s.lock);
    kin_rlock_close(s.rlock);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recursive_lock),
        cmocka_unit_test(semaphore_of_one_is_a_lock),
        cmocka_unit_test(semaphore_within_its_bound),
        cmocka_unit_test(undo_in_many_threads),
        cmocka_unit_test(events_in_turn),
        cmocka_unit_test(event_orders_memory),
        cmocka_unit_test(event_under_load),
        cmocka_unit_test(bounded_buffer),
        cmocka_unit_test(turns_under_a_deep_lock),
        cmocka_unit_test(wait_for),
        cmocka_unit_test(waits_that_run_out),
        cmocka_unit_test(steps),
        cmocka_unit_test(actions),
        cmocka_unit_test(broken_and_mended),
        cmocka_unit_test(readers_and_writers),
        cmocka_unit_test(deadlocks),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
