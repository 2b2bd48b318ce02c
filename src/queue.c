/* The queue: one ring, or for a relaxed one a ring for each of several producers, in a segment. A producer's lane is a ring whose
 * `putter` is its own (latch.h): it puts without taking a lock, and when it dies the lane is taken over. The first lane is common to
 * those who find no other. What a queue adds to the ring: lanes, counting what is not dealt with, passing. */
#include "kin/queue.h"

#include "error.h"
#include "fault.h"
#include "handle.h"
#include "message.h"
#include "ring_quick.h"
#include "large.h"
#include "segment.h"

#include <string.h>

#define LANES 16u /* kin__bag_tag has four bits for them */
#define TURN 32u  /* messages from one lane while others wait */
#define MIN_CAPACITY ((size_t)4096)
#define MAX_CAPACITY ((uint64_t)1 << 32)
#define NAME_SIZE 40

enum { JOINABLE = 1, RELAXED = 2 };

/* At the second 128 bytes of the segment. The table of what processes got and have not dealt with follows if the queue is joinable,
 * then the rings. */
typedef struct shared {
    uint32_t lanes, flags;
    uint32_t units;   /* of each lane */
    uint32_t carried; /* a message with handles was put: there may be ends of pipes among them */
    uint64_t max_message;
    uint64_t abandoned;
    char name[NAME_SIZE];
    uint64_t pad2[7];
    kin__gate gate;
} shared;
_Static_assert(sizeof(shared) == 256 && offsetof(shared, gate) == 128, "layout in shared memory");

#define SHARED_AT (128 - sizeof(kin__header)) /* in the data of the segment */
#define GOT_BYTES (KIN__PROCESSES * sizeof(uint64_t))

struct kin_queue {
    kin__mark mark;
    kin__header *header;
    shared *shared;
    uint64_t *got; /* NULL: not joinable */
    os_handle bag[2];
    uint32_t lanes;
    uint32_t cursor; /* where the next get begins to look: lane * TURN, and how many it gave in a row */
    char name[NAME_SIZE], shown[NAME_SIZE];
    kin__flow flows[LANES];
};

static kin_err not_a_queue(const void *p)
{
    return p == NULL ? kin__fail(KIN_EINVAL, "the queue is NULL")
                     : kin__fail(KIN_EINVAL, "not a queue, or it was closed");
}

static inline bool is_queue(const void *p) { return kin__handle_is(p, KIN__MARK_QUEUE); }

static KIN__NOINLINE kin_err wrong_call(const kin_queue *q, int64_t timeout_ms)
{
    if (!is_queue(q))
        return not_a_queue(q);
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "queue '%s': a time-out of %lld ms", q->shown, (long long)timeout_ms);
    return kin__check_init();
}

static inline kin_err check_queue(const kin_queue *q, int64_t timeout_ms)
{
    return is_queue(q) && timeout_ms >= KIN_FOREVER && kin__my.session != NULL ? KIN_OK : wrong_call(q, timeout_ms);
}

/* ---- making, passing, closing ---- */

static size_t got_bytes(uint32_t flags) { return (flags & JOINABLE) != 0 ? GOT_BYTES : 0; }
static size_t lane_size(uint32_t units) { return (kin__ring_size(units) + 127) / 128 * 128; }

static kin_err check_options(const kin_queue_options *o, uint64_t *capacity)
{
    *capacity = MIN_CAPACITY * (o->relaxed ? LANES : 1);
    uint64_t wanted = o->capacity != 0 ? o->capacity : KIN_QUEUE_CAPACITY;
    if (wanted > MAX_CAPACITY)
        return kin__fail(KIN_EINVAL, "a queue of %zu bytes: at most 4 GiB", o->capacity);
    while (*capacity < wanted)
        *capacity *= 2;
    if (o->max_items > INT32_MAX)
        return kin__fail(KIN_EINVAL, "a queue of at most %zu items: the limit is 2^31 - 1", o->max_items);
    if (o->max_items != 0 && o->relaxed)
        return kin__fail(KIN_EINVAL, "a relaxed queue cannot be bounded by items");
    return KIN_OK;
}

/* What a queue's segment holds, read once: it may come from a hostile or broken process, which may go on writing. */
typedef struct layout {
    uint32_t lanes, flags, units;
    uint64_t max_message;
} layout;

/* The handle of a segment that is a queue. Takes everything over if it succeeds. */
static kin_err make_handle(kin_queue **queue, kin__header *header, const layout *l, const os_handle *bag)
{
    shared *s = (shared *)(void *)((char *)kin__header_data(header) + SHARED_AT);
    kin_queue *q = kin__handle_new(KIN__MARK_QUEUE, sizeof *q);
    if (q == NULL)
        return KIN_ENOMEM;
    q->header = header;
    q->shared = s;
    q->lanes = l->lanes;
    for (int i = 0; i < 2; i++)
        q->bag[i] = OS_BAG_HANDLES != 0 ? bag[i] : OS_NO_HANDLE;
    memcpy(q->name, s->name, NAME_SIZE - 1);
    (void)snprintf(q->shown, sizeof q->shown, "%s", q->name[0] != 0 ? q->name : "(unnamed)");
    char *at = (char *)(s + 1);
    q->got = (l->flags & JOINABLE) != 0 ? (uint64_t *)(void *)at : NULL;
    at += got_bytes(l->flags);
    for (uint32_t i = 0; i < q->lanes; i++, at += lane_size(l->units)) {
        kin__ring *ring = (kin__ring *)(void *)at;
        q->flows[i] = (kin__flow){.ring = ring,
                                  .data = at + sizeof *ring,
                                  .gate = &s->gate,
                                  .mask = l->units - 1,
                                  .ordered = kin__my.session->ordered != 0,
                                  .pair = OS_NO_HANDLE,
                                  .in = q->bag[0],
                                  .out = q->bag[1],
                                  .kind = "queue",
                                  .name = q->shown,
                                  .max_message = (size_t)l->max_message,
                                  .got = q->got,
                                  .lanes = q->lanes > 1 ? q->flows : NULL,
                                  .lane = i,
                                  .lane_count = q->lanes,
                                  .abandoned = &s->abandoned};
        kin__flow_begin(&q->flows[i]);
    }
    *queue = q;
    return KIN_OK;
}

static kin_err create(kin_queue **queue, const kin_queue_options *o)
{
    uint64_t capacity;
    kin_err err = check_options(o, &capacity);
    if (err == KIN_OK)
        err = kin__order_begin();
    if (err != KIN_OK)
        return err;
    layout l = {.lanes = o->relaxed ? LANES : 1,
                .flags = (o->joinable ? JOINABLE : 0u) | (o->relaxed ? RELAXED : 0u),
                .max_message = o->max_message};
    l.units = (uint32_t)(capacity / l.lanes / KIN__UNIT);
    kin__header *header;
    err = kin__segment_new(KIN_TYPE_QUEUE,
                           SHARED_AT + sizeof(shared) + got_bytes(l.flags) + l.lanes * (uint64_t)lane_size(l.units),
                           &header);
    if (err != KIN_OK)
        return err;
    shared *s = (shared *)(void *)((char *)kin__header_data(header) + SHARED_AT);
    s->lanes = l.lanes;
    s->flags = l.flags;
    s->units = l.units;
    s->max_message = l.max_message;
    s->gate.id = kin__unique();
    s->gate.waits = kin__waits_new();
    s->gate.id_join = kin__unique();
    if (o->name != NULL)
        (void)snprintf(s->name, sizeof s->name, "%s", o->name);
    char *at = (char *)(s + 1) + got_bytes(l.flags);
    for (uint32_t i = 0; i < l.lanes; i++)
        kin__ring_init((kin__ring *)(void *)(at + i * lane_size(l.units)), l.units, (uint32_t)o->max_items);
    os_handle bag[2] = {OS_NO_HANDLE, OS_NO_HANDLE};
    if (OS_BAG_HANDLES != 0)
        err = os_pair_create(&bag[0], &bag[1]);
    if (err == KIN_OK)
        err = make_handle(queue, header, &l, bag);
    if (err != KIN_OK) {
        os_handle_close(bag[0]);
        os_handle_close(bag[1]);
        kin__segment_release(header);
    }
    return err;
}

kin_err kin_queue_create(kin_queue **queue, const kin_queue_options *options)
{
    static const kin_queue_options defaults;
    if (queue == NULL)
        return kin__fail(KIN_EINVAL, "there is no place for the new queue");
    kin_err err = kin__check_init();
    if (err == KIN_OK)
        err = create(queue, options != NULL ? options : &defaults);
    return err == KIN_OK ? KIN_OK
                         : kin__fail_in(err, "cannot create the queue '%s'",
                                        options != NULL && options->name != NULL ? options->name : "(unnamed)");
}

kin_err kin__queue_export(const kin_queue *q, os_handle *handles, size_t *count)
{
    if (!is_queue(q))
        return not_a_queue(q);
    kin__header *header;
    os_handle own[3] = {0, q->bag[0], q->bag[1]};
    kin_err err = kin__segment_find(q->header, &header, &own[0]);
    for (*count = 0; *count < 1 + OS_BAG_HANDLES && err == KIN_OK; ++*count) {
        err = os_handle_duplicate(own[*count], &handles[*count]);
        if (err != KIN_OK)
            break;
    }
    return err;
}

static bool is_sound(const kin__header *header, layout *l)
{
    uint64_t size = kin__load64(&header->size);
    if (size < SHARED_AT + sizeof(shared))
        return false;
    const shared *s = (const shared *)(const void *)((const char *)kin__header_data(header) + SHARED_AT);
    *l = (layout){kin__load32(&s->lanes), kin__load32(&s->flags), kin__load32(&s->units), kin__load64(&s->max_message)};
    uint64_t left = size - SHARED_AT - sizeof *s;
    if ((l->lanes != 1 && l->lanes != LANES) || (l->units & (l->units - 1)) != 0 || l->units < 64 ||
        l->units > (uint32_t)(MAX_CAPACITY / KIN__UNIT) || left < got_bytes(l->flags) ||
        (left - got_bytes(l->flags)) / l->lanes < lane_size(l->units))
        return false;
    const char *at = (const char *)(s + 1) + got_bytes(l->flags);
    for (uint32_t i = 0; i < l->lanes; i++, at += lane_size(l->units)) {
        const kin__ring *ring = (const kin__ring *)(const void *)at;
        if (kin__load32(&ring->units) != l->units || !kin__ring_valid(ring, lane_size(l->units)))
            return false;
    }
    return true;
}

/* The handles stay the caller's if this fails: the segment is adopted by a duplicate. */
kin_err kin__queue_import(kin_queue **queue, os_handle *handles, size_t count)
{
    kin__header *header;
    os_handle segment;
    layout l;
    if (count != 1 + OS_BAG_HANDLES)
        return kin__fail(KIN_EPROTO, "%zu handles are no queue", count);
    kin_err err = kin__order_begin();
    if (err == KIN_OK)
        err = os_handle_duplicate(handles[0], &segment);
    if (err != KIN_OK)
        return err;
    err = kin__segment_adopt(segment, KIN_TYPE_QUEUE, &header);
    if (err != KIN_OK) {
        os_handle_close(segment);
        return err;
    }
    err = is_sound(header, &l) ? make_handle(queue, header, &l, handles + 1)
                               : kin__fail(KIN_EPROTO, "the queue's segment is damaged");
    if (err != KIN_OK)
        kin__segment_release(header);
    else
        os_handle_close(handles[0]);
    return err;
}

void kin_queue_close(kin_queue *q)
{
    if (!kin__handle_unmark(q, KIN__MARK_QUEUE))
        return;
    os_handle_close(q->bag[0]);
    os_handle_close(q->bag[1]);
    for (uint32_t i = 0; i < q->lanes; i++)
        kin__large_end(&q->flows[i]);
    if (kin__my.session != NULL && kin__load32(&q->shared->carried) != 0)
        kin__ends_dropped();
    kin__segment_release(q->header);
    kin__handle_free(q);
}

kin_err kin_queue_shutdown(kin_queue *q)
{
    kin_err err = check_queue(q, KIN_FOREVER);
    for (uint32_t i = 0; err == KIN_OK && i < q->lanes; i++)
        kin__flow_shut(&q->flows[i]);
    return err;
}

/* ---- lanes ---- */

/* Which lane the thread has in which queue. A thread that uses more queues than this at once may forget that it used the common lane
 * of one; then it goes on using that while anything is in it, so that its messages stay in order. */
#define REMEMBERED 8
typedef struct lane_memory {
    uint64_t gates[REMEMBERED];
    uint32_t lanes[REMEMBERED];
    uint32_t next;
    bool forgot;
} lane_memory;
static OS_THREAD_LOCAL lane_memory memory;

static void remember(const kin_queue *q, uint32_t lane)
{
    uint32_t at = memory.next++ % REMEMBERED;
    memory.forgot = memory.forgot || memory.gates[at] != 0;
    memory.gates[at] = q->shared->gate.id;
    memory.lanes[at] = lane;
}

static bool is_own(const kin__flow *f, uint64_t me)
{
    return kin__load64_relaxed(&f->ring->putter.word) == (me | KIN__OWN);
}

/* Makes a lane that is nobody's, or a dead thread's, this thread's. Never takes it away from another: what that one puts afterwards, in
 * another lane, could come before what it has put here. */
static bool claim_lane(kin__flow *f, uint64_t me)
{
    if (!kin__ring_claim(f, true, me))
        return false;
    KIN_CRASH_POINT("queue.claimed");
    kin__latch_leave(&f->ring->putter, f->ordered, me, KIN__HELD, true);
    kin__ring_look_after_put(f, 0); /* it may be untidy: nobody else can see to that now, and a put need not follow soon */
    return true;
}

static KIN__NOINLINE uint32_t find_lane(kin_queue *q)
{
    uint32_t lane = 0;
    uint64_t me = kin__thread_me();
    for (uint32_t i = 1; i < q->lanes && lane == 0 && me != 0; i++)
        lane = is_own(&q->flows[i], me) ? i : 0;
    bool may_claim = me != 0 && !(memory.forgot && kin__flow_items(&q->flows[0]) != 0);
    for (uint32_t i = 1; i < q->lanes && lane == 0 && may_claim; i++)
        lane = claim_lane(&q->flows[i], me) ? i : 0;
    KIN_CRASH_POINT("queue.lane");
    remember(q, lane);
    return lane;
}

/* The ring that this thread puts into. */
static kin__flow *own_flow(kin_queue *q)
{
    if (q->lanes == 1)
        return &q->flows[0];
    for (uint32_t i = 0; i < REMEMBERED; i++) {
        uint32_t lane = memory.lanes[i];
        if (memory.gates[i] == q->shared->gate.id && lane < q->lanes && (lane == 0 || is_own(&q->flows[lane], kin__me)))
            return &q->flows[lane];
    }
    return &q->flows[find_lane(q)];
}

/* Calls `get` for the lanes that have something, until one gives what is wanted. */
typedef kin_err (*get_from)(kin__flow *f, void *arg, int64_t timeout_ms);

static kin_err get_any(kin_queue *q, get_from get, void *arg, int64_t timeout_ms)
{
    if (q->lanes == 1)
        return get(&q->flows[0], arg, timeout_ms);
    if (kin__thread_me() == 0)
        return kin_last_code();
    kin__get_wait w = kin__get_wait_begin(q->flows, q->lanes, timeout_ms);
    kin_err err;
    do {
        uint32_t cursor = kin__load32_relaxed(&q->cursor), from = cursor / TURN;
        err = KIN_EEMPTY;
        for (uint32_t i = 0; i < q->lanes && (err == KIN_EEMPTY || err == KIN_EPIPE); i++) {
            uint32_t lane = (from + i) % q->lanes;
            if (!kin__flow_readable(&q->flows[lane]))
                continue;
            err = get(&q->flows[lane], arg, KIN__ONE_LOOK);
            /* A message that is not what was asked for is the next for other calls too. */
            if (err == KIN_OK)
                kin__store32_release(&q->cursor, ((i == 0 ? cursor : lane * TURN) + 1) % (q->lanes * TURN));
            else if (err != KIN_EEMPTY && err != KIN_EPIPE)
                kin__store32_release(&q->cursor, i == 0 ? cursor : lane * TURN);
        }
    } while ((err == KIN_EEMPTY || err == KIN_EPIPE) && (err = kin__get_wait_more(&w)) == KIN_OK);
    kin__get_wait_end(&w, err);
    return err;
}

/* ---- bytes ---- */

static kin_err nothing_at(const kin_queue *q, size_t size)
{
    return kin__fail(KIN_EINVAL, "queue '%s': %zu bytes at NULL", q->shown, size);
}

kin_err kin_queue_put(kin_queue *q, const void *data, size_t size, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL && size != 0)
        return nothing_at(q, size);
    kin__flow *f = own_flow(q);
    if (kin__put_quickly(f, data, size, KIN__BYTES))
        return KIN_OK;
    kin__letter letter = {.bytes = data, .size = size, .what = KIN__BYTES};
    return kin__flow_put(f, &letter, timeout_ms);
}

static kin_err get_sink(kin__flow *f, void *arg, int64_t timeout_ms) { return kin__flow_get(f, arg, timeout_ms); }

kin_err kin_queue_get(kin_queue *q, void *buffer, size_t space, size_t *size, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (buffer == NULL && space != 0)
        return nothing_at(q, space);
    size_t bytes;
    if (q->lanes == 1 && kin__get_quickly(&q->flows[0], buffer, space, &bytes, KIN__BYTES)) {
        if (size != NULL)
            *size = bytes;
        return KIN_OK;
    }
    kin__sink sink = {.buffer = buffer, .space = space, .what = KIN__BYTES};
    err = get_any(q, get_sink, &sink, timeout_ms);
    if (size != NULL && (err == KIN_OK || err == KIN_EMSGSIZE))
        *size = sink.size;
    return err;
}

static kin_err get_from_any(void *queue, kin__sink *sink, int64_t timeout_ms)
{
    return get_any(queue, get_sink, sink, timeout_ms);
}

kin_err kin_queue_get_new(kin_queue *q, void **data, size_t *size, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': there is no place for the message", q->shown);
    kin__sink sink = {.what = KIN__BYTES};
    err = kin__get_new(&(kin__source){"queue", q->shown, get_from_any, q}, &sink, 0, timeout_ms);
    if (err == KIN_OK) {
        *data = sink.buffer;
        if (size != NULL)
            *size = sink.size;
    }
    return err;
}

kin_err kin_queue_put_many(kin_queue *q, const kin_view *messages, size_t count, size_t *done, int64_t timeout_ms)
{
    size_t put = 0;
    kin_err err = check_queue(q, timeout_ms);
    if (err == KIN_OK && messages == NULL && count != 0)
        err = kin__fail(KIN_EINVAL, "queue '%s': %zu messages at NULL", q->shown, count);
    if (err == KIN_OK)
        err = kin__flow_put_many(own_flow(q), messages, count, &put, timeout_ms);
    if (done != NULL)
        *done = put;
    return err;
}

typedef struct get_many {
    void *buffer;
    size_t space, most, count;
    kin_view *messages;
} get_many;

static kin_err get_many_from(kin__flow *f, void *arg, int64_t timeout_ms)
{
    get_many *g = arg;
    return kin__flow_get_many(f, g->buffer, g->space, g->messages, g->most, &g->count, timeout_ms);
}

kin_err kin_queue_get_many(kin_queue *q, void *buffer, size_t space, kin_view *messages, size_t most, size_t *count,
                           int64_t timeout_ms)
{
    if (count != NULL)
        *count = 0;
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (messages == NULL || count == NULL || most == 0 || (buffer == NULL && space != 0))
        return kin__fail(KIN_EINVAL, "queue '%s': there is no place for messages", q->shown);
    get_many g = {buffer, space, most, 0, messages};
    err = get_any(q, get_many_from, &g, timeout_ms);
    *count = g.count;
    return err;
}

/* ---- values ---- */

kin_err kin_queue_put_args(kin_queue *q, kin_pack args, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    kin__parcel parcel = {0};
    err = kin__parcel_add_pack(&parcel, args);
    if (err == KIN_OK) {
        kin__letter letter = {.bytes = parcel.bytes,
                              .size = parcel.size,
                              .handles = parcel.handles,
                              .what = KIN__ARGS,
                              .handle_count =
                                  (uint32_t)(parcel.handle_count < UINT32_MAX ? parcel.handle_count : UINT32_MAX)};
        if (letter.handle_count != 0 && kin__load32(&q->shared->carried) == 0)
            kin__store32(&q->shared->carried, 1);
        err = kin__flow_put(own_flow(q), &letter, timeout_ms);
    } else {
        kin__fail_in(err, "queue '%s'", q->shown);
    }
    kin__parcel_free(&parcel);
    return err;
}

kin_err kin_queue_get_args(kin_queue *q, kin_args **args, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (args == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': there is no place for the values", q->shown);
    return kin__get_args(&(kin__source){"queue", q->shown, get_from_any, q}, args, timeout_ms);
}

/* ---- in place ---- */

kin_err kin_queue_reserve(kin_queue *q, kin_message *message, size_t size, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (message == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': the message is NULL", q->shown);
    kin__flow *f = own_flow(q);
    err = kin__flow_reserve(f, message, size, timeout_ms);
    if (err == KIN_OK)
        message->kin__m.lane = (uint32_t)(f - q->flows);
    return err;
}

typedef struct take_into {
    kin_queue *queue;
    kin_message *message;
} take_into;

static kin_err take_from(kin__flow *f, void *arg, int64_t timeout_ms)
{
    take_into *t = arg;
    kin_err err = kin__flow_take(f, t->message, timeout_ms);
    if (err == KIN_OK)
        t->message->kin__m.lane = (uint32_t)(f - t->queue->flows);
    return err;
}

kin_err kin_queue_take(kin_queue *q, kin_message *message, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (message == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': the message is NULL", q->shown);
    take_into t = {q, message};
    return get_any(q, take_from, &t, timeout_ms);
}

static kin_err finish(kin_queue *q, kin_message *message, kin_err (*how)(kin__flow *, kin_message *, bool), bool other)
{
    kin_err err = check_queue(q, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    if (message == NULL || message->data == NULL || message->kin__m.lane >= q->lanes)
        return kin__fail(KIN_EINVAL, "queue '%s': %s", q->shown,
                         message == NULL ? "the message is NULL" : "the message is not in place (any more)");
    return how(&q->flows[message->kin__m.lane], message, other);
}

kin_err kin_queue_commit(kin_queue *q, kin_message *message) { return finish(q, message, kin__flow_commit, false); }
kin_err kin_queue_cancel(kin_queue *q, kin_message *message) { return finish(q, message, kin__flow_commit, true); }
kin_err kin_queue_done(kin_queue *q, kin_message *message) { return finish(q, message, kin__flow_done, false); }
kin_err kin_queue_give_back(kin_queue *q, kin_message *message) { return finish(q, message, kin__flow_done, true); }

/* ---- joining ---- */

static kin_err check_joinable(const kin_queue *q, int64_t timeout_ms)
{
    kin_err err = check_queue(q, timeout_ms);
    return err == KIN_OK && q->got == NULL ? kin__fail(KIN_ESTATE, "queue '%s' was not made joinable", q->shown) : err;
}

kin_err kin_queue_task_done(kin_queue *q)
{
    kin_err err = check_joinable(q, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    uint64_t *at = &q->got[kin__my.place], word = kin__load64(at);
    do {
        if (word >> 40 != kin__pid_generation(kin__my.id) || (word & 0xffffffffffu) == 0)
            return kin__fail(KIN_EPERM, "queue '%s': task_done, but this process has dealt with all that it got",
                             q->shown);
    } while (!kin__cas64(at, &word, word - 1));
    KIN_CRASH_POINT("queue.task.done");
    if ((word & 0xffffffffffu) == 1)
        kin__wake_by_bit(&q->flows[0].ring->waits, KIN__WAITS_JOIN, q->shared->gate.id_join, KIN__EVERYONE);
    return KIN_OK;
}

static bool got_and_not_done(const kin_queue *q)
{
    uint32_t used = kin__load32(&kin__my.session->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&q->got[i]);
        if ((word & 0xffffffffffu) != 0 && kin__process_alive(kin__pid_of(i, (uint32_t)(word >> 40))))
            return true;
    }
    return false;
}

/* At one moment. Who got a message may put others before it says that it is done: so when nobody has any that it got, nothing may
 * have been put since the lanes were seen empty. */
static bool all_dealt_with(const kin_queue *q)
{
    uint64_t tails[LANES];
    for (uint32_t i = 0; i < q->lanes; i++) {
        tails[i] = kin__load64(&q->flows[i].ring->tail);
        if (kin__load64(&q->flows[i].ring->head) != tails[i])
            return false;
    }
    if (got_and_not_done(q))
        return false;
    for (uint32_t i = 0; i < q->lanes; i++) {
        if (kin__load64(&q->flows[i].ring->tail) != tails[i])
            return false;
    }
    return true;
}

static bool not_dealt_with(void *object)
{
    kin_queue *q = object;
    for (uint32_t i = 0; i < q->lanes; i++)
        kin__waits_arm(&q->flows[i].ring->waits, KIN__WAITS_JOIN);
    for (uint32_t i = 0; i < q->lanes; i++) {
        if (kin__flow_unswept(&q->flows[i]))
            return false;
    }
    return !all_dealt_with(q);
}

kin_err kin_queue_join(kin_queue *q, int64_t timeout_ms)
{
    kin_err err = check_joinable(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (kin__thread_me() == 0)
        return kin_last_code();
    uint64_t deadline = kin__deadline(timeout_ms), id = q->shared->gate.id_join;
    for (err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;;) {
        for (uint32_t i = 0; i < q->lanes && !all_dealt_with(q); i++) /* nobody else may come by */
            kin__flow_sweep(&q->flows[i]);
        if (err != KIN_OK || all_dealt_with(q))
            break;
        err = kin__park_on(&(kin__wait){.key = id,
                                        .must_sleep = not_dealt_with,
                                        .object = q,
                                        .deadline = deadline,
                                        .kind = KIN_TYPE_QUEUE,
                                        .name = q->shown,
                                        .interruptible = true});
    }
    if (err != KIN_OK && all_dealt_with(q))
        return KIN_OK;
    return err != KIN_ETIMEDOUT ? err
                                : kin__fail(err, "queue '%s': not all that was put is dealt with within %lld ms",
                                            q->shown, (long long)timeout_ms);
}

uint64_t kin_queue_abandoned(kin_queue *q)
{
    if (check_queue(q, KIN_FOREVER) != KIN_OK || q->got == NULL)
        return 0;
    uint64_t sum = kin__load64(&q->shared->abandoned);
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&q->got[i]), count = word & 0xffffffffffu;
        if (count != 0 && !kin__process_alive(kin__pid_of(i, (uint32_t)(word >> 40))))
            sum += count;
    }
    return sum;
}

/* ---- looking ---- */

static bool has_message(kin_queue *q)
{
    for (uint32_t i = 0; i < q->lanes; i++) {
        if (kin__flow_has(&q->flows[i]))
            return true;
    }
    return false;
}

size_t kin_queue_size(kin_queue *q)
{
    size_t size = 0;
    for (uint32_t i = 0; check_queue(q, KIN_FOREVER) == KIN_OK && i < q->lanes; i++)
        size += kin__flow_count(&q->flows[i]);
    return size;
}

bool kin_queue_empty(kin_queue *q) { return check_queue(q, KIN_FOREVER) != KIN_OK || !has_message(q); }

bool kin_queue_full(kin_queue *q, size_t size)
{
    if (check_queue(q, KIN_FOREVER) != KIN_OK)
        return true;
    kin__flow *f = own_flow(q);
    if (kin__flow_writable(f, size))
        return false;
    kin__flow_sweep(f);
    return !kin__flow_writable(f, size);
}

const char *kin_queue_name(const kin_queue *q)
{
    if (is_queue(q))
        return q->name;
    (void)not_a_queue(q);
    return "";
}

#if defined(KIN_TEST_HOOKS)
kin__flow *kin__queue_flow(kin_queue *q, uint32_t lane) { return &q->flows[lane]; }
#endif

/* ---- for kin_wait ---- */

/* Nothing is shown or held yet, so what dead processes left in the way can be dropped. */
kin_err kin__queue_watch(const kin_queue *queue, bool put, size_t room, kin__watched *watched)
{
    kin_queue *q = (kin_queue *)(uintptr_t)queue;
    kin_err err = check_queue(q, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    kin__flow *first = put ? own_flow(q) : q->flows;
    if (put && (err = kin__flow_check_room(first, room)) != KIN_OK)
        return err;
    watched->key = put ? first->ring->id_room : q->shared->gate.id;
    for (uint32_t i = 0; i < (put ? 1 : q->lanes); i++) {
        if (kin__flow_unswept(&first[i]))
            kin__flow_sweep(&first[i]);
    }
    return KIN_OK;
}

void kin__queue_arm(const kin_queue *queue, bool put)
{
    kin_queue *q = (kin_queue *)(uintptr_t)queue;
    if (is_queue(q))
        kin__flow_arm(put ? own_flow(q) : q->flows, put);
}

/* One that is closed meanwhile is ready: whoever looks then gets its error. */
bool kin__queue_ready(const kin_queue *queue, bool put, size_t room)
{
    kin_queue *q = (kin_queue *)(uintptr_t)queue;
    if (!is_queue(q))
        return true;
    if (!put)
        return kin__flows_readable(q->flows, q->lanes) || kin__flows_ended(q->flows, q->lanes, false);
    kin__flow *f = own_flow(q);
    return kin__flow_over(f) || kin__flow_has_room(f, room) || kin__flow_unswept(f);
}
