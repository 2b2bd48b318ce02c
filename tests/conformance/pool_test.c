/* kin/pool.h as long as nobody dies; see tests/crash/pool_death_test.c for the rest. */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static kin_pool *pool; /* of the tests that need no other */

static int workers_wanted(void)
{
    return 3;
}

static int setup(void **state)
{
    (void)state;
    check(kin_pool_create(&pool, &(kin_pool_options){.workers = workers_wanted(), .name = "crew"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kin_pool_close(pool);
    return 0;
}

/* ---- tasks ---- */

static int square(kin_task *task, const void *in, void *out)
{
    (void)task;
    int64_t n = *(const int64_t *)in;
    *(int64_t *)out = n * n;
    return 0;
}

static int say_index(kin_task *task, const void *in, void *out)
{
    if (in != NULL)
        return 1;
    *(uint64_t *)out = kin_task_index(task);
    return 0;
}

static int only_read(kin_task *task, const void *in, void *out)
{
    return out != NULL || *(const uint64_t *)in != kin_task_index(task) + 5;
}

static int nothing(kin_task *task, const void *in, void *out)
{
    (void)task;
    return in != NULL || out != NULL;
}

static int add_index(kin_task *task, void *item)
{
    *(double *)item += (double)kin_task_index(task);
    return 0;
}

/* Odd items fail, with a code and a message of their own. */
static int odd_fails(kin_task *task, const void *in, void *out)
{
    int64_t n = *(const int64_t *)in;
    *(int64_t *)out = -n;
    if (n % 2 == 0)
        return 0;
    return kin_task_fail(task, (int)n, "item %lld is odd", (long long)n);
}

static int fails_twice(kin_task *task, const void *in, void *out)
{
    (void)in;
    *(int *)out = kin_task_attempt(task);
    return kin_task_attempt(task) < 2 ? kin_task_fail(task, 3, "attempt %d", kin_task_attempt(task)) : 0;
}

/* ---- maps ---- */

static void squares_of(kin_pool *p, size_t count, size_t chunk)
{
    int64_t *in = malloc((count + 1) * sizeof *in), *out = malloc((count + 1) * sizeof *out);
    assert_true(in != NULL && out != NULL);
    for (size_t i = 0; i < count; i++)
        in[i] = (int64_t)(i * 7 + 1), out[i] = -1;
    out[count] = -77;
    size_t failed = 99;
    check(kin_pool_map(p, square, in, sizeof *in, out, sizeof *out, count, &(kin_map_options){.chunk = chunk, .failed = &failed}));
    assert_true(failed == 0);
    for (size_t i = 0; i < count; i++) {
        if (out[i] != in[i] * in[i])
            fail_msg("%lu items in chunks of %lu: item %lu is wrong", (unsigned long)count, (unsigned long)chunk, (unsigned long)i);
    }
    assert_true(out[count] == -77);
    free(in);
    free(out);
}

static void squares(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, 3, 4, 1000}, chunks[] = {0, 1, 2, 7, 999, 1000, 1001, (size_t)1 << 40, SIZE_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++)
            squares_of(pool, counts[i], chunks[c]);
    }
    squares_of(pool, (size_t)test_scale(100000, 20000), 0);
    squares_of(pool, (size_t)test_scale(100000, 20000), 64);
}

static void other_numbers_of_workers(void **state)
{
    (void)state;
    static const int workers[] = {1, 2, 8, 0};
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
        kin_pool *p;
        check(kin_pool_create(&p, &(kin_pool_options){.workers = workers[i]}));
        assert_int_equal(kin_pool_workers(p), workers[i] != 0 ? workers[i] : kin_cpu_count());
        squares_of(p, 1, 0);
        squares_of(p, 5, 0);
        squares_of(p, 3000, 0);
        squares_of(p, 100, 1);
        kin_pool_close(p);
    }
}

static void many_workers(void **state)
{
    (void)state;
    kin_pool *p;
    int count = test_scale(200, 24);
    check(kin_pool_create(&p, &(kin_pool_options){.workers = count}));
    assert_int_equal(kin_pool_workers(p), count);
    for (int i = 0; i < count; i++) {
        assert_true(kin_pool_worker_pid(p, i) != 0);
        for (int j = 0; j < i; j++)
            assert_true(kin_pool_worker_pid(p, i) != kin_pool_worker_pid(p, j));
    }
    squares_of(p, 10000, 0);
    squares_of(p, 50, 1);
    int64_t *in = calloc((size_t)count, sizeof *in);
    assert_non_null(in);
    check(kin_pool_map(p, square, in, sizeof *in, in, sizeof *in, (size_t)count, NULL));
    free(in);
    kin_pool_close(p);
}

static void input_or_output_or_neither(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    uint64_t out[COUNT], in[COUNT];
    check(kin_pool_map(pool, say_index, NULL, 0, out, sizeof out[0], COUNT, NULL));
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_true(out[i] == i);
        in[i] = i + 5;
    }
    check(kin_pool_map(pool, only_read, in, sizeof in[0], NULL, 0, COUNT, NULL));
    check(kin_pool_map(pool, nothing, NULL, 0, NULL, 0, COUNT, NULL));
    /* In and out may be the same memory: it is copied before and after. */
    int64_t same[COUNT];
    for (int64_t i = 0; i < COUNT; i++)
        same[i] = i;
    check(kin_pool_map(pool, square, same, sizeof same[0], same, sizeof same[0], COUNT, NULL));
    for (int64_t i = 0; i < COUNT; i++)
        assert_true(same[i] == i * i);
}

struct odd {
    char text[37];
};

static int turn_round(kin_task *task, const void *in, void *out)
{
    (void)task;
    const struct odd *from = in;
    struct odd *to = out;
    for (size_t i = 0; i < sizeof from->text; i++)
        to->text[i] = from->text[sizeof from->text - 1 - i];
    return 0;
}

static void items_of_an_odd_size(void **state)
{
    (void)state;
    enum { COUNT = 333 };
    static struct odd in[COUNT], out[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        memset(in[i].text, (int)(i % 251), sizeof in[i].text), in[i].text[0] = (char)(i / 2);
    check(kin_pool_map(pool, turn_round, in, sizeof in[0], out, sizeof out[0], COUNT, NULL));
    for (size_t i = 0; i < COUNT; i++)
        assert_true(out[i].text[36] == in[i].text[0] && out[i].text[0] == in[i].text[36]);
}

static int aligned_to_16(kin_task *task, const void *in, void *out)
{
    (void)task;
    return ((uintptr_t)in & 15) != 0 || ((uintptr_t)out & 15) != 0;
}

static void items_are_aligned(void **state)
{
    (void)state;
    static char in[48 * 100], out[16 * 100];
    check(kin_pool_map(pool, aligned_to_16, in, 48, out, 16, 100, NULL));
}

static void maps_of_growing_size(void **state)
{
    (void)state;
    for (size_t count = 1; count <= 1u << 15; count *= 2)
        squares_of(pool, count, 0);
    for (size_t count = 1u << 15; count >= 1; count /= 8)
        squares_of(pool, count, 0);
}

static void in_place_over_an_array(void **state)
{
    (void)state;
    size_t count = 5000;
    kin_array *array, *other;
    check(kin_array_create(&array, KIN_F64, count));
    check(kin_array_create(&other, KIN_F64, 10));
    double *data = kin_array_data(array);
    for (size_t i = 0; i < count; i++)
        data[i] = 0.5;
    for (int turn = 0; turn < 3; turn++) {
        check(kin_pool_map_array(pool, add_index, array, turn == 1 ? &(kin_map_options){.chunk = 17} : NULL));
        check(kin_pool_map_array(pool, add_index, other, NULL));
        squares_of(pool, 100, 0); /* in between, one that copies */
    }
    for (size_t i = 0; i < count; i++)
        assert_true(data[i] == 0.5 + 3.0 * (double)i);
    kin_array_close(array);
    check_fails(KIN_EINVAL, kin_pool_map_array(pool, add_index, array, NULL));
    check(kin_array_create(&array, KIN_F64, 3)); /* perhaps at the same address */
    check(kin_pool_map_array(pool, add_index, array, NULL));
    assert_true(((double *)kin_array_data(array))[2] == 2);
    kin_array_close(array);
    kin_array_close(other);
}

/* ---- failures ---- */

static void failures_by_index(void **state)
{
    (void)state;
    enum { COUNT = 400, FAILED = COUNT / 2 };
    int64_t in[COUNT], out[COUNT];
    static kin_task_error errors[COUNT];
    for (size_t chunk = 0; chunk < 3; chunk++) {
        size_t failed = 0;
        for (int64_t i = 0; i < COUNT; i++)
            in[i] = i, out[i] = 1000 + i;
        check_fails(KIN_ETASK, kin_pool_map(pool, odd_fails, in, sizeof in[0], out, sizeof out[0], COUNT,
                                            &(kin_map_options){.chunk = chunk * 9, .errors = errors, .errors_max = COUNT, .failed = &failed}));
        check_says("200");
        assert_true(failed == FAILED);
        for (int64_t i = 0; i < COUNT; i++)
            assert_true(out[i] == (i % 2 == 0 ? -i : 1000 + i)); /* as it was where the task failed */
        for (size_t i = 0; i < FAILED; i++) {
            char message[64];
            (void)snprintf(message, sizeof message, "item %d is odd", (int)(2 * i + 1));
            assert_true(errors[i].index == 2 * i + 1);
            assert_int_equal(errors[i].code, (int)(2 * i + 1));
            assert_false(errors[i].died);
            assert_string_equal(errors[i].message, message);
        }
    }
}

static void more_failures_than_room(void **state)
{
    (void)state;
    enum { COUNT = 100, ROOM = 7 };
    int64_t in[COUNT], out[COUNT];
    kin_task_error errors[ROOM + 1];
    size_t failed = 0;
    for (int64_t i = 0; i < COUNT; i++)
        in[i] = i;
    errors[ROOM].index = 4711;
    check_fails(KIN_ETASK, kin_pool_map(pool, odd_fails, in, sizeof in[0], out, sizeof out[0], COUNT,
                                        &(kin_map_options){.errors = errors, .errors_max = ROOM, .failed = &failed}));
    assert_true(failed == COUNT / 2);
    for (size_t i = 0; i < ROOM; i++)
        assert_true(errors[i].index == 2 * i + 1);
    assert_true(errors[ROOM].index == 4711);
    check_fails(KIN_ETASK, kin_pool_map(pool, odd_fails, in, sizeof in[0], out, sizeof out[0], COUNT, NULL));
    /* The next is not affected. */
    failed = 5;
    check(kin_pool_map(pool, odd_fails, in, sizeof in[0], out, sizeof out[0], 1, &(kin_map_options){.failed = &failed}));
    assert_true(failed == 0);
}

static int all_fail(kin_task *task, const void *in, void *out)
{
    (void)in;
    (void)out;
    char text[400];
    memset(text, 'm', sizeof text);
    text[sizeof text - 1] = 0;
    return kin_task_fail(task, 0, "%zu %s", kin_task_index(task), text);
}

static void very_many_failures(void **state)
{
    (void)state;
    size_t count = 20000, failed = 0;
    kin_task_error *errors = calloc(count, sizeof *errors);
    assert_non_null(errors);
    check_fails(KIN_ETASK, kin_pool_map(pool, all_fail, NULL, 0, NULL, 0, count,
                                        &(kin_map_options){.errors = errors, .errors_max = count, .failed = &failed}));
    assert_true(failed == count);
    size_t with_words = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(errors[i].index == i);
        assert_int_equal(errors[i].code, 1); /* made of 0 */
        char number[32];
        (void)snprintf(number, sizeof number, "%lu m", (unsigned long)i);
        assert_true(errors[i].message[0] == 0 || strncmp(errors[i].message, number, strlen(number)) == 0);
        assert_true(strlen(errors[i].message) <= 207);
        with_words += errors[i].message[0] != 0;
    }
    assert_true(with_words >= 1000);
    free(errors);
}

static void retries(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    int out[COUNT] = {0};
    size_t failed = 9;
    check(kin_pool_map(pool, fails_twice, NULL, 0, out, sizeof out[0], COUNT, &(kin_map_options){.retries = 2, .failed = &failed}));
    assert_true(failed == 0);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(out[i], 2);
    kin_task_error errors[COUNT];
    check_fails(KIN_ETASK, kin_pool_map(pool, fails_twice, NULL, 0, out, sizeof out[0], COUNT,
                                        &(kin_map_options){.retries = 1, .errors = errors, .errors_max = COUNT, .failed = &failed}));
    assert_true(failed == COUNT);
    assert_int_equal(errors[3].code, 3);
    assert_string_equal(errors[3].message, "attempt 1"); /* the last one's */
    check(kin_pool_map(pool, fails_twice, NULL, 0, out, sizeof out[0], COUNT, &(kin_map_options){.retries = 100, .chunk = 7}));
    check_fails(KIN_ETASK, kin_pool_map(pool, fails_twice, NULL, 0, out, sizeof out[0], COUNT, NULL));
}

/* ---- what a task sees ---- */

struct seen {
    uint64_t index;
    int32_t worker, attempt;
    int64_t pid;
    char name[48];
};

static int look_around(kin_task *task, const void *in, void *out)
{
    (void)in;
    struct seen *seen = out;
    seen->index = kin_task_index(task);
    seen->worker = kin_task_worker(task);
    seen->attempt = kin_task_attempt(task);
    seen->pid = kin_current_pid();
    (void)snprintf(seen->name, sizeof seen->name, "%s", kin_current_name());
    return 0;
}

static void what_a_task_sees(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct seen seen[COUNT];
    check(kin_pool_map(pool, look_around, NULL, 0, seen, sizeof seen[0], COUNT, &(kin_map_options){.chunk = 1}));
    for (size_t i = 0; i < COUNT; i++) {
        char name[48];
        assert_true(seen[i].index == i);
        assert_int_equal(seen[i].attempt, 0);
        assert_true(seen[i].worker >= 0 && seen[i].worker < workers_wanted());
        assert_true(seen[i].pid == kin_pool_worker_pid(pool, seen[i].worker));
        (void)snprintf(name, sizeof name, "crew-%d", seen[i].worker + 1);
        assert_string_equal(seen[i].name, name);
    }
    assert_int_equal(kin_task_index(NULL), 0);
    assert_int_equal(kin_task_fail(NULL, 5, "nobody"), 5);
}

static int global = 1;

static int add_to_global(kin_task *task, const void *in, void *out)
{
    (void)task;
    (void)in;
    *(int *)out = global;
    return 0;
}

static void a_global_of_the_caller_is_not_seen(void **state)
{
    (void)state;
    int out[20];
    global = 5;
    check(kin_pool_map(pool, add_to_global, NULL, 0, out, sizeof out[0], 20, NULL));
    for (int i = 0; i < 20; i++)
        assert_int_equal(out[i], 1);
    global = 1;
}

static int needs_all(kin_task *task, void *item)
{
    (void)item;
    (void)task;
    return 0;
}

/* Tasks that wait for each other show that as many run at once as there are workers. */
struct meeting {
    uint32_t here;
};

static int meet(kin_task *task, void *item)
{
    /* Item 0 is the meeting point; it is the first of the array and every task knows its own index. */
    struct meeting *all = (struct meeting *)item - kin_task_index(task);
    kin__add32(&all[0].here, 1);
    return crash_until_at_least(&all[0].here, (uint32_t)workers_wanted()) ? 0 : 1;
}

static void all_workers_run_at_once(void **state)
{
    (void)state;
    kin_array *array;
    check(kin_array_create_of(&array, sizeof(struct meeting), (size_t)workers_wanted()));
    for (int round = 0; round < 20; round++) {
        ((struct meeting *)kin_array_data(array))->here = 0;
        check(kin_pool_map_array(pool, meet, array, &(kin_map_options){.chunk = round % 2}));
    }
    kin_array_close(array);
}

/* ---- progress ---- */

struct told {
    int times;
    bool backwards, wrong_total;
    size_t last;
    kin_progress end;
};

static void note_progress(const kin_progress *progress, void *data)
{
    struct told *told = data;
    told->times++;
    told->backwards |= progress->done < told->last || progress->done > progress->total || progress->failed > progress->done;
    told->last = progress->done;
    told->end = *progress;
}

static void progress(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    int64_t in[COUNT], out[COUNT];
    struct told told = {0};
    for (int64_t i = 0; i < COUNT; i++)
        in[i] = i;
    check(kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, &(kin_map_options){.progress = note_progress, .progress_data = &told}));
    assert_true(told.times >= 1);
    assert_false(told.backwards);
    assert_true(told.end.done == COUNT && told.end.total == COUNT && told.end.failed == 0);
    assert_true(told.end.seconds >= 0 && told.end.remaining >= 0);
    told = (struct told){0};
    check_fails(KIN_ETASK, kin_pool_map(pool, odd_fails, in, sizeof in[0], out, sizeof out[0], COUNT,
                                        &(kin_map_options){.progress = note_progress, .progress_data = &told}));
    assert_false(told.backwards);
    assert_true(told.end.done == COUNT && told.end.failed == COUNT / 2);
}

/* ---- time-outs and ends ---- */

/* Longer than the test may take. */
static void wait_for_the_end(void)
{
    for (int64_t end = kin_now() + test_ms(100000); kin_now() < end;)
        uv_sleep(100);
}

static int item_3_never_ends(kin_task *task, const void *in, void *out)
{
    if (kin_task_index(task) == 3)
        wait_for_the_end();
    return square(task, in, out);
}

static void a_task_that_never_ends(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    for (int round = 0; round < 2; round++) {
        int64_t in[COUNT], out[COUNT];
        kin_task_error errors[COUNT];
        size_t failed = 0;
        struct told told = {0};
        for (int64_t i = 0; i < COUNT; i++)
            in[i] = i + 2, out[i] = -1;
        check_fails(KIN_ETIMEDOUT, kin_pool_map(pool, item_3_never_ends, in, sizeof in[0], out, sizeof out[0], COUNT,
                                                &(kin_map_options){.timeout_ms = test_ms(500), .chunk = 1, .errors = errors, .errors_max = COUNT, .failed = &failed, .progress = note_progress, .progress_data = &told}));
        assert_true(failed == 1);
        assert_true(errors[0].index == 3);
        assert_int_equal(errors[0].code, KIN_ETIMEDOUT);
        for (int64_t i = 0; i < COUNT; i++)
            assert_true(out[i] == (i == 3 ? -1 : (i + 2) * (i + 2)));
        assert_true(told.end.done == COUNT);
        squares_of(pool, 200, 0); /* it goes on working */
    }
}

static void a_time_out_that_is_not_reached(void **state)
{
    (void)state;
    int64_t in[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, out[10];
    check(kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], 10, &(kin_map_options){.timeout_ms = test_ms(20000)}));
    check(kin_pool_map(pool, square, in, sizeof in[0], out, sizeof out[0], 10, &(kin_map_options){.timeout_ms = KIN_FOREVER}));
}

struct other_thread {
    kin_pool *pool;
    kin_err err;
    size_t failed;
    uint32_t *running;
    bool right;
};

static int never_ends(kin_task *task, void *item)
{
    (void)task;
    kin__add32(item, 1);
    wait_for_the_end();
    return 0;
}

static void map_never_ending(void *arg)
{
    struct other_thread *t = arg;
    kin_array *array;
    t->err = kin_array_create(&array, KIN_U32, 50);
    if (t->err != KIN_OK)
        return;
    kin__store64((uint64_t *)(void *)&t->running, (uint64_t)(uintptr_t)kin_array_data(array));
    t->err = kin_pool_map_array(t->pool, never_ends, array, &(kin_map_options){.chunk = 1, .failed = &t->failed});
    kin_array_close(array);
}

static bool is_running(void *arg)
{
    struct other_thread *t = arg;
    uint32_t *items = (uint32_t *)(uintptr_t)kin__load64((uint64_t *)(void *)&t->running);
    return items != NULL && kin__load32(&items[0]) != 0;
}

static void terminated_by_another_thread(void **state)
{
    (void)state;
    struct other_thread t = {0};
    uv_thread_t thread;
    check(kin_pool_create(&t.pool, &(kin_pool_options){.workers = 2}));
    int64_t pid = kin_pool_worker_pid(t.pool, 0);
    assert_int_equal(uv_thread_create(&thread, map_never_ending, &t), 0);
    assert_true(crash_until(is_running, &t));
    check(kin_pool_terminate(t.pool));
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(t.err, KIN_ECANCELLED);
    assert_true(t.failed == 50);
    assert_true(test_process_gone(pid));
    check(kin_pool_terminate(t.pool));
    int64_t in = 3, out = 0;
    check_fails(KIN_ECANCELLED, kin_pool_map(t.pool, square, &in, sizeof in, &out, sizeof out, 1, NULL));
    kin_pool_close(t.pool);
}

static void closed(void **state)
{
    (void)state;
    kin_pool *p;
    int64_t in = 3, out = 0;
    check(kin_pool_create(&p, &(kin_pool_options){.workers = 2}));
    int64_t pid = kin_pool_worker_pid(p, 1);
    kin_pool_close(p);
    assert_true(test_process_gone(pid)); /* the workers are gone, too */
    kin_pool_close(p);
    check_fails(KIN_EINVAL, kin_pool_map(p, square, &in, sizeof in, &out, sizeof out, 1, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(p, square, &in, sizeof in, &out, sizeof out, 0, NULL));
    check_fails(KIN_EINVAL, kin_pool_terminate(p));
    assert_int_equal(kin_pool_workers(p), 0);
    assert_true(kin_pool_worker_pid(p, 0) == 0);
    kin_pool_close(NULL);
}

static void made_and_closed_leaves_nothing(void **state)
{
    (void)state;
    squares_of(pool, 10, 0);
    int places = crash_places();
    kin_pool *p;
    for (int i = 0; i < 70; i++) { /* as many closed objects as are kept for a while */
        kin_segment *s;
        check(kin_segment_create(&s, 1));
        kin_segment_close(s);
    }
    int handles = test_count_handles();
    for (int round = 0, rounds = test_scale(20, 3); round < rounds; round++) {
        check(kin_pool_create(&p, &(kin_pool_options){.workers = 2}));
        squares_of(p, 100, 0);
        kin_pool_close(p);
    }
    assert_true(crash_until_places(places));
    if (!test_on_windows()) /* handles of threads and processes are given back by the system a little later */
        assert_int_equal(test_count_handles(), handles);
}

/* ---- several at once ---- */

static void map_squares_in_thread(void *arg)
{
    struct other_thread *t = arg;
    enum { COUNT = 200 };
    int64_t in[COUNT], out[COUNT];
    t->right = true;
    for (int round = 0; round < 50 && t->err == KIN_OK; round++) {
        for (int64_t i = 0; i < COUNT; i++)
            in[i] = i + round, out[i] = 0;
        t->err = kin_pool_map(t->pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, NULL);
        for (int64_t i = 0; i < COUNT; i++)
            t->right &= out[i] == (i + round) * (i + round);
    }
}

static void threads_take_turns(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    struct other_thread t[THREADS] = {{0}};
    uv_thread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        t[i].pool = pool;
        assert_int_equal(uv_thread_create(&threads[i], map_squares_in_thread, &t[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(t[i].err, KIN_OK);
        assert_true(t[i].right);
    }
}

static void two_pools_at_once(void **state)
{
    (void)state;
    struct other_thread t[2] = {{0}};
    uv_thread_t threads[2];
    for (int i = 0; i < 2; i++) {
        check(kin_pool_create(&t[i].pool, &(kin_pool_options){.workers = 2}));
        assert_int_equal(uv_thread_create(&threads[i], map_squares_in_thread, &t[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(uv_thread_join(&threads[i]), 0);
        assert_int_equal(t[i].err, KIN_OK);
        assert_true(t[i].right);
        kin_pool_close(t[i].pool);
    }
}

static int map_in_a_task(kin_task *task, const void *in, void *out)
{
    enum { COUNT = 20 };
    kin_pool *inner;
    int64_t n[COUNT], squared[COUNT], sum = 0;
    if (kin_pool_create(&inner, &(kin_pool_options){.workers = 2}) != KIN_OK)
        return kin_task_fail(task, 1, "%s", kin_last_error());
    for (int64_t i = 0; i < COUNT; i++)
        n[i] = i + *(const int64_t *)in;
    kin_err err = kin_pool_map(inner, square, n, sizeof n[0], squared, sizeof squared[0], COUNT, NULL);
    for (int i = 0; i < COUNT; i++)
        sum += squared[i];
    kin_pool_close(inner);
    *(int64_t *)out = sum;
    return err;
}

static void a_pool_in_a_task(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    int64_t in[COUNT], out[COUNT];
    kin_task_error errors[COUNT] = {{0}};
    int places = crash_places();
    for (int64_t i = 0; i < COUNT; i++)
        in[i] = i;
    kin_err err = kin_pool_map(pool, map_in_a_task, in, sizeof in[0], out, sizeof out[0], COUNT, &(kin_map_options){.errors = errors, .errors_max = COUNT});
    if (err != KIN_OK)
        fail_msg("%s", errors[0].message);
    for (int64_t i = 0; i < COUNT; i++) {
        int64_t sum = 0;
        for (int64_t k = i; k < i + 20; k++)
            sum += k * k;
        assert_true(out[i] == sum);
    }
    assert_true(crash_until_places(places));
}

static int start_a_process(kin_args *args)
{
    int64_t code;
    return kin_unpack(args, &code) == KIN_OK ? (int)code : 99;
}

static int process_in_a_task(kin_task *task, const void *in, void *out)
{
    (void)in;
    kin_process *p;
    int code = -1, index = (int)kin_task_index(task);
    if (kin_process_start(&p, start_a_process, KIN_ARGS(index), NULL) != KIN_OK || kin_process_join(p, test_ms(20000)) != KIN_OK ||
        kin_process_exit_code(p, &code) != KIN_OK)
        return kin_task_fail(task, 1, "%s", kin_last_error());
    kin_process_close(p);
    *(int *)out = code;
    return 0;
}

static void a_process_in_a_task(void **state)
{
    (void)state;
    int out[12];
    check(kin_pool_map(pool, process_in_a_task, NULL, 0, out, sizeof out[0], 12, NULL));
    for (int i = 0; i < 12; i++)
        assert_int_equal(out[i], i);
}

/* ---- arguments ---- */

static void wrong_arguments(void **state)
{
    (void)state;
    kin_pool *p = NULL;
    int64_t in[2] = {1, 2}, out[2];
    char long_name[200];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    check_fails(KIN_EINVAL, kin_pool_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_pool_create(&p, &(kin_pool_options){.workers = -1}));
    check_fails(KIN_EINVAL, kin_pool_create(&p, &(kin_pool_options){.workers = 2000}));
    check_says("2000");
    check_fails(KIN_EINVAL, kin_pool_create(&p, &(kin_pool_options){.workers = 1, .name = ""}));
    check_fails(KIN_EINVAL, kin_pool_create(&p, &(kin_pool_options){.workers = 1, .name = long_name}));
    assert_null(p);
    check_fails(KIN_EINVAL, kin_pool_map(NULL, square, in, 8, out, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, NULL, in, 8, out, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, NULL, 8, out, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, NULL, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, out, 8, 2, &(kin_map_options){.retries = -1}));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, out, 8, 2, &(kin_map_options){.retries = 101}));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, out, 8, 2, &(kin_map_options){.timeout_ms = -2}));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, out, 8, 2, &(kin_map_options){.errors_max = 3}));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, 8, out, SIZE_MAX / 2, 4, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, square, in, SIZE_MAX, out, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, nothing, NULL, 0, NULL, 0, SIZE_MAX, NULL));
    check_fails(KIN_EINVAL, kin_pool_map(pool, (kin_map_fn)(uintptr_t)&global, in, 8, out, 8, 2, NULL));
    check_fails(KIN_EINVAL, kin_pool_map_array(pool, needs_all, NULL, NULL));
    check_fails(KIN_EINVAL, kin_pool_map_array(NULL, needs_all, NULL, NULL));
    assert_int_equal(kin_pool_workers(NULL), 0);
    assert_true(kin_pool_worker_pid(pool, -1) == 0);
    assert_true(kin_pool_worker_pid(pool, workers_wanted()) == 0);
    assert_true(kin_pool_worker_pid(NULL, 0) == 0);
    check_fails(KIN_EINVAL, kin_pool_terminate(NULL));
    squares_of(pool, 10, 0);
}

/* ---- a task in a library ---- */

static void tasks_in_a_library(void **state)
{
    (void)state;
    uv_lib_t library;
    void *symbol;
    double in[100], out[100];
    if (uv_dlopen(KIN_TEST_PLUGIN, &library) != 0)
        fail_msg("%s", uv_dlerror(&library));
    assert_int_equal(uv_dlsym(&library, "plugin_square", &symbol), 0);
    for (int i = 0; i < 100; i++)
        in[i] = i + 0.5;
    check(kin_pool_map(pool, (kin_map_fn)(uintptr_t)symbol, in, sizeof in[0], out, sizeof out[0], 100, NULL));
    for (int i = 0; i < 100; i++)
        assert_true(out[i] == in[i] * in[i]);
    assert_int_equal(uv_dlsym(&library, "plugin_fail", &symbol), 0);
    kin_task_error error;
    size_t failed;
    check_fails(KIN_ETASK, kin_pool_map(pool, (kin_map_fn)(uintptr_t)symbol, in, sizeof in[0], out, sizeof out[0], 100,
                                        &(kin_map_options){.errors = &error, .errors_max = 1, .failed = &failed}));
    assert_true(failed == 100 && error.code == 23 && error.message[0] == 0);
    squares_of(pool, 100, 0);
    uv_dlclose(&library);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squares),
        cmocka_unit_test(other_numbers_of_workers),
        cmocka_unit_test(many_workers),
        cmocka_unit_test(input_or_output_or_neither),
        cmocka_unit_test(items_of_an_odd_size),
        cmocka_unit_test(items_are_aligned),
        cmocka_unit_test(maps_of_growing_size),
        cmocka_unit_test(in_place_over_an_array),
        cmocka_unit_test(failures_by_index),
        cmocka_unit_test(more_failures_than_room),
        cmocka_unit_test(very_many_failures),
        cmocka_unit_test(retries),
        cmocka_unit_test(what_a_task_sees),
        cmocka_unit_test(a_global_of_the_caller_is_not_seen),
        cmocka_unit_test(all_workers_run_at_once),
        cmocka_unit_test(progress),
        cmocka_unit_test(a_task_that_never_ends),
        cmocka_unit_test(a_time_out_that_is_not_reached),
        cmocka_unit_test(terminated_by_another_thread),
        cmocka_unit_test(closed),
        cmocka_unit_test(made_and_closed_leaves_nothing),
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(two_pools_at_once),
        cmocka_unit_test(a_pool_in_a_task),
        cmocka_unit_test(a_process_in_a_task),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(tasks_in_a_library),
    };
    return cmocka_run_group_tests_name("pool", tests, setup, teardown);
}
