/* kin/connection.h: how a connection ends. What was sent is received first; the end is seen when, and not before, nobody has the
 * other end any more: not a process, nor anything on its way. What children leave open is in static variables: there it is no leak.
 * @ctest TIMEOUT 120 */
#include "crash_support.h"

#include <stdlib.h>
#include <string.h>

enum { LARGE = 200000 };

static kin_connection *first, *second;

static int setup(void **state)
{
    (void)state;
    check(kin_pipe(&first, &second, &(kin_pipe_options){.name = "line", .capacity = 4096}));
    return 0;
}

static void close_one(kin_connection **c)
{
    kin_connection_close(*c);
    *c = NULL;
}

static int teardown(void **state)
{
    (void)state;
    close_one(&first);
    close_one(&second);
    return 0;
}

static void expect_number(kin_connection *c, int number)
{
    int found = -1;
    size_t size;
    check(kin_connection_recv(c, &found, sizeof found, &size, test_ms(20000)));
    assert_int_equal(size, sizeof found);
    assert_int_equal(found, number);
}

static void expect_end(kin_connection *c)
{
    char byte;
    void *data;
    kin_args *args;
    check_fails(KIN_EPIPE, kin_connection_recv(c, &byte, 1, NULL, test_ms(20000)));
    check_says("line");
    check_fails(KIN_EPIPE, kin_connection_recv(c, &byte, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EPIPE, kin_connection_recv_new(c, &data, NULL, 0, KIN_NOWAIT));
    check_fails(KIN_EPIPE, kin_connection_recv_args(c, &args, KIN_NOWAIT));
    check(kin_connection_poll(c, KIN_NOWAIT));
    check(kin_connection_poll(c, KIN_FOREVER));
}

static void expect_open(kin_connection *c)
{
    char byte;
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(c, &byte, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(c, &byte, 1, NULL, 20));
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(c, 1));
}

/* Sleeps until the end comes, in one of several calls. */
enum { IN_RECV, IN_RECV_NEW, IN_POLL, IN_WAIT, IN_SEND, IN_WAIT_FOR_ROOM, IN_SEND_LARGE };
static int wait_for_end(kin_args *args)
{
    static kin_connection *c;
    int where;
    char buffer[300] = "", *large = NULL;
    void *data;
    kin_err err = KIN_OK;
    CHILD_CHECK(kin_unpack(args, &c, &where) == KIN_OK);
    switch (where) {
    case IN_RECV:
        err = kin_connection_recv(c, buffer, sizeof buffer, NULL, KIN_FOREVER);
        break;
    case IN_RECV_NEW:
        err = kin_connection_recv_new(c, &data, NULL, 0, KIN_FOREVER);
        break;
    case IN_POLL:
        CHILD_CHECK(kin_connection_poll(c, KIN_FOREVER) == KIN_OK);
        err = kin_connection_recv(c, buffer, sizeof buffer, NULL, KIN_NOWAIT);
        break;
    case IN_WAIT:
    case IN_WAIT_FOR_ROOM: {
        kin_waitable items[2] = {where == IN_WAIT ? KIN_WAIT_FOR(c) : KIN_WAIT_ROOM(c)};
        CHILD_CHECK(kin_wait(items, 2, NULL, KIN_FOREVER) == KIN_OK && items[0].ready && !items[1].ready);
        err = where == IN_WAIT ? kin_connection_recv(c, buffer, sizeof buffer, NULL, KIN_NOWAIT)
                               : kin_connection_send(c, buffer, sizeof buffer, KIN_NOWAIT);
        break;
    }
    case IN_SEND:
        while (err == KIN_OK)
            err = kin_connection_send(c, buffer, sizeof buffer, KIN_FOREVER);
        break;
    default:
        large = calloc(1, LARGE);
        CHILD_CHECK(large != NULL);
        while (err == KIN_OK)
            err = kin_connection_send(c, large, LARGE, KIN_FOREVER);
        free(large);
    }
    return err; /* KIN_EPIPE; had it been a signal, it would not return at all */
}

static bool is_asleep(void *process)
{
    return crash_asleep(kin_process_pid(process)) > 0;
}

static kin_process *start_waiting(kin_connection *c, int where)
{
    kin_process *p = test_start(wait_for_end, KIN_ARGS(c, where));
    assert_true(crash_until(is_asleep, p));
    return p;
}

/* Has an end until it is told to go, or killed. */
static int keep(kin_args *args)
{
    static kin_connection *c;
    kin_lock *gate;
    CHILD_CHECK(kin_unpack(args, &c, &gate) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    return 0;
}

static void kill_it(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(test_finish(p), -9);
}

/* ---- what was sent comes first ---- */

static void closed_with_messages_left(void **state)
{
    (void)state;
    char *large = calloc(1, LARGE);
    int number = 1;
    size_t size;
    kin_args *args;
    check(kin_connection_send(second, &number, sizeof number, KIN_NOWAIT));
    check(kin_connection_send(second, large, LARGE, KIN_NOWAIT));
    check(kin_connection_send_args(second, KIN_ARGS(3), KIN_NOWAIT));
    check(kin_connection_send(second, NULL, 0, KIN_NOWAIT));
    close_one(&second);
    check_fails(KIN_EPIPE, kin_connection_send(first, &number, sizeof number, KIN_NOWAIT));
    expect_number(first, 1);
    check_fails(KIN_EMSGSIZE, kin_connection_recv(first, &number, sizeof number, NULL, KIN_NOWAIT));
    check(kin_connection_recv(first, large, LARGE, &size, KIN_NOWAIT));
    assert_int_equal(size, LARGE);
    check(kin_connection_recv_args(first, &args, KIN_NOWAIT));
    check(kin_unpack(args, &number));
    assert_int_equal(number, 3);
    kin_args_free(args);
    check(kin_connection_recv(first, NULL, 0, &size, KIN_NOWAIT));
    expect_end(first);
    free(large);
}

enum { CLOSE, RETURN, EXIT, CRASH, ABORT, WAIT_FOR_KILL, WAYS, MESSAGES = 5 };

static int send_and_end(kin_args *args)
{
    static kin_connection *c;
    kin_lock *gate;
    int way;
    char *large = calloc(1, LARGE);
    CHILD_CHECK(large != NULL && kin_unpack(args, &c, &way, &gate) == KIN_OK);
    for (int i = 0; i < MESSAGES; i++)
        CHILD_CHECK(kin_connection_send(c, &i, sizeof i, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_connection_send(c, large, LARGE, KIN_NOWAIT) == KIN_OK);
    free(large);
    switch (way) {
    case CLOSE:
        kin_connection_close(c);
        CHILD_CHECK(test_pass(gate));
        return 0;
    case RETURN:
        return 0;
    case EXIT:
        exit(3);
    case CRASH:
        test_crash_access();
        return 97;
    case ABORT:
        crash_end(4);
        return 97;
    default:
        CHILD_CHECK(test_pass(gate));
        return 0;
    }
}

static void receive_all(void)
{
    char *large = malloc(LARGE);
    size_t size;
    for (int i = 0; i < MESSAGES; i++)
        expect_number(first, i);
    check(kin_connection_recv(first, large, LARGE, &size, test_ms(20000)));
    assert_int_equal(size, LARGE);
    free(large);
    expect_end(first);
}

/* Whether its end is waited for first, or what it sent is received while it ends. */
static void ends_in_every_way(bool later)
{
    for (int way = CLOSE; way < WAYS; way++) {
        kin_lock *gate = test_gate();
        kin_process *p = test_start(send_and_end, KIN_ARGS(second, way, gate));
        close_one(&second);
        if (way == WAIT_FOR_KILL) {
            for (int64_t end = kin_now() + test_ms(20000); kin_connection_poll(first, KIN_NOWAIT) != KIN_OK;)
                assert_true(kin_now() < end);
            expect_number(first, 0);
            expect_number(first, 1);
            expect_number(first, 2);
            expect_number(first, 3);
            expect_number(first, 4);
            check_fails(KIN_EMSGSIZE, kin_connection_recv(first, NULL, 0, NULL, test_ms(20000)));
            check(kin_process_kill(p));
            if (later)
                assert_int_equal(test_finish(p), -9);
            char *large = malloc(LARGE);
            check(kin_connection_recv(first, large, LARGE, NULL, test_ms(20000)));
            free(large);
            expect_end(first);
        } else if (!later || way == CLOSE) {
            receive_all();
            test_open(gate);
        }
        if (!later || way == CLOSE || way == WAIT_FOR_KILL) {
            if (way != WAIT_FOR_KILL || !later)
                (void)test_finish(p);
        } else {
            static const int codes[] = {[RETURN] = 0, [EXIT] = 3, [CRASH] = -11, [ABORT] = 4};
            assert_int_equal(test_finish(p), codes[way]);
            receive_all();
        }
        kin_lock_close(gate);
        teardown(NULL);
        setup(NULL);
    }
}

static void ended_before_it_is_read(void **state)
{
    (void)state;
    ends_in_every_way(true);
}

static void ends_while_it_is_read(void **state)
{
    (void)state;
    ends_in_every_way(false);
}

/* ---- not before the last ---- */

static void not_before_the_last_has_gone(void **state)
{
    (void)state;
    kin_lock *gates[3];
    kin_process *p[3];
    for (int i = 0; i < 3; i++) {
        gates[i] = test_gate();
        p[i] = test_start(keep, KIN_ARGS(second, gates[i]));
    }
    expect_open(first);
    close_one(&second);
    expect_open(first);
    test_open(gates[0]);
    assert_int_equal(test_finish(p[0]), 0);
    expect_open(first);
    kill_it(p[1]);
    expect_open(first);
    check(kin_connection_send(first, "anybody?", 8, KIN_NOWAIT));
    test_open(gates[2]);
    assert_int_equal(test_finish(p[2]), 0);
    expect_end(first);
    check_fails(KIN_EPIPE, kin_connection_send(first, "anybody?", 8, KIN_FOREVER));
    for (int i = 0; i < 3; i++)
        kin_lock_close(gates[i]);
}

/* It takes its end only when it is told so; until then that is on its way. */
static int start_slowly(kin_args *args)
{
    kin_lock *gate;
    static kin_connection *c;
    int number = 7;
    CHILD_CHECK(kin_args_get(args, 0, KIN_OUT(&gate)) == KIN_OK);
    CHILD_CHECK(test_pass(gate));
    CHILD_CHECK(kin_args_get(args, 1, KIN_OUT(&c)) == KIN_OK);
    CHILD_CHECK(kin_connection_send(c, &number, sizeof number, KIN_NOWAIT) == KIN_OK);
    return 0;
}

static void not_while_a_child_starts(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *p = test_start(start_slowly, KIN_ARGS(gate, second));
    close_one(&second);
    expect_open(first);
    test_open(gate);
    expect_number(first, 7);
    expect_end(first);
    assert_int_equal(test_finish(p), 0);
    kin_lock_close(gate);
}

static int send_at_once(kin_args *args)
{
    static kin_connection *c;
    int number = 7;
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    CHILD_CHECK(kin_connection_send(c, &number, sizeof number, KIN_NOWAIT) == KIN_OK);
    return 0;
}

/* Without any gate, so that the end may be anywhere on its way when it is looked for. */
static void never_too_early(void **state)
{
    (void)state;
    int rounds = test_scale(60, 8);
    for (int i = 0; i < rounds; i++) {
        kin_process *p = test_start(send_at_once, KIN_ARGS(second));
        close_one(&second);
        expect_number(first, 7);
        expect_end(first);
        assert_int_equal(test_finish(p), 0);
        teardown(NULL);
        setup(NULL);
    }
}

/* Never takes what it was given. */
static int ignore(kin_args *args)
{
    return kin_args_count(args) == 1 ? 0 : 1;
}

static void passed_and_never_taken(void **state)
{
    (void)state;
    kin_process *p = test_start(ignore, KIN_ARGS(second));
    close_one(&second);
    expect_end(first);
    assert_int_equal(test_finish(p), 0);
}

static int pass_on(kin_args *args)
{
    static kin_connection *c;
    kin_lock *gate;
    CHILD_CHECK(kin_unpack(args, &c, &gate) == KIN_OK);
    kin_process *p = NULL;
    CHILD_CHECK(kin_process_start(&p, start_slowly, KIN_ARGS(gate, c), &(kin_process_options){0}) == KIN_OK);
    kin_connection_close(c);
    int number = 1;
    CHILD_CHECK(kin_connection_send(c, &number, sizeof number, KIN_NOWAIT) == KIN_EINVAL);
    CHILD_CHECK(kin_process_join(p, KIN_FOREVER) == KIN_OK);
    kin_process_close(p);
    return 0;
}

static void passed_on_to_a_grandchild(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *p = test_start(pass_on, KIN_ARGS(second, gate));
    close_one(&second);
    expect_open(first);
    test_open(gate);
    expect_number(first, 7);
    expect_end(first);
    assert_int_equal(test_finish(p), 0);
    kin_lock_close(gate);
}

/* ---- on its way through something else ---- */

static void on_its_way_through_another(void **state)
{
    (void)state;
    kin_connection *in, *out, *again;
    kin_args *args;
    int number = 5;
    check(kin_pipe(&out, &in, &(kin_pipe_options){.name = "carrier", .one_way = true}));
    check(kin_connection_send_args(in, KIN_ARGS(second), KIN_NOWAIT));
    close_one(&second);
    expect_open(first);
    check(kin_connection_recv_args(out, &args, KIN_NOWAIT));
    expect_open(first);
    check(kin_unpack(args, &again));
    kin_args_free(args);
    expect_open(first);
    check(kin_connection_send(again, &number, sizeof number, KIN_NOWAIT));
    expect_number(first, 5);
    kin_connection_close(again);
    expect_end(first);
    kin_connection_close(in);
    kin_connection_close(out);
}

static void in_a_queue(void **state)
{
    (void)state;
    kin_queue *queue;
    kin_connection *again;
    kin_args *args;
    check(kin_queue_create(&queue, NULL));
    check(kin_queue_put_args(queue, KIN_ARGS(second), KIN_NOWAIT));
    close_one(&second);
    expect_open(first);
    check(kin_queue_get_args(queue, &args, KIN_NOWAIT));
    check(kin_unpack(args, &again));
    kin_args_free(args);
    expect_open(first);
    kin_connection_close(again);
    expect_end(first);
    kin_queue_close(queue);
}

/* Whoever sleeps learns of it too when nobody closes the end, but what it lay in. */
static void dropped_with_the_values(void **state)
{
    (void)state;
    kin_connection *in, *out;
    kin_args *args;
    check(kin_pipe(&out, &in, NULL));
    for (int list = 0; list < 2; list++) {
        kin_process *p = start_waiting(first, IN_RECV);
        if (list == 0)
            check(kin_connection_send_args(in, KIN_ARGS(1, second), KIN_NOWAIT));
        else
            check(kin_connection_send_args(in, KIN_ARGS(1, kin_list(KIN_ARGS("deep", kin_list(KIN_ARGS(second))))), KIN_NOWAIT));
        close_one(&second);
        check(kin_connection_recv_args(out, &args, KIN_NOWAIT));
        assert_true(crash_until(is_asleep, p)); /* again: the close has woken it */
        kin_args_free(args);
        assert_int_equal(test_finish(p), KIN_EPIPE);
        teardown(NULL);
        setup(NULL);
    }
    kin_connection_close(in);
    kin_connection_close(out);
}

static void dropped_with_what_carried_it(void **state)
{
    (void)state;
    kin_connection *in, *out;
    if (test_on_windows())
        test_skip("Windows keeps what nobody receives until the program ends");
    for (int deep = 0; deep < 2; deep++) {
        kin_process *p = start_waiting(first, IN_RECV);
        check(kin_pipe(&out, &in, NULL));
        check(kin_connection_send_args(in, KIN_ARGS(second), KIN_NOWAIT));
        close_one(&second);
        if (deep == 1) { /* the carrier in a carrier */
            kin_connection *in2, *out2;
            check(kin_pipe(&out2, &in2, NULL));
            check(kin_connection_send_args(in2, KIN_ARGS(out), KIN_NOWAIT));
            kin_connection_close(out);
            out = out2;
            kin_connection_close(in);
            in = in2;
        }
        assert_true(crash_until(is_asleep, p)); /* again: the close has woken it */
        kin_connection_close(in);
        kin_connection_close(out);
        assert_int_equal(test_finish(p), KIN_EPIPE);
        teardown(NULL);
        setup(NULL);
    }
}

static void dropped_with_a_queue(void **state)
{
    (void)state;
    kin_queue *queue;
    if (test_on_windows())
        test_skip("Windows keeps what nobody gets until the program ends");
    kin_process *p = start_waiting(first, IN_RECV);
    check(kin_queue_create(&queue, NULL));
    check(kin_queue_put_args(queue, KIN_ARGS(second), KIN_NOWAIT));
    close_one(&second);
    assert_true(crash_until(is_asleep, p)); /* again: the close has woken it */
    kin_queue_close(queue);
    assert_int_equal(test_finish(p), KIN_EPIPE);
}

static void leaves_no_handles(void **state)
{
    (void)state;
    kin_connection *in, *out;
    int before = test_count_handles();
    check(kin_pipe(&out, &in, NULL));
    kin_event *event;
    check(kin_event_create(&event, NULL));
    for (int i = 0; i < 10; i++) {
        kin_args *args;
        check(kin_connection_send_args(in, KIN_ARGS(second, event, first), KIN_NOWAIT));
        if (!test_on_windows()) /* which keeps what nobody receives until the program ends */
            check(kin_connection_send_args(in, KIN_ARGS(event), KIN_NOWAIT));
        check(kin_connection_recv_args(out, &args, KIN_NOWAIT));
        kin_args_free(args);
    }
    kin_event_close(event);
    kin_connection_close(in);
    kin_connection_close(out);
    assert_int_equal(test_count_handles(), before);
}

/* ---- who sleeps ---- */

static void ends_while_others_sleep(void (*end)(kin_process *holder), kin_process *holder)
{
    kin_process *waiting[6];
    int count = 0;
    for (int where = IN_RECV; where <= IN_SEND; where++)
        waiting[count++] = start_waiting(first, where);
    while (kin_connection_send(first, NULL, 0, KIN_NOWAIT) == KIN_OK)
        continue; /* not even for an empty message is there room */
    waiting[count++] = start_waiting(first, IN_WAIT_FOR_ROOM);
    close_one(&second);
    if (holder != NULL)
        end(holder);
    for (int i = 0; i < count; i++)
        assert_int_equal(test_finish(waiting[i]), KIN_EPIPE);
    expect_end(first);
}

static void closed_while_others_sleep(void **state)
{
    (void)state;
    ends_while_others_sleep(NULL, NULL);
}

static void killed_while_others_sleep(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    ends_while_others_sleep(kill_it, test_start(keep, KIN_ARGS(second, gate)));
    test_open(gate);
    kin_lock_close(gate);
}

/* One that waits for memory of its own to be free again, as only one large message is on its way at a time. */
static void sender_of_large_ones_learns_it(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *holder = test_start(keep, KIN_ARGS(second, gate)), *p = start_waiting(first, IN_SEND_LARGE);
    close_one(&second);
    kill_it(holder);
    assert_int_equal(test_finish(p), KIN_EPIPE);
    test_open(gate);
    kin_lock_close(gate);
}

/* Its answer is KIN_EPIPE, and no signal ends this process. */
static void sending_to_nobody(void **state)
{
    (void)state;
    char *large = calloc(1, LARGE);
    kin_process *p = test_start(send_at_once, KIN_ARGS(second));
    close_one(&second);
    assert_int_equal(test_finish(p), 0);
    for (int i = 0; i < 100; i++) {
        check_fails(KIN_EPIPE, kin_connection_send(first, large, (size_t)i, KIN_FOREVER));
        check_fails(KIN_EPIPE, kin_connection_send(first, large, (size_t)i, KIN_NOWAIT));
    }
    check_fails(KIN_EPIPE, kin_connection_send(first, large, LARGE, KIN_FOREVER));
    check_fails(KIN_EPIPE, kin_connection_send_args(first, KIN_ARGS(1, stdout), KIN_FOREVER));
    check_says("line");
    expect_number(first, 7);
    expect_end(first);
    free(large);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(closed_with_messages_left),
        TEST(ended_before_it_is_read),
        TEST(ends_while_it_is_read),
        TEST(not_before_the_last_has_gone),
        TEST(not_while_a_child_starts),
        TEST(never_too_early),
        TEST(passed_and_never_taken),
        TEST(passed_on_to_a_grandchild),
        TEST(on_its_way_through_another),
        TEST(in_a_queue),
        TEST(dropped_with_the_values),
        TEST(dropped_with_what_carried_it),
        TEST(dropped_with_a_queue),
        TEST(leaves_no_handles),
        TEST(closed_while_others_sleep),
        TEST(killed_while_others_sleep),
        TEST(sender_of_large_ones_learns_it),
        TEST(sending_to_nobody),
    };
    return cmocka_run_group_tests_name("connection_end", tests, NULL, NULL);
}
