/* A barrier: a fixed number of threads that wait for each other, round after round (Python's Barrier).
 *
 * Each round is complete when as many threads as the barrier has parties have come; then all go on. A barrier breaks
 * when a wait times out, when somebody calls kin_barrier_abort, when an action fails, and when a participant dies.
 * Then all waits end with KIN_EBROKEN, and those to come too, until kin_barrier_reset.
 *
 * Death     who dies                          what the others see
 *           a waiter, at any moment           KIN_EBROKEN at once, naming it; unless the round was complete already
 *           the last to come, before all      the same
 *           are released; or in the action
 *           one that took part in the last    the same, if it was killed or crashed; one that ended by itself (exit, return) is
 *           round and has not come again      replaced by whoever comes in its stead
 *           who aborts or resets              it is done, or the barrier is broken, or nothing happened
 */
#ifndef KIN_BARRIER_H
#define KIN_BARRIER_H

#include "lock.h"

KIN_BEGIN

#define KIN_BARRIER_MAX 240 /* parties */

/* 4 096 bytes, aligned to 8. */
struct kin_barrier {
    kin__object kin__o;
    kin_lock kin__guard;
    int64_t kin__timeout;
    uint64_t kin__culprit; /* why it is broken: who died */
    uint64_t kin__reason;
    struct {
        uint64_t thread, process;
    } kin__guardian;         /* who last had the guard */
    uint64_t kin__resets[8]; /* a bit for each of the last rounds: it ended by a reset */
    uint64_t kin__spare[3];
    struct {
        uint64_t thread, process;
    } kin__members[KIN_BARRIER_MAX]; /* who has which index */
};

typedef struct kin_barrier_options {
    const char *name;   /* for messages; copied, the first 39 bytes */
    int64_t timeout_ms; /* for waits with KIN_FOREVER; 0: for ever  */
} kin_barrier_options;

/* As kin_lock_create, kin_lock_init and kin_lock_close. KIN_EINVAL: parties < 1 or > KIN_BARRIER_MAX, or a negative
 * time-out. */
KIN_API kin_err kin_barrier_create(kin_barrier **barrier, int64_t parties, const kin_barrier_options *options);
KIN_API kin_err kin_barrier_init(kin_barrier *barrier, int64_t parties, const kin_barrier_options *options);
KIN_API void kin_barrier_close(kin_barrier *barrier);

/* Waits for the others. `index`, if not NULL, gets a number from 0 to parties - 1 that no other thread of this round
 * gets; as long as the same threads come, each keeps its own. KIN_FOREVER means the barrier's own time-out, if it
 * has one.
 *
 * KIN_OK         all have come
 * KIN_ETIMEDOUT  they have not come in time; the barrier is broken now
 * KIN_EBROKEN    the barrier is broken, or was reset meanwhile; kin_last_error() says why and who died
 * KIN_EINVAL     no barrier, closed, a wrong time-out; KIN_NOWAIT breaks the barrier unless this is the last to come */
KIN_API kin_err kin_barrier_wait(kin_barrier *barrier, int64_t timeout_ms, int *index);

/* The same, and the last to come runs `action` once before anybody goes on (each caller gives its own; that of the
 * last is run). If it gives anything but KIN_OK, the barrier breaks, and the caller gets what the action gave. */
KIN_API kin_err kin_barrier_wait_action(kin_barrier *barrier, kin_err (*action)(void *arg), void *arg, int64_t timeout_ms, int *index);

/* Breaks it: who waits, or will, gets KIN_EBROKEN. */
KIN_API kin_err kin_barrier_abort(kin_barrier *barrier);

/* Makes it as new; who is waiting gets KIN_EBROKEN, but for those whose round was complete. */
KIN_API kin_err kin_barrier_reset(kin_barrier *barrier);

/* How many it is for, how many are waiting now, and whether it is broken. 0 and false if it is no open barrier. */
KIN_API int kin_barrier_parties(const kin_barrier *barrier);
KIN_API int kin_barrier_waiting(const kin_barrier *barrier);
KIN_API bool kin_barrier_is_broken(const kin_barrier *barrier);

KIN_END

#endif
