/* Placeholders while queues and connections are being written; goes with them. */
#include "error.h"
#include "message.h"

#define PENDING kin__fail(KIN_ENOTSUP, "not written yet")
kin_err kin__queue_export(const kin_queue *queue, os_handle *handles, size_t *count) { (void)queue, (void)handles, (void)count; return PENDING; }
kin_err kin__queue_import(kin_queue **queue, os_handle *handles, size_t count) { (void)queue, (void)handles, (void)count; return PENDING; }
void kin_queue_close(kin_queue *queue) { (void)queue; }
