/* Carries the messages of a handshake. Until it is over, a message of more than KIN__AUTH_MESSAGE bytes is refused by the
 * reader of frames, before anything is kept of it. */
#include "handshake.h"

#include "error.h"
#include "fault.h"

#include <uv.h>

static kin_err receive_next(kin__wire *wire, kin__auth *auth, uint64_t deadline)
{
    const uint8_t *message;
    size_t size;
    kin_err err = kin__wire_look(wire, &message, &size, deadline);
    if (err == KIN_EPROTO)
        return kin__fail(KIN_EAUTH, "the other side speaks another protocol: its message is too long for a handshake");
    if (err != KIN_OK)
        return err;
    err = kin__auth_give(auth, message, size);
    kin__wire_done(wire, true);
    return err;
}

static kin_err send_next(kin__wire *wire, kin__auth *auth, uint64_t deadline)
{
    uint8_t message[KIN__AUTH_MESSAGE];
    size_t size;
    kin__auth_take(auth, message, &size);
    return kin__wire_send(wire, NULL, 0, message, size, deadline);
}

/* To a side that has failed, as a courtesy: without waiting, and whatever comes of it. */
static void send_verdict(kin__wire *wire, kin__auth *auth)
{
    kin__error_kept kept;
    kin__error_keep(&kept);
    (void)send_next(wire, auth, 0);
    kin__error_back(&kept);
}

static kin_err carry(kin__wire *wire, kin__auth *auth, uint64_t deadline, uint32_t *proved)
{
    kin_err err = KIN_OK;
    bool heard = auth->server; /* something that came from a handshake, if it is not for us to begin */
    while (err == KIN_OK) {
        switch (kin__auth_next_step(auth)) {
        case KIN__AUTH_SEND:
            err = send_next(wire, auth, deadline);
            break;
        case KIN__AUTH_RECEIVE:
            err = receive_next(wire, auth, deadline);
            if (err == KIN_ETIMEDOUT && !heard)
                return kin__fail(KIN_ETIMEDOUT, "no challenge came in time: does it listen without a key?");
            heard = true;
            if (proved != NULL && auth->proved)
                kin__store32(proved, 1);
            break;
        default:
            return KIN_OK;
        }
    }
    if (kin__auth_next_step(auth) == KIN__AUTH_SEND && err == KIN_EAUTH)
        send_verdict(wire, auth);
    return err;
}

kin_err kin__handshake(kin__wire *wire, bool server, const kin__key *key, uint64_t deadline, uint32_t *proved)
{
    uint8_t random[KIN__AUTH_RANDOM];
    int number = KIN_FAULT("uv_random") ? UV_EIO : uv_random(NULL, NULL, random, sizeof random, 0, NULL);
    if (number != 0)
        return kin__fail(KIN_EIO, "no random bytes for a challenge: %s", uv_strerror(number));
    kin__auth auth;
    kin__auth_begin(&auth, server, key, random);
    uint64_t limit = wire->frame.limit;
    wire->frame.limit = KIN__AUTH_MESSAGE;
    kin_err err = carry(wire, &auth, deadline, proved);
    wire->frame.limit = limit;
    kin__auth_end(&auth);
    return err;
}
