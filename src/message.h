/* What passing needs to know of queues and connections (any.c, unpack.c): an object as a row of handles. */
#ifndef KIN_SRC_MESSAGE_H
#define KIN_SRC_MESSAGE_H

#include "kin/queue.h"
#include "kin/connection.h"
#include "os.h"

#define KIN__EXPORT_HANDLES 3

/* Duplicates of the handles that make up the object, for a parcel that closes them. `side`: which end of the pipe. */
kin_err kin__queue_export(const kin_queue *queue, os_handle *handles, size_t *count);
kin_err kin__connection_export(const kin_connection *connection, os_handle *handles, size_t *count, uint64_t *side);

/* Makes the object of handles that have arrived; takes them over if it succeeds. KIN_EPROTO: they are no such object. */
kin_err kin__queue_import(kin_queue **queue, os_handle *handles, size_t count);
kin_err kin__connection_import(kin_connection **connection, os_handle *handles, size_t count, uint64_t side);

/* Ends of pipes may have gone with what carried them: messages that nobody can receive any more. Has all who sleep look whether
 * theirs was among them. */
void kin__ends_dropped(void);

/* ---- what kin_wait asks of queues and connections ----
 *
 * The thread shows that it sleeps (park.h), arms each object, calls kin__order_all once, and looks whether one is ready. */
typedef struct kin__watched {
    uint64_t key; /* what those sleep on who wait for it */
} kin__watched;

/* KIN_EINVAL with a sentence if it is no open object, KIN_EPERM if this end cannot do that. */
kin_err kin__queue_watch(const kin_queue *queue, bool put, kin__watched *watched);
kin_err kin__connection_watch(const kin_connection *connection, bool send, kin__watched *watched);
/* Has whoever changes it look for sleepers. */
void kin__queue_arm(const kin_queue *queue, bool put);
void kin__connection_arm(const kin_connection *connection, bool send);
/* Whether it is ready now; also when it ended. */
bool kin__queue_ready(const kin_queue *queue, bool put);
bool kin__connection_ready(const kin_connection *connection, bool send);

#endif
