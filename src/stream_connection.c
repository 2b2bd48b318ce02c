/* Connections to other programs, over a wire. Values travel as a message that begins with a mark of eight bytes; messages of
 * bytes may therefore not begin with it, which is checked when they are sent, so that nobody takes one for the other. What
 * comes from the other side is decoded by a decoder that believes nothing (unpack.c).
 *
 * The wire has memory of its own, which goes when the last call has left it: that may be after the connection was closed. */
#include "stream_connection.h"

#include "auth.h"
#include "error.h"

#include <stdlib.h>
#include <string.h>

/* In the order of this machine's bytes, as the values themselves are: a machine of the other kind sees bytes. */
#define VALUES_MARK 0x316b6361506e696bu /* "kinPack1" */
#define MARK_SIZE sizeof(uint64_t)
_Static_assert(MARK_SIZE <= KIN__WIRE_MARK, "a mark that fits");

typedef struct owned_wire {
    kin__mark mark;
    kin__wire wire;
    bool without_key; /* and nothing was received yet. With the turn to receive */
} owned_wire;

typedef struct stream_connection {
    struct kin_connection base;
    owned_wire *owned;
} stream_connection;

void kin__stream_without_key(kin_connection *connection)
{
    ((stream_connection *)connection)->owned->without_key = true;
}

kin__wire *kin__stream_wire(kin_connection *connection)
{
    return &((stream_connection *)connection)->owned->wire;
}

static kin__wire *wire_of(const kin_connection *c)
{
    return &((const stream_connection *)c)->owned->wire;
}

static owned_wire *owner_of(kin__wire *wire)
{
    return (owned_wire *)(void *)((char *)wire - offsetof(owned_wire, wire));
}

static void gone(kin__wire *wire)
{
    kin__handle_free(owner_of(wire));
}

static bool is_values(const void *data, size_t size)
{
    uint64_t mark;
    if (size < MARK_SIZE)
        return false;
    memcpy(&mark, data, sizeof mark);
    return mark == VALUES_MARK;
}

static kin_err named(const kin_connection *c, kin_err err)
{
    return err == KIN_OK ? KIN_OK : kin__fail_in(err, "connection '%s'", c->name);
}

static kin_err send_letter(kin_connection *c, const kin__letter *letter, int64_t timeout_ms)
{
    static const uint64_t mark = VALUES_MARK;
    bool values = letter->what == KIN__ARGS;
    if (!values && is_values(letter->bytes, letter->size))
        return named(c, kin__fail(KIN_EINVAL, "a message of bytes cannot begin with \"kinPack1\", which marks packed values"));
    return named(c, kin__wire_send(wire_of(c), &mark, values ? sizeof mark : 0, letter->bytes, letter->size, kin__deadline(timeout_ms)));
}

/* Copies the message out, if it is of the kind and size that is wanted. */
static kin_err take(kin__sink *sink, const uint8_t *data, size_t size)
{
    bool values = sink->what == KIN__ARGS;
    if (is_values(data, size) != values)
        return kin__fail(KIN_ETYPE, values ? "the next message is bytes, not values: kin_connection_recv"
                                           : "the next message is values, not bytes: kin_connection_recv_args");
    size_t before = values ? MARK_SIZE : 0;
    sink->size = size - before;
    sink->handle_count = 0;
    if (sink->size > sink->space)
        return kin__fail(KIN_EMSGSIZE, "the next message has %zu bytes, the buffer %zu", sink->size, sink->space);
    if (sink->size != 0)
        memcpy(sink->buffer, data + before, sink->size);
    return KIN_OK;
}

/* Whether the memory of a message can be handed over as it is. */
static bool can_have_it(const kin__sink *sink, const uint8_t *data, size_t size)
{
    return sink->grows && size > sink->space && (sink->most == 0 || size <= sink->most) && sink->what == KIN__BYTES &&
           !is_values(data, size);
}

/* That ends the turn. */
static kin_err hand_over(kin__wire *wire, kin__sink *sink)
{
    void *message = kin__wire_take(wire, &sink->size);
    if (message == NULL)
        return KIN_ENOMEM;
    free(sink->buffer);
    sink->buffer = message;
    sink->handle_count = 0;
    return KIN_OK;
}

/* A challenge stays, so that everybody is told. */
static kin_err check_first(kin__wire *wire, const uint8_t *data, size_t size)
{
    owned_wire *owned = owner_of(wire);
    if (owned->without_key && kin__auth_is_challenge(data, size))
        return kin__fail(KIN_EAUTH, "the listener wants a key, and this side connected without one");
    owned->without_key = false;
    return KIN_OK;
}

static kin_err receive(kin_connection *c, kin__sink *sink, int64_t timeout_ms)
{
    const uint8_t *data;
    size_t size;
    kin__wire *wire = wire_of(c);
    kin_err err = kin__wire_look(wire, &data, &size, kin__deadline(timeout_ms));
    if (err != KIN_OK)
        return named(c, err);
    err = check_first(wire, data, size);
    if (err == KIN_OK && can_have_it(sink, data, size))
        return named(c, hand_over(wire, sink));
    if (err == KIN_OK)
        err = take(sink, data, size);
    kin__wire_done(wire, err == KIN_OK);
    return named(c, err);
}

static kin_err poll_stream(kin_connection *c, int64_t timeout_ms)
{
    const uint8_t *data;
    size_t size;
    kin__error_kept kept;
    kin__wire *wire = wire_of(c);
    kin__error_keep(&kept);
    kin_err err = kin__wire_look(wire, &data, &size, kin__deadline(timeout_ms));
    if (err == KIN_OK)
        kin__wire_done(wire, false);
    if (err != KIN_EPIPE && err != KIN_EPROTO)
        return named(c, err);
    kin__error_back(&kept); /* the end can be received */
    return KIN_OK;
}

/* How much room there is only the system knows. */
static kin_err watch(const kin_connection *c, bool send, size_t room, kin__watched *watched)
{
    (void)room;
    watched->key = kin__wire_key(wire_of(c), send);
    return KIN_OK;
}

static kin_err arm(const kin_connection *c, bool send)
{
    return named(c, kin__wire_arm(wire_of(c), send));
}

static bool ready(const kin_connection *c, bool send, size_t room)
{
    (void)room;
    return kin__wire_ready(wire_of(c), send);
}

static void close_stream(kin_connection *c)
{
    if (kin__my.session != NULL)
        kin__wire_close(wire_of(c));
    else
        os_stream_close(wire_of(c)->stream); /* the copy's descriptor; the connection is the original's */
}

kin_err kin__stream_connection(kin_connection **connection, os_stream *stream, size_t limit, const char *name)
{
    static const kin__connection_ops ops = {.send = send_letter,
                                            .receive = receive,
                                            .poll = poll_stream,
                                            .watch = watch,
                                            .arm = arm,
                                            .ready = ready,
                                            .close = close_stream};
    stream_connection *c = kin__handle_new(KIN__MARK_CONNECTION, sizeof *c);
    owned_wire *owned = c != NULL ? kin__handle_new(0, sizeof *owned) : NULL;
    kin_err err = owned != NULL ? kin__wire_begin(&owned->wire, stream, limit, gone) : KIN_ENOMEM;
    if (err != KIN_OK) {
        free(owned); /* nobody has seen them */
        free(c);
        return err;
    }
    c->base.sends = c->base.receives = true;
    c->base.ops = &ops;
    c->owned = owned;
    (void)snprintf(c->base.name, sizeof c->base.name, "%s", name);
    *connection = &c->base;
    return KIN_OK;
}
