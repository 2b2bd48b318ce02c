/* Listeners and clients: connections between programs that are no relatives, by a local name or by TCP, in C or in Python.
 *
 *     kin_listener *l;                                              kin_connection *c;
 *     kin_listen(&l, "example", KIN_KEY("secret"), NULL);           kin_connect(&c, "example", KIN_KEY("secret"), KIN_FOREVER);
 *     kin_listener_accept(l, &c, KIN_FOREVER);
 *
 * On the wire it is what multiprocessing.connection of Python 3.12 and newer speaks: a C program can serve Python clients
 * and the other way round. Both sides prove to each other that they know the key, by HMAC-SHA-256 challenges, before
 * anything else is read; older digests are refused. That authenticates the beginning of a connection only: what follows
 * is neither encrypted nor protected against someone in between, so use TCP on networks that you trust.
 *
 * A listener's handshakes are made in the background, each with a deadline, so a peer that is slow, silent or hostile
 * delays nobody; when too many are pending the oldest that has proved nothing gives way, if it has had 50 ms.
 */
#ifndef KIN_LISTENER_H
#define KIN_LISTENER_H

#include "connection.h"

KIN_BEGIN

typedef struct kin_listener kin_listener;

#define KIN_KEY(text) ((kin_view){(text), strlen(text)})
#define KIN_NO_KEY ((kin_view){NULL, 0})

typedef struct kin_listen_options {
    int64_t handshake_ms;  /* deadline of one handshake; 0: 5000 */
    uint32_t pending;      /* the most handshakes at once; 0: 64; at most 256 */
    uint32_t backlog;      /* connections that have proved themselves and wait to be accepted; 0: 128. More are closed */
    size_t max_message;    /* bytes; a longer one is refused: its connection ends. 0: 1 GiB */
} kin_listen_options;

/* Listens at `address`:
 *     "name"             a local name: letters, digits, '-', '_' and '.'. On Linux a socket "name" in a directory of this user's
 *                        that only this user can enter ($XDG_RUNTIME_DIR/kin, else /tmp/kin-UID); on Windows the pipe
 *                        \\.\pipe\kin-USER-name that only this user can open. Whoever connects must be the same user
 *     "/path", "./path"  Linux: a socket at that path, for Python's Listener and Client too. It is removed at close
 *     "\\.\pipe\name"    Windows: that pipe
 *     "tcp:host:port"    TCP; host is a name or a number ([..] round an IPv6 one); port 0 takes a free one
 * `key` (borrowed; up to 1 MiB) is what both sides must know; KIN_NO_KEY: no handshake, for local names only.
 * KIN_EEXIST: somebody listens there; KIN_EPERM; KIN_ENOENT: no such host; KIN_ENOTSUP: built without Mbed TLS; KIN_EINVAL */
KIN_API kin_err kin_listen(kin_listener **listener, const char *address, kin_view key, const kin_listen_options *options);

/* Where it listens, in the form above: with the real port. Valid until close; "" if it is no open listener. */
KIN_API const char *kin_listener_address(const kin_listener *listener);

/* Waits for the next connection that has proved itself. KIN_ETIMEDOUT; KIN_EINTERRUPTED. */
KIN_API kin_err kin_listener_accept(kin_listener *listener, kin_connection **connection, int64_t timeout_ms);

/* Stops listening: handshakes and connections that were not accepted are closed, those that were go on. */
KIN_API void kin_listener_close(kin_listener *listener);

/* Connects, and proves to each other to know the key, within `timeout_ms`.
 * KIN_ENOENT: nobody listens there; KIN_EAUTH: the other side does not know the key, or speaks another protocol;
 * KIN_ETIMEDOUT; KIN_EPERM: a local name that is another user's; KIN_EPIPE: the other side closed in the middle */
KIN_API kin_err kin_connect(kin_connection **connection, const char *address, kin_view key, int64_t timeout_ms);

KIN_END

#endif
