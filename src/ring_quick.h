/* What nearly all puts and gets are, in as few instructions as can be: a short message of bytes, room for it as far as was last seen,
 * the latch to be had at once, nothing unusual about the record or the ring. Each answers false, having done nothing, where a closer
 * look is needed (ring_put.c, ring_get.c). The steps, and their order, are those of ring.h. */
#ifndef KIN_SRC_RING_QUICK_H
#define KIN_SRC_RING_QUICK_H

#include "fault.h"
#include "ring_inside.h"

#include <string.h>

/* Whether the other end may have gone since that was last looked at. */
static inline bool kin__flow_to_be_looked_at(const kin__flow *f)
{
    return f->pair != OS_NO_HANDLE &&
           (kin__load32_relaxed(&f->broken) != 0 || kin__load32(&kin__my.session->epoch) != kin__load32_relaxed(&f->epoch));
}

static inline bool kin__put_quickly(kin__flow *f, const void *bytes, size_t size, uint32_t what)
{
    kin__ring *r = f->ring;
    uint64_t me = kin__me;
    if (me == 0 || size >= f->quick || kin__flow_to_be_looked_at(f))
        return false;
    kin__entry entry = kin__latch_try(&r->putter, f->ordered, me);
    if (entry == KIN__NOT_IN)
        return false;
    KIN_CRASH_POINT("ring.locked");
    uint64_t tail = kin__load64_relaxed(&r->tail);
    uint32_t position = kin__position(tail), at = position & f->mask, units = ((uint32_t)size + 2 * KIN__UNIT - 1) / KIN__UNIT;
    bool done = at + units <= f->mask + 1 && f->mask + 1 - (position - kin__position(kin__load64_relaxed(&r->head_seen))) >= units &&
                kin__load32(&f->gate->closed) == 0;
    if (done) {
        kin__record *record = kin__record_at(f, at);
        record->size = (uint32_t)size;
        record->what = (uint16_t)what;
        record->handles = 0;
        kin__store64_release(&record->state, kin__state(KIN__READY, kin__items(tail), 0));
        if (size != 0)
            memcpy(record + 1, bytes, size);
        KIN_CRASH_POINT("ring.written.quickly");
        kin__store64_release(&r->tail, kin__further(tail, 1, units));
        KIN_CRASH_POINT("ring.committed");
    }
    kin__ring_unlock(f, true, me, entry);
    kin__ring_look_after_put(f, done);
    return done;
}

/* Whether there is anything behind the head. The tail is a producer's: it is not looked at while what was seen of it does. */
static inline bool kin__ring_has_more(const kin__ring *r)
{
    uint64_t head = kin__load64_relaxed(&r->head);
    return kin__behind(kin__load64_relaxed(&r->tail_seen), head) || kin__behind(kin__load64(&r->tail), head);
}

static inline bool kin__get_quickly(kin__flow *f, void *buffer, size_t space, size_t *size, uint32_t what)
{
    kin__ring *r = f->ring;
    uint64_t me = kin__me;
    /* Nothing is locked only to find that there is nothing: others would wait for that. */
    if (me == 0 || f->got != NULL || !kin__ring_has_more(r))
        return false;
    kin__entry entry = kin__latch_try(&r->getter, f->ordered, me);
    if (entry == KIN__NOT_IN)
        return false;
    KIN_CRASH_POINT("ring.getting");
    uint64_t head = kin__load64_relaxed(&r->head), tail = kin__load64_relaxed(&r->tail_seen);
    if (!kin__behind(tail, head))
        tail = kin__ring_see_tail(r, head);
    uint32_t at = kin__position(head) & f->mask, there = kin__position(tail) - kin__position(head);
    kin__record *record = kin__record_at(f, at);
    uint32_t bytes = record->size, units = bytes / KIN__UNIT + 1 + (bytes % KIN__UNIT != 0);
    bool done = kin__ring_in_step(r, head) && kin__behind(tail, head) && record->what == what && record->handles == 0 && bytes <= space &&
                kin__state_what(kin__load64(&record->state)) == KIN__READY && units <= there && units <= f->mask + 1 - at;
    if (done) {
        *size = bytes;
        if (bytes != 0)
            memcpy(buffer, record + 1, bytes);
        KIN_CRASH_POINT("ring.got");
        kin__store64_release(&r->head, kin__further(head, 1, units));
        kin__ring_moved(f);
    }
    kin__ring_unlock(f, false, me, entry);
    kin__ring_look_after_get(f);
    return done;
}

#endif
