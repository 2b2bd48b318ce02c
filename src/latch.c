/* The slow half of the latch: waiting for it, taking it away, taking it over. latch.h says how it works. It must never make a latch
 * free while somebody may be within. */
#include "latch.h"

#include "fault.h"
#include "kin/any.h"

#define NEEDED_MOST ((uint32_t)1 << 24)

void kin__waits_arm(uint64_t *waits, uint64_t bit)
{
    uint64_t fence = kin__my.session->ordered != 0 ? KIN__FENCE : 0, seen = kin__load64(waits), armed;
    do {
        armed = (seen + KIN__WAITS_BITS + 1) | bit | fence;
    } while (!kin__cas64(waits, &seen, armed));
    if ((armed & KIN__FENCED) != 0) {
        kin__fence();
        return;
    }
    KIN_CRASH_POINT("waits.armed");
    kin__order_all();
    if (fence != 0)
        (void)kin__cas64(waits, &armed, armed | KIN__FENCED);
}

void kin__waits_fence(uint64_t *waits, uint32_t *calm)
{
    if ((kin__load64(waits) & KIN__FENCE) == 0)
        return;
    kin__fence();
    if (calm == NULL)
        return;
    uint64_t seen = kin__load64(waits);
    uint32_t times = (seen & KIN__SLEEPERS) != 0 ? 0 : kin__load32_relaxed(calm) + 1;
    bool enough = times >= KIN__CALM;
    kin__store32_release(calm, enough ? 0 : times);
    if (enough && kin__cas64(waits, &seen, seen & ~(KIN__FENCE | KIN__FENCED)))
        KIN_CRASH_POINT("waits.calm");
}

void kin__wake_by_bit(uint64_t *waits, uint64_t bit, uint64_t key, uint32_t most)
{
    KIN_CRASH_POINT("ring.waking");
    for (uint64_t seen = kin__load64(waits); (seen & bit) != 0; seen = kin__load64(waits)) {
        if ((most == KIN__EVERYONE ? kin__wake_all(key) : kin__wake_some(key, most)) != 0)
            return;
        KIN_CRASH_POINT("ring.unmarking");
        if (kin__cas64(waits, &seen, seen & ~bit))
            return;
    }
}

void kin__latch_look(const kin__latch_of *l)
{
    kin__waits_fence(l->waits, NULL);
    if ((kin__load64(l->waits) & l->bit) != 0)
        kin__wake_by_bit(l->waits, l->bit, l->latch->id, 1);
}

static uint32_t *inside_of(uint64_t owner)
{
    return &kin__my.session->threads[kin__owner_place(owner) % KIN__THREADS].inside;
}

/* Whether that thread is within, and lives. Its place is its own as long as it lives. */
static bool is_within(const kin__latch *l, uint64_t owner)
{
    return owner != 0 && kin__load32(inside_of(owner)) == kin__latch_mark(l) && kin__owner_alive(owner);
}

bool kin__latch_in_use(const kin__latch *l)
{
    uint64_t word = kin__load64(&l->word), owner = word & ~KIN__OWN;
    return word == owner ? owner != 0 && kin__owner_alive(owner) : is_within(l, owner);
}

void kin__latch_back_out(const kin__latch *l)
{
    kin__store32(kin__held.inside, 0);
    KIN_CRASH_POINT("latch.backed.out");
    (void)kin__wake_one(l->id);
}

typedef struct latch_wait {
    const kin__latch_of *l;
    uint64_t owner; /* whom it waits for */
    bool within;    /* for it to leave what is its own; else for the word to change */
} latch_wait;

static bool still_there(void *object)
{
    latch_wait *w = object;
    kin__waits_arm(w->l->waits, w->l->bit);
    return w->within ? is_within(w->l->latch, w->owner)
                     : kin__load64(&w->l->latch->word) == w->owner && kin__owner_alive(w->owner);
}

typedef struct patience {
    uint64_t deadline, since;
    kin__spin spin;
    bool spun;
    kin_err end;
    const char *name;
} patience;

static void wait_a_little(latch_wait w, patience *p)
{
    if (!p->spun) {
        p->spun = !kin__spin_more(&p->spin);
        return;
    }
    if (p->since == 0)
        p->since = kin__now_ns();
    kin__wait wait = {.key = w.l->latch->id, .must_sleep = still_there, .object = &w, .deadline = p->deadline};
    wait.kind = KIN_TYPE_QUEUE;
    wait.name = p->name;
    wait.since = w.within ? 1 : p->since; /* those who have slept longest are woken first */
    p->end = kin__park_on(&wait);
}

/* The word is ours, and was `before`; whose own it was may still be within. */
static kin_err wait_until_empty(const kin__latch_of *l, uint64_t me, uint64_t before, patience *p, bool *inherited,
                                uint64_t *who)
{
    kin__latch *latch = l->latch;
    kin__order_all();
    for (;;) {
        uint64_t own = kin__load64(&latch->own);
        if (own == me || !is_within(latch, own)) {
            *inherited = *inherited || (own != 0 && !kin__owner_alive(own));
            return KIN_OK;
        }
        if (p->end != KIN_OK) {
            /* As if nothing had been: it stays the other's own, or the dead one's, who may have been in the middle. */
            *who = own;
            KIN_CRASH_POINT("latch.giving.up");
            kin__store64(&latch->word, before);
            kin__latch_look(l);
            return p->end;
        }
        wait_a_little((latch_wait){l, own, true}, p);
    }
}

bool kin__latch_claim(const kin__latch_of *l, uint64_t me, uint64_t deadline, const char *name, bool *inherited)
{
    uint64_t word = kin__load64(&l->latch->word), owner = word & ~KIN__OWN, who;
    patience p = {.deadline = deadline, .spin = {.apart = KIN__APART}, .name = name};
    *inherited = owner != 0;
    if ((owner != 0 && kin__owner_alive(owner)) || !kin__cas64(&l->latch->word, &word, me))
        return false;
    return owner == 0 || wait_until_empty(l, me, word, &p, inherited, &who) == KIN_OK;
}

kin_err kin__latch_enter(const kin__latch_of *l, uint64_t me, uint64_t deadline, const char *name, bool *inherited,
                         uint64_t *who)
{
    kin__latch *latch = l->latch;
    patience p = {.deadline = deadline, .spin = {.apart = KIN__APART}, .name = name};
    *inherited = false;
    for (;;) {
        uint64_t word = kin__load64(&latch->word), owner = word & ~KIN__OWN;
        if (word == 0 || owner == me) {
            if (kin__cas64(&latch->word, &word, me))
                return KIN_OK;
            continue;
        }
        bool own = (word & KIN__OWN) != 0, dead = !kin__owner_alive(owner);
        if (own || dead) {
            if (!kin__cas64(&latch->word, &word, me))
                continue;
            KIN_CRASH_POINT("latch.taken.away");
            if (own && !dead) {
                uint32_t needed = latch->needed != 0 ? latch->needed : KIN__LATCH_STREAK;
                latch->needed = needed < NEEDED_MOST ? needed * 2 : needed;
            }
            latch->streak = 0;
            *inherited = dead;
            return wait_until_empty(l, me, word, &p, inherited, who);
        }
        if (p.end != KIN_OK) {
            *who = owner;
            return p.end;
        }
        wait_a_little((latch_wait){l, word, false}, &p);
    }
}
