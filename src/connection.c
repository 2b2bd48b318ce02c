/* Connections, whatever carries them: the public functions check what they are given and hand it on. What a connection is made of
 * is known to its table of functions alone (pipe.c, …). */
#include "connection.h"

#include "any.h"
#include "error.h"
#include "session.h"

#include <string.h>

static const char *called(const kin_connection *c) { return c->name[0] != 0 ? c->name : "(unnamed)"; }

static kin_err check_open(const kin_connection *c)
{
    if (!kin__handle_is(c, KIN__MARK_CONNECTION))
        return kin__fail(KIN_EINVAL, c == NULL ? "the connection is NULL" : "not a connection, or it was closed");
    return kin__my.session == NULL ? kin__check_init() : KIN_OK;
}

static kin_err check_way(const kin_connection *c, bool send)
{
    kin_err err = check_open(c);
    if (err != KIN_OK)
        return err;
    if (send ? c->sends : c->receives)
        return KIN_OK;
    return kin__fail(KIN_EPERM, "connection '%s': this end only %s", called(c), send ? "receives" : "sends");
}

static kin_err check(const kin_connection *c, bool send, int64_t timeout_ms)
{
    kin_err err = check_way(c, send);
    if (err != KIN_OK || timeout_ms >= KIN_FOREVER)
        return err;
    return kin__fail(KIN_EINVAL, "connection '%s': a time-out of %lld ms", called(c), (long long)timeout_ms);
}

kin_err kin_connection_send(kin_connection *c, const void *data, size_t size, int64_t timeout_ms)
{
    kin_err err = check(c, true, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL && size != 0)
        return kin__fail(KIN_EINVAL, "connection '%s': %zu bytes at NULL", called(c), size);
    return c->ops->send(c, &(kin__letter){.bytes = data, .size = size, .what = KIN__BYTES}, timeout_ms);
}

kin_err kin_connection_recv(kin_connection *c, void *buffer, size_t space, size_t *size, int64_t timeout_ms)
{
    kin_err err = check(c, false, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (buffer == NULL && space != 0)
        return kin__fail(KIN_EINVAL, "connection '%s': a buffer of %zu bytes at NULL", called(c), space);
    kin__sink sink = {.buffer = buffer, .space = space, .what = KIN__BYTES};
    err = c->ops->receive(c, &sink, timeout_ms);
    if (size != NULL && (err == KIN_OK || err == KIN_EMSGSIZE))
        *size = sink.size;
    return err;
}

static kin_err receive(void *object, kin__sink *sink, int64_t timeout_ms)
{
    kin_connection *c = object;
    return c->ops->receive(c, sink, timeout_ms);
}

kin_err kin_connection_recv_new(kin_connection *c, void **data, size_t *size, size_t most, int64_t timeout_ms)
{
    kin_err err = check(c, false, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL)
        return kin__fail(KIN_EINVAL, "connection '%s': no place for the message", called(c));
    kin__sink sink = {.what = KIN__BYTES};
    err = kin__get_new(&(kin__source){"connection", called(c), receive, c}, &sink, most, timeout_ms);
    if (size != NULL && (err == KIN_OK || err == KIN_EMSGSIZE))
        *size = sink.size;
    if (err == KIN_OK)
        *data = sink.buffer;
    return err;
}

static kin_err send_parcel(kin_connection *c, const kin__parcel *parcel, int64_t timeout_ms)
{
    if (parcel->handle_count != 0 && !c->carries)
        return kin__fail(KIN_ENOTSUP, "connection '%s': objects, files and descriptors cross over a kin_pipe only",
                         called(c));
    size_t handles =
        parcel->handle_count < UINT32_MAX ? parcel->handle_count : UINT32_MAX; /* far too many in any case */
    kin__letter letter = {.bytes = parcel->bytes,
                          .size = parcel->size,
                          .handles = parcel->handles,
                          .handle_count = (uint32_t)handles,
                          .what = KIN__ARGS};
    return c->ops->send(c, &letter, timeout_ms);
}

kin_err kin_connection_send_args(kin_connection *c, kin_pack args, int64_t timeout_ms)
{
    kin_err err = check(c, true, timeout_ms);
    if (err != KIN_OK)
        return err;
    kin__parcel parcel = {0};
    err = kin__parcel_add_pack(&parcel, args);
    err = err != KIN_OK ? kin__fail_in(err, "connection '%s'", called(c)) : send_parcel(c, &parcel, timeout_ms);
    kin__parcel_free(&parcel);
    return err;
}

kin_err kin_connection_recv_args(kin_connection *c, kin_args **args, int64_t timeout_ms)
{
    kin_err err = check(c, false, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (args == NULL)
        return kin__fail(KIN_EINVAL, "connection '%s': no place for the values", called(c));
    return kin__get_args(&(kin__source){"connection", called(c), receive, c}, args, timeout_ms);
}

kin_err kin_connection_poll(kin_connection *c, int64_t timeout_ms)
{
    kin_err err = check(c, false, timeout_ms);
    return err != KIN_OK ? err : c->ops->poll(c, timeout_ms);
}

const char *kin_connection_name(const kin_connection *c)
{
    if (kin__handle_is(c, KIN__MARK_CONNECTION))
        return c->name;
    kin__fail(KIN_EINVAL, "not a connection, or it was closed");
    return "";
}

void kin_connection_close(kin_connection *c)
{
    if (!kin__handle_unmark(c, KIN__MARK_CONNECTION))
        return;
    c->ops->close(c);
    kin__handle_free(c);
}

/* ---- for passing and for kin_wait: message.h ---- */

kin_err kin__connection_export(const kin_connection *c, os_handle *handles, size_t *count, uint64_t *side)
{
    kin_err err = check_open(c);
    if (err != KIN_OK)
        return err;
    if (c->ops->export_handles == NULL)
        return kin__fail(KIN_ENOTSUP, "connection '%s': only the ends of a kin_pipe can be passed", called(c));
    return c->ops->export_handles(c, handles, count, side);
}

kin_err kin__connection_watch(const kin_connection *c, bool send, size_t room, kin__watched *watched)
{
    kin_err err = check_way(c, send);
    return err == KIN_OK ? c->ops->watch(c, send, room, watched) : err;
}

kin_err kin__connection_arm(const kin_connection *c, bool send)
{
    return kin__handle_is(c, KIN__MARK_CONNECTION) ? c->ops->arm(c, send) : KIN_OK;
}

/* One that is closed meanwhile is ready: whoever looks then gets its error. */
bool kin__connection_ready(const kin_connection *c, bool send, size_t room)
{
    return !kin__handle_is(c, KIN__MARK_CONNECTION) || c->ops->ready(c, send, room);
}
