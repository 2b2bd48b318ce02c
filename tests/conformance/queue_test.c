/* @ctest TIMEOUT 240 */
/* kin/queue.h: messages of bytes, in one process. What several processes see of each other is in queue_flow_test.c, values in
 * queue_args_test.c, messages in place in queue_place_test.c, joining in queue_join_test.c, relaxed queues in queue_relaxed_test.c. */
#include "queue_support.h"

#include "ring.h"

#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

static void options(void **state)
{
    (void)state;
    kin_queue *q = NULL;
    check_fails(KIN_EINVAL, kin_queue_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_queue_create(&q, &(kin_queue_options){.name = "wide", .max_items = (size_t)1 << 31}));
    check_says("wide");
    check_says("2147483648");
    check_fails(KIN_EINVAL,
                kin_queue_create(&q, &(kin_queue_options){.name = "both", .max_items = 5, .relaxed = true}));
    check_says("both");
    check_says("relaxed");
#if SIZE_MAX > 0xffffffffu
    check_fails(KIN_EINVAL,
                kin_queue_create(&q, &(kin_queue_options){.name = "huge", .capacity = ((size_t)1 << 32) + 1}));
    check_says("huge");
    check_says("4 GiB");
    check_fails(KIN_EINVAL, kin_queue_create(&q, &(kin_queue_options){.capacity = SIZE_MAX}));
#endif
    assert_null(q);

    check(kin_queue_create(&q, NULL));
    assert_string_equal(kin_queue_name(q), "");
    queue_check_usable(q);
    kin_queue_close(q);
    q = queue_new((kin_queue_options){.max_items = INT32_MAX});
    queue_check_usable(q);
    kin_queue_close(q);
    char name[] = "a name of exactly forty-two letters ......";
    q = queue_new((kin_queue_options){.name = name, .capacity = 1});
    memset(name, 'x', sizeof name - 1);
    assert_string_equal(kin_queue_name(q), "a name of exactly forty-two letters ...");
    queue_check_usable(q);
    kin_queue_close(q);
}

/* How many messages of `size` bytes find room at once. */
static size_t room_for(kin_queue *q, size_t size)
{
    static const char bytes[4096];
    size_t count = 0;
    while (kin_queue_put(q, bytes, size, KIN_NOWAIT) == KIN_OK)
        count++;
    assert_int_equal(kin_last_code(), KIN_EFULL);
    assert_int_equal(kin_queue_size(q), count);
    assert_true(kin_queue_full(q, size));
    return count;
}

static void capacity(void **state)
{
    (void)state;
    static const struct {
        size_t capacity, real;
    } cases[] = {{1, 4096}, {4095, 4096}, {4096, 4096}, {4097, 8192}, {100000, 131072}, {0, KIN_QUEUE_CAPACITY}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t size = 0; size <= 33; size += i < 4 ? 1 : 33) {
            kin_queue *q = queue_new((kin_queue_options){.name = "room", .capacity = cases[i].capacity});
            size_t takes = (size + 16 + 15) / 16 * 16, fit = cases[i].real / takes;
            assert_int_equal(room_for(q, size), fit);
            check_says("room");
            for (size_t k = 0; k < fit; k++)
                check(kin_queue_get(q, (char[64]){0}, 64, NULL, KIN_NOWAIT));
            queue_check_usable(q);
            kin_queue_close(q);
        }
    }
}

/* ---- wrong calls ---- */

static void wrong_calls(kin_queue *q)
{
    char buffer[8] = "";
    void *data = buffer;
    size_t size = 77, count = 77;
    kin_view view = {buffer, 1};
    kin_message message = {0};
    kin_args *args = NULL;
    check_fails(KIN_EINVAL, kin_queue_put(q, buffer, 1, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get(q, buffer, 8, &size, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_new(q, &data, &size, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_put_many(q, &view, 1, &count, KIN_NOWAIT));
    assert_int_equal(count, 0);
    check_fails(KIN_EINVAL, kin_queue_put_many(q, &view, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_many(q, buffer, 8, &view, 1, &count, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_put_args(q, KIN_ARGS(1), KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_args(q, &args, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_reserve(q, &message, 1, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_commit(q, &message));
    check_fails(KIN_EINVAL, kin_queue_cancel(q, &message));
    check_fails(KIN_EINVAL, kin_queue_take(q, &message, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_done(q, &message));
    check_fails(KIN_EINVAL, kin_queue_give_back(q, &message));
    check_fails(KIN_EINVAL, kin_queue_task_done(q));
    check_fails(KIN_EINVAL, kin_queue_join(q, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_shutdown(q));
    assert_int_equal(kin_queue_abandoned(q), 0);
    assert_int_equal(kin_queue_size(q), 0);
    assert_true(kin_queue_empty(q));
    assert_true(kin_queue_full(q, 0));
    assert_string_equal(kin_queue_name(q), "");
    assert_ptr_equal(data, buffer);
    assert_int_equal(size, 77);
    assert_null(args);
    kin_queue_close(q);
}

static void no_queue(void **state)
{
    (void)state;
    wrong_calls(NULL);
    check_fails(KIN_EINVAL, kin_queue_shutdown(NULL));
    check_says("NULL");
    kin_queue *q = queue_new((kin_queue_options){0});
    queue_put_number(q, 1);
    kin_queue_close(q);
    wrong_calls(q);
    check_fails(KIN_EINVAL, kin_queue_shutdown(q));
    check_says("closed");
    uint64_t other[64] = {0};
    wrong_calls((kin_queue *)(void *)other);
}

static void wrong_arguments(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "strict"});
    char buffer[8] = "";
    void *data;
    size_t size, count = 77;
    kin_view view = {buffer, 1}, bad[2] = {{buffer, 1}, {NULL, 5}};
    kin_message message;
    kin_args *args;
    static const int64_t wrong[] = {-2, -1000, INT64_MIN};
    for (int i = 0; i < 3; i++) {
        check_fails(KIN_EINVAL, kin_queue_put(q, buffer, 1, wrong[i]));
        check_says("strict");
        check_fails(KIN_EINVAL, kin_queue_get(q, buffer, 8, &size, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_get_new(q, &data, &size, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_put_many(q, &view, 1, &count, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_get_many(q, buffer, 8, &view, 1, &count, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_put_args(q, KIN_ARGS(1), wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_get_args(q, &args, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_reserve(q, &message, 1, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_take(q, &message, wrong[i]));
        check_fails(KIN_EINVAL, kin_queue_join(q, wrong[i]));
    }
    check_fails(KIN_EINVAL, kin_queue_put(q, NULL, 1, KIN_NOWAIT));
    check_says("strict");
    check_says("NULL");
    check_fails(KIN_EINVAL, kin_queue_get(q, NULL, 1, &size, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_new(q, NULL, &size, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get_new(q, &data, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_put_many(q, NULL, 1, &count, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_put_many(q, bad, 2, &count, KIN_NOWAIT));
    check_says("message 1");
    assert_int_equal(count, 0);
    check_fails(KIN_EINVAL, kin_queue_get_many(q, buffer, 8, NULL, 1, &count, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_many(q, buffer, 8, &view, 0, &count, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_many(q, buffer, 8, &view, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_many(q, NULL, 8, &view, 1, &count, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_get_args(q, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_reserve(q, NULL, 1, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_take(q, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_queue_commit(q, NULL));
    check_fails(KIN_EINVAL, kin_queue_done(q, NULL));
    check_fails(KIN_ESTATE, kin_queue_task_done(q));
    check_says("strict");
    check_fails(KIN_ESTATE, kin_queue_join(q, KIN_NOWAIT));
    assert_int_equal(kin_queue_abandoned(q), 0);
    check(kin_queue_put_many(q, NULL, 0, &count, KIN_NOWAIT));
    assert_int_equal(count, 0);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- one message ---- */

/* Around every size at which something changes. */
static void all_sizes(void **state)
{
    (void)state;
    enum { CAPACITY = 65536 };
    static const size_t sizes[] = {0,
                                   1,
                                   2,
                                   7,
                                   8,
                                   9,
                                   15,
                                   16,
                                   17,
                                   31,
                                   32,
                                   33,
                                   4095,
                                   4096,
                                   4097,
                                   CAPACITY / 2 - 81,
                                   CAPACITY / 2 - 80,
                                   CAPACITY / 2 - 79,
                                   CAPACITY / 2 - 65,
                                   CAPACITY / 2 - 64,
                                   CAPACITY / 2 - 63,
                                   CAPACITY / 2 - 17,
                                   CAPACITY / 2 - 16,
                                   CAPACITY / 2 - 15,
                                   CAPACITY / 2,
                                   CAPACITY / 2 + 1,
                                   CAPACITY - 17,
                                   CAPACITY - 16,
                                   CAPACITY - 1,
                                   CAPACITY,
                                   CAPACITY + 1,
                                   10 * CAPACITY + 3};
    kin_queue *q = queue_new((kin_queue_options){.name = "sizes", .capacity = CAPACITY});
    char *bytes = malloc(11 * CAPACITY), *back = malloc(11 * CAPACITY);
    assert_non_null(bytes);
    assert_non_null(back);
    for (uint32_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t size = sizes[i], found = 77;
            queue_fill(bytes, size, (uint32_t)i + round);
            assert_false(kin_queue_full(q, size));
            check(kin_queue_put(q, size != 0 ? bytes : NULL, size, KIN_NOWAIT));
            memset(bytes, 0, size); /* what is put is what it was then */
            assert_int_equal(kin_queue_size(q), 1);
            if (size != 0) {
                check_fails(KIN_EMSGSIZE, kin_queue_get(q, back, size - 1, &found, KIN_NOWAIT));
                check_says("sizes");
                assert_int_equal(found, size);
                check_fails(KIN_EMSGSIZE, kin_queue_get(q, NULL, 0, NULL, KIN_FOREVER));
                assert_int_equal(kin_queue_size(q), 1);
            }
            void *memory = back;
            if (round == 1)
                check(kin_queue_get_new(q, &memory, &found, KIN_NOWAIT));
            else
                check(kin_queue_get(q, size != 0 ? back : NULL, round == 0 ? size : 11 * CAPACITY * (size != 0), &found,
                                    KIN_NOWAIT));
            assert_int_equal(found, size);
            assert_non_null(memory);
            assert_true(queue_filled(memory, size, (uint32_t)i + round));
            if (round == 1)
                kin_free(memory);
            assert_true(kin_queue_empty(q));
        }
    }
    queue_check_usable(q);
    free(bytes);
    free(back);
    kin_queue_close(q);
}

/* A call that succeeds leaves the last error alone, whatever it had to try. */
static void success_is_silent(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.relaxed = relaxed != 0});
        static char large[600000];
        void *data;
        size_t size;
        kin_args *args;
        check_fails(KIN_EINVAL, kin_queue_put(NULL, large, 1, KIN_NOWAIT));
        char before[256];
        (void)snprintf(before, sizeof before, "%s", kin_last_error());
        for (size_t n = 100; n <= sizeof large; n *= 6000) {
            check(kin_queue_put(q, large, n, KIN_NOWAIT));
            check(kin_queue_get_new(q, &data, &size, KIN_NOWAIT));
            kin_free(data);
        }
        check(kin_queue_put_args(q, KIN_ARGS(1, "two"), KIN_NOWAIT));
        check(kin_queue_get_args(q, &args, KIN_NOWAIT));
        kin_args_free(args);
        assert_string_equal(kin_last_error(), before);
        assert_int_equal(kin_last_code(), KIN_EINVAL);
        kin_queue_close(q);
    }
}

static void max_message(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "small", .max_message = 100, .capacity = 4096});
    static char bytes[10000];
    kin_message m;
    size_t done = 77;
    check(kin_queue_put(q, bytes, 100, KIN_NOWAIT));
    check_fails(KIN_EMSGSIZE, kin_queue_put(q, bytes, 101, KIN_FOREVER));
    check_says("small");
    check_says("101");
    check_fails(KIN_EMSGSIZE, kin_queue_put(q, bytes, 10000, KIN_FOREVER));
    check_fails(KIN_EMSGSIZE, kin_queue_reserve(q, &m, 101, KIN_FOREVER));
    kin_view many[] = {{bytes, 1}, {bytes, 101}};
    check_fails(KIN_EMSGSIZE, kin_queue_put_many(q, many, 2, &done, KIN_FOREVER));
    assert_int_equal(done, 0);
    check_fails(KIN_EMSGSIZE, kin_queue_put_args(q, KIN_ARGS(kin_bytes(bytes, 101)), KIN_FOREVER));
    assert_int_equal(kin_queue_size(q), 1);
    check(kin_queue_get(q, bytes, 100, NULL, KIN_NOWAIT));
    check(kin_queue_reserve(q, &m, 100, KIN_NOWAIT));
    check(kin_queue_commit(q, &m));
    check(kin_queue_get(q, bytes, 100, NULL, KIN_NOWAIT));
    queue_check_usable(q);
    kin_queue_close(q);
}

static void max_items(void **state)
{
    (void)state;
    for (size_t most = 1; most <= 5; most++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "few", .max_items = most});
        static char large[KIN_QUEUE_CAPACITY];
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < most; i++) {
                assert_false(kin_queue_full(q, 0));
                queue_put_number(q, (int64_t)i);
            }
            assert_true(kin_queue_full(q, 0));
            check_fails(KIN_EFULL, kin_queue_put(q, large, 0, KIN_NOWAIT));
            check_says("few");
            check_fails(KIN_EFULL, kin_queue_put(q, large, sizeof large, KIN_NOWAIT));
            check_fails(KIN_ETIMEDOUT, kin_queue_put(q, large, 1, 1));
            kin_message m;
            check_fails(KIN_EFULL, kin_queue_reserve(q, &m, 1, KIN_NOWAIT));
            for (size_t i = 0; i < most; i++)
                assert_int_equal(queue_get_number(q), i);
        }
        queue_check_usable(q);
        size_t done;
        kin_view many[10];
        for (int i = 0; i < 10; i++)
            many[i] = (kin_view){&"abcdefghij"[i], 1};
        check_fails(KIN_EFULL, kin_queue_put_many(q, many, 10, &done, KIN_NOWAIT));
        assert_int_equal(done, most);
        for (size_t i = 0; i < most; i++) {
            char c;
            check(kin_queue_get(q, &c, 1, NULL, KIN_NOWAIT));
            assert_int_equal(c, "abcdefghij"[i]);
        }
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* ---- time-outs ---- */

static void time_outs(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "slow", .capacity = 4096});
    char buffer[2048] = {0};
    void *data;
    size_t size, done = 0;
    kin_view view = {buffer, sizeof buffer - 80};
    kin_message m;
    kin_args *args;
    int64_t begin = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_queue_get(q, buffer, 8, &size, 100));
    check_says("slow");
    check_says("100 ms");
    check_fails(KIN_ETIMEDOUT, kin_queue_get_new(q, &data, &size, 50));
    check_fails(KIN_ETIMEDOUT, kin_queue_get_many(q, buffer, 8, &view, 1, &done, 50));
    check_fails(KIN_ETIMEDOUT, kin_queue_get_args(q, &args, 50));
    check_fails(KIN_ETIMEDOUT, kin_queue_take(q, &m, 50));
    assert_true(kin_now() - begin >= 298);
    begin = kin_now();
    check_fails(KIN_EEMPTY, kin_queue_get(q, buffer, 8, &size, KIN_NOWAIT));
    check_says("slow");
    check_fails(KIN_EEMPTY, kin_queue_get_new(q, &data, &size, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get_many(q, buffer, 8, &view, 1, &done, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get_args(q, &args, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_take(q, &m, KIN_NOWAIT));
    assert_true(kin_now() - begin < test_ms(5000));
    view = (kin_view){buffer, sizeof buffer - 80};
    check(kin_queue_put(q, buffer, sizeof buffer - 80, KIN_NOWAIT));
    check(kin_queue_put(q, buffer, sizeof buffer - 80, KIN_NOWAIT));
    begin = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_queue_put(q, buffer, 1000, 100));
    check_says("slow");
    check_fails(KIN_ETIMEDOUT, kin_queue_put_many(q, &view, 1, &done, 50));
    assert_int_equal(done, 0);
    check_fails(KIN_ETIMEDOUT, kin_queue_put_args(q, KIN_ARGS(kin_bytes(buffer, 1000)), 50));
    check_fails(KIN_ETIMEDOUT, kin_queue_reserve(q, &m, 1000, 50));
    assert_true(kin_now() - begin >= 248);
    check_fails(KIN_EFULL, kin_queue_put(q, buffer, 1000, KIN_NOWAIT));
    check_fails(KIN_EFULL, kin_queue_put_many(q, &view, 1, &done, KIN_NOWAIT));
    check_fails(KIN_EFULL, kin_queue_put_args(q, KIN_ARGS(kin_bytes(buffer, 1000)), KIN_NOWAIT));
    check_fails(KIN_EFULL, kin_queue_reserve(q, &m, 1000, KIN_NOWAIT));
    assert_int_equal(kin_queue_size(q), 2);
    for (int i = 0; i < 2; i++)
        check(kin_queue_get(q, buffer, sizeof buffer, NULL, KIN_FOREVER));
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- a large message has memory of its own, and there is one at a time ---- */

static void one_large_at_a_time(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "one", .capacity = 4096});
    static char bytes[100000], back[100000];
    size_t size;
    queue_put_number(q, 1);
    queue_fill(bytes, sizeof bytes, 5);
    check(kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT));
    queue_put_number(q, 2);
    assert_true(kin_queue_full(q, sizeof bytes));
    assert_false(kin_queue_full(q, 8));
    check_fails(KIN_EFULL, kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_queue_put(q, bytes, sizeof bytes, 20));
    assert_int_equal(queue_get_number(q), 1);
    check_fails(KIN_EFULL, kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT));
    check(kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT));
    assert_true(size == sizeof back && queue_filled(back, size, 5));
    check(kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT)); /* before what is small and older is got */
    assert_int_equal(queue_get_number(q), 2);
    check(kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT));
    assert_true(queue_filled(back, size, 5));
    queue_check_usable(q);
    int before = test_count_handles();
    for (int i = 0; i < 50; i++) {
        check(kin_queue_put(q, bytes, sizeof bytes, KIN_NOWAIT));
        check(kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT));
    }
    assert_int_equal(test_count_handles(), before);
    kin_queue_close(q);
}

static int64_t available_memory(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    long long kilobytes = -1;
    while (file != NULL && kilobytes < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kilobytes = strtoll(line + 13, NULL, 10);
    }
    if (file != NULL)
        (void)fclose(file);
    return kilobytes;
}

/* Written in place, so that there are only the message and its copy. No other process has a part in it: once is enough, under fork. */
static void three_gigabytes(void **state)
{
    (void)state;
    size_t size = (size_t)64 << 20, found;
    if (!test_on_windows() && !test_by_spawn() && !test_with_sanitizer() && !test_emulated()) {
        if (available_memory() < 7 * 1024 * 1024)
            test_skip("a message of 3 GiB needs 7 GiB of free memory");
        size = (size_t)3 << 30;
    }
    kin_queue *q = queue_new((kin_queue_options){.name = "vast"});
    kin_message m;
    check(kin_queue_reserve(q, &m, size, KIN_NOWAIT));
    for (size_t i = 0; i < size; i += (size_t)1 << 20)
        queue_fill((char *)m.data + i, 64, (uint32_t)(i >> 20));
    queue_fill((char *)m.data + size - 64, 64, 99);
    check(kin_queue_commit(q, &m));
    void *data;
    check(kin_queue_get_new(q, &data, &found, KIN_NOWAIT));
    assert_int_equal(found, size);
    for (size_t i = 0; i < size; i += (size_t)1 << 20)
        assert_true(queue_filled((char *)data + i, 64, (uint32_t)(i >> 20)));
    assert_true(queue_filled((char *)data + size - 64, 64, 99));
    kin_free(data);
    queue_check_usable(q);
    kin_queue_close(q);
}

static void no_memory_for_a_large_one(void **state)
{
    (void)state;
    if (sizeof(size_t) < 8 || test_with_sanitizer())
        test_skip("nothing is too large here");
    kin_queue *q = queue_new((kin_queue_options){.name = "poor"});
    kin_message m;
    check_fails(KIN_ENOMEM, kin_queue_reserve(q, &m, SIZE_MAX / 4, KIN_NOWAIT));
    check_says("message of");
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- many in one go ---- */

static void many(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "many", .capacity = 65536});
    enum { COUNT = 40 };
    static char bytes[COUNT][200], buffer[COUNT * 200];
    kin_view out[COUNT], in[COUNT];
    size_t done, count;
    for (uint32_t i = 0; i < COUNT; i++) {
        queue_fill(bytes[i], 5 * i, i);
        out[i] = (kin_view){i != 0 ? bytes[i] : NULL, 5 * i};
    }
    for (size_t most = 1; most <= COUNT; most += 3) {
        check(kin_queue_put_many(q, out, COUNT, &done, KIN_NOWAIT));
        assert_int_equal(done, COUNT);
        assert_int_equal(kin_queue_size(q), COUNT);
        for (size_t next = 0; next < COUNT; next += count) {
            check(kin_queue_get_many(q, buffer, sizeof buffer, in, most, &count, KIN_FOREVER));
            assert_int_equal(count, most < COUNT - next ? most : COUNT - next);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(in[i].size, 5 * (next + i));
                assert_int_equal(((uintptr_t)in[i].data - (uintptr_t)buffer) % 8, 0);
                assert_true(queue_filled(in[i].data, in[i].size, (uint32_t)(next + i)));
            }
        }
        assert_true(kin_queue_empty(q));
    }
    check(kin_queue_put_many(q, out, 3, NULL, KIN_FOREVER));
    /* 0, 5 and 10 bytes: the second does not fit, then the third. */
    check(kin_queue_get_many(q, buffer, 4, in, 3, &count, KIN_NOWAIT));
    assert_int_equal(count, 1);
    check_fails(KIN_EMSGSIZE, kin_queue_get_many(q, buffer, 4, in, 3, &count, KIN_NOWAIT));
    assert_int_equal(count, 0);
    assert_int_equal(in[0].size, 5);
    check(kin_queue_get_many(q, buffer, 17, in, 3, &count, KIN_NOWAIT));
    assert_int_equal(count, 1);
    check(kin_queue_get_many(q, buffer, 10, in, 3, &count, KIN_NOWAIT));
    assert_int_equal(count, 1);
    assert_true(in[0].size == 10 && queue_filled(buffer, 10, 2));
    for (int i = 0; i < 3; i++)
        check(kin_queue_put(q, NULL, 0, KIN_NOWAIT));
    check(kin_queue_get_many(q, NULL, 0, in, 3, &count, KIN_NOWAIT)); /* nothing needs no room */
    assert_int_equal(count, 3);
    queue_check_usable(q);
    kin_queue_close(q);
}

static void many_of_all_kinds(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "mixed", .capacity = 4096});
    static char large[6000], buffer[20000], back[6000];
    kin_view in[10];
    size_t done, count, size;
    kin_args *args;
    int number;
    queue_fill(large, sizeof large, 3);
    kin_view out[] = {{"a", 1}, {large, sizeof large}, {"b", 1}, {"c", 1}};
    check(kin_queue_put_many(q, out, 4, &done, KIN_NOWAIT));
    assert_int_equal(done, 4);
    check(kin_queue_put_args(q, KIN_ARGS(17), KIN_NOWAIT));
    check(kin_queue_put(q, "d", 1, KIN_NOWAIT));
    size_t got = 0;
    while (got < 4) { /* a large one may come alone */
        check(kin_queue_get_many(q, buffer, sizeof buffer, in, 10, &count, KIN_NOWAIT));
        for (size_t i = 0; i < count; i++, got++) {
            if (got == 1)
                assert_true(in[i].size == sizeof large && queue_filled(in[i].data, in[i].size, 3));
            else
                assert_true(in[i].size == 1 && *(const char *)in[i].data == "a bc"[got]);
        }
    }
    assert_int_equal(got, 4);
    check_fails(KIN_ETYPE, kin_queue_get_many(q, buffer, sizeof buffer, in, 10, &count, KIN_NOWAIT));
    check_says("mixed");
    assert_int_equal(count, 0);
    check(kin_queue_get_args(q, &args, KIN_NOWAIT));
    check(kin_unpack(args, &number));
    assert_int_equal(number, 17);
    kin_args_free(args);
    check_fails(KIN_ETYPE, kin_queue_get_args(q, &args, KIN_NOWAIT));
    check(kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT));
    assert_true(size == 1 && back[0] == 'd');
    /* The second large one finds the first there. */
    kin_view two[] = {{large, sizeof large}, {large, sizeof large}, {"x", 1}};
    check_fails(KIN_EFULL, kin_queue_put_many(q, two, 3, &done, KIN_NOWAIT));
    assert_int_equal(done, 1);
    check_fails(KIN_ETIMEDOUT, kin_queue_put_many(q, two + 1, 2, &done, 20));
    assert_int_equal(done, 0);
    check(kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT));
    queue_check_usable(q);
    kin_queue_close(q);
}

static void many_more_than_fit(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "tight", .capacity = 4096});
    static char bytes[1000], buffer[4096];
    kin_view out[10], in[10];
    size_t done, count;
    for (int i = 0; i < 10; i++)
        out[i] = (kin_view){bytes, sizeof bytes};
    for (int round = 0; round < 5; round++) {
        check_fails(round % 2 == 0 ? KIN_EFULL : KIN_ETIMEDOUT,
                    kin_queue_put_many(q, out, 10, &done, round % 2 == 0 ? KIN_NOWAIT : 20));
        check_says("tight");
        assert_true(done >= 3 && done <= 4);
        assert_int_equal(kin_queue_size(q), done);
        check(kin_queue_get_many(q, buffer, sizeof buffer, in, 10, &count, KIN_NOWAIT));
        assert_int_equal(count, done);
        queue_check_usable(q);
    }
    kin_queue_close(q);
}

/* ---- shutting down ---- */

static void shut_down(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "ended", .relaxed = relaxed != 0});
        char buffer[8] = "";
        void *data;
        size_t size, done = 77;
        kin_view view = {buffer, 1};
        kin_message m, reserved;
        kin_args *args;
        queue_put_number(q, 1);
        check(kin_queue_put_args(q, KIN_ARGS(2), KIN_NOWAIT));
        check(kin_queue_reserve(q, &reserved, 8, KIN_NOWAIT));
        *(int64_t *)reserved.data = 3;
        check(kin_queue_shutdown(q));
        check(kin_queue_shutdown(q));
        static const int64_t waits[] = {KIN_NOWAIT, 50, KIN_FOREVER};
        for (int i = 0; i < 3; i++) {
            check_fails(KIN_EPIPE, kin_queue_put(q, buffer, 1, waits[i]));
            check_says("ended");
            check_fails(KIN_EPIPE, kin_queue_put_many(q, &view, 1, &done, waits[i]));
            assert_int_equal(done, 0);
            check_fails(KIN_EPIPE, kin_queue_put_args(q, KIN_ARGS(1), waits[i]));
            check_fails(KIN_EPIPE, kin_queue_reserve(q, &m, 1, waits[i]));
        }
        check(kin_queue_commit(q, &reserved)); /* it has its place */
        assert_int_equal(kin_queue_size(q), 3);
        assert_int_equal(queue_get_number(q), 1);
        check(kin_queue_get_args(q, &args, KIN_FOREVER));
        kin_args_free(args);
        assert_int_equal(queue_get_number(q), 3);
        for (int i = 0; i < 3; i++) {
            check_fails(KIN_EPIPE, kin_queue_get(q, buffer, 8, &size, waits[i]));
            check_says("ended");
            check_fails(KIN_EPIPE, kin_queue_get_new(q, &data, &size, waits[i]));
            check_fails(KIN_EPIPE, kin_queue_get_many(q, buffer, 8, &view, 1, &done, waits[i]));
            check_fails(KIN_EPIPE, kin_queue_get_args(q, &args, waits[i]));
            check_fails(KIN_EPIPE, kin_queue_take(q, &m, waits[i]));
        }
        assert_true(kin_queue_empty(q));
        kin_queue_close(q);
    }
}

/* ---- round and round ---- */

static void random_sizes(void **state)
{
    (void)state;
    uint32_t seed = crash_seed();
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.capacity = 4096, .relaxed = relaxed != 0});
        static char bytes[3000], back[3000];
        uint32_t put = 0, got = 0, sizes[64];
        int64_t end = kin_now() + test_ms(20000);
        for (int i = test_scale(100000, 20000); i > 0 && kin_now() < end; i--) {
            if (crash_random(&seed, 2) == 0 && put - got < 64) {
                uint32_t size = crash_random(&seed, crash_random(&seed, 100) == 0 ? sizeof bytes
                                                    : crash_random(&seed, 2) == 0 ? 40
                                                                                  : 900);
                queue_fill(bytes, size, put);
                kin_err err = kin_queue_put(q, bytes, size, KIN_NOWAIT);
                assert_true(err == KIN_OK || (err == KIN_EFULL && put != got));
                if (err == KIN_OK)
                    sizes[put++ % 64] = size;
            } else {
                size_t size = 0;
                kin_err err = kin_queue_get(q, back, sizeof back, &size, KIN_NOWAIT);
                assert_int_equal(err, put != got ? KIN_OK : KIN_EEMPTY);
                if (err != KIN_OK)
                    continue;
                assert_int_equal(size, sizes[got % 64]);
                assert_true(queue_filled(back, size, got++));
            }
            assert_int_equal(kin_queue_size(q), put - got);
            assert_true(kin_queue_empty(q) == (put == got));
        }
        kin_queue_close(q);
    }
}

/* Positions are 32 bits of units of 16 bytes: they wrap around, and what lies still meanwhile must not look as if it were ahead. As if
 * 8 GiB had gone through between each message and the next. */
static void positions_wrap(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "old", .capacity = 4096});
    kin_message m;
    for (int region = 0; region < 3; region++) {
        check(kin_queue_reserve(q, &m, 8, KIN_NOWAIT));
        kin__ring *ring = (kin__ring *)(void *)((char *)m.data - sizeof(kin__record) - m.kin__m.at) - 1;
        assert_int_equal(ring->units, 4096 / KIN__UNIT);
        check(kin_queue_cancel(q, &m));
        for (int64_t i = 0; i < 40; i++) {
            const uint64_t far = (uint64_t)1 << 61 | (uint64_t)1 << 29;
            assert_true(ring->head == ring->tail);
            ring->head = ring->tail = ring->head_seen = ring->tail_seen = ring->head + far;
            if (region == 1 && i % 7 == 0) {
                queue_put_number(q, -1);
                check(kin_queue_take(q, &m, KIN_NOWAIT));
                queue_put_number(q, i);
                assert_int_equal(queue_get_number(q), i);
                check(kin_queue_done(q, &m));
            }
            char large[3000] = {0};
            if (region == 2 && i % 5 == 0) {
                check(kin_queue_put(q, large, sizeof large, KIN_NOWAIT));
                check(kin_queue_get(q, large, sizeof large, NULL, KIN_NOWAIT));
            }
            queue_put_number(q, i);
            queue_put_number(q, i + 1);
            assert_int_equal(kin_queue_size(q), 2);
            assert_false(kin_queue_empty(q));
            assert_int_equal(queue_get_number(q), i);
            assert_int_equal(queue_get_number(q), i + 1);
            queue_check_usable(q);
        }
    }
    kin_queue_close(q);
}

static void creating_leaks_nothing(void **state)
{
    (void)state;
    int before = 0;
    for (int i = 0; i < 300; i++) {
        if (i == 10)
            before = test_count_handles();
        kin_queue *q = queue_new((kin_queue_options){.joinable = i % 2 == 0, .relaxed = i % 3 == 0, .capacity = 4096});
        queue_put_number(q, i);
        if (i % 5 != 0)
            assert_int_equal(queue_get_number(q), i);
        kin_queue_close(q);
    }
    assert_int_equal(test_count_handles(), before);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),
        cmocka_unit_test(capacity),
        cmocka_unit_test(no_queue),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(success_is_silent),
        cmocka_unit_test(max_message),
        cmocka_unit_test(max_items),
        cmocka_unit_test(time_outs),
        cmocka_unit_test(one_large_at_a_time),
        cmocka_unit_test(three_gigabytes),
        cmocka_unit_test(no_memory_for_a_large_one),
        cmocka_unit_test(many),
        cmocka_unit_test(many_of_all_kinds),
        cmocka_unit_test(many_more_than_fit),
        cmocka_unit_test(shut_down),
        cmocka_unit_test(random_sizes),
        cmocka_unit_test(positions_wrap),
        cmocka_unit_test(creating_leaks_nothing),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
