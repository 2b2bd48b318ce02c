/* Pairs whose ends others have, and bags that others put into and look into, when those are killed. What is put into bags here are ends of
 * pairs: whether they are kept is seen at the other end. */
#include "crash_support.h"

#include "atomic.h"
#include "session.h"

#include <string.h>

enum { ROUNDS_LINUX = 40, ROUNDS_WINDOWS = 6 };

struct shared {
    uint32_t ready, go;
    uint64_t words[OS_BAG_MOST];
};

static kin_segment *segment;
static struct shared *shared;
static os_handle in = OS_NO_HANDLE, out = OS_NO_HANDLE; /* the bag */

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static void bag_new(void)
{
    if (OS_BAG_HANDLES > 0)
        check(os_pair_create(&in, &out));
}

static void bag_close(void)
{
    os_handle_close(in);
    os_handle_close(out);
    in = out = OS_NO_HANDLE;
}

static void again(void)
{
    kin__store32(&shared->ready, 0);
    kin__store32(&shared->go, 0);
}

static int rounds(void) { return test_scale(ROUNDS_LINUX, ROUNDS_WINDOWS); }

static struct shared *attach(kin_args *args)
{
    kin_segment *mine;
    return kin_args_get(args, 0, KIN_OUT(&mine)) == KIN_OK ? kin_segment_data(mine) : NULL;
}

static void kill_and_join(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(crash_join(p), -9);
}

/* ---- ends ---- */

/* Has what it was passed, taken out or not, until it is told to end. */
static int have(kin_args *args)
{
    struct shared *s = attach(args);
    intptr_t end;
    CHILD_CHECK(s != NULL);
    if (kin_args_count(args) > 2)
        CHILD_CHECK(kin_args_get(args, 1, kin_handle_out(&end)) == KIN_OK);
    kin__add32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    return 0;
}

/* Broken already when the end of the last who had the other end is known. */
static void who_has_the_other_end_is_killed(void **state)
{
    (void)state;
    for (int round = 0; round < rounds(); round++) {
        os_handle a, b;
        bool taken_out = round % 2 == 0, killed = round % 3 != 0;
        check(os_pair_create(round % 4 < 2 ? &a : &b, round % 4 < 2 ? &b : &a));
        again();
        kin_process *p = taken_out ? test_start(have, KIN_ARGS(segment, kin_handle(b), 1))
                                   : test_start(have, KIN_ARGS(segment, kin_handle(b)));
        os_handle_close(b);
        assert_false(os_pair_broken(a)); /* it may be on its way still */
        assert_true(crash_until_at_least(&shared->ready, 1));
        assert_false(os_pair_broken(a));
        if (killed) {
            kill_and_join(p);
        } else {
            kin__store32(&shared->go, 1);
            assert_int_equal(crash_join(p), 0);
        }
        assert_true(os_pair_broken(a));
        os_handle_close(a);
    }
}

/* The same, seen by whoever is called when the process has ended. */
static os_handle watched_end;
static uint32_t reported; /* 1: broken; 2: not yet */

static void process_ended(uint64_t who, int status)
{
    (void)who;
    (void)status;
    kin__store32(&reported, os_pair_broken(watched_end) ? 1 : 2);
}

static uint64_t birthday_of(int64_t pid)
{
    kin__session *s = kin__my.session;
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        if (kin__word_state(word) == KIN__RUNNING && kin__word_low(word) == (uint32_t)pid)
            return kin__load64(&s->info[i].birthday);
    }
    return 0;
}

static void whoever_watches_finds_it_broken(void **state)
{
    (void)state;
    for (int round = 0; round < rounds(); round++) {
        os_handle b, process;
        check(os_pair_create(&watched_end, &b));
        again();
        kin_process *p = test_start(have, KIN_ARGS(segment, kin_handle(b), 1));
        os_handle_close(b);
        assert_true(crash_until_at_least(&shared->ready, 1));
        kin__store32(&reported, 0);
        check(os_process_open(kin_process_pid(p), birthday_of(kin_process_pid(p)), &process));
        check(os_process_watch(process, 1, process_ended));
        check(kin_process_kill(p));
        assert_true(crash_until_at_least(&reported, 1));
        assert_int_equal(kin__load32(&reported), 1);
        assert_int_equal(crash_join(p), -9);
        os_handle_close(watched_end);
    }
}

static void the_last_of_several(void **state)
{
    enum { MANY = 3 };
    (void)state;
    for (int round = 0; round < rounds() / 3; round++) {
        os_handle a, b;
        kin_process *p[MANY];
        check(os_pair_create(&a, &b));
        again();
        for (int i = 0; i < MANY; i++)
            p[i] = test_start(have, KIN_ARGS(segment, kin_handle(b)));
        os_handle_close(b);
        assert_true(crash_until_at_least(&shared->ready, MANY));
        for (int i = 0; i < MANY; i++) {
            assert_false(os_pair_broken(a));
            kill_and_join(p[i]);
        }
        assert_true(os_pair_broken(a));
        os_handle_close(a);
    }
}

/* A child that is killed on its way to its target: nobody else keeps what was passed to it. */
static void killed_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < rounds(); round++) {
        os_handle a, b;
        check(os_pair_create(&a, &b));
        again();
        kin_process *p = test_start(have, KIN_ARGS(segment, kin_handle(b)));
        os_handle_close(b);
        kill_and_join(p);
        assert_true(os_pair_broken(a));
        os_handle_close(a);
    }
}

/* ---- bags ---- */

/* What is passed for an end of the bag where it has none; the functions do not look at it then. */
static kin_any bag_end(os_handle end, os_handle instead) { return kin_handle(OS_BAG_HANDLES > 0 ? end : instead); }

/* Makes a pair, puts one end into the bag as entry 5, and ends: by itself or being killed. The other end comes as `b`. */
static int put_and_end(kin_args *args)
{
    struct shared *s = attach(args);
    intptr_t mine, bag;
    bool killed;
    CHILD_CHECK(s != NULL);
    CHILD_CHECK(kin_args_get(args, 1, kin_handle_out(&mine)) == KIN_OK &&
                kin_args_get(args, 2, kin_handle_out(&bag)) == KIN_OK &&
                kin_args_get(args, 3, KIN_OUT(&killed)) == KIN_OK);
    os_handle handles[3] = {mine, mine, mine};
    CHILD_CHECK(os_bag_put(bag, 5, handles, 3, s->words) == KIN_OK);
    kin__store32(&s->ready, 1);
    if (killed)
        CHILD_CHECK(crash_until_at_least(&s->go, 1));
    return 0;
}

static void entries_outlive_who_put_them(void **state)
{
    (void)state;
    for (int round = 0; round < rounds(); round++) {
        os_handle a, b, got[3];
        bool killed = round % 2 == 0;
        bag_new();
        check(os_pair_create(&a, &b));
        again();
        kin_process *p = test_start(put_and_end, KIN_ARGS(segment, kin_handle(b), bag_end(in, b), killed));
        os_handle_close(b);
        assert_true(crash_until_at_least(&shared->ready, 1));
        if (killed)
            kill_and_join(p);
        else
            assert_int_equal(crash_join(p), 0);
        assert_false(os_pair_broken(a));
        assert_true(os_bag_oldest(out) == (OS_BAG_HANDLES > 0 ? 5 : 0));
        check(os_bag_look(out, 5, shared->words, 3, got));
        os_bag_drop(out, 5, shared->words, 3);
        for (int i = 0; i < 3; i++) {
            assert_false(os_pair_broken(a));
            os_handle_close(got[i]);
        }
        assert_true(os_pair_broken(a));
        os_handle_close(a);
        bag_close();
    }
}

/* Looks at the entries, the last first, again and again. */
static int look_for_ever(kin_args *args)
{
    struct shared *s = attach(args);
    intptr_t bag;
    CHILD_CHECK(s != NULL && kin_args_get(args, 1, kin_handle_out(&bag)) == KIN_OK);
    for (uint64_t n = 0; kin__load32(&s->go) == 0; n++) {
        os_handle got;
        uint64_t tag = 8 - n % 8;
        CHILD_CHECK(os_bag_look(bag, tag, &s->words[tag], 1, &got) == KIN_OK);
        os_handle_close(got);
        kin__store32(&s->ready, 1);
    }
    return 0;
}

/* Wherever in its look it dies: the entries are there for the next, and nobody keeps what it had got. */
static void who_looks_is_killed(void **state)
{
    uint32_t seed = crash_seed();
    (void)state;
    for (int round = 0; round < rounds(); round++) {
        os_handle a[9], b[9];
        bag_new();
        again();
        for (uint64_t tag = 1; tag <= 8; tag++) {
            check(os_pair_create(&a[tag], &b[tag]));
            check(os_bag_put(in, tag, &b[tag], 1, &shared->words[tag]));
        }
        kin_process *p = test_start(look_for_ever, KIN_ARGS(segment, bag_end(out, b[1])));
        for (uint64_t tag = 1; tag <= 8; tag++)
            os_handle_close(b[tag]);
        assert_true(crash_until_at_least(&shared->ready, 1));
        crash_spin_us(crash_random(&seed, 1000));
        kill_and_join(p);
        assert_true(os_bag_oldest(out) == (OS_BAG_HANDLES > 0 ? 1 : 0));
        for (uint64_t i = 0; i < 8; i++) {
            os_handle got;
            uint64_t tag = 1 + i * 3 % 8;
            check(os_bag_look(out, tag, &shared->words[tag], 1, &got));
            os_handle_close(got);
        }
        for (uint64_t tag = 1; tag <= 8; tag++) {
            assert_false(os_pair_broken(a[tag]));
            os_bag_drop(out, tag, &shared->words[tag], 1);
            assert_true(os_pair_broken(a[tag]));
            os_handle_close(a[tag]);
        }
        bag_close();
    }
}

/* ---- the root is gone; Windows, where it keeps the handles ---- */

/* Tells the other process what it found, having outlived the root. */
static int orphan(kin_args *args)
{
    intptr_t end;
    const char *path;
    int64_t root;
    uint64_t words[2];
    os_handle got;
    CHILD_CHECK(kin_unpack(args, &path, &root, kin_handle_out(&end)) == KIN_OK);
    kin_err put = os_bag_put(OS_NO_HANDLE, 1, &end, 1, &words[0]);
    kin_err looked = os_bag_look(OS_NO_HANDLE, 1, words, 1, &got);
    bool gone = test_process_gone(root);
    kin_err look = os_bag_look(OS_NO_HANDLE, 1, words, 1, &got);
    kin_err late = os_bag_put(OS_NO_HANDLE, 2, &end, 1, &words[1]);
    os_bag_drop(OS_NO_HANDLE, 1, words, 1);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return 1;
    (void)fprintf(f, "%d %d %d %d %d\n", put, looked, gone, look, late);
    (void)fclose(f);
    return 0;
}

/* This program run again, as a root that ends by force while its child goes on. */
static int short_root(const char *path)
{
    os_handle a, b;
    kin_process *p;
    int64_t self = os_process_self();
    if (os_pair_create(&a, &b) != KIN_OK ||
        kin_process_start(&p, orphan, KIN_ARGS(path, self, kin_handle(b)), NULL) != KIN_OK)
        return 1;
    crash_end(0);
    return 2;
}

static void the_root_is_gone(void **state)
{
    static test_output output;
    char line[64] = "";
    (void)state;
    if (OS_BAG_HANDLES > 0)
        test_skip("bags do not need the root here");
    const char *path = test_file("orphan");
    (void)remove(path);
    test_run_self((const char *[]){"short_root", path, NULL}, NULL, &output);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    (void)fclose(f);
    (void)remove(path);
    int put, looked, gone, look, late;
    assert_int_equal(sscanf(line, "%d %d %d %d %d", &put, &looked, &gone, &look, &late), 5);
    assert_true(gone);
    /* Whether the root was there at first is up to the scheduler. */
    assert_true((put == KIN_OK && (looked == KIN_OK || looked == KIN_ELOST)) || put == KIN_ELOST);
    assert_int_equal(look, KIN_ELOST);
    assert_int_equal(late, KIN_ELOST);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (argc > 2 && strcmp(argv[1], "short_root") == 0)
        return short_root(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_the_other_end_is_killed),
        cmocka_unit_test(whoever_watches_finds_it_broken),
        cmocka_unit_test(the_last_of_several),
        cmocka_unit_test(killed_at_once),
        cmocka_unit_test(entries_outlive_who_put_them),
        cmocka_unit_test(who_looks_is_killed),
        cmocka_unit_test(the_root_is_gone),
    };
    return cmocka_run_group_tests_name("pair_death", tests, setup, teardown);
}
