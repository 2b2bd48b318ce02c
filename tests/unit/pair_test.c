/* Pairs and bags of the contract, in one process; what happens when others die is in crash/pair_death_test.c. What is put into bags here
 * is shared memory with a number in it. */
#include "crash_support.h"
#include "os.h"

#include <string.h>

static os_handle marked(uint64_t number)
{
    os_handle memory;
    void *base;
    size_t size;
    check(os_memory_create(sizeof number, &memory));
    check(os_memory_map(memory, &base, &size));
    memcpy(base, &number, sizeof number);
    os_memory_unmap(base, size);
    return memory;
}

/* The number, and closes; 0: it is no such memory. */
static uint64_t mark_of(os_handle memory)
{
    void *base;
    size_t size;
    uint64_t number = 0;
    if (os_memory_map(memory, &base, &size) == KIN_OK) {
        memcpy(&number, base, sizeof number);
        os_memory_unmap(base, size);
    }
    os_handle_close(memory);
    return number;
}

/* ---- pairs ---- */

static void ends_know_of_each_other(void **state)
{
    os_handle a, b;
    (void)state;
    for (int i = 0; i < 2; i++) {
        check(os_pair_create(&a, &b));
        assert_false(os_pair_broken(a));
        assert_false(os_pair_broken(b));
        os_handle_close(i == 0 ? a : b);
        assert_true(os_pair_broken(i == 0 ? b : a));
        assert_true(os_pair_broken(i == 0 ? b : a));
        os_handle_close(i == 0 ? b : a);
    }
}

static void pairs_are_many(void **state)
{
    enum { PAIRS = 50 };
    os_handle a[PAIRS], b[PAIRS];
    (void)state;
    int before = test_count_handles();
    for (int i = 0; i < PAIRS; i++)
        check(os_pair_create(&a[i], &b[i]));
    assert_int_equal(test_count_handles(), before + 2 * PAIRS);
    for (int i = 0; i < PAIRS; i += 2)
        os_handle_close(b[i]);
    for (int i = 0; i < PAIRS; i++)
        assert_int_equal(os_pair_broken(a[i]), i % 2 == 0);
    for (int i = 0; i < PAIRS; i++) {
        os_handle_close(a[i]);
        if (i % 2 == 1)
            os_handle_close(b[i]);
    }
    assert_int_equal(test_count_handles(), before);
}

static void a_duplicate_keeps_an_end(void **state)
{
    os_handle a, b, copy, other;
    (void)state;
    for (int i = 0; i < 2; i++) {
        check(os_pair_create(i == 0 ? &a : &b, i == 0 ? &b : &a));
        check(os_handle_duplicate(b, &copy));
        check(os_handle_duplicate(a, &other));
        os_handle_close(b);
        assert_false(os_pair_broken(a));
        assert_false(os_pair_broken(other));
        os_handle_close(copy);
        assert_true(os_pair_broken(a));
        assert_true(os_pair_broken(other));
        os_handle_close(other);
        os_handle_close(a);
    }
}

static void an_end_on_its_way_is_kept(void **state)
{
    os_handle a, b, receiver, sender, got;
    char byte = 'x';
    size_t size, count;
    (void)state;
    check(os_pair_create(&a, &b));
    check(os_channel_create(&receiver, &sender));
    check(os_channel_send(sender, os_process_self(), &byte, 1, &b, 1));
    os_handle_close(b);
    assert_false(os_pair_broken(a));
    check(os_channel_receive(receiver, &byte, 1, &size, &got, 1, &count, test_ms(5000)));
    assert_int_equal(count, 1);
    assert_false(os_pair_broken(a));
    os_handle_close(got);
    assert_true(os_pair_broken(a));
    os_handle_close(a);
    os_handle_close(receiver);
    os_handle_close(sender);
}

/* ---- bags ---- */

typedef struct bag {
    os_handle in, out;
} bag;

static bag bag_new(void)
{
    bag b = {OS_NO_HANDLE, OS_NO_HANDLE};
    if (OS_BAG_HANDLES > 0)
        check(os_pair_create(&b.in, &b.out));
    return b;
}

static void bag_close(bag b)
{
    os_handle_close(b.in);
    os_handle_close(b.out);
}

typedef uint64_t words[OS_BAG_MOST];

/* An entry of `count` handles, marked from tag * 1000. */
static void put(bag b, uint64_t tag, size_t count, uint64_t *w)
{
    os_handle handles[OS_BAG_MOST];
    for (size_t i = 0; i < count; i++)
        handles[i] = marked(tag * 1000 + i);
    check(os_bag_put(b.in, tag, handles, count, w));
    for (size_t i = 0; i < count; i++)
        os_handle_close(handles[i]);
}

static void look(bag b, uint64_t tag, size_t count, const uint64_t *w)
{
    os_handle handles[OS_BAG_MOST];
    check(os_bag_look(b.out, tag, w, count, handles));
    for (size_t i = 0; i < count; i++)
        assert_true(mark_of(handles[i]) == tag * 1000 + i);
}

static void an_end_in_a_bag_is_kept(void **state)
{
    os_handle a, b, got;
    words w;
    (void)state;
    bag g = bag_new();
    check(os_pair_create(&a, &b));
    check(os_bag_put(g.in, 7, &b, 1, w));
    os_handle_close(b);
    assert_false(os_pair_broken(a));
    check(os_bag_look(g.out, 7, w, 1, &got));
    assert_false(os_pair_broken(a));
    os_handle_close(got);
    assert_false(os_pair_broken(a));
    os_bag_drop(g.out, 7, w, 1);
    assert_true(os_pair_broken(a));
    os_handle_close(a);
    bag_close(g);
    if (OS_BAG_HANDLES == 0)
        return;
    g = bag_new(); /* what is in a bag goes with it */
    check(os_pair_create(&a, &b));
    check(os_bag_put(g.in, 7, &b, 1, w));
    os_handle_close(b);
    bag_close(g);
    assert_true(os_pair_broken(a));
    os_handle_close(a);
}

static void looked_at_in_any_order(void **state)
{
    enum { ENTRIES = 60 };
    static words w[ENTRIES + 1];
    (void)state;
    bag b = bag_new();
    int before = test_count_handles();
    for (uint64_t tag = 1; tag <= ENTRIES; tag++)
        put(b, tag, 1 + tag % 3, w[tag]);
    int with = test_count_handles();
    if (OS_BAG_HANDLES > 0)
        assert_int_equal(with, before);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < ENTRIES; i++) {
            uint64_t tag = 1 + i * 37 % ENTRIES;
            look(b, tag, 1 + tag % 3, w[tag]);
        }
        assert_int_equal(test_count_handles(), with); /* those of the entries passed over did not come along */
    }
    for (uint64_t tag = 1; tag <= ENTRIES; tag++) {
        look(b, tag, 1 + tag % 3, w[tag]);
        os_bag_drop(b.out, tag, w[tag], 1 + tag % 3);
    }
    assert_int_equal(test_count_handles(), before);
    assert_true(os_bag_oldest(b.out) == 0);
    bag_close(b);
}

static void entries_of_one_bag_only(void **state)
{
    words in_one, in_other;
    (void)state;
    bag one = bag_new(), other = bag_new();
    put(one, 5, 2, in_one);
    put(other, 5, 1, in_other);
    put(other, 6, 1, in_other + 1);
    os_bag_drop(one.out, 5, in_one, 2);
    look(other, 5, 1, in_other);
    look(other, 6, 1, in_other + 1);
    os_bag_drop(other.out, 5, in_other, 1);
    os_bag_drop(other.out, 6, in_other + 1, 1);
    bag_close(one);
    bag_close(other);
}

static void one_that_is_not_there(void **state)
{
    words w;
    os_handle got[2];
    (void)state;
    bag b = bag_new();
    put(b, 11, 2, w);
    int before = test_count_handles();
    if (OS_BAG_HANDLES > 0) { /* elsewhere the words say which entry it is */
        check_fails(KIN_ELOST, os_bag_look(b.out, 12, w, 2, got));
        os_bag_drop(b.out, 12, w, 2);
        check_fails(KIN_EIO, os_bag_look(b.out, 11, w, 1, got)); /* there are two */
        assert_int_equal(test_count_handles(), before);
        assert_true(os_bag_oldest(b.out) == 11);
    }
    look(b, 11, 2, w);
    os_bag_drop(b.out, 11, w, 2);
    check_fails(KIN_ELOST, os_bag_look(b.out, 11, w, 2, got));
    os_bag_drop(b.out, 11, w, 2);
    assert_true(os_bag_oldest(b.out) == 0);
    bag_close(b);
}

static void dropping_drops_the_older(void **state)
{
    static words w[11];
    os_handle got[1];
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("the system keeps no order of entries");
    bag b = bag_new();
    assert_true(os_bag_oldest(b.out) == 0);
    for (uint64_t tag = 1; tag <= 10; tag++)
        put(b, tag, 1, w[tag]);
    assert_true(os_bag_oldest(b.out) == 1);
    os_bag_drop(b.out, 4, w[4], 1);
    assert_true(os_bag_oldest(b.out) == 5);
    for (uint64_t tag = 1; tag <= 4; tag++)
        check_fails(KIN_ELOST, os_bag_look(b.out, tag, w[tag], 1, got));
    for (uint64_t tag = 5; tag <= 10; tag++)
        look(b, tag, 1, w[tag]);
    os_bag_drop(b.out, 4, w[4], 1);
    assert_true(os_bag_oldest(b.out) == 5);
    os_bag_drop(b.out, 10, w[10], 1);
    assert_true(os_bag_oldest(b.out) == 0);
    put(b, 3, 1, w[3]); /* tags need not grow */
    look(b, 3, 1, w[3]);
    bag_close(b);
}

static void a_full_bag(void **state)
{
    enum { MOST = 20000 };
    words w;
    kin_err err = KIN_OK;
    uint64_t tags = 0;
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("a bag has no limit of its own");
    bag b = bag_new();
    os_handle memory = marked(1);
    while (tags < MOST && (err = os_bag_put(b.in, tags + 1, &memory, 1, w)) == KIN_OK)
        tags++;
    check_fails(KIN_EAGAIN, err);
    check_says("full");
    print_message("    %d entries fit\n", (int)tags);
    assert_true(tags >= 200);
    check_fails(KIN_EAGAIN, os_bag_put(b.in, tags + 1, &memory, 1, w));
    os_handle got;
    check_fails(KIN_ELOST, os_bag_look(b.out, tags + 1, w, 1, &got));
    check(os_bag_look(b.out, tags, w, 1, &got));
    assert_true(mark_of(got) == 1);
    os_bag_drop(b.out, 1, w, 1);
    assert_true(os_bag_oldest(b.out) == 2);
    check(os_bag_put(b.in, tags + 1, &memory, 1, w));
    check_fails(KIN_EAGAIN, os_bag_put(b.in, tags + 2, &memory, 1, w));
    check(os_bag_look(b.out, tags + 1, w, 1, &got));
    assert_true(mark_of(got) == 1);
    os_bag_drop(b.out, tags + 1, w, 1);
    assert_true(os_bag_oldest(b.out) == 0);
    check(os_bag_put(b.in, 1, &memory, 1, w));
    os_handle_close(memory);
    bag_close(b);
}

static void as_many_handles_as_may_be(void **state)
{
    static words w[3];
    (void)state;
    bag b = bag_new();
    int before = test_count_handles();
    for (uint64_t tag = 1; tag < 3; tag++)
        put(b, tag, OS_BAG_MOST, w[tag]);
    for (uint64_t tag = 2; tag > 0; tag--)
        look(b, tag, OS_BAG_MOST, w[tag]);
    for (uint64_t tag = 1; tag < 3; tag++)
        os_bag_drop(b.out, tag, w[tag], OS_BAG_MOST);
    assert_int_equal(test_count_handles(), before);
    bag_close(b);
}

static void wrong_arguments(void **state)
{
    words w;
    os_handle handles[OS_BAG_MOST + 1], got[OS_BAG_MOST + 1];
    (void)state;
    bag b = bag_new();
    os_handle memory = marked(1);
    for (size_t i = 0; i <= OS_BAG_MOST; i++)
        handles[i] = memory;
    int before = test_count_handles();
    check_fails(KIN_EINVAL, os_bag_put(b.in, 0, handles, 1, w));
    check_fails(KIN_EINVAL, os_bag_put(b.in, 1, handles, 0, w));
    check_fails(KIN_EINVAL, os_bag_put(b.in, 1, handles, OS_BAG_MOST + 1, w));
    handles[2] = OS_NO_HANDLE;
    check_fails(KIN_EINVAL, os_bag_put(b.in, 1, handles, 3, w));
    assert_int_equal(test_count_handles(), before); /* of the other two nothing is left */
    assert_true(os_bag_oldest(b.out) == 0);
    put(b, 1, 1, w);
    check_fails(KIN_EINVAL, os_bag_look(b.out, 0, w, 1, got));
    check_fails(KIN_EINVAL, os_bag_look(b.out, 1, w, 0, got));
    check_fails(KIN_EINVAL, os_bag_look(b.out, 1, w, OS_BAG_MOST + 1, got));
    os_bag_drop(b.out, 0, w, 1);
    look(b, 1, 1, w);
    os_bag_drop(b.out, 1, w, 1);
    os_handle_close(memory);
    bag_close(b);
}

static void nobody_takes_out(void **state)
{
    words w;
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("a bag has no ends");
    bag b = bag_new();
    os_handle memory = marked(1);
    os_handle_close(b.out);
    check_fails(KIN_EPIPE, os_bag_put(b.in, 1, &memory, 1, w));
    os_handle_close(b.in);
    b = bag_new(); /* nobody puts in: what is there is there */
    check(os_bag_put(b.in, 1, &memory, 1, w));
    os_handle_close(b.in);
    assert_true(os_bag_oldest(b.out) == 1);
    os_handle got;
    check(os_bag_look(b.out, 1, w, 1, &got));
    assert_true(mark_of(got) == 1);
    os_bag_drop(b.out, 1, w, 1);
    assert_true(os_bag_oldest(b.out) == 0);
    check_fails(KIN_ELOST, os_bag_look(b.out, 1, w, 1, &got));
    os_handle_close(b.out);
    os_handle_close(memory);
}

/* What asks only, or has nothing to do, is no failure. */
static void the_last_error_is_left_alone(void **state)
{
    words w;
    os_handle p, q;
    (void)state;
    bag b = bag_new();
    check_fails(KIN_EINVAL, os_bag_put(b.in, 0, NULL, 0, w));
    char said[200];
    (void)snprintf(said, sizeof said, "%s", kin_last_error());
    assert_true(os_bag_oldest(b.out) == 0);
    if (OS_BAG_HANDLES > 0)
        os_bag_drop(b.out, 1, w, 1);
    put(b, 1, 1, w);
    os_bag_drop(b.out, 1, w, 1);
    check(os_pair_create(&p, &q));
    os_handle_close(q);
    assert_true(os_pair_broken(p));
    os_handle_close(p);
    assert_string_equal(kin_last_error(), said);
    bag_close(b);
}

/* ---- no room for descriptors; in a copy, as a limit is for ever ---- */

static bag limited;

/* The entries of `limited` are 1 with 2 handles, 2 with 30. All numbers below the lowest free one are taken. */
static os_handle lowest_free(void)
{
    os_handle handle;
    if (os_handle_duplicate(limited.in, &handle) != KIN_OK)
        return -1;
    os_handle_close(handle);
    return handle;
}

static bool can_look(uint64_t tag, size_t count)
{
    os_handle handles[OS_BAG_MOST];
    if (os_bag_look(limited.out, tag, NULL, count, handles) != KIN_OK)
        return false;
    bool good = true;
    for (size_t i = 0; i < count; i++)
        good = mark_of(handles[i]) == tag * 1000 + i && good;
    return good;
}

static int soft_limit(void)
{
    int lowest = (int)lowest_free();
    if (!test_limit_handles(lowest + 4, lowest + 200))
        return 50;
    return can_look(1, 2) && can_look(2, 30) && can_look(1, 2) ? 0 : 1;
}

static int hard_limit(void)
{
    int lowest = (int)lowest_free(), before = test_count_handles();
    if (!test_limit_handles(lowest + 5, lowest + 20))
        return 50;
    if (can_look(2, 30) || kin_last_code() != KIN_EMFILE)
        return 1;
    if (test_count_handles() != before)
        return 2;
    return can_look(1, 2) && !can_look(2, 30) ? 0 : 3;
}

static void a_limit_of_descriptors(void **state)
{
    static words w[3];
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("there is no limit of handles that could be set");
    limited = bag_new();
    put(limited, 1, 2, w[1]);
    put(limited, 2, 30, w[2]);
    assert_int_equal(test_in_copy(hard_limit), 0);
    assert_int_equal(test_in_copy(soft_limit), 0);
    assert_true(can_look(2, 30));
    bag_close(limited);
}

/* How many may be in flight at once is limited by the same number, for all of the user's processes together: other tests may have some
 * in flight just now, too. */
static int many_in_flight(void)
{
    enum { HANDLES = 64, HARD = 6 * HANDLES + HANDLES * 2 / 3 };
    os_handle handles[HANDLES], in, out;
    if (!crash_give_up_privileges() || !test_limit_handles(100, HARD))
        return 50;
    for (int i = 0; i < HANDLES; i++)
        handles[i] = limited.in;
    uint64_t tag = 1;
    kin_err err;
    while ((err = os_bag_put(limited.in, tag, handles, HANDLES, NULL)) == KIN_OK && tag < 100)
        tag++;
    if (tag <= HARD / HANDLES / 2 || err != KIN_EAGAIN) /* the soft limit was raised */
        return 1;
    if (os_pair_create(&in, &out) != KIN_OK)
        return 2;
    err = os_bag_put(in, 1, handles, HANDLES, NULL);
    if (err != KIN_EMFILE) /* waiting for room in a bag with nothing in it would be of no use */
        return 3;
    os_bag_drop(limited.out, tag - 1, NULL, HANDLES);
    return os_bag_put(in, 1, handles, HANDLES, NULL) == KIN_OK ? 0 : 4;
}

static void a_limit_of_descriptors_in_flight(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("nothing is in flight");
    limited = bag_new();
    int found = test_in_copy(many_in_flight);
    bag_close(limited);
    if (found == 50)
        test_skip("privileges cannot be given up here");
    assert_int_equal(found, 0);
}

/* ---- the order between processes ---- */

static void order_works_or_says_that_it_does_not(void **state)
{
    (void)state;
    kin_err err = os_order_begin();
    if (err != KIN_OK)
        check_fails(KIN_ENOTSUP, err);
    else
        check(os_order_begin()); /* a second time is fine */
    os_order_all();
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_know_of_each_other),
        cmocka_unit_test(pairs_are_many),
        cmocka_unit_test(a_duplicate_keeps_an_end),
        cmocka_unit_test(an_end_on_its_way_is_kept),
        cmocka_unit_test(an_end_in_a_bag_is_kept),
        cmocka_unit_test(looked_at_in_any_order),
        cmocka_unit_test(entries_of_one_bag_only),
        cmocka_unit_test(one_that_is_not_there),
        cmocka_unit_test(dropping_drops_the_older),
        cmocka_unit_test(a_full_bag),
        cmocka_unit_test(as_many_handles_as_may_be),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(nobody_takes_out),
        cmocka_unit_test(the_last_error_is_left_alone),
        cmocka_unit_test(a_limit_of_descriptors),
        cmocka_unit_test(a_limit_of_descriptors_in_flight),
        cmocka_unit_test(order_works_or_says_that_it_does_not),
    };
    return cmocka_run_group_tests_name("pair", tests, NULL, NULL);
}
