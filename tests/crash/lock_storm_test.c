/* A storm: four processes work under one lock while random ones of them are killed and replaced. Whoever gets the lock with KIN_EOWNERDEAD
 * repairs; nobody ever finds it unrepaired, and nobody waits for long. */
#include "crash_support.h"

#include "atomic.h"

#include <uv.h>

#define MEMBERS 4
#define LONG_MS 5000

struct shared {
    kin_lock lock;
    uint64_t first;
    char remote[120];
    uint64_t second;
    uint32_t turns;    /* of all */
    uint32_t repaired;
    uint32_t started;
};

static kin_segment *segment;
static struct shared *shared;

enum { NOT_SOUND = 40, TOO_LONG = 41, OTHER = 42 };

static int member(kin_args *args)
{
    kin_segment *mine;
    uint64_t seed;
    if (kin_unpack(args, &mine, &seed) != KIN_OK)
        return OTHER;
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    kin__add32(&s->started, 1);
    for (int64_t end = kin_now() + test_ms(100000); kin_now() < end;) { /* until killed */
        kin_err err = kin_lock_acquire(&s->lock, test_ms(LONG_MS));
        if (err == KIN_EOWNERDEAD) {
            s->second = s->first;
            kin__add32(&s->repaired, 1);
        } else if (err != KIN_OK) {
            return err == KIN_ETIMEDOUT ? TOO_LONG : OTHER;
        }
        if (s->first != s->second)
            return NOT_SOUND;
        s->first++;
        crash_spin_us(crash_random(&chance, 8) == 0 ? crash_random(&chance, 50) : 0);
        s->second++;
        kin__add32(&s->turns, 1);
        if (kin_lock_release(&s->lock) != KIN_OK)
            return OTHER;
        if (crash_random(&chance, 8) == 0)
            crash_spin_us(crash_random(&chance, 50));
    }
    return OTHER;
}

static kin_process *start_member(uint32_t *chance)
{
    return test_start_with(member, KIN_ARGS(segment, crash_random(chance, 0xffffffff)), (kin_process_options){.daemon = true});
}

/* One turn more than `turns` must be taken within LONG_MS, whoever takes it. */
static bool somebody_works(uint32_t turns)
{
    int64_t end = kin_now() + test_ms(LONG_MS);
    while (kin__load32(&shared->turns) == turns) {
        if (kin_now() > end)
            return false;
        uv_sleep(0);
    }
    return true;
}

static void storm(void **state)
{
    (void)state;
    kin_process *members[MEMBERS];
    uint32_t chance = crash_seed();
    int kills = test_scale(600, 25);
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "storm"}));
    for (int i = 0; i < MEMBERS; i++)
        members[i] = start_member(&chance);
    for (int kill = 0; kill < kills; kill++) {
        int victim = (int)crash_random(&chance, MEMBERS);
        crash_spin_us(crash_random(&chance, 1500));
        uint32_t turns = kin__load32(&shared->turns);
        check(kin_process_kill(members[victim]));
        int code = crash_join(members[victim]);
        if (code != -9)
            fail_msg("after %d kills: a member ended with %d", kill, code);
        if (!somebody_works(turns))
            fail_msg("after %d kills: nobody has taken a turn for %d ms (scaled)", kill, LONG_MS);
        members[victim] = start_member(&chance);
    }
    for (int i = 0; i < MEMBERS; i++) {
        check(kin_process_kill(members[i]));
        assert_int_equal(crash_join(members[i]), -9);
    }
    kin_err err = kin_lock_acquire(&shared->lock, test_ms(LONG_MS));
    if (err == KIN_EOWNERDEAD)
        shared->second = shared->first;
    else
        check(err);
    assert_true(shared->first == shared->second);
    check(kin_lock_release(&shared->lock));
    print_message("%d kills, %lu turns, %lu repairs\n", kills, (unsigned long)shared->turns, (unsigned long)shared->repaired);
    kin_segment_close(segment);
    assert_true(crash_until_places(crash_server() != 0 ? 2 : 1));
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(storm)};
    return cmocka_run_group_tests_name("lock_storm", tests, NULL, NULL);
}
