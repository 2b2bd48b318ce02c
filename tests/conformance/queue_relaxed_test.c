/* @ctest TIMEOUT 120 */
/* kin/queue.h: relaxed queues: each producer's own order, more producers than there are parts, threads with many queues. */
#include "queue_support.h"

#include "atomic.h"

#include <string.h>
#include <uv.h>

enum { PARTS = 16, PRODUCERS = 24 };

typedef struct parcel {
    int32_t producer, number;
    char rest[56];
} parcel;

static kin_queue *new_one(size_t capacity)
{
    return queue_new((kin_queue_options){.name = "lanes", .relaxed = true, .capacity = capacity});
}

/* What comes from each producer comes in order. */
typedef struct order {
    int next[PRODUCERS];
    int count;
} order;

static bool follows(order *o, const parcel *p)
{
    if (p->producer < 0 || p->producer >= PRODUCERS || p->number != o->next[p->producer])
        return false;
    o->next[p->producer]++;
    o->count++;
    return true;
}

/* ---- many threads ---- */

typedef struct side {
    kin_queue *queue, **more; /* others that it also puts into */
    uint32_t *go;
    int producer, count, mores;
    int failed; /* the line */
} side;

#define SIDE_CHECK(what)                                                                                               \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            s->failed = __LINE__;                                                                                      \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void produce(void *arg)
{
    side *s = arg;
    static const char large[20000];
    while (s->go != NULL && kin__load32(s->go) == 0) {
    }
    for (int i = 0; i < s->count; i++) {
        parcel p = {s->producer, i, {0}};
        kin_message m;
        switch ((s->producer + i) % 9) {
        case 0:
            SIDE_CHECK(kin_queue_reserve(s->queue, &m, sizeof p, test_ms(20000)) == KIN_OK);
            memcpy(m.data, &p, sizeof p);
            SIDE_CHECK(kin_queue_commit(s->queue, &m) == KIN_OK);
            break;
        case 1: {
            kin_view view = {&p, sizeof p};
            SIDE_CHECK(kin_queue_put_many(s->queue, &view, 1, NULL, test_ms(20000)) == KIN_OK);
            break;
        }
        default:
            SIDE_CHECK(kin_queue_put(s->queue, &p, sizeof p, test_ms(20000)) == KIN_OK);
        }
        for (int k = 0; k < s->mores; k++)
            SIDE_CHECK(kin_queue_put(s->more[k], large, (size_t)(i % 3), test_ms(20000)) == KIN_OK);
    }
}

static void consume_all(kin_queue *q, order *o, int count, kin_queue **more, int mores)
{
    char rest[4];
    while (o->count < count) {
        parcel p;
        check(kin_queue_get(q, &p, sizeof p, NULL, test_ms(20000)));
        assert_true(follows(o, &p));
        for (int k = 0; k < mores; k++)
            (void)kin_queue_get(more[k], rest, sizeof rest, NULL, KIN_NOWAIT);
    }
}

static void threads_in_order(int producers, int each, int mores)
{
    kin_queue *q = new_one(0), *more[12];
    side sides[PRODUCERS] = {{0}};
    uv_thread_t threads[PRODUCERS];
    uint32_t go = 0;
    order o = {{0}, 0};
    for (int k = 0; k < mores; k++)
        more[k] = new_one((size_t)1 << 20);
    for (int i = 0; i < producers; i++) {
        sides[i] = (side){q, more, &go, i, each, mores, 0};
        assert_int_equal(uv_thread_create(&threads[i], produce, &sides[i]), 0);
    }
    kin__store32(&go, 1);
    consume_all(q, &o, producers * each, more, mores);
    for (int i = 0; i < producers; i++) {
        uv_thread_join(&threads[i]);
        assert_int_equal(sides[i].failed, 0);
    }
    assert_true(kin_queue_empty(q));
    assert_int_equal(kin_queue_size(q), 0);
    for (int k = 0; k < mores; k++)
        kin_queue_close(more[k]);
    kin_queue_close(q);
}

static void more_threads_than_parts(void **state)
{
    (void)state;
    threads_in_order(PRODUCERS, test_scale(2000, 300), 0);
}

/* All look for a part at the same moment. */
static void all_begin_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < test_scale(60, 10); i++)
        threads_in_order(8 + i % 16, 20, 0);
}

static void many_queues_for_each_thread(void **state)
{
    (void)state;
    threads_in_order(PRODUCERS, test_scale(300, 50), 12);
}

/* In one thread, so that nothing is left to chance: all parts are others', it forgets, and its messages stay in order. */
static void park_in_part(void *arg)
{
    side *s = arg;
    SIDE_CHECK(kin_queue_put(s->queue, &(parcel){s->producer, 0, {0}}, sizeof(parcel), KIN_NOWAIT) == KIN_OK);
    kin__add32(s->go, 1);
    for (int64_t end = kin_now() + test_ms(30000); kin__load32(s->go) < 1000 && kin_now() < end;)
        uv_sleep(1);
}

static void forgetting_keeps_the_order(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) { /* it has a part of its own, or only the common one */
        kin_queue *q = new_one(0), *more[10];
        side sides[PRODUCERS] = {{0}};
        uv_thread_t threads[PRODUCERS];
        uint32_t here = 0;
        int64_t n = 0;
        if (own != 0)
            check(kin_queue_put(q, &(parcel){0, (int32_t)n++, {0}}, sizeof(parcel), KIN_NOWAIT));
        for (int i = 1; i < 20; i++) {
            sides[i] = (side){q, NULL, &here, i, 1, 0, 0};
            assert_int_equal(uv_thread_create(&threads[i], park_in_part, &sides[i]), 0);
        }
        assert_true(crash_until_at_least(&here, 19));
        for (int round = 0; round < 30; round++) {
            check(kin_queue_put(q, &(parcel){0, (int32_t)n++, {0}}, sizeof(parcel), KIN_NOWAIT));
            for (int k = 0; k < 10 && round % 3 == 0; k++) {
                more[k] = new_one(0);
                queue_put_number(more[k], k);
                kin_queue_close(more[k]);
            }
            if (round == 15) { /* parts become free: its next messages must not overtake those that are here */
                kin__store32(&here, 1000);
                for (int i = 1; i < 20; i++) {
                    uv_thread_join(&threads[i]);
                    assert_int_equal(sides[i].failed, 0);
                }
            }
        }
        order o = {{0}, 0};
        consume_all(q, &o, (int)n + 19, NULL, 0);
        assert_true(kin_queue_empty(q));
        kin_queue_close(q);
    }
}

/* ---- fair to all parts ---- */

static int target_put_one(kin_args *args)
{
    kin_queue *q;
    kin_value *value;
    int kind;
    CHILD_CHECK(kin_unpack(args, &q, &value, &kind) == KIN_OK);
    static char large[100000];
    parcel p = {1, 0, {0}};
    CHILD_CHECK((kind == 0   ? kin_queue_put(q, &p, sizeof p, KIN_NOWAIT)
                 : kind == 1 ? kin_queue_put_args(q, KIN_ARGS(value, "kept"), KIN_NOWAIT)
                             : kin_queue_put(q, large, sizeof large, KIN_NOWAIT)) == KIN_OK);
    kin_queue_close(q);
    return 0;
}

static void nobody_starves(void **state)
{
    (void)state;
    kin_queue *q = new_one(65536);
    kin_value *value;
    check(kin_value_create(&value, 0));
    for (int round = 0; round < 5; round++) {
        parcel p = {0, 0, {0}};
        for (int i = 0; i < 20; i++)
            check(kin_queue_put(q, &p, sizeof p, KIN_NOWAIT));
        assert_int_equal(test_run(target_put_one, KIN_ARGS(q, value, 0)), 0);
        bool seen = false;
        for (int i = 0; i < 1000 && !seen; i++) { /* this thread's part is never empty */
            check(kin_queue_get(q, &p, sizeof p, NULL, KIN_NOWAIT));
            seen = p.producer == 1;
            p.producer = 0;
            check(kin_queue_put(q, &p, sizeof p, KIN_NOWAIT));
        }
        assert_true(seen);
        while (!kin_queue_empty(q))
            check(kin_queue_get(q, &p, sizeof p, NULL, KIN_NOWAIT));
    }
    kin_value_close(value);
    kin_queue_close(q);
}

/* Bags of several producers are emptied out of their order: SO_PEEK_OFF, which qemu's user mode lacks. */
static void need_bags_out_of_order(void)
{
    if (test_emulated())
        test_skip("the emulator cannot look behind the oldest message of a socket");
}

/* Objects in messages of several parts, got in any order: none goes with another's. */
static void objects_of_several_producers(void **state)
{
    (void)state;
    need_bags_out_of_order();
    kin_queue *q = new_one(65536);
    kin_value *value;
    static _Alignas(8) char buffer[200000];
    check(kin_value_create(&value, 9));
    for (int round = 0; round < 6; round++) {
        /* This thread: two messages of bytes, with one of values between them. The others come before, between and after. */
        for (int step = 0; step < 3; step++) {
            if (step == 1)
                check(kin_queue_put_args(q, KIN_ARGS(value, "mine"), KIN_NOWAIT));
            else
                queue_put_number(q, step);
            assert_int_equal(test_run(target_put_one, KIN_ARGS(q, value, 1)), 0);
            if (step == round % 3) /* large ones: one at a time */
                assert_int_equal(test_run(target_put_one, KIN_ARGS(q, value, 2)), 0);
        }
        assert_int_equal(kin_queue_size(q), 7);
        int64_t mine = 0, kept = 0, large = 0;
        while (!kin_queue_empty(q)) {
            size_t size;
            kin_err err = kin_queue_get(q, buffer, sizeof buffer, &size, KIN_NOWAIT);
            if (err == KIN_OK && size == sizeof(int64_t)) {
                assert_int_equal(*(int64_t *)(void *)buffer, mine);
                mine++;
            } else if (err == KIN_OK) {
                assert_int_equal(size, 100000);
                large++;
            } else {
                kin_args *args;
                kin_value *back;
                const char *text;
                assert_int_equal(err, KIN_ETYPE);
                check(kin_queue_get_args(q, &args, KIN_NOWAIT)); /* what was of the wrong kind is the next */
                check(kin_unpack(args, &back, &text));
                assert_int_equal(kin_value_get_i64(back), 9);
                if (strcmp(text, "mine") == 0)
                    assert_int_equal(mine++, 1);
                else
                    kept++;
                kin_args_free(args);
                kin_value_close(back);
            }
        }
        assert_int_equal(mine, 3);
        assert_int_equal(kept, 3);
        assert_int_equal(large, 1);
        queue_check_usable(q);
    }
    kin_value_close(value);
    kin_queue_close(q);
}

/* Small and large ones and objects from several processes at once, each producer's in order. */
static int target_put_mixed(kin_args *args)
{
    kin_queue *q;
    kin_value *value;
    int producer, count;
    CHILD_CHECK(kin_unpack(args, &q, &value, &producer, &count) == KIN_OK);
    static char bytes[20000];
    for (int i = 0; i < count; i++) {
        parcel p = {producer, i, {0}};
        memcpy(bytes, &p, sizeof p);
        bool objects = i % 10 == 9 && producer % 2 == 0, large = i % 10 == 5;
        CHILD_CHECK((objects ? kin_queue_put_args(q, KIN_ARGS(value, kin_struct(p)), test_ms(20000))
                             : kin_queue_put(q, bytes, large ? sizeof bytes : sizeof p, test_ms(20000))) == KIN_OK);
    }
    kin_queue_close(q);
    return 0;
}

static void mixed_from_many_processes(void **state)
{
    (void)state;
    need_bags_out_of_order();
    enum { CHILDREN = 3 };
    kin_queue *q = new_one(65536);
    kin_value *value, *back;
    static char bytes[20000];
    kin_process *all[CHILDREN];
    order o = {{0}, 0};
    int each = test_scale(500, 100);
    check(kin_value_create(&value, 9));
    for (int i = 0; i < CHILDREN; i++)
        all[i] = test_start(target_put_mixed, KIN_ARGS(q, value, i, each));
    while (o.count < CHILDREN * each) {
        parcel p;
        kin_args *args;
        kin_err err = kin_queue_get(q, bytes, sizeof bytes, NULL, test_ms(20000));
        if (err == KIN_ETYPE) {
            check(kin_queue_get_args(q, &args, KIN_NOWAIT));
            check(kin_unpack(args, &back, kin_struct_out(p)));
            assert_int_equal(kin_value_get_i64(back), 9);
            kin_value_close(back);
            kin_args_free(args);
        } else {
            check(err);
            memcpy(&p, bytes, sizeof p);
        }
        assert_true(follows(&o, &p));
    }
    for (int i = 0; i < CHILDREN; i++)
        assert_int_equal(test_finish(all[i]), 0);
    kin_value_close(value);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- a producer that is stopped ---- */

static int target_put_for_ever(kin_args *args)
{
    kin_queue *q;
    int producer;
    kin_value *started;
    CHILD_CHECK(kin_unpack(args, &q, &producer, &started) == KIN_OK);
    kin_err err = KIN_OK;
    for (int32_t i = 0; err == KIN_OK; i++) {
        err = kin_queue_put(q, &(parcel){producer, i, {0}}, sizeof(parcel), KIN_FOREVER);
        if (i == 100)
            CHILD_CHECK(kin_value_add_i64(started, 1, NULL) == KIN_OK);
    }
    kin_queue_close(q);
    return err == KIN_EPIPE ? 0 : 1;
}

static void a_stopped_producer_delays_nobody(void **state)
{
    (void)state;
    enum { CHILDREN = 3 };
    kin_queue *q = new_one(262144);
    kin_value *started;
    kin_process *all[CHILDREN];
    order o = {{0}, 0};
    check(kin_value_create(&started, 0));
    for (int i = 0; i < CHILDREN; i++)
        all[i] = test_start(target_put_for_ever, KIN_ARGS(q, i, started));
    assert_true(test_await(started, CHILDREN));
    bool can_stop = true;
    for (int round = 0; round < test_scale(30, 3) && can_stop; round++) {
        int64_t pid = kin_process_pid(all[round % CHILDREN]);
        can_stop = test_process_stop(pid);
        order before = o;
        int64_t begin = kin_now();
        bool all_go_on = false; /* but one */
        for (int i = 0; i < 3000 || !all_go_on; i++) {
            parcel p;
            check(kin_queue_get(q, &p, sizeof p, NULL, test_ms(20000)));
            assert_true(follows(&o, &p));
            all_go_on = true;
            for (int k = 0; k < CHILDREN; k++)
                all_go_on = all_go_on && (k == round % CHILDREN || o.next[k] > before.next[k]);
            assert_true(kin_now() - begin < test_ms(20000));
        }
        queue_put_number(q, 0); /* nor who puts */
        if (can_stop)
            assert_true(test_process_continue(pid));
        parcel p; /* and that number is got by somebody */
        for (bool seen = false; !seen;) {
            size_t size;
            check(kin_queue_get(q, &p, sizeof p, &size, test_ms(20000)));
            seen = size == sizeof(int64_t);
            assert_true(seen || follows(&o, &p));
        }
    }
    check(kin_queue_shutdown(q));
    for (int i = 0; i < CHILDREN; i++)
        assert_int_equal(test_finish(all[i]), 0);
    for (kin_err err = KIN_OK; err == KIN_OK;) {
        parcel p;
        err = kin_queue_get(q, &p, sizeof p, NULL, KIN_NOWAIT);
        assert_true(err == KIN_EPIPE || follows(&o, &p));
    }
    kin_value_close(started);
    kin_queue_close(q);
    if (!can_stop)
        test_skip("this system cannot stop a process");
}

/* A part whose owner ended is another's, with what is in it. */
static void parts_are_handed_on(void **state)
{
    (void)state;
    kin_queue *q = new_one(65536);
    kin_value *value;
    check(kin_value_create(&value, 0));
    for (int i = 0; i < 3 * PARTS; i++)
        assert_int_equal(test_run(target_put_one, KIN_ARGS(q, value, 0)), 0);
    assert_int_equal(kin_queue_size(q), 3 * PARTS);
    parcel p;
    for (int i = 0; i < 3 * PARTS; i++)
        check(kin_queue_get(q, &p, sizeof p, NULL, KIN_NOWAIT));
    queue_check_usable(q);
    kin_value_close(value);
    kin_queue_close(q);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_threads_than_parts),
        cmocka_unit_test(all_begin_at_once),
        cmocka_unit_test(many_queues_for_each_thread),
        cmocka_unit_test(forgetting_keeps_the_order),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(objects_of_several_producers),
        cmocka_unit_test(mixed_from_many_processes),
        cmocka_unit_test(a_stopped_producer_delays_nobody),
        cmocka_unit_test(parts_are_handed_on),
    };
    return cmocka_run_group_tests_name("queue relaxed", tests, NULL, NULL);
}
