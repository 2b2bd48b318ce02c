/* queue, peers: rings in shared memory.
 *
 *     ring spsc|vyukov|robust rate|trip …
 *
 * spsc: a ring of bytes for one producer and one consumer, each with a copy of the other's index: the limit. It knows nothing of
 * processes that die, of sleeping, or of a second producer.
 * vyukov: D. Vyukov's bounded queue of cells for many producers and consumers. A process that dies between its claim of a cell
 * and its release of it stops the others for ever: the uncrashable reference.
 * robust: a ring of bytes under a robust pthread mutex.
 *
 * Who has to wait looks again without a system call for a while, then yields; nobody sleeps. */
#include "mutex.h"
#include "queue.h"

#define RING_SKIP UINT64_MAX /* instead of a size: the next message is at the beginning */
#define RING_LOOKS 100       /* before it yields */

static inline void wait_a_little(unsigned *turns)
{
    if (++*turns > RING_LOOKS)
        sched_yield();
    else
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Shared. Positions count bytes (spsc, robust) or messages (vyukov) and never go back. */
struct ring {
    _Alignas(64) _Atomic uint64_t tail; /* where the next is put */
    _Alignas(64) _Atomic uint64_t head; /* where the next is got */
    _Alignas(64) pthread_mutex_t mutex;
    _Alignas(64) char data[];
};

struct end {
    struct ring *ring;
    size_t capacity; /* a power of two: bytes, or cells */
    size_t size;     /* of a message */
    size_t stride;   /* of a cell    */
    uint64_t seen;   /* the other side's position, as last seen */
    char *message;
};

/* ---- a ring of bytes: a message is its size, 8 bytes, and its bytes, in one piece ---- */

static size_t room_for(size_t size) { return (size + 15) / 8 * 8; }

/* The bytes that a message takes at `at`, with those left over at the end of the ring if it does not fit there. */
static inline uint64_t needed(const struct end *e, uint64_t at, size_t size)
{
    size_t left = e->capacity - (at & (e->capacity - 1));
    return room_for(size) <= left ? room_for(size) : left + room_for(size);
}

static inline void write_at(const struct end *e, uint64_t at, const char *message, uint64_t size)
{
    char *p = e->ring->data + (at & (e->capacity - 1));
    if (needed(e, at, size) != room_for(size)) {
        memcpy(p, &(uint64_t){RING_SKIP}, sizeof(uint64_t));
        p = e->ring->data;
    }
    memcpy(p, &size, sizeof size);
    memcpy(p + sizeof size, message, size);
}

/* Gives what the message takes. */
static inline uint64_t read_at(const struct end *e, uint64_t at, char *message)
{
    const char *p = e->ring->data + (at & (e->capacity - 1));
    uint64_t size;
    memcpy(&size, p, sizeof size);
    if (size == RING_SKIP) {
        p = e->ring->data;
        memcpy(&size, p, sizeof size);
    }
    bench_check(size <= e->size, "a size in a ring");
    memcpy(message, p + sizeof size, size);
    return needed(e, at, size);
}

static int give_spsc(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    uint64_t tail = atomic_load_explicit(&e->ring->tail, memory_order_relaxed), end = tail + needed(e, tail, e->size);
    for (unsigned turns = 0; end - e->seen > e->capacity; wait_a_little(&turns)) {
        e->seen = atomic_load_explicit(&e->ring->head, memory_order_acquire);
        if (end - e->seen <= e->capacity)
            break;
    }
    write_at(e, tail, e->message, e->size);
    atomic_store_explicit(&e->ring->tail, end, memory_order_release);
    return 0;
}

static int take_spsc(void *o, uint64_t *tag)
{
    struct end *e = o;
    uint64_t head = atomic_load_explicit(&e->ring->head, memory_order_relaxed);
    for (unsigned turns = 0; head == e->seen; wait_a_little(&turns)) {
        e->seen = atomic_load_explicit(&e->ring->tail, memory_order_acquire);
        if (head != e->seen)
            break;
    }
    uint64_t took = read_at(e, head, e->message);
    atomic_store_explicit(&e->ring->head, head + took, memory_order_release);
    return queue_read(e->message, e->size, tag) ? 0 : -1;
}

/* ---- the same under a mutex ---- */

static int give_robust(void *o, uint64_t tag)
{
    struct end *e = o;
    queue_write(e->message, e->size, tag);
    for (unsigned turns = 0;; wait_a_little(&turns)) {
        int bad = bench_take_mutex(&e->ring->mutex);
        uint64_t tail = atomic_load_explicit(&e->ring->tail, memory_order_relaxed),
                 end = tail + needed(e, tail, e->size);
        int room = end - atomic_load_explicit(&e->ring->head, memory_order_relaxed) <= e->capacity;
        if (room) {
            write_at(e, tail, e->message, e->size);
            atomic_store_explicit(&e->ring->tail, end, memory_order_relaxed);
        }
        bad |= bench_give_mutex(&e->ring->mutex);
        if (room || bad)
            return bad;
    }
}

static int take_robust(void *o, uint64_t *tag)
{
    struct end *e = o;
    for (unsigned turns = 0;; wait_a_little(&turns)) {
        int bad = bench_take_mutex(&e->ring->mutex);
        uint64_t head = atomic_load_explicit(&e->ring->head, memory_order_relaxed);
        int any = head != atomic_load_explicit(&e->ring->tail, memory_order_relaxed);
        if (any)
            atomic_store_explicit(&e->ring->head, head + read_at(e, head, e->message), memory_order_relaxed);
        bad |= bench_give_mutex(&e->ring->mutex);
        if (bad)
            return -1;
        if (any)
            return queue_read(e->message, e->size, tag) ? 0 : -1;
    }
}

/* ---- a ring of cells: who may use one next is in its turn ---- */

struct cell {
    _Atomic uint64_t turn; /* its position: to be put; that + 1: to be got */
    char message[];
};

static inline struct cell *cell_at(const struct end *e, uint64_t position)
{
    return (struct cell *)(e->ring->data + (position & (e->capacity - 1)) * e->stride);
}

/* Claims the next cell of a side whose turn it is, and gives its position. */
static inline struct cell *claim(struct end *e, _Atomic uint64_t *side, uint64_t ahead, uint64_t *position)
{
    uint64_t at = atomic_load_explicit(side, memory_order_relaxed);
    for (unsigned turns = 0;;) {
        struct cell *c = cell_at(e, at);
        int64_t late = (int64_t)(atomic_load_explicit(&c->turn, memory_order_acquire) - (at + ahead));
        if (late == 0) {
            if (atomic_compare_exchange_weak_explicit(side, &at, at + 1, memory_order_relaxed, memory_order_relaxed)) {
                *position = at;
                return c;
            }
        } else {
            if (late < 0) /* full, or empty */
                wait_a_little(&turns);
            at = atomic_load_explicit(side, memory_order_relaxed);
        }
    }
}

static int give_vyukov(void *o, uint64_t tag)
{
    struct end *e = o;
    uint64_t at;
    queue_write(e->message, e->size, tag);
    struct cell *c = claim(e, &e->ring->tail, 0, &at);
    memcpy(c->message, e->message, e->size);
    atomic_store_explicit(&c->turn, at + 1, memory_order_release);
    return 0;
}

static int take_vyukov(void *o, uint64_t *tag)
{
    struct end *e = o;
    uint64_t at;
    struct cell *c = claim(e, &e->ring->head, 1, &at);
    memcpy(e->message, c->message, e->size);
    atomic_store_explicit(&c->turn, at + e->capacity, memory_order_release);
    return queue_read(e->message, e->size, tag) ? 0 : -1;
}

/* ---- */

static double fill(void *o)
{
    struct end *e = o;
    uint64_t head = atomic_load(&e->ring->head), tail = atomic_load(&e->ring->tail);
    return tail > head ? (double)(tail - head) / (double)e->capacity : 0;
}

static void make_bytes(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers, (void)name;
    struct end *e = o;
    *e = (struct end){.capacity = queue_capacity(size), .size = size, .message = queue_buffer(size)};
    e->ring = bench_shared(sizeof *e->ring + e->capacity);
    memset(e->ring->data, 0, e->capacity);
    bench_mutex(&e->ring->mutex, "robust");
}

static void make_cells(void *o, size_t size, unsigned consumers, const char *name)
{
    (void)consumers, (void)name;
    struct end *e = o;
    *e = (struct end){.capacity = 1, .size = size, .stride = room_for(size), .message = queue_buffer(size)};
    while (2 * e->capacity * e->stride <= queue_capacity(size))
        e->capacity *= 2;
    e->ring = bench_shared(sizeof *e->ring + e->capacity * e->stride);
    memset(e->ring->data, 0, e->capacity * e->stride);
    for (uint64_t i = 0; i < e->capacity; i++)
        atomic_store(&cell_at(e, i)->turn, i);
}

int main(int argc, char **argv)
{
    bench_check(argc > 2, "usage: ring spsc|vyukov|robust " PEER_USAGE);
    struct end ends[2];
    struct peer p = {argv[1], {&ends[0], &ends[1]}, make_bytes, NULL, fill, 0, NULL};
    if (strcmp(p.name, "spsc") == 0) {
        bench_check(strcmp(argv[2], "rate") != 0 || (argc > 4 && argv[3][0] + argv[4][0] == '1' + '1'),
                    "spsc is for one and one");
        peer_run(&p, give_spsc, take_spsc, argc - 2, argv + 2);
    } else if (strcmp(p.name, "vyukov") == 0) {
        p.make = make_cells;
        peer_run(&p, give_vyukov, take_vyukov, argc - 2, argv + 2);
    } else {
        bench_check(strcmp(p.name, "robust") == 0, "a ring is spsc, vyukov or robust");
        peer_run(&p, give_robust, take_robust, argc - 2, argv + 2);
    }
    return 0;
}
