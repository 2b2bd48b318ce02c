/* kin/connection.h: messages. How a connection ends is in connection_end_test.c, what else can cross in connection_pass_test.c, many at
 * once in connection_many_test.c. What children leave open is in static variables: there it is no leak.
 * @ctest TIMEOUT 180 */
#include "support.h"

#include "fault.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { SMALL = 4096 };

static kin_connection *first, *second;

static int teardown(void **state)
{
    (void)state;
    kin_connection_close(first);
    kin_connection_close(second);
    first = second = NULL;
    return 0;
}

static void make(kin_pipe_options options) { check(kin_pipe(&first, &second, &options)); }

/* The bytes of message `number`: any mix-up shows. */
static void fill(unsigned char *bytes, size_t size, uint32_t number)
{
    uint32_t x = number * 2654435761u + (uint32_t)size;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(x >> 24);
    }
}

static bool filled(const unsigned char *bytes, size_t size, uint32_t number)
{
    uint32_t x = number * 2654435761u + (uint32_t)size;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        if (bytes[i] != (unsigned char)(x >> 24))
            return false;
    }
    return true;
}

static void send_text(kin_connection *c, const char *text)
{
    check(kin_connection_send(c, text, strlen(text), KIN_NOWAIT));
}

static void expect_text(kin_connection *c, const char *text)
{
    char buffer[64];
    size_t size = 0;
    check(kin_connection_recv(c, buffer, sizeof buffer, &size, KIN_NOWAIT));
    assert_int_equal(size, strlen(text));
    assert_memory_equal(buffer, text, size);
}

/* ---- making ---- */

static void has_a_name(void **state)
{
    (void)state;
    make((kin_pipe_options){.name = "talk"});
    assert_string_equal(kin_connection_name(first), "talk");
    assert_string_equal(kin_connection_name(second), "talk");
    teardown(NULL);
    make((kin_pipe_options){.name = "0123456789012345678901234567890123456789"});
    assert_string_equal(kin_connection_name(second), "012345678901234567890123456789012345678");
    teardown(NULL);
    check(kin_pipe(&first, &second, NULL));
    assert_string_equal(kin_connection_name(first), "");
}

static void refuses_wrong_options(void **state)
{
    (void)state;
    kin_connection *a = NULL, *b = NULL;
    check_fails(KIN_EINVAL, kin_pipe(NULL, &b, NULL));
    check_fails(KIN_EINVAL, kin_pipe(&a, NULL, NULL));
    check_fails(KIN_EINVAL, kin_pipe(&a, &a, NULL)); /* one of the ends would be lost */
    if (SIZE_MAX > UINT32_MAX) {
        check_fails(KIN_EINVAL, kin_pipe(&a, &b, &(kin_pipe_options){.capacity = SIZE_MAX}));
        check_fails(KIN_EINVAL, kin_pipe(&a, &b, &(kin_pipe_options){.capacity = ((size_t)UINT32_MAX + 1) + 1}));
    }
    assert_null(a);
    assert_null(b);
}

static void gives_everything_back(void **state)
{
    (void)state;
    make((kin_pipe_options){0}); /* whatever is made once */
    teardown(NULL);
    int before = test_count_handles();
    for (int i = 0; i < 50; i++) {
        make((kin_pipe_options){.one_way = i % 2 == 0});
        send_text(second, "left behind");
        teardown(NULL);
    }
    assert_int_equal(test_count_handles(), before);
}

/* Each call to the system fails once: an error, and nothing is left behind. */
static void making_fails_cleanly(void **state)
{
    (void)state;
    make((kin_pipe_options){0});
    teardown(NULL);
    int before = test_count_handles(), failures = 0;
    for (int n = 1;; n++) {
        kin_connection *a = NULL, *b = NULL;
        kin__fault_arm(n);
        kin_err err = kin_pipe(&a, &b, NULL);
        bool hit = kin__fault_hit() != NULL;
        kin__fault_arm(0);
        if (err == KIN_OK) {
            kin_connection_close(a);
            kin_connection_close(b);
            if (!hit)
                break;
            continue;
        }
        failures++;
        assert_true(hit);
        assert_null(a);
        assert_null(b);
        assert_int_equal(test_count_handles(), before);
    }
    assert_true(failures > 0);
    assert_int_equal(test_count_handles(), before);
}

/* ---- messages ---- */

static void keeps_boundaries(void **state)
{
    (void)state;
    check(kin_pipe(&first, &second, NULL));
    for (int round = 0; round < 2; round++) {
        kin_connection *from = round == 0 ? first : second, *to = round == 0 ? second : first;
        send_text(from, "one");
        send_text(from, "");
        check(kin_connection_send(from, NULL, 0, KIN_NOWAIT));
        send_text(from, "three");
        expect_text(to, "one");
        send_text(to, "an answer in between");
        expect_text(to, "");
        expect_text(to, "");
        expect_text(to, "three");
        expect_text(from, "an answer in between");
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(to, NULL, 0, NULL, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(from, NULL, 0, NULL, KIN_NOWAIT));
    }
}

static void copies_what_is_sent(void **state)
{
    (void)state;
    char text[] = "as it was";
    check(kin_pipe(&first, &second, NULL));
    check(kin_connection_send(first, text, strlen(text), KIN_NOWAIT));
    memset(text, 'x', sizeof text);
    expect_text(second, "as it was");
}

/* Sends back what it receives, until there is nothing more. */
static int echo(kin_args *args)
{
    static kin_connection *c;
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    for (;;) {
        void *data = NULL;
        size_t size;
        kin_err err = kin_connection_recv_new(c, &data, &size, 0, test_ms(20000));
        if (err == KIN_EPIPE)
            break;
        CHILD_CHECK(err == KIN_OK);
        CHILD_CHECK(kin_connection_send(c, data, size, test_ms(20000)) == KIN_OK);
        kin_free(data);
    }
    kin_connection_close(c);
    return 0;
}

static void there_and_back(size_t size, uint32_t number)
{
    unsigned char *out = malloc(size + 1), *back = malloc(size + 1);
    size_t got = 0;
    assert_non_null(out);
    assert_non_null(back);
    fill(out, size, number);
    check(kin_connection_send(first, out, size, test_ms(20000)));
    check(kin_connection_recv(first, back, size + 1, &got, test_ms(20000)));
    if (got != size || memcmp(out, back, size) != 0)
        fail_msg("a message of %zu bytes came back as another of %zu", size, got);
    free(out);
    free(back);
}

/* Around half the capacity a message begins to travel in memory of its own; 1, 15, 16, 17: around the unit of the ring. */
static void every_size(void **state)
{
    (void)state;
    static const size_t around[] = {SMALL / 2, SMALL, 2 * SMALL, 65536, 1000000};
    make((kin_pipe_options){.capacity = SMALL});
    kin_process *p = test_start(echo, KIN_ARGS(second));
    kin_connection_close(second);
    second = NULL;
    uint32_t number = 0;
    for (size_t size = 0; size <= 130; size++)
        there_and_back(size, ++number);
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        for (size_t size = around[i] - (i == 0 ? 100 : 17); size <= around[i] + 17; size++)
            there_and_back(size, ++number);
    }
    kin_connection_close(first);
    first = NULL;
    assert_int_equal(test_finish(p), 0);
}

/* So many that they pass the end of the ring at every offset, some large among them. */
static void around_the_wrap(void **state)
{
    (void)state;
    unsigned char out[SMALL], back[SMALL];
    uint32_t x = 7;
    size_t pending[16];
    make((kin_pipe_options){.capacity = SMALL});
    for (uint32_t sent = 0, received = 0; received < 20000;) {
        x = x * 1664525u + 1013904223u;
        size_t size = x >> 16 & (x >> 8 & 63 ? 511 : 4095), got;
        fill(out, size, sent);
        if (sent - received < 16 && kin_connection_send(second, out, size, KIN_NOWAIT) == KIN_OK) {
            pending[sent++ % 16] = size;
            continue;
        }
        check(kin_connection_recv(first, back, sizeof back, &got, KIN_NOWAIT));
        assert_int_equal(got, pending[received % 16]);
        assert_true(filled(back, got, received));
        received++;
    }
}

static int send_large(kin_args *args)
{
    static kin_connection *c;
    uint64_t size;
    CHILD_CHECK(kin_unpack(args, &c, &size) == KIN_OK);
    char *data = calloc(1, (size_t)size); /* what is not written costs no memory */
    CHILD_CHECK(data != NULL);
    for (uint64_t at = 0; at < size; at += (uint64_t)64 << 20)
        memcpy(data + at, &at, sizeof at);
    data[size - 1] = 'z';
    CHILD_CHECK(kin_connection_send(c, data, (size_t)size, KIN_FOREVER) == KIN_OK);
    free(data);
    CHILD_CHECK(kin_connection_send(c, "behind", 6, KIN_FOREVER) == KIN_OK);
    return 0;
}

static void a_large_one(uint64_t size)
{
    make((kin_pipe_options){.name = "large"});
    kin_process *p = test_start(send_large, KIN_ARGS(second, size));
    void *data = NULL;
    size_t got = 0;
    check(kin_connection_recv_new(first, &data, &got, 0, test_ms(120000)));
    assert_true(got == size);
    for (uint64_t at = 0, found; at < size; at += (uint64_t)64 << 20) {
        memcpy(&found, (char *)data + at, sizeof found);
        assert_true(found == at);
    }
    assert_int_equal(((char *)data)[size - 1], 'z');
    kin_free(data);
    char after[16];
    check(kin_connection_recv(first, after, sizeof after, &got, test_ms(20000)));
    assert_int_equal(got, 6);
    assert_int_equal(test_finish(p), 0);
}

static void as_large_as_64_mb(void **state)
{
    (void)state;
    a_large_one((uint64_t)64 << 20);
}

static void as_large_as_3_gib(void **state)
{
    (void)state;
    if (test_on_windows())
        test_skip("3 GiB: not under Wine, nor on a machine of which nothing is known; 64 MB do");
    if (test_by_spawn())
        test_skip("3 GiB: once is enough, under fork");
    if (test_with_sanitizer() || test_emulated())
        test_skip("3 GiB: not with sanitizers, nor emulated");
    if (sizeof(size_t) < 8 || uv_get_free_memory() < (uint64_t)8 << 30)
        test_skip("3 GiB: less than 8 GiB of memory are free");
    uint64_t limit = uv_get_constrained_memory();
    if (limit != 0 && limit < (uint64_t)9 << 30)
        test_skip("3 GiB: this process may use less than 9 GiB of memory");
    a_large_one((uint64_t)3 << 30);
}

/* ---- buffers and limits ---- */

static void too_small_a_buffer(void **state)
{
    (void)state;
    char buffer[16], *large = calloc(1, 100000);
    size_t size = 0;
    check(kin_pipe(&first, &second, NULL));
    send_text(first, "four");
    check(kin_connection_send(first, large, 100000, KIN_NOWAIT));
    send_text(first, "next");
    check_fails(KIN_EMSGSIZE, kin_connection_recv(second, buffer, 3, &size, KIN_FOREVER));
    assert_int_equal(size, 4);
    check_fails(KIN_EMSGSIZE, kin_connection_recv(second, NULL, 0, NULL, KIN_NOWAIT));
    check_fails(KIN_EMSGSIZE, kin_connection_recv(second, NULL, 0, &size, KIN_NOWAIT));
    assert_int_equal(size, 4);
    check(kin_connection_recv(second, buffer, 4, &size, KIN_NOWAIT));
    assert_memory_equal(buffer, "four", 4);
    check_fails(KIN_EMSGSIZE, kin_connection_recv(second, buffer, sizeof buffer, &size, KIN_NOWAIT));
    assert_int_equal(size, 100000);
    check(kin_connection_recv(second, large, 100000, &size, KIN_NOWAIT));
    assert_int_equal(size, 100000);
    expect_text(second, "next");
    free(large);
}

static void into_new_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 255, 256, 257, 5000, 200000};
    unsigned char out[200000];
    void *data = NULL;
    size_t size;
    check(kin_pipe(&first, &second, NULL));
    check_fails(KIN_EINVAL, kin_connection_send(first, NULL, 1, KIN_NOWAIT));
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fill(out, sizes[i], i);
        check(kin_connection_send(first, out, sizes[i], KIN_NOWAIT));
        check(kin_connection_recv_new(second, &data, i % 2 == 0 ? &size : NULL, 0, KIN_NOWAIT));
        assert_non_null(data);
        assert_true(i % 2 != 0 || size == sizes[i]);
        assert_true(filled(data, sizes[i], i));
        kin_free(data);
        assert_int_equal(kin_last_code(), KIN_EINVAL); /* a success leaves the last failure alone */
        check_says("at NULL");
    }
}

static void new_memory_with_a_limit(void **state)
{
    (void)state;
    void *data = NULL;
    size_t size = 0;
    char bytes[1000] = "";
    check(kin_pipe(&first, &second, NULL));
    for (size_t most = 10; most <= 1000; most += 990) {
        send_text(first, "123");
        check(kin_connection_recv_new(second, &data, &size, most, KIN_NOWAIT));
        assert_int_equal(size, 3);
        kin_free(data);
        data = NULL;
        check(kin_connection_send(first, bytes, most, KIN_NOWAIT));
        check_fails(KIN_EMSGSIZE, kin_connection_recv_new(second, &data, &size, most - 1, KIN_NOWAIT));
        assert_int_equal(size, most);
        check_fails(KIN_EMSGSIZE, kin_connection_recv_new(second, &data, NULL, 1, KIN_NOWAIT));
        assert_null(data);
        check(kin_connection_recv_new(second, &data, &size, most, KIN_NOWAIT));
        assert_int_equal(size, most);
        kin_free(data);
        data = NULL;
    }
    check_fails(KIN_ETIMEDOUT, kin_connection_recv_new(second, &data, &size, 10, KIN_NOWAIT));
    assert_null(data);
}

static void the_largest_allowed(void **state)
{
    (void)state;
    char bytes[100000] = "";
    size_t size;
    make((kin_pipe_options){.name = "narrow", .max_message = 10});
    check(kin_connection_send(first, bytes, 10, KIN_NOWAIT));
    check_fails(KIN_EMSGSIZE, kin_connection_send(first, bytes, 11, KIN_NOWAIT));
    check_says("narrow");
    check_fails(KIN_EMSGSIZE, kin_connection_send(second, bytes, sizeof bytes, KIN_FOREVER));
    check_fails(KIN_EMSGSIZE, kin_connection_send_args(second, KIN_ARGS("more than ten bytes"), KIN_NOWAIT));
    check(kin_connection_recv(second, bytes, sizeof bytes, &size, KIN_NOWAIT));
    assert_int_equal(size, 10);
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(first, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    teardown(NULL);
    make((kin_pipe_options){.max_message = sizeof bytes - 1, .capacity = SMALL}); /* in memory of its own */
    check(kin_connection_send(first, bytes, sizeof bytes - 1, KIN_NOWAIT));
    check_fails(KIN_EMSGSIZE, kin_connection_send(first, bytes, sizeof bytes, KIN_NOWAIT));
}

/* ---- waiting ---- */

static void looks_with_poll(void **state)
{
    (void)state;
    check(kin_pipe(&first, &second, NULL));
    int64_t begin = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(first, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(first, 30));
    assert_true(kin_now() - begin >= 29);
    send_text(second, "");
    check(kin_connection_poll(first, KIN_NOWAIT));
    check(kin_connection_poll(first, KIN_FOREVER)); /* looked at, not taken */
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(second, KIN_NOWAIT));
    expect_text(first, "");
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(first, KIN_NOWAIT));
    kin_connection_close(second);
    check(kin_connection_poll(first, KIN_NOWAIT)); /* the end is something to be seen */
    check(kin_connection_poll(first, KIN_FOREVER));
}

static void looks_with_wait(void **state)
{
    (void)state;
    char bytes[500] = "";
    size_t ready = 0;
    make((kin_pipe_options){.capacity = SMALL});
    kin_waitable items[] = {KIN_WAIT_FOR(first), KIN_WAIT_FOR(second), KIN_WAIT_ROOM(first), KIN_WAIT_ROOM(second)};
    check(kin_wait(items, 4, &ready, KIN_NOWAIT));
    assert_true(ready == 2 && !items[0].ready && !items[1].ready && items[2].ready && items[3].ready);
    while (kin_connection_send(first, bytes, sizeof bytes, KIN_NOWAIT) == KIN_OK)
        continue;
    while (kin_connection_send(first, bytes, 0, KIN_NOWAIT) == KIN_OK)
        continue;
    check(kin_wait(items, 4, &ready, KIN_FOREVER));
    assert_true(ready == 2 && !items[0].ready && items[1].ready && !items[2].ready && items[3].ready);
    check_fails(KIN_ETIMEDOUT, kin_wait(&items[0], 1, &ready, 10));
    check(kin_connection_recv(second, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    check(kin_wait(&items[2], 1, &ready, KIN_FOREVER));
    assert_true(items[2].ready);
    kin_connection_close(second);
    second = NULL;
    check(kin_wait(items, 1, &ready, KIN_FOREVER)); /* the end is something to be seen */
    assert_true(items[0].ready);
    check_fails(KIN_EINVAL, kin_wait(&items[1], 1, &ready, KIN_NOWAIT));
    teardown(NULL);
    make((kin_pipe_options){.one_way = true});
    kin_waitable wrong[] = {KIN_WAIT_ROOM(first), KIN_WAIT_FOR(second)};
    assert_true(kin_wait(&wrong[0], 1, &ready, KIN_NOWAIT) != KIN_OK && kin_last_code() != KIN_ETIMEDOUT);
    check_says("only receives");
    assert_true(kin_wait(&wrong[1], 1, &ready, KIN_NOWAIT) != KIN_OK && kin_last_code() != KIN_ETIMEDOUT);
    check_says("only sends");
}

/* Each of its waits ends because of the other side: by a message, by room, by the end. */
static int other_side(kin_args *args)
{
    static kin_connection *c;
    char byte;
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    for (int i = 0; i < 100; i++) {
        CHILD_CHECK(kin_connection_poll(c, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(kin_connection_recv(c, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK);
        CHILD_CHECK(kin_connection_send(c, &byte, 1, test_ms(20000)) == KIN_OK);
    }
    CHILD_CHECK(kin_connection_poll(c, test_ms(20000)) == KIN_OK);
    CHILD_CHECK(kin_connection_recv(c, &byte, 1, NULL, KIN_NOWAIT) == KIN_EPIPE);
    return 0;
}

static void wakes_who_polls(void **state)
{
    (void)state;
    check(kin_pipe(&first, &second, NULL));
    kin_process *p = test_start(other_side, KIN_ARGS(second));
    kin_connection_close(second);
    second = NULL;
    for (char i = 0, back; i < 100; i++) {
        check(kin_connection_send(first, &i, 1, KIN_NOWAIT));
        check(kin_connection_recv(first, &back, 1, NULL, test_ms(20000)));
        assert_int_equal(back, i);
    }
    kin_connection_close(first);
    first = NULL;
    assert_int_equal(test_finish(p), 0);
}

static void ends_in_time(void **state)
{
    (void)state;
    char bytes[500] = "";
    void *data;
    kin_args *args;
    make((kin_pipe_options){.name = "slow", .capacity = SMALL});
    for (int i = 0; i < 3; i++) {
        int64_t begin = kin_now();
        check_fails(KIN_ETIMEDOUT, i == 0   ? kin_connection_recv(first, bytes, sizeof bytes, NULL, 40)
                                   : i == 1 ? kin_connection_recv_new(first, &data, NULL, 0, 40)
                                            : kin_connection_recv_args(first, &args, 40));
        check_says("slow");
        assert_true(kin_now() - begin >= 39);
    }
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(first, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    check_says("slow");
    int fit = 0;
    while (kin_connection_send(first, bytes, sizeof bytes, KIN_NOWAIT) == KIN_OK)
        fit++;
    assert_int_equal(kin_last_code(), KIN_ETIMEDOUT);
    check_says("slow");
    assert_true(fit >= SMALL / 2 / 500 && fit <= SMALL / 500);
    int64_t begin = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_connection_send(first, bytes, sizeof bytes, 40));
    assert_true(kin_now() - begin >= 39);
    check(kin_connection_recv(second, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    check(kin_connection_send(first, bytes, sizeof bytes, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_connection_send(first, bytes, sizeof bytes, KIN_NOWAIT));
}

enum { STREAM = 3000 };

static int send_stream(kin_args *args)
{
    static kin_connection *c;
    unsigned char bytes[600];
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    for (uint32_t i = 0; i < STREAM; i++) {
        fill(bytes, i % 600, i);
        CHILD_CHECK(kin_connection_send(c, bytes, i % 600, test_ms(20000)) == KIN_OK);
    }
    return 0;
}

/* Far more than fits: who sends waits for who receives, and the other way round. */
static void a_stream_through_a_small_pipe(void **state)
{
    (void)state;
    unsigned char bytes[600];
    size_t size;
    make((kin_pipe_options){.capacity = SMALL, .one_way = true});
    kin_process *p = test_start(send_stream, KIN_ARGS(second));
    kin_connection_close(second);
    second = NULL;
    for (uint32_t i = 0; i < STREAM; i++) {
        check(kin_connection_recv(first, bytes, sizeof bytes, &size, test_ms(20000)));
        assert_int_equal(size, i % 600);
        assert_true(filled(bytes, size, i));
    }
    check_fails(KIN_EPIPE, kin_connection_recv(first, bytes, sizeof bytes, &size, test_ms(20000)));
    assert_int_equal(test_finish(p), 0);
}

/* ---- wrong use ---- */

static void one_way_only(void **state)
{
    (void)state;
    char byte = 1;
    void *data;
    kin_args *args;
    make((kin_pipe_options){.name = "street", .one_way = true});
    check_fails(KIN_EPERM, kin_connection_send(first, &byte, 1, KIN_NOWAIT));
    check_says("street");
    check_says("only receives");
    check_fails(KIN_EPERM, kin_connection_send_args(first, KIN_ARGS(1), KIN_FOREVER));
    check_fails(KIN_EPERM, kin_connection_recv(second, &byte, 1, NULL, KIN_FOREVER));
    check_says("only sends");
    check_fails(KIN_EPERM, kin_connection_recv_new(second, &data, NULL, 0, KIN_FOREVER));
    check_fails(KIN_EPERM, kin_connection_recv_args(second, &args, KIN_FOREVER));
    check_fails(KIN_EPERM, kin_connection_poll(second, KIN_FOREVER));
    send_text(second, "still good");
    check(kin_connection_poll(first, KIN_NOWAIT));
    expect_text(first, "still good");
    kin_connection_close(first);
    first = NULL;
    check_fails(KIN_EPIPE, kin_connection_send(second, &byte, 1, KIN_NOWAIT));
}

static void wrong_arguments(void **state)
{
    (void)state;
    char byte = 1;
    void *data;
    kin_args *args;
    make((kin_pipe_options){.name = "strict"});
    check_fails(KIN_EINVAL, kin_connection_send(first, NULL, 1, KIN_NOWAIT));
    check_says("strict");
    check_fails(KIN_EINVAL, kin_connection_send(first, &byte, 1, -2));
    check_fails(KIN_EINVAL, kin_connection_send_args(first, KIN_ARGS(1), -2));
    check_fails(KIN_EINVAL, kin_connection_send_args(first, (kin_pack){NULL, 3}, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv(second, NULL, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv(second, &byte, 1, NULL, INT64_MIN));
    check_fails(KIN_EINVAL, kin_connection_recv_new(second, NULL, NULL, 0, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv_new(second, &data, NULL, 0, -2));
    check_fails(KIN_EINVAL, kin_connection_recv_args(second, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv_args(second, &args, -5));
    check_fails(KIN_EINVAL, kin_connection_poll(second, -2));
    send_text(first, "still good");
    expect_text(second, "still good");
}

static void no_connection(kin_connection *c)
{
    char byte = 1;
    void *data;
    kin_args *args;
    check_fails(KIN_EINVAL, kin_connection_send(c, &byte, 1, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_send_args(c, KIN_ARGS(1), KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv(c, &byte, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv_new(c, &data, NULL, 0, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_recv_args(c, &args, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_poll(c, KIN_NOWAIT));
    assert_string_equal(kin_connection_name(c), "");
    assert_int_equal(kin_last_code(), KIN_EINVAL);
    kin_connection_close(c);
}

static int never_run(kin_args *args)
{
    (void)args;
    return 98;
}

static void use_after_close(void **state)
{
    (void)state;
    static uint64_t nothing[64];
    kin_connection *closed;
    kin_process *p = NULL;
    check(kin_pipe(&first, &second, NULL));
    closed = second;
    kin_connection_close(second);
    second = NULL;
    no_connection(NULL);
    no_connection((kin_connection *)(void *)nothing);
    no_connection(closed); /* and closes it a second time */
    check_fails(KIN_EINVAL, kin_connection_send_args(first, KIN_ARGS(closed), KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_process_start(&p, never_run, KIN_ARGS(closed), NULL));
    check(kin_pipe(&second, &closed, NULL)); /* another is not disturbed */
    send_text(second, "well");
    expect_text(closed, "well");
    kin_connection_close(closed);
}

static void bytes_and_values_apart(void **state)
{
    (void)state;
    char buffer[64];
    void *data;
    kin_args *args;
    int number = 0;
    make((kin_pipe_options){.name = "both"});
    send_text(first, "bytes");
    check(kin_connection_send_args(first, KIN_ARGS(5), KIN_NOWAIT));
    check_fails(KIN_ETYPE, kin_connection_recv_args(second, &args, KIN_NOWAIT));
    check_says("connection 'both': the next message is bytes, not values: kin_connection_recv");
    expect_text(second, "bytes");
    check_fails(KIN_ETYPE, kin_connection_recv(second, buffer, sizeof buffer, NULL, KIN_NOWAIT));
    check_says("connection 'both': the next message is values, not bytes: kin_connection_recv_args");
    check_fails(KIN_ETYPE, kin_connection_recv_new(second, &data, NULL, 0, KIN_NOWAIT));
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    check(kin_unpack(args, &number));
    assert_int_equal(number, 5);
    kin_args_free(args);
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(has_a_name),
        TEST(refuses_wrong_options),
        TEST(gives_everything_back),
        TEST(making_fails_cleanly),
        TEST(keeps_boundaries),
        TEST(copies_what_is_sent),
        TEST(every_size),
        TEST(around_the_wrap),
        TEST(as_large_as_64_mb),
        TEST(as_large_as_3_gib),
        TEST(too_small_a_buffer),
        TEST(into_new_memory),
        TEST(new_memory_with_a_limit),
        TEST(the_largest_allowed),
        TEST(looks_with_poll),
        TEST(looks_with_wait),
        TEST(wakes_who_polls),
        TEST(ends_in_time),
        TEST(a_stream_through_a_small_pipe),
        TEST(one_way_only),
        TEST(wrong_arguments),
        TEST(use_after_close),
        TEST(bytes_and_values_apart),
    };
    return cmocka_run_group_tests_name("connection", tests, NULL, NULL);
}
