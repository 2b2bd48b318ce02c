/* kin/filelock.h as long as nobody is killed; see tests/crash/filelock_death_test.c for the rest. */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* What the processes share. The first two words are plain: only the lock keeps them equal. */
struct shared {
    uint64_t first, second;
    uint32_t ready, go;
};

static kin_segment *segment;
static struct shared *shared;
static char path[256];
static kin_filelock *lock;
static kin_err before_init;

static void remove_file(const char *name)
{
    uv_fs_t request;
    (void)uv_fs_unlink(NULL, &request, name, NULL);
    uv_fs_req_cleanup(&request);
}

static bool exists(const char *name)
{
    uv_fs_t request;
    int result = uv_fs_stat(NULL, &request, name, NULL);
    uv_fs_req_cleanup(&request);
    return result == 0;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    (void)snprintf(path, sizeof path, "%s", test_file("filelock"));
    remove_file(path);
    check(kin_filelock_open(&lock, path));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_filelock_close(lock);
    remove_file(path);
    kin_segment_close(segment);
    return 0;
}

/* In a child: what setup has made in the parent. */
static bool attach(kin_args *args)
{
    const char *name;
    if (kin_args_get(args, 0, KIN_OUT(&segment)) != KIN_OK || kin_args_get(args, 1, KIN_OUT(&name)) != KIN_OK)
        return false;
    shared = kin_segment_data(segment);
    return kin_filelock_open(&lock, name) == KIN_OK;
}

/* ---- what children do ---- */

/* Tries once, and says with its exit code how that went. */
static int try(kin_args *args)
{
    CHILD_CHECK(attach(args));
    kin_err err = kin_filelock_acquire(lock, KIN_NOWAIT);
    CHILD_CHECK(kin_filelock_held(lock) == (err == KIN_OK));
    if (err == KIN_OK)
        CHILD_CHECK(kin_filelock_release(lock) == KIN_OK);
    return err;
}

/* How another process finds the file. */
static kin_err tried(void) { return test_run(try, KIN_ARGS(segment, path)); }

static int hold_until_told(kin_args *args)
{
    CHILD_CHECK(attach(args));
    CHILD_CHECK(kin_filelock_acquire(lock, KIN_FOREVER) == KIN_OK);
    kin__add32(&shared->ready, 1);
    CHILD_CHECK(crash_until_at_least(&shared->go, 1));
    CHILD_CHECK(kin_filelock_held(lock));
    CHILD_CHECK(kin_filelock_release(lock) == KIN_OK);
    kin_filelock_close(lock);
    return 0;
}

static kin_process *start_holder(void)
{
    kin_process *p = test_start(hold_until_told, KIN_ARGS(segment, path));
    assert_true(crash_until_at_least(&shared->ready, 1));
    return p;
}

static int count_up(kin_args *args)
{
    int64_t times, timeout_ms;
    CHILD_CHECK(attach(args));
    CHILD_CHECK(kin_args_get(args, 2, KIN_OUT(&times)) == KIN_OK &&
                kin_args_get(args, 3, KIN_OUT(&timeout_ms)) == KIN_OK);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_filelock_acquire(lock, timeout_ms) == KIN_OK);
        CHILD_CHECK(shared->first == shared->second);
        shared->first++;
        if (i % 16 == 0)
            crash_spin_us(20); /* long enough for another CPU to run into it */
        shared->second++;
        CHILD_CHECK(kin_filelock_release(lock) == KIN_OK);
    }
    kin_filelock_close(lock);
    return 0;
}

/* ---- mutual exclusion ---- */

static void one_at_a_time(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    kin_process *children[PROCESSES];
    int64_t times = test_scale(1000, 50);
    for (int i = 0; i < PROCESSES; i++)
        children[i] = test_start(count_up, KIN_ARGS(segment, path, times, i == 0 ? test_ms(20000) : KIN_FOREVER));
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_true(shared->first == (uint64_t)(PROCESSES * times));
    assert_true(shared->second == shared->first);
}

/* Those who wait with a time-out sleep between their tries, and get it all the same. */
static void one_at_a_time_with_time_outs(void **state)
{
    (void)state;
    enum { PROCESSES = 3 };
    kin_process *children[PROCESSES];
    int64_t times = test_scale(100, 20);
    for (int i = 0; i < PROCESSES; i++)
        children[i] = test_start(count_up, KIN_ARGS(segment, path, times, test_ms(20000)));
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_true(shared->first == (uint64_t)(PROCESSES * times));
}

struct work {
    kin_filelock *lock;
    int times;
    kin_err worst;
};

static void count_up_in_thread(void *arg)
{
    struct work *w = arg;
    for (int i = 0; i < w->times; i++) {
        kin_err err = kin_filelock_acquire(w->lock, i % 2 == 0 ? KIN_FOREVER : test_ms(20000));
        if (err != KIN_OK) {
            w->worst = err;
            return;
        }
        shared->first++;
        shared->second++;
        (void)kin_filelock_release(w->lock);
    }
}

static void run_threads(bool own_lock_each)
{
    enum { THREADS = 4 };
    uv_thread_t threads[THREADS];
    struct work work[THREADS];
    int times = test_scale(500, 30);
    for (int i = 0; i < THREADS; i++) {
        work[i] = (struct work){.lock = lock, .times = times};
        if (own_lock_each)
            check(kin_filelock_open(&work[i].lock, path));
        assert_int_equal(uv_thread_create(&threads[i], count_up_in_thread, &work[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(uv_thread_join(&threads[i]), 0);
        assert_int_equal(work[i].worst, KIN_OK);
        if (own_lock_each)
            kin_filelock_close(work[i].lock);
    }
    assert_true(shared->first == (uint64_t)(THREADS * times));
    assert_true(shared->second == shared->first);
}

static void threads_of_one_process(void **state)
{
    (void)state;
    run_threads(false);
}

/* The file is what excludes, not the object. */
static void threads_with_a_lock_each(void **state)
{
    (void)state;
    run_threads(true);
}

/* ---- waiting ---- */

static void time_outs(void **state)
{
    (void)state;
    kin_process *owner = start_holder();
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, KIN_NOWAIT));
    check_says(path);
    int64_t before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, 50));
    assert_true(kin_now() - before >= 49); /* two clocks of whole milliseconds */
    check_says(path);
    check_says("50 ms");
    for (int i = 0; i < 20; i++)
        check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, 1));
    assert_false(kin_filelock_held(lock));
    check_fails(KIN_EPERM, kin_filelock_release(lock));
    kin__store32(&shared->go, 1);
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    check(kin_filelock_release(lock));
    assert_int_equal(test_finish(owner), 0);
}

static int take(kin_args *args)
{
    int64_t timeout_ms;
    CHILD_CHECK(attach(args) && kin_args_get(args, 2, KIN_OUT(&timeout_ms)) == KIN_OK);
    kin__add32(&shared->ready, 1);
    CHILD_CHECK(kin_filelock_acquire(lock, timeout_ms) == KIN_OK);
    shared->first++;
    CHILD_CHECK(kin_filelock_release(lock) == KIN_OK);
    return 0;
}

static void a_release_lets_all_who_wait_in(void **state)
{
    (void)state;
    enum { WAITERS = 4 };
    kin_process *waiters[WAITERS];
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = test_start(take, KIN_ARGS(segment, path, i % 2 == 0 ? KIN_FOREVER : test_ms(20000)));
    assert_true(crash_until_at_least(&shared->ready, WAITERS));
    assert_true(crash_until_file_waiters(path, WAITERS / 2));
    assert_true(shared->first == 0);
    check(kin_filelock_release(lock));
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(test_finish(waiters[i]), 0);
    assert_true(shared->first == WAITERS);
}

/* ---- misuse ---- */

static void taking_it_twice(void **state)
{
    (void)state;
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    check_fails(KIN_EDEADLK, kin_filelock_acquire(lock, KIN_FOREVER));
    check_says(path);
    check_fails(KIN_EDEADLK, kin_filelock_acquire(lock, KIN_NOWAIT));
    assert_true(kin_filelock_held(lock));
    assert_int_equal(tried(), KIN_ETIMEDOUT);
    check(kin_filelock_release(lock));
    check_fails(KIN_EPERM, kin_filelock_release(lock));
    check_says(path);
    assert_int_equal(tried(), KIN_OK);
}

struct threads_try {
    kin_err released, taken;
    bool held, says_thread;
};

static void thread_releases_anothers(void *arg)
{
    struct threads_try *t = arg;
    t->held = kin_filelock_held(lock);
    t->released = kin_filelock_release(lock);
    t->taken = kin_filelock_acquire(lock, 20);
    t->says_thread = strstr(kin_last_error(), "another thread of this process") != NULL;
}

static void releasing_what_another_holds(void **state)
{
    (void)state;
    check_fails(KIN_EPERM, kin_filelock_release(lock)); /* nobody does */
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    uv_thread_t thread;
    struct threads_try t = {0};
    assert_int_equal(uv_thread_create(&thread, thread_releases_anothers, &t), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_false(t.held);
    assert_int_equal(t.released, KIN_EPERM);
    assert_int_equal(t.taken, KIN_ETIMEDOUT);
    assert_true(t.says_thread);
    assert_true(kin_filelock_held(lock));
    assert_int_equal(tried(), KIN_ETIMEDOUT);
    check(kin_filelock_release(lock));
}

static void wrong_arguments(void **state)
{
    (void)state;
    kin_filelock *none = NULL;
    check_fails(KIN_EINVAL, kin_filelock_open(NULL, path));
    check_fails(KIN_EINVAL, kin_filelock_open(&none, NULL));
    check_fails(KIN_EINVAL, kin_filelock_open(&none, ""));
    assert_null(none);
    check_fails(KIN_EINVAL, kin_filelock_acquire(NULL, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_filelock_release(NULL));
    assert_false(kin_filelock_held(NULL));
    kin_filelock_close(NULL);
    /* Memory that is no file lock. */
    static uint64_t zeros[32];
    check_fails(KIN_EINVAL, kin_filelock_acquire((kin_filelock *)(void *)zeros, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_filelock_release((kin_filelock *)(void *)zeros));
    assert_false(kin_filelock_held((kin_filelock *)(void *)zeros));
    kin_filelock_close((kin_filelock *)(void *)zeros);
    /* Checked whether it would have to wait or not. */
    check_fails(KIN_EINVAL, kin_filelock_acquire(lock, -2));
    check_fails(KIN_EINVAL, kin_filelock_acquire(lock, INT64_MIN));
    check_says(path);
    assert_false(kin_filelock_held(lock));
    assert_false(exists(path)); /* none of these has opened it */
    check(kin_filelock_acquire(lock, INT64_MAX));
    check_fails(KIN_EINVAL, kin_filelock_acquire(lock, -2));
    assert_true(kin_filelock_held(lock));
    check(kin_filelock_release(lock));
}

static void before_kin_init(void **state)
{
    (void)state;
    assert_int_equal(before_init, KIN_ESTATE);
}

static void closing_it_while_held(void **state)
{
    (void)state;
    kin_filelock *other;
    check(kin_filelock_open(&other, path));
    check(kin_filelock_acquire(other, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, KIN_NOWAIT));
    kin_filelock_close(other);
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    check(kin_filelock_release(lock));
    assert_int_equal(tried(), KIN_OK);
}

static void nothing_stays_open(void **state)
{
    (void)state;
    check(kin_filelock_acquire(lock, KIN_NOWAIT)); /* what is opened once stays */
    check(kin_filelock_release(lock));
    kin_filelock *other;
    check(kin_filelock_open(&other, path));
    int before = test_count_handles();
    for (int i = 0; i < 20; i++) {
        check(kin_filelock_acquire(other, i % 2 == 0 ? KIN_NOWAIT : KIN_FOREVER));
        check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, i % 3));
        check(kin_filelock_release(other));
    }
    assert_int_equal(test_count_handles(), before);
    assert_false(test_has_open(path));
    check(kin_filelock_acquire(other, KIN_NOWAIT));
    assert_true(test_has_open(path));
    kin_filelock_close(other);
    assert_int_equal(test_count_handles(), before);
}

/* ---- a process or a thread ends ---- */

static int return_holding(kin_args *args)
{
    CHILD_CHECK(attach(args) && kin_filelock_acquire(lock, KIN_FOREVER) == KIN_OK);
    return 5;
}

static int exit_holding(kin_args *args)
{
    CHILD_CHECK(attach(args) && kin_filelock_acquire(lock, KIN_FOREVER) == KIN_OK);
    exit(6);
}

static int end_at_once_holding(kin_args *args)
{
    CHILD_CHECK(attach(args) && kin_filelock_acquire(lock, KIN_FOREVER) == KIN_OK);
    crash_end(7);
    return 0;
}

static void exit_while_holding(void **state)
{
    (void)state;
    assert_int_equal(test_run(return_holding, KIN_ARGS(segment, path)), 5);
    check(kin_filelock_acquire(lock, test_ms(20000)));
    check(kin_filelock_release(lock));
    assert_int_equal(test_run(exit_holding, KIN_ARGS(segment, path)), 6);
    check(kin_filelock_acquire(lock, test_ms(20000)));
    check(kin_filelock_release(lock));
    assert_int_equal(test_run(end_at_once_holding, KIN_ARGS(segment, path)), 7);
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    check(kin_filelock_release(lock));
}

static void acquire_and_end(void *arg) { *(kin_err *)arg = kin_filelock_acquire(lock, KIN_FOREVER); }

static void a_thread_ends_while_holding(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        uv_thread_t thread;
        kin_err err = KIN_EIO;
        assert_int_equal(uv_thread_create(&thread, acquire_and_end, &err), 0);
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_int_equal(err, KIN_OK);
        assert_int_equal(tried(), KIN_ETIMEDOUT); /* for others the process holds it */
        check_fails(KIN_EPERM, kin_filelock_release(lock));
        check_fails(KIN_EOWNERDEAD, kin_filelock_acquire(lock, round == 0   ? KIN_NOWAIT
                                                               : round == 1 ? KIN_FOREVER
                                                                            : 1000));
        check_says(path);
        assert_true(kin_filelock_held(lock));
        assert_int_equal(tried(), KIN_ETIMEDOUT);
        check_fails(KIN_EDEADLK, kin_filelock_acquire(lock, KIN_NOWAIT));
        check(kin_filelock_release(lock));
        assert_int_equal(tried(), KIN_OK);
    }
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    check(kin_filelock_release(lock));
}

static void hold_and_end(void *arg)
{
    *(kin_err *)arg = kin_filelock_acquire(lock, KIN_FOREVER);
    kin__store32(&shared->ready, 1);
    (void)crash_until_at_least(&shared->go, 1);
}

static void inherit(void *arg)
{
    kin__store32(&shared->go, 1);
    *(kin_err *)arg = kin_filelock_acquire(lock, test_ms(20000));
    if (kin_filelock_held(lock))
        (void)kin_filelock_release(lock);
}

static void a_thread_ends_while_another_waits(void **state)
{
    (void)state;
    uv_thread_t owner, heir;
    kin_err owned = KIN_EIO, inherited = KIN_EIO;
    assert_int_equal(uv_thread_create(&owner, hold_and_end, &owned), 0);
    assert_true(crash_until_at_least(&shared->ready, 1));
    assert_int_equal(uv_thread_create(&heir, inherit, &inherited), 0);
    assert_int_equal(uv_thread_join(&owner), 0);
    assert_int_equal(uv_thread_join(&heir), 0);
    assert_int_equal(owned, KIN_OK);
    assert_int_equal(inherited, KIN_EOWNERDEAD);
    assert_int_equal(tried(), KIN_OK);
}

/* What a thread that ended left locked is unlocked with the object. */
static void closing_it_after_its_thread_has_ended(void **state)
{
    (void)state;
    uv_thread_t thread;
    kin_err err = KIN_EIO;
    assert_int_equal(uv_thread_create(&thread, acquire_and_end, &err), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(err, KIN_OK);
    kin_filelock_close(lock);
    check(kin_filelock_open(&lock, path));
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    check(kin_filelock_release(lock));
}

static int look_in_copy(void)
{
    bool refused = kin_filelock_acquire(lock, KIN_NOWAIT) == KIN_ESTATE && kin_filelock_release(lock) == KIN_ESTATE;
    bool held = kin_filelock_held(lock);
    kin_filelock *other;
    bool opened = kin_filelock_open(&other, path) == KIN_OK;
    kin_filelock_close(lock);
    return refused && !held && !opened ? 0 : 1;
}

static void a_plain_copy_of_the_owner(void **state)
{
    (void)state;
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    int result = test_in_copy(look_in_copy);
    bool held = kin_filelock_held(lock);
    kin_err seen = tried();
    check(kin_filelock_release(lock));
    if (result == -1)
        test_skip("this system has no plain fork()");
    assert_int_equal(result, 0);
    assert_true(held);
    assert_int_equal(seen, KIN_ETIMEDOUT); /* its close has released nothing */
    assert_int_equal(tried(), KIN_OK);
}

static int has_it_open(kin_args *args)
{
    const char *name;
    CHILD_CHECK(kin_args_get(args, 1, KIN_OUT(&name)) == KIN_OK);
    return test_has_open(name) ? 1 : 0;
}

static void a_child_does_not_have_the_file(void **state)
{
    (void)state;
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    assert_int_equal(test_run(has_it_open, KIN_ARGS(segment, path)), 0);
    check(kin_filelock_release(lock));
}

/* ---- the file ---- */

static void it_is_created_and_never_written(void **state)
{
    (void)state;
    char text[32] = "";
    assert_false(exists(path));
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    assert_true(exists(path));
    check(kin_filelock_release(lock));
    assert_true(exists(path));
    write_file(path, "as before");
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    check(kin_filelock_release(lock));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_string_equal(fgets(text, sizeof text, f), "as before");
    (void)fclose(f);
}

/* The file of those who wait goes; they all lock the one that takes its place, one after the other. */
static void while_somebody_waits(void (*change)(void))
{
    enum { WAITERS = 3 };
    kin_process *waiters[WAITERS];
    int64_t times = 20;
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = test_start(count_up, KIN_ARGS(segment, path, times, i == 0 ? test_ms(20000) : KIN_FOREVER));
    assert_true(crash_until_file_waiters(path, WAITERS - 1));
    change();
    check(kin_filelock_release(lock));
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(test_finish(waiters[i]), 0);
    assert_true(shared->first == (uint64_t)(WAITERS * times) && shared->second == shared->first);
    assert_true(exists(path));
    assert_int_equal(tried(), KIN_OK);
}

static void remove_it(void) { remove_file(path); }

static void removed_while_somebody_waits(void **state)
{
    (void)state;
    while_somebody_waits(remove_it);
}

static int replaced;

static void replace_it(void)
{
    uv_fs_t request;
    const char *other = test_file("filelock_other");
    write_file(other, "another");
    replaced = uv_fs_rename(NULL, &request, other, path, NULL);
    uv_fs_req_cleanup(&request);
    remove_file(other);
}

static void replaced_while_somebody_waits(void **state)
{
    (void)state;
    while_somebody_waits(replace_it);
    if (replaced != 0 && test_on_windows())
        test_skip("this system replaces no file that is open");
    assert_int_equal(replaced, 0);
}

/* It is the new file that the one who waited has locked. */
static void the_new_file_is_what_is_locked(void **state)
{
    (void)state;
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    kin_process *heir = test_start(hold_until_told, KIN_ARGS(segment, path));
    assert_true(crash_until_file_waiters(path, 1));
    remove_file(path);
    check(kin_filelock_release(lock));
    assert_true(crash_until_at_least(&shared->ready, 1));
    assert_true(exists(path));
    assert_int_equal(tried(), KIN_ETIMEDOUT);
    kin__store32(&shared->go, 1);
    assert_int_equal(test_finish(heir), 0);
    assert_int_equal(tried(), KIN_OK);
}

static void no_such_folder(void **state)
{
    (void)state;
    kin_filelock *other;
    char name[300];
    (void)snprintf(name, sizeof name, "%s/lock", test_file("nowhere"));
    check(kin_filelock_open(&other, name));
    for (int i = 0; i < 3; i++) {
        check_fails(KIN_ENOENT, kin_filelock_acquire(other, i == 0 ? KIN_NOWAIT : i == 1 ? 1000 : KIN_FOREVER));
        check_says(name);
        assert_false(kin_filelock_held(other));
        check_fails(KIN_EPERM, kin_filelock_release(other));
    }
    kin_filelock_close(other);
}

static void a_folder(void **state)
{
    (void)state;
    uv_fs_t request;
    kin_filelock *other;
    const char *name = test_file("folder");
    assert_int_equal(uv_fs_mkdir(NULL, &request, name, 0700, NULL), 0);
    check(kin_filelock_open(&other, name));
    check_fails(KIN_EIO, kin_filelock_acquire(other, KIN_FOREVER));
    check_says("directory");
    check_says(name);
    kin_filelock_close(other);
    assert_int_equal(uv_fs_rmdir(NULL, &request, name, NULL), 0);
}

static void a_fifo(void **state)
{
    (void)state;
    char command[300];
    const char *name = test_file("fifo");
    if (test_on_windows())
        test_skip("no FIFOs among the files of this system");
    (void)snprintf(command, sizeof command, "mkfifo %s", name);
    if (system(command) != 0)
        test_skip("there is no command mkfifo");
    kin_filelock *other;
    check(kin_filelock_open(&other, name));
    check_fails(KIN_EIO, kin_filelock_acquire(other, KIN_FOREVER));
    check_says("FIFO");
    check_says(name);
    kin_filelock_close(other);
    remove_file(name);
}

/* Another user's file: who may read it can lock it, who may not is told so. */
static int try_without_privileges(kin_args *args)
{
    CHILD_CHECK(attach(args));
    CHILD_CHECK(crash_give_up_privileges());
    return kin_filelock_acquire(lock, KIN_FOREVER);
}

static int change_mode(const char *name, int mode)
{
    uv_fs_t request;
    int result = uv_fs_chmod(NULL, &request, name, mode, NULL);
    uv_fs_req_cleanup(&request);
    return result;
}

static void permissions(void **state)
{
    (void)state;
    if (test_on_windows())
        test_skip("this process cannot give up its privileges here");
    write_file(path, "");
    assert_int_equal(change_mode(path, 0444), 0);
    int readable = test_run(try_without_privileges, KIN_ARGS(segment, path));
    assert_int_equal(change_mode(path, 0), 0);
    int unreadable = test_run(try_without_privileges, KIN_ARGS(segment, path));
    assert_int_equal(change_mode(path, 0600), 0);
    assert_int_equal(unreadable, KIN_EPERM);
    assert_int_equal(readable, KIN_OK);
}

static void a_write_protected_file(void **state)
{
    (void)state;
    write_file(path, "");
    assert_int_equal(change_mode(path, 0444), 0);
    kin_err err = kin_filelock_acquire(lock, KIN_FOREVER);
    kin_err seen = tried();
    assert_int_equal(change_mode(path, 0644), 0);
    assert_int_equal(err, KIN_OK);
    assert_int_equal(seen, KIN_ETIMEDOUT);
    check(kin_filelock_release(lock));
}

static void a_path_in_utf8(void **state)
{
    (void)state;
    /* Longer than the name of an inner lock, which must not cut a character in two. */
    (void)snprintf(path, sizeof path, "%s",
                   test_file("Schlo\xc3\x9f-\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87-\xe9\x8d\xb5-\xf0\x9f\x94\x92"));
    kin_filelock_close(lock);
    check(kin_filelock_open(&lock, path));
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    assert_true(exists(path));
    assert_int_equal(tried(), KIN_ETIMEDOUT);
    check_fails(KIN_EDEADLK, kin_filelock_acquire(lock, KIN_FOREVER));
    check_says(path);
    check(kin_filelock_release(lock));
    assert_int_equal(tried(), KIN_OK);
}

static void a_path_that_is_no_utf8(void **state)
{
    (void)state;
    if (!test_on_windows())
        test_skip("to this system a path is any bytes");
    kin_filelock *other;
    check(kin_filelock_open(&other, "lock\xff\xfe.tmp"));
    check_fails(KIN_EINVAL, kin_filelock_acquire(other, KIN_NOWAIT));
    kin_filelock_close(other);
}

static void the_path_is_copied(void **state)
{
    (void)state;
    char name[256];
    kin_filelock *other;
    (void)snprintf(name, sizeof name, "%s", path);
    check(kin_filelock_open(&other, name));
    memset(name, 'x', sizeof name - 1);
    check(kin_filelock_acquire(other, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_filelock_acquire(lock, KIN_NOWAIT));
    kin_filelock_close(other);
}

/* ---- with other programs ---- */

/* How the command `flock -n <the file> <what>` ends: 0 if it has locked it, and `what` went well. */
static int under_flock(const char *what)
{
    char command[5000];
    int n = snprintf(command, sizeof command, "flock -n -o '%s' %s", path, what);
    assert_true(n > 0 && (size_t)n < sizeof command);
    return system(command);
}

/* This program, run by the flock command, which has locked the file: the exit code is how it finds it. */
static int program_tries(const char *name)
{
    kin_filelock *mine;
    if (kin_filelock_open(&mine, name) != KIN_OK)
        return 99;
    kin_err err = kin_filelock_acquire(mine, KIN_NOWAIT);
    kin_filelock_close(mine);
    return err == KIN_ETIMEDOUT ? 0 : 98;
}

static void the_flock_command(void **state)
{
    (void)state;
    char program[4096], what[4600];
    size_t size = sizeof program;
    if (test_on_windows())
        test_skip("no flock command on this system");
    if (test_emulated())
        test_skip("the command would have to start this program anew, which the emulator cannot");
    if (system("flock --version >/dev/null 2>&1") != 0)
        test_skip("there is no flock command here");
    assert_int_equal(uv_exepath(program, &size), 0);
    (void)snprintf(what, sizeof what, "'%s' try '%s'", program, path);
    check(kin_filelock_acquire(lock, KIN_FOREVER));
    assert_int_not_equal(under_flock("true"), 0);
    check(kin_filelock_release(lock));
    assert_int_equal(under_flock("true"), 0);
    assert_int_equal(under_flock(what), 0);
    check(kin_filelock_acquire(lock, KIN_NOWAIT));
    check(kin_filelock_release(lock));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    kin_filelock *early;
    before_init = kin_filelock_open(&early, "early.tmp");
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (argc > 2 && strcmp(argv[1], "try") == 0)
        return program_tries(argv[2]);
    const struct CMUnitTest tests[] = {
        TEST(one_at_a_time),
        TEST(one_at_a_time_with_time_outs),
        TEST(threads_of_one_process),
        TEST(threads_with_a_lock_each),
        TEST(time_outs),
        TEST(a_release_lets_all_who_wait_in),
        TEST(taking_it_twice),
        TEST(releasing_what_another_holds),
        TEST(wrong_arguments),
        TEST(before_kin_init),
        TEST(closing_it_while_held),
        TEST(nothing_stays_open),
        TEST(exit_while_holding),
        TEST(a_thread_ends_while_holding),
        TEST(a_thread_ends_while_another_waits),
        TEST(closing_it_after_its_thread_has_ended),
        TEST(a_plain_copy_of_the_owner),
        TEST(a_child_does_not_have_the_file),
        TEST(it_is_created_and_never_written),
        TEST(removed_while_somebody_waits),
        TEST(replaced_while_somebody_waits),
        TEST(the_new_file_is_what_is_locked),
        TEST(no_such_folder),
        TEST(a_folder),
        TEST(a_fifo),
        TEST(permissions),
        TEST(a_write_protected_file),
        TEST(a_path_in_utf8),
        TEST(a_path_that_is_no_utf8),
        TEST(the_path_is_copied),
        TEST(the_flock_command),
    };
    return cmocka_run_group_tests_name("filelock", tests, NULL, NULL);
}
