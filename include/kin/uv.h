/* kin in a libuv loop: what kin_wait can wait for, delivered as callbacks of the user's own loop. Not part of kin.h: a
 * library of its own (CMake: kin::uv, pkg-config: kin-uv), for programs that have libuv and its headers (which, on Linux
 * with -std=c11, want _GNU_SOURCE).
 *
 *     static void on_job(kin_uv_watch *watch, kin_err status)
 *     {
 *         while (kin_queue_get(jobs, &job, sizeof job, NULL, KIN_NOWAIT) == KIN_OK)
 *             …
 *     }
 *
 *     kin_uv_watch watch;
 *     kin_uv_watch_init(loop, &watch);
 *     kin_uv_watch_start(&watch, KIN_WAIT_FOR(jobs), on_job);
 *     uv_run(loop, UV_RUN_DEFAULT);
 *
 * A watch is used as a handle of libuv: all functions here, and all callbacks, belong to the loop's thread; each may be
 * called in any callback, that of the same watch included; one that was started keeps the loop alive; close it before its
 * memory is used for something else, and before the loop is closed.
 *
 * Like uv_poll it is level-triggered and goes on until it is stopped: the callback is called again as long as the thing is
 * ready, so take what is there, or stop. It is never called again while it runs, nor before the loop has come round. Events
 * stay set until you clear them, so clear them in the callback. The end of a process, which stays so, is delivered once.
 *
 * Behind it is one thread per loop that has watches, in kin_wait; it uses no CPU while nothing is ready. To deliver one
 * readiness takes two wake-ups of threads, so take all that is there at once.
 */
#ifndef KIN_UV_H
#define KIN_UV_H

#include "wait.h"

#include <uv.h>

KIN_BEGIN

typedef struct kin_uv_watch kin_uv_watch;

/* `status` is KIN_OK: it is ready. Otherwise the watch has stopped, and kin_last_error says why in the callback:
 * KIN_EINTERRUPTED     this process was asked to stop (kin_process_interrupt); things that are ready come first. Each watch
 *                      is told once; one that is started again before kin_stop_accept is told again
 * KIN_EINVAL, KIN_EPERM  it is no open object of its kind (any more), or cannot do that
 * KIN_ENOMEM, KIN_EMFILE, KIN_EAGAIN  waiting needed something that the system does not have now */
typedef void (*kin_uv_watch_cb)(kin_uv_watch *watch, kin_err status);
typedef void (*kin_uv_close_cb)(kin_uv_watch *watch);

/* Allocated by you. */
struct kin_uv_watch {
    void *data; /* yours */
    uv_loop_t *loop;
    struct { /* kin's */
        uv_async_t async;
        kin_waitable what;
        kin_uv_watch_cb callback;
        kin_uv_close_cb closed;
        struct kin__uv_waiter *waiter;
        struct kin_uv_watch *next;
        int state, status;
        char why[256]; /* of the status */
        bool held;
    } kin__w;
};

/* Prepares a watch that is stopped. Does not block. KIN_ESTATE: kin_init was not called; KIN_ENOMEM, KIN_EAGAIN, KIN_EMFILE. */
kin_err kin_uv_watch_init(uv_loop_t *loop, kin_uv_watch *watch);

/* Has `callback` called while `what` is ready: made with KIN_WAIT_FOR, KIN_WAIT_ROOM, kin_wait_fd_read … (wait.h). Borrows
 * the object until the watch is stopped or closed. On a watch that was started already it replaces what was asked before.
 * KIN_EINVAL: it is no open object, or KIN_WAIT_NOTHING (which to kin_wait is a place that is not used: never ready), or the
 * watch is closing; KIN_EPERM, KIN_ENOTSUP as kin_wait. */
kin_err kin_uv_watch_start(kin_uv_watch *watch, kin_waitable what, kin_uv_watch_cb callback);

/* Stops it: the callback is not called any more, and when this returns nobody uses the object, so that it can be closed. For
 * that it may wait for the thread to leave kin_wait, some microseconds; not in the watch's own callback. A stopped watch
 * stays stopped. KIN_EINVAL: no watch, or closing. */
kin_err kin_uv_watch_stop(kin_uv_watch *watch);

/* Whether it was started and has not stopped since. */
bool kin_uv_watch_active(const kin_uv_watch *watch);

/* Stops it and gives it up; `closed` (may be NULL) is called in a later turn of the loop, after which its memory is yours
 * again. A second time does nothing. The thread ends with the last watch of its loop. */
void kin_uv_watch_close(kin_uv_watch *watch, kin_uv_close_cb closed);

KIN_END

#endif
