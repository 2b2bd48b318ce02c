/* Descriptors and streams, and channels that carry descriptors to a process that runs already. Every descriptor made
 * here is close-on-exec. A message whose descriptors did not all arrive is no message: those that did are closed. */
#include "posix.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void os_handle_close(os_handle handle)
{
    if (handle != OS_NO_HANDLE)
        (void)close((int)handle);
}

kin_err os_handle_duplicate(os_handle handle, os_handle *copy)
{
    if (handle < 0 || handle > INT32_MAX)
        return kin__fail(KIN_EINVAL, "%lld is no descriptor", (long long)handle);
    int fd;
    do {
        fd = TRY("fcntl", -1, EMFILE, fcntl((int)handle, F_DUPFD_CLOEXEC, 3));
    } while (kin__try_again(fd));
    if (fd < 0)
        return kin__fail_errno("fcntl F_DUPFD_CLOEXEC", "cannot duplicate descriptor %d", (int)handle);
    *copy = fd;
    return KIN_OK;
}

kin_err os_handle_from_fd(int fd, os_handle *copy)
{
    return os_handle_duplicate(fd, copy);
}

kin_err os_handle_to_fd(os_handle handle, int *fd)
{
    *fd = (int)handle;
    return KIN_OK;
}

kin_err os_handle_from_file(FILE *file, os_handle *copy, uint32_t *mode)
{
    int fd = fileno(file);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags < 0)
        return kin__fail_errno("fileno", "the FILE has no descriptor");
    if (fflush(file) != 0 && (flags & O_ACCMODE) != O_RDONLY)
        return kin__fail_errno("fflush", "cannot write what is buffered in the FILE");
    *mode = (uint32_t)(flags & (O_ACCMODE | O_APPEND));
    return os_handle_duplicate(fd, copy);
}

kin_err os_handle_to_file(os_handle handle, uint32_t mode, FILE **file)
{
    bool append = (mode & O_APPEND) != 0;
    const char *how = (mode & O_ACCMODE) == O_RDONLY   ? "r"
                      : (mode & O_ACCMODE) == O_WRONLY ? (append ? "a" : "w") /* w does not truncate in fdopen */
                                                       : (append ? "a+" : "r+");
    FILE *f = TRY("fdopen", NULL, ENOMEM, fdopen((int)handle, how));
    if (f == NULL)
        return kin__fail_errno("fdopen", "cannot make a FILE of descriptor %d", (int)handle);
    *file = f;
    return KIN_OK;
}

/* ---- channels ---- */

kin_err os_channel_create(os_handle *receiver, os_handle *sender)
{
    int ends[2];
    if (TRY("socketpair", -1, EMFILE, kin__socket_pair(ends)) != 0)
        return kin__fail_errno("socketpair", "cannot create a channel");
    *receiver = ends[0];
    *sender = ends[1];
    return KIN_OK;
}

kin_err os_channel_send(os_handle sender, int64_t peer, const void *bytes, size_t size, const os_handle *handles, size_t count)
{
    (void)peer;
    if (size == 0 || size > OS_CHANNEL_BYTES || count > OS_CHANNEL_HANDLES)
        return kin__fail(KIN_EINVAL, "a message of %zu bytes and %zu handles", size, count);
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(OS_CHANNEL_HANDLES * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        int fds[OS_CHANNEL_HANDLES];
        for (size_t i = 0; i < count; i++)
            fds[i] = (int)handles[i];
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    ssize_t n;
    do {
        n = TRY("sendmsg", -1, ENOBUFS, sendmsg((int)sender, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? KIN_OK : kin__fail_errno("sendmsg", "cannot send over a channel");
}

static kin_err wait_readable(int fd, int64_t timeout_ms)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int64_t left = timeout_ms;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, left < 0 ? -1 : left > INT32_MAX ? INT32_MAX : (int)left);
        if (n > 0)
            return KIN_OK;
        if (n < 0 && errno != EINTR)
            return kin__fail_errno("poll", "cannot wait for a channel");
        if (timeout_ms >= 0) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            left = timeout_ms - ((int64_t)(now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
            if (left <= 0)
                return kin__fail(KIN_ETIMEDOUT, "nothing came over the channel within %lld ms", (long long)timeout_ms);
        }
    }
}

kin_err os_channel_receive(os_handle receiver, void *bytes, size_t space, size_t *size, os_handle *handles, size_t handle_space,
                           size_t *count, int64_t timeout_ms)
{
    kin_err err = wait_readable((int)receiver, timeout_ms);
    if (err != KIN_OK)
        return err;
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(OS_CHANNEL_HANDLES * sizeof(int))];
    } control;
    struct iovec part = {bytes, space};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n;
    do {
        n = TRY("recvmsg", -1, ENOMEM, recvmsg((int)receiver, &message, MSG_CMSG_CLOEXEC));
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return kin__fail_errno("recvmsg", "cannot receive over a channel");
    if (n == 0)
        return kin__fail(KIN_EPIPE, "the sender of the channel is gone");
    size_t got = 0;
    bool bad = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (bad || got == handle_space) {
                bad = true;
                (void)close(fd);
            } else {
                handles[got++] = fd;
            }
        }
    }
    if (bad) {
        while (got > 0)
            (void)close((int)handles[--got]);
        return kin__fail(KIN_EPROTO, "a message was larger than expected, or its descriptors were lost (is the descriptor limit reached?)");
    }
    *size = (size_t)n;
    *count = got;
    return KIN_OK;
}
