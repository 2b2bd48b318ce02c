/* Messages in a stream of bytes, as multiprocessing.connection of Python frames them: a length of 4 bytes, signed, the highest
 * first, then as many bytes; or -1 and a length of 8 bytes. Pure: bytes go in, messages come out. What is read believes
 * nothing: a length is checked before anything is done with it, and memory is asked for as the bytes come, not as a
 * length promises them. */
#ifndef KIN_SRC_FRAME_H
#define KIN_SRC_FRAME_H

#include "kin/base.h"

#define KIN__FRAME_HEAD 12u

/* Writes what precedes a message of `size` bytes; returns how many bytes that is: 4 or 12. */
size_t kin__frame_head(uint8_t head[KIN__FRAME_HEAD], uint64_t size);

typedef struct kin__frame {
    uint64_t limit; /* the longest message that is accepted, at most SIZE_MAX / 2; may be changed between messages */
    uint8_t *data;  /* malloc                        */
    size_t space;
    size_t size;     /* of the message, if known     */
    size_t got;      /* bytes of it so far           */
    uint8_t head[KIN__FRAME_HEAD];
    uint8_t head_got;
    bool known;      /* its size                     */
    bool complete;
} kin__frame;

/* Takes bytes that were read, up to the end of a message: *used may be less than `count`, 0 while one is complete.
 * KIN_EPROTO: the length is wrong or above the limit: there is no going on; KIN_ENOMEM. */
kin_err kin__frame_feed(kin__frame *frame, const void *bytes, size_t count, size_t *used);
/* The same for streams that keep messages apart themselves: a piece of one, the last if `whole`. */
kin_err kin__frame_piece(kin__frame *frame, const void *bytes, size_t count, bool whole);

/* Memory for bytes of the message that are still to come, to read them into directly; then say how many there were. NULL
 * (*space is 0) unless there are at least `least`. */
uint8_t *kin__frame_room(kin__frame *frame, size_t least, size_t *space);
void kin__frame_filled(kin__frame *frame, size_t count);

/* Whether a message has begun and is not complete. */
bool kin__frame_begun(const kin__frame *frame);
/* Begins the next message; keeps the memory if it is not much. */
void kin__frame_next(kin__frame *frame);
/* The memory of a complete message, with kin_free (never NULL), and begins the next; NULL with KIN_ENOMEM. */
void *kin__frame_take(kin__frame *frame, size_t *size);
void kin__frame_free(kin__frame *frame);

#endif
