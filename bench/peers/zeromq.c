/* queue, peer: ZeroMQ over ipc.
 *
 *     zeromq push rate …          PUSH and PULL
 *     zeromq pair|req trip …      PAIR, or REQ and REP
 *
 * Each consumer has a socket of its own, and all producers connect to each. The threads of ZeroMQ may use all CPUs. */
#include "queue.h"

#include <zmq.h>

#define IDLE_MS 300 /* nothing has come for so long: the producers have ended */

struct end {
    int first, second; /* kinds of sockets: of who gives first, and of the other, who binds */
    unsigned consumers;
    int messages; /* kept at each side, the most */
    size_t size;
    char *message;
    char *directory;
    void *context, *socket;
};

static int give(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return zmq_send(e->socket, e->message, e->size, 0) == (int)e->size ? 0 : -1;
}

static int take(void *o, uint64_t *tag)
{
    struct end *e = o;
    int n = zmq_recv(e->socket, e->message, e->size, 0);
    if (n < 0 && zmq_errno() == EAGAIN)
        return QUEUE_ENDED;
    return n == (int)e->size && queue_read(e->message, e->size, tag) ? 0 : -1;
}

static void make(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)name;
    struct end *e = o;
    static char directory[] = "/tmp/kin-bench-XXXXXX";
    bench_check(mkdtemp(directory) != NULL, "mkdtemp");
    e->consumers = consumers;
    e->messages = (int)queue_messages(size);
    e->size = size;
    e->message = queue_buffer(size);
    e->directory = directory;
}

static void where(const struct end *e, unsigned consumer, char *text, size_t space)
{
    snprintf(text, space, "ipc://%s/%u", e->directory, consumer);
}

static void set(void *socket, int option, int value)
{
    bench_check(zmq_setsockopt(socket, option, &value, sizeof value) == 0, "zmq_setsockopt");
}

static void open_end(void *o, int giver, unsigned me)
{
    struct end *e = o;
    char address[128];
    e->context = zmq_ctx_new();
    bench_check(e->context != NULL, "zmq_ctx_new");
    e->socket = zmq_socket(e->context, giver ? e->first : e->second);
    bench_check(e->socket != NULL, "zmq_socket");
    set(e->socket, ZMQ_SNDHWM, e->messages);
    set(e->socket, ZMQ_RCVHWM, e->messages);
    set(e->socket, ZMQ_RECONNECT_IVL, 1);
    if (giver) {
        for (unsigned i = 0; i < e->consumers; i++) {
            where(e, i, address, sizeof address);
            bench_check(zmq_connect(e->socket, address) == 0, "zmq_connect");
        }
        return;
    }
    if (e->second == ZMQ_PULL)
        set(e->socket, ZMQ_RCVTIMEO, IDLE_MS);
    where(e, me, address, sizeof address);
    bench_check(zmq_bind(e->socket, address) == 0, "zmq_bind");
}

/* Waits until all is sent. */
static void close_end(void *o)
{
    struct end *e = o;
    zmq_close(e->socket);
    zmq_ctx_term(e->context);
}

int main(int argc, char **argv)
{
    bench_check(argc > 2, "usage: zeromq push|pair|req " PEER_USAGE);
    struct end end = {.first = ZMQ_PUSH, .second = ZMQ_PULL};
    struct peer p = {"zeromq", {&end, &end}, make, open_end, NULL, 1, close_end};
    if (strcmp(argv[1], "push") == 0) {
        bench_check(strcmp(argv[2], "rate") == 0, "PUSH and PULL go one way");
    } else if (strcmp(argv[1], "pair") == 0) {
        bench_check(strcmp(argv[2], "trip") == 0, "PAIR is for one and one");
        end.first = end.second = ZMQ_PAIR;
    } else {
        bench_check(strcmp(argv[1], "req") == 0 && strcmp(argv[2], "trip") == 0, "REQ and REP go there and back");
        end.first = ZMQ_REQ;
        end.second = ZMQ_REP;
        p.name = "zeromq-req";
    }
    peer_run(&p, give, take, argc - 2, argv + 2);
    /* The children have ended, and with them their sockets. */
    char path[128];
    for (unsigned i = 0; i < end.consumers; i++) {
        snprintf(path, sizeof path, "%s/%u", end.directory, i);
        unlink(path);
    }
    rmdir(end.directory);
    return 0;
}
