/* The fork server is killed (Linux). Its children go on; their exit codes are lost, which is said; whoever waits for what they hold still learns
 * of their deaths; the next start makes a new server. */
#include "crash_support.h"

#include "atomic.h"

#include <string.h>
#include <uv.h>

struct shared {
    kin_lock lock;
    uint32_t ready, go;
    uint32_t beats;
};

static kin_segment *segment;
static struct shared *shared;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_lock_init(&shared->lock, &(kin_lock_options){.name = "orphan"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_segment_close(segment);
    return 0;
}

static struct shared *attach(kin_args *args)
{
    kin_segment *mine;
    return kin_unpack(args, &mine) == KIN_OK ? kin_segment_data(mine) : NULL;
}

static int answer(kin_args *args)
{
    int64_t code = 0;
    return kin_unpack(args, &code) == KIN_OK ? (int)code : 99;
}

static int beat(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    kin__add32(&s->ready, 1);
    int64_t end = kin_now() + test_ms(40000);
    while (kin__load32(&s->go) == 0 && kin_now() < end) {
        kin__add32(&s->beats, 1);
        uv_sleep(1);
    }
    return 3;
}

static int hold(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL && kin_lock_acquire(&s->lock, KIN_FOREVER) == KIN_OK);
    kin__add32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    return 0;
}

static int take(kin_args *args)
{
    struct shared *s = attach(args);
    CHILD_CHECK(s != NULL);
    kin_err err = kin_lock_acquire(&s->lock, KIN_FOREVER);
    CHILD_CHECK(kin_lock_release(&s->lock) == KIN_OK);
    return err;
}

/* A start works, with an exit code. */
static void must_start(void)
{
    for (int code = 0; code < 3; code++)
        assert_int_equal(test_run(answer, KIN_ARGS(code)), code);
}

/* A start just after the server was killed. A spare of the dead one may have taken the request up: then the child is an orphan from its birth,
 * or died with the server before it could run. */
static kin_err start_amid_deaths(int code)
{
    kin_process *p;
    kin_err err = kin_process_start(&p, answer, KIN_ARGS(code), NULL);
    if (err != KIN_OK)
        return err == KIN_ECHILD && strstr(kin_last_error(), "signal 9") != NULL ? KIN_OK : err;
    int answered = crash_join(p);
    return answered == code || answered == CRASH_LOST || answered == -9 ? KIN_OK : KIN_EIO;
}

/* The server, once there is one that lives: a start just after a kill may have done without. */
static int64_t living_server(void)
{
    int64_t pid = crash_server();
    for (int tries = 0; tries < 100 && (pid == 0 || !test_process_exists(pid)); tries++) {
        assert_true(pid == 0 || crash_until_gone(pid));
        check(start_amid_deaths(0));
        pid = crash_server();
    }
    assert_true(pid != 0);
    return pid;
}

static int64_t kill_server(void)
{
    int64_t pid = living_server();
    crash_kill(pid);
    return pid;
}

/* What a handle says of a child whose status went with the server. */
static void must_be_lost(kin_process *p)
{
    int code = 77;
    check_fails(KIN_ELOST, kin_process_join(p, test_ms(20000)));
    check_says("Process-");
    check_fails(KIN_ELOST, kin_process_exit_code(p, &code));
    assert_int_equal(code, 77);
    assert_false(kin_process_alive(p));
    check(kin_process_kill(p)); /* nothing happens */
    check_fails(KIN_ELOST, kin_process_join(p, KIN_NOWAIT));
    kin_process_close(p);
}

/* ---- children of a dead server ---- */

static void a_child_goes_on_and_its_exit_code_is_lost(void **state)
{
    (void)state;
    kin_process *p = test_start(beat, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    assert_true(crash_until_gone(kill_server()));
    assert_true(crash_until_at_least(&shared->beats, kin__load32(&shared->beats) + 5));
    assert_true(kin_process_alive(p));
    check_fails(KIN_ETIMEDOUT, kin_process_join(p, 20));
    kin__store32(&shared->go, 1);
    must_be_lost(p);
    must_start();
}

static void an_exit_code_from_before_is_kept(void **state)
{
    (void)state;
    kin_process *p = test_start(answer, KIN_ARGS(9));
    int64_t pid = kin_process_pid(p);
    assert_true(crash_until_gone(pid)); /* seen by the server, not yet by us */
    assert_true(crash_until_gone(kill_server()));
    assert_int_equal(crash_join(p), 9);
    must_start();
}

static void a_daemon_dies_with_the_server(void **state)
{
    (void)state;
    kin_process *p = test_start_with(beat, KIN_ARGS(segment), (kin_process_options){.daemon = true});
    assert_true(crash_until_at_least(&shared->ready, 1));
    (void)kill_server();
    must_be_lost(p);
    must_start();
}

static void a_killed_orphan_is_noticed(void **state)
{
    (void)state;
    kin_process *p = test_start(beat, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    assert_true(crash_until_gone(kill_server()));
    must_start(); /* the orphan has a stepmother, which is not its parent */
    check(kin_process_kill(p));
    must_be_lost(p);
}

/* ---- what orphans hold ---- */

static void what_an_orphan_held_is_inherited(void **state)
{
    (void)state;
    kin_process *p = test_start(hold, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    (void)kill_server();
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&shared->lock, 50)); /* alive, so not robbed */
    check(kin_process_kill(p));
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&shared->lock, test_ms(20000)));
    check(kin_lock_release(&shared->lock));
    must_be_lost(p);
    must_start();
}

/* Who went to sleep before the server died learns of later deaths: of orphans, and of children of the next server. */
static void sleepers_learn_of_later_deaths(void **state)
{
    (void)state;
    for (int by_next = 0; by_next < 2; by_next++) {
        kin__store32(&shared->ready, 0);
        kin_process *owner = test_start(hold, KIN_ARGS(segment));
        assert_true(crash_until_at_least(&shared->ready, 1));
        kin_process *sleeper = test_start(take, KIN_ARGS(segment));
        assert_true(crash_until_sleepers(&shared->lock, 1));
        assert_true(crash_until_gone(kill_server()));
        if (by_next)
            must_start();
        kin_process *second = by_next ? test_start(take, KIN_ARGS(segment)) : NULL;
        if (by_next)
            assert_true(crash_until_sleepers(&shared->lock, 2));
        check(kin_process_kill(owner));
        must_be_lost(owner);
        check_fails(KIN_ELOST, kin_process_join(sleeper, test_ms(20000)));
        kin_process_close(sleeper);
        if (by_next)
            assert_true(crash_join(second) != CRASH_HANGS);
        check(kin_lock_acquire(&shared->lock, test_ms(20000)));
        check(kin_lock_release(&shared->lock));
        must_start();
    }
}

/* Orphans watch each other. Whichever of them dies first, and whoever noticed what before, the next death is noticed, too. */
static void orphans_that_die_one_after_the_other(void **state)
{
    (void)state;
    enum { ORPHANS = 4 };
    uint32_t chance = crash_seed();
    for (int round = 0, rounds = test_scale(25, 5); round < rounds; round++) {
        kin_process *orphans[ORPHANS];
        check(kin_lock_acquire(&shared->lock, test_ms(20000)));
        for (int i = 0; i < ORPHANS; i++)
            orphans[i] = test_start(take, KIN_ARGS(segment));
        assert_true(crash_until_sleepers(&shared->lock, ORPHANS));
        assert_true(crash_until_gone(kill_server()));
        for (int left = ORPHANS; left > 0; left--) {
            int victim = (int)crash_random(&chance, (uint32_t)left);
            crash_kill(kin_process_pid(orphans[victim]));
            kin_err err = kin_process_join(orphans[victim], test_ms(5000));
            if (err != KIN_ELOST)
                fail_msg("round %d: the end of an orphan gave %s", round, kin_strerror(err));
            kin_process_close(orphans[victim]);
            orphans[victim] = orphans[left - 1];
        }
        check(kin_lock_release(&shared->lock));
        must_start();
    }
}

/* ---- starting ---- */

static void killed_between_starts(void **state)
{
    (void)state;
    must_start();
    int before = crash_places();
    for (int round = 0, rounds = test_scale(40, 5); round < rounds; round++) {
        int64_t dead = kill_server();
        if (round % 2 == 0) {
            assert_true(crash_until_gone(dead));
            assert_int_equal(test_run(answer, KIN_ARGS(7)), 7);
            assert_true(crash_server() != dead);
        } else {
            check(start_amid_deaths(7));
        }
    }
    assert_true(crash_until_places(before));
}

static void killed_with_its_spares(void **state)
{
    (void)state;
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        int64_t children[64], server = living_server();
        int count = crash_children_of(server, children, 64);
        crash_kill(server);
        for (int i = 0; i < count; i++)
            crash_kill(children[i]);
        assert_true(crash_until_gone(server));
        must_start();
    }
}

static void spares_are_killed(void **state)
{
    (void)state;
    int64_t server = living_server();
    int before = crash_places();
    for (int round = 0, rounds = test_scale(60, 6); round < rounds; round++) {
        int64_t children[64];
        int count = crash_children_of(server, children, 64);
        for (int i = 0; i < count; i++) {
            if (round % 3 != 1 || i == 0)
                crash_kill(children[i]);
        }
        check(start_amid_deaths(round));
    }
    must_start();
    assert_true(crash_server() == server); /* no reason for a new one */
    assert_true(crash_until_places(before));
}

struct starter {
    uv_thread_t thread;
    uint32_t *stop;
    int started, lost, wrong;
    kin_err last;
};

/* Starts one child after the other while somebody kills. */
static void start_many(void *arg)
{
    struct starter *me = arg;
    while (kin__load32(me->stop) == 0) {
        kin_process *p;
        int code = -1;
        kin_err err = kin_process_start(&p, answer, KIN_ARGS(11), NULL);
        if (err != KIN_OK) {
            me->last = err;
            me->wrong += err != KIN_ELOST && (err != KIN_ECHILD || strstr(kin_last_error(), "signal 9") == NULL);
            me->lost++;
            continue;
        }
        me->started++;
        err = kin_process_join(p, test_ms(20000));
        if (err == KIN_OK)
            me->wrong += kin_process_exit_code(p, &code) != KIN_OK || (code != 11 && code != -9);
        else
            me->wrong += err != KIN_ELOST;
        kin_process_close(p);
    }
}

/* Four threads start children while `kill` is called `times` times. */
static void start_amid(void (*kill)(uint32_t *chance), int times)
{
    enum { THREADS = 4 };
    struct starter starters[THREADS] = {{0}};
    uint32_t chance = crash_seed(), stop = 0;
    int before = crash_places();
    for (int i = 0; i < THREADS; i++) {
        starters[i].stop = &stop;
        assert_int_equal(uv_thread_create(&starters[i].thread, start_many, &starters[i]), 0);
    }
    for (int i = 0; i < times; i++) {
        crash_spin_us(crash_random(&chance, 5000));
        kill(&chance);
    }
    kin__store32(&stop, 1);
    int started = 0, lost = 0;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(uv_thread_join(&starters[i].thread), 0);
        if (starters[i].wrong != 0)
            fail_msg("%d outcomes that cannot be, the last failed start %s", starters[i].wrong, kin_strerror(starters[i].last));
        started += starters[i].started;
        lost += starters[i].lost;
    }
    print_message("%d kills, %d starts, %d failed\n", times, started, lost);
    assert_true(started > 0);
    must_start();
    assert_true(crash_until_places(before));
}

static void kill_the_server(uint32_t *chance)
{
    (void)chance;
    crash_kill(crash_server());
}

static void kill_a_spare_or_child(uint32_t *chance)
{
    int64_t children[64], server = crash_server();
    int count = server != 0 ? crash_children_of(server, children, 64) : 0;
    if (count > 0)
        crash_kill(children[crash_random(chance, (uint32_t)count)]);
}

static void killed_while_threads_start(void **state)
{
    (void)state;
    start_amid(kill_the_server, test_scale(60, 5));
}

static void spares_and_children_are_killed_while_threads_start(void **state)
{
    (void)state;
    start_amid(kill_a_spare_or_child, test_scale(300, 20));
}

/* ---- a child of a child ---- */

static int start_after_death(kin_args *args)
{
    struct shared *s = attach(args);
    kin_process *p;
    int code = 0;
    CHILD_CHECK(s != NULL);
    kin__add32(&s->ready, 1);
    CHILD_CHECK(crash_until_at_least(&s->go, 1));
    CHILD_CHECK(kin_process_start(&p, answer, KIN_ARGS(21), NULL) == KIN_OK);
    CHILD_CHECK(kin_process_join(p, test_ms(20000)) == KIN_OK);
    CHILD_CHECK(kin_process_exit_code(p, &code) == KIN_OK && code == 21);
    kin_process_close(p);
    kin__store32(&s->go, 2);
    return 0;
}

static void an_orphan_starts_children(void **state)
{
    (void)state;
    kin_process *p = test_start(start_after_death, KIN_ARGS(segment));
    assert_true(crash_until_at_least(&shared->ready, 1));
    assert_true(crash_until_gone(kill_server()));
    kin__store32(&shared->go, 1);
    assert_true(crash_until_at_least(&shared->go, 2));
    must_be_lost(p);
    must_start();
}

/* ---- a stopped server ---- */

struct late {
    kin_err err;
    uint32_t done;
    kin_process *p;
};

static void start_late(void *arg)
{
    struct late *late = arg;
    for (int i = 0; i < 4 && late->err == KIN_OK; i++) { /* more than it has spares */
        late->err = kin_process_start(&late->p, answer, KIN_ARGS(5), NULL);
        if (late->err == KIN_OK)
            kin_process_close(late->p);
    }
    kin__store32(&late->done, 1);
}

static void a_stopped_server_is_waited_for(void **state)
{
    (void)state;
    int64_t server = crash_server();
    struct late late = {.err = KIN_OK};
    uv_thread_t thread;
    if (!test_process_stop(server))
        test_skip("no process can be stopped here");
    assert_int_equal(uv_thread_create(&thread, start_late, &late), 0);
    uv_sleep(1200); /* longer than anything in kin that happens from time to time */
    assert_true(kin__load32(&late.done) == 0);
    assert_true(test_process_continue(server));
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(late.err, KIN_OK);
    assert_true(crash_server() == server);
    must_start();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    if (test_on_windows()) {
        printf("skipped: there is no fork server on Windows\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_child_goes_on_and_its_exit_code_is_lost),
        TEST(an_exit_code_from_before_is_kept),
        TEST(a_daemon_dies_with_the_server),
        TEST(a_killed_orphan_is_noticed),
        TEST(what_an_orphan_held_is_inherited),
        TEST(sleepers_learn_of_later_deaths),
        TEST(orphans_that_die_one_after_the_other),
        TEST(killed_between_starts),
        TEST(killed_with_its_spares),
        TEST(spares_are_killed),
        TEST(killed_while_threads_start),
        TEST(spares_and_children_are_killed_while_threads_start),
        TEST(an_orphan_starts_children),
        TEST(a_stopped_server_is_waited_for),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
