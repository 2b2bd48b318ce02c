/* The reader of frames. Memory grows with the bytes that are there, to at most twice as many and a little, so that a length
 * alone costs nothing. */
#include "frame.h"

#include "error.h"
#include "fault.h"

#include <stdlib.h>
#include <string.h>

#define STEP ((size_t)65536) /* what is asked for at first, for a long message; and the most that is kept between two */

size_t kin__frame_head(uint8_t head[KIN__FRAME_HEAD], uint64_t size)
{
    bool small = size <= INT32_MAX;
    size_t bytes = small ? 4 : 8, before = small ? 0 : 4;
    memset(head, 0xff, 4);
    for (size_t i = 0; i < bytes; i++)
        head[before + i] = (uint8_t)(size >> (8 * (bytes - 1 - i)));
    return before + bytes;
}

static uint64_t number(const uint8_t *bytes, size_t count)
{
    uint64_t n = 0;
    for (size_t i = 0; i < count; i++)
        n = n << 8 | bytes[i];
    return n;
}

static kin_err too_long(const kin__frame *frame, uint64_t size)
{
    return kin__fail(KIN_EPROTO, "the other side sends a message of %llu bytes; at most %llu are accepted", (unsigned long long)size,
                     (unsigned long long)frame->limit);
}

/* Room for `size` bytes, though no more than the message can have. */
static kin_err reserve(kin__frame *frame, size_t size)
{
    if (size <= frame->space)
        return KIN_OK;
    size_t space = size < STEP ? STEP : size > SIZE_MAX / 4 ? size : size * 2;
    if (frame->known && space > frame->size)
        space = frame->size; /* which is at least what was asked for */
    uint8_t *data = KIN_FAULT("realloc") ? NULL : realloc(frame->data, space);
    if (data == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a message of %zu bytes", frame->known ? frame->size : size);
    frame->data = data;
    frame->space = space;
    return KIN_OK;
}

/* The head is as complete as it was until now meant to be. *more: it has 8 bytes more. */
static kin_err read_head(kin__frame *frame, bool *more)
{
    uint64_t size = number(frame->head, 4);
    *more = false;
    if (size == UINT32_MAX) { /* -1 */
        *more = frame->head_got < KIN__FRAME_HEAD;
        size = number(frame->head + 4, 8);
    } else if (size > INT32_MAX) {
        return kin__fail(KIN_EPROTO, "the other side sends a message of negative length");
    }
    if (*more)
        return KIN_OK;
    if (size > frame->limit || size > SIZE_MAX / 2)
        return too_long(frame, size);
    frame->size = (size_t)size;
    frame->known = true;
    frame->complete = size == 0;
    return KIN_OK;
}

kin_err kin__frame_feed(kin__frame *frame, const void *bytes, size_t count, size_t *used)
{
    const uint8_t *from = bytes;
    size_t at = 0;
    kin_err err = KIN_OK;
    for (bool more = frame->head_got >= 4; !frame->known && at < count && err == KIN_OK;) {
        frame->head[frame->head_got++] = from[at++];
        if (frame->head_got == (more ? KIN__FRAME_HEAD : 4))
            err = read_head(frame, &more);
    }
    if (err == KIN_OK && frame->known && !frame->complete) {
        size_t n = frame->size - frame->got < count - at ? frame->size - frame->got : count - at;
        err = reserve(frame, frame->got + n);
        if (err == KIN_OK && n != 0) {
            memcpy(frame->data + frame->got, from + at, n);
            kin__frame_filled(frame, n);
            at += n;
        }
    }
    *used = at;
    return err;
}

kin_err kin__frame_piece(kin__frame *frame, const void *bytes, size_t count, bool whole)
{
    if (count > frame->limit || frame->got > frame->limit - count)
        return too_long(frame, (uint64_t)frame->got + count);
    kin_err err = reserve(frame, frame->got + count);
    if (err != KIN_OK)
        return err;
    if (count != 0)
        memcpy(frame->data + frame->got, bytes, count);
    frame->got += count;
    if (whole) {
        frame->size = frame->got;
        frame->known = frame->complete = true;
    }
    return KIN_OK;
}

uint8_t *kin__frame_room(kin__frame *frame, size_t least, size_t *space)
{
    *space = 0;
    if (!frame->known || frame->complete || frame->size - frame->got < least || reserve(frame, frame->got + least) != KIN_OK)
        return NULL;
    *space = frame->space - frame->got < frame->size - frame->got ? frame->space - frame->got : frame->size - frame->got;
    return frame->data + frame->got;
}

void kin__frame_filled(kin__frame *frame, size_t count)
{
    frame->got += count;
    frame->complete = frame->got == frame->size;
}

bool kin__frame_begun(const kin__frame *frame)
{
    return !frame->complete && (frame->head_got != 0 || frame->got != 0);
}

void kin__frame_next(kin__frame *frame)
{
    if (frame->space > STEP) {
        free(frame->data);
        frame->data = NULL;
        frame->space = 0;
    }
    frame->size = frame->got = 0;
    frame->head_got = 0;
    frame->known = frame->complete = false;
}

void *kin__frame_take(kin__frame *frame, size_t *size)
{
    uint8_t *data = frame->data;
    if (data == NULL || frame->space > frame->size + 64) { /* much smaller than its memory, or empty */
        data = KIN_FAULT("malloc") ? NULL : malloc(frame->size != 0 ? frame->size : 1);
        if (data == NULL) {
            kin__fail(KIN_ENOMEM, "no memory for a message of %zu bytes", frame->size);
            return NULL;
        }
        if (frame->size != 0)
            memcpy(data, frame->data, frame->size);
    } else {
        frame->data = NULL;
        frame->space = 0;
    }
    *size = frame->size;
    kin__frame_next(frame);
    return data;
}

void kin__frame_free(kin__frame *frame)
{
    free(frame->data);
    frame->data = NULL;
    frame->space = 0;
}
