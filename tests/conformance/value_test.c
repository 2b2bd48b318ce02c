/* kin/value.h: one number that processes share. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static void signed_integers(void **state)
{
    kin_value *value;
    int64_t result = 77, expected;
    bool swapped;
    (void)state;
    check(kin_value_create(&value, -5));
    assert_int_equal(kin_value_get_i64(value), -5);
    check(kin_value_set_i64(value, INT64_MIN));
    assert_true(kin_value_get_i64(value) == INT64_MIN);
    check(kin_value_set_i64(value, 10));
    check(kin_value_add_i64(value, 5, &result));
    assert_int_equal(result, 15);
    check(kin_value_add_i64(value, -16, NULL));
    assert_int_equal(kin_value_get_i64(value), -1);
    check(kin_value_exchange_i64(value, 40, &result));
    assert_int_equal(result, -1);
    check(kin_value_exchange_i64(value, 41, NULL));
    assert_int_equal(kin_value_get_i64(value), 41);
    expected = 40;
    check(kin_value_compare_exchange_i64(value, &expected, 50, &swapped));
    assert_true(!swapped && expected == 41 && kin_value_get_i64(value) == 41);
    check(kin_value_compare_exchange_i64(value, &expected, 50, &swapped));
    assert_true(swapped && expected == 41 && kin_value_get_i64(value) == 50);
    check(kin_value_set_i64(value, INT64_MAX));
    check(kin_value_add_i64(value, 1, &result)); /* wraps around */
    assert_true(result == INT64_MIN && kin_value_get_i64(value) == INT64_MIN);
    check(kin_value_add_i64(value, -1, &result));
    assert_true(result == INT64_MAX);
    kin_value_close(value);
}

static void unsigned_integers(void **state)
{
    kin_value *value;
    uint64_t result = 77, expected;
    bool swapped;
    (void)state;
    check(kin_value_create_u64(&value, UINT64_MAX));
    assert_true(kin_value_get_u64(value) == UINT64_MAX);
    check(kin_value_add_u64(value, 3, &result));
    assert_true(result == 2 && kin_value_get_u64(value) == 2);
    check(kin_value_add_u64(value, UINT64_MAX, NULL));
    assert_true(kin_value_get_u64(value) == 1);
    check(kin_value_set_u64(value, (uint64_t)1 << 63));
    check(kin_value_exchange_u64(value, 7, &result));
    assert_true(result == (uint64_t)1 << 63);
    expected = 8;
    check(kin_value_compare_exchange_u64(value, &expected, 9, &swapped));
    assert_true(!swapped && expected == 7);
    check(kin_value_compare_exchange_u64(value, &expected, 9, &swapped));
    assert_true(swapped && kin_value_get_u64(value) == 9);
    kin_value_close(value);
}

static void doubles(void **state)
{
    kin_value *value;
    double result = 77, expected;
    bool swapped;
    (void)state;
    check(kin_value_create_f64(&value, 0.1));
    assert_true(kin_value_get_f64(value) == 0.1);
    check(kin_value_add_f64(value, 0.2, &result));
    assert_true(result == 0.1 + 0.2 && kin_value_get_f64(value) == result);
    check(kin_value_set_f64(value, -1e300));
    check(kin_value_exchange_f64(value, 2.5, &result));
    assert_true(result == -1e300 && kin_value_get_f64(value) == 2.5);
    expected = 2.4;
    check(kin_value_compare_exchange_f64(value, &expected, 9, &swapped));
    assert_true(!swapped && expected == 2.5);
    check(kin_value_compare_exchange_f64(value, &expected, 9, &swapped));
    assert_true(swapped && kin_value_get_f64(value) == 9);
    kin_value_close(value);
}

/* Doubles are compared bit by bit: a NaN equals itself, and the two zeros differ. */
static void doubles_by_bits(void **state)
{
    kin_value *value;
    double nan = strtod("nan", NULL), expected = nan;
    bool swapped;
    (void)state;
    check(kin_value_create_f64(&value, nan));
    assert_true(bits_of(kin_value_get_f64(value)) == bits_of(nan));
    check(kin_value_compare_exchange_f64(value, &expected, -0.0, &swapped));
    assert_true(swapped);
    expected = 0.0;
    check(kin_value_compare_exchange_f64(value, &expected, 1, &swapped));
    assert_true(!swapped && bits_of(expected) == bits_of(-0.0));
    kin_value_close(value);
}

#define WRONG_TYPE(suffix, number, value)                                                                              \
    do {                                                                                                               \
        number out = 77;                                                                                               \
        bool swapped = true;                                                                                           \
        assert_true(kin_value_get_##suffix(value) == 0);                                                               \
        assert_int_equal(kin_last_code(), KIN_ETYPE);                                                                  \
        check_fails(KIN_ETYPE, kin_value_set_##suffix(value, 1));                                                      \
        check_fails(KIN_ETYPE, kin_value_add_##suffix(value, 1, &out));                                                \
        check_fails(KIN_ETYPE, kin_value_exchange_##suffix(value, 1, &out));                                           \
        check_fails(KIN_ETYPE, kin_value_compare_exchange_##suffix(value, &out, 1, &swapped));                         \
        assert_true(out == 77 && swapped);                                                                             \
    } while (0)

static void another_type(void **state)
{
    kin_value *i, *u, *f;
    (void)state;
    check(kin_value_create(&i, 5));
    check(kin_value_create_u64(&u, 6));
    check(kin_value_create_f64(&f, 7));
    WRONG_TYPE(u64, uint64_t, i);
    WRONG_TYPE(f64, double, i);
    check_says("int64");
    check_says("double");
    WRONG_TYPE(i64, int64_t, u);
    WRONG_TYPE(f64, double, u);
    WRONG_TYPE(i64, int64_t, f);
    WRONG_TYPE(u64, uint64_t, f);
    assert_true(kin_value_get_i64(i) == 5 && kin_value_get_u64(u) == 6 && kin_value_get_f64(f) == 7);
    kin_value_close(i);
    kin_value_close(u);
    kin_value_close(f);
}

#define NO_VALUE(suffix, number, value)                                                                                \
    do {                                                                                                               \
        number out = 77;                                                                                               \
        bool swapped = true;                                                                                           \
        assert_true(kin_value_get_##suffix(value) == 0);                                                               \
        assert_int_equal(kin_last_code(), KIN_EINVAL);                                                                 \
        check_fails(KIN_EINVAL, kin_value_set_##suffix(value, 1));                                                     \
        check_fails(KIN_EINVAL, kin_value_add_##suffix(value, 1, &out));                                               \
        check_fails(KIN_EINVAL, kin_value_exchange_##suffix(value, 1, &out));                                          \
        check_fails(KIN_EINVAL, kin_value_compare_exchange_##suffix(value, &out, 1, &swapped));                        \
        assert_true(out == 77 && swapped);                                                                             \
    } while (0)

static void no_value(void **state)
{
    kin_value *value;
    kin_segment *segment;
    (void)state;
    check_fails(KIN_EINVAL, kin_value_create(NULL, 1));
    check_fails(KIN_EINVAL, kin_value_create_u64(NULL, 1));
    check_fails(KIN_EINVAL, kin_value_create_f64(NULL, 1));
    NO_VALUE(i64, int64_t, NULL);
    NO_VALUE(u64, uint64_t, NULL);
    NO_VALUE(f64, double, NULL);
    assert_null(kin_value_lock(NULL));
    kin_value_close(NULL);
    check(kin_value_create(&value, 5));
    check_fails(KIN_EINVAL, kin_value_compare_exchange_i64(value, NULL, 1, NULL));
    kin_lock *lock = kin_value_lock(value);
    assert_non_null(lock);
    kin_value_close(value);
    NO_VALUE(i64, int64_t, value);
    NO_VALUE(f64, double, value);
    assert_null(kin_value_lock(value));
    check_fails(KIN_EINVAL, kin_lock_acquire(lock, KIN_NOWAIT));
    kin_value_close(value);
    check(kin_segment_create(&segment, 1000));
    NO_VALUE(i64, int64_t, (kin_value *)(void *)segment);
    kin_segment_close(segment);
}

/* *swapped may be left out, as in "try once and look at the value". */
static void without_swapped(void **state)
{
    kin_value *value;
    int64_t expected = 5;
    (void)state;
    check(kin_value_create(&value, 5));
    check(kin_value_compare_exchange_i64(value, &expected, 6, NULL));
    assert_int_equal(kin_value_get_i64(value), 6);
    kin_value_close(value);
}

/* ---- with children ---- */

enum { ADD_I64, ADD_U64, ADD_F64, SWAP, LOCKED };

static int target_count(kin_args *args)
{
    kin_value *value;
    kin_lock *gate;
    int how;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &value, &gate, &how, &times) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    for (int64_t i = 0; i < times; i++) {
        int64_t number;
        bool done = false;
        switch (how) {
        case ADD_I64:
            CHILD_CHECK(kin_value_add_i64(value, -1, NULL) == KIN_OK);
            break;
        case ADD_U64:
            CHILD_CHECK(kin_value_add_u64(value, 3, NULL) == KIN_OK);
            break;
        case ADD_F64:
            CHILD_CHECK(kin_value_add_f64(value, 0.5, NULL) == KIN_OK);
            break;
        case SWAP:
            for (number = kin_value_get_i64(value); !done;)
                CHILD_CHECK(kin_value_compare_exchange_i64(value, &number, number + 1, &done) == KIN_OK);
            break;
        default:
            CHILD_CHECK(kin_lock_acquire(kin_value_lock(value), test_ms(30000)) == KIN_OK);
            number = kin_value_get_i64(value);
            kin_value_set_i64(value, number + 1); /* two operations: the lock makes them one */
            CHILD_CHECK(kin_lock_release(kin_value_lock(value)) == KIN_OK);
        }
    }
    kin_lock_close(gate);
    kin_value_close(value);
    return 0;
}

static void count_with_four(kin_value *value, int how, int64_t times)
{
    kin_process *children[4];
    kin_lock *gate = test_gate(); /* all begin together */
    for (size_t i = 0; i < 4; i++)
        children[i] = test_start(target_count, KIN_ARGS(value, gate, how, times));
    test_open(gate);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    kin_lock_close(gate);
}

static void no_update_is_lost(void **state)
{
    int64_t times = test_scale(200000, 100000);
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 0));
    count_with_four(value, ADD_I64, times);
    assert_int_equal(kin_value_get_i64(value), -4 * times);
    kin_value_close(value);
    check(kin_value_create_u64(&value, 0));
    count_with_four(value, ADD_U64, times);
    assert_int_equal(kin_value_get_u64(value), 12 * times);
    kin_value_close(value);
    check(kin_value_create_f64(&value, 0));
    count_with_four(value, ADD_F64, times);
    assert_true(kin_value_get_f64(value) == 2.0 * (double)times);
    kin_value_close(value);
    check(kin_value_create(&value, 0));
    count_with_four(value, SWAP, times);
    assert_int_equal(kin_value_get_i64(value), 4 * times);
    kin_value_close(value);
}

static void its_lock(void **state)
{
    int64_t times = test_scale(20000, 5000);
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 0));
    count_with_four(value, LOCKED, times);
    assert_int_equal(kin_value_get_i64(value), 4 * times);
    check(kin_lock_acquire(kin_value_lock(value), KIN_NOWAIT));
    check(kin_value_add_i64(value, 1, NULL)); /* the operations neither take nor heed it */
    check(kin_lock_release(kin_value_lock(value)));
    kin_value_close(value);
}

/* A token that is passed round by exchange is never doubled. */
static int target_token(kin_args *args)
{
    kin_value *place;
    int64_t times, held = 0;
    CHILD_CHECK(kin_unpack(args, &place, &times) == KIN_OK);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_value_exchange_i64(place, held, &held) == KIN_OK);
        CHILD_CHECK(held == 0 || held == 1);
    }
    if (held == 1)
        CHILD_CHECK(kin_value_exchange_i64(place, 1, &held) == KIN_OK && held == 0);
    kin_value_close(place);
    return 0;
}

static void exchange_neither_loses_nor_doubles(void **state)
{
    kin_process *children[4];
    kin_value *place;
    (void)state;
    check(kin_value_create(&place, 1));
    for (size_t i = 0; i < 4; i++)
        children[i] = test_start(target_token, KIN_ARGS(place, (int64_t)test_scale(100000, 50000)));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_int_equal(kin_value_get_i64(place), 1);
    kin_value_close(place);
}

static int target_types(kin_args *args)
{
    kin_value *i, *u, *f;
    CHILD_CHECK(kin_unpack(args, &i, &u, &f) == KIN_OK);
    CHILD_CHECK(kin_value_get_i64(i) == -1 && kin_value_get_u64(u) == UINT64_MAX && kin_value_get_f64(f) == -0.5);
    CHILD_CHECK(kin_value_set_f64(i, 1) == KIN_ETYPE && kin_value_set_i64(u, 1) == KIN_ETYPE && kin_value_set_u64(f, 1) == KIN_ETYPE);
    CHILD_CHECK(kin_value_set_i64(i, 1) == KIN_OK && kin_value_set_u64(u, 2) == KIN_OK && kin_value_set_f64(f, 3) == KIN_OK);
    return 0;
}

static void types_travel(void **state)
{
    kin_value *i, *u, *f;
    (void)state;
    check(kin_value_create(&i, -1));
    check(kin_value_create_u64(&u, UINT64_MAX));
    check(kin_value_create_f64(&f, -0.5));
    assert_int_equal(test_run(target_types, KIN_ARGS(i, u, f)), 0);
    assert_true(kin_value_get_i64(i) == 1 && kin_value_get_u64(u) == 2 && kin_value_get_f64(f) == 3);
    kin_value_close(i);
    kin_value_close(u);
    kin_value_close(f);
}

/* The number lives as long as somebody has it. */
static int target_keep(kin_args *args)
{
    kin_value *value, *answer;
    kin_lock *gate;
    CHILD_CHECK(kin_unpack(args, &value, &answer, &gate) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    CHILD_CHECK(kin_value_set_i64(answer, kin_value_get_i64(value) + 1) == KIN_OK);
    return 0;
}

static void creator_closes(void **state)
{
    kin_value *value, *answer;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&value, 41));
    check(kin_value_create(&answer, 0));
    kin_process *p = test_start(target_keep, KIN_ARGS(value, answer, gate));
    kin_value_close(value);
    test_open(gate);
    assert_int_equal(test_finish(p), 0);
    assert_int_equal(kin_value_get_i64(answer), 42);
    kin_value_close(answer);
    kin_lock_close(gate);
}

/* A process that is killed in the middle of adding leaves the old or the new number. */
static int target_add_for_ever(kin_args *args)
{
    kin_value *value, *ready;
    CHILD_CHECK(kin_unpack(args, &value, &ready) == KIN_OK);
    kin_value_add_i64(ready, 1, NULL);
    for (int64_t end = kin_now() + test_ms(30000); kin_now() < end;)
        kin_value_add_f64(value, 1.0, NULL);
    return 0;
}

static void killed_while_adding(void **state)
{
    kin_process *children[2];
    kin_value *value, *ready;
    (void)state;
    check(kin_value_create_f64(&value, 0));
    check(kin_value_create(&ready, 0));
    for (int round = 0; round < test_scale(50, 3); round++) {
        for (size_t i = 0; i < 2; i++)
            children[i] = test_start(target_add_for_ever, KIN_ARGS(value, ready));
        assert_true(test_await(ready, 2 * (round + 1)));
        for (size_t i = 0; i < 2; i++) {
            check(kin_process_kill(children[i]));
            assert_int_equal(test_finish(children[i]), -9);
        }
        double now = kin_value_get_f64(value);
        assert_true(now >= 0 && now == (double)(int64_t)now);
    }
    kin_value_close(value);
    kin_value_close(ready);
}

/* Threads of one process are no different. */
static kin_value *counted_by_threads;

static void count_in_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50000; i++)
        (void)kin_value_add_f64(counted_by_threads, 1, NULL);
}

static void threads_lose_nothing(void **state)
{
    uv_thread_t threads[4];
    (void)state;
    check(kin_value_create_f64(&counted_by_threads, 0));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(uv_thread_create(&threads[i], count_in_thread, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    assert_true(kin_value_get_f64(counted_by_threads) == 200000);
    kin_value_close(counted_by_threads);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_integers),
        cmocka_unit_test(unsigned_integers),
        cmocka_unit_test(doubles),
        cmocka_unit_test(doubles_by_bits),
        cmocka_unit_test(another_type),
        cmocka_unit_test(no_value),
        cmocka_unit_test(without_swapped),
        cmocka_unit_test(no_update_is_lost),
        cmocka_unit_test(its_lock),
        cmocka_unit_test(exchange_neither_loses_nor_doubles),
        cmocka_unit_test(types_travel),
        cmocka_unit_test(creator_closes),
        cmocka_unit_test(killed_while_adding),
        cmocka_unit_test(threads_lose_nothing),
    };
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
