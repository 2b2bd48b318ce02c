/* The reader of frames: kin__frame_feed and kin__frame_piece, however the bytes are cut, against a second reader that is too simple to
 * be wrong.
 *
 * Input: how (below), the longest message that is accepted (16 bits), which allocation fails (0: none), how many bytes come at once (0:
 * all); the rest is the stream. */
#include "fuzz.h"

#include "frame.h"

enum {
    PIECES = 1, /* boundaries are kept by the stream: each piece begins with its size and, in the highest bit, whether it is the last */
    DIRECT = 2, /* long messages are read straight to their place */
    TAKE = 4    /* messages are taken away with their memory */
};

/* The next message of the stream at *at: 1 and where it is; 0: the stream ends before; -1: its length is refused. */
static int expect(const uint8_t *stream, size_t size, uint64_t limit, size_t *at, size_t *message, size_t *length)
{
    if (size - *at < 4)
        return 0;
    const uint8_t *p = stream + *at;
    uint64_t n = (uint64_t)p[0] << 24 | (uint64_t)p[1] << 16 | (uint64_t)p[2] << 8 | p[3];
    size_t head = 4;
    if (n == 0xffffffff) {
        if (size - *at < 12)
            return 0;
        n = 0;
        for (head = 4; head < 12; head++)
            n = n << 8 | p[head];
    } else if (n > 0x7fffffff) {
        return -1;
    }
    if (n > limit)
        return -1;
    *message = *at + head;
    *length = (size_t)n;
    if (size - *message < n)
        return 0;
    *at = *message + *length;
    return 1;
}

static void check_message(kin__frame *frame, const uint8_t *message, size_t length, bool take)
{
    size_t size = 0;
    FUZZ_CHECK(frame->complete && frame->size == length && !kin__frame_begun(frame));
    FUZZ_CHECK(length == 0 || memcmp(frame->data, message, length) == 0);
    if (!take) {
        kin__frame_next(frame);
        return;
    }
    void *taken = kin__frame_take(frame, &size);
    if (taken == NULL) { /* no memory: it is still there */
        FUZZ_CHECK(frame->complete && frame->size == length);
        taken = kin__frame_take(frame, &size);
    }
    FUZZ_CHECK(taken != NULL && size == length && (length == 0 || memcmp(taken, message, length) == 0));
    free(taken);
}

static void feed(const uint8_t *stream, size_t size, uint64_t limit, size_t cut, unsigned how)
{
    kin__frame frame = {.limit = limit};
    size_t at = 0, expected_at = 0, message = 0, length = 0;
    kin_err err = KIN_OK;
    while (at < size && err == KIN_OK) {
        size_t n = cut == 0 || cut > size - at ? size - at : cut, used = 0, space = 0;
        uint8_t *room = (how & DIRECT) != 0 ? kin__frame_room(&frame, 1, &space) : NULL;
        if (room != NULL) {
            used = n < space ? n : space;
            memcpy(room, stream + at, used);
            kin__frame_filled(&frame, used);
        } else {
            err = kin__frame_feed(&frame, stream + at, n, &used);
            if (err == KIN_ENOMEM) /* once: what was not used is given again */
                err = KIN_OK;
            FUZZ_CHECK(fuzz_ok(err) || err == KIN_EPROTO);
        }
        FUZZ_CHECK(used <= n && frame.space <= 2 * (frame.got + 65536) && frame.got <= limit);
        at += used;
        if (frame.complete) {
            FUZZ_CHECK(expect(stream, size, limit, &expected_at, &message, &length) == 1 && expected_at == at);
            check_message(&frame, stream + message, length, (how & TAKE) != 0);
        }
    }
    FUZZ_CHECK(expect(stream, size, limit, &expected_at, &message, &length) == (err == KIN_EPROTO ? -1 : 0));
    kin__frame_free(&frame);
}

static void give_pieces(fuzz_input *in, uint64_t limit, bool take)
{
    kin__frame frame = {.limit = limit};
    uint8_t whole_message[8192];
    size_t length = 0;
    kin_err err = KIN_OK;
    while (in->left > 0 && err == KIN_OK) {
        uint16_t head = fuzz_u16(in);
        size_t size = head & 0x7fff;
        bool whole = (head & 0x8000) != 0;
        uint8_t *piece = fuzz_block(in, &size);
        bool fits = length + size <= limit && length + size <= sizeof whole_message;
        if (length + size <= sizeof whole_message)
            memcpy(whole_message + length, piece, size);
        do {
            err = kin__frame_piece(&frame, piece, size, whole);
        } while (err == KIN_ENOMEM);
        free(piece);
        FUZZ_CHECK(err == (length + size <= limit ? KIN_OK : KIN_EPROTO));
        length += size;
        if (!fits)
            break;
        FUZZ_CHECK(frame.complete == whole);
        if (whole) {
            check_message(&frame, whole_message, length, take);
            length = 0;
        }
    }
    kin__frame_free(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint16_t limit = fuzz_u16(&in);
    uint8_t fault = fuzz_u8(&in), cut = fuzz_u8(&in);
    kin__fault_arm(fault);
    if ((how & PIECES) != 0) {
        give_pieces(&in, limit, (how & TAKE) != 0);
    } else {
        size_t length = in.left;
        uint8_t *stream = fuzz_block(&in, &length);
        feed(stream, length, limit, cut, how);
        free(stream);
    }
    kin__fault_arm(0);
    return 0;
}
