#include "boost.h"

#include <boost/interprocess/ipc/message_queue.hpp>

using namespace boost::interprocess;

int boost_queue_make(void **queue, const char *name, size_t messages, size_t size)
{
    try {
        *queue = new message_queue(create_only, name, messages, size);
        message_queue::remove(name);
        return 0;
    } catch (...) {
        message_queue::remove(name);
        return -1;
    }
}

int boost_queue_put(void *queue, const void *message, size_t size)
{
    try {
        static_cast<message_queue *>(queue)->send(message, size, 0);
        return 0;
    } catch (...) {
        return -1;
    }
}

int boost_queue_get(void *queue, void *message, size_t size)
{
    try {
        message_queue::size_type got;
        unsigned priority;
        static_cast<message_queue *>(queue)->receive(message, size, got, priority);
        return got == size ? 0 : -1;
    } catch (...) {
        return -1;
    }
}
