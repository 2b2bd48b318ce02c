/* kin/any.h across processes: everything that can be passed arrives; what cannot is refused at the start, and what is asked for wrongly
 * is refused in the child. */
#include "support.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define FILE_NAME test_file("passing_test")

typedef struct config {
    char letter;
    double number;
    int32_t list[3];
} config;

/* ---- there ---- */

static int target_everything(kin_args *args)
{
    bool yes, no;
    char c;
    signed char i8;
    unsigned char u8;
    short i16;
    unsigned short u16;
    int i32;
    unsigned u32;
    long l;
    unsigned long ul;
    long long i64;
    unsigned long long u64;
    float f;
    double d;
    const char *text, *empty;
    kin_view bytes, none;
    config s;
    kin_args *list;
    CHILD_CHECK(kin_args_count(args) == 21);
    CHILD_CHECK(kin_unpack(args, &yes, &no, &c, &i8, &u8, &i16, &u16, &i32, &u32, &l, &ul, &i64, &u64, &f, &d, &text, &empty, &bytes, &none,
                           kin_struct_out(s), &list) == KIN_OK);
    CHILD_CHECK(yes && !no && c == 'c');
    CHILD_CHECK(i8 == SCHAR_MIN && u8 == UCHAR_MAX && i16 == SHRT_MIN && u16 == USHRT_MAX && i32 == INT_MIN && u32 == UINT_MAX);
    CHILD_CHECK(l == LONG_MIN && ul == ULONG_MAX && i64 == LLONG_MIN && u64 == ULLONG_MAX);
    CHILD_CHECK(f == 0.5f && d == 1e300);
    CHILD_CHECK(strcmp(text, "Gr\xc3\xbc\xc3\x9f" "e \xe4\xb8\x96\xe7\x95\x8c") == 0 && empty[0] == 0);
    CHILD_CHECK(bytes.size == 4 && memcmp(bytes.data, "\0\1\2\0", 4) == 0 && none.size == 0);
    CHILD_CHECK(s.letter == 'k' && s.number == -2.5 && s.list[0] == 1 && s.list[2] == 3);
    kin_args *inner;
    int one;
    const char *two;
    CHILD_CHECK(kin_unpack(list, &one, &inner) == KIN_OK && one == 1);
    CHILD_CHECK(kin_unpack(inner, &two) == KIN_OK && strcmp(two, "two") == 0);
    return 17;
}

static void everything(void **state)
{
    config s = {'k', -2.5, {1, 2, 3}};
    char text[] = "Gr\xc3\xbc\xc3\x9f" "e \xe4\xb8\x96\xe7\x95\x8c";
    (void)state;
    kin_process *p = test_start(target_everything,
                                KIN_ARGS(true, false, 'c', (signed char)SCHAR_MIN, (unsigned char)UCHAR_MAX, (short)SHRT_MIN,
                                         (unsigned short)USHRT_MAX, INT_MIN, UINT_MAX, LONG_MIN, ULONG_MAX, LLONG_MIN, ULLONG_MAX, 0.5f, 1e300,
                                         text, "", kin_bytes("\0\1\2\0", 4), kin_bytes(NULL, 0), kin_struct(s),
                                         kin_list(KIN_ARGS(1, kin_list(KIN_ARGS("two"))))));
    memset(text, 0, sizeof text); /* all is copied by now */
    s.letter = 'x';
    assert_int_equal(test_finish(p), 17);
}

static int target_nothing(kin_args *args)
{
    int none;
    CHILD_CHECK(args != NULL && kin_args_count(args) == 0);
    CHILD_CHECK(kin_args_type(args, 0) == KIN_TYPE_NONE);
    CHILD_CHECK(kin_unpack(args, &none) == KIN_ETYPE);
    CHILD_CHECK(kin_args_get(args, 0, KIN_OUT(&none)) == KIN_ERANGE);
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    return 3;
}

static void nothing(void **state)
{
    (void)state;
    assert_int_equal(test_run(target_nothing, KIN_ARGS()), 3);
    assert_int_equal(test_run(target_nothing, (kin_pack){NULL, 0}), 3);
}

static int target_32(kin_args *args)
{
    int v[32];
    CHILD_CHECK(kin_unpack(args, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11], &v[12], &v[13], &v[14],
                           &v[15], &v[16], &v[17], &v[18], &v[19], &v[20], &v[21], &v[22], &v[23], &v[24], &v[25], &v[26], &v[27], &v[28],
                           &v[29], &v[30], &v[31]) == KIN_OK);
    for (int i = 0; i < 32; i++)
        CHILD_CHECK(v[i] == i + 1);
    return 0;
}

static void thirty_two(void **state)
{
    (void)state;
    assert_int_equal(test_run(target_32, KIN_ARGS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
                                                  26, 27, 28, 29, 30, 31, 32)),
                     0);
}

static int target_many(kin_args *args)
{
    size_t count = kin_args_count(args);
    for (size_t i = 0; i < count; i++) {
        int64_t number;
        CHILD_CHECK(kin_args_get(args, i, KIN_OUT(&number)) == KIN_OK);
        CHILD_CHECK(number == (int64_t)(i * i));
    }
    return count == 5000 ? 0 : 1;
}

static void a_pack_of_ones_own(void **state)
{
    static kin_any items[5000];
    (void)state;
    for (size_t i = 0; i < 5000; i++)
        items[i] = KIN_ANY((uint64_t)(i * i));
    assert_int_equal(test_run(target_many, (kin_pack){items, 5000}), 0);
}

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 2654435761u >> 13);
}

static int target_bytes(kin_args *args)
{
    kin_view view;
    uint64_t size;
    CHILD_CHECK(kin_unpack(args, &size, &view) == KIN_OK);
    CHILD_CHECK(view.size == size);
    for (size_t i = 0; i < view.size; i++)
        CHILD_CHECK(((const unsigned char *)view.data)[i] == byte_at(i));
    return 0;
}

/* Around the sizes at which the way to the child changes, and large. */
static void bytes_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0,     1,     7,     8,     4095,   4096,   4097,   30000,  32000,       32500,   32768,
                                   40000, 65535, 65536, 65537, 131072, 200000, 262144, 1 << 20, 10 << 20};
    unsigned char *data = malloc(10 << 20);
    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < 10 << 20; i++)
        data[i] = byte_at(i);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_int_equal(test_run(target_bytes, KIN_ARGS((uint64_t)sizes[i], kin_bytes(data, sizes[i]))), 0);
    free(data);
}

static int target_depth(kin_args *args)
{
    int depth, number;
    kin_args *list;
    CHILD_CHECK(kin_unpack(args, &depth, &list) == KIN_OK);
    for (int i = 1; i < depth; i++)
        CHILD_CHECK(kin_unpack(list, &list) == KIN_OK);
    CHILD_CHECK(kin_unpack(list, &number) == KIN_OK && number == 4711);
    return depth;
}

static void nested_lists(void **state)
{
    kin_any space[32];
    (void)state;
    for (int depth = 1; depth <= 17; depth++) {
        space[depth] = KIN_ANY(4711);
        for (int i = depth - 1; i >= 0; i--)
            space[i] = kin_list((kin_pack){&space[i + 1], 1});
        kin_process *p = NULL;
        if (depth <= 16) {
            assert_int_equal(test_run(target_depth, KIN_ARGS(depth, space[0])), depth);
        } else {
            check_fails(KIN_EINVAL, kin_process_start(&p, target_depth, KIN_ARGS(depth, space[0]), NULL));
            check_says("value 1");
            assert_null(p);
        }
    }
}

/* ---- wrong questions; the child reports in a segment what it was told ---- */

typedef struct report {
    kin_err errors[32];
    char messages[32][256];
} report;

static void note(report *r, int i, kin_err err)
{
    r->errors[i] = err;
    (void)snprintf(r->messages[i], sizeof r->messages[i], "%s", kin_last_error());
}

static int target_ask_wrongly(kin_args *args)
{
    kin_segment *segment;
    kin_args *numbers, *mixed;
    kin_value *value = NULL, *again = NULL;
    kin_lock *lock = NULL;
    unsigned char u8 = 77;
    signed char i8 = 77;
    unsigned u32 = 77;
    int i32 = 77, other = 77;
    uint64_t u64 = 77;
    int64_t i64 = 77;
    double d = 77;
    const char *text = NULL;
    kin_view view = {NULL, 77};
    char small[3] = "xx";
    CHILD_CHECK(kin_unpack(args, &segment, &numbers, &mixed) == KIN_OK);
    report *r = kin_segment_data(segment);

    /* numbers: -1, 256, 2^32, 2^63 (unsigned), 1.5 */
    note(r, 0, kin_unpack(numbers, &u32, &i32, &i64, &u64, &d));
    note(r, 1, kin_unpack(numbers, &i32, &u8, &i64, &u64, &d));
    note(r, 2, kin_unpack(numbers, &i32, &other, &u32, &u64, &d));
    note(r, 3, kin_unpack(numbers, &i32, &other, &i64, &i64, &d));
    note(r, 4, kin_unpack(numbers, &i8, &other, &i64, &u64, &i32));
    CHILD_CHECK(u32 == 77 && i32 == 77 && i64 == 77 && u64 == 77 && d == 77 && u8 == 77 && other == 77 && i8 == 77);
    note(r, 5, kin_unpack(numbers, &i32, &other, &i64, &u64, &d));
    CHILD_CHECK(i32 == -1 && other == 256 && i64 == (int64_t)1 << 32 && u64 == (uint64_t)1 << 63 && d == 1.5);

    /* mixed: a value, "text", four bytes, a struct of 4 bytes */
    note(r, 6, kin_unpack(mixed, &value));
    note(r, 7, kin_unpack(mixed, &value, &text, &view, kin_struct_out(i32), &other));
    note(r, 8, kin_unpack(mixed, &value, &view, &view, kin_struct_out(i32)));
    note(r, 9, kin_unpack(mixed, &value, &text, &view, kin_struct_out(small)));
    note(r, 10, kin_unpack(mixed, &lock, &text, &view, kin_struct_out(i32)));
    note(r, 11, kin_unpack(mixed, &value, &text, &text, kin_struct_out(i32)));
    CHILD_CHECK(value == NULL && text == NULL && view.size == 77 && lock == NULL && i32 == -1 && strcmp(small, "xx") == 0);
    note(r, 12, kin_unpack(mixed, &value, &text, &view, kin_struct_out(i32)));
    CHILD_CHECK(value != NULL && strcmp(text, "text") == 0 && view.size == 4 && i32 == 99);
    note(r, 13, kin_unpack(mixed, &again, &text, &view, kin_struct_out(i32)));
    note(r, 14, kin_args_get(mixed, 0, KIN_OUT(&again)));
    CHILD_CHECK(again == NULL);
    note(r, 15, kin_args_get(mixed, 4, KIN_OUT(&again)));
    CHILD_CHECK(kin_value_get_i64(value) == 5);
    kin_value_close(value);
    kin_segment_close(segment);
    return 21;
}

static void said(const report *r, int i, kin_err err, const char *one, const char *two)
{
    if (r->errors[i] != err)
        fail_msg("question %d: %s: %s", i, kin_strerror(r->errors[i]), r->messages[i]);
    if (one != NULL)
        test_check_says(r->messages[i], one, __FILE__, __LINE__);
    if (two != NULL)
        test_check_says(r->messages[i], two, __FILE__, __LINE__);
}

static void wrong_questions(void **state)
{
    kin_segment *segment;
    kin_value *value;
    int32_t number = 99;
    (void)state;
    check(kin_segment_create(&segment, sizeof(report)));
    check(kin_value_create(&value, 5));
    assert_int_equal(test_run(target_ask_wrongly,
                              KIN_ARGS(segment, kin_list(KIN_ARGS(-1, 256, (int64_t)1 << 32, (uint64_t)1 << 63, 1.5)),
                                       kin_list(KIN_ARGS(value, "text", kin_bytes("four", 4), kin_struct(number))))),
                     21);
    const report *r = kin_segment_data(segment);
    said(r, 0, KIN_ERANGE, "value 0", "-1");
    said(r, 1, KIN_ERANGE, "value 1", "256");
    said(r, 2, KIN_ERANGE, "value 2", "4294967296");
    said(r, 3, KIN_ERANGE, "value 3", "9223372036854775808");
    said(r, 4, KIN_ETYPE, "value 4: expected a signed integer", "found a double");
    said(r, 5, KIN_OK, NULL, NULL);
    said(r, 6, KIN_ETYPE, "4 values were passed", "1 are expected");
    said(r, 7, KIN_ETYPE, "4 values were passed", "5 are expected");
    said(r, 8, KIN_ETYPE, "value 1: expected bytes", "found a string");
    said(r, 9, KIN_ETYPE, "value 3: expected a struct of 3 bytes", "one of 4");
    said(r, 10, KIN_ETYPE, "value 0: expected a kin_lock", "found a kin_value");
    said(r, 11, KIN_ETYPE, "value 2: expected a string", "found bytes");
    said(r, 12, KIN_OK, NULL, NULL);
    said(r, 13, KIN_ESTATE, "value 0", "already");
    said(r, 14, KIN_ESTATE, "value 0", "already");
    said(r, 15, KIN_ERANGE, "value 4", NULL);
    kin_segment_close(segment);
    kin_value_close(value);
}

/* ---- refused at the start ---- */

static void refused(kin_pack pack, const char *index)
{
    kin_process *p = NULL;
    check_fails(KIN_EINVAL, kin_process_start(&p, target_nothing, pack, NULL));
    check_says(index);
    assert_null(p);
}

static void what_cannot_be_passed(void **state)
{
    kin_value *value;
    kin_array *array;
    kin_segment *segment;
    kin_lock *lock;
    kin_lock local;
    (void)state;
    refused(KIN_ARGS((const char *)NULL), "value 0");
    refused(KIN_ARGS(1, (FILE *)NULL), "value 1");
    refused(KIN_ARGS(1, 2, kin_bytes(NULL, 5)), "value 2");
    refused(KIN_ARGS(kin_fd(-1)), "value 0");
    refused(KIN_ARGS(kin_fd(INT_MAX)), "value 0");
    refused(KIN_ARGS(1, kin_fd(1999)), "value 1");
    refused(KIN_ARGS(kin_handle(-1)), "value 0");
    refused(KIN_ARGS((kin_value *)NULL), "value 0");
    refused(KIN_ARGS((kin_array *)NULL), "value 0");
    refused(KIN_ARGS((kin_segment *)NULL), "value 0");
    refused(KIN_ARGS((kin_lock *)NULL), "value 0");
    refused(KIN_ARGS(0, kin_list(KIN_ARGS(0, 1, kin_list(KIN_ARGS((kin_value *)NULL))))), "value 1: value 2: value 0");
    refused((kin_pack){&(kin_any){.type = (kin_type)77}, 1}, "value 0");

    check(kin_value_create(&value, 1));
    check(kin_array_create(&array, KIN_I8, 1));
    check(kin_segment_create(&segment, 1));
    check(kin_lock_create(&lock, NULL));
    kin_value_close(value);
    kin_array_close(array);
    kin_segment_close(segment);
    kin_lock_close(lock);
    refused(KIN_ARGS(0, 1, value), "value 2");
    refused(KIN_ARGS(0, array), "value 1");
    refused(KIN_ARGS(segment), "value 0");
    refused(KIN_ARGS(lock), "value 0");
    check(kin_lock_init(&local, NULL)); /* a good lock, but in no shared memory */
    refused(KIN_ARGS(1, &local), "value 1");
}

/* ---- files ---- */

static void write_file(const char *text)
{
    FILE *f = fopen(FILE_NAME, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void check_file(const char *text)
{
    char found[256] = "";
    FILE *f = fopen(FILE_NAME, "rb");
    assert_non_null(f);
    found[fread(found, 1, sizeof found - 1, f)] = 0;
    (void)fclose(f);
    assert_string_equal(found, text);
    (void)remove(FILE_NAME);
}

static int target_read(kin_args *args)
{
    FILE *file;
    const char *expected;
    char found[64] = "";
    CHILD_CHECK(kin_unpack(args, &file, &expected) == KIN_OK);
    found[fread(found, 1, strlen(expected), file)] = 0;
    CHILD_CHECK(strcmp(found, expected) == 0);
    CHILD_CHECK(fclose(file) == 0);
    return 0;
}

static int target_write(kin_args *args)
{
    FILE *file;
    const char *text;
    kin_lock *gate;
    CHILD_CHECK(kin_unpack(args, &gate, &file, &text) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    kin_lock_close(gate);
    CHILD_CHECK(fputs(text, file) >= 0);
    CHILD_CHECK(fclose(file) == 0);
    return 0;
}

static void file_for_reading(void **state)
{
    char start[4] = "";
    (void)state;
    write_file("abcdefghij");
    FILE *f = fopen(FILE_NAME, "r");
    assert_non_null(f);
    assert_int_equal(fread(start, 1, 3, f), 3); /* the C library has read on, to the end */
    assert_string_equal(start, "abc");
    assert_int_equal(test_run(target_read, KIN_ARGS(f, "defghij")), 0);
    assert_int_equal(fgetc(f), EOF); /* one offset: the child has read it all */
    rewind(f);
    assert_int_equal(fgetc(f), 'a'); /* and the parent's stream is as good as ever */
    (void)fclose(f);
    check_file("abcdefghij");
}

static void file_for_writing(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    test_open(gate);
    FILE *f = fopen(FILE_NAME, "w");
    assert_non_null(f);
    assert_true(fputs("parent ", f) >= 0); /* still in the buffer */
    assert_int_equal(test_run(target_write, KIN_ARGS(gate, f, "child ")), 0);
    assert_true(fputs("parent again", f) >= 0);
    assert_int_equal(fclose(f), 0);
    check_file("parent child parent again");
    kin_lock_close(gate);
}

static void file_for_appending(void **state)
{
    (void)state;
    write_file("before ");
    kin_lock *gate = test_gate();
    test_open(gate);
    FILE *f = fopen(FILE_NAME, "a");
    assert_non_null(f);
    assert_int_equal(test_run(target_write, KIN_ARGS(gate, f, "child ")), 0);
    assert_true(fputs("parent", f) >= 0);
    assert_int_equal(fclose(f), 0);
    check_file("before child parent");
    kin_lock_close(gate);
}

static int target_update(kin_args *args)
{
    FILE *file;
    char found[4] = "";
    CHILD_CHECK(kin_unpack(args, &file) == KIN_OK);
    CHILD_CHECK(fread(found, 1, 3, file) == 3 && strcmp(found, "cde") == 0);
    CHILD_CHECK(fseek(file, 0, SEEK_CUR) == 0 && fputs("FG", file) >= 0);
    CHILD_CHECK(fclose(file) == 0);
    return 0;
}

static void file_for_both(void **state)
{
    (void)state;
    write_file("abcdefghij");
    FILE *f = fopen(FILE_NAME, "r+");
    assert_non_null(f);
    assert_int_equal(fgetc(f), 'a');
    assert_int_equal(fgetc(f), 'b');
    assert_int_equal(test_run(target_update, KIN_ARGS(f)), 0);
    (void)fclose(f);
    check_file("abcdeFGhij");
}

/* The child's is its own: it may close it when the parent has long closed its. */
static void parent_closes_its_own(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    FILE *f = fopen(FILE_NAME, "w+");
    assert_non_null(f);
    assert_true(fputs("parent ", f) >= 0);
    kin_process *p = test_start(target_write, KIN_ARGS(gate, f, "child"));
    assert_int_equal(fclose(f), 0);
    test_open(gate);
    assert_int_equal(test_finish(p), 0);
    check_file("parent child");
    kin_lock_close(gate);
}

static int target_write_below(kin_args *args)
{
    FILE *file;
    kin_lock *gate;
    kin_process *p;
    int code = -1;
    CHILD_CHECK(kin_unpack(args, &gate, &file) == KIN_OK);
    CHILD_CHECK(fputs("child ", file) >= 0);
    CHILD_CHECK(kin_process_start(&p, target_write, KIN_ARGS(gate, file, "grandchild "), NULL) == KIN_OK);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK && kin_process_exit_code(p, &code) == KIN_OK);
    kin_process_close(p);
    CHILD_CHECK(fputs("child again", file) >= 0 && fclose(file) == 0);
    kin_lock_close(gate);
    return code;
}

static void file_passed_on(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    test_open(gate);
    FILE *f = fopen(FILE_NAME, "w");
    assert_non_null(f);
    assert_int_equal(test_run(target_write_below, KIN_ARGS(gate, f)), 0);
    (void)fclose(f);
    check_file("child grandchild child again");
    kin_lock_close(gate);
}

static int write_fd(int fd, const char *text)
{
    uv_fs_t request;
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
    return uv_fs_write(NULL, &request, fd, &buffer, 1, -1, NULL);
}

static int target_fd(kin_args *args)
{
    int fd;
    uv_fs_t request;
    CHILD_CHECK(kin_unpack(args, kin_fd_out(&fd)) == KIN_OK);
    CHILD_CHECK(fd > 2 && write_fd(fd, "child ") == 6);
    CHILD_CHECK(uv_fs_close(NULL, &request, fd, NULL) == 0);
    return 0;
}

static int target_handle(kin_args *args)
{
    intptr_t handle;
    uv_fs_t request;
    CHILD_CHECK(kin_unpack(args, kin_handle_out(&handle)) == KIN_OK);
    int fd = uv_open_osfhandle((uv_os_fd_t)handle);
    CHILD_CHECK(fd > 2 && write_fd(fd, "handle ") == 7);
    CHILD_CHECK(uv_fs_close(NULL, &request, fd, NULL) == 0);
    return 0;
}

static void descriptors_and_handles(void **state)
{
    uv_fs_t request;
    (void)state;
    int fd = uv_fs_open(NULL, &request, FILE_NAME, UV_FS_O_CREAT | UV_FS_O_RDWR | UV_FS_O_TRUNC, 0600, NULL);
    assert_true(fd > 2);
    assert_int_equal(write_fd(fd, "parent "), 7);
    assert_int_equal(test_run(target_fd, KIN_ARGS(kin_fd(fd))), 0);
    assert_int_equal(test_run(target_handle, KIN_ARGS(kin_handle((intptr_t)uv_get_osfhandle(fd)))), 0);
    assert_int_equal(write_fd(fd, "parent again"), 12); /* one offset; and the parent's is still open */
    assert_int_equal(uv_fs_close(NULL, &request, fd, NULL), 0);
    check_file("parent child handle parent again");
}

/* ---- objects ---- */

#define MANY 1000

static int target_thousand(kin_args *args)
{
    static kin_value *values[MANY];
    size_t count = kin_args_count(args);
    for (size_t i = 0; i < count; i++)
        CHILD_CHECK(kin_args_get(args, i, KIN_OUT(&values[i])) == KIN_OK);
    for (size_t i = 0; i < count; i++)
        CHILD_CHECK(kin_value_add_i64(values[i], (int64_t)i, NULL) == KIN_OK);
    for (size_t i = 0; i < count; i++)
        kin_value_close(values[i]);
    return count == MANY ? 0 : 1;
}

static void a_thousand_objects(void **state)
{
    static kin_value *values[MANY];
    static kin_any items[MANY];
    (void)state;
    int before = test_count_handles();
    for (size_t i = 0; i < MANY; i++) {
        check(kin_value_create(&values[i], 1000000));
        items[i] = KIN_ANY(values[i]);
    }
    assert_int_equal(test_run(target_thousand, (kin_pack){items, MANY}), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(kin_value_get_i64(values[i]), 1000000 + (int64_t)i);
        kin_value_close(values[i]);
    }
    if (!test_on_windows())
        assert_int_equal(test_count_handles(), before);
}

static int target_twice(kin_args *args)
{
    kin_value *first, *second, *third;
    kin_args *list;
    CHILD_CHECK(kin_unpack(args, &first, &second, &list) == KIN_OK && kin_unpack(list, &third) == KIN_OK);
    CHILD_CHECK(kin_value_add_i64(first, 1, NULL) == KIN_OK);
    CHILD_CHECK(kin_value_get_i64(second) == kin_value_get_i64(first) && kin_value_get_i64(third) == kin_value_get_i64(first));
    kin_value_close(first);
    CHILD_CHECK(kin_value_add_i64(second, 10, NULL) == KIN_OK);
    kin_value_close(second);
    CHILD_CHECK(kin_value_add_i64(third, 100, NULL) == KIN_OK);
    kin_value_close(third);
    return 0;
}

static void the_same_object_twice(void **state)
{
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 1000));
    assert_int_equal(test_run(target_twice, KIN_ARGS(value, value, kin_list(KIN_ARGS(value)))), 0);
    assert_int_equal(kin_value_get_i64(value), 1111);
    kin_value_close(value);
}

typedef struct account {
    int64_t balance;
    kin_lock lock;
    int64_t pad[7];
    kin_lock second;
} account;

static int target_account(kin_args *args)
{
    kin_segment *segment;
    kin_lock *lock;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &segment, &lock, &times) == KIN_OK);
    account *a = kin_segment_data(segment);
    CHILD_CHECK(lock == &a->lock); /* one mapping for both */
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_lock_acquire(lock, test_ms(30000)) == KIN_OK);
        a->balance = a->balance + 1;
        CHILD_CHECK(kin_lock_release(&a->lock) == KIN_OK);
    }
    kin_lock_close(lock);
    CHILD_CHECK(a->balance >= times); /* the segment has a reference of its own */
    kin_segment_close(segment);
    return 0;
}

static void lock_inside_a_segment(void **state)
{
    kin_segment *segment;
    kin_process *children[4];
    (void)state;
    check(kin_segment_create(&segment, sizeof(account)));
    account *a = kin_segment_data(segment);
    check(kin_lock_init(&a->lock, NULL));
    int64_t times = test_scale(5000, 500);
    for (size_t i = 0; i < 4; i++)
        children[i] = test_start(target_account, KIN_ARGS(segment, &a->lock, times));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_int_equal(a->balance, 4 * times);
    kin_segment_close(segment);
}

static int target_locks(kin_args *args)
{
    kin_lock *locks[4];
    int i = 0;
    CHILD_CHECK(kin_unpack(args, &locks[0], &locks[1], &locks[2], &locks[3]) == KIN_OK);
    for (; i < 4; i++) {
        CHILD_CHECK(kin_lock_acquire(locks[i], KIN_NOWAIT) == (i == 1 ? KIN_ETIMEDOUT : KIN_OK));
        if (i != 1)
            CHILD_CHECK(kin_lock_release(locks[i]) == KIN_OK);
        kin_lock_close(locks[i]);
    }
    return 0;
}

/* Locks are found wherever they are: in a segment, an array, a value, or one of their own. */
static void locks_alone(void **state)
{
    kin_segment *segment;
    kin_array *array;
    kin_value *value;
    kin_lock *lock;
    (void)state;
    check(kin_segment_create(&segment, sizeof(account)));
    check(kin_array_create_of(&array, sizeof(kin_lock), 10));
    check(kin_value_create(&value, 1));
    check(kin_lock_create(&lock, NULL));
    account *a = kin_segment_data(segment);
    kin_lock *in_array = (kin_lock *)kin_array_data(array) + 9;
    check(kin_lock_init(&a->second, NULL));
    check(kin_lock_init(in_array, NULL));
    check(kin_lock_acquire(in_array, KIN_NOWAIT));
    assert_int_equal(test_run(target_locks, KIN_ARGS(&a->second, in_array, kin_value_lock(value), lock)), 0);
    check(kin_lock_release(in_array));
    assert_int_equal(test_run(target_nothing, KIN_ARGS()), 3);
    kin_segment_close(segment);
    kin_array_close(array);
    kin_value_close(value);
    kin_lock_close(lock);
}

static int target_pass_on(kin_args *args)
{
    kin_value *value;
    kin_process *p;
    int depth, code = -1;
    CHILD_CHECK(kin_unpack(args, &value, &depth) == KIN_OK);
    CHILD_CHECK(kin_value_add_i64(value, 1, NULL) == KIN_OK);
    if (depth == 0)
        return 0;
    CHILD_CHECK(kin_process_start(&p, target_pass_on, KIN_ARGS(value, depth - 1), NULL) == KIN_OK);
    kin_value_close(value);
    CHILD_CHECK(kin_process_join(p, test_ms(30000)) == KIN_OK && kin_process_exit_code(p, &code) == KIN_OK);
    kin_process_close(p);
    return code;
}

static void passed_on(void **state)
{
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 0));
    assert_int_equal(test_run(target_pass_on, KIN_ARGS(value, 3)), 0);
    assert_int_equal(kin_value_get_i64(value), 4);
    kin_value_close(value);
}

/* Not taken out: it goes with the child, and the parent's is untouched. */
static int target_take_nothing(kin_args *args)
{
    return kin_args_count(args) == 4 ? 0 : 1;
}

static void not_taken_out(void **state)
{
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 6));
    FILE *f = fopen(FILE_NAME, "w");
    assert_non_null(f);
    int before = test_count_handles();
    for (int i = 0; i < test_scale(100, 5); i++)
        assert_int_equal(test_run(target_take_nothing, KIN_ARGS(value, f, value, kin_list(KIN_ARGS(f, value)))), 0);
    if (!test_on_windows())
        assert_int_equal(test_count_handles(), before);
    assert_int_equal(kin_value_get_i64(value), 6);
    kin_value_close(value);
    assert_int_equal(fclose(f), 0);
    (void)remove(FILE_NAME);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(nothing),
        cmocka_unit_test(thirty_two),
        cmocka_unit_test(a_pack_of_ones_own),
        cmocka_unit_test(bytes_of_all_sizes),
        cmocka_unit_test(nested_lists),
        cmocka_unit_test(wrong_questions),
        cmocka_unit_test(what_cannot_be_passed),
        cmocka_unit_test(file_for_reading),
        cmocka_unit_test(file_for_writing),
        cmocka_unit_test(file_for_appending),
        cmocka_unit_test(file_for_both),
        cmocka_unit_test(parent_closes_its_own),
        cmocka_unit_test(file_passed_on),
        cmocka_unit_test(descriptors_and_handles),
        cmocka_unit_test(a_thousand_objects),
        cmocka_unit_test(the_same_object_twice),
        cmocka_unit_test(lock_inside_a_segment),
        cmocka_unit_test(locks_alone),
        cmocka_unit_test(passed_on),
        cmocka_unit_test(not_taken_out),
    };
    test_allow_handles(4096);
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("passing", tests, NULL, NULL);
}
