/* Frames: what is written before a message, and a reader that believes nothing, however the bytes are cut. */
#include "frame.h"
#include "support.h"

#include "fault.h"

#include <stdlib.h>
#include <string.h>

static void heads(void **state)
{
    (void)state;
    uint8_t head[KIN__FRAME_HEAD];
    assert_int_equal(kin__frame_head(head, 0), 4);
    assert_memory_equal(head, "\0\0\0\0", 4);
    assert_int_equal(kin__frame_head(head, 0x01020304), 4);
    assert_memory_equal(head, "\1\2\3\4", 4);
    assert_int_equal(kin__frame_head(head, INT32_MAX), 4);
    assert_memory_equal(head, "\x7f\xff\xff\xff", 4);
    assert_int_equal(kin__frame_head(head, (uint64_t)INT32_MAX + 1), 12);
    assert_memory_equal(head, "\xff\xff\xff\xff\0\0\0\0\x80\0\0\0", 12);
    assert_int_equal(kin__frame_head(head, 0x0102030405060708), 12);
    assert_memory_equal(head, "\xff\xff\xff\xff\1\2\3\4\5\6\7\x08", 12);
}

/* A stream of messages of these sizes, cut into pieces of `cut` bytes. */
static void pass_through(const size_t *sizes, size_t count, size_t cut)
{
    static uint8_t stream[400000];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += kin__frame_head(stream + length, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            stream[length++] = (uint8_t)(i * 31 + j);
    }
    kin__frame frame = {.limit = 1 << 20};
    size_t seen = 0;
    for (size_t at = 0; at < length;) {
        size_t end = at + cut < length ? at + cut : length;
        while (at < end) {
            size_t used = 0;
            check(kin__frame_feed(&frame, stream + at, end - at, &used));
            at += used;
            if (!frame.complete) {
                assert_int_equal(at, end);
                break;
            }
            assert_int_equal(frame.size, sizes[seen]);
            for (size_t j = 0; j<frame.size; j += frame.size> 1000 ? 997 : 1)
                assert_int_equal(frame.data[j], (uint8_t)(seen * 31 + j));
            assert_false(kin__frame_begun(&frame));
            seen++;
            if (seen % 2 == 0) {
                size_t size;
                uint8_t *data = kin__frame_take(&frame, &size);
                assert_non_null(data);
                assert_int_equal(size, sizes[seen - 1]);
                kin_free(data);
            } else {
                kin__frame_next(&frame);
            }
        }
    }
    assert_int_equal(seen, count);
    assert_false(kin__frame_begun(&frame));
    kin__frame_free(&frame);
}

static void any_cut(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 0, 0, 70000, 3, 65536, 65537, 4, 255, 0};
    static const size_t cuts[] = {1, 2, 3, 4, 5, 7, 11, 12, 13, 4096, 65536, 400000};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
        pass_through(sizes, sizeof sizes / sizeof sizes[0], cuts[i]);
}

/* What is refused at its head, whole or byte by byte. */
static void refused(const char *bytes, size_t count, uint64_t limit, const char *says)
{
    for (size_t cut = 1; cut <= count; cut++) {
        kin__frame frame = {.limit = limit};
        kin_err err = KIN_OK;
        for (size_t at = 0, used; at < count && err == KIN_OK; at += used)
            err = kin__frame_feed(&frame, bytes + at, count - at < cut ? count - at : cut, &used);
        assert_int_equal(err, KIN_EPROTO);
        check_says(says);
        assert_null(frame.data); /* nothing was asked for */
        kin__frame_free(&frame);
    }
}

static void bad_lengths(void **state)
{
    (void)state;
    refused("\x80\0\0\0", 4, 1 << 20, "negative");
    refused("\xff\xff\xff\xfe", 4, 1 << 20, "negative");
    refused("\x00\x10\x00\x01", 4, 1 << 20, "1048577");
    refused("\x7f\xff\xff\xff", 4, 1 << 20, "at most 1048576");
    refused("\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", 12, UINT64_MAX, "9223372036854775808");
    refused("\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 12, 1 << 30, "9223372036854775807");
    refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, UINT64_MAX, "18446744073709551615");
    refused("\xff\xff\xff\xff\0\0\0\0\x40\0\0\1", 12, 1 << 30, "1073741825");
}

static void eight_bytes_for_a_short_one(void **state)
{
    (void)state; /* as Python's reader takes it, too */
    kin__frame frame = {.limit = 100};
    size_t used;
    check(kin__frame_feed(&frame, "\xff\xff\xff\xff\0\0\0\0\0\0\0\2hi...", 17, &used));
    assert_int_equal(used, 14);
    assert_true(frame.complete);
    assert_int_equal(frame.size, 2);
    assert_memory_equal(frame.data, "hi", 2);
    kin__frame_free(&frame);
}

static void a_length_alone_costs_little(void **state)
{
    (void)state;
    kin__frame frame = {.limit = (uint64_t)1 << 40};
    size_t used;
    check(kin__frame_feed(&frame, "\xff\xff\xff\xff\0\0\0\xff\0\0\0\0abc", 15, &used));
    assert_int_equal(used, 15);
    assert_true(kin__frame_begun(&frame));
    assert_true(frame.space <= 65536);
    size_t space;
    assert_non_null(kin__frame_room(&frame, 65536, &space));
    assert_true(space >= 65536 && frame.space <= 1 << 18);
    kin__frame_free(&frame);
}

static void the_limit_is_allowed(void **state)
{
    (void)state;
    kin__frame frame = {.limit = 3};
    size_t used;
    check(kin__frame_feed(&frame, "\0\0\0\3abc", 7, &used));
    assert_true(frame.complete);
    kin__frame_free(&frame);
}

static void room(void **state)
{
    (void)state;
    kin__frame frame = {.limit = 1 << 20};
    size_t used, space;
    assert_null(kin__frame_room(&frame, 1, &space)); /* nothing is known yet */
    check(kin__frame_feed(&frame, "\0\2\0\0x", 5, &used));
    assert_null(kin__frame_room(&frame, 131072, &space)); /* one byte less is left */
    size_t got = 1;
    while (!frame.complete) {
        uint8_t *to = kin__frame_room(&frame, 1, &space);
        assert_non_null(to);
        size_t n = space < 30000 ? space : 30000;
        memset(to, 'y', n);
        kin__frame_filled(&frame, n);
        got += n;
    }
    assert_int_equal(got, 131072);
    assert_int_equal(frame.data[0], 'x');
    assert_int_equal(frame.data[131071], 'y');
    assert_null(kin__frame_room(&frame, 1, &space));
    kin__frame_free(&frame);
}

static void pieces(void **state)
{
    (void)state;
    kin__frame frame = {.limit = 6};
    check(kin__frame_piece(&frame, "abc", 3, false));
    assert_true(kin__frame_begun(&frame));
    check(kin__frame_piece(&frame, "def", 3, true));
    assert_true(frame.complete);
    assert_int_equal(frame.size, 6);
    assert_memory_equal(frame.data, "abcdef", 6);
    kin__frame_next(&frame);
    check(kin__frame_piece(&frame, "", 0, true)); /* an empty message */
    assert_true(frame.complete);
    size_t size;
    void *data = kin__frame_take(&frame, &size);
    assert_non_null(data);
    assert_int_equal(size, 0);
    kin_free(data);
    check(kin__frame_piece(&frame, "abcd", 4, false));
    check_fails(KIN_EPROTO, kin__frame_piece(&frame, "efg", 3, true));
    check_fails(KIN_EPROTO, kin__frame_piece(&frame, "", SIZE_MAX, true));
    kin__frame_free(&frame);
}

static void no_memory(void **state)
{
    (void)state;
    kin__frame frame = {.limit = 100};
    size_t used;
    kin__fault_arm(1);
    check_fails(KIN_ENOMEM, kin__frame_feed(&frame, "\0\0\0\3abc", 7, &used));
    assert_int_equal(used, 4); /* the rest is given again */
    check(kin__frame_feed(&frame, "abc", 3, &used));
    assert_true(frame.complete);
    kin__frame_free(&frame);
    memset(&frame, 0, sizeof frame);
    frame.limit = 10;
    kin__fault_arm(1);
    check_fails(KIN_ENOMEM, kin__frame_piece(&frame, "abc", 3, true));
    check(kin__frame_piece(&frame, "abc", 3, true));
    assert_memory_equal(frame.data, "abc", 3);
    kin__fault_arm(1); /* the memory is larger than the message: a copy is made */
    assert_null(kin__frame_take(&frame, &used));
    assert_true(frame.complete);
    kin__fault_arm(0);
    kin__frame_free(&frame);
}

/* Random bytes, cut anywhere: no crash, no more memory than bytes call for. */
static void garbage(void **state)
{
    (void)state;
    uint32_t seed = 12345;
    uint8_t bytes[600];
    for (int round = 0; round < 20000; round++) {
        kin__frame frame = {.limit = 1000};
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (seed >> 29) == 0 ? (uint8_t)(seed >> 16) : (seed >> 29) == 1 ? 0xff : 0;
        }
        kin_err err = KIN_OK;
        for (size_t at = 0, used; at < sizeof bytes && err == KIN_OK; at += used) {
            err = kin__frame_feed(&frame, bytes + at, sizeof bytes - at, &used);
            if (frame.complete) {
                assert_true(frame.size <= 1000);
                kin__frame_next(&frame);
            }
        }
        assert_true(err == KIN_OK || err == KIN_EPROTO);
        assert_true(frame.space <= 65536);
        kin__frame_free(&frame);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(any_cut),
        cmocka_unit_test(bad_lengths),
        cmocka_unit_test(eight_bytes_for_a_short_one),
        cmocka_unit_test(a_length_alone_costs_little),
        cmocka_unit_test(the_limit_is_allowed),
        cmocka_unit_test(room),
        cmocka_unit_test(pieces),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
