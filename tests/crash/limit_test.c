/* No more processes are to be had (Linux): starts say so, and work again afterwards. */
#include "crash_support.h"

#include <uv.h>

static int answer(kin_args *args)
{
    int64_t code = 0;
    return kin_unpack(args, &code) == KIN_OK ? (int)code : 99;
}

static void no_more_processes(void **state)
{
    (void)state;
    enum { MOST = 20 };
    kin_process *p = NULL;
    for (int code = 0; code < 3; code++)
        assert_int_equal(test_run(answer, KIN_ARGS(code)), code);
    int places = crash_places();
    for (int round = 0; round < 3; round++) {
        assert_true(crash_limit_processes(crash_server(), true));
        kin_err err = KIN_OK;
        for (int i = 0; i < MOST && err == KIN_OK; i++) { /* its spares are there still */
            err = kin_process_start(&p, answer, KIN_ARGS(i), NULL);
            if (err == KIN_OK)
                assert_int_equal(crash_join(p), i);
        }
        check_fails(KIN_EAGAIN, err);
        check_says("fork");
        check_fails(KIN_EAGAIN, kin_process_start(&p, answer, KIN_ARGS(1), NULL));
        assert_true(crash_until_places(places));
        assert_true(crash_limit_processes(crash_server(), false));
        /* The server tries again by itself; it need not have done so yet. */
        int64_t end = kin_now() + test_ms(20000);
        while ((err = kin_process_start(&p, answer, KIN_ARGS(7), NULL)) == KIN_EAGAIN && kin_now() < end) {
        }
        check(err);
        assert_int_equal(crash_join(p), 7);
        for (int code = 0; code < 3; code++)
            assert_int_equal(test_run(answer, KIN_ARGS(code)), code);
    }
}

int main(int argc, char **argv)
{
    bool can = crash_give_up_privileges(); /* no such limit binds root */
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (!can || crash_server() == 0 || !crash_limit_processes(crash_server(), false)) {
        printf("skipped: the number of processes cannot be limited here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_more_processes)};
    return cmocka_run_group_tests_name("limit", tests, NULL, NULL);
}
