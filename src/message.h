/* What queues and connections have in common, and what others need to know of them: passing (any.c, unpack.c), to which such an
 * object is a row of handles, and kin_wait. */
#ifndef KIN_SRC_MESSAGE_H
#define KIN_SRC_MESSAGE_H

#include "kin/connection.h"
#include "kin/queue.h"
#include "os.h"
#include "ring.h"

#define KIN__EXPORT_HANDLES 3

/* Duplicates of the handles that make up the object, for a parcel that closes them. `side`: which end of the pipe. */
kin_err kin__queue_export(const kin_queue *queue, os_handle *handles, size_t *count);
kin_err kin__connection_export(const kin_connection *connection, os_handle *handles, size_t *count, uint64_t *side);

/* Makes the object of handles that have arrived; takes them over if it succeeds. KIN_EPROTO: they are no such object. */
kin_err kin__queue_import(kin_queue **queue, os_handle *handles, size_t count);
kin_err kin__connection_import(kin_connection **connection, os_handle *handles, size_t count, uint64_t side);

/* Ends of pipes may have gone with what carried them, messages that nobody can receive or keeps any more: has all who sleep look
 * whether theirs was among them. */
void kin__ends_dropped(void);

/* ---- getting what nobody knows the size of ---- */

typedef struct kin__source {
    const char *kind, *name; /* for sentences */
    kin_err (*get)(void *object, kin__sink *sink, int64_t timeout_ms);
    void *object;
} kin__source;

/* Gets into memory of malloc, which is the caller's if this succeeds: sink->buffer. Tries with a guess, and when that was too
 * small again with the size that was told; by then another message may be the next. KIN_EMSGSIZE: it has more than `most` bytes
 * (0: no limit), which sink->size says; it stays. */
kin_err kin__get_new(const kin__source *from, kin__sink *sink, size_t most, int64_t timeout_ms);
/* The same for values. */
kin_err kin__get_args(const kin__source *from, kin_args **args, int64_t timeout_ms);

/* ---- what kin_wait asks of queues and connections ----
 *
 * The thread shows that it sleeps (park.h), arms each object, and looks whether one is ready. */
typedef struct kin__watched {
    uint64_t key; /* what those sleep on who wait for it */
} kin__watched;

/* Before each look. KIN_EINVAL with a sentence if it is no open object, KIN_EPERM if this end cannot do that; KIN_EMSGSIZE: there
 * will never be room for so much. `room`: of a kin_waitable. */
kin_err kin__queue_watch(const kin_queue *queue, bool put, size_t room, kin__watched *watched);
kin_err kin__connection_watch(const kin_connection *connection, bool send, size_t room, kin__watched *watched);
/* Has whoever changes it look for sleepers. KIN_EMFILE, KIN_ENOMEM, KIN_EAGAIN: that is not possible now, so nobody may sleep. */
void kin__queue_arm(const kin_queue *queue, bool put);
kin_err kin__connection_arm(const kin_connection *connection, bool send);
/* Whether it is ready now; also when it ended, or when it may be ready once what the dead left is dropped: the next watch does that. */
bool kin__queue_ready(const kin_queue *queue, bool put, size_t room);
bool kin__connection_ready(const kin_connection *connection, bool send, size_t room);

#endif
