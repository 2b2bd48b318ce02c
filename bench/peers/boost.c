/* queue, peer: Boost.Interprocess's message_queue.
 *
 *     boost rate|trip … */
#include "boost.h"
#include "queue.h"

struct end {
    void *queue;
    size_t size;
    char *message;
};

static int give(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return boost_queue_put(e->queue, e->message, e->size);
}

static int take(void *o, uint64_t *tag)
{
    struct end *e = o;
    return boost_queue_get(e->queue, e->message, e->size) == 0 && queue_read(e->message, e->size, tag) ? 0 : -1;
}

static void make(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers;
    struct end *e = o;
    char unique[64];
    snprintf(unique, sizeof unique, "kin-bench-%ld-%s", (long)getpid(), name);
    *e = (struct end){NULL, size, queue_buffer(size)};
    bench_check(boost_queue_make(&e->queue, unique, queue_messages(size), size) == 0, "message_queue");
}

int main(int argc, char **argv)
{
    struct end ends[2];
    struct peer p = {"boost", {&ends[0], &ends[1]}, make, NULL, NULL, 0, NULL};
    peer_run(&p, give, take, argc - 1, argv + 1);
    return 0;
}
