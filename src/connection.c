/* The public functions of connections: they check what is the same for every kind, and hand over to the kind. */
#include "connection.h"

#include "error.h"
#include "session.h"

#include <stdlib.h>

static kin_err check_open(const kin_connection *c, int64_t timeout_ms)
{
    if (!kin__handle_is(c, KIN__MARK_CONNECTION))
        return kin__fail(KIN_EINVAL, c == NULL ? "the connection is NULL" : "not a connection, or it was closed");
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "connection '%s': a time-out of %lld ms", c->name, (long long)timeout_ms);
    return kin__check_init();
}

kin_err kin_connection_send(kin_connection *connection, const void *data, size_t size, int64_t timeout_ms)
{
    kin_err err = check_open(connection, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL && size != 0)
        return kin__fail(KIN_EINVAL, "connection '%s': %zu bytes at NULL", connection->name, size);
    return connection->ops->send(connection, data, size, timeout_ms);
}

kin_err kin_connection_recv(kin_connection *connection, void *buffer, size_t space, size_t *size, int64_t timeout_ms)
{
    size_t ignored;
    kin_err err = check_open(connection, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (buffer == NULL && space != 0)
        return kin__fail(KIN_EINVAL, "connection '%s': a buffer of %zu bytes at NULL", connection->name, space);
    return connection->ops->recv(connection, buffer, space, size != NULL ? size : &ignored, timeout_ms);
}

kin_err kin_connection_recv_new(kin_connection *connection, void **data, size_t *size, size_t most, int64_t timeout_ms)
{
    kin_err err = check_open(connection, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (data == NULL || size == NULL)
        return kin__fail(KIN_EINVAL, "connection '%s': kin_connection_recv_new needs places for the message and its size", connection->name);
    return connection->ops->recv_new(connection, data, size, most, timeout_ms);
}

kin_err kin_connection_send_args(kin_connection *connection, kin_pack args, int64_t timeout_ms)
{
    kin_err err = check_open(connection, timeout_ms);
    return err == KIN_OK ? connection->ops->send_args(connection, args, timeout_ms) : err;
}

kin_err kin_connection_recv_args(kin_connection *connection, kin_args **args, int64_t timeout_ms)
{
    kin_err err = check_open(connection, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (args == NULL)
        return kin__fail(KIN_EINVAL, "connection '%s': kin_connection_recv_args needs a place for the values", connection->name);
    return connection->ops->recv_args(connection, args, timeout_ms);
}

kin_err kin_connection_poll(kin_connection *connection, int64_t timeout_ms)
{
    kin_err err = check_open(connection, timeout_ms);
    return err == KIN_OK ? connection->ops->poll(connection, timeout_ms) : err;
}

const char *kin_connection_name(const kin_connection *connection)
{
    return kin__handle_is(connection, KIN__MARK_CONNECTION) ? connection->name : "";
}

void kin_connection_close(kin_connection *connection)
{
    if (kin__handle_unmark(connection, KIN__MARK_CONNECTION) && kin__my.session != NULL)
        connection->ops->close(connection);
}

/* ---- for passing and for kin_wait ---- */

static kin_connection *own(const kin_connection *c)
{
    return (kin_connection *)(uintptr_t)c;
}

kin_err kin__connection_export(const kin_connection *connection, os_handle *handles, size_t *count, uint64_t *side)
{
    kin_err err = check_open(connection, KIN_NOWAIT);
    return err == KIN_OK ? connection->ops->give(own(connection), handles, count, side) : err;
}

kin_err kin__connection_watch(const kin_connection *connection, bool send, kin__watched *watched)
{
    kin_err err = check_open(connection, KIN_NOWAIT);
    return err == KIN_OK ? connection->ops->watch(own(connection), send, watched) : err;
}

void kin__connection_arm(const kin_connection *connection, bool send)
{
    if (kin__handle_is(connection, KIN__MARK_CONNECTION))
        connection->ops->arm(own(connection), send);
}

bool kin__connection_ready(const kin_connection *connection, bool send)
{
    return !kin__handle_is(connection, KIN__MARK_CONNECTION) || connection->ops->ready(own(connection), send);
}
