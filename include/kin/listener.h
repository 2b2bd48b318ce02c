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
 * Such a connection does what one of kin_pipe does, but for three things. It cannot be passed on, and objects, files and
 * descriptors cannot be sent over it (KIN_ENOTSUP); packed values can, to a program with kin on the same kind of machine. They
 * travel as a message that begins with "kinPack1", so one of bytes cannot begin with that (KIN_EINVAL). When the time-out passes
 * with half of a message sent, the rest is sent in the background, from a copy, even if you close the connection; but not beyond
 * the end of the process. And a peer that breaks the protocol is cut off: KIN_EPROTO.
 *
 * TCP resets a connection when something comes for an end that is closed, or when a process ends that has not received
 * everything; the other side then loses what it has not received yet. So let the side that sent last close last. TCP also takes
 * a message or two for an end that is closed already: send is KIN_EPIPE once a receive has seen that end, or the system has told
 * of it. (A foreign peer that shuts down only its sending side can therefore not be answered.)
 *
 * A listener's handshakes are made in the background, each with a deadline, so a peer that is slow, silent or hostile
 * delays nobody; when too many are pending the oldest that has proved nothing gives way, if it has had 50 ms; or the oldest of
 * all, if it has had a second.
 *
 * Digests are computed by Mbed TLS through PSA. A program that uses PSA itself while connections are made needs a build of
 * Mbed TLS that is safe for threads.
 */
#ifndef KIN_LISTENER_H
#define KIN_LISTENER_H

#include "connection.h"

#include <string.h>

KIN_BEGIN

typedef struct kin_listener kin_listener;

/* A text as a key; none. */
#ifdef __cplusplus
#define KIN_KEY(text) (kin_view{(text), strlen(text)})
#define KIN_NO_KEY (kin_view{nullptr, 0})
#else
#define KIN_KEY(text) ((kin_view){(text), strlen(text)})
#define KIN_NO_KEY ((kin_view){NULL, 0})
#endif

typedef struct kin_listen_options {
    int64_t handshake_ms;  /* deadline of one handshake; 0: 5000 */
    uint32_t pending;      /* the most handshakes at once; 0: 64; at most 256 */
    uint32_t backlog;      /* connections that have proved themselves and wait to be accepted; 0: 128. More are closed */
    size_t max_message;    /* bytes; a longer one is refused: KIN_EPROTO, and its connection ends. 0: 1 GiB */
} kin_listen_options;

/* Listens at `address`:
 *     "name"             a local name: letters, digits, '-', '_' and '.'. On Linux a socket "name" in a directory of this user's
 *                        that only this user can enter ($XDG_RUNTIME_DIR/kin, else /tmp/kin-UID); on Windows the pipe
 *                        \\.\pipe\kin-USER-name that only this user can open. Whoever connects must be the same user
 *     "/path", "./path"  Linux: a socket at that path, for Python's Listener and Client too. It is removed at close
 *     "\\.\pipe\name"    Windows: that pipe
 *     "tcp:host:port"    TCP; host is a name or a number ([..] round an IPv6 one); port 0 takes a free one
 * `key` (copied; 1 byte to 1 MiB) is what both sides must know; KIN_NO_KEY: no handshake, for local names and paths only.
 * What a listener that was killed left at the place is replaced. Closing the listener, or the end of the process, frees it.
 * KIN_EEXIST: somebody listens there; KIN_EPERM; KIN_ENOENT: no such host; KIN_ENOTSUP: built without Mbed TLS; KIN_EINVAL */
KIN_API kin_err kin_listen(kin_listener **listener, const char *address, kin_view key, const kin_listen_options *options);

/* Where it listens, in the form above: with the real port. Valid until close; "" if it is no open listener. */
KIN_API const char *kin_listener_address(const kin_listener *listener);

/* Waits for the next connection that has proved itself; it is the caller's: kin_connection_close. Any number of threads may wait.
 * KIN_ETIMEDOUT; KIN_EINTERRUPTED; KIN_EINVAL, also when it is closed meanwhile. */
KIN_API kin_err kin_listener_accept(kin_listener *listener, kin_connection **connection, int64_t timeout_ms);

/* Stops listening: handshakes and connections that were not accepted are closed, those that were go on. */
KIN_API void kin_listener_close(kin_listener *listener);

/* Connects, and proves to each other to know the key, within `timeout_ms`; but finding a host by its name takes as long as the
 * system takes for it. A listener of Python's makes its handshakes as it accepts, so it may answer late.
 *     a key, but the listener has none    it sends no challenge: KIN_ETIMEDOUT (so give a time-out), or KIN_EAUTH if it sends something else
 *     no key, but the listener has one    KIN_OK here; receiving is KIN_EAUTH, for its challenge is the first message: one that begins
 *                                         with "#CHALLENGE#" and has up to 256 bytes. So let no listener without a key begin like that
 * Messages of up to 1 GiB are accepted from the other side, and sent.
 * KIN_ENOENT: nobody listens there; KIN_EAUTH: the other side does not know the key, or speaks another protocol;
 * KIN_ETIMEDOUT; KIN_EINTERRUPTED; KIN_EPERM: a local name that is another user's; KIN_EPIPE: the other side closed in the
 * middle; KIN_ENOTSUP: built without Mbed TLS */
KIN_API kin_err kin_connect(kin_connection **connection, const char *address, kin_view key, int64_t timeout_ms);

KIN_END

#endif
