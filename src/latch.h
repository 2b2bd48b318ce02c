/* The latch: the lock of one side of a ring. As long as one thread alone uses it, it is that thread's own: taking and releasing it
 * are then plain stores, no atomic operation, which is what lets a single producer and a single consumer go as fast as if there were
 * no lock at all. Whoever else wants it takes it away.
 *
 *     word    0                 free
 *             owner             held
 *             owner | OWN       the owner's own: it is within while `inside` of its place in the thread table says so
 *     own     owner             whose own it was last
 *
 *   the owner, to enter       inside = this latch; word still me | OWN? then it is within, else inside = 0 and it takes it as others do
 *             to leave        inside = 0
 *   another, to take it away  CAS word: owner | OWN -> me; kin__order_all; wait until `own` is not within, or dead
 *
 * `inside` is the thread's: an owner that was stopped before it wrote it, and writes it when the latch has long become another's own,
 * does not disturb that one. The owner's store and look have no fence between them; kin__order_all is the fence, for both: so either
 * the owner's look sees that the word is another's, or the other sees that the owner is within. Where there is no such order (park.h)
 * the owner's store is a fence itself, and a latch becomes somebody's own only when that was asked for.
 *
 * Every word that claims something names who claims it. word 0 means that nobody is within: who takes the latch away gives it on only
 * after its wait. If it dies before, the word names the dead, and who comes next waits in its place; if it gives up, it writes back
 * what was there: the living owner's, or the dead one's, who may have been in the middle.
 *
 * All who wait sleep on one key, and whoever leaves wakes one. Who has the word and waits for its owner is woken before those who wait
 * for the word: they could do nothing with the wake, and nobody would be woken again.
 *
 * Taking it away costs some microseconds; so it becomes somebody's own only after `needed` uses in a row, twice as many each time that
 * it was taken away from the living. */
#ifndef KIN_SRC_LATCH_H
#define KIN_SRC_LATCH_H

#include "atomic.h"
#include "fault.h"
#include "park.h"

typedef struct kin__latch {
    uint64_t word, own;
    uint64_t last;   /* who used it last, and how often in a row: by who has it */
    uint32_t streak;
    uint32_t needed; /* 0: KIN__LATCH_STREAK */
    uint64_t id;     /* what those sleep on who wait for it */
} kin__latch;
_Static_assert(sizeof(kin__latch) == 40, "layout in shared memory");

#define KIN__OWN ((uint64_t)1)
#define KIN__LATCH_STREAK 64u

/* How a thread came in. */
typedef enum kin__entry { KIN__NOT_IN = 0, KIN__HELD = 1, KIN__WITHIN = 2 } kin__entry;

/* What else is to be known of a latch. */
typedef struct kin__latch_of {
    kin__latch *latch;
    uint64_t *waits; /* the word whose `bit` says that somebody sleeps on the latch */
    uint64_t bit;
    bool ordered;    /* kin__order_all works                                        */
} kin__latch_of;

/* What `inside` of who is within says. Two latches may have the same: that costs a wait for nothing. */
static inline uint32_t kin__latch_mark(const kin__latch *l) { return (uint32_t)l->id | 1; }

/* It was taken away from under the owner's feet: the owner was never within, but whoever took it may wait for just that. */
void kin__latch_back_out(const kin__latch *l);

/* Without waiting; KIN__NOT_IN if it is not to be had so. */
static inline kin__entry kin__latch_try(kin__latch *l, bool ordered, uint64_t me)
{
    uint64_t word = kin__load64_relaxed(&l->word);
    if (word == (me | KIN__OWN)) {
        uint32_t *inside = kin__held.inside;
        if (kin__load32_relaxed(inside) != 0) /* within another: one at a time */
            return KIN__NOT_IN;
        KIN_CRASH_POINT("latch.entering");
        if (ordered) {
            kin__store32_release(inside, kin__latch_mark(l));
            kin__compiler_fence();
        } else {
            kin__store32(inside, kin__latch_mark(l));
        }
        if (kin__load64(&l->word) == word)
            return KIN__WITHIN;
        kin__latch_back_out(l);
        return KIN__NOT_IN;
    }
    return word == 0 && kin__cas64(&l->word, &word, me) ? KIN__HELD : KIN__NOT_IN;
}

/* Takes it, waiting until the deadline. *inherited: from a dead one, who may have been in the middle. KIN_ETIMEDOUT: *who has it.
 * name (40 bytes): of the object, for whoever looks at sleepers. */
kin_err kin__latch_enter(const kin__latch_of *l, uint64_t me, uint64_t deadline, const char *name, bool *inherited, uint64_t *who);

/* Whether a living thread is within. */
bool kin__latch_in_use(const kin__latch *l);

/* Takes it if it is nobody's or a dead one's, never from the living; waits only for who had it as its own before that one. */
bool kin__latch_claim(const kin__latch_of *l, uint64_t me, uint64_t deadline, const char *name, bool *inherited);

/* Lets go. `keep`: it stays this thread's own. What the owner wrote before is seen by who comes in next; whether somebody sleeps is
 * looked at after this (kin__latch_look, or with other things that are looked at then). */
static inline void kin__latch_leave(kin__latch *l, bool ordered, uint64_t me, kin__entry entry, bool keep)
{
    uint64_t value = 0;
    if (entry == KIN__HELD) {
        if (l->last != me) {
            l->last = me;
            l->streak = 0;
        } else if (ordered && ++l->streak > (l->needed != 0 ? l->needed : KIN__LATCH_STREAK)) {
            keep = true;
        }
        if (keep) {
            l->own = me;
            value = me | KIN__OWN;
        }
    }
    if (entry == KIN__WITHIN && ordered)
        kin__store32_release(kin__held.inside, 0);
    else if (entry == KIN__WITHIN)
        kin__store32(kin__held.inside, 0);
    else if (ordered)
        kin__store64_release(&l->word, value);
    else
        kin__store64(&l->word, value);
    kin__compiler_fence(); /* who goes to sleep sees to the rest: kin__waits_arm */
    KIN_CRASH_POINT("latch.left");
}

/* Wakes one who sleeps on it, if somebody does. */
void kin__latch_look(const kin__latch_of *l);

/* ---- words of bits that say that somebody sleeps: [how often one was set:48][bits:16] ----
 *
 * Who has changed something looks at such a word with no fence between the two, as long as sleeps are rare; who sets a bit pays for both
 * then, with kin__order_all: microseconds, and every processor is disturbed. While sleeps are frequent the word says so:
 *
 *   FENCE    who sees this after a change puts a fence in between, and looks again
 *   FENCED   all do: FENCE was there before somebody's kin__order_all. Who sets a bit has nothing to pay
 *
 * FENCE is set with every bit; FENCED by who has called kin__order_all since, if the word is still as it left it; both are cleared
 * at once, while no other bit is set, by who has often found them for nothing. Why no change is missed by who sets a bit and
 * finds FENCED: who looked before that kin__order_all has changed what it changed before it, too. Who looked later has seen FENCE, and
 * its fence and ours order the two; or it has seen that FENCE was cleared, which was before ours, and there we did not find FENCED, or
 * after ours, and then our bit was cleared before, by one that woke us or found that we do not sleep. */

#define KIN__WAITS_BITS ((uint64_t)0xffff)
#define KIN__FENCE ((uint64_t)0x4000)
#define KIN__FENCED ((uint64_t)0x8000)
#define KIN__SLEEPERS (KIN__WAITS_BITS & ~(KIN__FENCE | KIN__FENCED))
#define KIN__CALM 128u /* how many fences for nothing are about as dear as one kin__order_all */

/* For a new word: as if somebody had slept before. */
static inline uint64_t kin__waits_new(void) { return kin__my.session->ordered != 0 ? KIN__FENCE | KIN__FENCED : 0; }

/* Says that somebody sleeps: by who is about to, after its key is visible, and before it looks once more. */
void kin__waits_arm(uint64_t *waits, uint64_t bit);

/* By who has changed something, before it looks at the word: the fence, if the word asks for it. *calm counts those for nothing; NULL:
 * they are not counted. */
void kin__waits_fence(uint64_t *waits, uint32_t *calm);

/* Wakes up to `most` of those who sleep on `key`, whose bit was seen in *waits, or all. Clears the bit when nobody does and nobody
 * has set it since that was looked for: so there is no moment when somebody sleeps whose bit is not set. */
void kin__wake_by_bit(uint64_t *waits, uint64_t bit, uint64_t key, uint32_t most);

#endif
