/* What peers/boost.c needs of Boost.Interprocess, in C. Each gives 0, or -1. */
#ifndef BENCH_BOOST_H
#define BENCH_BOOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Makes a message_queue and removes its name, which the caller chose; it lives on in the memory of this process and of those
 * it forks. */
int boost_queue_make(void **queue, const char *name, size_t messages, size_t size);
int boost_queue_put(void *queue, const void *message, size_t size);
int boost_queue_get(void *queue, void *message, size_t size);

#ifdef __cplusplus
}
#endif

#endif
