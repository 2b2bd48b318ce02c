/* Placeholders while queues and connections are being written; goes with them. */
#include "error.h"
#include "message.h"

#define PENDING kin__fail(KIN_ENOTSUP, "not written yet")
kin_err kin__connection_export(const kin_connection *c, os_handle *handles, size_t *count, uint64_t *side) { (void)c, (void)handles, (void)count, (void)side; return PENDING; }
kin_err kin__connection_import(kin_connection **c, os_handle *handles, size_t count, uint64_t side) { (void)c, (void)handles, (void)count, (void)side; return PENDING; }
void kin_connection_close(kin_connection *c) { (void)c; }

