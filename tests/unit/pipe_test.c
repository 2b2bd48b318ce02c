/* What a pipe believes of shared memory that came from elsewhere: nothing. Damaged in any place it is refused, or it is a pipe whose
 * messages may be nonsense; it never leads out of its memory. */
#include "support.h"

#include "atomic.h"
#include "message.h"
#include "ring.h"
#include "segment.h"

#include <string.h>

enum { CAPACITY = 4096, NAME_AT = 24 };
#define BLOCK_AT(block) (64 + (block) * (sizeof(kin__gate) + kin__ring_size(CAPACITY / KIN__UNIT)))

static kin_connection *first, *second;
static os_handle spare[2]; /* the handles of `first` */
static uint64_t side;
static kin__header *good;

static int setup(void **state)
{
    (void)state;
    size_t count;
    os_handle borrowed;
    kin__header *header;
    check(kin_pipe(&first, &second, &(kin_pipe_options){.name = "trusted", .capacity = CAPACITY}));
    check(kin_connection_send(second, "some", 4, KIN_NOWAIT));
    check(kin__connection_export(first, spare, &count, &side));
    assert_int_equal(count, 2);
    assert_int_equal(side, 0);
    os_handle copy;
    check(os_handle_duplicate(spare[0], &copy));
    check(kin__segment_adopt(copy, KIN_TYPE_CONNECTION, &good));
    check(kin__segment_find(good, &header, &borrowed));
    assert_ptr_equal(header, good);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin__segment_release(good);
    os_handle_close(spare[0]);
    os_handle_close(spare[1]);
    kin_connection_close(first);
    kin_connection_close(second);
    return 0;
}

/* A segment with the same contents, to be damaged. */
static kin__header *copy_of_good(kin_type kind, uint64_t size)
{
    kin__header *h;
    check(kin__segment_new(kind, size, &h));
    memcpy(kin__header_data(h), kin__header_data(good), (size_t)(size < good->size ? size : good->size));
    return h;
}

/* Imports it with an end of the good one; the handles must be given back if that fails. */
static kin_err import(kin__header *h, size_t count, uint64_t which, kin_connection **c)
{
    kin__header *same;
    os_handle segment, handles[3] = {OS_NO_HANDLE, OS_NO_HANDLE, OS_NO_HANDLE};
    check(kin__segment_find(h, &same, &segment));
    check(os_handle_duplicate(segment, &handles[0]));
    check(os_handle_duplicate(spare[1], &handles[1]));
    int before = test_count_handles();
    kin_err err = kin__connection_import(c, handles, count, which);
    if (err != KIN_OK) {
        assert_int_equal(test_count_handles(), before);
        os_handle_close(handles[0]);
        os_handle_close(handles[1]);
    }
    return err;
}

static void refused(kin__header *h)
{
    kin_connection *c;
    check_fails(KIN_EPROTO, import(h, 2, 0, &c));
    check_fails(KIN_EPROTO, import(h, 2, 1, &c));
    kin__segment_release(h);
}

static uint32_t *word(kin__header *h, size_t at) { return (uint32_t *)(void *)((char *)kin__header_data(h) + at); }

static void a_good_one_is_taken(void **state)
{
    (void)state;
    kin_connection *c;
    char text[8];
    int before = test_count_handles();
    kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
    check(import(h, 2, 0, &c));
    kin__segment_release(h);
    assert_string_equal(kin_connection_name(c), "trusted");
    check(kin_connection_recv(c, text, sizeof text, NULL, KIN_NOWAIT));
    kin_connection_close(c);
    assert_int_equal(test_count_handles(), before);
}

static void another_thing_is_refused(void **state)
{
    (void)state;
    kin_connection *c;
    refused(copy_of_good(KIN_TYPE_SEGMENT, good->size));
    refused(copy_of_good(KIN_TYPE_QUEUE, good->size));
    refused(copy_of_good(KIN_TYPE_CONNECTION, 8));
    refused(copy_of_good(KIN_TYPE_CONNECTION, 64));
    refused(copy_of_good(KIN_TYPE_CONNECTION, good->size - 1));
    refused(copy_of_good(KIN_TYPE_CONNECTION, good->size + 16));
    kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
    check_fails(KIN_EPROTO, import(h, 2, 2, &c));
    check_fails(KIN_EPROTO, import(h, 2, UINT64_MAX, &c));
    check_fails(KIN_EPROTO, import(h, 1, 0, &c));
    check_fails(KIN_EPROTO, import(h, 3, 0, &c));
    kin__segment_release(h);
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    static const uint32_t units[] = {0, 1, 64, 128, 255, 257, 512, 1u << 28, 1u << 29, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
        *word(h, 4) = units[i];
        refused(h);
        for (size_t block = 0; block < 2; block++) {
            h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
            *word(h, BLOCK_AT(block) + sizeof(kin__gate) + offsetof(kin__ring, units)) = units[i];
            refused(h);
        }
    }
    for (uint32_t one_way = 1; one_way < 4; one_way++) {
        kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
        *word(h, 0) = one_way;
        refused(h);
    }
}

static void a_name_without_an_end(void **state)
{
    (void)state;
    kin_connection *c;
    kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
    memset((char *)kin__header_data(h) + NAME_AT, 'n', 40);
    check(import(h, 2, 0, &c));
    assert_int_equal(strlen(kin_connection_name(c)), 39);
    kin_connection_close(c);
    kin__segment_release(h);
}

/* A pipe whose words, positions and records are nonsense. */
static void use(kin_connection *c)
{
    char bytes[3000] = "";
    size_t size;
    kin_args *args;
    for (int i = 0; i < 3; i++) {
        (void)kin_connection_send(c, bytes, 40, KIN_NOWAIT);
        (void)kin_connection_send(c, bytes, sizeof bytes, KIN_NOWAIT);
        (void)kin_connection_poll(c, KIN_NOWAIT);
        (void)kin_connection_recv(c, bytes, sizeof bytes, &size, KIN_NOWAIT);
        if (kin_connection_recv_args(c, &args, KIN_NOWAIT) == KIN_OK)
            kin_args_free(args);
    }
}

static void nonsense_leads_nowhere(void **state)
{
    (void)state;
    static const uint32_t evil[] = {
        0, 1, 15, 16, 255, 256, 257, 4095, 1u << 16, 1u << 28, 1u << 31, UINT32_MAX - 15, UINT32_MAX};
    uint32_t x = 1, taken = 0;
    int rounds = test_scale(3000, 300);
    for (int round = 0; round < rounds; round++) {
        kin_connection *c;
        kin__header *h = copy_of_good(KIN_TYPE_CONNECTION, good->size);
        int changes = 1 + round % 4;
        for (int i = 0; i < changes; i++) {
            x = x * 1664525u + 1013904223u;
            /* mostly in the words at the beginning of a block, else anywhere */
            size_t at = (x & 7) != 0 ? BLOCK_AT(x >> 8 & 1) + (x >> 12) % 850 : (x >> 12) % (size_t)good->size;
            x = x * 1664525u + 1013904223u;
            *word(h, at < good->size - 4 ? at & ~(size_t)3 : 0) =
                (x >> 30) == 0 ? x : evil[(x >> 16) % (sizeof evil / sizeof evil[0])];
        }
        if (import(h, 2, (uint64_t)(round & 1), &c) == KIN_OK) {
            taken++;
            use(c);
            kin_connection_close(c);
        } else {
            assert_int_equal(kin_last_code(), KIN_EPROTO);
        }
        kin__segment_release(h);
    }
    assert_true(taken > 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_good_one_is_taken),   TEST(another_thing_is_refused), TEST(wrong_sizes_are_refused),
        TEST(a_name_without_an_end), TEST(nonsense_leads_nowhere),
    };
    return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
