/* Connections: two ends, and messages that keep their boundaries. kin_pipe makes both, over shared memory, to be passed to
 * children; kin/listener.h makes connections between unrelated programs. The functions are the same.
 *
 *     kin_connection *mine, *theirs;
 *     kin_pipe(&mine, &theirs, NULL);
 *     kin_process_start(&p, child, KIN_ARGS(theirs), NULL);
 *     kin_connection_close(theirs);
 *     kin_connection_send(mine, "hello", 5, KIN_FOREVER);
 *
 * Any number of threads and processes may send and receive on one end at once: messages never mix. What was sent is in
 * shared memory when send returns, and can be received even if the sender has closed its end, or died.
 *
 * An end is closed when every process that had it has closed it or ended, however it ended; one that is on its way to a
 * child, or lies in a queue, is open. Nobody inherits an end by accident, so the end of the other side is always seen:
 *
 * Death     who dies                          what the other end sees
 *           the last who has this end         what was sent, then KIN_EPIPE; sending is KIN_EPIPE
 *           one of several who have it        nothing
 *           a sender, before send returned    the whole message, or nothing
 *           a receiver in recv                the message it was copying is there for the next, or gone with it; never half
 *           a waiter                          nothing, also if it was the one just woken
 *
 * Time-outs as everywhere (object.h): KIN_ETIMEDOUT when nothing came, or no room was there, in time, also with KIN_NOWAIT (which
 * waits for up to 20 ms if somebody is in the middle of the same and does not go on).
 * A process that was asked to stop (kin_process_interrupt) gets KIN_EINTERRUPTED where it would have to sleep.
 *
 * Copies of a process that the program makes by fork() itself have the ends too, until they end or start another program.
 *
 * Windows keeps the objects and files of messages that nobody receives until the first process of the family ends.
 */
#ifndef KIN_CONNECTION_H
#define KIN_CONNECTION_H

#include "any.h"

KIN_BEGIN

typedef struct kin_pipe_options {
    const char *name;   /* for messages; copied, the first 39 bytes */
    size_t capacity;    /* bytes in each direction; rounded up to a power of two, at least 4096, at most 4 GiB; 0: 65536. Messages
                           larger than half of it travel in shared memory of their own, one at a time */
    size_t max_message; /* bytes; larger ones are KIN_EMSGSIZE when sent. 0: no limit */
    bool one_way;       /* the first end only receives, the second only sends */
} kin_pipe_options;

/* Makes a pipe: both ends belong to the caller. Duplex unless `one_way`. KIN_EINVAL: capacity out of range, one place for both
 * ends; KIN_ENOMEM, KIN_EMFILE. */
KIN_API kin_err kin_pipe(kin_connection **first, kin_connection **second, const kin_pipe_options *options);

/* Gives this process's reference to the end back; not while another thread is in a call with it. NULL does nothing. */
KIN_API void kin_connection_close(kin_connection *connection);

/* Sends `size` bytes as one message (0 is a message too), copied before this returns; waits for room.
 * KIN_EPIPE     the other end is closed; never a signal       KIN_ETIMEDOUT  no room in time
 * KIN_EPERM     this end only receives                        KIN_EMSGSIZE   larger than max_message
 * KIN_ENOMEM    a large message: no memory for it             KIN_EINVAL     no open connection, bytes at NULL, a wrong time-out */
KIN_API kin_err kin_connection_send(kin_connection *connection, const void *data, size_t size, int64_t timeout_ms);

/* Receives the next message into `buffer`, which has `space` bytes; *size (may be NULL) gets its size.
 * KIN_EMSGSIZE  the buffer is too small: *size says what is needed, and the message stays
 * KIN_EPIPE     nothing is left and the other end is closed   KIN_ETIMEDOUT  nothing in time
 * KIN_EPERM     this end only sends                           KIN_ETYPE      packed values: they stay; kin_connection_recv_args */
KIN_API kin_err kin_connection_recv(kin_connection *connection, void *buffer, size_t space, size_t *size, int64_t timeout_ms);

/* The same into memory of kin's, which is yours: kin_free. KIN_EMSGSIZE: it has more than `most` bytes (0: no limit), which *size
 * says; KIN_ENOMEM. It stays then. */
KIN_API kin_err kin_connection_recv_new(kin_connection *connection, void **data, size_t *size, size_t most, int64_t timeout_ms);

/* Sends values: KIN_ARGS(...), as the arguments of a process; yours stay yours. What cannot be passed is an error here, and
 * nothing is sent. Objects, files and descriptors cross over a kin_pipe only (KIN_ENOTSUP on others), at most 64 in one message
 * (KIN_EINVAL), where a queue counts for up to three and an end of a pipe for two; when too many are on their way, there is no
 * room for more (kin_queue_put_args). Otherwise errors as kin_connection_send.
 * Receive values with kin_connection_recv_args, take them out with kin_unpack, then kin_args_free. KIN_ETYPE: the message is
 * bytes, KIN_EMFILE, KIN_ENOMEM: no room here for what it holds; it stays. */
KIN_API kin_err kin_connection_send_args(kin_connection *connection, kin_pack args, int64_t timeout_ms);
KIN_API kin_err kin_connection_recv_args(kin_connection *connection, kin_args **args, int64_t timeout_ms);

/* Waits until there is something to receive, or the end of the other side to be seen: KIN_OK; KIN_ETIMEDOUT. */
KIN_API kin_err kin_connection_poll(kin_connection *connection, int64_t timeout_ms);

/* Its name, "" if it has none. Valid until it is closed. */
KIN_API const char *kin_connection_name(const kin_connection *connection);

KIN_END

#endif
