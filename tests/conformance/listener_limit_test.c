/* When descriptors are few: listeners, connections and kin_wait. The soft limit is raised when it is met; at the hard one there are errors,
 * and nobody goes round in circles. */
#include "listener_support.h"
#include "sync_support.h"

#include <string.h>

enum { PAIRS = 40 };

static kin_err make_pair(kin_connection *ends[2])
{
    kin_err err = kin_connect(&ends[0], kin_listener_address(listener), KEY, SOON);
    return err == KIN_OK ? kin_listener_accept(listener, &ends[1], SOON) : err;
}

static int beyond_the_soft_limit(kin_args *args)
{
    int which;
    CHILD_CHECK(kin_unpack(args, &which) == KIN_OK);
    kin_connection *ends[PAIRS][2];
    kin_waitable all[PAIRS * 2];
    size_t ready;
    CHILD_CHECK(test_limit_handles(test_count_handles() + 3, 4000));
    CHILD_CHECK(kin_listen(&listener, place(which), KEY, NULL) == KIN_OK);
    for (int i = 0; i < PAIRS; i++)
        CHILD_CHECK(make_pair(ends[i]) == KIN_OK);
    for (int i = 0; i < PAIRS; i++) { /* a thread that sleeps needs some, too */
        CHILD_CHECK(test_limit_handles(test_count_handles(), 4000));
        CHILD_CHECK(kin_connection_recv(ends[i][0], NULL, 0, NULL, 1) == KIN_ETIMEDOUT);
    }
    kin_connection *first, *second; /* what is passed is duplicated */
    CHILD_CHECK(kin_pipe(&first, &second, NULL) == KIN_OK);
    for (int i = 0; i < PAIRS; i++) {
        CHILD_CHECK(test_limit_handles(test_count_handles(), 4000));
        CHILD_CHECK(kin_connection_send_args(first, KIN_ARGS(second), KIN_NOWAIT) == KIN_OK);
    }
    kin_connection_close(first);
    kin_connection_close(second);
    for (int i = 0; i < PAIRS * 2; i++)
        all[i] = KIN_WAIT_FOR(ends[i / 2][i % 2]);
    CHILD_CHECK(test_limit_handles(test_count_handles(), 4000));
    int64_t cpu = sync_cpu_ms();
    CHILD_CHECK(kin_wait(all, PAIRS * 2, &ready, 300) == KIN_ETIMEDOUT);
    CHILD_CHECK(sync_cpu_ms() - cpu < 150);
    CHILD_CHECK(kin_connection_send(ends[PAIRS - 1][0], "x", 1, SOON) == KIN_OK);
    CHILD_CHECK(kin_wait(all, PAIRS * 2, &ready, SOON) == KIN_OK && ready == 1 && all[PAIRS * 2 - 1].ready);
    for (int i = 0; i < PAIRS * 2; i++)
        kin_connection_close(ends[i / 2][i % 2]);
    kin_listener_close(listener);
    return 7;
}

static void soft_limit(void **state)
{
    (void)state;
    NEEDS_KEYS
    if (test_on_windows())
        test_skip("there is no limit of handles that could be set");
    for (int i = 0; i < PLACES; i++)
        assert_int_equal(test_run(beyond_the_soft_limit, KIN_ARGS(i)), 7);
}

/* Takes all descriptors that there are. How many. */
static int take_all(os_handle *handles, int most)
{
    os_handle first;
    int n = 0;
    if (os_pair_create(&handles[0], &first) != KIN_OK)
        return 0;
    os_handle_close(first);
    while (++n < most && os_handle_duplicate(handles[0], &handles[n]) == KIN_OK) {
    }
    return n;
}

static int at_the_hard_limit(kin_args *args)
{
    int which;
    CHILD_CHECK(kin_unpack(args, &which) == KIN_OK);
    enum { HARD = 200 };
    os_handle taken[HARD];
    kin_connection *ends[2], *c;
    CHILD_CHECK(kin_listen(&listener, place(which), KEY, NULL) == KIN_OK && make_pair(ends) == KIN_OK);
    CHILD_CHECK(kin_connection_recv(ends[0], NULL, 0, NULL, 1) == KIN_ETIMEDOUT); /* there is a thread that watches */
    CHILD_CHECK(test_limit_handles(HARD, HARD));
    int n = take_all(taken, HARD);
    CHILD_CHECK(n > 0);
    kin_waitable all[] = {KIN_WAIT_FOR(listener), KIN_WAIT_FOR(ends[0]), KIN_WAIT_FOR(ends[1])};
    for (int i = 0; i < 2; i++) {
        CHILD_CHECK(kin_wait(all, 3, NULL, KIN_FOREVER) == KIN_EMFILE);
        CHILD_CHECK(strstr(kin_last_error(), "item 1") != NULL && strstr(kin_last_error(), "epoll") != NULL);
        CHILD_CHECK(kin_connection_recv(ends[0], NULL, 0, NULL, KIN_FOREVER) == KIN_EMFILE);
        CHILD_CHECK(kin_connect(&c, kin_listener_address(listener), KEY, SOON) == KIN_EMFILE);
    }
    CHILD_CHECK(kin_connection_send(ends[1], "x", 1, SOON) == KIN_OK);
    CHILD_CHECK(kin_wait(all, 3, NULL, KIN_FOREVER) == KIN_OK && all[1].ready && !all[2].ready);
    char byte;
    CHILD_CHECK(kin_connection_recv(ends[0], &byte, 1, NULL, KIN_FOREVER) == KIN_OK);
    while (n > 0)
        os_handle_close(taken[--n]);
    CHILD_CHECK(kin_wait(all, 3, NULL, 20) == KIN_ETIMEDOUT);
    kin_connection *more[2];
    CHILD_CHECK(make_pair(more) == KIN_OK);
    for (int i = 0; i < 2; i++) {
        kin_connection_close(ends[i]);
        kin_connection_close(more[i]);
    }
    kin_listener_close(listener);
    return 7;
}

static void hard_limit(void **state)
{
    (void)state;
    NEEDS_KEYS
    if (test_on_windows())
        test_skip("there is no limit of handles that could be set");
    for (int i = 0; i < PLACES; i++)
        assert_int_equal(test_run(at_the_hard_limit, KIN_ARGS(i)), 7);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(soft_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(hard_limit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
