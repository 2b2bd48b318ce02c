/* The ring: messages in shared memory, between any number of producers and consumers, that a death cannot wedge. Queues are made
 * of it, and both directions of a pipe.
 *
 * Two locks, one for each side, name their owner (latch.h); two commit words say what is there. A position is a
 * number of units of 16 bytes since the beginning, modulo 2^32; a commit word is [records:32][position:32], so that one
 * store moves both.
 *
 *     put  take `putter`; is there room before `head`? write the record at `tail`; tail = behind it; let go
 *     get  take `getter`; is there a record before `tail`? copy it; head = behind it; let go
 *
 * Before the store to the commit word nothing has happened; after it everything has. So whoever takes a lock over from a
 * dead owner has nothing to repair. The other side's commit word is read only when what was last seen of it does not do.
 *
 * A record begins with a word that says whose it is: READY (whoever comes next), WRITING (a process has reserved it),
 * TAKEN (a process works on it where it lies), DONE (nobody's: its room is free when all before it are done). While
 * records that are not READY lie at the head, the head stays, and `next` says how far consumers have looked: what lies
 * between the two is the region. A record in the region that becomes READY (again) is found because `returned` says that
 * there may be one, or because a process has ended since the last look (`epoch`). The steps of a get within the region
 * are: state = DONE, next = behind it, head = behind what is DONE. A death between any two leaves a state that the next
 * consumer goes on from.
 *
 * Death     who dies                          what the others see
 *           with `putter`, before the commit  nothing was put; the next takes the lock over
 *           with `putter`, after it           it was put; likewise. Sleepers are woken by the death
 *           with `getter`, before the commit  the record is still there
 *           with `getter`, after it           it is gone
 *           having reserved                   its record counts as DONE
 *           having taken                      its record is READY again, in its place
 *
 * Waking. Both sides look whether somebody sleeps after they have let go of their lock, without a fence of their own, unless the word
 * `waits` asks for one: who goes to sleep sets its bit there, and sees to the order of the two, before its last look (latch.h). A bit is
 * only cleared by who looked for sleepers and found none, while nobody has set one. */
#ifndef KIN_SRC_RING_H
#define KIN_SRC_RING_H

#include "any.h"
#include "atomic.h"
#include "kin/queue.h"
#include "latch.h"

#define KIN__UNIT 16u

/* Why somebody sleeps: bits of `waits`. */
enum {
    KIN__WAITS_GET = 1,
    KIN__WAITS_ROOM = 2,
    KIN__WAITS_PUTTER = 4,
    KIN__WAITS_GETTER = 8,
    KIN__WAITS_JOIN = 16,
    KIN__UNTIDY = 32, /* nobody sleeps: there may be entries in the bag that are about no message, left by somebody who died */
    KIN__TELL = 64    /* nobody sleeps: who looked through the region had cleared `returned`, as a consumer may have seen before it slept */
};

/* What the rings of one queue have in common. */
typedef struct kin__gate {
    uint64_t id;      /* what those sleep on who wait for a message */
    uint64_t id_join; /* … for all to be dealt with                 */
    uint64_t waits;   /* KIN__WAITS_GET                             */
    uint32_t closed;  /* nothing is put any more                    */
    uint32_t pad0;
    uint64_t pad[12];
} kin__gate;
_Static_assert(sizeof(kin__gate) == 128, "layout in shared memory");

/* Words written by different sides are on pairs of cache lines of their own. */
typedef struct kin__ring {
    uint64_t id_room;   /* what those sleep on who wait for room                           */
    uint32_t units;     /* capacity: a power of two                                        */
    uint32_t max_items; /* 0: no limit                                                     */
    uint64_t waits;     /* all but KIN__WAITS_GET                                          */
    uint64_t dropped;   /* how often something left the bag; of the first lane, for all    */
    uint32_t in_place;  /* something was reserved or taken, ever                           */
    uint32_t pad0[23];

    kin__latch putter;
    uint64_t head_seen; /* by producers                                                        */
    uint64_t large;     /* position behind the last large message, | 1 << 32; 0: there was none */
    uint64_t bagged;    /* number of the last entry that was to go into the bag: kin__bag_tag  */
    uint32_t calm_gate; /* how often in a row a producer has found nobody asleep: kin__waits_fence */
    uint32_t calm_put;
    uint64_t pad1[7];

    uint64_t tail;
    uint64_t pad2[15];

    kin__latch getter;
    uint64_t tail_seen; /* by consumers                                                 */
    uint64_t next;      /* how far they have looked, if that is beyond the head         */
    uint64_t unbagged;  /* entries of the bag up to this number are about no message any more */
    uint32_t epoch;     /* of the session when the region was last looked through       */
    uint32_t calm_get;  /* as calm_put, of consumers                                    */
    uint64_t pad4[7];

    uint64_t head;
    uint64_t pad5[15];

    uint32_t returned; /* there may be a READY record in the region; means nothing where there is none */
    uint32_t pad6[31];
} kin__ring;
_Static_assert(offsetof(kin__ring, putter) == 128 && offsetof(kin__ring, tail) == 256 && offsetof(kin__ring, getter) == 384 &&
                   offsetof(kin__ring, head) == 512 && offsetof(kin__ring, returned) == 640 && sizeof(kin__ring) == 768,
               "layout in shared memory");

/* The state of a record, and by whom: [state:8][records before it, the low 16 bits][kin__pid:40]. */
enum { KIN__READY = 1, KIN__WRITING = 2, KIN__TAKEN = 3, KIN__FINISHED = 4 };

/* What a message is; in the record. */
enum {
    KIN__BYTES = 1,
    KIN__ARGS = 2,
    KIN__PAD = 3, /* none: to the end of the ring */
    KIN__KIND = 15,
    KIN__LARGE = 16 /* in a segment of its own */
};

typedef struct kin__record {
    uint32_t size;    /* bytes of the message that are here; of a pad: units */
    uint16_t what;    /* kind, and KIN__LARGE */
    uint16_t handles; /* in the bag */
    uint64_t state;
} kin__record;
_Static_assert(sizeof(kin__record) == KIN__UNIT, "layout in shared memory");

/* Follows the record if it has handles; the bytes of the message follow, aligned to 16. */
typedef struct kin__bagged {
    uint64_t tag;
    uint64_t real;    /* bytes of a large message, whose segment is the first handle */
    uint64_t piece;   /* the id of that segment, if it may come again; else 0 */
    uint64_t words[]; /* as os_bag_put gave them */
} kin__bagged;

#define KIN__KEPT 3u

/* A ring as this process sees it. */
typedef struct kin__flow {
    kin__ring *ring;
    char *data; /* the records */
    kin__gate *gate;
    uint32_t mask;      /* units - 1 */
    size_t quick;       /* messages of fewer bytes need no closer look on their way in; 0: all do. kin__flow_begin sets it */
    uint32_t epoch;     /* of the session when the pair was last looked at */
    uint32_t broken;    /* the other end was found gone                    */
    bool ordered;       /* kin__order_all works here                       */
    os_handle pair;     /* of a connection: this end; else OS_NO_HANDLE    */
    os_handle in, out;  /* the bag; lanes have one together                */
    struct kin__flow *lanes;   /* all of a relaxed queue; else NULL        */
    uint32_t lane, lane_count; /* which of them this is                    */
    const char *kind;    /* "queue", "connection": for sentences           */
    const char *name;    /* 40 bytes; "(unnamed)" if it has none           */
    size_t max_message;  /* bytes; 0: no limit                             */
    uint64_t made[KIN__KEPT], opened[KIN__KEPT]; /* memory for large messages: large.h */
    uint64_t *got;       /* of a joinable queue: how many each process has got and not dealt with: [generation:24][count:40] */
    uint64_t *abandoned; /* … that dead processes had, as far as their places were used again */
} kin__flow;

/* Its capacity: that of the memory that was found, whatever the ring's own word says by now. */
static inline uint32_t kin__flow_units(const kin__flow *f) { return f->mask + 1; }
/* The most bytes a message may have to lie in the ring itself. */
static inline size_t kin__flow_most(const kin__flow *f) { return (size_t)kin__flow_units(f) / 2 * KIN__UNIT - 64; }

/* When the other fields are set: what follows from them. */
void kin__flow_begin(kin__flow *f);

/* Makes the memory at `ring` (zeroed, kin__ring_size(units) bytes, followed by its data) a ring. */
void kin__ring_init(kin__ring *ring, uint32_t units, uint32_t max_items);
static inline size_t kin__ring_size(uint32_t units) { return sizeof(kin__ring) + (size_t)units * KIN__UNIT; }
/* Whether what lies there, with `size` bytes to the end of the segment, can be one. */
bool kin__ring_valid(const kin__ring *ring, size_t size);

/* A message on its way in. */
typedef struct kin__letter {
    const void *bytes;
    size_t size;
    const os_handle *handles; /* borrowed */
    uint32_t handle_count;
    uint32_t what; /* KIN__BYTES or KIN__ARGS */
    uint64_t piece; /* see kin__bagged */
} kin__letter;

/* Puts it, waiting up to timeout_ms for room. KIN_EFULL (KIN_NOWAIT), KIN_ETIMEDOUT, KIN_EPIPE, KIN_EMSGSIZE, KIN_ENOMEM,
 * KIN_EINTERRUPTED. Arguments have been checked. */
kin_err kin__flow_put(kin__flow *f, const kin__letter *letter, int64_t timeout_ms);
/* Many of bytes; *done counts. */
kin_err kin__flow_put_many(kin__flow *f, const kin_view *messages, size_t count, size_t *done, int64_t timeout_ms);

/* Where a message goes. */
typedef struct kin__sink {
    void *buffer;
    size_t space;
    bool grows;         /* KIN_EMSGSIZE is no failure with a sentence: it is tried again with more. Memory of malloc's that holds
                           the whole message may take this one's place, unless it has more than `most` */
    size_t most;        /* bytes; 0: no limit */
    size_t size;        /* out: of the message; also with KIN_EMSGSIZE */
    uint32_t what;      /* the kind that is wanted: another is KIN_ETYPE and stays */
    os_handle *handles; /* OS_BAG_MOST of them, or NULL: messages with handles are KIN_ETYPE then */
    size_t handle_count; /* out */
} kin__sink;

/* A time-out for what follows: as KIN_NOWAIT, but KIN_EEMPTY is no failure with a sentence. */
#define KIN__ONE_LOOK ((int64_t)-2)

/* Gets the next message. KIN_EEMPTY (KIN_NOWAIT), KIN_ETIMEDOUT, KIN_EPIPE, KIN_EMSGSIZE, KIN_ETYPE, KIN_EINTERRUPTED. */
kin_err kin__flow_get(kin__flow *f, kin__sink *sink, int64_t timeout_ms);
kin_err kin__flow_get_many(kin__flow *f, void *buffer, size_t space, kin_view *messages, size_t most, size_t *count, int64_t timeout_ms);

/* In place: see kin/queue.h. */
kin_err kin__flow_reserve(kin__flow *f, kin_message *message, size_t size, int64_t timeout_ms);
kin_err kin__flow_commit(kin__flow *f, kin_message *message, bool cancel);
kin_err kin__flow_take(kin__flow *f, kin_message *message, int64_t timeout_ms);
kin_err kin__flow_done(kin__flow *f, kin_message *message, bool give_back);

/* Whether a get, or a put of `size` bytes, may find what it needs now. No lock is taken. */
bool kin__flow_readable(kin__flow *f);
bool kin__flow_writable(kin__flow *f, size_t size);
/* The same for kin_wait: `room` is a size, or KIN__ROOM. KIN_EMSGSIZE: there will never be so much. */
bool kin__flow_has_room(kin__flow *f, size_t room);
kin_err kin__flow_check_room(const kin__flow *f, size_t room);
/* Whether there is a message that a get would find now. Takes `getter` if that cannot be told without. */
bool kin__flow_has(kin__flow *f);
/* How many messages there are, those not counted that are given up and still lie behind older ones. */
uint32_t kin__flow_count(kin__flow *f);
/* How many records there are. */
uint32_t kin__flow_items(const kin__flow *f);

/* Waiting for a message in any of several rings with one gate: look; nothing there: kin__get_wait_more; again, while that is KIN_OK;
 * at last kin__get_wait_end, with what came of it. */
typedef struct kin__get_wait {
    kin__flow *flows;
    uint32_t count;
    kin__spin spin;
    uint64_t deadline, since;
    int64_t timeout_ms;
    kin_err end;    /* how it ends if the next look finds nothing */
    bool spun;      /* long enough */
    bool last_look; /* it is over; what came before that is seen now */
} kin__get_wait;
kin__get_wait kin__get_wait_begin(kin__flow *flows, uint32_t count, int64_t timeout_ms);
kin_err kin__get_wait_more(kin__get_wait *wait);
void kin__get_wait_end(kin__get_wait *wait, kin_err err);
bool kin__flows_readable(kin__flow *flows, uint32_t count);

/* Waits until a get would find a message or the end: KIN_OK. KIN_ETIMEDOUT, KIN_EINTERRUPTED. */
kin_err kin__flow_poll(kin__flow *f, int64_t timeout_ms);
/* Whether nothing is put any more, or the other end is gone. Looks only if something may have changed since it last did. */
bool kin__flow_over(kin__flow *f);
/* Whether nothing can be got from any of them, now or later: it is over, and no other process works on a message that lies there, which
 * may come (back), or is about to be told. Who works on one itself does not wait for others: they may wait for it. surely: also if nothing
 * seems to have changed. */
bool kin__flows_ended(kin__flow *flows, uint32_t count, bool surely);
/* Nothing is put from now on; all who wait are woken. */
void kin__flow_shut(kin__flow *f);
/* Drops what dead processes had reserved and what was cancelled, as far as it is the oldest: else only a get would. Waits for a lock
 * no longer than KIN_NOWAIT does. */
void kin__flow_sweep(kin__flow *f);
/* Whether a process has ended since anybody looked, so that there may be something to sweep: who waits for room must not sleep then. */
bool kin__flow_unswept(const kin__flow *f);
/* Wakes those who wait for what these bits of `waits` mean, all of them. */
void kin__flow_wake_all(kin__flow *f);
/* Says that somebody waits for this: before the caller looks once more. */
static inline void kin__flow_arm(kin__flow *f, bool put)
{
    kin__waits_arm(put ? &f->ring->waits : &f->gate->waits, put ? KIN__WAITS_ROOM : KIN__WAITS_GET);
}

#if defined(KIN_TEST_HOOKS)
/* queue.c: a ring of a queue, for tests that look inside. */
kin__flow *kin__queue_flow(kin_queue *queue, uint32_t lane);
#endif

#endif
