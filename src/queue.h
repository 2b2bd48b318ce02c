/* What the files share that make up a queue: queue.c (putting and getting), queue_make.c (making, passing, closing), queue_join.c
 * (counting what is not dealt with). */
#ifndef KIN_SRC_QUEUE_H
#define KIN_SRC_QUEUE_H

#include "handle.h"
#include "message.h"
#include "ring.h"
#include "segment.h"

#define KIN__LANES 16u /* kin__bag_tag has four bits for them */
#define KIN__QUEUE_NAME 40

/* At the second 128 bytes of the segment. The table of what processes got and have not dealt with follows if the queue is joinable,
 * then the rings. */
typedef struct kin__queue_shared {
    uint32_t lanes, flags;
    uint32_t units;   /* of each lane */
    uint32_t carried; /* a message with handles was put: there may be ends of pipes among them */
    uint64_t max_message;
    uint64_t abandoned;
    char name[KIN__QUEUE_NAME];
    uint64_t pad2[7];
    kin__gate gate;
} kin__queue_shared;
_Static_assert(sizeof(kin__queue_shared) == 256 && offsetof(kin__queue_shared, gate) == 128, "layout in shared memory");

struct kin_queue {
    kin__mark mark;
    kin__header *header;
    kin__queue_shared *shared;
    uint64_t *got; /* NULL: not joinable */
    os_handle bag[2];
    uint32_t lanes;
    uint32_t cursor; /* where the next get begins to look: lane * TURN, and how many it gave in a row */
    char name[KIN__QUEUE_NAME], shown[KIN__QUEUE_NAME];
    kin__flow flows[KIN__LANES];
};

static inline bool kin__is_queue(const void *p) { return kin__handle_is(p, KIN__MARK_QUEUE); }

/* KIN_EINVAL with a sentence. */
kin_err kin__not_a_queue(const void *p);
/* What is wrong with a call, with a sentence. */
kin_err kin__queue_wrong_call(const kin_queue *q, int64_t timeout_ms);

static inline kin_err kin__check_queue(const kin_queue *q, int64_t timeout_ms)
{
    return kin__is_queue(q) && timeout_ms >= KIN_FOREVER && kin__my.session != NULL ? KIN_OK : kin__queue_wrong_call(q, timeout_ms);
}

#endif
