/* What queues and connections have in common beside the ring: getting a message whose size is not known, and telling of ends of
 * pipes that went with what carried them. Memory comes first: once a message has left its place, nothing may fail that would
 * lose it. */
#include "message.h"

#include "any.h"
#include "error.h"
#include "park.h"
#include "session.h"

#include <stdlib.h>

/* Bytes tried first. */
#define GUESS ((size_t)256)

kin_err kin__get_new(const kin__source *from, kin__sink *sink, size_t most, int64_t timeout_ms)
{
    uint64_t deadline = kin__deadline(timeout_ms);
    kin__error_kept kept; /* not all keep silent about what was too large for the guess */
    kin__error_keep(&kept);
    bool again = false;
    sink->grows = true;
    sink->most = most;
    for (size_t space = most != 0 && most < GUESS ? most : GUESS;; again = true) {
        sink->buffer = malloc(space);
        if (sink->buffer == NULL)
            return kin__fail(KIN_ENOMEM, "%s '%s': no memory for a message of %zu bytes; it stays", from->kind,
                             from->name, space);
        sink->space = space;
        kin_err err = from->get(from->object, sink, again ? kin__time_left(deadline, timeout_ms) : timeout_ms);
        if (err == KIN_OK && again)
            kin__error_back(&kept);
        if (err == KIN_OK)
            return KIN_OK;
        free(sink->buffer);
        sink->buffer = NULL;
        if (err == KIN_EEMPTY && timeout_ms != KIN_NOWAIT)
            return kin__fail_in(KIN_ETIMEDOUT, "not in time");
        if (err != KIN_EMSGSIZE)
            return err;
        if (most != 0 && sink->size > most)
            return kin__fail(KIN_EMSGSIZE, "%s '%s': a message of %zu bytes, at most %zu are wanted", from->kind,
                             from->name, sink->size, most);
        space = sink->size;
    }
}

kin_err kin__get_args(const kin__source *from, kin_args **args, int64_t timeout_ms)
{
    os_handle *handles = calloc(OS_BAG_MOST, sizeof *handles);
    if (handles == NULL)
        return kin__fail(KIN_ENOMEM, "%s '%s': no memory for values", from->kind, from->name);
    kin__sink sink = {.what = KIN__ARGS, .handles = handles};
    kin_err err = kin__get_new(from, &sink, 0, timeout_ms);
    if (err != KIN_OK) {
        free(handles);
        return err;
    }
    err = kin__args_of_message(sink.buffer, sink.size, handles, sink.handle_count, args);
    if (err == KIN_OK)
        return KIN_OK;
    if (sink.handle_count != 0)
        kin__ends_dropped();
    return kin__fail_in(err, "%s '%s'", from->kind, from->name);
}

void kin__ends_dropped(void)
{
    kin__add32(&kin__my.session->epoch, 1);
    kin__wake_everybody();
}
