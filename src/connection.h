/* What all connections share inside, whatever carries them: a handle that begins with this struct, and a table of functions.
 * connection.c has checked the arguments before it calls one: the connection is open and its end may do that, the time-out is one,
 * no bytes are at NULL. */
#ifndef KIN_SRC_CONNECTION_H
#define KIN_SRC_CONNECTION_H

#include "handle.h"
#include "message.h"
#include "ring.h"

typedef struct kin__connection_ops {
    /* As kin_connection_send and _recv: KIN_ETIMEDOUT also with KIN_NOWAIT. send: the letter has no handles unless the connection
     * `carries` them; larger ones than max_message are refused here. receive: a sink without a place for handles wants KIN__BYTES. */
    kin_err (*send)(kin_connection *c, const kin__letter *letter, int64_t timeout_ms);
    kin_err (*receive)(kin_connection *c, kin__sink *sink, int64_t timeout_ms);
    kin_err (*poll)(kin_connection *c, int64_t timeout_ms);
    /* See message.h. */
    kin_err (*watch)(const kin_connection *c, bool send, size_t room, kin__watched *watched);
    kin_err (*arm)(const kin_connection *c, bool send);
    bool (*ready)(const kin_connection *c, bool send, size_t room);
    /* Gives everything back but the struct itself. Also called in a copy of the process made by a plain fork(), where
     * kin__my.session is NULL: then only what is this process's own is given back. */
    void (*close)(kin_connection *c);
    /* Duplicates of the handles that it is made of. NULL: it cannot be passed. */
    kin_err (*export_handles)(const kin_connection *c, os_handle *handles, size_t *count, uint64_t *side);
} kin__connection_ops;

/* The first member of what kin__handle_new(KIN__MARK_CONNECTION, …) made. Set before anybody else has the handle, then only read. */
struct kin_connection {
    kin__mark mark;
    bool sends, receives;
    bool carries; /* handles, beside bytes */
    char name[40];
    const kin__connection_ops *ops;
};

#endif
