/* kin/uv.h: what kin can wait for, in a loop of libuv.
 * @ctest LABELS threads TIMEOUT 120 */
#include "crash_support.h"
#include "sync_support.h"
#include "wait_support.h"

#include "atomic.h"
#include "os.h"

#include <kin/uv.h>

#include <stdlib.h>
#include <string.h>

enum { MANY = 100 };

struct shared {
    kin_event event, other, many[MANY];
    kin_semaphore semaphore;
    uint32_t inside, told;
};

static kin_segment *segment;
static struct shared *shared;
static kin_queue *queue, *small; /* the small one is full */
static kin_connection *mine, *theirs;
static kin_process *child;
static intptr_t sockets[2];
static uv_loop_t loop;
static uv_timer_t guard; /* ends a test that hangs */
static bool hung;

static void on_guard(uv_timer_t *timer)
{
    hung = true;
    uv_stop(timer->loop);
}

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_event_init(&shared->event, NULL));
    check(kin_event_init(&shared->other, NULL));
    for (int i = 0; i < MANY; i++)
        check(kin_event_init(&shared->many[i], NULL));
    check(kin_semaphore_init(&shared->semaphore, 0, NULL));
    check(kin_queue_create(&queue, NULL));
    check(kin_queue_create(&small, &(kin_queue_options){.max_items = 1}));
    check(kin_queue_put(small, "x", 1, KIN_NOWAIT));
    check(kin_pipe(&mine, &theirs, NULL));
    assert_true(wait_sockets(sockets));
    assert_int_equal(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &guard);
    uv_timer_start(&guard, on_guard, (uint64_t)test_ms(15000), 0);
    uv_unref((uv_handle_t *)&guard);
    hung = false;
    return 0;
}

/* All watches have been closed: nothing of them is left. */
static int teardown(void **state)
{
    (void)state;
    uv_close((uv_handle_t *)&guard, NULL);
    int64_t end = kin_now() + test_ms(5000);
    while (uv_run(&loop, UV_RUN_NOWAIT) != 0 && kin_now() < end)
        uv_sleep(1);
    if (uv_loop_close(&loop) != 0)
        return -1; /* of a test that failed: its watches use everything still */
    if (child != NULL) {
        (void)kin_process_kill(child);
        kin_process_close(child);
        child = NULL;
    }
    kin_connection_close(mine);
    kin_connection_close(theirs);
    kin_queue_close(queue);
    kin_queue_close(small);
    kin_segment_close(segment);
    wait_socket_close(sockets[0]);
    wait_socket_close(sockets[1]);
    return 0;
}

static void run(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
    if (hung)
        fail_msg("nothing came any more");
}

/* ---- a watch that counts ---- */

typedef struct counter {
    kin_uv_watch watch;
    kin_err status;
    char why[300];
    int calls, stop_after, closed;
    void (*then)(struct counter *c); /* in each callback */
} counter;

static void count(kin_uv_watch *watch, kin_err status)
{
    counter *c = watch->data;
    c->calls++;
    c->status = status;
    if (status != KIN_OK)
        (void)snprintf(c->why, sizeof c->why, "%d %s", kin_last_code(), kin_last_error());
    if (c->then != NULL)
        c->then(c);
    if (c->calls == c->stop_after)
        (void)kin_uv_watch_stop(watch);
}

static void note_closed(kin_uv_watch *watch) { ((counter *)watch->data)->closed++; }

static void begin(counter *c, kin_waitable what, int stop_after)
{
    void (*then)(counter *) = c->then;
    *c = (counter){.stop_after = stop_after, .then = then};
    c->watch.data = c;
    check(kin_uv_watch_init(&loop, &c->watch));
    assert_false(kin_uv_watch_active(&c->watch));
    check(kin_uv_watch_start(&c->watch, what, count));
    assert_true(kin_uv_watch_active(&c->watch));
}

static void finish(counter *c)
{
    kin_uv_watch_close(&c->watch, note_closed);
    assert_false(kin_uv_watch_active(&c->watch));
    assert_int_equal(c->closed, 0);             /* later */
    kin_uv_watch_close(&c->watch, note_closed); /* does nothing */
    run();
    assert_int_equal(c->closed, 1);
    assert_false(uv_loop_alive(&loop));
}

/* ---- kinds ---- */

enum { EVENT, SEMAPHORE, GET, PUT, RECV, SEND, ENDED, READ, CHILD, KINDS };

static int end_when_told(kin_args *args)
{
    kin_segment *s;
    CHILD_CHECK(kin_unpack(args, &s) == KIN_OK);
    CHILD_CHECK(kin_event_wait(&((struct shared *)kin_segment_data(s))->other, test_ms(60000)) == KIN_OK);
    return 3;
}

static kin_waitable thing(int kind)
{
    switch (kind) {
    case EVENT:
        return KIN_WAIT_FOR(&shared->event);
    case SEMAPHORE:
        return KIN_WAIT_FOR(&shared->semaphore);
    case GET:
        return KIN_WAIT_FOR(queue);
    case PUT:
        return KIN_WAIT_ROOM(small);
    case SEND:
        return KIN_WAIT_ROOM(mine);
    case READ:
        return kin_wait_fd_read(sockets[0]);
    case CHILD:
        return KIN_WAIT_FOR(child);
    default:
        return KIN_WAIT_FOR(mine);
    }
}

static void make_ready(int kind)
{
    char byte;
    switch (kind) {
    case EVENT:
        check(kin_event_set(&shared->event));
        break;
    case SEMAPHORE:
        check(kin_semaphore_release(&shared->semaphore));
        break;
    case GET:
        check(kin_queue_put(queue, "x", 1, KIN_NOWAIT));
        break;
    case PUT:
        check(kin_queue_get(small, &byte, 1, NULL, KIN_NOWAIT));
        break;
    case RECV:
        check(kin_connection_send(theirs, "x", 1, KIN_NOWAIT));
        break;
    case SEND:
        while (kin_connection_recv(theirs, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK) {
        }
        break;
    case ENDED:
        kin_connection_close(theirs);
        theirs = NULL;
        break;
    case READ:
        assert_true(wait_socket_send(sockets[1], 1));
        break;
    default:
        check(kin_event_set(&shared->other));
        break;
    }
}

static uv_timer_t later;
static int later_kind;
static void on_later(uv_timer_t *timer)
{
    make_ready(later_kind);
    uv_close((uv_handle_t *)timer, NULL);
}

static void make_ready_later(int kind)
{
    later_kind = kind;
    uv_timer_init(&loop, &later);
    uv_timer_start(&later, on_later, 20, 0);
}

/* Each is delivered, again and again until it is stopped; a process once. */
static void each_kind(void **state)
{
    (void)state;
    child = test_start(end_when_told, KIN_ARGS(segment));
    for (int kind = 0; kind < KINDS; kind++) {
        counter c = {.then = NULL};
        if (kind == SEND)
            while (kin_connection_send(mine, "x", 1, KIN_NOWAIT) == KIN_OK) {
            }
        if (kind == ENDED) { /* what was received before is gone */
            char byte;
            check(kin_connection_recv(mine, &byte, 1, NULL, KIN_NOWAIT));
        }
        begin(&c, thing(kind), 4);
        make_ready_later(kind);
        run(); /* until it has stopped */
        assert_int_equal(c.status, KIN_OK);
        assert_int_equal(c.calls, kind == CHILD ? 1 : 4);
        assert_false(kin_uv_watch_active(&c.watch));
        finish(&c);
    }
    int code;
    check(kin_process_exit_code(child, &code));
    assert_int_equal(code, 3);
}

static void take_one(counter *c)
{
    char byte;
    (void)c;
    check(kin_queue_get(queue, &byte, 1, NULL, KIN_NOWAIT));
    if (c->calls == 3)
        check(kin_uv_watch_stop(&c->watch));
}

/* Who consumes is not called for nothing. */
static void once_for_each(void **state)
{
    (void)state;
    counter c = {.then = take_one};
    for (int i = 0; i < 3; i++)
        make_ready(GET);
    begin(&c, thing(GET), 0);
    run();
    assert_int_equal(c.calls, 3);
    assert_true(kin_queue_empty(queue));
    finish(&c);
}

/* ---- idle ---- */

static void stop_all(uv_timer_t *timer)
{
    uv_stop(timer->loop);
    uv_close((uv_handle_t *)timer, NULL);
}

static void no_cpu(void **state)
{
    (void)state;
    counter idle[3], ready = {.then = NULL};
    for (int i = 0; i < 3; i++) {
        idle[i].then = NULL;
        begin(&idle[i], thing(i == 2 ? READ : i), 0);
    }
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    uv_update_time(&loop); /* what a loop takes for now may be long ago */
    uv_timer_start(&timer, stop_all, 400, 0);
    int64_t cpu = sync_cpu_ms(), before = kin_now();
    run();
    assert_true(kin_now() - before >= 390);
    assert_true(sync_cpu_ms() - cpu < 100);
    /* One that is ready, in a loop that does not come round. */
    check(kin_event_set(&shared->other));
    begin(&ready, KIN_WAIT_FOR(&shared->other), 1);
    cpu = sync_cpu_ms();
    uv_sleep(400);
    assert_true(sync_cpu_ms() - cpu < 100);
    uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(ready.calls, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(idle[i].calls, 0);
        kin_uv_watch_close(&idle[i].watch, note_closed);
    }
    finish(&ready);
    for (int i = 0; i < 3; i++)
        assert_int_equal(idle[i].closed, 1);
}

/* ---- in callbacks ---- */

static counter first, second;

static void close_both(counter *c)
{
    assert_int_equal(first.calls + second.calls, 1); /* the other was ready, too, and is not delivered any more */
    (void)c;
    kin_uv_watch_close(&first.watch, note_closed);
    kin_uv_watch_close(&second.watch, note_closed);
}

static void start_other(counter *c)
{
    if (c->calls == 1)
        check(kin_uv_watch_start(&c->watch, thing(SEMAPHORE), count));
    else
        check(kin_uv_watch_stop(&c->watch));
}

static void close_own_queue(counter *c)
{
    check(kin_uv_watch_stop(&c->watch));
    kin_queue_close(queue); /* nobody uses it any more */
    check(kin_queue_create(&queue, NULL));
    kin_uv_watch_close(&c->watch, note_closed);
}

static void from_callbacks(void **state)
{
    (void)state;
    make_ready(EVENT);
    make_ready(SEMAPHORE);
    first.then = second.then = close_both;
    begin(&first, thing(EVENT), 0);
    begin(&second, thing(SEMAPHORE), 0);
    uv_sleep(20); /* so that probably both are on their way */
    run();
    assert_int_equal(first.closed + second.closed, 2);
    first.then = start_other;
    begin(&first, thing(EVENT), 0);
    run();
    assert_int_equal(first.calls, 2);
    finish(&first);
    first.then = close_own_queue;
    make_ready(GET);
    begin(&first, thing(GET), 0);
    run();
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.closed, 1);
}

static void free_it(kin_uv_watch *watch)
{
    kin__add32(&shared->told, 1);
    free(watch->data);
}

/* Objects are closed right after the stop; memory is freed in the close callback. */
static void stopped_and_gone(void **state)
{
    (void)state;
    for (int i = 0; i < test_scale(200, 30); i++) {
        counter *c = calloc(1, sizeof *c);
        kin_event *event;
        check(kin_event_create(&event, NULL));
        begin(c, KIN_WAIT_FOR(event), 0);
        if (i % 3 == 0)
            crash_spin_us((uint32_t)i);
        if (i % 4 == 0)
            check(kin_event_set(event));
        if (i % 5 == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
        if (i % 2 == 0)
            check(kin_uv_watch_stop(&c->watch));
        kin_uv_watch_close(&c->watch, free_it);
        kin_event_close(event);
        if (i % 7 == 0)
            run();
    }
    run();
    assert_int_equal(shared->told, test_scale(200, 30));
}

static void stopped_is_not_alive(void **state)
{
    (void)state;
    counter c = {.then = NULL};
    begin(&c, thing(EVENT), 0);
    assert_true(uv_loop_alive(&loop));
    check(kin_uv_watch_stop(&c.watch));
    check(kin_uv_watch_stop(&c.watch));
    assert_false(uv_loop_alive(&loop));
    make_ready(EVENT);
    run();
    assert_int_equal(c.calls, 0);
    check(kin_uv_watch_start(&c.watch, thing(EVENT), count));
    c.stop_after = 2;
    run();
    assert_int_equal(c.calls, 2);
    finish(&c);
}

/* ---- many ---- */

static int many_calls;
static void count_many(kin_uv_watch *watch, kin_err status)
{
    kin_event *event = watch->data;
    if (status == KIN_OK && kin_event_is_set(event))
        many_calls++;
    (void)kin_event_clear(event);
    if (many_calls == MANY * 3)
        uv_stop(watch->loop);
}

static void set_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < MANY * 3; i++) {
        kin_event *event = &shared->many[i * 7 % MANY];
        for (int64_t end = kin_now() + test_ms(20000); kin_event_is_set(event) && kin_now() < end;)
            uv_sleep(0);
        (void)kin_event_set(event);
    }
}

static void of_many(void **state)
{
    (void)state;
    static kin_uv_watch watches[MANY];
    many_calls = 0;
    for (int i = 0; i < MANY; i++) {
        watches[i].data = &shared->many[i];
        check(kin_uv_watch_init(&loop, &watches[i]));
        check(kin_uv_watch_start(&watches[i], KIN_WAIT_FOR(&shared->many[i]), count_many));
    }
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, set_many, NULL), 0);
    run();
    uv_thread_join(&thread);
    assert_int_equal(many_calls, MANY * 3);
    for (int i = 0; i < MANY; i++)
        kin_uv_watch_close(&watches[i], NULL);
    run();
}

/* ---- what goes wrong ---- */

static kin_err before_init;
static char said_before_init[200];

static void wrong_use(void **state)
{
    (void)state;
    assert_int_equal(before_init, KIN_ESTATE);
    assert_non_null(strstr(said_before_init, "kin_init was not called"));
    counter c = {.then = NULL};
    c.watch.data = &c;
    check(kin_uv_watch_init(&loop, &c.watch));
    check_fails(KIN_EINVAL, kin_uv_watch_init(NULL, &c.watch));
    check_says("the loop is NULL");
    check_fails(KIN_EINVAL, kin_uv_watch_init(&loop, NULL));
    check_says("the watch is NULL");
    check_fails(KIN_EINVAL, kin_uv_watch_start(&c.watch, KIN_WAIT_FOR((kin_event *)NULL), count));
    check_says("event");
    check_fails(KIN_EINVAL, kin_uv_watch_start(&c.watch, thing(EVENT), NULL));
    check_says("the callback is NULL");
    check_fails(KIN_EINVAL, kin_uv_watch_start(&c.watch, (kin_waitable){.kind = KIN_WAIT_NOTHING}, count));
    check_says("KIN_WAIT_NOTHING");
    check_fails(KIN_EINVAL, kin_uv_watch_start(NULL, thing(EVENT), count));
    check_says("kin_uv_watch_start: the watch is NULL");
    check_fails(KIN_EINVAL, kin_uv_watch_stop(NULL));
    check_says("kin_uv_watch_stop: the watch is NULL");
    check(kin_uv_watch_start(&c.watch, thing(EVENT), count));
    check_says("kin_uv_watch_stop: the watch is NULL"); /* what succeeds says nothing */
    check(kin_uv_watch_stop(&c.watch));
    kin_uv_watch_close(NULL, NULL);
    assert_false(kin_uv_watch_active(NULL));
    assert_false(kin_uv_watch_active(&c.watch));
    kin_uv_watch_close(&c.watch, note_closed);
    check_fails(KIN_EINVAL, kin_uv_watch_start(&c.watch, thing(EVENT), count));
    check_says("kin_uv_watch_start: the watch is closing");
    check_fails(KIN_EINVAL, kin_uv_watch_stop(&c.watch));
    check_says("kin_uv_watch_stop: the watch is closing");
    run();
    assert_int_equal(c.closed, 1);
    check_fails(KIN_EINVAL, kin_uv_watch_stop(&c.watch));
    check_says("closed");
}

/* One that is closed while it is watched is told to its own watch. */
static void closed_meanwhile(void **state)
{
    (void)state;
    counter good = {.then = NULL}, bad = {.then = NULL};
    kin_event *event;
    check(kin_event_create(&event, NULL));
    begin(&bad, KIN_WAIT_FOR(event), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    for (int64_t until = kin_now() + test_ms(10000); crash_asleep(os_process_self()) == 0 && kin_now() < until;)
        os_yield(); /* Windows cannot take memory away from a thread that just looks at it */
    kin_event_close(event);
    begin(&good, thing(EVENT), 2); /* has the thread look again */
    make_ready_later(EVENT);
    run();
    assert_int_equal(bad.calls, 1);
    assert_int_equal(bad.status, KIN_EINVAL);
    assert_non_null(strstr(bad.why, "1 kin_wait, item 0: ")); /* KIN_EINVAL, and what the thread was told */
    assert_false(kin_uv_watch_active(&bad.watch));
    assert_int_equal(good.calls, 2);
    assert_int_equal(good.status, KIN_OK);
    kin_uv_watch_close(&bad.watch, note_closed);
    finish(&good);
}

/* A loop in a child that is asked to stop. */
static int served;
static void on_served(kin_uv_watch *watch, kin_err status)
{
    if (status == KIN_OK) {
        served++;
        (void)kin_event_clear(&shared->event);
        kin__add32(&shared->told, 1);
        return;
    }
    bool told = kin_last_code() == status && strstr(kin_last_error(), "asked to stop") != NULL;
    served = status == KIN_EINTERRUPTED && told && kin_stop_requested() && !kin_uv_watch_active(watch) ? served + 10 : -100;
    kin_uv_watch_close(watch, NULL);
}

static int serve(kin_args *args)
{
    kin_segment *s;
    CHILD_CHECK(kin_unpack(args, &s) == KIN_OK);
    shared = kin_segment_data(s);
    kin_uv_watch watches[2];
    CHILD_CHECK(uv_loop_init(&loop) == 0);
    for (int i = 0; i < 2; i++) {
        CHILD_CHECK(kin_uv_watch_init(&loop, &watches[i]) == KIN_OK);
        CHILD_CHECK(kin_uv_watch_start(&watches[i],
                                       i == 0 ? KIN_WAIT_FOR(&shared->event) : KIN_WAIT_FOR(&shared->other),
                                       on_served) == KIN_OK);
    }
    kin__add32(&shared->inside, 1);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHILD_CHECK(uv_loop_close(&loop) == 0);
    return served;
}

static void interrupted(void **state)
{
    (void)state;
    child = test_start(serve, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->inside, 1));
    check(kin_event_set(&shared->event));
    assert_true(crash_until_at_least(&shared->told, 1));
    check(kin_process_interrupt(child));
    assert_int_equal(test_finish(child), 21); /* one delivery, and both were told */
    child = NULL;
}

int main(int argc, char **argv)
{
    static kin_uv_watch early;
    before_init = kin_uv_watch_init(&loop, &early);
    (void)snprintf(said_before_init, sizeof said_before_init, "%s", kin_last_error());
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(each_kind),        CASE(once_for_each),        CASE(no_cpu),  CASE(from_callbacks),
        CASE(stopped_and_gone), CASE(stopped_is_not_alive), CASE(of_many), CASE(wrong_use),
        CASE(closed_meanwhile), CASE(interrupted),
    };
    return cmocka_run_group_tests_name("uv", tests, NULL, NULL);
}
