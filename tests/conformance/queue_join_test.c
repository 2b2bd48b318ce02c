/* kin/queue.h: joinable queues: what was got and is not dealt with, and those who wait for that. */
#include "queue_support.h"

#include <string.h>
#include <uv.h>

static void not_joined(kin_queue *q)
{
    check_fails(KIN_ETIMEDOUT, kin_queue_join(q, KIN_NOWAIT));
    check_says(kin_queue_name(q));
    check_fails(KIN_ETIMEDOUT, kin_queue_join(q, 1));
}

static void joined(kin_queue *q)
{
    check(kin_queue_join(q, KIN_NOWAIT));
    check(kin_queue_join(q, 1));
    check(kin_queue_join(q, KIN_FOREVER));
    check_fails(KIN_EPERM, kin_queue_task_done(q));
    check_says(kin_queue_name(q));
    assert_int_equal(kin_queue_abandoned(q), 0);
}

static kin_queue *new_one(bool relaxed)
{
    return queue_new((kin_queue_options){.name = "jobs", .joinable = true, .relaxed = relaxed});
}

static void counted(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = new_one(relaxed != 0);
        joined(q);
        for (int count = 1; count < 20; count++) {
            for (int i = 0; i < count; i++)
                queue_put_number(q, i);
            not_joined(q);
            for (int i = 0; i < count; i++) {
                assert_int_equal(queue_get_number(q), i);
                not_joined(q);
                if (i % 2 == 1)
                    check(kin_queue_task_done(q));
            }
            for (int i = 0; i < count - count / 2; i++) {
                not_joined(q);
                check(kin_queue_task_done(q));
            }
            joined(q);
        }
        kin_queue_close(q);
    }
}

static void every_way_to_get(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = new_one(relaxed != 0);
        static char large[2 * KIN_QUEUE_CAPACITY];
        char buffer[256];
        void *data;
        size_t size, count;
        kin_view views[4];
        kin_args *args;
        kin_message m;
        queue_put_number(q, 1);
        check(kin_queue_get_new(q, &data, &size, KIN_NOWAIT));
        kin_free(data);
        not_joined(q);
        check(kin_queue_task_done(q));
        joined(q);

        for (int i = 0; i < 10; i++)
            queue_put_number(q, i);
        for (size_t got = 0; got < 10; got += count) {
            check(kin_queue_get_many(q, buffer, sizeof buffer, views, 4, &count, KIN_NOWAIT));
            for (size_t i = 0; i < count; i++) {
                not_joined(q);
                check(kin_queue_task_done(q));
            }
        }
        joined(q);

        check(kin_queue_put_args(q, KIN_ARGS(1, q), KIN_NOWAIT));
        check_fails(KIN_ETYPE, kin_queue_get(q, buffer, 8, &size, KIN_NOWAIT)); /* not got */
        check_fails(KIN_EPERM, kin_queue_task_done(q));
        check(kin_queue_get_args(q, &args, KIN_NOWAIT));
        kin_args_free(args);
        not_joined(q);
        check(kin_queue_task_done(q));
        joined(q);

        check(kin_queue_put(q, large, sizeof large, KIN_NOWAIT));
        check_fails(KIN_EMSGSIZE, kin_queue_get(q, buffer, 8, &size, KIN_NOWAIT));
        check_fails(KIN_EPERM, kin_queue_task_done(q));
        check(kin_queue_get(q, large, sizeof large, &size, KIN_NOWAIT));
        not_joined(q);
        check(kin_queue_task_done(q));
        joined(q);

        /* What is taken is dealt with by done. */
        queue_put_number(q, 1);
        check(kin_queue_take(q, &m, KIN_NOWAIT));
        check_fails(KIN_EPERM, kin_queue_task_done(q));
        not_joined(q);
        check(kin_queue_give_back(q, &m));
        not_joined(q);
        check(kin_queue_take(q, &m, KIN_NOWAIT));
        check(kin_queue_done(q, &m));
        joined(q);

        /* What is reserved will come. */
        check(kin_queue_reserve(q, &m, 8, KIN_NOWAIT));
        not_joined(q);
        check(kin_queue_cancel(q, &m));
        joined(q);
        kin_queue_close(q);
    }
}

static void still_there_after_shutdown(void **state)
{
    (void)state;
    kin_queue *q = new_one(false);
    queue_put_number(q, 1);
    check(kin_queue_shutdown(q));
    not_joined(q);
    assert_int_equal(queue_get_number(q), 1);
    not_joined(q);
    check(kin_queue_task_done(q));
    joined(q);
    kin_queue_close(q);
}

/* ---- several processes ---- */

static int target_work(kin_args *args)
{
    kin_queue *q;
    int64_t number;
    kin_err err;
    kin_value *total;
    CHILD_CHECK(kin_unpack(args, &q, &total) == KIN_OK);
    while ((err = kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER)) == KIN_OK) {
        if (number % 3 == 0)
            crash_spin_us(20);
        CHILD_CHECK(kin_value_add_i64(total, number, NULL) == KIN_OK);
        CHILD_CHECK(kin_queue_task_done(q) == KIN_OK);
    }
    CHILD_CHECK(err == KIN_EPIPE);
    CHILD_CHECK(kin_queue_task_done(q) == KIN_EPERM);
    kin_queue_close(q);
    return 0;
}

static void join_in_thread(void *arg)
{
    kin_queue *q = *(kin_queue **)arg;
    if (kin_queue_join(q, test_ms(20000)) == KIN_OK)
        *(kin_queue **)arg = NULL;
}

static void workers(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = new_one(relaxed != 0);
        kin_value *total;
        check(kin_value_create(&total, 0));
        kin_process *all[3];
        for (int i = 0; i < 3; i++)
            all[i] = test_start(target_work, KIN_ARGS(q, total));
        int64_t sum = 0;
        for (int round = 0; round < test_scale(100, 20); round++) {
            for (int64_t i = 0; i < 1 + round % 30; i++) {
                queue_put_number(q, i);
                sum += i;
            }
            kin_queue *others[2] = {q, q};
            uv_thread_t threads[2];
            for (int i = 0; i < 2 && round % 4 == 0; i++)
                assert_int_equal(uv_thread_create(&threads[i], join_in_thread, &others[i]), 0);
            check(kin_queue_join(q, test_ms(20000)));
            assert_int_equal(kin_value_get_i64(total), sum);
            for (int i = 0; i < 2 && round % 4 == 0; i++) {
                uv_thread_join(&threads[i]);
                assert_null(others[i]);
            }
        }
        check(kin_queue_shutdown(q));
        for (int i = 0; i < 3; i++)
            assert_int_equal(test_finish(all[i]), 0);
        joined(q);
        kin_value_close(total);
        kin_queue_close(q);
    }
}

/* Others join when one stops joining: nobody is forgotten. */
static void joining_with_time_outs(void **state)
{
    (void)state;
    kin_queue *q = new_one(false);
    for (int round = 0; round < test_scale(30, 5); round++) {
        queue_put_number(q, 1);
        kin_queue *other = q;
        uv_thread_t thread;
        assert_int_equal(uv_thread_create(&thread, join_in_thread, &other), 0);
        check_fails(KIN_ETIMEDOUT, kin_queue_join(q, 1 + round % 3));
        assert_int_equal(queue_get_number(q), 1);
        check_fails(KIN_ETIMEDOUT, kin_queue_join(q, 1));
        check(kin_queue_task_done(q));
        uv_thread_join(&thread);
        assert_null(other);
    }
    kin_queue_close(q);
}

/* ---- consumers that end ---- */

static int target_get_and_end(kin_args *args)
{
    kin_queue *q, *ready;
    kin_lock *gate;
    int gets, dones, takes, how;
    int64_t number;
    kin_message m;
    CHILD_CHECK(kin_unpack(args, &q, &ready, &gate, &gets, &dones, &takes, &how) == KIN_OK);
    for (int i = 0; i < gets; i++)
        CHILD_CHECK(queue_receive(q, &number));
    for (int i = 0; i < dones; i++)
        CHILD_CHECK(kin_queue_task_done(q) == KIN_OK);
    for (int i = 0; i < takes; i++)
        CHILD_CHECK(kin_queue_take(q, &m, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(queue_send(ready, 1));
    CHILD_CHECK(test_pass(gate));
    if (how == 1)
        crash_end(4);
    kin_queue_close(q);
    kin_queue_close(ready);
    return 4;
}

static void abandoned(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = new_one(relaxed != 0), *ready = queue_new((kin_queue_options){0});
        uint64_t sum = 0;
        for (int how = 0; how < 6; how++) { /* ends, ends at once, killed; with what it took, and without */
            kin_lock *gate = test_gate();
            int takes = how / 3;
            for (int i = 0; i < 3 + takes; i++)
                queue_put_number(q, i);
            kin_process *p = test_start(target_get_and_end, KIN_ARGS(q, ready, gate, 3, 1, takes, how % 3));
            int64_t number;
            assert_true(queue_receive(ready, &number));
            not_joined(q);
            assert_int_equal(kin_queue_abandoned(q), sum);
            check_fails(KIN_EPERM, kin_queue_task_done(q)); /* not its own */
            kin_queue *other = takes == 0 ? q : NULL;
            uv_thread_t thread;
            if (other != NULL) {
                assert_int_equal(uv_thread_create(&thread, join_in_thread, &other), 0);
                assert_true(crash_until_asleep(1));
            }
            if (how % 3 == 2)
                check(kin_process_kill(p));
            test_open(gate);
            assert_int_equal(test_finish(p), how % 3 == 2 ? -9 : 4);
            if (takes == 0)
                uv_thread_join(&thread);
            assert_null(other);
            assert_int_equal(kin_queue_abandoned(q), sum += 2);
            if (takes != 0) { /* it came back */
                not_joined(q);
                assert_int_equal(queue_get_number(q), 3);
                check(kin_queue_task_done(q));
            }
            check(kin_queue_join(q, KIN_NOWAIT));
            kin_lock_close(gate);
        }
        /* Its place in the table is given to others, who get something too. */
        for (int i = 0; i < 10; i++) {
            kin_lock *gate = test_gate();
            test_open(gate);
            queue_put_number(q, i);
            assert_int_equal(test_run(target_get_and_end, KIN_ARGS(q, ready, gate, 1, i % 2, 0, 0)), 4);
            assert_int_equal(kin_queue_abandoned(q), sum += (uint64_t)(1 - i % 2));
            check(kin_queue_join(q, KIN_NOWAIT));
            kin_lock_close(gate);
        }
        kin_queue_close(ready);
        kin_queue_close(q);
    }
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counted),
        cmocka_unit_test(every_way_to_get),
        cmocka_unit_test(still_there_after_shutdown),
        cmocka_unit_test(workers),
        cmocka_unit_test(joining_with_time_outs),
        cmocka_unit_test(abandoned),
    };
    return cmocka_run_group_tests_name("queue join", tests, NULL, NULL);
}
