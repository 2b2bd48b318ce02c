/* Senders and receivers of one pipe are killed at any time, again and again, while the others go on: each message arrives whole, at most
 * once, those of one sender in order; none is lost but what a killed receiver had in its hands; nobody waits for the dead; and in the
 * end the pipe holds as much as in the beginning. KIN_TEST_SEED repeats the choices; KIN_STORM_KILLS says how many.
 * @ctest TIMEOUT 180 */
#include "crash_support.h"

#include "atomic.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { SENDERS = 2, RECEIVERS = 2, LIVES = 8192, NUMBERS = 4096, LARGE = 6000, CAPACITY = 4096 };
enum { TOKEN = 77 };

struct world {
    uint32_t stop_sending, stop_receiving;
    uint32_t lives;           /* begun so far */
    uint32_t received, wrong; /* wrong: where, if a receiver saw something that must not be */
    uint32_t sent[LIVES];     /* how many of this life's sends have returned */
    uint8_t got[LIVES][NUMBERS];
};

struct head {
    uint32_t life, number;
};

static kin_segment *segment;
static struct world *world;
static kin_connection *first, *second;
static kin_value *token;

static size_t size_of(struct head h) { return h.number % 61 == 60 ? LARGE : sizeof h + (h.number * 31 + h.life) % 300; }

static bool is_values(struct head h) { return h.number % 13 == 12; }

static kin_err send_one(kin_connection *c, kin_value *t, struct head h)
{
    unsigned char bytes[LARGE];
    if (is_values(h))
        return kin_connection_send_args(c, KIN_ARGS(h.life, h.number, t), 100);
    memset(bytes, (int)(h.number * 7 + h.life), sizeof bytes);
    memcpy(bytes, &h, sizeof h);
    return kin_connection_send(c, bytes, size_of(h), 100);
}

/* Lives a sender's lives: the messages of each are numbered from 0. */
static int sender(kin_args *args)
{
    kin_segment *mine;
    static kin_connection *c;
    static kin_value *t;
    CHILD_CHECK(kin_unpack(args, &mine, &c, &t) == KIN_OK);
    struct world *w = kin_segment_data(mine);
    for (struct head h = {0, NUMBERS}; kin__load32(&w->stop_sending) == 0;) {
        if (h.number == NUMBERS)
            h = (struct head){kin__add32(&w->lives, 1), 0};
        if (h.life >= LIVES)
            return 0;
        kin_err err = send_one(c, t, h);
        CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
        h.number += err == KIN_OK;
        kin__store32(&w->sent[h.life], h.number);
    }
    return 0;
}

static kin_err receive_values(kin_connection *c, struct head *h)
{
    kin_args *args;
    kin_value *t;
    kin_err err = kin_connection_recv_args(c, &args, KIN_NOWAIT);
    if (err != KIN_OK)
        return err;
    err = kin_unpack(args, &h->life, &h->number, &t);
    if (err == KIN_OK) {
        err = kin_value_get_i64(t) == TOKEN && is_values(*h) ? KIN_OK : KIN_EPROTO;
        kin_value_close(t);
    }
    kin_args_free(args);
    return err;
}

/* KIN_EPROTO: not whole, or never sent. KIN_ETIMEDOUT, KIN_ETYPE: another was faster. */
static kin_err receive_one(kin_connection *c, struct world *w, struct head *h, int64_t timeout_ms)
{
    unsigned char bytes[LARGE];
    size_t size;
    kin_err err = kin_connection_recv(c, bytes, sizeof bytes, &size, timeout_ms);
    if (err == KIN_ETYPE) {
        err = receive_values(c, h);
    } else if (err == KIN_OK) {
        if (size < sizeof *h)
            return KIN_EPROTO;
        memcpy(h, bytes, sizeof *h);
        if (size != size_of(*h) || is_values(*h))
            return KIN_EPROTO;
        for (size_t i = sizeof *h; i < size; i++) {
            if (bytes[i] != (unsigned char)(h->number * 7 + h->life))
                return KIN_EPROTO;
        }
    }
    if (err != KIN_OK)
        return err;
    if (h->life >= LIVES || h->number >= NUMBERS || w->got[h->life][h->number] != 0)
        return KIN_EPROTO;
    w->got[h->life][h->number] = 1;
    (void)kin__add32(&w->received, 1);
    return KIN_OK;
}

static int receiver(kin_args *args)
{
    kin_segment *mine;
    static kin_connection *c;
    static uint32_t next[LIVES];
    CHILD_CHECK(kin_unpack(args, &mine, &c) == KIN_OK);
    struct world *w = kin_segment_data(mine);
    memset(next, 0, sizeof next);
    while (kin__load32(&w->stop_receiving) == 0) {
        struct head h;
        kin_err err = receive_one(c, w, &h, 20);
        if (err == KIN_ETIMEDOUT || err == KIN_ETYPE)
            continue;
        if (err == KIN_OK && h.number < next[h.life])
            err = KIN_ERANGE;
        if (err != KIN_OK)
            kin__store32(&w->wrong, (uint32_t)err);
        CHILD_CHECK(err == KIN_OK);
        next[h.life] = h.number + 1;
    }
    return 0;
}

static int room(void)
{
    char bytes[100] = "";
    int count = 0;
    while (kin_connection_send(second, bytes, sizeof bytes, KIN_NOWAIT) == KIN_OK)
        count++;
    for (int i = 0; i < count; i++)
        check(kin_connection_recv(first, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    return count;
}

static kin_process *start(bool sends)
{
    kin_process_options daemon = {.daemon = true}; /* so that none is left if the test fails */
    return sends ? test_start_with(sender, KIN_ARGS(segment, second, token), daemon)
                 : test_start_with(receiver, KIN_ARGS(segment, first), daemon);
}

/* Waits until one more message has arrived: the others do not wait for the dead. */
static uint64_t progress(void)
{
    uint64_t begin = uv_hrtime();
    if (!crash_until_at_least(&world->received, kin__load32(&world->received) + 1)) {
        crash_print_threads(NULL);
        fail_msg("nothing arrives any more");
    }
    return (uv_hrtime() - begin) / 1000;
}

static void check_ledger(int killed_receivers)
{
    int lost = 0;
    for (uint32_t life = 0; life < LIVES; life++) {
        uint32_t sent = world->sent[life], more = 0;
        for (uint32_t n = 0; n < NUMBERS; n++) {
            lost += n < sent && world->got[life][n] == 0;
            more += n >= sent && world->got[life][n] != 0;
        }
        if (more > 1 || (more == 1 && world->got[life][sent] == 0)) /* the one that its sender died with */
            fail_msg("sender %u had sent %u messages, others arrived", life, sent);
    }
    print_message("%u messages received, %d lost with %d killed receivers\n", world->received, lost, killed_receivers);
    assert_true(lost <= killed_receivers);
}

static void storm(void **state)
{
    (void)state;
    uint32_t seed = crash_seed();
    const char *wanted = getenv("KIN_STORM_KILLS");
    int kills = wanted != NULL ? atoi(wanted) : test_scale(400, 20), killed_receivers = 0;
    kin_process *actors[SENDERS + RECEIVERS];
    uint64_t slowest = 0;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    check(kin_value_create(&token, TOKEN));
    check(kin_pipe(&first, &second, &(kin_pipe_options){.name = "storm", .capacity = CAPACITY}));
    int before = room();
    for (int i = 0; i < SENDERS + RECEIVERS; i++)
        actors[i] = start(i < SENDERS);
    int done = 0;
    for (; done < kills && kin__load32(&world->lives) < LIVES - 100; done++) {
        int which = (int)crash_random(&seed, SENDERS + RECEIVERS);
        crash_spin_us(crash_random(&seed, 2000));
        check(kin_process_kill(actors[which]));
        uint64_t took = progress();
        slowest = took > slowest ? took : slowest;
        assert_int_equal(crash_join(actors[which]), -9);
        killed_receivers += which >= SENDERS;
        actors[which] = start(which < SENDERS);
    }
    kin__store32(&world->stop_sending, 1);
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(crash_join(actors[i]), 0);
    kin__store32(&world->stop_receiving, 1);
    for (int i = SENDERS; i < SENDERS + RECEIVERS; i++)
        assert_int_equal(crash_join(actors[i]), 0);
    assert_int_equal(world->wrong, 0);
    struct head h;
    kin_err err = KIN_OK;
    while (err == KIN_OK)
        err = receive_one(first, world, &h, KIN_NOWAIT);
    assert_int_equal(err, KIN_ETIMEDOUT);
    print_message("%d kills; ", done);
    check_ledger(killed_receivers);
    print_message("slowest progress after a kill: %llu us\n", (unsigned long long)slowest);
    assert_true(room() >= before - 1);
    kin_connection_close(second);
    check_fails(KIN_EPIPE, kin_connection_recv(first, &h, sizeof h, NULL, test_ms(20000)));
    kin_connection_close(first);
    kin_value_close(token);
    kin_segment_close(segment);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(storm)};
    return cmocka_run_group_tests_name("connection storm", tests, NULL, NULL);
}
