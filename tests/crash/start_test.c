/* Starts that go wrong: a child that dies before it runs, a full table. A start never hangs, and gives back what it took. */
#include "crash_support.h"

#include "session.h"
#include "thread.h"

#include <uv.h>

static int answer(kin_args *args)
{
    int64_t code = 0;
    return kin_unpack(args, &code) == KIN_OK ? (int)code : 99;
}

static void must_start(void)
{
    for (int code = 0; code < 3; code++)
        assert_int_equal(test_run(answer, KIN_ARGS(code)), code);
}

/* ---- a child dies on its way ---- */

static void a_child_dies_before_it_has_read_what_it_was_passed(void **state)
{
    (void)state;
    must_start();
    int places = crash_places(), handles = test_count_handles();
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        kin_process *p = NULL;
        kin_lock *lock;
        check(kin_lock_create(&lock, NULL));
        crash_at("child.claimed");
        kin_err err = kin_process_start(&p, answer, KIN_ARGS(1, lock), NULL);
        crash_at(NULL);
        check_fails(KIN_ECHILD, err);
        check_says("Process-");
        check_says("9"); /* how it died */
        assert_null(p);
        kin_lock_close(lock);
        assert_true(crash_until_places(places));
    }
    must_start();
    assert_true(test_count_handles() <= handles + 64 * 2); /* closed segments stay reserved for a while, as addresses */
}

static void a_child_dies_just_before_its_target(void **state)
{
    (void)state;
    int places = crash_places();
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        kin_process *p = NULL;
        crash_at("child.running");
        kin_err err = kin_process_start(&p, answer, KIN_ARGS(1), NULL);
        crash_at(NULL);
        check(err); /* it was running */
        assert_int_equal(crash_join(p), -9);
        assert_true(crash_until_places(places));
    }
    must_start();
}

static void a_start_that_is_refused_takes_no_place(void **state)
{
    (void)state;
    int places = crash_places();
    kin_process *p;
    check_fails(KIN_EINVAL, kin_process_start(&p, NULL, KIN_ARGS(1), NULL));
    check_fails(KIN_EINVAL, kin_process_start(NULL, answer, KIN_ARGS(1), NULL));
    static int data;
    check_fails(KIN_EINVAL, kin_process_start(&p, (kin_target)(uintptr_t)&data, KIN_ARGS(1), NULL));
    assert_int_equal(crash_places(), places);
    must_start();
}

/* ---- full tables ---- */

static void the_process_table_is_full(void **state)
{
    (void)state;
    static kin__pid taken[KIN__PROCESSES];
    size_t count = 0;
    kin_process *p = NULL;
    uint32_t place, generation;
    must_start();
    int places = crash_places();
    while (count < KIN__PROCESSES && kin__place_take(&place, &generation) == KIN_OK)
        taken[count++] = kin__pid_of(place, generation);
    assert_int_equal(crash_places(), KIN__PROCESSES);
    check_fails(KIN_EAGAIN, kin_process_start(&p, answer, KIN_ARGS(1), NULL));
    check_says("full");
    check_says("2048");
    assert_null(p);
    /* One place is enough, again and again. */
    assert_true(kin__place_free(taken[--count]));
    must_start();
    check_fails(KIN_EAGAIN, (kin__place_take(&place, &generation), kin_process_start(&p, answer, KIN_ARGS(1), NULL)));
    assert_true(kin__place_free(kin__pid_of(place, generation)));
    while (count > 0)
        assert_true(kin__place_free(taken[--count]));
    assert_true(crash_until_places(places));
    must_start();
}

/* A place is given to many processes, one after the other, and none is mistaken for another. */
static void places_are_used_again(void **state)
{
    (void)state;
    enum { KEPT = 8 };
    int places = crash_places(), rounds = test_scale(400, 20);
    kin_process *kept[KEPT] = {NULL};
    int expected[KEPT];
    for (int round = 0; round < rounds; round++) {
        int i = round % KEPT;
        if (kept[i] != NULL)
            assert_int_equal(crash_join(kept[i]), expected[i]);
        expected[i] = round % 256;
        kept[i] = test_start(answer, KIN_ARGS(expected[i]));
        if (round % 3 == 0)
            check(kin_process_join(kept[i], test_ms(20000)));
    }
    for (int i = 0; i < KEPT && i < rounds; i++)
        assert_int_equal(crash_join(kept[i]), expected[(size_t)i]);
    assert_true(crash_until_places(places));
}

/* Closed without a join: nobody will ask, so the place comes back by itself. */
static void closed_handles_leave_no_places(void **state)
{
    (void)state;
    int places = crash_places();
    for (int i = 0, times = test_scale(200, 20); i < times; i++)
        kin_process_close(test_start(answer, KIN_ARGS(1)));
    assert_true(crash_until_places(places));
}

static void try_to_lock(void *arg)
{
    kin_lock *lock;
    kin_err *results = arg;
    results[0] = kin_lock_create(&lock, NULL);
    results[1] = kin_lock_acquire(lock, KIN_FOREVER);
    kin_process *p;
    results[2] = kin_process_start(&p, answer, KIN_ARGS(1), NULL);
    if (results[2] == KIN_OK)
        kin_process_close(p);
    kin_lock_close(lock);
}

static void the_thread_table_is_full(void **state)
{
    (void)state;
    static uint64_t before[KIN__THREADS];
    kin__session *s = kin__my.session;
    uv_thread_t thread;
    kin_err results[3] = {KIN_EIO, KIN_EIO, KIN_EIO};
    must_start();
    int places = crash_places();
    /* As if this process had as many threads. */
    uint32_t half = (kin__pid_generation(kin__my.id) & 0xffff) << 16 | (kin__my.place + 1);
    for (uint32_t i = 0; i < KIN__THREADS; i++) {
        before[i] = kin__load64(&s->threads[i].claim);
        if ((uint32_t)before[i] == 0)
            kin__store64(&s->threads[i].claim, before[i] | half);
    }
    assert_int_equal(uv_thread_create(&thread, try_to_lock, results), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    for (uint32_t i = 0; i < KIN__THREADS; i++) {
        if ((uint32_t)before[i] == 0)
            kin__store64(&s->threads[i].claim, before[i]);
    }
    assert_int_equal(results[0], KIN_OK);
    assert_int_equal(results[1], KIN_EAGAIN);
    assert_int_equal(results[2], KIN_EAGAIN);
    assert_int_equal(crash_places(), places);
    assert_int_equal(uv_thread_create(&thread, try_to_lock, results), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(results[1], KIN_OK);
    assert_int_equal(results[2], KIN_OK);
    must_start();
}

/* ---- a request is lost with the spare that took it ---- */

struct late {
    kin_err err;
    int code;
    uint32_t done;
};

static void start_one(void *arg)
{
    struct late *late = arg;
    kin_process *p;
    late->err = kin_process_start(&p, answer, KIN_ARGS(13), NULL);
    if (late->err == KIN_OK)
        late->code = crash_join(p);
    kin__store32(&late->done, 1);
}

static void stopped_spares_are_killed_with_a_request_in_the_socket(void **state)
{
    (void)state;
    int64_t spares[64], server = crash_server();
    must_start();
    if (server == 0)
        test_skip("there is no fork server here");
    for (int round = 0, rounds = test_scale(20, 2); round < rounds; round++) {
        struct late late = {.err = KIN_EIO};
        uv_thread_t thread;
        int count = crash_children_of(server, spares, 64);
        for (int i = 0; i < count; i++)
            (void)test_process_stop(spares[i]);
        assert_int_equal(uv_thread_create(&thread, start_one, &late), 0);
        if (round % 2 == 0)
            uv_sleep(5);
        for (int i = 0; i < count; i++)
            crash_kill(spares[i]);
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_int_equal(late.err, KIN_OK);
        assert_int_equal(late.code, 13);
    }
}

/* ---- the starter dies ---- */

static int start_and_be_killed(kin_args *args)
{
    kin_segment *segment;
    CHILD_CHECK(kin_unpack(args, &segment) == KIN_OK);
    uint32_t *words = kin_segment_data(segment);
    kin__add32(&words[0], 1);
    for (int64_t end = kin_now() + test_ms(60000); kin_now() < end;) {
        kin_process *p;
        if (kin_process_start(&p, answer, KIN_ARGS(3), &(kin_process_options){.daemon = (kin__add32(&words[1], 1) & 1) != 0}) == KIN_OK)
            kin_process_close(p);
    }
    return 98;
}

static void starters_are_killed_while_they_start(void **state)
{
    (void)state;
    if (test_under_wine())
        test_skip("a process whose maker is killed in the middle of CreateProcess hangs in Wine for ever, before its first instruction");
    uint32_t chance = crash_seed();
    kin_segment *segment;
    check(kin_segment_create(&segment, 64));
    uint32_t *words = kin_segment_data(segment);
    must_start();
    int places = crash_places();
    for (int round = 0, rounds = test_scale(60, 5); round < rounds; round++) {
        kin_process *p = test_start(start_and_be_killed, KIN_ARGS(segment));
        assert_true(crash_until_at_least(&words[0], (uint32_t)round + 1));
        crash_spin_us(crash_random(&chance, 4000));
        check(kin_process_kill(p));
        assert_int_equal(crash_join(p), -9);
    }
    assert_true(crash_until_places(places));
    kin_segment_close(segment);
    must_start();
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_dies_before_it_has_read_what_it_was_passed),
        cmocka_unit_test(a_child_dies_just_before_its_target),
        cmocka_unit_test(a_start_that_is_refused_takes_no_place),
        cmocka_unit_test(the_process_table_is_full),
        cmocka_unit_test(places_are_used_again),
        cmocka_unit_test(closed_handles_leave_no_places),
        cmocka_unit_test(the_thread_table_is_full),
        cmocka_unit_test(stopped_spares_are_killed_with_a_request_in_the_socket),
        cmocka_unit_test(starters_are_killed_while_they_start),
    };
    return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
