/* What the synchronisation objects have in common: each is a plain struct that lives in a segment of its own
 * (..._create) or in shared memory of yours (..._init), is used in the same way in both, and can be passed either
 * way.
 *
 *     kin_lock *lock;                                        struct account { kin_lock lock; int64_t cents; };
 *     kin_lock_create(&lock, NULL);                          struct account *a = kin_array_data(accounts);
 *     kin_process_start(&p, work, KIN_ARGS(lock), NULL);     kin_lock_init(&a[0].lock, NULL);
 *
 * An object of its own costs a descriptor and a page in each process that has it; one in a struct costs its size.
 *
 * Death. A process may be killed at any instruction of any of these functions, and nobody else waits for it: what it
 * held is taken over, what it was waiting for goes to others, and who sleeps is woken. Time is never taken for
 * evidence: a process that is only stopped keeps what it holds, however long. What each object does is in the table
 * at the top of its header.
 *
 * A thread that was woken because it is its turn, and is stopped before it takes it, delays those who sleep behind
 * it until it goes on; those who come meanwhile are not delayed. A process that replaces itself (exec) keeps what
 * its threads held, for ever.
 *
 * Close an object, or use its memory for something else, only when all calls on it have returned; close it once for
 * each ..._create and each time it was unpacked, never for ..._init: that would give up the memory it is in.
 *
 * Time-outs are in milliseconds of the monotonic clock, KIN_FOREVER or KIN_NOWAIT; other negative numbers are
 * KIN_EINVAL. A thread that waits sleeps, after spinning for about as long as a wake-up costs, and uses no CPU then.
 */
#ifndef KIN_OBJECT_H
#define KIN_OBJECT_H

#include "any.h"

/* The beginning of each; all of it is kin's. */
typedef struct kin__object {
    uint64_t word; /* what it is about, in one */
    uint64_t id;
    uint32_t magic; /* which kind of object */
    uint32_t number;
    char name[40];
} kin__object;

#endif
