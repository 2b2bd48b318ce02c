/* Packs: the macros that make them, and the way to bytes and back, which must believe nothing. */
#include "any.h"
#include "support.h"

#include "fault.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* ---- the macros ---- */

static void counts(void **state)
{
    (void)state;
    assert_int_equal(KIN_ARGS().count, 0);
    assert_null(KIN_ARGS().items);
    assert_int_equal(KIN_ARGS(0).count, 1);
    assert_int_equal(KIN_ARGS((0)).count, 1);
    assert_int_equal(KIN_ARGS(1, 2).count, 2);
    assert_int_equal(KIN_ARGS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16).count, 16);
    kin_pack pack = KIN_ARGS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
                             31, 32);
    assert_int_equal(pack.count, 32);
    for (size_t i = 0; i < 32; i++) {
        assert_int_equal(pack.items[i].type, KIN_TYPE_INT);
        assert_int_equal(pack.items[i].as.i, i + 1);
    }
}

static void types(void **state)
{
    char text[] = "abc";
    const char *constant = "def";
    kin_value *value = NULL;
    const kin_array *array = NULL;
    struct pair {
        int a, b;
    } pair = {1, 2};
    (void)state;
    kin_pack p = KIN_ARGS((bool)true, 'x', (signed char)-1, (unsigned char)255, (short)-2, (unsigned short)3, -4, 5u, -6L, 7uL, -8LL, 9uLL, 0.5f,
                          0.25, text, constant, "literal", stderr, value, array, (kin_segment *)NULL, (kin_lock *)NULL, kin_bytes("z", 1),
                          kin_struct(pair), kin_list(KIN_ARGS(1)), kin_fd(0), kin_handle(0));
    static const kin_type expected[] = {
        KIN_TYPE_BOOL,   KIN_TYPE_INT,    KIN_TYPE_INT,     KIN_TYPE_UINT,   KIN_TYPE_INT,    KIN_TYPE_UINT,   KIN_TYPE_INT,
        KIN_TYPE_UINT,   KIN_TYPE_INT,    KIN_TYPE_UINT,    KIN_TYPE_INT,    KIN_TYPE_UINT,   KIN_TYPE_DOUBLE, KIN_TYPE_DOUBLE,
        KIN_TYPE_STRING, KIN_TYPE_STRING, KIN_TYPE_STRING,  KIN_TYPE_FILE,   KIN_TYPE_VALUE,  KIN_TYPE_ARRAY,  KIN_TYPE_SEGMENT,
        KIN_TYPE_LOCK,   KIN_TYPE_BYTES,  KIN_TYPE_STRUCT,  KIN_TYPE_LIST,   KIN_TYPE_FD,     KIN_TYPE_HANDLE};
    assert_int_equal(p.count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < p.count; i++)
        assert_int_equal(p.items[i].type, expected[i]);
    assert_int_equal(p.items[3].as.u, 255);
    assert_int_equal(p.items[4].as.i, -2);
    assert_true(p.items[12].as.d == 0.5);
    assert_int_equal(p.items[23].size, sizeof pair);
}

/* The numbers are part of the form in which values travel. */
static void type_numbers(void **state)
{
    (void)state;
    assert_int_equal(KIN_TYPE_NONE, 0);
    assert_int_equal(KIN_TYPE_BOOL, 1);
    assert_int_equal(KIN_TYPE_STRING, 5);
    assert_int_equal(KIN_TYPE_FILE, 9);
    assert_int_equal(KIN_TYPE_LOCK, 15);
}

static int evaluated;

static int once(void)
{
    return ++evaluated;
}

static void arguments_are_evaluated_once(void **state)
{
    (void)state;
    kin_pack p = KIN_ARGS(once(), once());
    assert_int_equal(evaluated, 2);
    assert_int_equal(p.items[0].as.i + p.items[1].as.i, 3);
}

/* ---- there and back ---- */

/* What a receiver has: bytes and handles of its own. */
typedef struct letter {
    void *bytes;
    size_t size;
    os_handle *handles;
    kin_args *args;
} letter;

static void throw_away(letter *l)
{
    kin__args_free(l->args);
    free(l->handles);
    free(l->bytes);
    *l = (letter){0};
}

static kin_err deliver(kin_pack pack, letter *l)
{
    kin__parcel parcel = {0};
    size_t count = 0;
    *l = (letter){0};
    kin_err err = kin__parcel_add_pack(&parcel, pack);
    if (err == KIN_OK) {
        l->size = parcel.size;
        l->bytes = malloc(parcel.size + 1);
        l->handles = calloc(parcel.handle_count + 1, sizeof *l->handles);
        assert_true(l->bytes != NULL && l->handles != NULL);
        memcpy(l->bytes, parcel.bytes, parcel.size);
        for (; count < parcel.handle_count; count++)
            check(os_handle_duplicate(parcel.handles[count], &l->handles[count]));
        err = kin__args_decode(l->bytes, l->size, l->handles, count, &l->args);
    }
    kin__parcel_free(&parcel);
    if (err != KIN_OK)
        throw_away(l);
    return err;
}

/* `passed` arrives unchanged in a place of `type`. */
#define ARRIVES(type, passed)                                                                                          \
    do {                                                                                                               \
        letter l;                                                                                                      \
        type place = 0;                                                                                                \
        check(deliver(KIN_ARGS(passed), &l));                                                                          \
        check(kin_unpack(l.args, &place));                                                                             \
        assert_true(place == (passed));                                                                                \
        throw_away(&l);                                                                                                \
    } while (0)

/* `passed` is no truth value: the place is left as it was. */
#define IS_NO_BOOL(passed)                                                                                             \
    do {                                                                                                               \
        letter l;                                                                                                      \
        bool place = true, other = false;                                                                              \
        check(deliver(KIN_ARGS(passed), &l));                                                                          \
        check_fails(KIN_ERANGE, kin_unpack(l.args, &place));                                                           \
        check_says("value 0");                                                                                         \
        check_fails(KIN_ERANGE, kin_unpack(l.args, &other));                                                           \
        assert_true(place && !other);                                                                                  \
        throw_away(&l);                                                                                                \
    } while (0)

/* `passed` does not fit: the place is left as it was. */
#define DOES_NOT_FIT(type, passed)                                                                                     \
    do {                                                                                                               \
        letter l;                                                                                                      \
        type place = 77;                                                                                               \
        check(deliver(KIN_ARGS(0, passed), &l));                                                                    \
        check_fails(KIN_ERANGE, kin_args_get(l.args, 1, KIN_OUT(&place)));                                             \
        check_says("value 1");                                                                                         \
        assert_true(place == 77);                                                                                      \
        throw_away(&l);                                                                                                \
    } while (0)

static void integers_fit(void **state)
{
    (void)state;
    ARRIVES(signed char, SCHAR_MIN);
    ARRIVES(signed char, SCHAR_MAX);
    ARRIVES(unsigned char, UCHAR_MAX);
    ARRIVES(unsigned char, 0);
    ARRIVES(char, CHAR_MIN);
    ARRIVES(char, CHAR_MAX);
    ARRIVES(short, SHRT_MIN);
    ARRIVES(short, SHRT_MAX);
    ARRIVES(unsigned short, USHRT_MAX);
    ARRIVES(int, INT_MIN);
    ARRIVES(int, INT_MAX);
    ARRIVES(unsigned, UINT_MAX);
    ARRIVES(long, LONG_MIN);
    ARRIVES(long, LONG_MAX);
    ARRIVES(unsigned long, ULONG_MAX);
    ARRIVES(long long, LLONG_MIN);
    ARRIVES(long long, LLONG_MAX);
    ARRIVES(unsigned long long, ULLONG_MAX);
    ARRIVES(int64_t, INT64_MIN);
    ARRIVES(uint64_t, UINT64_MAX);
    ARRIVES(size_t, SIZE_MAX);
    /* Signedness is not a type of its own: what fits, fits. */
    ARRIVES(int, 5u);
    ARRIVES(unsigned, 5);
    ARRIVES(signed char, (unsigned long long)SCHAR_MAX);
    ARRIVES(long long, (unsigned long long)LLONG_MAX);
    ARRIVES(unsigned long long, LLONG_MAX);
}

static void integers_do_not_fit(void **state)
{
    (void)state;
    DOES_NOT_FIT(signed char, SCHAR_MIN - 1);
    DOES_NOT_FIT(signed char, SCHAR_MAX + 1);
    DOES_NOT_FIT(unsigned char, UCHAR_MAX + 1);
    DOES_NOT_FIT(unsigned char, -1);
    DOES_NOT_FIT(char, CHAR_MAX + 1);
    DOES_NOT_FIT(char, CHAR_MIN - 1);
    DOES_NOT_FIT(short, SHRT_MIN - 1);
    DOES_NOT_FIT(short, SHRT_MAX + 1);
    DOES_NOT_FIT(unsigned short, USHRT_MAX + 1);
    DOES_NOT_FIT(unsigned short, -1);
    DOES_NOT_FIT(int, (long long)INT_MIN - 1);
    DOES_NOT_FIT(int, (long long)INT_MAX + 1);
    DOES_NOT_FIT(unsigned, (long long)UINT_MAX + 1);
    DOES_NOT_FIT(unsigned, -1);
    DOES_NOT_FIT(unsigned long, -1L);
    DOES_NOT_FIT(long long, (unsigned long long)LLONG_MAX + 1);
    DOES_NOT_FIT(long long, ULLONG_MAX);
    DOES_NOT_FIT(unsigned long long, -1LL);
    DOES_NOT_FIT(unsigned long long, LLONG_MIN);
    IS_NO_BOOL(2);
    IS_NO_BOOL(-1);
    IS_NO_BOOL(256);
    IS_NO_BOOL(UINT64_MAX);
}

static void other_numbers(void **state)
{
    (void)state;
    ARRIVES(bool, (bool)true);
    ARRIVES(bool, (bool)false);
    ARRIVES(bool, true); /* an int in C11 */
    ARRIVES(bool, 1 > 2);
    ARRIVES(bool, 1u);
    ARRIVES(double, 1.0 / 3);
    ARRIVES(double, -1e300);
    ARRIVES(float, 0.5f);
    ARRIVES(double, 0.5f);
    letter l;
    double d = 0, minus_zero = 1;
    check(deliver(KIN_ARGS((double)strtod("nan", NULL), -0.0), &l));
    check(kin_unpack(l.args, &d, &minus_zero));
    assert_true(d != d);
    assert_true(minus_zero == 0 && 1 / minus_zero < 0);
    throw_away(&l);
}

typedef struct config {
    char letter;
    double number;
    int list[3];
} config;

static void bytes_and_text(void **state)
{
    static const char utf8[] = "Gr\xc3\xbc\xc3\x9f" "e, \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x90\x9f\n\t\"";
    const config sent = {'k', 2.5, {1, 2, 3}};
    config got;
    const char *text, *empty;
    kin_view view, nothing, null;
    letter l;
    (void)state;
    check(deliver(KIN_ARGS(utf8, "", kin_bytes("a\0b", 3), kin_bytes("", 0), kin_bytes(NULL, 0), kin_struct(sent)), &l));
    check(kin_unpack(l.args, &text, &empty, &view, &nothing, &null, kin_struct_out(got)));
    assert_string_equal(text, utf8);
    assert_string_equal(empty, "");
    assert_int_equal(view.size, 3);
    assert_memory_equal(view.data, "a\0b", 3);
    assert_int_equal(nothing.size, 0);
    assert_int_equal(null.size, 0);
    assert_true(got.letter == 'k' && got.number == 2.5 && got.list[2] == 3);
    throw_away(&l);
}

/* Every length, so that every padding is met; neighbours are not touched. */
static void every_length(void **state)
{
    unsigned char data[64];
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + 1);
    for (size_t n = 0; n <= sizeof data; n++) {
        letter l;
        kin_view view;
        int before, after;
        check(deliver(KIN_ARGS(1, kin_bytes(data, n), 2), &l));
        check(kin_unpack(l.args, &before, &view, &after));
        assert_true(before == 1 && after == 2 && view.size == n);
        assert_memory_equal(view.data, data, n);
        throw_away(&l);
    }
}

static void lists(void **state)
{
    letter l;
    kin_args *outer, *inner, *empty;
    int a, b, c;
    const char *text;
    (void)state;
    check(deliver(KIN_ARGS(kin_list(KIN_ARGS(1, kin_list(KIN_ARGS(2, "two")), kin_list(KIN_ARGS()))), 3), &l));
    assert_int_equal(kin_args_count(l.args), 2);
    assert_int_equal(kin_args_type(l.args, 0), KIN_TYPE_LIST);
    check(kin_unpack(l.args, &outer, &c));
    assert_int_equal(kin_args_count(outer), 3);
    check(kin_unpack(outer, &a, &inner, &empty));
    check(kin_unpack(inner, &b, &text));
    check(kin_unpack(empty));
    assert_true(a == 1 && b == 2 && c == 3);
    assert_string_equal(text, "two");
    throw_away(&l);
}

static kin_any nested(kin_any *space, int depth)
{
    space[depth] = KIN_ANY(4711);
    for (int i = depth - 1; i >= 0; i--)
        space[i] = kin_list((kin_pack){&space[i + 1], 1});
    return space[0];
}

static void depth(void **state)
{
    kin_any space[32];
    letter l;
    (void)state;
    kin_any deepest = nested(space, 16);
    check(deliver((kin_pack){&deepest, 1}, &l));
    kin_args *at = l.args;
    for (int i = 0; i < 16; i++)
        check(kin_unpack(at, &at));
    int number;
    check(kin_unpack(at, &number));
    assert_int_equal(number, 4711);
    throw_away(&l);
    kin_any too_deep = nested(space, 17);
    check_fails(KIN_EINVAL, deliver((kin_pack){&too_deep, 1}, &l));
    check_says("16");
}

static void one_by_one(void **state)
{
    kin_any items[100];
    letter l;
    int64_t number = 0;
    (void)state;
    for (int i = 0; i < 100; i++)
        items[i] = KIN_ANY(i * i);
    check(deliver((kin_pack){items, 100}, &l));
    assert_int_equal(kin_args_count(l.args), 100);
    for (size_t i = 100; i-- > 0;) {
        check(kin_args_get(l.args, i, KIN_OUT(&number)));
        assert_int_equal(number, i * i);
    }
    assert_int_equal(kin_args_type(l.args, 99), KIN_TYPE_INT);
    assert_int_equal(kin_args_type(l.args, 100), KIN_TYPE_NONE);
    assert_int_equal(kin_args_type(NULL, 0), KIN_TYPE_NONE);
    assert_int_equal(kin_args_count(NULL), 0);
    check_fails(KIN_ERANGE, kin_args_get(l.args, 100, KIN_OUT(&number)));
    check_says("100");
    check_fails(KIN_EINVAL, kin_args_get(NULL, 0, KIN_OUT(&number)));
    check_fails(KIN_EINVAL, kin_unpack(NULL, &number));
    throw_away(&l);
}

/* ---- refusals ---- */

static void mismatches(void **state)
{
    letter l;
    int a = 77, b = 77;
    double d = 77;
    bool yes = true;
    const char *text = "before";
    config whole = {0};
    (void)state;
    check(deliver(KIN_ARGS(1, "two"), &l));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &a));
    check_says("2 values were passed");
    check_says("1 are expected");
    check_fails(KIN_ETYPE, kin_unpack(l.args, &a, &text, &b));
    check_fails(KIN_ETYPE, kin_unpack(l.args));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &a, &b));
    check_says("value 1");
    check_says("expected a signed integer");
    check_says("found a string");
    check_fails(KIN_ETYPE, kin_unpack(l.args, &d, &text)); /* an integer is no double */
    check_says("value 0");
    check_fails(KIN_ETYPE, kin_unpack(l.args, &text, &yes)); /* nor is a string a bool */
    check_fails(KIN_ETYPE, kin_unpack(l.args, kin_struct_out(whole), &text));
    check_fails(KIN_EINVAL, kin_unpack(l.args, &a, (const char **)NULL));
    check_says("value 1");
    assert_true(a == 77 && b == 77 && d == 77 && yes);
    assert_string_equal(text, "before");
    check(kin_unpack(l.args, &a, &text));
    check(kin_unpack(l.args, &b, &text)); /* numbers and text may be taken out again */
    assert_true(a == 1 && b == 1);
    throw_away(&l);
    check(deliver(KIN_ARGS(kin_struct(a)), &l));
    check_fails(KIN_ETYPE, kin_unpack(l.args, kin_struct_out(whole)));
    check_says("value 0");
    throw_away(&l);
    check(deliver(KIN_ARGS((bool)true, 1.5), &l));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &a, &d));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &yes, &a));
    throw_away(&l);
}

static void cannot_be_packed(void **state)
{
    letter l;
    (void)state;
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(1, (const char *)NULL), &l));
    check_says("value 1");
    check_fails(KIN_EINVAL, deliver(KIN_ARGS((FILE *)NULL), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(kin_bytes(NULL, 1)), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(1, 2, (kin_value *)NULL), &l));
    check_says("value 2");
    check_fails(KIN_EINVAL, deliver(KIN_ARGS((kin_array *)NULL), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS((kin_segment *)NULL), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS((kin_lock *)NULL), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(kin_fd(-1)), &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(kin_handle(-1)), &l));
    check_fails(KIN_EINVAL, deliver((kin_pack){NULL, 1}, &l));
    kin_any strange = {.type = (kin_type)99};
    check_fails(KIN_EINVAL, deliver((kin_pack){&strange, 1}, &l));
    check_says("99");
    kin_any none = {.type = KIN_TYPE_NONE};
    check_fails(KIN_EINVAL, deliver((kin_pack){&none, 1}, &l));
    check_fails(KIN_EINVAL, deliver(KIN_ARGS(1, kin_list(KIN_ARGS(1, 2, (const char *)NULL))), &l));
    check_says("value 1: value 2");
}

/* ---- damage ---- */

/* Reads everything there is, to whatever depth. */
static void read_all(kin_args *args, int below)
{
    for (size_t i = 0; i < kin_args_count(args); i++) {
        switch (kin_args_type(args, i)) {
        case KIN_TYPE_STRING: {
            const char *text = NULL;
            if (kin_args_get(args, i, KIN_OUT(&text)) == KIN_OK)
                assert_true(strlen(text) < 1000);
            break;
        }
        case KIN_TYPE_BYTES: {
            kin_view view;
            unsigned sum = 0;
            if (kin_args_get(args, i, KIN_OUT(&view)) == KIN_OK) {
                for (size_t k = 0; k < view.size; k++)
                    sum += ((const unsigned char *)view.data)[k];
            }
            assert_true(sum < UINT_MAX);
            break;
        }
        case KIN_TYPE_LIST: {
            kin_args *list = NULL;
            if (kin_args_get(args, i, KIN_OUT(&list)) == KIN_OK && below < 20)
                read_all(list, below + 1);
            break;
        }
        default: {
            int64_t number;
            (void)kin_args_get(args, i, KIN_OUT(&number));
            break;
        }
        }
    }
}

/* Decodes bytes in a block of exactly their size, so that a sanitizer sees a look beyond. */
static kin_err decode_exactly(const void *bytes, size_t size)
{
    void *block = malloc(size > 0 ? size : 1);
    kin_args *args = NULL;
    assert_non_null(block);
    memcpy(block, bytes, size);
    kin_err err = kin__args_decode(block, size, NULL, 0, &args);
    if (err == KIN_OK) {
        read_all(args, 0);
        kin__args_free(args);
    }
    free(block);
    return err;
}

static kin__parcel sample(void)
{
    kin__parcel parcel = {0};
    check(kin__parcel_add_pack(&parcel, KIN_ARGS(1, -2, 3.5, (bool)true, "text", kin_bytes("bytes", 5),
                                                 kin_list(KIN_ARGS("inner", kin_list(KIN_ARGS(1, 2)), 7u)), "")));
    return parcel;
}

static void every_truncation(void **state)
{
    (void)state;
    kin__parcel parcel = sample();
    check(decode_exactly(parcel.bytes, parcel.size));
    for (size_t n = 0; n < parcel.size; n++)
        check_fails(KIN_EPROTO, decode_exactly(parcel.bytes, n));
    kin__parcel_free(&parcel);
}

/* Damage is an error or other values, never a look outside. */
static void every_byte_changed(void **state)
{
    static const unsigned char with[] = {0x00, 0x01, 0x08, 0x0f, 0x7f, 0x80, 0xff};
    (void)state;
    kin__parcel parcel = sample();
    for (size_t i = 0; i < parcel.size; i++) {
        char was = parcel.bytes[i];
        for (size_t k = 0; k < sizeof with; k++) {
            parcel.bytes[i] = (char)with[k];
            kin_err err = decode_exactly(parcel.bytes, parcel.size);
            assert_true(err == KIN_OK || err == KIN_EPROTO || err == KIN_ENOMEM);
        }
        parcel.bytes[i] = was;
    }
    kin__parcel_free(&parcel);
}

static void noise(void **state)
{
    uint64_t words[64], seed = 88172645463325252u;
    (void)state;
    for (int round = 0; round < test_scale(20000, 2000); round++) {
        for (size_t i = 0; i < 64; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            words[i] = (seed & 3) != 0 ? seed % 20 : seed; /* small numbers get further in */
        }
        kin_err err = decode_exactly(words, (size_t)(seed >> 20) % sizeof words);
        assert_true(err == KIN_OK || err == KIN_EPROTO || err == KIN_ENOMEM);
    }
}

/* A handle that is named but was not sent. */
static void missing_handles(void **state)
{
    kin__parcel parcel = {0};
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 1));
    check(kin__parcel_add_pack(&parcel, KIN_ARGS(value)));
    check_fails(KIN_EPROTO, decode_exactly(parcel.bytes, parcel.size));
    kin__parcel_free(&parcel);
    kin_value_close(value);
}

/* ---- objects and handles ---- */

#define FILE_NAME "any_test.tmp"

static void objects(void **state)
{
    letter l;
    kin_value *value, *first, *second;
    kin_lock *lock, *same_lock;
    kin_array *array, *same_array;
    kin_segment *segment, *same_segment;
    (void)state;
    check(kin_value_create(&value, 5));
    check(kin_lock_create(&lock, NULL));
    check(kin_array_create(&array, KIN_I32, 3));
    check(kin_segment_create(&segment, 100));
    int before = test_count_handles();
    check(deliver(KIN_ARGS(value, lock, array, segment, value), &l));
    check(kin_unpack(l.args, &first, &same_lock, &same_array, &same_segment, &second));
    assert_ptr_equal(first, value); /* mapped here already: one more reference */
    assert_ptr_equal(second, value);
    assert_ptr_equal(same_lock, lock);
    assert_ptr_equal(same_array, array);
    assert_ptr_equal(same_segment, segment);
    kin_value_close(first);
    kin_value_close(second);
    kin_lock_close(same_lock);
    kin_array_close(same_array);
    kin_segment_close(same_segment);
    assert_int_equal(kin_value_get_i64(value), 5);
    throw_away(&l);
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
    kin_lock_close(lock);
    kin_array_close(array);
    kin_segment_close(segment);
}

static void taken_out_once(void **state)
{
    letter l;
    kin_value *value, *got = NULL;
    int number;
    (void)state;
    check(kin_value_create(&value, 5));
    check(deliver(KIN_ARGS(1, value), &l));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &number, &number)); /* a failure takes nothing out */
    check(kin_unpack(l.args, &number, &got));
    kin_value_close(got);
    check_fails(KIN_ESTATE, kin_unpack(l.args, &number, &got));
    check_says("value 1");
    check_says("already");
    throw_away(&l);
    kin_value_close(value);
}

static void not_taken_out(void **state)
{
    letter l;
    kin_value *value;
    (void)state;
    FILE *file = fopen(FILE_NAME, "w+");
    assert_non_null(file);
    check(kin_value_create(&value, 5));
    int before = test_count_handles();
    for (int i = 0; i < 10; i++) {
        check(deliver(KIN_ARGS(value, file, kin_list(KIN_ARGS(value, file))), &l));
        throw_away(&l);
    }
    /* Refused half-way: what was made for it is given back. */
    for (int i = 0; i < 10; i++)
        check_fails(KIN_EINVAL, deliver(KIN_ARGS(value, file, file, (kin_value *)NULL), &l));
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
    (void)fclose(file);
    (void)remove(FILE_NAME);
}

static void wrong_kind(void **state)
{
    letter l;
    kin_value *value;
    kin_array *array = NULL;
    kin_lock *lock = NULL;
    (void)state;
    check(kin_value_create(&value, 5));
    int before = test_count_handles();
    check(deliver(KIN_ARGS(value), &l));
    check_fails(KIN_ETYPE, kin_unpack(l.args, &array));
    check_says("expected a kin_array");
    check_says("found a kin_value");
    check_fails(KIN_ETYPE, kin_unpack(l.args, &lock));
    assert_true(array == NULL && lock == NULL);
    throw_away(&l);
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
}

/* A sender that lies: another kind of object than the bytes say, or a lock where none is. */
static void lies(void **state)
{
    kin_value *value;
    kin_array *array = NULL;
    kin_lock *lock = NULL;
    (void)state;
    check(kin_value_create(&value, 5));
    int before = test_count_handles();
    for (uint32_t type = KIN_TYPE_SEGMENT; type <= KIN_TYPE_LOCK; type++) {
        for (uint64_t offset = 0; offset < 300; offset += 20) {
            kin__parcel parcel = {0};
            kin_args *args;
            os_handle handle;
            kin_err err;
            check(kin__parcel_add_pack(&parcel, KIN_ARGS(value)));
            memcpy(parcel.bytes + 8, &type, sizeof type);        /* a count, then the head of the value: its type, ... */
            memcpy(parcel.bytes + 24, &offset, sizeof offset);   /* ... and last where in the segment it is */
            check(os_handle_duplicate(parcel.handles[0], &handle));
            check(kin__args_decode(parcel.bytes, parcel.size, &handle, 1, &args));
            if (type == KIN_TYPE_LOCK)
                err = kin_unpack(args, &lock);
            else
                err = kin_unpack(args, &array);
            assert_int_not_equal(err, KIN_OK);
            kin__args_free(args);
            kin__parcel_free(&parcel);
        }
    }
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
}

/* The n-th call of the system fails, for every n: kin_unpack hands out everything or nothing, and nothing is lost. */
static void unpack_fails_half_way(void **state)
{
    kin_segment *segment;
    int failures = 0;
    (void)state;
    check(kin_segment_create(&segment, 10));
    FILE *file = fopen(FILE_NAME, "w+");
    assert_non_null(file);
    for (int n = 1; n < 50; n++) {
        letter l;
        uv_fs_t request;
        int before = test_count_handles(), fd = -1;
        kin_segment *got = NULL;
        FILE *stream = NULL;
        intptr_t handle = -1;
        uv_file own = uv_fs_open(NULL, &request, FILE_NAME, UV_FS_O_RDWR, 0, NULL);
        assert_true(own >= 0);
        check(deliver(KIN_ARGS(kin_fd(own), kin_handle((intptr_t)uv_get_osfhandle(own)), file, segment), &l));
        kin__fault_arm(n);
        kin_err err = kin_unpack(l.args, kin_fd_out(&fd), kin_handle_out(&handle), &stream, &got);
        const char *hit = kin__fault_hit();
        kin__fault_arm(0);
        if (err == KIN_OK) {
            assert_non_null(stream);
            (void)fclose(stream);
            (void)uv_fs_close(NULL, &request, fd, NULL);
            test_close_handle(handle);
            kin_segment_close(got);
        } else {
            failures++;
            assert_non_null(hit);
            assert_null(stream);
            assert_null(got);
            assert_true(strlen(kin_last_error()) > 0);
        }
        throw_away(&l);
        (void)uv_fs_close(NULL, &request, own, NULL);
        if (test_count_handles() != before)
            fail_msg("%d handles more after the failure of call %d, %s", test_count_handles() - before, n, hit != NULL ? hit : "none");
        if (hit == NULL)
            break;
    }
    assert_true(failures > 0);
    kin_segment_close(segment);
    (void)fclose(file);
    (void)remove(FILE_NAME);
}

static void pack_fails_half_way(void **state)
{
    kin_value *value;
    int failures = 0;
    (void)state;
    check(kin_value_create(&value, 5));
    FILE *file = fopen(FILE_NAME, "w+");
    assert_non_null(file);
    for (int n = 1; n < 50; n++) {
        kin__parcel parcel = {0};
        int before = test_count_handles();
        kin__fault_arm(n);
        kin_err err = kin__parcel_add_pack(&parcel, KIN_ARGS(file, value, file, kin_list(KIN_ARGS(file))));
        const char *hit = kin__fault_hit();
        kin__fault_arm(0);
        assert_true((err == KIN_OK) == (hit == NULL));
        failures += err != KIN_OK;
        kin__parcel_free(&parcel);
        assert_int_equal(test_count_handles(), before);
        if (hit == NULL)
            break;
    }
    assert_true(failures >= 3);
    kin_value_close(value);
    (void)fclose(file);
    (void)remove(FILE_NAME);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(types),
        cmocka_unit_test(type_numbers),
        cmocka_unit_test(arguments_are_evaluated_once),
        cmocka_unit_test(integers_fit),
        cmocka_unit_test(integers_do_not_fit),
        cmocka_unit_test(other_numbers),
        cmocka_unit_test(bytes_and_text),
        cmocka_unit_test(every_length),
        cmocka_unit_test(lists),
        cmocka_unit_test(depth),
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(mismatches),
        cmocka_unit_test(cannot_be_packed),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(noise),
        cmocka_unit_test(missing_handles),
        cmocka_unit_test(objects),
        cmocka_unit_test(taken_out_once),
        cmocka_unit_test(not_taken_out),
        cmocka_unit_test(wrong_kind),
        cmocka_unit_test(lies),
        cmocka_unit_test(unpack_fails_half_way),
        cmocka_unit_test(pack_fails_half_way),
    };
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("any", tests, NULL, NULL);
}
