/* What connections of all kinds have in common: the mark, the name, and a table of what they can do. The public functions
 * (connection.c) have checked the handle and the plain arguments when they call one of these; everything else, the errors
 * included, is the kind's own business. */
#ifndef KIN_SRC_CONNECTION_H
#define KIN_SRC_CONNECTION_H

#include "any.h"
#include "handle.h"
#include "kin/connection.h"
#include "message.h"

#define KIN__CONNECTION_NAME 40

typedef struct kin__connection_ops {
    kin_err (*send)(kin_connection *c, const void *data, size_t size, int64_t timeout_ms);
    kin_err (*recv)(kin_connection *c, void *buffer, size_t space, size_t *size, int64_t timeout_ms);
    kin_err (*recv_new)(kin_connection *c, void **data, size_t *size, size_t most, int64_t timeout_ms);
    kin_err (*send_args)(kin_connection *c, kin_pack args, int64_t timeout_ms);
    kin_err (*recv_args)(kin_connection *c, kin_args **args, int64_t timeout_ms);
    kin_err (*poll)(kin_connection *c, int64_t timeout_ms);
    kin_err (*watch)(kin_connection *c, bool send, kin__watched *watched); /* message.h says what these three promise */
    void (*arm)(kin_connection *c, bool send);
    bool (*ready)(kin_connection *c, bool send);
    kin_err (*give)(kin_connection *c, os_handle *handles, size_t *count, uint64_t *side); /* kin__connection_export */
    void (*close)(kin_connection *c); /* the mark is gone already, and closing comes once. Frees it: kin__handle_free */
} kin__connection_ops;

/* The first member of each kind's struct. */
struct kin_connection {
    kin__mark mark; /* KIN__MARK_CONNECTION */
    const kin__connection_ops *ops;
    char name[KIN__CONNECTION_NAME];
};

/* ---- stream_connection.c: a connection to another program ---- */

struct kin__wire;
/* Makes one of a stream, which it takes over if it succeeds. `limit`: bytes of a message; 0: the default. */
kin_err kin__stream_connection(kin_connection **connection, os_stream *stream, size_t limit, const char *name);
struct kin__wire *kin__stream_wire(kin_connection *connection);

#endif
