/* Peers of listeners and clients that do what no honest one does: they speak through the contract's streams, byte by byte. */
#ifndef TEST_PEER_SUPPORT_H
#define TEST_PEER_SUPPORT_H

#include "support.h"

#include "address.h"
#include "auth.h"
#include "frame.h"
#include "os.h"

/* Whether kin was built with Mbed TLS; a test that needs it says NEEDS_KEYS. */
bool peer_has_keys(void);
#define NEEDS_KEYS                                                                                                     \
    if (!peer_has_keys())                                                                                              \
        test_skip("kin was built without Mbed TLS");

/* An address that nobody else uses, of the test's kind: a local name, or TCP at a free port. In a static buffer each. */
const char *peer_name(void);
#define PEER_TCP "tcp:127.0.0.1:0"

/* A moment from now. */
uint64_t peer_deadline(int64_t ms);

/* These never assert: they are for threads and children, too. NULL and false when it fails. */
os_stream *peer_connect(const char *address);
os_stream *peer_try_connect(const char *address, int64_t ms); /* for so long */
os_port *peer_listen(const char *address, char where[KIN__ADDRESS_SIZE]);
os_stream *peer_accept(os_port *port);
/* Bytes as they are (on a stream with messages: as one message); a message, framed as the stream wants it. */
bool peer_write(os_stream *stream, const void *bytes, size_t size);
bool peer_say(os_stream *stream, const void *message, size_t size);
/* The next message, up to `space` bytes. False: none came in time, or the end did: *ended. */
bool peer_hear(os_stream *stream, void *message, size_t space, size_t *size, bool *ended);
/* Whether the other side ends it, whatever it says before. */
bool peer_is_ended(os_stream *stream);
/* Goes through the handshake as an honest peer. */
bool peer_prove(os_stream *stream, bool server, const char *key);
/* As one that connects, until the other side has welcomed it. */
bool peer_prove_half(os_stream *stream, const char *key);
/* The whole of it byte by byte (not on a stream with messages), doing nothing for `pause` ms after each eighth. */
bool peer_prove_slowly(os_stream *stream, bool server, const char *key, int64_t pause);

#endif
