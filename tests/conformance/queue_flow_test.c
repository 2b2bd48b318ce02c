/* @ctest TIMEOUT 120 */
/* kin/queue.h: what producers and consumers in several processes and threads see of each other: order, waiting, ends. */
#include "queue_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { MOST_SIDES = 4, LOG = 20000 };

typedef struct entry {
    int32_t producer, number;
} entry;

struct shared {
    uint32_t started, put[MOST_SIDES], got[MOST_SIDES], logged;
    int64_t next; /* under put_lock */
    kin_lock put_lock, get_lock;
    entry logs[MOST_SIDES][LOG];
};

static kin_segment *segment;
static struct shared *shared;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->put_lock, NULL));
    check(kin_lock_init(&shared->get_lock, NULL));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static bool asleep(void *arg) { return crash_asleep(*(const int64_t *)arg) > 0; }

static bool until_asleep(const kin_process *process)
{
    int64_t pid = kin_process_pid(process);
    return crash_until(asleep, &pid);
}

/* ---- order ---- */

/* A message: an entry, and then so many bytes that depend on it. */
static size_t compose(char *bytes, entry e, size_t most)
{
    uint32_t seed = (uint32_t)e.number * 16 + (uint32_t)e.producer;
    size_t more = seed * 2654435761u % (most + 1);
    memcpy(bytes, &e, sizeof e);
    queue_fill(bytes + sizeof e, more, seed);
    return sizeof e + more;
}

static bool is_whole(const char *bytes, size_t size, entry *e, size_t most)
{
    char expected[4096];
    memcpy(e, bytes, sizeof *e);
    return size >= sizeof *e && compose(expected, *e, most) == size && memcmp(bytes, expected, size) == 0;
}

enum { SIZE_MORE = 300 };

/* Puts `count` messages in all the ways there are. */
static int target_produce(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    int producer, count;
    CHILD_CHECK(kin_unpack(args, &q, &mine, &producer, &count) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->started, 1);
    char bytes[4][sizeof(entry) + SIZE_MORE];
    for (int i = 0; i < count;) {
        kin_message m;
        size_t done;
        kin_view views[4];
        int n = i % 5 == 4 && count - i >= 4 ? 4 : 1;
        for (int k = 0; k < n; k++)
            views[k] = (kin_view){bytes[k], compose(bytes[k], (entry){producer, i + k}, SIZE_MORE)};
        if (n == 4) {
            CHILD_CHECK(kin_queue_put_many(q, views, 4, &done, test_ms(20000)) == KIN_OK && done == 4);
        } else if (i % 7 == 3) {
            CHILD_CHECK(kin_queue_reserve(q, &m, views[0].size, test_ms(20000)) == KIN_OK);
            memcpy(m.data, bytes[0], views[0].size);
            CHILD_CHECK(kin_queue_commit(q, &m) == KIN_OK);
        } else {
            CHILD_CHECK(kin_queue_put(q, bytes[0], views[0].size, test_ms(20000)) == KIN_OK);
        }
        i += n;
        kin__store32(&s->put[producer], (uint32_t)i);
    }
    kin_segment_close(mine);
    kin_queue_close(q);
    return 0;
}

static int note(struct shared *s, int consumer, const char *bytes, size_t size)
{
    entry e;
    CHILD_CHECK(is_whole(bytes, size, &e, SIZE_MORE));
    uint32_t n = kin__load32(&s->got[consumer]);
    CHILD_CHECK(n < LOG);
    s->logs[consumer][n] = e;
    kin__store32(&s->got[consumer], n + 1);
    return 0;
}

/* Gets in all the ways there are, until it is shut down. */
static int target_consume(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    int consumer;
    CHILD_CHECK(kin_unpack(args, &q, &mine, &consumer) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->started, 1);
    char buffer[8192];
    for (int i = consumer;; i++) {
        kin_err err;
        size_t size, count;
        void *data;
        kin_message m;
        kin_view views[7];
        switch (i % 5) {
        case 0:
            if ((err = kin_queue_get_many(q, buffer, sizeof buffer, views, 7, &count, KIN_FOREVER)) == KIN_OK) {
                for (size_t k = 0; k < count; k++)
                    CHILD_CHECK(note(s, consumer, views[k].data, views[k].size) == 0);
            }
            break;
        case 1:
            if ((err = kin_queue_take(q, &m, KIN_FOREVER)) == KIN_OK) {
                CHILD_CHECK(note(s, consumer, m.data, m.size) == 0);
                CHILD_CHECK(kin_queue_done(q, &m) == KIN_OK);
            }
            break;
        case 2:
            if ((err = kin_queue_get_new(q, &data, &size, KIN_FOREVER)) == KIN_OK) {
                CHILD_CHECK(note(s, consumer, data, size) == 0);
                kin_free(data);
            }
            break;
        default:
            if ((err = kin_queue_get(q, buffer, sizeof buffer, &size, i % 2 != 0 ? KIN_FOREVER : 20000)) == KIN_OK)
                CHILD_CHECK(note(s, consumer, buffer, size) == 0);
        }
        if (err == KIN_EPIPE)
            break;
        CHILD_CHECK(err == KIN_OK);
    }
    kin_segment_close(mine);
    kin_queue_close(q);
    return 0;
}

/* Each message once, and those of one producer that one consumer got in the order in which they were put. */
static void check_logs(int producers, int consumers, int each)
{
    char *seen = calloc((size_t)producers, (size_t)each);
    assert_non_null(seen);
    uint32_t sum = 0;
    for (int c = 0; c < consumers; c++) {
        int last[MOST_SIDES] = {-1, -1, -1, -1};
        sum += shared->got[c];
        for (uint32_t i = 0; i < shared->got[c]; i++) {
            entry e = shared->logs[c][i];
            assert_in_range(e.producer, 0, producers - 1);
            assert_in_range(e.number, 0, each - 1);
            assert_true(e.number > last[e.producer]);
            last[e.producer] = e.number;
            assert_int_equal(seen[e.producer * each + e.number]++, 0);
        }
    }
    assert_int_equal(sum, producers * each);
    free(seen);
}

/* What is taken away and given back has been seen twice; here nothing is. */
static void flow(int producers, int consumers, kin_queue_options options)
{
    int each = test_scale(3000, 500);
    kin_queue *q = queue_new(options);
    kin_process *all[2 * MOST_SIDES];
    for (int i = 0; i < consumers; i++)
        all[producers + i] = test_start(target_consume, KIN_ARGS(q, segment, i));
    for (int i = 0; i < producers; i++)
        all[i] = test_start(target_produce, KIN_ARGS(q, segment, i, each));
    for (int i = 0; i < producers; i++)
        assert_int_equal(test_finish(all[i]), 0);
    check(kin_queue_shutdown(q));
    for (int i = 0; i < consumers; i++)
        assert_int_equal(test_finish(all[producers + i]), 0);
    check_logs(producers, consumers, each);
    assert_true(kin_queue_empty(q));
    assert_int_equal(kin_queue_size(q), 0);
    kin_queue_close(q);
}

static void one_to_one(void **state) { (void)state, flow(1, 1, (kin_queue_options){.capacity = 4096}); }
static void one_to_one_in_a_wide_one(void **state) { (void)state, flow(1, 1, (kin_queue_options){0}); }
static void one_to_many(void **state) { (void)state, flow(1, 4, (kin_queue_options){.capacity = 8192}); }
static void many_to_one(void **state) { (void)state, flow(4, 1, (kin_queue_options){.capacity = 4096}); }
static void many_to_many(void **state) { (void)state, flow(3, 3, (kin_queue_options){.capacity = 4096}); }
static void bounded_by_items(void **state) { (void)state, flow(2, 2, (kin_queue_options){.max_items = 3}); }
static void relaxed(void **state) { (void)state, flow(4, 2, (kin_queue_options){.relaxed = true, .capacity = 65536}); }

/* Producers number their messages under a lock, consumers write down what they get under another: there is one order. */
static int target_number(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    int count;
    CHILD_CHECK(kin_unpack(args, &q, &mine, &count) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int i = 0; i < count; i++) {
        CHILD_CHECK(kin_lock_acquire(&s->put_lock, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(queue_send(q, s->next++));
        CHILD_CHECK(kin_lock_release(&s->put_lock) == KIN_OK);
    }
    kin_queue_close(q);
    return 0;
}

static int target_write_down(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &q, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (kin_err err = KIN_OK; err == KIN_OK;) {
        int64_t number;
        CHILD_CHECK(kin_lock_acquire(&s->get_lock, test_ms(20000)) == KIN_OK);
        err = kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER);
        if (err == KIN_OK) {
            CHILD_CHECK(number == (int64_t)s->logged);
            s->logged++;
        }
        CHILD_CHECK(kin_lock_release(&s->get_lock) == KIN_OK);
        CHILD_CHECK(err == KIN_OK || err == KIN_EPIPE);
    }
    kin_queue_close(q);
    return 0;
}

static void one_order_for_all(void **state)
{
    (void)state;
    int each = test_scale(2000, 300);
    kin_queue *q = queue_new((kin_queue_options){.capacity = 4096});
    kin_process *all[6];
    for (int i = 0; i < 6; i++)
        all[i] = i < 3 ? test_start(target_number, KIN_ARGS(q, segment, each))
                       : test_start(target_write_down, KIN_ARGS(q, segment));
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(all[i]), 0);
    check(kin_queue_shutdown(q));
    for (int i = 3; i < 6; i++)
        assert_int_equal(test_finish(all[i]), 0);
    assert_int_equal(shared->logged, 3 * each);
    kin_queue_close(q);
}

/* ---- ends ---- */

/* Whatever put said was put is got before anybody is told that it is over. */
static int target_put_until_over(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    int producer;
    CHILD_CHECK(kin_unpack(args, &q, &mine, &producer) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    kin__add32(&s->started, 1);
    for (kin_err err = KIN_OK; err != KIN_EPIPE;) {
        int64_t number = 7;
        err = kin_queue_put(q, &number, sizeof number, producer % 2 == 0 ? KIN_NOWAIT : KIN_FOREVER);
        CHILD_CHECK(err == KIN_OK || err == KIN_EPIPE || (err == KIN_EFULL && producer % 2 == 0));
        if (err == KIN_OK)
            kin__add32(&s->put[producer], 1);
    }
    kin_queue_close(q);
    return 0;
}

static int target_get_until_over(kin_args *args)
{
    kin_queue *q;
    kin_segment *mine;
    int consumer;
    CHILD_CHECK(kin_unpack(args, &q, &mine, &consumer) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (kin_err err = KIN_OK; err != KIN_EPIPE;) {
        int64_t number;
        err = kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER);
        CHILD_CHECK(err == KIN_OK || err == KIN_EPIPE);
        if (err == KIN_OK)
            kin__add32(&s->got[consumer], 1);
    }
    kin_queue_close(q);
    return 0;
}

static void nothing_is_lost_at_the_end(void **state)
{
    (void)state;
    for (int round = 0; round < test_scale(20, 4); round++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "end", .capacity = 4096, .relaxed = round % 2 != 0});
        kin_process *all[5];
        memset(shared, 0, offsetof(struct shared, put_lock));
        for (int i = 0; i < 5; i++)
            all[i] = i < 3 ? test_start(target_put_until_over, KIN_ARGS(q, segment, i))
                           : test_start(target_get_until_over, KIN_ARGS(q, segment, i - 3));
        assert_true(crash_until_at_least(&shared->started, 3));
        crash_spin_us((uint32_t)round * 100);
        check(kin_queue_shutdown(q));
        for (int i = 0; i < 5; i++)
            assert_int_equal(test_finish(all[i]), 0);
        assert_int_equal(shared->got[0] + shared->got[1], shared->put[0] + shared->put[1] + shared->put[2]);
        assert_int_equal(kin_queue_size(q), 0);
        kin_queue_close(q);
    }
}

/* One call that has to wait; what came of it. */
static kin_err wait_in(kin_queue *q, bool put, int way)
{
    char buffer[2000] = "";
    void *data = NULL;
    size_t size, count;
    kin_view view = {buffer, 1000};
    kin_message m;
    kin_args *values = NULL;
    kin_err err;
    switch (way) {
    case 0:
        return put ? kin_queue_put(q, buffer, 1000, KIN_FOREVER)
                   : kin_queue_get(q, buffer, sizeof buffer, &size, KIN_FOREVER);
    case 1:
        return put ? kin_queue_put_many(q, &view, 1, &count, KIN_FOREVER)
                   : kin_queue_get_many(q, buffer, 2000, &view, 1, &count, KIN_FOREVER);
    case 2:
        return put ? kin_queue_reserve(q, &m, 1000, KIN_FOREVER) : kin_queue_take(q, &m, KIN_FOREVER);
    case 3:
        err = put ? kin_queue_put_args(q, KIN_ARGS(kin_bytes(buffer, 1000)), KIN_FOREVER)
                  : kin_queue_get_args(q, &values, KIN_FOREVER);
        kin_args_free(values);
        return err;
    default:
        err =
            put ? kin_queue_put_many(q, &view, 1, NULL, KIN_FOREVER) : kin_queue_get_new(q, &data, &size, KIN_FOREVER);
        kin_free(data);
        return err;
    }
}

static int target_wait(kin_args *args)
{
    kin_queue *q;
    bool put;
    int way;
    CHILD_CHECK(kin_unpack(args, &q, &put, &way) == KIN_OK);
    kin_err err = wait_in(q, put, way);
    kin_queue_close(q);
    return err;
}

static void shutdown_wakes_all(void **state)
{
    (void)state;
    for (int put = 0; put < 2; put++) {
        for (int lanes = 0; lanes < 2 - put; lanes++) { /* of lanes, each who puts has its own, with room */
            kin_queue *q = queue_new((kin_queue_options){.name = "end", .capacity = 4096, .relaxed = lanes != 0});
            kin_process *all[5];
            static char filler[900];
            int count = 0;
            while (put != 0 && kin_queue_put(q, filler, sizeof filler, KIN_NOWAIT) == KIN_OK)
                count++;
            for (int i = 0; i < 5; i++)
                all[i] = test_start(target_wait, KIN_ARGS(q, put != 0, i));
            for (int i = 0; i < 5; i++)
                assert_true(until_asleep(all[i]));
            check(kin_queue_shutdown(q));
            for (int i = 0; i < 5; i++)
                assert_int_equal(test_finish(all[i]), KIN_EPIPE);
            assert_int_equal(kin_queue_size(q), count);
            kin_queue_close(q);
        }
    }
}

static int target_put_some(kin_args *args)
{
    kin_queue *q;
    int from, to;
    bool large;
    CHILD_CHECK(kin_unpack(args, &q, &from, &to, &large) == KIN_OK);
    for (int i = from; i < to; i++)
        CHILD_CHECK(queue_send(q, i));
    static char bytes[200000];
    queue_fill(bytes, sizeof bytes, 9);
    CHILD_CHECK(!large || kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT) == KIN_OK);
    kin_queue_close(q);
    return 0;
}

static void messages_outlive_their_producer(void **state)
{
    (void)state;
    for (int lanes = 0; lanes < 2; lanes++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "heirloom", .capacity = 65536, .relaxed = lanes != 0});
        for (int round = 0; round < 3; round++) {
            assert_int_equal(test_run(target_put_some, KIN_ARGS(q, 0, 10, lanes == 0)), 0);
            assert_int_equal(kin_queue_size(q), lanes == 0 ? 11 : 10);
            for (int i = 0; i < 10; i++)
                assert_int_equal(queue_get_number(q), i);
            if (lanes != 0) /* a large one alone: the child's lane is empty, it goes to the common one */
                assert_int_equal(test_run(target_put_some, KIN_ARGS(q, 0, 0, true)), 0);
            void *data;
            size_t size;
            check(kin_queue_get_new(q, &data, &size, KIN_NOWAIT));
            assert_true(size == 200000 && queue_filled(data, size, 9));
            kin_free(data);
            queue_check_usable(q);
        }
        kin_queue_close(q);
    }
}

/* ---- handed on ---- */

static int target_grandchild(kin_args *args)
{
    kin_queue *q, *answer;
    int depth;
    CHILD_CHECK(kin_unpack(args, &q, &answer, &depth) == KIN_OK);
    if (depth > 0) {
        kin_process *child;
        CHILD_CHECK(kin_process_start(&child, target_grandchild, KIN_ARGS(q, answer, depth - 1), NULL) == KIN_OK);
        int code = -1;
        CHILD_CHECK(kin_process_join(child, test_ms(20000)) == KIN_OK &&
                    kin_process_exit_code(child, &code) == KIN_OK && code == 0);
        kin_process_close(child);
    } else {
        int64_t number;
        CHILD_CHECK(strcmp(kin_queue_name(q), "ancestral") == 0);
        CHILD_CHECK(queue_receive(q, &number) && number == 1);
        CHILD_CHECK(queue_send(answer, 2));
    }
    kin_queue_close(q);
    kin_queue_close(answer);
    return 0;
}

static void to_grandchildren(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "ancestral"}), *answer = queue_new((kin_queue_options){0});
    queue_put_number(q, 1);
    assert_int_equal(test_run(target_grandchild, KIN_ARGS(q, answer, 2)), 0);
    assert_int_equal(queue_get_number(answer), 2);
    kin_queue_close(q);
    kin_queue_close(answer);
}

static int target_create_and_end(kin_args *args)
{
    kin_queue *way, *made;
    CHILD_CHECK(kin_unpack(args, &way) == KIN_OK);
    CHILD_CHECK(kin_queue_create(&made, &(kin_queue_options){.name = "orphan", .joinable = true}) == KIN_OK);
    CHILD_CHECK(queue_send(made, 5));
    CHILD_CHECK(kin_queue_put_args(way, KIN_ARGS(made), KIN_NOWAIT) == KIN_OK);
    kin_queue_close(made);
    kin_queue_close(way);
    return 0;
}

static void its_creator_ends(void **state)
{
    (void)state;
    kin_queue *way = queue_new((kin_queue_options){0}), *made;
    assert_int_equal(test_run(target_create_and_end, KIN_ARGS(way)), 0);
    kin_args *args;
    check(kin_queue_get_args(way, &args, KIN_NOWAIT));
    check(kin_unpack(args, &made));
    kin_args_free(args);
    kin_queue_close(way);
    assert_string_equal(kin_queue_name(made), "orphan");
    assert_int_equal(queue_get_number(made), 5);
    check(kin_queue_task_done(made));
    queue_put_number(made, 6);
    assert_int_equal(test_run(target_put_some, KIN_ARGS(made, 7, 9, false)), 0);
    for (int i = 6; i < 9; i++)
        assert_int_equal(queue_get_number(made), i);
    kin_queue_close(made);
}

/* ---- waiting ---- */

/* One message, one consumer: the others sleep on. */
static void each_message_wakes_one(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "calls"});
    kin_process *all[3];
    for (int i = 0; i < 3; i++)
        all[i] = test_start(target_wait, KIN_ARGS(q, false, 0));
    for (int i = 0; i < 3; i++)
        assert_true(until_asleep(all[i]));
    for (int i = 0; i < 3; i++)
        queue_put_number(q, i);
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(all[i]), KIN_OK);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* A waiter that is killed takes nothing with it. */
static void killed_waiters(void **state)
{
    (void)state;
    for (int lanes = 0; lanes < 2; lanes++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "graves", .relaxed = lanes != 0});
        for (int round = 0; round < test_scale(10, 3); round++) {
            kin_process *all[4];
            for (int i = 0; i < 4; i++)
                all[i] = test_start(target_wait, KIN_ARGS(q, false, i));
            for (int i = 0; i < 4; i++)
                assert_true(until_asleep(all[i]));
            queue_put_number(q, 1);
            for (int i = 0; i < 4; i++)
                (void)kin_process_kill(all[i]);
            for (int i = 0; i < 4; i++)
                (void)test_finish(all[i]); /* one may have been faster */
            assert_true(kin_queue_size(q) <= 1);
            while (!kin_queue_empty(q))
                (void)queue_get_number(q);
            queue_check_usable(q);
        }
        kin_queue_close(q);
    }
}

/* Who does not run is in nobody's way. */
static void stopped_bystanders(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "still", .capacity = 4096});
    kin_process *waiter = test_start(target_wait, KIN_ARGS(q, false, 3)); /* wants values */
    assert_true(until_asleep(waiter));
    if (!test_process_stop(kin_process_pid(waiter))) {
        check(kin_queue_shutdown(q));
        (void)test_finish(waiter);
        kin_queue_close(q);
        test_skip("this system cannot stop a process");
    }
    for (int i = 0; i < 1000; i++) {
        queue_put_number(q, i);
        assert_int_equal(queue_get_number(q), i);
    }
    check(kin_queue_put_args(q, KIN_ARGS(1), KIN_NOWAIT));
    assert_true(test_process_continue(kin_process_pid(waiter)));
    assert_int_equal(test_finish(waiter), KIN_OK);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- threads and processes on one queue ---- */

typedef struct thread_side {
    kin_queue *queue;
    int producer, count;
    int result;
} thread_side;

static void produce_in_thread(void *arg)
{
    thread_side *t = arg;
    t->result = 0;
    char bytes[sizeof(entry) + SIZE_MORE];
    for (int i = 0; i < t->count && t->result == 0; i++) {
        size_t size = compose(bytes, (entry){t->producer, i}, SIZE_MORE);
        t->result = kin_queue_put(t->queue, bytes, size, test_ms(20000));
    }
}

static void threads_and_processes(void **state)
{
    (void)state;
    int each = test_scale(3000, 500);
    for (int lanes = 0; lanes < 2; lanes++) {
        kin_queue *q = queue_new((kin_queue_options){.capacity = 4096, .relaxed = lanes != 0});
        memset(shared, 0, offsetof(struct shared, put_lock));
        kin_process *consumers[2], *producers[2];
        for (int i = 0; i < 2; i++)
            consumers[i] = test_start(target_consume, KIN_ARGS(q, segment, i));
        for (int i = 0; i < 2; i++)
            producers[i] = test_start(target_produce, KIN_ARGS(q, segment, i, each));
        thread_side sides[2] = {{q, 2, each, -1}, {q, 3, each, -1}};
        uv_thread_t threads[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(uv_thread_create(&threads[i], produce_in_thread, &sides[i]), 0);
        for (int i = 0; i < 2; i++) {
            uv_thread_join(&threads[i]);
            assert_int_equal(sides[i].result, 0);
            assert_int_equal(test_finish(producers[i]), 0);
        }
        check(kin_queue_shutdown(q));
        for (int i = 0; i < 2; i++)
            assert_int_equal(test_finish(consumers[i]), 0);
        check_logs(4, 2, each);
        kin_queue_close(q);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(one_to_one),
        TEST(one_to_one_in_a_wide_one),
        TEST(one_to_many),
        TEST(many_to_one),
        TEST(many_to_many),
        TEST(bounded_by_items),
        TEST(relaxed),
        TEST(one_order_for_all),
        TEST(nothing_is_lost_at_the_end),
        TEST(shutdown_wakes_all),
        TEST(messages_outlive_their_producer),
        TEST(to_grandchildren),
        TEST(its_creator_ends),
        TEST(each_message_wakes_one),
        TEST(killed_waiters),
        TEST(stopped_bystanders),
        TEST(threads_and_processes),
    };
    return cmocka_run_group_tests_name("queue flow", tests, NULL, NULL);
}
