/* Random walks in which others do something at the crash points, in the middle of a call: they commit, cancel, are done, give back or die,
 * put while the caller gets and get while it puts, and go to sleep; or the caller dies there. All is done by one thread, so that a
 * walk can be repeated (KIN_TEST_SEED); the sleepers are threads that sleep in the thread table only, and who dies is a thread in that
 * table. After each call: what came was next in turn, nothing was lost but one message by who died getting it, and nobody sleeps
 * who could go on.
 * @ctest TIMEOUT 120 */
#include "queue_support.h"

#include "error.h"
#include "fault.h"
#include "ring_inside.h"

#include <string.h>
#include <uv.h>

#define WALKS 60
#define STEPS 3000
#define MOST 4096
#define IN_HAND 12
#define NOBODY UINT32_MAX
#define DEAD_PROCESS kin__pid_of(KIN__PROCESSES - 1, 12345)

/* ---- the model: messages by number, in the order in which they were put ---- */

static uint32_t state_of[MOST], count;
static uint32_t moment, put_at[MOST], ready_since[MOST];
static uint32_t pending, pending_state; /* the message that the caller is putting; NOBODY */
static bool putting;
static bool mortal; /* the caller may die at the next point */

static kin_queue *queue;
static kin__flow *flow;
static uint32_t seed;

static uint32_t chance(uint32_t below) { return crash_random(&seed, below); }

static uint32_t first_ready(void)
{
    uint32_t n = 0;
    while (n < count && state_of[n] != KIN__READY)
        n++;
    return n < count ? n : NOBODY;
}

/* ---- sleepers ---- */

typedef struct sleeper {
    uv_thread_t thread;
    uv_sem_t there, end;
    uint64_t me;
    kin__thread *t;
    bool puts;
} sleeper;
static sleeper sleepers[2] = {{.puts = false}, {.puts = true}};

static void be_there(void *arg)
{
    sleeper *s = arg;
    s->me = kin__thread_me();
    uv_sem_post(&s->there);
    uv_sem_wait(&s->end);
}

static void begin_sleeper(sleeper *s)
{
    assert_int_equal(uv_sem_init(&s->there, 0), 0);
    assert_int_equal(uv_sem_init(&s->end, 0), 0);
    assert_int_equal(uv_thread_create(&s->thread, be_there, s), 0);
    uv_sem_wait(&s->there);
    assert_true(s->me != 0);
    s->t = &kin__my.session->threads[kin__owner_place(s->me)];
}

static void end_sleeper(sleeper *s)
{
    uv_sem_post(&s->end);
    assert_int_equal(uv_thread_join(&s->thread), 0);
    uv_sem_destroy(&s->there);
    uv_sem_destroy(&s->end);
}

static bool asleep(const sleeper *s) { return (kin__load32(&s->t->wake) & 1) == 0; }

static void get_up(sleeper *s)
{
    uint32_t place = kin__owner_place(s->me);
    (void)kin__or32(&s->t->wake, 1);
    (void)kin__and64(&kin__my.session->sleeping[place / 64], ~((uint64_t)1 << (place % 64)));
    kin__store64(&s->t->key, 0);
}

/* As kin__park_on, with the looks of ring_get.c and ring_put.c. */
static void fall_asleep(sleeper *s)
{
    uint32_t place = kin__owner_place(s->me);
    if (asleep(s))
        return;
    get_up(s); /* it may have been woken only */
    kin__store64(&s->t->sleeper, s->me);
    kin__store32(&s->t->wake, kin__load32(&s->t->wake) + 1);
    kin__store64(&s->t->edge, 0);
    kin__store64(&s->t->since, 1);
    kin__store64(&s->t->key, s->puts ? flow->ring->id_room : flow->gate->id);
    (void)kin__or64(&kin__my.session->sleeping[place / 64], (uint64_t)1 << (place % 64));
    kin__flow_arm(flow, s->puts);
    if (s->puts ? kin__flow_writable(flow, 0) || kin__flow_unswept(flow) : kin__flow_readable(flow))
        get_up(s);
}

/* ---- what can be done with what is reserved or taken ---- */

typedef struct held {
    kin_message at;
    uint32_t number;
    bool taken;
} held;
static held hand[IN_HAND];
static uint32_t in_hand;

/* Neither the caller's just now nor a dead one's: who takes that over tidies the bag, see interrupt. */
static bool is_free(bool putter)
{
    const kin__latch *l = putter ? &flow->ring->putter : &flow->ring->getter;
    uint64_t owner = kin__load64(&l->word) & ~KIN__OWN;
    return !kin__latch_in_use(l) && (owner == 0 || owner == kin__me);
}

static void become(uint32_t number, uint32_t state)
{
    ready_since[number] = ++moment;
    if (number == pending)
        pending_state = state;
    else
        state_of[number] = state;
}

static void finish(void)
{
    if (in_hand == 0)
        return;
    uint32_t n = chance(in_hand);
    held h = hand[n];
    hand[n] = hand[--in_hand];
    if (chance(8) == 0) {
        kin__record *record = (kin__record *)(void *)(flow->data + h.at.kin__m.at);
        kin__store64(&record->state, kin__state(h.taken ? KIN__TAKEN : KIN__WRITING, (uint32_t)(record->state >> 40), DEAD_PROCESS));
        kin__add32(&kin__my.session->epoch, 1);
        become(h.number, h.taken ? KIN__READY : KIN__FINISHED);
        kin__wake_everybody();
    } else if (chance(2) || !is_free(false)) { /* nobody waits for a lock here */
        become(h.number, KIN__READY);
        check(h.taken ? kin_queue_give_back(queue, &h.at) : kin_queue_commit(queue, &h.at));
    } else {
        become(h.number, KIN__FINISHED);
        check(h.taken ? kin_queue_done(queue, &h.at) : kin_queue_cancel(queue, &h.at));
    }
}

/* ---- calls ---- */

static void put(void)
{
    char bytes[700];
    uint32_t n = count, size = 4 + chance(chance(4) == 0 ? 696 : 40);
    if (count == MOST)
        return;
    memcpy(bytes, &n, 4);
    put_at[n] = ready_since[n] = ++moment;
    pending = n;
    pending_state = KIN__READY;
    kin_err err = kin_queue_put(queue, bytes, size, KIN_NOWAIT);
    pending = NOBODY;
    if (err == KIN_OK)
        state_of[count++] = pending_state;
    else
        check_fails(KIN_EFULL, err);
}

static void reserve(void)
{
    uint32_t n = count;
    if (count == MOST || in_hand == IN_HAND)
        return;
    put_at[n] = ready_since[n] = ++moment;
    kin_message at; /* what is in hand may be fewer or more when it returns */
    kin_err err = kin_queue_reserve(queue, &at, 4 + chance(696), KIN_NOWAIT);
    mortal = false;
    if (err == KIN_OK && in_hand == IN_HAND) {
        state_of[count++] = KIN__FINISHED;
        check(kin_queue_cancel(queue, &at));
    } else if (err == KIN_OK) {
        memcpy(at.data, &n, 4);
        state_of[count++] = KIN__WRITING;
        hand[in_hand++] = (held){at, n, false};
    } else {
        check_fails(KIN_EFULL, err);
    }
}

/* Of those that were READY before the call, or before what it gives was put, none comes before that. */
static void check_came(kin_err err, uint32_t before, uint32_t number)
{
    if (err != KIN_OK) {
        check_fails(KIN_EEMPTY, err);
        assert_int_equal(before, NOBODY);
        return;
    }
    assert_true(number == pending ? before == NOBODY && pending_state == KIN__READY : number < count && state_of[number] == KIN__READY);
    if (before != NOBODY)
        assert_in_range(number, 0, before);
    for (uint32_t n = 0; n < number; n++)
        assert_true(state_of[n] != KIN__READY || ready_since[n] > put_at[number]);
}

static void get(void)
{
    char bytes[700];
    uint32_t before = first_ready(), number = NOBODY;
    kin_err err = kin_queue_get(queue, bytes, sizeof bytes, NULL, KIN_NOWAIT);
    if (err == KIN_OK)
        memcpy(&number, bytes, 4);
    check_came(err, before, number);
    if (err == KIN_OK)
        become(number, KIN__FINISHED);
}

static void take(void)
{
    kin_message at;
    uint32_t before = first_ready(), number = NOBODY;
    if (in_hand == IN_HAND)
        return;
    kin_err err = kin_queue_take(queue, &at, KIN_NOWAIT);
    if (err == KIN_OK)
        memcpy(&number, at.data, 4);
    check_came(err, before, number);
    mortal = false;
    if (err != KIN_OK)
        return;
    become(number, KIN__TAKEN);
    if (in_hand == IN_HAND) {
        become(number, KIN__FINISHED);
        check(kin_queue_done(queue, &at));
        return;
    }
    hand[in_hand++] = (held){at, number, true};
}

static void look(void)
{
    (void)(chance(2) ? kin_queue_size(queue) : kin_queue_empty(queue));
    kin__flow_sweep(flow);
}

/* ---- the caller dies ---- */

static jmp_buf grave;
static uint32_t first_items; /* put before the walk */
static uint32_t mortal_gets; /* how many messages may go with it */

/* Nothing of it is alive any more: what it held is a dead one's, and this thread is another from now on. */
static void die(void)
{
    uint64_t *claim = &kin__my.session->threads[kin__owner_place(kin__me)].claim;
    kin__store64(claim, ((kin__load64(claim) >> 32) + 1) << 32);
    kin__me = 0;
    assert_true(kin__thread_attach() != 0);
    longjmp(grave, 1);
}

static bool is_in_hand(const kin__record *record)
{
    for (uint32_t i = 0; i < in_hand; i++) {
        if (flow->data + hand[i].at.kin__m.at == (const char *)record)
            return true;
    }
    return false;
}

/* The model learns what the dead one had come to. */
static void bury(void)
{
    bool there[MOST] = {false};
    kin__record *record;
    uint64_t after, at = flow->ring->head, tail = flow->ring->tail;
    uint32_t lost = 0;
    if (kin__items(tail) - first_items != count) { /* what it was putting has become a message */
        state_of[count++] = pending != NOBODY ? pending_state : KIN__FINISHED;
        assert_int_equal(kin__items(tail) - first_items, count);
    }
    pending = NOBODY;
    for (; kin__ring_step(flow, at, tail, &record, &after); at = after) {
        uint32_t what = kin__state_what(record->state), number;
        memcpy(&number, kin__record_bytes(record), 4);
        bool own = (what == KIN__WRITING || what == KIN__TAKEN) && !is_in_hand(record);
        if (own && kin__state_who(record->state) == kin__my.id)
            kin__store64(&record->state, kin__state(what, (uint32_t)(record->state >> 40), DEAD_PROCESS));
        if (what == KIN__READY || (own && what == KIN__TAKEN))
            there[number] = true;
    }
    for (uint32_t n = 0; n < count; n++) {
        assert_true(!there[n] || state_of[n] == KIN__READY);
        if (state_of[n] == KIN__READY && !there[n]) {
            state_of[n] = KIN__FINISHED;
            lost++;
        }
    }
    assert_in_range(lost, 0, mortal_gets);
    kin__add32(&kin__my.session->epoch, 1);
    kin__wake_everybody();
}

/* ---- in the middle of it ---- */

static bool within;

static void do_something(void)
{
    switch (chance(6)) {
    case 0:
        fall_asleep(&sleepers[0]);
        break;
    case 1:
        fall_asleep(&sleepers[1]);
        break;
    case 2:
        if (putting && is_free(false))
            chance(2) ? get() : take();
        else if (!putting && is_free(true) && kin__flow_writable(flow, 700)) /* then nobody waits for a lock */
            chance(2) ? put() : reserve();
        break;
    default:
        finish();
    }
}

static void interrupt(const char *name)
{
    (void)name;
    if (!within && mortal && chance(20) == 0)
        die();
    if (within || chance(6) != 0)
        return;
    within = true;
    /* Who tidies the bag takes what locks are to be had, and those of the caller would be: both are one thread. */
    uint64_t untidy = kin__and64(&flow->ring->waits, ~(uint64_t)KIN__UNTIDY) & KIN__UNTIDY;
    do {
        do_something();
    } while (chance(2) != 0);
    (void)kin__or64(&flow->ring->waits, untidy);
    within = false;
}

static void check_all(void)
{
    uint32_t ready = first_ready();
    if (asleep(&sleepers[0]) && ready != NOBODY)
        fail_msg("who waits for a message sleeps, and message %lu is there", (unsigned long)ready);
    if (asleep(&sleepers[1]) && kin__flow_writable(flow, 0))
        fail_msg("who waits for room sleeps, and there is room");
    assert_true(ready == NOBODY || kin__flow_readable(flow));
    kin__record *oldest;
    uint64_t after;
    if (kin__ring_step(flow, flow->ring->head, flow->ring->tail, &oldest, &after)) /* what is done with leaves */
        assert_true(kin__state_what(oldest->state) != KIN__FINISHED || kin__flow_unswept(flow));
    for (int i = 0; i < 2; i++) {
        if (!asleep(&sleepers[i]) && chance(3) == 0)
            fall_asleep(&sleepers[i]);
    }
}

static void step(void)
{
    static void (*const steps[])(void) = {put, put, put, reserve, reserve, get, get, take, take, finish, finish, finish, look};
    uint32_t n = chance(sizeof steps / sizeof steps[0]);
    putting = n < 5;
    mortal_gets = n == 5 || n == 6;
    mortal = chance(10) == 0 && (n < 9 || n == 12); /* what became of what it had in hand would be another story */
    if (setjmp(grave) == 0) {
        steps[n]();
    } else {
        mortal = false;
        bury();
    }
    mortal = false;
    check_all();
}

/* ---- the walk ---- */

static int fill(void)
{
    int filled = 0;
    kin_err err;
    while ((err = kin_queue_put(queue, NULL, 0, KIN_NOWAIT)) == KIN_OK)
        filled++;
    check_fails(KIN_EFULL, err);
    for (int i = 0; i < filled; i++)
        check(kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
    return filled;
}

static void walk(void)
{
    check(kin_queue_create(&queue, &(kin_queue_options){.capacity = 4096, .max_items = chance(4) == 0 ? 6 : 0}));
    flow = kin__queue_flow(queue, 0);
    int fresh = fill();
    count = in_hand = 0;
    first_items = kin__items(flow->ring->tail);
    pending = NOBODY;
    kin__at_crash_point = interrupt;
    for (int n = 0; n < STEPS; n++)
        step();
    kin__at_crash_point = NULL;
    while (in_hand > 0)
        finish();
    while (first_ready() != NOBODY)
        get();
    check_fails(KIN_EEMPTY, kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
    assert_int_equal(kin_queue_size(queue), 0);
    assert_int_equal(fill(), fresh);
    get_up(&sleepers[0]);
    get_up(&sleepers[1]);
    kin_queue_close(queue);
}

static void walks(void **state)
{
    (void)state;
    uint32_t first = crash_seed();
    begin_sleeper(&sleepers[0]);
    begin_sleeper(&sleepers[1]);
    for (int i = 0; i < test_scale(WALKS, WALKS / 4); i++) {
        seed = first + (uint32_t)i;
        walk();
    }
    end_sleeper(&sleepers[0]);
    end_sleeper(&sleepers[1]);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(walks)};
    return cmocka_run_group_tests_name("queues, interrupted", tests, NULL, NULL);
}
