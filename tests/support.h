/* What the tests share. A test program is its own child: main calls kin_init before anything of cmocka, and a child never asserts
 * (cmocka's way out of a failed test would go on with the parent's tests): it answers by exit code, by a value or in a segment. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <kin.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- asserting, in the parent ---- */

/* check(call): it gives KIN_OK. check_fails(error, call): it gives that error. On failure kin's own sentence is shown. */
#define check(call) test_check(KIN_OK, (call), #call, __FILE__, __LINE__)
#define check_fails(error, call) test_check((error), (call), #call, __FILE__, __LINE__)
void test_check(kin_err expected, kin_err found, const char *call, const char *file, int line);

/* check_says(text): kin_last_error() contains it. */
#define check_says(text) test_check_says(kin_last_error(), (text), __FILE__, __LINE__)
void test_check_says(const char *sentence, const char *text, const char *file, int line);

/* In a child: the target ends with 99, having said on stderr what is not so. */
#define CHILD_CHECK(what)                                                                                              \
    do {                                                                                                               \
        if (!(what))                                                                                                   \
            return test_child_failed(#what, __FILE__, __LINE__);                                                       \
    } while (0)
int test_child_failed(const char *what, const char *file, int line);

/* Ends the test as skipped, having printed why. */
#define test_skip(why)                                                                                                 \
    do {                                                                                                               \
        print_message("skipped: %s\n", (why));                                                                         \
        skip();                                                                                                        \
    } while (0)

/* ---- time and numbers ---- */

/* Milliseconds, times KIN_TEST_TIMEOUT_SCALE. For what must not hang: generous. */
int64_t test_ms(int64_t ms);
/* How often to do something: fewer where a process is dear (Wine), and a tenth, at least 1, of the Linux number with sanitizers. */
int test_scale(int on_linux, int on_windows);
bool test_on_windows(void);
/* Whether what looks like Windows is Wine. */
bool test_under_wine(void);
bool test_with_sanitizer(void);
/* Whether an emulator of another processor runs this (KIN_TEST_EMULATOR is set): it cannot start a program anew. */
bool test_emulated(void);
/* Whether children are started anew. */
bool test_by_spawn(void);

/* The name of a scratch file in the current directory, of its own for each run of a test program: several may run at once. The same in its
 * children and in the program run again. In one of four static buffers. */
const char *test_file(const char *name);

/* ---- processes ---- */

/* Starts, or fails the test. */
kin_process *test_start(kin_target target, kin_pack args);
kin_process *test_start_with(kin_target target, kin_pack args, kin_process_options options);
/* Joins (bounded), closes, and gives the exit code; or fails the test, having killed the process. */
int test_finish(kin_process *process);
/* Both. */
int test_run(kin_target target, kin_pack args);
/* Waits until `value` is at least `number`; false when that takes for ever. For parents and children. */
bool test_await(kin_value *value, int64_t number);

/* A gate is a lock that its maker holds: who is to wait goes through it, and all can when it is opened. */
kin_lock *test_gate(void);
void test_open(kin_lock *gate);
bool test_pass(kin_lock *gate); /* for children; false: it stayed shut for ever. Leaves it open, and does not close the lock */

/* Runs this program again with these arguments (NULL at the end; without the program's name) in the environment of now, its standard
 * input from the file `input` (NULL: none), and collects what it and all who share its output print, until the last of them has ended.
 * Carriage returns are dropped. Fails the test if it does not end. */
typedef struct test_output {
    int64_t exit_code;
    int signal;
    char out[16384], err[16384]; /* ended with a 0 */
} test_output;
void test_run_self(const char *const *arguments, const char *input, test_output *output);

/* ---- what the system knows; support_posix.c, support_win32.c ---- */

/* How many descriptors (Windows: handles) this process has open. */
int test_count_handles(void);
/* Whether this process has the file open, by whatever descriptor or handle. */
bool test_has_open(const char *path);
/* Opens a file as a careless program does: so that a child started by the system's own means would inherit it. */
intptr_t test_open_inheritable(const char *path);
void test_close_handle(intptr_t handle);
/* Raises the soft limit of open descriptors, if it can be. Before kin_init. */
void test_allow_handles(int count);
/* From now on this process can open no more than about so many: `soft`, which it may raise up to `hard`, for ever. False where there is no
 * such limit. For a copy (test_in_copy). */
bool test_limit_handles(int soft, int hard);

/* Whether there is a process with this number that has not ended. */
bool test_process_exists(int64_t pid);
/* Waits until there is none; false when that takes for ever. */
bool test_process_gone(int64_t pid);
/* By the system's means, past kin: by force, or stopped and continued (false: the system cannot). */
void test_process_kill(int64_t pid);
bool test_process_stop(int64_t pid);
bool test_process_continue(int64_t pid);
/* What the system calls the process (ps, top); "" if it has no such thing. */
void test_process_title(int64_t pid, char title[64]);
/* Processes below this one that have ended and that nobody has reaped. */
int test_count_zombies(void);
/* Whether the system's own "wait for any child" finds one. */
bool test_has_children(void);
/* Counts the signals that tell of a child's end, from now on. */
void test_watch_signals(void);
int test_signals(void);
/* Has `function` called in a signal handler for each test_signal to this process; false where there are no signals. */
bool test_has_signals(void);
bool test_on_signal(void (*function)(void));
void test_signal(int64_t pid);
/* Runs `function` in a plain copy of this process (fork) and gives its result, 0-255; -1 if the system cannot. */
int test_in_copy(int (*function)(void));
/* Sets the mask for the permissions of new files, and gives the one before. */
int test_umask(int mask);
/* Bytes of memory that this process uses. */
int64_t test_memory(void);

/* Ends this process as a crash does. */
void test_crash_access(void);
void test_crash_divide(void); /* does nothing where division by zero is no error */
/* Closes the C library's descriptors from..to of this process. */
void test_close_descriptors(int from, int to);

#endif
