/* Placeholders while queues and connections are being written; goes with them. */
#include "error.h"
#include "message.h"

kin_err kin__connection_import(kin_connection **c, os_handle *handles, size_t count, uint64_t side)
{
    (void)c, (void)handles, (void)count, (void)side;
    return kin__fail(KIN_ENOTSUP, "not written yet");
}
