/* kin/array.h: typed items in shared memory. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    kin_item type;
    size_t size;
} types[] = {{KIN_I8, 1},  {KIN_U8, 1},  {KIN_I16, 2}, {KIN_U16, 2}, {KIN_I32, 4},
             {KIN_U32, 4}, {KIN_I64, 8}, {KIN_U64, 8}, {KIN_F32, 4}, {KIN_F64, 8}};
#define TYPES (sizeof types / sizeof types[0])

static void every_type(void **state)
{
    static const size_t counts[] = {1, 2, 63, 1000, 4097};
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            kin_array *array = NULL;
            check(kin_array_create(&array, types[t].type, counts[c]));
            assert_int_equal(kin_array_type(array), types[t].type);
            assert_int_equal(kin_array_item_size(array), types[t].size);
            assert_int_equal(kin_array_count(array), counts[c]);
            unsigned char *data = kin_array_data(array);
            assert_non_null(data);
            assert_int_equal((uintptr_t)data % 64, 0);
            for (size_t i = 0; i < counts[c] * types[t].size; i++)
                assert_int_equal(data[i], 0);
            memset(data, 0xff, counts[c] * types[t].size);
            kin_array_close(array);
        }
    }
}

typedef struct particle {
    double position[3];
    float mass;
    char kind;
} particle;

static void structs(void **state)
{
    kin_array *array;
    particle p = {{1, 2, 3}, 0.5f, 'p'}, q;
    (void)state;
    check(kin_array_create_of(&array, sizeof(particle), 10));
    assert_int_equal(kin_array_type(array), KIN_ITEM_STRUCT);
    assert_int_equal(kin_array_item_size(array), sizeof(particle));
    assert_int_equal(kin_array_count(array), 10);
    check(kin_array_set(array, 9, &p));
    check(kin_array_get(array, 9, &q));
    assert_memory_equal(&p, &q, sizeof p);
    assert_true(((particle *)kin_array_data(array))[9].mass == 0.5f);
    check(kin_array_get(array, 8, &q));
    assert_true(q.mass == 0 && q.position[2] == 0 && q.kind == 0);
    kin_array_close(array);
    check(kin_array_create_of(&array, 7, 3)); /* any size */
    assert_int_equal(kin_array_item_size(array), 7);
    check(kin_array_set(array, 2, "sixsix"));
    assert_string_equal((char *)kin_array_data(array) + 14, "sixsix");
    kin_array_close(array);
}

static void get_and_set(void **state)
{
    kin_array *array;
    (void)state;
    check(kin_array_create(&array, KIN_I32, 100));
    for (int32_t i = 0; i < 100; i++) {
        int32_t item = i * i - 50;
        check(kin_array_set(array, (size_t)i, &item));
    }
    for (int32_t i = 0; i < 100; i++) {
        int32_t item = 0;
        check(kin_array_get(array, (size_t)i, &item));
        assert_int_equal(item, i * i - 50);
        assert_int_equal(((int32_t *)kin_array_data(array))[i], i * i - 50);
    }
    kin_array_close(array);
}

static void bounds(void **state)
{
    kin_array *array;
    int16_t item = 77;
    static const size_t outside[] = {3, 4, 1000, SIZE_MAX / 2, SIZE_MAX};
    (void)state;
    check(kin_array_create(&array, KIN_I16, 3));
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        char index[32];
        (void)snprintf(index, sizeof index, "%zu", outside[i]);
        check_fails(KIN_ERANGE, kin_array_get(array, outside[i], &item));
        check_says(index);
        check_says("3 items");
        check_fails(KIN_ERANGE, kin_array_set(array, outside[i], &item));
        check_says(index);
    }
    assert_int_equal(item, 77);
    check_fails(KIN_EINVAL, kin_array_get(array, 0, NULL));
    check_fails(KIN_EINVAL, kin_array_set(array, 0, NULL));
    check(kin_array_set(array, 2, &item));
    kin_array_close(array);
}

static void cannot_be_created(void **state)
{
    kin_array *array = NULL;
    (void)state;
    check_fails(KIN_EINVAL, kin_array_create(NULL, KIN_I8, 1));
    check_fails(KIN_EINVAL, kin_array_create(&array, KIN_ITEM_STRUCT, 1));
    check_fails(KIN_EINVAL, kin_array_create(&array, (kin_item)11, 1));
    check_says("11");
    check_fails(KIN_EINVAL, kin_array_create(&array, (kin_item)-1, 1));
    check_fails(KIN_EINVAL, kin_array_create(&array, (kin_item)1000000, 1));
    check_fails(KIN_EINVAL, kin_array_create(&array, KIN_I8, 0));
    check_fails(KIN_EINVAL, kin_array_create_of(&array, 0, 1));
    check_fails(KIN_EINVAL, kin_array_create_of(&array, 1, 0));
    check_fails(KIN_EINVAL, kin_array_create_of(NULL, 1, 1));
    check_fails(KIN_EINVAL, kin_array_create(&array, KIN_F64, SIZE_MAX)); /* more than can be addressed */
    check_fails(KIN_EINVAL, kin_array_create(&array, KIN_F64, SIZE_MAX / 8 + 1));
    check_fails(KIN_EINVAL, kin_array_create_of(&array, (size_t)1 << 33, (size_t)1 << 33));
    int before = test_count_handles();
    check_fails(KIN_ENOMEM, kin_array_create(&array, KIN_U8, (size_t)1 << 50)); /* more than there is */
    check_fails(KIN_ENOMEM, kin_array_create_of(&array, (size_t)1 << 25, (size_t)1 << 25));
    assert_int_equal(test_count_handles(), before);
    assert_null(array);
}

static void no_array(void **state)
{
    kin_array *array;
    kin_value *value;
    int8_t item;
    (void)state;
    check(kin_array_create(&array, KIN_I8, 5));
    check(kin_value_create(&value, 1));
    kin_array_close(array);
    kin_array *const none[] = {NULL, array, (kin_array *)(void *)value};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kin_array_count(none[i]), 0);
        assert_int_equal(kin_last_code(), KIN_EINVAL);
        assert_int_equal(kin_array_item_size(none[i]), 0);
        assert_int_equal(kin_array_type(none[i]), KIN_ITEM_STRUCT);
        assert_null(kin_array_data(none[i]));
        check_fails(KIN_EINVAL, kin_array_get(none[i], 0, &item));
        check_fails(KIN_EINVAL, kin_array_set(none[i], 0, &item));
        kin_array_close(none[i]);
    }
    assert_int_equal(kin_value_get_i64(value), 1);
    kin_value_close(value);
}

/* ---- with children ---- */

static int target_types(kin_args *args)
{
    for (size_t t = 0; t < TYPES; t++) {
        kin_array *array;
        CHILD_CHECK(kin_args_get(args, t, KIN_OUT(&array)) == KIN_OK);
        CHILD_CHECK(kin_array_type(array) == types[t].type && kin_array_item_size(array) == types[t].size);
        CHILD_CHECK(kin_array_count(array) == 10 + t);
        unsigned char *data = kin_array_data(array);
        CHILD_CHECK((uintptr_t)data % 64 == 0);
        for (size_t i = 0; i < kin_array_count(array) * types[t].size; i++) {
            CHILD_CHECK(data[i] == (unsigned char)(i + t));
            data[i] ^= 0xff;
        }
        kin_array_close(array);
        CHILD_CHECK(kin_array_data(array) == NULL);
    }
    return 0;
}

static void types_travel(void **state)
{
    kin_array *arrays[TYPES];
    kin_any items[TYPES];
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        check(kin_array_create(&arrays[t], types[t].type, 10 + t));
        unsigned char *data = kin_array_data(arrays[t]);
        for (size_t i = 0; i < (10 + t) * types[t].size; i++)
            data[i] = (unsigned char)(i + t);
        items[t] = KIN_ANY(arrays[t]);
    }
    assert_int_equal(test_run(target_types, (kin_pack){items, TYPES}), 0);
    for (size_t t = 0; t < TYPES; t++) {
        unsigned char *data = kin_array_data(arrays[t]);
        for (size_t i = 0; i < (10 + t) * types[t].size; i++)
            assert_int_equal(data[i], (unsigned char)((i + t) ^ 0xff));
        kin_array_close(arrays[t]);
    }
}

#define COUNT 100000u

static int target_quarter(kin_args *args)
{
    kin_array *array;
    unsigned part;
    CHILD_CHECK(kin_unpack(args, &array, &part) == KIN_OK);
    size_t count = kin_array_count(array);
    double *data = kin_array_data(array);
    for (size_t i = part * (count / 4); i < (part + 1) * (count / 4); i++)
        data[i] = data[i] * 2 + 1;
    return 0; /* its end gives the array back */
}

static void four_share_the_work(void **state)
{
    kin_array *array;
    kin_process *children[4];
    (void)state;
    check(kin_array_create(&array, KIN_F64, COUNT));
    double *data = kin_array_data(array);
    for (size_t i = 0; i < COUNT; i++)
        data[i] = (double)i;
    for (unsigned i = 0; i < 4; i++)
        children[i] = test_start(target_quarter, KIN_ARGS(array, i));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(data[i] == (double)i * 2 + 1);
    kin_array_close(array);
}

static int target_bounds(kin_args *args)
{
    kin_array *array;
    particle p = {{4, 5, 6}, 1, 'c'}, q;
    CHILD_CHECK(kin_unpack(args, &array) == KIN_OK);
    CHILD_CHECK(kin_array_type(array) == KIN_ITEM_STRUCT && kin_array_count(array) == 3 && kin_array_item_size(array) == sizeof p);
    CHILD_CHECK(kin_array_get(array, 3, &q) == KIN_ERANGE && kin_array_set(array, 3, &p) == KIN_ERANGE);
    CHILD_CHECK(kin_array_get(array, 1, &q) == KIN_OK && q.kind == 'p');
    CHILD_CHECK(kin_array_set(array, 2, &p) == KIN_OK);
    return 0;
}

static void bounds_in_a_child(void **state)
{
    kin_array *array;
    particle p = {{1, 2, 3}, 0.5f, 'p'};
    (void)state;
    check(kin_array_create_of(&array, sizeof p, 3));
    check(kin_array_set(array, 1, &p));
    assert_int_equal(test_run(target_bounds, KIN_ARGS(array)), 0);
    check(kin_array_get(array, 2, &p));
    assert_true(p.kind == 'c' && p.position[2] == 6);
    kin_array_close(array);
}

static int target_keep(kin_args *args)
{
    kin_array *array;
    kin_lock *gate;
    int32_t item;
    CHILD_CHECK(kin_unpack(args, &array, &gate) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    CHILD_CHECK(kin_array_get(array, 9999, &item) == KIN_OK);
    return item;
}

static void creator_closes(void **state)
{
    kin_array *array;
    int32_t item = 33;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_array_create(&array, KIN_I32, 10000));
    check(kin_array_set(array, 9999, &item));
    kin_process *p = test_start(target_keep, KIN_ARGS(array, gate));
    kin_array_close(array);
    test_open(gate);
    assert_int_equal(test_finish(p), 33);
    kin_lock_close(gate);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),    cmocka_unit_test(structs),           cmocka_unit_test(get_and_set),
        cmocka_unit_test(bounds),        cmocka_unit_test(cannot_be_created), cmocka_unit_test(no_array),
        cmocka_unit_test(types_travel),  cmocka_unit_test(four_share_the_work), cmocka_unit_test(bounds_in_a_child),
        cmocka_unit_test(creator_closes),
    };
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("array", tests, NULL, NULL);
}
