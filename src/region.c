/* Messages that are worked on where they lie: reserved ones are written there, taken ones read there, and nobody waits for either.
 * They make the region of a ring, between `head` and `next` (ring.h); this file finds what in it is for whoever comes next, and
 * moves the head when its oldest records are done. Every step may be the last of its process: states are changed by
 * compare-and-swap from what names the owner, and whoever has `getter` can begin again. */
#include "ring_inside.h"

#include "error.h"
#include "fault.h"
#include "segment.h"

#include <string.h>

/* READY if a consumer can have it; what stands for a process that is gone is put right. */
static uint32_t settle(kin__record *record, uint64_t *state)
{
    uint64_t seen = kin__load64(&record->state);
    for (;;) {
        uint32_t what = kin__state_what(seen);
        if ((what != KIN__WRITING && what != KIN__TAKEN) || kin__process_alive(kin__state_who(seen))) {
            *state = seen;
            return what;
        }
        uint64_t right = kin__state_as(seen, what == KIN__WRITING ? KIN__FINISHED : KIN__READY);
        if (kin__cas64(&record->state, &seen, right)) {
            seen = right;
            KIN_CRASH_POINT("region.settled");
        }
    }
}

void kin__region_advance(kin__flow *f)
{
    kin__ring *r = f->ring;
    kin__record *record;
    uint64_t head = kin__load64_relaxed(&r->head), tail = kin__load64(&r->tail), before = head, after, state;
    while (kin__behind(tail, head) && kin__ring_step(f, head, tail, &record, &after) && settle(record, &state) == KIN__FINISHED) {
        kin__ring_leave(f, after, record);
        head = after;
        KIN_CRASH_POINT("region.advanced");
    }
    if (head != before) /* no consumer need have come by here for a long time */
        (void)kin__ring_see_tail(r, head);
}

/* The first READY record between the head and `end`. */
static bool first_ready(kin__flow *f, uint64_t end, kin__found *found)
{
    kin__found here = {.region = true};
    for (here.at = kin__load64_relaxed(&f->ring->head); kin__behind(end, here.at); here.at = here.after) {
        if (!kin__ring_step(f, here.at, end, &here.record, &here.after))
            return false;
        if (settle(here.record, &here.state) == KIN__READY) {
            *found = here;
            return true;
        }
    }
    return false;
}

/* The first READY record of the region. */
static bool look_through(kin__flow *f, kin__found *found)
{
    kin__ring *r = f->ring;
    uint64_t next = kin__ring_next(r, kin__load64_relaxed(&r->head));
    /* First, so that whatever becomes READY from now on is told anew. */
    kin__store32(&r->epoch, kin__load32(&kin__my.session->epoch));
    kin__store32(&r->returned, 0);
    KIN_CRASH_POINT("region.looking");
    bool any = first_ready(f, next, found);
    while (any && first_ready(f, found->at, found)) {
        /* One before it may have been committed first, after we looked at it. */
    }
    if (any) {
        kin__store32(&r->returned, 1); /* there may be more */
        /* A consumer that looked while it was cleared may sleep, and this record's producer have looked before it did. */
        if ((kin__load64(&f->gate->waits) & KIN__WAITS_GET) != 0)
            (void)kin__or64(&r->waits, KIN__TELL);
    }
    return any;
}

/* A record was taken out of those that are READY; if it was the only one nobody need be told. The caller has `getter`. */
static void tell_no_more(kin__flow *f)
{
    kin__found other;
    uint64_t head = kin__load64_relaxed(&f->ring->head);
    if ((kin__load64(&f->ring->waits) & KIN__TELL) != 0 && !first_ready(f, kin__ring_next(f->ring, head), &other))
        (void)kin__and64(&f->ring->waits, ~(uint64_t)KIN__TELL);
}

kin_err kin__region_find(kin__flow *f, kin__found *found)
{
    kin__ring *r = f->ring;
    uint64_t head = kin__load64_relaxed(&r->head);
    if (kin__ring_may_return(r) && look_through(f, found)) {
        kin__region_advance(f); /* for who waits for room: this one may stay */
        return KIN_OK;
    }
    kin__region_advance(f);
    for (;;) {
        head = kin__load64_relaxed(&r->head);
        uint64_t tail = kin__load64(&r->tail);
        found->at = kin__ring_next(r, head);
        kin__store64_release(&r->tail_seen, tail);
        if (!kin__behind(tail, found->at))
            return KIN_EEMPTY;
        if (!kin__ring_step(f, found->at, tail, &found->record, &found->after))
            return kin__ring_damaged(f);
        uint32_t what = settle(found->record, &found->state);
        found->past = true;
        found->region = kin__behind(found->at, head);
        if (what == KIN__READY) { /* before it was put, one that was passed over may have been committed, or its taker have died */
            if (kin__ring_may_return(r))
                (void)look_through(f, found);
            return KIN_OK;
        }
        kin__store64_release(&r->next, found->after); /* passed over */
        KIN_CRASH_POINT("region.passed");
        kin__region_advance(f);
    }
}

void kin__region_remove(kin__flow *f, const kin__found *found)
{
    kin__store64_release(&found->record->state, kin__state_as(found->state, KIN__FINISHED));
    KIN_CRASH_POINT("region.finished");
    if (found->past)
        kin__store64_release(&f->ring->next, found->after);
    KIN_CRASH_POINT("region.removed");
    kin__region_advance(f);
    tell_no_more(f);
}

/* Which ring it is of, beside its state: places in two rings look alike. */
static uint32_t stamp(const kin__flow *f, uint32_t what)
{
    uint64_t id = f->ring->id_room;
    return what | (uint32_t)(id ^ id >> 32) << 8;
}

uint32_t kin__flow_count(kin__flow *f)
{
    kin__found here = {0};
    kin__entry entry;
    uint64_t me = kin__load32(&f->ring->in_place) != 0 ? kin__thread_me() : 0;
    if (me == 0 || kin__ring_lock(f, false, me, KIN_NOWAIT, 0, &entry) != KIN_OK)
        return kin__flow_items(f);
    uint32_t count = 0;
    uint64_t at = kin__load64_relaxed(&f->ring->head), tail = kin__load64(&f->ring->tail);
    for (; kin__behind(tail, at) && kin__ring_step(f, at, tail, &here.record, &here.after); at = here.after)
        count += settle(here.record, &here.state) != KIN__FINISHED;
    (void)kin__ring_find(f, &here); /* and what is done with leaves, as far as it can */
    kin__ring_unlock(f, false, me, entry);
    kin__ring_look_after_get(f);
    return count;
}

/* The records between head and tail stay what they are as long as the head stays. */
uint32_t kin__region_by(const kin__flow *f)
{
    const kin__ring *r = f->ring;
    if (kin__load32(&r->in_place) == 0)
        return 0;
    for (;;) {
        kin__record *record;
        uint64_t head = kin__load64(&r->head), tail = kin__load64(&r->tail), after;
        uint32_t by = 0;
        for (uint64_t at = head; kin__behind(tail, at) && kin__ring_step(f, at, tail, &record, &after); at = after) {
            uint64_t state = kin__load64(&record->state);
            uint32_t what = kin__state_what(state);
            if ((what == KIN__WRITING || what == KIN__TAKEN) && kin__process_alive(kin__state_who(state)))
                by |= kin__state_who(state) == kin__my.id ? KIN__BY_US : KIN__BY_OTHERS;
            else if (what == KIN__READY || what == KIN__TAKEN) /* whoever changed that, or notices the death, is about to tell */
                by |= KIN__BY_NOBODY;
        }
        if (kin__load64(&r->head) == head)
            return by;
    }
}

static void note_in_place(kin__flow *f)
{
    if (kin__load32(&f->ring->in_place) == 0)
        kin__store32(&f->ring->in_place, 1);
}

/* ---- reserving ---- */

typedef struct reservation {
    kin__letter letter;
    uint64_t real;
    kin__record *record;
    uint32_t position;
} reservation;

/* It may be worked on for as long as anybody likes, and is not used again. */
static kin_err make_large(size_t size, void **data, os_handle *handle)
{
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_SEGMENT, size, &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "a message of %zu bytes", size);
    *data = kin__header_data(header);
    return kin__segment_find(header, &header, handle);
}

static kin_err try_reserve(kin__flow *f, void *arg)
{
    reservation *v = arg;
    uint64_t tail = kin__load64_relaxed(&f->ring->tail);
    kin_err err = kin__ring_place(f, &v->letter, v->real, KIN__WRITING, &tail, &v->record);
    if (err == KIN_OK)
        kin__store64_release(&f->ring->tail, tail);
    KIN_CRASH_POINT("region.reserved");
    return err;
}

static uint64_t record_offset(const kin__flow *f, const kin__record *record)
{
    return (uint64_t)((const char *)record - f->data);
}

kin_err kin__flow_reserve(kin__flow *f, kin_message *m, size_t size, int64_t timeout_ms)
{
    kin_err err = kin__ring_check_size(f, size);
    if (err != KIN_OK)
        return err;
    if (kin__thread_me() == 0)
        return kin_last_code();
    bool large = size > kin__flow_most(f);
    reservation v = {.letter = {.size = size, .what = KIN__BYTES}};
    os_handle handle;
    void *data = NULL;
    if (large) {
        err = make_large(size, &data, &handle);
        if (err != KIN_OK)
            return err;
        v.letter = (kin__letter){.handles = &handle, .handle_count = 1, .what = KIN__BYTES | KIN__LARGE};
        v.real = size;
    }
    note_in_place(f);
    err =
        kin__ring_put_waiting(f, try_reserve, &v, kin__record_units(v.letter.handle_count, v.letter.size), timeout_ms);
    if (err != KIN_OK) {
        if (large)
            kin__segment_release(data);
        return err;
    }
    m->data = large ? data : kin__record_bytes(v.record);
    m->size = size;
    m->kin__m.at = record_offset(f, v.record);
    m->kin__m.tag = kin__load64(&v.record->state);
    m->kin__m.mapping = large ? (uint64_t)(uintptr_t)data : 0;
    m->kin__m.what = stamp(f, KIN__WRITING);
    return KIN_OK;
}

/* The record of a message of this process's; NULL with a sentence if the message is not (any more) what it should be. */
static kin__record *own_record(kin__flow *f, const kin_message *m, uint32_t what, const char *how)
{
    if (m->kin__m.what == stamp(f, what) && m->kin__m.at % KIN__UNIT == 0 &&
        m->kin__m.at < (uint64_t)kin__flow_units(f) * KIN__UNIT && kin__state_what(m->kin__m.tag) == what &&
        kin__state_who(m->kin__m.tag) == kin__my.id)
        return (kin__record *)(void *)(f->data + m->kin__m.at);
    kin__fail(KIN_EINVAL, "%s '%s': the message is not %s (any more)", f->kind, f->name, how);
    return NULL;
}

static void forget(kin_message *m)
{
    if (m->kin__m.mapping != 0)
        kin__segment_release((void *)(uintptr_t)m->kin__m.mapping);
    memset(m, 0, sizeof *m);
}

/* From the state in the message to another; KIN_EINVAL if it is not in that state. */
static kin_err change(kin__flow *f, kin__record *record, const kin_message *m, uint32_t what, const char *how)
{
    uint64_t state = m->kin__m.tag;
    if (kin__cas64(&record->state, &state, kin__state_as(state, what)))
        return KIN_OK;
    return kin__fail(KIN_EINVAL, "%s '%s': the message is not %s (any more)", f->kind, f->name, how);
}

/* Of a ring that was shut down, others may wait for just this record, to have it or to learn that nothing comes any more. Its state was
 * changed by a compare-and-swap, so they see that, or this their bits. */
static void tell_if_shut(kin__flow *f)
{
    if (kin__load32(&f->gate->closed) != 0 && (kin__load64(&f->gate->waits) & KIN__WAITS_GET) != 0)
        kin__wake_by_bit(&f->gate->waits, KIN__WAITS_GET, f->gate->id, KIN__EVERYONE);
}

/* Something that lies before `next` may be for a consumer now. */
static void tell_consumers(kin__flow *f)
{
    /* Mostly it is set: then the line stays where it is. Whoever clears it looks at the states after that, and sees this one. */
    if (kin__load32(&f->ring->returned) == 0)
        kin__store32(&f->ring->returned, 1);
    KIN_CRASH_POINT("region.told");
    kin__ring_look_after_put(f, 1);
    tell_if_shut(f);
}

/* What was done, or cancelled, may have been what the head stood at. */
static void make_room(kin__flow *f)
{
    kin__entry entry;
    if (kin__ring_lock(f, false, kin__me, KIN_FOREVER, KIN__NEVER, &entry) == KIN_OK) {
        kin__region_advance(f);
        kin__ring_unlock(f, false, kin__me, entry);
        kin__ring_look_after_get(f);
    }
    tell_if_shut(f);
}

kin_err kin__flow_commit(kin__flow *f, kin_message *m, bool cancel)
{
    kin__record *record = own_record(f, m, KIN__WRITING, "reserved");
    if (record == NULL || kin__thread_me() == 0)
        return kin_last_code();
    kin_err err = change(f, record, m, cancel ? KIN__FINISHED : KIN__READY, "reserved");
    if (err != KIN_OK)
        return err;
    KIN_CRASH_POINT("region.committed");
    forget(m);
    if (cancel)
        make_room(f);
    else
        tell_consumers(f);
    return KIN_OK;
}

/* ---- taking ---- */

typedef struct taking {
    kin_message *message;
    os_handle segment;
} taking;

static kin_err try_take(kin__flow *f, void *arg)
{
    taking *t = arg;
    kin__found found;
    kin_err err = kin__ring_find(f, &found);
    if (err != KIN_OK)
        return err;
    kin__record *record = found.record;
    if ((record->what & KIN__KIND) != KIN__BYTES)
        return kin__fail(KIN_ETYPE, "%s '%s': the next message is values, which cannot be taken in place: kin_queue_get_args", f->kind,
                         f->name);
    if (kin__record_large(record)) {
        kin__bagged *bagged = kin__record_bagged(record);
        err = kin__bag_look(f, bagged, 1, &t->segment);
        if (err == KIN_ELOST) {
            kin__ring_remove(f, &found);
            return try_take(f, arg);
        }
        if (err != KIN_OK)
            return err;
    }
    kin_message *m = t->message;
    m->data = kin__record_bytes(record);
    m->size = (size_t)kin__record_size(record);
    m->kin__m.at = record_offset(f, record);
    m->kin__m.tag = kin__state(KIN__TAKEN, (uint32_t)(found.state >> 40), kin__my.id);
    m->kin__m.mapping = 0;
    m->kin__m.what = stamp(f, KIN__TAKEN);
    kin__store64_release(&record->state, m->kin__m.tag);
    KIN_CRASH_POINT("region.taking");
    if (found.past)
        kin__store64_release(&f->ring->next, found.after);
    KIN_CRASH_POINT("region.taken");
    if (found.region)
        tell_no_more(f);
    return KIN_OK;
}

kin_err kin__flow_take(kin__flow *f, kin_message *m, int64_t timeout_ms)
{
    taking t = {m, OS_NO_HANDLE};
    note_in_place(f);
    kin_err err = kin__ring_get_waiting(f, try_take, &t, timeout_ms);
    if (err != KIN_OK || t.segment == OS_NO_HANDLE)
        return err;
    kin__header *header;
    err = kin__segment_adopt(t.segment, KIN_TYPE_SEGMENT, &header);
    if (err == KIN_OK && header->size < m->size) {
        kin__segment_release(header);
        err = kin__ring_damaged(f);
    } else if (err != KIN_OK) {
        os_handle_close(t.segment);
    }
    if (err != KIN_OK) {
        kin__error_kept kept;
        kin__error_keep(&kept);
        (void)kin__flow_done(f, m, true);
        kin__error_back(&kept);
        return err;
    }
    m->data = kin__header_data(header);
    m->kin__m.mapping = (uint64_t)(uintptr_t)header;
    return KIN_OK;
}

/* The memory of a large one is its producer's again. */
static void say_got(const kin_message *m)
{
    kin__header *header;
    os_handle handle;
    const void *mapping = (const void *)(uintptr_t)m->kin__m.mapping;
    if (mapping != NULL && kin__segment_find(mapping, &header, &handle) == KIN_OK)
        kin__store32(&header->got, 1);
}

kin_err kin__flow_done(kin__flow *f, kin_message *m, bool give_back)
{
    kin__record *record = own_record(f, m, KIN__TAKEN, "taken");
    if (record == NULL || kin__thread_me() == 0)
        return kin_last_code();
    kin_err err = change(f, record, m, give_back ? KIN__READY : KIN__FINISHED, "taken");
    if (err != KIN_OK)
        return err;
    KIN_CRASH_POINT("region.given");
    if (!give_back)
        say_got(m);
    forget(m);
    if (give_back)
        tell_consumers(f);
    else
        make_room(f);
    return KIN_OK;
}
