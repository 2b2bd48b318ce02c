/* Making a queue, passing it to another process, closing it. What arrives may come from a hostile or broken process. */
#include "queue.h"

#include "error.h"
#include "large.h"

#include <string.h>

#define MIN_CAPACITY ((size_t)4096)
#define MAX_CAPACITY ((uint64_t)1 << 32)

enum { JOINABLE = 1, RELAXED = 2 };

#define SHARED_AT (128 - sizeof(kin__header)) /* in the data of the segment */
#define GOT_BYTES (KIN__PROCESSES * sizeof(uint64_t))

static size_t got_bytes(uint32_t flags) { return (flags & JOINABLE) != 0 ? GOT_BYTES : 0; }
static size_t lane_size(uint32_t units) { return (kin__ring_size(units) + 127) / 128 * 128; }

static kin_err check_options(const kin_queue_options *o, uint64_t *capacity)
{
    *capacity = MIN_CAPACITY * (o->relaxed ? KIN__LANES : 1);
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
    kin__queue_shared *s = (kin__queue_shared *)(void *)((char *)kin__header_data(header) + SHARED_AT);
    kin_queue *q = kin__handle_new(KIN__MARK_QUEUE, sizeof *q);
    if (q == NULL)
        return KIN_ENOMEM;
    q->header = header;
    q->shared = s;
    q->lanes = l->lanes;
    for (int i = 0; i < 2; i++)
        q->bag[i] = OS_BAG_HANDLES != 0 ? bag[i] : OS_NO_HANDLE;
    memcpy(q->name, s->name, KIN__QUEUE_NAME - 1);
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
    layout l = {.lanes = o->relaxed ? KIN__LANES : 1,
                .flags = (o->joinable ? JOINABLE : 0u) | (o->relaxed ? RELAXED : 0u),
                .max_message = o->max_message};
    l.units = (uint32_t)(capacity / l.lanes / KIN__UNIT);
    kin__header *header;
    err = kin__segment_new(KIN_TYPE_QUEUE,
                           SHARED_AT + sizeof(kin__queue_shared) + got_bytes(l.flags) + l.lanes * (uint64_t)lane_size(l.units),
                           &header);
    if (err != KIN_OK)
        return err;
    kin__queue_shared *s = (kin__queue_shared *)(void *)((char *)kin__header_data(header) + SHARED_AT);
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
    if (!kin__is_queue(q))
        return kin__not_a_queue(q);
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
    if (size < SHARED_AT + sizeof(kin__queue_shared))
        return false;
    const kin__queue_shared *s = (const kin__queue_shared *)(const void *)((const char *)kin__header_data(header) + SHARED_AT);
    *l = (layout){kin__load32(&s->lanes), kin__load32(&s->flags), kin__load32(&s->units), kin__load64(&s->max_message)};
    uint64_t left = size - SHARED_AT - sizeof *s;
    if ((l->lanes != 1 && l->lanes != KIN__LANES) || (l->units & (l->units - 1)) != 0 || l->units < 64 ||
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
    kin_err err = kin__check_queue(q, KIN_FOREVER);
    for (uint32_t i = 0; err == KIN_OK && i < q->lanes; i++)
        kin__flow_shut(&q->flows[i]);
    return err;
}
