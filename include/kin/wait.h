/* Waiting for any of many things at once, of whatever kind.
 *
 *     kin_waitable all[] = {KIN_WAIT_FOR(jobs), KIN_WAIT_FOR(child), KIN_WAIT_FOR(stop)};   a queue, a process, an event
 *     size_t ready;
 *     if (kin_wait(all, 3, &ready, KIN_FOREVER) == KIN_OK && all[1].ready)
 *
 * What is ready is only looked at, never taken: by the time you get a message another may have been faster, so use
 * KIN_NOWAIT then, and wait again. An event counts as long as it is set: one that is cleared before the waiter has run may
 * be missed (kin_event_wait remembers it).
 *
 * Descriptors and sockets stay as they are, blocking or not, and may be waited for by several threads at once. Do not
 * close one that somebody waits for. One that is not open is KIN_EINVAL; one with an error, or whose other end is closed, is
 * ready. Of HANDLEs, those that a wait changes are changed by being reported: an auto-reset event is reset. A mutex would
 * belong to a thread of kin's: do not wait for one here.
 *
 * Do not close an object that a thread of this process waits for: it may sleep on. Only a listener, or a connection of one, ends the
 * wait then (KIN_EINVAL).
 *
 * Who waits and dies takes nothing along. The end of a process is seen by its parent only, which alone has its kin_process.
 */
#ifndef KIN_WAIT_H
#define KIN_WAIT_H

#include "connection.h"
#include "event.h"
#include "listener.h"
#include "process.h"
#include "queue.h"
#include "semaphore.h"

KIN_BEGIN

typedef enum kin_wait_kind {
    KIN_WAIT_NOTHING = 0,      /* never ready: a place in the row that is not used */
    KIN_WAIT_QUEUE_GET = 1,    /* a message, or the queue was shut down */
    KIN_WAIT_QUEUE_PUT = 2,    /* room, or the queue was shut down */
    KIN_WAIT_RECV = 3,         /* a message, or the end of the other side */
    KIN_WAIT_SEND = 4,         /* room, or the end of the other side */
    KIN_WAIT_LISTENER = 5,     /* a connection to accept */
    KIN_WAIT_PROCESS = 6,      /* it has ended */
    KIN_WAIT_EVENT = 7,        /* it is set */
    KIN_WAIT_SEMAPHORE = 8,    /* it has a unit */
    KIN_WAIT_FD_READ = 9,      /* a descriptor or socket: what poll calls POLLIN, or an error on it */
    KIN_WAIT_FD_WRITE = 10,    /* POLLOUT, or an error on it */
    KIN_WAIT_HANDLE = 11       /* Windows: the HANDLE is signalled. Elsewhere KIN_ENOTSUP */
} kin_wait_kind;

/* One thing to wait for. Make it with the macros and functions below. Borrows the object. */
typedef struct kin_waitable {
    kin_wait_kind kind;
    bool ready; /* set by kin_wait */
    union {
        const void *object;
        intptr_t handle;
    } of;
    size_t room; /* KIN_WAIT_QUEUE_PUT, KIN_WAIT_SEND: for a message of how many bytes; or KIN__ROOM */
} kin_waitable;

/* Waits until at least one of `count` things (0 to 65 536) is ready, and marks all that are: items[i].ready; *ready (may be
 * NULL) gets how many. With none it waits for the time-out or an interruption. Uses no CPU while it waits.
 * KIN_ETIMEDOUT     none in time; all are marked as not ready
 * KIN_EINTERRUPTED  this process was asked to stop (kin_process_interrupt); things that are ready come first
 * KIN_EMSGSIZE      an item asks for room for more bytes than a message may have
 * KIN_EINVAL        an item is no open object of its kind: the message says which. KIN_EAGAIN, KIN_ENOMEM, KIN_EMFILE */
KIN_API kin_err kin_wait(kin_waitable *items, size_t count, size_t *ready, int64_t timeout_ms);

/* Room to put into a queue or to send: for a message of `size` bytes; without a size, of any up to an eighth of the capacity. (That an
 * empty one would find room could be so all the time, with nothing to be done about it.) A connection through a socket has room
 * when the system says so. A message with more objects than can be on their way just now may have to wait all the same. */
#define KIN_WAIT_ROOM(x) kin__wait_room((x), KIN__ROOM)
#define KIN_WAIT_ROOM_FOR(x, size) kin__wait_room((x), (size))
#define KIN__ROOM ((size_t)-1)
/* A descriptor (Windows: a SOCKET) to read or write; a HANDLE of Windows. */
KIN_API kin_waitable kin_wait_fd_read(intptr_t fd);
KIN_API kin_waitable kin_wait_fd_write(intptr_t fd);
KIN_API kin_waitable kin_wait_handle(intptr_t handle);

KIN_API kin_waitable kin__wait_queue_get(const kin_queue *x);
KIN_API kin_waitable kin__wait_queue_put(const kin_queue *x, size_t room);
KIN_API kin_waitable kin__wait_recv(const kin_connection *x);
KIN_API kin_waitable kin__wait_send(const kin_connection *x, size_t room);
KIN_API kin_waitable kin__wait_listener(const kin_listener *x);
KIN_API kin_waitable kin__wait_process(const kin_process *x);
KIN_API kin_waitable kin__wait_event(const kin_event *x);
KIN_API kin_waitable kin__wait_semaphore(const kin_semaphore *x);

KIN_END

#ifndef __cplusplus

/* A message of a queue or connection, a connection of a listener, the end of a process, an event, a unit of a semaphore. */
#define KIN_WAIT_FOR(x)                                                                                                \
    _Generic((x),                                                                                                      \
        kin_queue *: kin__wait_queue_get,                                                                              \
        const kin_queue *: kin__wait_queue_get,                                                                        \
        kin_connection *: kin__wait_recv,                                                                              \
        const kin_connection *: kin__wait_recv,                                                                        \
        kin_listener *: kin__wait_listener,                                                                            \
        const kin_listener *: kin__wait_listener,                                                                      \
        kin_process *: kin__wait_process,                                                                              \
        const kin_process *: kin__wait_process,                                                                        \
        kin_event *: kin__wait_event,                                                                                  \
        const kin_event *: kin__wait_event,                                                                            \
        kin_semaphore *: kin__wait_semaphore,                                                                          \
        const kin_semaphore *: kin__wait_semaphore)(x)
#define kin__wait_room(x, room)                                                                                        \
    _Generic((x),                                                                                                      \
        kin_queue *: kin__wait_queue_put,                                                                              \
        const kin_queue *: kin__wait_queue_put,                                                                        \
        kin_connection *: kin__wait_send,                                                                              \
        const kin_connection *: kin__wait_send)((x), (room))

#else

#define KIN_WAIT_FOR(x) kin__wait_for(x)
inline kin_waitable kin__wait_for(const kin_queue *x) { return kin__wait_queue_get(x); }
inline kin_waitable kin__wait_for(const kin_connection *x) { return kin__wait_recv(x); }
inline kin_waitable kin__wait_for(const kin_listener *x) { return kin__wait_listener(x); }
inline kin_waitable kin__wait_for(const kin_process *x) { return kin__wait_process(x); }
inline kin_waitable kin__wait_for(const kin_event *x) { return kin__wait_event(x); }
inline kin_waitable kin__wait_for(const kin_semaphore *x) { return kin__wait_semaphore(x); }
inline kin_waitable kin__wait_room(const kin_queue *x, size_t room) { return kin__wait_queue_put(x, room); }
inline kin_waitable kin__wait_room(const kin_connection *x, size_t room) { return kin__wait_send(x, room); }

#endif

#endif
