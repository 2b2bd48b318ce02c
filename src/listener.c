/* Listeners. One thread takes connections as they come and gives each to a thread of its own for the handshake; what has
 * proved itself waits in a row to be accepted. So nobody waits for anybody's handshake. There are at most `pending` of
 * them: when all places are taken, the oldest that has proved nothing is ended for the newcomer, after a grace in
 * which an honest peer can prove itself however many others knock. All of it is under one mutex, in which nothing waits
 * for a peer; who accepts sleeps by parking, so that kin_wait can watch it. */
#include "kin/listener.h"

#include "address.h"
#include "error.h"
#include "fault.h"
#include "handshake.h"
#include "session.h"
#include "stream_connection.h"
#include "wait.h"

#include <stdlib.h>
#include <string.h>

#define HANDSHAKE_MS 5000
#define PENDING 64u
#define PENDING_MOST 256u
#define BACKLOG 128u
#define BACKLOG_MOST 65536u
#define KEY_MOST ((size_t)1 << 20)
#define MESSAGE_MOST ((size_t)1 << 40)
#define GRACE_NS 50000000u   /* that a handshake has, whoever else comes                                 */
#define PROVED_NS 1000000000u /* the same for one that has shown that it knows the key                    */
#define PAUSE_NS 50000000u   /* after a failure that is not a peer's: out of descriptors, memory, threads */
#define STACK 131072u

/* Of kin_listener.word. */
enum { READY = 1, ENDED = 2, WAITED = 4 };
#define CLOSED ((uint64_t)1 << 63)

typedef struct handshake {
    struct handshake *next; /* the next younger one */
    kin_listener *listener;
    kin_connection *connection; /* NULL: it is over */
    uint64_t began;
    uint32_t proved;
    bool cancelled;
} handshake;

struct kin_listener {
    kin__mark mark;
    uint32_t word;  /* whether there is something to accept, and whether somebody sleeps for it */
    uint64_t id;    /* what they sleep on                                                       */
    uint64_t users; /* CLOSED, and how many calls are under way                                 */
    os_port *port;
    kin__key key;
    bool keyed;
    kin_listen_options options; /* with the defaults filled in */
    char address[KIN__ADDRESS_SIZE];
    uv_mutex_t mutex;
    uv_cond_t changed; /* a handshake has ended, a thread has, the listener is being closed */
    bool closing;
    bool listening; /* the thread that takes connections is there */
    handshake *oldest;
    uint32_t pending, leaving; /* and how many of them have been cancelled */
    kin_connection **row; /* a ring of options.backlog places */
    uint32_t row_first, row_count;
};

/* ---- the row ---- */

/* With the mutex. */
static void announce(kin_listener *l, uint32_t what)
{
    uint32_t word = kin__load32(&l->word);
    while (!kin__cas32(&l->word, &word, (word | what) & ~(uint32_t)WAITED)) {
    }
    if ((word & WAITED) != 0)
        (void)kin__wake_all(l->id);
}

/* Takes the connection over: false if there is no room. With the mutex. */
static bool put_in_row(kin_listener *l, kin_connection *c)
{
    if (l->closing || l->row_count == l->options.backlog)
        return false;
    l->row[(l->row_first + l->row_count++) % l->options.backlog] = c;
    announce(l, READY);
    return true;
}

static kin_connection *take_from_row(kin_listener *l)
{
    kin_connection *c = NULL;
    uv_mutex_lock(&l->mutex);
    if (l->row_count > 0) {
        c = l->row[l->row_first];
        l->row_first = (l->row_first + 1) % l->options.backlog;
        if (--l->row_count == 0)
            kin__and32(&l->word, ~(uint32_t)READY);
    }
    uv_mutex_unlock(&l->mutex);
    return c;
}

/* ---- handshakes ---- */

/* With the mutex. */
static void unlink_handshake(kin_listener *l, const handshake *h)
{
    handshake **at = &l->oldest;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    l->pending--;
    l->leaving -= h->cancelled;
    uv_cond_broadcast(&l->changed);
}

static void run_handshake(void *arg)
{
    handshake *h = arg;
    kin_listener *l = h->listener;
    kin__wire *wire = kin__stream_wire(h->connection);
    kin_err err = kin__handshake(wire, true, &l->key, h->began + (uint64_t)l->options.handshake_ms * 1000000u, &h->proved);
    wire->plain = false;
    uv_mutex_lock(&l->mutex);
    kin_connection *c = err == KIN_OK && !h->cancelled && put_in_row(l, h->connection) ? NULL : h->connection;
    h->connection = NULL;
    uv_mutex_unlock(&l->mutex);
    kin_connection_close(c);
    uv_mutex_lock(&l->mutex);
    unlink_handshake(l, h);
    uv_mutex_unlock(&l->mutex); /* from here on the listener may be gone */
    free(h);
}

/* With the mutex: the one to end for a newcomer, or NULL. */
static handshake *find_victim(const kin_listener *l)
{
    handshake *oldest = NULL;
    for (handshake *h = l->oldest; h != NULL; h = h->next) {
        if (h->cancelled || h->connection == NULL)
            continue;
        if (kin__load32(&h->proved) == 0)
            return h;
        if (oldest == NULL)
            oldest = h;
    }
    return oldest;
}

/* With the mutex. */
static void cancel(kin_listener *l, handshake *h)
{
    l->leaving += !h->cancelled;
    h->cancelled = true;
    if (h->connection != NULL)
        kin__wire_cancel(kin__stream_wire(h->connection));
}

/* With the mutex: waits until there is a place, ending others if need be. False: the listener is being closed. */
static bool make_place(kin_listener *l)
{
    while (!l->closing && l->pending >= l->options.pending) {
        handshake *victim = l->leaving == 0 ? find_victim(l) : NULL;
        uint64_t now = kin__now_ns(), grace = victim != NULL && kin__load32(&victim->proved) != 0 ? PROVED_NS : GRACE_NS;
        if (victim == NULL)
            uv_cond_wait(&l->changed, &l->mutex); /* one that was cancelled is on its way out */
        else if (now < victim->began + grace)
            (void)uv_cond_timedwait(&l->changed, &l->mutex, victim->began + grace - now);
        else
            cancel(l, victim);
    }
    return !l->closing;
}

static void pause_for_a_while(kin_listener *l)
{
    uv_mutex_lock(&l->mutex);
    handshake *victim = find_victim(l);
    if (victim != NULL && kin__load32(&victim->proved) == 0)
        cancel(l, victim); /* what it has is what is lacking */
    if (!l->closing)
        (void)uv_cond_timedwait(&l->changed, &l->mutex, PAUSE_NS);
    uv_mutex_unlock(&l->mutex);
}

static kin_err begin_handshake(kin_listener *l, kin_connection *c)
{
    handshake *h = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *h);
    if (h == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a handshake");
    *h = (handshake){.listener = l, .connection = c, .began = kin__now_ns()};
    kin__stream_wire(c)->plain = true;
    uv_mutex_lock(&l->mutex);
    bool place = make_place(l);
    if (place) {
        h->began = kin__now_ns();
        handshake **at = &l->oldest;
        while (*at != NULL)
            at = &(*at)->next;
        *at = h;
        l->pending++;
    }
    uv_mutex_unlock(&l->mutex);
    kin_err err = place ? os_thread_start(run_handshake, h, STACK) : KIN_ECANCELLED;
    if (err == KIN_OK)
        return KIN_OK;
    if (place) {
        uv_mutex_lock(&l->mutex);
        unlink_handshake(l, h);
        uv_mutex_unlock(&l->mutex);
    }
    free(h);
    return err;
}

/* Takes the stream over. */
static kin_err welcome(kin_listener *l, os_stream *stream)
{
    kin_connection *c;
    kin_err err = kin__stream_connection(&c, stream, l->options.max_message, l->address);
    if (err != KIN_OK) {
        os_stream_close(stream);
        return err;
    }
    if (l->keyed) {
        err = begin_handshake(l, c);
    } else {
        uv_mutex_lock(&l->mutex);
        if (put_in_row(l, c))
            c = NULL;
        uv_mutex_unlock(&l->mutex);
    }
    if (err != KIN_OK || !l->keyed)
        kin_connection_close(c);
    return err;
}

static void take_connections(void *arg)
{
    kin_listener *l = arg;
    for (bool on = true; on;) {
        os_stream *stream;
        kin_err err = os_port_accept(l->port, &stream, OS_NEVER);
        if (err == KIN_OK)
            err = welcome(l, stream);
        if (err == KIN_ECANCELLED)
            on = false;
        else if (err != KIN_OK)
            pause_for_a_while(l);
    }
    uv_mutex_lock(&l->mutex);
    l->listening = false;
    uv_cond_broadcast(&l->changed);
    uv_mutex_unlock(&l->mutex);
}

/* ---- making and closing ---- */

static kin_err check_options(const kin_listen_options *given, kin_listen_options *o)
{
    *o = given != NULL ? *given : (kin_listen_options){0};
    if (o->handshake_ms < 0 || o->handshake_ms > INT32_MAX)
        return kin__fail(KIN_EINVAL, "a handshake of %lld ms: 1 to %d are possible, 0 for %d", (long long)o->handshake_ms, INT32_MAX,
                         HANDSHAKE_MS);
    if (o->pending > PENDING_MOST)
        return kin__fail(KIN_EINVAL, "%u handshakes at once: at most %u are possible", o->pending, PENDING_MOST);
    if (o->backlog > BACKLOG_MOST)
        return kin__fail(KIN_EINVAL, "%u connections to be accepted: at most %u are possible", o->backlog, BACKLOG_MOST);
    if (o->max_message > MESSAGE_MOST)
        return kin__fail(KIN_EINVAL, "messages of up to %zu bytes: at most %zu are possible", o->max_message, MESSAGE_MOST);
    o->handshake_ms = o->handshake_ms != 0 ? o->handshake_ms : HANDSHAKE_MS;
    o->pending = o->pending != 0 ? o->pending : PENDING;
    o->backlog = o->backlog != 0 ? o->backlog : BACKLOG;
    return KIN_OK;
}

/* What both sides ask of a key. */
static kin_err make_key(const kin__address *address, kin_view key, kin__key *made, bool *keyed)
{
    *keyed = key.data != NULL;
    if (key.data == NULL && key.size != 0)
        return kin__fail(KIN_EINVAL, "a key of %zu bytes at NULL", key.size);
    if (key.data != NULL && (key.size == 0 || key.size > KEY_MOST))
        return kin__fail(KIN_EINVAL, "a key of %zu bytes: 1 to %zu are possible, or KIN_NO_KEY", key.size, KEY_MOST);
    if (key.data == NULL)
        return address->os.kind == OS_ADDRESS_TCP ? kin__fail(KIN_EINVAL, "over TCP a key is needed: anybody could connect") : KIN_OK;
    return kin__key_make(made, key.data, key.size);
}

static void free_listener(kin_listener *l)
{
    if (l->port != NULL)
        os_port_close(l->port);
    uv_cond_destroy(&l->changed);
    uv_mutex_destroy(&l->mutex);
    free(l->row);
    l->row = NULL;
    kin__key_forget(&l->key);
    kin__handle_free(l);
}

static kin_err open_listener(kin_listener *l, kin__address *address, kin_view key)
{
    kin_err err = make_key(address, key, &l->key, &l->keyed);
    if (err != KIN_OK)
        return err;
    l->row = KIN_FAULT("calloc") ? NULL : calloc(l->options.backlog, sizeof *l->row);
    if (l->row == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for %u connections", l->options.backlog);
    err = os_port_open(&address->os, &l->port);
    if (err != KIN_OK)
        return err;
    kin__address_write(address, l->address);
    l->listening = true;
    return os_thread_start(take_connections, l, STACK);
}

kin_err kin_listen(kin_listener **listener, const char *address, kin_view key, const kin_listen_options *options)
{
    kin_listen_options filled;
    kin__address where;
    kin_err err = kin__check_init();
    if (err == KIN_OK && listener == NULL)
        err = kin__fail(KIN_EINVAL, "kin_listen needs a place for the listener");
    if (err == KIN_OK)
        err = check_options(options, &filled);
    if (err == KIN_OK)
        err = kin__address_parse(&where, address);
    if (err != KIN_OK)
        return err;
    kin_listener *l = kin__handle_new(KIN__MARK_LISTENER, sizeof *l);
    if (l == NULL)
        return KIN_ENOMEM;
    l->options = filled;
    l->id = kin__unique();
    int made = uv_mutex_init(&l->mutex);
    if (made == 0 && uv_cond_init(&l->changed) != 0) {
        uv_mutex_destroy(&l->mutex);
        made = -1;
    }
    if (made != 0) {
        (void)kin__handle_unmark(l, KIN__MARK_LISTENER);
        kin__handle_free(l);
        return kin__fail(KIN_ENOMEM, "no memory for a mutex");
    }
    err = open_listener(l, &where, key);
    if (err != KIN_OK) {
        (void)kin__handle_unmark(l, KIN__MARK_LISTENER);
        free_listener(l);
        return kin__fail_in(err, "cannot listen at '%.200s'", address);
    }
    *listener = l;
    return KIN_OK;
}

const char *kin_listener_address(const kin_listener *listener)
{
    return kin__handle_is(listener, KIN__MARK_LISTENER) ? listener->address : "";
}

/* The last to leave frees it. */
static void part(kin_listener *l)
{
    uint64_t users = kin__load64(&l->users);
    while (!kin__cas64(&l->users, &users, users - 1)) {
    }
    if (users - 1 == CLOSED)
        free_listener(l);
}

void kin_listener_close(kin_listener *listener)
{
    if (!kin__handle_unmark(listener, KIN__MARK_LISTENER) || kin__my.session == NULL)
        return;
    kin_listener *l = listener;
    uint64_t users = kin__load64(&l->users);
    while (!kin__cas64(&l->users, &users, (users + 1) | CLOSED)) {
    }
    uv_mutex_lock(&l->mutex);
    l->closing = true;
    os_port_cancel(l->port);
    for (handshake *h = l->oldest; h != NULL; h = h->next)
        cancel(l, h);
    announce(l, ENDED);
    uv_cond_broadcast(&l->changed);
    while (l->listening || l->pending > 0)
        uv_cond_wait(&l->changed, &l->mutex);
    uv_mutex_unlock(&l->mutex);
    for (kin_connection *c = take_from_row(l); c != NULL; c = take_from_row(l))
        kin_connection_close(c);
    os_port_close(l->port); /* the place is free when this returns, even if somebody is still on the way out of accept */
    l->port = NULL;
    part(l);
}

/* ---- accepting ---- */

static kin_err not_open(const kin_listener *l)
{
    return kin__fail(KIN_EINVAL, l == NULL ? "the listener is NULL" : "not a listener, or it was closed");
}

static bool join(kin_listener *l)
{
    uint64_t users = kin__load64(&l->users);
    do {
        if ((users & CLOSED) != 0)
            return false;
    } while (!kin__cas64(&l->users, &users, users + 1));
    return true;
}

static bool must_sleep(void *object)
{
    kin_listener *l = object;
    uint32_t word = kin__load32(&l->word);
    do {
        if ((word & (READY | ENDED)) != 0)
            return false;
    } while ((word & WAITED) == 0 && !kin__cas32(&l->word, &word, word | WAITED));
    return true;
}

static kin_err await_connection(kin_listener *l, kin_connection **connection, int64_t timeout_ms)
{
    uint64_t deadline = kin__deadline(timeout_ms);
    for (kin_err err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;;) {
        kin_connection *c = (kin__load32(&l->word) & ENDED) == 0 ? take_from_row(l) : NULL;
        if (c != NULL) {
            *connection = c;
            return KIN_OK;
        }
        if ((kin__load32(&l->word) & ENDED) != 0)
            return kin__fail(KIN_EINVAL, "the listener was closed meanwhile");
        if (err == KIN_ETIMEDOUT)
            return kin__fail(KIN_ETIMEDOUT, "listener '%.200s': nobody connected within %lld ms", l->address, (long long)timeout_ms);
        if (err != KIN_OK)
            return kin__fail_in(err, "listener '%.200s'", l->address);
        err = kin__park_on(&(kin__wait){.key = l->id, .must_sleep = must_sleep, .object = l, .deadline = deadline, .interruptible = true});
    }
}

kin_err kin_listener_accept(kin_listener *listener, kin_connection **connection, int64_t timeout_ms)
{
    if (!kin__handle_is(listener, KIN__MARK_LISTENER))
        return not_open(listener);
    if (connection == NULL)
        return kin__fail(KIN_EINVAL, "kin_listener_accept needs a place for the connection");
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "listener '%.200s': a time-out of %lld ms", listener->address, (long long)timeout_ms);
    if (kin__check_init() != KIN_OK || kin__thread_me() == 0)
        return kin_last_code();
    if (!join(listener))
        return not_open(listener);
    kin_err err = await_connection(listener, connection, timeout_ms);
    part(listener);
    return err;
}

kin_err kin__listener_watch(const kin_listener *listener, kin__watched *watched)
{
    if (!kin__handle_is(listener, KIN__MARK_LISTENER))
        return not_open(listener);
    watched->key = listener->id;
    return KIN_OK;
}

void kin__listener_arm(const kin_listener *listener)
{
    if (kin__handle_is(listener, KIN__MARK_LISTENER))
        (void)must_sleep((kin_listener *)(uintptr_t)listener);
}

bool kin__listener_ready(const kin_listener *listener)
{
    return !kin__handle_is(listener, KIN__MARK_LISTENER) || (kin__load32((uint32_t *)(uintptr_t)&listener->word) & (READY | ENDED)) != 0;
}

/* ---- connecting ---- */

/* `key`: NULL without a handshake. */
static kin_err open_connection(kin_connection **connection, const kin__address *address, const kin__key *key, uint64_t deadline)
{
    os_stream *stream;
    char name[KIN__ADDRESS_SIZE];
    if (address->os.kind == OS_ADDRESS_TCP && address->os.port == 0)
        return kin__fail(KIN_EINVAL, "port 0 is no port to connect to");
    kin_err err = os_stream_connect(&address->os, &stream, deadline, kin__stopping);
    if (err == KIN_ECANCELLED)
        return kin__fail(KIN_EINTERRUPTED, "this process was asked to stop");
    if (err != KIN_OK)
        return err;
    kin__address_write(address, name);
    kin_connection *c;
    err = kin__stream_connection(&c, stream, 0, name);
    if (err != KIN_OK) {
        os_stream_close(stream);
        return err;
    }
    if (key == NULL)
        kin__stream_without_key(c);
    else
        err = kin__handshake(kin__stream_wire(c), false, key, deadline, NULL);
    if (err != KIN_OK) {
        kin_connection_close(c);
        return err;
    }
    *connection = c;
    return KIN_OK;
}

kin_err kin_connect(kin_connection **connection, const char *address, kin_view key, int64_t timeout_ms)
{
    kin__address where;
    kin_err err = kin__check_init();
    if (err == KIN_OK && (connection == NULL || timeout_ms < KIN_FOREVER))
        err = connection == NULL ? kin__fail(KIN_EINVAL, "kin_connect needs a place for the connection")
                                 : kin__fail(KIN_EINVAL, "kin_connect: a time-out of %lld ms", (long long)timeout_ms);
    if (err == KIN_OK)
        err = kin__address_parse(&where, address);
    if (err != KIN_OK)
        return err;
    kin__key made;
    bool keyed;
    uint64_t deadline = kin__deadline(timeout_ms);
    err = make_key(&where, key, &made, &keyed);
    if (err == KIN_OK)
        err = open_connection(connection, &where, keyed ? &made : NULL, deadline);
    kin__key_forget(&made);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot connect to '%.200s'", address);
    return KIN_OK;
}
