/* kin_wait from several threads of one process, where ThreadSanitizer can see every access: what is handed over is plain data.
 * @ctest LABELS threads */
#include "sync_support.h"
#include "wait_support.h"

#include "atomic.h"

#define THREADS 3

typedef struct shared {
    kin_event event;
    kin_semaphore full, empty;
    kin_queue *queue;
    intptr_t sockets[2];
    int times, number; /* plain; number belongs to who has the unit */
    uint32_t taken, failures;
} shared;

static void note_failure(shared *s) { kin__add32(&s->failures, 1); }

static void run(shared *s, uv_thread_cb first, uv_thread_cb others)
{
    uv_thread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], i == 0 ? first : others, s), 0);
    for (int i = 0; i < THREADS; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(s->failures, 0);
}

static bool wait_for(shared *s, kin_waitable *items, size_t count)
{
    if (kin_wait(items, count, NULL, test_ms(20000)) == KIN_OK)
        return true;
    note_failure(s);
    return false;
}

/* ---- semaphores and an event ---- */

static void give(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        kin_waitable item = KIN_WAIT_FOR(&s->empty);
        while (kin_semaphore_acquire(&s->empty, KIN_NOWAIT) != KIN_OK) {
            if (!wait_for(s, &item, 1))
                return;
        }
        s->number++;
        (void)kin_semaphore_release(&s->full);
    }
    while (kin__load32(&s->taken) < (uint32_t)s->times && kin__load32(&s->failures) == 0)
        uv_sleep(0);
    (void)kin_event_set(&s->event);
}

static void take(void *arg)
{
    shared *s = arg;
    for (;;) {
        kin_waitable items[] = {KIN_WAIT_FOR(&s->full), KIN_WAIT_FOR(&s->event), KIN_WAIT_FOR(&s->full)};
        if (!wait_for(s, items, 3))
            return;
        if (items[0].ready && kin_semaphore_acquire(&s->full, KIN_NOWAIT) == KIN_OK) {
            if (s->number != (int)kin__add32(&s->taken, 1) + 1)
                note_failure(s);
            (void)kin_semaphore_release(&s->empty);
        } else if (items[1].ready) {
            return;
        }
    }
}

static void objects(void **state)
{
    (void)state;
    shared s = {.times = test_scale(3000, 500)};
    check(kin_event_init(&s.event, NULL));
    check(kin_semaphore_init(&s.full, 0, NULL));
    check(kin_semaphore_init(&s.empty, 1, NULL));
    run(&s, give, take);
    assert_int_equal(s.number, s.times);
}

/* ---- a queue ---- */

static void put(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        kin_waitable item = KIN_WAIT_ROOM(s->queue);
        while (kin_queue_put(s->queue, &i, sizeof i, KIN_NOWAIT) != KIN_OK) {
            if (!wait_for(s, &item, 1))
                return;
        }
    }
    (void)kin_queue_shutdown(s->queue);
}

static void get(void *arg)
{
    shared *s = arg;
    for (int before = -1;;) {
        kin_waitable items[] = {KIN_WAIT_FOR(s->queue), KIN_WAIT_FOR(&s->event)};
        if (!wait_for(s, items, 2))
            return;
        int i;
        kin_err err = kin_queue_get(s->queue, &i, sizeof i, NULL, KIN_NOWAIT);
        if (err == KIN_EPIPE)
            return;
        if (err == KIN_EEMPTY)
            continue;
        if (err != KIN_OK || i <= before)
            note_failure(s);
        before = i;
        kin__add32(&s->taken, 1);
    }
}

static void queues(void **state)
{
    (void)state;
    shared s = {.times = test_scale(5000, 500)};
    check(kin_event_init(&s.event, NULL));
    check(kin_queue_create(&s.queue, &(kin_queue_options){.capacity = 4096}));
    run(&s, put, get);
    assert_int_equal(s.taken, s.times);
    kin_queue_close(s.queue);
}

/* ---- sockets: two threads read from the same, and are woken by an event too ---- */

static void send_all(void *arg)
{
    shared *s = arg;
    for (int i = 0; i < s->times; i++) {
        kin_waitable item = kin_wait_fd_write(s->sockets[1]);
        if (!wait_for(s, &item, 1) || !wait_socket_send(s->sockets[1], 1))
            return;
        while (i % 10 == 0 && kin__load32(&s->taken) <= (uint32_t)i && kin__load32(&s->failures) == 0)
            uv_sleep(0);
    }
    while (kin__load32(&s->taken) < (uint32_t)s->times && kin__load32(&s->failures) == 0)
        uv_sleep(0);
    (void)kin_event_set(&s->event);
}

static void receive_all(void *arg)
{
    shared *s = arg;
    for (;;) {
        kin_waitable items[] = {kin_wait_fd_read(s->sockets[0]), KIN_WAIT_FOR(&s->event)};
        if (!wait_for(s, items, 2))
            return;
        if (items[1].ready)
            return;
        if (kin_semaphore_acquire(&s->full, KIN_NOWAIT) != KIN_OK)
            continue; /* the other is at it */
        if (kin_wait(items, 1, NULL, KIN_NOWAIT) == KIN_OK) {
            if (!wait_socket_receive(s->sockets[0], 1))
                note_failure(s);
            s->number++;
            kin__add32(&s->taken, 1);
        }
        (void)kin_semaphore_release(&s->full);
    }
}

static void sockets(void **state)
{
    (void)state;
    shared s = {.times = test_scale(1000, 200)};
    check(kin_event_init(&s.event, NULL));
    check(kin_semaphore_init(&s.full, 1, NULL));
    assert_true(wait_sockets(s.sockets));
    run(&s, send_all, receive_all);
    assert_int_equal(s.number, s.times);
    wait_socket_close(s.sockets[0]);
    wait_socket_close(s.sockets[1]);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(objects), cmocka_unit_test(queues), cmocka_unit_test(sockets)};
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
