/* A queue: messages between any number of processes, each whole, once, in one order. What is put is in shared memory
 * when put returns: there is no thread that feeds it, and neither the end nor the death of the producer can lose it.
 *
 *     kin_queue *jobs;                                      static int worker(kin_args *args)
 *     kin_queue_create(&jobs, NULL);                        {
 *     kin_process_start(&p, worker, KIN_ARGS(jobs), NULL);      kin_queue *jobs; struct job job; size_t size;
 *     kin_queue_put(jobs, &job, sizeof job, KIN_FOREVER);       kin_unpack(args, &jobs);
 *     kin_queue_shutdown(jobs);                                 while (kin_queue_get(jobs, &job, sizeof job, &size, KIN_FOREVER) == KIN_OK)
 *
 * A message is bytes (kin_queue_put) or packed values, also with objects of kin, files and descriptors in it
 * (kin_queue_put_args). It is copied once on its way in and once on its way out; kin_queue_reserve and kin_queue_take
 * give its place in shared memory instead, without a copy and with nothing locked meanwhile. Messages that are larger
 * than half the queue's capacity travel in shared memory of their own, one at a time: up to what memory there is. Of that a process keeps
 * up to three pieces of 16 MiB for each queue and direction, for the next such messages, until it closes the queue.
 *
 * Order. Messages are got in the order in which they were put: the order of the instants at which each became part of
 * the queue, the same for all. One that was reserved has its place from then on, and is passed over while it is
 * not committed. A `relaxed` queue keeps the order of each producer's thread only (as Python's do), and is faster for
 * it with many producers; a producer of one that is stopped delays nobody.
 *
 * Who waits for room gets it in the order of waiting: a large message at the front keeps smaller ones behind it waiting until it
 * fits. Who finds room does not wait, though.
 *
 * Death     who dies                          what the others see
 *           a producer, before put returned   the whole message, or nothing; the queue goes on
 *           a producer, later                 nothing: what it put is there
 *           who has reserved                  the reservation is dropped
 *           a consumer in kin_queue_get       the message it was copying is there for the next, or gone with it; never half
 *           a consumer with a message taken   the message is there again, in its place (kin_queue_take)
 *           a consumer of a joinable queue    what it got and had not done counts as abandoned: kin_queue_join ends
 *           a waiter                          nothing, also if it was the one just woken
 *
 * A process that is stopped (SIGSTOP) in the middle of a put or a get, some 50 ns, delays its side of the queue until it
 * goes on: it is not dead. While it works on a message that it has taken or reserved nobody waits for it. Stopped while it waits
 * it may be the one that was woken: then others who wait come to that message, or room, with the next put or get.
 *
 * Time-outs as everywhere (object.h). KIN_NOWAIT gives KIN_EFULL or KIN_EEMPTY at once, or after 20 ms if somebody is in the
 * middle of a put or a get and does not go on; any other time-out KIN_ETIMEDOUT when it has passed. A process that was asked
 * to stop (kin_process_interrupt) gets KIN_EINTERRUPTED where it would have to sleep. KIN_EPROTO: something else has written
 * into the queue's memory.
 */
#ifndef KIN_QUEUE_H
#define KIN_QUEUE_H

#include "any.h"

KIN_BEGIN

#define KIN_QUEUE_CAPACITY ((size_t)1 << 20) /* bytes, unless said otherwise */

typedef struct kin_queue_options {
    const char *name;   /* for messages; copied, the first 39 bytes */
    size_t capacity;    /* bytes; rounded up to a power of two, at least 4096, at most 4 GiB; 0: KIN_QUEUE_CAPACITY. A message
                           takes its size and 16 bytes, rounded up to 16 */
    size_t max_items;   /* the most messages it holds, or 0: as many as fit. Not with `relaxed` */
    size_t max_message; /* bytes; larger ones are KIN_EMSGSIZE (values count as they are packed: some more than they have). 0: no limit */
    bool joinable;      /* kin_queue_task_done and kin_queue_join can be used */
    bool relaxed;       /* only each producer's own order is kept. Its capacity, at least 64 KiB then, is divided among up to 16
                           threads that put; more have one part in common */
} kin_queue_options;

/* Creates a queue. Every process that has it holds a reference; it goes with the last. KIN_EINVAL: capacity or
 * max_items out of range, or options that exclude each other; KIN_ENOMEM, KIN_EMFILE. */
KIN_API kin_err kin_queue_create(kin_queue **queue, const kin_queue_options *options);

/* Gives the reference back; not while another thread is in a call with it. The queue, and what is in it, stay for the others;
 * what this process has taken or reserved stays so until it ends. NULL does nothing. */
KIN_API void kin_queue_close(kin_queue *queue);

/* Ends it for everybody: whoever puts from now on gets KIN_EPIPE; what is in it can still be got, then getting is
 * KIN_EPIPE too. While other processes work on messages that they have taken or reserved, nothing is over: who gets waits until these are
 * done, come (back), or are dropped, so that no job is left to nobody. (Who has some itself gets KIN_EPIPE at once: others may wait for
 * those.) Only this ends a queue, not the end of those who put. Wakes all who wait. A second time does nothing. KIN_EINVAL: no open queue,
 * here and everywhere. */
KIN_API kin_err kin_queue_shutdown(kin_queue *queue);

/* ---- messages of bytes ---- */

/* Puts `size` bytes (0 is a message too), copied before this returns; waits for room.
 * KIN_EFULL     no room, and the time-out was KIN_NOWAIT      KIN_ETIMEDOUT  no room in time
 * KIN_EMSGSIZE  larger than max_message                       KIN_EPIPE      it was shut down
 * KIN_ENOMEM    a large message: no memory for it             KIN_EINVAL     no open queue, bytes at NULL, a wrong time-out */
KIN_API kin_err kin_queue_put(kin_queue *queue, const void *data, size_t size, int64_t timeout_ms);

/* Gets the oldest message into `buffer`, which has `space` bytes; *size gets its size (size may be NULL).
 * KIN_EEMPTY    none, and the time-out was KIN_NOWAIT         KIN_ETIMEDOUT  none in time
 * KIN_EMSGSIZE  the buffer is too small: *size says what is needed, and the message stays
 * KIN_ETYPE     the message holds packed values, and stays: kin_queue_get_args
 * KIN_EPIPE     it was shut down, and nothing is left (kin_queue_shutdown) */
KIN_API kin_err kin_queue_get(kin_queue *queue, void *buffer, size_t space, size_t *size, int64_t timeout_ms);

/* The same into memory of kin's, which is yours: kin_free (size may be NULL). An empty message gives memory too. KIN_ENOMEM: the message stays. */
KIN_API kin_err kin_queue_get_new(kin_queue *queue, void **data, size_t *size, int64_t timeout_ms);

/* Puts `count` messages in one go, in a row without any other between them as far as they fit at once; waits for room for
 * each. *done (may be NULL) gets how many were put: fewer only with an error, as of kin_queue_put. One that is larger than
 * max_message or at NULL is found before any is put. */
KIN_API kin_err kin_queue_put_many(kin_queue *queue, const kin_view *messages, size_t count, size_t *done, int64_t timeout_ms);

/* Gets at least one and up to `most` messages: waits for the first only. They are copied into `buffer` one after the
 * other, each at an address that is a multiple of 8 if the buffer's is; messages[i] says where and how long. *count gets how
 * many. Stops before one that does not fit or holds values; if that is the first, KIN_EMSGSIZE (messages[0].size says what is
 * needed) or KIN_ETYPE. Otherwise errors as kin_queue_get; then *count is 0. */
KIN_API kin_err kin_queue_get_many(kin_queue *queue, void *buffer, size_t space, kin_view *messages, size_t most, size_t *count,
                                   int64_t timeout_ms);

/* ---- messages of values ---- */

/* Puts values, as for the arguments of a process: KIN_ARGS(counter, 5, file). Objects and files are duplicated before it
 * returns; yours stay yours. What cannot be passed is an error here (KIN_EINVAL, KIN_ENOTSUP), as are more than 64 objects, files
 * and descriptors in one message, where a queue counts for up to three and an end of a pipe for two. Otherwise errors as
 * kin_queue_put.
 * On Linux a queue holds some 500 messages with objects or files at a time, then it is full: what the kernel lets a socket hold
 * (more with a larger net.core.wmem_max). KIN_EMFILE: all programs of the user have too many descriptors on their way.
 * On Windows, those in messages that nobody gets stay until the first process of the family ends. */
KIN_API kin_err kin_queue_put_args(kin_queue *queue, kin_pack args, int64_t timeout_ms);

/* Gets values; take them out with kin_unpack, then kin_args_free. KIN_ETYPE: the message is bytes; KIN_EMFILE, KIN_ENOMEM: no
 * room here for what it holds. It stays. Otherwise errors as kin_queue_get. */
KIN_API kin_err kin_queue_get_args(kin_queue *queue, kin_args **args, int64_t timeout_ms);

/* ---- in place, without a copy ---- */

/* A message in shared memory: where it is, for its taker or its maker alone. Stays put until it is given up. */
typedef struct kin_message {
    void *data; /* aligned to 16 */
    size_t size;
    struct { /* kin's */
        uint64_t at, tag, mapping;
        uint32_t lane, what;
    } kin__m;
} kin_message;

/* Makes room for a message of `size` bytes, to be written at message->data. It becomes part of the queue with
 * kin_queue_commit; kin_queue_cancel drops it. Both may be done by any thread of this process. Errors as kin_queue_put; commit
 * and cancel: KIN_EINVAL for what is not reserved (any more). */
KIN_API kin_err kin_queue_reserve(kin_queue *queue, kin_message *message, size_t size, int64_t timeout_ms);
KIN_API kin_err kin_queue_commit(kin_queue *queue, kin_message *message);
KIN_API kin_err kin_queue_cancel(kin_queue *queue, kin_message *message);

/* Takes the oldest message where it lies, without a copy. It is leased to this process: after kin_queue_done it is gone;
 * after kin_queue_give_back, or if this process ends before either, it is in the queue again, in its place (so it may be
 * worked on twice, but is never lost). Any number may be taken at once and given up in any order; their room is free when
 * all older ones are done. All three may be used by any thread of this process. Errors as kin_queue_get; done and give_back:
 * KIN_EINVAL for what is not taken (any more). KIN_ETYPE: packed values. */
KIN_API kin_err kin_queue_take(kin_queue *queue, kin_message *message, int64_t timeout_ms);
KIN_API kin_err kin_queue_done(kin_queue *queue, kin_message *message);
KIN_API kin_err kin_queue_give_back(kin_queue *queue, kin_message *message);

/* ---- joinable queues ---- */

/* Says that one message that this process got is dealt with. KIN_EPERM: it has none left that it got (those it took have
 * kin_queue_done); KIN_ESTATE: the queue is not joinable. */
KIN_API kin_err kin_queue_task_done(kin_queue *queue);

/* Waits until all messages were got and dealt with: task_done for each that was got, done for each that was taken. What a
 * dead process had got and not dealt with is abandoned, and not waited for. KIN_ETIMEDOUT, also with KIN_NOWAIT; KIN_ESTATE: the
 * queue is not joinable. */
KIN_API kin_err kin_queue_join(kin_queue *queue, int64_t timeout_ms);

/* How many messages were got by processes that ended before they said that they were done; one that was killed just as it got one
 * may count for one more, which is still there. 0 if it is not joinable. */
KIN_API uint64_t kin_queue_abandoned(kin_queue *queue);

/* ---- looking ---- */

/* How many messages it holds, those reserved or taken and not given up included; exact when nobody is in the middle of
 * putting or getting. Whether there is none that can be got now; whether a message of `size` bytes would have to wait.
 * 0, true, true if it is no open queue. */
KIN_API size_t kin_queue_size(kin_queue *queue);
KIN_API bool kin_queue_empty(kin_queue *queue);
KIN_API bool kin_queue_full(kin_queue *queue, size_t size);

/* Its name, "" if it has none. Valid until it is closed. */
KIN_API const char *kin_queue_name(const kin_queue *queue);

KIN_END

#endif
