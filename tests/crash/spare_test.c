/* Every spare of the fork server dies with the first request it receives (Linux): a start gives up in the end, and the next server works. */
#include "crash_support.h"

static int answer(kin_args *args)
{
    int64_t code = 0;
    return kin_unpack(args, &code) == KIN_OK ? (int)code : 99;
}

static void spares_that_die_of_every_request(void **state)
{
    (void)state;
    int places = crash_places();
    kin_process *p = NULL;
    int64_t server = crash_server(), before = kin_now();
    kin_err err = kin_process_start(&p, answer, KIN_ARGS(1), NULL);
    assert_true(kin_now() - before < test_ms(20000));
    assert_true(err == KIN_ECHILD || err == KIN_ELOST);
    check_says("Process-1");
    assert_null(p);
    assert_true(crash_until_places(places));
    /* The next server comes from the environment of now. */
    crash_kill(server);
    assert_true(crash_until_gone(server));
    for (int code = 0; code < 5; code++)
        assert_int_equal(test_run(answer, KIN_ARGS(code)), code);
    assert_true(crash_until_places(places));
}

int main(int argc, char **argv)
{
    bool root = crash_is_root();
    if (root)
        crash_at("spare.received"); /* the fork server is a copy of the program at kin_init */
    kin_err err = kin_init(argc, argv);
    if (root)
        crash_at(NULL);
    if (err != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (test_on_windows()) {
        printf("skipped: there is no fork server on Windows\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(spares_that_die_of_every_request)};
    return cmocka_run_group_tests_name("spare", tests, NULL, NULL);
}
