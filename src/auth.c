/* The handshake as a table of steps that both roles go through, in another order. It believes nothing: a message is compared
 * with the one that can come at this point, and anything else ends it. */
#include "auth.h"

#include "error.h"

#include <string.h>

#define DIGEST "{sha256}"
#define CHALLENGE "#CHALLENGE#"
#define WELCOME "#WELCOME#"
#define FAILURE "#FAILURE#"
#define LISTENS "listener"
#define CONNECTS "connects"
#define LENGTH(text) (sizeof(text) - 1)
#define RANDOM_LEAST 20u /* of theirs, with the digest's name before it: fewer could be meant as an older protocol's */

_Static_assert(LENGTH(LISTENS) == KIN__AUTH_WORD && LENGTH(CONNECTS) == KIN__AUTH_WORD, "words for the sides");

enum {
    SEND_CHALLENGE,
    AWAIT_ANSWER,
    SEND_WELCOME,
    AWAIT_CHALLENGE,
    SEND_ANSWER,
    AWAIT_WELCOME,
    SEND_FAILURE,
    DONE,
    FAILED
};

void kin__auth_begin(kin__auth *auth, bool server, const kin__key *key, const uint8_t random[KIN__AUTH_RANDOM])
{
    memset(auth, 0, sizeof *auth);
    auth->key = *key;
    auth->server = server;
    auth->step = server ? SEND_CHALLENGE : AWAIT_CHALLENGE;
    memcpy(auth->challenge, DIGEST, LENGTH(DIGEST));
    memcpy(auth->challenge + LENGTH(DIGEST), server ? LISTENS : CONNECTS, KIN__AUTH_WORD);
    memcpy(auth->challenge + LENGTH(DIGEST) + KIN__AUTH_WORD, random, KIN__AUTH_RANDOM);
}

void kin__auth_end(kin__auth *auth)
{
    kin__key_forget(&auth->key);
    memset(auth->answer, 0, sizeof auth->answer);
    auth->step = FAILED;
}

kin__auth_next kin__auth_next_step(const kin__auth *auth)
{
    switch (auth->step) {
    case SEND_CHALLENGE:
    case SEND_WELCOME:
    case SEND_ANSWER:
    case SEND_FAILURE:
        return KIN__AUTH_SEND;
    case AWAIT_ANSWER:
    case AWAIT_CHALLENGE:
    case AWAIT_WELCOME:
        return KIN__AUTH_RECEIVE;
    case DONE:
        return KIN__AUTH_DONE;
    default:
        return KIN__AUTH_FAILED;
    }
}

static void put(uint8_t *message, size_t *size, const void *bytes, size_t count)
{
    memcpy(message + *size, bytes, count);
    *size += count;
}

void kin__auth_take(kin__auth *auth, uint8_t message[KIN__AUTH_MESSAGE], size_t *size)
{
    *size = 0;
    switch (auth->step) {
    case SEND_CHALLENGE:
        put(message, size, CHALLENGE, LENGTH(CHALLENGE));
        put(message, size, auth->challenge, sizeof auth->challenge);
        auth->step = AWAIT_ANSWER;
        break;
    case SEND_ANSWER:
        put(message, size, auth->answer, sizeof auth->answer);
        auth->step = AWAIT_WELCOME;
        break;
    case SEND_WELCOME:
        put(message, size, WELCOME, LENGTH(WELCOME));
        auth->step = auth->server ? AWAIT_CHALLENGE : DONE;
        break;
    case SEND_FAILURE:
        put(message, size, FAILURE, LENGTH(FAILURE));
        auth->step = FAILED;
        break;
    default:
        break;
    }
}

static kin_err refuse(kin__auth *auth, uint8_t step, const char *why)
{
    auth->step = step;
    return kin__fail(KIN_EAUTH, "%s", why);
}

static bool begins(const uint8_t *message, size_t size, const char *text, size_t length)
{
    return size >= length && memcmp(message, text, length) == 0;
}

static kin_err take_answer(kin__auth *auth, const uint8_t *message, size_t size)
{
    if (!begins(message, size, DIGEST, LENGTH(DIGEST)))
        return refuse(auth, SEND_FAILURE, "the other side proves its key by an older digest than SHA-256, or speaks another protocol");
    if (size != LENGTH(DIGEST) + KIN__HMAC_SIZE)
        return refuse(auth, SEND_FAILURE, "the other side's proof of its key has a wrong length");
    bool same;
    kin_err err = kin__hmac_check(&auth->key, auth->challenge, sizeof auth->challenge, message + LENGTH(DIGEST), &same);
    if (err != KIN_OK) {
        auth->step = FAILED;
        return err;
    }
    if (!same)
        return refuse(auth, SEND_FAILURE, "the other side does not know the key");
    auth->proved = true;
    auth->step = SEND_WELCOME;
    return KIN_OK;
}

static kin_err take_challenge(kin__auth *auth, const uint8_t *message, size_t size)
{
    if (!begins(message, size, CHALLENGE, LENGTH(CHALLENGE)))
        return refuse(auth, FAILED, "the other side sent no challenge: it listens without a key, or speaks another protocol");
    message += LENGTH(CHALLENGE);
    size -= LENGTH(CHALLENGE);
    if (!begins(message, size, DIGEST, LENGTH(DIGEST)))
        return refuse(auth, FAILED, "the other side wants the key proved by another digest than SHA-256, which is refused");
    if (size < LENGTH(DIGEST) + RANDOM_LEAST)
        return refuse(auth, FAILED, "the other side's challenge is too short");
    if (memcmp(message + LENGTH(DIGEST), auth->challenge + LENGTH(DIGEST), KIN__AUTH_WORD) == 0)
        return refuse(auth, FAILED, "the other side's challenge is one that this side sends, not that one: it may be somebody else's");
    memcpy(auth->answer, DIGEST, LENGTH(DIGEST));
    kin_err err = kin__hmac(&auth->key, message, size, auth->answer + LENGTH(DIGEST));
    auth->step = err == KIN_OK ? SEND_ANSWER : FAILED;
    return err;
}

static kin_err take_verdict(kin__auth *auth, const uint8_t *message, size_t size)
{
    if (size == LENGTH(FAILURE) && memcmp(message, FAILURE, size) == 0)
        return refuse(auth, FAILED, "the other side has another key");
    if (size != LENGTH(WELCOME) || memcmp(message, WELCOME, size) != 0)
        return refuse(auth, FAILED, "the other side speaks another protocol: it neither welcomed nor refused the key");
    auth->step = auth->server ? DONE : SEND_CHALLENGE;
    return KIN_OK;
}

kin_err kin__auth_give(kin__auth *auth, const void *message, size_t size)
{
    if (size > KIN__AUTH_MESSAGE)
        return refuse(auth, FAILED, "the other side speaks another protocol: its message is too long for a handshake");
    switch (auth->step) {
    case AWAIT_ANSWER:
        return take_answer(auth, message, size);
    case AWAIT_CHALLENGE:
        return take_challenge(auth, message, size);
    case AWAIT_WELCOME:
        return take_verdict(auth, message, size);
    default:
        return refuse(auth, FAILED, "the other side speaks out of turn");
    }
}

bool kin__auth_is_challenge(const void *message, size_t size)
{
    return size <= KIN__AUTH_MESSAGE && begins(message, size, CHALLENGE, LENGTH(CHALLENGE));
}
