/* Pipes: connections over shared memory. One segment holds a ring for each direction. That an end is open is known to the system,
 * not to the segment: each process that has an end holds a handle of one side of an os_pair, and so does whatever is on its way
 * somewhere, so nobody counts, and no death can make a count wrong. The same pair keeps the handles that messages carry: what one
 * side puts in comes out at the other.
 *
 * Whoever closes an end cannot know whether it was the last of its side. So each close, as each death, is told by session->epoch,
 * and the other side looks for itself (kin__flow_over). The order is: the handle, the epoch, the sleepers. A death in between makes
 * good for what was not done, since it is told too. */
#include "connection.h"
#include "error.h"
#include "fault.h"
#include "large.h"
#include "segment.h"
#include "session.h"

#include <string.h>

#define CAPACITY_LEAST ((size_t)4096)
#define CAPACITY_USUAL ((size_t)65536)
#define CAPACITY_MOST ((uint64_t)1 << 32)

/* What the segment's data begins with. The blocks follow: a gate, a ring and its data each. Block 0 leads from the second end to
 * the first; block 1 back, unless it is one_way. */
typedef struct head {
    uint32_t one_way;
    uint32_t units;       /* of each ring */
    uint64_t max_message; /* bytes; 0: no limit */
    uint32_t carried;     /* a message with handles was sent: there may be ends of pipes among them */
    uint32_t pad;
    char name[40];
} head;
_Static_assert(sizeof(kin__header) + sizeof(head) == 128, "layout in shared memory: what follows is aligned to 128");

/* What of the head is needed, checked. */
typedef struct layout {
    uint32_t units, blocks;
    size_t max_message;
} layout;

typedef struct pipe_end {
    struct kin_connection c;
    head *shared;
    os_handle handle;  /* of the pair */
    uint64_t side;     /* 0: the first end, 1: the second */
    kin__flow in, out; /* `ring` is NULL if there is none */
} pipe_end;

static const kin__connection_ops pipe_ops;

static pipe_end *end_of(const kin_connection *c) { return (pipe_end *)(uintptr_t)c; }

static size_t block_size(uint32_t units) { return sizeof(kin__gate) + kin__ring_size(units); }

static kin__gate *block(head *shared, uint32_t units, size_t index)
{
    return (kin__gate *)(void *)((char *)(shared + 1) + index * block_size(units));
}

static kin__ring *ring_of(kin__gate *gate) { return (kin__ring *)(void *)(gate + 1); }

/* ---- making ends ---- */

static const char unnamed[40] = "(unnamed)";

static void make_flow(pipe_end *e, kin__flow *flow, const layout *l, size_t index)
{
    kin__gate *gate = block(e->shared, l->units, index);
    os_handle bag = OS_BAG_HANDLES != 0 ? e->handle : OS_NO_HANDLE;
    kin__ring *ring = ring_of(gate);
    *flow = (kin__flow){.ring = ring,
                        .data = (char *)(ring + 1),
                        .gate = gate,
                        .mask = l->units - 1,
                        .epoch = kin__load32(&kin__my.session->epoch) - 1, /* so that the first look is one */
                        .ordered = kin__my.session->ordered != 0,
                        .pair = e->handle,
                        .in = bag,
                        .out = bag,
                        .kind = "connection",
                        .name = e->c.name[0] != 0 ? e->c.name : unnamed,
                        .max_message = l->max_message};
    kin__flow_begin(flow);
}

/* Takes a reference to the segment and the handle over if it succeeds. */
static kin_err make_end(kin_connection **connection, kin__header *header, const layout *l, uint64_t side,
                        os_handle handle)
{
    pipe_end *e = kin__handle_new(KIN__MARK_CONNECTION, sizeof *e);
    if (e == NULL)
        return KIN_ENOMEM;
    e->shared = kin__header_data(header);
    e->handle = handle;
    e->side = side;
    e->c.ops = &pipe_ops;
    e->c.carries = true;
    e->c.receives = l->blocks == 2 || side == 0;
    e->c.sends = l->blocks == 2 || side == 1;
    memcpy(e->c.name, e->shared->name, sizeof e->c.name - 1);
    if (e->c.receives)
        make_flow(e, &e->in, l, side);
    if (e->c.sends)
        make_flow(e, &e->out, l, 1 - side);
    *connection = &e->c;
    return KIN_OK;
}

static kin_err choose(const kin_pipe_options *options, layout *l)
{
    size_t capacity = options != NULL && options->capacity != 0 ? options->capacity : CAPACITY_USUAL;
    if (capacity > CAPACITY_MOST)
        return kin__fail(KIN_EINVAL, "a pipe with a capacity of %zu bytes: at most %llu are possible", capacity,
                         (unsigned long long)CAPACITY_MOST);
    uint64_t bytes = CAPACITY_LEAST;
    while (bytes < capacity)
        bytes *= 2;
    *l = (layout){.units = (uint32_t)(bytes / KIN__UNIT),
                  .blocks = options != NULL && options->one_way ? 1 : 2,
                  .max_message = options != NULL ? options->max_message : 0};
    return KIN_OK;
}

static kin_err make_segment(const kin_pipe_options *options, const layout *l, kin__header **header)
{
    uint64_t size =
        sizeof(head) + (uint64_t)l->blocks * (sizeof(kin__gate) + sizeof(kin__ring) + (uint64_t)l->units * KIN__UNIT);
    kin_err err = kin__segment_new(KIN_TYPE_CONNECTION, size, header);
    if (err != KIN_OK)
        return err;
    head *h = kin__header_data(*header);
    *h = (head){.one_way = l->blocks == 1, .units = l->units, .max_message = l->max_message};
    if (options != NULL && options->name != NULL)
        (void)snprintf(h->name, sizeof h->name, "%s", options->name);
    for (uint32_t i = 0; i < l->blocks; i++) {
        kin__gate *gate = block(h, l->units, i);
        gate->id = kin__unique();
        gate->waits = kin__waits_new();
        gate->id_join = kin__unique();
        kin__ring_init(ring_of(gate), l->units, 0);
    }
    return KIN_OK;
}

/* Both ends, of a segment of which there is one reference: taken over if it succeeds. */
static kin_err make_ends(kin__header *header, const layout *l, kin_connection **first, kin_connection **second)
{
    os_handle a, b;
    kin_err err = os_pair_create(&a, &b);
    if (err != KIN_OK)
        return err;
    err = make_end(first, header, l, 0, a);
    if (err != KIN_OK) {
        os_handle_close(a);
        os_handle_close(b);
        return err;
    }
    kin__segment_reference(header);
    err = make_end(second, header, l, 1, b);
    if (err != KIN_OK) {
        kin_connection_close(*first);
        os_handle_close(b);
    }
    return err;
}

kin_err kin_pipe(kin_connection **first, kin_connection **second, const kin_pipe_options *options)
{
    layout l = {0};
    kin__header *header;
    kin_connection *a, *b;
    if (first == NULL || second == NULL || first == second)
        return kin__fail(KIN_EINVAL, "kin_pipe needs places for two connections");
    kin_err err = kin__order_begin();
    if (err == KIN_OK)
        err = choose(options, &l);
    if (err == KIN_OK)
        err = make_segment(options, &l, &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot make a pipe");
    err = make_ends(header, &l, &a, &b);
    if (err != KIN_OK) {
        kin__segment_release(header);
        return kin__fail_in(err, "cannot make a pipe");
    }
    *first = a;
    *second = b;
    return KIN_OK;
}

/* ---- sending and receiving ---- */

static kin_err in_time(const kin_connection *c, kin_err err, kin_err now, const char *what)
{
    return err == now ? kin__fail(KIN_ETIMEDOUT, "connection '%s': %s", c->name[0] != 0 ? c->name : "(unnamed)", what)
                      : err;
}

static kin_err pipe_send(kin_connection *c, const kin__letter *letter, int64_t timeout_ms)
{
    pipe_end *e = end_of(c);
    if (letter->handle_count != 0 && kin__load32(&e->shared->carried) == 0)
        kin__store32(&e->shared->carried, 1);
    return in_time(c, kin__flow_put(&e->out, letter, timeout_ms), KIN_EFULL, "no room now");
}

static kin_err pipe_receive(kin_connection *c, kin__sink *sink, int64_t timeout_ms)
{
    return in_time(c, kin__flow_get(&end_of(c)->in, sink, timeout_ms), KIN_EEMPTY, "nothing to receive now");
}

static kin_err pipe_poll(kin_connection *c, int64_t timeout_ms) { return kin__flow_poll(&end_of(c)->in, timeout_ms); }

static kin__flow *flow_of(const kin_connection *c, bool send) { return send ? &end_of(c)->out : &end_of(c)->in; }

static kin_err pipe_watch(const kin_connection *c, bool send, size_t room, kin__watched *watched)
{
    const kin__flow *flow = flow_of(c, send);
    watched->key = send ? flow->ring->id_room : flow->gate->id;
    return send ? kin__flow_check_room(flow, room) : KIN_OK;
}

static kin_err pipe_arm(const kin_connection *c, bool send)
{
    kin__flow_arm(flow_of(c, send), send);
    return KIN_OK;
}

static bool pipe_ready(const kin_connection *c, bool send, size_t room)
{
    kin__flow *flow = flow_of(c, send);
    return (send ? kin__flow_has_room(flow, room) : kin__flow_readable(flow)) || kin__flow_over(flow);
}

/* ---- closing and passing ---- */

static void pipe_close(kin_connection *c)
{
    pipe_end *e = end_of(c);
    os_handle_close(e->handle);
    kin__large_end(&e->in);
    kin__large_end(&e->out);
    KIN_CRASH_POINT("pipe.closed");
    if (kin__my.session == NULL)
        return;
    kin__add32(&kin__my.session->epoch, 1);
    KIN_CRASH_POINT("pipe.told");
    if (c->receives)
        kin__flow_wake_all(&e->in);
    if (c->sends)
        kin__flow_wake_all(&e->out);
    if (kin__load32(&e->shared->carried) != 0)
        kin__ends_dropped();
    KIN_CRASH_POINT("pipe.woken");
    kin__segment_release(e->shared);
}

static kin_err pipe_export(const kin_connection *c, os_handle *handles, size_t *count, uint64_t *side)
{
    const pipe_end *e = end_of(c);
    kin__header *header;
    os_handle segment;
    kin_err err = kin__segment_find(e->shared, &header, &segment);
    if (err == KIN_OK)
        err = os_handle_duplicate(segment, &handles[0]);
    if (err != KIN_OK)
        return err;
    err = os_handle_duplicate(e->handle, &handles[1]);
    if (err != KIN_OK) {
        os_handle_close(handles[0]);
        return err;
    }
    *count = 2;
    *side = e->side;
    return KIN_OK;
}

static kin_err damaged(void) { return kin__fail(KIN_EPROTO, "the shared memory of the connection is damaged"); }

/* It may come from a hostile or broken process: nothing is used before it is checked, and what was checked is not read again. */
static kin_err check_segment(const kin__header *header, layout *l)
{
    uint64_t size = header->size;
    head *h = kin__header_data(header);
    if (size < sizeof *h)
        return damaged();
    uint32_t units = kin__load32(&h->units), one_way = kin__load32(&h->one_way);
    uint64_t max_message = kin__load64(&h->max_message);
    if (units < CAPACITY_LEAST / KIN__UNIT || units > CAPACITY_MOST / KIN__UNIT || (units & (units - 1)) != 0 ||
        one_way > 1 || max_message > SIZE_MAX)
        return damaged();
    *l = (layout){.units = units, .blocks = one_way != 0 ? 1 : 2, .max_message = (size_t)max_message};
    uint64_t each = sizeof(kin__gate) + sizeof(kin__ring) + (uint64_t)units * KIN__UNIT;
    if (size != sizeof *h + l->blocks * each)
        return damaged();
    for (uint32_t i = 0; i < l->blocks; i++) {
        kin__ring *ring = ring_of(block(h, units, i));
        if (kin__load32(&ring->units) != units || !kin__ring_valid(ring, kin__ring_size(units)))
            return damaged();
    }
    return KIN_OK;
}

/* The handles stay the caller's if this fails: the segment is adopted by a duplicate. */
kin_err kin__connection_import(kin_connection **connection, os_handle *handles, size_t count, uint64_t side)
{
    layout l;
    kin__header *header;
    os_handle segment;
    if (count != 2 || side > 1)
        return kin__fail(KIN_EPROTO, "%zu handles are no end of a pipe", count);
    kin_err err = kin__order_begin();
    if (err == KIN_OK)
        err = os_handle_duplicate(handles[0], &segment);
    if (err != KIN_OK)
        return err;
    err = kin__segment_adopt(segment, KIN_TYPE_CONNECTION, &header);
    if (err != KIN_OK) {
        os_handle_close(segment);
        return err;
    }
    err = check_segment(header, &l);
    if (err == KIN_OK)
        err = make_end(connection, header, &l, side, handles[1]);
    if (err != KIN_OK)
        kin__segment_release(header);
    else
        os_handle_close(handles[0]);
    return err;
}

static const kin__connection_ops pipe_ops = {.send = pipe_send,
                                             .receive = pipe_receive,
                                             .poll = pipe_poll,
                                             .watch = pipe_watch,
                                             .arm = pipe_arm,
                                             .ready = pipe_ready,
                                             .close = pipe_close,
                                             .export_handles = pipe_export};
