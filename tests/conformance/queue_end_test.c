/* kin/queue.h: the end of a queue whose messages others still work on: it is over when nothing can come any more, for nobody earlier and
 * for nobody never. */
#include "queue_support.h"

#include <kin/event.h>
#include <kin/wait.h>
#include <string.h>
#include <uv.h>

enum { TAKES, RESERVES };
enum { FINISHES, GIVES, DIES, WAYS };

static void work_on(kin_queue *q, int what, kin_message *m)
{
    if (what == TAKES) {
        check(kin_queue_take(q, m, KIN_NOWAIT));
    } else {
        check(kin_queue_reserve(q, m, sizeof(int64_t), KIN_NOWAIT));
        memset(m->data, 0, m->size);
    }
}

static kin_err end_work(kin_queue *q, int what, int way, kin_message *m)
{
    if (what == TAKES)
        return way == GIVES ? kin_queue_give_back(q, m) : kin_queue_done(q, m);
    return way == GIVES ? kin_queue_commit(q, m) : kin_queue_cancel(q, m);
}

/* Works on one message until it is told to end that, and then waits for the end of the queue if it should. */
static int holder(kin_args *args)
{
    kin_queue *q;
    kin_event *here, *go;
    int what, way, waits;
    kin_message m;
    CHILD_CHECK(kin_unpack(args, &q, &here, &go, &what, &way, &waits) == KIN_OK);
    CHILD_CHECK((what == TAKES ? kin_queue_take(q, &m, test_ms(20000)) : kin_queue_reserve(q, &m, sizeof(int64_t), test_ms(20000))) == KIN_OK);
    if (what == RESERVES)
        memset(m.data, 0, m.size);
    CHILD_CHECK(kin_event_set(here) == KIN_OK);
    CHILD_CHECK(kin_event_wait(go, test_ms(20000)) == KIN_OK);
    if (way == DIES)
        test_process_kill(kin_current_pid());
    int64_t number;
    if (waits) /* it has a message itself */
        CHILD_CHECK(kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER) == KIN_EPIPE);
    CHILD_CHECK(end_work(q, what, way, &m) == KIN_OK);
    return 0;
}

typedef struct waiter {
    uv_thread_t thread;
    kin_queue *queue;
    int how;
    kin_err err;
} waiter;

static void wait_for_one(void *arg)
{
    waiter *w = arg;
    int64_t number;
    kin_message m;
    kin_waitable one = KIN_WAIT_FOR(w->queue);
    w->err = w->how == 0   ? kin_queue_get(w->queue, &number, sizeof number, NULL, test_ms(20000))
             : w->how == 1 ? kin_queue_take(w->queue, &m, test_ms(20000))
                           : kin_wait(&one, 1, NULL, test_ms(20000));
    if (w->how == 1 && w->err == KIN_OK)
        w->err = kin_queue_done(w->queue, &m);
}

static void make_events(kin_event **here, kin_event **go)
{
    check(kin_event_create(here, NULL));
    check(kin_event_create(go, NULL));
}

static kin_process *start_holder(kin_queue *q, kin_event *here, kin_event *go, int what, int way, int waits)
{
    check(kin_event_clear(here));
    check(kin_event_clear(go));
    kin_process *p = test_start(holder, KIN_ARGS(q, here, go, what, way, waits));
    check(kin_event_wait(here, test_ms(20000)));
    return p;
}

static void not_over_while_others_work(bool relaxed, int what, int way)
{
    kin_queue *q = queue_new((kin_queue_options){.name = "ends", .relaxed = relaxed});
    kin_event *here, *go;
    make_events(&here, &go);
    if (what == TAKES)
        queue_put_number(q, 0);
    kin_process *p = start_holder(q, here, go, what, way, 0);
    check(kin_queue_shutdown(q));

    int64_t number;
    kin_message m;
    kin_waitable one = KIN_WAIT_FOR(q);
    check_fails(KIN_EEMPTY, kin_queue_get(q, &number, sizeof number, NULL, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_take(q, &m, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_queue_get(q, &number, sizeof number, NULL, 1));
    check_fails(KIN_ETIMEDOUT, kin_wait(&one, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EPIPE, kin_queue_put(q, &number, sizeof number, KIN_NOWAIT));
    assert_true(kin_queue_empty(q));
    assert_int_equal(kin_queue_size(q), 1);

    waiter waiters[3];
    for (int i = 0; i < 3; i++) {
        waiters[i] = (waiter){.queue = q, .how = i};
        assert_int_equal(uv_thread_create(&waiters[i].thread, wait_for_one, &waiters[i]), 0);
    }
    assert_true(crash_until_asleep(3));
    check(kin_event_set(go));
    int got = 0, ended = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(uv_thread_join(&waiters[i].thread), 0);
        got += i < 2 && waiters[i].err == KIN_OK;
        ended += i < 2 && waiters[i].err == KIN_EPIPE;
    }
    assert_int_equal(waiters[2].err, KIN_OK);
    bool comes = way == GIVES || (way == DIES && what == TAKES);
    assert_int_equal(got, comes ? 1 : 0);
    assert_int_equal(ended, comes ? 1 : 2);
    if (way == DIES)
        assert_true(test_finish(p) != 0);
    else
        assert_int_equal(test_finish(p), 0);
    check_fails(KIN_EPIPE, kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER));
    check_fails(KIN_EPIPE, kin_queue_take(q, &m, KIN_NOWAIT));
    check(kin_wait(&one, 1, NULL, KIN_NOWAIT));
    assert_int_equal(kin_queue_size(q), 0);
    kin_event_close(here);
    kin_event_close(go);
    kin_queue_close(q);
}

static void what_others_work_on_may_still_come(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        for (int what = TAKES; what <= RESERVES; what++) {
            for (int way = 0; way < WAYS; way++)
                not_over_while_others_work(relaxed != 0, what, way);
        }
    }
}

/* Else two that work on one each, and look for more, would wait for each other. */
static void who_works_on_some_itself_does_not_wait(void **state)
{
    (void)state;
    for (int what = TAKES; what <= RESERVES; what++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "ends"});
        kin_event *here, *go;
        kin_message mine;
        int64_t number;
        kin_waitable one = KIN_WAIT_FOR(q);
        make_events(&here, &go);
        if (what == TAKES) {
            queue_put_number(q, 0);
            queue_put_number(q, 0);
        }
        kin_process *p = start_holder(q, here, go, what, GIVES, 1);
        work_on(q, what, &mine);
        check(kin_queue_shutdown(q));
        check_fails(KIN_EPIPE, kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER));
        check_fails(KIN_EPIPE, kin_queue_take(q, &mine, KIN_NOWAIT));
        check(kin_wait(&one, 1, NULL, KIN_NOWAIT));
        check(kin_event_set(go));
        assert_int_equal(test_finish(p), 0);
        check(end_work(q, what, GIVES, &mine)); /* it may come to itself, too */
        check(kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER));
        check(kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER));
        check_fails(KIN_EPIPE, kin_queue_get(q, &number, sizeof number, NULL, KIN_FOREVER));
        kin_event_close(here);
        kin_event_close(go);
        kin_queue_close(q);
    }
}

/* ---- the pattern that examples show: shut down, and workers go at the end ---- */

enum { JOBS = 40, WORKERS = 3 };

static int work(kin_args *args)
{
    kin_queue *q;
    kin_value *done;
    kin_event *slow;
    int number;
    CHILD_CHECK(kin_unpack(args, &q, &done, &slow, &number) == KIN_OK);
    kin_err err;
    kin_message m;
    for (int n = 0; (err = kin_queue_take(q, &m, test_ms(20000))) == KIN_OK; n++) {
        if (number == 0 && n == 1) { /* until the others have found nothing more, and are asleep */
            CHILD_CHECK(kin_event_wait(slow, test_ms(20000)) == KIN_OK);
            test_process_kill(kin_current_pid());
        }
        CHILD_CHECK(kin_value_add_i64(done, 1, NULL) == KIN_OK);
        CHILD_CHECK(kin_queue_done(q, &m) == KIN_OK);
    }
    return err == KIN_EPIPE ? 0 : 1;
}

static void no_job_is_left_by_the_last_to_die(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "ends"});
    kin_value *done;
    kin_event *slow;
    kin_process *all[WORKERS];
    check(kin_value_create(&done, 0));
    check(kin_event_create(&slow, NULL));
    for (int i = 0; i < JOBS; i++)
        queue_put_number(q, i);
    check(kin_queue_shutdown(q));
    for (int i = 0; i < WORKERS; i++)
        all[i] = test_start(work, KIN_ARGS(q, done, slow, i));
    assert_true(test_await(done, JOBS - 1));
    check(kin_event_set(slow));
    (void)test_finish(all[0]); /* it died, or the others were so fast that it never had a second one */
    for (int i = 1; i < WORKERS; i++)
        assert_int_equal(test_finish(all[i]), 0);
    assert_int_equal(kin_value_get_i64(done), JOBS);
    assert_int_equal(kin_queue_size(q), 0);
    kin_value_close(done);
    kin_event_close(slow);
    kin_queue_close(q);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_work_on_may_still_come),
        cmocka_unit_test(who_works_on_some_itself_does_not_wait),
        cmocka_unit_test(no_job_is_left_by_the_last_to_die),
    };
    return cmocka_run_group_tests_name("queue end", tests, NULL, NULL);
}
