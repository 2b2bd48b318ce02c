/* The handshake: two programs prove to each other that they know the same key, as multiprocessing.connection of Python
 * 3.12 and newer does it. Pure: messages go in and out here, and whoever uses it carries them.
 *
 *     who listens                                     who connects
 *     "#CHALLENGE#" "{sha256}" 40 bytes          ->
 *                                                <-   "{sha256}" HMAC(key, "{sha256}" and the 40 bytes)
 *     "#WELCOME#", or "#FAILURE#" and the end    ->
 *                                                     and the same once more, the other way round
 *
 * The digest's name is under the HMAC, so that nobody in between can have a weaker one chosen; and there is only one here.
 * Who listens proves nothing before the other side has.
 *
 * To Python the 40 bytes are random. Here they begin with a word for the side that asks, and no side answers what one of its
 * own kind has asked: otherwise who poses as a listener could give the challenge of one that connects to another that
 * connects, and have the answer. */
#ifndef KIN_SRC_AUTH_H
#define KIN_SRC_AUTH_H

#include "hmac.h"

#define KIN__AUTH_WORD 8u
#define KIN__AUTH_RANDOM 32u
#define KIN__AUTH_MESSAGE 256u /* the longest message that is accepted, or sent */

typedef enum kin__auth_next {
    KIN__AUTH_SEND,    /* kin__auth_take gives what is to be sent  */
    KIN__AUTH_RECEIVE, /* kin__auth_give wants what was received   */
    KIN__AUTH_DONE,    /* both have proved themselves              */
    KIN__AUTH_FAILED   /* the error has been given already         */
} kin__auth_next;

typedef struct kin__auth {
    kin__key key;
    uint8_t challenge[8 + KIN__AUTH_WORD + KIN__AUTH_RANDOM]; /* ours, with the digest's name        */
    uint8_t answer[8 + KIN__HMAC_SIZE];      /* to theirs, likewise                                  */
    uint8_t step;                            /* private: auth.c                                      */
    bool server;                             /* it challenges first                                  */
    bool proved;                             /* the other side has shown that it knows the key       */
} kin__auth;

/* Begins; copies the key. The random bytes must be of a kind that nobody can guess, and new each time. */
void kin__auth_begin(kin__auth *auth, bool server, const kin__key *key, const uint8_t random[KIN__AUTH_RANDOM]);
/* Overwrites what was secret. */
void kin__auth_end(kin__auth *auth);

kin__auth_next kin__auth_next_step(const kin__auth *auth);
/* The message to send next. */
void kin__auth_take(kin__auth *auth, uint8_t message[KIN__AUTH_MESSAGE], size_t *size);
/* A message that was received. KIN_EAUTH with a sentence: then there may still be something to send (#FAILURE#) before
 * it has failed. KIN_ENOMEM, KIN_EIO, KIN_ENOTSUP: it has failed, through no fault of the other side. */
kin_err kin__auth_give(kin__auth *auth, const void *message, size_t size);

/* Whether a message looks like the first one of who listens with a key, in any version of the protocol. */
bool kin__auth_is_challenge(const void *message, size_t size);

#endif
