/* What the tests of the synchronisation objects share beside support.h and crash_support.h: actors. An actor is a process or a thread that does what
 * the test tells it, one call after the other, and says what came of it; so a test reads from top to bottom whoever does what, and asserts in
 * the parent only. Whether an actor sleeps is seen in the session's thread table. */
#ifndef KIN_TESTS_SYNC_SUPPORT_H
#define KIN_TESTS_SYNC_SUPPORT_H

#include "crash_support.h"

#include <uv.h>

/* An actor's part of the shared memory. */
typedef struct sync_actor {
    uint32_t asked, answered; /* how many calls */
    int32_t call, object;     /* what to do, and with which: numbers of the test's own */
    int64_t number;           /* mostly a time-out */
    kin_err error;            /* what came of it */
    uint32_t thread;          /* the system's number of the thread */
    int64_t pid, result;
    uint64_t owner; /* the thread, as kin names it */
    char name[48];  /* of the process */
    char said[4096];
} sync_actor;

/* Does one call of an actor: a test program's own. What it returns is `error`; it may set `result`. */
typedef kin_err (*sync_perform)(void *shared, sync_actor *order);

/* What an actor runs until it is dismissed. For processes: the end of their target. */
int sync_act(sync_actor *actor, sync_perform perform, void *shared);

/* The parent's side. All zero at the beginning of each test. */
enum { SYNC_CREW = 64 };
typedef struct sync_member {
    sync_actor *actor;
    kin_process *process; /* NULL: a thread */
    uv_thread_t thread;
    sync_perform perform;
    void *shared;
} sync_member;
typedef struct sync_crew {
    sync_member members[SYNC_CREW];
    int count;
} sync_crew;

/* Adds an actor whose part is `actor`: a process that runs `target` with `args` and calls sync_act there; or a thread. Ready when this returns. */
void sync_enlist_process(sync_crew *crew, sync_actor *actor, kin_target target, kin_pack args);
void sync_enlist_process_named(sync_crew *crew, sync_actor *actor, kin_target target, kin_pack args, const char *name);
void sync_enlist_thread(sync_crew *crew, sync_actor *actor, sync_perform perform, void *shared);
/* Has all end, asserting that they do. */
void sync_dismiss(sync_crew *crew);
/* Has one end, as by return from its target; its place in the crew stays empty. */
void sync_dismiss_one(sync_crew *crew, int member);
/* After a test that failed half-way: ends who is still there; false if a thread cannot be ended, so that the memory must stay. */
bool sync_abandon(sync_crew *crew);

/* Has it begin a call; gives what came of the call; both at once. */
void sync_ask(sync_actor *actor, int call, int object, int64_t number);
kin_err sync_answer(sync_actor *actor);
kin_err sync_do(sync_actor *actor, int call, int object, int64_t number);
/* Has it begin a call that must wait, and returns when it sleeps. */
void sync_ask_asleep(sync_actor *actor, int call, int object, int64_t number);
bool sync_answered(sync_actor *actor);
bool sync_is_asleep(const sync_actor *actor);
/* Waits until it sleeps. */
bool sync_until_asleep(sync_actor *actor);

/* Runs `body` with each of `count` (up to 64) arguments of `size` bytes, in a thread each, until all have ended. */
void sync_threads(uv_thread_cb body, void *arguments, size_t size, int count);
/* Milliseconds of CPU that this process has used. */
int64_t sync_cpu_ms(void);

#endif
