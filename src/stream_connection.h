/* Connections to other programs: a wire (wire.h) as a kin_connection. */
#ifndef KIN_SRC_STREAM_CONNECTION_H
#define KIN_SRC_STREAM_CONNECTION_H

#include "connection.h"
#include "wire.h"

/* Makes one of a stream, which it takes over if it succeeds. `limit`: bytes of a message; 0: the default. The name is cut
 * to what fits. */
kin_err kin__stream_connection(kin_connection **connection, os_stream *stream, size_t limit, const char *name);
/* It was made without a key: if the first message is a challenge, the other side wants one. Before anybody else has it. */
void kin__stream_without_key(kin_connection *connection);
kin__wire *kin__stream_wire(kin_connection *connection);

#endif
