/* What tests of waiting ask of Windows. */
#include "os.h"

#if OS_WINDOWS

#include "wait_support.h"

#include <winsock2.h>
#include <ws2tcpip.h>

#include <windows.h>

/* By TCP over the loopback: there are no other pairs. */
bool wait_sockets(intptr_t ends[2])
{
    WSADATA data;
    static bool begun;
    if (!begun && WSAStartup(MAKEWORD(2, 2), &data) != 0)
        return false;
    begun = true;
    struct sockaddr_in where = {.sin_family = AF_INET};
    int size = sizeof where, at_once = 1;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SOCKET door = socket(AF_INET, SOCK_STREAM, 0), one = socket(AF_INET, SOCK_STREAM, 0), other = INVALID_SOCKET;
    if (bind(door, (struct sockaddr *)&where, size) == 0 && listen(door, 1) == 0 && getsockname(door, (struct sockaddr *)&where, &size) == 0 &&
        connect(one, (struct sockaddr *)&where, size) == 0)
        other = accept(door, NULL, NULL);
    (void)closesocket(door);
    (void)setsockopt(one, IPPROTO_TCP, TCP_NODELAY, (char *)&at_once, sizeof at_once);
    (void)setsockopt(other, IPPROTO_TCP, TCP_NODELAY, (char *)&at_once, sizeof at_once);
    ends[0] = (intptr_t)one;
    ends[1] = (intptr_t)other;
    return other != INVALID_SOCKET;
}

void wait_socket_close(intptr_t end)
{
    (void)closesocket((SOCKET)end);
}

bool wait_socket_send(intptr_t end, size_t size)
{
    char bytes[4096] = {0};
    while (size > 0) {
        int n = send((SOCKET)end, bytes, (int)(size < sizeof bytes ? size : sizeof bytes), 0);
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
        int n = recv((SOCKET)end, bytes, (int)(size < sizeof bytes ? size : sizeof bytes), 0);
        if (n <= 0)
            return false;
        size -= (size_t)n;
    }
    return true;
}

static void set_waiting(intptr_t end, bool waits)
{
    u_long not_blocking = !waits;
    (void)ioctlsocket((SOCKET)end, FIONBIO, &not_blocking);
}

size_t wait_socket_fill(intptr_t end)
{
    char bytes[4096] = {0};
    size_t all = 0;
    set_waiting(end, false);
    for (int full = 0; full < 4; full++) { /* what is sent makes room once it has arrived, a little later */
        for (int n; (n = send((SOCKET)end, bytes, sizeof bytes, 0)) > 0; full = 0)
            all += (size_t)n;
        Sleep(5);
    }
    set_waiting(end, true);
    return all;
}

/* The mode cannot be asked for: receives for a moment. */
bool wait_socket_waits(intptr_t end)
{
    DWORD ms = 20, for_ever = 0;
    char byte;
    (void)setsockopt((SOCKET)end, SOL_SOCKET, SO_RCVTIMEO, (char *)&ms, sizeof ms);
    int n = recv((SOCKET)end, &byte, 1, 0), error = WSAGetLastError();
    (void)setsockopt((SOCKET)end, SOL_SOCKET, SO_RCVTIMEO, (char *)&for_ever, sizeof for_ever);
    return n < 0 && error == WSAETIMEDOUT;
}

bool wait_socket_ended(intptr_t end)
{
    char byte;
    return recv((SOCKET)end, &byte, 1, 0) <= 0;
}

intptr_t wait_handle_make(bool manual)
{
    return (intptr_t)CreateEventW(NULL, manual, FALSE, NULL);
}

void wait_handle_signal(intptr_t handle)
{
    (void)SetEvent((HANDLE)handle);
}

bool wait_handle_is_signalled(intptr_t handle)
{
    return WaitForSingleObject((HANDLE)handle, 0) == WAIT_OBJECT_0;
}

void wait_handle_close(intptr_t handle)
{
    (void)CloseHandle((HANDLE)handle);
}

intptr_t wait_open_file(const char *path)
{
    (void)path;
    return -1;
}

void wait_close_file(intptr_t fd)
{
    (void)fd;
}

#endif
