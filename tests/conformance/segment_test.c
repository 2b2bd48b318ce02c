/* kin/segment.h: shared memory for one's own structs. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

static void zeroed_and_of_exact_size(void **state)
{
    static const size_t sizes[] = {1, 2, 63, 64, 65, 4031, 4032, 4033, 4096, 65536, 100001, 1 << 22};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        kin_segment *segment = NULL;
        check(kin_segment_create(&segment, sizes[i]));
        assert_non_null(segment);
        assert_int_equal(kin_segment_size(segment), sizes[i]);
        unsigned char *data = kin_segment_data(segment);
        assert_non_null(data);
        assert_int_equal((uintptr_t)data % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) {
            if (data[k] != 0)
                fail_msg("byte %zu of %zu is %d", k, sizes[i], data[k]);
        }
        memset(data, 0xff, sizes[i]);
        assert_int_equal(kin_segment_size(segment), sizes[i]);
        kin_segment_close(segment);
    }
}

/* What one left behind is not seen by the next. */
static void zeroed_again(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        kin_segment *segment;
        check(kin_segment_create(&segment, 5000));
        unsigned char *data = kin_segment_data(segment);
        for (size_t k = 0; k < 5000; k++)
            assert_int_equal(data[k], 0);
        memset(data, 0xaa, 5000);
        kin_segment_close(segment);
    }
}

static void cannot_be_created(void **state)
{
    kin_segment *segment = NULL;
    (void)state;
    check_fails(KIN_EINVAL, kin_segment_create(&segment, 0));
    check_fails(KIN_EINVAL, kin_segment_create(NULL, 10));
    int before = test_count_handles();
    static const size_t sizes[] = {(size_t)1 << 50, (size_t)1 << 62, SIZE_MAX / 2, SIZE_MAX - 63, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_fails(KIN_ENOMEM, kin_segment_create(&segment, sizes[i]));
        assert_null(segment);
        check_says("cannot create a segment");
        check_says("memory");
    }
    assert_int_equal(test_count_handles(), before);
    check(kin_segment_create(&segment, 10)); /* and all is well again */
    kin_segment_close(segment);
}

static void used_after_close(void **state)
{
    kin_segment *segment;
    (void)state;
    check(kin_segment_create(&segment, 100));
    kin_segment_close(segment);
    assert_null(kin_segment_data(segment));
    assert_int_equal(kin_last_code(), KIN_EINVAL);
    assert_int_equal(kin_segment_size(segment), 0);
    kin_segment_close(segment); /* does nothing */
    assert_null(kin_segment_data(NULL));
    assert_int_equal(kin_segment_size(NULL), 0);
    kin_segment_close(NULL);
}

/* An object of another kind is not taken for a segment. */
static void another_kind(void **state)
{
    kin_value *value;
    static char bytes[256];
    (void)state;
    check(kin_value_create(&value, 1));
    assert_null(kin_segment_data((kin_segment *)(void *)value));
    assert_int_equal(kin_segment_size((kin_segment *)(void *)value), 0);
    kin_segment_close((kin_segment *)(void *)value);
    assert_int_equal(kin_value_get_i64(value), 1);
    kin_value_close(value);
    assert_null(kin_segment_data((kin_segment *)(void *)bytes));
}

static void many(void **state)
{
    kin_segment *segments[200];
    (void)state;
    int before = test_count_handles();
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < 200; i++) {
            check(kin_segment_create(&segments[i], 100 + i));
            memset(kin_segment_data(segments[i]), (int)i, 100 + i);
        }
        for (size_t i = 0; i < 200; i++) {
            assert_int_equal(kin_segment_size(segments[i]), 100 + i);
            assert_int_equal(((unsigned char *)kin_segment_data(segments[i]))[99 + i], i);
        }
        for (size_t i = 0; i < 200; i++) /* not in the order in which they were made */
            kin_segment_close(segments[(i * 77 + (size_t)round) % 200]);
    }
    assert_int_equal(test_count_handles(), before);
}

/* Closed memory goes back to the system. */
static void memory_comes_back(void **state)
{
    const size_t size = 16u << 20;
    (void)state;
    int64_t before = test_memory();
    for (int i = 0; i < test_scale(50, 20); i++) {
        kin_segment *segment;
        check(kin_segment_create(&segment, size));
        memset(kin_segment_data(segment), 1, size);
        kin_segment_close(segment);
    }
    if (!test_with_sanitizer())
        assert_true(test_memory() - before < 64 << 20);
}

/* ---- with children ---- */

#define PATTERN(i) ((unsigned char)((i) * 31 + 7))

static int target_verify(kin_args *args)
{
    kin_segment *segment;
    kin_lock *gate;
    uint64_t size;
    CHILD_CHECK(kin_unpack(args, &segment, &gate, &size) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    kin_lock_close(gate);
    CHILD_CHECK(kin_segment_size(segment) == size);
    unsigned char *data = kin_segment_data(segment);
    CHILD_CHECK((uintptr_t)data % 64 == 0);
    for (size_t i = 0; i < size; i++)
        CHILD_CHECK(data[i] == PATTERN(i));
    kin_segment_close(segment);
    CHILD_CHECK(kin_segment_data(segment) == NULL && kin_segment_size(segment) == 0);
    return 0;
}

static void creator_closes(void **state)
{
    static const size_t sizes[] = {1, 4097, 1 << 20};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        kin_segment *segment;
        kin_lock *gate = test_gate();
        check(kin_segment_create(&segment, sizes[i]));
        unsigned char *data = kin_segment_data(segment);
        for (size_t k = 0; k < sizes[i]; k++)
            data[k] = PATTERN(k);
        kin_process *p = test_start(target_verify, KIN_ARGS(segment, gate, (uint64_t)sizes[i]));
        kin_segment_close(segment);
        test_open(gate);
        assert_int_equal(test_finish(p), 0);
        kin_lock_close(gate);
    }
}

static int target_write(kin_args *args)
{
    kin_segment *segment;
    CHILD_CHECK(kin_unpack(args, &segment) == KIN_OK);
    unsigned char *data = kin_segment_data(segment);
    for (size_t i = 0; i < kin_segment_size(segment); i++)
        data[i] = PATTERN(i);
    return 0; /* with the segment open: its end gives it back */
}

static void child_writes(void **state)
{
    kin_segment *segment;
    (void)state;
    check(kin_segment_create(&segment, 10007));
    assert_int_equal(test_run(target_write, KIN_ARGS(segment)), 0);
    unsigned char *data = kin_segment_data(segment);
    for (size_t i = 0; i < 10007; i++)
        assert_int_equal(data[i], PATTERN(i));
    kin_segment_close(segment);
}

static int target_verify_and_tell(kin_args *args)
{
    kin_segment *segment;
    kin_lock *gate;
    kin_value *told;
    CHILD_CHECK(kin_unpack(args, &segment, &gate, &told) == KIN_OK);
    kin_value_set_i64(told, 1);
    bool good = test_pass(gate);
    unsigned char *data = kin_segment_data(segment);
    for (size_t i = 0; good && i < kin_segment_size(segment); i++)
        good = data[i] == PATTERN(i);
    kin_value_set_i64(told, good && kin_segment_size(segment) == 5000 ? 2 : 3);
    kin_segment_close(segment);
    kin_lock_close(gate);
    kin_value_close(told);
    return 0;
}

/* Creates a segment, passes it on, and waits to be killed. */
static int target_create(kin_args *args)
{
    kin_segment *segment;
    kin_lock *gate;
    kin_value *told;
    kin_process *p;
    CHILD_CHECK(kin_unpack(args, &gate, &told) == KIN_OK);
    CHILD_CHECK(kin_segment_create(&segment, 5000) == KIN_OK);
    unsigned char *data = kin_segment_data(segment);
    for (size_t i = 0; i < 5000; i++)
        data[i] = PATTERN(i);
    CHILD_CHECK(kin_process_start(&p, target_verify_and_tell, KIN_ARGS(segment, gate, told), NULL) == KIN_OK);
    CHILD_CHECK(test_await(told, 3)); /* it never comes to that */
    return 0;
}

static void creator_is_killed(void **state)
{
    kin_value *told;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&told, 0));
    kin_process *p = test_start(target_create, KIN_ARGS(gate, told));
    assert_true(test_await(told, 1));
    check(kin_process_kill(p));
    assert_int_equal(test_finish(p), -9);
    test_open(gate);
    assert_true(test_await(told, 2));
    assert_int_equal(kin_value_get_i64(told), 2);
    kin_value_close(told);
    kin_lock_close(gate);
}

static int target_references(kin_args *args)
{
    kin_segment *first, *second;
    CHILD_CHECK(kin_unpack(args, &first, &second) == KIN_OK);
    char *data = kin_segment_data(second);
    CHILD_CHECK(kin_segment_data(first) == data);
    kin_segment_close(first);
    CHILD_CHECK(kin_segment_data(second) == data && kin_segment_size(second) == 10);
    data[9] = 5;
    kin_segment_close(second);
    CHILD_CHECK(kin_segment_data(second) == NULL);
    return 0;
}

static void each_reference_counts(void **state)
{
    kin_segment *segment;
    (void)state;
    check(kin_segment_create(&segment, 10));
    assert_int_equal(test_run(target_references, KIN_ARGS(segment, segment)), 0);
    assert_int_equal(((char *)kin_segment_data(segment))[9], 5);
    kin_segment_close(segment);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_and_of_exact_size),
        cmocka_unit_test(zeroed_again),
        cmocka_unit_test(cannot_be_created),
        cmocka_unit_test(used_after_close),
        cmocka_unit_test(another_kind),
        cmocka_unit_test(many),
        cmocka_unit_test(memory_comes_back),
        cmocka_unit_test(creator_closes),
        cmocka_unit_test(child_writes),
        cmocka_unit_test(creator_is_killed),
        cmocka_unit_test(each_reference_counts),
    };
    test_allow_handles(1024);
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
