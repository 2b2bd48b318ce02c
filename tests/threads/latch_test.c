/* The latch from several threads of one process: whoever is within is alone, also if the latch is somebody's own half of the time, is
 * taken away and given back all the time, and threads end while they are within. What it protects is plain data, for ThreadSanitizer to
 * look at.
 * @ctest LABELS threads */
#include "crash_support.h"

#include "latch.h"

#include <string.h>
#include <uv.h>

#define THREADS 4

typedef struct shared {
    kin__latch latch;
    uint64_t waits;
    bool ordered;
    bool mortal;
    int times;
    uint32_t next_seed /* atomic, as is what follows */, wrong, given_up, within, inherited, died;
    uint64_t user; /* who is within; plain on purpose, as is what follows */
    long counter, copy;
} shared;

typedef struct one {
    shared *s;
    uint32_t random;
    kin__latch_of of;
} one;

static const char name[40] = "latch";

/* True if it is in. */
static bool enter(one *o, kin__entry *entry, bool *inherited)
{
    static const int64_t time_outs[] = {0, 0, 1, 2, KIN_FOREVER, KIN_FOREVER, KIN_FOREVER, KIN_FOREVER};
    uint64_t who = 0;
    *inherited = false;
    *entry = kin__latch_try(&o->s->latch, o->of.ordered, kin__me);
    if (*entry != KIN__NOT_IN)
        return true;
    *entry = KIN__HELD;
    kin_err err =
        kin__latch_enter(&o->of, kin__me, kin__deadline(time_outs[crash_random(&o->random, 8)]), name, inherited, &who);
    if (err == KIN_OK)
        return true;
    kin__add32(&o->s->given_up, 1);
    if (err != KIN_ETIMEDOUT || who == 0)
        kin__add32(&o->s->wrong, 1);
    return false;
}

/* One who finds that another is there must have been told that it died. */
static void be_within(one *o, kin__entry entry, bool inherited)
{
    shared *s = o->s;
    if (s->user != 0 && !inherited)
        kin__add32(&s->wrong, 1);
    s->user = kin__me;
    s->counter++;
    uint32_t chance = crash_random(&o->random, 64);
    if (chance == 0)
        crash_spin_us(50); /* so long that others must sleep */
    else if (chance < 4)
        crash_spin_us(1);
    s->copy = s->counter;
    if (s->user != kin__me)
        kin__add32(&s->wrong, 1);
    if (entry == KIN__WITHIN)
        kin__add32(&s->within, 1);
    if (inherited)
        kin__add32(&s->inherited, 1);
}

static void body(void *arg)
{
    shared *s = arg;
    one o = {.s = s, .random = kin__add32(&s->next_seed, 77777) | 1, .of = {&s->latch, &s->waits, 1, s->ordered}};
    if (kin__thread_me() == 0)
        kin__add32(&s->wrong, 1);
    for (int i = 0; i < s->times; i++) {
        kin__entry entry;
        bool inherited;
        if (!enter(&o, &entry, &inherited))
            continue;
        be_within(&o, entry, inherited);
        if (s->mortal && crash_random(&o.random, 400) == 0) {
            kin__add32(&s->died, 1);
            break;
        }
        s->user = 0;
        kin__latch_leave(&s->latch, s->ordered, kin__me, entry, crash_random(&o.random, 4) == 0);
        kin__latch_look(&o.of);
    }
}

static void begin(shared *s, bool ordered, bool mortal)
{
    memset(s, 0, sizeof *s);
    s->latch.id = kin__unique();
    s->ordered = ordered;
    s->mortal = mortal;
    s->next_seed = crash_seed();
    s->times = test_scale(40000, 4000);
}

static void alone(bool ordered)
{
    static shared s;
    uv_thread_t threads[THREADS];
    begin(&s, ordered, false);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], body, &s), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    print_message("%ld times, %u within what was their own, %u gave up\n", s.counter, s.within, s.given_up);
    assert_int_equal(s.wrong, 0);
    assert_int_equal(s.counter + s.given_up, (long)THREADS * s.times);
    assert_int_equal(s.copy, s.counter);
    assert_true(s.within != 0);
}

static void whoever_is_within_is_alone(void **state)
{
    (void)state;
    alone(kin__my.session->ordered != 0);
}

/* As where the system orders nothing between processes, whatever it can do here. */
static void without_the_order(void **state)
{
    (void)state;
    alone(false);
}

typedef struct runner {
    shared *s;
    int rounds;
} runner;

/* After an end all are woken, as after the death of a process. */
static void run_one_after_the_other(void *arg)
{
    runner *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        uv_thread_t thread;
        if (uv_thread_create(&thread, body, r->s) != 0 || uv_thread_join(&thread) != 0)
            kin__add32(&r->s->wrong, 1);
        kin__wake_everybody();
    }
}

/* Threads end while they are within, and others take their place. */
static void threads_end_within(void **state)
{
    (void)state;
    static shared s;
    runner r = {&s, test_scale(60, 15)};
    uv_thread_t threads[THREADS];
    begin(&s, kin__my.session->ordered != 0, true);
    s.times = 4000; /* most die before */
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], run_one_after_the_other, &r), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    print_message("%ld times, %u within what was their own, %u gave up, %u ended within, %u inherited\n", s.counter,
                  s.within, s.given_up, s.died, s.inherited);
    assert_int_equal(s.wrong, 0);
    assert_true(s.died != 0 && s.inherited + 1 >= s.died && s.within != 0);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK || kin__order_begin() != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_is_within_is_alone),
        cmocka_unit_test(without_the_order),
        cmocka_unit_test(threads_end_within),
    };
    return cmocka_run_group_tests_name("latch", tests, NULL, NULL);
}
