/* What stream.c and port.c share: making a stream of a pipe or a socket that is connected, and waiting. */
#ifndef KIN_SRC_WIN32_STREAM_H
#define KIN_SRC_WIN32_STREAM_H

#include <winsock2.h>
#include <ws2tcpip.h>

#include "win.h"

#include "../atomic.h"
#include "../session.h"

#define WIN_STREAM_BUFFER 65536u

/* Before anything else here. The error of WSAStartup, or 0. */
int win_streams_begin(void);
/* What is begun on the handle goes on when the thread that began it ends. A second time changes nothing. */
void win_exempt(HANDLE handle);
/* An event for an OVERLAPPED of such a handle: the lowest bit keeps the operation out of the completion port. */
static inline HANDLE win_quiet(HANDLE event) { return (HANDLE)((uintptr_t)event | 1); }
/* A manual-reset event; NULL on failure. */
HANDLE win_new_event(void);

DWORD win_left_ms(uint64_t deadline);
/* Until one of the handles is signalled. KIN_ETIMEDOUT. */
kin_err win_wait_until(const HANDLE *handles, DWORD count, uint64_t deadline);

/* Takes over the pipe (INVALID_HANDLE_VALUE: none), or the socket, if it succeeds. */
kin_err win_stream_new(HANDLE pipe, SOCKET socket, os_stream **stream);

#endif
