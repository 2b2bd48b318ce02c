/* A wire: frames on a stream, taken by turns. The word of a turn says whether somebody has it (TAKEN), whether somebody sleeps
 * to get it (WANTED) and whether kin_wait sleeps for something to come (WATCHED). Who has the turn waits for the stream
 * itself; what must never happen is that a thread leaves the turn, or half a message, to nobody. */
#include "wire.h"

#include "error.h"
#include "fault.h"

#include <stdlib.h>
#include <string.h>

enum { TAKEN = 1, WANTED = 2, WATCHED = 4 };
#define CLOSED ((uint64_t)1 << 63)
#define CHUNK ((size_t)65536)
/* A message that does not end is read in pieces, and this many of them when the time is over: more than a system keeps. */
#define PIECE_MOST ((size_t)1 << 20)
#define PIECES_MOST 16u
#define FINISHER_STACK 65536u

/* ---- who uses it ---- */

static bool join(kin__wire *w)
{
    uint64_t users = kin__load64(&w->users);
    do {
        if ((users & CLOSED) != 0) {
            kin__fail(KIN_EINVAL, "it was closed");
            return false;
        }
    } while (!kin__cas64(&w->users, &users, users + 1));
    return true;
}

static bool is_closed(const kin__wire *w)
{
    return (kin__load64((uint64_t *)(uintptr_t)&w->users) & CLOSED) != 0;
}

/* TCP resets a connection that is closed with something unread, and the other side loses what it has not received yet. So that is thrown
 * away; but not for ever, as it comes. */
static void discard_unread(kin__wire *w)
{
    enum { PIECES = 256 };
    size_t got = 1;
    bool whole;
    kin__error_kept kept;
    kin__error_keep(&kept);
    for (int i = 0; i < PIECES && got != 0 && os_stream_read(w->stream, w->chunk, CHUNK, &got, &whole) == KIN_OK; i++) {
    }
    kin__error_back(&kept);
}

static void part(kin__wire *w)
{
    uint64_t users = kin__load64(&w->users);
    while (!kin__cas64(&w->users, &users, users - 1)) {
    }
    if (users - 1 != CLOSED)
        return;
    os_watch_remove(w->receiving.watch, NULL);
    os_watch_remove(w->sending.watch, NULL);
    uv_mutex_destroy(&w->watching);
    discard_unread(w);
    os_stream_cancel(w->stream); /* the end, also if a copy of this process made by a plain fork() has it still */
    os_stream_close(w->stream);
    kin__frame_free(&w->frame);
    free(w->chunk);
    free(w->rest);
    w->gone(w);
}

static void turn_begin(kin__turn *t)
{
    t->key = kin__unique();
    t->watch_key = kin__unique();
}

kin_err kin__wire_begin(kin__wire *wire, os_stream *stream, size_t limit, void (*gone)(kin__wire *wire))
{
    memset(wire, 0, sizeof *wire);
    wire->chunk = KIN_FAULT("malloc") ? NULL : malloc(CHUNK);
    if (wire->chunk == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a connection");
    if (uv_mutex_init(&wire->watching) != 0) {
        free(wire->chunk);
        return kin__fail(KIN_ENOMEM, "no memory for a mutex");
    }
    wire->stream = stream;
    wire->limit = limit != 0 ? limit : KIN__WIRE_MESSAGE;
    wire->frame.limit = wire->limit;
    wire->gone = gone;
    wire->users = 1; /* its owner, until it is closed */
    turn_begin(&wire->receiving);
    turn_begin(&wire->sending);
    return KIN_OK;
}

static void wake_sleepers(kin__turn *t)
{
    uint32_t word = kin__load32(&t->word);
    while (!kin__cas32(&t->word, &word, word & TAKEN)) {
    }
    if ((word & WANTED) != 0)
        (void)kin__wake_all(t->key);
    if ((word & WATCHED) != 0)
        (void)kin__wake_all(t->watch_key);
}

void kin__wire_close(kin__wire *wire)
{
    uint64_t users = kin__load64(&wire->users);
    while (!kin__cas64(&wire->users, &users, users | CLOSED)) {
    }
    /* A thread that finishes a message is left to it, if nobody else is there who must be told. To cancel is for those: TCP may
     * lose by it what is still on its way. */
    if (users > 1 + (uint64_t)kin__load32(&wire->finishing))
        os_stream_cancel(wire->stream);
    wake_sleepers(&wire->receiving);
    wake_sleepers(&wire->sending);
    part(wire);
}

void kin__wire_cancel(kin__wire *wire)
{
    os_stream_cancel(wire->stream);
}

/* ---- turns ---- */

typedef struct waiter {
    const kin__wire *wire;
    kin__turn *turn;
} waiter;

static bool must_sleep(void *object)
{
    waiter *me = object;
    uint32_t word = kin__load32(&me->turn->word);
    do {
        if ((word & TAKEN) == 0 || is_closed(me->wire))
            return false;
    } while ((word & WANTED) == 0 && !kin__cas32(&me->turn->word, &word, word | WANTED));
    return true;
}

static bool try_turn(kin__turn *t)
{
    uint32_t word = kin__load32(&t->word);
    do {
        if ((word & TAKEN) != 0)
            return false;
    } while (!kin__cas32(&t->word, &word, word | TAKEN));
    return true;
}

static kin_err late(bool send)
{
    return kin__fail(KIN_ETIMEDOUT, send ? "no room in time" : "no message in time");
}

/* Takes the turn. The caller has joined. */
static kin_err take_turn(kin__wire *w, kin__turn *t, uint64_t deadline)
{
    waiter me = {w, t};
    for (kin_err err = KIN_OK;;) {
        if (is_closed(w))
            return kin__fail(KIN_EINVAL, "it was closed meanwhile");
        if (try_turn(t))
            return KIN_OK;
        if (err != KIN_OK)
            return err == KIN_ETIMEDOUT ? late(t == &w->sending) : err;
        if (kin__thread_me() == 0)
            return kin_last_code();
        err = kin__park_on(&(kin__wait){.key = t->key, .must_sleep = must_sleep, .object = &me, .deadline = deadline,
                                        .kind = KIN_TYPE_CONNECTION, .interruptible = true});
    }
}

static void leave_turn(kin__turn *t)
{
    uint32_t word = kin__exchange32(&t->word, 0);
    if ((word & WANTED) != 0)
        (void)kin__wake_all(t->key);
    if ((word & WATCHED) != 0)
        (void)kin__wake_all(t->watch_key);
}

/* ---- waiting for the stream, by who has the turn ---- */

typedef struct sleeper {
    kin__wire *wire;
    uint64_t key;
    uint32_t fired;
} sleeper;

static void stream_ready(void *arg)
{
    sleeper *me = arg;
    kin__store32(&me->fired, 1);
    (void)kin__wake_all(me->key);
}

static bool is_quiet(void *object)
{
    const sleeper *me = object;
    return kin__load32(&me->fired) == 0 && !is_closed(me->wire);
}

/* Whether os_stream_wait would return at once. */
static bool is_ready_now(kin__wire *w, os_stream_for what)
{
    os_source source;
    size_t wrong;
    return !os_stream_source(w->stream, what, &source) || os_sources_look(&source, 1, &wrong) != KIN_OK || source.ready;
}

/* Asleep as everybody in kin, so that it can be interrupted; the thread that watches streams wakes it. */
static kin_err sleep_for(kin__wire *w, os_stream_for what, uint64_t deadline)
{
    os_source source;
    if (!os_stream_source(w->stream, what, &source))
        return KIN_OK;
    for (kin__spin spin = {0}; kin__spin_more(&spin);) {
        if (is_ready_now(w, what))
            return KIN_OK;
    }
    if (kin__thread_me() == 0)
        return kin_last_code();
    sleeper me = {.wire = w, .key = kin__unique()};
    os_watch *watch;
    kin_err err = os_watch_add(&source, 1, stream_ready, &me, &watch);
    if (err != KIN_OK)
        return err;
    do {
        err = kin__park_on(&(kin__wait){.key = me.key, .must_sleep = is_quiet, .object = &me, .deadline = deadline,
                                        .kind = KIN_TYPE_CONNECTION, .interruptible = true});
    } while (err == KIN_OK && is_quiet(&me));
    os_watch_remove(watch, &source);
    return err;
}

static bool is_over(uint64_t deadline)
{
    return deadline != OS_NEVER && kin__now_ns() >= deadline;
}

static kin_err await(kin__wire *w, os_stream_for what, uint64_t deadline, bool plain)
{
    if (plain)
        return os_stream_wait(w->stream, what, deadline);
    if (is_over(deadline))
        return is_ready_now(w, what) ? KIN_OK : kin__fail(KIN_ETIMEDOUT, "too late");
    return sleep_for(w, what, deadline);
}

/* Remembers why there is no going on, for all who come. */
static kin_err end(kin__turn *t, kin_err err)
{
    t->ended = err;
    (void)snprintf(t->why, sizeof t->why, "%s", kin_last_error());
    return err;
}

/* Whether a failure says nothing of the connection. */
static bool passes(kin_err err)
{
    return err == KIN_ETIMEDOUT || err == KIN_EINTERRUPTED || err == KIN_ENOMEM || err == KIN_EMFILE || err == KIN_EAGAIN ||
           err == KIN_ESTATE || err == KIN_EMSGSIZE;
}

/* What a stream's failure means to the caller. */
static kin_err failed(kin__wire *w, kin__turn *t, kin_err err)
{
    if (passes(err))
        return err;
    if (is_closed(w))
        return kin__fail(KIN_EINVAL, "it was closed meanwhile");
    if (err == KIN_ECANCELLED)
        err = kin__fail(KIN_EPIPE, "it was ended");
    return end(t, err);
}

/* ---- receiving ---- */

/* Gives the frame what lies in the chunk. */
static kin_err digest(kin__wire *w)
{
    if (w->piece) {
        kin_err err = kin__frame_piece(&w->frame, w->chunk, w->chunk_end, w->whole);
        if (err != KIN_ENOMEM) {
            w->piece = false;
            w->chunk_at = w->chunk_end;
        }
        return err;
    }
    size_t used = 0;
    kin_err err = kin__frame_feed(&w->frame, w->chunk + w->chunk_at, w->chunk_end - w->chunk_at, &used);
    w->chunk_at += used;
    return err;
}

/* Reads what is there; *any: something was. Long messages go straight to their place. */
static kin_err fill(kin__wire *w, bool *any)
{
    bool messages = os_stream_has_messages(w->stream), whole = false;
    size_t space = 0, got = 0;
    uint8_t *room = messages ? NULL : kin__frame_room(&w->frame, CHUNK, &space);
    space = space < PIECE_MOST ? space : PIECE_MOST;
    kin_err err = os_stream_read(w->stream, room != NULL ? room : w->chunk, room != NULL ? space : CHUNK, &got, &whole);
    if (err == KIN_EPIPE && kin__frame_begun(&w->frame))
        return kin__fail(KIN_EPIPE, "the other side closed its end, or died, in the middle of a message");
    *any = err == KIN_OK && (got != 0 || whole);
    if (!*any)
        return err;
    if (room != NULL) {
        kin__frame_filled(&w->frame, got);
        return KIN_OK;
    }
    w->chunk_at = 0;
    w->chunk_end = got;
    w->piece = messages;
    w->whole = whole;
    return KIN_OK;
}

/* Reads on until there is a message, or nothing more for now, or for too long after the deadline. */
static kin_err pump(kin__wire *w, uint64_t deadline)
{
    kin__turn *t = &w->receiving;
    if (t->ended != KIN_OK)
        return kin__fail_text(t->ended, t->why);
    unsigned reads = 0;
    for (bool any = true; !w->frame.complete && any;) {
        bool more = w->piece || w->chunk_at < w->chunk_end;
        if (!more && reads++ >= PIECES_MOST && is_over(deadline))
            break; /* with nothing left here that has been read: then the stream itself tells that there is more */
        kin_err err = more ? digest(w) : fill(w, &any);
        if (err == KIN_EPIPE)
            kin__store32(&w->end_seen, 1);
        if (err == KIN_EPROTO) { /* no telling where the next message begins */
            err = failed(w, t, err);
            os_stream_cancel(w->stream);
            return err;
        }
        if (err != KIN_OK)
            return failed(w, t, err);
    }
    return KIN_OK;
}

static kin_err await_message(kin__wire *w, uint64_t deadline)
{
    for (;;) {
        bool last = is_over(deadline);
        kin_err err = pump(w, deadline);
        if (err != KIN_OK || w->frame.complete)
            return err;
        if (last)
            return late(false);
        err = await(w, OS_STREAM_READ, deadline, w->plain);
        if (err != KIN_OK && err != KIN_ETIMEDOUT)
            return failed(w, &w->receiving, err);
    }
}

kin_err kin__wire_look(kin__wire *wire, const uint8_t **data, size_t *size, uint64_t deadline)
{
    static const uint8_t nothing[1];
    if (!join(wire))
        return KIN_EINVAL;
    kin_err err = take_turn(wire, &wire->receiving, deadline);
    if (err == KIN_OK && (err = await_message(wire, deadline)) != KIN_OK)
        leave_turn(&wire->receiving);
    if (err != KIN_OK) {
        part(wire);
        return err;
    }
    *data = wire->frame.size != 0 ? wire->frame.data : nothing;
    *size = wire->frame.size;
    return KIN_OK;
}

void kin__wire_done(kin__wire *wire, bool drop)
{
    if (drop)
        kin__frame_next(&wire->frame);
    leave_turn(&wire->receiving);
    part(wire);
}

void *kin__wire_take(kin__wire *wire, size_t *size)
{
    void *data = kin__frame_take(&wire->frame, size);
    leave_turn(&wire->receiving);
    part(wire);
    return data;
}

/* ---- sending ---- */

/* What is still to be sent of a message: its head, then its bytes. */
typedef struct parcel {
    const uint8_t *head, *data;
    size_t head_size, size;
} parcel;

static void advance(parcel *p, size_t taken)
{
    size_t of_head = taken < p->head_size ? taken : p->head_size;
    if (p->head != NULL)
        p->head += of_head;
    p->head_size -= of_head;
    if (p->data != NULL)
        p->data += taken - of_head;
    p->size -= taken - of_head;
}

/* Sends on, at least until something is taken, until all is or the time is over. */
static kin_err push(kin__wire *w, parcel *p, uint64_t deadline, bool plain, bool *begun)
{
    while (!*begun || p->head_size + p->size != 0) {
        size_t taken = 0;
        bool any = false;
        kin_err err = os_stream_write(w->stream, p->head, p->head_size, p->data, p->size, &taken, &any);
        if (err != KIN_OK)
            return err;
        *begun = *begun || any;
        advance(p, taken);
        if (*begun && p->head_size + p->size == 0)
            break;
        err = await(w, OS_STREAM_WRITE, deadline, plain);
        if (err != KIN_OK)
            return err;
    }
    return await(w, OS_STREAM_SENT, deadline, plain);
}

static void finish(void *arg)
{
    kin__wire *w = arg;
    parcel p = {.data = w->rest, .size = w->rest_size};
    bool begun = true;
    kin_err err = push(w, &p, OS_NEVER, true, &begun);
    if (err != KIN_OK)
        (void)failed(w, &w->sending, err);
    free(w->rest);
    w->rest = NULL;
    kin__store32(&w->finishing, 0);
    leave_turn(&w->sending);
    part(w);
}

/* The time is over in the middle of a message: a thread of kin's sends the rest, and has the turn meanwhile. */
static kin_err finish_later(kin__wire *w, const parcel *p)
{
    size_t size = p->head_size + p->size;
    w->rest = KIN_FAULT("malloc") ? NULL : malloc(size != 0 ? size : 1);
    if (w->rest != NULL) {
        if (p->head_size != 0)
            memcpy(w->rest, p->head, p->head_size);
        if (p->size != 0)
            memcpy(w->rest + p->head_size, p->data, p->size);
        w->rest_size = size;
        kin__store32(&w->finishing, 1);
        if (os_thread_start(finish, w, FINISHER_STACK) == KIN_OK)
            return KIN_OK;
        kin__store32(&w->finishing, 0);
        free(w->rest);
        w->rest = NULL;
    }
    kin__fail(KIN_EPIPE, "it is ended: the time was over in the middle of a message, and no memory, or no thread, was there to send "
                         "the rest");
    kin_err err = end(&w->sending, KIN_EPIPE);
    os_stream_cancel(w->stream);
    return err;
}

kin_err kin__wire_send(kin__wire *wire, const void *mark, size_t mark_size, const void *data, size_t size, uint64_t deadline)
{
    if (size > wire->limit || mark_size > wire->limit - size)
        return kin__fail(KIN_EMSGSIZE, "a message of %zu bytes; it takes at most %zu", size, wire->limit);
    if (!join(wire))
        return KIN_EINVAL;
    kin__turn *t = &wire->sending;
    kin_err err = take_turn(wire, t, deadline);
    if (err != KIN_OK) {
        part(wire);
        return err;
    }
    if (t->ended != KIN_OK) {
        err = kin__fail_text(t->ended, t->why);
    } else if (kin__load32(&wire->end_seen) != 0) { /* TCP itself would take it, for nobody */
        err = kin__fail(KIN_EPIPE, "the other end is closed");
    } else {
        uint8_t head[KIN__FRAME_HEAD + KIN__WIRE_MARK];
        bool begun = false;
        parcel p = {.head = head, .data = data, .size = size};
        if (!os_stream_has_messages(wire->stream))
            p.head_size = kin__frame_head(head, mark_size + size);
        if (mark_size != 0)
            memcpy(head + p.head_size, mark, mark_size);
        p.head_size += mark_size;
        err = push(wire, &p, deadline, wire->plain, &begun);
        if (begun && err != KIN_OK && passes(err)) {
            err = finish_later(wire, &p);
            if (err == KIN_OK)
                return KIN_OK; /* the turn and the place among the users are that thread's now */
        } else if (err != KIN_OK) {
            err = err == KIN_ETIMEDOUT ? late(true) : failed(wire, t, err);
        }
    }
    leave_turn(t);
    part(wire);
    return err;
}

/* ---- kin_wait ---- */

uint64_t kin__wire_key(const kin__wire *wire, bool send)
{
    return send ? wire->sending.watch_key : wire->receiving.watch_key;
}

static void watch_fired(void *arg)
{
    kin__turn *t = arg;
    kin__store32(&t->fired, 1);
    (void)kin__wake_all(t->watch_key);
}

kin_err kin__wire_arm(kin__wire *wire, bool send)
{
    kin__turn *t = send ? &wire->sending : &wire->receiving;
    kin__error_kept kept;
    os_source source;
    kin__error_keep(&kept);
    if (!join(wire)) {
        kin__error_back(&kept);
        return KIN_OK; /* it is ready: who uses it is told */
    }
    kin_err err = KIN_OK;
    kin__or32(&t->word, WATCHED);
    uv_mutex_lock(&wire->watching);
    if (t->watch != NULL && kin__load32(&t->fired) != 0) {
        os_watch_remove(t->watch, NULL);
        t->watch = NULL;
    }
    if (t->watch == NULL) {
        kin__store32(&t->fired, 0);
        if (os_stream_source(wire->stream, send ? OS_STREAM_WRITE : OS_STREAM_READ, &source))
            err = os_watch_add(&source, 1, watch_fired, t, &t->watch);
        else
            watch_fired(t); /* what is there may be half a message: who has read it arms once more */
        if (err != KIN_OK)
            t->watch = NULL;
    }
    uv_mutex_unlock(&wire->watching);
    part(wire);
    if (err == KIN_OK)
        kin__error_back(&kept);
    return err;
}

/* Gives the turn back after a look for nothing: to those who want it; kin_wait goes on watching. */
static void leave_quietly(kin__turn *t)
{
    uint32_t word = kin__load32(&t->word);
    while (!kin__cas32(&t->word, &word, word & WATCHED)) {
    }
    if ((word & WANTED) != 0)
        (void)kin__wake_all(t->key);
}

bool kin__wire_ready(kin__wire *wire, bool send)
{
    kin__error_kept kept;
    kin__error_keep(&kept);
    if (!join(wire)) {
        kin__error_back(&kept);
        return true; /* who uses it is told */
    }
    kin__turn *t = send ? &wire->sending : &wire->receiving;
    bool ready;
    if (!try_turn(t)) { /* another thread is at it, and takes what comes; unless it was just leaving */
        ready = !send && is_ready_now(wire, OS_STREAM_READ);
    } else {
        if (send)
            ready = t->ended != KIN_OK || kin__load32(&wire->end_seen) != 0 || is_ready_now(wire, OS_STREAM_WRITE);
        else
            ready = pump(wire, 0) != KIN_OK || wire->frame.complete; /* what does not end goes on with the next look */
        if (ready)
            leave_turn(t); /* others could not look meanwhile */
        else
            leave_quietly(t);
    }
    part(wire);
    kin__error_back(&kept);
    return ready;
}
