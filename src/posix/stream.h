/* What stream.c and port.c share. */
#ifndef KIN_SRC_POSIX_STREAM_H
#define KIN_SRC_POSIX_STREAM_H

#include "posix.h"

/* Makes a stream of a connected socket that does not block. Takes the descriptor over, also on failure. */
kin_err kin__stream_of(int fd, os_stream **stream);
/* How long poll may wait; rounded up, so that it does not return just before the deadline. -1: for ever. */
int kin__left_ms(uint64_t deadline);
/* Until poll sees one of the events. KIN_ETIMEDOUT. */
kin_err kin__wait_for_socket(int fd, short events, uint64_t deadline);

#endif
