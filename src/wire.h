/* Messages over a stream (os.h): what kin's connections to other programs are made of. Any number of threads of this process
 * may send and receive at once; they take turns, one for each direction, asleep by parking, so that everybody's time-out
 * holds. A message that was read and does not fit its receiver stays.
 *
 * A message is sent whole or not at all. When the time is over and part of it has left, a thread of kin's sends the rest
 * from a copy: to the caller it is sent. */
#ifndef KIN_SRC_WIRE_H
#define KIN_SRC_WIRE_H

#include "frame.h"
#include "kin/connection.h"
#include "park.h"

#include <uv.h>

#define KIN__WIRE_MESSAGE ((size_t)1 << 30) /* the longest message, unless it is said otherwise */

/* A turn: who has it may use one direction. */
typedef struct kin__turn {
    uint32_t word;      /* TAKEN, WANTED, WATCHED: wire.c                     */
    uint32_t fired;     /* the watch has seen something                       */
    uint64_t key;       /* what those sleep on who want the turn              */
    uint64_t watch_key; /* what kin_wait sleeps on                            */
    os_watch *watch;    /* of the stream, for kin_wait                        */
    kin_err ended;      /* there is no going on in this direction: the error that everybody gets, with these words */
    char why[256];
} kin__turn;

typedef struct kin__wire {
    os_stream *stream;
    size_t limit;  /* of a message that is sent                                           */
    uint64_t users; /* CLOSED, and how many calls are under way                           */
    void (*gone)(struct kin__wire *wire); /* called once it is closed and nobody uses it  */
    bool plain;     /* who waits cannot be interrupted, and needs no place in the thread table. While one thread has it only */
    uv_mutex_t watching; /* the turns' watches                                                 */
    kin__turn receiving, sending;
    /* of who receives: */
    kin__frame frame;
    uint8_t *chunk; /* bytes that were read and belong to the next messages               */
    size_t chunk_at, chunk_end;
    bool piece, whole; /* where the stream keeps messages: the chunk is a piece of one, its last one */
    /* of who sends: */
    uint8_t *rest;
    size_t rest_size;
    uint32_t finishing; /* a thread of kin's sends the rest */
    uint32_t end_seen;  /* by who receives: nobody is there any more to send to */
} kin__wire;

/* Makes a wire of a stream, which it takes over if it succeeds. KIN_ENOMEM. */
kin_err kin__wire_begin(kin__wire *wire, os_stream *stream, size_t limit, void (*gone)(kin__wire *wire));
/* Nobody can begin to use it any more, and who waits is told KIN_EINVAL; calls `gone` when the last has left (now, if there
 * is none), after which nothing of it is left but its own memory. What is being sent from a copy still arrives. */
void kin__wire_close(kin__wire *wire);
/* Ends it as if the other side had gone. From any thread that keeps it from being closed. */
void kin__wire_cancel(kin__wire *wire);

/* Sends a message of `mark` (at most KIN__WIRE_MARK bytes) and then `data`. KIN_EMSGSIZE, KIN_ETIMEDOUT (nothing was sent),
 * KIN_EPIPE, KIN_EINVAL (closed meanwhile), KIN_ENOMEM, KIN_EINTERRUPTED. */
#define KIN__WIRE_MARK 8u
kin_err kin__wire_send(kin__wire *wire, const void *mark, size_t mark_size, const void *data, size_t size, uint64_t deadline);

/* Waits for a message, and for the turn to receive it, which is the caller's if it succeeds: it says kin__wire_done or
 * kin__wire_take then. `data` is valid until that. KIN_ETIMEDOUT, KIN_EPIPE, KIN_EPROTO (too long, or none), KIN_EINVAL. */
kin_err kin__wire_look(kin__wire *wire, const uint8_t **data, size_t *size, uint64_t deadline);
void kin__wire_done(kin__wire *wire, bool drop); /* drop: the message is used up, else it stays */
void *kin__wire_take(kin__wire *wire, size_t *size); /* as kin__frame_take; if that fails the message stays */

/* For kin_wait, which has shown that it sleeps on kin__wire_key: whoever makes a message, or the turn, available wakes it;
 * and whether something is there. */
uint64_t kin__wire_key(const kin__wire *wire, bool send);
kin_err kin__wire_arm(kin__wire *wire, bool send); /* KIN_EMFILE, KIN_ENOMEM, KIN_EAGAIN: it cannot be watched now */
bool kin__wire_ready(kin__wire *wire, bool send);

#endif
