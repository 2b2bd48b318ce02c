/* A semaphore: a number of units to take and to give. With a bound it never holds more than that, under any
 * interleaving. Taking and giving a unit when nobody waits are one atomic operation each.
 *
 * Units belong to nobody: any process may give what another took, so a process that dies with some takes them along.
 * Where they stand for something that a process uses (slots, licences, connections) ask for `undo`: then each unit
 * that is out is marked with the process that has it, only that process can give it back, and what a dead process
 * had is there again (as with SysV's SEM_UNDO, but never applied twice or half).
 *
 * Death     who dies                          what the others see
 *           who has units, without undo       the units stay out: nothing tells them from used ones
 *           who has units, with undo          the units are there again; who waits for one gets it
 *           a waiter                          nothing, also if it was the one just woken: another gets the unit
 *           a waiter, as it takes a unit      as for one who has it
 *           who is giving                     the unit was given, or was not; never two
 *
 * Semaphores take no part in the search for deadlocks: nobody in particular has to give the unit that a waiter needs.
 */
#ifndef KIN_SEMAPHORE_H
#define KIN_SEMAPHORE_H

#include "object.h"

KIN_BEGIN

#define KIN_SEMAPHORE_MAX 2147483647 /* units                 */
#define KIN_SEMAPHORE_UNDO_MAX 56    /* units, with undo      */

/* 512 bytes, aligned to 8. */
struct kin_semaphore {
    kin__object kin__o;
    uint64_t kin__users[KIN_SEMAPHORE_UNDO_MAX]; /* with undo: who has each unit */
};

typedef struct kin_semaphore_options {
    const char *name; /* for messages; copied, the first 39 bytes */
    int64_t bound;    /* the most units it may hold; 0: KIN_SEMAPHORE_MAX, or with undo the number it begins with */
    bool undo;        /* the units of a process that dies come back. The bound is then the number it begins with,
                         and at most KIN_SEMAPHORE_UNDO_MAX */
} kin_semaphore_options;

/* Creates a semaphore with `units` units in a segment of its own, or makes the struct at `semaphore` one.
 * KIN_EINVAL: negative units, more units than the bound, a bound out of range, undo with a bound of 0 or with
 * another than `units`. */
KIN_API kin_err kin_semaphore_create(kin_semaphore **semaphore, int64_t units, const kin_semaphore_options *options);
KIN_API kin_err kin_semaphore_init(kin_semaphore *semaphore, int64_t units, const kin_semaphore_options *options);
KIN_API void kin_semaphore_close(kin_semaphore *semaphore);

/* Takes a unit, waiting up to `timeout_ms` for one. KIN_ETIMEDOUT; KIN_EINTERRUPTED: this process was asked to stop
 * (kin_process_interrupt); KIN_EINVAL as kin_lock_acquire. Who waits longest is woken first, but who comes just then
 * may be faster. */
KIN_API kin_err kin_semaphore_acquire(kin_semaphore *semaphore, int64_t timeout_ms);

/* Gives a unit, or `units` at once, and wakes as many waiters. Nothing changes on failure:
 * KIN_ERANGE  it would hold more than its bound
 * KIN_EPERM   with undo: this process does not have so many
 * KIN_EINVAL  no semaphore, closed, or units < 1 */
KIN_API kin_err kin_semaphore_release(kin_semaphore *semaphore);
KIN_API kin_err kin_semaphore_release_many(kin_semaphore *semaphore, int64_t units);

/* How many units it holds now; -1 if it is no open semaphore. */
KIN_API int64_t kin_semaphore_units(const kin_semaphore *semaphore);

KIN_END

#endif
