/* kin/connection.h: many processes at one end, and at both. Each message is whole, arrives once, and those of one sender in order.
 * What children leave open is in static variables: there it is no leak.
 * @ctest TIMEOUT 180 */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>

enum { SENDERS = 3, RECEIVERS = 3, MOST = 6000, LONGEST = 1500, LARGE = 9000 };

struct shared {
    uint8_t seen[SENDERS][MOST]; /* how often; each byte is written by whoever received that message, under no lock */
    uint32_t received[RECEIVERS];
    uint32_t count; /* messages of each sender */
};

struct head {
    uint32_t sender, number, size, sum;
};

static uint32_t sum_of(const struct head *h, const unsigned char *body)
{
    uint32_t sum = h->sender * 31 + h->number;
    for (uint32_t i = 0; i < h->size; i++)
        sum = sum * 16777619u + body[i];
    return sum;
}

/* Writes a message of any size into `bytes`, which has room for LARGE; how long it is. */
static size_t compose(unsigned char *bytes, uint32_t sender, uint32_t number)
{
    struct head h = {sender, number,
                     number % 97 == 5 ? LARGE - (uint32_t)sizeof h : (number * 7919 + sender * 101) % LONGEST, 0};
    for (uint32_t i = 0; i < h.size; i++)
        bytes[sizeof h + i] = (unsigned char)(i * 13 + number + sender * 5);
    h.sum = sum_of(&h, bytes + sizeof h);
    memcpy(bytes, &h, sizeof h);
    return sizeof h + h.size;
}

static bool sound(const unsigned char *bytes, size_t size, struct head *h)
{
    if (size < sizeof *h)
        return false;
    memcpy(h, bytes, sizeof *h);
    return h->size == size - sizeof *h && h->sender < SENDERS && h->number < MOST &&
           h->sum == sum_of(h, bytes + sizeof *h);
}

static int sender(kin_args *args)
{
    kin_segment *segment;
    static kin_connection *c;
    uint32_t me;
    unsigned char bytes[LARGE];
    CHILD_CHECK(kin_unpack(args, &segment, &c, &me) == KIN_OK);
    const struct shared *s = kin_segment_data(segment);
    for (uint32_t i = 0; i < s->count; i++) {
        size_t size = compose(bytes, me, i);
        CHILD_CHECK(kin_connection_send(c, bytes, size, test_ms(20000)) == KIN_OK);
    }
    return 0;
}

static int receiver(kin_args *args)
{
    kin_segment *segment;
    static kin_connection *c;
    uint32_t me, next[SENDERS] = {0};
    unsigned char bytes[LARGE];
    struct head h;
    CHILD_CHECK(kin_unpack(args, &segment, &c, &me) == KIN_OK);
    struct shared *s = kin_segment_data(segment);
    for (;;) {
        size_t size;
        kin_err err = kin_connection_recv(c, bytes, sizeof bytes, &size, test_ms(20000));
        if (err == KIN_EPIPE)
            return 0;
        CHILD_CHECK(err == KIN_OK);
        CHILD_CHECK(sound(bytes, size, &h));
        CHILD_CHECK(h.number >= next[h.sender]);
        next[h.sender] = h.number + 1;
        s->seen[h.sender][h.number]++;
        s->received[me]++;
    }
}

static void many(bool from_first, size_t capacity)
{
    kin_connection *first, *second;
    kin_segment *segment;
    kin_process *senders[SENDERS], *receivers[RECEIVERS];
    check(kin_pipe(&first, &second, &(kin_pipe_options){.capacity = capacity}));
    check(kin_segment_create(&segment, sizeof(struct shared)));
    struct shared *s = kin_segment_data(segment);
    s->count = (uint32_t)test_scale(MOST, 800);
    kin_connection *from = from_first ? first : second, *to = from_first ? second : first;
    for (uint32_t i = 0; i < RECEIVERS; i++)
        receivers[i] = test_start(receiver, KIN_ARGS(segment, to, i));
    for (uint32_t i = 0; i < SENDERS; i++)
        senders[i] = test_start(sender, KIN_ARGS(segment, from, i));
    kin_connection_close(from); /* the last sender to end ends it for the receivers */
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(test_finish(senders[i]), 0);
    uint32_t received = 0;
    for (int i = 0; i < RECEIVERS; i++) {
        assert_int_equal(test_finish(receivers[i]), 0);
        received += s->received[i];
    }
    assert_int_equal(received, SENDERS * s->count);
    for (int i = 0; i < SENDERS; i++) {
        for (uint32_t n = 0; n < s->count; n++)
            assert_int_equal(s->seen[i][n], 1);
    }
    check_fails(KIN_EPIPE, kin_connection_recv(to, NULL, 0, NULL, KIN_NOWAIT));
    kin_connection_close(to);
    kin_segment_close(segment);
}

static void many_to_many(void **state)
{
    (void)state;
    many(true, 65536);
}

static void many_to_many_with_little_room(void **state)
{
    (void)state;
    many(false, 4096);
}

/* ---- being asked to stop ---- */

enum { IN_RECV, IN_RECV_NEW, IN_RECV_ARGS, IN_POLL, IN_SEND, PLACES };

static int wait_somewhere(kin_args *args)
{
    static kin_connection *c;
    int where;
    char bytes[500] = "";
    void *data;
    kin_args *values;
    kin_err err = KIN_OK;
    CHILD_CHECK(kin_unpack(args, &c, &where) == KIN_OK);
    switch (where) {
    case IN_RECV:
        err = kin_connection_recv(c, bytes, sizeof bytes, NULL, KIN_FOREVER);
        break;
    case IN_RECV_NEW:
        err = kin_connection_recv_new(c, &data, NULL, 0, test_ms(60000));
        break;
    case IN_RECV_ARGS:
        err = kin_connection_recv_args(c, &values, KIN_FOREVER);
        break;
    case IN_POLL:
        err = kin_connection_poll(c, KIN_FOREVER);
        break;
    default:
        while (err == KIN_OK)
            err = kin_connection_send(c, bytes, sizeof bytes, KIN_FOREVER);
    }
    if (err != KIN_EINTERRUPTED)
        return 1 + err;
    CHILD_CHECK(kin_stop_requested());
    /* What needs no sleep can still be done. */
    if (where == IN_SEND)
        return kin_connection_poll(c, KIN_NOWAIT) == KIN_ETIMEDOUT ? 0 : 98;
    return kin_connection_send(c, "bye", 3, KIN_FOREVER) == KIN_OK ? 0 : 97;
}

static bool is_asleep(void *process) { return crash_asleep(kin_process_pid(process)) > 0; }

static void asked_to_stop(void **state)
{
    (void)state;
    for (int where = IN_RECV; where < PLACES; where++) {
        kin_connection *first, *second;
        char bytes[500];
        check(kin_pipe(&first, &second, &(kin_pipe_options){.capacity = 4096}));
        kin_process *p = test_start(wait_somewhere, KIN_ARGS(second, where));
        kin_connection_close(second);
        assert_true(crash_until(is_asleep, p));
        check(kin_process_interrupt(p));
        assert_int_equal(test_finish(p), 0);
        size_t size = 0;
        check(kin_connection_recv(first, bytes, sizeof bytes, &size, KIN_NOWAIT));
        assert_int_equal(size, where == IN_SEND ? sizeof bytes : 3);
        kin_connection_close(first);
    }
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_to_many),
        cmocka_unit_test(many_to_many_with_little_room),
        cmocka_unit_test(asked_to_stop),
    };
    return cmocka_run_group_tests_name("connection_many", tests, NULL, NULL);
}
