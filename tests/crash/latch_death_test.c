/* The latch between processes that are killed at any time: in the middle, as its owner, as one who takes it away or waits, and as the
 * one that was just woken. Whoever comes in is alone, is told if the one before it died within, and somebody always comes in. */
#include "crash_support.h"

#include "latch.h"

#include <uv.h>

#define WORKERS 4

struct shared {
    kin__latch latch;
    uint64_t waits;
    uint32_t end, wrong, inherited, given_up; /* atomic, as is what follows */
    uint32_t uses[WORKERS];                   /* of each worker, whoever that is */
    uint64_t user, first, second;             /* of who is within; the latter two are equal when nobody is */
};

static const char name[40] = "latch";

static bool enter(struct shared *s, const kin__latch_of *of, int64_t timeout_ms, kin__entry *entry, bool *inherited)
{
    uint64_t who;
    *inherited = false;
    *entry = kin__latch_try(&s->latch, of->ordered, kin__me);
    if (*entry != KIN__NOT_IN)
        return true;
    *entry = KIN__HELD;
    return kin__latch_enter(of, kin__me, kin__deadline(timeout_ms), name, inherited, &who) == KIN_OK;
}

static void use(struct shared *s, bool inherited, uint32_t *random)
{
    if (s->user != 0 && !inherited)
        kin__add32(&s->wrong, 1);
    if (inherited) {
        kin__add32(&s->inherited, 1);
        s->second = s->first;
    }
    if (s->first != s->second)
        kin__add32(&s->wrong, 1);
    s->user = kin__me;
    s->first++;
    uint32_t chance = crash_random(random, 32);
    crash_spin_us(chance == 0 ? 100 : chance < 4 ? 2 : 0);
    s->second++;
    if (s->user != kin__me || s->first != s->second)
        kin__add32(&s->wrong, 1);
    s->user = 0;
}

static int work(kin_args *args)
{
    kin_segment *segment;
    int64_t index, seed;
    CHILD_CHECK(kin_unpack(args, &segment, &index, &seed) == KIN_OK && index >= 0 && index < WORKERS);
    struct shared *s = kin_segment_data(segment);
    CHILD_CHECK(kin__order_begin() == KIN_OK && kin__thread_me() != 0);
    kin__latch_of of = {&s->latch, &s->waits, 1, kin__my.session->ordered != 0};
    uint32_t random = (uint32_t)seed | 1;
    while (kin__load32(&s->end) == 0) {
        kin__entry entry;
        bool inherited;
        if (!enter(s, &of, crash_random(&random, 4) == 0 ? crash_random(&random, 3) : KIN_FOREVER, &entry, &inherited)) {
            kin__add32(&s->given_up, 1);
            continue;
        }
        use(s, inherited, &random);
        kin__latch_leave(&s->latch, of.ordered, kin__me, entry, crash_random(&random, 8) == 0);
        kin__latch_look(&of);
        kin__add32(&s->uses[index], 1);
    }
    return 0;
}

static kin_process *start(kin_segment *segment, int index, uint32_t *random)
{
    return test_start(work, KIN_ARGS(segment, index, (int64_t)crash_random(random, 1u << 30)));
}

static void users_are_killed(void **state)
{
    (void)state;
    kin_segment *segment;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    struct shared *s = kin_segment_data(segment);
    s->latch.id = kin__unique();
    uint32_t random = crash_seed();
    kin_process *workers[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        workers[i] = start(segment, i, &random);
    int kills = test_scale(150, 20);
    for (int n = 0; n < kills; n++) {
        int i = (int)crash_random(&random, WORKERS);
        /* Everybody comes in, in the end. */
        for (int other = 0; other < WORKERS; other++) {
            if (!crash_until_at_least(&s->uses[other], 1))
                fail_msg("after %d kills nobody in place %d comes in any more", n, other);
        }
        crash_spin_us(crash_random(&random, 500));
        check(kin_process_kill(workers[i]));
        (void)crash_join(workers[i]);
        kin__store32(&s->uses[i], 0);
        workers[i] = start(segment, i, &random);
    }
    kin__store32(&s->end, 1);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(test_finish(workers[i]), 0);
    print_message("%d kills, %u inherited, %u gave up, %llu uses\n", kills, s->inherited, s->given_up, (unsigned long long)s->first);
    assert_int_equal(s->wrong, 0);
    assert_true(s->inherited != 0);
    kin_segment_close(segment);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(users_are_killed)};
    return cmocka_run_group_tests_name("latch, killed", tests, NULL, NULL);
}
