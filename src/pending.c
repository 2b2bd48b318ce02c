/* Placeholders while queues and connections are being written; goes with them. */
#include "error.h"
#include "message.h"

#define PENDING kin__fail(KIN_ENOTSUP, "not written yet")
kin_err kin__connection_export(const kin_connection *c, os_handle *handles, size_t *count, uint64_t *side) { (void)c, (void)handles, (void)count, (void)side; return PENDING; }
kin_err kin__connection_import(kin_connection **c, os_handle *handles, size_t count, uint64_t side) { (void)c, (void)handles, (void)count, (void)side; return PENDING; }
void kin_connection_close(kin_connection *c) { (void)c; }

#include "wait.h"
kin_err kin__connection_watch(const kin_connection *c, bool send, kin__watched *watched) { (void)send, (void)watched; return c == NULL ? kin__fail(KIN_EINVAL, "the connection is NULL") : PENDING; }
void kin__connection_arm(const kin_connection *c, bool send) { (void)c, (void)send; }
bool kin__connection_ready(const kin_connection *c, bool send) { (void)c, (void)send; return true; }
kin_err kin__listener_watch(const kin_listener *listener, kin__watched *watched) { (void)watched; return listener == NULL ? kin__fail(KIN_EINVAL, "the listener is NULL") : PENDING; }
void kin__listener_arm(const kin_listener *listener) { (void)listener; }
bool kin__listener_ready(const kin_listener *listener) { (void)listener; return true; }
