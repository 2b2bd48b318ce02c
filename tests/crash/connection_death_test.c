/* kin/connection.h, "Death": who sends, receives, waits or closes dies at each point of the ring and of the pipe at which it can. What
 * was sent completely arrives once and in order; of a message that was being sent all or nothing; of one that was being received all or
 * nothing is left; everybody else goes on, and the pipe holds as much as before. What victims leave open is in static variables: there
 * it is no leak.
 * @ctest TIMEOUT 300 */
#include "crash_support.h"

#include "atomic.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { VICTIM, PARENT, OTHER, OTHERS = 2, SENDERS = 5 };
enum { EACH = 4, NUMBERS = 400, STREAK = 300, LARGE = 9000, CAPACITY = 4096, SURVIVED = 77 };
enum { STOP = 99 }; /* a sender that tells a receiver to end */
enum { TOKEN = 4711 };

struct world {
    uint32_t ready, go, done;
    uint32_t got[SENDERS][NUMBERS];  /* how often it was received */
    uint32_t sent[SENDERS][NUMBERS]; /* sending it has returned */
};

static kin_segment *segment;
static struct world *world;
static kin_connection *first, *second;
static kin_value *token;

/* ---- messages: what number it has says what it is like ---- */

struct head {
    uint32_t sender, number;
};

enum { SMALL, VALUES, LARGE_BYTES };

static int like(uint32_t number) { return number % 4 == 1 ? VALUES : number == 3 ? LARGE_BYTES : SMALL; }

static size_t size_of(uint32_t number)
{
    return like(number) == LARGE_BYTES ? LARGE : sizeof(struct head) + number * 37 % 200;
}

static kin_err send_one(kin_connection *c, kin_value *t, struct world *w, uint32_t sender, uint32_t number,
                        int64_t timeout_ms)
{
    unsigned char bytes[LARGE];
    struct head h = {sender, number};
    kin_err err;
    if (like(number) == VALUES) {
        err = kin_connection_send_args(c, KIN_ARGS(sender, number, t), timeout_ms);
    } else {
        memset(bytes, (int)(number + sender), sizeof bytes);
        memcpy(bytes, &h, sizeof h);
        err = kin_connection_send(c, bytes, size_of(number), timeout_ms);
    }
    if (err == KIN_OK && sender < SENDERS)
        kin__store32(&w->sent[sender][number], 1);
    return err;
}

static kin_err receive_values(kin_connection *c, struct head *h, int64_t timeout_ms)
{
    kin_args *args;
    kin_value *t;
    kin_err err = kin_connection_recv_args(c, &args, timeout_ms);
    if (err != KIN_OK)
        return err;
    err = kin_unpack(args, &h->sender, &h->number, &t);
    if (err == KIN_OK) {
        err = kin_value_get_i64(t) == TOKEN && like(h->number) == VALUES ? KIN_OK : KIN_EPROTO;
        kin_value_close(t);
    }
    kin_args_free(args);
    return err;
}

/* KIN_EPROTO: it was not whole. */
static kin_err receive_one(kin_connection *c, struct world *w, struct head *h, int64_t timeout_ms)
{
    unsigned char bytes[LARGE];
    size_t size;
    kin_err err;
    do {
        err = kin_connection_recv(c, bytes, sizeof bytes, &size, timeout_ms);
        if (err == KIN_ETYPE) /* if another was faster, look again what it is */
            err = receive_values(c, h, timeout_ms);
        else if (err == KIN_OK && size < sizeof *h)
            err = KIN_EPROTO;
        else if (err == KIN_OK)
            memcpy(h, bytes, sizeof *h);
        if (err == KIN_OK && h->sender < SENDERS && like(h->number) != VALUES) {
            for (size_t i = sizeof *h; i < size_of(h->number); i++)
                err =
                    bytes[i] == (unsigned char)(h->number + h->sender) && size == size_of(h->number) ? err : KIN_EPROTO;
        }
    } while (err == KIN_ETYPE);
    if (err == KIN_OK && h->sender < SENDERS)
        (void)kin__add32(&w->got[h->sender][h->number], 1);
    return err;
}

/* ---- what the victim does ---- */

typedef struct role {
    const char *name;
    int (*act)(struct world *w, kin_connection *a, kin_connection *b, kin_value *t);
    const char *const *points;
    bool sends, receives; /* which of it its death may cut in two */
    bool sleeps;          /* it must, until `let_go` */
    bool others;          /* do the same beside it, asleep */
    bool across;          /* others sleep at the other end: in recv if it sends, in send if it receives */
    bool own;             /* it has been alone at it for long */
    bool streak;          /* somebody else has */
    bool full, filled;    /* the pipe; EACH messages are there */
    const char *heir_of;  /* somebody has died there before, in the same role */
} role;

static int act_send(struct world *w, kin_connection *a, kin_connection *b, kin_value *t)
{
    (void)a;
    for (uint32_t i = 0; i < EACH; i++)
        CHILD_CHECK(send_one(b, t, w, VICTIM, i, KIN_FOREVER) == KIN_OK);
    return SURVIVED;
}

static int act_receive(struct world *w, kin_connection *a, kin_connection *b, kin_value *t)
{
    (void)b, (void)t;
    struct head h;
    for (int i = 0; i < EACH; i++)
        CHILD_CHECK(receive_one(a, w, &h, KIN_FOREVER) == KIN_OK);
    return SURVIVED;
}

static int act_poll(struct world *w, kin_connection *a, kin_connection *b, kin_value *t)
{
    (void)w, (void)b, (void)t;
    CHILD_CHECK(kin_connection_poll(a, KIN_FOREVER) == KIN_OK);
    return SURVIVED;
}

static const char *const sending[] = {
    "ring.locked", "ring.committed", "ring.written.quickly", "ring.bagging", "ring.bagged", "ring.written", "ring.put",
    NULL};
static const char *const sending_own[] = {"ring.locked", "ring.committed", "ring.written.quickly", NULL};
static const char *const waking[] = {"ring.waking", "park.waking", NULL};
static const char *const sleeping[] = {"park.published", "park.sleeping", NULL};
static const char *const woken[] = {"park.published", "park.sleeping", "park.woken", NULL};
static const char *const receiving[] = {"ring.getting", "ring.got", "ring.copied", "ring.removed", NULL};
static const char *const receiving_own[] = {"ring.getting", "ring.got", NULL};
static const char *const taking_away[] = {"latch.taken.away", NULL};
static const char *const inheriting[] = {"latch.taken.away", "ring.taken.over", "ring.inherited", NULL};

static const role roles[] = {
    {"sends", act_send, sending, .sends = true},
    {"sends, alone for long", act_send, sending_own, .sends = true, .own = true},
    {"sends, after another was alone for long", act_send, taking_away, .sends = true, .streak = true},
    {"sends to who sleeps", act_send, waking, .sends = true, .across = true},
    {"waits to send", act_send, woken, .sends = true, .sleeps = true, .full = true},
    {"waits to send with others", act_send, woken, .sends = true, .sleeps = true, .others = true, .full = true},
    {"sends after one who died sending", act_send, inheriting, .sends = true, .heir_of = "ring.written"},
    {"receives", act_receive, receiving, .receives = true, .filled = true},
    {"receives, alone for long", act_receive, receiving_own, .receives = true, .filled = true, .own = true},
    {"receives, after another was alone for long", act_receive, taking_away, .receives = true, .filled = true,
     .streak = true},
    {"receives from who sleeps", act_receive, waking, .receives = true, .full = true, .across = true},
    {"waits to receive", act_receive, woken, .receives = true, .sleeps = true},
    {"waits to receive with others", act_receive, woken, .receives = true, .sleeps = true, .others = true},
    {"receives after one who died receiving", act_receive, inheriting, .receives = true, .filled = true,
     .heir_of = "ring.copied"},
    {"polls", act_poll, sleeping, .sleeps = true, .others = true},
};
#define ROLES (sizeof roles / sizeof roles[0])

static int victim(kin_args *args)
{
    kin_segment *mine;
    static kin_connection *a, *b;
    kin_value *t;
    uint32_t index;
    const char *point;
    CHILD_CHECK(kin_unpack(args, &mine, &a, &b, &t, &index, &point) == KIN_OK && index < ROLES);
    struct world *w = kin_segment_data(mine);
    const role *r = &roles[index];
    struct head h;
    for (int i = 0; r->own && i < STREAK; i++)
        CHILD_CHECK(send_one(b, t, w, STOP, 0, KIN_NOWAIT) == KIN_OK && receive_one(a, w, &h, KIN_NOWAIT) == KIN_OK);
    for (uint32_t i = 0; r->own && r->filled && i < EACH; i++)
        CHILD_CHECK(send_one(b, t, w, PARENT, i, KIN_NOWAIT) == KIN_OK);
    kin__store32(&w->ready, 1);
    CHILD_CHECK(crash_until_at_least(&w->go, 1));
    crash_at(point);
    int code = r->act(w, a, b, t);
    crash_at(NULL);
    return code;
}

/* ---- the others ---- */

typedef struct other {
    uv_thread_t thread;
    uint32_t number, done;
    bool sends;
    kin_err error;
    char says[512];
} other;

static void be_another(void *arg)
{
    other *o = arg;
    struct head h = {0, 0};
    kin_err err = KIN_OK;
    for (uint32_t i = 0; o->sends && i < EACH && err == KIN_OK; i++)
        err = send_one(second, token, world, OTHER + o->number, i, test_ms(20000));
    while (!o->sends && err == KIN_OK && h.sender != STOP)
        err = receive_one(first, world, &h, test_ms(20000));
    o->error = err;
    (void)snprintf(o->says, sizeof o->says, "%s", kin_last_error());
    kin__store32(&o->done, 1);
}

static void start_others(other *others, bool sends)
{
    for (uint32_t i = 0; i < OTHERS; i++) {
        others[i] = (other){.number = i, .sends = sends};
        assert_int_equal(uv_thread_create(&others[i].thread, be_another, &others[i]), 0);
    }
    assert_true(crash_until_asleep(OTHERS));
}

/* ---- one death ---- */

static bool at_rest(void *process) { return !kin_process_alive(process) || crash_asleep(kin_process_pid(process)) > 0; }

/* How many messages of 100 bytes fit now; they are taken out again. */
static int room(void)
{
    char bytes[100] = "";
    int count = 0;
    while (kin_connection_send(second, bytes, sizeof bytes, KIN_NOWAIT) == KIN_OK)
        count++;
    assert_int_equal(kin_last_code(), KIN_ETIMEDOUT);
    for (int i = 0; i < count; i++)
        check(kin_connection_recv(first, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    return count;
}

static kin_process *start_victim(uint32_t index, const char *at)
{
    kin__store32(&world->ready, 0);
    kin__store32(&world->go, 0);
    kin_process *p = test_start_with(victim, KIN_ARGS(segment, first, second, token, index, at),
                                     (kin_process_options){.name = "Victim"});
    assert_true(crash_until_at_least(&world->ready, 1));
    return p;
}

static uint32_t begin(const role *r)
{
    uint32_t sent = 0;
    memset(world, 0, sizeof *world);
    check(kin_pipe(&first, &second, &(kin_pipe_options){.name = "wire", .capacity = CAPACITY}));
    struct head h;
    for (int i = 0; r->streak && i < STREAK; i++) {
        check(send_one(second, token, world, STOP, 0, KIN_NOWAIT));
        check(receive_one(first, world, &h, KIN_NOWAIT));
    }
    while (!r->own && (r->full || (r->filled && sent < EACH))) {
        kin_err err = send_one(second, token, world, PARENT, sent, KIN_NOWAIT);
        if (err == KIN_ETIMEDOUT && r->full)
            break;
        check(err);
        sent++;
        assert_true(sent < NUMBERS / 2);
    }
    return r->own && r->filled ? EACH : sent;
}

static bool all_done(const other *others)
{
    bool all = true;
    for (int i = 0; i < OTHERS; i++)
        all = all && kin__load32(&others[i].done) != 0;
    return all;
}

/* Receives in this thread until nothing comes for a moment and all others that send have ended. */
static void drain(other *others, bool senders)
{
    struct head h;
    int64_t end = kin_now() + test_ms(20000);
    for (;;) {
        bool all = !senders || all_done(others);
        kin_err err = receive_one(first, world, &h, all ? KIN_NOWAIT : 1);
        if (err == KIN_ETIMEDOUT && all)
            return;
        if (err != KIN_OK && err != KIN_ETIMEDOUT)
            fail_msg("received: %s: %s", kin_strerror(err), kin_last_error());
        if (kin_now() > end)
            fail_msg("others wait for ever to send");
    }
}

static void end_others(const role *r, const char *at, other *others, bool senders)
{
    for (int64_t end = kin_now() + test_ms(20000); !senders && !all_done(others) && kin_now() < end;)
        (void)send_one(second, token, world, STOP, 0, 1);
    for (int i = 0; i < OTHERS; i++) {
        if (!crash_until_at_least(&others[i].done, 1)) {
            crash_print_threads(NULL);
            fail_msg("%s, %s: another waits for ever", r->name, at);
        }
        assert_int_equal(uv_thread_join(&others[i].thread), 0);
        if (others[i].error != KIN_OK)
            fail_msg("%s, %s: another ended with %s: %s", r->name, at, kin_strerror(others[i].error), others[i].says);
    }
}

/* All that was sent arrived once. What was being sent may have; of what was being received one may be gone. */
static void settle(const role *r, const char *at, bool died, int before)
{
    int lost = 0, half_sent = 0;
    for (int s = 0; s < SENDERS; s++) {
        for (int n = 0; n < NUMBERS; n++) {
            uint32_t got = world->got[s][n], sent = world->sent[s][n];
            if (got > 1 || (got == 1 && sent == 0 && (s != VICTIM || !r->sends || !died)))
                fail_msg("%s, %s: message %d of %d was received %u times, sent %u times", r->name, at, n, s, got, sent);
            lost += got == 0 && sent == 1;
            half_sent += got == 1 && sent == 0;
        }
    }
    if (lost > (r->receives && died ? 1 + (r->heir_of != NULL) : 0) || half_sent > 1 + (r->heir_of != NULL))
        fail_msg("%s, %s: %d messages are lost, %d were sent by a dead one", r->name, at, lost, half_sent);
    int now = room();
    if (now < before - 1)
        fail_msg("%s, %s: there is room for %d messages, there was for %d", r->name, at, now, before);
    kin_connection_close(second);
    check_fails(KIN_EPIPE, kin_connection_recv(first, NULL, 0, NULL, test_ms(20000)));
    kin_connection_close(first);
    first = second = NULL;
}

/* While the victim lives: receives what it sends, or sends what it waits for. */
static void serve(const role *r, const char *at, kin_process *p, uint32_t number, bool receive)
{
    struct head h;
    for (int64_t end = kin_now() + test_ms(20000); kin_process_alive(p) && kin_now() < end;) {
        kin_err err = KIN_ETIMEDOUT;
        if (receive) {
            err = receive_one(first, world, &h, 1);
        } else if (r->sleeps) { /* if the others take all, they are ended */
            bool more = number + 8 < NUMBERS;
            err = send_one(second, token, world, more ? PARENT : STOP, more ? number + 4 : 0, 1);
            number += err == KIN_OK && more;
        } else {
            (void)kin_process_join(p, 1);
        }
        if (err != KIN_OK && err != KIN_ETIMEDOUT)
            fail_msg("%s, %s: %s: %s", r->name, at, kin_strerror(err), kin_last_error());
    }
}

static bool die(uint32_t index, const char *point, int nth, int before)
{
    const role *r = &roles[index];
    other others[OTHERS];
    char at[80];
    (void)snprintf(at, sizeof at, "%s:%d", point, nth);
    uint32_t sent = begin(r);
    if (r->heir_of != NULL) {
        kin_process *p = start_victim(index, r->heir_of);
        kin__store32(&world->go, 1);
        assert_int_equal(crash_join(p), -9);
    }
    kin_process *p = start_victim(index, at);
    bool with_others = r->others || r->across, senders = r->across ? r->receives : r->sends;
    if (with_others)
        start_others(others, senders);
    kin__store32(&world->go, 1);
    if (r->sleeps)
        assert_true(crash_until(at_rest, p));
    serve(r, at, p, sent, r->sends && !(r->across && !senders));
    int code = crash_join(p);
    if (code != -9 && code != SURVIVED)
        fail_msg("%s, %s: the victim ended with %d", r->name, at, code);
    bool full = r->full || r->sleeps;
    kin_err err = send_one(second, token, world, PARENT, NUMBERS - 2, full ? KIN_NOWAIT : test_ms(20000));
    if (!(full && err == KIN_ETIMEDOUT))
        check(err);
    if (with_others && !senders)
        end_others(r, at, others, senders);
    drain(others, with_others && senders);
    if (with_others && senders)
        end_others(r, at, others, senders);
    drain(others, false);
    settle(r, at, code == -9, before);
    return code == -9;
}

static int capacity;

/* Where it sleeps it may not do so each time: what it waits for may come just before. */
static int deaths_at(uint32_t index, const char *point, int most)
{
    for (int tries = 0; !die(index, point, 1, capacity); tries++) {
        if (tries == 20)
            return 0;
    }
    int nth = 2;
    while (nth <= most && die(index, point, nth, capacity))
        nth++;
    return nth - 1;
}

static void die_everywhere(void **state)
{
    (void)state;
    int deaths = 0;
    for (uint32_t i = 0; i < ROLES; i++) {
        if (roles[i].streak && kin__my.session->ordered == 0)
            continue; /* being alone for long makes no difference here */
        for (const char *const *point = roles[i].points; *point != NULL; point++) {
            int here = deaths_at(i, *point, test_scale(4, 1));
            if (here == 0)
                fail_msg("%s: it does not pass %s", roles[i].name, *point);
            deaths += here;
        }
    }
    print_message("%d deaths\n", deaths);
}

/* ---- closing ---- */

static int close_it(kin_args *args)
{
    static kin_connection *c;
    const char *point;
    CHILD_CHECK(kin_unpack(args, &c, &point) == KIN_OK);
    crash_at(point);
    kin_connection_close(c);
    return SURVIVED;
}

static void wait_for_end(void *arg)
{
    other *o = arg;
    char byte;
    o->error = kin_connection_recv(first, &byte, 1, NULL, test_ms(20000));
    kin__store32(&o->done, 1);
}

static void dies_as_it_closes(void **state)
{
    (void)state;
    static const char *const closing[] = {"pipe.closed", "pipe.told", "pipe.woken", NULL};
    for (const char *const *point = closing; *point != NULL; point++) {
        other o = {0};
        check(kin_pipe(&first, &second, NULL));
        assert_int_equal(uv_thread_create(&o.thread, wait_for_end, &o), 0);
        assert_true(crash_until_asleep(1));
        kin_process *p = test_start(close_it, KIN_ARGS(second, *point));
        kin_connection_close(second);
        assert_int_equal(crash_join(p), -9);
        assert_true(crash_until_at_least(&o.done, 1));
        assert_int_equal(uv_thread_join(&o.thread), 0);
        assert_int_equal(o.error, KIN_EPIPE);
        check_fails(KIN_EPIPE, kin_connection_send(first, "", 0, KIN_NOWAIT));
        kin_connection_close(first);
        first = second = NULL;
    }
}

static int prepare(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    check(kin_value_create(&token, TOKEN));
    check(kin_pipe(&first, &second, &(kin_pipe_options){.capacity = CAPACITY}));
    capacity = room();
    kin_connection_close(first);
    kin_connection_close(second);
    return 0;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(die_everywhere), cmocka_unit_test(dies_as_it_closes)};
    return cmocka_run_group_tests_name("connection_death", tests, prepare, NULL);
}
