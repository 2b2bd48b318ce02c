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
    assert_true(now <= before); /* it has passed */
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

/* ---- sleeping on many keys ---- */

static kin__keys keys_of(const uint64_t *keys, size_t count)
{
    kin__keys set = {{0}};
    for (size_t i = 0; i < count; i++)
        kin__keys_add(&set, keys[i]);
    return set;
}

static uint64_t bit_of(uint64_t key)
{
    kin__keys one = keys_of(&key, 1);
    for (uint64_t i = 0; i < 4; i++) {
        for (uint64_t bit = 0; bit < 64; bit++) {
            if ((one.bits[i] >> bit & 1) != 0)
                return i * 64 + bit;
        }
    }
    fail_msg("no bit for a key");
    return 0;
}

/* A key with, or without, the bit of another. */
static uint64_t key_like(uint64_t key, bool same)
{
    uint64_t other;
    do {
        other = kin__unique();
    } while (other == key || (bit_of(other) == bit_of(key)) != same);
    return other;
}

static void keys_are_spread(void **state)
{
    (void)state;
    uint32_t counts[256] = {0};
    for (int i = 0; i < 25600; i++)
        counts[bit_of(kin__unique())]++;
    uint32_t processes[256] = {0};
    for (uint32_t place = 0; place < 256; place++)
        processes[bit_of(kin__process_key(kin__pid_of(place, 3)))]++;
    for (int i = 0; i < 256; i++) {
        assert_in_range(counts[i], 40, 200);
        assert_true(processes[i] <= 8);
    }
}

/* Sleeps on several things at once; each is a counter that it sees grow. */
struct many {
    uint64_t keys[3];
    uint32_t values[3], seen[3];
    uint32_t looks, wakes, asleep, until;
    uint64_t owner;
};

static bool none_grown(void *object)
{
    struct many *m = object;
    kin__add32(&m->looks, 1);
    for (int i = 0; i < 3; i++) {
        if (kin__load32(&m->values[i]) != m->seen[i])
            return false;
    }
    return true;
}

static void watch_many(void *arg)
{
    struct many *m = arg;
    m->owner = kin__thread_me();
    kin__keys set = keys_of(m->keys, 3);
    kin__add32(&m->asleep, 1);
    for (uint32_t seen = 0; seen < m->until;) {
        if (kin__park_on(&(kin__wait){.key = KIN__KEY_MANY, .many = &set, .must_sleep = none_grown, .object = m,
                                      .deadline = kin__deadline(test_ms(20000))}) != KIN_OK)
            return;
        kin__add32(&m->wakes, 1);
        for (int i = 0; i < 3; i++) {
            uint32_t value = kin__load32(&m->values[i]);
            seen += value - m->seen[i];
            m->seen[i] = value;
        }
    }
}

static bool sleeps_in_place(uint64_t owner)
{
    uint32_t place = kin__owner_place(owner);
    const kin__session *s = kin__my.session;
    return owner != 0 && (kin__load64(&s->sleeping[place / 64]) >> (place % 64) & 1) != 0 && kin__load64(&s->threads[place].key) != 0 &&
           (kin__load32(&s->threads[place].wake) & 1) == 0;
}

static uint32_t looks_wanted;
static bool many_sleeps(void *arg)
{
    struct many *m = arg;
    return kin__load32(&m->asleep) != 0 && kin__load32(&m->looks) >= looks_wanted && sleeps_in_place(m->owner);
}

static void asleep_again(struct many *m, uint32_t looks)
{
    looks_wanted = looks;
    assert_true(crash_until(many_sleeps, m));
}

static void any_of_many_keys_wakes(void **state)
{
    (void)state;
    struct many m = {.keys = {kin__unique(), kin__unique(), kin__unique()}, .until = 9};
    uint64_t other = key_like(m.keys[0], false);
    while (bit_of(other) == bit_of(m.keys[1]) || bit_of(other) == bit_of(m.keys[2]))
        other = key_like(m.keys[0], false);
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, watch_many, &m), 0);
    for (uint32_t i = 0; i < 9; i++) {
        asleep_again(&m, i + 1);
        assert_true(kin__anybody_sleeps(m.keys[i % 3]));
        assert_false(kin__anybody_sleeps_on(m.keys[i % 3]));
        assert_false(kin__anybody_sleeps(other));
        assert_int_equal(kin__wake_one(other) + kin__wake_all(other) + kin__wake_those_on(m.keys[0], KIN__EVERYONE) +
                             kin__wake_those_on(m.keys[0], 1),
                         0);
        assert_true(sleeps_in_place(m.owner)); /* nobody of those meant it */
        kin__add32(&m.values[i % 3], 1);
        uint32_t counted = i < 3 ? kin__wake_one(m.keys[i % 3]) : i < 6 ? kin__wake_all(m.keys[i % 3]) : kin__wake_some(m.keys[i % 3], 5);
        assert_int_equal(counted, 0); /* it is woken, and not counted */
    }
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(m.seen[0] + m.seen[1] + m.seen[2], 9);
    assert_int_equal(m.wakes, 9);
}

/* One whose bit is the same wakes it for nothing: it looks, and sleeps on. */
static void a_key_that_looks_alike(void **state)
{
    (void)state;
    struct many m = {.keys = {kin__unique(), kin__unique(), kin__unique()}, .until = 1};
    uint64_t alike = key_like(m.keys[1], true);
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, watch_many, &m), 0);
    for (uint32_t i = 0; i < 5; i++) {
        asleep_again(&m, i + 1);
        assert_int_equal(kin__wake_one(alike), 0);
    }
    asleep_again(&m, 6);
    kin__add32(&m.values[1], 1);
    assert_int_equal(kin__wake_one(m.keys[1]), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(m.seen[1], 1);
}

/* Those who sleep on the key alone get every wake, however many watch it beside other things. */
static void wakes_are_for_single_sleepers(void **state)
{
    (void)state;
    struct condition c = {.key = kin__unique(), .until = 1};
    struct many watchers[2];
    uv_thread_t threads[THREADS], watching[2];
    for (int i = 0; i < 2; i++) {
        watchers[i] = (struct many){.keys = {c.key, kin__unique(), kin__unique()}, .until = 1};
        assert_int_equal(uv_thread_create(&watching[i], watch_many, &watchers[i]), 0);
        asleep_again(&watchers[i], 1);
    }
    start(threads, sleep_once, &c);
    assert_true(crash_until(all_sleep, &c));
    for (uint32_t i = 1; i <= THREADS; i++) {
        assert_int_equal(kin__wake_some(c.key, 1), 1);
        assert_true(crash_until_at_least(&c.seen, i));
        for (int w = 0; w < 2; w++)
            asleep_again(&watchers[w], i + 1); /* each wake woke both */
    }
    assert_int_equal(kin__wake_some(c.key, 7), 0);
    for (int w = 0; w < 2; w++) {
        asleep_again(&watchers[w], THREADS + 2); /* also the one that found nobody else */
        kin__add32(&watchers[w].values[0], 1);
    }
    (void)kin__wake_all(c.key);
    end(threads);
    for (int w = 0; w < 2; w++)
        assert_int_equal(uv_thread_join(&watching[w]), 0);
}

/* A time-out that comes with the wake: there is nothing to pass on. */
static void many_time_out(void **state)
{
    (void)state;
    uint64_t keys[2] = {kin__unique(), kin__unique()};
    kin__keys set = keys_of(keys, 2);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(kin__park_on(&(kin__wait){.key = KIN__KEY_MANY, .many = &set, .must_sleep = always,
                                                   .deadline = kin__deadline(i % 3)}), KIN_ETIMEDOUT);
        assert_false(kin__anybody_sleeps(keys[0]));
    }
    assert_false(kin__anybody_sleeps_on(KIN__KEY_MANY));
}

/* Three threads change the counters as fast as they can and wake once each; two others watch all three, and see every change, or the last of several. */
struct race {
    uint64_t keys[3];
    uint32_t values[3], to, missed, chance;
};

static bool race_done(const struct race *r)
{
    for (int i = 0; i < 3; i++) {
        if (kin__load32(&r->values[i]) < r->to)
            return false;
    }
    return true;
}

typedef struct racer {
    struct race *race;
    int number;
    uint32_t seen[3];
} racer;

static bool nothing_new(void *object)
{
    racer *r = object;
    for (int i = 0; i < 3; i++) {
        if (kin__load32(&r->race->values[i]) != r->seen[i])
            return false;
    }
    return true;
}

static void race_along(void *arg)
{
    racer *r = arg;
    struct race *race = r->race;
    if (kin__thread_me() == 0)
        return;
    if (r->number < 3) {
        for (uint32_t i = 0; i < race->to; i++) {
            if (i % 7 == 0)
                crash_spin_us(i % 13);
            kin__add32(&race->values[r->number], 1);
            (void)(i % 2 == 0 ? kin__wake_one(race->keys[r->number]) : kin__wake_all(race->keys[r->number]));
        }
        return;
    }
    kin__keys set = keys_of(race->keys, 3);
    for (bool all = false; !all;) {
        all = race_done(race);
        for (int i = 0; i < 3; i++)
            r->seen[i] = kin__load32(&race->values[i]);
        if (!all && kin__park_on(&(kin__wait){.key = KIN__KEY_MANY, .many = &set, .must_sleep = nothing_new, .object = r,
                                              .deadline = kin__deadline(test_ms(20000))}) != KIN_OK) {
            kin__add32(&race->missed, 1);
            return;
        }
    }
}

static void no_wake_is_lost_by_many(void **state)
{
    (void)state;
    struct race race = {.keys = {kin__unique(), kin__unique(), kin__unique()}, .to = (uint32_t)test_scale(20000, 2000)};
    racer racers[5];
    uv_thread_t threads[5];
    for (int i = 0; i < 5; i++) {
        racers[i] = (racer){.race = &race, .number = i};
        assert_int_equal(uv_thread_create(&threads[i], race_along, &racers[i]), 0);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    assert_int_equal(race.missed, 0);
}

/* The baton again, with two who watch it and never take it: none of its wakes gets lost on them. */
static uint32_t batons_ended;
static bool baton_goes_on(void *object)
{
    (void)object;
    return kin__load32(&batons_ended) == 0;
}

static void watch_the_baton(void *arg)
{
    struct baton *b = arg;
    uint64_t keys[2] = {b->key, b->key + 1};
    kin__keys set = keys_of(keys, 2);
    if (kin__thread_me() == 0)
        return;
    while (kin__load32(&batons_ended) == 0) {
        if (kin__park_on(&(kin__wait){.key = KIN__KEY_MANY, .many = &set, .must_sleep = baton_goes_on, .object = b,
                                      .deadline = kin__deadline(test_ms(20000))}) != KIN_OK)
            return;
    }
}

static void a_watched_baton(void **state)
{
    (void)state;
    struct baton b = {.key = kin__unique(), .free = 1, .times = test_scale(5000, 500)};
    uv_thread_t threads[THREADS], watching[2];
    batons_ended = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&watching[i], watch_the_baton, &b), 0);
    start(threads, pass_the_baton, &b);
    end(threads);
    kin__store32(&batons_ended, 1);
    (void)kin__wake_all(b.key);
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_join(&watching[i]), 0);
    assert_int_equal(b.broken, 0);
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
        cmocka_unit_test(keys_are_spread), cmocka_unit_test(any_of_many_keys_wakes), cmocka_unit_test(a_key_that_looks_alike),
        cmocka_unit_test(wakes_are_for_single_sleepers), cmocka_unit_test(many_time_out), cmocka_unit_test(no_wake_is_lost_by_many),
        cmocka_unit_test(a_watched_baton), cmocka_unit_test(spinning_ends),
    };
    return cmocka_run_group_tests_name("park", tests, NULL, NULL);
}
