/* The queue: one ring, or for a relaxed one a ring for each of several producers, in a segment. A producer's lane is a ring whose
 * `putter` is its own (latch.h): it puts without taking a lock, and when it dies the lane is taken over. The first lane is common to
 * those who find no other. What a queue adds to the ring: lanes (here), passing (queue_make.c), counting what is not dealt with
 * (queue_join.c). */
#include "queue.h"

#include "error.h"
#include "fault.h"
#include "ring_quick.h"

#define TURN 32u /* messages from one lane while others wait */

kin_err kin__not_a_queue(const void *p)
{
    return p == NULL ? kin__fail(KIN_EINVAL, "the queue is NULL")
                     : kin__fail(KIN_EINVAL, "not a queue, or it was closed");
}

KIN__NOINLINE kin_err kin__queue_wrong_call(const kin_queue *q, int64_t timeout_ms)
{
    if (!kin__is_queue(q))
        return kin__not_a_queue(q);
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "queue '%s': a time-out of %lld ms", q->shown, (long long)timeout_ms);
    return kin__check_init();
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (args == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': there is no place for the values", q->shown);
    return kin__get_args(&(kin__source){"queue", q->shown, get_from_any, q}, args, timeout_ms);
}

/* ---- in place ---- */

kin_err kin_queue_reserve(kin_queue *q, kin_message *message, size_t size, int64_t timeout_ms)
{
    kin_err err = kin__check_queue(q, timeout_ms);
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
    kin_err err = kin__check_queue(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (message == NULL)
        return kin__fail(KIN_EINVAL, "queue '%s': the message is NULL", q->shown);
    take_into t = {q, message};
    return get_any(q, take_from, &t, timeout_ms);
}

static kin_err finish(kin_queue *q, kin_message *message, kin_err (*how)(kin__flow *, kin_message *, bool), bool other)
{
    kin_err err = kin__check_queue(q, KIN_FOREVER);
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
    for (uint32_t i = 0; kin__check_queue(q, KIN_FOREVER) == KIN_OK && i < q->lanes; i++)
        size += kin__flow_count(&q->flows[i]);
    return size;
}

bool kin_queue_empty(kin_queue *q) { return kin__check_queue(q, KIN_FOREVER) != KIN_OK || !has_message(q); }

bool kin_queue_full(kin_queue *q, size_t size)
{
    if (kin__check_queue(q, KIN_FOREVER) != KIN_OK)
        return true;
    kin__flow *f = own_flow(q);
    if (kin__flow_writable(f, size))
        return false;
    kin__flow_sweep(f);
    return !kin__flow_writable(f, size);
}

const char *kin_queue_name(const kin_queue *q)
{
    if (kin__is_queue(q))
        return q->name;
    (void)kin__not_a_queue(q);
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
    kin_err err = kin__check_queue(q, KIN_FOREVER);
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
    if (kin__is_queue(q))
        kin__flow_arm(put ? own_flow(q) : q->flows, put);
}

/* One that is closed meanwhile is ready: whoever looks then gets its error. */
bool kin__queue_ready(const kin_queue *queue, bool put, size_t room)
{
    kin_queue *q = (kin_queue *)(uintptr_t)queue;
    if (!kin__is_queue(q))
        return true;
    if (!put)
        return kin__flows_readable(q->flows, q->lanes) || kin__flows_ended(q->flows, q->lanes, false);
    kin__flow *f = own_flow(q);
    return kin__flow_over(f) || kin__flow_has_room(f, room) || kin__flow_unswept(f);
}
