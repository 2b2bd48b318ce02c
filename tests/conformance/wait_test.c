/* kin_wait, for everything that can be waited for, alone and mixed.
 * @ctest TIMEOUT 120 */
#include "sync_support.h"
#include "wait_support.h"

#include "atomic.h"
#include "fault.h"

#include <stdlib.h>
#include <string.h>

enum { ACTORS = 4, EVENTS = 1000, MOST = 8 };

struct shared {
    kin_event event, other, events[EVENTS];
    kin_semaphore semaphore, undo;
    uint32_t given, taken, waiting, ended, over, failures;
    sync_actor actors[ACTORS];
};

/* What the things to wait for are, in this process. */
static struct world {
    kin_segment *segment;
    struct shared *s;
    kin_queue *queue, *small; /* the small one is full */
    kin_connection *mine, *theirs;
    kin_process *child;
    intptr_t sockets[2], others[2];
    size_t filled; /* into others[0], so that it cannot be written */
} world;

static sync_crew crew;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&world.segment, sizeof(struct shared)));
    world.s = kin_segment_data(world.segment);
    check(kin_event_init(&world.s->event, &(kin_event_options){.name = "dawn"}));
    check(kin_event_init(&world.s->other, NULL));
    for (int i = 0; i < EVENTS; i++)
        check(kin_event_init(&world.s->events[i], NULL));
    check(kin_semaphore_init(&world.s->semaphore, 0, NULL));
    check(kin_semaphore_init(&world.s->undo, 1, &(kin_semaphore_options){.undo = true}));
    check(kin_queue_create(&world.queue, NULL));
    check(kin_queue_create(&world.small, &(kin_queue_options){.capacity = 4096, .max_items = 1}));
    check(kin_queue_put(world.small, "x", 1, KIN_NOWAIT));
    check(kin_pipe(&world.mine, &world.theirs, &(kin_pipe_options){.capacity = 4096}));
    assert_true(wait_sockets(world.sockets) && wait_sockets(world.others));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (!sync_abandon(&crew))
        return 0; /* a thread is left that uses them */
    for (int i = 0; i < 2; i++) {
        wait_socket_close(world.sockets[i]);
        wait_socket_close(world.others[i]);
    }
    if (world.child != NULL) {
        (void)kin_process_kill(world.child);
        kin_process_close(world.child);
    }
    kin_queue_close(world.queue);
    kin_queue_close(world.small);
    kin_connection_close(world.mine);
    kin_connection_close(world.theirs);
    kin_segment_close(world.segment);
    memset(&world, 0, sizeof world);
    return 0;
}

/* ---- things ---- */

enum { EVENT, SEMAPHORE, UNDO, GET, PUT, RECV, SEND, CHILD, READ, WRITE, OTHER, THINGS };

static kin_waitable thing(int which)
{
    switch (which) {
    case EVENT:
        return KIN_WAIT_FOR(&world.s->event);
    case SEMAPHORE:
        return KIN_WAIT_FOR(&world.s->semaphore);
    case UNDO:
        return KIN_WAIT_FOR(&world.s->undo);
    case GET:
        return KIN_WAIT_FOR(world.queue);
    case PUT:
        return KIN_WAIT_ROOM(world.small);
    case RECV:
        return KIN_WAIT_FOR(world.mine);
    case SEND:
        return KIN_WAIT_ROOM(world.mine);
    case CHILD:
        return KIN_WAIT_FOR(world.child);
    case READ:
        return kin_wait_fd_read(world.sockets[0]);
    case WRITE:
        return kin_wait_fd_write(world.others[0]);
    default:
        return KIN_WAIT_FOR(&world.s->other);
    }
}

static int end_when_told(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_event_wait(&s->events[0], test_ms(60000)) == KIN_OK);
    return 3;
}

static void make_not_ready(int which)
{
    char byte;
    switch (which) {
    case EVENT:
        check(kin_event_clear(&world.s->event));
        break;
    case SEMAPHORE:
        while (kin_semaphore_units(&world.s->semaphore) > 0)
            check(kin_semaphore_acquire(&world.s->semaphore, KIN_NOWAIT));
        break;
    case UNDO:
        if (kin_semaphore_units(&world.s->undo) > 0)
            check(kin_semaphore_acquire(&world.s->undo, KIN_NOWAIT));
        break;
    case GET:
        while (!kin_queue_empty(world.queue))
            check(kin_queue_get(world.queue, &byte, 1, NULL, KIN_NOWAIT));
        break;
    case PUT:
        if (kin_queue_empty(world.small))
            check(kin_queue_put(world.small, "x", 1, KIN_NOWAIT));
        break;
    case RECV:
        while (kin_connection_recv(world.mine, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK) {
        }
        break;
    case SEND:
        while (kin_connection_send(world.mine, "x", 1, KIN_NOWAIT) == KIN_OK) {
        }
        break;
    case CHILD:
        if (world.child != NULL && kin_process_alive(world.child))
            break;
        kin_process_close(world.child);
        check(kin_event_clear(&world.s->events[0]));
        world.child = test_start(end_when_told, KIN_ARGS(world.segment));
        break;
    case READ:
        break;
    case WRITE:
        world.filled += wait_socket_fill(world.others[0]);
        break;
    default:
        check(kin_event_clear(&world.s->other));
        break;
    }
}

static void make_ready(int which)
{
    char byte;
    switch (which) {
    case EVENT:
        check(kin_event_set(&world.s->event));
        break;
    case SEMAPHORE:
        check(kin_semaphore_release(&world.s->semaphore));
        break;
    case UNDO:
        check(kin_semaphore_release(&world.s->undo));
        break;
    case GET:
        check(kin_queue_put(world.queue, "x", 1, KIN_NOWAIT));
        break;
    case PUT:
        check(kin_queue_get(world.small, &byte, 1, NULL, KIN_NOWAIT));
        break;
    case RECV:
        check(kin_connection_send(world.theirs, "x", 1, KIN_NOWAIT));
        break;
    case SEND:
        while (kin_connection_recv(world.theirs, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK) {
        }
        break;
    case CHILD:
        check(kin_event_set(&world.s->events[0]));
        break;
    case READ:
        assert_true(wait_socket_send(world.sockets[1], 1));
        break;
    case WRITE:
        assert_true(wait_socket_receive(world.others[1], world.filled));
        world.filled = 0;
        break;
    default:
        check(kin_event_set(&world.s->other));
        break;
    }
}

static void unmake_ready(int which)
{
    if (which == READ)
        assert_true(wait_socket_receive(world.sockets[0], 1));
    else
        make_not_ready(which);
}

/* ---- actors: threads of this process, and processes ---- */

enum { ONE, FIRST_FEW, ALL_EVENTS, NONE };

static kin_err perform(void *arg, sync_actor *order)
{
    (void)arg;
    kin_waitable *items = calloc(EVENTS, sizeof *items);
    size_t count = 1, ready = 99;
    if (items == NULL)
        return KIN_ENOMEM;
    if (order->call == ONE) {
        items[0] = thing(order->object);
    } else if (order->call == FIRST_FEW) { /* the object is a set of things */
        count = 0;
        for (int i = 0; i < THINGS; i++) {
            if ((order->object >> i & 1) != 0)
                items[count++] = thing(i);
        }
    } else if (order->call == ALL_EVENTS) {
        count = (size_t)order->object;
        for (size_t i = 0; i < count; i++)
            items[i] = KIN_WAIT_FOR(&world.s->events[i]);
    } else {
        count = 0;
    }
    kin_err err = kin_wait(items, count, &ready, order->number);
    int64_t first = -1, marked = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].ready && first < 0)
            first = (int64_t)i;
        marked += items[i].ready;
    }
    free(items);
    order->result = first;
    return marked == (int64_t)ready ? err : KIN_EIO;
}

static int act(kin_args *args)
{
    int index;
    CHILD_CHECK(kin_unpack(args, &world.segment, &world.queue, &world.small, &world.mine, &index) == KIN_OK);
    world.s = kin_segment_data(world.segment);
    return sync_act(&world.s->actors[index], perform, NULL);
}

static sync_actor *actor(int index, bool thread)
{
    sync_actor *a = &world.s->actors[index];
    if (thread)
        sync_enlist_thread(&crew, a, perform, NULL);
    else
        sync_enlist_process(&crew, a, act, KIN_ARGS(world.segment, world.queue, world.small, world.mine, index));
    return a;
}

/* ---- one thing ---- */

static void each_kind_alone(void **state)
{
    (void)state;
    sync_actor *thread = actor(0, true), *process = actor(1, false);
    for (int which = 0; which < THINGS; which++) {
        make_not_ready(which);
        kin_waitable item = thing(which);
        size_t ready = 9;
        item.ready = true;
        check_fails(KIN_ETIMEDOUT, kin_wait(&item, 1, &ready, KIN_NOWAIT));
        assert_true(ready == 0 && !item.ready);
        item.ready = true;
        check_fails(KIN_ETIMEDOUT, kin_wait(&item, 1, NULL, 20));
        assert_false(item.ready);
        bool both = which < CHILD || which == OTHER; /* what another process can wait for, too */
        for (int round = 0; round < 3 && (round == 0 || which != CHILD); round++) {
            sync_ask_asleep(thread, ONE, which, round == 0 ? KIN_FOREVER : test_ms(30000));
            if (both)
                sync_ask_asleep(process, ONE, which, KIN_FOREVER);
            make_ready(which);
            assert_int_equal(sync_answer(thread), KIN_OK);
            if (both)
                assert_int_equal(sync_answer(process), KIN_OK);
            check(kin_wait(&item, 1, &ready, test_ms(30000))); /* nothing was taken */
            assert_true(ready == 1 && item.ready);
            check(kin_wait(&item, 1, NULL, KIN_NOWAIT));
            assert_int_equal(sync_do(thread, ONE, which, KIN_FOREVER), KIN_OK);
            if (which != CHILD)
                unmake_ready(which);
        }
    }
    int code;
    check(kin_process_exit_code(world.child, &code));
    assert_int_equal(code, 3);
    sync_dismiss(&crew);
}

/* ---- several ---- */

static void all_that_are_ready(void **state)
{
    (void)state;
    for (int i = 0; i < THINGS; i++)
        make_not_ready(i);
    uint32_t chance = crash_seed();
    for (int round = 0; round < test_scale(60, 20); round++) {
        int now = (int)crash_random(&chance, 1u << THINGS) & ~(1 << CHILD), first = (int)crash_random(&chance, THINGS);
        kin_waitable items[THINGS * 2];
        for (int i = 0; i < THINGS; i++) {
            items[2 * i] = round % 3 == 0 ? (kin_waitable){.kind = KIN_WAIT_NOTHING, .ready = true}
                                          : thing((first + i) % THINGS); /* each twice */
            items[2 * i + 1] = thing((first + i) % THINGS);
            if ((now >> i & 1) != 0)
                make_ready(i);
        }
        size_t ready, expected = 0;
        kin_err err = kin_wait(items, THINGS * 2, &ready, now != 0 ? test_ms(30000) : KIN_NOWAIT);
        assert_int_equal(err, now != 0 ? KIN_OK : KIN_ETIMEDOUT);
        for (int i = 0; i < THINGS; i++) {
            bool is = (now >> (first + i) % THINGS & 1) != 0;
            assert_int_equal(items[2 * i + 1].ready, is);
            assert_int_equal(items[2 * i].ready, is && round % 3 != 0);
            expected += (size_t)is * (round % 3 == 0 ? 1 : 2);
        }
        assert_int_equal(ready, expected);
        for (int i = 0; i < THINGS; i++) {
            if ((now >> i & 1) != 0)
                unmake_ready(i);
        }
    }
}

static void any_wakes(void **state)
{
    (void)state;
    for (int i = 0; i < THINGS; i++)
        make_not_ready(i);
    sync_actor *thread = actor(0, true), *process = actor(1, false);
    int theirs = 1 << EVENT | 1 << SEMAPHORE | 1 << UNDO | 1 << GET | 1 << PUT | 1 << RECV | 1 << SEND | 1 << OTHER;
    for (int round = 0; round < 2; round++) {
        for (int which = 0; which < THINGS; which++) {
            if (which == CHILD && round == 0)
                continue;
            sync_ask_asleep(thread, FIRST_FEW, (1 << THINGS) - 1, KIN_FOREVER);
            if ((theirs >> which & 1) != 0)
                sync_ask_asleep(process, FIRST_FEW, theirs, KIN_FOREVER);
            make_ready(which);
            assert_int_equal(sync_answer(thread), KIN_OK);
            assert_int_equal(thread->result, which);
            if ((theirs >> which & 1) != 0)
                assert_int_equal(sync_answer(process), KIN_OK);
            if (which == CHILD)
                check(kin_process_join(world.child, test_ms(30000)));
            unmake_ready(which);
        }
    }
    sync_dismiss(&crew);
}

static void shut_down(void **state)
{
    (void)state;
    sync_actor *one = actor(0, true), *two = actor(1, false);
    sync_ask_asleep(one, FIRST_FEW, 1 << GET | 1 << OTHER, KIN_FOREVER);
    sync_ask_asleep(two, FIRST_FEW, 1 << GET | 1 << EVENT, KIN_FOREVER);
    check(kin_queue_shutdown(world.queue));
    assert_int_equal(sync_answer(one), KIN_OK);
    assert_int_equal(sync_answer(two), KIN_OK);
    sync_ask_asleep(one, FIRST_FEW, 1 << PUT | 1 << OTHER, KIN_FOREVER);
    sync_ask_asleep(two, FIRST_FEW, 1 << PUT | 1 << EVENT, KIN_FOREVER);
    check(kin_queue_shutdown(world.small));
    assert_int_equal(sync_answer(one), KIN_OK);
    assert_int_equal(sync_answer(two), KIN_OK);
    kin_waitable items[2] = {KIN_WAIT_FOR(world.queue), KIN_WAIT_ROOM(world.queue)};
    check(kin_wait(items, 2, NULL, KIN_NOWAIT));
    assert_true(items[0].ready && items[1].ready);
    sync_dismiss(&crew);
}

static int holds_the_end(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args, &world.segment, &world.theirs) == KIN_OK); /* never closed */
    struct shared *s = kin_segment_data(world.segment);
    kin__add32(&s->taken, 1);
    (void)kin_event_wait(&s->events[1], test_ms(60000));
    return 4;
}

/* The other side ends: by being closed, or with the last process that has it. */
static void the_other_end_goes(void **state)
{
    (void)state;
    sync_actor *one = actor(0, true), *two = actor(1, false);
    for (int how = 0; how < 3; how++) { /* closed; its process is killed; it ends */
        kin_process *p = how != 0 ? test_start(holds_the_end, KIN_ARGS(world.segment, world.theirs)) : NULL;
        make_not_ready(SEND);
        if (how != 0) {
            assert_true(crash_until_at_least(&world.s->taken, (uint32_t)how));
            kin_connection_close(world.theirs);
        }
        sync_ask_asleep(one, FIRST_FEW, 1 << RECV | 1 << OTHER, KIN_FOREVER);
        sync_ask_asleep(two, FIRST_FEW, 1 << SEND | 1 << EVENT, KIN_FOREVER);
        if (how == 0)
            kin_connection_close(world.theirs);
        else
            check(how == 1 ? kin_process_kill(p) : kin_event_set(&world.s->events[1]));
        assert_int_equal(sync_answer(one), KIN_OK);
        assert_int_equal(one->result, 0);
        assert_int_equal(sync_answer(two), KIN_OK);
        assert_int_equal(two->result, 1);
        if (p != NULL)
            assert_int_equal(crash_join(p), how == 1 ? -9 : 4);
        kin_connection_close(world.mine);
        sync_dismiss_one(&crew, 1);
        crew.count = 1;
        check(kin_pipe(&world.mine, &world.theirs, &(kin_pipe_options){.capacity = 4096}));
        two = actor(1, false);
    }
    sync_dismiss(&crew);
}

/* ---- room ---- */

typedef struct putter {
    kin_queue *queue;
    kin_connection *connection;
    size_t size;
    kin_err wait, put;
} putter;

static kin_waitable room_of(const putter *p) { return p->queue != NULL ? KIN_WAIT_ROOM_FOR(p->queue, p->size) : KIN_WAIT_ROOM_FOR(p->connection, p->size); }

static kin_err put_now(const putter *p)
{
    static char bytes[700000];
    return p->queue != NULL ? kin_queue_put(p->queue, bytes, p->size, KIN_NOWAIT) : kin_connection_send(p->connection, bytes, p->size, KIN_NOWAIT);
}

static void wait_and_put(void *arg)
{
    putter *p = arg;
    kin_waitable room = room_of(p);
    p->wait = kin_wait(&room, 1, NULL, test_ms(20000));
    p->put = put_now(p);
}

/* Ready if a put of that size finds room, and not else; who sleeps until then is woken then. */
static void room_for_what_is_put(void **state)
{
    (void)state;
    static char bytes[700000];
    static const size_t sizes[] = {0, 1, 17, 100, 1000, 2000, 3000, 600000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int pipe = 0; pipe < 2; pipe++) {
            putter p = {.size = sizes[i]};
            kin_connection *theirs = NULL;
            size_t size, got;
            if (pipe)
                check(kin_pipe(&p.connection, &theirs, &(kin_pipe_options){.capacity = 4096}));
            else
                check(kin_queue_create(&p.queue, &(kin_queue_options){.capacity = 4096}));
            int count = 0;
            kin_waitable room = room_of(&p);
            for (kin_err err = KIN_OK; err == KIN_OK; count += err == KIN_OK) {
                check(kin_wait(&room, 1, NULL, KIN_NOWAIT));
                err = put_now(&p);
                if (kin_wait(&room, 1, NULL, KIN_NOWAIT) == KIN_ETIMEDOUT)
                    break;
                assert_int_equal(err, KIN_OK);
            }
            assert_int_equal(put_now(&p), pipe ? KIN_ETIMEDOUT : KIN_EFULL);
            assert_in_range(kin_wait(&room, 1, NULL, 1), KIN_ETIMEDOUT, KIN_ETIMEDOUT);
            uv_thread_t thread;
            assert_int_equal(uv_thread_create(&thread, wait_and_put, &p), 0);
            assert_true(crash_until_asleep(1));
            check(pipe ? kin_connection_recv(theirs, bytes, sizeof bytes, &size, KIN_NOWAIT)
                       : kin_queue_get(p.queue, bytes, sizeof bytes, &size, KIN_NOWAIT));
            /* One may not be enough where the ring comes round. */
            for (int left = count; left > 0 && kin_wait(&room, 1, NULL, KIN_NOWAIT) == KIN_ETIMEDOUT; left--)
                (void)(pipe ? kin_connection_recv(theirs, bytes, sizeof bytes, &got, KIN_NOWAIT)
                            : kin_queue_get(p.queue, bytes, sizeof bytes, &got, KIN_NOWAIT));
            assert_int_equal(uv_thread_join(&thread), 0);
            assert_int_equal(p.wait, KIN_OK);
            assert_int_equal(p.put, KIN_OK);
            assert_true(size == sizes[i]);
            kin_queue_close(p.queue);
            kin_connection_close(p.connection);
            kin_connection_close(theirs);
        }
    }
}

/* Without a size: for an eighth of the capacity, so that there is something to be done whenever it is ready. */
static void room_for_an_eighth(void **state)
{
    (void)state;
    kin_queue *q;
    char bytes[600];
    check(kin_queue_create(&q, &(kin_queue_options){.capacity = 4096, .max_message = 600}));
    kin_waitable room = KIN_WAIT_ROOM(q), too_much = KIN_WAIT_ROOM_FOR(q, 601);
    memset(bytes, 0, sizeof bytes);
    check_fails(KIN_EMSGSIZE, kin_wait(&too_much, 1, NULL, KIN_NOWAIT));
    int fit = 0, back = 0;
    while (kin_queue_put(q, bytes, 17, KIN_NOWAIT) == KIN_OK)
        fit++;
    while (kin_wait(&room, 1, NULL, KIN_NOWAIT) == KIN_ETIMEDOUT) {
        check(kin_queue_get(q, bytes, sizeof bytes, NULL, KIN_NOWAIT));
        back++;
    }
    assert_true(back > 1 && back < fit / 2);
    check(kin_queue_put(q, bytes, 512 - 16, KIN_NOWAIT));
    kin_queue_close(q);
}

/* What this end cannot do. */
static void one_way(void **state)
{
    (void)state;
    kin_connection *in, *out;
    check(kin_pipe(&in, &out, &(kin_pipe_options){.one_way = true}));
    kin_waitable items[2] = {KIN_WAIT_FOR(&world.s->event), KIN_WAIT_ROOM(in)};
    check_fails(KIN_EPERM, kin_wait(items, 2, NULL, KIN_NOWAIT));
    check_says("item 1");
    items[1] = KIN_WAIT_FOR(out);
    check_fails(KIN_EPERM, kin_wait(items, 2, NULL, KIN_NOWAIT));
    items[1] = KIN_WAIT_ROOM(out);
    check(kin_wait(items, 2, NULL, KIN_NOWAIT));
    kin_connection_close(in);
    kin_connection_close(out);
}

/* A place that is reserved, or taken, is no message, at the latest when somebody has looked for one. */
static void in_place(void **state)
{
    (void)state;
    sync_actor *a = actor(0, false);
    kin_message message, other;
    char byte;
    check(kin_queue_reserve(world.queue, &message, 1, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get(world.queue, &byte, 1, NULL, KIN_NOWAIT));
    sync_ask_asleep(a, FIRST_FEW, 1 << GET | 1 << EVENT, KIN_FOREVER);
    check(kin_queue_commit(world.queue, &message));
    assert_int_equal(sync_answer(a), KIN_OK);
    check(kin_queue_take(world.queue, &other, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get(world.queue, &byte, 1, NULL, KIN_NOWAIT));
    sync_ask_asleep(a, FIRST_FEW, 1 << GET | 1 << EVENT, KIN_FOREVER);
    check(kin_queue_give_back(world.queue, &other));
    assert_int_equal(sync_answer(a), KIN_OK);
    check(kin_queue_get(world.queue, &byte, 1, NULL, KIN_NOWAIT));
    sync_dismiss(&crew);
}

static void connect_to(void *arg)
{
    kin_connection *c;
    if (kin_connect(&c, arg, KIN_NO_KEY, test_ms(20000)) == KIN_OK) {
        kin__add32(&world.s->taken, 1);
        (void)kin_connection_send(c, "hello", 5, test_ms(20000));
        kin_connection_close(c);
    }
}

/* A connection to accept; and one between programs, which has other things behind it than a pipe. */
static void of_listeners(void **state)
{
    (void)state;
    kin_listener *l;
    kin_connection *c;
    char name[64], text[8];
    (void)snprintf(name, sizeof name, "kin-wait-test-%lld", (long long)kin_current_pid());
    check(kin_listen(&l, name, KIN_NO_KEY, NULL));
    kin_waitable items[2] = {KIN_WAIT_FOR(&world.s->event), KIN_WAIT_FOR(l)};
    check_fails(KIN_ETIMEDOUT, kin_wait(items, 2, NULL, 20));
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, connect_to, name), 0);
    check(kin_wait(items, 2, NULL, test_ms(20000)));
    assert_true(!items[0].ready && items[1].ready);
    check(kin_listener_accept(l, &c, KIN_NOWAIT));
    items[1] = KIN_WAIT_FOR(c);
    check(kin_wait(items, 2, NULL, test_ms(20000)));
    check(kin_connection_recv(c, text, sizeof text, NULL, KIN_NOWAIT));
    check(kin_wait(items, 2, NULL, test_ms(20000))); /* its end */
    check_fails(KIN_EPIPE, kin_connection_recv(c, text, sizeof text, NULL, KIN_NOWAIT));
    uv_thread_join(&thread);
    kin_connection_close(c);
    kin_listener_close(l);
    check_fails(KIN_EINVAL, kin_wait(items, 2, NULL, KIN_NOWAIT));
}

/* 64 and 65 are limits elsewhere. */
static void many(void **state)
{
    (void)state;
    static const int counts[] = {1, 63, 64, 65, 256, EVENTS};
    sync_actor *thread = actor(0, true), *process = actor(1, false);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (int i = 0; i < counts[c]; i++)
            check(kin_event_init(&world.s->events[i], NULL));
        int tries[] = {0, counts[c] / 2, counts[c] - 1};
        for (int t = 0; t < 3; t++) {
            sync_ask_asleep(thread, ALL_EVENTS, counts[c], KIN_FOREVER);
            sync_ask_asleep(process, ALL_EVENTS, counts[c], test_ms(30000));
            check(kin_event_set(&world.s->events[tries[t]]));
            assert_int_equal(sync_answer(thread), KIN_OK);
            assert_int_equal(sync_answer(process), KIN_OK);
            assert_int_equal(thread->result, tries[t]);
            assert_int_equal(process->result, tries[t]);
            check(kin_event_clear(&world.s->events[tries[t]]));
        }
        assert_int_equal(sync_do(thread, ALL_EVENTS, counts[c], 1), KIN_ETIMEDOUT);
    }
    sync_dismiss(&crew);
}

static void many_sockets(void **state)
{
    (void)state;
    int count = test_scale(500, 70);
    intptr_t(*pairs)[2] = calloc((size_t)count, sizeof *pairs);
    kin_waitable *items = calloc((size_t)count * 2, sizeof *items);
    assert_true(pairs != NULL && items != NULL);
    for (int i = 0; i < count; i++) {
        assert_true(wait_sockets(pairs[i]));
        items[2 * i] = kin_wait_fd_read(pairs[i][0]);
        items[2 * i + 1] = kin_wait_fd_read(pairs[i][1]);
    }
    size_t ready;
    check_fails(KIN_ETIMEDOUT, kin_wait(items, (size_t)count * 2, &ready, 30));
    for (int i = 0; i < count; i += count / 5) {
        assert_true(wait_socket_send(pairs[i][1], 3));
        check(kin_wait(items, (size_t)count * 2, &ready, test_ms(30000)));
        assert_int_equal(ready, 1);
        assert_true(items[2 * i].ready);
        assert_true(wait_socket_receive(pairs[i][0], 3));
    }
    for (int i = 0; i < count; i++) {
        wait_socket_close(pairs[i][0]);
        wait_socket_close(pairs[i][1]);
    }
    free(pairs);
    free(items);
}

/* ---- time ---- */

static void time_outs(void **state)
{
    (void)state;
    size_t ready = 7;
    for (int i = 0; i < THINGS; i++)
        make_not_ready(i);
    kin_waitable items[THINGS], nothing = {.kind = KIN_WAIT_NOTHING, .ready = true};
    for (int i = 0; i < THINGS; i++)
        items[i] = thing(i);
    check_fails(KIN_ETIMEDOUT, kin_wait(NULL, 0, &ready, KIN_NOWAIT));
    assert_int_equal(ready, 0);
    check_fails(KIN_ETIMEDOUT,
                kin_wait(items, THINGS, &ready, KIN_NOWAIT)); /* makes kin's thread, which costs something */
    struct {
        kin_waitable *items;
        size_t count;
    } all[] = {{NULL, 0}, {&nothing, 1}, {items, 1}, {items, THINGS}};
    for (size_t i = 0; i < 4; i++) {
        int64_t before = kin_now(), cpu = sync_cpu_ms();
        check_fails(KIN_ETIMEDOUT, kin_wait(all[i].items, all[i].count, &ready, 400));
        assert_true(kin_now() - before >= 399);
        assert_true(sync_cpu_ms() - cpu < 100);
        check_says("400 ms");
        assert_int_equal(ready, 0);
        for (size_t n = 0; n < all[i].count; n++)
            assert_false(all[i].items[n].ready);
    }
    for (int i = 0; i < 20; i++)
        check_fails(KIN_ETIMEDOUT, kin_wait(items, THINGS, NULL, i % 3));
}

static void interrupted(void **state)
{
    (void)state;
    sync_actor *a = actor(0, false);
    sync_ask_asleep(a, NONE, 0, KIN_FOREVER);
    check(kin_process_interrupt(crew.members[0].process));
    assert_int_equal(sync_answer(a), KIN_EINTERRUPTED);
    assert_non_null(strstr(a->said, "kin_wait"));
    assert_int_equal(sync_do(a, FIRST_FEW, 1 << EVENT | 1 << GET, KIN_FOREVER), KIN_EINTERRUPTED);
    assert_int_equal(sync_do(a, FIRST_FEW, 1 << EVENT | 1 << GET, KIN_NOWAIT), KIN_ETIMEDOUT);
    make_ready(GET);
    assert_int_equal(sync_do(a, FIRST_FEW, 1 << EVENT | 1 << GET, KIN_FOREVER), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- deaths ---- */

static int take_and_sleep(kin_args *args)
{
    kin_segment *mine;
    CHILD_CHECK(kin_unpack(args, &mine) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    CHILD_CHECK(kin_semaphore_acquire(&s->undo, KIN_NOWAIT) == KIN_OK);
    kin__add32(&s->taken, 1);
    (void)kin_event_wait(&s->events[1], test_ms(60000));
    return 4;
}

static void killed(void **state)
{
    (void)state;
    sync_actor *thread = actor(0, true), *process = actor(1, false);
    for (uint32_t round = 1; round <= 3; round++) {
        kin_process *user = test_start(take_and_sleep, KIN_ARGS(world.segment));
        assert_true(crash_until_at_least(&world.s->taken, round));
        world.child = user;
        sync_ask_asleep(thread, FIRST_FEW, 1 << CHILD | 1 << EVENT, KIN_FOREVER);
        sync_ask_asleep(process, FIRST_FEW, 1 << UNDO | 1 << EVENT,
                        KIN_FOREVER); /* the unit comes back with the end of who had it */
        check(kin_process_kill(user));
        assert_int_equal(sync_answer(thread), KIN_OK);
        assert_int_equal(sync_answer(process), KIN_OK);
        int code;
        check(kin_process_exit_code(user, &code));
        assert_int_equal(code, -9);
        world.child = NULL;
        kin_process_close(user);
    }
    sync_dismiss(&crew);
}

/* A waiter that is killed takes nothing along. */
static void a_waiter_is_killed(void **state)
{
    (void)state;
    sync_actor *victim = actor(0, false), *other = actor(1, false);
    int things = 1 << SEMAPHORE | 1 << GET | 1 << EVENT;
    sync_ask_asleep(victim, FIRST_FEW, things, KIN_FOREVER);
    sync_ask_asleep(other, FIRST_FEW, things, KIN_FOREVER);
    check(kin_process_kill(crew.members[0].process));
    check(kin_process_join(crew.members[0].process, test_ms(30000)));
    kin_process_close(crew.members[0].process);
    crew.members[0].actor = NULL;
    assert_true(sync_until_asleep(other));
    make_ready(SEMAPHORE);
    assert_int_equal(sync_answer(other), KIN_OK);
    assert_int_equal(other->result, 1);
    sync_dismiss(&crew);
}

/* ---- descriptors ---- */

static void of_sockets(void **state)
{
    (void)state;
    sync_actor *one = actor(0, true), *two = actor(1, true);
    kin_waitable read = kin_wait_fd_read(world.sockets[0]), write = kin_wait_fd_write(world.sockets[0]);
    check(kin_wait(&write, 1, NULL, KIN_NOWAIT));
    for (int round = 0; round < 5; round++) { /* two on the same socket */
        sync_ask_asleep(one, ONE, READ, KIN_FOREVER);
        sync_ask_asleep(two, FIRST_FEW, 1 << READ | 1 << OTHER, KIN_FOREVER);
        assert_true(wait_socket_send(world.sockets[1], 10));
        assert_int_equal(sync_answer(one), KIN_OK);
        assert_int_equal(sync_answer(two), KIN_OK);
        assert_true(wait_socket_receive(world.sockets[0], 10));
        check_fails(KIN_ETIMEDOUT, kin_wait(&read, 1, NULL, KIN_NOWAIT));
    }
    assert_true(wait_socket_waits(world.sockets[0])); /* as it was */
    kin_waitable both[3] = {read, write, read};
    check(kin_wait(both, 3, NULL, test_ms(30000)));
    assert_true(!both[0].ready && both[1].ready && !both[2].ready);
    /* The end of the other side. */
    sync_ask_asleep(one, ONE, READ, KIN_FOREVER);
    wait_socket_close(world.sockets[1]);
    assert_int_equal(sync_answer(one), KIN_OK);
    assert_true(wait_socket_ended(world.sockets[0]));
    check(kin_wait(&read, 1, NULL, test_ms(30000)));
    assert_true(wait_sockets(world.sockets)); /* for the teardown; the old end is left open */
    wait_socket_close(read.of.handle);
    sync_dismiss(&crew);
}

static void look_on(void *arg)
{
    struct world *w = arg;
    kin_waitable item = kin_wait_fd_read(w->sockets[0]);
    while (kin__load32(&w->s->over) == 0) {
        if (kin_wait(&item, 1, NULL, 20) == KIN_OK)
            kin__add32(&w->s->taken, 1);
    }
}

/* What was there is gone when others come to look: they sleep on, and hear of the next. */
static void readiness_that_goes_away(void **state)
{
    (void)state;
    uv_thread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&threads[i], look_on, &world), 0);
    kin_waitable item = kin_wait_fd_read(world.sockets[0]);
    for (int round = 0; round < test_scale(300, 30); round++) {
        assert_true(wait_socket_send(world.sockets[1], 1));
        check(kin_wait(&item, 1, NULL, test_ms(30000)));
        assert_true(wait_socket_receive(world.sockets[0], 1));
    }
    uint32_t seen = kin__load32(&world.s->taken);
    assert_true(wait_socket_send(world.sockets[1], 1));
    assert_true(crash_until_at_least(&world.s->taken, seen + 1)); /* it stays */
    kin__store32(&world.s->over, 1);
    for (int i = 0; i < 2; i++)
        uv_thread_join(&threads[i]);
}

static void of_files(void **state)
{
    (void)state;
    const char *path = test_file("wait.tmp");
    intptr_t fd = wait_open_file(path);
    if (fd < 0)
        test_skip("only sockets can be waited for here");
    kin_waitable items[2] = {kin_wait_fd_read(fd), kin_wait_fd_write(fd)};
    check(kin_wait(items, 2, NULL, KIN_FOREVER)); /* always ready, as poll says */
    assert_true(items[0].ready && items[1].ready);
    wait_close_file(fd);
    (void)remove(path);
}

static void of_handles(void **state)
{
    (void)state;
    kin_waitable item = kin_wait_handle(0);
    if (wait_handle_make(true) == 0) {
        check_fails(KIN_ENOTSUP, kin_wait(&item, 1, NULL, KIN_NOWAIT));
        check_says("item 0");
        return;
    }
    check_fails(KIN_EINVAL, kin_wait(&item, 1, NULL, KIN_NOWAIT));
    for (int manual = 0; manual < 2; manual++) {
        intptr_t handle = wait_handle_make(manual != 0), other = wait_handle_make(true);
        kin_waitable items[4] = {thing(EVENT), kin_wait_handle(handle), kin_wait_handle(other), thing(READ)};
        check_fails(KIN_ETIMEDOUT, kin_wait(items, 4, NULL, 20));
        wait_handle_signal(handle);
        check(kin_wait(items, 4, NULL, test_ms(30000)));
        assert_true(!items[0].ready && items[1].ready && !items[2].ready && !items[3].ready);
        assert_int_equal(wait_handle_is_signalled(handle),
                         manual); /* one that is not manual was reset by being reported */
        check_fails(manual ? KIN_OK : KIN_ETIMEDOUT, kin_wait(items, 4, NULL, 10));
        wait_handle_signal(other);
        check(kin_wait(items, 4, NULL, test_ms(30000)));
        assert_true(items[2].ready);
        wait_handle_close(handle);
        wait_handle_close(other);
    }
}

typedef struct signaller {
    intptr_t handle;
    uint32_t *go, *over;
} signaller;

static void signal_often(void *arg)
{
    signaller *s = arg;
    uint32_t done = 0;
    while (kin__load32(s->over) == 0) {
        if (kin__load32(s->go) > done) {
            done++;
            crash_spin_us(done % 200);
            wait_handle_signal(s->handle);
        }
    }
}

/* One signal, one report: none is lost between the sleep and a time-out. */
static void no_signal_is_lost(void **state)
{
    (void)state;
    signaller s = {.handle = wait_handle_make(false), .go = &world.s->given, .over = &world.s->over};
    if (s.handle == 0)
        test_skip("there are no HANDLEs here");
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, signal_often, &s), 0);
    kin_waitable items[2] = {kin_wait_handle(s.handle), thing(EVENT)};
    for (int round = 0; round < 100; round++) {
        int64_t end = kin_now() + test_ms(20000);
        kin__add32(&world.s->given, 1);
        kin_err err;
        do {
            err = kin_wait(items, 2, NULL, round % 2);
        } while (err == KIN_ETIMEDOUT && kin_now() < end);
        assert_int_equal(err, KIN_OK);
    }
    kin__store32(&world.s->over, 1);
    uv_thread_join(&thread);
    wait_handle_close(s.handle);
}

/* ---- wrong use ---- */

static void wrong_use(void **state)
{
    (void)state;
    kin_waitable items[3] = {thing(EVENT), thing(EVENT), thing(EVENT)};
    size_t ready = 5;
    check_fails(KIN_EINVAL, kin_wait(NULL, 1, &ready, KIN_NOWAIT));
    assert_int_equal(ready, 0);
    check_fails(KIN_EINVAL, kin_wait(items, 65537, NULL, KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_wait(items, 3, NULL, -2));
    check_says("-2 ms");
    check(kin_event_set(&world.s->event));
    kin_event *closed;
    check(kin_event_create(&closed, NULL));
    kin_semaphore *semaphore;
    check(kin_semaphore_create(&semaphore, 1, NULL));
    kin_queue *queue;
    check(kin_queue_create(&queue, NULL));
    kin_process *process = test_start(end_when_told, KIN_ARGS(world.segment));
    check(kin_event_set(&world.s->events[0]));
    check(kin_process_join(process, test_ms(30000)));
    kin_event_close(closed);
    kin_semaphore_close(semaphore);
    kin_queue_close(queue);
    kin_process_close(process);
    intptr_t ends[2];
    assert_true(wait_sockets(ends));
    wait_socket_close(ends[0]);
    wait_socket_close(ends[1]);
    kin_waitable wrong[] = {KIN_WAIT_FOR(closed),
                            KIN_WAIT_FOR(semaphore),
                            KIN_WAIT_FOR(queue),
                            KIN_WAIT_ROOM(queue),
                            KIN_WAIT_FOR(process),
                            KIN_WAIT_FOR((kin_event *)NULL),
                            KIN_WAIT_FOR((kin_semaphore *)NULL),
                            KIN_WAIT_FOR((kin_queue *)NULL),
                            KIN_WAIT_FOR((kin_process *)NULL),
                            KIN_WAIT_FOR((kin_connection *)NULL),
                            KIN_WAIT_ROOM((kin_connection *)NULL),
                            KIN_WAIT_FOR((kin_listener *)NULL),
                            KIN_WAIT_FOR((const kin_event *)&world.s->semaphore),
                            {.kind = (kin_wait_kind)99},
                            kin_wait_fd_read(-1),
                            kin_wait_fd_write(-1),
                            kin_wait_fd_read(ends[0]),
                            kin_wait_fd_write(ends[1])};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        kin_waitable row[4] = {items[0], (kin_waitable){.kind = KIN_WAIT_NOTHING}, wrong[i], thing(READ)};
        ready = 5;
        check_fails(KIN_EINVAL, kin_wait(row, 4, &ready, KIN_FOREVER)); /* although one is ready */
        check_says("item 2");
        assert_int_equal(ready, 0);
        for (int n = 0; n < 4; n++)
            assert_false(row[n].ready);
    }
    check(kin_wait(items, 3, &ready, KIN_FOREVER));
    assert_int_equal(ready, 3);
}

static int wait_in_copy(void)
{
    kin_waitable item = thing(EVENT);
    return kin_wait(&item, 1, NULL, KIN_NOWAIT);
}

static void in_a_copy(void **state)
{
    (void)state;
    int code = test_in_copy(wait_in_copy);
    if (code < 0)
        test_skip("no plain fork here");
    assert_int_equal(code, KIN_ESTATE);
}

/* ---- failures of the system ---- */

static void failing_calls(void **state)
{
    (void)state;
    kin_waitable items[3] = {thing(READ), thing(EVENT), kin_wait_fd_read(world.others[0])};
    check_fails(KIN_ETIMEDOUT, kin_wait(items, 3, NULL, 5));
    int handles = test_count_handles(), hits = 0;
    for (int round = 0; round < 5; round++) {
        for (int n = 1; n < 100; n++) {
            kin__fault_arm(n);
            kin_err err = kin_wait(items, 3, NULL, 5);
            const char *hit = kin__fault_hit();
            kin__fault_arm(0);
            if (hit == NULL) {
                assert_int_equal(err, KIN_ETIMEDOUT);
                break;
            }
            hits++;
            assert_int_not_equal(err, KIN_OK);
            assert_true(strlen(kin_last_error()) > 10);
            check_fails(KIN_ETIMEDOUT, kin_wait(items, 3, NULL, 5));
            assert_true(wait_socket_send(world.sockets[1], 1));
            check(kin_wait(items, 3, NULL, test_ms(30000)));
            assert_true(items[0].ready);
            assert_true(wait_socket_receive(world.sockets[0], 1));
        }
    }
    assert_true(hits >= 10);
    assert_in_range(test_count_handles(), 1, handles + 2); /* kin's thread may have some for a moment */
}

/* ---- nothing is lost ---- */

/* Takes what it finds until all is over: from a queue, from two semaphores, and looks at an event. Every second one sleeps on one thing only. */
static kin_err consume(struct world *w, int number)
{
    kin_waitable items[] = {KIN_WAIT_FOR(w->queue), KIN_WAIT_FOR(&w->s->semaphore), KIN_WAIT_FOR(&w->s->undo),
                            KIN_WAIT_FOR(&w->s->event)};
    char byte;
    for (;;) {
        kin_err err;
        if (number % 2 == 0)
            err = kin_wait(items, 4, NULL, test_ms(30000));
        else
            err = kin_semaphore_acquire(&w->s->semaphore, test_ms(30000));
        if (err != KIN_OK)
            return err;
        if (number % 2 != 0) {
            if (kin_event_is_set(&w->s->event))
                return KIN_OK; /* that one was only to wake it */
            kin__add32(&w->s->taken, 1);
            continue;
        }
        if (items[0].ready && kin_queue_get(w->queue, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK)
            kin__add32(&w->s->taken, 1);
        if (items[1].ready && kin_semaphore_acquire(&w->s->semaphore, KIN_NOWAIT) == KIN_OK)
            kin__add32(&w->s->taken, 1);
        if (items[2].ready && kin_semaphore_acquire(&w->s->undo, KIN_NOWAIT) == KIN_OK)
            (void)kin_semaphore_release(&w->s->undo);
        if (items[3].ready)
            return KIN_OK;
    }
}

static void consume_thread(void *arg)
{
    (void)arg;
    int number = (int)kin__add32(&world.s->waiting, 1);
    if (consume(&world, number) != KIN_OK) {
        print_error("consumer %d: %s\n", number, kin_last_error());
        kin__add32(&world.s->failures, 1);
    }
    kin__add32(&world.s->ended, 1);
}

static int consume_process(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args, &world.segment, &world.queue) == KIN_OK);
    world.s = kin_segment_data(world.segment);
    int number = (int)kin__add32(&world.s->waiting, 1);
    kin_err err = consume(&world, number);
    kin__add32(&world.s->ended, 1);
    return err;
}

static void produce(void *arg)
{
    const int *times = arg;
    for (int i = 0; i < *times; i++) {
        kin_err err =
            i % 2 == 0 ? kin_queue_put(world.queue, "x", 1, KIN_FOREVER) : kin_semaphore_release(&world.s->semaphore);
        if (err != KIN_OK)
            kin__add32(&world.s->failures, 1);
        kin__add32(&world.s->given, 1);
        if (i % 5 == 0) /* until everybody sleeps again */
            while (kin__load32(&world.s->taken) < kin__load32(&world.s->given) && kin__load32(&world.s->failures) == 0)
                uv_sleep(0);
    }
}

static void nothing_is_lost(void **state)
{
    (void)state;
    uv_thread_t threads[2], producers[2];
    kin_process *processes[3];
    for (int i = 0; i < 3; i++)
        processes[i] = test_start(consume_process, KIN_ARGS(world.segment, world.queue));
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&threads[i], consume_thread, NULL), 0);
    assert_true(crash_until_at_least(&world.s->waiting, 5));
    int times = test_scale(4000, 300);
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&producers[i], produce, &times), 0);
    for (int i = 0; i < 2; i++)
        uv_thread_join(&producers[i]);
    assert_int_equal(world.s->failures, 0);
    assert_true(crash_until_at_least(&world.s->taken, (uint32_t)times * 2));
    assert_int_equal(world.s->taken, times * 2);
    check(kin_event_set(&world.s->event));
    /* For those who sleep on that alone; the others may take two each, one of them as they had seen another just before. */
    check(kin_semaphore_release_many(&world.s->semaphore, 2 + 3 * 2));
    for (int i = 0; i < 2; i++)
        uv_thread_join(&threads[i]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(test_finish(processes[i]), KIN_OK);
    assert_int_equal(world.s->failures, 0);
}

int main(int argc, char **argv)
{
    test_allow_handles(4096);
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(each_kind_alone),
        CASE(all_that_are_ready),
        CASE(any_wakes),
        CASE(shut_down),
        CASE(the_other_end_goes),
        CASE(room_for_what_is_put),
        CASE(room_for_an_eighth),
        CASE(one_way),
        CASE(in_place),
        CASE(of_listeners),
        CASE(many),
        CASE(many_sockets),
        CASE(time_outs),
        CASE(interrupted),
        CASE(killed),
        CASE(a_waiter_is_killed),
        CASE(of_sockets),
        CASE(readiness_that_goes_away),
        CASE(of_files),
        CASE(of_handles),
        CASE(no_signal_is_lost),
        CASE(wrong_use),
        CASE(in_a_copy),
        CASE(failing_calls),
        CASE(nothing_is_lost),
    };
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
