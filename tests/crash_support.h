/* What tests that kill need beside the tests' other support: waiting with generous bounds, numbers by chance that can be repeated, and
 * a look at (and a hand on) the processes of the family. */
#ifndef KIN_TESTS_CRASH_SUPPORT_H
#define KIN_TESTS_CRASH_SUPPORT_H

#include "support.h"

/* Waits until `is` says so, for up to 20 s (scaled). What it said last. */
bool crash_until(bool (*is)(void *arg), void *arg);
/* The same for a word in shared memory: until it is at least `least`. */
bool crash_until_at_least(const uint32_t *word, uint32_t least);
/* Until somebody sleeps on this lock. */
bool crash_until_sleeping(const kin_lock *lock);
/* How many threads sleep on it. */
int crash_sleepers(const kin_lock *lock);
bool crash_until_sleepers(const kin_lock *lock, int count);
/* Until so many are past their last look at the lock, which has not been released since they came: they will sleep. */
bool crash_until_surely_asleep(const kin_lock *lock, int count);
/* How many threads of a process sleep, on whatever. */
int crash_asleep(int64_t pid);
/* Until so many of this process do. */
bool crash_until_asleep(int count);
/* Until so many threads of anybody sleep in the system for the lock on the file; where the system does not tell, a moment later. */
bool crash_until_file_waiters(const char *path, int count);

/* KIN_TEST_SEED, or a new one; printed, so that a failure can be repeated. */
uint32_t crash_seed(void);
uint32_t crash_random(uint32_t *state, uint32_t below);

/* Spins for about this long: for pauses within a race, not to wait for anything. */
void crash_spin_us(uint32_t us);

/* Ends this process at once, without exit handlers. */
void crash_end(int code);

/* Joins, closes, and gives the exit code: CRASH_HANGS if it did not end (then it was killed), CRASH_LOST if nobody knows. */
#define CRASH_HANGS (-1000)
#define CRASH_LOST (-1001)
int crash_join(kin_process *process);

/* ---- through the session's tables ---- */

/* The pid of the fork server that this process asks; 0 where there is none (Windows) or it is known to be dead. */
int64_t crash_server(void);
/* Ends a process by force; does nothing for 0. */
void crash_kill(int64_t pid);
/* Whether this is the process that the user started; to be asked before kin_init. */
bool crash_is_root(void);
/* How many places of the process table are not free. */
int crash_places(void);
/* Waits until that is no more than `most`: orphans and daemons end by themselves, a little later. */
bool crash_until_places(int most);
/* Waits until no process with this pid is alive as far as the tables know. */
bool crash_until_gone(int64_t pid);

/* For a look at what went wrong: prints both tables and the lock (or NULL). */
void crash_print_threads(const kin_lock *lock);

/* ---- the system's: crash_support_posix.c, crash_support_win32.c ---- */

/* From now on this process dies at that crash point, "name" or "name:n"; NULL: nowhere. What it starts is told so too. */
void crash_at(const char *point);
/* Places of kin's that this process passes from now on, counted. Up to CRASH_PASSED different ones. Portable. */
#define CRASH_PASSED 96
typedef struct crash_passed {
    char name[40];
    uint32_t count;
    uint32_t pad;
} crash_passed;
void crash_record(crash_passed passed[CRASH_PASSED]);
/* This process stays at that point, "name" or "name:n", once: *paused becomes 1, and it goes on when *resume is not 0. From then
 * on crash_at counts. */
void crash_pause_at(const char *point, uint32_t *paused, const uint32_t *resume);
/* No more of either. */
void crash_go_on(void);

/* The children of a process, up to `most`; -1 where that cannot be told. */
int crash_children_of(int64_t pid, int64_t *children, int most);
/* Has no more processes made by `pid` and everybody else of this user, or as many as before. False where that cannot be done. */
bool crash_limit_processes(int64_t pid, bool limited);
/* Gives up the privileges that limits do not bind; false where there is no such thing. */
bool crash_give_up_privileges(void);

#endif
