/* Every crash point of queues (ring*.c, bag.c, latch.c, region.c, queue.c), in every arrangement in which it is passed: a process dies
 * there, and two threads of another one go on at once and find what the Death tables of ring.h and queue.h say: each message is
 * there whole, once, or not at all, as the arrangement and the point have it; what was taken is there again, in its place; as many
 * messages fit as before. Then the same with a process that is stopped there for a while, and goes on.
 * Which points an arrangement passes is found by a first run in which nobody dies.
 * @ctest TIMEOUT 180 */
#include "crash_support.h"

#include "atomic.h"
#include "crash_points.h"
#include "park.h"
#include "ring_inside.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define OTHERS 2
#define SURVIVED 77
#define LATE_MS 2000 /* the aim is 100 ms; the machine may be busy */
#define STOPPED_MS 10

/* Numbers of messages: those put before, 1…; each other's; the victim's. */
enum { OTHERS_OWN = 100, VICTIMS = 200, NUMBERS = 256 };
#define SMALL 40u
#define LARGE 40000u /* with shared memory of its own, in a queue of 64 KiB */

typedef struct note {
    uint32_t number, sum; /* then bytes that depend on the number */
} note;

/* In shared memory; made anew for each death. */
struct world {
    uint32_t ready, go, paused, resume;
    uint32_t put[8]; /* the victim's put of that number returned */
    uint32_t got[NUMBERS];
    uint32_t damaged;
    crash_passed passed[CRASH_PASSED];
};

static kin_segment *segment;
static struct world *world;
static kin_queue *queue; /* of this arrangement; each process's own handle */

typedef struct arrangement arrangement;

/* What becomes of messages when the victim dies or ends. */
typedef enum effect {
    PUTS,    /* its own are there if its put returned; if not, once or not at all        */
    DROPS,   /* its own are not there                                                  */
    GETS,    /* one may be gone with it, if it was copied                              */
    KEEPS,   /* whatever it did, all are there                                         */
    FINISHES /* the first is gone                                                      */
} effect;

typedef struct other {
    uv_thread_t thread;
    const arrangement *a;
    int number, code;
    uint32_t done;
    uint64_t done_ns;
    char says[256];
} other;

typedef struct run {
    const arrangement *a;
    const char *point; /* NULL: nobody dies */
    int nth;
    bool pauses;
    kin_process *victim;
    int64_t pid;
    bool died, third;
    uint32_t more; /* messages the parent has put beside those prepared */
    other others[OTHERS];
} run;

/* In this order: `prepared` messages are put; prepare; the victim's begin; the others, if they come first, go to sleep; the victim's
 * act; else the others now; let_go; the victim has ended: after; the others have ended: what is left is looked at. */
struct arrangement {
    const char *name;
    effect effect;
    int (*act)(const arrangement *a);
    int (*other)(other *o);
    kin_queue_options options;
    int prepared;
    uint32_t size; /* of messages; 0: SMALL */
    bool values;   /* messages are values with an object */
    bool putter;   /* which lock `prepare` and `let_go` are about */
    bool at_once;  /* the act does not wait: where it got to is known by the point */
    bool others_first, others_sleep, sleeps, shut;
    void (*prepare)(run *r);
    int (*begin)(const arrangement *a);
    void (*let_go)(run *r);
    void (*after)(run *r);
};

static const char *where(const run *r)
{
    static char text[160];
    (void)snprintf(text, sizeof text, "%s, %s:%d%s", r->a->name, r->point != NULL ? r->point : "nowhere", r->nth,
                   r->pauses ? " (stopped)" : "");
    return text;
}

/* ---- messages ---- */

static uint32_t sum_of(const char *bytes, size_t size)
{
    uint32_t sum = (uint32_t)size;
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

static void write_note(char *data, size_t size, uint32_t number)
{
    note n = {.number = number};
    memset(data + sizeof n, (int)(number * 7 + 1), size - sizeof n);
    n.sum = sum_of(data + sizeof n, size - sizeof n) + number;
    memcpy(data, &n, sizeof n);
}

/* Counts it, if it is whole. */
static void read_note(const char *data, size_t size)
{
    note n = {0};
    if (size >= sizeof n)
        memcpy(&n, data, sizeof n);
    if (size < sizeof n || n.number >= NUMBERS || n.sum != sum_of(data + sizeof n, size - sizeof n) + n.number)
        kin__add32(&world->damaged, 1);
    else
        kin__add32(&world->got[n.number], 1);
}

static size_t size_of(const arrangement *a) { return a->size != 0 ? a->size : SMALL; }

static kin_err put(const arrangement *a, uint32_t number, int64_t timeout_ms)
{
    char *data = malloc(size_of(a));
    if (data == NULL)
        return KIN_ENOMEM;
    write_note(data, size_of(a), number);
    kin_err err = a->values ? kin_queue_put_args(queue, KIN_ARGS(segment, (int64_t)number), timeout_ms)
                            : kin_queue_put(queue, data, size_of(a), timeout_ms);
    free(data);
    return err;
}

/* The object that came with the values is the one that was put. */
static kin_err get_values(int64_t timeout_ms)
{
    kin_args *args;
    kin_segment *came;
    int64_t number;
    kin_err err = kin_queue_get_args(queue, &args, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (kin_unpack(args, &came, &number) == KIN_OK && number > 0 && number < NUMBERS &&
        kin_segment_size(came) == kin_segment_size(segment)) {
        kin__add32(&world->got[number], 1);
        kin_segment_close(came);
    } else {
        kin__add32(&world->damaged, 1);
    }
    kin_args_free(args);
    return KIN_OK;
}

static kin_err get(const arrangement *a, int64_t timeout_ms)
{
    void *data;
    size_t size;
    if (a->values)
        return get_values(timeout_ms);
    kin_err err = kin_queue_get_new(queue, &data, &size, timeout_ms);
    if (err == KIN_OK) {
        read_note(data, size);
        kin_free(data);
    }
    return err;
}

static bool small_buffers(const arrangement *a) { return a->size == 0 && !a->values; }

/* ---- the victim's acts ---- */

/* A short message by the short way. */
static int act_put(const arrangement *a)
{
    char data[SMALL];
    write_note(data, sizeof data, VICTIMS);
    kin_err err = small_buffers(a) ? kin_queue_put(queue, data, sizeof data, KIN_FOREVER) : put(a, VICTIMS, KIN_FOREVER);
    if (err == KIN_OK)
        kin__store32(&world->put[0], 1);
    return err;
}

static int act_put_now(const arrangement *a)
{
    kin_err err = put(a, VICTIMS, KIN_NOWAIT);
    if (err == KIN_OK)
        kin__store32(&world->put[0], 1);
    return err == KIN_EFULL ? KIN_OK : err;
}

static int act_put_many(const arrangement *a)
{
    (void)a;
    char data[3][SMALL];
    kin_view views[3];
    for (uint32_t i = 0; i < 3; i++) {
        write_note(data[i], SMALL, VICTIMS + i);
        views[i] = (kin_view){data[i], SMALL};
    }
    kin_err err = kin_queue_put_many(queue, views, 3, NULL, KIN_FOREVER);
    for (uint32_t i = 0; i < 3 && err == KIN_OK; i++)
        kin__store32(&world->put[i], 1);
    return err;
}

static kin_message reserved, taken;

static int reserve(const arrangement *a)
{
    kin_err err = kin_queue_reserve(queue, &reserved, size_of(a), KIN_FOREVER);
    if (err == KIN_OK)
        write_note(reserved.data, reserved.size, VICTIMS);
    return err;
}

static int act_reserve(const arrangement *a) { return reserve(a); } /* and ends */

static int act_commit(const arrangement *a)
{
    (void)a;
    kin_err err = kin_queue_commit(queue, &reserved);
    if (err == KIN_OK)
        kin__store32(&world->put[0], 1);
    return err;
}

static int act_cancel(const arrangement *a)
{
    (void)a;
    return kin_queue_cancel(queue, &reserved);
}

static int act_get(const arrangement *a)
{
    char data[SMALL];
    size_t size;
    if (!small_buffers(a))
        return get(a, KIN_FOREVER);
    kin_err err = kin_queue_get(queue, data, sizeof data, &size, KIN_FOREVER);
    if (err == KIN_OK)
        read_note(data, size);
    return err;
}

static int act_get_many(const arrangement *a)
{
    (void)a;
    char data[4 * SMALL];
    kin_view views[4];
    size_t count;
    kin_err err = kin_queue_get_many(queue, data, sizeof data, views, 1, &count, KIN_FOREVER);
    if (err == KIN_OK)
        read_note(views[0].data, views[0].size);
    return err;
}

static int act_take(const arrangement *a) /* and ends */
{
    (void)a;
    return kin_queue_take(queue, &taken, KIN_FOREVER);
}

static int act_done(const arrangement *a)
{
    (void)a;
    return kin_queue_done(queue, &taken);
}

static int act_give_back(const arrangement *a)
{
    (void)a;
    return kin_queue_give_back(queue, &taken);
}

static int act_task_done(const arrangement *a)
{
    (void)a;
    return kin_queue_task_done(queue);
}

static int act_join(const arrangement *a)
{
    (void)a;
    return kin_queue_join(queue, KIN_FOREVER);
}

static int act_shut(const arrangement *a)
{
    (void)a;
    return kin_queue_shutdown(queue);
}

static int take_and_shut(const arrangement *a)
{
    int code = act_take(a);
    return code == KIN_OK ? act_shut(a) : code;
}

static int reserve_and_shut(const arrangement *a)
{
    int code = reserve(a);
    return code == KIN_OK ? act_shut(a) : code;
}

/* So that the latches become the victim's own. */
static int begin_often(const arrangement *a)
{
    for (uint32_t i = 0; i < 2 * KIN__LATCH_STREAK + 8; i++) {
        char data[SMALL];
        kin_err err = kin_queue_put(queue, data, sizeof data, KIN_NOWAIT);
        if (err == KIN_OK)
            err = kin_queue_get(queue, data, sizeof data, NULL, KIN_NOWAIT);
        if (err != KIN_OK)
            return err;
    }
    return a->effect == GETS ? put(a, 1, KIN_NOWAIT) : KIN_OK;
}

/* ---- the others' ---- */

static int other_get(other *o) { return get(o->a, KIN_FOREVER); }
static int other_put(other *o) { return put(o->a, (uint32_t)(OTHERS_OWN + o->number), KIN_FOREVER); }

static int other_put_get(other *o)
{
    int code = other_put(o);
    return code == KIN_OK ? other_get(o) : code;
}

/* More than it takes for a latch to become its own. */
static int other_put_get_often(other *o)
{
    for (int i = 0; i < 200; i++) {
        char data[SMALL];
        size_t size = 0;
        write_note(data, sizeof data, OTHERS_OWN + 50);
        kin_err err = kin_queue_put(queue, data, sizeof data, KIN_FOREVER);
        if (err == KIN_OK)
            err = kin_queue_get(queue, data, sizeof data, &size, KIN_FOREVER);
        if (err != KIN_OK)
            return err;
        read_note(data, size);
    }
    return other_put_get(o);
}

static int other_take(other *o)
{
    kin_message m;
    (void)o;
    kin_err err = kin_queue_take(queue, &m, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    read_note(m.data, m.size);
    return kin_queue_done(queue, &m);
}

static int other_join(other *o)
{
    (void)o;
    return kin_queue_join(queue, KIN_FOREVER);
}

static int other_get_nothing(other *o)
{
    int code = get(o->a, KIN_FOREVER);
    return code == KIN_EPIPE ? KIN_OK : code == KIN_OK ? KIN_EIO : code;
}

static int other_get_to_the_end(other *o)
{
    int code;
    while ((code = get(o->a, KIN_FOREVER)) == KIN_OK) {
    }
    return code == KIN_EPIPE ? KIN_OK : code;
}

/* ---- who has the locks ---- */

static kin__flow *flow(void) { return kin__queue_flow(queue, 0); }

static kin__entry entered;

static void prepare_lock(run *r) { check(kin__ring_lock(flow(), r->a->putter, kin__thread_me(), KIN_FOREVER, KIN__NEVER, &entered)); }

static void let_go_lock(run *r)
{
    kin__ring_unlock(flow(), r->a->putter, kin__me, entered);
    if (r->a->putter)
        kin__ring_look_after_put(flow(), 0);
    else
        kin__ring_look_after_get(flow());
}

/* Nobody has slept for long: who does now sees to the order itself. */
static void prepare_calm(run *r)
{
    (void)r;
    (void)kin__and64(&flow()->gate->waits, KIN__SLEEPERS);
    (void)kin__and64(&flow()->ring->waits, KIN__SLEEPERS);
}

/* The next to find nobody asleep finds that it is so for long. */
static void prepare_nearly_calm(run *r)
{
    (void)r;
    kin__store32(&flow()->ring->calm_gate, KIN__CALM - 1);
    kin__store32(&flow()->ring->calm_put, KIN__CALM - 1);
    kin__store32(&flow()->ring->calm_get, KIN__CALM - 1);
}

/* This thread's own, and it is not within. */
static void prepare_own(run *r)
{
    prepare_lock(r);
    kin__latch_leave(r->a->putter ? &flow()->ring->putter : &flow()->ring->getter, flow()->ordered, kin__me, KIN__HELD, true);
}

static void lock_and_end(void *arg) { prepare_lock(arg); }

static void own_enter_and_end(void *arg)
{
    run *r = arg;
    prepare_own(r);
    entered = kin__latch_try(r->a->putter ? &flow()->ring->putter : &flow()->ring->getter, flow()->ordered, kin__me);
}

static void in_a_thread(void (*function)(void *arg), void *arg)
{
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, function, arg), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
}

static void prepare_dead(run *r) { in_a_thread(lock_and_end, r); }

static void prepare_dead_within(run *r)
{
    in_a_thread(own_enter_and_end, r);
    assert_int_equal(entered, KIN__WITHIN);
}

/* A thread that is within what is its own until it is let go. */
static uv_thread_t within;
static uint32_t is_within, may_leave;

static void own_and_stay(void *arg)
{
    run *r = arg;
    own_enter_and_end(r);
    kin__store32(&is_within, 1);
    (void)crash_until_at_least(&may_leave, 1);
    let_go_lock(r);
}

static void prepare_within(run *r)
{
    kin__store32(&is_within, 0);
    kin__store32(&may_leave, 0);
    assert_int_equal(uv_thread_create(&within, own_and_stay, r), 0);
    assert_true(crash_until_at_least(&is_within, 1));
}

static void let_go_within(run *r)
{
    (void)r;
    kin__store32(&may_leave, 1);
    assert_int_equal(uv_thread_join(&within), 0);
}

/* ---- those who died before ---- */

static void more_messages(run *r, int count);

static int forerun(kin_args *args);

static void run_before(run *r, const char *what, const char *point)
{
    kin_process *p = test_start_with(forerun, KIN_ARGS(segment, queue, (int64_t)(r->a->size != 0), what, point),
                                     (kin_process_options){.name = "Forerunner"});
    int code = crash_join(p);
    if (code != -9 && !(test_on_windows() && code == 1)) /* past kin that cannot be told from an exit */
        fail_msg("%s: the forerunner ended with %d", r->a->name, code);
}

/* One that had put into the bag but no message into the ring. */
static void prepare_bagged(run *r) { run_before(r, "put", "ring.bagged"); }
static void prepare_unbagging(run *r)
{
    check(put(r->a, VICTIMS + 6, KIN_NOWAIT)); /* goes with the forerunner */
    run_before(r, "get", "ring.unbagging");
}
static void prepare_reserved(run *r) { run_before(r, "reserve", ""); }
static void prepare_reserved_first(run *r)
{
    prepare_reserved(r);
    more_messages(r, 1);
}
static void prepare_taken(run *r) { run_before(r, "take", ""); }
static void prepare_looking(run *r) /* it died while it looked after one that had died before */
{
    run_before(r, "take", "");
    run_before(r, "get", "region.looking");
}
static void prepare_settled(run *r)
{
    run_before(r, "take", "");
    run_before(r, "get", "region.settled");
}

/* The bit says that somebody sleeps, and nobody does. */
static void prepare_vain_get(run *r) { check_fails(KIN_ETIMEDOUT, get(r->a, 1)); }
static void prepare_vain_put(run *r) { check_fails(KIN_ETIMEDOUT, put(r->a, VICTIMS + 5, 1)); }

static kin_message parents;

static void prepare_leased(run *r)
{
    (void)r;
    check(kin_queue_take(queue, &parents, KIN_NOWAIT));
}

static void give_leased_back(run *r)
{
    (void)r;
    check(kin_queue_give_back(queue, &parents));
}

static void prepare_reservation(run *r)
{
    check(kin_queue_reserve(queue, &parents, size_of(r->a), KIN_NOWAIT));
    check(put(r->a, 1, KIN_NOWAIT));
}

static void commit_reservation(run *r)
{
    (void)r;
    write_note(parents.data, parents.size, 99);
    check(kin_queue_commit(queue, &parents));
}

/* ---- what the parent does for those who wait ---- */

static void more_messages(run *r, int count)
{
    for (int i = 0; i < count; i++)
        check(put(r->a, (uint32_t)r->a->prepared + ++r->more, test_ms(LATE_MS)));
}

static void more_room(run *r, int count)
{
    for (int i = 0; i < count; i++)
        check(get(r->a, test_ms(LATE_MS)));
}

static bool ended_or_all_done(void *arg)
{
    run *r = arg;
    bool done = true;
    for (int i = 0; i < OTHERS; i++)
        done = done && kin__load32(&r->others[i].done) != 0;
    return done || !kin_process_alive(r->victim);
}

/* For the others only: if the victim dies, what was meant for it must do for them. But if it lives it needs one too. */
static void enough_for_others(run *r, void (*more)(run *, int))
{
    more(r, OTHERS);
    (void)crash_until(ended_or_all_done, r);
    r->third = kin_process_alive(r->victim);
    if (r->third)
        more(r, 1);
}

static void let_go_messages(run *r) { enough_for_others(r, more_messages); }
static void let_go_room(run *r) { enough_for_others(r, more_room); }

static bool all_done_or_empty(void *arg)
{
    run *r = arg;
    bool done = true;
    for (int i = 0; i < OTHERS; i++)
        done = done && kin__load32(&r->others[i].done) != 0;
    return done || kin_queue_size(queue) == 0;
}

/* If it lives, or died with one that it had got. But no message may lie there while one of the others sleeps. */
static void after_messages(run *r)
{
    if (r->third)
        return;
    if (!crash_until(all_done_or_empty, r))
        fail_msg("%s: a message is there, and nobody gets it", where(r));
    more_messages(r, 1);
}

/* A message of the dead one may have come in before. */
static void after_room(run *r)
{
    if (!r->third)
        more_room(r, 1);
}

static void two_messages(run *r) { more_messages(r, 2); }
static void one_message(run *r) { more_messages(r, 1); }
static void one_room(run *r) { more_room(r, 1); }

static void deal_with(run *r)
{
    kin_err err;
    while ((err = get(r->a, KIN_NOWAIT)) == KIN_OK)
        check(kin_queue_task_done(queue));
    assert_int_equal(err, KIN_EEMPTY);
}

/* ---- all of them ---- */

#define FULL {.max_items = 2}
#define JOINABLE {.joinable = true}
#define RELAXED {.relaxed = true}

static const arrangement arrangements[] = {
    /* putting */
    {"puts", PUTS, act_put, other_put_get, .at_once = true},
    {"puts first", PUTS, act_put, other_put_get, .at_once = true, .prepared = 1},
    {"puts, nobody has slept for long", PUTS, act_put, other_put_get, .at_once = true, .prepare = prepare_nearly_calm},
    {"puts what its own latch lets in", PUTS, act_put, other_put_get_often, .at_once = true, .begin = begin_often},
    {"puts, getters sleep", PUTS, act_put, other_get, .at_once = true, .others_first = true, .others_sleep = true, .let_go = two_messages},
    {"puts, a getter has given up", PUTS, act_put, other_put_get, .at_once = true, .prepare = prepare_vain_get},
    {"puts many, getters sleep", PUTS, act_put_many, other_get, .at_once = true, .others_first = true, .others_sleep = true,
     .let_go = two_messages},
    {"puts values, getters sleep", PUTS, act_put, other_get, .at_once = true, .values = true, .others_first = true, .others_sleep = true,
     .let_go = two_messages},
    {"puts a large one", PUTS, act_put, other_get, .at_once = true, .size = LARGE, .let_go = two_messages},
    {"waits for room", PUTS, act_put, other_put, FULL, .prepared = 2, .others_sleep = true, .sleeps = true, .let_go = let_go_room,
     .after = after_room},
    {"waits for room, last", PUTS, act_put, other_put, FULL, .prepared = 2, .others_first = true, .others_sleep = true, .sleeps = true,
     .let_go = let_go_room, .after = after_room},
    {"waits to put", PUTS, act_put, other_put, .putter = true, .prepare = prepare_lock, .others_sleep = true, .sleeps = true,
     .let_go = let_go_lock},
    {"waits to put, last", PUTS, act_put, other_put, .putter = true, .prepare = prepare_lock, .others_first = true, .others_sleep = true,
     .sleeps = true, .let_go = let_go_lock},
    {"takes the putter's latch over", PUTS, act_put, other_put_get, .at_once = true, .putter = true, .prepare = prepare_dead},
    {"takes the putter's own latch over", PUTS, act_put, other_put_get, .at_once = true, .putter = true, .prepare = prepare_dead_within},
    {"takes the putter's latch away", PUTS, act_put, other_put_get_often, .at_once = true, .putter = true, .prepare = prepare_own},
    {"does not get the putter's latch", PUTS, act_put_now, other_put, .putter = true, .prepare = prepare_within, .others_sleep = true,
     .let_go = let_go_within},
    {"puts after one that died with its bag", PUTS, act_put, other_get, .size = LARGE, .prepare = prepare_bagged,
     .let_go = two_messages},
    {"puts values after one that died with its bag", PUTS, act_put, other_put_get, .values = true, .prepare = prepare_bagged},
    {"finds a reservation of the dead in the way", PUTS, act_put, other_get, FULL, .prepare = prepare_reserved_first,
     .let_go = one_message},
    {"finds a lease of the dead in the way", PUTS, act_put, other_take, FULL, .prepared = 2, .prepare = prepare_taken, .sleeps = true},
    /* in place */
    {"reserves", DROPS, act_reserve, other_put_get, .prepared = 0},
    {"reserves, the others wait for room", DROPS, act_reserve, other_put, FULL, .prepared = 0},
    {"reserves, the others join", DROPS, act_reserve, other_join, JOINABLE, .prepared = 0},
    {"reserves a large one", DROPS, act_reserve, other_get, .size = LARGE, .let_go = two_messages},
    {"commits, getters sleep", PUTS, act_commit, other_get, .begin = reserve, .at_once = true, .others_first = true, .others_sleep = true,
     .let_go = two_messages},
    {"commits a large one", PUTS, act_commit, other_get, .size = LARGE, .begin = reserve, .at_once = true,
     .let_go = two_messages},
    {"cancels, putters wait for room", DROPS, act_cancel, other_put, FULL, .prepared = 1, .begin = reserve, .others_first = true,
     .others_sleep = true, .after = after_room},
    {"cancels, the others join", DROPS, act_cancel, other_join, JOINABLE, .begin = reserve, .others_first = true, .others_sleep = true},
    /* getting */
    {"gets", GETS, act_get, other_put_get, .prepared = 3},
    {"gets what its own latch lets out", GETS, act_get, other_put_get_often, .begin = begin_often},
    {"gets many", GETS, act_get_many, other_put_get, .prepared = 3},
    {"gets values", GETS, act_get, other_put_get, .values = true, .prepared = 3},
    {"gets a large one", GETS, act_get, other_get, .size = LARGE, .prepared = 1, .let_go = two_messages},
    {"gets, putters sleep", GETS, act_get, other_put, FULL, .prepared = 2, .others_first = true, .others_sleep = true, .let_go = one_room,
     .after = after_room},
    {"gets, a putter has given up", GETS, act_get, other_put, FULL, .prepared = 2, .prepare = prepare_vain_put, .let_go = one_room,
     .after = after_room},
    {"waits for a message", GETS, act_get, other_get, .others_sleep = true, .sleeps = true, .let_go = let_go_messages,
     .after = after_messages},
    {"waits for a message, last", GETS, act_get, other_get, .others_first = true, .others_sleep = true, .sleeps = true,
     .let_go = let_go_messages, .after = after_messages},
    {"waits for a message, the first for long", GETS, act_get, other_get, .prepare = prepare_calm, .others_sleep = true, .sleeps = true,
     .let_go = let_go_messages, .after = after_messages},
    {"waits to get", GETS, act_get, other_get, .prepared = 4, .prepare = prepare_lock, .others_sleep = true, .sleeps = true,
     .let_go = let_go_lock},
    {"waits to get, last", GETS, act_get, other_get, .prepared = 4, .prepare = prepare_lock, .others_first = true, .others_sleep = true,
     .sleeps = true, .let_go = let_go_lock},
    {"takes the getter's latch over", GETS, act_get, other_put_get, .prepared = 3, .prepare = prepare_dead},
    {"takes the getter's own latch over", GETS, act_get, other_put_get, .prepared = 3, .prepare = prepare_dead_within},
    {"takes the getter's latch away", GETS, act_get, other_put_get_often, .prepared = 3, .prepare = prepare_own},
    {"gets past a lease", GETS, act_get, other_get, .prepared = 4, .prepare = prepare_leased, .after = give_leased_back},
    {"gets many past a lease", GETS, act_get_many, other_get, .prepared = 4, .prepare = prepare_leased, .after = give_leased_back},
    {"gets past a reservation", GETS, act_get, other_put_get, .prepare = prepare_reservation, .after = commit_reservation},
    {"gets what the dead had taken", GETS, act_get, other_get, .prepared = 3, .prepare = prepare_taken},
    {"gets what the dead had taken, after one that looked", GETS, act_get, other_get, .prepared = 3, .prepare = prepare_looking},
    {"gets what the dead had taken, after one that settled it", GETS, act_get, other_get, .prepared = 3, .prepare = prepare_settled},
    {"gets past a reservation of the dead", GETS, act_get, other_put_get, .prepared = 1, .prepare = prepare_reserved},
    {"gets after one that died with its bag", GETS, act_get, other_put_get, .values = true, .prepared = 1, .prepare = prepare_bagged},
    {"gets after one that had got", GETS, act_get, other_get, .size = LARGE, .prepare = prepare_unbagging, .sleeps = true,
     .let_go = let_go_messages, .after = after_messages},
    {"takes", KEEPS, act_take, other_take, .prepared = 3},
    {"takes a large one", KEEPS, act_take, other_take, .size = LARGE, .prepared = 1, .let_go = two_messages},
    {"takes past a lease", KEEPS, act_take, other_get, .prepared = 4, .prepare = prepare_leased, .after = give_leased_back},
    {"waits to take", KEEPS, act_take, other_take, .others_sleep = true, .sleeps = true, .let_go = let_go_messages,
     .after = after_messages},
    {"takes what the dead had taken", KEEPS, act_take, other_take, .prepared = 2, .prepare = prepare_taken},
    {"is done", FINISHES, act_done, other_put_get, .prepared = 3, .begin = act_take},
    {"is done, putters wait for room", FINISHES, act_done, other_put, FULL, .prepared = 2, .begin = act_take, .others_first = true,
     .others_sleep = true, .after = after_room},
    {"is done with a large one", FINISHES, act_done, other_get, .size = LARGE, .prepared = 1, .begin = act_take,
     .let_go = two_messages},
    {"gives back, getters sleep", KEEPS, act_give_back, other_get, .prepared = 1, .begin = act_take, .others_first = true,
     .others_sleep = true,
     .let_go = one_message},
    /* joining */
    {"gets, the others join", GETS, act_get, other_join, JOINABLE, .prepared = 1, .others_first = true, .others_sleep = true,
     .after = deal_with},
    {"has dealt with it, the others join", FINISHES, act_task_done, other_join, JOINABLE, .prepared = 1, .begin = act_get,
     .others_first = true,
     .others_sleep = true},
    {"joins", KEEPS, act_join, other_join, JOINABLE, .prepared = 1, .others_sleep = true, .sleeps = true, .let_go = deal_with},
    {"joins last", KEEPS, act_join, other_join, JOINABLE, .prepared = 1, .others_first = true, .others_sleep = true, .sleeps = true,
     .let_go = deal_with},
    /* lanes */
    {"puts into a lane", PUTS, act_put, other_put_get, RELAXED, .at_once = true},
    {"puts into a lane, getters sleep", PUTS, act_put, other_get, RELAXED, .at_once = true, .others_first = true, .others_sleep = true,
     .let_go = two_messages},
    {"puts values into a lane", PUTS, act_put, other_put_get, RELAXED, .values = true, .at_once = true, .prepared = 1},
    {"gets from lanes", GETS, act_get, other_put_get, RELAXED, .prepared = 3},
    {"gets values from lanes", GETS, act_get, other_put_get, RELAXED, .values = true, .prepared = 3},
    {"takes from lanes", KEEPS, act_take, other_take, RELAXED, .prepared = 3},
    {"waits for a message from lanes", GETS, act_get, other_get, RELAXED, .others_sleep = true, .sleeps = true, .let_go = let_go_messages,
     .after = after_messages},
    /* the end */
    {"shuts down", KEEPS, act_shut, other_get_nothing, .others_first = true, .others_sleep = true, .shut = true},
    {"shuts lanes down", KEEPS, act_shut, other_get_nothing, RELAXED, .others_first = true, .others_sleep = true, .shut = true},
    {"is done with the last, the others wait for the end", FINISHES, act_done, other_get_to_the_end, .prepared = 1, .begin = take_and_shut,
     .others_first = true, .others_sleep = true, .shut = true},
    {"gives the last back, the others wait for the end", KEEPS, act_give_back, other_get_to_the_end, .prepared = 1, .begin = take_and_shut,
     .others_first = true, .others_sleep = true, .shut = true},
    {"commits the last, the others wait for the end", PUTS, act_commit, other_get_to_the_end, .begin = reserve_and_shut, .at_once = true,
     .others_first = true, .others_sleep = true, .shut = true},
    {"cancels the last, the others wait for the end", DROPS, act_cancel, other_get_to_the_end, .begin = reserve_and_shut,
     .others_first = true, .others_sleep = true, .shut = true},
    {"gives the last of lanes back, the others wait for the end", KEEPS, act_give_back, other_get_to_the_end, RELAXED, .prepared = 1,
     .begin = take_and_shut, .others_first = true, .others_sleep = true, .shut = true},
};
#define ARRANGEMENTS (sizeof arrangements / sizeof arrangements[0])

static bool is_one_of(const char *point, const char *const *points)
{
    for (; *points != NULL; points++) {
        if (strcmp(point, *points) == 0)
            return true;
    }
    return false;
}

/* A put that comes no further has put nothing; one that comes so far has. */
static const char *const before_put[] = {"ring.taken.over", "ring.inherited", "ring.bagging",     "ring.bagged", "ring.written",
                                          "ring.written.quickly",
                                         "ring.locked",     "queue.claimed",  "latch.taken.away", "queue.lane",  NULL};
static const char *const after_put[] = {"ring.committed", "ring.put", "ring.put.many", "region.committed", "region.told", NULL};
/* What is got is still there. */
static const char *const before_get[] = {"ring.getting",   "ring.got",       "ring.got.many",   "ring.copied",      "ring.counted",
                                          "ring.taken.over",
                                         "ring.inherited", "region.looking", "region.passed", "latch.taken.away", NULL};

#define POINT(name, file, tests) {name, file, tests, 0, 0},
static struct {
    const char *name, *file, *tests;
    int deaths, stops;
} points[] = {CRASH_POINTS(POINT)};
#define POINTS (sizeof points / sizeof points[0])

/* ---- the victim, and its forerunner ---- */

static int victim(kin_args *args)
{
    int64_t index, pauses;
    const char *point;
    CHILD_CHECK(kin_unpack(args, &segment, &queue, &index, &pauses, &point) == KIN_OK && index >= 0 && (size_t)index < ARRANGEMENTS);
    const arrangement *a = &arrangements[index];
    world = kin_segment_data(segment);
    CHILD_CHECK(kin__thread_me() != 0); /* the first time is never the short way */
    CHILD_CHECK(a->begin == NULL || a->begin(a) == KIN_OK);
    kin__store32(&world->ready, 1);
    CHILD_CHECK(crash_until_at_least(&world->go, 1));
    if (point[0] == 0)
        crash_record(world->passed);
    else if (pauses)
        crash_pause_at(point, &world->paused, &world->resume);
    else
        crash_at(point);
    int code = a->act(a);
    crash_at(NULL);
    crash_go_on();
    if (code != KIN_OK)
        (void)fprintf(stderr, "%s, %s: %d: %s\n", a->name, point, code, kin_last_error());
    CHILD_CHECK(code == KIN_OK);
    return SURVIVED;
}

static int forerun(kin_args *args)
{
    const char *what, *point;
    int64_t large;
    CHILD_CHECK(kin_unpack(args, &segment, &queue, &large, &what, &point) == KIN_OK);
    world = kin_segment_data(segment);
    arrangement a = {.size = large ? LARGE : 0, .values = !large && strcmp(point, "ring.bagged") == 0};
    CHILD_CHECK(kin__thread_me() != 0);
    crash_at(point[0] != 0 ? point : NULL);
    kin_err err = strcmp(what, "put") == 0       ? put(&a, VICTIMS + 7, KIN_FOREVER)
                  : strcmp(what, "get") == 0     ? get(&a, KIN_FOREVER)
                  : strcmp(what, "reserve") == 0 ? reserve(&a)
                                                 : kin_queue_take(queue, &taken, KIN_FOREVER);
    CHILD_CHECK(err == KIN_OK && point[0] == 0);
    test_process_kill(kin_current_pid());
    return 0;
}

/* ---- one death ---- */

static void be_another(void *arg)
{
    other *o = arg;
    o->code = o->a->other(o);
    (void)snprintf(o->says, sizeof o->says, "%s", kin_last_error());
    o->done_ns = uv_hrtime();
    kin__store32(&o->done, 1);
}

static void start_others(run *r)
{
    for (int i = 0; i < OTHERS; i++) {
        r->others[i] = (other){.a = r->a, .number = i};
        assert_int_equal(uv_thread_create(&r->others[i].thread, be_another, &r->others[i]), 0);
    }
    if (r->a->others_sleep && !crash_until_asleep(OTHERS))
        fail_msg("%s: the others do not sleep", where(r));
}

static bool sleeps_or_ended(void *arg)
{
    const run *r = arg;
    bool on_its_way = r->point != NULL && !r->pauses && r->nth == 1 &&
                      (strcmp(r->point, "park.published") == 0 || strcmp(r->point, "park.sleeping") == 0); /* asleep before it is dead */
    return !kin_process_alive(r->victim) || kin__load32(&world->paused) != 0 || (r->a->sleeps && !on_its_way && crash_asleep(r->pid) > 0);
}

/* How often somebody went on too late. A machine that stood still for a moment is no fault of kin's. */
static int late;

static void end_others(run *r, uint64_t since)
{
    static uint64_t slowest;
    for (int i = 0; i < OTHERS; i++) {
        other *o = &r->others[i];
        if (!crash_until_at_least(&o->done, 1)) {
            crash_print_threads(NULL);
            fail_msg("%s: another waits for ever", where(r));
        }
        assert_int_equal(uv_thread_join(&o->thread), 0);
        if (o->code != KIN_OK)
            fail_msg("%s: another ended with %d: %s", where(r), o->code, o->says);
        uint64_t took = o->done_ns > since ? (o->done_ns - since) / 1000 : 0;
        if (took > slowest && r->died) {
            slowest = took;
            print_message("slowest so far: %llu us: %s\n", (unsigned long long)took, where(r));
        }
        late += took > (uint64_t)test_ms(LATE_MS) * 1000;
    }
}

/* How many empty messages fit: each takes the least room there is, and none is left at the end of the ring. */
static int fill(kin_queue *q)
{
    int count = 0;
    kin_err err;
    while ((err = kin_queue_put(q, NULL, 0, KIN_NOWAIT)) == KIN_OK)
        count++;
    assert_int_equal(err, KIN_EFULL);
    for (int i = 0; i < count; i++)
        check(kin_queue_get(q, NULL, 0, NULL, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get(q, NULL, 0, NULL, KIN_NOWAIT));
    return count;
}

/* What is left comes in the order in which it was put. */
static void drain(run *r)
{
    uint32_t last = 0, before[NUMBERS];
    for (;;) {
        memcpy(before, world->got, sizeof before);
        kin_err err = get(r->a, KIN_NOWAIT);
        if (err == KIN_EEMPTY || (r->a->shut && err == KIN_EPIPE))
            break;
        check(err);
        for (uint32_t i = 1; i < 99; i++) {
            if (world->got[i] == before[i])
                continue;
            if (i < last && !r->a->options.relaxed)
                fail_msg("%s: message %lu comes after %lu", where(r), (unsigned long)i, (unsigned long)last);
            last = i;
        }
    }
}

static void settle_numbers(const run *r, uint32_t put_by_parent)
{
    effect e = r->a->effect;
    uint32_t missing = 0;
    bool known = r->nth == 1 && r->point != NULL && r->died;
    for (uint32_t i = 1; i <= put_by_parent; i++) {
        if (world->got[i] > 1)
            fail_msg("%s: message %lu came %lu times", where(r), (unsigned long)i, (unsigned long)world->got[i]);
        missing += world->got[i] == 0;
    }
    for (uint32_t i = 0; i < OTHERS; i++)
        assert_true(world->got[OTHERS_OWN + i] <= 1);
    uint32_t may_miss = e == GETS && r->died && !(known && is_one_of(r->point, before_get)) ? 1 : 0, must_miss = 0;
    if (e == FINISHES)
        may_miss = must_miss = r->a->act == act_done;
    if (missing > may_miss || missing < must_miss)
        fail_msg("%s: %lu messages are missing", where(r), (unsigned long)missing);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t most = e == PUTS, least = world->put[i];
        if (known && e == PUTS && r->a->at_once && is_one_of(r->point, before_put))
            most = 0;
        if (known && e == PUTS && r->a->at_once && is_one_of(r->point, after_put) && i == 0)
            least = 1;
        if (world->got[VICTIMS + i] > most || world->got[VICTIMS + i] < least)
            fail_msg("%s: the victim's message %lu came %lu times", where(r), (unsigned long)i, (unsigned long)world->got[VICTIMS + i]);
    }
    assert_int_equal(world->damaged, 0);
}

/* As good as new. */
static void settle(run *r, int capacity)
{
    drain(r);
    uint32_t most = 0;
    for (uint32_t i = 1; i < 99; i++)
        most = world->got[i] != 0 ? i : most;
    uint32_t known = (uint32_t)r->a->prepared;
    settle_numbers(r, known > most ? known : most);
    if (r->a->options.joinable)
        check(kin_queue_join(queue, test_ms(LATE_MS)));
    if (r->a->shut)
        return;
    if (!r->a->options.joinable) {
        int now = fill(queue);
        if (now != capacity)
            fail_msg("%s: %d messages fit instead of %d", where(r), now, capacity);
        check(put(r->a, 98, KIN_NOWAIT));
        check(get(r->a, KIN_NOWAIT));
    }
    assert_int_equal(kin_queue_size(queue), 0);
    if (OS_BAG_HANDLES != 0 && !r->a->options.relaxed && os_bag_oldest(flow()->out) != 0)
        fail_msg("%s: something is left in the bag", where(r));
}

static bool talks(void)
{
    static int says = -1;
    if (says < 0)
        says = getenv("KIN_TEST_TALK") != NULL;
    return says;
}

/* Small ones: they are filled often. */
static void make_queue(const arrangement *a)
{
    kin_queue_options options = a->options;
    options.capacity = options.relaxed ? 262144 : 65536;
    check(kin_queue_create(&queue, &options));
}

/* Whether the victim died, or was stopped, at the point. */
static bool die(size_t index, const char *point, int nth, bool pauses)
{
    const arrangement *a = &arrangements[index];
    static int capacities[ARRANGEMENTS];
    run r = {.a = a, .point = point, .nth = nth, .pauses = pauses};
    char at[80] = "";
    if (point != NULL)
        (void)snprintf(at, sizeof at, "%s:%d", point, nth);
    if (talks())
        print_message("%s\n", where(&r));
    memset(world, 0, sizeof *world);
    make_queue(a);
    if (capacities[index] == 0 && !a->options.joinable) {
        capacities[index] = fill(queue);
        kin_queue_close(queue);
        make_queue(a);
    }
    for (int i = 0; i < a->prepared; i++)
        check(put(a, 1 + (uint32_t)i, KIN_NOWAIT));
    if (a->prepare != NULL)
        a->prepare(&r);
    r.victim = test_start_with(victim, KIN_ARGS(segment, queue, (int64_t)index, (int64_t)pauses, at),
                               (kin_process_options){.name = "Victim"});
    r.pid = kin_process_pid(r.victim);
    assert_true(crash_until_at_least(&world->ready, 1));
    if (a->others_first)
        start_others(&r);
    uint64_t since = uv_hrtime();
    kin__store32(&world->go, 1);
    if (!crash_until(sleeps_or_ended, &r))
        fail_msg("%s: the victim does not go on", where(&r));
    if (!a->others_first) {
        since = uv_hrtime();
        start_others(&r);
    }
    if (pauses && kin__load32(&world->paused) != 0) /* some go on meanwhile, some wait for it */
        uv_sleep(STOPPED_MS);
    kin__store32(&world->resume, 1);
    if (a->let_go != NULL) {
        since = uv_hrtime();
        a->let_go(&r);
    }
    int code = crash_join(r.victim);
    r.died = code == -9;
    if (!r.died && code != SURVIVED)
        fail_msg("%s: the victim ended with %d", where(&r), code);
    if (a->after != NULL)
        a->after(&r);
    end_others(&r, since);
    settle(&r, capacities[index]);
    kin_queue_close(queue);
    return pauses ? kin__load32(&world->paused) != 0 : r.died;
}

/* Each point that the arrangement passes, as often as it passes it; a few times only where a process is dear. */
static void die_everywhere_in(size_t index, int *deaths, int *stops)
{
    crash_passed passed[CRASH_PASSED];
    (void)die(index, NULL, 0, false);
    memcpy(passed, world->passed, sizeof passed);
    int done = 0;
    bool dear = test_on_windows() || test_with_sanitizer();
    uint32_t most = dear ? 1 : test_by_spawn() ? 2 : 4; /* of a point that is passed more often */
    for (size_t i = 0; i < POINTS; i++) {
        uint32_t times = 0;
        for (int p = 0; p < CRASH_PASSED; p++)
            times = strcmp(passed[p].name, points[i].name) == 0 ? passed[p].count : times;
        for (uint32_t nth = 1; nth <= times && nth <= most && !(dear && points[i].deaths >= (test_on_windows() ? 1 : 2)); nth++) {
            done = die(index, points[i].name, (int)nth, false);
            points[i].deaths += done;
            *deaths += done;
        }
        if (times != 0 && !((dear || test_by_spawn()) && points[i].stops >= (dear ? 1 : 2))) {
            done = die(index, points[i].name, 1, true);
            points[i].stops += done;
            *stops += done;
        }
    }
}

static void every_point(void **state)
{
    (void)state;
    int deaths = 0, stops = 0;
    const char *only = getenv("KIN_TEST_ONLY");
    check(kin_queue_create(&queue, NULL)); /* the first sleep opens what it needs to notice deaths */
    check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, NULL, 0, NULL, 1));
    kin_queue_close(queue);
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    (void)die(ARRANGEMENTS - 1, NULL, 0, false);
    int handles = test_count_handles();
    for (size_t i = 0; i < ARRANGEMENTS; i++) {
        if (only == NULL || strcmp(arrangements[i].name, only) == 0)
            die_everywhere_in(i, &deaths, &stops);
    }
    print_message("%d deaths, %d stops\n", deaths, stops);
    assert_in_range(test_count_handles(), 0, handles + 16); /* some are kept for the next time; a few for each death would be more */
    assert_true(late <= 2 * OTHERS);
}

/* Files whose points must all be passed here. */
static bool is_ours(const char *file)
{
    static const char *const files[] = {"src/ring.c",  "src/ring_put.c", "src/ring_get.c", "src/ring_quick.h", "src/region.c", "src/large.c",
                                        "src/bag.c",   "src/latch.c",    "src/latch.h",    "src/queue.c",
                                        "src/queue_join.c", NULL};
    return is_one_of(file, files);
}

static void no_point_is_forgotten(void **state)
{
    (void)state;
    int forgotten = 0;
    if (getenv("KIN_TEST_ONLY") != NULL)
        test_skip("KIN_TEST_ONLY asks for one arrangement, which does not pass every point");
    for (size_t i = 0; i < POINTS; i++) {
        if (points[i].deaths > 0 || !is_ours(points[i].file) || strstr(points[i].tests, "queue_death_test") != NULL)
            continue;
        /* Nothing is left in a bag there, and it is never full: os.h. */
        if (test_on_windows() && (strcmp(points[i].name, "ring.tidying") == 0 || strcmp(points[i].name, "ring.bag.room") == 0))
            continue;
        if (kin__my.session->ordered == 0 && strcmp(points[i].name, "waits.calm") == 0)
            continue;
        print_error("nobody dies at %s of %s\n", points[i].name, points[i].file);
        forgotten++;
    }
    assert_int_equal(forgotten, 0);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_point), cmocka_unit_test(no_point_is_forgotten)};
    return cmocka_run_group_tests_name("queue points", tests, NULL, NULL);
}
