/* The bag of a ring: handles beside messages (os.h). Its entries are numbered by the producers of each lane, one after the other; a
 * lane's `unbagged` says up to which number they are about no message any more. Those are dropped when they are the oldest of
 * all: lanes have one bag together, and what lies between does not go in order there. To look and to drop is for one at a
 * time, who has `getter` of the first lane. Nothing here waits for long. Whoever dies between two steps leaves entries too
 * many, never too few. An entry that is dropped later than its message, or never had one, may have been the last to hold an
 * end of a pipe: then those who wait at the other end are told. */
#include "error.h"
#include "fault.h"
#include "message.h"
#include "ring_inside.h"

#include <string.h>

/* With `getter` of its lane the caller locks the bag, where that is another's. */
static bool lock_bag(kin__flow *f, kin__entry *entry)
{
    *entry = KIN__NOT_IN;
    if (f->lane == 0 || OS_BAG_HANDLES == 0)
        return true;
    kin__error_kept kept; /* this happens within calls that succeed */
    kin__error_keep(&kept);
    kin_err err = kin__ring_lock(f->lanes, false, kin__me, KIN_NOWAIT, 0, entry);
    kin__error_back(&kept);
    return err == KIN_OK;
}

static void unlock_bag(kin__flow *f, kin__entry entry)
{
    if (entry == KIN__NOT_IN)
        return;
    kin__ring_unlock(f->lanes, false, kin__me, entry);
    kin__ring_look_after_get(f->lanes);
}

kin_err kin__bag_look(kin__flow *f, const kin__bagged *bagged, size_t count, os_handle *handles)
{
    kin__entry entry;
    if (!lock_bag(f, &entry))
        return KIN_EEMPTY; /* whoever has it does not go on */
    kin_err err = os_bag_look(f->out, bagged->tag, bagged->words, count, handles);
    unlock_bag(f, entry);
    return err;
}

static bool is_over(const kin__flow *f, uint64_t tag)
{
    const kin__flow *of = f->lanes != NULL ? &f->lanes[tag & 15] : f;
    return (tag >> 4) <= kin__load64(&of->ring->unbagged);
}

static kin__ring *first_ring(const kin__flow *f) { return f->lanes != NULL ? f->lanes->ring : f->ring; }

uint64_t kin__bag_dropped(const kin__flow *f) { return kin__load64(&first_ring(f)->dropped); }

/* The caller has the bag. Then come those who sleep as it was full: in the caller's ring it looks for them when it lets go. */
static void note_room(const kin__flow *f)
{
    kin__store64(&first_ring(f)->dropped, kin__bag_dropped(f) + 1);
    KIN_CRASH_POINT("ring.bag.room");
}

/* Who finds the bag full sleeps on its own lane, and what filled it may be of another. */
static void wake_for_room(const kin__flow *f)
{
    for (uint32_t i = 0; f->lanes != NULL && i < f->lane_count; i++) {
        kin__ring *r = f->lanes[i].ring;
        if ((kin__load64(&r->waits) & KIN__WAITS_ROOM) != 0)
            kin__wake_by_bit(&r->waits, KIN__WAITS_ROOM, r->id_room, 1);
    }
}

/* The caller has the bag. True if there were any but `own`, what belonged to the message that the caller has got. */
static bool drop_oldest(kin__flow *f, uint64_t own)
{
    bool any = false, others = false;
    for (uint64_t oldest; (oldest = os_bag_oldest(f->out)) != 0 && is_over(f, oldest); any = true) {
        (void)os_bag_drop(f->out, oldest, NULL, 0);
        others = others || oldest != own;
    }
    if (any) {
        note_room(f);
        wake_for_room(f);
    }
    if (others)
        kin__ends_dropped();
    return others;
}

void kin__bag_drop(kin__flow *f, uint64_t tag, const uint64_t *words, uint32_t count)
{
    kin__entry entry;
    KIN_CRASH_POINT("ring.unbagging");
    kin__store64_release(&f->ring->unbagged, tag >> 4);
    if (f->lanes == NULL || OS_BAG_HANDLES == 0) {
        bool others = os_bag_drop(f->out, tag, words, count); /* with all before it */
        if (OS_BAG_HANDLES != 0) /* else it is never full */
            note_room(f);
        if (others)
            kin__ends_dropped();
    } else if (lock_bag(f, &entry)) {
        (void)drop_oldest(f, tag);
        unlock_bag(f, entry);
    } else { /* who has it does not go on: it drops this when it does */
        (void)kin__or64(&f->lanes->ring->waits, KIN__UNTIDY);
    }
}

/* The caller has both sides of the ring: what it holds is all there is. */
static void find_over(kin__flow *f)
{
    kin__ring *r = f->ring;
    kin__record *record;
    uint64_t at = kin__load64(&r->head), tail = kin__load64(&r->tail), after, first = 0;
    for (; first == 0 && kin__ring_step(f, at, tail, &record, &after); at = after)
        first = record->handles != 0 ? kin__record_bagged(record)->tag >> 4 : 0;
    kin__store64_release(&r->unbagged, first != 0 ? first - 1 : r->bagged);
}

static bool lock_at_once(kin__flow *f, bool putter, kin__entry *entry)
{
    return kin__ring_lock(f, putter, kin__me, 1, 0, entry) == KIN_OK;
}

static void unlock(kin__flow *f, bool putter, kin__entry entry)
{
    kin__latch_of latch = kin__ring_latch(f, putter);
    kin__ring_unlock(f, putter, kin__me, entry);
    kin__waits_fence(&f->ring->waits, NULL);
    /* Who waits for room leaves it to who has `getter` to look for it. */
    if (!putter && (kin__load64(&f->ring->waits) & KIN__WAITS_ROOM) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_ROOM, f->ring->id_room, 1);
    kin__latch_look(&latch);
}

/* A lane is not taken away from the living: its messages would go on in another. */
static bool lock_putter(kin__flow *f, kin__entry *entry)
{
    if (f->lane == 0)
        return lock_at_once(f, true, entry);
    *entry = kin__latch_try(&f->ring->putter, f->ordered, kin__me);
    if (*entry == KIN__NOT_IN && kin__ring_claim(f, true, kin__me))
        *entry = KIN__HELD;
    return *entry != KIN__NOT_IN;
}

static void look_at(kin__flow *f, bool have_putter)
{
    kin__entry putter = KIN__NOT_IN, getter;
    if (!have_putter && !lock_putter(f, &putter))
        return;
    if (lock_at_once(f, false, &getter)) {
        (void)kin__and64(&f->ring->waits, ~(uint64_t)KIN__UNTIDY);
        KIN_CRASH_POINT("ring.tidying");
        find_over(f);
        unlock(f, false, getter);
    }
    if (!have_putter)
        unlock(f, true, putter);
}

static bool drop_all(kin__flow *f)
{
    kin__flow *first = f->lanes != NULL ? f->lanes : f;
    kin__entry entry;
    if (!lock_at_once(first, false, &entry))
        return false;
    bool any = drop_oldest(first, 0);
    unlock(first, false, entry);
    return any;
}

/* One that is in the way may be of any lane. */
bool kin__bag_purge(kin__flow *f)
{
    if (f->out == OS_NO_HANDLE || f->pair != OS_NO_HANDLE) /* the other end of a pipe drops them, as it gets */
        return false;
    kin__error_kept kept; /* this happens within calls that succeed */
    kin__error_keep(&kept);
    for (uint32_t i = 0; i < (f->lanes != NULL ? f->lane_count : 1); i++) {
        kin__flow *other = f->lanes != NULL ? &f->lanes[i] : f;
        look_at(other, other == f);
    }
    bool any = drop_all(f);
    kin__error_back(&kept);
    return any;
}

void kin__bag_tidy(kin__flow *f)
{
    kin__error_kept kept;
    if (f->out == OS_NO_HANDLE || f->pair != OS_NO_HANDLE)
        return;
    kin__error_keep(&kept);
    look_at(f, false);
    (void)drop_all(f);
    kin__error_back(&kept);
}
