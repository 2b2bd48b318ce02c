/* Getting from a ring, and waiting for a message, or for the end. */
#include "ring_quick.h"

#include "error.h"
#include "fault.h"
#include "large.h"

#include <string.h>

/* ---- what is next ---- */

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
        return kin__ring_damaged(f);
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
    return kin__behind(next, head) && kin__ring_may_return(r);
}

/* ---- looking, and putting right what nobody will finish ---- */

bool kin__flow_unswept(const kin__flow *f)
{
    /* A living one that is in the middle of a get looks itself, and for us when it lets go. */
    return kin__load32(&f->ring->in_place) != 0 &&
           kin__load32(&f->ring->epoch) != kin__load32(&kin__my.session->epoch) && kin__flow_items(f) != 0 &&
           !kin__latch_in_use(&f->ring->getter);
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

/* ---- waiting for a message ---- */

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
    return !kin__flows_readable(w->flows, w->count) && !kin__flows_ended(w->flows, w->count, true);
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
    /* A consumer that is stopped may be in the way: then it is not over yet. */
    bool any = w->last_look && kin__flows_readable(f, w->count);
    if (!any && kin__flows_ended(f, w->count, false)) {
        if (w->last_look)
            return kin__ring_over(f);
        w->last_look = true; /* what came before the end is seen in one more look */
        return let_them_finish(w);
    }
    if (w->end != KIN_OK)
        return w->end == KIN_EEMPTY      ? kin__fail(KIN_EEMPTY, "%s '%s' is empty", f->kind, f->name)
               : w->end == KIN_ETIMEDOUT ? kin__fail(KIN_ETIMEDOUT, "%s '%s': no message within %lld ms", f->kind,
                                                     f->name, (long long)w->timeout_ms)
                                         : w->end;
    while (!w->spun) {
        w->spun = !kin__spin_more(&w->spin);
        if (kin__flows_readable(f, w->count))
            return KIN_OK;
    }
    if (w->since == 0)
        w->since = kin__now_ns();
    w->end = kin__ring_sleep(&(kin__wait){.key = f->gate->id,
                                          .must_sleep = nothing,
                                          .object = w,
                                          .deadline = w->deadline,
                                          .since = w->since,
                                          .kind = kin__flow_type(f),
                                          .name = f->name,
                                          .interruptible = true});
    return KIN_OK;
}

kin__get_wait kin__get_wait_begin(kin__flow *flows, uint32_t count, int64_t timeout_ms)
{
    return (kin__get_wait){.flows = flows,
                           .count = count,
                           .deadline = kin__deadline(timeout_ms),
                           .timeout_ms = timeout_ms,
                           .spun = timeout_ms == KIN_NOWAIT,
                           .end = timeout_ms == KIN_NOWAIT ? KIN_EEMPTY : KIN_OK};
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

/* ---- one message ---- */

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
    bool values = (record->what & KIN__KIND) == KIN__ARGS;
    const char *get = kin__flow_type(f) == KIN_TYPE_QUEUE ? "kin_queue_get" : "kin_connection_recv";
    return kin__fail(KIN_ETYPE, "%s '%s': the next message is %s: %s%s", f->kind, f->name,
                     values ? "values, not bytes" : "bytes, not values", get, values ? "_args" : "");
}

typedef struct get_one {
    kin__sink *sink;
    uint64_t piece;
    kin__large *large; /* of a large message, which is copied when the lock is released */
} get_one;

/* The message stays if that fails. */
static kin_err open_large(const kin__flow *f, os_handle handle, get_one *g)
{
    kin_err err = kin__large_open(handle, g->sink->size, &g->large);
    if (err == KIN_OK)
        return KIN_OK;
    return kin__fail_in(err, "%s '%s': a message of %zu bytes", f->kind, f->name, g->sink->size);
}

static kin_err look_into_bag(kin__flow *f, kin__record *record, get_one *g)
{
    kin__bagged *bagged = kin__record_bagged(record);
    os_handle handles[OS_BAG_MOST];
    bool large = kin__record_large(record);
    size_t count = record->handles, first = large ? 1 : 0;
    if (count > first && g->sink->handles == NULL)
        return kin__ring_damaged(f);
    if (large && (g->large = kin__large_known(f, g->piece = bagged->piece, g->sink->size)) != NULL && count == 1)
        return KIN_OK;
    kin_err err = kin__bag_look(f, bagged, count, handles);
    if (err == KIN_OK && g->large != NULL)
        os_handle_close(handles[0]);
    else if (err == KIN_OK && large && (err = open_large(f, handles[0], g)) != KIN_OK) {
        for (size_t i = 1; i < count; i++)
            os_handle_close(handles[i]);
    }
    if (err != KIN_OK) {
        if (g->large != NULL)
            kin__large_put_back(f, g->large);
        g->large = NULL;
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
        return kin__fail(KIN_EMSGSIZE, "%s '%s': the message has %zu bytes, there is room for %zu", f->kind, f->name,
                         sink->size, sink->space);
    if (record->handles != 0) {
        err = look_into_bag(f, record, g);
        if (err == KIN_ELOST) { /* went with a consumer that was killed as it took it away */
            kin__ring_remove(f, &found);
            return try_get(f, arg);
        }
        if (err != KIN_OK)
            return err;
    }
    if (g->large == NULL && sink->size != 0)
        memcpy(sink->buffer, kin__record_bytes(record), sink->size);
    KIN_CRASH_POINT("ring.copied");
    if (f->got != NULL)
        count_got(f);
    kin__ring_remove(f, &found);
    KIN_CRASH_POINT("ring.removed");
    return KIN_OK;
}

static KIN__NOINLINE kin_err get_slow(kin__flow *f, kin__sink *sink, int64_t timeout_ms)
{
    get_one g = {.sink = sink};
    sink->handle_count = 0;
    kin_err err = kin__ring_get_waiting(f, try_get, &g, timeout_ms);
    if (err == KIN_OK && g.large != NULL) {
        memcpy(sink->buffer, kin__large_data(g.large), sink->size);
        kin__large_got(f, g.large, g.piece);
    }
    return err;
}

#define LOOKS                                                                                                          \
    64 /* for the next message, before anything that costs more: who sends one now and then does not come to this */

static bool more_comes(const kin__ring *r, int64_t timeout_ms)
{
    if (timeout_ms == KIN_NOWAIT || kin__my.session == NULL || kin__my.session->cpus == 1 ||
        kin__load32_relaxed(&kin__my.session->spin_ns) == 0)
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

/* ---- many ---- */

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

kin_err kin__flow_get_many(kin__flow *f, void *buffer, size_t space, kin_view *messages, size_t most, size_t *count,
                           int64_t timeout_ms)
{
    get_many g = {.buffer = buffer, .space = space, .most = most, .messages = messages};
    uint64_t deadline = kin__deadline(timeout_ms);
    kin_err err = kin__ring_get_waiting(f, try_get_many, &g, timeout_ms);
    if (err == KIN_EFULL) { /* alone: it is large, to be counted, of another kind, or too big */
        kin__sink sink = {.buffer = buffer, .space = space, .what = KIN__BYTES};
        err = kin__flow_get(f, &sink, kin__time_left(deadline, timeout_ms));
        if (err == KIN_EEMPTY && timeout_ms > KIN_NOWAIT)
            err = kin__fail_in(KIN_ETIMEDOUT, "not in time");
        if (err == KIN_OK)
            messages[g.count++] = (kin_view){buffer, sink.size};
        else
            messages[0].size = sink.size;
    }
    *count = g.count;
    return err;
}
