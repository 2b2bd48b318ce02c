/* Placeholders while queues and connections are being written; goes with them. */
#include "error.h"
#include "message.h"

#define PENDING kin__fail(KIN_ENOTSUP, "not written yet")
kin_err kin__queue_watch(const kin_queue *queue, bool put, kin__watched *watched) { (void)queue, (void)put, (void)watched; return PENDING; }
void kin__queue_arm(const kin_queue *queue, bool put) { (void)queue, (void)put; }
bool kin__queue_ready(const kin_queue *queue, bool put) { (void)queue, (void)put; return true; }
kin_err kin__connection_import(kin_connection **c, os_handle *handles, size_t count, uint64_t side) { (void)c, (void)handles, (void)count, (void)side; return PENDING; }
