/* A storm: members work with every synchronisation object at once while random ones of them are killed and replaced,
 * alone or several at a time. Each checks all the while that what the objects promise is so: see the functions named
 * work_…. After some hundred kills all are killed, what they leave behind is checked, and it begins anew with another
 * number of members.
 *
 * KIN_STORM_KILLS, KIN_STORM_SECONDS, KIN_STORM_MEMBERS, KIN_TEST_SEED: see ci/storm.sh.
 * @ctest TIMEOUT 240 */
#include "crash_support.h"

#include "atomic.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define MOST 16          /* members */
#define LONG_MS 5000     /* everybody ends a turn in that time                    */
#define NEVER_MS 3600000 /* for calls that must not time out: the killer looks who goes on */
#define MOMENT_MS 20     /* what counts of a moment at most: see pulse              */
#define LATE_US 100000   /* worth being counted */
#define PERIOD_KILLS 250 /* until it begins anew */
#define STOPPED_MS 300   /* longer than anything in kin that happens from time to time */
#define BARRIER_EVERY 12 /* turns */
#define BANK 3           /* units of the semaphore without undo */

enum { LOCK, RLOCK, WRITE, READ, UNDO, BANKING, PRODUCE, CONSUME, EVENT, NESTED, BARRIER, WORKS };
static const char *const work_names[WORKS] = {"lock",
                                              "rlock",
                                              "rwlock, writing",
                                              "rwlock, reading",
                                              "semaphore with undo",
                                              "semaphore",
                                              "condition, producer",
                                              "condition, consumer",
                                              "event",
                                              "two locks",
                                              "barrier"};

/* Equal whenever nobody is in the middle. */
typedef struct words {
    uint64_t first;
    char apart[120];
    uint64_t second;
} words;

enum { OUTSIDE = 0, TAKING = 1, HAS = 2, GIVING = 3 };

/* A member's own line: only it writes there, and the killer once it is dead. */
typedef struct slot {
    uint64_t mark;    /* in the semaphore with undo: [times:24][its kin__pid, or 0 outside:40] */
    uint64_t round;   /* of the barrier that it has completed: [epoch:32][round:32]            */
    uint32_t banking; /* OUTSIDE …                                                             */
    uint32_t inside;  /* in the middle of a change                                             */
    uint32_t turns, doing, pad[8];
} slot;

struct world {
    kin_lock lock, items_lock, repair;
    kin_rlock rlock;
    kin_rwlock rw;
    kin_semaphore undo, bank;
    kin_event event;
    kin_condition more;
    kin_barrier barrier;
    words lock_words, rlock_words, rw_words;
    int64_t items, produced, consumed;
    int64_t members, units; /* of the semaphore with undo */
    uint64_t killed_ns;
    uint32_t awake_ms; /* the time, without that in which the machine stood still */
    uint32_t kills;
    uint32_t calm; /* nobody is killed: nobody may inherit */
    uint32_t heirs, broken, deadlocks, checked;
    /* How often a call during which somebody was killed took so long after it: quarters of powers of two, in us. */
    uint32_t took[128];
    uint32_t late, slowest_us, slowest;
    slot slots[MOST];
};

static kin_segment *segment;
static struct world *world;

/* ---- a member ---- */

typedef struct member {
    struct world *w;
    slot *slot;
    uint32_t chance;
    uint32_t kills, awake_ms; /* when the present call began */
    uint64_t from;
} member;

static void begin(member *m)
{
    m->kills = kin__load32(&m->w->kills);
    m->awake_ms = kin__load32(&m->w->awake_ms);
    m->from = uv_hrtime();
}

static uint32_t bucket_of(uint32_t us)
{
    uint32_t power = 0;
    while (us >> power > 1)
        power++;
    return power < 2 ? us : power * 4 + (us >> (power - 2) & 3);
}

/* How long it took from the kill on, if there was one meanwhile. */
static void end(member *m, uint32_t work)
{
    struct world *w = m->w;
    if (kin__load32(&w->kills) == m->kills)
        return;
    uint64_t now = uv_hrtime(), since = kin__load64(&w->killed_ns);
    if (since < m->from)
        since = m->from;
    uint32_t us = now > since ? (uint32_t)((now - since) / 1000) : 0, slowest = kin__load32(&w->slowest_us);
    uint32_t most = (kin__load32(&w->awake_ms) - m->awake_ms + MOMENT_MS) * 1000;
    if (us > most)
        us = most;
    kin__add32(&w->took[bucket_of(us)], 1);
    kin__add32(&w->late, us > LATE_US);
    while (us > slowest && !kin__cas32(&w->slowest_us, &slowest, us)) {
    }
    if (us > slowest)
        kin__store32(&w->slowest, work);
}

/* Got; by inheritance, if anybody was killed. */
static bool got(member *m, kin_err err)
{
    if (err == KIN_EOWNERDEAD)
        kin__add32(&m->w->heirs, 1);
    return err == KIN_OK || (err == KIN_EOWNERDEAD && !m->w->calm);
}

static void pause_a_little(member *m, uint32_t one_in)
{
    if (crash_random(&m->chance, one_in) == 0)
        crash_spin_us(crash_random(&m->chance, 40));
}

static bool change(member *m, words *pair, kin_err err)
{
    if (err == KIN_EOWNERDEAD)
        pair->second = pair->first;
    if (pair->first != pair->second)
        return false;
    kin__store32(&m->slot->inside, 1);
    pair->first++;
    pause_a_little(m, 4);
    if (crash_random(&m->chance, 32) == 0) /* long enough to be killed in */
        crash_spin_us(crash_random(&m->chance, 1500));
    pair->second++;
    kin__store32(&m->slot->inside, 0);
    return true;
}

static int work_lock(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_lock_acquire(&w->lock, NEVER_MS);
    end(m, LOCK);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(change(m, &w->lock_words, err));
    CHILD_CHECK(kin_lock_release(&w->lock) == KIN_OK);
    return 0;
}

/* An heir holds it once, however often the dead held it. */
static int work_rlock(member *m)
{
    struct world *w = m->w;
    uint32_t depth = 1 + crash_random(&m->chance, 3);
    begin(m);
    kin_err err = kin_rlock_acquire(&w->rlock, NEVER_MS);
    end(m, RLOCK);
    CHILD_CHECK(got(m, err));
    for (uint32_t i = 1; i < depth; i++)
        CHILD_CHECK(kin_rlock_acquire(&w->rlock, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_rlock_count(&w->rlock) == depth);
    CHILD_CHECK(change(m, &w->rlock_words, err));
    for (uint32_t i = 0; i < depth; i++)
        CHILD_CHECK(kin_rlock_release(&w->rlock) == KIN_OK);
    return 0;
}

static int work_write(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_rwlock_acquire_write(&w->rw, NEVER_MS);
    end(m, WRITE);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(change(m, &w->rw_words, err));
    CHILD_CHECK(kin_rwlock_release(&w->rw) == KIN_OK);
    return 0;
}

/* Nothing half written, unless it was said that it may be; and nothing changes. */
static int work_read(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_rwlock_acquire_read(&w->rw, NEVER_MS);
    end(m, READ);
    CHILD_CHECK(got(m, err));
    uint64_t first = kin__load64(&w->rw_words.first), second = kin__load64(&w->rw_words.second);
    CHILD_CHECK(first == second || err == KIN_EOWNERDEAD);
    pause_a_little(m, 4);
    CHILD_CHECK(kin__load64(&w->rw_words.first) == first && kin__load64(&w->rw_words.second) == second);
    CHILD_CHECK(kin_rwlock_release(&w->rw) == KIN_OK);
    return 0;
}

static void collect_marks(const struct world *w, uint64_t marks[MOST])
{
    for (int i = 0; i < MOST; i++)
        marks[i] = kin__load64(&w->slots[i].mark);
}

/* How many of the living were inside at one moment; 0 if no moment could be caught: if the marks are twice the same,
 * then all was so between. */
static int count_inside(member *m)
{
    uint64_t before[MOST], after[MOST];
    int count = 0;
    collect_marks(m->w, before);
    collect_marks(m->w, after);
    if (memcmp(before, after, sizeof before) != 0)
        return 0;
    kin__add32(&m->w->checked, 1);
    for (int i = 0; i < MOST; i++) {
        kin__pid who = after[i] & 0xffffffffffu;
        count += who != 0 && kin__process_alive(who);
    }
    return count;
}

static int work_undo(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_semaphore_acquire(&w->undo, NEVER_MS);
    end(m, UNDO);
    CHILD_CHECK(err == KIN_OK);
    uint64_t times = (m->slot->mark >> 40) + 1;
    kin__store64(&m->slot->mark, times << 40 | kin__my.id);
    CHILD_CHECK(count_inside(m) <= w->units);
    pause_a_little(m, 2);
    CHILD_CHECK(count_inside(m) <= w->units);
    kin__store64(&m->slot->mark, times << 40);
    CHILD_CHECK(kin_semaphore_release(&w->undo) == KIN_OK);
    return 0;
}

/* What it has when it is killed the killer gives back, if it can tell. */
static int work_bank(member *m)
{
    struct world *w = m->w;
    kin__store32(&m->slot->banking, TAKING);
    kin_err err = kin_semaphore_acquire(&w->bank, test_ms(3));
    if (err == KIN_OK) {
        kin__store32(&m->slot->banking, HAS);
        pause_a_little(m, 2);
        kin__store32(&m->slot->banking, GIVING);
        CHILD_CHECK(kin_semaphore_release(&w->bank) == KIN_OK);
    }
    kin__store32(&m->slot->banking, OUTSIDE);
    CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
    return 0;
}

static bool items_right(struct world *w, kin_err err)
{
    if (err == KIN_EOWNERDEAD)
        w->items = w->produced - w->consumed;
    return w->items == w->produced - w->consumed && w->items >= 0;
}

static kin_err produce(struct world *w)
{
    w->produced++;
    w->items++;
    return kin_condition_notify(&w->more, &w->items_lock, 1);
}

static int work_produce(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_lock_acquire(&w->items_lock, NEVER_MS);
    end(m, PRODUCE);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(items_right(w, err));
    CHILD_CHECK(w->items >= 8 || produce(w) == KIN_OK);
    CHILD_CHECK(kin_lock_release(&w->items_lock) == KIN_OK);
    return 0;
}

/* As the helper sees to it that there is always another item, nobody waits for long. */
static int work_consume(member *m)
{
    struct world *w = m->w;
    begin(m);
    kin_err err = kin_lock_acquire(&w->items_lock, NEVER_MS);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(items_right(w, err));
    while (w->items == 0) {
        err = kin_condition_wait(&w->more, &w->items_lock, NEVER_MS);
        CHILD_CHECK(got(m, err));
        CHILD_CHECK(items_right(w, err));
    }
    end(m, CONSUME);
    w->items--;
    w->consumed++;
    CHILD_CHECK(kin_lock_release(&w->items_lock) == KIN_OK);
    return 0;
}

/* The helper sets it again and again, for no longer than a moment. */
static int work_event(member *m)
{
    begin(m);
    kin_err err = kin_event_wait(&m->w->event, NEVER_MS);
    end(m, EVENT);
    CHILD_CHECK(err == KIN_OK);
    return 0;
}

static kin_err take(struct world *w, uint32_t which)
{
    return which == LOCK    ? kin_lock_acquire(&w->lock, NEVER_MS)
           : which == RLOCK ? kin_rlock_acquire(&w->rlock, NEVER_MS)
                            : kin_rwlock_acquire_write(&w->rw, NEVER_MS);
}

static kin_err give(struct world *w, uint32_t which)
{
    return which == LOCK    ? kin_lock_release(&w->lock)
           : which == RLOCK ? kin_rlock_release(&w->rlock)
                            : kin_rwlock_release(&w->rw);
}

/* Two locks in any order. Only here, where a lock is held while another is waited for, may there be deadlocks. */
static int work_nested(member *m)
{
    struct world *w = m->w;
    words *of[] = {&w->lock_words, &w->rlock_words, &w->rw_words};
    uint32_t outer = crash_random(&m->chance, 3), inner = (outer + 1 + crash_random(&m->chance, 2)) % 3;
    begin(m);
    kin_err err = take(w, outer);
    end(m, NESTED);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(change(m, of[outer], err));
    begin(m);
    err = take(w, inner);
    end(m, NESTED);
    if (err == KIN_EDEADLK) {
        kin__add32(&w->deadlocks, 1);
    } else {
        CHILD_CHECK(got(m, err));
        CHILD_CHECK(change(m, of[inner], err));
        CHILD_CHECK(give(w, inner) == KIN_OK);
    }
    CHILD_CHECK(give(w, outer) == KIN_OK);
    return 0;
}

static uint32_t epoch_of(uint64_t word) { return (uint32_t)(word >> 33); }
static uint32_t round_of(uint64_t word) { return (uint32_t)(word >> 1); }

static int repair_barrier(member *m)
{
    struct world *w = m->w;
    CHILD_CHECK(!w->calm);
    kin__add32(&w->broken, 1);
    begin(m);
    kin_err err = kin_lock_acquire(&w->repair, NEVER_MS);
    end(m, BARRIER);
    CHILD_CHECK(got(m, err));
    CHILD_CHECK(!kin_barrier_is_broken(&w->barrier) || kin_barrier_reset(&w->barrier) == KIN_OK);
    CHILD_CHECK(kin_lock_release(&w->repair) == KIN_OK);
    return 0;
}

/* Every member is a party, so a round cannot be completed without this one: there is exactly one during the call, and
 * nobody is further than a round away. */
static int work_barrier(member *m)
{
    struct world *w = m->w;
    uint64_t before = kin__load64(&w->barrier.kin__o.word);
    begin(m);
    kin_err err = kin_barrier_wait(&w->barrier, NEVER_MS, NULL);
    if (err == KIN_EBROKEN) { /* else it may have waited for a new member to be started */
        end(m, BARRIER);
        return repair_barrier(m);
    }
    CHILD_CHECK(err == KIN_OK);
    uint64_t after = kin__load64(&w->barrier.kin__o.word);
    if (epoch_of(before) != epoch_of(after)) /* reset meanwhile */
        return 0;
    CHILD_CHECK(round_of(after) == round_of(before) + 1);
    kin__store64(&m->slot->round, (uint64_t)epoch_of(after) << 32 | round_of(after));
    for (int64_t i = 0; i < w->members; i++) {
        uint64_t other = kin__load64(&w->slots[i].round);
        bool same_epoch = other >> 32 == epoch_of(after) && (uint32_t)other != 0;
        CHILD_CHECK(!same_epoch || (uint32_t)other == round_of(after) || (uint32_t)other + 1 == round_of(after));
    }
    return 0;
}

static int (*const works[WORKS])(member *) = {work_lock,  work_rlock,  work_write,   work_read,
                                              work_undo,  work_bank,   work_produce, work_consume,
                                              work_event, work_nested, work_barrier};
/* How often, in a hundred; the rest is nested. */
static const uint32_t shares[WORKS] = {14, 14, 8, 16, 14, 10, 6, 6, 2, 10, 0};

static uint32_t choose(member *m)
{
    uint32_t number = crash_random(&m->chance, 100), work = 0;
    while (work < NESTED && number >= shares[work])
        number -= shares[work++];
    return work;
}

static int live(kin_args *args)
{
    kin_segment *mine;
    int64_t index;
    uint64_t seed;
    CHILD_CHECK(kin_unpack(args, &mine, &index, &seed) == KIN_OK && index < MOST);
    member m = {.w = kin_segment_data(mine), .chance = (uint32_t)seed};
    m.slot = &m.w->slots[index];
    for (uint32_t turn = 1;; turn++) {                                    /* until killed */
        uint32_t every = m.w->calm ? 100 * BARRIER_EVERY : BARRIER_EVERY; /* who is stopped should not hold all up */
        uint32_t work = turn % every == 0 ? BARRIER : choose(&m);
        kin__store32(&m.slot->doing, work);
        int code = works[work](&m);
        if (code != 0) {
            (void)fprintf(stderr, "that was: %s\n", work_names[work]);
            return code;
        }
        kin__add32(&m.slot->turns, 1);
    }
}

/* ---- the killer ---- */

static kin_process *members[MOST];
static int count; /* of members */
static uv_thread_t helper, pulser;
static uint32_t helping;
static char helper_says[256];
static uint32_t chance;
static int uncertain; /* units of the bank that may have died */

/* In a thread of the killer, which nobody kills: items and the event for those who wait. */
static bool help_once(void)
{
    kin_err err = kin_lock_acquire(&world->items_lock, NEVER_MS);
    if (err != KIN_OK && (err != KIN_EOWNERDEAD || world->calm))
        return false;
    bool right = items_right(world, err);
    if (right && world->items == 0)
        right = produce(world) == KIN_OK;
    return kin_lock_release(&world->items_lock) == KIN_OK && right && kin_event_set(&world->event) == KIN_OK &&
           kin_event_clear(&world->event) == KIN_OK;
}

/* A clock for what must not take long. Where the machine is overloaded, or a virtual one that is suspended now and
 * then, time passes in which nobody could have done anything: of each moment only the first part counts. */
static void pulse(void *arg)
{
    (void)arg;
    int64_t last = kin_now();
    while (kin__load32(&helping) != 0) {
        int64_t now = kin_now();
        kin__add32(&world->awake_ms, (uint32_t)(now - last < MOMENT_MS ? now - last : MOMENT_MS));
        last = now;
        uv_sleep(1);
    }
}

static void help(void *arg)
{
    (void)arg;
    while (kin__load32(&helping) == 1) {
        if (!help_once()) {
            (void)snprintf(helper_says, sizeof helper_says, "%.255s", kin_last_error());
            kin__store32(&helping, 2);
        }
        uv_sleep(1);
    }
}

static void start_member(int i)
{
    members[i] = test_start_with(live, KIN_ARGS(segment, (int64_t)i, (uint64_t)crash_random(&chance, 0xffffffff)),
                                 (kin_process_options){.daemon = true});
}

static void make_world(int how_many, bool calm)
{
    memset(world, 0, sizeof *world);
    world->members = count = how_many;
    world->units = how_many / 2;
    world->calm = calm;
    check(kin_lock_init(&world->lock, &(kin_lock_options){.name = "lock"}));
    check(kin_lock_init(&world->items_lock, &(kin_lock_options){.name = "items"}));
    check(kin_lock_init(&world->repair, &(kin_lock_options){.name = "repair"}));
    check(kin_rlock_init(&world->rlock, &(kin_rlock_options){.name = "rlock"}));
    check(kin_rwlock_init(&world->rw, &(kin_rwlock_options){.name = "rwlock"}));
    check(kin_semaphore_init(&world->undo, world->units, &(kin_semaphore_options){.name = "undo", .undo = true}));
    check(kin_semaphore_init(&world->bank, BANK, &(kin_semaphore_options){.name = "bank", .bound = BANK}));
    check(kin_event_init(&world->event, NULL));
    check(kin_condition_init(&world->more, NULL));
    check(kin_barrier_init(&world->barrier, how_many, NULL));
    uncertain = 0;
    kin__store32(&helping, 1);
    assert_int_equal(uv_thread_create(&helper, help, NULL), 0);
    assert_int_equal(uv_thread_create(&pulser, pulse, NULL), 0);
    for (int i = 0; i < how_many; i++)
        start_member(i);
}

static void stop_helping(void)
{
    if (kin__exchange32(&helping, 0) != 0) {
        (void)uv_thread_join(&helper);
        (void)uv_thread_join(&pulser);
    }
}

static void say_where_all_are(void)
{
    for (int i = 0; i < count; i++)
        print_error("member %d (pid %lld, %s): turn %lu, %s\n", i, (long long)kin_process_pid(members[i]),
                    kin_process_alive(members[i]) ? "alive" : "ended",
                    (unsigned long)kin__load32(&world->slots[i].turns),
                    work_names[kin__load32(&world->slots[i].doing) % WORKS]);
    crash_print_threads(&world->lock);
}

/* Everybody alive ends a turn within LONG_MS, and nobody has ended. */
static void everybody_works(void)
{
    uint32_t turns[MOST];
    for (int i = 0; i < count; i++)
        turns[i] = kin__load32(&world->slots[i].turns);
    uint32_t from = kin__load32(&world->awake_ms);
    for (int i = 0; i < count;) {
        if (kin__load32(&world->slots[i].turns) != turns[i]) {
            i++;
        } else if (kin__load32(&world->awake_ms) - from > (uint32_t)test_ms(LONG_MS) ||
                   !kin_process_alive(members[i]) || kin__load32(&helping) == 2) {
            say_where_all_are();
            fail_msg("member %d does not go on (the helper says: %s)", i, helper_says);
        } else {
            uv_sleep(0);
        }
    }
}

static void kill_member(int i)
{
    int64_t pid = kin_process_pid(members[i]);
    if (crash_random(&chance, 16) == 0 && test_process_stop(pid)) /* death reaches a stopped one too */
        crash_spin_us(crash_random(&chance, 500));
    kin__store64(&world->killed_ns, uv_hrtime());
    kin__add32(&world->kills, 1);
    if (!test_on_windows() && crash_random(&chance, 2) == 0)
        crash_kill(pid); /* past kin: on Windows that cannot be told from an exit */
    else
        check(kin_process_kill(members[i]));
}

/* It was killed, and not before. */
static void bury_member(int i)
{
    int code = crash_join(members[i]);
    members[i] = NULL;
    if (code != -9) {
        print_error("member %d, at '%s', ended with %d\n", i, work_names[world->slots[i].doing % WORKS], code);
        fail_msg("a member ended by itself");
    }
    if (world->slots[i].banking == HAS)
        check(kin_semaphore_release(&world->bank));
    else
        uncertain += world->slots[i].banking != OUTSIDE;
    world->slots[i].banking = OUTSIDE;
    world->slots[i].inside = 0;
}

/* Anybody; or one in the middle of a change, if there is one soon. */
static int choose_victim(void)
{
    bool inside = crash_random(&chance, 2) == 0;
    uint64_t late = uv_hrtime() + 300000;
    while (inside && uv_hrtime() < late) {
        for (int i = 0; i < count; i++) {
            if (kin__load32(&world->slots[i].inside) != 0)
                return i;
        }
    }
    return (int)crash_random(&chance, (uint32_t)count);
}

static int kill_some(void)
{
    bool doomed[MOST] = {false};
    int victims = crash_random(&chance, 8) == 0 ? 2 + (int)crash_random(&chance, (uint32_t)count - 1) : 1, killed = 0;
    crash_spin_us(crash_random(&chance, crash_random(&chance, 4) == 0 ? 5000 : 800));
    for (int v = 0; v < victims; v++) {
        int i = choose_victim();
        if (!doomed[i])
            kill_member(i);
        doomed[i] = true;
    }
    for (int i = 0; i < count; i++) {
        if (!doomed[i])
            continue;
        bury_member(i);
        start_member(i);
        killed++;
    }
    if (crash_random(&chance, 4) == 0)
        everybody_works();
    return killed;
}

static void must_be_sound(kin_err err, const words *w)
{
    if (err != KIN_EOWNERDEAD) {
        check(err);
        assert_true(w->first == w->second);
    }
}

/* All are dead: what they leave behind. */
static void check_remains(void)
{
    must_be_sound(kin_lock_acquire(&world->lock, test_ms(LONG_MS)), &world->lock_words);
    check(kin_lock_release(&world->lock));
    must_be_sound(kin_rlock_acquire(&world->rlock, test_ms(LONG_MS)), &world->rlock_words);
    check(kin_rlock_release(&world->rlock));
    check_fails(KIN_EPERM, kin_rlock_release(&world->rlock));
    must_be_sound(kin_rwlock_acquire_write(&world->rw, test_ms(LONG_MS)), &world->rw_words);
    check(kin_rwlock_release(&world->rw));
    assert_int_equal(kin_semaphore_units(&world->undo), world->units);
    for (int64_t i = 0; i < world->units; i++)
        check(kin_semaphore_acquire(&world->undo, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(&world->undo, KIN_NOWAIT));
    check(kin_semaphore_release_many(&world->undo, world->units));
    int64_t banked = kin_semaphore_units(&world->bank);
    if (banked > BANK || banked < BANK - uncertain)
        fail_msg("%lld units in the bank of %d, %d uncertain", (long long)banked, BANK, uncertain);
    assert_true(help_once());
    check(kin_barrier_reset(&world->barrier));
    assert_int_equal(kin_barrier_waiting(&world->barrier), 0);
}

static void kill_all(void)
{
    for (int i = 0; i < count; i++) {
        if (members[i] != NULL)
            kill_member(i);
    }
    for (int i = 0; i < count; i++) {
        if (members[i] != NULL)
            bury_member(i);
    }
    stop_helping();
}

/* ---- what it came to ---- */

static struct sum {
    uint32_t took[128], late, slowest_us, slowest, heirs, broken, deadlocks, checked;
    uint64_t turns;
} sum;

static void add_up(void)
{
    for (uint32_t i = 0; i < 128; i++)
        sum.took[i] += world->took[i];
    for (int i = 0; i < MOST; i++)
        sum.turns += world->slots[i].turns;
    sum.late += world->late;
    sum.heirs += world->heirs;
    sum.broken += world->broken;
    sum.deadlocks += world->deadlocks;
    sum.checked += world->checked;
    if (world->slowest_us > sum.slowest_us) {
        sum.slowest_us = world->slowest_us;
        sum.slowest = world->slowest;
    }
}

/* So many of a hundred calls during which somebody was killed took no longer than that after the kill, in us. */
static uint32_t of_a_hundred(uint32_t percent)
{
    uint64_t all = 0, seen = 0;
    for (uint32_t i = 0; i < 128; i++)
        all += sum.took[i];
    for (uint32_t i = 0; i < 128; i++) {
        seen += sum.took[i];
        if (seen * 100 >= all * percent)
            return i < 4 ? i : (4 + (i & 3) + 1) << (i / 4 - 2);
    }
    return 0;
}

static void say_all(int kills)
{
    print_message(
        "%d kills, %llu turns, %lu heirs, %lu times a broken barrier, %lu deadlocks, %lu looks at the semaphore\n",
        kills, (unsigned long long)sum.turns, (unsigned long)sum.heirs, (unsigned long)sum.broken,
        (unsigned long)sum.deadlocks, (unsigned long)sum.checked);
    print_message("calls took after a kill: half of them up to %lu us, 99 %% up to %lu us, at most %lu us (%s); %lu "
                  "over 100 ms\n",
                  (unsigned long)of_a_hundred(50), (unsigned long)of_a_hundred(99), (unsigned long)sum.slowest_us,
                  work_names[sum.slowest % WORKS], (unsigned long)sum.late);
}

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != 0 ? strtol(text, NULL, 10) : otherwise;
}

static void members_are_killed(void **state)
{
    (void)state;
    long kills = setting("KIN_STORM_KILLS", test_by_spawn() ? test_scale(1500, 110) : test_scale(4000, 110)),
         how_many = setting("KIN_STORM_MEMBERS", 0);
    int64_t until = kin_now() + 1000 * setting("KIN_STORM_SECONDS", (long)test_ms(60000) / 1000);
    int done = 0, said = 0;
    assert_true(how_many <= MOST);
    for (int period = 0; done < kills && kin_now() < until; period++) {
        int period_end = done + test_scale(PERIOD_KILLS, PERIOD_KILLS / 5);
        make_world(how_many > 1 ? (int)how_many : period % 2 == 0 ? 4 : 8, false);
        while (done < kills && done < period_end && kin_now() < until)
            done += kill_some();
        everybody_works();
        kill_all();
        done += count;
        check_remains();
        add_up();
        if (done - said > 20000) {
            said = done;
            say_all(done);
        }
    }
    say_all(done);
    assert_true(crash_until_places(crash_server() != 0 ? 2 : 1));
}

/* Nobody is killed, some are stopped for a while: they keep what they have, whoever waits for it. */
static void members_are_stopped(void **state)
{
    (void)state;
    memset(&sum, 0, sizeof sum);
    make_world(4, true);
    everybody_works();
    for (int i = 0, times = test_scale(10, 3); i < times; i++) {
        int64_t pid = kin_process_pid(members[crash_random(&chance, (uint32_t)count)]);
        crash_spin_us(crash_random(&chance, 2000));
        if (!test_process_stop(pid)) {
            kill_all();
            test_skip("no process can be stopped here");
        }
        uv_sleep(STOPPED_MS);
        assert_true(test_process_continue(pid));
        everybody_works();
    }
    assert_int_equal(world->heirs, 0);
    assert_int_equal(world->broken, 0);
    world->calm = false;
    kill_all();
    check_remains();
    add_up();
    print_message("%llu turns, %lu deadlocks\n", (unsigned long long)sum.turns, (unsigned long)sum.deadlocks);
}

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    if (chance == 0)
        chance = crash_seed();
    return 0;
}

/* Also of what a failure has left. */
static int teardown(void **state)
{
    (void)state;
    stop_helping();
    for (int i = 0; i < count; i++) {
        if (members[i] == NULL)
            continue;
        (void)kin_process_kill(members[i]);
        (void)crash_join(members[i]);
        members[i] = NULL;
    }
    kin_segment_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(members_are_killed, setup, teardown),
                                       cmocka_unit_test_setup_teardown(members_are_stopped, setup, teardown)};
    return cmocka_run_group_tests_name("storm", tests, NULL, NULL);
}
