/* The ring itself: what it looks like, its two locks, waking, whether it is over. ring.h says how it works; ring_put.c and ring_get.c
 * are its two sides, region.c what is worked on where it lies, bag.c what goes beside messages. Nothing waits while it holds a
 * lock, and a message is copied before the store that makes it one. */
#include "ring_inside.h"

#include "error.h"
#include "fault.h"

#define NOWAIT_MS 20 /* how long even KIN_NOWAIT waits for who is in the middle of a put or a get */

/* ---- the ring itself ---- */

void kin__flow_begin(kin__flow *f)
{
    size_t most = kin__flow_most(f);
    if (f->ring->max_items == 0)
        f->quick = 1 + (f->max_message != 0 && f->max_message < most ? f->max_message : most);
}

void kin__ring_init(kin__ring *r, uint32_t units, uint32_t max_items)
{
    r->id_room = kin__unique();
    r->putter.id = kin__unique();
    r->getter.id = kin__unique();
    r->units = units;
    r->max_items = max_items;
    r->waits = kin__waits_new();
}

bool kin__ring_valid(const kin__ring *r, size_t size)
{
    uint32_t units = size >= sizeof *r ? kin__load32(&r->units) : 0;
    return units >= 64 && (units & (units - 1)) == 0 && units <= (uint32_t)1 << 28 && kin__ring_size(units) <= size;
}

bool kin__ring_step(const kin__flow *f, uint64_t at, uint64_t tail, kin__record **record, uint64_t *after)
{
    uint32_t there = kin__position(tail) - kin__position(at),
             to_end = kin__flow_units(f) - (kin__position(at) & f->mask);
    for (int i = 0; i < 2 && there != 0 && there <= kin__flow_units(f); i++) {
        kin__record *r = kin__record_at(f, kin__position(at));
        bool pad = r->what == KIN__PAD;
        uint64_t units = pad ? to_end : kin__record_units(r->handles, r->size);
        if (r->handles > OS_BAG_MOST || units > there || units > to_end ||
            (kin__record_large(r) && (r->handles == 0 || r->size != 0)))
            break;
        at = kin__further(at, pad ? 0 : 1, (uint32_t)units);
        if (!pad) {
            *record = r;
            *after = at;
            return true;
        }
        there -= (uint32_t)units; /* what follows a pad was committed with it, and begins the ring */
        to_end = kin__flow_units(f);
    }
    return false;
}

kin_err kin__ring_damaged(const kin__flow *f)
{
    return kin__fail(KIN_EPROTO, "%s '%s': what it holds is damaged", f->kind, f->name);
}

/* ---- waking ---- */

void kin__ring_wake_after_put(kin__flow *f, uint32_t messages)
{
    kin__waits_fence(&f->gate->waits, &f->ring->calm_gate);
    kin__waits_fence(&f->ring->waits, &f->ring->calm_put);
    if (messages != 0 && (kin__load64(&f->gate->waits) & KIN__WAITS_GET) != 0)
        kin__wake_by_bit(&f->gate->waits, KIN__WAITS_GET, f->gate->id, messages);
    if ((kin__load64(&f->ring->waits) & KIN__WAITS_PUTTER) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_PUTTER, f->ring->putter.id, 1);
    if ((kin__load64(&f->ring->waits) & KIN__UNTIDY) != 0)
        kin__bag_tidy(f);
}

void kin__ring_wake_after_get(kin__flow *f, uint64_t which)
{
    kin__waits_fence(&f->ring->waits, &f->ring->calm_get);
    uint64_t waits = kin__load64(&f->ring->waits) & which;
    if ((waits & KIN__TELL) != 0) {
        (void)kin__and64(&f->ring->waits, ~(uint64_t)KIN__TELL);
        kin__wake_by_bit(&f->gate->waits, KIN__WAITS_GET, f->gate->id, 1);
    }
    if ((waits & KIN__WAITS_ROOM) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_ROOM, f->ring->id_room, 1);
    if ((waits & KIN__WAITS_GETTER) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_GETTER, f->ring->getter.id, 1);
    /* While this had the lock, who joins left it to this to notice a death. */
    if ((waits & KIN__WAITS_JOIN) != 0 && (kin__flow_items(f) == 0 || kin__flow_unswept(f)))
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_JOIN, f->gate->id_join, KIN__EVERYONE);
    if ((waits & KIN__UNTIDY) != 0)
        kin__bag_tidy(f);
}

void kin__flow_wake_all(kin__flow *f)
{
    (void)kin__wake_all(f->gate->id);
    (void)kin__wake_all(f->gate->id_join);
    (void)kin__wake_all(f->ring->id_room);
}

void kin__flow_shut(kin__flow *f)
{
    kin__store32(&f->gate->closed, 1);
    KIN_CRASH_POINT("ring.closed");
    kin__flow_wake_all(f);
}

/* ---- the locks ---- */

kin__latch_of kin__ring_latch(kin__flow *f, bool putter)
{
    kin__ring *r = f->ring;
    return (kin__latch_of){putter ? &r->putter : &r->getter, &r->waits, putter ? KIN__WAITS_PUTTER : KIN__WAITS_GETTER,
                           f->ordered};
}

/* Whoever had it may have been in the middle. */
static void inherit(kin__flow *f, bool putter)
{
    KIN_CRASH_POINT("ring.taken.over");
    kin__ring *r = f->ring;
    if (!putter)
        kin__store32(&r->returned, 1); /* the dead may have been looking */
    else if (kin__behind(kin__load64_relaxed(&r->large), kin__load64_relaxed(&r->tail)))
        kin__store64_release(&r->large, 0);             /* its large message never was one */
    if (OS_BAG_HANDLES != 0 && f->pair == OS_NO_HANDLE) /* the other end of a pipe drops them, as it gets */
        (void)kin__or64(&r->waits, KIN__UNTIDY);
    KIN_CRASH_POINT("ring.inherited");
}

bool kin__ring_claim(kin__flow *f, bool putter, uint64_t me)
{
    kin__latch_of latch = kin__ring_latch(f, putter);
    bool inherited;
    if (!kin__latch_claim(&latch, me, kin__deadline(NOWAIT_MS), f->name, &inherited))
        return false;
    if (inherited)
        inherit(f, putter);
    return true;
}

static KIN__NOINLINE kin_err lock_slow(kin__flow *f, bool putter, uint64_t me, int64_t timeout_ms, uint64_t deadline)
{
    kin__latch_of latch = kin__ring_latch(f, putter);
    bool inherited;
    uint64_t who = 0;
    kin_err err = kin__latch_enter(&latch, me, timeout_ms == KIN_NOWAIT ? kin__deadline(NOWAIT_MS) : deadline, f->name,
                                   &inherited, &who);
    if (err != KIN_OK) {
        char text[192];
        if (!putter) /* who waits for room, or joins, may have left it to us to look: the rest is for who gets the lock */
            kin__ring_wake_after_get(f, KIN__WAITS_ROOM | KIN__WAITS_JOIN);
        kin__describe_thread(who, text, sizeof text);
        return kin__fail(err, "%s '%s': %s is in the middle of a %s and does not go on", f->kind, f->name, text,
                         putter ? "put" : "get");
    }
    if (inherited)
        inherit(f, putter);
    return KIN_OK;
}

kin_err kin__ring_lock(kin__flow *f, bool putter, uint64_t me, int64_t timeout_ms, uint64_t deadline, kin__entry *entry)
{
    *entry = kin__latch_try(putter ? &f->ring->putter : &f->ring->getter, f->ordered, me);
    if (*entry != KIN__NOT_IN)
        return KIN_OK;
    *entry = KIN__HELD;
    return lock_slow(f, putter, me, timeout_ms, deadline);
}

/* ---- whether it is over ---- */

bool kin__ring_look_over(kin__flow *f, bool surely)
{
    if (kin__load32(&f->gate->closed) != 0)
        return true;
    if (f->pair == OS_NO_HANDLE)
        return false;
    if (kin__load32_relaxed(&f->broken) != 0)
        return true;
    uint32_t epoch = kin__load32(&kin__my.session->epoch);
    if (!surely && epoch == kin__load32_relaxed(&f->epoch))
        return false;
    bool broken = os_pair_broken(f->pair);
    if (broken)
        kin__store32(&f->broken, 1);
    kin__store32(&f->epoch, epoch);
    return broken;
}

bool kin__flow_over(kin__flow *f) { return kin__ring_look_over(f, false); }

bool kin__flows_ended(kin__flow *flows, uint32_t count, bool surely)
{
    if (!kin__ring_look_over(flows, surely))
        return false;
    uint32_t by = 0;
    for (uint32_t i = 0; i < count; i++)
        by |= kin__region_by(&flows[i]);
    return by != KIN__BY_OTHERS && (by & KIN__BY_NOBODY) == 0;
}

kin_err kin__ring_over(const kin__flow *f)
{
    return f->pair == OS_NO_HANDLE ? kin__fail(KIN_EPIPE, "%s '%s' was shut down", f->kind, f->name)
                                   : kin__fail(KIN_EPIPE, "%s '%s': the other end is closed", f->kind, f->name);
}

uint32_t kin__flow_items(const kin__flow *f)
{
    uint64_t head = kin__load64(&f->ring->head); /* first: the head can never be beyond what the tail is after that */
    return kin__items(kin__load64(&f->ring->tail)) - kin__items(head);
}

/* ---- sleeping ---- */

kin_err kin__ring_sleep(const kin__wait *wait)
{
    kin_err err = kin__park_on(wait);
    return err == KIN_OK && wait->deadline != KIN__NEVER && kin__now_ns() >= wait->deadline ? KIN_ETIMEDOUT : err;
}
