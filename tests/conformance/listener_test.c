/* kin/listener.h: listening, connecting, and what can be done with such connections. Hostile peers are in listener_hostile_test.c.
 * @ctest TIMEOUT 180 */
#include "listener_support.h"
#include "sync_support.h"

#include "atomic.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

static void fill(uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

static bool is_filled(const uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        if (bytes[i] != (uint8_t)(seed >> 24))
            return false;
    }
    return true;
}

/* What is made once per process when it is first needed is not counted as leaked. */
static int warm_up(void **state)
{
    (void)state;
    if (!peer_has_keys())
        return 0;
    kin_connection *c;
    join_ends(PEER_TCP, NULL);
    check_fails(KIN_ENOENT, kin_connect(&c, "tcp:no-such-host.invalid:5000", KEY, SOON));
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(here, NULL, 0, NULL, 20));
    return teardown(NULL);
}

/* ---- wrong use ---- */

static void wrong_addresses(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",           "with space", "a/b",         "..",           ".hidden",   "name~lock",     "tcp:",
                                        "tcp:host",   "tcp:h:",     "tcp:h:x",     "tcp:h:-1",     "tcp:h:5 ",  "tcp:h:65536",   "tcp:h:123456",
                                        "tcp::5000",  "tcp:[::1]",  "tcp:[::1:5",  "tcp:[]:5000",  "tcp:::1:5", "\xc3\xa4"};
    kin_listener *l;
    kin_connection *c;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        check_fails(KIN_EINVAL, kin_listen(&l, wrong[i], KEY, NULL));
        check_fails(KIN_EINVAL, kin_connect(&c, wrong[i], KEY, KIN_NOWAIT));
        check_says(wrong[i]);
    }
    char longest[80];
    memset(longest, 'n', sizeof longest);
    longest[65] = 0;
    check_fails(KIN_EINVAL, kin_listen(&l, longest, KEY, NULL));
    check_fails(KIN_EINVAL, kin_listen(&l, NULL, KEY, NULL));
    check_fails(KIN_EINVAL, kin_connect(&c, NULL, KEY, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_listen(&l, test_on_windows() ? "/path" : "\\\\.\\pipe\\name", KEY, NULL));
}

static void wrong_use(void **state)
{
    (void)state;
    NEEDS_KEYS
    kin_listener *l;
    kin_connection *c;
    const char *name = peer_name();
    check_fails(KIN_EINVAL, kin_listen(NULL, name, KEY, NULL));
    check_fails(KIN_EINVAL, kin_connect(NULL, name, KEY, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connect(&c, name, KEY, -2));
    check_fails(KIN_EINVAL, kin_connect(&c, "tcp:127.0.0.1:0", KEY, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_listen(&l, name, KIN_KEY(""), NULL));
    check_fails(KIN_EINVAL, kin_listen(&l, name, ((kin_view){NULL, 3}), NULL));
    check_fails(KIN_EINVAL, kin_listen(&l, name, ((kin_view){"x", ((size_t)1 << 20) + 1}), NULL));
    check_fails(KIN_EINVAL, kin_listen(&l, PEER_TCP, KIN_NO_KEY, NULL)); /* whoever likes could connect */
    check_fails(KIN_EINVAL, kin_connect(&c, "tcp:127.0.0.1:1", KIN_NO_KEY, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_listen(&l, name, KEY, &(kin_listen_options){.pending = 257}));
    check_fails(KIN_EINVAL, kin_listen(&l, name, KEY, &(kin_listen_options){.handshake_ms = -1}));
    check_fails(KIN_EINVAL, kin_listen(&l, name, KEY, &(kin_listen_options){.backlog = 65537}));
    check_fails(KIN_ENOENT, kin_connect(&c, name, KEY, SOON));
    check_fails(KIN_ENOENT, kin_listen(&l, "tcp:no-such-host.invalid:0", KEY, NULL));
    check_fails(KIN_ENOENT, kin_connect(&c, "tcp:no-such-host.invalid:5000", KEY, SOON));

    check_fails(KIN_EINVAL, kin_listener_accept(NULL, &c, KIN_NOWAIT));
    assert_string_equal(kin_listener_address(NULL), "");
    kin_listener_close(NULL);
    check(kin_listen(&listener, name, KEY, NULL));
    check_fails(KIN_EINVAL, kin_listener_accept(listener, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_listener_accept(listener, &c, -2));
    check_fails(KIN_ETIMEDOUT, kin_listener_accept(listener, &c, KIN_NOWAIT));
    int64_t before = kin_now();
    check_fails(KIN_ETIMEDOUT, kin_listener_accept(listener, &c, 50));
    assert_true(kin_now() - before >= 50);
    check_says(name);
    assert_string_equal(kin_listener_address(listener), name);
    kin_listener_close(listener);
    check_fails(KIN_EINVAL, kin_listener_accept(listener, &c, KIN_NOWAIT));
    assert_string_equal(kin_listener_address(listener), "");
    kin_listener_close(listener);
    listener = NULL;
    check_fails(KIN_ENOENT, kin_connect(&c, name, KEY, SOON));
    check_handles();
}

static void taken(void **state)
{
    (void)state;
    NEEDS_KEYS
    kin_listener *l;
    for (int i = 0; i < PLACES; i++) {
        if (i == 0 && test_under_wine()) {
            print_message("not checked: Wine does not heed FILE_FLAG_FIRST_PIPE_INSTANCE\n");
            continue;
        }
        char where[KIN__ADDRESS_SIZE];
        check(kin_listen(&listener, place(i), KEY, NULL));
        (void)snprintf(where, sizeof where, "%s", kin_listener_address(listener));
        check_fails(KIN_EEXIST, kin_listen(&l, where, KEY, NULL));
        check_says(i == 0 ? where : "127.0.0.1");
        kin_listener_close(listener);
        check(kin_listen(&listener, where, KEY, NULL)); /* free at once */
        kin_listener_close(listener);
        listener = NULL;
    }
}

/* ---- messages ---- */

static void check_messages(void)
{
    static const size_t sizes[] = {0, 1, 7, 8, 4096, 65531, 65532, 65536, 200000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = 0, n = sizes[i];
        uint8_t *out = malloc(n + 1);
        void *in = NULL;
        assert_non_null(out);
        fill(out, n, (uint32_t)i);
        /* The other end reads only afterwards: what does not fit is sent by a thread of kin's. */
        check(kin_connection_send(there, out, n, 20));
        check(kin_connection_poll(here, SOON));
        if (n > 0) {
            size = 1;
            check_fails(KIN_EMSGSIZE, kin_connection_recv(here, out, n - 1, &size, SOON));
            assert_int_equal(size, n);
            check_fails(KIN_EMSGSIZE, kin_connection_recv(here, NULL, 0, NULL, SOON));
        }
        if (n > 1) {
            size = 1;
            check_fails(KIN_EMSGSIZE, kin_connection_recv_new(here, &in, &size, n - 1, SOON));
            assert_int_equal(size, n);
        }
        check(kin_connection_recv_new(here, &in, &size, n, SOON));
        assert_int_equal(size, n);
        assert_true(is_filled(in, n, (uint32_t)i));
        kin_free(in);
        check_fails(KIN_ETIMEDOUT, kin_connection_poll(here, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(here, out, n, &size, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(here, out, n, &size, 5));
        check_says("': no message in time");
        check(kin_connection_send(here, "back", 4, SOON));
        char back[4];
        check(kin_connection_recv(there, back, 4, &size, SOON));
        assert_memory_equal(back, "back", 4);
        free(out);
    }
}

static void messages(void **state)
{
    (void)state;
    NEEDS_KEYS
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        assert_string_not_equal(kin_connection_name(here), "");
        check_messages();
        kin_listener_close(listener); /* those that were accepted go on */
        listener = NULL;
        check_messages();
        (void)teardown(NULL);
    }
    check_handles();
}

static void the_end(void **state)
{
    (void)state;
    NEEDS_KEYS
    char bytes[8];
    size_t size;
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        check(kin_connection_send(there, "one", 3, SOON));
        check(kin_connection_send(there, "", 0, SOON));
        check(kin_connection_send(there, "two", 3, SOON));
        kin_connection_close(there);
        check(kin_connection_recv(here, bytes, 8, &size, SOON));
        assert_int_equal(size, 3);
        assert_memory_equal(bytes, "one", 3);
        check(kin_connection_recv(here, bytes, 8, &size, SOON));
        assert_int_equal(size, 0);
        check(kin_connection_recv(here, bytes, 8, &size, SOON));
        assert_memory_equal(bytes, "two", 3);
        for (int again = 0; again < 3; again++) {
            check(kin_connection_poll(here, SOON)); /* the end can be received */
            check_fails(KIN_EPIPE, kin_connection_recv(here, bytes, 8, &size, SOON));
        }
        check_fails(KIN_EPIPE, kin_connection_send(here, "x", 1, SOON)); /* also where the system would take it */
        check_says("closed");
        check_fails(KIN_EINVAL, kin_connection_send(there, "x", 1, SOON));
        check_fails(KIN_EINVAL, kin_connection_recv(there, bytes, 8, &size, SOON));
        there = NULL;
        (void)teardown(NULL);
    }
}

static void values(void **state)
{
    (void)state;
    NEEDS_KEYS
    join_ends(peer_name(), NULL);
    kin_args *args;
    char bytes[64];
    size_t size;
    kin_value *value;
    check(kin_value_create(&value, 1));
    check(kin_connection_send_args(there, KIN_ARGS(42, "text", 2.5, kin_bytes("abc", 3)), SOON));
    check_fails(KIN_ETYPE, kin_connection_recv(here, bytes, sizeof bytes, &size, SOON));
    check(kin_connection_recv_args(here, &args, SOON));
    int number;
    const char *text;
    double real;
    kin_view view;
    check(kin_unpack(args, &number, &text, &real, &view));
    assert_int_equal(number, 42);
    assert_string_equal(text, "text");
    assert_true(real == 2.5);
    assert_int_equal(view.size, 3);
    kin_args_free(args);

    check_fails(KIN_ENOTSUP, kin_connection_send_args(there, KIN_ARGS(value), SOON));
    check_says("kin_pipe");
    check_fails(KIN_EINVAL, kin_connection_send(there, "kinPack1 and more", 17, SOON));
    check(kin_connection_send(there, "kinPack", 7, SOON));
    check_fails(KIN_ETYPE, kin_connection_recv_args(here, &args, SOON));
    check(kin_connection_recv(here, bytes, sizeof bytes, &size, SOON));
    assert_int_equal(size, 7);

    /* Values that are none: refused, and the connection goes on. */
    os_stream *raw = peer_connect(kin_listener_address(listener));
    assert_true(raw != NULL && peer_prove(raw, false, "secret"));
    kin_connection *odd;
    check(kin_listener_accept(listener, &odd, SOON));
    assert_true(peer_say(raw, "kinPack1garbage that is no pack", 31) && peer_say(raw, "kinPack1", 8) && peer_say(raw, "fine", 4));
    assert_int_not_equal(kin_connection_recv_args(odd, &args, SOON), KIN_OK);
    assert_int_not_equal(kin_connection_recv_args(odd, &args, SOON), KIN_OK);
    check(kin_connection_recv(odd, bytes, sizeof bytes, &size, SOON));
    assert_int_equal(size, 4);
    kin_connection_close(odd);
    os_stream_close(raw);
    kin_value_close(value);
}

static int never(kin_args *args)
{
    (void)args;
    return 0;
}

static void cannot_be_passed(void **state)
{
    (void)state;
    NEEDS_KEYS
    join_ends(peer_name(), NULL);
    kin_process *p;
    check_fails(KIN_ENOTSUP, kin_process_start(&p, never, KIN_ARGS(here), NULL));
    check_says("kin_pipe");
    check(kin_connection_send(here, "x", 1, SOON));
    char byte;
    check(kin_connection_recv(there, &byte, 1, NULL, SOON));
}

static void largest_message(void **state)
{
    (void)state;
    NEEDS_KEYS
    static char bytes[1001];
    size_t size;
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), &(kin_listen_options){.max_message = 1000});
        check_fails(KIN_EMSGSIZE, kin_connection_send(here, bytes, 1001, SOON));
        check(kin_connection_send(here, bytes, 1000, SOON));
        check(kin_connection_send(there, bytes, 1000, SOON));
        check(kin_connection_recv(here, bytes, sizeof bytes, &size, SOON));
        assert_int_equal(size, 1000);
        check(kin_connection_send(there, bytes, 1001, SOON));
        for (int again = 0; again < 2; again++) {
            check_fails(KIN_EPROTO, kin_connection_recv(here, bytes, sizeof bytes, &size, SOON));
            check_says("at most 1000");
        }
        check_fails(KIN_EPIPE, kin_connection_send(here, "x", 1, SOON));
        check(kin_connection_recv(there, bytes, sizeof bytes, &size, SOON)); /* what was sent before */
        check_fails(KIN_EPIPE, kin_connection_recv(there, bytes, sizeof bytes, &size, SOON));
        (void)teardown(NULL);
    }
}

/* ---- time ---- */

/* A receiver that does not read: what cannot be sent in time is not sent, or is sent whole. */
static void no_room(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { SIZE = 10000, MOST = 100000 };
    static uint8_t out[SIZE], in[SIZE];
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        uint32_t sent = 0;
        kin_err err = KIN_OK;
        while (sent < MOST && err == KIN_OK) {
            fill(out, SIZE, sent);
            err = kin_connection_send(there, out, SIZE, sent % 2 == 0 ? KIN_NOWAIT : 10);
            sent += err == KIN_OK;
        }
        assert_int_equal(err, KIN_ETIMEDOUT);
        assert_true(sent > 0);
        kin_err small = kin_connection_send(there, "x", 1, 20); /* there may be room for that, or there is by now */
        assert_true(small == KIN_OK || small == KIN_ETIMEDOUT);
        for (uint32_t n = 0; n < sent; n++) {
            size_t size;
            check(kin_connection_recv(here, in, SIZE, &size, SOON));
            assert_int_equal(size, SIZE);
            assert_true(is_filled(in, SIZE, n));
        }
        if (small == KIN_OK)
            check(kin_connection_recv(here, in, SIZE, NULL, SOON));
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(here, in, SIZE, NULL, KIN_NOWAIT));
        check(kin_connection_send(there, "y", 1, SOON));
        check(kin_connection_recv(here, in, SIZE, NULL, SOON));
        assert_int_equal(in[0], 'y');
        (void)teardown(NULL);
    }
}

/* Closed while a thread of kin's still sends: it arrives. */
static void closed_with_a_rest(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { SIZE = 4000000 };
    for (int i = 0; i < PLACES; i++) {
        uint8_t *out = malloc(SIZE);
        assert_non_null(out);
        fill(out, SIZE, 5);
        join_ends(place(i), NULL);
        check(kin_connection_send(there, out, SIZE, 1));
        free(out);
        kin_connection_close(there);
        there = NULL;
        void *in;
        size_t size;
        check(kin_connection_recv_new(here, &in, &size, 0, SOON));
        assert_int_equal(size, SIZE);
        assert_true(is_filled(in, SIZE, 5));
        kin_free(in);
        check_fails(KIN_EPIPE, kin_connection_recv(here, NULL, 0, NULL, SOON));
        (void)teardown(NULL);
    }
}

/* Closed with something unread: what was sent arrives all the same. TCP by itself would reset the connection. */
static void closed_with_something_unread(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { SIZE = 3000000 };
    for (int i = 0; i < PLACES; i++) {
        for (int background = 0; background < 2; background++) { /* closed by the caller, or by the thread that sends the rest */
            size_t size = background ? SIZE : SIZE / 10;
            uint8_t *out = malloc(size);
            assert_non_null(out);
            fill(out, size, 6);
            join_ends(place(i), NULL);
            check(kin_connection_send(here, "never read", 10, SOON));
            check(kin_connection_poll(there, SOON));
            check(kin_connection_send(here, "nor this", 8, SOON));
            check(kin_connection_send(there, out, size, 1));
            free(out);
            kin_connection_close(there);
            there = NULL;
            void *in;
            check(kin_connection_recv_new(here, &in, &size, 0, SOON));
            assert_true(is_filled(in, size, 6));
            kin_free(in);
            check_fails(KIN_EPIPE, kin_connection_recv(here, NULL, 0, NULL, SOON));
            (void)teardown(NULL);
        }
    }
}

static void asleep_without_cpu(void **state)
{
    (void)state;
    NEEDS_KEYS
    join_ends(peer_name(), NULL);
    int64_t cpu = sync_cpu_ms(), before = kin_now();
    kin_connection *c;
    check_fails(KIN_ETIMEDOUT, kin_listener_accept(listener, &c, 300));
    check_fails(KIN_ETIMEDOUT, kin_connection_recv(here, NULL, 0, NULL, 300));
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(here, 300));
    assert_true(kin_now() - before >= 900);
    assert_true(sync_cpu_ms() - cpu < 300);
}

/* ---- kin_wait ---- */

static void waited_for(void **state)
{
    (void)state;
    NEEDS_KEYS
    char byte;
    size_t ready;
    kin_event *event;
    check(kin_event_create(&event, NULL));
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        kin_waitable all[] = {KIN_WAIT_FOR(listener), KIN_WAIT_FOR(here), KIN_WAIT_FOR(there), KIN_WAIT_FOR(event)};
        check_fails(KIN_ETIMEDOUT, kin_wait(all, 4, &ready, KIN_NOWAIT));
        int64_t cpu = sync_cpu_ms();
        check_fails(KIN_ETIMEDOUT, kin_wait(all, 4, &ready, 200));
        assert_true(sync_cpu_ms() - cpu < 100);
        check(kin_connection_send(there, "x", 1, SOON));
        check(kin_wait(all, 4, &ready, SOON));
        assert_int_equal(ready, 1);
        assert_true(all[1].ready);
        check(kin_wait(all, 4, &ready, SOON)); /* nothing was taken */
        check(kin_connection_recv(here, &byte, 1, NULL, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_wait(all, 4, &ready, 20));
        kin_connection *c, *accepted;
        check(kin_connect(&c, kin_listener_address(listener), KEY, SOON));
        check(kin_wait(all, 4, &ready, SOON));
        assert_true(all[0].ready);
        check(kin_listener_accept(listener, &accepted, KIN_NOWAIT));
        kin_connection_close(accepted);
        kin_connection_close(c);
        kin_waitable room[] = {KIN_WAIT_ROOM(here), KIN_WAIT_ROOM(there)};
        check(kin_wait(room, 2, &ready, SOON));
        assert_int_equal(ready, 2);
        kin_connection_close(there);
        there = NULL;
        kin_waitable end[] = {KIN_WAIT_FOR(here)};
        check(kin_wait(end, 1, &ready, SOON));
        check_fails(KIN_EPIPE, kin_connection_recv(here, &byte, 1, NULL, KIN_NOWAIT));
        (void)teardown(NULL);
    }
    kin_event_close(event);
}

typedef struct late {
    kin_connection *connection;
    const char *address;
    kin_lock *gate;
    kin_err err;
} late;

static void speak_late(void *arg)
{
    late *me = arg;
    if (!test_pass(me->gate))
        return;
    me->err = me->connection != NULL ? kin_connection_send(me->connection, "late", 4, SOON) : kin_connect(&there, me->address, KEY, SOON);
}

/* Asleep when it comes, with kin_wait and without. */
static void woken(void **state)
{
    (void)state;
    NEEDS_KEYS
    for (int i = 0; i < PLACES; i++) {
        for (int by_wait = 0; by_wait < 2; by_wait++) {
            check(kin_listen(&listener, place(i), KEY, NULL));
            kin_lock *gate = test_gate();
            late me = {.address = kin_listener_address(listener), .gate = gate};
            uv_thread_t thread;
            assert_int_equal(uv_thread_create(&thread, speak_late, &me), 0);
            test_open(gate);
            kin_waitable accept[] = {KIN_WAIT_FOR(listener)};
            if (by_wait)
                check(kin_wait(accept, 1, NULL, SOON));
            check(kin_listener_accept(listener, &here, SOON));
            assert_int_equal(uv_thread_join(&thread), 0);
            check(me.err);
            kin_lock_close(gate);
            gate = test_gate();
            me = (late){.connection = there, .gate = gate};
            assert_int_equal(uv_thread_create(&thread, speak_late, &me), 0);
            test_open(gate);
            kin_waitable receive[] = {KIN_WAIT_FOR(here)};
            if (by_wait)
                check(kin_wait(receive, 1, NULL, SOON));
            char bytes[4];
            check(kin_connection_recv(here, bytes, 4, NULL, by_wait ? KIN_NOWAIT : SOON));
            assert_int_equal(uv_thread_join(&thread), 0);
            check(me.err);
            kin_lock_close(gate);
            (void)teardown(NULL);
        }
    }
}

/* Several wait for the same message, which none of them takes: all are told. */
typedef struct looker {
    uv_barrier_t *turn;
    int rounds;
    kin_err err;
} looker;

static void look_on(void *arg)
{
    looker *me = arg;
    for (int round = 0; round < me->rounds; round++) {
        (void)uv_barrier_wait(me->turn);
        kin_waitable w[] = {KIN_WAIT_FOR(here)};
        kin_err err = me->err == KIN_OK ? kin_wait(w, 1, NULL, SOON) : KIN_OK;
        if (err != KIN_OK)
            me->err = err;
        (void)uv_barrier_wait(me->turn);
    }
}

static void seen_by_all(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { LOOKERS = 3 };
    int rounds = test_scale(3000, 50);
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        looker lookers[LOOKERS];
        uv_thread_t threads[LOOKERS];
        uv_barrier_t turn;
        assert_int_equal(uv_barrier_init(&turn, LOOKERS + 1), 0);
        for (int n = 0; n < LOOKERS; n++) {
            lookers[n] = (looker){.turn = &turn, .rounds = rounds};
            assert_int_equal(uv_thread_create(&threads[n], look_on, &lookers[n]), 0);
        }
        for (int round = 0; round < rounds; round++) {
            char byte;
            (void)uv_barrier_wait(&turn);
            check(kin_connection_send(there, "x", 1, SOON));
            (void)uv_barrier_wait(&turn);
            check(kin_connection_recv(here, &byte, 1, NULL, KIN_NOWAIT));
        }
        for (int n = 0; n < LOOKERS; n++) {
            assert_int_equal(uv_thread_join(&threads[n]), 0);
            assert_int_equal(lookers[n].err, KIN_OK);
        }
        uv_barrier_destroy(&turn);
        (void)teardown(NULL);
    }
}

/* ---- many at once ---- */

enum { SENDERS = 4, RECEIVERS = 3, EACH = 400 };

typedef struct worker {
    kin_connection *connection;
    uint32_t index;
    uint8_t *seen; /* how often each message came */
    kin_err err;
    bool damaged;
} worker;

static size_t size_of(uint32_t number)
{
    return 8 + number * 7919 % 3000 + (number % 97 == 0 ? 150000 : 0);
}

static void send_many(void *arg)
{
    worker *w = arg;
    uint8_t *bytes = malloc(200000);
    for (uint32_t i = 0; i < EACH && w->err == KIN_OK && bytes != NULL; i++) {
        uint32_t number = w->index * EACH + i;
        memcpy(bytes, &number, 4);
        fill(bytes + 4, size_of(number) - 4, number);
        w->err = kin_connection_send(w->connection, bytes, size_of(number), SOON);
    }
    free(bytes);
}

static void receive_many(void *arg)
{
    worker *w = arg;
    for (;;) {
        void *bytes;
        size_t size;
        w->err = kin_connection_recv_new(w->connection, &bytes, &size, 0, SOON);
        if (w->err != KIN_OK)
            return;
        uint32_t number;
        memcpy(&number, bytes, 4);
        if (number >= SENDERS * EACH || size != size_of(number) || !is_filled((uint8_t *)bytes + 4, size - 4, number))
            w->damaged = true;
        else
            w->seen[number]++;
        kin_free(bytes);
    }
}

static void never_mixed(void **state)
{
    (void)state;
    NEEDS_KEYS
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        worker senders[SENDERS], receivers[RECEIVERS];
        uv_thread_t threads[SENDERS + RECEIVERS];
        static uint8_t seen[RECEIVERS][SENDERS * EACH];
        memset(seen, 0, sizeof seen);
        for (uint32_t n = 0; n < RECEIVERS; n++) {
            receivers[n] = (worker){.connection = here, .seen = seen[n]};
            assert_int_equal(uv_thread_create(&threads[SENDERS + n], receive_many, &receivers[n]), 0);
        }
        for (uint32_t n = 0; n < SENDERS; n++) {
            senders[n] = (worker){.connection = there, .index = n};
            assert_int_equal(uv_thread_create(&threads[n], send_many, &senders[n]), 0);
        }
        for (int n = 0; n < SENDERS; n++)
            assert_int_equal(uv_thread_join(&threads[n]), 0);
        kin_connection_close(there);
        there = NULL;
        for (int n = 0; n < RECEIVERS; n++)
            assert_int_equal(uv_thread_join(&threads[SENDERS + n]), 0);
        for (int n = 0; n < SENDERS; n++)
            assert_int_equal(senders[n].err, KIN_OK);
        for (int n = 0; n < RECEIVERS; n++) {
            assert_int_equal(receivers[n].err, KIN_EPIPE);
            assert_false(receivers[n].damaged);
        }
        for (int n = 0; n < SENDERS * EACH; n++)
            assert_int_equal(seen[0][n] + seen[1][n] + seen[2][n], 1);
        (void)teardown(NULL);
    }
}

/* Clients in processes of their own, each again and again; all are served. */
static int client(kin_args *args)
{
    const char *address;
    int times, index;
    CHILD_CHECK(kin_unpack(args, &address, &times, &index) == KIN_OK);
    for (int i = 0; i < times; i++) {
        kin_connection *c;
        int32_t ask[2] = {index, i}, answer[2];
        size_t size;
        CHILD_CHECK(kin_connect(&c, address, KEY, SOON) == KIN_OK);
        CHILD_CHECK(kin_connection_send(c, ask, sizeof ask, SOON) == KIN_OK);
        CHILD_CHECK(kin_connection_recv(c, answer, sizeof answer, &size, SOON) == KIN_OK);
        CHILD_CHECK(size == sizeof answer && answer[0] == index + 1 && answer[1] == i + 1);
        kin_connection_close(c);
    }
    return 7;
}

static void many_clients(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { CLIENTS = 4 };
    int times = test_scale(50, 5);
    for (int i = 0; i < PLACES; i++) {
        check(kin_listen(&listener, place(i), KEY, NULL));
        kin_process *clients[CLIENTS];
        for (int n = 0; n < CLIENTS; n++)
            clients[n] = test_start(client, KIN_ARGS(kin_listener_address(listener), times, n));
        for (int n = 0; n < CLIENTS * times; n++) {
            int32_t ask[2];
            check(kin_listener_accept(listener, &here, SOON));
            check(kin_connection_recv(here, ask, sizeof ask, NULL, SOON));
            ask[0]++, ask[1]++;
            check(kin_connection_send(here, ask, sizeof ask, SOON));
            kin_connection_close(here);
            here = NULL;
        }
        for (int n = 0; n < CLIENTS; n++)
            assert_int_equal(test_finish(clients[n]), 7);
        (void)teardown(NULL);
    }
}

/* Those beyond the backlog are closed, the others are there. */
static void backlog(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { CLIENTS = 5 };
    kin_connection *clients[CLIENTS], *accepted[2], *c;
    check(kin_listen(&listener, peer_name(), KEY, &(kin_listen_options){.backlog = 2}));
    int refused = 0;
    for (int i = 0; i < CLIENTS; i++)
        check(kin_connect(&clients[i], kin_listener_address(listener), KEY, SOON));
    kin_waitable ends[CLIENTS];
    size_t ended = 0;
    for (int i = 0; i < CLIENTS; i++)
        ends[i] = KIN_WAIT_FOR(clients[i]);
    for (int64_t until = kin_now() + SOON; ended < CLIENTS - 2 && kin_now() < until;)
        check(kin_wait(ends, CLIENTS, &ended, SOON));
    check(kin_listener_accept(listener, &accepted[0], SOON));
    check(kin_listener_accept(listener, &accepted[1], SOON));
    for (int i = 0; i < 2; i++)
        check(kin_connection_send(accepted[i], "x", 1, SOON));
    for (int i = 0; i < CLIENTS; i++) {
        char byte;
        kin_err err = kin_connection_recv(clients[i], &byte, 1, NULL, SOON);
        assert_true(err == KIN_OK || err == KIN_EPIPE);
        refused += err == KIN_EPIPE;
        kin_connection_close(clients[i]);
    }
    assert_int_equal(refused, CLIENTS - 2);
    check_fails(KIN_ETIMEDOUT, kin_listener_accept(listener, &c, KIN_NOWAIT));
    kin_connection_close(accepted[0]);
    kin_connection_close(accepted[1]);
}

/* ---- closing under others ---- */

typedef struct sleeper {
    int what;
    kin_err err;
    uint32_t began, ended;
} sleeper;

static void sleep_in(void *arg)
{
    sleeper *me = arg;
    char byte;
    kin_connection *c;
    kin__store32(&me->began, 1);
    me->err = me->what == 0   ? kin_listener_accept(listener, &c, SOON)
              : me->what == 1 ? kin_connection_recv(here, &byte, 1, NULL, SOON)
                              : kin_connection_poll(here, SOON);
    kin__store32(&me->ended, 1);
}

static void closed_under_others(void **state)
{
    (void)state;
    NEEDS_KEYS
    enum { THREADS = 6 };
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        sleeper sleepers[THREADS];
        uv_thread_t threads[THREADS];
        for (int n = 0; n < THREADS; n++) {
            sleepers[n] = (sleeper){.what = n % 3};
            assert_int_equal(uv_thread_create(&threads[n], sleep_in, &sleepers[n]), 0);
        }
        for (int n = 0; n < THREADS; n++) {
            while (kin__load32(&sleepers[n].began) == 0)
                os_yield();
        }
        os_yield();
        int64_t before = kin_now();
        kin_listener_close(listener);
        kin_connection_close(here);
        for (int n = 0; n < THREADS; n++) {
            assert_int_equal(uv_thread_join(&threads[n]), 0);
            assert_int_equal(sleepers[n].err, KIN_EINVAL);
        }
        assert_true(kin_now() - before < test_ms(10000));
        char byte;
        check_fails(KIN_EPIPE, kin_connection_recv(there, &byte, 1, NULL, SOON));
        listener = NULL;
        here = NULL;
        (void)teardown(NULL);
    }
    check_handles();
}

/* ---- being asked to stop ---- */

static int interrupted_child(kin_args *args)
{
    int what;
    kin_value *ready;
    const char *address;
    CHILD_CHECK(kin_unpack(args, &what, &address, &ready) == KIN_OK);
    kin_listener *l;
    kin_connection *c, *d;
    char byte;
    CHILD_CHECK(kin_listen(&l, peer_name(), KEY, NULL) == KIN_OK);
    CHILD_CHECK(kin_connect(&c, kin_listener_address(l), KEY, SOON) == KIN_OK);
    CHILD_CHECK(kin_listener_accept(l, &d, SOON) == KIN_OK);
    kin_value_add_i64(ready, 1, NULL);
    kin_connection *e;
    kin_err err = what == 0   ? kin_listener_accept(l, &e, KIN_FOREVER)
                  : what == 1 ? kin_connection_recv(d, &byte, 1, NULL, KIN_FOREVER)
                              : kin_connect(&e, address, KEY, KIN_FOREVER); /* whom nobody answers, or whom nobody takes */
    CHILD_CHECK(err == KIN_EINTERRUPTED);
    CHILD_CHECK(kin_connection_send(c, "x", 1, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_connection_recv(d, &byte, 1, NULL, KIN_FOREVER) == KIN_OK); /* what is there is had */
    kin_connection_close(c);
    kin_connection_close(d);
    kin_listener_close(l);
    return 7;
}

static void asked_to_stop(void **state)
{
    (void)state;
    NEEDS_KEYS
    char where[KIN__ADDRESS_SIZE];
    os_port *silent = peer_listen(peer_name(), where);
    assert_non_null(silent);
    enum { WAITING = 5000 };
    static os_stream *waiting[WAITING];
    int n = 0;
    for (int what = 0; what < 4; what++) {
        kin_value *ready;
        while (what == 3 && n < WAITING && (waiting[n] = peer_try_connect(where, 50)) != NULL)
            n++; /* until the queue of the system is full, unless it is a very long one */
        check(kin_value_create(&ready, 0));
        kin_process *p = test_start(interrupted_child, KIN_ARGS(what, (const char *)where, ready));
        assert_true(test_await(ready, 1));
        check(kin_process_interrupt(p));
        assert_int_equal(test_finish(p), 7);
        kin_value_close(ready);
    }
    while (n > 0)
        os_stream_close(waiting[--n]);
    os_port_close(silent);
}

/* ---- places ---- */

static int dies_listening(kin_args *args)
{
    const char *address;
    kin_value *ready;
    CHILD_CHECK(kin_unpack(args, &address, &ready) == KIN_OK);
    kin_listener *l;
    CHILD_CHECK(kin_listen(&l, address, KEY, NULL) == KIN_OK);
    kin_value_add_i64(ready, 1, NULL);
    kin_connection *c;
    (void)kin_listener_accept(l, &c, KIN_FOREVER);
    return 1;
}

/* What a killed listener leaves behind is replaced; what a living one has is not. */
static void after_a_dead_one(void **state)
{
    (void)state;
    NEEDS_KEYS
    const char *name = peer_name();
    kin_value *ready;
    check(kin_value_create(&ready, 0));
    for (int i = 0; i < 3; i++) {
        kin_process *p = test_start(dies_listening, KIN_ARGS(name, ready));
        assert_true(test_await(ready, i + 1));
        if (!test_under_wine())
            check_fails(KIN_EEXIST, kin_listen(&listener, name, KEY, NULL));
        check(kin_process_kill(p));
        (void)test_finish(p);
        check_fails(KIN_ENOENT, kin_connect(&there, name, KEY, SOON));
    }
    there = NULL;
    join_ends(name, NULL);
    check(kin_connection_send(here, "x", 1, SOON));
    kin_value_close(ready);
}

static void at_a_path(void **state)
{
    (void)state;
    NEEDS_KEYS
    char path[256];
    if (test_on_windows())
        (void)snprintf(path, sizeof path, "\\\\.\\pipe\\%s", peer_name());
    else
        (void)snprintf(path, sizeof path, "./%s", test_file("socket"));
    join_ends(path, NULL);
    assert_string_equal(kin_listener_address(listener), path);
    check(kin_connection_send(here, "x", 1, SOON));
    kin_listener_close(listener);
    listener = NULL;
    if (test_on_windows())
        return;
    FILE *f = fopen(path, "r"); /* it is removed */
    assert_null(f);
    char before[1024];
    size_t space = sizeof before;
    assert_int_equal(uv_cwd(before, &space), 0);
    check(kin_listen(&listener, path, KEY, NULL));
    assert_int_equal(uv_chdir("/"), 0); /* wherever the program is by then */
    kin_listener_close(listener);
    assert_int_equal(uv_chdir(before), 0);
    listener = NULL;
    f = fopen(path, "r");
    assert_null(f);
    f = fopen(path, "w"); /* and what is no socket stays */
    assert_non_null(f);
    (void)fclose(f);
    check_fails(KIN_EEXIST, kin_listen(&listener, path, KEY, NULL));
    kin_connection *c;
    check_fails(KIN_ENOENT, kin_connect(&c, path, KEY, SOON));
    assert_int_equal(remove(path), 0);
    listener = NULL;
    char longest[200];
    memset(longest, 'p', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    check_fails(KIN_EINVAL, kin_listen(&listener, longest, KEY, NULL));
    check_fails(KIN_ENOENT, kin_listen(&listener, "/no/such/directory", KEY, NULL));
    listener = NULL;
}

/* Whether listening and connecting by name is refused because of the directory, and who says so. */
static void check_refused(const char *why)
{
    check_fails(KIN_EPERM, kin_listen(&listener, "name", KEY, NULL));
    check_says(why);
    listener = NULL;
    kin_connection *c;
    check_fails(KIN_EPERM, kin_connect(&c, "name", KEY, SOON));
    check_says(why);
}

/* Names are looked for in a directory that nobody else can enter, or nowhere. */
static void whose_directory(void **state)
{
    (void)state;
    NEEDS_KEYS
    if (test_on_windows())
        test_skip("there is no such directory");
    char here_now[512], runtime[600], directory[700], other[700], before[512];
    size_t space = sizeof here_now, old = sizeof before;
    uv_fs_t fs;
    bool was_set = uv_os_getenv("XDG_RUNTIME_DIR", before, &old) == 0;
    assert_int_equal(uv_cwd(here_now, &space), 0);
    (void)snprintf(runtime, sizeof runtime, "%s/%s", here_now, test_file("r"));
    (void)snprintf(directory, sizeof directory, "%s/kin", runtime);
    (void)snprintf(other, sizeof other, "%s/other", runtime);
    if (strlen(directory) + strlen("/name~lock") >= 108)
        test_skip("the path of this directory is too long for a socket");
    assert_int_equal(uv_fs_mkdir(NULL, &fs, runtime, 0700, NULL), 0);
    assert_int_equal(uv_os_setenv("XDG_RUNTIME_DIR", runtime), 0);

    join_ends("name", NULL); /* it is made */
    assert_int_equal(uv_fs_stat(NULL, &fs, directory, NULL), 0);
    assert_int_equal(fs.statbuf.st_mode & 0777, 0700);
    (void)teardown(NULL);
    assert_int_equal(uv_fs_chmod(NULL, &fs, directory, 0750, NULL), 0);
    check_refused("open to others");
    assert_int_equal(uv_fs_rename(NULL, &fs, directory, other, NULL), 0);
    assert_int_equal(uv_fs_chmod(NULL, &fs, other, 0700, NULL), 0);
    assert_int_equal(uv_fs_symlink(NULL, &fs, other, directory, 0, NULL), 0);
    check_refused("no directory");
    assert_int_equal(uv_fs_unlink(NULL, &fs, directory, NULL), 0);
    kin_connection *c;
    check_fails(KIN_ENOENT, kin_connect(&c, "name", KEY, SOON)); /* and is not made by that */
    assert_int_equal(uv_fs_stat(NULL, &fs, directory, NULL), UV_ENOENT);

    (void)uv_fs_rmdir(NULL, &fs, other, NULL);
    (void)uv_fs_rmdir(NULL, &fs, runtime, NULL);
    if (was_set)
        (void)uv_os_setenv("XDG_RUNTIME_DIR", before);
    else
        (void)uv_os_unsetenv("XDG_RUNTIME_DIR");
}

static void ipv6(void **state)
{
    (void)state;
    NEEDS_KEYS
    kin_err err = kin_listen(&listener, "tcp:[::1]:0", KEY, NULL);
    if (err != KIN_OK) {
        listener = NULL;
        test_skip("no IPv6 here");
    }
    assert_memory_equal(kin_listener_address(listener), "tcp:[::1]:", 10);
    assert_string_not_equal(kin_listener_address(listener), "tcp:[::1]:0");
    check(kin_connect(&there, kin_listener_address(listener), KEY, SOON));
    check(kin_listener_accept(listener, &here, SOON));
    check_messages();
}

static void by_host_name(void **state)
{
    (void)state;
    NEEDS_KEYS
    join_ends("tcp:localhost:0", NULL);
    assert_memory_equal(kin_listener_address(listener), "tcp:localhost:", 14);
    check_messages();
}

/* A plain copy of this process closes what it has: here everything goes on. */
static int close_in_copy(void)
{
    char byte;
    kin_err err = kin_connection_recv(here, &byte, 1, NULL, KIN_NOWAIT);
    (void)teardown(NULL);
    return err == KIN_ESTATE ? 7 : 8;
}

static void in_a_copy(void **state)
{
    (void)state;
    NEEDS_KEYS
    for (int i = 0; i < PLACES; i++) {
        join_ends(place(i), NULL);
        check(kin_connection_send(there, "x", 1, SOON));
        int code = test_in_copy(close_in_copy);
        if (code < 0)
            test_skip("a process cannot be copied here");
        assert_int_equal(code, 7);
        char byte;
        check(kin_connection_recv(here, &byte, 1, NULL, SOON));
        check(kin_connection_send(here, "y", 1, SOON));
        check(kin_connection_recv(there, &byte, 1, NULL, SOON));
        assert_int_equal(byte, 'y');
        kin_connection *c, *d;
        check(kin_connect(&c, kin_listener_address(listener), KEY, SOON));
        check(kin_listener_accept(listener, &d, SOON));
        kin_connection_close(c);
        kin_connection_close(d);
        (void)teardown(NULL);
    }
}

/* ---- without a key ---- */

static void without_a_key(void **state)
{
    (void)state;
    check(kin_listen(&listener, peer_name(), KIN_NO_KEY, NULL));
    check(kin_connect(&there, kin_listener_address(listener), KIN_NO_KEY, SOON));
    check(kin_connection_send(there, "x", 1, SOON));
    check(kin_listener_accept(listener, &here, SOON));
    char byte = 0;
    check(kin_connection_recv(here, &byte, 1, NULL, SOON));
    assert_int_equal(byte, 'x');
    if (!peer_has_keys()) {
        kin_connection *c;
        kin_listener *l;
        check_fails(KIN_ENOTSUP, kin_listen(&l, peer_name(), KEY, NULL));
        check_says("Mbed TLS");
        check_fails(KIN_ENOTSUP, kin_connect(&c, kin_listener_address(listener), KEY, SOON));
    }
}

static void only_the_listener_has_a_key(void **state)
{
    (void)state;
    NEEDS_KEYS
    char bytes[64];
    void *data;
    kin_args *args;
    kin_connection *c;
    check(kin_listen(&listener, peer_name(), KEY, NULL));
    check(kin_connect(&there, kin_listener_address(listener), KIN_NO_KEY, SOON));
    for (int again = 0; again < 2; again++) {
        check(kin_connection_poll(there, SOON));
        check_fails(KIN_EAUTH, kin_connection_recv(there, bytes, sizeof bytes, NULL, SOON));
        check_says("the listener wants a key");
        check_fails(KIN_EAUTH, kin_connection_recv(there, NULL, 0, NULL, SOON));
        check_fails(KIN_EAUTH, kin_connection_recv_new(there, &data, NULL, 0, SOON));
        check_fails(KIN_EAUTH, kin_connection_recv_args(there, &args, SOON));
    }
    check_fails(KIN_ETIMEDOUT, kin_listener_accept(listener, &c, KIN_NOWAIT));
}

/* What is taken for a challenge: the first message of who listens, and nothing else. */
static void like_a_challenge(void **state)
{
    (void)state;
    static char message[257] = "#CHALLENGE#";
    char bytes[300];
    size_t size;
    check(kin_listen(&listener, peer_name(), KIN_NO_KEY, NULL));
    for (int i = 0; i < 3; i++) {
        check(kin_connect(&there, kin_listener_address(listener), KIN_NO_KEY, SOON));
        check(kin_listener_accept(listener, &here, SOON));
        check(kin_connection_send(there, message, 11, SOON));
        check(kin_connection_recv(here, bytes, sizeof bytes, &size, SOON));
        assert_int_equal(size, 11);
        if (i == 0)
            check(kin_connection_send(here, message, sizeof message, SOON));
        else if (i == 1)
            check(kin_connection_send(here, "#CHALLENGE", 10, SOON));
        if (i != 2) {
            check_fails(KIN_EMSGSIZE, kin_connection_recv(there, bytes, 9, &size, SOON));
            check(kin_connection_recv(there, bytes, sizeof bytes, &size, SOON));
        }
        check(kin_connection_send(here, message, 11, SOON));
        if (i != 2)
            check(kin_connection_recv(there, bytes, sizeof bytes, &size, SOON));
        else
            check_fails(KIN_EAUTH, kin_connection_recv(there, bytes, sizeof bytes, &size, SOON));
        close_ends();
    }
}

static void only_the_client_has_a_key(void **state)
{
    (void)state;
    NEEDS_KEYS
    kin_connection *c;
    check(kin_listen(&listener, peer_name(), KIN_NO_KEY, NULL));
    check_fails(KIN_ETIMEDOUT, kin_connect(&c, kin_listener_address(listener), KEY, 20));
    check_says("does it listen without a key?");
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wrong_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_use, setup, teardown),
        cmocka_unit_test_setup_teardown(taken, setup, teardown),
        cmocka_unit_test_setup_teardown(messages, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(values, setup, teardown),
        cmocka_unit_test_setup_teardown(cannot_be_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(largest_message, setup, teardown),
        cmocka_unit_test_setup_teardown(no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_with_a_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_with_something_unread, setup, teardown),
        cmocka_unit_test_setup_teardown(asleep_without_cpu, setup, teardown),
        cmocka_unit_test_setup_teardown(waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(woken, setup, teardown),
        cmocka_unit_test_setup_teardown(seen_by_all, setup, teardown),
        cmocka_unit_test_setup_teardown(never_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(many_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(backlog, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_under_others, setup, teardown),
        cmocka_unit_test_setup_teardown(asked_to_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_dead_one, setup, teardown),
        cmocka_unit_test_setup_teardown(at_a_path, setup, teardown),
        cmocka_unit_test_setup_teardown(whose_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(ipv6, setup, teardown),
        cmocka_unit_test_setup_teardown(by_host_name, setup, teardown),
        cmocka_unit_test_setup_teardown(in_a_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_listener_has_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(like_a_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_client_has_a_key, setup, teardown),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
