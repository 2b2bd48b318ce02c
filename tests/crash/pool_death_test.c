/* Workers that die: in a task, between tasks, at every crash point, in a storm, with the fork server. A death costs the item that was running,
 * and nothing else. */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { COUNT = 60 };

static int64_t in[COUNT], out[COUNT];
static kin_task_error errors[COUNT];
static size_t failed;

static int setup(void **state)
{
    kin_pool *pool;
    for (int64_t i = 0; i < COUNT; i++)
        in[i] = i + 1, out[i] = -1;
    failed = 999;
    check(kin_pool_create(&pool, &(kin_pool_options){.workers = 2, .name = "crew"}));
    *state = pool;
    return 0;
}

static int teardown(void **state)
{
    kin_pool_close(*state);
    return 0;
}

static int square(kin_task *task, const void *from, void *to)
{
    (void)task;
    int64_t n = *(const int64_t *)from;
    *(int64_t *)to = n * n;
    return 0;
}

static void must_work(kin_pool *pool)
{
    int64_t n[100], squared[100];
    for (int64_t i = 0; i < 100; i++)
        n[i] = i;
    /* A worker that was killed just before may die only now, with an item. */
    check(kin_pool_map(pool, square, n, sizeof n[0], squared, sizeof squared[0], 100, &(kin_map_options){.retries = 5}));
    for (int64_t i = 0; i < 100; i++)
        assert_true(squared[i] == i * i);
}

/* ---- a task takes its worker along ---- */

/* How item 7 and item 30 end their worker: by its first attempts up to `deaths`. */
#define VICTIM(name, deaths, way)                                                                                      \
    static int name(kin_task *task, const void *from, void *to)                                                        \
    {                                                                                                                  \
        size_t i = kin_task_index(task);                                                                               \
        if ((i == 7 || i == 30) && kin_task_attempt(task) < (deaths))                                                  \
            way;                                                                                                       \
        return square(task, from, to);                                                                                 \
    }

VICTIM(aborts, 1000, abort())
VICTIM(exits, 1000, exit(3))
VICTIM(is_killed, 1000, test_process_kill(kin_current_pid()))
VICTIM(crashes, 1000, test_crash_access())
VICTIM(aborts_twice, 2, abort())

static void two_items_are_lost(kin_pool *pool, kin_map_fn function, size_t chunk, const char *words)
{
    for (int64_t i = 0; i < COUNT; i++)
        out[i] = -1;
    check_fails(KIN_ETASK, kin_pool_map(pool, function, in, sizeof in[0], out, sizeof out[0], COUNT,
                                        &(kin_map_options){.chunk = chunk, .errors = errors, .errors_max = COUNT, .failed = &failed}));
    assert_true(failed == 2);
    for (size_t e = 0; e < 2; e++) {
        assert_true(errors[e].index == (e == 0 ? 7 : 30));
        assert_int_equal(errors[e].code, KIN_ECHILD);
        assert_true(errors[e].died);
        if (strstr(errors[e].message, "crew-") == NULL || strstr(errors[e].message, "pid") == NULL || strstr(errors[e].message, words) == NULL)
            fail_msg("\"%s\" does not say who died of what (%s)", errors[e].message, words);
    }
    for (int64_t i = 0; i < COUNT; i++) {
        if (out[i] != (i == 7 || i == 30 ? -1 : (i + 1) * (i + 1)))
            fail_msg("chunk %lu: item %ld is %ld", (unsigned long)chunk, (long)i, (long)out[i]);
    }
    must_work(pool);
}

static void a_task_that_ends_its_worker_fails_alone(void **state)
{
    for (size_t chunk = 0; chunk <= 60; chunk = chunk * 2 + 1) {
        two_items_are_lost(*state, aborts, chunk, test_on_windows() ? "" : "6");
        two_items_are_lost(*state, exits, chunk, "3");
    }
    two_items_are_lost(*state, is_killed, 5, test_on_windows() ? "" : "9");
    two_items_are_lost(*state, crashes, 5, "11");
}

static void retried_after_a_death(void **state)
{
    for (size_t chunk = 0; chunk < 20; chunk += 9) {
        check(kin_pool_map(*state, aborts_twice, in, sizeof in[0], out, sizeof out[0], COUNT,
                           &(kin_map_options){.chunk = chunk, .retries = 2, .failed = &failed}));
        assert_true(failed == 0);
        for (int64_t i = 0; i < COUNT; i++)
            assert_true(out[i] == (i + 1) * (i + 1));
        check_fails(KIN_ETASK, kin_pool_map(*state, aborts_twice, in, sizeof in[0], out, sizeof out[0], COUNT,
                                            &(kin_map_options){.chunk = chunk, .retries = 1, .failed = &failed}));
        assert_true(failed == 2);
    }
    must_work(*state);
}

static int always_aborts(kin_task *task, const void *from, void *to)
{
    (void)task;
    (void)from;
    (void)to;
    abort();
}

static void every_task_ends_its_worker(void **state)
{
    check_fails(KIN_ETASK, kin_pool_map(*state, always_aborts, in, sizeof in[0], out, sizeof out[0], COUNT,
                                        &(kin_map_options){.errors = errors, .errors_max = COUNT, .failed = &failed}));
    assert_true(failed == COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(errors[i].index == i && errors[i].died && out[i] == -1);
    must_work(*state);
}

/* The time-out holds also while one worker after the other has to be replaced. */
static void a_time_out_amid_deaths(void **state)
{
    int64_t before = kin_now();
    kin_err err = kin_pool_map(*state, always_aborts, NULL, 0, NULL, 0, 100000, &(kin_map_options){.retries = 100, .timeout_ms = 300, .failed = &failed});
    assert_int_equal(err, KIN_ETIMEDOUT);
    assert_true(kin_now() - before < test_ms(10000));
    assert_true(failed == 100000);
    must_work(*state);
}

/* ---- between tasks ---- */

static void killed_between_maps(void **state)
{
    kin_pool *pool = *state;
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        for (int i = 0; i < 2; i++) {
            int64_t pid = kin_pool_worker_pid(pool, i);
            if (round % 3 != 0 || i == 0)
                crash_kill(pid);
            if (round % 2 == 0)
                assert_true((round % 3 == 0 && i == 1) || crash_until_gone(pid));
        }
        must_work(pool);
    }
    for (int i = 0; i < 2; i++) {
        int64_t pid = kin_pool_worker_pid(pool, i);
        crash_kill(pid);
        assert_true(crash_until_gone(pid));
    }
    must_work(pool);
    for (int i = 0; i < 2; i++)
        assert_true(kin_pool_worker_pid(pool, i) != 0);
}

static int sleeps_once(kin_task *task, const void *from, void *to)
{
    (void)from;
    (void)to;
    if (kin_task_index(task) == 0)
        uv_sleep(400);
    return 0;
}

static void kill_the_idle(void *arg)
{
    kin_pool *pool = arg;
    for (int i = 0; i < 30; i++) {
        uv_sleep(10);
        crash_kill(kin_pool_worker_pid(pool, 1));
    }
}

static int who(kin_task *task, const void *from, void *to)
{
    (void)from;
    *(int *)to = kin_task_worker(task);
    return 0;
}

/* One has work, the other has not and is killed again and again: that is no reason to give the map up. */
static void an_idle_worker_is_killed_again_and_again(void **state)
{
    kin_pool *pool = *state;
    uv_thread_t thread;
    int worker;
    check(kin_pool_map(pool, who, NULL, 0, &worker, sizeof worker, 1, NULL));
    assert_int_equal(uv_thread_create(&thread, kill_the_idle, pool), 0);
    /* Retries, for worker 1 may be the one that has the work. */
    kin_err err = kin_pool_map(pool, sleeps_once, NULL, 0, NULL, 0, 1, &(kin_map_options){.retries = 100});
    assert_int_equal(uv_thread_join(&thread), 0);
    check(err);
    must_work(pool);
}

static void close_with_dead_workers(void **state)
{
    (void)state;
    kin_pool *pool;
    check(kin_pool_create(&pool, &(kin_pool_options){.workers = 3}));
    for (int i = 0; i < 3; i++)
        crash_kill(kin_pool_worker_pid(pool, i));
    kin_pool_close(pool);
    check(kin_pool_create(&pool, &(kin_pool_options){.workers = 3}));
    crash_kill(kin_pool_worker_pid(pool, 1));
    check(kin_pool_terminate(pool));
    kin_pool_close(pool);
}

static void a_stopped_worker_is_ended_with_the_pool(void **state)
{
    kin_pool *pool;
    (void)state;
    check(kin_pool_create(&pool, &(kin_pool_options){.workers = 2}));
    int64_t pid = kin_pool_worker_pid(pool, 0);
    if (!test_process_stop(pid)) {
        kin_pool_close(pool);
        test_skip("no process can be stopped here");
    }
    must_work(pool); /* the other one does it all: nobody has a part of its own */
    kin_pool_close(pool);
    assert_true(test_process_gone(pid));
}

/* ---- crash points ---- */

static int set_crash_point(kin_task *task, const void *from, void *to)
{
    (void)to;
    /* Item by item, so that some worker gets each; the point may come in this very map, then it is retried. */
    if (kin_task_attempt(task) == 0)
        crash_at(from);
    return 0;
}

static void at_every_crash_point(void **state)
{
    static const char points[][24] = {"pool.claimed", "pool.claimed:3", "pool.item", "pool.item:9", "pool.unit", "pool.unit:4", "pool.entered", "park.published", "park.woken"};
    kin_pool *pool = *state;
    for (size_t p = 0; p < sizeof points / sizeof points[0]; p++) {
        for (size_t chunk = 0; chunk < 12; chunk += 4) {
            kin_err err = kin_pool_map(pool, set_crash_point, points[p], sizeof points[p], NULL, 0, 1, &(kin_map_options){.retries = 5});
            if (err != KIN_OK)
                fail_msg("%s: %s", points[p], kin_last_error());
            for (int64_t i = 0; i < COUNT; i++)
                out[i] = -1;
            err = kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, &(kin_map_options){.chunk = chunk, .retries = 5});
            if (err != KIN_OK)
                fail_msg("%s, chunk %lu: %s", points[p], (unsigned long)chunk, kin_last_error());
            for (int64_t i = 0; i < COUNT; i++) {
                if (out[i] != (i + 1) * (i + 1))
                    fail_msg("%s, chunk %lu: item %ld is wrong", points[p], (unsigned long)chunk, (long)i);
            }
        }
    }
    must_work(pool);
}

/* A worker that dies whenever it is started cannot be replaced for ever. */
static void workers_that_die_as_soon_as_they_start(void **state)
{
    kin_pool *pool = *state;
    crash_kill(kin_pool_worker_pid(pool, 0));
    crash_kill(kin_pool_worker_pid(pool, 1));
    assert_true(crash_until_gone(kin_pool_worker_pid(pool, 0)) && crash_until_gone(kin_pool_worker_pid(pool, 1)));
    crash_at("pool.entered");
    kin_err err = kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, &(kin_map_options){.failed = &failed});
    crash_at(NULL);
    check_fails(KIN_ECHILD, err);
    check_says("crew");
    assert_true(failed == COUNT);
    must_work(pool);
    crash_kill(kin_pool_worker_pid(pool, 0));
    crash_kill(kin_pool_worker_pid(pool, 1));
    assert_true(crash_until_gone(kin_pool_worker_pid(pool, 0)) && crash_until_gone(kin_pool_worker_pid(pool, 1)));
    crash_at("child.claimed"); /* they cannot even be started */
    err = kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, NULL);
    kin_pool *other = NULL;
    kin_err create = kin_pool_create(&other, &(kin_pool_options){.workers = 3});
    crash_at(NULL);
    assert_int_equal(err, KIN_ECHILD);
    assert_int_equal(create, KIN_ECHILD);
    assert_null(other);
    must_work(pool);
}

/* ---- storms ---- */

struct storm {
    kin_pool *pool;
    uint32_t seed, stop;
    int kills, pause_us;
    bool servers;
};

static void kill_workers(void *arg)
{
    struct storm *s = arg;
    uint32_t chance = s->seed;
    while (kin__load32(&s->stop) == 0) {
        crash_spin_us(crash_random(&chance, (uint32_t)s->pause_us));
        if (s->servers)
            crash_kill(crash_server());
        else
            crash_kill(kin_pool_worker_pid(s->pool, (int)crash_random(&chance, (uint32_t)kin_pool_workers(s->pool))));
        s->kills++;
    }
}

static int square_slowly(kin_task *task, const void *from, void *to)
{
    int64_t n = *(const int64_t *)from;
    crash_spin_us((uint32_t)(n % 7) * 10);
    return square(task, from, to);
}

static void storm(bool servers, size_t count, size_t chunk, int pause_us)
{
    /* A start is tried three times; where it takes longer, servers must live longer. */
    struct storm s = {.seed = crash_seed(), .pause_us = servers ? pause_us * (int)test_ms(1) : pause_us, .servers = servers};
    uv_thread_t thread;
    int64_t *from = malloc(count * sizeof *from), *to = malloc(count * sizeof *to);
    assert_true(from != NULL && to != NULL);
    check(kin_pool_create(&s.pool, &(kin_pool_options){.workers = 4, .name = "storm"}));
    for (size_t i = 0; i < count; i++)
        from[i] = (int64_t)i, to[i] = -1;
    assert_int_equal(uv_thread_create(&thread, kill_workers, &s), 0);
    size_t lost = 0;
    static kin_task_error first;
    kin_err err = kin_pool_map(s.pool, square_slowly, from, sizeof *from, to, sizeof *to, count,
                               &(kin_map_options){.chunk = chunk, .retries = 100, .failed = &lost, .errors = &first, .errors_max = 1});
    char *why = malloc(1000);
    (void)snprintf(why, 1000, "%s", kin_last_error());
    kin__store32(&s.stop, 1);
    assert_int_equal(uv_thread_join(&thread), 0);
    print_message("%d kills\n", s.kills);
    if (err != KIN_OK)
        fail_msg("%s; %lu lost, the first: %s", why, (unsigned long)lost, first.message);
    for (size_t i = 0; i < count; i++) {
        if (to[i] != (int64_t)(i * i))
            fail_msg("item %lu is wrong", (unsigned long)i);
    }
    must_work(s.pool);
    kin_pool_close(s.pool);
    free(from);
    free(to);
    free(why);
}

static void workers_are_killed_all_the_time(void **state)
{
    (void)state;
    storm(false, (size_t)test_scale(20000, 500), 0, test_on_windows() ? 300000 : 6000);
    storm(false, (size_t)test_scale(20000, 500), 1, test_on_windows() ? 300000 : 6000);
    storm(false, (size_t)test_scale(20000, 500), 100, test_on_windows() ? 300000 : 6000);
}

static void the_server_is_killed_during_maps(void **state)
{
    (void)state;
    if (crash_server() == 0)
        test_skip("there is no fork server here");
    storm(true, (size_t)test_scale(20000, 500), 0, 100000);
}

static void each_death_costs_one_item_at_most(void **state)
{
    (void)state;
    struct storm s = {.seed = crash_seed(), .pause_us = test_on_windows() ? 300000 : 20000};
    size_t count = (size_t)test_scale(20000, 500), lost = 0;
    uv_thread_t thread;
    int64_t *from = malloc(count * sizeof *from), *to = malloc(count * sizeof *to);
    kin_task_error *all = calloc(count, sizeof *all);
    assert_true(from != NULL && to != NULL && all != NULL);
    check(kin_pool_create(&s.pool, &(kin_pool_options){.workers = 4}));
    for (size_t i = 0; i < count; i++)
        from[i] = (int64_t)i, to[i] = -1;
    assert_int_equal(uv_thread_create(&thread, kill_workers, &s), 0);
    kin_err err = kin_pool_map(s.pool, square_slowly, from, sizeof *from, to, sizeof *to, count,
                               &(kin_map_options){.failed = &lost, .errors = all, .errors_max = count});
    kin__store32(&s.stop, 1);
    assert_int_equal(uv_thread_join(&thread), 0);
    print_message("%d kills, %lu items lost\n", s.kills, (unsigned long)lost);
    assert_int_equal(err, lost == 0 ? KIN_OK : KIN_ETASK);
    assert_true(lost <= (size_t)s.kills);
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_lost = next < lost && all[next].index == i;
        if (is_lost)
            assert_true(all[next++].died);
        assert_true(to[i] == (is_lost ? -1 : (int64_t)(i * i)));
    }
    assert_true(next == lost);
    kin_pool_close(s.pool);
    free(from);
    free(to);
    free(all);
}

/* ---- the owner of the pool is killed ---- */

static int own_a_pool(kin_args *args)
{
    kin_segment *segment;
    kin_pool *pool;
    CHILD_CHECK(kin_unpack(args, &segment) == KIN_OK);
    int64_t *words = kin_segment_data(segment);
    CHILD_CHECK(kin_pool_create(&pool, &(kin_pool_options){.workers = 3}) == KIN_OK);
    for (int i = 0; i < 3; i++)
        words[1 + i] = kin_pool_worker_pid(pool, i);
    kin__store32((uint32_t *)(void *)words, 1);
    (void)kin_pool_map(pool, sleeps_once, NULL, 0, NULL, 0, 100000000, NULL);
    uv_sleep(10000);
    return 0;
}

static void workers_end_with_a_killed_owner(void **state)
{
    (void)state;
    kin_segment *segment;
    check(kin_segment_create(&segment, 64));
    int64_t *words = kin_segment_data(segment);
    int places = crash_places();
    kin_process *owner = test_start(own_a_pool, KIN_ARGS(segment));
    assert_true(crash_until_at_least((uint32_t *)(void *)words, 1));
    check(kin_process_kill(owner));
    assert_int_equal(crash_join(owner), -9);
    for (int i = 0; i < 3; i++)
        assert_true(test_process_gone(words[1 + i]));
    assert_true(crash_until_places(places));
    kin_segment_close(segment);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_task_that_ends_its_worker_fails_alone),
        TEST(retried_after_a_death),
        TEST(every_task_ends_its_worker),
        TEST(a_time_out_amid_deaths),
        TEST(killed_between_maps),
        TEST(an_idle_worker_is_killed_again_and_again),
        TEST(close_with_dead_workers),
        TEST(a_stopped_worker_is_ended_with_the_pool),
        TEST(at_every_crash_point),
        TEST(workers_that_die_as_soon_as_they_start),
        TEST(workers_are_killed_all_the_time),
        TEST(the_server_is_killed_during_maps),
        TEST(each_death_costs_one_item_at_most),
        TEST(workers_end_with_a_killed_owner),
    };
    return cmocka_run_group_tests_name("pool_death", tests, NULL, NULL);
}
