/* The handshake (auth.h) over a wire. */
#ifndef KIN_SRC_HANDSHAKE_H
#define KIN_SRC_HANDSHAKE_H

#include "auth.h"
#include "wire.h"

/* Nobody else may use the wire yet. *proved (may be NULL) becomes 1 as soon as the other side has shown that it knows the key.
 * KIN_EAUTH; KIN_ETIMEDOUT; KIN_EPIPE: the other side closed in the middle; KIN_EINTERRUPTED … After an error it is of no use. */
kin_err kin__handshake(kin__wire *wire, bool server, const kin__key *key, uint64_t deadline, uint32_t *proved);

#endif
