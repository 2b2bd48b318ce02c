/* The libuv adapter, over kin's public interface alone but for how a failure is told. For each loop that has watches there is a
 * waiter: a thread in kin_wait on all that is watched and on an event of its own, which is set when the set of watches has
 * changed. What it finds ready it takes out of its set and tells the loop, by the uv_async of that watch; once the callback has
 * run the loop puts it back. So a readiness that nobody has consumed yet makes no thread go round.
 *
 * A watch belongs to the loop's thread; the mutex guards its state, which the waiter changes from ARMED to FIRED only. While
 * it is `held` the waiter is in kin_wait with it: who stops it then has the waiter leave, and waits for that. */
#include "kin/uv.h"

#include "kin/init.h"

#include "../error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STOPPED = 0, ARMED, FIRED, DELIVERED, CLOSING };

typedef struct kin__uv_waiter {
    struct kin__uv_waiter *next;
    uv_loop_t *loop;
    size_t users; /* watches that were initialised and not closed yet */
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t left; /* the waiter is not in kin_wait */
    kin_event changed;
    kin_uv_watch *armed; /* and not FIRED since */
    bool inside, over;
    kin_waitable *items; /* the waiter's own: the event and what was armed */
    kin_uv_watch **watches;
    size_t space;
} waiter;

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t all_mutex;
static bool usable; /* the mutex */
static waiter *all;

static void make_mutex(void)
{
    usable = uv_mutex_init(&all_mutex) == 0;
}

/* ---- the waiter's thread; all but kin_wait with the mutex ---- */

static bool grow(waiter *w, size_t count)
{
    if (count <= w->space)
        return true;
    kin_waitable *items = realloc(w->items, count * 2 * sizeof *items);
    if (items != NULL)
        w->items = items;
    kin_uv_watch **watches = items != NULL ? realloc(w->watches, count * 2 * sizeof *watches) : NULL;
    if (watches == NULL)
        return false;
    w->watches = watches;
    w->space = count * 2;
    return true;
}

/* A failure is the last one of the waiter's thread. */
static void fire(kin_uv_watch *watch, kin_err status)
{
    watch->kin__w.state = FIRED;
    watch->kin__w.status = status;
    if (status != KIN_OK)
        (void)snprintf(watch->kin__w.why, sizeof watch->kin__w.why, "%s", kin_last_error());
    (void)uv_async_send(&watch->kin__w.async);
}

/* Takes those that are FIRED, or were stopped, out of the list. */
static void tidy(waiter *w)
{
    for (kin_uv_watch **at = &w->armed; *at != NULL;) {
        if ((*at)->kin__w.state == ARMED)
            at = &(*at)->kin__w.next;
        else
            *at = (*at)->kin__w.next;
    }
}

static void fire_all(waiter *w, kin_err status)
{
    for (kin_uv_watch *watch = w->armed; watch != NULL; watch = watch->kin__w.next)
        fire(watch, status);
    tidy(w);
}

/* The event first, then all that is armed; how many. 0: no memory, which was told. */
static size_t collect(waiter *w)
{
    size_t count = 1;
    for (kin_uv_watch *watch = w->armed; watch != NULL; watch = watch->kin__w.next)
        count++;
    if (!grow(w, count)) {
        fire_all(w, kin__fail(KIN_ENOMEM, "no memory to wait for %zu things", count));
        return 0;
    }
    w->items[0] = KIN_WAIT_FOR(&w->changed);
    count = 1;
    for (kin_uv_watch *watch = w->armed; watch != NULL; watch = watch->kin__w.next) {
        w->items[count] = watch->kin__w.what;
        w->watches[count++] = watch;
        watch->kin__w.held = true;
    }
    return count;
}

/* Some could not be waited for: each is asked by itself. If it was none of them, all are told. */
static void find_wrong(waiter *w, size_t count, kin_err err)
{
    bool found = false;
    kin__error_kept kept;
    kin__error_keep(&kept);
    for (size_t i = 1; i < count; i++) {
        kin_err own = kin_wait(&w->items[i], 1, NULL, KIN_NOWAIT);
        if (own != KIN_ETIMEDOUT && w->watches[i]->kin__w.state == ARMED)
            fire(w->watches[i], own);
        found = found || own != KIN_ETIMEDOUT;
    }
    if (found)
        return;
    kin__error_back(&kept);
    fire_all(w, err);
}

static void wait_once(waiter *w)
{
    size_t count = collect(w);
    if (count == 0)
        return;
    w->inside = true;
    uv_mutex_unlock(&w->mutex);
    kin_err err = kin_wait(w->items, count, NULL, KIN_FOREVER);
    uv_mutex_lock(&w->mutex);
    w->inside = false;
    for (size_t i = 1; i < count; i++) {
        kin_uv_watch *watch = w->watches[i];
        watch->kin__w.held = false;
        if (err == KIN_OK && w->items[i].ready && watch->kin__w.state == ARMED)
            fire(watch, KIN_OK);
    }
    if (err == KIN_EINTERRUPTED)
        fire_all(w, err);
    else if (err != KIN_OK)
        find_wrong(w, count, err);
    (void)kin_event_clear(&w->changed); /* what changes from now on, with the mutex, sets it again */
    tidy(w);
    uv_cond_broadcast(&w->left);
}

static void run(void *arg)
{
    waiter *w = arg;
    uv_mutex_lock(&w->mutex);
    while (!w->over) {
        if (w->armed != NULL)
            wait_once(w);
        else
            uv_cond_wait(&w->left, &w->mutex); /* not in kin_wait: it would not sleep in a process that was asked to stop */
    }
    uv_mutex_unlock(&w->mutex);
}

/* ---- the loop's side ---- */

static void notify(waiter *w)
{
    if (w->inside)
        (void)kin_event_set(&w->changed);
    else
        uv_cond_broadcast(&w->left);
}

static kin_err from_uv(int error, const char *what)
{
    if (error == 0)
        return KIN_OK;
    kin_err err = error == UV_ENOMEM ? KIN_ENOMEM : error == UV_EMFILE || error == UV_ENFILE ? KIN_EMFILE : KIN_EAGAIN;
    return kin__fail(err, "kin_uv_watch_init: no %s: %s", what, uv_strerror(error));
}

static kin_err begin(waiter *w)
{
    kin_err err = kin_event_init(&w->changed, NULL);
    if (err != KIN_OK)
        return err;
    int error = uv_mutex_init(&w->mutex);
    if (error != 0)
        return from_uv(error, "mutex");
    error = uv_cond_init(&w->left);
    if (error == 0) {
        error = uv_thread_create(&w->thread, run, w);
        if (error != 0)
            uv_cond_destroy(&w->left);
    }
    if (error != 0)
        uv_mutex_destroy(&w->mutex);
    return from_uv(error, "thread");
}

/* Of this loop, made if need be; the caller becomes a user of it. */
static kin_err find_waiter(uv_loop_t *loop, waiter **found)
{
    kin_err err = KIN_OK;
    uv_mutex_lock(&all_mutex);
    waiter *w = all;
    while (w != NULL && w->loop != loop)
        w = w->next;
    if (w == NULL) {
        w = calloc(1, sizeof *w);
        err = w != NULL ? begin(w) : kin__fail(KIN_ENOMEM, "kin_uv_watch_init: no memory");
        if (err == KIN_OK) {
            w->loop = loop;
            w->next = all;
            all = w;
        } else {
            free(w);
        }
    }
    if (err == KIN_OK) {
        w->users++;
        *found = w;
    }
    uv_mutex_unlock(&all_mutex);
    return err;
}

static void end(waiter *w)
{
    uv_mutex_lock(&w->mutex);
    w->over = true;
    notify(w);
    uv_mutex_unlock(&w->mutex);
    (void)uv_thread_join(&w->thread);
    uv_cond_destroy(&w->left);
    uv_mutex_destroy(&w->mutex);
    free(w->items);
    free(w->watches);
    free(w);
}

static void leave(waiter *w)
{
    uv_mutex_lock(&all_mutex);
    bool last = --w->users == 0;
    for (waiter **at = &all; last && *at != NULL; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    uv_mutex_unlock(&all_mutex);
    if (last)
        end(w);
}

/* With the mutex. */
static void put_in(waiter *w, kin_uv_watch *watch)
{
    watch->kin__w.state = ARMED;
    watch->kin__w.next = w->armed;
    w->armed = watch;
    notify(w);
}

/* With the mutex: when this returns nobody uses the object. */
static void take_out(waiter *w, kin_uv_watch *watch, int state)
{
    watch->kin__w.state = state;
    tidy(w);
    while (watch->kin__w.held) {
        notify(w);
        uv_cond_wait(&w->left, &w->mutex);
    }
}

/* In the loop: the waiter has found it ready, or failed. */
static void deliver(uv_async_t *async)
{
    kin_uv_watch *watch = async->data;
    waiter *w = watch->kin__w.waiter;
    uv_mutex_lock(&w->mutex);
    bool due = watch->kin__w.state == FIRED;
    kin_err status = watch->kin__w.status;
    bool once_only = status != KIN_OK || watch->kin__w.what.kind == KIN_WAIT_PROCESS;
    if (due)
        watch->kin__w.state = once_only ? STOPPED : DELIVERED;
    uv_mutex_unlock(&w->mutex);
    if (!due)
        return; /* stopped since */
    if (once_only)
        uv_unref((uv_handle_t *)async);
    if (status != KIN_OK)
        (void)kin__fail(status, "%s", watch->kin__w.why);
    watch->kin__w.callback(watch, status);
    if (once_only)
        return; /* it may be closed, and its memory gone */
    uv_mutex_lock(&w->mutex);
    if (watch->kin__w.state == DELIVERED) /* not stopped, closed or started anew in its callback */
        put_in(w, watch);
    uv_mutex_unlock(&w->mutex);
}

kin_err kin_uv_watch_init(uv_loop_t *loop, kin_uv_watch *watch)
{
    if (loop == NULL || watch == NULL)
        return kin__fail(KIN_EINVAL, "kin_uv_watch_init: the %s is NULL", loop == NULL ? "loop" : "watch");
    if (kin_start_method_name()[0] == 0)
        return kin__fail(KIN_ESTATE, "kin_uv_watch_init: kin_init was not called in this process");
    uv_once(&once, make_mutex);
    if (!usable)
        return kin__fail(KIN_ENOMEM, "kin_uv_watch_init: no mutex");
    memset(&watch->kin__w, 0, sizeof watch->kin__w); /* `data` is the user's */
    watch->loop = loop;
    waiter *w;
    kin_err err = find_waiter(loop, &w);
    if (err != KIN_OK)
        return err;
    int error = uv_async_init(loop, &watch->kin__w.async, deliver);
    if (error != 0) {
        leave(w);
        return from_uv(error, "handle in the loop");
    }
    watch->kin__w.waiter = w;
    watch->kin__w.async.data = watch;
    uv_unref((uv_handle_t *)&watch->kin__w.async);
    return KIN_OK;
}

static kin_err stop(kin_uv_watch *watch, const char *function)
{
    if (watch == NULL)
        return kin__fail(KIN_EINVAL, "%s: the watch is NULL", function);
    if (watch->kin__w.waiter == NULL)
        return kin__fail(KIN_EINVAL, "%s: the watch is closed, or was never initialised", function);
    waiter *w = watch->kin__w.waiter;
    uv_mutex_lock(&w->mutex);
    bool closing = watch->kin__w.state == CLOSING;
    if (!closing)
        take_out(w, watch, STOPPED);
    uv_mutex_unlock(&w->mutex);
    if (closing)
        return kin__fail(KIN_EINVAL, "%s: the watch is closing", function);
    uv_unref((uv_handle_t *)&watch->kin__w.async);
    return KIN_OK;
}

kin_err kin_uv_watch_stop(kin_uv_watch *watch)
{
    return stop(watch, "kin_uv_watch_stop");
}

kin_err kin_uv_watch_start(kin_uv_watch *watch, kin_waitable what, kin_uv_watch_cb callback)
{
    if (callback == NULL)
        return kin__fail(KIN_EINVAL, "kin_uv_watch_start: the callback is NULL");
    kin_err err = stop(watch, "kin_uv_watch_start");
    if (err != KIN_OK)
        return err;
    if (what.kind == KIN_WAIT_NOTHING)
        return kin__fail(KIN_EINVAL, "kin_uv_watch_start: KIN_WAIT_NOTHING is never ready; a watch must wait for something");
    kin__error_kept kept;
    kin__error_keep(&kept);
    err = kin_wait(&what, 1, NULL, KIN_NOWAIT);
    if (err != KIN_OK && err != KIN_ETIMEDOUT)
        return err;
    kin__error_back(&kept); /* that it is not ready yet is no failure */
    waiter *w = watch->kin__w.waiter;
    watch->kin__w.what = what;
    watch->kin__w.callback = callback;
    uv_ref((uv_handle_t *)&watch->kin__w.async);
    uv_mutex_lock(&w->mutex);
    put_in(w, watch);
    uv_mutex_unlock(&w->mutex);
    return KIN_OK;
}

bool kin_uv_watch_active(const kin_uv_watch *watch)
{
    if (watch == NULL || watch->kin__w.waiter == NULL)
        return false;
    waiter *w = watch->kin__w.waiter;
    uv_mutex_lock(&w->mutex);
    bool active = watch->kin__w.state != STOPPED && watch->kin__w.state != CLOSING;
    uv_mutex_unlock(&w->mutex);
    return active;
}

static void closed(uv_handle_t *handle)
{
    kin_uv_watch *watch = handle->data;
    waiter *w = watch->kin__w.waiter;
    watch->kin__w.waiter = NULL;
    leave(w);
    if (watch->kin__w.closed != NULL)
        watch->kin__w.closed(watch);
}

void kin_uv_watch_close(kin_uv_watch *watch, kin_uv_close_cb callback)
{
    if (watch == NULL || watch->kin__w.waiter == NULL)
        return;
    waiter *w = watch->kin__w.waiter;
    uv_mutex_lock(&w->mutex);
    bool closing = watch->kin__w.state == CLOSING;
    if (!closing)
        take_out(w, watch, CLOSING);
    uv_mutex_unlock(&w->mutex);
    if (closing)
        return;
    watch->kin__w.closed = callback;
    uv_close((uv_handle_t *)&watch->kin__w.async, closed);
}
