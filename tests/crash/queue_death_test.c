/* The Death table of queue.h, line by line, with processes that are killed, stopped or end at moments that can be told from outside;
 * and what took other queues down: death across the wrap, with a full queue, while another is recovered from, with large messages
 * and lanes. Moments that cannot be told from outside are in queue_points_test.c.
 * @ctest TIMEOUT 120 */
#include "crash_support.h"

#include "atomic.h"
#include "ring_inside.h"
#include "segment.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct world {
    uint32_t ready, go, paused, resume, entered, leave;
};

static kin_segment *segment;
static struct world *world;
static kin_queue *queue;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_queue_close(queue);
    queue = NULL;
    kin_segment_close(segment);
    return 0;
}

static void make(kin_queue_options options)
{
    kin_queue_close(queue);
    check(kin_queue_create(&queue, &options));
}

static int64_t a_while(void) { return test_ms(20000); }

static kin__flow *flow(void) { return kin__queue_flow(queue, 0); }

/* ---- messages: a number, and bytes that follow from it ---- */

static size_t size_of(uint64_t number) { return sizeof number + number * 37 % 300; }

static void write_message(char *data, uint64_t number)
{
    memset(data, (int)number + 1, size_of(number));
    memcpy(data, &number, sizeof number);
}

static kin_err put(uint64_t number, int64_t timeout_ms)
{
    char data[320];
    write_message(data, number);
    return kin_queue_put(queue, data, size_of(number), timeout_ms);
}

static bool is_message(const char *data, size_t size, uint64_t number)
{
    char right[320];
    write_message(right, number);
    return size == size_of(number) && memcmp(data, right, size) == 0;
}

static void must_get(uint64_t number)
{
    char data[320];
    size_t size;
    uint64_t found = UINT64_MAX;
    check(kin_queue_get(queue, data, sizeof data, &size, a_while()));
    memcpy(&found, data, sizeof found);
    if (!is_message(data, size, number))
        fail_msg("message %llu (%zu bytes) instead of %llu", (unsigned long long)found, size,
                 (unsigned long long)number);
}

static void must_be_empty(void)
{
    char data[320];
    check_fails(KIN_EEMPTY, kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT));
    assert_int_equal(kin_queue_size(queue), 0);
}

/* How many empty messages fit; afterwards they are gone again. */
static int fill(void)
{
    int count = 0;
    while (kin_queue_put(queue, NULL, 0, KIN_NOWAIT) == KIN_OK)
        count++;
    for (int i = 0; i < count; i++)
        check(kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
    return count;
}

/* ---- who plays ---- */

typedef enum part {
    PUT,       /* `number` */
    PUT_MANY,  /* the same by the other function: never the short way */
    GET_MANY,  /* one, and it does not matter which; never the short way either */
    GET,       /* and ends with 0 if it is `number`    */
    PUT_ON,    /* number, number + 1, … until it is killed */
    TAKE,      /* `number` messages, and stays         */
    TAKE_DONE, /* one that must be `number`            */
    RESERVE,   /* as many, and stays                   */
    RESERVE_LARGE,
    PUT_LARGE,
    GET_LARGE,
    TAKE_LARGE, /* and stays */
    PUT_VALUES,
    GET_UNDONE, /* `number` of a joinable queue, and stays */
    JOIN,
    GET_OFTEN, /* `number` times put and get, then gets in the way of its own latch */
} part;

#define LARGE ((size_t)200000) /* in a queue of 64 KiB */

static bool stay(void)
{
    kin__add32(&world->ready, 1);
    return crash_until_at_least(&world->go, 1);
}

static int take_some(int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        kin_message m;
        CHILD_CHECK(kin_queue_take(queue, &m, KIN_FOREVER) == KIN_OK);
    }
    CHILD_CHECK(stay());
    return 0;
}

static int reserve_some(int64_t count, size_t size)
{
    for (int64_t i = 0; i < count; i++) {
        kin_message m;
        CHILD_CHECK(kin_queue_reserve(queue, &m, size, KIN_FOREVER) == KIN_OK);
        memset(m.data, 1, m.size);
    }
    CHILD_CHECK(stay());
    return 0;
}

static int put_and_get(int64_t times)
{
    for (int64_t i = 0; i < times; i++) {
        char data[8] = "";
        CHILD_CHECK(kin_queue_put(queue, data, sizeof data, KIN_FOREVER) == KIN_OK);
        CHILD_CHECK(kin_queue_get(queue, data, sizeof data, NULL, KIN_FOREVER) == KIN_OK);
    }
    return 0;
}

static int play(kin_args *args)
{
    int64_t role, number, pauses;
    const char *point;
    char data[320];
    size_t size;
    void *large;
    kin_message m;
    kin_view view;
    CHILD_CHECK(kin_unpack(args, &segment, &queue, &role, &number, &point, &pauses) == KIN_OK);
    world = kin_segment_data(segment);
    CHILD_CHECK(kin__thread_me() != 0);
    if (role == GET_OFTEN)
        CHILD_CHECK(put_and_get(2 * KIN__LATCH_STREAK + 8) == 0 && stay());
    if (pauses)
        crash_pause_at(point, &world->paused, &world->resume);
    else
        crash_at(point[0] != 0 ? point : NULL);
    switch ((part)role) {
    case PUT:
        return put((uint64_t)number, KIN_FOREVER);
    case PUT_MANY:
        write_message(data, (uint64_t)number);
        return kin_queue_put_many(queue, &(kin_view){data, size_of((uint64_t)number)}, 1, NULL, KIN_FOREVER);
    case GET_MANY:
        return kin_queue_get_many(queue, data, sizeof data, &view, 1, &size, KIN_FOREVER);
    case GET:
    case GET_OFTEN:
        CHILD_CHECK(kin_queue_get(queue, data, sizeof data, &size, KIN_FOREVER) == KIN_OK);
        return is_message(data, size, (uint64_t)number) ? 0 : 1;
    case PUT_ON:
        for (;; number++)
            CHILD_CHECK(put((uint64_t)number, KIN_FOREVER) == KIN_OK);
    case TAKE:
        return take_some(number);
    case TAKE_DONE:
        CHILD_CHECK(kin_queue_take(queue, &m, KIN_FOREVER) == KIN_OK && is_message(m.data, m.size, (uint64_t)number));
        return kin_queue_done(queue, &m);
    case RESERVE:
        return reserve_some(number, 100);
    case RESERVE_LARGE:
        return reserve_some(1, LARGE);
    case PUT_LARGE:
        large = calloc(1, LARGE);
        CHILD_CHECK(large != NULL);
        return kin_queue_put(queue, large, LARGE, KIN_FOREVER);
    case GET_LARGE:
        CHILD_CHECK(kin_queue_get_new(queue, &large, &size, KIN_FOREVER) == KIN_OK && size == LARGE);
        return 0;
    case TAKE_LARGE:
        return take_some(1);
    case PUT_VALUES:
        return kin_queue_put_args(queue, KIN_ARGS(segment, number), KIN_FOREVER);
    case GET_UNDONE:
        for (int64_t i = 0; i < number; i++)
            CHILD_CHECK(kin_queue_get(queue, data, sizeof data, NULL, KIN_FOREVER) == KIN_OK);
        CHILD_CHECK(stay());
        return 0;
    case JOIN:
        return kin_queue_join(queue, KIN_FOREVER);
    }
    return 98;
}

/* ---- the parent's hands ---- */

static kin_process *start(part role, int64_t number, const char *point, bool pauses)
{
    return test_start_with(play, KIN_ARGS(segment, queue, (int64_t)role, number, point, (int64_t)pauses),
                           (kin_process_options){.name = "Victim"});
}

static bool asleep(void *arg) { return crash_asleep(kin_process_pid(arg)) > 0; }

static kin_process *start_asleep(part role, int64_t number)
{
    kin_process *p = start(role, number, "", false);
    assert_true(crash_until(asleep, p));
    return p;
}

/* Started, and where it stays. */
static kin_process *start_ready(part role, int64_t number)
{
    kin__store32(&world->ready, 0);
    kin__store32(&world->go, 0);
    kin_process *p = start(role, number, "", false);
    assert_true(crash_until_at_least(&world->ready, 1));
    return p;
}

static kin_process *start_paused(part role, int64_t number, const char *point)
{
    kin__store32(&world->paused, 0);
    kin__store32(&world->resume, 0);
    kin_process *p = start(role, number, point, true);
    assert_true(crash_until_at_least(&world->paused, 1));
    return p;
}

static void kill_it(kin_process *p)
{
    check(kin_process_kill(p));
    assert_int_equal(crash_join(p), -9);
}

static void die_at(part role, int64_t number, const char *point)
{
    assert_int_equal(crash_join(start(role, number, point, false)), -9);
}

static void let_go(kin_process *p, int code)
{
    kin__store32(&world->go, 1);
    kin__store32(&world->resume, 1);
    assert_int_equal(crash_join(p), code);
}

/* ---- who waits ---- */

static void a_reader_that_waits_is_killed(void **state)
{
    (void)state;
    make((kin_queue_options){0});
    kin_process *victim = start_asleep(GET, 1), *other = start_asleep(GET, 1);
    kill_it(victim);
    check(put(1, KIN_NOWAIT));
    assert_int_equal(crash_join(other), 0);
    /* Just as it is woken: it may have got the message and taken it along. */
    uint32_t chance = crash_seed();
    for (int round = 0, rounds = test_scale(30, 3); round < rounds; round++) {
        victim = start_asleep(GET, 2);
        other = start_asleep(GET, 2);
        check(put(2, KIN_NOWAIT));
        crash_spin_us(crash_random(&chance, 80));
        check(kin_process_kill(victim));
        int code = crash_join(victim);
        assert_true(code == -9 || code == 0);
        if (code == 0 || kin_queue_size(queue) == 0)
            check(put(2, KIN_NOWAIT));
        assert_int_equal(crash_join(other), 0);
        while (kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT) == KIN_EMSGSIZE)
            must_get(2);
    }
}

static void a_writer_that_waits_for_room_is_killed(void **state)
{
    (void)state;
    make((kin_queue_options){.max_items = 2});
    check(put(1, KIN_NOWAIT));
    check(put(2, KIN_NOWAIT));
    kin_process *victim = start_asleep(PUT, 66), *other = start_asleep(PUT, 3);
    kill_it(victim);
    must_get(1);
    assert_int_equal(crash_join(other), KIN_OK);
    must_get(2);
    must_get(3);
    must_be_empty();
}

static void who_waits_to_join_is_killed(void **state)
{
    (void)state;
    make((kin_queue_options){.joinable = true});
    check(put(1, KIN_NOWAIT));
    kin_process *victim = start_asleep(JOIN, 0), *other = start_asleep(JOIN, 0);
    kill_it(victim);
    must_get(1);
    check(kin_queue_task_done(queue));
    assert_int_equal(crash_join(other), KIN_OK);
}

/* ---- a writer in the middle ---- */

static void whole_or_not_at_all(void **state)
{
    (void)state;
    uint32_t chance = crash_seed();
    make((kin_queue_options){.capacity = 4096});
    int fresh = fill();
    for (int round = 0, rounds = test_scale(100, 5); round < rounds; round++) {
        kin_process *p = start(PUT_ON, 0, "", false);
        uint64_t next = 0;
        char data[320];
        size_t size;
        for (uint32_t wanted = 1 + crash_random(&chance, 200); next < wanted; next++)
            must_get(next);
        check(kin_process_kill(p));
        while (kin_queue_get(queue, data, sizeof data, &size, KIN_NOWAIT) == KIN_OK)
            assert_true(is_message(data, size, next++));
        assert_int_equal(crash_join(p), -9);
        while (kin_queue_get(queue, data, sizeof data, &size, KIN_NOWAIT) == KIN_OK) /* it may have gone on until now */
            assert_true(is_message(data, size, next++));
        assert_int_equal(fill(), fresh);
    }
}

/* At each place of the ring: with a pad before the message and without. */
static void across_the_wrap(void **state)
{
    (void)state;
    static const char *const moments[] = {"ring.written", "ring.put.many"};
    make((kin_queue_options){.capacity = 4096});
    int fresh = fill(), step = test_scale(7, 64);
    for (int at = 0; at < fresh; at += step) {
        for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
            flow()->ring->head = flow()->ring->tail = flow()->ring->tail_seen = flow()->ring->head_seen =
                (uint32_t)(at - 3 * fresh); /* the positions themselves wrap too */
            flow()->ring->next = flow()->ring->head;
            check(put(1, KIN_NOWAIT));
            die_at(PUT_MANY, 7, moments[i]); /* 267 bytes: 18 units */
            check(put(2, KIN_NOWAIT));
            must_get(1);
            if (i == 1)
                must_get(7);
            must_get(2);
            must_be_empty();
            assert_int_equal(fill(), fresh);
        }
    }
}

static void chains_of_recoverers(void **state)
{
    (void)state;
    make((kin_queue_options){0});
    int fresh = fill();
    for (int side = 0; side < 2; side++) {
        check(put(1, KIN_NOWAIT));
        check(put(2, KIN_NOWAIT));
        die_at(side == 0 ? PUT_MANY : GET_MANY, 66, side == 0 ? "ring.written" : "ring.got.many");
        for (int i = 0; i < test_scale(5, 2); i++) {
            die_at(side == 0 ? PUT : GET, 66, "ring.taken.over");
            die_at(side == 0 ? PUT : GET, 66, "ring.inherited");
        }
        /* Two heirs at once, in processes of their own. */
        kin_process *heirs[2] = {start(side == 0 ? PUT : TAKE_DONE, side == 0 ? 3 : 1, "", false), NULL};
        if (side == 0)
            heirs[1] = start(PUT, 3, "", false);
        for (int i = 0; i < 2 && heirs[i] != NULL; i++)
            assert_int_equal(crash_join(heirs[i]), KIN_OK);
        if (side == 0)
            must_get(1);
        must_get(2);
        for (int i = 0; i < 2 && side == 0; i++)
            must_get(3);
        must_be_empty();
        assert_int_equal(fill(), fresh);
    }
}

/* ---- leases and reservations ---- */

static void leases_come_back_in_their_place(void **state)
{
    (void)state;
    make((kin_queue_options){0});
    int fresh = fill();
    for (int how = 0; how < 3; how++) {   /* killed; ends; killed, and nobody asks for its status */
        uint64_t last = how == 2 ? 4 : 6; /* while nobody has noticed the death, what lies behind would be got first */
        for (uint64_t i = 1; i <= last; i++)
            check(put(i, KIN_NOWAIT));
        kin_process *first = start_ready(TAKE, 2), *second = start_ready(TAKE, 1);
        must_get(4);
        if (how == 1) {
            let_go(second, 0);
            let_go(first, 0);
        } else {
            kill_it(second);
            must_get(3);
            check(kin_process_kill(first));
        }
        if (how == 0)
            assert_int_equal(crash_join(first), -9);
        must_get(1);
        must_get(2);
        if (how == 1)
            must_get(3);
        for (uint64_t i = 5; i <= last; i++)
            must_get(i);
        must_be_empty();
        if (how == 2)
            assert_int_equal(crash_join(first), -9);
        assert_int_equal(fill(), fresh);
    }
}

static void a_lease_is_waited_for(void **state)
{
    (void)state;
    make((kin_queue_options){0});
    check(put(1, KIN_NOWAIT));
    kin_process *victim = start_ready(TAKE, 1), *waiter = start_asleep(TAKE_DONE, 1);
    kill_it(victim);
    assert_int_equal(crash_join(waiter), KIN_OK);
    must_be_empty();
}

static void take_one(void *arg) { check(kin_queue_take(queue, arg, KIN_NOWAIT)); }

/* It is the process's. */
static void a_lease_survives_its_thread(void **state)
{
    (void)state;
    kin_message m;
    uv_thread_t thread;
    make((kin_queue_options){0});
    check(put(1, KIN_NOWAIT));
    assert_int_equal(uv_thread_create(&thread, take_one, &m), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    char data[320];
    check_fails(KIN_EEMPTY, kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT));
    check(kin_queue_done(queue, &m));
    must_be_empty();
}

static void reservations_of_the_dead_are_dropped(void **state)
{
    (void)state;
    make((kin_queue_options){.max_items = 4});
    kin_process *victim = start_ready(RESERVE, 3);
    check(put(1, KIN_NOWAIT));
    must_get(1); /* past them */
    check_fails(KIN_EFULL, put(1, KIN_NOWAIT));
    kin_process *waiter = start_asleep(PUT, 1); /* nobody gets meanwhile: only the death makes room */
    kill_it(victim);
    assert_int_equal(crash_join(waiter), KIN_OK);
    must_get(1);
    victim = start_ready(RESERVE, 3); /* where nobody has looked yet */
    check(put(1, KIN_NOWAIT));
    waiter = start_asleep(PUT, 2);
    kill_it(victim);
    assert_int_equal(crash_join(waiter), KIN_OK);
    must_get(1);
    must_get(2);
    must_be_empty();
    assert_int_equal(fill(), 4);
}

static void a_dead_reservation_is_not_joined(void **state)
{
    (void)state;
    make((kin_queue_options){.joinable = true});
    kin_process *victim = start_ready(RESERVE, 2), *waiter = start_asleep(JOIN, 0);
    kill_it(victim);
    assert_int_equal(crash_join(waiter), KIN_OK);
}

/* ---- joining ---- */

static void what_the_dead_had_got_is_abandoned(void **state)
{
    (void)state;
    make((kin_queue_options){.joinable = true});
    for (int how = 0; how < 2; how++) {
        uint64_t before = kin_queue_abandoned(queue);
        for (uint64_t i = 0; i < 3; i++)
            check(put(i, KIN_NOWAIT));
        kin_process *victim = start_ready(GET_UNDONE, 3), *waiter = start_asleep(JOIN, 0);
        check_fails(KIN_ETIMEDOUT, kin_queue_join(queue, 20));
        if (how == 0)
            kill_it(victim);
        else
            let_go(victim, 0);
        assert_int_equal(crash_join(waiter), KIN_OK);
        check(kin_queue_join(queue, a_while()));
        assert_int_equal(kin_queue_abandoned(queue), before + 3);
    }
    /* Others take the places of the dead: what they left is still known. */
    for (int i = 0; i < 4; i++) {
        check(put(1, KIN_NOWAIT));
        let_go(start_ready(GET_UNDONE, 1), 0);
    }
    assert_int_equal(kin_queue_abandoned(queue), 10);
    check(kin_queue_join(queue, a_while()));
    check_fails(KIN_EPERM, kin_queue_task_done(queue)); /* it is nobody else's business */
}

/* ---- large messages ---- */

static void nothing_is_left_of_large_ones(void **state)
{
    (void)state;
    make((kin_queue_options){.capacity = 65536});
    static char big[LARGE];
    size_t size;
    int fresh = fill(), handles = 0;
    for (int round = 0; round < test_scale(4, 2); round++) {
        kill_it(start_ready(RESERVE_LARGE, 1));
        die_at(PUT_LARGE, 0, "ring.bagging");
        die_at(PUT_LARGE, 0, "ring.bagged");
        die_at(PUT_LARGE, 0, "ring.written");
        check(kin_queue_put(queue, big, sizeof big, a_while())); /* none is in flight any more */
        die_at(GET_LARGE, 0, "ring.copied");
        kill_it(start_ready(TAKE_LARGE, 1));
        check(kin_queue_get(queue, big, sizeof big, &size, a_while()));
        assert_int_equal(size, LARGE);
        check(kin_queue_put(queue, big, sizeof big, a_while()));
        die_at(GET_LARGE, 0, "ring.unbagging");
        assert_int_equal(fill(), fresh); /* also tidies up */
        if (OS_BAG_HANDLES != 0)
            assert_int_equal(os_bag_oldest(flow()->out), 0);
        if (round == 0)
            handles = test_count_handles();
    }
    if (OS_BAG_HANDLES != 0) /* else what a dead one had put is kept until the root ends: this process */
        assert_true(test_count_handles() <= handles + (int)KIN__KEPT);
}

/* As if so many producers had died between the bag and their message. */
static int stuff_bag(kin__flow *f)
{
    os_handle handle;
    uint64_t words[1];
    int count = 0;
    kin__header *header;
    check(kin__segment_find(kin_segment_data(segment), &header, &handle));
    while (os_bag_put(f->in, kin__bag_tag(f, ++f->ring->bagged), &handle, 1, words) == KIN_OK)
        count++;
    return count;
}

static void the_dead_do_not_fill_the_bag(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("bags are never full here");
    for (int lanes = 0; lanes < 2; lanes++) {
        make((kin_queue_options){.relaxed = lanes != 0});
        check(kin_queue_put_args(queue, KIN_ARGS(segment, (int64_t)1), KIN_NOWAIT));
        kin__flow *others = kin__queue_flow(queue, lanes ? 7 : 0);
        assert_true(stuff_bag(others) > 100);
        kin_args *args;
        for (int64_t i = 1; i < 3; i++) { /* the first is in the way of what is to be dropped */
            kin_segment *came;
            int64_t number;
            check(kin_queue_get_args(queue, &args, KIN_NOWAIT));
            check(kin_unpack(args, &came, &number));
            assert_int_equal(number, i);
            kin_segment_close(came);
            kin_args_free(args);
            if (i == 1)
                check(kin_queue_put_args(queue, KIN_ARGS(segment, i + 1), KIN_NOWAIT));
        }
        check(kin_queue_put_args(queue, KIN_ARGS(segment, (int64_t)3), KIN_NOWAIT));
        check(kin_queue_get_args(queue, &args, KIN_NOWAIT));
        kin_args_free(args);
        assert_int_equal(os_bag_oldest(flow()->out), 0);
    }
}

/* ---- lanes ---- */

static void put_two(void *arg)
{
    uint64_t number = *(uint64_t *)arg;
    *(uint64_t *)arg = put(number, KIN_NOWAIT) == KIN_OK && put(number + 1, KIN_NOWAIT) == KIN_OK;
}

/* Of a thread that ended, in a process that lives; and of processes that died. What is in them stays, and they are used again. */
static void lanes_are_inherited(void **state)
{
    (void)state;
    make((kin_queue_options){.relaxed = true});
    uint32_t seen[100] = {0}, wanted = 0;
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t number = 2 * i;
        uv_thread_t thread;
        assert_int_equal(uv_thread_create(&thread, put_two, &number), 0);
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_int_equal(number, 1);
        wanted += 2;
    }
    for (uint64_t i = 20; i < 40; i++) {
        die_at(PUT, (int64_t)(2 * i), i % 2 == 0 ? "ring.committed" : "ring.locked");
        wanted += i % 2 == 0;
    }
    char data[320];
    size_t size;
    uint64_t number;
    while (kin_queue_get(queue, data, sizeof data, &size, KIN_NOWAIT) == KIN_OK) {
        memcpy(&number, data, sizeof number);
        assert_true(number < 80 && is_message(data, size, number));
        assert_int_equal(seen[number]++, 0);
        assert_true(number >= 40 || number % 2 == 0 || seen[number - 1] != 0); /* each producer's in its order */
        wanted--;
    }
    assert_int_equal(wanted, 0);
    assert_int_equal(kin_queue_size(queue), 0);
}

/* ---- who is stopped ---- */

static void who_stands_still_delays_its_side_only(void **state)
{
    (void)state;
    char data[320];
    make((kin_queue_options){0});
    check(put(1, KIN_NOWAIT));
    kin_process *p = start_paused(PUT, 2, "ring.locked");
    check_fails(KIN_EFULL, put(3, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, put(3, 50));
    check_says("is in the middle of a put and does not go on");
    check_says("'Victim' (pid ");
    must_get(1);
    check_fails(KIN_EEMPTY, kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT));
    let_go(p, KIN_OK);
    must_get(2);
    check(put(4, KIN_NOWAIT));
    p = start_paused(GET, 4, "ring.got");
    check_fails(KIN_EEMPTY, kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, data, sizeof data, NULL, 50));
    check_says("is in the middle of a get and does not go on");
    check(put(5, KIN_NOWAIT));
    let_go(p, 0);
    must_get(5);
    must_be_empty();
}

/* In lanes a stopped producer delays nobody; a stopped consumer those who want what it was about to get. */
static void who_stands_still_in_a_lane(void **state)
{
    (void)state;
    char data[320];
    make((kin_queue_options){.relaxed = true});
    kin_process *p = start_paused(PUT, 2, "ring.locked");
    check(put(3, KIN_NOWAIT));
    must_get(3);
    let_go(p, KIN_OK);
    must_get(2);
    check(put(4, KIN_NOWAIT));
    p = start_paused(GET, 4, "ring.got");
    check_fails(KIN_EEMPTY, kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT));
    int64_t since = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, data, sizeof data, NULL, 50));
    assert_true(kin_now() - since < test_ms(5000));
    let_go(p, 0);
    must_be_empty();
}

/* A process whose own latch is taken away from it, and becomes this thread's own, while it stands before the store that says that it is
 * within. There is one message, 1. */
static kin_process *start_too_late(const char *dies_at)
{
    make((kin_queue_options){0});
    if (!flow()->ordered)
        test_skip("no latch becomes a thread's own here");
    memset(world, 0, sizeof *world);
    crash_at(dies_at); /* for what is started now */
    kin_process *p = start(GET_OFTEN, 9, "latch.entering", true);
    crash_at(NULL);
    assert_true(crash_until_at_least(&world->ready, 1));
    check(put(1, KIN_NOWAIT));
    kin__store32(&world->go, 1);
    assert_true(crash_until_at_least(&world->paused, 1));
    for (int i = 0; i < 1000; i++) {
        must_get(1);
        check(put(1, KIN_NOWAIT));
    }
    assert_true(flow()->ring->getter.word == (kin__me | KIN__OWN));
    return p;
}

/* It goes on while the other is within. A third must not come in. */
static void an_owner_that_comes_too_late(void **state)
{
    (void)state;
    kin_process *first = start_too_late(NULL);
    kin__entry entry = kin__latch_try(&flow()->ring->getter, true, kin__me);
    assert_int_equal(entry, KIN__WITHIN);
    kin__store32(&world->resume, 1); /* it finds the word changed, and waits for the latch as others do */
    assert_true(crash_until(asleep, first));
    kin_process *third = start_asleep(GET, 1);
    assert_int_equal(kin_queue_size(queue), 1);
    kin__latch_leave(&flow()->ring->getter, true, kin__me, entry, false);
    kin__ring_look_after_get(flow());
    check(put(1, KIN_NOWAIT));
    assert_int_equal(crash_join(third), 0);
    assert_int_equal(crash_join(first), 1); /* it got 1, not 9 */
    must_be_empty();
}

static void an_owner_that_dies_too_late(void **state)
{
    (void)state;
    kin_process *first = start_too_late("latch.backed.out");
    kin__entry entry = kin__latch_try(&flow()->ring->getter, true, kin__me);
    assert_int_equal(entry, KIN__WITHIN);
    kin_process *third = start_asleep(GET, 1);
    kin__store32(&world->resume, 1);
    assert_int_equal(crash_join(first), -9);
    assert_int_equal(kin_queue_size(queue), 1);
    kin__latch_leave(&flow()->ring->getter, true, kin__me, entry, false);
    kin__ring_look_after_get(flow());
    assert_int_equal(crash_join(third), 0);
    must_be_empty();
}

static void stopped_and_continued(void **state)
{
    (void)state;
    uint32_t chance = crash_seed();
    make((kin_queue_options){.capacity = 4096});
    kin_process *p = start(PUT_ON, 0, "", false);
    uint64_t next = 0;
    for (int round = 0; round < test_scale(8, 2); round++) {
        for (uint32_t wanted = 100 + crash_random(&chance, 400); wanted > 0; wanted--)
            must_get(next++);
        if (!test_process_stop(kin_process_pid(p))) {
            kill_it(p);
            test_skip("no process can be stopped here");
        }
        uv_sleep(150); /* longer than anything in kin that happens from time to time */
        char data[320];
        size_t size;
        while (kin_queue_get(queue, data, sizeof data, &size, KIN_NOWAIT) == KIN_OK)
            assert_true(is_message(data, size, next++));
        assert_true(test_process_continue(kin_process_pid(p)));
    }
    must_get(next);
    kill_it(p);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_reader_that_waits_is_killed),
        TEST(a_writer_that_waits_for_room_is_killed),
        TEST(who_waits_to_join_is_killed),
        TEST(whole_or_not_at_all),
        TEST(across_the_wrap),
        TEST(chains_of_recoverers),
        TEST(leases_come_back_in_their_place),
        TEST(a_lease_is_waited_for),
        TEST(a_lease_survives_its_thread),
        TEST(reservations_of_the_dead_are_dropped),
        TEST(a_dead_reservation_is_not_joined),
        TEST(what_the_dead_had_got_is_abandoned),
        TEST(nothing_is_left_of_large_ones),
        TEST(the_dead_do_not_fill_the_bag),
        TEST(lanes_are_inherited),
        TEST(who_stands_still_delays_its_side_only),
        TEST(who_stands_still_in_a_lane),
        TEST(an_owner_that_comes_too_late),
        TEST(an_owner_that_dies_too_late),
        TEST(stopped_and_continued),
    };
    return cmocka_run_group_tests_name("queue death", tests, NULL, NULL);
}
