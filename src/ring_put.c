/* Putting into a ring, and waiting for room. A message that is too large for it goes into a segment of its own, and what goes into the
 * ring is its handle. */
#include "ring_quick.h"

#include "error.h"
#include "fault.h"
#include "kin/wait.h"
#include "large.h"

#include <string.h>

kin_err kin__ring_check_size(const kin__flow *f, size_t size)
{
    if (f->max_message != 0 && size > f->max_message)
        return kin__fail(KIN_EMSGSIZE, "%s '%s': a message of %zu bytes, at most %zu are allowed", f->kind, f->name,
                         size, f->max_message);
    return KIN_OK;
}

/* Whether `units` more fit, in one piece: `need` gets those to the end of the ring too if they must begin it. */
static bool has_room(const kin__flow *f, uint64_t tail, uint64_t head, uint32_t units, uint32_t *need)
{
    uint32_t all = kin__flow_units(f), to_end = all - (kin__position(tail) & f->mask), most = f->ring->max_items;
    *need = units <= to_end ? units : to_end + units;
    return all - (kin__position(tail) - kin__position(head)) >= *need &&
           (most == 0 || kin__items(tail) - kin__items(head) < most);
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
    bagged->piece = letter->piece;
    KIN_CRASH_POINT("ring.bagging");
    kin_err err = os_bag_put(f->in, bagged->tag, letter->handles, letter->handle_count, bagged->words);
    if (err == KIN_EAGAIN && kin__bag_purge(f))
        err = os_bag_put(f->in, bagged->tag, letter->handles, letter->handle_count, bagged->words);
    return err == KIN_EAGAIN ? KIN_EFULL : err;
}

kin_err kin__ring_place(kin__flow *f, const kin__letter *letter, uint64_t real, uint32_t state, uint64_t *tail,
                        kin__record **placed)
{
    kin__ring *r = f->ring;
    uint64_t t = *tail;
    uint32_t units = kin__record_units(letter->handle_count, letter->size), need;
    if (!has_room(f, t, kin__load64_relaxed(&r->head_seen), units, &need)) {
        uint64_t head = kin__load64(&r->head);
        kin__store64_release(&r->head_seen, head);
        if (!has_room(f, t, head, units, &need))
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

bool kin__flow_writable(kin__flow *f, size_t size)
{
    uint32_t need;
    bool large = size > kin__flow_most(f);
    uint64_t tail = kin__load64(&f->ring->tail), head = kin__load64(&f->ring->head);
    return has_room(f, tail, head, kin__record_units(large ? 1 : 0, large ? 0 : size), &need) &&
           !(large && large_in_flight(f->ring, tail, head));
}

bool kin__flow_has_room(kin__flow *f, size_t room)
{
    size_t eighth = (size_t)kin__flow_units(f) * KIN__UNIT / 8 - KIN__UNIT;
    return kin__flow_writable(f, room == KIN__ROOM ? eighth : room);
}

kin_err kin__flow_check_room(const kin__flow *f, size_t room)
{
    return room == KIN__ROOM ? KIN_OK : kin__ring_check_size(f, room);
}

/* ---- waiting for room ---- */

typedef struct room_wait {
    kin__flow *f;
    uint32_t units;
    int64_t timeout_ms;
    uint64_t deadline, since;
    kin__spin spin;
    uint64_t head, dropped; /* as they were when there was no room */
    bool other;    /* what was lacking was not room in the ring: whatever leaves it, or the bag, may help */
    bool spinning;
    bool swept;  /* what nobody will finish; once for each look: deaths wake all */
    kin_err end; /* how it ends if the next look finds none */
} room_wait;

static bool no_room(void *object)
{
    room_wait *w = object;
    kin__ring *r = w->f->ring;
    uint32_t need;
    kin__waits_arm(&r->waits, KIN__WAITS_ROOM);
    uint64_t head = kin__load64(&r->head), tail = kin__load64(&r->tail);
    if (kin__ring_look_over(w->f, true) || kin__flow_unswept(w->f))
        return false;
    return w->other ? head == w->head && kin__bag_dropped(w->f) == w->dropped
                    : !has_room(w->f, tail, head, w->units, &need);
}

/* True: *err is how it ends. False: there was no room. */
static bool try_once(room_wait *w, kin__ring_try attempt, void *arg, kin_err *err)
{
    kin__flow *f = w->f;
    kin__entry entry;
    uint32_t need;
    *err = kin__ring_lock(f, true, kin__me, w->timeout_ms, w->deadline, &entry);
    if (*err != KIN_OK) {
        if (w->since != 0)
            (void)kin__wake_one(f->ring->id_room); /* as below */
        if (*err == KIN_ETIMEDOUT && w->timeout_ms == KIN_NOWAIT)
            *err = kin__fail_in(KIN_EFULL, "no put now");
        return true;
    }
    w->head = kin__load64(&f->ring->head);
    w->dropped = kin__bag_dropped(f);
    *err = kin__load32(&f->gate->closed) == 0 ? attempt(f, arg) : kin__ring_over(f);
    w->other = *err == KIN_EFULL && has_room(f, kin__load64_relaxed(&f->ring->tail), w->head, w->units, &need);
    kin__ring_unlock(f, true, kin__me, entry);
    kin__ring_look_after_put(f, *err == KIN_OK);
    if (w->since != 0 && (kin__load64(&f->ring->waits) & KIN__WAITS_ROOM) != 0 &&
        (*err != KIN_EFULL || w->end != KIN_OK))
        (void)kin__wake_one(f->ring->id_room); /* the wake may have been for more than one, or was not used */
    return *err != KIN_EFULL;
}

/* KIN_OK: try again. */
static kin_err wait_for_room(room_wait *w)
{
    kin__flow *f = w->f;
    if (!w->swept) {
        w->swept = true;
        kin__flow_sweep(f);
        return KIN_OK;
    }
    if (w->end == KIN_EFULL && w->other)
        return kin__fail(KIN_EFULL, "%s '%s': what is on its way beside it (a large message, or as many objects as can be) must be got first",
                         f->kind, f->name);
    if (w->end != KIN_OK)
        return w->end == KIN_EFULL       ? kin__fail(KIN_EFULL, "%s '%s' is full", f->kind, f->name)
               : w->end == KIN_ETIMEDOUT ? kin__fail(KIN_ETIMEDOUT, "%s '%s': no room within %lld ms", f->kind, f->name,
                                                     (long long)w->timeout_ms)
                                         : w->end;
    while (w->spinning && !kin__flow_writable(f, w->units * KIN__UNIT - KIN__UNIT))
        w->spinning = kin__spin_more(&w->spin);
    if (w->spinning && !w->other)
        return KIN_OK;
    if (w->since == 0)
        w->since = kin__now_ns();
    w->end = kin__ring_sleep(&(kin__wait){.key = f->ring->id_room,
                                          .must_sleep = no_room,
                                          .object = w,
                                          .deadline = w->deadline,
                                          .since = w->since,
                                          .kind = kin__flow_type(f),
                                          .name = f->name,
                                          .interruptible = true});
    w->swept = false;
    return KIN_OK;
}

kin_err kin__ring_put_waiting(kin__flow *f, kin__ring_try attempt, void *arg, uint32_t units, int64_t timeout_ms)
{
    room_wait w = {.f = f,
                   .units = units,
                   .timeout_ms = timeout_ms,
                   .deadline = kin__deadline(timeout_ms),
                   .spinning = timeout_ms != KIN_NOWAIT,
                   .end = timeout_ms == KIN_NOWAIT ? KIN_EFULL : KIN_OK};
    kin_err err;
    do {
        if (kin__flow_over(f))
            return kin__ring_over(f);
        if (try_once(&w, attempt, arg, &err))
            return err;
    } while ((err = wait_for_room(&w)) == KIN_OK);
    return err;
}

/* ---- one message ---- */

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

static kin_err put_large(kin__flow *f, const kin__letter *letter, int64_t timeout_ms)
{
    os_handle handles[OS_BAG_MOST];
    kin__large *large;
    kin_err err = kin__large_make(f, letter->size, &large);
    if (err != KIN_OK)
        return err;
    memcpy(kin__large_data(large), letter->bytes, letter->size);
    handles[0] = large->handle;
    if (letter->handle_count != 0)
        memcpy(handles + 1, letter->handles, letter->handle_count * sizeof handles[0]);
    kin__letter small = {
        .handles = handles, .handle_count = letter->handle_count + 1, .what = letter->what | KIN__LARGE, .piece = large->header->id};
    put_args a = {&small, letter->size};
    err = kin__ring_put_waiting(f, try_put, &a, kin__record_units(small.handle_count, 0), timeout_ms);
    kin__large_keep(f, large, err == KIN_OK);
    return err;
}

static KIN__NOINLINE kin_err put_slow(kin__flow *f, const kin__letter *letter, int64_t timeout_ms)
{
    kin_err err = kin__ring_check_size(f, letter->size);
    if (err != KIN_OK)
        return err;
    if (letter->handle_count > OS_BAG_MOST - 1)
        return kin__fail(KIN_EINVAL, "%s '%s': %u objects, files and descriptors in a message, at most %d can be",
                         f->kind, f->name, letter->handle_count, OS_BAG_MOST - 1);
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
        err =
            letter.size > kin__flow_most(f) ? KIN_EMSGSIZE : kin__ring_place(f, &letter, 0, KIN__READY, &tail, &record);
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
        err = messages[i].data == NULL && messages[i].size != 0
                  ? kin__fail(KIN_EINVAL, "%s '%s', message %zu: %zu bytes at NULL", f->kind, f->name, i,
                              messages[i].size)
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
            size_t more = m.done > before ? m.done - before - 1 : 0; /* for one of them somebody was woken */
            if (more > 0)
                kin__ring_look_after_put(f, (uint32_t)(more < KIN__EVERYONE ? more : KIN__EVERYONE));
        }
    }
    *done = m.done;
    return err == KIN_EFULL && timeout_ms != KIN_NOWAIT
               ? kin__fail_in(KIN_ETIMEDOUT, "message %zu of %zu", m.done, count)
               : err;
}
