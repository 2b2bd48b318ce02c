/* queue and queue-trip: messages through a kin_queue, and through a kin_pipe.
 *
 *     queue rate FORM PRODUCERS CONSUMERS SIZE MILLISECONDS [adaptive|spin|parked]
 *     queue trip FORM SIZE TIMES free [adaptive|spin|parked]
 *     queue trip FORM SIZE TIMES parked
 *
 * FORM: plain          put and get
 *       many           put_many and get_many
 *       relaxed        put and get on a queue that keeps each producer's order only
 *       relaxed-many   both
 *       place          reserve and commit, take and done: nothing is copied
 *       place-few      the same, of a queue for about as few messages (51 of 64 bytes) as place has of 1 MB (63)
 *       segment        put and get of messages too large for the queue, which travel in shared memory of their own
 *       pipe           send and receive on a connection
 *
 * The last word is how kin waits: as it is; spinning for long (KIN_SPIN is as large as it gets); never spinning (KIN_SPIN=0). Where
 * each answers only when the other is asleep it never spins. */
#include "queue.h"

#include "../sync/children.h"

#define BATCH 32

enum form { PLAIN, MANY, RELAXED, RELAXED_MANY, PLACE, PLACE_FEW, SEGMENT, PIPE, FORMS };
static const char *const form_names[FORMS] = {"plain", "many",      "relaxed", "relaxed-many",
                                              "place", "place-few", "segment", "pipe"};

/* What a process has of one direction. */
struct end {
    kin_queue *queue;
    kin_connection *connection;
    size_t size;
    char *message;         /* one, or BATCH of them                         */
    kin_view views[BATCH]; /* many: what is kept back, or came and is ahead */
    size_t ready, next;
};

static int is_many(enum form form) { return form == MANY || form == RELAXED_MANY; }

/* ---- the operations ---- */

static int give_plain(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return kin_queue_put(e->queue, e->message, e->size, KIN_FOREVER) == KIN_OK ? 0 : -1;
}

static int take_plain(void *o, uint64_t *tag)
{
    struct end *e = o;
    size_t size;
    kin_err error = kin_queue_get(e->queue, e->message, e->size, &size, KIN_FOREVER);
    if (error == KIN_EPIPE)
        return QUEUE_ENDED;
    return error == KIN_OK && size == e->size && queue_read(e->message, size, tag) ? 0 : -1;
}

static int flush_many(void *o)
{
    struct end *e = o;
    size_t done = 0, n = e->ready;
    e->ready = 0;
    return kin_queue_put_many(e->queue, e->views, n, &done, KIN_FOREVER) == KIN_OK && done == n ? 0 : -1;
}

static int give_many(void *o, uint64_t tag)
{
    struct end *e = o;
    char *message = e->message + e->ready * e->size;
    queue_write(message, e->size, tag);
    e->views[e->ready++] = (kin_view){message, e->size};
    return e->ready < BATCH ? 0 : flush_many(e);
}

static int take_many(void *o, uint64_t *tag)
{
    struct end *e = o;
    if (e->next == e->ready) {
        kin_err error =
            kin_queue_get_many(e->queue, e->message, BATCH * e->size, e->views, BATCH, &e->ready, KIN_FOREVER);
        if (error != KIN_OK)
            return error == KIN_EPIPE ? QUEUE_ENDED : -1;
        e->next = 0;
    }
    const kin_view *v = &e->views[e->next++];
    return v->size == e->size && queue_read(v->data, v->size, tag) ? 0 : -1;
}

/* In place only the first 8 bytes are written and read: nobody should pay for the rest. */
static int give_place(void *o, uint64_t tag)
{
    struct end *e = o;
    kin_message m;
    if (kin_queue_reserve(e->queue, &m, e->size, KIN_FOREVER) != KIN_OK)
        return -1;
    memcpy(m.data, &tag, sizeof tag);
    return kin_queue_commit(e->queue, &m) == KIN_OK ? 0 : -1;
}

static int take_place(void *o, uint64_t *tag)
{
    struct end *e = o;
    kin_message m;
    kin_err error = kin_queue_take(e->queue, &m, KIN_FOREVER);
    if (error != KIN_OK || m.size != e->size)
        return error == KIN_EPIPE ? QUEUE_ENDED : -1;
    memcpy(tag, m.data, sizeof *tag);
    return kin_queue_done(e->queue, &m) == KIN_OK ? 0 : -1;
}

static int give_pipe(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    return kin_connection_send(e->connection, e->message, e->size, KIN_FOREVER) == KIN_OK ? 0 : -1;
}

static int take_pipe(void *o, uint64_t *tag)
{
    struct end *e = o;
    size_t size;
    kin_err error = kin_connection_recv(e->connection, e->message, e->size, &size, KIN_FOREVER);
    if (error == KIN_EPIPE)
        return QUEUE_ENDED;
    return error == KIN_OK && size == e->size && queue_read(e->message, size, tag) ? 0 : -1;
}

/* ---- the queues ---- */

static enum form form_of(const char *name)
{
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(name, form_names[i]) == 0)
            return (enum form)i;
    }
    bench_check(0, "no such form");
    return PLAIN;
}

/* A power of two. In place there is room for more messages of 1 MB, since nobody touches most of it. */
static size_t capacity_of(enum form form, size_t size)
{
    size_t capacity = 4096;
    if (form == SEGMENT)
        return queue_capacity(64);
    if (form != PLACE_FEW && (form != PLACE || size < QUEUE_SIZE_MAX))
        return queue_capacity(size);
    while (2 * capacity <= 64 * (size + 16))
        capacity *= 2;
    return capacity;
}

static kin_queue *make_queue(enum form form, size_t size)
{
    kin_queue *q;
    kin_queue_options options = {.capacity = capacity_of(form, size),
                                 .relaxed = form == RELAXED || form == RELAXED_MANY};
    bench_check(form != SEGMENT || 2 * size > options.capacity, "these messages are not too large for the queue");
    bench_kin(kin_queue_create(&q, &options));
    return q;
}

/* `first` only receives if it is one way. As many bytes as a queue has. */
static void make_pipe(kin_connection **first, kin_connection **second, size_t size, bool one_way)
{
    kin_pipe_options options = {.capacity = queue_capacity(size), .one_way = one_way};
    bench_kin(kin_pipe(first, second, &options));
}

static void prepare(struct end *e, enum form form, size_t size)
{
    e->size = size;
    e->message = queue_buffer(is_many(form) ? BATCH * size : size);
}

/* kin as it is, and what else it is called. */
static void say_subject(char *subject, size_t space, enum form form, const char *wait)
{
    int as_it_is = strcmp(wait, "adaptive") == 0;
    snprintf(subject, space, "kin%s%s%s%s", form == PLAIN ? "" : "-", form == PLAIN ? "" : form_names[form],
             as_it_is ? "" : "-", as_it_is ? "" : wait);
}

/* What a child is passed: the shared memory, the form, its number, and queues or connections. */
struct child {
    kin_segment *segment;
    enum form form;
    unsigned me;
};

static struct child unpack(kin_args *args, struct end *ends, size_t count)
{
    struct child c;
    unsigned form;
    bench_kin(kin_args_get(args, 0, KIN_OUT(&c.segment)));
    bench_kin(kin_args_get(args, 1, KIN_OUT(&form)));
    bench_kin(kin_args_get(args, 2, KIN_OUT(&c.me)));
    c.form = (enum form)form;
    for (size_t i = 0; i < count; i++) {
        ends[i] = (struct end){0};
        bench_kin(kin_args_get(args, 3 + i, c.form == PIPE ? KIN_OUT(&ends[i].connection) : KIN_OUT(&ends[i].queue)));
    }
    return c;
}

/* ---- rate ---- */

static int produce(kin_args *args)
{
    struct end e;
    struct child c = unpack(args, &e, 1);
    struct rate *r = kin_segment_data(c.segment);
    prepare(&e, c.form, r->size);
    bench_pin((int)c.me);
    int last;
    switch (c.form) {
    case MANY:
    case RELAXED_MANY:
        last = rate_produce(r, c.me, &e, give_many, flush_many);
        break;
    case PLACE:
    case PLACE_FEW:
        last = rate_produce(r, c.me, &e, give_place, NULL);
        break;
    case PIPE:
        last = rate_produce(r, c.me, &e, give_pipe, NULL);
        break;
    default:
        last = rate_produce(r, c.me, &e, give_plain, NULL);
        break;
    }
    if (last && c.form != PIPE) /* an end of a pipe is closed when the last process that has it ends */
        bench_kin(kin_queue_shutdown(e.queue));
    return 0;
}

static int consume(kin_args *args)
{
    struct end e;
    struct child c = unpack(args, &e, 1);
    struct rate *r = kin_segment_data(c.segment);
    prepare(&e, c.form, r->size);
    bench_pin((int)c.me + 1);
    switch (c.form) {
    case MANY:
    case RELAXED_MANY:
        rate_consume(r, c.me, &e, take_many);
        break;
    case PLACE:
    case PLACE_FEW:
        rate_consume(r, c.me, &e, take_place);
        break;
    case PIPE:
        rate_consume(r, c.me, &e, take_pipe);
        break;
    default:
        rate_consume(r, c.me, &e, take_plain);
        break;
    }
    return 0;
}

struct filled {
    kin_queue *queue;
    size_t most; /* messages that fit */
};

static double fill(void *o)
{
    const struct filled *f = o;
    return (double)kin_queue_size(f->queue) / (double)f->most;
}

static void rate(enum form form, const char *wait, char **words)
{
    kin_segment *segment = bench_segment(sizeof(struct rate));
    struct rate *r = kin_segment_data(segment);
    rate_shape(r, words);
    uint64_t ms = bench_number(words[3], 1, 30000);
    kin_queue *queue = NULL;
    kin_connection *ends[2] = {NULL, NULL};
    if (form == PIPE)
        make_pipe(&ends[0], &ends[1], r->size, true);
    else
        queue = make_queue(form, r->size);

    kin_process *children[2 * QUEUE_SIDE_MAX];
    pid_t pids[2 * QUEUE_SIDE_MAX];
    unsigned all = r->producers + r->consumers;
    for (unsigned i = 0; i < all; i++) {
        int giver = i < r->producers;
        unsigned me = giver ? i : i - r->producers;
        kin_any passed = form == PIPE ? KIN_ANY(ends[giver]) : KIN_ANY(queue);
        children[i] = bench_start(giver ? produce : consume, KIN_ARGS(segment, (unsigned)form, me, passed));
        pids[i] = (pid_t)kin_process_pid(children[i]);
    }
    kin_connection_close(ends[0]);
    kin_connection_close(ends[1]);
    struct filled filled = {queue, capacity_of(form, r->size) / ((r->size + 31) / 16 * 16)};
    struct rate_result result = rate_measure(r, pids, ms, form == PIPE || form == SEGMENT ? NULL : fill, &filled);
    for (unsigned i = 0; i < all; i++)
        bench_join(children[i]);
    char subject[64];
    say_subject(subject, sizeof subject, form, wait);
    rate_print(r, subject, result);
}

/* ---- trip ---- */

static int answer(kin_args *args)
{
    struct end e[2];
    const char *how;
    int64_t asker;
    uint64_t size;
    struct child c = unpack(args, e, 2);
    bench_kin(kin_args_get(args, 5, KIN_OUT(&how)));
    bench_kin(kin_args_get(args, 6, KIN_OUT(&asker)));
    bench_kin(kin_args_get(args, 7, KIN_OUT(&size)));
    struct trip *t = kin_segment_data(c.segment);
    prepare(&e[0], c.form, size);
    prepare(&e[1], c.form, size);
    bench_place("2cpu", 1);
    int other = roundtrip_other(how, asker);
    trip_line(t, 1);
    if (c.form == PIPE)
        trip_answer(t, &e[0], &e[1], give_pipe, take_pipe, other);
    else if (c.form == PLACE || c.form == PLACE_FEW)
        trip_answer(t, &e[0], &e[1], give_place, take_place, other);
    else
        trip_answer(t, &e[0], &e[1], give_plain, take_plain, other);
    return 0;
}

static void trip(enum form form, const char *wait, char **words)
{
    uint64_t size = bench_number(words[0], sizeof(uint64_t), QUEUE_SIZE_MAX), n = bench_number(words[1], 10, 100000000);
    const char *how = words[2];
    bench_check(!is_many(form), "a round trip is of one message");
    kin_segment *segment = bench_segment(sizeof(struct trip));
    struct trip *t = kin_segment_data(segment);
    struct end e[2] = {{0}};
    kin_any passed[2];
    if (form == PIPE) {
        kin_connection *theirs;
        make_pipe(&e[0].connection, &theirs, size, false);
        e[1].connection = e[0].connection;
        passed[0] = passed[1] = KIN_ANY(theirs);
    } else {
        for (int i = 0; i < 2; i++) {
            e[i].queue = make_queue(form, size);
            passed[i] = KIN_ANY(e[i].queue);
        }
    }
    kin_process *child =
        bench_start(answer, KIN_ARGS(segment, (unsigned)form, 0u, passed[0], passed[1], how, (int64_t)getpid(), size));
    prepare(&e[0], form, size);
    prepare(&e[1], form, size);
    bench_place("2cpu", 0);
    char subject[64];
    say_subject(subject, sizeof subject, form, wait);
    pid_t peer = (pid_t)kin_process_pid(child);
    if (form == PIPE)
        trip_measure(t, &e[0], &e[1], give_pipe, take_pipe, n, how, peer, size, subject);
    else if (form == PLACE || form == PLACE_FEW)
        trip_measure(t, &e[0], &e[1], give_place, take_place, n, how, peer, size, subject);
    else
        trip_measure(t, &e[0], &e[1], give_plain, take_plain, n, how, peer, size, subject);
    bench_join(child);
}

int main(int argc, char **argv)
{
    int is_rate = argc > 1 && strcmp(argv[1], "rate") == 0, words = is_rate ? 7 : 6;
    const char *wait = argc == words + 1 ? argv[words] : "adaptive";
    if (strcmp(wait, "spin") == 0)
        setenv("KIN_SPIN", "1000", 1); /* kin_init reads it */
    else if (strcmp(wait, "parked") == 0 || (argc == words && strcmp(argv[words - 1], "parked") == 0))
        setenv("KIN_SPIN", "0", 1);
    bench_begin(argc, argv);
    bench_check(argc == words || argc == words + 1,
                "usage: queue rate FORM PRODUCERS CONSUMERS SIZE MILLISECONDS [adaptive|spin|parked]\n"
                "       queue trip FORM SIZE TIMES free [adaptive|spin|parked]\n"
                "       queue trip FORM SIZE TIMES parked");
    if (is_rate) {
        rate(form_of(argv[2]), wait, argv + 3);
    } else {
        bench_check(strcmp(argv[1], "trip") == 0, "it is a rate or a trip");
        trip(form_of(argv[2]), wait, argv + 3);
    }
    return 0;
}
