/* Queues at moments at which another is in the middle of something, which is put there by hand; and what must be true at each moment of
 * a race. */
#include "crash_support.h"

#include "message.h"
#include "ring_inside.h"

#include <string.h>
#include <uv.h>

static kin_queue *queue;

static kin__ring *make(kin_queue_options options)
{
    check(kin_queue_create(&queue, &options));
    return kin__queue_flow(queue, 0)->ring;
}

static int teardown(void **state)
{
    (void)state;
    kin_queue_close(queue);
    queue = NULL;
    return 0;
}

/* ---- what was done, and is still in the way ---- */

static void many_behind_what_was_done_come_once(void **state)
{
    (void)state;
    char buffer[256];
    kin_view messages[8];
    kin_message m;
    size_t count;
    make((kin_queue_options){0});
    check(kin_queue_reserve(queue, &m, 8, KIN_NOWAIT));
    check(kin_queue_put(queue, "a", 1, KIN_NOWAIT));
    check(kin_queue_put(queue, "b", 1, KIN_NOWAIT));
    kin__record *record = kin__record_at(kin__queue_flow(queue, 0), 0);
    kin__store64(&record->state,
                 kin__state_as(record->state, KIN__FINISHED)); /* as after the death of who reserved it */
    check(kin_queue_get_many(queue, buffer, sizeof buffer, messages, 8, &count, KIN_NOWAIT));
    assert_int_equal(count, 2);
    assert_memory_equal(messages[0].data, "a", 1);
    assert_memory_equal(messages[1].data, "b", 1);
    check_fails(KIN_EEMPTY, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
    assert_int_equal(kin_queue_size(queue), 0);
}

static void many_between_taken_ones(void **state)
{
    (void)state;
    char buffer[256];
    kin_view messages[8];
    kin_message first, third;
    size_t count;
    make((kin_queue_options){0});
    for (char c = '1'; c <= '6'; c++)
        check(kin_queue_put(queue, &c, 1, KIN_NOWAIT));
    check(kin_queue_take(queue, &first, KIN_NOWAIT));
    check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
    check(kin_queue_take(queue, &third, KIN_NOWAIT));
    check(kin_queue_done(queue, &first));
    check(kin_queue_give_back(queue, &third));
    check(kin_queue_get_many(queue, buffer, sizeof buffer, messages, 8, &count, KIN_NOWAIT));
    assert_int_equal(count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(*(const char *)messages[i].data, '3' + (int)i);
    assert_int_equal(kin_queue_size(queue), 0);
}

/* What was committed before a consumer came to it is got in its turn, and nothing is left of it. */
static void nothing_returns_where_nothing_is_in_place(void **state)
{
    (void)state;
    char buffer[16];
    kin_message m;
    make((kin_queue_options){0});
    check(kin_queue_reserve(queue, &m, 8, KIN_NOWAIT));
    check(kin_queue_commit(queue, &m));
    assert_false(kin_queue_empty(queue));
    check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
    assert_true(kin_queue_empty(queue));
    check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, buffer, sizeof buffer, NULL, 20));
}

/* What is cancelled leaves without a consumer, who is not left so far behind that its place seems to lie ahead. */
static void positions_go_round_without_a_consumer(void **state)
{
    (void)state;
    char buffer[16];
    kin__ring *r = make((kin_queue_options){0});
    size_t most = kin__flow_most(kin__queue_flow(queue, 0));
    for (uint64_t units = 0; units < (uint64_t)5 << 29; units += most / KIN__UNIT) { /* more than half of all positions */
        kin_message m;
        check(kin_queue_reserve(queue, &m, most, KIN_NOWAIT));
        check(kin_queue_cancel(queue, &m));
    }
    assert_true(kin__position(r->head) > (uint32_t)1 << 31);
    assert_false(kin__flow_readable(kin__queue_flow(queue, 0)));
    check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
    assert_true(kin__flow_readable(kin__queue_flow(queue, 0)));
    check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
}

/* ---- what a process that died had reserved ---- */

static void reserved_by_a_dead_process(size_t size)
{
    kin_message m;
    kin__flow *f = kin__queue_flow(queue, 0);
    check(kin_queue_reserve(queue, &m, size, KIN_NOWAIT));
    kin__record *record = (kin__record *)(void *)(f->data + m.kin__m.at);
    kin__store64(&record->state, kin__state(KIN__WRITING, (uint32_t)(record->state >> 40), kin__pid_of(KIN__PROCESSES - 1, 12345)));
}

static void death_is_noticed(void)
{
    kin__add32(&kin__my.session->epoch, 1);
    kin__wake_everybody();
}

#define DEAD_THREAD ((uint64_t)0x7fffffff << 32 | 2)

/* Small ones are put where it would have been: a large one need not wait for them. */
static void a_large_one_that_never_was_is_not_in_the_way(void **state)
{
    (void)state;
    static char large[40000];
    char small[512] = {0};
    kin__ring *r = make((kin_queue_options){.capacity = 65536});
    r->large = (uint64_t)1 << 32 | (kin__position(r->tail) + 10);
    kin__store64(&r->putter.word, DEAD_THREAD);
    check(kin_queue_put(queue, small, sizeof small, KIN_NOWAIT));
    assert_false(kin_queue_full(queue, sizeof large));
    check(kin_queue_put(queue, large, sizeof large, KIN_NOWAIT));
    check_fails(KIN_EFULL, kin_queue_put(queue, large, sizeof large, KIN_NOWAIT));
}

typedef struct joiner {
    uv_thread_t thread;
    kin_err err;
} joiner;

static void join_it(void *arg)
{
    joiner *j = arg;
    j->err = kin_queue_join(queue, test_ms(20000));
}

/* It lay behind a message that somebody works on, who does not come by again when that is done. */
static void join_ends_where_a_dead_one_had_reserved(void **state)
{
    (void)state;
    kin_message m;
    joiner j = {.err = KIN_EIO};
    make((kin_queue_options){.joinable = true});
    check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
    reserved_by_a_dead_process(8);
    assert_int_equal(uv_thread_create(&j.thread, join_it, &j), 0);
    assert_true(crash_until_asleep(1));
    death_is_noticed();
    crash_spin_us(20000); /* it has most likely looked, and sleeps again */
    assert_true(crash_until_asleep(1));
    uint64_t since = uv_hrtime();
    check(kin_queue_take(queue, &m, KIN_NOWAIT));
    check(kin_queue_done(queue, &m));
    assert_int_equal(uv_thread_join(&j.thread), 0);
    check(j.err);
    assert_true(uv_hrtime() - since < (uint64_t)test_ms(10000) * 1000000);
}

static void room_is_found_where_a_dead_one_had_reserved(void **state)
{
    (void)state;
    make((kin_queue_options){.capacity = 4096});
    size_t most = kin__flow_most(kin__queue_flow(queue, 0));
    reserved_by_a_dead_process(most);
    reserved_by_a_dead_process(most);
    reserved_by_a_dead_process(80);
    kin_waitable room = KIN_WAIT_ROOM(queue);
    assert_false(kin__flow_writable(kin__queue_flow(queue, 0), 0));
    death_is_noticed();
    check(kin_wait(&room, 1, NULL, KIN_NOWAIT));
    check(kin_queue_put(queue, NULL, 0, KIN_NOWAIT));
}

/* ---- what is about to come back to a queue that was shut down ---- */

static kin__record *take_and_shut(void)
{
    kin_message m;
    make((kin_queue_options){0});
    check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
    check(kin_queue_take(queue, &m, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT)); /* deaths until now have been looked at */
    check(kin_queue_shutdown(queue));
    return kin__record_at(kin__queue_flow(queue, 0), 0);
}

/* Who gives it back has not yet told that, or has just died and that is not told yet: nobody goes home. */
static void not_over_while_something_comes_back(void **state)
{
    (void)state;
    for (int dead = 0; dead < 2; dead++) {
        char buffer[16];
        kin__record *record = take_and_shut();
        kin__ring *r = kin__queue_flow(queue, 0)->ring;
        if (dead)
            kin__store64(&record->state, kin__state(KIN__TAKEN, (uint32_t)(record->state >> 40), kin__pid_of(KIN__PROCESSES - 1, 12345)));
        else
            kin__store64(&record->state, kin__state_as(record->state, KIN__READY));
        check_fails(KIN_EEMPTY, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, buffer, sizeof buffer, NULL, 20));
        if (dead)
            death_is_noticed();
        else
            kin__store32(&r->returned, 1);
        check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        check_fails(KIN_EPIPE, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        (void)teardown(NULL);
    }
}

/* ---- who is in the middle of a get and does not go on ---- */

/* A thread that lives, and does nothing. */
typedef struct idle {
    uv_thread_t thread;
    uv_sem_t there, end;
    uint64_t me;
} idle;

static void be_idle(void *arg)
{
    idle *i = arg;
    i->me = kin__thread_me();
    uv_sem_post(&i->there);
    uv_sem_wait(&i->end);
}

static void begin_idle(idle *i)
{
    assert_int_equal(uv_sem_init(&i->there, 0), 0);
    assert_int_equal(uv_sem_init(&i->end, 0), 0);
    assert_int_equal(uv_thread_create(&i->thread, be_idle, i), 0);
    uv_sem_wait(&i->there);
    assert_true(i->me != 0);
}

static void end_idle(idle *i)
{
    uv_sem_post(&i->end);
    assert_int_equal(uv_thread_join(&i->thread), 0);
    uv_sem_destroy(&i->there);
    uv_sem_destroy(&i->end);
}

static void a_consumer_stands_still(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        char buffer[16];
        idle other;
        begin_idle(&other);
        make((kin_queue_options){.relaxed = relaxed != 0});
        check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
        kin__ring *r = kin__queue_flow(queue, relaxed ? 1 : 0)->ring;
        assert_int_equal(kin__items(r->tail), 1);
        kin__store64(&r->getter.word, other.me);
        check_fails(KIN_EEMPTY, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, buffer, sizeof buffer, NULL, 50));
        check(kin_queue_shutdown(queue)); /* it is over, but not empty: no consumer may go home yet */
        check_fails(KIN_EEMPTY, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, buffer, sizeof buffer, NULL, 50));
        kin__store64(&r->getter.word, 0);
        check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        check_fails(KIN_EPIPE, kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        end_idle(&other);
        (void)teardown(NULL);
    }
}

typedef struct waiter {
    uv_thread_t thread;
    int64_t timeout_ms;
    bool put;
    kin_err err;
} waiter;

static void wait_body(void *arg)
{
    waiter *w = arg;
    char buffer[1024] = {0};
    w->err = w->put ? kin_queue_put(queue, buffer, sizeof buffer, w->timeout_ms)
                    : kin_queue_get(queue, buffer, sizeof buffer, NULL, w->timeout_ms);
}

static void begin_wait(waiter *w, bool put, int64_t timeout_ms)
{
    *w = (waiter){.put = put, .timeout_ms = timeout_ms, .err = KIN_EIO};
    assert_int_equal(uv_thread_create(&w->thread, wait_body, w), 0);
}

/* The first waiter is woken, and gives up where it must wait for somebody in the middle: the other is woken in its place. */
static void a_wake_is_passed_on_by_who_gives_up_at_a_lock(void **state)
{
    (void)state;
    for (int put = 0; put < 2; put++) {
        char buffer[1024];
        idle other;
        waiter first, second;
        kin__ring *r = make((kin_queue_options){.capacity = 4096, .max_items = 1});
        kin__latch *side = put ? &r->putter : &r->getter;
        kin__latch_of of = kin__ring_latch(kin__queue_flow(queue, 0), put != 0);
        begin_idle(&other);
        if (put)
            check(kin_queue_put(queue, buffer, 1, KIN_NOWAIT));
        begin_wait(&first, put != 0, test_ms(300));
        assert_true(crash_until_asleep(1));
        begin_wait(&second, put != 0, test_ms(20000));
        assert_true(crash_until_asleep(2));
        crash_spin_us(20000); /* the second has most likely looked for the last time then */
        kin__store64(&side->word, other.me);
        if (put)
            check(kin_queue_get(queue, buffer, sizeof buffer, NULL, KIN_NOWAIT));
        else
            check(kin_queue_put(queue, "x", 1, KIN_NOWAIT));
        assert_int_equal(uv_thread_join(&first.thread), 0);
        assert_int_equal(first.err, KIN_ETIMEDOUT);
        kin__store64(&side->word, 0);
        kin__latch_look(&of);
        uint64_t since = uv_hrtime();
        assert_int_equal(uv_thread_join(&second.thread), 0);
        assert_int_equal(second.err, KIN_OK);
        assert_true(uv_hrtime() - since <
                    (uint64_t)test_ms(10000) * 1000000); /* woken, not only in time for a last look */
        end_idle(&other);
        (void)teardown(NULL);
    }
}

/* What a dead one may have left in the bag cannot be looked for then; nothing else depends on that. */
static void nobody_can_tidy_the_bag(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("nothing is left in a bag on this system");
    idle other;
    begin_idle(&other);
    kin__ring *r = make((kin_queue_options){0});
    kin__store64(&r->getter.word, other.me);
    (void)kin__or64(&r->waits, KIN__UNTIDY);
    check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
    assert_true((r->waits & KIN__UNTIDY) != 0);
    kin__store64(&r->getter.word, 0);
    check(kin_queue_put(queue, "message", 8, KIN_NOWAIT));
    assert_true((r->waits & KIN__UNTIDY) == 0);
    end_idle(&other);
}

static void leave_in_bag(kin__flow *f, const kin_connection *end);

/* Whoever gets a lane of a dead one need not put anything: others would find no end of what lies in the bag. */
static void a_lane_is_tidied_by_who_gets_it(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("nothing is left in a bag on this system");
    kin_connection *one, *other;
    make((kin_queue_options){.relaxed = true});
    check(kin_pipe(&one, &other, NULL));
    kin__flow *f = kin__queue_flow(queue, 1);
    leave_in_bag(f, other);
    kin__store64(&f->ring->putter.word, DEAD_THREAD | KIN__OWN);
    f->ring->putter.own = DEAD_THREAD;
    assert_false(kin_queue_full(queue, 0));
    assert_int_equal(os_bag_oldest(f->out), 0);
    kin_connection_close(one);
    kin_connection_close(other);
}

/* The bag is looked after with the first lane's lock. Who has it drops what others could not. */
static void who_holds_the_bag_drops_what_others_got(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("a bag belongs to nobody on this system");
    idle other;
    kin_value *value;
    begin_idle(&other);
    make((kin_queue_options){.relaxed = true});
    check(kin_value_create(&value, 1));
    check(kin_queue_put_args(queue, KIN_ARGS(value), KIN_NOWAIT));
    kin__flow *first = kin__queue_flow(queue, 0), *f = kin__queue_flow(queue, 1);
    kin__bagged *bagged = kin__record_bagged(kin__record_at(f, 0));
    kin__store64(&first->ring->getter.word, other.me);
    kin__bag_drop(f, bagged->tag, bagged->words, 1); /* as when the message is got */
    assert_true(os_bag_oldest(f->out) != 0);
    kin__store64(&first->ring->getter.word, 0);
    kin__ring_look_after_get(first); /* as it does when it goes on */
    assert_int_equal(os_bag_oldest(f->out), 0);
    kin_value_close(value);
    end_idle(&other);
}

/* ---- joining ---- */

#define STEPS 3000

typedef struct chain {
    uint32_t done, wrong; /* atomic */
    uint32_t steps;
    kin_err worker, joiners[2];
} chain;

/* Each message begets the next one before it is said to be done. */
static void work(void *arg)
{
    chain *c = arg;
    for (uint32_t n = 0; n < c->steps && c->worker == KIN_OK; n++) {
        char buffer[16];
        c->worker = kin_queue_get(queue, buffer, sizeof buffer, NULL, test_ms(20000));
        if (c->worker == KIN_OK && n + 1 < c->steps)
            c->worker = kin_queue_put(queue, "next", 4, KIN_NOWAIT);
        else
            kin__store32(&c->done, 1);
        if (c->worker == KIN_OK)
            c->worker = kin_queue_task_done(queue);
    }
}

static void join(chain *c, int which)
{
    for (bool done = false; !done && c->joiners[which] == KIN_OK;) {
        c->joiners[which] = kin_queue_join(queue, test_ms(30000));
        done = kin__load32(&c->done) != 0;
        if (c->joiners[which] == KIN_OK && !done)
            kin__add32(&c->wrong, 1);
    }
}
static void join_first(void *arg) { join(arg, 0); }
static void join_second(void *arg) { join(arg, 1); }

static void join_sees_one_moment(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        for (int round = 0; round < 10; round++) {
            chain c = {.steps = (uint32_t)test_scale(STEPS, STEPS)};
            uv_thread_t threads[3];
            make((kin_queue_options){.joinable = true, .relaxed = relaxed != 0});
            check(kin_queue_put(queue, "first", 5, KIN_NOWAIT));
            assert_int_equal(uv_thread_create(&threads[0], work, &c), 0);
            assert_int_equal(uv_thread_create(&threads[1], join_first, &c), 0);
            assert_int_equal(uv_thread_create(&threads[2], join_second, &c), 0);
            for (int i = 0; i < 3; i++)
                assert_int_equal(uv_thread_join(&threads[i]), 0);
            check(c.worker);
            check(c.joiners[0]);
            check(c.joiners[1]);
            assert_int_equal(c.wrong, 0);
            (void)teardown(NULL);
        }
    }
}

/* ---- lanes ---- */

/* One that uses many queues forgets which lane is its own, and finds that before it looks whether the common one is empty. */
static void a_forgotten_lane_is_found(void **state)
{
    (void)state;
    kin_queue *others[9];
    make((kin_queue_options){.relaxed = true});
    check(kin_queue_put(queue, "mine", 4, KIN_NOWAIT));
    for (size_t i = 0; i < 9; i++) {
        check(kin_queue_create(&others[i], &(kin_queue_options){.relaxed = true, .capacity = 65536}));
        check(kin_queue_put(others[i], "other", 5, KIN_NOWAIT));
    }
    kin__letter letter = {.bytes = "another's", .size = 9, .what = KIN__BYTES};
    check(kin__flow_put(kin__queue_flow(queue, 0), &letter, KIN_NOWAIT));
    check(kin_queue_put(queue, "mine", 4, KIN_NOWAIT));
    assert_int_equal(kin__flow_items(kin__queue_flow(queue, 0)), 1);
    assert_int_equal(kin__flow_items(kin__queue_flow(queue, 1)), 2);
    for (size_t i = 0; i < 9; i++)
        kin_queue_close(others[i]);
}

/* ---- what a dead producer left beside the queue ---- */

/* As a producer leaves it that died before its message was one. */
static void leave_in_bag(kin__flow *f, const kin_connection *end)
{
    os_handle handles[KIN__EXPORT_HANDLES];
    uint64_t side, words[KIN__EXPORT_HANDLES];
    size_t count;
    check(kin__connection_export(end, handles, &count, &side));
    check(os_bag_put(f->in, kin__bag_tag(f, ++f->ring->bagged), handles, count, words));
    for (size_t i = 0; i < count; i++)
        os_handle_close(handles[i]);
}

typedef struct reader {
    kin_connection *end;
    kin_err err;
} reader;

static void receive(void *arg)
{
    char byte;
    reader *r = arg;
    r->err = kin_connection_recv(r->end, &byte, 1, NULL, test_ms(30000));
}

/* It was the last to hold an end of a pipe: who sleeps at the other is told when it goes, at the next message with handles. */
static void an_end_goes_with_what_was_left(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("what the dead leave in a bag is there until the root ends on this system");
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        reader r = {0};
        kin_connection *other;
        kin_value *value, *got;
        kin_args *args;
        uv_thread_t thread;
        make((kin_queue_options){.relaxed = relaxed != 0});
        check(kin_value_create(&value, 1));
        check(kin_queue_put(queue, "", 0, KIN_NOWAIT)); /* this thread has its lane then */
        check(kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
        check(kin_pipe(&r.end, &other, NULL));
        leave_in_bag(kin__queue_flow(queue, (uint32_t)relaxed), other);
        kin_connection_close(other);
        assert_int_equal(uv_thread_create(&thread, receive, &r), 0);
        assert_true(crash_until_asleep(1));
        check(kin_queue_put_args(queue, KIN_ARGS(value), KIN_NOWAIT));
        check(kin_queue_get_args(queue, &args, KIN_NOWAIT));
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_int_equal(r.err, KIN_EPIPE);
        check(kin_unpack(args, &got));
        kin_args_free(args);
        kin_value_close(got);
        kin_value_close(value);
        kin_connection_close(r.end);
        (void)teardown(NULL);
    }
}

/* ---- a full bag ---- */

static kin_value *value;

static int fill_bag(void)
{
    int count = 0;
    kin_err err;
    check(kin_value_create(&value, 1));
    while ((err = kin_queue_put_args(queue, KIN_ARGS(value), KIN_NOWAIT)) == KIN_OK)
        count++;
    if (err != KIN_EMFILE)
        check_fails(KIN_EFULL, err);
    return count;
}

static void get_values(int count)
{
    for (int i = 0; i < count; i++) {
        kin_args *args;
        kin_value *got;
        check(kin_queue_get_args(queue, &args, test_ms(20000)));
        check(kin_unpack(args, &got));
        kin_args_free(args);
        kin_value_close(got);
    }
}

static uint32_t turn; /* atomic: which step of a race is next */
static OS_THREAD_LOCAL bool is_putter;

static bool sleeps_for_room(void)
{
    return kin__my.session->threads[kin__owner_place(kin__me)].key == kin__queue_flow(queue, 0)->ring->id_room;
}

static void await_turn(uint32_t which) { (void)crash_until_at_least(&turn, which); }

/* 1: the getter has moved the head, but dropped nothing; 2: the other found no room, and is about to sleep; 3: it may. */
static void race(const char *name)
{
    if (!is_putter && strcmp(name, "ring.unbagging") == 0 && kin__load32(&turn) == 0) {
        kin__store32(&turn, 1);
        await_turn(2);
    } else if (is_putter && strcmp(name, "park.published") == 0 && sleeps_for_room() && kin__load32(&turn) == 1) {
        kin__store32(&turn, 2);
        await_turn(3);
    }
}

static void put_value(void *arg)
{
    waiter *w = arg;
    if (w->put) /* else the race is of no interest */
        await_turn(1);
    is_putter = true;
    w->err = kin_queue_put_args(queue, KIN_ARGS(value), w->timeout_ms);
}

static void check_putter(waiter *w, uint64_t since)
{
    assert_int_equal(uv_thread_join(&w->thread), 0);
    check(w->err);
    assert_true(uv_hrtime() - since < (uint64_t)test_ms(10000) * 1000000); /* woken, not only in time for a last look */
}

static void room_in_the_bag_wakes(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("a bag is never full on this system");
    waiter w = {.put = true, .timeout_ms = test_ms(20000), .err = KIN_EIO};
    make((kin_queue_options){.capacity = (size_t)1 << 22});
    int count = fill_bag();
    turn = 0;
    kin__at_crash_point = race;
    assert_int_equal(uv_thread_create(&w.thread, put_value, &w), 0);
    get_values(1);
    kin__store32(&turn, 3);
    check_putter(&w, uv_hrtime());
    kin__at_crash_point = NULL;
    get_values(count);
    kin_value_close(value);
}

/* Lanes have one bag together: who finds it full need have nothing in its own. */
static void room_in_the_bag_wakes_other_lanes(void **state)
{
    (void)state;
    if (OS_BAG_HANDLES == 0)
        test_skip("a bag is never full on this system");
    waiter w = {.timeout_ms = test_ms(20000), .err = KIN_EIO};
    make((kin_queue_options){.capacity = (size_t)1 << 26, .relaxed = true});
    int count = fill_bag();
    assert_int_equal(uv_thread_create(&w.thread, put_value, &w), 0);
    assert_true(crash_until_asleep(1));
    crash_spin_us(20000); /* it has most likely looked for the last time then */
    uint64_t since = uv_hrtime();
    get_values(count);
    check_putter(&w, since);
    get_values(1);
    kin_value_close(value);
}

#define TEST(test) cmocka_unit_test_teardown(test, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(many_behind_what_was_done_come_once),
        TEST(many_between_taken_ones),
        TEST(nothing_returns_where_nothing_is_in_place),
        TEST(positions_go_round_without_a_consumer),
        TEST(a_large_one_that_never_was_is_not_in_the_way),
        TEST(join_ends_where_a_dead_one_had_reserved),
        TEST(room_is_found_where_a_dead_one_had_reserved),
        TEST(not_over_while_something_comes_back),
        TEST(a_consumer_stands_still),
        TEST(a_wake_is_passed_on_by_who_gives_up_at_a_lock),
        TEST(nobody_can_tidy_the_bag),
        TEST(a_lane_is_tidied_by_who_gets_it),
        TEST(who_holds_the_bag_drops_what_others_got),
        TEST(join_sees_one_moment),
        TEST(a_forgotten_lane_is_found),
        TEST(an_end_goes_with_what_was_left),
        TEST(room_in_the_bag_wakes),
        TEST(room_in_the_bag_wakes_other_lanes),
    };
    return cmocka_run_group_tests_name("queue moments", tests, NULL, NULL);
}
