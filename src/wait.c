/* kin_wait: one sleep on the keys of many objects (park.h), and one watch (os.h) for all descriptors together, which wakes
 * the sleeper as any object would.
 *
 * The order is the one that loses no wake: the sleep is shown, every object is armed, so that whoever changes it looks for
 * sleepers, and then all are looked at once more. Nothing is ever taken here, so a wake that came for nothing costs a look. */
#include "kin/wait.h"

#include "error.h"
#include "fault.h"
#include "park.h"
#include "wait.h"

#include <stdlib.h>

#define ITEMS_MOST 65536u
#define SPIN_MOST 16u /* objects: with more, one look takes as long as spinning should */

/* ---- the kinds ---- */

#define OBJECT(which, x) ((kin_waitable){.kind = (which), .of.object = (x)})
kin_waitable kin__wait_queue_get(const kin_queue *x) { return OBJECT(KIN_WAIT_QUEUE_GET, x); }
kin_waitable kin__wait_queue_put(const kin_queue *x, size_t room) { return (kin_waitable){.kind = KIN_WAIT_QUEUE_PUT, .of.object = x, .room = room}; }
kin_waitable kin__wait_recv(const kin_connection *x) { return OBJECT(KIN_WAIT_RECV, x); }
kin_waitable kin__wait_send(const kin_connection *x, size_t room) { return (kin_waitable){.kind = KIN_WAIT_SEND, .of.object = x, .room = room}; }
kin_waitable kin__wait_listener(const kin_listener *x) { return OBJECT(KIN_WAIT_LISTENER, x); }
kin_waitable kin__wait_process(const kin_process *x) { return OBJECT(KIN_WAIT_PROCESS, x); }
kin_waitable kin__wait_event(const kin_event *x) { return OBJECT(KIN_WAIT_EVENT, x); }
kin_waitable kin__wait_semaphore(const kin_semaphore *x) { return OBJECT(KIN_WAIT_SEMAPHORE, x); }
kin_waitable kin_wait_fd_read(intptr_t fd) { return (kin_waitable){.kind = KIN_WAIT_FD_READ, .of.handle = fd}; }
kin_waitable kin_wait_fd_write(intptr_t fd) { return (kin_waitable){.kind = KIN_WAIT_FD_WRITE, .of.handle = fd}; }
kin_waitable kin_wait_handle(intptr_t handle) { return (kin_waitable){.kind = KIN_WAIT_HANDLE, .of.handle = handle}; }

static bool is_source(const kin_waitable *item)
{
    return item->kind == KIN_WAIT_FD_READ || item->kind == KIN_WAIT_FD_WRITE || item->kind == KIN_WAIT_HANDLE;
}

static bool is_object(const kin_waitable *item)
{
    return item->kind != KIN_WAIT_NOTHING && !is_source(item);
}

/* Whether it can be waited for, and on which key one sleeps who does. */
static kin_err key_of(const kin_waitable *item, kin__watched *watched)
{
    const void *x = item->of.object;
    switch (item->kind) {
    case KIN_WAIT_QUEUE_GET:
    case KIN_WAIT_QUEUE_PUT:
        return kin__queue_watch(x, item->kind == KIN_WAIT_QUEUE_PUT, item->room, watched);
    case KIN_WAIT_RECV:
    case KIN_WAIT_SEND:
        return kin__connection_watch(x, item->kind == KIN_WAIT_SEND, item->room, watched);
    case KIN_WAIT_LISTENER:
        return kin__listener_watch(x, watched);
    case KIN_WAIT_PROCESS:
        return kin__process_watch(x, watched);
    case KIN_WAIT_EVENT:
        return kin__event_watch(x, watched);
    case KIN_WAIT_SEMAPHORE:
        return kin__semaphore_watch(x, watched);
    default:
        return kin__fail(KIN_EINVAL, "%d is nothing that can be waited for", (int)item->kind);
    }
}

static kin_err arm(const kin_waitable *item)
{
    const void *x = item->of.object;
    switch (item->kind) {
    case KIN_WAIT_QUEUE_GET:
    case KIN_WAIT_QUEUE_PUT:
        kin__queue_arm(x, item->kind == KIN_WAIT_QUEUE_PUT);
        return KIN_OK;
    case KIN_WAIT_RECV:
    case KIN_WAIT_SEND:
        return kin__connection_arm(x, item->kind == KIN_WAIT_SEND);
    case KIN_WAIT_LISTENER:
        kin__listener_arm(x);
        return KIN_OK;
    case KIN_WAIT_EVENT:
        kin__event_arm(x);
        return KIN_OK;
    case KIN_WAIT_SEMAPHORE:
        kin__semaphore_arm(x);
        return KIN_OK;
    default: /* the end of a process wakes everybody */
        return KIN_OK;
    }
}

static bool is_ready(const kin_waitable *item)
{
    const void *x = item->of.object;
    switch (item->kind) {
    case KIN_WAIT_QUEUE_GET:
    case KIN_WAIT_QUEUE_PUT:
        return kin__queue_ready(x, item->kind == KIN_WAIT_QUEUE_PUT, item->room);
    case KIN_WAIT_RECV:
    case KIN_WAIT_SEND:
        return kin__connection_ready(x, item->kind == KIN_WAIT_SEND, item->room);
    case KIN_WAIT_LISTENER:
        return kin__listener_ready(x);
    case KIN_WAIT_PROCESS:
        return kin__process_ready(x);
    case KIN_WAIT_EVENT:
        return kin__event_ready(x);
    case KIN_WAIT_SEMAPHORE:
        return kin__semaphore_ready(x);
    default:
        return false;
    }
}

/* ---- one call ---- */

typedef struct call {
    kin_waitable *items;
    size_t count, objects, ready;
    os_source *sources; /* the descriptors among the items, in their order */
    size_t source_count;
    kin__keys keys;
    uint64_t me;
    uint32_t fired; /* the watch has seen one */
    kin_err failed; /* one could not be armed, so there can be no sleep; the sentence has been given */
} call;

/* The item that source `n` is. */
static size_t item_of(const call *c, size_t n)
{
    size_t i = 0;
    while (!is_source(&c->items[i]) || n-- > 0)
        i++;
    return i;
}

/* Looks at everything and marks what is ready. Whatever was marked in the sources before stays so. */
static kin_err look(call *c)
{
    c->ready = 0;
    size_t wrong = 0, n = 0;
    kin_err err = c->source_count > 0 ? os_sources_look(c->sources, c->source_count, &wrong) : KIN_OK;
    if (err != KIN_OK)
        return kin__fail_in(err, "kin_wait, item %zu", item_of(c, wrong));
    for (size_t i = 0; i < c->count; i++) {
        kin_waitable *item = &c->items[i];
        kin__watched watched = {0};
        item->ready = false;
        if (is_object(item)) {
            err = key_of(item, &watched);
            if (err != KIN_OK)
                return kin__fail_in(err, "kin_wait, item %zu", i);
            kin__keys_add(&c->keys, watched.key);
            item->ready = is_ready(item);
        } else if (is_source(item)) {
            item->ready = c->sources[n++].ready;
        }
        c->ready += item->ready;
    }
    return KIN_OK;
}

/* Whether a look is worth while. */
static bool anything(const call *c)
{
    if (kin__load32(&c->fired) != 0 || c->failed != KIN_OK)
        return true;
    for (size_t i = 0; i < c->count && c->objects > 0; i++) {
        if (is_ready(&c->items[i]))
            return true;
    }
    return false;
}

static bool must_sleep(void *object)
{
    call *c = object;
    if (c->objects > 0) {
        for (size_t i = 0; i < c->count && c->failed == KIN_OK; i++) {
            c->failed = arm(&c->items[i]);
            if (c->failed != KIN_OK)
                kin__fail_in(c->failed, "kin_wait, item %zu", i);
        }
        KIN_CRASH_POINT("wait.armed");
    }
    return !anything(c);
}

static void source_ready(void *arg)
{
    call *c = arg;
    kin__store32(&c->fired, 1);
    kin__wake_thread(c->me);
}

static bool spin(const call *c)
{
    if (c->objects == 0 || c->objects > SPIN_MOST)
        return false;
    for (kin__spin more = {0}; kin__spin_more(&more);) {
        if (anything(c))
            return true;
    }
    return false;
}

/* Sleeps until a look is worth while. */
static kin_err sleep_once(call *c, uint64_t deadline)
{
    os_watch *watch = NULL;
    kin__store32(&c->fired, 0);
    kin_err err = c->source_count > 0 ? os_watch_add(c->sources, c->source_count, source_ready, c, &watch) : KIN_OK;
    if (err != KIN_OK)
        return kin__fail_in(err, "kin_wait");
    kin__wait wait = {.key = KIN__KEY_MANY, .must_sleep = must_sleep, .object = c, .deadline = deadline, .interruptible = true,
                      .many = &c->keys};
    do {
        err = kin__park_on(&wait);
    } while (err == KIN_OK && !anything(c));
    os_watch_remove(watch, c->sources);
    return err == KIN_OK ? c->failed : err;
}

static bool took_a_source(const call *c)
{
    for (size_t i = 0; i < c->source_count; i++) {
        if (c->sources[i].ready)
            return true;
    }
    return false;
}

static kin_err wait_for(call *c, int64_t timeout_ms)
{
    uint64_t deadline = kin__deadline(timeout_ms);
    kin_err end = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;
    for (bool spun = false;;) {
        kin_err err = look(c);
        if (err != KIN_OK || c->ready > 0)
            return err;
        if (end == KIN_ETIMEDOUT)
            return kin__fail(end, "none of %zu things was ready within %lld ms", c->count, (long long)timeout_ms);
        if (end != KIN_OK)
            return end;
        if (!spun && spin(c)) {
            spun = true;
            continue;
        }
        spun = true;
        end = sleep_once(c, deadline);
        if (end == KIN_EINTERRUPTED)
            kin__fail_in(end, "kin_wait");
        if (end != KIN_OK && end != KIN_ETIMEDOUT && !took_a_source(c))
            return end; /* nothing was ready when it was to sleep */
    }
}

/* Counts, and lists the descriptors. */
static kin_err prepare(call *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const kin_waitable *item = &c->items[i];
        if (item->kind == KIN_WAIT_HANDLE && !OS_WINDOWS)
            return kin__fail(KIN_ENOTSUP, "kin_wait, item %zu: only Windows has HANDLEs", i);
        c->source_count += is_source(item);
        c->objects += is_object(item);
    }
    if (c->source_count == 0)
        return KIN_OK;
    c->sources = malloc(c->source_count * sizeof *c->sources);
    if (c->sources == NULL)
        return kin__fail(KIN_ENOMEM, "kin_wait: no memory for %zu descriptors", c->source_count);
    os_source *next = c->sources;
    for (size_t i = 0; i < c->count; i++) {
        const kin_waitable *item = &c->items[i];
        if (is_source(item))
            *next++ = (os_source){.source = item->of.handle,
                                  .events = item->kind == KIN_WAIT_FD_READ    ? OS_READABLE
                                            : item->kind == KIN_WAIT_FD_WRITE ? OS_WRITABLE
                                                                              : OS_SIGNALLED};
    }
    return KIN_OK;
}

kin_err kin_wait(kin_waitable *items, size_t count, size_t *ready, int64_t timeout_ms)
{
    if (ready != NULL)
        *ready = 0;
    kin_err err = kin__check_init();
    if (err != KIN_OK)
        return err;
    if ((items == NULL && count > 0) || count > ITEMS_MOST)
        return kin__fail(KIN_EINVAL, "kin_wait: %zu items%s", count, items == NULL ? " at NULL" : "; up to 65536 are possible");
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "kin_wait: a time-out of %lld ms", (long long)timeout_ms);
    call c = {.items = items, .count = count, .me = kin__thread_me()};
    if (c.me == 0)
        return kin_last_code();
    err = prepare(&c);
    if (err == KIN_OK)
        err = wait_for(&c, timeout_ms);
    free(c.sources);
    for (size_t i = 0; i < count && err != KIN_OK; i++)
        items[i].ready = false;
    if (ready != NULL && err == KIN_OK)
        *ready = c.ready;
    return err;
}
