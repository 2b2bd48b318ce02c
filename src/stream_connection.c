/* Connections to other programs, over a wire. Values travel as a message that begins with a mark of eight bytes; messages of
 * bytes may therefore not begin with it, which is checked when they are sent, so that nobody takes one for the other. What
 * comes from the other side is decoded by a decoder that believes nothing (unpack.c). */
#include "connection.h"

#include "error.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

/* In the order of this machine's bytes, as the values themselves are: a machine of the other kind sees bytes. */
#define VALUES_MARK 0x316b6361506e696bu /* "kinPack1" */
#define MARK_SIZE sizeof(uint64_t)

typedef struct stream_connection {
    kin_connection base;
    kin__wire wire;
} stream_connection;

kin__wire *kin__stream_wire(kin_connection *connection)
{
    return &((stream_connection *)connection)->wire;
}
#define WIRE(c) kin__stream_wire(c)

static void gone(kin__wire *wire)
{
    kin__handle_free((char *)wire - offsetof(stream_connection, wire));
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

static kin_err send_bytes(kin_connection *c, const void *data, size_t size, int64_t timeout_ms)
{
    if (is_values(data, size))
        return named(c, kin__fail(KIN_EINVAL, "a message of bytes cannot begin with \"kinPack1\", which marks packed values"));
    return named(c, kin__wire_send(WIRE(c), data, size, kin__deadline(timeout_ms)));
}

/* The next message, whose turn the caller has then; it must hold bytes, or values. */
static kin_err look(kin_connection *c, bool values, const uint8_t **data, size_t *size, int64_t timeout_ms)
{
    kin_err err = kin__wire_look(WIRE(c), data, size, kin__deadline(timeout_ms));
    if (err == KIN_OK && is_values(*data, *size) != values) {
        kin__wire_done(WIRE(c), false);
        err = kin__fail(KIN_ETYPE, values ? "the next message is bytes, not values: kin_connection_recv"
                                          : "the next message is values, not bytes: kin_connection_recv_args");
    }
    return named(c, err);
}

static kin_err recv_bytes(kin_connection *c, void *buffer, size_t space, size_t *size, int64_t timeout_ms)
{
    const uint8_t *data;
    kin_err err = look(c, false, &data, size, timeout_ms);
    if (err != KIN_OK)
        return err;
    size_t has = *size;
    if (has > space) {
        kin__wire_done(WIRE(c), false);
        return named(c, kin__fail(KIN_EMSGSIZE, "the next message has %zu bytes, the buffer %zu", has, space));
    }
    if (has != 0)
        memcpy(buffer, data, has);
    kin__wire_done(WIRE(c), true);
    return KIN_OK;
}

static kin_err recv_new(kin_connection *c, void **data, size_t *size, size_t most, int64_t timeout_ms)
{
    const uint8_t *there;
    size_t has;
    kin_err err = look(c, false, &there, &has, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (most != 0 && has > most) {
        *size = has;
        kin__wire_done(WIRE(c), false);
        return named(c, kin__fail(KIN_EMSGSIZE, "the next message has %zu bytes, and at most %zu are wanted", has, most));
    }
    void *taken = kin__wire_take(WIRE(c), &has);
    if (taken == NULL)
        return named(c, KIN_ENOMEM);
    *data = taken;
    *size = has;
    return KIN_OK;
}

static kin_err send_values(kin_connection *c, kin_pack args, int64_t timeout_ms)
{
    static const uint64_t mark = VALUES_MARK;
    kin__parcel parcel = {0};
    kin_err err = kin__parcel_add(&parcel, &mark, sizeof mark);
    if (err == KIN_OK)
        err = kin__parcel_add_pack(&parcel, args);
    if (err == KIN_OK && parcel.handle_count != 0)
        err = kin__fail(KIN_ENOTSUP, "objects, files and descriptors cannot be sent to another program: only over a kin_pipe");
    if (err == KIN_OK)
        err = kin__wire_send(WIRE(c), parcel.bytes, parcel.size, kin__deadline(timeout_ms));
    kin__parcel_free(&parcel);
    return named(c, err);
}

static kin_err recv_values(kin_connection *c, kin_args **args, int64_t timeout_ms)
{
    const uint8_t *there;
    size_t size;
    kin_err err = look(c, true, &there, &size, timeout_ms);
    if (err != KIN_OK)
        return err;
    char *bytes = kin__wire_take(WIRE(c), &size);
    if (bytes == NULL)
        return named(c, KIN_ENOMEM);
    memmove(bytes, bytes + MARK_SIZE, size - MARK_SIZE);
    return named(c, kin__args_of_message(bytes, size - MARK_SIZE, NULL, 0, args));
}

static kin_err poll_stream(kin_connection *c, int64_t timeout_ms)
{
    const uint8_t *data;
    size_t size;
    kin__error_kept kept;
    kin__error_keep(&kept);
    kin_err err = kin__wire_look(WIRE(c), &data, &size, kin__deadline(timeout_ms));
    if (err == KIN_OK)
        kin__wire_done(WIRE(c), false);
    if (err != KIN_EPIPE && err != KIN_EPROTO)
        return named(c, err);
    kin__error_back(&kept); /* the end can be received */
    return KIN_OK;
}

static kin_err watch(kin_connection *c, bool send, kin__watched *watched)
{
    watched->key = kin__wire_key(WIRE(c), send);
    return KIN_OK;
}

static void arm(kin_connection *c, bool send)
{
    kin__wire_arm(WIRE(c), send);
}

static bool ready(kin_connection *c, bool send)
{
    return kin__wire_ready(WIRE(c), send);
}

static kin_err give(kin_connection *c, os_handle *handles, size_t *count, uint64_t *side)
{
    (void)handles, (void)count, (void)side;
    return named(c, kin__fail(KIN_ENOTSUP, "a connection to another program cannot be passed on: only the ends of a kin_pipe can"));
}

static void close_stream(kin_connection *c)
{
    kin__wire_close(WIRE(c));
}

kin_err kin__stream_connection(kin_connection **connection, os_stream *stream, size_t limit, const char *name)
{
    static const kin__connection_ops ops = {.send = send_bytes,
                                            .recv = recv_bytes,
                                            .recv_new = recv_new,
                                            .send_args = send_values,
                                            .recv_args = recv_values,
                                            .poll = poll_stream,
                                            .watch = watch,
                                            .arm = arm,
                                            .ready = ready,
                                            .give = give,
                                            .close = close_stream};
    stream_connection *c = kin__handle_new(KIN__MARK_CONNECTION, sizeof *c);
    if (c == NULL)
        return KIN_ENOMEM;
    c->base.ops = &ops;
    (void)snprintf(c->base.name, sizeof c->base.name, "%s", name);
    kin_err err = kin__wire_begin(&c->wire, stream, limit, gone);
    if (err != KIN_OK) {
        (void)kin__handle_unmark(c, KIN__MARK_CONNECTION);
        kin__handle_free(c);
        return err;
    }
    *connection = &c->base;
    return KIN_OK;
}
