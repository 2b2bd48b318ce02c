/* Connections from several threads of one process, where ThreadSanitizer can see every access. What a message tells about is plain data
 * here, so one that did not order memory would be a race it reports. No child is started.
 * @ctest LABELS threads */
#include "support.h"

#include "atomic.h"

#include <string.h>
#include <uv.h>

enum { THREADS = 3, LONGEST = 700, LARGE = 5000 };

typedef struct shared {
    kin_connection *ends[2];
    uint32_t times;
    uint32_t numbers[2]; /* of threads so far */
    uint32_t failures;
    uint32_t *seen[2][THREADS]; /* by direction and sender; how often each number arrived */
    long (*told)[THREADS];      /* plain: written before a message is sent, read after it is received */
    uint32_t received[2];
} shared;

typedef struct part {
    shared *s;
    int way;         /* 0: from the first end to the second, 1: back */
    uint32_t number; /* of this sender */
    bool sends;
    uv_thread_t thread;
} part;

typedef struct head {
    uint32_t sender, number, size, stop;
} head;

static void failed(shared *s, int line)
{
    print_error("%s:%d: %s\n", __FILE__, line, kin_last_error());
    kin__add32(&s->failures, 1);
}
#define EXPECT(what)                                                                                                   \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            failed(s, __LINE__);                                                                                       \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void send_all(const part *p)
{
    shared *s = p->s;
    unsigned char bytes[LARGE];
    for (uint32_t i = 0; i < s->times; i++) {
        head h = {p->number, i, i % 50 == 7 ? LARGE - (uint32_t)sizeof h : i * 37 % LONGEST, 0};
        memcpy(bytes, &h, sizeof h);
        memset(bytes + sizeof h, (int)(i + p->number), h.size);
        s->told[(size_t)p->way * s->times + i][p->number] = (long)i + 1;
        EXPECT(kin_connection_send(s->ends[p->way], bytes, sizeof h + h.size, test_ms(20000)) == KIN_OK);
    }
}

static void receive_all(const part *p)
{
    shared *s = p->s;
    unsigned char bytes[LARGE];
    for (;;) {
        size_t size;
        head h;
        EXPECT(kin_connection_recv(s->ends[1 - p->way], bytes, sizeof bytes, &size, test_ms(20000)) == KIN_OK);
        EXPECT(size >= sizeof h);
        memcpy(&h, bytes, sizeof h);
        if (h.stop != 0)
            return;
        EXPECT(h.size == size - sizeof h && h.sender < THREADS && h.number < s->times);
        for (uint32_t i = 0; i < h.size; i++)
            EXPECT(bytes[sizeof h + i] == (unsigned char)(h.number + h.sender));
        EXPECT(s->told[(size_t)p->way * s->times + h.number][h.sender] == (long)h.number + 1);
        kin__add32(&s->seen[p->way][h.sender][h.number], 1);
    }
}

static void play(void *arg)
{
    const part *p = arg;
    if (p->sends)
        send_all(p);
    else
        receive_all(p);
}

static void run(size_t capacity, int ways)
{
    shared s = {.times = (uint32_t)test_scale(4000, 500)};
    part parts[2][2][THREADS];
    check(kin_pipe(&s.ends[0], &s.ends[1], &(kin_pipe_options){.capacity = capacity}));
    s.told = test_calloc(2 * s.times, sizeof *s.told);
    for (int way = 0; way < ways; way++) {
        for (uint32_t i = 0; i < THREADS; i++) {
            s.seen[way][i] = test_calloc(s.times, sizeof(uint32_t));
            for (int sends = 0; sends < 2; sends++) {
                part *p = &parts[way][sends][i];
                *p = (part){.s = &s, .way = way, .number = i, .sends = sends != 0};
                assert_int_equal(uv_thread_create(&p->thread, play, p), 0);
            }
        }
    }
    for (int way = 0; way < ways; way++) {
        for (int i = 0; i < THREADS; i++)
            uv_thread_join(&parts[way][1][i].thread);
        head stop = {.stop = 1};
        for (int i = 0; i < THREADS; i++)
            check(kin_connection_send(s.ends[way], &stop, sizeof stop, test_ms(20000)));
        for (int i = 0; i < THREADS; i++)
            uv_thread_join(&parts[way][0][i].thread);
    }
    assert_int_equal(s.failures, 0);
    for (int way = 0; way < ways; way++) {
        for (int i = 0; i < THREADS; i++) {
            for (uint32_t n = 0; n < s.times; n++)
                assert_int_equal(s.seen[way][i][n], 1);
            test_free(s.seen[way][i]);
        }
    }
    test_free(s.told);
    kin_connection_close(s.ends[0]);
    kin_connection_close(s.ends[1]);
}

static void one_way(void **state)
{
    (void)state;
    run(65536, 1);
}

static void both_ways(void **state)
{
    (void)state;
    run(65536, 2);
}

static void both_ways_with_little_room(void **state)
{
    (void)state;
    run(4096, 2);
}

/* Threads that sleep at an end learn of it when another thread closes the other one. */
static void wait_for_end(void *arg)
{
    shared *s = arg;
    char byte;
    kin_err err = kin__add32(&s->numbers[0], 1) % 2 == 0
                      ? kin_connection_recv(s->ends[0], &byte, 1, NULL, test_ms(20000))
                      : kin_connection_poll(s->ends[0], test_ms(20000));
    if (err != KIN_OK && err != KIN_EPIPE)
        failed(s, __LINE__);
    err = kin_connection_recv(s->ends[0], &byte, 1, NULL, KIN_NOWAIT);
    if (err != KIN_EPIPE)
        failed(s, __LINE__);
}

static void closed_by_another(void **state)
{
    (void)state;
    int rounds = test_scale(200, 20);
    for (int round = 0; round < rounds; round++) {
        shared s = {.times = 0};
        uv_thread_t threads[4];
        check(kin_pipe(&s.ends[0], &s.ends[1], NULL));
        for (int i = 0; i < 4; i++)
            assert_int_equal(uv_thread_create(&threads[i], wait_for_end, &s), 0);
        kin_connection_close(s.ends[1]);
        for (int i = 0; i < 4; i++)
            uv_thread_join(&threads[i]);
        assert_int_equal(s.failures, 0);
        kin_connection_close(s.ends[0]);
    }
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_way),
        cmocka_unit_test(both_ways),
        cmocka_unit_test(both_ways_with_little_room),
        cmocka_unit_test(closed_by_another),
    };
    return cmocka_run_group_tests_name("connection threads", tests, NULL, NULL);
}
