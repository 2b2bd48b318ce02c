/* Streams: sockets that never block, waited for with poll. Whoever waits is let go by shutting the socket down, which any thread
 * may do at any time; a descriptor is closed only when no thread uses it. */
#include "stream.h"

#include "../atomic.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

struct os_stream {
    int fd;
    uint32_t cancelled;
};

/* ---- waiting ---- */

int kin__left_ms(uint64_t deadline)
{
    if (deadline == OS_NEVER)
        return -1;
    uint64_t now = uv_hrtime();
    if (now >= deadline)
        return 0;
    uint64_t ms = (deadline - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

kin_err kin__wait_for_socket(int fd, short events, uint64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int left = kin__left_ms(deadline);
        int n = TRY("poll", -1, ENOMEM, poll(&p, 1, left));
        if (n > 0)
            return KIN_OK;
        if (n < 0 && errno != EINTR)
            return kin__fail_errno("poll", "cannot wait for a socket");
        if (n == 0 && left == 0)
            return kin__fail(KIN_ETIMEDOUT, "nothing happened on the socket in time");
    }
}

/* ---- streams ---- */

kin_err kin__stream_of(int fd, os_stream **stream)
{
    os_stream *s = calloc(1, sizeof *s);
    if (s == NULL) {
        (void)close(fd);
        return kin__fail(KIN_ENOMEM, "no memory for a connection");
    }
    s->fd = fd;
    *stream = s;
    return KIN_OK;
}

bool os_stream_has_messages(const os_stream *stream)
{
    (void)stream;
    return false;
}

/* The other end is gone: closed, or out of reach for so long that the system has given it up. */
static bool is_end(int number)
{
    switch (number) {
    case EPIPE:
    case ECONNRESET:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

static kin_err failed(const char *call, const char *what)
{
    kin_err err = kin__fail_errno(call, "%s", what);
    return is_end(errno) ? kin__fail_in(KIN_EPIPE, "the other end is closed") : err;
}

static kin_err cancelled(void)
{
    return kin__fail(KIN_ECANCELLED, "the connection was cancelled");
}

kin_err os_stream_read(os_stream *stream, void *buffer, size_t space, size_t *got, bool *whole)
{
    ssize_t n;
    do {
        n = TRY("recv", -1, ENOBUFS, recv(stream->fd, buffer, space, 0));
    } while (n < 0 && errno == EINTR);
    *got = 0;
    *whole = false;
    if (kin__load32(&stream->cancelled) != 0)
        return cancelled();
    if (n == 0)
        return kin__fail(KIN_EPIPE, "the other end is closed");
    if (n < 0 && errno != EAGAIN)
        return failed("recv", "cannot receive");
    *got = n > 0 ? (size_t)n : 0;
    return KIN_OK;
}

kin_err os_stream_write(os_stream *stream, const void *head, size_t head_size, const void *data, size_t size, size_t *taken,
                        bool *any)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)head, head_size}, {(void *)(uintptr_t)data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;
    do {
        n = TRY("sendmsg", -1, ENOBUFS, sendmsg(stream->fd, &message, MSG_NOSIGNAL));
    } while (n < 0 && errno == EINTR);
    *taken = 0;
    *any = false;
    if (kin__load32(&stream->cancelled) != 0)
        return cancelled();
    if (n < 0 && errno != EAGAIN)
        return failed("sendmsg", "cannot send");
    *taken = n > 0 ? (size_t)n : 0;
    *any = n > 0;
    return KIN_OK;
}

kin_err os_stream_wait(os_stream *stream, os_stream_for what, uint64_t deadline)
{
    if (what == OS_STREAM_SENT) /* what a socket took arrives */
        return KIN_OK;
    return kin__wait_for_socket(stream->fd, what == OS_STREAM_READ ? POLLIN : POLLOUT, deadline);
}

bool os_stream_source(os_stream *stream, os_stream_for what, os_source *source)
{
    *source = (os_source){.source = stream->fd, .events = what == OS_STREAM_READ ? OS_READABLE : OS_WRITABLE};
    return what != OS_STREAM_SENT;
}

void os_stream_cancel(os_stream *stream)
{
    kin__store32(&stream->cancelled, 1);
    (void)shutdown(stream->fd, SHUT_RDWR);
}

void os_stream_close(os_stream *stream)
{
    if (stream == NULL)
        return;
    (void)close(stream->fd);
    free(stream);
}
