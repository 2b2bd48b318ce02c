/* queue, peers: what the system has to carry messages from process to process, and the copy itself.
 *
 *     channel pipe|socketpair|mq rate|trip …
 *     channel futex trip …
 *     channel memcpy SIZE MILLISECONDS
 *
 * pipe: messages of one size and no header, which is the least. With several processes on a side a message must fit in PIPE_BUF.
 * socketpair: SOCK_SEQPACKET of AF_UNIX. mq: POSIX message queue, as long as the system allows everybody.
 * futex: a place for one message and a word to sleep on, which is the least that a round trip of two sleepers can be.
 * memcpy: one process copies from a buffer of its own into a ring of shared memory, as a producer does: the limit of large ones. */
#include "queue.h"

#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct slot {
    _Alignas(64) _Atomic uint32_t full;
    _Alignas(64) char message[];
};

struct end {
    int get, put; /* descriptors, or one message queue */
    size_t size;
    char *message;
    struct slot *slot; /* of a futex */
};

static int give_pipe(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    for (size_t done = 0; done < e->size;) {
        ssize_t n = write(e->put, e->message + done, e->size - done);
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

static int take_pipe(void *o, uint64_t *tag)
{
    struct end *e = o;
    for (size_t done = 0; done < e->size;) {
        ssize_t n = read(e->get, e->message + done, e->size - done);
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return queue_read(e->message, e->size, tag) ? 0 : -1;
}

static void make_pipe(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)name;
    struct end *e = o;
    int fds[2];
    bench_check(size <= PIPE_BUF || consumers == 1, "a pipe shared by several carries no more than PIPE_BUF");
    bench_check(pipe(fds) == 0, "pipe");
    fcntl(fds[0], F_SETPIPE_SZ, (int)queue_capacity(64)); /* the most that everybody may have; else it stays as it is */
    *e = (struct end){fds[0], fds[1], size, queue_buffer(size), NULL};
}

static int give_socket(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return send(e->put, e->message, e->size, MSG_NOSIGNAL) == (ssize_t)e->size ? 0 : -1;
}

static int take_socket(void *o, uint64_t *tag)
{
    struct end *e = o;
    return recv(e->get, e->message, e->size, 0) == (ssize_t)e->size && queue_read(e->message, e->size, tag) ? 0 : -1;
}

static void make_socket(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers, (void)name;
    struct end *e = o;
    int fds[2], room = (int)queue_capacity(size); /* the system cuts it to what it allows */
    bench_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0, "socketpair");
    for (int i = 0; i < 2; i++)
        bench_check(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0, "SO_SNDBUF");
    *e = (struct end){fds[0], fds[1], size, queue_buffer(size), NULL};
}

static int give_mq(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return mq_send(e->put, e->message, e->size, 0);
}

static int take_mq(void *o, uint64_t *tag)
{
    struct end *e = o;
    return mq_receive(e->get, e->message, e->size, NULL) == (ssize_t)e->size && queue_read(e->message, e->size, tag)
               ? 0
               : -1;
}

static long most_messages(void)
{
    long most = 10;
    FILE *f = fopen("/proc/sys/fs/mqueue/msg_max", "r");
    if (f != NULL) {
        bench_check(fscanf(f, "%ld", &most) == 1, "msg_max");
        fclose(f);
    }
    return most;
}

static void make_mq(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers;
    struct end *e = o;
    struct mq_attr a = {.mq_maxmsg = most_messages(), .mq_msgsize = (long)size};
    char path[64];
    if (a.mq_maxmsg > (long)queue_messages(size))
        a.mq_maxmsg = (long)queue_messages(size);
    snprintf(path, sizeof path, "/kin-bench-%ld-%s", (long)getpid(), name);
    mqd_t q = mq_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &a);
    bench_check(q != (mqd_t)-1, "mq_open");
    mq_unlink(path);
    *e = (struct end){q, q, size, queue_buffer(size), NULL};
}

static int give_futex(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    memcpy(e->slot->message, e->message, e->size);
    atomic_store(&e->slot->full, 1);
    return syscall(SYS_futex, &e->slot->full, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 ? -1 : 0;
}

static int take_futex(void *o, uint64_t *tag)
{
    struct end *e = o;
    while (atomic_exchange(&e->slot->full, 0) == 0)
        syscall(SYS_futex, &e->slot->full, FUTEX_WAIT, 0, NULL, NULL, 0);
    memcpy(e->message, e->slot->message, e->size);
    return queue_read(e->message, e->size, tag) ? 0 : -1;
}

static void make_futex(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers, (void)name;
    struct end *e = o;
    *e = (struct end){.size = size, .message = queue_buffer(size), .slot = bench_shared(sizeof *e->slot + size)};
}

/* Copies for `ms`; prints as the programs that move messages do. */
static void copy(size_t size, uint64_t ms)
{
    size_t capacity = queue_capacity(size), at = 0;
    char *to = bench_shared(capacity), *from = queue_buffer(size);
    memset(to, 0, capacity);
    bench_pin(0);
    uint64_t n = 0, began = 0, took = 0, warm = 1;
    for (uint64_t tag = 1; warm || took < ms * 1000000; tag++) {
        queue_write(from, size, tag);
        memcpy(to + at, from, size);
        bench_sink = (uint64_t)to[at];
        at = at + 2 * size <= capacity ? at + size : 0;
        n++;
        if (tag % 64 != 0)
            continue;
        if (warm) {
            warm = tag * size < 8 * capacity;
            n = 0;
            began = bench_now();
        }
        took = bench_now() - began;
    }
    char param[64];
    snprintf(param, sizeof param, "1-1-%zu", size);
    bench_print("queue", "memcpy", param, (double)took / (double)n, "ns");
}

int main(int argc, char **argv)
{
    bench_check(argc > 2, "usage: channel pipe|socketpair|mq|futex " PEER_USAGE " | channel memcpy SIZE MILLISECONDS");
    struct end ends[2];
    struct peer p = {argv[1], {&ends[0], &ends[1]}, make_pipe, NULL, NULL, 0, NULL};
    if (strcmp(p.name, "memcpy") == 0 && argc == 4) {
        copy((size_t)bench_number(argv[2], sizeof(uint64_t), QUEUE_SIZE_MAX), bench_number(argv[3], 1, 30000));
    } else if (strcmp(p.name, "pipe") == 0) {
        peer_run(&p, give_pipe, take_pipe, argc - 2, argv + 2);
    } else if (strcmp(p.name, "socketpair") == 0) {
        p.make = make_socket;
        peer_run(&p, give_socket, take_socket, argc - 2, argv + 2);
    } else if (strcmp(p.name, "futex") == 0) {
        bench_check(strcmp(argv[2], "trip") == 0, "a futex is for round trips");
        p.make = make_futex;
        peer_run(&p, give_futex, take_futex, argc - 2, argv + 2);
    } else {
        bench_check(strcmp(p.name, "mq") == 0, "a channel is a pipe, socketpair, mq, futex or memcpy");
        p.make = make_mq;
        peer_run(&p, give_mq, take_mq, argc - 2, argv + 2);
    }
    return 0;
}
