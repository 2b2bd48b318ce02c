/* Queues from several threads of one process, where ThreadSanitizer sees every access: what is in a message is plain
 * memory, so a record that was seen before it was complete, or written over before it was read, would be a race that
 * it reports. No child is started.
 * @ctest LABELS threads TIMEOUT 120 */
#include "queue_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { SIDES = 4, MORE = 200 };

typedef struct head {
    int32_t producer, number;
} head;

typedef struct shared {
    kin_queue *queue;
    kin_value *value;
    int each;
    bool joinable, objects;
    uint32_t got, failed; /* the line */
    uint32_t nexts[SIDES];
} shared;

typedef struct side {
    shared *shared;
    int number;
} side;

#define SIDE_CHECK(what)                                                                                               \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            kin__store32(&s->failed, __LINE__);                                                                        \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static size_t compose(char *bytes, head h)
{
    uint32_t seed = (uint32_t)h.number * 8 + (uint32_t)h.producer;
    size_t more = seed * 2654435761u % (seed % 300 == 0 ? 6000 : MORE);
    memcpy(bytes, &h, sizeof h);
    queue_fill(bytes + sizeof h, more, seed);
    return sizeof h + more;
}

static bool is_whole(const void *bytes, size_t size)
{
    char expected[8192];
    head h;
    memcpy(&h, bytes, sizeof h);
    return size >= sizeof h && compose(expected, h) == size && memcmp(bytes, expected, size) == 0;
}

static void produce(void *arg)
{
    side *me = arg;
    shared *s = me->shared;
    char bytes[3][8192];
    for (int i = 0; i < s->each;) {
        kin_message m;
        kin_view views[3];
        int n = i % 4 == 3 && s->each - i >= 3 ? 3 : 1;
        for (int k = 0; k < n; k++)
            views[k] = (kin_view){bytes[k], compose(bytes[k], (head){me->number, i + k})};
        switch (n == 3 ? 0 : s->objects && i % 6 == 1 ? 1 : i % 6 == 2 ? 2 : 3) {
        case 0:
            SIDE_CHECK(kin_queue_put_many(s->queue, views, 3, NULL, test_ms(30000)) == KIN_OK);
            break;
        case 1:
            SIDE_CHECK(kin_queue_put_args(s->queue, KIN_ARGS(s->value, kin_bytes(bytes[0], views[0].size)),
                                          test_ms(30000)) == KIN_OK);
            break;
        case 2:
            SIDE_CHECK(kin_queue_reserve(s->queue, &m, views[0].size, test_ms(30000)) == KIN_OK);
            memcpy(m.data, bytes[0], views[0].size);
            if (i % 5 != 0) {
                SIDE_CHECK(kin_queue_commit(s->queue, &m) == KIN_OK);
                break;
            }
            SIDE_CHECK(kin_queue_cancel(s->queue, &m) == KIN_OK);
            SIDE_CHECK(kin_queue_put(s->queue, bytes[0], views[0].size, KIN_FOREVER) == KIN_OK);
            break;
        default:
            SIDE_CHECK(kin_queue_put(s->queue, bytes[0], views[0].size, i % 2 == 0 ? KIN_FOREVER : test_ms(30000)) ==
                       KIN_OK);
        }
        i += n;
    }
}

static void consume(void *arg)
{
    side *me = arg;
    shared *s = me->shared;
    char buffer[8192];
    for (int i = me->number;; i++) {
        kin_err err;
        size_t size, count = 1;
        kin_view views[4];
        kin_message m;
        kin_args *args;
        void *data;
        switch (i % 4) {
        case 0:
            err = kin_queue_get_many(s->queue, buffer, sizeof buffer, views, 4, &count, KIN_FOREVER);
            for (size_t k = 0; k < count && err == KIN_OK; k++)
                SIDE_CHECK(is_whole(views[k].data, views[k].size));
            break;
        case 1:
            if ((err = kin_queue_take(s->queue, &m, KIN_FOREVER)) == KIN_OK) {
                SIDE_CHECK(is_whole(m.data, m.size));
                SIDE_CHECK((i % 3 == 0 ? kin_queue_give_back : kin_queue_done)(s->queue, &m) == KIN_OK);
                count = i % 3 == 0 ? 0 : 1;
            }
            break;
        case 2:
            if ((err = kin_queue_get_new(s->queue, &data, &size, KIN_FOREVER)) == KIN_OK) {
                SIDE_CHECK(is_whole(data, size));
                kin_free(data);
            }
            break;
        default:
            if ((err = kin_queue_get(s->queue, buffer, sizeof buffer, &size, test_ms(30000))) == KIN_OK)
                SIDE_CHECK(is_whole(buffer, size));
        }
        if (err == KIN_ETYPE) { /* the next may be of the other kind again, if another was faster */
            kin_value *value;
            kin_view view;
            if ((err = kin_queue_get_args(s->queue, &args, KIN_NOWAIT)) == KIN_OK) {
                SIDE_CHECK(kin_unpack(args, &value, &view) == KIN_OK && is_whole(view.data, view.size));
                kin_value_close(value);
                kin_args_free(args);
                count = 1;
            }
            if (err == KIN_ETYPE || err == KIN_EEMPTY)
                continue;
        }
        if (err == KIN_EPIPE)
            return;
        SIDE_CHECK(err == KIN_OK);
        kin__add32(&s->got, (uint32_t)count);
        for (size_t k = 0; k < count && s->joinable && i % 4 != 1; k++)
            SIDE_CHECK(kin_queue_task_done(s->queue) == KIN_OK);
        (void)kin_queue_size(s->queue);
        (void)kin_queue_empty(s->queue);
        (void)kin_queue_full(s->queue, 100);
    }
}

static void together(kin_queue_options options, int producers, int consumers, int each, bool objects)
{
    shared s = {.queue = queue_new(options), .each = each, .joinable = options.joinable, .objects = objects};
    check(kin_value_create(&s.value, 5));
    side sides[2 * SIDES];
    uv_thread_t threads[2 * SIDES];
    for (int i = 0; i < producers + consumers; i++) {
        sides[i] = (side){&s, i < producers ? i : i - producers};
        assert_int_equal(uv_thread_create(&threads[i], i < producers ? produce : consume, &sides[i]), 0);
    }
    for (int i = 0; i < producers; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(kin__load32(&s.failed), 0);
    if (options.joinable)
        check(kin_queue_join(s.queue, test_ms(30000)));
    check(kin_queue_shutdown(s.queue));
    for (int i = producers; i < producers + consumers; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(kin__load32(&s.failed), 0);
    assert_int_equal(kin__load32(&s.got), producers * each);
    assert_int_equal(kin_queue_size(s.queue), 0);
    kin_value_close(s.value);
    kin_queue_close(s.queue);
}

static int times(void)
{
#if defined(KIN_HELGRIND)
    return 60;
#else
    return test_with_sanitizer() ? 1000 : test_scale(5000, 1000);
#endif
}

static void one_to_one(void **state)
{
    (void)state, together((kin_queue_options){.capacity = 4096}, 1, 1, times(), false);
}
static void wide(void **state) { (void)state, together((kin_queue_options){0}, 2, 2, times(), false); }
static void many_to_many(void **state)
{
    (void)state, together((kin_queue_options){.capacity = 4096}, 3, 3, times(), false);
}
static void of_values(void **state)
{
    (void)state, together((kin_queue_options){.capacity = 8192}, 2, 2, times() / 4, true);
}
static void joined(void **state)
{
    (void)state, together((kin_queue_options){.joinable = true, .capacity = 4096}, 2, 2, times(), false);
}
static void by_items(void **state)
{
    (void)state, together((kin_queue_options){.max_items = 2}, 2, 2, times() / 4, false);
}
static void relaxed(void **state)
{
    (void)state, together((kin_queue_options){.relaxed = true, .capacity = 65536}, 4, 2, times(), false);
}
static void relaxed_with_values(void **state)
{
    (void)state, together((kin_queue_options){.relaxed = true}, 4, 2, times() / 4, true);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_to_one),   cmocka_unit_test(wide),
        cmocka_unit_test(many_to_many), cmocka_unit_test(of_values),
        cmocka_unit_test(joined),       cmocka_unit_test(by_items),
        cmocka_unit_test(relaxed),      cmocka_unit_test(relaxed_with_values),
    };
    return cmocka_run_group_tests_name("queue threads", tests, NULL, NULL);
}
