/* What tests of waiting ask of Linux. */
#include "os.h"

#if !OS_WINDOWS

#include "wait_support.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

bool wait_sockets(intptr_t ends[2])
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return false;
    ends[0] = fds[0];
    ends[1] = fds[1];
    return true;
}

void wait_socket_close(intptr_t end)
{
    (void)close((int)end);
}

bool wait_socket_send(intptr_t end, size_t size)
{
    char bytes[4096] = {0};
    while (size > 0) {
        ssize_t n = send((int)end, bytes, size < sizeof bytes ? size : sizeof bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        size -= (size_t)n;
    }
    return true;
}

bool wait_socket_receive(intptr_t end, size_t size)
{
    char bytes[4096];
    while (size > 0) {
        ssize_t n = recv((int)end, bytes, size < sizeof bytes ? size : sizeof bytes, 0);
        if (n <= 0)
            return false;
        size -= (size_t)n;
    }
    return true;
}

size_t wait_socket_fill(intptr_t end)
{
    char bytes[4096] = {0};
    size_t all = 0;
    for (ssize_t n; (n = send((int)end, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
        all += (size_t)n;
    return all;
}

bool wait_socket_waits(intptr_t end)
{
    return (fcntl((int)end, F_GETFL) & O_NONBLOCK) == 0;
}

bool wait_socket_ended(intptr_t end)
{
    char byte;
    return recv((int)end, &byte, 1, 0) <= 0;
}

intptr_t wait_handle_make(bool manual)
{
    (void)manual;
    return 0;
}

void wait_handle_signal(intptr_t handle)
{
    (void)handle;
}

bool wait_handle_is_signalled(intptr_t handle)
{
    (void)handle;
    return false;
}

void wait_handle_close(intptr_t handle)
{
    (void)handle;
}

intptr_t wait_open_file(const char *path)
{
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

void wait_close_file(intptr_t fd)
{
    (void)close((int)fd);
}

#endif
