/* Descriptors, sockets and HANDLEs for tests of waiting: wait_support_posix.c, wait_support_win32.c. */
#ifndef KIN_TESTS_WAIT_SUPPORT_H
#define KIN_TESTS_WAIT_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two connected stream sockets. */
bool wait_sockets(intptr_t ends[2]);
void wait_socket_close(intptr_t end);
/* Sends, or receives, just so many bytes; may wait. */
bool wait_socket_send(intptr_t end, size_t size);
bool wait_socket_receive(intptr_t end, size_t size);
/* Sends until no more can be sent without waiting; how many bytes that were. The socket waits again afterwards. */
size_t wait_socket_fill(intptr_t end);
/* Whether receiving waits on it; nothing may be there to receive. */
bool wait_socket_waits(intptr_t end);
/* Sees the end of the other side, or an error. */
bool wait_socket_ended(intptr_t end);

/* A HANDLE of an event; `manual`: it stays signalled until it is reset. 0 where there are none. */
intptr_t wait_handle_make(bool manual);
void wait_handle_signal(intptr_t handle);
bool wait_handle_is_signalled(intptr_t handle); /* as WaitForSingleObject says; resets one that is not manual */
void wait_handle_close(intptr_t handle);

/* A descriptor of a regular file; -1 where files are no descriptors of this kind. */
intptr_t wait_open_file(const char *path);
void wait_close_file(intptr_t fd);

#endif
