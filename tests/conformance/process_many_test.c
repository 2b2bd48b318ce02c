/* kin/process.h: many processes, at once and one after another, lose nothing. */
#include "support.h"

#include <stdlib.h>
#include <uv.h>

static int target_return(kin_args *args)
{
    int code;
    CHILD_CHECK(kin_unpack(args, &code) == KIN_OK);
    return code;
}

static int target_count_at_gate(kin_args *args)
{
    kin_lock *gate;
    kin_value *here, *sum;
    int number;
    CHILD_CHECK(kin_unpack(args, &gate, &here, &sum, &number) == KIN_OK);
    kin_value_add_i64(here, 1, NULL);
    CHILD_CHECK(test_pass(gate));
    kin_value_add_i64(sum, number, NULL);
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
    return number;
}

static void a_hundred_at_once(void **state)
{
    kin_process *many[100];
    kin_value *here, *sum;
    int count = test_on_windows() ? 25 : 100, expected = 0;
    (void)state;
    kin_lock *gate = test_gate();
    check(kin_value_create(&here, 0));
    check(kin_value_create(&sum, 0));
    for (int i = 0; i < count; i++)
        many[i] = test_start(target_count_at_gate, KIN_ARGS(gate, here, sum, i));
    assert_true(test_await(here, count));
    for (int i = 0; i < count; i++)
        assert_true(kin_process_alive(many[i]));
    test_open(gate);
    for (int i = 0; i < count; i++) {
        assert_int_equal(test_finish(many[i]), i);
        expected += i;
    }
    assert_int_equal(kin_value_get_i64(sum), expected);
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
}

/* A process is reaped a moment after its end is known. */
static bool no_zombies(void)
{
    for (int64_t end = kin_now() + test_ms(30000); test_count_zombies() > 0; uv_sleep(1)) {
        if (kin_now() > end)
            return false;
    }
    return true;
}

/* What watches over the fork server is made at a process's first sleep, and stays. */
static void wait_once(void)
{
    kin_value *here, *sum;
    kin_lock *gate = test_gate();
    check(kin_value_create(&here, 0));
    check(kin_value_create(&sum, 0));
    kin_process *p = test_start(target_count_at_gate, KIN_ARGS(gate, here, sum, 1));
    assert_int_equal(kin_process_join(p, 20), KIN_ETIMEDOUT);
    test_open(gate);
    assert_int_equal(test_finish(p), 1);
    kin_lock_close(gate);
    kin_value_close(here);
    kin_value_close(sum);
}

static void many_one_after_another(void **state)
{
    (void)state;
    wait_once();
    int count = test_by_spawn() ? test_scale(2200, 40) : test_scale(10000, 0); /* more than there are places in the table */
    for (int i = 0; i < 20; i++)
        assert_int_equal(test_run(target_return, KIN_ARGS(i)), i);
    int handles = test_count_handles();
    int64_t memory = test_memory();
    for (int i = 0; i < count; i++)
        assert_int_equal(test_run(target_return, KIN_ARGS(i)), i & 255);
    assert_true(test_count_handles() <= handles + (test_on_windows() ? 8 : 0));
    assert_true(no_zombies());
    if (!test_with_sanitizer())
        assert_true(test_memory() - memory < 8 << 20);
}

/* As many that are closed without a join, and as many that are killed. */
static void many_that_nobody_joins(void **state)
{
    (void)state;
    int count = test_by_spawn() ? test_scale(300, 20) : test_scale(2500, 0), handles = test_count_handles();
    int64_t last = 0;
    for (int i = 0; i < count; i++) {
        kin_process *p = test_start(target_return, KIN_ARGS(0));
        if (i % 3 == 0)
            check(kin_process_kill(p));
        last = kin_process_pid(p);
        kin_process_close(p);
    }
    assert_true(test_process_gone(last));
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
    assert_true(test_count_handles() <= handles + (test_on_windows() ? 8 : 0));
    assert_true(no_zombies());
}

/* A start that is refused takes nothing with it. */
static void refused_starts(void **state)
{
    kin_value *value;
    (void)state;
    check(kin_value_create(&value, 1));
    kin_process *p = NULL;
    int handles = test_count_handles();
    for (int i = 0; i < 3000; i++) { /* more than there are places in the table */
        check_fails(KIN_EINVAL, kin_process_start(&p, target_return, KIN_ARGS(value, (kin_value *)NULL), NULL));
        assert_null(p);
    }
    check_says("value 1");
    check_says("cannot start");
    assert_int_equal(test_count_handles(), handles);
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
    kin_value_close(value);
}

static void full_table(void **state)
{
    static kin_process *many[2100];
    size_t count = 0;
    (void)state;
    if (test_by_spawn() || test_with_sanitizer())
        test_skip("takes too long where a process is dear; it is the same table");
    kin_err err = KIN_OK;
    while (count < 2100 && (err = kin_process_start(&many[count], target_return, KIN_ARGS(0), NULL)) == KIN_OK)
        count++;
    assert_int_equal(err, KIN_EAGAIN);
    check_says("2048");
    assert_true(count > 2000);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(test_finish(many[i]), 0);
    assert_int_equal(test_run(target_return, KIN_ARGS(1)), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_one_after_another), cmocka_unit_test(many_that_nobody_joins), cmocka_unit_test(refused_starts),
        cmocka_unit_test(full_table),             cmocka_unit_test(a_hundred_at_once),
    };
    test_allow_handles(4096);
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("process_many", tests, NULL, NULL);
}
