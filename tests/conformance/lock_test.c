/* kin/lock.h as long as nobody dies; see tests/crash/lock_death_test.c for the rest. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>
#include <uv.h>

enum { ACTORS = 20, HELD_MOST = 150 };

/* What the processes share. The two words are plain: only the lock keeps them equal. */
struct shared {
    kin_lock lock;
    uint64_t first;
    uint32_t ready, go;
    char remote[128];
    uint64_t second;
    kin_lock ring[ACTORS];
    kin_rlock rlock;
    kin_rwlock rwlock;
    uint32_t order[ACTORS], ordered, alarms;
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
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "accounts"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (sync_abandon(&crew))
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

/* ---- deadlocks ---- */

enum { ACQUIRE, RELEASE, HOLDS, ACQUIRE_AND_NOTE, HOLD_MANY };
enum { RLOCK = -1, RWLOCK = -2 }; /* objects beside the ring's */

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_err err;
    switch (order->call) {
    case ACQUIRE:
        return order->object == RLOCK    ? kin_rlock_acquire(&s->rlock, order->number)
               : order->object == RWLOCK ? kin_rwlock_acquire_write(&s->rwlock, order->number)
                                         : kin_lock_acquire(&s->ring[order->object], order->number);
    case RELEASE:
        return order->object == RLOCK    ? kin_rlock_release(&s->rlock)
               : order->object == RWLOCK ? kin_rwlock_release(&s->rwlock)
                                         : kin_lock_release(&s->ring[order->object]);
    case HOLDS:
        order->result = kin_lock_held(&s->ring[order->object]);
        return KIN_OK;
    case ACQUIRE_AND_NOTE: /* number: who */
        err = kin_lock_acquire(&s->ring[order->object], KIN_FOREVER);
        s->order[s->ordered++ % ACTORS] = (uint32_t)order->number;
        return err != KIN_OK ? err : kin_lock_release(&s->ring[order->object]);
    case HOLD_MANY: /* number: how many, of its own; they are never released */
        for (int64_t i = 0; i < order->number; i++) {
            kin_lock *lock;
            err = kin_lock_create(&lock, NULL);
            if (err == KIN_OK)
                err = kin_lock_acquire(lock, KIN_NOWAIT);
            if (err != KIN_OK)
                return err;
        }
        return KIN_OK;
    default:
        return KIN_ENOTSUP;
    }
}

static int act(kin_args *args)
{
    struct shared *s;
    kin_segment *mine;
    int index;
    CHILD_CHECK(kin_unpack(args, &mine, &index) == KIN_OK);
    s = kin_segment_data(mine);
    return sync_act(&s->actors[index], perform, s);
}

static void actors(int count, bool thread)
{
    char name[48];
    for (int i = 0; i < ACTORS; i++) {
        (void)snprintf(name, sizeof name, "lock number %d of the ring", i);
        check(kin_lock_init(&shared->ring[i], &(kin_lock_options){.name = name}));
    }
    check(kin_rlock_init(&shared->rlock, &(kin_rlock_options){.name = "the recursive one"}));
    check(kin_rwlock_init(&shared->rwlock, &(kin_rwlock_options){.name = "the written one"}));
    for (int i = 0; i < count; i++) {
        if (thread)
            sync_enlist_thread(&crew, &shared->actors[i], perform, shared);
        else
            sync_enlist_process(&crew, &shared->actors[i], act, KIN_ARGS(segment, i));
    }
}

/* The one of these that has an answer; -1 if none comes. */
static int who_is_told(int count)
{
    for (int64_t end = kin_now() + test_ms(20000); kin_now() < end; uv_sleep(1)) {
        for (int i = 0; i < count; i++) {
            if (sync_answered(&shared->actors[i]))
                return i;
        }
    }
    return -1;
}

/* Its sentence names every process, thread and lock of the cycle. */
static void says_all(const sync_actor *told, int count, const int *objects)
{
    char text[64];
    for (int i = 0; i < count; i++) {
        const sync_actor *a = &shared->actors[i];
        (void)snprintf(text, sizeof text, "'%s'", a->name);
        test_check_says(told->said, text, __FILE__, __LINE__);
        (void)snprintf(text, sizeof text, "pid %lld)", (long long)a->pid);
        test_check_says(told->said, text, __FILE__, __LINE__);
        (void)snprintf(text, sizeof text, "thread %lu ", (unsigned long)a->thread);
        test_check_says(told->said, text, __FILE__, __LINE__);
        if (objects[i] >= 0)
            (void)snprintf(text, sizeof text, "'lock number %d of the ring'", objects[i]);
        else
            (void)snprintf(text, sizeof text, "'%s'", objects[i] == RLOCK ? "the recursive one" : "the written one");
        test_check_says(told->said, text, __FILE__, __LINE__);
    }
}

/* Actor i holds object i of `objects` and wants the next one; the last closes the cycle. Exactly one is told, and when it releases what it holds,
 * the others get theirs, one after the other. */
static void cycle(int count, const int *objects, bool at_once)
{
    int rounds = 3;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < count; i++)
            assert_int_equal(sync_do(&shared->actors[i], ACQUIRE, objects[i], KIN_FOREVER), KIN_OK);
        for (int k = 0; k < count; k++) {
            int i = (k + round) % count;
            /* Also if some wait with a time-out. */
            int64_t patience = i % 3 == 1 ? test_ms(20000) : KIN_FOREVER;
            if (at_once || k == count - 1)
                sync_ask(&shared->actors[i], ACQUIRE, objects[(i + 1) % count], patience);
            else
                sync_ask_asleep(&shared->actors[i], ACQUIRE, objects[(i + 1) % count], patience);
        }
        int told = who_is_told(count);
        assert_true(told >= 0);
        if (shared->actors[told].error != KIN_EDEADLK)
            fail_msg("%s: %s", kin_strerror(shared->actors[told].error), shared->actors[told].said);
        says_all(&shared->actors[told], count, objects);
        for (int i = 0; i < count; i++) {
            if (i != told)
                assert_false(sync_answered(&shared->actors[i]));
        }
        int next = told;
        for (int done = 0; done < count; done++) { /* whoever waits for what it has goes on */
            assert_int_equal(sync_do(&shared->actors[next], RELEASE, objects[next], 0), KIN_OK);
            int freed = next;
            next = (next + count - 1) % count;
            if (next == told)
                break;
            assert_int_equal(sync_answer(&shared->actors[next]), KIN_OK);
            assert_int_equal(sync_do(&shared->actors[next], RELEASE, objects[freed], 0), KIN_OK);
        }
    }
    sync_dismiss(&crew);
}

static void a_cycle_of_two_processes(void **state)
{
    (void)state;
    actors(2, false);
    cycle(2, (const int[]){0, 1}, false);
    actors(2, false);
    cycle(2, (const int[]){0, 1}, true);
}

static void a_cycle_of_two_threads(void **state)
{
    (void)state;
    actors(2, true);
    cycle(2, (const int[]){0, 1}, false);
    actors(2, true);
    cycle(2, (const int[]){0, 1}, true);
}

static void a_cycle_of_three(void **state)
{
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        actors(3, thread != 0);
        cycle(3, (const int[]){4, 0, 2}, false);
        actors(3, thread != 0);
        cycle(3, (const int[]){1, 2, 3}, true);
    }
}

/* Fewer where a process is dear. */
static int many_processes(void)
{
    return test_on_windows() || test_with_sanitizer() ? 6 : ACTORS;
}

static void a_cycle_of_twenty(void **state)
{
    (void)state;
    int all[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        all[i] = (i * 7) % ACTORS;
    for (int thread = 0; thread < 2; thread++) {
        int count = thread != 0 ? ACTORS : many_processes();
        actors(count, thread != 0);
        cycle(count, all, false);
        actors(count, thread != 0);
        cycle(count, all, true);
    }
}

static void a_cycle_over_all_kinds(void **state)
{
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        actors(4, thread != 0);
        cycle(4, (const int[]){0, RLOCK, RWLOCK, 3}, false);
        actors(3, thread != 0);
        cycle(3, (const int[]){RWLOCK, 5, RLOCK}, true);
    }
}

/* A name of `size` - 1 bytes that begins with a number and looks like a format. */
static void make_name(char *name, size_t size, int number)
{
    memset(name, '~', size - 1);
    name[size - 1] = 0;
    memcpy(name, "00 %s%n", 7);
    name[0] = (char)('0' + number / 10);
    name[1] = (char)('0' + number % 10);
}

/* The longest names there can be, also such as look like formats. */
static void a_cycle_with_long_names(void **state)
{
    (void)state;
    int count = many_processes(), told;
    char process[48], lock[40];
    for (int i = 0; i < count; i++) {
        make_name(process, sizeof process, i);
        make_name(lock, sizeof lock, i);
        check(kin_lock_init(&shared->ring[i], &(kin_lock_options){.name = lock}));
        sync_enlist_process_named(&crew, &shared->actors[i], act, KIN_ARGS(segment, i), process);
    }
    for (int i = 0; i < count; i++)
        assert_int_equal(sync_do(&shared->actors[i], ACQUIRE, i, KIN_FOREVER), KIN_OK);
    for (int i = 0; i < count; i++)
        sync_ask(&shared->actors[i], ACQUIRE, (i + 1) % count, KIN_FOREVER);
    told = who_is_told(count);
    assert_true(told >= 0);
    assert_int_equal(shared->actors[told].error, KIN_EDEADLK);
    for (int i = 0; i < count; i++) {
        make_name(lock, sizeof lock, i);
        test_check_says(shared->actors[told].said, lock, __FILE__, __LINE__);
        test_check_says(shared->actors[told].said, shared->actors[i].name, __FILE__, __LINE__);
    }
    for (int done = 0, next = told; done < count; done++) {
        assert_int_equal(sync_answer(&shared->actors[next]), done == 0 ? KIN_EDEADLK : KIN_OK);
        assert_int_equal(sync_do(&shared->actors[next], RELEASE, next, 0), KIN_OK);
        if (done > 0)
            assert_int_equal(sync_do(&shared->actors[next], RELEASE, (next + 1) % count, 0), KIN_OK);
        next = (next + count - 1) % count;
    }
    sync_dismiss(&crew);
}

/* The cycle runs through a lock that changed hands while another slept on it, and through threads that hold very many more. */
static void whoever_has_it_now(int others_held, bool thread)
{
    sync_actor *a = &shared->actors[0], *heir = &shared->actors[1], *waiter = &shared->actors[2];
    actors(3, thread);
    for (int i = 1; i < 3 && others_held > 0; i++)
        assert_int_equal(sync_do(&shared->actors[i], HOLD_MANY, 0, others_held), KIN_OK);
    assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(sync_do(&shared->actors[i], ACQUIRE, i, KIN_FOREVER), KIN_OK);
        sync_ask_asleep(&shared->actors[i], ACQUIRE, 0, KIN_FOREVER);
    }
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    while (!sync_answered(heir) && !sync_answered(waiter))
        uv_sleep(1);
    if (sync_answered(waiter))
        heir = waiter, waiter = &shared->actors[1];
    int of_heir = heir == &shared->actors[1] ? 1 : 2, of_waiter = 3 - of_heir;
    assert_int_equal(sync_answer(heir), KIN_OK);
    assert_false(sync_answered(waiter));
    sync_ask(heir, ACQUIRE, of_waiter, 2000);
    for (int64_t end = kin_now() + test_ms(20000); !sync_answered(heir) && !sync_answered(waiter) && kin_now() < end;)
        uv_sleep(1);
    sync_actor *told = sync_answered(heir) ? heir : waiter;
    assert_int_equal(sync_answer(told), KIN_EDEADLK);
    assert_int_equal(sync_do(told, RELEASE, told == heir ? 0 : of_waiter, 0), KIN_OK);
    assert_int_equal(sync_answer(told == heir ? waiter : heir), KIN_OK);
    sync_dismiss(&crew);
}

static void a_lock_that_changed_hands(void **state)
{
    (void)state;
    whoever_has_it_now(0, false);
    whoever_has_it_now(0, true);
}

static void whoever_holds_very_many(void **state)
{
    (void)state;
    whoever_has_it_now(HELD_MOST, false);
}

/* Chains that run into a cycle are no part of it: who waits outside is not told. */
static void who_waits_outside_is_not_told(void **state)
{
    (void)state;
    actors(5, false);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sync_do(&shared->actors[i], ACQUIRE, i, KIN_FOREVER), KIN_OK);
    for (int i = 2; i < 5; i++)
        assert_int_equal(sync_do(&shared->actors[i], ACQUIRE, i, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(&shared->actors[3], ACQUIRE, 2, KIN_FOREVER);
    sync_ask_asleep(&shared->actors[2], ACQUIRE, 0, KIN_FOREVER);
    sync_ask_asleep(&shared->actors[0], ACQUIRE, 1, KIN_FOREVER);
    sync_ask(&shared->actors[1], ACQUIRE, 0, KIN_FOREVER);
    int told = who_is_told(2);
    assert_true(told == 0 || told == 1);
    assert_int_equal(shared->actors[told].error, KIN_EDEADLK);
    assert_null(strstr(shared->actors[told].said, "number 2"));
    assert_int_equal(sync_do(&shared->actors[4], ACQUIRE, 3, 50), KIN_ETIMEDOUT); /* it comes to a chain with nobody told but one */
    int other = 1 - told;
    assert_int_equal(sync_do(&shared->actors[told], RELEASE, told, 0), KIN_OK);
    if (told == 1) {
        assert_int_equal(sync_answer(&shared->actors[0]), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[0], RELEASE, 1, 0), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[0], RELEASE, 0, 0), KIN_OK);
    } else {
        /* Two waited for what it released: whoever gets it first. */
        while (!sync_answered(&shared->actors[1]) && !sync_answered(&shared->actors[2]))
            uv_sleep(1);
        if (sync_answered(&shared->actors[2]))
            assert_int_equal(sync_do(&shared->actors[2], RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_answer(&shared->actors[other]), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[other], RELEASE, 0, 0), KIN_OK);
    }
    assert_int_equal(sync_answer(&shared->actors[2]), KIN_OK);
    assert_int_equal(sync_do(&shared->actors[2], RELEASE, 2, 0), KIN_OK);
    assert_int_equal(sync_answer(&shared->actors[3]), KIN_OK);
    sync_dismiss(&crew);
}

/* Three locks, always taken in one order: no cycle, whatever the moment. */
static int take_in_order(kin_args *args)
{
    kin_segment *mine;
    int64_t times, seed;
    CHILD_CHECK(kin_unpack(args, &mine, &times, &seed) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times; i++) {
        uint32_t want = 1 + crash_random(&chance, 7); /* a bit for each */
        bool have[3] = {false};
        for (int k = 0; k < 3; k++) {
            if ((want >> k & 1) == 0)
                continue;
            uint32_t how = crash_random(&chance, 16);
            kin_err err = kin_lock_acquire(&s->ring[k], how == 0 ? KIN_NOWAIT : how == 1 ? 1 : how < 8 ? test_ms(20000) : KIN_FOREVER);
            if (err == KIN_EDEADLK)
                kin__add32(&s->alarms, 1);
            CHILD_CHECK(err == KIN_OK || (err == KIN_ETIMEDOUT && how < 2));
            have[k] = err == KIN_OK;
        }
        if (i % 128 == 0)
            crash_spin_us(crash_random(&chance, 1500)); /* past the time-outs of others */
        for (int k = 0; k < 3; k++) {
            int at = i % 2 == 0 ? k : 2 - k; /* released in any order */
            if (have[at])
                CHILD_CHECK(kin_lock_release(&s->ring[at]) == KIN_OK);
        }
    }
    return 0;
}

static void no_false_alarm(void **state)
{
    (void)state;
    kin_process *children[4];
    int64_t times = test_scale(50000, 4000);
    actors(0, false);
    for (int64_t i = 0; i < 4; i++)
        children[i] = test_start(take_in_order, KIN_ARGS(segment, times, i + 17));
    int bad = 0;
    for (int i = 0; i < 4; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(shared->alarms, 0);
    assert_int_equal(bad, 0);
}

/* Two locks taken in both orders for as long as it takes: each cycle is found and told to one, so all get to the end. */
static int take_in_any_order(kin_args *args)
{
    kin_segment *mine;
    int64_t times, seed;
    CHILD_CHECK(kin_unpack(args, &mine, &times, &seed) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times;) {
        int first = (int)crash_random(&chance, 3), second = (first + 1 + (int)crash_random(&chance, 2)) % 3;
        CHILD_CHECK(kin_lock_acquire(&s->ring[first], KIN_FOREVER) == KIN_OK); /* holding nothing it cannot close a cycle */
        if (crash_random(&chance, 8) == 0)
            crash_spin_us(200); /* so that others come to want it */
        kin_err err = kin_lock_acquire(&s->ring[second], KIN_FOREVER);
        if (err == KIN_OK) {
            i++;
            s->first++;
            CHILD_CHECK(kin_lock_release(&s->ring[second]) == KIN_OK);
        } else {
            CHILD_CHECK(err == KIN_EDEADLK);
            CHILD_CHECK(!kin_lock_held(&s->ring[second]) && kin_lock_held(&s->ring[first]));
            kin__add32(&s->alarms, 1);
        }
        CHILD_CHECK(kin_lock_release(&s->ring[first]) == KIN_OK);
    }
    return 0;
}

static void every_cycle_is_found(void **state)
{
    (void)state;
    kin_process *children[4];
    int64_t times = test_scale(5000, 500);
    actors(0, false);
    for (int64_t i = 0; i < 4; i++)
        children[i] = test_start(take_in_any_order, KIN_ARGS(segment, times, i + 29));
    int bad = 0;
    for (int i = 0; i < 4; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
    print_message("%lu deadlocks\n", (unsigned long)shared->alarms);
}

/* ---- order ---- */

static void first_come_first_served(void **state)
{
    (void)state;
    static const int turns[] = {2, 0, 4, 1, 3};
    int rounds = test_scale(30, 5), otherwise = 0;
    actors(5, false);
    for (int round = 0; round < rounds; round++) {
        shared->ordered = 0;
        check(kin_lock_acquire(&shared->ring[7], KIN_NOWAIT));
        for (int i = 0; i < 5; i++)
            sync_ask_asleep(&shared->actors[turns[(i + round) % 5]], ACQUIRE_AND_NOTE, 7, i);
        check(kin_lock_release(&shared->ring[7]));
        for (int i = 0; i < 5; i++)
            assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
        bool in_order = true;
        for (uint32_t i = 0; i < 5; i++)
            in_order = in_order && shared->order[i] == i;
        otherwise += !in_order;
    }
    assert_true(otherwise <= 1 + rounds / 10); /* the late news of a death wakes all at once: who runs then may be faster */
    sync_dismiss(&crew);
}

/* ---- very many ---- */

enum { LOCKS = 10000, LIST = 1000 };

static void ten_thousand_locks(void **state)
{
    (void)state;
    static kin_lock *locks[LOCKS];
    int count = 0, wanted = test_scale(LOCKS, 1500), handles = test_count_handles();
    kin_err err = KIN_OK;
    while (count < wanted && (err = kin_lock_create(&locks[count], NULL)) == KIN_OK)
        count++;
    if (count < wanted) {
        assert_int_equal(err, KIN_EMFILE);
        print_message("the system allows %d\n", count);
    }
    assert_true(count > 500);
    for (int i = 0; i < count; i++)
        check(kin_lock_acquire(locks[i], i % 2 == 0 ? KIN_NOWAIT : KIN_FOREVER));
    for (int i = 0; i < count; i++)
        check_fails(KIN_EDEADLK, kin_lock_acquire(locks[i], KIN_NOWAIT));
    for (int i = 0; i < count; i++) { /* not in the order they were taken in */
        int at = (int)((int64_t)i * 7919 % count);
        if (kin_lock_held(locks[at]))
            check(kin_lock_release(locks[at]));
    }
    for (int i = 0; i < count; i++) {
        if (kin_lock_held(locks[i]))
            check(kin_lock_release(locks[i]));
        check_fails(KIN_EPERM, kin_lock_release(locks[i]));
        kin_lock_close(locks[i]);
    }
    assert_true(test_count_handles() <= handles + 8);
}

static int look_at_a_list(kin_args *args)
{
    kin_args *list;
    kin_lock *lock;
    int64_t count, step;
    CHILD_CHECK(kin_unpack(args, &list, &count, &step) == KIN_OK);
    CHILD_CHECK(kin_args_count(list) == (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        CHILD_CHECK(kin_args_get(list, (size_t)i, KIN_OUT(&lock)) == KIN_OK);
        CHILD_CHECK(kin_lock_acquire(lock, KIN_NOWAIT) == (i % step == 0 ? KIN_ETIMEDOUT : KIN_OK));
        CHILD_CHECK(kin_lock_release(lock) == (i % step == 0 ? KIN_EPERM : KIN_OK));
        kin_lock_close(lock);
    }
    return 0;
}

static void passing_a_list_of_1000_locks(void **state)
{
    (void)state;
    static kin_lock *locks[LIST];
    static kin_any items[LIST];
    int64_t count = test_scale(LIST, 300), step = 7;
    if (test_with_sanitizer())
        count = LIST;
    for (int64_t i = 0; i < count; i++) {
        check(kin_lock_create(&locks[i], NULL));
        items[i] = KIN_ANY(locks[i]);
        if (i % step == 0)
            check(kin_lock_acquire(locks[i], KIN_NOWAIT));
    }
    assert_int_equal(test_run(look_at_a_list, KIN_ARGS(kin_list(((kin_pack){items, (size_t)count})), count, step)), 0);
    for (int64_t i = 0; i < count; i++) {
        assert_true(kin_lock_held(locks[i]) == (i % step == 0));
        kin_lock_close(locks[i]); /* held or not */
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    test_allow_handles(LOCKS + 1000);
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
        TEST(a_cycle_of_two_processes),
        TEST(a_cycle_of_two_threads),
        TEST(a_cycle_of_three),
        TEST(a_cycle_of_twenty),
        TEST(a_cycle_over_all_kinds),
        TEST(a_cycle_with_long_names),
        TEST(a_lock_that_changed_hands),
        TEST(whoever_holds_very_many),
        TEST(who_waits_outside_is_not_told),
        TEST(no_false_alarm),
        TEST(every_cycle_is_found),
        TEST(first_come_first_served),
        TEST(ten_thousand_locks),
        TEST(passing_a_list_of_1000_locks),
    };
    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
