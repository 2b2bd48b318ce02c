/* The latch, alone: when it becomes somebody's own, and how it is taken away, given back and inherited. What others are in the middle of is
 * put there by hand, so that nothing depends on when which thread runs. */
#include "crash_support.h"

#include "latch.h"

#include <string.h>
#include <uv.h>

#define BIT ((uint64_t)4)

static kin__latch latch;
static uint64_t waits;
static kin__latch_of of = {&latch, &waits, BIT, true};
static const char name[40] = "latch";

static int setup(void **state)
{
    (void)state;
    memset(&latch, 0, sizeof latch);
    latch.id = kin__unique();
    waits = 0;
    of.ordered = kin__my.session->ordered != 0;
    assert_true(kin__thread_me() != 0);
    return 0;
}

/* Another thread that can do one thing at a time for the test, and lives until it is told to end. */
typedef struct other {
    uv_thread_t thread;
    uv_sem_t begin, done;
    int what; /* one of these */
    int64_t timeout_ms;
    bool keep;
    uint64_t me, who;
    kin__entry entry;
    bool inherited;
    kin_err err;
} other;
enum { ATTACH, ENTER, TRY, LEAVE, END };

static void do_one(other *o)
{
    switch (o->what) {
    case ENTER:
        o->entry = KIN__HELD;
        o->err = kin__latch_enter(&of, o->me, kin__deadline(o->timeout_ms), name, &o->inherited, &o->who);
        break;
    case TRY:
        o->entry = kin__latch_try(&latch, of.ordered, o->me);
        break;
    case LEAVE:
        kin__latch_leave(&latch, of.ordered, o->me, o->entry, o->keep);
        kin__latch_look(&of);
        break;
    default:
        o->me = kin__thread_me();
        break;
    }
}

static void body(void *arg)
{
    other *o = arg;
    for (bool more = true; more;) {
        uv_sem_wait(&o->begin);
        more = o->what != END;
        if (more)
            do_one(o);
        uv_sem_post(&o->done);
    }
}

static void begin(other *o, int what)
{
    o->what = what;
    uv_sem_post(&o->begin);
}
static void finish(other *o) { uv_sem_wait(&o->done); }
static void run(other *o, int what)
{
    begin(o, what);
    finish(o);
}

static void make(other *o)
{
    memset(o, 0, sizeof *o);
    o->timeout_ms = test_ms(20000);
    assert_int_equal(uv_sem_init(&o->begin, 0), 0);
    assert_int_equal(uv_sem_init(&o->done, 0), 0);
    assert_int_equal(uv_thread_create(&o->thread, body, o), 0);
    run(o, ATTACH);
    assert_true(o->me != 0);
}

static void end(other *o)
{
    run(o, END);
    assert_int_equal(uv_thread_join(&o->thread), 0);
    uv_sem_destroy(&o->begin);
    uv_sem_destroy(&o->done);
}

static void use(int times)
{
    for (int i = 0; i < times; i++) {
        kin__entry entry = kin__latch_try(&latch, of.ordered, kin__me);
        assert_true(entry != KIN__NOT_IN);
        kin__latch_leave(&latch, of.ordered, kin__me, entry, false);
    }
}

static void make_mine(void)
{
    kin__entry entry = kin__latch_try(&latch, of.ordered, kin__me);
    assert_int_equal(entry, KIN__HELD);
    kin__latch_leave(&latch, of.ordered, kin__me, entry, true);
    assert_true(latch.word == (kin__me | KIN__OWN));
}

static void own_after_a_streak(void **state)
{
    (void)state;
    use(KIN__LATCH_STREAK + 1);
    assert_true(latch.word == 0);
    use(1);
    if (!of.ordered) { /* it would cost what it saves */
        assert_true(latch.word == 0);
        return;
    }
    assert_true(latch.word == (kin__me | KIN__OWN));
    assert_true(latch.own == kin__me);
    kin__entry entry = kin__latch_try(&latch, true, kin__me);
    assert_int_equal(entry, KIN__WITHIN);
    assert_true(*kin__held.inside == kin__latch_mark(&latch));
    assert_true(kin__latch_in_use(&latch));
    kin__latch_leave(&latch, true, kin__me, entry, false);
    assert_true(*kin__held.inside == 0);
    assert_false(kin__latch_in_use(&latch));
}

/* Another who uses it in between begins a streak of its own. */
static void no_streak_of_two(void **state)
{
    (void)state;
    other o;
    make(&o);
    for (int i = 0; i < 4; i++) {
        use(KIN__LATCH_STREAK / 2);
        run(&o, TRY);
        assert_int_equal(o.entry, KIN__HELD);
        run(&o, LEAVE);
        assert_true(latch.word == 0);
    }
    end(&o);
}

static void taken_away(void **state)
{
    (void)state;
    other o;
    make(&o);
    for (uint32_t times = 1; times <= 3; times++) {
        make_mine();
        use(10);
        run(&o, ENTER);
        assert_int_equal(o.err, KIN_OK);
        assert_false(o.inherited);
        assert_true(latch.word == o.me);
        assert_true(latch.needed == KIN__LATCH_STREAK << times); /* it becomes somebody's own less easily */
        assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__NOT_IN);
        assert_true(*kin__held.inside == 0);
        run(&o, LEAVE);
        assert_true(latch.word == 0);
    }
    end(&o);
}

static bool is_armed(void *arg)
{
    (void)arg;
    return (kin__load64(&waits) & BIT) != 0;
}

static void who_takes_it_away_waits_for_the_owner(void **state)
{
    (void)state;
    other o;
    make(&o);
    make_mine();
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    begin(&o, ENTER);
    assert_true(crash_until_asleep(1));
    assert_true(kin__load64(&latch.word) == o.me);
    assert_true(crash_until(is_armed, NULL));
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    kin__latch_look(&of);
    finish(&o);
    assert_int_equal(o.err, KIN_OK);
    run(&o, LEAVE);
    assert_true(latch.word == 0);
    assert_true((waits & BIT) == 0); /* looked for and not found */
    end(&o);
}

/* The owner had said that it is within, and sees only then that it is not the owner any more. */
static void an_owner_that_backs_out_wakes(void **state)
{
    (void)state;
    other o;
    make(&o);
    make_mine();
    kin__store32(kin__held.inside, kin__latch_mark(&latch));
    begin(&o, ENTER);
    assert_true(crash_until_asleep(1));
    kin__latch_back_out(&latch);
    finish(&o);
    assert_int_equal(o.err, KIN_OK);
    run(&o, LEAVE);
    end(&o);
}

static void given_up(void **state)
{
    (void)state;
    other o;
    make(&o);
    make_mine();
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    o.timeout_ms = 20;
    for (int i = 0; i < 2; i++) {
        run(&o, ENTER);
        assert_int_equal(o.err, KIN_ETIMEDOUT);
        assert_true(o.who == kin__me);
        assert_true(latch.word == (kin__me | KIN__OWN)); /* as if nothing had been */
    }
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    run(&o, ENTER);
    assert_int_equal(o.err, KIN_OK);
    run(&o, LEAVE);
    end(&o);
}

static void given_up_while_held(void **state)
{
    (void)state;
    other o;
    make(&o);
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__HELD);
    o.timeout_ms = 20;
    run(&o, ENTER);
    assert_int_equal(o.err, KIN_ETIMEDOUT);
    assert_true(o.who == kin__me);
    assert_true(latch.word == kin__me);
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__HELD, false);
    kin__latch_look(&of);
    run(&o, ENTER);
    assert_int_equal(o.err, KIN_OK);
    run(&o, LEAVE);
    end(&o);
}

/* Of those who wait, the one that has the word is woken by the owner, though another sleeps longer: that one waits for it. */
static void who_has_the_word_is_woken_first(void **state)
{
    (void)state;
    other older, taker, holder;
    make(&older);
    make(&taker);
    make(&holder);
    kin__store64(&latch.word, holder.me);
    begin(&older, ENTER);
    assert_true(crash_until_asleep(1));
    crash_spin_us(20000); /* it is seen a moment before its last look, after which nothing can be seen of it */
    latch.own = kin__me; /* all that comes before the wake that it is to get */
    kin__store64(&latch.word, kin__me | KIN__OWN);
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    begin(&taker, ENTER);
    assert_true(crash_until_asleep(2));
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    kin__latch_look(&of);
    finish(&taker);
    assert_int_equal(taker.err, KIN_OK);
    run(&taker, LEAVE);
    finish(&older);
    assert_int_equal(older.err, KIN_OK);
    run(&older, LEAVE);
    end(&older);
    end(&taker);
    end(&holder);
}

/* A thread ends: what it had as its own, what it was in, and what it held. */
static void inherited(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        other o;
        bool from_dead = false;
        uint64_t who = 0;
        (void)setup(NULL);
        make(&o);
        o.keep = true;
        run(&o, TRY);
        assert_int_equal(o.entry, KIN__HELD);
        if (how < 2)
            run(&o, LEAVE);
        if (how == 1) {
            run(&o, TRY);
            assert_int_equal(o.entry, KIN__WITHIN);
        }
        assert_int_equal(kin__latch_in_use(&latch), how != 0);
        end(&o);
        assert_false(kin__latch_in_use(&latch));
        check(kin__latch_enter(&of, kin__me, kin__deadline(KIN_NOWAIT), name, &from_dead, &who));
        assert_true(from_dead);
        assert_true(latch.word == kin__me);
        kin__latch_leave(&latch, of.ordered, kin__me, KIN__HELD, false);
        assert_true(latch.word == 0);
    }
}

/* Who took it away dies while it waits: the next waits in its place, and if it gives up, the one after that does. */
static void inherited_from_one_who_waited(void **state)
{
    (void)state;
    other o, dead;
    make(&dead);
    end(&dead);
    make(&o);
    make_mine();
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    kin__store64(&latch.word, dead.me);
    o.timeout_ms = 20;
    run(&o, ENTER);
    assert_int_equal(o.err, KIN_ETIMEDOUT);
    assert_true(o.who == kin__me);
    assert_true(latch.word == dead.me); /* it may have held it, and died in the middle: somebody must learn that */
    o.timeout_ms = test_ms(20000);
    begin(&o, ENTER);
    assert_true(crash_until_asleep(1));
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    kin__latch_look(&of);
    finish(&o);
    assert_int_equal(o.err, KIN_OK);
    assert_true(o.inherited);
    run(&o, LEAVE);
    end(&o);
}

static void claimed_from_nobody_or_the_dead_only(void **state)
{
    (void)state;
    other o;
    bool from_dead;
    make(&o);
    assert_true(kin__latch_claim(&of, kin__me, 0, name, &from_dead));
    assert_false(from_dead);
    assert_false(kin__latch_claim(&of, o.me, 0, name, &from_dead)); /* held */
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__HELD, true);
    assert_false(kin__latch_claim(&of, o.me, 0, name, &from_dead)); /* own  */
    assert_true(latch.word == (kin__me | KIN__OWN));
    kin__store64(&latch.word, o.me | KIN__OWN);
    latch.own = o.me;
    assert_false(kin__latch_claim(&of, kin__me, 0, name, &from_dead));
    end(&o);
    assert_true(kin__latch_claim(&of, kin__me, 0, name, &from_dead));
    assert_true(from_dead);
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__HELD, false);
}

/* Within one, a thread has to take another that is its own as everybody does: its place says where it is, in one word. */
static void within_one_at_a_time(void **state)
{
    (void)state;
    kin__latch second;
    uint64_t second_waits = 0;
    kin__latch_of of_second = {&second, &second_waits, BIT, of.ordered};
    bool from_dead;
    uint64_t who;
    memset(&second, 0, sizeof second);
    second.id = kin__unique();
    make_mine();
    second.own = kin__me;
    second.word = kin__me | KIN__OWN;
    assert_int_equal(kin__latch_try(&latch, of.ordered, kin__me), KIN__WITHIN);
    assert_int_equal(kin__latch_try(&second, of.ordered, kin__me), KIN__NOT_IN);
    check(kin__latch_enter(&of_second, kin__me, 0, name, &from_dead, &who));
    assert_false(from_dead);
    assert_true(second.word == kin__me);
    assert_true(*kin__held.inside == kin__latch_mark(&latch));
    kin__latch_leave(&second, of.ordered, kin__me, KIN__HELD, false);
    kin__latch_leave(&latch, of.ordered, kin__me, KIN__WITHIN, false);
    assert_true(*kin__held.inside == 0);
    assert_true(latch.word == (kin__me | KIN__OWN));
}

/* A bit is not cleared while somebody sleeps, nor if somebody said so since it was looked for. */
static void bits_that_say_that_somebody_sleeps(void **state)
{
    (void)state;
    uint64_t bits = 0;
    kin__waits_arm(&bits, 2);
    kin__waits_arm(&bits, BIT);
    assert_int_equal(bits & KIN__SLEEPERS, 2 | BIT);
    uint64_t before = bits;
    kin__waits_arm(&bits, BIT);
    assert_true(bits != before);
    kin__wake_by_bit(&bits, BIT, latch.id, 1);
    assert_int_equal(bits & KIN__SLEEPERS, 2);
    uint64_t all = of.ordered ? KIN__WAITS_BITS : KIN__SLEEPERS;
    bits = UINT64_MAX & ~(uint64_t)1; /* the count comes round, and takes no bit along */
    kin__waits_arm(&bits, BIT);
    assert_true(bits == (KIN__WAITS_BITS & ~(uint64_t)1));
    kin__wake_by_bit(&bits, BIT, latch.id, KIN__EVERYONE);
    assert_int_equal(bits & all, all & ~(1 | BIT));
}

/* Who looks puts a fence there from the first sleep on, until there have been none for a while; it says FENCED only where all do. */
static void fences_while_sleeps_are_frequent(void **state)
{
    (void)state;
    uint64_t bits = 0;
    uint32_t calm = 0;
    if (!of.ordered) {
        kin__waits_arm(&bits, BIT);
        assert_int_equal(bits & KIN__WAITS_BITS, BIT);
        assert_true(kin__waits_new() == 0);
        return;
    }
    assert_true(kin__waits_new() == (KIN__FENCE | KIN__FENCED));
    kin__waits_fence(&bits, &calm); /* does not ask for one */
    assert_true(bits == 0 && calm == 0);
    kin__waits_arm(&bits, BIT);
    assert_int_equal(bits & KIN__WAITS_BITS, BIT | KIN__FENCE | KIN__FENCED);
    for (uint32_t i = 0; i < 2 * KIN__CALM; i++)
        kin__waits_fence(&bits, &calm);
    assert_int_equal(bits & KIN__WAITS_BITS, BIT | KIN__FENCE | KIN__FENCED); /* somebody sleeps */
    assert_int_equal(calm, 0);
    kin__wake_by_bit(&bits, BIT, latch.id, 1);
    for (uint32_t i = 1; i < KIN__CALM; i++)
        kin__waits_fence(&bits, &calm);
    kin__waits_fence(&bits, NULL);
    assert_int_equal(bits & KIN__WAITS_BITS, KIN__FENCE | KIN__FENCED);
    kin__waits_arm(&bits, BIT);
    kin__waits_fence(&bits, &calm);
    assert_int_equal(calm, 0); /* from the beginning */
    kin__wake_by_bit(&bits, BIT, latch.id, 1);
    for (uint32_t i = 0; i < KIN__CALM; i++)
        kin__waits_fence(&bits, &calm);
    assert_int_equal(bits & KIN__WAITS_BITS, 0);
    assert_int_equal(calm, 0);
}

/* The system lacks memory for it at first. */
static void order_is_tried_again(void **state)
{
    (void)state;
    if (!of.ordered)
        test_skip("there is no order between processes here but by fences");
    kin__fault_arm(1);
    kin__order_all();
    assert_string_equal(kin__fault_hit(), "membarrier");
    kin__fault_arm(2); /* another time it is the second attempt that would fail: there was none */
    kin__order_all();
    assert_null(kin__fault_hit());
    kin__fault_arm(0);
}

#define TEST(test) cmocka_unit_test_setup(test, setup)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (kin__order_begin() != KIN_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(own_after_a_streak),
        TEST(no_streak_of_two),
        TEST(taken_away),
        TEST(who_takes_it_away_waits_for_the_owner),
        TEST(an_owner_that_backs_out_wakes),
        TEST(given_up),
        TEST(given_up_while_held),
        TEST(who_has_the_word_is_woken_first),
        TEST(inherited),
        TEST(inherited_from_one_who_waited),
        TEST(claimed_from_nobody_or_the_dead_only),
        TEST(within_one_at_a_time),
        TEST(bits_that_say_that_somebody_sleeps),
        TEST(fences_while_sleeps_are_frequent),
        TEST(order_is_tried_again),
    };
    return cmocka_run_group_tests_name("latch", tests, NULL, NULL);
}
