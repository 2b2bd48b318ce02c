/* What the files share that make up a ring: ring.c (the ring itself), ring_put.c, ring_get.c, region.c (what is worked on where it
 * lies), bag.c (what goes beside messages). */
#ifndef KIN_SRC_RING_INSIDE_H
#define KIN_SRC_RING_INSIDE_H

#include "ring.h"

/* ---- positions and commit words ---- */

static inline uint32_t kin__position(uint64_t word) { return (uint32_t)word; }
static inline uint32_t kin__items(uint64_t word) { return (uint32_t)(word >> 32); }
/* The commit word `items` records and `units` further on. */
static inline uint64_t kin__further(uint64_t word, uint32_t items, uint32_t units)
{
    return (uint64_t)(kin__items(word) + items) << 32 | (uint32_t)(kin__position(word) + units);
}
/* Whether position a lies behind b. */
static inline bool kin__behind(uint64_t a, uint64_t b) { return (int32_t)(kin__position(a) - kin__position(b)) > 0; }

static inline kin__record *kin__record_at(const kin__flow *f, uint32_t position)
{
    return (kin__record *)(void *)(f->data + (size_t)(position & f->mask) * KIN__UNIT);
}

/* ---- records ---- */

/* Bytes between a record's first unit and its message. */
static inline size_t kin__extra(uint32_t handles)
{
    return handles == 0 ? 0 : (sizeof(kin__bagged) + handles * sizeof(uint64_t) + KIN__UNIT - 1) / KIN__UNIT * KIN__UNIT;
}
static inline uint32_t kin__record_units(uint32_t handles, uint64_t size)
{
    return (uint32_t)(1 + (kin__extra(handles) + size + KIN__UNIT - 1) / KIN__UNIT);
}
static inline kin__bagged *kin__record_bagged(kin__record *record) { return (kin__bagged *)(void *)(record + 1); }
static inline char *kin__record_bytes(kin__record *record) { return (char *)(record + 1) + kin__extra(record->handles); }
static inline bool kin__record_large(const kin__record *record) { return (record->what & KIN__LARGE) != 0; }
/* Of the message, wherever it lies. */
static inline uint64_t kin__record_size(kin__record *record)
{
    return kin__record_large(record) ? kin__record_bagged(record)->real : record->size;
}

static inline uint64_t kin__state(uint32_t what, uint32_t items, kin__pid who)
{
    return (uint64_t)what << 56 | (uint64_t)(items & 0xffff) << 40 | who;
}
static inline uint32_t kin__state_what(uint64_t state) { return (uint32_t)(state >> 56); }
static inline kin__pid kin__state_who(uint64_t state) { return state & 0xffffffffffu; }
/* The same record, in another state, nobody's. */
static inline uint64_t kin__state_as(uint64_t state, uint32_t what) { return kin__state(what, (uint32_t)(state >> 40), 0); }

/* ---- the locks ---- */

/* Takes `putter` or `getter`, waiting until the deadline; with KIN_NOWAIT a little longer than its owner needs. */
kin_err kin__ring_lock(kin__flow *f, bool putter, uint64_t me, int64_t timeout_ms, uint64_t deadline, kin__entry *entry);
kin__latch_of kin__ring_latch(kin__flow *f, bool putter);
/* Takes it if it is nobody's or a dead one's. */
bool kin__ring_claim(kin__flow *f, bool putter, uint64_t me);
static inline void kin__ring_unlock(kin__flow *f, bool putter, uint64_t me, kin__entry entry)
{
    kin__latch_leave(putter ? &f->ring->putter : &f->ring->getter, f->ordered, me, entry, false);
}

/* What a waiter says that it waits for. */
static inline kin_type kin__flow_type(const kin__flow *f) { return f->pair == OS_NO_HANDLE ? KIN_TYPE_QUEUE : KIN_TYPE_CONNECTION; }

/* Sleeps. KIN_ETIMEDOUT also if there was no need to and it is too late: what keeps somebody awake need not be for it. */
kin_err kin__ring_sleep(const kin__wait *wait);

/* As kin__flow_over; surely: also if nothing seems to have changed. */
bool kin__ring_look_over(kin__flow *f, bool surely);

/* Sentences: that it is over, that what lies in it cannot be. */
kin_err kin__ring_over(const kin__flow *f);
kin_err kin__ring_damaged(const kin__flow *f);

/* What must follow when the lock is released: looks whether somebody sleeps who wants what there is now. */
void kin__ring_wake_after_put(kin__flow *f, uint32_t messages);
void kin__ring_wake_after_get(kin__flow *f, uint64_t which); /* of the bits of `waits` */
static inline void kin__ring_look_after_put(kin__flow *f, uint32_t messages)
{
    if (((kin__load64(&f->gate->waits) & (KIN__WAITS_GET | KIN__FENCE)) |
         (kin__load64(&f->ring->waits) & (KIN__WAITS_PUTTER | KIN__UNTIDY | KIN__FENCE))) != 0)
        kin__ring_wake_after_put(f, messages);
}
static inline void kin__ring_look_after_get(kin__flow *f)
{
    if ((kin__load64(&f->ring->waits) & KIN__WAITS_BITS) != 0)
        kin__ring_wake_after_get(f, KIN__SLEEPERS);
}

/* A consumer, who has `getter`, looks at the tail anew. `next` stands still while nothing is worked on in place: half of all positions
 * further on it would seem to lie ahead, so it is kept near. */
static inline uint64_t kin__ring_see_tail(kin__ring *r, uint64_t head)
{
    uint64_t tail = kin__load64(&r->tail);
    uint32_t lag = kin__position(head) - kin__position(kin__load64_relaxed(&r->next));
    kin__store64_release(&r->tail_seen, tail);
    if (lag > UINT32_MAX / 4 && lag < UINT32_MAX / 4 * 3) /* more: it is ahead, by a region */
        kin__store64_release(&r->next, head);
    return tail;
}

/* ---- a record, found by a consumer who has the lock ---- */

typedef struct kin__found {
    kin__record *record;
    uint64_t at, after; /* commit words before and behind it                       */
    uint64_t state;     /* READY, as it was found                                  */
    bool region;        /* the head must stay, or be moved record by record        */
    bool past;          /* `next` must move behind it (it is the first not yet passed) */
} kin__found;

/* The record that is next in turn. KIN_EEMPTY; KIN_EPROTO: the ring is damaged. */
kin_err kin__ring_find(kin__flow *f, kin__found *found);
/* It leaves the ring: the commit point of a get. */
void kin__ring_remove(kin__flow *f, const kin__found *found);

/* Moves the head behind a record, and drops what it has in the bag: from then on it is a producer's. The caller has `getter`. */
void kin__ring_leave(kin__flow *f, uint64_t after, kin__record *record);

/* ---- bag.c: what goes beside messages ---- */

/* The name of an entry of the bag: [its number among those of the lane:60][lane:4]. */
static inline uint64_t kin__bag_tag(const kin__flow *f, uint64_t number) { return number << 4 | f->lane; }

/* What a record has in the bag, for this process. KIN_ELOST: nothing any more; KIN_EEMPTY: not just now. The caller has `getter`. */
kin_err kin__bag_look(kin__flow *f, const kin__bagged *bagged, size_t count, os_handle *handles);
/* The message whose entry this was has left the ring. The caller has `getter`. */
void kin__bag_drop(kin__flow *f, uint64_t tag, const uint64_t *words, uint32_t count);
/* Changes when something left the bag: by who found it full, before and after. */
uint64_t kin__bag_dropped(const kin__flow *f);
/* Drops the entries of producers that died before their message was one, as far as they are the oldest; true if there were any. The
 * caller has `putter`, nothing else. */
bool kin__bag_purge(kin__flow *f);
/* The same by somebody who has nothing, after a death. */
void kin__bag_tidy(kin__flow *f);

/* region.c: the same where not everything from the head on is READY. */
kin_err kin__region_find(kin__flow *f, kin__found *found);
void kin__region_remove(kin__flow *f, const kin__found *found);
/* Moves the head behind all that is done, also what no consumer has come to yet. The caller has `getter`. */
void kin__region_advance(kin__flow *f);
/* Who works on records that lie in the ring, of those who live; or nobody does, and they are there to be got, or about to be. No lock
 * is taken. */
enum { KIN__BY_US = 1, KIN__BY_OTHERS = 2, KIN__BY_NOBODY = 4 };
uint32_t kin__region_by(const kin__flow *f);
/* A get has moved the head. What it has come to may have been cancelled: who waits for room does not look there. */
static inline void kin__ring_moved(kin__flow *f)
{
    if (kin__load32_relaxed(&f->ring->in_place) != 0)
        kin__region_advance(f);
}

/* The word behind the record at `at`; false if what lies there cannot be a record. */
bool kin__ring_step(const kin__flow *f, uint64_t at, uint64_t tail, kin__record **record, uint64_t *after);
/* Where consumers have come to. */
static inline uint64_t kin__ring_next(const kin__ring *r, uint64_t head)
{
    uint64_t next = kin__load64_relaxed(&r->next);
    return kin__behind(next, head) ? next : head;
}
/* Whether something in the region may be READY that was not when it was last looked through. */
static inline bool kin__ring_may_return(const kin__ring *r)
{
    return kin__load32(&r->returned) != 0 || kin__load32(&r->epoch) != kin__load32(&kin__my.session->epoch);
}
static inline bool kin__ring_in_step(const kin__ring *r, uint64_t head)
{
    return !kin__behind(kin__load64_relaxed(&r->next), head);
}

/* Writes a record of that state at *tail, which moves behind it; the caller has `putter` and commits. KIN_EFULL. */
kin_err kin__ring_place(kin__flow *f, const kin__letter *letter, uint64_t real, uint32_t state, uint64_t *tail, kin__record **record);
/* The room that a message of `size` bytes and so many handles takes, or KIN_EMSGSIZE. */
kin_err kin__ring_check_size(const kin__flow *f, size_t size);

/* One that puts, and waits for room: try is called with `putter` held. */
typedef kin_err (*kin__ring_try)(kin__flow *f, void *arg);
kin_err kin__ring_put_waiting(kin__flow *f, kin__ring_try attempt, void *arg, uint32_t units, int64_t timeout_ms);
kin_err kin__ring_get_waiting(kin__flow *f, kin__ring_try attempt, void *arg, int64_t timeout_ms);

#endif
