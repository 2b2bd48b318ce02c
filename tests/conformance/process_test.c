/* kin/process.h: starting, joining and ending processes; what a child has and has not; who ends with whom. */
#include "support.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define FILE_NAME test_file("process_test")
#define FILE_NAME_2 test_file("process_test.2")

/* ---- targets that several tests use ---- */

static int target_return(kin_args *args)
{
    int code;
    CHILD_CHECK(kin_unpack(args, &code) == KIN_OK);
    return code;
}

/* Waits at a gate, then ends with 5. */
static int target_wait(kin_args *args)
{
    kin_lock *gate;
    CHILD_CHECK(kin_unpack(args, &gate) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    kin_lock_close(gate);
    return 5;
}

/* Ends only by force; but not never, should a test fail. */
static int target_for_ever(kin_args *args)
{
    (void)args;
    for (int64_t end = kin_now() + test_ms(60000); kin_now() < end;)
        uv_sleep(10);
    return 98;
}

/* ---- start, join, alive ---- */

static void start_and_join(void **state)
{
    int code = -1;
    (void)state;
    kin_process *p = NULL;
    check(kin_process_start(&p, target_return, KIN_ARGS(7), NULL));
    check(kin_process_join(p, KIN_FOREVER));
    assert_false(kin_process_alive(p));
    check(kin_process_exit_code(p, &code));
    assert_int_equal(code, 7);
    check(kin_process_join(p, KIN_FOREVER)); /* and may again */
    check(kin_process_join(p, KIN_NOWAIT));
    check(kin_process_join(p, 10));
    code = -1;
    check(kin_process_exit_code(p, &code));
    assert_int_equal(code, 7);
    kin_process_close(p);
}

static void running(void **state)
{
    int code = -77;
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *p = test_start(target_wait, KIN_ARGS(gate));
    assert_true(kin_process_alive(p));
    check_fails(KIN_ETIMEDOUT, kin_process_join(p, KIN_NOWAIT));
    int64_t before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_process_join(p, 30));
    assert_true(kin_now() - before >= 29); /* the clock here cuts off, the time-out is rounded up */
    check_says(kin_process_name(p));
    check_fails(KIN_ETIMEDOUT, kin_process_exit_code(p, &code));
    assert_int_equal(code, -77);
    assert_true(kin_process_alive(p));
    test_open(gate);
    assert_int_equal(test_finish(p), 5);
    kin_lock_close(gate);
}

static int target_pids(kin_args *args)
{
    kin_value *pid, *parent;
    CHILD_CHECK(kin_unpack(args, &pid, &parent) == KIN_OK);
    CHILD_CHECK(kin_current_pid() == uv_os_getpid());
    kin_value_set_i64(pid, kin_current_pid());
    kin_value_set_i64(parent, kin_parent_pid());
    kin_value_close(pid);
    kin_value_close(parent);
    return 0;
}

static void pids(void **state)
{
    kin_value *pid, *parent;
    (void)state;
    check(kin_value_create(&pid, 0));
    check(kin_value_create(&parent, 0));
    kin_process *p = test_start(target_pids, KIN_ARGS(pid, parent));
    int64_t its_pid = kin_process_pid(p);
    assert_true(its_pid > 0 && its_pid != kin_current_pid());
    check(kin_process_join(p, KIN_FOREVER));
    assert_true(kin_process_pid(p) == its_pid); /* kept after its end */
    assert_int_equal(test_finish(p), 0);
    assert_true(kin_value_get_i64(pid) == its_pid);
    assert_true(kin_value_get_i64(parent) == kin_current_pid());
    kin_value_close(pid);
    kin_value_close(parent);
}

/* ---- names ---- */

static int target_name(kin_args *args)
{
    const char *name;
    CHILD_CHECK(kin_unpack(args, &name) == KIN_OK);
    CHILD_CHECK(strcmp(kin_current_name(), name) == 0);
    return 0;
}

static int target_names_below(kin_args *args)
{
    kin_process *p;
    int depth;
    CHILD_CHECK(kin_unpack(args, &depth) == KIN_OK);
    printf("%s\n", kin_current_name());
    fflush(stdout);
    for (int i = 0; i < 2 && depth > 0; i++) {
        CHILD_CHECK(kin_process_start(&p, target_names_below, KIN_ARGS(depth - 1), NULL) == KIN_OK);
        CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
        kin_process_close(p);
    }
    return 0;
}

static int program_names(void)
{
    kin_process *p;
    printf("%s\n", kin_current_name());
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        CHILD_CHECK(kin_process_start(&p, target_names_below, KIN_ARGS(i == 0 ? 2 : 0), NULL) == KIN_OK);
        CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
        kin_process_close(p);
    }
    CHILD_CHECK(kin_process_start(&p, target_names_below, KIN_ARGS(1), &(kin_process_options){.name = "own"}) == KIN_OK);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
    kin_process_close(p);
    return 0;
}

static void default_names(void **state)
{
    static test_output o;
    (void)state;
    test_run_self((const char *const[]){"names", NULL}, NULL, &o);
    assert_int_equal(o.exit_code, 0);
    assert_string_equal(o.out, "Main\nProcess-1\nProcess-1:1\nProcess-1:1:1\nProcess-1:1:2\nProcess-1:2\nProcess-1:2:1\nProcess-1:2:2\n"
                               "Process-2\nown\nown:1\nown:2\n");
}

static void given_names(void **state)
{
    static const char *const good[] = {"x", "a name", "Gr\xc3\xbc\xc3\x9fzi", "../%s%n", "12345678901234567890123456789012345678901234567"};
    static const char *const bad[] = {"", "a\nb", "\x01", "\t", "123456789012345678901234567890123456789012345678"};
    kin_process *p = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s", good[i]);
        p = test_start_with(target_name, KIN_ARGS(good[i]), (kin_process_options){.name = text});
        memset(text, 0, sizeof text); /* it was copied */
        assert_string_equal(kin_process_name(p), good[i]);
        assert_int_equal(test_finish(p), 0);
    }
    p = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_fails(KIN_EINVAL, kin_process_start(&p, target_return, KIN_ARGS(0), &(kin_process_options){.name = bad[i]}));
        assert_null(p);
        check_says("name");
    }
}

/* A parent's long name still gives its children names. */
static int target_child_name(kin_args *args)
{
    kin_process *p;
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    CHILD_CHECK(kin_process_start(&p, target_return, KIN_ARGS(0), NULL) == KIN_OK);
    CHILD_CHECK(strlen(kin_process_name(p)) <= 47 && strncmp(kin_process_name(p), kin_current_name(), 30) == 0);
    CHILD_CHECK(strcmp(kin_process_name(p) + strlen(kin_process_name(p)) - 2, ":1") == 0);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
    kin_process_close(p);
    return 0;
}

static void child_of_a_long_name(void **state)
{
    (void)state;
    kin_process_options options = {.name = "12345678901234567890123456789012345678901234567"};
    assert_int_equal(test_finish(test_start_with(target_child_name, KIN_ARGS(), options)), 0);
}

static void name_for_the_system(void **state)
{
    char title[64];
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *p = test_start_with(target_wait, KIN_ARGS(gate), (kin_process_options){.name = "a rather long name"});
    test_process_title(kin_process_pid(p), title);
    test_open(gate);
    assert_int_equal(test_finish(p), 5);
    kin_lock_close(gate);
    if (title[0] == 0)
        test_skip("the system has no names for processes");
    assert_string_equal(title, "a rather long n");
}

/* ---- exit codes ---- */

enum { BY_RETURN, BY_EXIT, BY_KILL, BY_TERMINATE, BY_ACCESS, BY_ABORT, BY_DIVIDE };

static int target_end(kin_args *args)
{
    int how, code;
    CHILD_CHECK(kin_unpack(args, &how, &code) == KIN_OK);
    switch (how) {
    case BY_EXIT:
        exit(code);
    case BY_ACCESS:
        test_crash_access();
        return 97;
    case BY_ABORT:
        abort();
    case BY_DIVIDE:
        test_crash_divide();
        return 97;
    case BY_KILL:
    case BY_TERMINATE:
        return target_for_ever(args);
    default:
        return code;
    }
}

static int end_of(int how, int code)
{
    kin_process *p = test_start(target_end, KIN_ARGS(how, code));
    if (how == BY_KILL)
        check(kin_process_kill(p));
    if (how == BY_TERMINATE)
        check(kin_process_terminate(p));
    return test_finish(p);
}

static void exit_codes(void **state)
{
    static const int codes[][2] = {{0, 0},     {1, 1},     {3, 3},    {7, 7},      {127, 127},     {128, 128},   {255, 255},
                                   {256, 0},   {263, 7},   {-1, 255}, {-256, 0},   {65536 + 9, 9}, {1 << 30, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        assert_int_equal(end_of(BY_RETURN, codes[i][0]), codes[i][1]);
    for (size_t i = 0; codes[i][0] <= 255; i++)
        assert_int_equal(end_of(BY_EXIT, codes[i][0]), codes[i][1]);
}

static void killed(void **state)
{
    (void)state;
    assert_int_equal(end_of(BY_KILL, 0), -9);
}

static void terminated(void **state)
{
    (void)state;
    assert_int_equal(end_of(BY_TERMINATE, 0), -15);
}

static void wrong_access(void **state)
{
    (void)state;
    assert_int_equal(end_of(BY_ACCESS, 0), -11);
}

static void aborted(void **state)
{
    (void)state;
    assert_int_equal(end_of(BY_ABORT, 0), -6);
}

static void divided_by_zero(void **state)
{
    (void)state;
    int code = end_of(BY_DIVIDE, 0);
    if (code == 97)
        test_skip("division by zero is no error on this processor");
    assert_int_equal(code, -8);
}

static volatile sig_atomic_t asked;

static void note_asked(int number)
{
    (void)number;
    asked = 1;
}

/* Where terminate asks, a target may take its time and end as it likes. */
static int target_graceful(kin_args *args)
{
    kin_value *ready;
    CHILD_CHECK(kin_unpack(args, &ready) == KIN_OK);
    (void)signal(SIGTERM, note_asked);
    kin_value_set_i64(ready, 1);
    for (int64_t end = kin_now() + test_ms(30000); !asked && kin_now() < end;)
        uv_sleep(1);
    kin_value_close(ready);
    return asked ? 42 : 96;
}

static void terminate_asks(void **state)
{
    kin_value *ready;
    (void)state;
    check(kin_value_create(&ready, 0));
    kin_process *p = test_start(target_graceful, KIN_ARGS(ready));
    assert_true(test_await(ready, 1));
    check(kin_process_terminate(p));
    assert_int_equal(test_finish(p), test_on_windows() ? -15 : 42);
    kin_value_close(ready);
}

static void ended_already(void **state)
{
    int code = -1;
    (void)state;
    kin_process *p = test_start(target_return, KIN_ARGS(4));
    assert_true(test_process_gone(kin_process_pid(p))); /* kin has not been asked yet */
    check(kin_process_kill(p));
    check(kin_process_terminate(p));
    check(kin_process_join(p, test_ms(30000)));
    check(kin_process_kill(p));
    check(kin_process_terminate(p));
    check(kin_process_exit_code(p, &code));
    assert_int_equal(code, 4);
    kin_process_close(p);
}

/* kill at any moment between start and end: it is one or the other. */
static void kill_at_any_moment(void **state)
{
    (void)state;
    for (int i = 0; i < test_scale(300, 20); i++) {
        kin_process *p = test_start(target_return, KIN_ARGS(4));
        for (volatile int k = 0; k < i * 100; k++) {
        }
        check(kin_process_kill(p));
        int code = test_finish(p);
        assert_true(code == 4 || code == -9);
    }
}

/* ---- several who wait ---- */

typedef struct joiner {
    uv_thread_t thread;
    kin_process *process;
    kin_err err;
    int code;
} joiner;

static void join_it(void *arg)
{
    joiner *j = arg;
    j->err = kin_process_join(j->process, test_ms(30000));
    if (j->err == KIN_OK)
        j->err = kin_process_exit_code(j->process, &j->code);
}

static void eight_threads_join(void **state)
{
    joiner joiners[8];
    (void)state;
    for (int round = 0; round < test_scale(20, 3); round++) {
        kin_lock *gate = test_gate();
        kin_process *p = test_start(target_wait, KIN_ARGS(gate));
        for (size_t i = 0; i < 8; i++) {
            joiners[i] = (joiner){.process = p, .code = -1};
            assert_int_equal(uv_thread_create(&joiners[i].thread, join_it, &joiners[i]), 0);
        }
        test_open(gate);
        for (size_t i = 0; i < 8; i++)
            assert_int_equal(uv_thread_join(&joiners[i].thread), 0);
        for (size_t i = 0; i < 8; i++) {
            assert_int_equal(joiners[i].err, KIN_OK);
            assert_int_equal(joiners[i].code, 5);
        }
        assert_int_equal(test_finish(p), 5);
        kin_lock_close(gate);
    }
}

typedef struct starter {
    uv_thread_t thread;
    int wrong;
} starter;

static void start_several(void *arg)
{
    starter *s = arg;
    for (int i = 0; i < test_scale(50, 5); i++) {
        kin_process *p = NULL;
        int code = -1;
        if (kin_process_start(&p, target_return, KIN_ARGS(i), NULL) != KIN_OK || kin_process_join(p, test_ms(30000)) != KIN_OK ||
            kin_process_exit_code(p, &code) != KIN_OK || code != i)
            s->wrong++;
        kin_process_close(p);
    }
}

static void four_threads_start(void **state)
{
    starter starters[4];
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        starters[i].wrong = 0;
        assert_int_equal(uv_thread_create(&starters[i].thread, start_several, &starters[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(uv_thread_join(&starters[i].thread), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(starters[i].wrong, 0);
}

/* ---- families ---- */

static int target_nested(kin_args *args)
{
    int depth, code = -1;
    kin_value *sum;
    CHILD_CHECK(kin_unpack(args, &depth, &sum) == KIN_OK);
    kin_value_add_i64(sum, depth, NULL);
    for (int i = 0; i < 2 && depth > 0; i++) {
        kin_process *p;
        CHILD_CHECK(kin_process_start(&p, target_nested, KIN_ARGS(depth - 1, sum), NULL) == KIN_OK);
        CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
        CHILD_CHECK(kin_process_exit_code(p, &code) == KIN_OK && code == 10 + depth - 1);
        kin_process_close(p);
    }
    kin_value_close(sum);
    return 10 + depth;
}

static void children_of_children(void **state)
{
    kin_value *sum;
    (void)state;
    check(kin_value_create(&sum, 0));
    assert_int_equal(test_run(target_nested, KIN_ARGS(3, sum)), 13);
    assert_int_equal(kin_value_get_i64(sum), 3 + 2 * 2 + 4 * 1);
    kin_value_close(sum);
}

static int target_count_at_gate(kin_args *args)
{
    kin_lock *gate;
    kin_value *here, *sum;
    int number;
    CHILD_CHECK(kin_unpack(args, &gate, &here, &sum, &number) == KIN_OK);
    kin_value_add_i64(here, 1, NULL);
    CHILD_CHECK(test_pass(gate));
    kin_value_add_i64(sum, number, NULL);
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
    return number;
}

/* Starts a child that waits at a gate, and returns at once. */
static int target_leave_child(kin_args *args)
{
    kin_lock *gate;
    kin_value *here, *sum;
    static kin_process *p; /* kept, or it would be a leak */
    CHILD_CHECK(kin_unpack(args, &gate, &here, &sum) == KIN_OK);
    CHILD_CHECK(kin_process_start(&p, target_count_at_gate, KIN_ARGS(gate, here, sum, 33), NULL) == KIN_OK);
    return 12; /* with everything open */
}

static void children_are_joined_at_a_clean_end(void **state)
{
    kin_value *here, *sum;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&here, 0));
    check(kin_value_create(&sum, 0));
    kin_process *middle = test_start(target_leave_child, KIN_ARGS(gate, here, sum));
    assert_true(test_await(here, 1));
    check_fails(KIN_ETIMEDOUT, kin_process_join(middle, 100));
    test_open(gate);
    assert_int_equal(test_finish(middle), 12);
    assert_int_equal(kin_value_get_i64(sum), 33); /* at once: the middle has waited for it */
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
}

/* Holds a lock for as long as it lives; tells its pid. */
static int target_hold(kin_args *args)
{
    kin_lock *held;
    kin_value *pid;
    CHILD_CHECK(kin_unpack(args, &held, &pid) == KIN_OK);
    CHILD_CHECK(kin_lock_acquire(held, KIN_NOWAIT) == KIN_OK);
    kin_value_set_i64(pid, kin_current_pid());
    return target_for_ever(args);
}

/* Starts a child that holds a lock; then waits until it is killed, or returns. */
static int target_middle(kin_args *args)
{
    kin_lock *held;
    kin_value *pid;
    static kin_process *p; /* kept, or it would be a leak */
    int daemon, stay;
    CHILD_CHECK(kin_unpack(args, &held, &pid, &daemon, &stay) == KIN_OK);
    CHILD_CHECK(kin_process_start(&p, target_hold, KIN_ARGS(held, pid), &(kin_process_options){.daemon = daemon != 0}) == KIN_OK);
    CHILD_CHECK(test_await(pid, 1));
    return stay ? target_for_ever(args) : 6;
}

typedef struct family {
    kin_lock *held;
    kin_value *pid;
    kin_process *middle;
} family;

/* A middle process, with a child that holds a lock. */
static family found_family(bool middle_is_daemon, bool child_is_daemon, bool stay)
{
    family f;
    check(kin_lock_create(&f.held, NULL));
    check(kin_value_create(&f.pid, 0));
    f.middle = test_start_with(target_middle, KIN_ARGS(f.held, f.pid, (int)child_is_daemon, (int)stay),
                               (kin_process_options){.daemon = middle_is_daemon});
    assert_true(test_await(f.pid, 1));
    return f;
}

static void child_is_gone(family *f)
{
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(f->held, test_ms(30000)));
    check(kin_lock_release(f->held));
    assert_true(test_process_gone(kin_value_get_i64(f->pid)));
    kin_lock_close(f->held);
    kin_value_close(f->pid);
}

static void daemon_goes_with_a_killed_parent(void **state)
{
    (void)state;
    family f = found_family(false, true, true);
    assert_true(test_process_exists(kin_value_get_i64(f.pid)));
    check(kin_process_kill(f.middle));
    assert_int_equal(test_finish(f.middle), -9);
    child_is_gone(&f);
}

static void daemon_goes_at_a_clean_end(void **state)
{
    (void)state;
    family f = found_family(false, true, false);
    assert_int_equal(test_finish(f.middle), 6);
    child_is_gone(&f);
}

static void children_of_daemons_are_daemons(void **state)
{
    (void)state;
    family f = found_family(true, false, true);
    check(kin_process_kill(f.middle));
    assert_int_equal(test_finish(f.middle), -9);
    child_is_gone(&f);
    f = found_family(true, false, false); /* not waited for at the clean end either */
    assert_int_equal(test_finish(f.middle), 6);
    child_is_gone(&f);
}

/* By the system, past kin; what it gives as exit code differs. */
static void daemon_goes_however_its_parent_ends(void **state)
{
    (void)state;
    family f = found_family(false, true, true);
    test_process_kill(kin_process_pid(f.middle));
    (void)test_finish(f.middle);
    child_is_gone(&f);
}

static int target_stay_with_child(kin_args *args)
{
    kin_lock *gate;
    kin_value *here, *sum;
    static kin_process *p; /* kept, or it would be a leak */
    CHILD_CHECK(kin_unpack(args, &gate, &here, &sum) == KIN_OK);
    CHILD_CHECK(kin_process_start(&p, target_count_at_gate, KIN_ARGS(gate, here, sum, 44), NULL) == KIN_OK);
    return target_for_ever(args);
}

static void others_go_on_when_their_parent_is_killed(void **state)
{
    kin_value *here, *sum;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&here, 0));
    check(kin_value_create(&sum, 0));
    kin_process *middle = test_start(target_stay_with_child, KIN_ARGS(gate, here, sum));
    assert_true(test_await(here, 1));
    check(kin_process_kill(middle));
    assert_int_equal(test_finish(middle), -9);
    test_open(gate);
    assert_true(test_await(sum, 44));
    assert_int_equal(kin_value_get_i64(sum), 44);
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
}

/* Handles that were closed: the process goes on, and ends with nobody asking. */
static void closed_while_running(void **state)
{
    kin_value *here, *sum;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&here, 0));
    check(kin_value_create(&sum, 0));
    kin_process *p = test_start(target_count_at_gate, KIN_ARGS(gate, here, sum, 9));
    int64_t pid = kin_process_pid(p);
    kin_process_close(p);
    assert_true(test_await(here, 1));
    test_open(gate);
    assert_true(test_await(sum, 9));
    assert_true(test_process_gone(pid));
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
}

/* ---- the program's own children and signals ---- */

static void unseen_by_wait(void **state)
{
    (void)state;
    test_watch_signals();
    assert_false(test_has_children());
    kin_lock *gate = test_gate();
    kin_process *p = test_start(target_wait, KIN_ARGS(gate));
    assert_false(test_has_children());
    test_open(gate);
    assert_int_equal(test_finish(p), 5);
    assert_false(test_has_children());
    assert_int_equal(test_run(target_end, KIN_ARGS((int)BY_ACCESS, 0)), -11);
    assert_false(test_has_children());
    assert_int_equal(test_signals(), 0);
}

static int target_unseen(kin_args *args)
{
    kin_process *p;
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    test_watch_signals();
    CHILD_CHECK(!test_has_children());
    CHILD_CHECK(kin_process_start(&p, target_return, KIN_ARGS(1), NULL) == KIN_OK);
    CHILD_CHECK(!test_has_children());
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
    CHILD_CHECK(!test_has_children());
    CHILD_CHECK(test_signals() == 0);
    kin_process_close(p);
    return 0;
}

static void unseen_by_wait_in_a_child(void **state)
{
    (void)state;
    assert_int_equal(test_run(target_unseen, KIN_ARGS()), 0);
}

static kin_process *of_original;
static kin_value *value_of_original;
static kin_lock *lock_of_original, *held_by_original;
static kin_event *event_of_original;
static kin_semaphore *semaphore_of_original;

/* A copy made by a plain fork() cannot use kin, and does no harm to the original. */
static int in_copy(void)
{
    kin_process *p = NULL;
    kin_value *value = NULL;
    int code = -1;
    if (kin_process_start(&p, target_return, KIN_ARGS(1), NULL) != KIN_ESTATE || p != NULL)
        return 1;
    if (strstr(kin_last_error(), "fork()") == NULL)
        return 2;
    if (kin_value_create(&value, 1) != KIN_ESTATE || value != NULL)
        return 3;
    if (kin_init(0, NULL) != KIN_ESTATE)
        return 4;
    if (kin_start_method_name()[0] != 0 || kin_current_pid() != 0)
        return 5;
    if (kin_lock_acquire(lock_of_original, KIN_NOWAIT) != KIN_ESTATE)
        return 6;
    if (kin_event_set(event_of_original) != KIN_ESTATE || kin_semaphore_units(semaphore_of_original) != -1)
        return 11;
    kin_lock freed = *held_by_original; /* as if the original had released it meanwhile */
    freed.kin__o.word = 0;
    if (kin_lock_release(&freed) != KIN_EPERM || kin_lock_release(held_by_original) != KIN_EPERM)
        return 12;
    if (kin_process_join(of_original, KIN_NOWAIT) != KIN_ESTATE)
        return 7;
    if (kin_process_exit_code(of_original, &code) != KIN_ESTATE || code != -1)
        return 8;
    if (kin_process_kill(of_original) != KIN_ESTATE || kin_process_terminate(of_original) != KIN_ESTATE)
        return 9;
    if (kin_process_alive(of_original))
        return 10;
    kin_process_close(of_original);
    kin_value_close(value_of_original);
    kin_lock_close(lock_of_original);
    return 50;
}

static void plain_fork(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&value_of_original, 3));
    check(kin_lock_create(&lock_of_original, NULL));
    check(kin_lock_create(&held_by_original, NULL));
    check(kin_event_create(&event_of_original, NULL));
    check(kin_semaphore_create(&semaphore_of_original, 2, &(kin_semaphore_options){.undo = true}));
    check(kin_semaphore_acquire(semaphore_of_original, KIN_NOWAIT));
    check(kin_lock_acquire(held_by_original, KIN_NOWAIT));
    of_original = test_start(target_wait, KIN_ARGS(gate));
    int result = test_in_copy(in_copy);
    assert_true(kin_process_alive(of_original));
    test_open(gate);
    assert_int_equal(test_finish(of_original), 5);
    assert_int_equal(kin_value_get_i64(value_of_original), 3);
    check(kin_lock_acquire(lock_of_original, KIN_NOWAIT));
    check(kin_lock_release(lock_of_original));
    kin_value_close(value_of_original);
    kin_lock_close(lock_of_original);
    check(kin_lock_release(held_by_original));
    kin_lock_close(held_by_original);
    assert_false(kin_event_is_set(event_of_original));
    kin_event_close(event_of_original);
    assert_int_equal(kin_semaphore_units(semaphore_of_original), 1);
    kin_semaphore_close(semaphore_of_original);
    kin_lock_close(gate);
    if (result == -1)
        test_skip("this system has no fork");
    assert_int_equal(result, 50);
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
}

/* ---- targets ---- */

static int data = 1;

static void not_a_target(void **state)
{
    (void)state;
    kin_process *p = NULL;
    int local = 2;
    void *heap = malloc(64);
    uintptr_t addresses[] = {(uintptr_t)&data, (uintptr_t)&local, (uintptr_t)heap, 16, UINTPTR_MAX - 15, (uintptr_t)"constant"};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        check_fails(KIN_EINVAL, kin_process_start(&p, (kin_target)addresses[i], KIN_ARGS(1), NULL));
        assert_null(p);
        check_says("target");
    }
    free(heap);
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
}

static void missing_arguments(void **state)
{
    int code;
    (void)state;
    kin_process *p = NULL;
    check_fails(KIN_EINVAL, kin_process_start(NULL, target_return, KIN_ARGS(1), NULL));
    check_fails(KIN_EINVAL, kin_process_start(&p, NULL, KIN_ARGS(1), NULL));
    check_fails(KIN_EINVAL, kin_process_start(&p, target_return, (kin_pack){NULL, 1}, NULL));
    assert_null(p);
    check_fails(KIN_EINVAL, kin_process_join(NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_process_kill(NULL));
    check_fails(KIN_EINVAL, kin_process_terminate(NULL));
    check_fails(KIN_EINVAL, kin_process_exit_code(NULL, &code));
    assert_false(kin_process_alive(NULL));
    assert_int_equal(kin_process_pid(NULL), 0);
    assert_string_equal(kin_process_name(NULL), "");
    kin_process_close(NULL);
    p = test_start(target_return, KIN_ARGS(1));
    check_fails(KIN_EINVAL, kin_process_exit_code(p, NULL));
    check_fails(KIN_EINVAL, kin_process_join(p, -2));
    check_fails(KIN_EINVAL, kin_process_join(p, INT64_MIN));
    assert_int_equal(test_finish(p), 1);
}

static void used_after_close(void **state)
{
    int code;
    (void)state;
    kin_process *p = test_start(target_return, KIN_ARGS(1));
    check(kin_process_join(p, test_ms(30000)));
    kin_process_close(p);
    check_fails(KIN_EINVAL, kin_process_join(p, KIN_NOWAIT));
    check_says("closed");
    check_fails(KIN_EINVAL, kin_process_kill(p));
    check_fails(KIN_EINVAL, kin_process_terminate(p));
    check_fails(KIN_EINVAL, kin_process_exit_code(p, &code));
    assert_false(kin_process_alive(p));
    assert_int_equal(kin_process_pid(p), 0);
    assert_string_equal(kin_process_name(p), "");
    kin_process_close(p); /* does nothing */
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
}

/* A library that was loaded long after kin_init. */
static void target_in_a_library(void **state)
{
    uv_lib_t library;
    union {
        void *pointer;
        kin_target target;
    } symbol;
    kin_process *p = NULL;
    (void)state;
    if (uv_dlopen(KIN_TEST_PLUGIN, &library) != 0)
        fail_msg("%s", uv_dlerror(&library));
    assert_int_equal(uv_dlsym(&library, "plugin_target", &symbol.pointer), 0);
    assert_int_equal(test_run(symbol.target, KIN_ARGS()), 42);
    assert_int_equal(test_run(symbol.target, KIN_ARGS(1, "two")), 42);
    assert_int_equal(uv_dlsym(&library, "plugin_data", &symbol.pointer), 0);
    check_fails(KIN_EINVAL, kin_process_start(&p, symbol.target, KIN_ARGS(), NULL));
    assert_int_equal(uv_dlsym(&library, "plugin_count", &symbol.pointer), 0);
    assert_int_equal(symbol.target(NULL), 1);
    assert_int_equal(symbol.target(NULL), 2);
    assert_int_equal(test_run(symbol.target, KIN_ARGS()), 1); /* its variables are as they were when it was loaded */
    uv_dlclose(&library);
    check_fails(KIN_EINVAL, kin_process_start(&p, symbol.target, KIN_ARGS(), NULL));
    assert_null(p);
}

/* ---- what a child has, and has not ---- */

static int global = 1;
static int *on_heap;

static int target_globals(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    CHILD_CHECK(on_heap == NULL);
    CHILD_CHECK(global == 1);
    global = 77;
    return 0;
}

static void no_globals(void **state)
{
    (void)state;
    global = 2;
    on_heap = &global;
    assert_int_equal(test_run(target_globals, KIN_ARGS()), 0);
    assert_int_equal(test_run(target_globals, KIN_ARGS()), 0); /* no child has anything of another */
    assert_int_equal(global, 2);
    on_heap = NULL;
}

static kin_value *told_at_exit;

static void tell_at_exit(void)
{
    (void)kin_value_add_i64(told_at_exit, 1, NULL);
}

static int target_atexit(kin_args *args)
{
    int how;
    CHILD_CHECK(kin_unpack(args, &told_at_exit, &how) == KIN_OK);
    CHILD_CHECK(atexit(tell_at_exit) == 0);
    if (how == 1)
        exit(4);
    return 3;
}

static void exit_handlers_run(void **state)
{
    kin_value *told;
    (void)state;
    check(kin_value_create(&told, 0));
    assert_int_equal(test_run(target_atexit, KIN_ARGS(told, 0)), 3);
    assert_int_equal(kin_value_get_i64(told), 1);
    assert_int_equal(test_run(target_atexit, KIN_ARGS(told, 1)), 4);
    assert_int_equal(kin_value_get_i64(told), 2);
    kin_value_close(told);
}

static void forbidden_handler(void)
{
    (void)fprintf(stderr, "an exit handler of the parent ran in %s\n", kin_current_name());
}

static int target_place(kin_args *args)
{
    const char *directory, *variable;
    char text[4096];
    size_t size = sizeof text;
    int mask;
    CHILD_CHECK(kin_unpack(args, &directory, &variable, &mask) == KIN_OK);
    CHILD_CHECK(uv_cwd(text, &size) == 0 && strcmp(text, directory) == 0);
    CHILD_CHECK(getenv("KIN_TEST_VARIABLE") != NULL && strcmp(getenv("KIN_TEST_VARIABLE"), variable) == 0);
    CHILD_CHECK(getenv("KIN_TEST_NONE") == NULL);
    CHILD_CHECK(getenv("KIN_BIRTH") == NULL);
    CHILD_CHECK(getenv("PATH") != NULL);
    CHILD_CHECK(test_umask(mask) == mask);
    return 0;
}

/* Current directory, environment and umask are those of the moment of the start. */
static void taken_from_the_moment(void **state)
{
    char was[4096], here[4096];
    size_t size = sizeof was;
    (void)state;
    assert_int_equal(uv_cwd(was, &size), 0);
    static char large[100000]; /* more than goes into one message */
    memset(large, 'v', sizeof large - 1);
    if (test_on_windows())
        large[30000] = 0;
    const char *variables[] = {"one", "a=b;c d", large, "two"};
    static const int masks[] = {0, 0200};
    int mask = test_umask(0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(uv_chdir(i % 2 == 0 ? ".." : was), 0);
        size = sizeof here;
        assert_int_equal(uv_cwd(here, &size), 0);
        assert_int_equal(uv_os_setenv("KIN_TEST_VARIABLE", variables[i]), 0);
        assert_int_equal(uv_os_setenv("KIN_TEST_NONE", "x"), 0);
        assert_int_equal(uv_os_unsetenv("KIN_TEST_NONE"), 0);
        (void)test_umask(masks[i % 2]);
        assert_int_equal(test_run(target_place, KIN_ARGS(here, variables[i], masks[i % 2])), 0);
    }
    (void)test_umask(mask);
    (void)uv_os_unsetenv("KIN_TEST_VARIABLE");
    assert_int_equal(uv_chdir(was), 0);
}

/* ---- open files ---- */

static int target_files(kin_args *args)
{
    int count, kins, passed;
    CHILD_CHECK(kin_args_get(args, 0, KIN_OUT(&kins)) == KIN_OK && kin_args_get(args, 1, KIN_OUT(&passed)) == KIN_OK);
    CHILD_CHECK(!test_has_open(FILE_NAME));
    CHILD_CHECK(!test_has_open(FILE_NAME_2));
    count = test_count_handles();
    if (kins >= 0 && count != 3 + kins + passed) {
        (void)fprintf(stderr, "%d descriptors are open, not 0, 1, 2, %d of kin's and %d passed\n", count, kins, passed);
        return 98;
    }
    return 0;
}

static void nothing_open_in_a_child(void **state)
{
    intptr_t opened[8];
    kin_value *values[3];
    (void)state;
    for (size_t i = 0; i < 8; i++)
        opened[i] = test_open_inheritable(FILE_NAME);
    FILE *file = fopen(FILE_NAME_2, "w+");
    assert_non_null(file);
    for (size_t i = 0; i < 3; i++)
        check(kin_value_create(&values[i], 0));
    int kins = test_on_windows() ? -1 : 2; /* a Windows process has handles that nobody asked for, so it is not a matter of numbers there */
    assert_int_equal(test_run(target_files, KIN_ARGS(kins, 0)), 0);
    assert_int_equal(test_run(target_files, KIN_ARGS(kins, 3, values[0], values[1], values[2])), 0);
    assert_int_equal(test_run(target_files, KIN_ARGS(kins, 2, values[0], values[0])), 0);
    kin_process *running = test_start(target_for_ever, KIN_ARGS(values[0]));
    assert_int_equal(test_run(target_files, KIN_ARGS(kins, 0)), 0);
    check(kin_process_kill(running));
    assert_int_equal(test_finish(running), -9);
    for (size_t i = 0; i < 3; i++)
        kin_value_close(values[i]);
    for (size_t i = 0; i < 8; i++)
        test_close_handle(opened[i]);
    (void)fclose(file);
    (void)remove(FILE_NAME);
    (void)remove(FILE_NAME_2);
}

static int target_files_below(kin_args *args)
{
    kin_process *p;
    int kins, code = -1;
    CHILD_CHECK(kin_unpack(args, &kins) == KIN_OK);
    FILE *file = fopen(FILE_NAME_2, "w+");
    intptr_t own = test_open_inheritable(FILE_NAME);
    CHILD_CHECK(file != NULL);
    CHILD_CHECK(kin_process_start(&p, target_files, KIN_ARGS(kins, 0), NULL) == KIN_OK);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
    CHILD_CHECK(kin_process_exit_code(p, &code) == KIN_OK);
    kin_process_close(p);
    test_close_handle(own);
    (void)fclose(file);
    return code;
}

static void nothing_open_in_a_child_of_a_child(void **state)
{
    (void)state;
    assert_int_equal(test_run(target_files_below, KIN_ARGS(test_on_windows() ? -1 : 2)), 0);
    (void)remove(FILE_NAME);
    (void)remove(FILE_NAME_2);
}

/* ---- standard streams ---- */

static int target_streams(kin_args *args)
{
    const char *text;
    CHILD_CHECK(kin_unpack(args, &text) == KIN_OK);
    int c = getchar();
    printf("%s: %s\n", text, c == EOF ? "nothing to read" : "read something");
    fprintf(stderr, "%s\n", text);
    return 0;
}

static int child_with(kin_target target, kin_pack args)
{
    kin_process *p;
    int code = -1;
    CHILD_CHECK(kin_process_start(&p, target, args, NULL) == KIN_OK);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK);
    CHILD_CHECK(kin_process_exit_code(p, &code) == KIN_OK);
    kin_process_close(p);
    return code;
}

static int program_streams(void)
{
    (void)atexit(forbidden_handler); /* registered after kin_init: the parent's alone */
    CHILD_CHECK(child_with(target_streams, KIN_ARGS("first")) == 0);
    fprintf(stderr, "%c", getchar()); /* the parent's own input is untouched */
    fflush(stderr);                   /* it has a buffer on some systems */
    CHILD_CHECK(freopen(FILE_NAME, "w", stdout) != NULL);
    CHILD_CHECK(child_with(target_streams, KIN_ARGS("second")) == 0);
    (void)fclose(stdout);
    return 0;
}

static void standard_streams(void **state)
{
    static test_output o;
    char text[256] = "";
    (void)state;
    FILE *f = fopen(FILE_NAME_2, "w");
    assert_non_null(f);
    (void)fputs("Input", f);
    (void)fclose(f);
    test_run_self((const char *const[]){"streams", NULL}, FILE_NAME_2, &o);
    assert_int_equal(o.exit_code, 0);
    assert_string_equal(o.out, "first: nothing to read\n");
    assert_string_equal(o.err, "first\nIsecond\nan exit handler of the parent ran in Main\n");
    f = fopen(FILE_NAME, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    (void)fclose(f);
    assert_string_equal(text, "second: nothing to read\n");
    (void)remove(FILE_NAME);
    (void)remove(FILE_NAME_2);
}

static int target_print(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    CHILD_CHECK(printf("into nothing\n") > 0 && fflush(stdout) == 0);
    return 0;
}

/* Where the parent's is closed, the child's is the null device, and not the first file that gets its number. */
static int program_closed(void)
{
    test_close_descriptors(1, 1);
    return child_with(target_print, KIN_ARGS());
}

static void closed_stdout(void **state)
{
    static test_output o;
    (void)state;
    test_run_self((const char *const[]){"closed", NULL}, NULL, &o);
    assert_string_equal(o.err, "");
    assert_int_equal(o.exit_code, 0);
    assert_string_equal(o.out, "");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unseen_by_wait), /* before anything else makes children of its own */
        cmocka_unit_test(unseen_by_wait_in_a_child),
        cmocka_unit_test(start_and_join),
        cmocka_unit_test(running),
        cmocka_unit_test(pids),
        cmocka_unit_test(default_names),
        cmocka_unit_test(given_names),
        cmocka_unit_test(child_of_a_long_name),
        cmocka_unit_test(name_for_the_system),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(killed),
        cmocka_unit_test(terminated),
        cmocka_unit_test(wrong_access),
        cmocka_unit_test(aborted),
        cmocka_unit_test(divided_by_zero),
        cmocka_unit_test(terminate_asks),
        cmocka_unit_test(ended_already),
        cmocka_unit_test(kill_at_any_moment),
        cmocka_unit_test(eight_threads_join),
        cmocka_unit_test(four_threads_start),
        cmocka_unit_test(children_of_children),
        cmocka_unit_test(children_are_joined_at_a_clean_end),
        cmocka_unit_test(daemon_goes_with_a_killed_parent),
        cmocka_unit_test(daemon_goes_at_a_clean_end),
        cmocka_unit_test(children_of_daemons_are_daemons),
        cmocka_unit_test(daemon_goes_however_its_parent_ends),
        cmocka_unit_test(others_go_on_when_their_parent_is_killed),
        cmocka_unit_test(closed_while_running),
        cmocka_unit_test(plain_fork),
        cmocka_unit_test(not_a_target),
        cmocka_unit_test(missing_arguments),
        cmocka_unit_test(used_after_close),
        cmocka_unit_test(target_in_a_library),
        cmocka_unit_test(no_globals),
        cmocka_unit_test(exit_handlers_run),
        cmocka_unit_test(taken_from_the_moment),
        cmocka_unit_test(nothing_open_in_a_child),
        cmocka_unit_test(nothing_open_in_a_child_of_a_child),
        cmocka_unit_test(standard_streams),
        cmocka_unit_test(closed_stdout),
    };
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    if (argc > 1 && strcmp(argv[1], "names") == 0)
        return program_names();
    if (argc > 1 && strcmp(argv[1], "streams") == 0)
        return program_streams();
    if (argc > 1 && strcmp(argv[1], "closed") == 0)
        return program_closed();
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
