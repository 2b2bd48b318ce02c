/* What a pool's parent and its workers share.
 *
 * Tasks are grouped in units of consecutive items; each unit has one word that says all about it:
 *
 *     [attempt:8][position:24][owner:32]
 *
 * position: the next item of the unit that is to run, or is running; attempt: how often that item was tried before;
 * owner: 0, the worker that runs it, or KIN__DONE. A worker claims by CAS(owner 0 -> me), moves the position after
 * each item, and ends with KIN__DONE. So when a worker dies, the words that name it say exactly which item it was
 * running: that one fails or is tried again, the rest of the unit goes back to owner 0, in one CAS. A worker is
 * named by a number that no other worker of the pool ever has.
 *
 * `kick` says whether a job is open: even and not 0, open; odd, closed. A worker that sees it change says which one
 * it has entered (`entered`), looks again, and leaves if it was too late; the parent changes a job only when it is
 * closed and nobody is in it. */
#ifndef KIN_SRC_POOL_H
#define KIN_SRC_POOL_H

#include "handle.h"
#include "kin/pool.h"
#include "kin/process.h"
#include "kin/segment.h"
#include "start.h"
#include "segment.h"
#include "session.h"

#include <uv.h>

#define KIN__DONE 0xffffffffu
#define KIN__UNIT_MOST ((size_t)1 << 23) /* items in a unit: the position has 24 bits */
#define KIN__MESSAGE_SIZE 208

typedef struct kin__worker {
    uint64_t entered; /* the kick it is in; 0: in none                     */
    uint64_t idle_at; /* the last kick it found nothing more to do in      */
    uint64_t done;    /* items it has ended in this job, and failed ones   */
    uint64_t failed;
    uint64_t pad[12];
} kin__worker;
_Static_assert(sizeof(kin__worker) == 128, "two cache lines, against prefetch in pairs");

typedef struct kin__pool_shared {
    uint64_t kick;
    uint64_t id;    /* what idle workers sleep on; id + 1: what the parent sleeps on */
    uint32_t stop;  /* the workers are to end */
    uint32_t worker_count;
    uint32_t fault; /* why a worker cannot run the job: a kin_err, with a sentence */
    uint32_t pad;
    char why[KIN__MESSAGE_SIZE];
    uint64_t arena; /* id of the arena's segment */
    uint64_t pad2[1];
    kin__worker workers[];
} kin__pool_shared;
_Static_assert(sizeof(kin__pool_shared) % 64 == 0, "workers begin a cache line");

typedef struct kin__task_record {
    uint64_t index;
    int32_t code;
    uint32_t died;
    uint32_t ready;
    uint32_t pad;
    char message[KIN__MESSAGE_SIZE];
} kin__task_record;

/* A job: the beginning of the arena, a segment the pool keeps and enlarges as needed. Offsets from here. */
typedef struct kin__job {
    uint64_t cursor; /* a hint: the first unit nobody has looked at */
    uint64_t pad[7];
    uint64_t records_used;
    uint64_t pad2[7];
    uint64_t count, unit_size, units;
    uint64_t in_size, out_size;
    uint64_t adaptive; /* units may be claimed in runs */
    uint64_t retries;
    uint64_t array; /* id of the array's segment for a map in place, else 0 */
    uint64_t words, status, records, in, out;
    uint64_t records_space;
    uint64_t function_size;
    uint64_t abandon; /* 1: start no more items */
    char function[1152];
} kin__job;

static inline uint64_t kin__unit(uint64_t attempt, uint64_t position, uint32_t owner)
{
    return attempt << 56 | position << 32 | owner;
}
static inline uint32_t kin__unit_owner(uint64_t word) { return (uint32_t)word; }
static inline uint64_t kin__unit_position(uint64_t word) { return word >> 32 & 0xffffff; }
static inline uint64_t kin__unit_attempt(uint64_t word) { return word >> 56; }

static inline void *kin__job_at(const kin__job *job, uint64_t offset)
{
    return (char *)(uintptr_t)job + offset;
}
/* How many items a unit has: the last may have fewer. */
static inline uint64_t kin__unit_items(const kin__job *job, uint64_t unit)
{
    uint64_t left = job->count - unit * job->unit_size;
    return left < job->unit_size ? left : job->unit_size;
}

/* Notes that an item failed. */
void kin__job_failed(kin__job *job, uint64_t index, int code, bool died, const char *message);

/* What is sent to a worker over its channel, with one handle: the arena, or the array of a map in place. */
typedef struct kin__delivery {
    uint64_t id; /* of the segment */
    uint64_t is_array;
} kin__delivery;

/* The target of a worker: its pool, its index, its number, its channel. */
int kin__worker_main(kin_args *args);

/* ---- the owner's side: pool.c and pool_map.c ---- */

/* A worker as the owner sees it. */
typedef struct kin__seat {
    kin_process *process; /* NULL: nobody sits here */
    os_handle channel;
    uint32_t number;
    uint64_t arena, array; /* what was sent to it */
} kin__seat;

struct kin_pool {
    kin__mark mark;
    int count;
    uint32_t numbers; /* given out so far */
    uint32_t terminated;
    uint32_t users; /* calls under way */
    uv_mutex_t map_mutex;  /* one map at a time          */
    uv_mutex_t seat_mutex; /* who sits where             */
    kin_segment *segment;
    kin__pool_shared *shared;
    kin__header *arena;
    char name[KIN__NAME_SIZE - 12];
    kin__seat seats[];
};

bool kin__is_pool(const kin_pool *pool);
kin_err kin__not_a_pool(const kin_pool *pool);
/* Starts a worker in seat `index`, which is empty; or takes one that has ended away. */
kin_err kin__pool_seat(kin_pool *pool, int index);
void kin__pool_unseat(kin_pool *pool, int index);
/* Kills the worker in a seat, and waits until it is gone if it could be killed. */
void kin__pool_kill(kin_pool *pool, int index);

/* ---- progress.c ---- */
typedef struct kin__progress {
    kin_progress now;
    uint64_t began, last_ns, last_line_ns;
    size_t last_done;
    bool drawn;
} kin__progress;
void kin__progress_begin(kin__progress *p, size_t total);
/* Brings the figures up to date, calls back and draws, if it is time or the end. */
void kin__progress_tell(kin__progress *p, const kin_map_options *options, size_t done, size_t failed, bool end);

#endif
