/* The Death tables of rlock.h, semaphore.h, event.h, condition.h, barrier.h and rwlock.h, line by line, with processes
 * that are killed, exit or crash at moments that can be told from outside. Those that cannot are in points_test.c;
 * kin_lock has a file of its own.
 * @ctest TIMEOUT 120 */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct world {
    kin_lock lock;
    kin_rlock rlock;
    kin_rwlock rw;
    kin_semaphore plain, undo; /* 3 units each */
    kin_event event;
    kin_condition more;
    kin_barrier barrier; /* for 3 */
    int64_t items;
    uint32_t ready, go;
};

static kin_segment *segment;
static struct world *world;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    check(kin_lock_init(&world->lock, &(kin_lock_options){.name = "till"}));
    check(kin_rlock_init(&world->rlock, &(kin_rlock_options){.name = "vault"}));
    check(kin_rwlock_init(&world->rw, &(kin_rwlock_options){.name = "book"}));
    check(kin_semaphore_init(&world->plain, 3, &(kin_semaphore_options){.name = "tokens", .bound = 3}));
    check(kin_semaphore_init(&world->undo, 3, &(kin_semaphore_options){.name = "slots", .undo = true}));
    check(kin_event_init(&world->event, NULL));
    check(kin_condition_init(&world->more, NULL));
    check(kin_barrier_init(&world->barrier, 3, &(kin_barrier_options){.name = "start line"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

/* ---- who plays ---- */

typedef enum part {
    HOLD_LOCK,
    TAKE_AND_END,  /* the lock                              */
    HOLD_RLOCK,    /* three deep                            */
    USE_RLOCK,     /* once, and gives it back               */
    TAKE_TWO,      /* units, of the plain semaphore         */
    TAKE_TWO_UNDO, /* of the other                          */
    USE_UNIT,
    USE_UNIT_UNDO,
    WAIT_EVENT,
    CONSUME, /* an item, waiting for it with the lock  */
    CONSUME_AND_HOLD,
    NOTIFY_AND_HOLD, /* one of those who wait                 */
    BARRIER,
    BARRIER_ACTION, /* stays in its action                   */
    BARRIER_ONCE,   /* and stays away                        */
    BARRIER_TWICE,
    BARRIER_EXIT,  /* and exits                             */
    BARRIER_CRASH, /* and crashes                           */
    READ_AND_HOLD,
    WRITE_AND_HOLD,
    READ,
    WRITE,
    READ_56, /* in as many threads                    */
    STAY
} part;

static bool stay(struct world *w)
{
    kin__add32(&w->ready, 1);
    return crash_until_at_least(&w->go, 1);
}

static kin_err in_action(void *arg) { return stay(arg) ? KIN_OK : KIN_EIO; }

static kin_err consume(struct world *w)
{
    kin_err err = kin_lock_acquire(&w->lock, KIN_FOREVER), result = err;
    while (w->items == 0 && (err == KIN_OK || err == KIN_EOWNERDEAD)) {
        err = kin_condition_wait(&w->more, &w->lock, KIN_FOREVER);
        if (err != KIN_OK)
            result = err;
    }
    w->items--;
    return result;
}

/* How the wait at the barrier ended, if what it says is right: broken by 'Victim'. */
static kin_err at_barrier(struct world *w)
{
    kin_err err = kin_barrier_wait(&w->barrier, KIN_FOREVER, NULL);
    return err != KIN_EBROKEN || strstr(kin_last_error(), "a participant died, 'Victim' (pid ") != NULL ? err : KIN_EIO;
}

static void read_and_stay(void *arg)
{
    struct world *w = arg;
    if (kin_rwlock_acquire_read(&w->rw, KIN_FOREVER) == KIN_OK)
        (void)stay(w);
}

static int read_56(struct world *w)
{
    uv_thread_t threads[KIN_RWLOCK_READERS];
    for (int i = 0; i < KIN_RWLOCK_READERS; i++)
        CHILD_CHECK(uv_thread_create(&threads[i], read_and_stay, w) == 0);
    for (int i = 0; i < KIN_RWLOCK_READERS; i++)
        CHILD_CHECK(uv_thread_join(&threads[i]) == 0);
    return KIN_OK;
}

/* With the lock taken, or not, with `err`: stays, and ends with that. */
static int hold(struct world *w, kin_err err)
{
    CHILD_CHECK(stay(w));
    return err;
}

static int play(kin_args *args)
{
    kin_segment *mine;
    int64_t number;
    CHILD_CHECK(kin_unpack(args, &mine, &number) == KIN_OK);
    struct world *w = kin_segment_data(mine);
    kin_err err;
    switch ((part)number) {
    case HOLD_LOCK:
        return hold(w, kin_lock_acquire(&w->lock, KIN_FOREVER));
    case TAKE_AND_END:
        CHILD_CHECK(kin_lock_acquire(&w->lock, KIN_FOREVER) == KIN_OK);
        crash_end(5);
        return 0;
    case HOLD_RLOCK:
        for (int i = 0; i < 3; i++)
            CHILD_CHECK(kin_rlock_acquire(&w->rlock, KIN_FOREVER) == KIN_OK);
        return hold(w, KIN_OK);
    case USE_RLOCK:
        err = kin_rlock_acquire(&w->rlock, KIN_FOREVER);
        CHILD_CHECK(kin_rlock_count(&w->rlock) == 1 && kin_rlock_release(&w->rlock) == KIN_OK);
        return err;
    case TAKE_TWO:
    case TAKE_TWO_UNDO:
        for (int i = 0; i < 2; i++)
            CHILD_CHECK(kin_semaphore_acquire(number == TAKE_TWO ? &w->plain : &w->undo, KIN_FOREVER) == KIN_OK);
        return hold(w, KIN_OK);
    case USE_UNIT:
    case USE_UNIT_UNDO:
        err = kin_semaphore_acquire(number == USE_UNIT ? &w->plain : &w->undo, KIN_FOREVER);
        CHILD_CHECK(kin_semaphore_release(number == USE_UNIT ? &w->plain : &w->undo) == KIN_OK);
        return err;
    case WAIT_EVENT:
        return kin_event_wait(&w->event, KIN_FOREVER);
    case CONSUME:
    case CONSUME_AND_HOLD:
        err = consume(w);
        if (number == CONSUME_AND_HOLD)
            return hold(w, err);
        CHILD_CHECK(kin_lock_release(&w->lock) == KIN_OK);
        return err;
    case NOTIFY_AND_HOLD:
        CHILD_CHECK(kin_lock_acquire(&w->lock, KIN_FOREVER) == KIN_OK);
        w->items = 2;
        CHILD_CHECK(kin_condition_notify(&w->more, &w->lock, 1) == KIN_OK);
        return hold(w, KIN_OK);
    case BARRIER:
        return at_barrier(w);
    case BARRIER_ACTION:
        return kin_barrier_wait_action(&w->barrier, in_action, w, KIN_FOREVER, NULL);
    case BARRIER_ONCE:
        return hold(w, at_barrier(w));
    case BARRIER_TWICE:
        CHILD_CHECK(at_barrier(w) == KIN_OK);
        return at_barrier(w);
    case BARRIER_EXIT:
        exit(at_barrier(w));
    case BARRIER_CRASH:
        if (at_barrier(w) == KIN_OK)
            abort();
        return KIN_EIO;
    case READ_AND_HOLD:
        return hold(w, kin_rwlock_acquire_read(&w->rw, KIN_FOREVER));
    case WRITE_AND_HOLD:
        return hold(w, kin_rwlock_acquire_write(&w->rw, KIN_FOREVER));
    case READ:
    case WRITE:
        err = number == READ ? kin_rwlock_acquire_read(&w->rw, KIN_FOREVER)
                             : kin_rwlock_acquire_write(&w->rw, KIN_FOREVER);
        CHILD_CHECK(kin_rwlock_release(&w->rw) == KIN_OK);
        return err;
    case READ_56:
        return read_56(w);
    default:
        return hold(w, KIN_OK);
    }
}

/* ---- the parent's hands ---- */

static kin_process *start(part role, const char *name)
{
    return test_start_with(play, KIN_ARGS(segment, (int64_t)role), (kin_process_options){.name = name});
}

/* Started, and where it stays. */
static kin_process *start_ready(part role, uint32_t ready)
{
    kin__store32(&world->ready, 0);
    kin__store32(&world->go, 0);
    kin_process *p = start(role, "Victim");
    assert_true(crash_until_at_least(&world->ready, ready));
    return p;
}

static bool asleep(void *arg) { return crash_asleep(kin_process_pid(arg)) > 0; }

static kin_process *start_asleep(part role, const char *name)
{
    kin_process *p = start(role, name);
    assert_true(crash_until(asleep, p));
    return p;
}

static void kill_it(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(crash_join(p), -9);
}

static void let_go(kin_process *p, int code)
{
    kin__store32(&world->go, 1);
    assert_int_equal(crash_join(p), code);
}

/* "'Victim' (pid 12" */
static void says_victim(int64_t pid)
{
    char who[64];
    (void)snprintf(who, sizeof who, "'Victim' (pid %lld, ended by signal 9)", (long long)pid);
    check_says(who);
}

static void in_a_thread(void (*function)(void *arg))
{
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, function, NULL), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
}

static int64_t a_while(void) { return test_ms(20000); }

/* ---- locks ---- */

static void lock_says_who_died(void **state)
{
    (void)state;
    check(kin_lock_acquire(&world->lock, KIN_NOWAIT));
    check(kin_lock_release(&world->lock));
    kin_process *p = start_ready(HOLD_LOCK, 1);
    int64_t pid = kin_process_pid(p);
    kill_it(p);
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&world->lock, a_while()));
    check_says("lock 'till': its owner, thread ");
    says_victim(pid);
    check(kin_lock_release(&world->lock));
}

static void rlock_of_a_dead_owner_is_held_once(void **state)
{
    (void)state;
    for (int waiting = 0; waiting < 2; waiting++) {
        kin_process *p = start_ready(HOLD_RLOCK, 1), *waiter = NULL;
        int64_t pid = kin_process_pid(p);
        if (waiting)
            waiter = start_asleep(USE_RLOCK, "Waiter");
        kill_it(p);
        if (waiting) {
            assert_int_equal(crash_join(waiter), KIN_EOWNERDEAD);
        } else {
            check_fails(KIN_EOWNERDEAD, kin_rlock_acquire(&world->rlock, a_while()));
            check_says("rlock 'vault'");
            says_victim(pid);
            assert_int_equal(kin_rlock_count(&world->rlock), 1);
            check(kin_rlock_release(&world->rlock));
        }
        check_fails(KIN_EPERM, kin_rlock_release(&world->rlock));
        assert_int_equal(crash_join(start(USE_RLOCK, "Next")), KIN_OK);
    }
}

static void take_rlock_twice(void *arg)
{
    (void)arg;
    (void)kin_rlock_acquire(&world->rlock, KIN_FOREVER);
    (void)kin_rlock_acquire(&world->rlock, KIN_FOREVER);
}

static void rlock_of_a_thread_that_ended(void **state)
{
    (void)state;
    in_a_thread(take_rlock_twice);
    check_fails(KIN_EOWNERDEAD, kin_rlock_acquire(&world->rlock, a_while()));
    assert_int_equal(kin_rlock_count(&world->rlock), 1);
    kin_process *waiter = start_asleep(USE_RLOCK, "Waiter");
    check(kin_rlock_release(&world->rlock));
    assert_int_equal(crash_join(waiter), KIN_OK);
}

static void rlock_waiters_die(void **state)
{
    (void)state;
    check(kin_rlock_acquire(&world->rlock, KIN_NOWAIT));
    kin_process *first = start_asleep(USE_RLOCK, "Victim"), *second = start_asleep(USE_RLOCK, "Waiter"),
                *third = start_asleep(USE_RLOCK, "Victim");
    kill_it(first);
    kill_it(third);
    check(kin_rlock_release(&world->rlock));
    assert_int_equal(crash_join(second), KIN_OK);
}

/* ---- semaphores ---- */

static void units_without_undo_stay_out(void **state)
{
    (void)state;
    kin_process *p = start_ready(TAKE_TWO, 1);
    kill_it(p);
    assert_int_equal(kin_semaphore_units(&world->plain), 1);
    check(kin_semaphore_acquire(&world->plain, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&world->plain, 50));
    check(kin_semaphore_release_many(&world->plain, 3)); /* anybody may */
    check_fails(KIN_ERANGE, kin_semaphore_release(&world->plain));
}

static void units_with_undo_come_back(void **state)
{
    (void)state;
    kin_process *p = start_ready(TAKE_TWO_UNDO, 1);
    check(kin_semaphore_acquire(&world->undo, KIN_NOWAIT));
    check_fails(KIN_EPERM, kin_semaphore_release_many(&world->undo, 2)); /* not ours */
    kin_process *waiters[2] = {start_asleep(USE_UNIT_UNDO, "Waiter-1"), start_asleep(USE_UNIT_UNDO, "Waiter-2")};
    kill_it(p);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crash_join(waiters[i]), KIN_OK);
    assert_int_equal(kin_semaphore_units(&world->undo), 2);
    check(kin_semaphore_release(&world->undo));
    check_fails(KIN_EPERM, kin_semaphore_release(&world->undo));
    assert_int_equal(kin_semaphore_units(&world->undo), 3);
}

static void units_come_back_once(void **state)
{
    (void)state;
    kin_process *p = start_ready(TAKE_TWO_UNDO, 1);
    check(kin_process_kill(p));
    for (int i = 0; i < 3; i++)
        check(kin_semaphore_acquire(&world->undo, a_while()));
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&world->undo, 50));
    assert_int_equal(crash_join(p), -9);
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&world->undo, 50));
    check(kin_semaphore_release_many(&world->undo, 3));
    /* Who ends by itself is no better. */
    let_go(start_ready(TAKE_TWO_UNDO, 1), KIN_OK);
    assert_int_equal(kin_semaphore_units(&world->undo), 3);
}

static void take_unit(void *arg)
{
    (void)arg;
    (void)kin_semaphore_acquire(&world->undo, KIN_FOREVER);
}

/* Units are the process's. */
static void units_of_a_thread_that_ended_stay_out(void **state)
{
    (void)state;
    in_a_thread(take_unit);
    assert_int_equal(kin_semaphore_units(&world->undo), 2);
    check(kin_semaphore_release(&world->undo));
    assert_int_equal(kin_semaphore_units(&world->undo), 3);
}

static void who_waits_for_a_unit_dies(void **state)
{
    (void)state;
    for (int undo = 0; undo < 2; undo++) {
        kin_semaphore *s = undo ? &world->undo : &world->plain;
        part use = undo ? USE_UNIT_UNDO : USE_UNIT;
        uint32_t chance = crash_seed();
        for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
            for (int i = 0; i < 3; i++)
                check(kin_semaphore_acquire(s, a_while()));
            kin_process *victim = start_asleep(use, "Victim"), *waiter = start_asleep(use, "Waiter");
            if (round % 2 == 0) { /* before it is woken */
                kill_it(victim);
                check(kin_semaphore_release(s));
                assert_int_equal(crash_join(waiter), KIN_OK);
            } else { /* just as it is woken: it may have got the unit and taken it along */
                check(kin_semaphore_release(s));
                crash_spin_us(crash_random(&chance, 60));
                check(kin_process_kill(victim));
                int code = crash_join(victim);
                assert_true(code == -9 || code == KIN_OK);
                bool lost = !undo && code == -9;
                if (lost)
                    check(kin_semaphore_release(s));
                assert_int_equal(crash_join(waiter), KIN_OK);
                if (lost && kin_semaphore_units(s) == 2)
                    check(kin_semaphore_acquire(s, KIN_NOWAIT)); /* it was not lost */
            }
            assert_int_equal(kin_semaphore_units(s), 1);
            check(kin_semaphore_release_many(s, 2));
        }
    }
}

/* ---- events ---- */

static void who_waits_for_an_event_dies(void **state)
{
    (void)state;
    uint32_t chance = crash_seed();
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        kin_process *victim = start_asleep(WAIT_EVENT, "Victim"), *waiter = start_asleep(WAIT_EVENT, "Waiter");
        if (round % 2 == 0)
            kill_it(victim);
        check(kin_event_set(&world->event));
        check(kin_event_clear(&world->event));
        if (round % 2 != 0) {
            crash_spin_us(crash_random(&chance, 60));
            check(kin_process_kill(victim));
            int code = crash_join(victim);
            assert_true(code == -9 || code == KIN_OK);
        }
        assert_int_equal(crash_join(waiter), KIN_OK);
    }
}

/* ---- conditions ---- */

static void the_notified_dies_before_it_has_the_lock(void **state)
{
    (void)state;
    kin_process *victim = start_asleep(CONSUME, "Victim"), *waiter = start_asleep(CONSUME, "Waiter");
    check(kin_lock_acquire(&world->lock, a_while()));
    world->items = 1;
    check(kin_condition_notify(&world->more, &world->lock, 1));
    assert_true(crash_until_sleepers(&world->lock, 1)); /* it is awake, and waits for the lock */
    kill_it(victim);
    check(kin_lock_release(&world->lock));
    assert_int_equal(crash_join(waiter), KIN_OK);
    assert_int_equal(world->items, 0);
}

static void a_waiter_dies_before_it_is_notified(void **state)
{
    (void)state;
    kin_process *victim = start_asleep(CONSUME, "Victim"), *waiter = start_asleep(CONSUME, "Waiter");
    kill_it(victim);
    check(kin_lock_acquire(&world->lock, a_while()));
    world->items = 1;
    check(kin_condition_notify(&world->more, &world->lock, 1));
    check(kin_lock_release(&world->lock));
    assert_int_equal(crash_join(waiter), KIN_OK);
}

/* It came to notify one of two. */
static void a_notifier_dies(void **state)
{
    (void)state;
    kin_process *waiters[2] = {start_asleep(CONSUME, "Waiter-1"), start_asleep(CONSUME, "Waiter-2")};
    kill_it(start_ready(NOTIFY_AND_HOLD, 1));
    int first = crash_join(waiters[0]), second = crash_join(waiters[1]);
    assert_true((first == KIN_EOWNERDEAD) != (second == KIN_EOWNERDEAD));
    assert_true(first == KIN_OK || second == KIN_OK);
    check(kin_lock_acquire(&world->lock, a_while()));
    assert_int_equal(world->items, 0);
    check(kin_lock_release(&world->lock));
}

static void a_waiter_dies_with_the_lock(void **state)
{
    (void)state;
    kin__store32(&world->ready, 0);
    kin_process *victim = start_asleep(CONSUME_AND_HOLD, "Victim"), *waiter = start_asleep(CONSUME, "Waiter");
    check(kin_lock_acquire(&world->lock, a_while()));
    world->items = 2;
    check(kin_condition_notify(&world->more, &world->lock, 2));
    check(kin_lock_release(&world->lock));
    if (!crash_until_at_least(&world->ready, 1))
        fail_msg("nobody got on");
    kill_it(victim);
    int code = crash_join(waiter); /* it had it before, or has it from the dead */
    assert_true(code == KIN_OK || code == KIN_EOWNERDEAD);
    assert_int_equal(kin_lock_acquire(&world->lock, a_while()), code == KIN_OK ? KIN_EOWNERDEAD : KIN_OK);
    assert_int_equal(world->items, 0);
    check(kin_lock_release(&world->lock));
}

static bool has_items(void *arg) { return ((struct world *)arg)->items > 0; }

/* Whether it is ready or not, the caller must look for itself. */
static void a_wait_tells_of_a_death(void **state)
{
    (void)state;
    check(kin_lock_acquire(&world->lock, a_while()));
    for (int how = 0; how < 2; how++) {
        kin_process *p = start_asleep(TAKE_AND_END, "Victim");
        if (how == 0)
            check_fails(KIN_EOWNERDEAD,
                        kin_condition_wait_for(&world->more, &world->lock, has_items, world, a_while()));
        else
            check_fails(KIN_EOWNERDEAD, kin_condition_wait(&world->more, &world->lock, a_while()));
        assert_true(kin_lock_held(&world->lock));
        assert_int_equal(crash_join(p), 5);
    }
    check(kin_lock_release(&world->lock));
}

/* ---- barriers ---- */

static void reset_and_use(void)
{
    check(kin_barrier_reset(&world->barrier));
    assert_false(kin_barrier_is_broken(&world->barrier));
    kin_process *others[2] = {start(BARRIER, "Party-1"), start(BARRIER, "Party-2")};
    check(kin_barrier_wait(&world->barrier, a_while(), NULL));
    for (int i = 0; i < 2; i++)
        assert_int_equal(crash_join(others[i]), KIN_OK);
}

/* Who waits, who looks and who comes later: until it is reset. */
static void must_be_broken_by(int64_t pid)
{
    check_fails(KIN_EBROKEN, kin_barrier_wait(&world->barrier, KIN_FOREVER, NULL));
    says_victim(pid);
    check_says("start line");
    assert_true(kin_barrier_is_broken(&world->barrier));
    assert_int_equal(crash_join(start(BARRIER, "Late")), KIN_EBROKEN);
    reset_and_use();
}

static void who_waits_at_a_barrier_dies(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        kin_process *victim = order ? NULL : start_asleep(BARRIER, "Victim"), *waiter = start_asleep(BARRIER, "Waiter");
        if (order)
            victim = start_asleep(BARRIER, "Victim");
        int64_t pid = kin_process_pid(victim);
        assert_int_equal(kin_barrier_waiting(&world->barrier), 2);
        kill_it(victim);
        assert_int_equal(crash_join(waiter), KIN_EBROKEN);
        must_be_broken_by(pid);
    }
}

static void the_last_dies_in_its_action(void **state)
{
    (void)state;
    kin_process *waiters[2] = {start_asleep(BARRIER, "Waiter-1"), start_asleep(BARRIER, "Waiter-2")};
    kin_process *victim = start_ready(BARRIER_ACTION, 1);
    int64_t pid = kin_process_pid(victim);
    kill_it(victim);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crash_join(waiters[i]), KIN_EBROKEN);
    must_be_broken_by(pid);
}

/* A round of the victim, the parent and another. */
static kin_process *play_a_round(part victim_is, part other_is, kin_process **other)
{
    kin__store32(&world->ready, 0);
    kin__store32(&world->go, 0);
    kin_process *victim = start(victim_is, "Victim");
    *other = start(other_is, "Other");
    check(kin_barrier_wait(&world->barrier, a_while(), NULL));
    return victim;
}

static void one_of_the_last_round_is_killed(void **state)
{
    (void)state;
    kin_process *other, *victim = play_a_round(BARRIER_ONCE, BARRIER_ONCE, &other);
    int64_t pid = kin_process_pid(victim);
    assert_true(crash_until_at_least(&world->ready, 2));
    kill_it(victim);
    must_be_broken_by(pid);
    let_go(other, KIN_OK);
    /* One that waits for it already. */
    victim = play_a_round(BARRIER_ONCE, BARRIER_TWICE, &other);
    pid = kin_process_pid(victim);
    assert_true(crash_until_at_least(&world->ready, 1) && crash_until(asleep, other));
    kill_it(victim);
    assert_int_equal(crash_join(other), KIN_EBROKEN);
    must_be_broken_by(pid);
    /* It crashed. */
    victim = play_a_round(BARRIER_CRASH, BARRIER_ONCE, &other);
    pid = kin_process_pid(victim);
    assert_int_equal(crash_join(victim), -6);
    check_fails(KIN_EBROKEN, kin_barrier_wait(&world->barrier, KIN_FOREVER, NULL));
    let_go(other, KIN_OK);
    reset_and_use();
}

static void one_that_ended_by_itself_is_replaced(void **state)
{
    (void)state;
    kin_process *other, *victim = play_a_round(BARRIER_EXIT, BARRIER_TWICE, &other);
    assert_int_equal(crash_join(victim), KIN_OK);
    kin_process *instead = start_asleep(BARRIER, "Instead");
    check(kin_barrier_wait(&world->barrier, a_while(), NULL));
    assert_int_equal(crash_join(instead), KIN_OK);
    assert_int_equal(crash_join(other), KIN_OK);
    reset_and_use();
}

static void who_never_came_may_die(void **state)
{
    (void)state;
    kin_process *waiter = start_asleep(BARRIER, "Waiter");
    kill_it(start_ready(STAY, 1));
    assert_false(kin_barrier_is_broken(&world->barrier));
    assert_int_equal(kin_barrier_waiting(&world->barrier), 1);
    kin_process *second = start_asleep(BARRIER, "Waiter-2");
    check(kin_barrier_wait(&world->barrier, a_while(), NULL));
    assert_int_equal(crash_join(waiter), KIN_OK);
    assert_int_equal(crash_join(second), KIN_OK);
}

/* ---- reader-writer locks ---- */

static void read_once(kin_err expected)
{
    check_fails(expected, kin_rwlock_acquire_read(&world->rw, a_while()));
    assert_true(kin_rwlock_reading(&world->rw));
    check(kin_rwlock_release(&world->rw));
}

static void write_once(kin_err expected)
{
    check_fails(expected, kin_rwlock_acquire_write(&world->rw, a_while()));
    assert_true(kin_rwlock_writing(&world->rw));
    check(kin_rwlock_release(&world->rw));
}

static void a_reader_dies(void **state)
{
    (void)state;
    kill_it(start_ready(READ_AND_HOLD, 1));
    write_once(KIN_OK);
    kin_process *p = start_ready(READ_AND_HOLD, 1), *writer = start_asleep(WRITE, "Writer"),
                *reader = start_asleep(READ, "Reader");
    kill_it(p);
    assert_int_equal(crash_join(writer), KIN_OK);
    assert_int_equal(crash_join(reader), KIN_OK);
    read_once(KIN_OK);
}

/* Their places are there again. */
static void as_many_readers_as_there_can_be_die(void **state)
{
    (void)state;
    kin_process *p = start_ready(READ_56, KIN_RWLOCK_READERS), *reader = start_asleep(READ, "Reader");
    kill_it(p);
    assert_int_equal(crash_join(reader), KIN_OK);
    p = start_ready(READ_56, KIN_RWLOCK_READERS);
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_read(&world->rw, KIN_NOWAIT));
    kin_process *writer = start_asleep(WRITE, "Writer");
    kill_it(p);
    assert_int_equal(crash_join(writer), KIN_OK);
}

static void a_writer_dies_holding_it(void **state)
{
    (void)state;
    kill_it(start_ready(WRITE_AND_HOLD, 1));
    read_once(KIN_EOWNERDEAD);
    check_says("book");
    read_once(KIN_EOWNERDEAD);
    assert_int_equal(crash_join(start(READ, "Reader")), KIN_EOWNERDEAD);
    write_once(KIN_EOWNERDEAD);
    read_once(KIN_OK);
    write_once(KIN_OK);
    kill_it(start_ready(WRITE_AND_HOLD, 1));
    write_once(KIN_EOWNERDEAD);
    read_once(KIN_OK);
}

static void others_sleep_as_a_writer_dies(void **state)
{
    (void)state;
    kin_process *p = start_ready(WRITE_AND_HOLD, 1),
                *readers[2] = {start_asleep(READ, "Reader-1"), start_asleep(READ, "Reader-2")};
    kill_it(p);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crash_join(readers[i]), KIN_EOWNERDEAD);
    p = start(WRITE, "Writer");
    assert_int_equal(crash_join(p), KIN_EOWNERDEAD);
    p = start_ready(WRITE_AND_HOLD, 1);
    kin_process *writers[2] = {start_asleep(WRITE, "Writer-1"), start_asleep(WRITE, "Writer-2")};
    kill_it(p);
    int first = crash_join(writers[0]), second = crash_join(writers[1]);
    assert_true((first == KIN_EOWNERDEAD && second == KIN_OK) || (first == KIN_OK && second == KIN_EOWNERDEAD));
    read_once(KIN_OK);
}

static void a_writer_dies_waiting(void **state)
{
    (void)state;
    check(kin_rwlock_acquire_read(&world->rw, KIN_NOWAIT)); /* for readers */
    kin_process *p = start_asleep(WRITE, "Victim"), *reader = start_asleep(READ, "Reader");
    kill_it(p);
    assert_int_equal(crash_join(reader), KIN_OK);
    check(kin_rwlock_release(&world->rw));
    write_once(KIN_OK);
    check(kin_rwlock_acquire_write(&world->rw, KIN_NOWAIT)); /* for another writer */
    p = start_asleep(WRITE, "Victim");
    reader = start_asleep(READ, "Reader");
    kill_it(p);
    check(kin_rwlock_release(&world->rw));
    assert_int_equal(crash_join(reader), KIN_OK);
    write_once(KIN_OK);
}

/* Only who held it repairs: not who waited, and not who gave up. */
static void damage_is_not_forgotten(void **state)
{
    (void)state;
    kill_it(start_ready(WRITE_AND_HOLD, 1));
    check_fails(KIN_EOWNERDEAD, kin_rwlock_acquire_read(&world->rw, a_while()));
    kill_it(start_asleep(WRITE, "Victim"));
    assert_int_equal(crash_join(start(READ, "Reader")), KIN_EOWNERDEAD);
    check(kin_rwlock_release(&world->rw));
    kin_process *p = start_ready(READ_AND_HOLD, 1);
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(&world->rw, 20));
    read_once(KIN_EOWNERDEAD);
    let_go(p, KIN_EOWNERDEAD); /* it ends reading, which is no more than a death */
    read_once(KIN_EOWNERDEAD);
    kill_it(start_ready(WRITE_AND_HOLD, 1)); /* an heir that dies too */
    read_once(KIN_EOWNERDEAD);
    write_once(KIN_EOWNERDEAD);
    read_once(KIN_OK);
}

static void take_to_read(void *arg)
{
    (void)arg;
    (void)kin_rwlock_acquire_read(&world->rw, KIN_FOREVER);
}

static void take_to_write(void *arg)
{
    (void)arg;
    (void)kin_rwlock_acquire_write(&world->rw, KIN_FOREVER);
}

static void threads_end_holding_it(void **state)
{
    (void)state;
    in_a_thread(take_to_read);
    write_once(KIN_OK);
    in_a_thread(take_to_write);
    read_once(KIN_EOWNERDEAD);
    write_once(KIN_EOWNERDEAD);
    read_once(KIN_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(lock_says_who_died),
        TEST(rlock_of_a_dead_owner_is_held_once),
        TEST(rlock_of_a_thread_that_ended),
        TEST(rlock_waiters_die),
        TEST(units_without_undo_stay_out),
        TEST(units_with_undo_come_back),
        TEST(units_come_back_once),
        TEST(units_of_a_thread_that_ended_stay_out),
        TEST(who_waits_for_a_unit_dies),
        TEST(who_waits_for_an_event_dies),
        TEST(the_notified_dies_before_it_has_the_lock),
        TEST(a_waiter_dies_before_it_is_notified),
        TEST(a_notifier_dies),
        TEST(a_waiter_dies_with_the_lock),
        TEST(a_wait_tells_of_a_death),
        TEST(who_waits_at_a_barrier_dies),
        TEST(the_last_dies_in_its_action),
        TEST(one_of_the_last_round_is_killed),
        TEST(one_that_ended_by_itself_is_replaced),
        TEST(who_never_came_may_die),
        TEST(a_reader_dies),
        TEST(as_many_readers_as_there_can_be_die),
        TEST(a_writer_dies_holding_it),
        TEST(others_sleep_as_a_writer_dies),
        TEST(a_writer_dies_waiting),
        TEST(damage_is_not_forgotten),
        TEST(threads_end_holding_it),
    };
    return cmocka_run_group_tests_name("sync_death", tests, NULL, NULL);
}
