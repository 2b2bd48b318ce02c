/* kin/semaphore.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 5 };

struct shared {
    kin_semaphore semaphore, other;
    uint32_t inside, most, ready, go, order[ACTORS], ordered;
    uint64_t taken, given;
    sync_actor actors[ACTORS];
};

static kin_segment *segment;
static struct shared *shared;
static sync_crew crew;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (sync_abandon(&crew))
        kin_segment_close(segment);
    return 0;
}

static void make(int64_t units, int64_t bound, bool undo)
{
    check(kin_semaphore_init(&shared->semaphore, units, &(kin_semaphore_options){.name = "licences", .bound = bound, .undo = undo}));
}

/* ---- actors ---- */

enum { ACQUIRE, RELEASE, RELEASE_MANY, ACQUIRE_AND_NOTE };

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_semaphore *semaphore = order->object == 0 ? &s->semaphore : &s->other;
    kin_err err;
    switch (order->call) {
    case ACQUIRE:
        return kin_semaphore_acquire(semaphore, order->number);
    case RELEASE:
        return kin_semaphore_release(semaphore);
    case RELEASE_MANY:
        return kin_semaphore_release_many(semaphore, order->number);
    case ACQUIRE_AND_NOTE:
        err = kin_semaphore_acquire(semaphore, KIN_FOREVER);
        s->order[kin__add32(&s->ordered, 1) % ACTORS] = (uint32_t)order->number;
        return err;
    default:
        return KIN_ENOTSUP;
    }
}

static int act(kin_args *args)
{
    kin_segment *mine;
    int index;
    CHILD_CHECK(kin_unpack(args, &mine, &index) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    return sync_act(&s->actors[index], perform, s);
}

static sync_actor *actor(int index, bool thread)
{
    sync_actor *a = &shared->actors[index];
    if (thread)
        sync_enlist_thread(&crew, a, perform, shared);
    else
        sync_enlist_process(&crew, a, act, KIN_ARGS(segment, index));
    return a;
}

static int64_t units(void)
{
    return kin_semaphore_units(&shared->semaphore);
}

/* ---- numbers ---- */

static void taking_and_giving(void **state)
{
    (void)state;
    make(3, 0, false);
    for (int64_t left = 3; left > 0; left--) {
        assert_int_equal(units(), left);
        check(kin_semaphore_acquire(&shared->semaphore, left == 2 ? KIN_FOREVER : KIN_NOWAIT));
    }
    assert_int_equal(units(), 0);
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check_says("licences");
    int64_t before = kin_now(), cpu = sync_cpu_ms();
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&shared->semaphore, 300)); /* and no deadlock, whoever has the units */
    assert_true(kin_now() - before >= 299);
    assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
    check_says("licences");
    assert_int_equal(units(), 0);
    check(kin_semaphore_release(&shared->semaphore));
    assert_int_equal(units(), 1);
    check(kin_semaphore_release_many(&shared->semaphore, 4)); /* nobody took these: they belong to nobody */
    assert_int_equal(units(), 5);
}

static void never_above_its_bound(void **state)
{
    (void)state;
    make(0, 0, false);
    check(kin_semaphore_release_many(&shared->semaphore, KIN_SEMAPHORE_MAX));
    assert_int_equal(units(), KIN_SEMAPHORE_MAX);
    check_fails(KIN_ERANGE, kin_semaphore_release(&shared->semaphore));
    check_says("licences");
    check_fails(KIN_ERANGE, kin_semaphore_release_many(&shared->semaphore, INT64_MAX));
    assert_int_equal(units(), KIN_SEMAPHORE_MAX);
    make(3, 5, false);
    check_fails(KIN_ERANGE, kin_semaphore_release_many(&shared->semaphore, 3));
    check_fails(KIN_ERANGE, kin_semaphore_release_many(&shared->semaphore, (int64_t)1 << 32));
    check_fails(KIN_ERANGE, kin_semaphore_release_many(&shared->semaphore, ((int64_t)1 << 32) + 1));
    check_fails(KIN_ERANGE, kin_semaphore_release_many(&shared->semaphore, INT64_MAX));
    assert_int_equal(units(), 3);
    check(kin_semaphore_release_many(&shared->semaphore, 2));
    check_fails(KIN_ERANGE, kin_semaphore_release(&shared->semaphore));
    assert_int_equal(units(), 5);
    make(1, 1, false);
    check_fails(KIN_ERANGE, kin_semaphore_release(&shared->semaphore));
    check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check(kin_semaphore_release(&shared->semaphore));
    make(KIN_SEMAPHORE_MAX, KIN_SEMAPHORE_MAX, false);
    check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check(kin_semaphore_release(&shared->semaphore));
    check_fails(KIN_ERANGE, kin_semaphore_release(&shared->semaphore));
}

static void numbers_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        int64_t units, bound;
        bool undo;
    } wrong[] = {{-1, 0, false},
                 {INT64_MIN, 0, false},
                 {4, 3, false},
                 {0, -1, false},
                 {0, INT64_MIN, false},
                 {0, (int64_t)KIN_SEMAPHORE_MAX + 1, false},
                 {0, INT64_MAX, false},
                 {(int64_t)KIN_SEMAPHORE_MAX + 1, 0, false},
                 {((int64_t)1 << 32) + 1, 0, false},
                 {((int64_t)1 << 32) + 1, ((int64_t)1 << 32) + 1, false},
                 {0, 0, true},
                 {0, 1, true},
                 {2, 3, true},
                 {3, 2, true},
                 {-1, 0, true},
                 {-1, -1, true},
                 {KIN_SEMAPHORE_UNDO_MAX + 1, 0, true},
                 {KIN_SEMAPHORE_UNDO_MAX + 1, KIN_SEMAPHORE_UNDO_MAX + 1, true}};
    make(2, 7, false);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        kin_semaphore *made = NULL;
        kin_semaphore_options options = {.bound = wrong[i].bound, .undo = wrong[i].undo};
        check_fails(KIN_EINVAL, kin_semaphore_create(&made, wrong[i].units, &options));
        assert_null(made);
        check_fails(KIN_EINVAL, kin_semaphore_init(&shared->semaphore, wrong[i].units, &options));
        assert_int_equal(units(), 2);
    }
    static const int64_t wrong_units[] = {0, -1, -2, INT64_MIN};
    for (size_t i = 0; i < sizeof wrong_units / sizeof wrong_units[0]; i++)
        check_fails(KIN_EINVAL, kin_semaphore_release_many(&shared->semaphore, wrong_units[i]));
    check_says("licences");
    assert_int_equal(units(), 2);
    make(0, 0, false);
    make(KIN_SEMAPHORE_UNDO_MAX, 0, true);
    make(KIN_SEMAPHORE_UNDO_MAX, KIN_SEMAPHORE_UNDO_MAX, true);
    assert_int_equal(units(), KIN_SEMAPHORE_UNDO_MAX);
}

static void without_undo_anybody_may_give(void **state)
{
    (void)state;
    make(2, 2, false);
    check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *a = actor(0, thread != 0);
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_ERANGE);
        assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_NOWAIT), KIN_OK);
        sync_dismiss(&crew);
        assert_int_equal(units(), 1); /* what it had went with it */
    }
}

/* ---- waiting ---- */

/* How many actors have their unit. */
static int count_served(void)
{
    int count = 0;
    for (int i = 0; i < ACTORS; i++)
        count += sync_answered(&shared->actors[i]);
    return count;
}

static void as_many_go_on_as_units_are_given(bool thread)
{
    make(0, 0, false);
    for (int i = 0; i < ACTORS; i++)
        sync_ask_asleep(actor(i, thread), ACQUIRE_AND_NOTE, 0, i);
    check(kin_semaphore_release_many(&shared->semaphore, 3));
    assert_true(crash_until_at_least(&shared->ordered, 3));
    assert_int_equal(units(), 0);
    for (int i = 0; i < ACTORS; i++)
        (void)sync_until_asleep(&shared->actors[i]);
    assert_int_equal(count_served(), 3);
    for (uint32_t i = 4; i <= 5; i++) {
        check(kin_semaphore_release(&shared->semaphore));
        assert_true(crash_until_at_least(&shared->ordered, i));
    }
    for (int i = 0; i < ACTORS; i++)
        assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
    assert_int_equal(shared->ordered, 5);
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    /* More units than wait for them: the rest stays. */
    sync_ask_asleep(&shared->actors[2], ACQUIRE, 0, KIN_FOREVER);
    check(kin_semaphore_release_many(&shared->semaphore, 4));
    assert_int_equal(sync_answer(&shared->actors[2]), KIN_OK);
    assert_int_equal(units(), 3);
    sync_dismiss(&crew);
}

static void as_many_go_on_as_units_are_given_over_processes(void **state)
{
    (void)state;
    as_many_go_on_as_units_are_given(false);
}

static void as_many_go_on_as_units_are_given_over_threads(void **state)
{
    (void)state;
    as_many_go_on_as_units_are_given(true);
}

/* How many did not get a unit in their turn. */
static int out_of_turn(void)
{
    static const int turns[ACTORS] = {2, 0, 4, 3, 1};
    make(0, 0, false);
    for (int i = 0; i < ACTORS; i++)
        (void)actor(i, i % 2 != 0);
    for (int i = 0; i < ACTORS; i++)
        sync_ask_asleep(&shared->actors[turns[i]], ACQUIRE_AND_NOTE, 0, i);
    int otherwise = 0;
    for (int i = 0; i < ACTORS; i++) {
        check(kin_semaphore_release(&shared->semaphore));
        assert_true(crash_until_at_least(&shared->ordered, (uint32_t)i + 1));
        otherwise += (int)shared->order[i] != i;
    }
    for (int i = 0; i < ACTORS; i++)
        assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
    sync_dismiss(&crew);
    return otherwise;
}

/* Late news of a death wakes all at once, and who runs then may be faster: so once in a few times must do, which chance would hardly
 * bring about (1 in 120 for each). */
static void first_come_first_served(void **state)
{
    (void)state;
    int times = 0;
    while (out_of_turn() != 0)
        assert_true(++times < 6);
}

/* Who gives up takes no unit along, and no wake. */
static int take_with_short_time_outs(kin_args *args)
{
    kin_segment *mine;
    int64_t number;
    CHILD_CHECK(kin_unpack(args, &mine, &number) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t end = kin_now() + test_ms(20000); kin__load32(&s->go) == 0;) {
        kin_err err = kin_semaphore_acquire(&s->semaphore, number % 2 == 0 ? 1 : 3);
        CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
        if (err == KIN_OK)
            kin__add64(&s->taken, 1);
        CHILD_CHECK(kin_now() < end);
    }
    return 0;
}

static void who_gives_up_takes_nothing_along(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    kin_process *children[PROCESSES];
    int given = test_scale(600, 100);
    make(0, 0, false);
    for (int64_t i = 0; i < PROCESSES; i++)
        children[i] = test_start(take_with_short_time_outs, KIN_ARGS(segment, i));
    for (int i = 0; i < given; i++) {
        check(kin_semaphore_release(&shared->semaphore));
        if (i % 2 == 0)
            crash_spin_us((uint32_t)(500 + i % 1000)); /* about when they give up */
    }
    kin__store32(&shared->go, 1);
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_int_equal((int64_t)shared->taken + units(), given);
}

/* ---- under load ---- */

/* Each process gives only what it has, whatever it asks for. */
static int give_and_take(kin_args *args)
{
    kin_segment *mine;
    kin_semaphore *semaphore;
    int64_t times, bound, seed, have = 0;
    CHILD_CHECK(kin_unpack(args, &mine, &semaphore, &times, &bound, &seed) == KIN_OK);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times; i++) {
        uint32_t what = crash_random(&chance, 8);
        int64_t number = 1 + (int64_t)crash_random(&chance, 3);
        if (what < 4) {
            kin_err err = kin_semaphore_acquire(semaphore, what == 0 ? 1 : KIN_NOWAIT);
            CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
            have += err == KIN_OK;
        } else {
            kin_err err = kin_semaphore_release_many(semaphore, number); /* sometimes more than this process has */
            CHILD_CHECK(have >= number ? err == KIN_OK : err == KIN_EPERM || err == KIN_ERANGE);
            have -= err == KIN_OK ? number : 0;
        }
        int64_t seen = kin_semaphore_units(semaphore);
        CHILD_CHECK(seen >= 0 && seen + have <= bound);
    }
    kin_semaphore_close(semaphore);
    kin_segment_close(mine);
    return 0;
}

/* Those who give what they never took make ERANGE come from others' releases too. */
static int give_and_take_freely(kin_args *args)
{
    kin_segment *mine;
    kin_semaphore *semaphore;
    int64_t times, bound, seed;
    uint64_t taken = 0, given = 0;
    CHILD_CHECK(kin_unpack(args, &mine, &semaphore, &times, &bound, &seed) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times; i++) {
        int64_t number = 1 + (int64_t)crash_random(&chance, 4);
        kin_err err;
        if (crash_random(&chance, 2) == 0) {
            err = number > 2 ? kin_semaphore_release_many(semaphore, number) : kin_semaphore_release(semaphore);
            CHILD_CHECK(err == KIN_OK || err == KIN_ERANGE);
            given += err == KIN_OK ? (number > 2 ? (uint64_t)number : 1) : 0;
        } else {
            err = kin_semaphore_acquire(semaphore, number == 1 ? 1 : KIN_NOWAIT);
            CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
            taken += err == KIN_OK;
        }
        int64_t seen = kin_semaphore_units(semaphore);
        CHILD_CHECK(seen >= 0 && seen <= bound);
    }
    kin__add64(&s->taken, taken);
    kin__add64(&s->given, given);
    kin_semaphore_close(semaphore);
    return 0;
}

static void hammer(kin_target target, kin_semaphore *semaphore, int64_t bound)
{
    enum { PROCESSES = 4 };
    kin_process *children[PROCESSES];
    int64_t times = test_scale(20000, 2000), start = kin_semaphore_units(semaphore);
    for (int64_t i = 0; i < PROCESSES; i++)
        children[i] = test_start(target, KIN_ARGS(segment, semaphore, times, bound, i + 11));
    for (int turn = 0; turn < 2000; turn++) {
        int64_t seen = kin_semaphore_units(semaphore);
        assert_true(seen >= 0 && seen <= bound);
    }
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(test_finish(children[i]), 0);
    assert_int_equal(start + (int64_t)shared->given - (int64_t)shared->taken, kin_semaphore_units(semaphore));
    assert_true(shared->taken > 0 && shared->given > 0);
}

static void conserved_in_a_struct(void **state)
{
    (void)state;
    make(3, 3, false);
    hammer(give_and_take_freely, &shared->semaphore, 3);
}

static void conserved_in_one_of_its_own(void **state)
{
    (void)state;
    kin_semaphore *own;
    check(kin_semaphore_create(&own, 4, &(kin_semaphore_options){.bound = 6}));
    hammer(give_and_take_freely, own, 6);
    kin_semaphore_close(own);
}

/* A process may have at most as many inside as there are units. */
static int be_inside(kin_args *args)
{
    kin_segment *mine;
    int64_t times, most;
    CHILD_CHECK(kin_unpack(args, &mine, &times, &most) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_semaphore_acquire(&s->semaphore, KIN_FOREVER) == KIN_OK);
        uint32_t inside = kin__add32(&s->inside, 1) + 1;
        if (inside > kin__load32(&s->most))
            kin__store32(&s->most, inside);
        CHILD_CHECK(inside <= most);
        if (i % 16 == 0)
            crash_spin_us(20);
        kin__add32(&s->inside, (uint32_t)-1);
        CHILD_CHECK(kin_semaphore_release(&s->semaphore) == KIN_OK);
    }
    return 0;
}

static void as_many_inside_as_units(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    kin_process *children[PROCESSES];
    int64_t times = test_scale(5000, 500), most = 2;
    for (int undo = 0; undo < 2; undo++) {
        make(most, most, undo != 0);
        for (int i = 0; i < PROCESSES; i++)
            children[i] = test_start(be_inside, KIN_ARGS(segment, times, most));
        for (int i = 0; i < PROCESSES; i++)
            assert_int_equal(test_finish(children[i]), 0);
        assert_int_equal(units(), most);
        assert_int_equal(shared->inside, 0);
    }
}

static int return_the_ball(kin_args *args)
{
    kin_segment *mine;
    int64_t times;
    CHILD_CHECK(kin_unpack(args, &mine, &times) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 0; i < times; i++) {
        CHILD_CHECK(kin_semaphore_acquire(&s->semaphore, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(kin_semaphore_release(&s->other) == KIN_OK);
    }
    return 0;
}

static void no_wake_is_lost(void **state)
{
    (void)state;
    int64_t times = test_scale(5000, 300);
    make(0, 1, false);
    check(kin_semaphore_init(&shared->other, 0, &(kin_semaphore_options){.bound = 1}));
    kin_process *other = test_start(return_the_ball, KIN_ARGS(segment, times));
    for (int64_t i = 0; i < times; i++) {
        check(kin_semaphore_release(&shared->semaphore));
        check(kin_semaphore_acquire(&shared->other, test_ms(20000)));
    }
    assert_int_equal(test_finish(other), 0);
    assert_int_equal(units(), 0);
}

/* ---- undo ---- */

static void only_who_has_units_gives_them_back(void **state)
{
    (void)state;
    make(4, 0, true);
    check_fails(KIN_EPERM, kin_semaphore_release(&shared->semaphore)); /* nobody has any */
    check_says("licences");
    assert_int_equal(units(), 4);
    check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    sync_actor *a = actor(0, false), *b = actor(1, true);
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_EPERM);
    assert_non_null(strstr(a->said, "licences"));
    assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_NOWAIT), KIN_OK);
    check_fails(KIN_EPERM, kin_semaphore_release_many(&shared->semaphore, 3)); /* three are out, but two are ours */
    check_fails(KIN_EINVAL, kin_semaphore_release_many(&shared->semaphore, 0));
    kin_err err = kin_semaphore_release_many(&shared->semaphore, INT64_MAX);
    assert_true(err == KIN_EPERM || err == KIN_ERANGE); /* it is both */
    assert_int_equal(sync_do(a, RELEASE_MANY, 0, 2), KIN_EPERM);
    assert_int_equal(units(), 1);
    assert_int_equal(sync_do(b, RELEASE, 0, 0), KIN_OK); /* another thread of ours */
    assert_int_equal(units(), 2);
    check_fails(KIN_EPERM, kin_semaphore_release_many(&shared->semaphore, 2));
    check(kin_semaphore_release(&shared->semaphore));
    check_fails(KIN_EPERM, kin_semaphore_release(&shared->semaphore));
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(units(), 4);
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_EPERM);
    for (int i = 0; i < 4; i++)
        assert_int_equal(sync_do(b, ACQUIRE, 0, KIN_NOWAIT), KIN_OK);
    sync_dismiss(&crew); /* a thread that ends takes nothing along: its process has them */
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check(kin_semaphore_release_many(&shared->semaphore, 4));
    assert_int_equal(units(), 4);
}

static bool has_units(void *arg)
{
    /* Who never sleeps need not notice that anybody has died: asking for one is what makes it notice. */
    if (units() < *(int64_t *)arg && kin_semaphore_acquire(&shared->semaphore, 1) == KIN_OK)
        (void)kin_semaphore_release(&shared->semaphore);
    return units() == *(int64_t *)arg;
}

static void the_units_of_a_process_that_ends_come_back(void **state)
{
    (void)state;
    for (int with_undo = 0; with_undo < 2; with_undo++) {
        int64_t all = 5;
        make(all, 0, with_undo != 0);
        sync_actor *a = actor(0, false);
        for (int i = 0; i < 4; i++)
            assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
        check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
        assert_int_equal(units(), 1);
        sync_dismiss(&crew);
        if (with_undo != 0) {
            int64_t expected = 4; /* without ours */
            assert_true(crash_until(has_units, &expected));
            check(kin_semaphore_release(&shared->semaphore));
            assert_int_equal(units(), 5);
            check_fails(KIN_EPERM, kin_semaphore_release(&shared->semaphore));
        } else {
            assert_int_equal(units(), 1);
        }
    }
}

/* Who waits for one gets it. */
static void who_waits_gets_the_units_of_one_that_ends(void **state)
{
    (void)state;
    make(2, 0, true);
    sync_actor *a = actor(0, false), *b = actor(1, false), *c = actor(2, true);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sync_do(a, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(b, ACQUIRE, 0, KIN_FOREVER);
    sync_ask_asleep(c, ACQUIRE, 0, KIN_FOREVER);
    sync_dismiss_one(&crew, 0);
    assert_int_equal(sync_answer(b), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    assert_int_equal(units(), 0);
    assert_int_equal(sync_do(b, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(c, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(units(), 2);
    sync_dismiss(&crew);
}

/* Processes that come, take and end, again and again, one after the other and several at a time. */
static int take_and_end(kin_args *args)
{
    kin_segment *mine;
    int64_t number;
    CHILD_CHECK(kin_unpack(args, &mine, &number) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    for (int64_t i = 0; i < number; i++)
        CHILD_CHECK(kin_semaphore_acquire(&s->semaphore, test_ms(20000)) == KIN_OK);
    return 0;
}

static void never_applied_twice_or_half(void **state)
{
    (void)state;
    int64_t all = KIN_SEMAPHORE_UNDO_MAX;
    make(all, 0, true);
    kin_process *children[6];
    int times = test_by_spawn() ? test_scale(60, 12) : 200;
    for (int i = 0; i < times; i++) {
        int at = i % 6;
        if (i >= 6)
            assert_int_equal(test_finish(children[at]), 0);
        children[at] = test_start(take_and_end, KIN_ARGS(segment, i % 9)); /* at most 6 × 8 at once: nobody has to wait for a part */
        assert_true(units() <= all);
    }
    for (int at = 0; at < 6; at++)
        assert_int_equal(test_finish(children[at]), 0);
    assert_true(crash_until(has_units, &all));
    for (int64_t i = 0; i < all; i++)
        check(kin_semaphore_acquire(&shared->semaphore, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&shared->semaphore, 20));
    check(kin_semaphore_release_many(&shared->semaphore, all));
    assert_int_equal(units(), all);
}

static void undo_under_load(void **state)
{
    (void)state;
    kin_process *children[4];
    int64_t times = test_scale(10000, 1000), bound = 8;
    make(bound, 0, true);
    for (int64_t i = 0; i < 4; i++)
        children[i] = test_start(give_and_take, KIN_ARGS(segment, &shared->semaphore, times, bound, i + 5));
    int bad = 0;
    for (int i = 0; i < 4; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
    assert_true(crash_until(has_units, &bound)); /* what they had when they ended, too */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(taking_and_giving),
        TEST(never_above_its_bound),
        TEST(numbers_that_are_refused),
        TEST(without_undo_anybody_may_give),
        TEST(as_many_go_on_as_units_are_given_over_processes),
        TEST(as_many_go_on_as_units_are_given_over_threads),
        TEST(first_come_first_served),
        TEST(who_gives_up_takes_nothing_along),
        TEST(conserved_in_a_struct),
        TEST(conserved_in_one_of_its_own),
        TEST(as_many_inside_as_units),
        TEST(no_wake_is_lost),
        TEST(only_who_has_units_gives_them_back),
        TEST(the_units_of_a_process_that_ends_come_back),
        TEST(who_waits_gets_the_units_of_one_that_ends),
        TEST(never_applied_twice_or_half),
        TEST(undo_under_load),
    };
    return cmocka_run_group_tests_name("semaphore", tests, NULL, NULL);
}
