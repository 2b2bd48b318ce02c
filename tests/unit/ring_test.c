/* What of a ring cannot be seen from outside, or takes too long to come about: positions that wrap, records in the way. */
#include "support.h"

#include "ring.h"

#include <string.h>
#include <uv.h>

static kin_queue *queue;

static kin_queue *make(kin_queue_options options)
{
    check(kin_queue_create(&queue, &options));
    return queue;
}

static int teardown(void **state)
{
    (void)state;
    kin_queue_close(queue);
    queue = NULL;
    return 0;
}

/* As if so many more units had gone through the ring, which is empty. */
static void go_on(uint32_t units)
{
    kin__ring *r = kin__queue_flow(queue, 0)->ring;
    r->head += units;
    r->tail = r->tail_seen = r->head_seen = r->head;
}

static void put_and_get(size_t times)
{
    for (size_t n = 0; n < times; n++) {
        size_t got = 0, size = 0;
        check(kin_queue_put(queue, &n, sizeof n, KIN_NOWAIT));
        check(kin_queue_get(queue, &got, sizeof got, &size, KIN_NOWAIT));
        assert_int_equal(got, n);
    }
}

/* Twice round all positions, in leaps no longer than the largest ring. What is worked on where it lies moves `next`, plain gets do not. */
static void positions_wrap(void **state)
{
    (void)state;
    for (int region = 0; region < 2; region++) {
        make((kin_queue_options){.capacity = 4096});
        for (int leap = 0; leap < 32; leap++) {
            kin_message m;
            put_and_get(1);
            if (region && leap % 7 == 0) {
                check(kin_queue_put(queue, "leased", 6, KIN_NOWAIT));
                check(kin_queue_take(queue, &m, KIN_NOWAIT));
                put_and_get(50);
                check(kin_queue_done(queue, &m));
            }
            put_and_get(1000);
            assert_int_equal(kin_queue_size(queue), 0);
            go_on(((uint32_t)1 << 28) - 8);
        }
        kin_queue_close(queue);
    }
    queue = NULL;
}

static void cancelled_room_is_free(void **state)
{
    (void)state;
    kin_message m;
    make((kin_queue_options){.max_items = 1});
    check(kin_queue_reserve(queue, &m, 8, KIN_NOWAIT));
    check_fails(KIN_EFULL, kin_queue_put(queue, "x", 1, KIN_NOWAIT));
    check(kin_queue_cancel(queue, &m));
    assert_int_equal(kin_queue_size(queue), 0);
    check(kin_queue_put(queue, "x", 1, KIN_NOWAIT));
}

/* Behind one that is done lies one that was given back: that one stays, the room of the other is free. */
static void room_before_one_given_back_is_free(void **state)
{
    (void)state;
    kin_message first, second;
    make((kin_queue_options){.max_items = 2});
    check(kin_queue_put(queue, "1", 1, KIN_NOWAIT));
    check(kin_queue_put(queue, "2", 1, KIN_NOWAIT));
    check(kin_queue_take(queue, &first, KIN_NOWAIT));
    check(kin_queue_take(queue, &second, KIN_NOWAIT));
    check(kin_queue_give_back(queue, &second));
    check(kin_queue_done(queue, &first));
    check(kin_queue_put(queue, "3", 1, KIN_NOWAIT));
    char got[2];
    for (char i = '2'; i <= '3'; i++) {
        check(kin_queue_get(queue, got, sizeof got, NULL, KIN_NOWAIT));
        assert_int_equal(got[0], i);
    }
}

static void put_big(void *arg)
{
    size_t size = 400000;
    char *big = test_calloc(1, size);
    big[0] = *(char *)arg;
    *(char *)arg = (char)kin_queue_put(queue, big, size, 1000);
    test_free(big);
}

static void large_in_lanes(void **state)
{
    (void)state;
    make((kin_queue_options){.relaxed = true});
    char a = 'a', b = 'b', got[400000];
    uv_thread_t other;
    size_t size;
    check(kin_queue_put(queue, "s", 1, KIN_NOWAIT)); /* this thread has the first lane */
    assert_int_equal(uv_thread_create(&other, put_big, &b), 0);
    assert_int_equal(uv_thread_join(&other), 0);
    assert_int_equal(b, KIN_OK);
    put_big(&a);
    assert_int_equal(a, KIN_OK);
    char names[4] = "";
    for (int i = 0; i < 3; i++) {
        check(kin_queue_get(queue, got, sizeof got, &size, KIN_NOWAIT));
        names[i] = got[0];
    }
    assert_true(strchr(names, 's') != NULL && strchr(names, 'a') != NULL && strchr(names, 'b') != NULL);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(positions_wrap, teardown),
                                       cmocka_unit_test_teardown(cancelled_room_is_free, teardown),
                                       cmocka_unit_test_teardown(room_before_one_given_back_is_free, teardown),
                                       cmocka_unit_test_teardown(large_in_lanes, teardown)};
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
