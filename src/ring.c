/* Putting into a ring, getting from it, and sleeping until that is possible: ring.h says how. What is worked on where it lies is
 * in region.c. Nothing here waits while it holds a lock, and a message is copied before the store that makes it one. */
#include "ring_quick.h"

#include "error.h"
#include "fault.h"
#include "segment.h"

#include <string.h>

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
}

bool kin__ring_valid(const kin__ring *r, size_t size)
{
    return size >= sizeof *r && r->units >= 64 && (r->units & (r->units - 1)) == 0 && r->units <= (uint32_t)1 << 28 &&
           kin__ring_size(r->units) <= size;
}

bool kin__ring_step(const kin__flow *f, uint64_t at, uint64_t tail, kin__record **record, uint64_t *after)
{
    uint32_t there = kin__position(tail) - kin__position(at), to_end = f->ring->units - (kin__position(at) & f->mask);
    for (int i = 0; i < 2 && there != 0 && there <= f->ring->units; i++) {
        kin__record *r = kin__record_at(f, kin__position(at));
        bool pad = r->what == KIN__PAD;
        uint64_t units = pad ? to_end : kin__record_units(r->handles, r->size);
        if (r->handles > OS_BAG_MOST || units > there || units > to_end)
            break;
        at = kin__further(at, pad ? 0 : 1, (uint32_t)units);
        if (!pad) {
            *record = r;
            *after = at;
            return true;
        }
        there -= (uint32_t)units; /* what follows a pad was committed with it, and begins the ring */
        to_end = f->ring->units;
    }
    return false;
}

static kin_err damaged(const kin__flow *f)
{
    return kin__fail(KIN_EPROTO, "%s '%s': what it holds is damaged", f->kind, f->name);
}

/* ---- waking ---- */

void kin__ring_wake_after_put(kin__flow *f, uint32_t messages)
{
    if (messages != 0 && (kin__load32(&f->gate->waits) & KIN__WAITS_GET) != 0)
        kin__wake_by_bit(&f->gate->waits, KIN__WAITS_GET, f->gate->id, messages);
    if ((kin__load32(&f->ring->waits) & KIN__WAITS_PUTTER) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_PUTTER, f->ring->putter.id, 1);
    if ((kin__load32(&f->ring->waits) & KIN__UNTIDY) != 0)
        kin__bag_tidy(f);
}

void kin__ring_wake_after_get(kin__flow *f, uint32_t waits)
{
    if ((waits & KIN__WAITS_ROOM) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_ROOM, f->ring->id_room, 1);
    if ((waits & KIN__WAITS_GETTER) != 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_GETTER, f->ring->getter.id, 1);
    if ((waits & KIN__WAITS_JOIN) != 0 && kin__flow_items(f) == 0)
        kin__wake_by_bit(&f->ring->waits, KIN__WAITS_JOIN, f->gate->id_join, KIN__WAITS_ALL);
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
    return (kin__latch_of){putter ? &r->putter : &r->getter, &r->waits, putter ? KIN__WAITS_PUTTER : KIN__WAITS_GETTER, f->ordered};
}

/* Whoever had it may have been in the middle. */
static void inherit(kin__flow *f, bool putter)
{
    KIN_CRASH_POINT("ring.taken.over");
    if (!putter)
        kin__store32(&f->ring->returned, 1); /* the dead may have been looking */
    if (OS_BAG_HANDLES != 0 && f->pair == OS_NO_HANDLE) /* the other end of a pipe drops them, as it gets */
        (void)kin__or32(&f->ring->waits, KIN__UNTIDY);
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
    kin_err err = kin__latch_enter(&latch, me, timeout_ms == KIN_NOWAIT ? kin__deadline(NOWAIT_MS) : deadline, f->name, &inherited, &who);
    if (err != KIN_OK) {
        char text[192];
        kin__describe_thread(who, text, sizeof text);
        return kin__fail(err, "%s '%s': %s is in the middle of a %s and does not go on", f->kind, f->name, text, putter ? "put" : "get");
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

static bool look_over(kin__flow *f, bool surely)
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

bool kin__flow_over(kin__flow *f)
{
    return look_over(f, false);
}

static kin_err over(const kin__flow *f)
{
    return f->pair == OS_NO_HANDLE ? kin__fail(KIN_EPIPE, "%s '%s' was shut down", f->kind, f->name)
                                   : kin__fail(KIN_EPIPE, "%s '%s': the other end is closed", f->kind, f->name);
}

/* ---- putting ---- */

kin_err kin__ring_check_size(const kin__flow *f, size_t size)
{
    if (f->max_message != 0 && size > f->max_message)
        return kin__fail(KIN_EMSGSIZE, "%s '%s': a message of %zu bytes, at most %zu are allowed", f->kind, f->name, size, f->max_message);
    return KIN_OK;
}

/* Whether `units` more fit, in one piece: `need` gets those to the end of the ring too if they must begin it. */
static bool has_room(const kin__ring *r, uint64_t tail, uint64_t head, uint32_t units, uint32_t *need)
{
    uint32_t to_end = r->units - (kin__position(tail) & (r->units - 1));
    *need = units <= to_end ? units : to_end + units;
    return r->units - (kin__position(tail) - kin__position(head)) >= *need &&
           (r->max_items == 0 || kin__items(tail) - kin__items(head) < r->max_items);
}

static bool large_in_flight(const kin__ring *r, uint64_t tail, uint64_t head)
{
    uint64_t large = kin__load64_relaxed(&r->large);
    return large != 0 && kin__behind(large, head) && !kin__behind(large, tail);
}

/* The caller has `putter`. The number is counted first: one that dies leaves a gap, never two entries with one number. */
static kin_err bag_up(kin__flow *f, const kin__letter *letter, uint64_t real, kin__record *record)
{
    kin__bagged *bagged = kin__record_bagged(record);
    kin__store64_release(&f->ring->bagged, f->ring->bagged + 1);
    bagged->tag = kin__bag_tag(f, f->ring->bagged);
    bagged->real = real;
    KIN_CRASH_POINT("ring.bagging");
    kin_err err = os_bag_put(f->in, bagged->tag, letter->handles, letter->handle_count, bagged->words);
    if (err == KIN_EAGAIN && kin__bag_purge(f))
        err = os_bag_put(f->in, bagged->tag, letter->handles, letter->handle_count, bagged->words);
    return err == KIN_EAGAIN ? KIN_EFULL : err;
}

kin_err kin__ring_place(kin__flow *f, const kin__letter *letter, uint64_t real, uint32_t state, uint64_t *tail, kin__record **placed)
{
    kin__ring *r = f->ring;
    uint64_t t = *tail;
    uint32_t units = kin__record_units(letter->handle_count, letter->size), need;
    if (!has_room(r, t, kin__load64_relaxed(&r->head_seen), units, &need)) {
        uint64_t head = kin__load64(&r->head);
        kin__store64_release(&r->head_seen, head);
        if (!has_room(r, t, head, units, &need))
            return KIN_EFULL;
    }
    bool large = (letter->what & KIN__LARGE) != 0;
    if (large && large_in_flight(r, t, kin__load64(&r->head)))
        return KIN_EFULL;
    kin__record *record = kin__record_at(f, kin__position(t) + (need - units));
    record->size = (uint32_t)letter->size;
    record->what = (uint16_t)letter->what;
    record->handles = (uint16_t)letter->handle_count;
    kin__store64_release(&record->state, kin__state(state, kin__items(t), state == KIN__READY ? 0 : kin__my.id));
    if (letter->handle_count != 0) {
        kin_err err = bag_up(f, letter, real, record);
        if (err != KIN_OK)
            return err;
        KIN_CRASH_POINT("ring.bagged");
    }
    if (need != units) {
        kin__record *pad = kin__record_at(f, kin__position(t));
        pad->what = KIN__PAD;
        pad->size = need - units;
        pad->handles = 0;
    }
    if (letter->size != 0 && letter->bytes != NULL)
        memcpy(kin__record_bytes(record), letter->bytes, letter->size);
    *tail = kin__further(t, 1, need);
    if (large)
        kin__store64_release(&r->large, (uint64_t)1 << 32 | kin__position(*tail));
    *placed = record;
    KIN_CRASH_POINT("ring.written");
    return KIN_OK;
}

/* Sleeps. KIN_ETIMEDOUT also if there was no need to and it is too late: what keeps somebody awake need not be for it. */
static kin_err sleep_on(const kin__wait *wait)
{
    kin_err err = kin__park_on(wait);
    return err == KIN_OK && wait->deadline != KIN__NEVER && kin__now_ns() >= wait->deadline ? KIN_ETIMEDOUT : err;
}

typedef struct room_wait {
    kin__flow *f;
    uint64_t head;  /* as it was when there was none */
    uint32_t units;
    bool other;     /* what was lacking was not room in the ring: whatever leaves it may help */
} room_wait;

static bool no_room(void *object)
{
    room_wait *w = object;
    kin__ring *r = w->f->ring;
    uint32_t need;
    kin__waits_arm(&r->waits, KIN__WAITS_ROOM);
    kin__order_all();
    uint64_t head = kin__load64(&r->head), tail = kin__load64(&r->tail);
    if (look_over(w->f, true) || kin__flow_unswept(w->f))
        return false;
    return w->other ? head == w->head : !has_room(r, tail, head, w->units, &need);
}

bool kin__flow_unswept(const kin__flow *f)
{
    /* A living one that is in the middle of a get looks itself, and for us when it lets go. */
    return kin__load32(&f->ring->in_place) != 0 && kin__load32(&f->ring->epoch) != kin__load32(&kin__my.session->epoch) &&
           kin__flow_items(f) != 0 && !kin__latch_in_use(&f->ring->getter);
}

/* Whether a consumer would find something, looked at as a consumer does: what nobody will finish is put right. KIN_ETIMEDOUT: somebody is
 * in the middle of a get and does not go on. */
static kin_err look_now(kin__flow *f)
{
    kin__found found;
    kin__entry entry;
    uint64_t me = kin__thread_me();
    kin_err err = me == 0 ? KIN_EAGAIN : kin__ring_lock(f, false, me, KIN_NOWAIT, 0, &entry);
    if (err != KIN_OK)
        return err;
    err = kin__region_find(f, &found);
    kin__ring_unlock(f, false, me, entry);
    kin__ring_look_after_get(f);
    return err;
}

/* Only records that nobody will finish may be in the way. As long as nothing was reserved or taken there are none. */
void kin__flow_sweep(kin__flow *f)
{
    if (kin__load32(&f->ring->in_place) == 0 || kin__flow_items(f) == 0)
        return;
    kin__error_kept kept; /* this happens within calls that succeed */
    kin__error_keep(&kept);
    (void)look_now(f);
    kin__error_back(&kept);
}

bool kin__flow_has(kin__flow *f)
{
    return kin__flow_readable(f) && (kin__load32(&f->ring->in_place) == 0 || look_now(f) != KIN_EEMPTY);
}

kin_err kin__ring_put_waiting(kin__flow *f, kin__ring_try attempt, void *arg, uint32_t units, int64_t timeout_ms)
{
    uint64_t deadline = kin__deadline(timeout_ms), me = kin__me, since = 0;
    kin__spin spin = {0};
    bool spinning = timeout_ms != KIN_NOWAIT, swept = false;
    for (kin_err end = timeout_ms == KIN_NOWAIT ? KIN_EFULL : KIN_OK;;) {
        if (kin__flow_over(f))
            return over(f);
        kin__entry entry;
        kin_err err = kin__ring_lock(f, true, me, timeout_ms, deadline, &entry);
        if (err != KIN_OK) {
            if (since != 0)
                (void)kin__wake_one(f->ring->id_room); /* as below */
            return err == KIN_ETIMEDOUT && timeout_ms == KIN_NOWAIT ? kin__fail_in(KIN_EFULL, "no put now") : err;
        }
        room_wait w = {.f = f, .head = kin__load64(&f->ring->head), .units = units};
        uint32_t need;
        err = kin__load32(&f->gate->closed) == 0 ? attempt(f, arg) : over(f);
        w.other = err == KIN_EFULL && has_room(f->ring, kin__load64_relaxed(&f->ring->tail), w.head, units, &need);
        kin__ring_unlock(f, true, me, entry);
        kin__ring_look_after_put(f, err == KIN_OK);
        if (since != 0 && (kin__load32(&f->ring->waits) & KIN__WAITS_ROOM) != 0 && (err != KIN_EFULL || end != KIN_OK))
            (void)kin__wake_one(f->ring->id_room); /* the wake may have been for more than one, or was not used */
        if (err != KIN_EFULL)
            return err;
        if (!swept) { /* once for each look: deaths wake all */
            swept = true;
            kin__flow_sweep(f);
            continue;
        }
        if (end == KIN_EFULL)
            return kin__fail(KIN_EFULL, "%s '%s' is full", f->kind, f->name);
        if (end == KIN_ETIMEDOUT)
            return kin__fail(KIN_ETIMEDOUT, "%s '%s': no room within %lld ms", f->kind, f->name, (long long)timeout_ms);
        if (end != KIN_OK)
            return end;
        while (spinning && !kin__flow_writable(f, units * KIN__UNIT - KIN__UNIT))
            spinning = kin__spin_more(&spin);
        if (spinning && !w.other)
            continue;
        if (since == 0)
            since = kin__now_ns();
        end = sleep_on(&(kin__wait){.key = f->ring->id_room, .must_sleep = no_room, .object = &w, .deadline = deadline, .since = since,
                                    .kind = KIN_TYPE_QUEUE, .name = f->name, .interruptible = true});
        swept = false;
    }
}

/* A message that may need a segment of its own: what goes into the ring then is its handle. */
typedef struct put_args {
    const kin__letter *letter;
    uint64_t real;
} put_args;

static kin_err try_put(kin__flow *f, void *arg)
{
    put_args *a = arg;
    kin__record *record;
    uint64_t tail = kin__load64_relaxed(&f->ring->tail);
    kin_err err = kin__ring_place(f, a->letter, a->real, KIN__READY, &tail, &record);
    if (err == KIN_OK)
        kin__store64_release(&f->ring->tail, tail);
    KIN_CRASH_POINT("ring.put");
    return err;
}

kin_err kin__large_create(size_t size, void **data, os_handle *handle)
{
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_SEGMENT, size, &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "a message of %zu bytes", size);
    *data = kin__header_data(header);
    return kin__segment_find(header, &header, handle);
}

static kin_err put_large(kin__flow *f, const kin__letter *letter, int64_t timeout_ms)
{
    os_handle handles[OS_BAG_MOST];
    void *data;
    kin_err err = kin__large_create(letter->size, &data, &handles[0]);
    if (err != KIN_OK)
        return err;
    memcpy(data, letter->bytes, letter->size);
    if (letter->handle_count != 0)
        memcpy(handles + 1, letter->handles, letter->handle_count * sizeof handles[0]);
    kin__letter small = {.handles = handles, .handle_count = letter->handle_count + 1, .what = letter->what | KIN__LARGE};
    put_args a = {&small, letter->size};
    err = kin__ring_put_waiting(f, try_put, &a, kin__record_units(small.handle_count, 0), timeout_ms);
    kin__segment_release(data);
    return err;
}

static KIN__NOINLINE kin_err put_slow(kin__flow *f, const kin__letter *letter, int64_t timeout_ms)
{
    kin_err err = kin__ring_check_size(f, letter->size);
    if (err != KIN_OK)
        return err;
    if (letter->handle_count > OS_BAG_MOST - 1)
        return kin__fail(KIN_EINVAL, "%s '%s': %u objects, files and descriptors in a message, at most %d can be", f->kind, f->name,
                         letter->handle_count, OS_BAG_MOST - 1);
    if (kin__thread_me() == 0)
        return kin_last_code();
    if (letter->size + kin__extra(letter->handle_count) > kin__flow_most(f))
        return put_large(f, letter, timeout_ms);
    put_args a = {letter, 0};
    return kin__ring_put_waiting(f, try_put, &a, kin__record_units(letter->handle_count, letter->size), timeout_ms);
}

kin_err kin__flow_put(kin__flow *f, const kin__letter *letter, int64_t timeout_ms)
{
    if (letter->handle_count == 0 && kin__put_quickly(f, letter->bytes, letter->size, letter->what))
        return KIN_OK;
    return put_slow(f, letter, timeout_ms);
}

typedef struct put_many {
    const kin_view *messages;
    size_t count, done;
} put_many;

/* As many as fit, committed by one store. */
static kin_err try_put_many(kin__flow *f, void *arg)
{
    put_many *m = arg;
    uint64_t before = kin__load64_relaxed(&f->ring->tail), tail = before;
    size_t done = m->done;
    kin_err err = KIN_OK;
    while (done < m->count) {
        kin__letter letter = {.bytes = m->messages[done].data, .size = m->messages[done].size, .what = KIN__BYTES};
        kin__record *record;
        err = letter.size > kin__flow_most(f) ? KIN_EMSGSIZE : kin__ring_place(f, &letter, 0, KIN__READY, &tail, &record);
        if (err != KIN_OK)
            break;
        done++;
    }
    if (tail == before)
        return err;
    kin__store64_release(&f->ring->tail, tail);
    KIN_CRASH_POINT("ring.put.many");
    m->done = done;
    return KIN_OK; /* with what is left it is called again */
}

kin_err kin__flow_put_many(kin__flow *f, const kin_view *messages, size_t count, size_t *done, int64_t timeout_ms)
{
    put_many m = {messages, count, 0};
    kin_err err = KIN_OK;
    uint64_t deadline = kin__deadline(timeout_ms);
    if (kin__thread_me() == 0)
        err = kin_last_code();
    for (size_t i = 0; i < count && err == KIN_OK; i++)
        err = messages[i].data == NULL && messages[i].size != 0 ? kin__fail(KIN_EINVAL, "message %zu: %zu bytes at NULL", i, messages[i].size)
                                                                : kin__ring_check_size(f, messages[i].size);
    while (m.done < count && err == KIN_OK) {
        const kin_view *next = &messages[m.done];
        int64_t left = kin__time_left(deadline, timeout_ms);
        if (next->size > kin__flow_most(f)) {
            kin__letter letter = {.bytes = next->data, .size = next->size, .what = KIN__BYTES};
            err = kin__flow_put(f, &letter, left);
            m.done += err == KIN_OK;
        } else {
            size_t before = m.done;
            err = kin__ring_put_waiting(f, try_put_many, &m, kin__record_units(0, next->size), left);
            if (m.done - before > 1)
                kin__ring_look_after_put(f, (uint32_t)(m.done - before - 1 > UINT32_MAX ? UINT32_MAX : m.done - before - 1));
        }
    }
    *done = m.done;
    return err == KIN_EFULL && timeout_ms != KIN_NOWAIT ? kin__fail_in(KIN_ETIMEDOUT, "message %zu of %zu", m.done, count) : err;
}

/* ---- getting ---- */

kin_err kin__ring_find(kin__flow *f, kin__found *found)
{
    kin__ring *r = f->ring;
    uint64_t head = kin__load64_relaxed(&r->head), tail = kin__load64_relaxed(&r->tail_seen);
    if (!kin__ring_in_step(r, head))
        return kin__region_find(f, found);
    if (!kin__behind(tail, head)) {
        tail = kin__ring_see_tail(r, head);
        if (!kin__behind(tail, head))
            return KIN_EEMPTY;
    }
    if (!kin__ring_step(f, head, tail, &found->record, &found->after))
        return damaged(f);
    found->at = head;
    found->state = kin__load64(&found->record->state);
    found->region = false;
    found->past = true;
    return kin__state_what(found->state) == KIN__READY ? KIN_OK : kin__region_find(f, found);
}

void kin__ring_leave(kin__flow *f, uint64_t after, kin__record *record)
{
    uint32_t handles = record->handles <= OS_BAG_MOST ? record->handles : 0;
    uint64_t tag = 0, words[OS_BAG_MOST];
    if (handles != 0) { /* once the head has moved, the record is a producer's */
        tag = kin__record_bagged(record)->tag;
        memcpy(words, kin__record_bagged(record)->words, handles * sizeof words[0]);
    }
    kin__store64_release(&f->ring->head, after);
    if (handles != 0)
        kin__bag_drop(f, tag, words, handles);
}

void kin__ring_remove(kin__flow *f, const kin__found *found)
{
    if (found->region) {
        kin__region_remove(f, found);
        return;
    }
    kin__ring_leave(f, found->after, found->record);
    kin__ring_moved(f);
}

bool kin__flow_readable(kin__flow *f)
{
    kin__ring *r = f->ring;
    uint64_t head = kin__load64(&r->head), next = kin__ring_next(r, head);
    if (kin__behind(kin__load64_relaxed(&r->tail_seen), next) || kin__behind(kin__load64(&r->tail), next))
        return true;
    /* Outside a region `returned` means nothing; and whoever finds nothing there has cleared it, or this would be true for ever. */
    return kin__behind(next, head) &&
           (kin__load32(&r->returned) != 0 || kin__load32(&r->epoch) != kin__load32(&kin__my.session->epoch));
}

bool kin__flow_writable(kin__flow *f, size_t size)
{
    uint32_t need;
    bool large = size > kin__flow_most(f);
    uint64_t tail = kin__load64(&f->ring->tail), head = kin__load64(&f->ring->head);
    return has_room(f->ring, tail, head, kin__record_units(large ? 1 : 0, large ? 0 : size), &need) && !(large && large_in_flight(f->ring, tail, head));
}

uint32_t kin__flow_items(const kin__flow *f)
{
    uint64_t head = kin__load64(&f->ring->head); /* first: the head can never be beyond what the tail is after that */
    return kin__items(kin__load64(&f->ring->tail)) - kin__items(head);
}

bool kin__flows_readable(kin__flow *flows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (kin__flow_readable(&flows[i]))
            return true;
    }
    return false;
}

static bool nothing(void *object)
{
    kin__get_wait *w = object;
    kin__flow_arm(w->flows, false);
    kin__order_all();
    return !kin__flows_readable(w->flows, w->count) && !look_over(w->flows, true);
}

/* It was closed: waits for those who are in the middle of a put, having seen that it was not. Whoever comes after them sees it. */
static kin_err let_them_finish(kin__get_wait *w)
{
    for (uint32_t i = 0; i < w->count && kin__load32(&w->flows->gate->closed) != 0; i++) {
        kin__entry entry;
        kin__flow *f = &w->flows[i];
        kin_err err = kin__ring_lock(f, true, kin__me, w->timeout_ms, w->deadline, &entry);
        if (err != KIN_OK)
            return err == KIN_ETIMEDOUT && w->timeout_ms == KIN_NOWAIT ? kin__fail_in(KIN_EEMPTY, "no get now") : err;
        kin__ring_unlock(f, true, kin__me, entry);
        kin__ring_look_after_put(f, 0);
    }
    return KIN_OK;
}

kin_err kin__get_wait_more(kin__get_wait *w)
{
    kin__flow *f = w->flows;
    bool any = w->last_look && kin__flows_readable(f, w->count); /* a consumer that is stopped may be in the way: then it is not over yet */
    if (w->last_look && !any)
        return over(f);
    if (!any && kin__flow_over(f)) { /* what came before the end is seen in one more look */
        w->last_look = true;
        return let_them_finish(w);
    }
    if (w->end != KIN_OK)
        return w->end == KIN_EEMPTY       ? kin__fail(KIN_EEMPTY, "%s '%s' is empty", f->kind, f->name)
               : w->end == KIN_ETIMEDOUT ? kin__fail(KIN_ETIMEDOUT, "%s '%s': no message within %lld ms", f->kind, f->name, (long long)w->timeout_ms)
                                         : w->end;
    while (!w->spun) {
        w->spun = !kin__spin_more(&w->spin);
        if (kin__flows_readable(f, w->count))
            return KIN_OK;
    }
    if (w->since == 0)
        w->since = kin__now_ns();
    w->end = sleep_on(&(kin__wait){.key = f->gate->id, .must_sleep = nothing, .object = w, .deadline = w->deadline, .since = w->since,
                                   .kind = KIN_TYPE_QUEUE, .name = f->name, .interruptible = true});
    return KIN_OK;
}

kin__get_wait kin__get_wait_begin(kin__flow *flows, uint32_t count, int64_t timeout_ms)
{
    return (kin__get_wait){.flows = flows, .count = count, .deadline = kin__deadline(timeout_ms), .timeout_ms = timeout_ms,
                           .spun = timeout_ms == KIN_NOWAIT, .end = timeout_ms == KIN_NOWAIT ? KIN_EEMPTY : KIN_OK};
}

/* A wake that we were chosen for and did not use is somebody else's. */
void kin__get_wait_end(kin__get_wait *w, kin_err err)
{
    if (w->since != 0 && err != KIN_OK && kin__flows_readable(w->flows, w->count))
        (void)kin__wake_one(w->flows->gate->id);
}

kin_err kin__ring_get_waiting(kin__flow *f, kin__ring_try attempt, void *arg, int64_t timeout_ms)
{
    if (kin__thread_me() == 0)
        return kin_last_code();
    bool once = timeout_ms == KIN__ONE_LOOK;
    if (once)
        timeout_ms = KIN_NOWAIT;
    kin__get_wait w = kin__get_wait_begin(f, 1, timeout_ms);
    for (;;) {
        kin__entry entry;
        kin_err err = kin__ring_lock(f, false, kin__me, timeout_ms, w.deadline, &entry);
        if (err != KIN_OK) {
            kin__get_wait_end(&w, err);
            return err == KIN_ETIMEDOUT && timeout_ms == KIN_NOWAIT ? kin__fail_in(KIN_EEMPTY, "no get now") : err;
        }
        err = attempt(f, arg);
        kin__ring_unlock(f, false, kin__me, entry);
        kin__ring_look_after_get(f);
        if (once)
            return err;
        if (err == KIN_EEMPTY && (err = kin__get_wait_more(&w)) == KIN_OK)
            continue;
        kin__get_wait_end(&w, err);
        return err;
    }
}

kin_err kin__flow_poll(kin__flow *f, int64_t timeout_ms)
{
    if (kin__thread_me() == 0)
        return kin_last_code();
    kin__get_wait w = kin__get_wait_begin(f, 1, timeout_ms);
    if (timeout_ms == KIN_NOWAIT)
        w.end = KIN_ETIMEDOUT;
    kin_err err = KIN_OK;
    while (err == KIN_OK && !kin__flow_has(f) && !w.last_look)
        err = kin__get_wait_more(&w);
    if (w.since != 0)
        (void)kin__wake_one(f->gate->id); /* nothing was taken: it is there for another */
    return err;
}

/* Says that this process got one more that it must deal with. */
static void count_got(kin__flow *f)
{
    uint64_t *at = &f->got[kin__my.place], generation = kin__pid_generation(kin__my.id), word = kin__load64(at), left;
    do {
        left = word >> 40 == generation ? 0 : word & 0xffffffffffu; /* of one that had this place before */
    } while (!kin__cas64(at, &word, left != 0 || word >> 40 != generation ? generation << 40 | 1 : word + 1));
    KIN_CRASH_POINT("ring.counted");
    if (left != 0)
        (void)kin__add64(f->abandoned, left);
}

static kin_err wrong_kind(const kin__flow *f, const kin__record *record)
{
    return (record->what & KIN__KIND) == KIN__ARGS
               ? kin__fail(KIN_ETYPE, "%s '%s': the message holds packed values; get it with the function for these", f->kind, f->name)
               : kin__fail(KIN_ETYPE, "%s '%s': the message is bytes, not packed values", f->kind, f->name);
}

typedef struct get_one {
    kin__sink *sink;
    kin__header *segment; /* of a large message; copied when the lock is released */
} get_one;

/* The message stays if that fails. */
static kin_err open_large(const kin__flow *f, os_handle handle, get_one *g)
{
    kin_err err = kin__segment_adopt(handle, KIN_TYPE_SEGMENT, &g->segment);
    if (err == KIN_OK && g->segment->size >= g->sink->size)
        return KIN_OK;
    if (err == KIN_OK) {
        kin__segment_release(g->segment);
        return damaged(f);
    }
    os_handle_close(handle);
    return kin__fail_in(err, "%s '%s': a message of %zu bytes", f->kind, f->name, g->sink->size);
}

static kin_err look_into_bag(kin__flow *f, kin__record *record, get_one *g)
{
    kin__bagged *bagged = kin__record_bagged(record);
    os_handle handles[OS_BAG_MOST];
    bool large = kin__record_large(record);
    size_t count = record->handles, first = large ? 1 : 0;
    if (count > first && g->sink->handles == NULL)
        return damaged(f);
    kin_err err = kin__bag_look(f, bagged, count, handles);
    if (err != KIN_OK)
        return err;
    if (large && (err = open_large(f, handles[0], g)) != KIN_OK) {
        for (size_t i = 1; i < count; i++)
            os_handle_close(handles[i]);
        return err;
    }
    if (count > first)
        memcpy(g->sink->handles, handles + first, (count - first) * sizeof handles[0]);
    g->sink->handle_count = count - first;
    return KIN_OK;
}

static kin_err try_get(kin__flow *f, void *arg)
{
    get_one *g = arg;
    kin__sink *sink = g->sink;
    kin__found found;
    kin_err err = kin__ring_find(f, &found);
    if (err != KIN_OK)
        return err;
    kin__record *record = found.record;
    sink->size = (size_t)kin__record_size(record);
    if ((record->what & KIN__KIND) != sink->what)
        return wrong_kind(f, record);
    if (sink->size > sink->space && sink->grows)
        return KIN_EMSGSIZE;
    if (sink->size > sink->space)
        return kin__fail(KIN_EMSGSIZE, "%s '%s': the message has %zu bytes, there is room for %zu", f->kind, f->name, sink->size, sink->space);
    if (record->handles != 0) {
        err = look_into_bag(f, record, g);
        if (err == KIN_ELOST) { /* went with a consumer that was killed as it took it away */
            kin__ring_remove(f, &found);
            return try_get(f, arg);
        }
        if (err != KIN_OK)
            return err;
    }
    if (record->size != 0)
        memcpy(sink->buffer, kin__record_bytes(record), record->size);
    KIN_CRASH_POINT("ring.copied");
    if (f->got != NULL)
        count_got(f);
    kin__ring_remove(f, &found);
    KIN_CRASH_POINT("ring.removed");
    return KIN_OK;
}

static KIN__NOINLINE kin_err get_slow(kin__flow *f, kin__sink *sink, int64_t timeout_ms)
{
    get_one g = {sink, NULL};
    sink->handle_count = 0;
    kin_err err = kin__ring_get_waiting(f, try_get, &g, timeout_ms);
    if (err == KIN_OK && g.segment != NULL) {
        memcpy(sink->buffer, kin__header_data(g.segment), sink->size);
        kin__segment_release(g.segment);
    }
    return err;
}

#define LOOKS 64 /* for the next message, before anything that costs more: who sends one now and then does not come to this */

static bool more_comes(const kin__ring *r, int64_t timeout_ms)
{
    if (timeout_ms == KIN_NOWAIT || kin__my.session == NULL || kin__my.session->cpus == 1 || kin__load32_relaxed(&kin__my.session->spin_ns) == 0)
        return false;
    for (int i = 0; i < LOOKS; i++) {
        kin__relax();
        if (kin__ring_has_more(r))
            return true;
    }
    return false;
}

kin_err kin__flow_get(kin__flow *f, kin__sink *sink, int64_t timeout_ms)
{
    sink->handle_count = 0;
    if (kin__get_quickly(f, sink->buffer, sink->space, &sink->size, sink->what) ||
        (!kin__ring_has_more(f->ring) && more_comes(f->ring, timeout_ms) &&
         kin__get_quickly(f, sink->buffer, sink->space, &sink->size, sink->what)))
        return KIN_OK;
    return get_slow(f, sink, timeout_ms);
}

typedef struct get_many {
    char *buffer;
    size_t space, used, most, count;
    kin_view *messages;
} get_many;

/* As many as there are and fit; while nothing lies in a region they leave by one store. */
static kin_err try_get_many(kin__flow *f, void *arg)
{
    get_many *g = arg;
    kin__ring *r = f->ring;
    kin__found found;
    uint64_t head = kin__load64_relaxed(&r->head), after = head;
    kin_err err = KIN_OK;
    while (g->count < g->most && err == KIN_OK) {
        if (after == head) {
            if ((err = kin__ring_find(f, &found)) != KIN_OK)
                break;
            head = after = kin__load64_relaxed(&r->head); /* it may have moved behind what was done */
        } else if (!kin__behind(kin__load64_relaxed(&r->tail_seen), after) ||
                   !kin__ring_step(f, after, kin__load64_relaxed(&r->tail_seen), &found.record, &found.after) ||
                   kin__state_what(kin__load64(&found.record->state)) != KIN__READY) {
            break;
        }
        kin__record *record = found.record;
        size_t size = (size_t)kin__record_size(record);
        if (record->what != KIN__BYTES || size > g->space - g->used || f->got != NULL || record->handles != 0)
            break;
        char *to = g->used != 0 ? g->buffer + g->used : g->buffer; /* which may be NULL, for empty messages */
        if (size != 0)
            memcpy(to, kin__record_bytes(record), size);
        g->messages[g->count++] = (kin_view){to, size};
        g->used += (size + 7) / 8 * 8 < g->space - g->used ? (size + 7) / 8 * 8 : g->space - g->used;
        if (after == head && found.region) {
            kin__ring_remove(f, &found);
            head = after = kin__load64_relaxed(&r->head);
        } else {
            after = found.after;
        }
    }
    if (after != head) {
        KIN_CRASH_POINT("ring.got.many");
        kin__store64_release(&r->head, after);
        kin__ring_moved(f);
    }
    return g->count != 0 ? KIN_OK : err != KIN_OK ? err : KIN_EFULL; /* EFULL: the first is not for here */
}

kin_err kin__flow_get_many(kin__flow *f, void *buffer, size_t space, kin_view *messages, size_t most, size_t *count, int64_t timeout_ms)
{
    get_many g = {.buffer = buffer, .space = space, .most = most, .messages = messages};
    uint64_t deadline = kin__deadline(timeout_ms);
    kin_err err = kin__ring_get_waiting(f, try_get_many, &g, timeout_ms);
    if (err == KIN_EFULL) { /* alone: it is large, to be counted, of another kind, or too big */
        kin__sink sink = {.buffer = buffer, .space = space, .what = KIN__BYTES};
        err = kin__flow_get(f, &sink, kin__time_left(deadline, timeout_ms));
        if (err == KIN_EEMPTY && timeout_ms != KIN_NOWAIT)
            err = kin__fail_in(KIN_ETIMEDOUT, "not in time");
        if (err == KIN_OK)
            messages[g.count++] = (kin_view){buffer, sink.size};
        else
            messages[0].size = sink.size;
    }
    *count = g.count;
    return err;
}
