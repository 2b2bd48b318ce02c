/* park.h among the threads of one process: what is protected by it is plain data, so that ThreadSanitizer sees a wake that orders nothing.
 * @ctest LABELS threads */
#include "crash_support.h"

#include "park.h"

#include <uv.h>

enum { THREADS = 4 };

static bool always(void *object)
{
    (void)object;
    return true;
}

static bool never(void *object)
{
    (void)object;
    return false;
}

static void deadlines(void **state)
{
    (void)state;
    assert_true(kin__deadline(KIN_FOREVER) == KIN__NEVER);
    assert_true(kin__deadline(INT64_MAX) == KIN__NEVER);
    uint64_t before = kin__now_ns(), now = kin__deadline(0), later = kin__deadline(1000), after = kin__now_ns();
    assert_true(now >= before && now <= after);
    assert_true(later >= before + 1000000000u && later <= after + 1000000000u);
    assert_true(kin__deadline((int64_t)1 << 40) < KIN__NEVER);
}

static void time_outs(void **state)
{
    (void)state;
    assert_true(kin__thread_me() != 0);
    uint64_t key = kin__unique(), before = kin__now_ns();
    assert_int_equal(kin__park(key, always, NULL, kin__deadline(20)), KIN_ETIMEDOUT);
    assert_true(kin__now_ns() - before >= 20000000u);
    assert_int_equal(kin__park(key, always, NULL, kin__deadline(0)), KIN_ETIMEDOUT);
    assert_int_equal(kin__park(key, never, NULL, KIN__NEVER), KIN_OK);
    assert_false(kin__anybody_sleeps(key));
    assert_int_equal(kin__wake_one(key), 0);
    assert_int_equal(kin__wake_all(key), 0);
}

/* A condition: `value` is plain, `turn` says that it may be read. */
struct condition {
    uint64_t key;
    uint32_t turn, asleep, seen;
    uint32_t until;
    int value;
};

static bool not_yet(void *object)
{
    struct condition *c = object;
    return kin__load32(&c->turn) < c->until;
}

static void wait_for_turn(void *arg)
{
    struct condition *c = arg;
    if (kin__thread_me() == 0)
        return;
    kin__add32(&c->asleep, 1);
    while (not_yet(c)) {
        if (kin__park(c->key, not_yet, c, kin__deadline(test_ms(20000))) != KIN_OK)
            return;
    }
    kin__add32(&c->seen, c->value == 42);
}

static bool all_sleep(void *arg)
{
    struct condition *c = arg;
    int count = 0;
    for (uint32_t i = 0; i < KIN__THREADS; i++)
        count += kin__load64(&kin__my.session->threads[i].key) == c->key;
    return count == THREADS;
}

static void start(uv_thread_t *threads, uv_thread_cb body, void *arg)
{
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_create(&threads[i], body, arg), 0);
}

static void end(uv_thread_t *threads)
{
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
}

static void all_are_woken(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(200, 50); round < rounds; round++) {
        struct condition c = {.key = kin__unique(), .until = 1};
        uv_thread_t threads[THREADS];
        start(threads, wait_for_turn, &c);
        if (round % 4 == 0)
            assert_true(crash_until(all_sleep, &c)); /* else they may be anywhere on their way */
        c.value = 42;
        kin__store32(&c.turn, 1);
        (void)kin__wake_all(c.key);
        end(threads);
        assert_int_equal(c.seen, THREADS);
        assert_false(kin__anybody_sleeps(c.key));
    }
}

/* A baton: each wake lets one through, and who is let through passes the next wake on. */
struct baton {
    uint64_t key;
    uint32_t free;
    int held; /* plain */
    int times;
    uint32_t broken;
};

static bool taken(void *object)
{
    return kin__load32(&((struct baton *)object)->free) == 0;
}

static void pass_the_baton(void *arg)
{
    struct baton *b = arg;
    if (kin__thread_me() == 0)
        return;
    for (int i = 0; i < b->times; i++) {
        for (;;) {
            uint32_t one = 1;
            if (kin__cas32(&b->free, &one, 0))
                break;
            if (kin__park(b->key, taken, b, kin__deadline(test_ms(20000))) != KIN_OK) {
                kin__add32(&b->broken, 1);
                return;
            }
        }
        if (b->held++ != 0)
            kin__add32(&b->broken, 1);
        b->held--;
        kin__store32(&b->free, 1);
        (void)kin__wake_one(b->key);
    }
}

static void one_is_woken_at_a_time(void **state)
{
    (void)state;
    struct baton b = {.key = kin__unique(), .free = 1, .times = test_scale(20000, 2000)};
    uv_thread_t threads[THREADS];
    start(threads, pass_the_baton, &b);
    end(threads);
    assert_int_equal(b.broken, 0);
    assert_int_equal(b.held, 0);
}

static void sleep_once(void *arg)
{
    struct condition *c = arg;
    if (kin__thread_me() != 0)
        (void)kin__park(c->key, not_yet, c, kin__deadline(test_ms(20000)));
    kin__add32(&c->seen, 1);
}

static void a_wake_wakes_one(void **state)
{
    (void)state;
    struct condition c = {.key = kin__unique(), .until = 1};
    uv_thread_t threads[THREADS];
    start(threads, sleep_once, &c);
    assert_true(crash_until(all_sleep, &c));
    assert_true(kin__anybody_sleeps(c.key));
    assert_false(kin__anybody_sleeps(c.key + 1));
    assert_int_equal(kin__wake_one(c.key + 1), 0); /* nobody sleeps on that */
    assert_int_equal(kin__load32(&c.seen), 0);
    for (uint32_t i = 1; i <= THREADS; i++) {
        assert_int_equal(kin__wake_one(c.key), 1);
        assert_true(crash_until_at_least(&c.seen, i));
    }
    assert_int_equal(kin__wake_one(c.key), 0);
    end(threads);
    c = (struct condition){.key = kin__unique(), .until = 1};
    start(threads, sleep_once, &c);
    assert_true(crash_until(all_sleep, &c));
    kin__wake_everybody(); /* for no reason: each looks again, here once */
    end(threads);
    assert_int_equal(c.seen, THREADS);
}

/* Threads come and go: their places are used again, with another generation, and nobody mistakes one for another. */
static void note_me(void *arg)
{
    *(uint64_t *)arg = kin__thread_me();
}

static void places_of_threads(void **state)
{
    (void)state;
    uint64_t before = 0;
    uint32_t used = kin__my.session->threads_used;
    for (int i = 0; i < 200; i++) {
        uv_thread_t thread;
        uint64_t me = 0;
        assert_int_equal(uv_thread_create(&thread, note_me, &me), 0);
        assert_int_equal(uv_thread_join(&thread), 0);
        assert_true(me != 0 && me != before);
        assert_false(kin__owner_alive(me));
        before = me;
    }
    assert_true(kin__my.session->threads_used <= used + 1);
    assert_true(kin__owner_alive(kin__thread_me()));
    assert_false(kin__owner_alive(0));
    assert_false(kin__owner_alive(kin__thread_me() + ((uint64_t)1 << 32))); /* a later generation */
    assert_false(kin__owner_alive(UINT64_MAX));
    assert_false(kin__owner_alive((uint64_t)(KIN__THREADS + 1) << 1)); /* no such place */
}

static void sleep_until_woken(void *arg)
{
    struct condition *c = arg;
    if (kin__thread_me() != 0 && kin__park(c->key, not_yet, c, kin__deadline(test_ms(20000))) == KIN_OK)
        kin__add32(&c->seen, 1);
}

static bool one_sleeps(void *arg)
{
    return kin__anybody_sleeps(((struct condition *)arg)->key);
}

/* Makes the first free place look as it does when a thread was killed in it asleep, and another has just claimed it and cleared nothing yet. */
static kin__thread *leave_a_place(uint64_t key, bool left)
{
    kin__session *s = kin__my.session;
    uint32_t i = 0;
    while ((uint32_t)kin__load64(&s->threads[i].claim) != 0)
        i++;
    kin__thread *t = &s->threads[i];
    uint64_t generation = kin__load64(&t->claim) >> 32;
    kin__store64(&t->sleeper, (generation - 1) << 32 | (uint64_t)(i + 1) << 1);
    kin__store64(&t->key, key);
    kin__store64(&t->since, 0);
    kin__store32(&t->wake, (kin__load32(&t->wake) | 1) + 1);
    kin__or64(&s->sleeping[i / 64], (uint64_t)1 << (i % 64));
    if (!left)
        kin__store64(&t->claim, generation << 32 | (kin__pid_generation(kin__my.id) & 0xffff) << 16 | (kin__my.place + 1));
    return t;
}

/* It looks like the one that has slept longest, but a wake must not be spent on it. */
static void the_place_of_one_that_died_asleep(void **state)
{
    (void)state;
    kin__session *s = kin__my.session;
    for (int left = 0; left < 2; left++) {
        struct condition c = {.key = kin__unique(), .until = 1};
        uv_thread_t sleeper;
        assert_int_equal(uv_thread_create(&sleeper, sleep_until_woken, &c), 0);
        assert_true(crash_until(one_sleeps, &c));
        kin__thread *t = leave_a_place(c.key, left != 0);
        assert_int_equal(kin__wake_one(c.key), 1);
        assert_int_equal(uv_thread_join(&sleeper), 0);
        assert_int_equal(c.seen, 1);
        assert_false(kin__anybody_sleeps(c.key));
        uint32_t place = (uint32_t)(t - s->threads);
        kin__and64(&s->sleeping[place / 64], ~((uint64_t)1 << (place % 64)));
        kin__store64(&t->claim, ((kin__load64(&t->claim) >> 32) + 1) << 32);
    }
}

static void spinning_ends(void **state)
{
    (void)state;
    kin__spin spin = {0};
    uint32_t turns = 0;
    while (kin__spin_more(&spin) && turns < 100000000)
        turns++;
    assert_true(turns < 100000000);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlines),     cmocka_unit_test(time_outs),        cmocka_unit_test(all_are_woken),  cmocka_unit_test(one_is_woken_at_a_time),
        cmocka_unit_test(a_wake_wakes_one), cmocka_unit_test(places_of_threads), cmocka_unit_test(the_place_of_one_that_died_asleep),
        cmocka_unit_test(spinning_ends),
    };
    return cmocka_run_group_tests_name("park", tests, NULL, NULL);
}
