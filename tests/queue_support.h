/* What the tests of queues share: messages whose bytes tell whether they are whole, and the calls that every test makes. */
#ifndef TEST_QUEUE_SUPPORT_H
#define TEST_QUEUE_SUPPORT_H

#include "crash_support.h"

/* Creates, or fails the test. */
kin_queue *queue_new(kin_queue_options options);

/* Bytes that depend on their place and on `seed`; and whether these are they. */
void queue_fill(void *bytes, size_t size, uint32_t seed);
bool queue_filled(const void *bytes, size_t size, uint32_t seed);

/* Numbers as messages: in the parent, without waiting, or the test fails. */
void queue_put_number(kin_queue *queue, int64_t number);
int64_t queue_get_number(kin_queue *queue);
/* In a child: false if it did not work within a generous time. */
bool queue_send(kin_queue *queue, int64_t number);
bool queue_receive(kin_queue *queue, int64_t *number);

/* The queue is as new: empty, nothing can be got, a number goes through. */
void queue_check_usable(kin_queue *queue);

#endif
