/* Memory for large messages (src/large.h): what is used again, and when it must not be. */
#include "crash_support.h"

#include "fault.h"
#include "large.h"

#include <string.h>

static kin__flow producer, consumer;

static int setup(void **state)
{
    (void)state;
    memset(&producer, 0, sizeof producer);
    memset(&consumer, 0, sizeof consumer);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin__large_end(&producer);
    kin__large_end(&consumer);
    return 0;
}

static kin__large *make(size_t size)
{
    kin__large *l;
    check(kin__large_make(&producer, size, &l));
    assert_true(l->mapped - sizeof(kin__header) >= size);
    assert_int_equal(kin__load32(&l->header->got), 0);
    memset(kin__large_data(l), (int)(size % 251), size);
    return l;
}

/* As if it came in a message. */
static kin__large *receive(const kin__large *l, size_t size)
{
    kin__large *mine = kin__large_known(&consumer, l->header->id, size);
    if (mine == NULL) {
        os_handle handle;
        check(os_handle_duplicate(l->handle, &handle));
        check(kin__large_open(handle, size, &mine));
    }
    assert_true(mine->header != l->header);
    const unsigned char *bytes = kin__large_data(mine);
    assert_true(bytes[0] == size % 251 && bytes[size - 1] == size % 251);
    return mine;
}

static void used_again_once_it_was_got(void **state)
{
    (void)state;
    kin__large *first = make(100000), *second;
    kin__header *at = first->header;
    uint64_t id = at->id;
    kin__large_keep(&producer, first, true);
    second = make(100000); /* the first is on its way */
    assert_true(second->header != at);
    kin__large_keep(&producer, second, true);
    kin__large *mine = receive(first, 100000);
    kin__header *mapped = mine->header;
    kin__large *third = make(100000); /* the first is still read */
    assert_true(third->header != at && third->header != second->header);
    kin__large_keep(&producer, third, true);
    kin__large_got(&consumer, mine, id);
    kin__large *again = make(90000);
    assert_true(again->header == at);
    kin__large_keep(&producer, again, true);
    mine = receive(again, 90000);
    assert_true(mine->header == mapped); /* known */
    kin__large_put_back(&consumer, mine); /* it was not to be had just then */
    mine = receive(again, 90000);
    assert_true(mine->header == mapped);
    kin__large_got(&consumer, mine, id);
    again = make(90000);
    assert_true(again->header == at);
    kin__large_keep(&producer, again, false); /* there was no room */
    again = make(90001);
    assert_true(again->header == at);
    kin__large_keep(&producer, again, true);
}

static void not_if_it_does_not_fit(void **state)
{
    (void)state;
    kin__large *l = make(100000);
    kin__header *at = l->header;
    kin__large_keep(&producer, l, false);
    l = make(1000000); /* too small */
    assert_true(l->header != at);
    kin__large_keep(&producer, l, true);
    l = make(10000); /* much too large */
    assert_true(l->header != at);
    kin__large_keep(&producer, l, true);
    l = make(50000);
    assert_true(l->header == at);
    assert_null(kin__large_known(&consumer, at->id + 1, 1));
    assert_null(kin__large_known(&consumer, 0, 1));
    kin__large_got(&consumer, receive(l, 50000), at->id);
    assert_null(kin__large_known(&consumer, at->id, 10000000));
    kin__large_keep(&producer, l, true);
}

static void no_more_than_a_few_are_kept(void **state)
{
    (void)state;
    int before = test_count_handles();
    for (size_t i = 0; i < 10; i++) {
        kin__large *l = make(70000 + i * 100000);
        kin__large_keep(&producer, l, true);
        kin__large_got(&consumer, receive(l, 70000 + i * 100000), l->header->id);
    }
    assert_in_range(test_count_handles(), before, before + (int)KIN__KEPT);
    kin__large *huge = make((size_t)20 << 20);
    kin__large_keep(&producer, huge, false); /* it is not kept */
    assert_in_range(test_count_handles(), before, before + (int)KIN__KEPT);
    kin__large_end(&producer);
    kin__large_end(&consumer);
    assert_int_equal(test_count_handles(), before);
}

/* What is kept makes room for what is needed. */
static void lack_of_memory(void **state)
{
    (void)state;
    int before = test_count_handles();
    kin__large_keep(&producer, make(100000), true);
    kin__fault_arm(1);
    kin__large *l = make(1000000);
    assert_non_null(kin__fault_hit());
    kin__fault_arm(0);
    assert_int_equal(test_count_handles(), before + 1); /* the other is not kept any more */
    kin__large_keep(&producer, l, true);
}

static void what_is_something_else(void **state)
{
    (void)state;
    kin__header *header;
    os_handle handle, copy;
    kin__large *l = NULL;
    check(kin__segment_new(KIN_TYPE_VALUE, 4096, &header));
    check(kin__segment_find(header, &header, &handle));
    check(os_handle_duplicate(handle, &copy));
    check_fails(KIN_EPROTO, kin__large_open(copy, 100, &l)); /* another kind */
    header->kind = KIN_TYPE_SEGMENT;
    check(os_handle_duplicate(handle, &copy));
    check_fails(KIN_EPROTO, kin__large_open(copy, 1000000, &l)); /* too small */
    assert_null(l);
    header->kind = KIN_TYPE_VALUE;
    kin__segment_release(header);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(used_again_once_it_was_got),
        TEST(not_if_it_does_not_fit),
        TEST(no_more_than_a_few_are_kept),
        TEST(lack_of_memory),
        TEST(what_is_something_else),
    };
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
