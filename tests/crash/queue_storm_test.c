/* A storm over queues and pipes: producers and consumers work while random ones of them are killed and replaced, alone or several at a
 * time. Every message is whole, and tells who put it, the how-manieth of that one's it is, and what its producer knew to be in the queue
 * already. So it is checked that
 *
 *   - each producer's messages are got in their order, and with one order for all no message is got after one that was put later
 *   - what put returned for is got exactly once, but for what a killed consumer may have taken along: what it was getting. With leases
 *     nothing is missing; then a message may be worked on twice, once for each consumer that was killed
 *   - of what was being put when its producer was killed there is all or nothing
 *   - as many messages fit afterwards as before, and the bag is empty
 *
 * After some hundred kills all are killed, what they leave behind is checked, and it begins anew with another kind of queue.
 *
 * KIN_STORM_KILLS, KIN_STORM_SECONDS, KIN_STORM_MEMBERS, KIN_TEST_SEED: see ci/storm.sh.
 * @ctest TIMEOUT 240 */
#include "crash_support.h"

#include "atomic.h"
#include "message.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define MOST 8           /* producers, and consumers */
#define LONG_MS 5000     /* everybody ends a turn in that time */
#define MOMENT_MS 20     /* what counts of a moment at most: see pulse */
#define LATE_US 100000   /* worth being counted */
#define PERIOD_KILLS 150 /* until it begins anew */
#define CALM_MS 200      /* at the beginning of a period nobody is killed: the rate then is what the other is compared with */
#define STOPPED_MS 300   /* longer than anything in kin that happens from time to time */
#define MESSAGES ((uint32_t)1 << 22) /* a producer puts no more in a period */
#define SMALL 600u
#define LARGE 40000u /* has shared memory of its own */
#define CAPACITY ((size_t)65536)
#define MANY 4

enum { ORDERED, LEASED, RELAXED, PIPE, KINDS };
static const char *const kind_names[KINDS] = {"strict", "leases", "lanes", "pipe"};

/* A producer's or consumer's own line: only it writes there, and the killer once it is dead. */
typedef struct slot {
    uint32_t begun, put; /* messages: may be in the queue; surely are */
    uint32_t life;       /* how often it was replaced                 */
    uint32_t at_risk;    /* messages that a consumer is getting       */
    uint32_t turns, pad[27];
} slot;

struct world {
    uint32_t kind, producers, consumers, pause;
    uint64_t killed_ns;
    uint32_t awake_ms; /* the time, without that in which the machine stood still */
    uint32_t kills, twice;
    uint32_t took[128]; /* how often a call during which somebody was killed took so long after it: quarters of powers of two, in us */
    uint32_t late, slowest_us;
    slot put[MOST], get[MOST];
    uint32_t got[MOST][MESSAGES / 32], uncertain[MOST][MESSAGES / 32];
};

typedef struct letter {
    uint32_t sum; /* of all that follows */
    uint16_t producer, life;
    uint32_t number, size;
    uint32_t known[MOST]; /* what had been put of each when this one's put began; 0 of one that had its place before it was written */
} letter;

static kin_segment *segment;
static struct world *world;
static kin_queue *queue;
static kin_connection *receiver, *sender;

/* ---- a member ---- */

typedef struct member {
    slot *slot;
    uint32_t index, chance;
    uint32_t kills, awake_ms; /* when the present call began */
    uint64_t from;
    uint32_t last[MOST], last_life[MOST], known[MOST]; /* of a consumer */
} member;

static void begin(member *m)
{
    m->kills = kin__load32(&world->kills);
    m->awake_ms = kin__load32(&world->awake_ms);
    m->from = uv_hrtime();
}

static uint32_t bucket_of(uint32_t us)
{
    uint32_t power = 0;
    while (us >> power > 1)
        power++;
    return power < 2 ? us : power * 4 + (us >> (power - 2) & 3);
}

/* How long it took from the kill on, if there was one meanwhile. */
static void end(member *m)
{
    if (kin__load32(&world->kills) == m->kills)
        return;
    uint64_t now = uv_hrtime(), since = kin__load64(&world->killed_ns);
    if (since < m->from)
        since = m->from;
    uint32_t us = now > since ? (uint32_t)((now - since) / 1000) : 0, slowest = kin__load32(&world->slowest_us);
    uint32_t most = (kin__load32(&world->awake_ms) - m->awake_ms + MOMENT_MS) * 1000;
    us = us < most ? us : most;
    kin__add32(&world->took[bucket_of(us)], 1);
    kin__add32(&world->late, us > LATE_US);
    while (us > slowest && !kin__cas32(&world->slowest_us, &slowest, us)) {
    }
}

static uint32_t sum_of(const char *bytes, size_t size)
{
    uint32_t sum = (uint32_t)size;
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

static uint32_t size_of(uint32_t number)
{
    uint32_t more = number % 8 == 0 ? SMALL - (uint32_t)sizeof(letter) : 24;
    return number % 1000 == 999 ? LARGE : (uint32_t)sizeof(letter) + number * 2654435761u % more;
}

static void write_letter(const member *m, char *at, uint32_t number, bool placed)
{
    letter l = {.producer = (uint16_t)m->index, .life = (uint16_t)m->slot->life, .number = number, .size = size_of(number)};
    for (uint32_t i = 0; i < world->producers && !placed; i++)
        l.known[i] = kin__load32(&world->put[i].put);
    memset(at + sizeof l, (int)number, l.size - sizeof l);
    memcpy(at, &l, sizeof l);
    l.sum = sum_of(at + 4, l.size - 4);
    memcpy(at, &l.sum, 4);
}

/* ---- producers ---- */

static kin_err put_many(member *m, uint32_t first)
{
    char data[MANY][SMALL];
    kin_view views[MANY];
    size_t done = 0;
    kin_err err = KIN_OK;
    for (uint32_t i = 0; i < MANY; i++) {
        write_letter(m, data[i], first + i, false);
        views[i] = (kin_view){data[i], size_of(first + i)};
    }
    while (done < MANY && err == KIN_OK) {
        size_t more = 0;
        err = kin_queue_put_many(queue, views + done, MANY - done, &more, KIN_FOREVER);
        done += more;
    }
    return err;
}

static kin_err put_in_place(member *m, uint32_t number)
{
    kin_message message;
    kin_err err = kin_queue_reserve(queue, &message, size_of(number), KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    write_letter(m, message.data, number, true);
    if (crash_random(&m->chance, 8) == 0) /* long enough to be killed in */
        crash_spin_us(crash_random(&m->chance, 300));
    return kin_queue_commit(queue, &message);
}

static kin_err put_one(member *m, uint32_t number)
{
    static char data[LARGE];
    write_letter(m, data, number, false);
    return world->kind == PIPE ? kin_connection_send(sender, data, size_of(number), KIN_FOREVER)
                               : kin_queue_put(queue, data, size_of(number), KIN_FOREVER);
}

static int produce(member *m)
{
    uint32_t first = m->slot->begun, way = crash_random(&m->chance, 16), count = 1;
    bool small = size_of(first) < LARGE && size_of(first + 1) < LARGE && size_of(first + 2) < LARGE && size_of(first + 3) < LARGE;
    if (first + MANY >= MESSAGES) {
        uv_sleep(1);
        return 0;
    }
    if (way == 0 && small && world->kind != PIPE)
        count = MANY;
    kin__store32(&m->slot->begun, first + count);
    begin(m);
    kin_err err = count == MANY ? put_many(m, first) : way == 1 && world->kind != PIPE ? put_in_place(m, first) : put_one(m, first);
    end(m);
    CHILD_CHECK(err == KIN_OK);
    kin__store32(&m->slot->put, first + count);
    return 0;
}

/* ---- consumers ---- */

static bool mark(uint32_t *bits, uint32_t number)
{
    return (kin__or32(&bits[number / 32], (uint32_t)1 << number % 32) >> number % 32 & 1) != 0;
}

/* Where one that is leased may come back, there is no order. */
static bool in_order(member *m, const letter *l)
{
    uint32_t p = l->producer;
    bool right = true;
    if (world->kind == ORDERED || world->kind == PIPE) {
        right = (m->last[p] == 0 || l->number + 1 > m->last[p]) && l->number >= m->known[p];
        for (uint32_t i = 0; i < world->producers; i++)
            m->known[i] = l->known[i] > m->known[i] ? l->known[i] : m->known[i];
    } else if (world->kind == RELAXED && m->last_life[p] == l->life) {
        right = l->number + 1 > m->last[p];
    }
    if (world->kind != RELAXED || m->last_life[p] <= l->life) { /* what an earlier one left in its lane may come later */
        m->last[p] = l->number + 1;
        m->last_life[p] = l->life;
    }
    return right;
}

static int check_letter(member *m, const char *data, size_t size)
{
    letter l;
    CHILD_CHECK(size >= sizeof l);
    memcpy(&l, data, sizeof l);
    CHILD_CHECK(l.producer < world->producers && l.number < MESSAGES && l.size == size && l.size == size_of(l.number));
    CHILD_CHECK(l.sum == sum_of(data + 4, size - 4));
    CHILD_CHECK(in_order(m, &l));
    if (mark(world->got[l.producer], l.number)) {
        CHILD_CHECK(world->kind == LEASED);
        kin__add32(&world->twice, 1);
    }
    return 0;
}

static int get_many(member *m)
{
    char data[MANY * SMALL + LARGE];
    kin_view views[MANY];
    size_t count;
    begin(m);
    kin_err err = kin_queue_get_many(queue, data, sizeof data, views, MANY, &count, KIN_FOREVER);
    end(m);
    CHILD_CHECK(err == KIN_OK && count > 0);
    for (size_t i = 0; i < count; i++)
        CHILD_CHECK(check_letter(m, views[i].data, views[i].size) == 0);
    return 0;
}

static int lease(member *m)
{
    kin_message message;
    begin(m);
    kin_err err = kin_queue_take(queue, &message, KIN_FOREVER);
    end(m);
    CHILD_CHECK(err == KIN_OK);
    uint32_t what = crash_random(&m->chance, 16);
    if (what < 2)
        crash_spin_us(crash_random(&m->chance, 300));
    if (what == 0)
        return kin_queue_give_back(queue, &message);
    CHILD_CHECK(check_letter(m, message.data, message.size) == 0);
    return kin_queue_done(queue, &message);
}

static int get_one(member *m)
{
    static char data[LARGE];
    size_t size;
    begin(m);
    kin_err err = world->kind == PIPE ? kin_connection_recv(receiver, data, sizeof data, &size, KIN_FOREVER)
                                      : kin_queue_get(queue, data, sizeof data, &size, KIN_FOREVER);
    end(m);
    CHILD_CHECK(err == KIN_OK);
    return check_letter(m, data, size);
}

static int consume(member *m)
{
    bool many = world->kind != PIPE && world->kind != LEASED && crash_random(&m->chance, 16) == 0;
    kin__store32(&m->slot->at_risk, world->kind == LEASED ? 0 : many ? MANY : 1);
    return world->kind == LEASED ? lease(m) : many ? get_many(m) : get_one(m);
}

static int live(int64_t index, uint64_t seed)
{
    world = kin_segment_data(segment);
    bool producer = index < MOST;
    member m = {.index = (uint32_t)index % MOST, .chance = (uint32_t)seed};
    m.slot = producer ? &world->put[m.index] : &world->get[m.index];
    for (;;) { /* until killed */
        int code = producer ? produce(&m) : consume(&m);
        if (code != 0)
            return code;
        kin__add32(&m.slot->turns, 1);
        /* So that queues run empty and full, and who starts and ends processes finds a CPU. */
        if (crash_random(&m.chance, producer ? 100 : 300) == 0)
            uv_sleep(1);
    }
}

static int live_at_queue(kin_args *args)
{
    int64_t index;
    uint64_t seed;
    CHILD_CHECK(kin_unpack(args, &segment, &index, &seed, &queue) == KIN_OK && index < 2 * MOST);
    return live(index, seed);
}

static int live_at_pipe(kin_args *args)
{
    int64_t index;
    uint64_t seed;
    CHILD_CHECK(kin_unpack(args, &segment, &index, &seed, &sender) == KIN_OK && index < 2 * MOST);
    receiver = sender; /* its only end, whichever it is */
    return live(index, seed);
}

/* ---- the killer ---- */

static kin_process *members[2 * MOST]; /* producers, then consumers */
static uv_thread_t pulser;
static uint32_t pulsing;
static uint32_t chance;
static int fresh;          /* how many empty messages fit */
static uint32_t may_miss, may_come_twice;

static slot *slot_of(int i) { return i < MOST ? &world->put[i] : &world->get[i - MOST]; }

/* A clock for what must not take long. Where the machine is overloaded, or a virtual one that is suspended now and then, time passes in
 * which nobody could have done anything: of each moment only the first part counts. */
static void pulse(void *arg)
{
    (void)arg;
    int64_t last = kin_now();
    while (kin__load32(&pulsing) != 0) {
        int64_t now = kin_now();
        kin__add32(&world->awake_ms, (uint32_t)(now - last < MOMENT_MS ? now - last : MOMENT_MS));
        last = now;
        uv_sleep(1);
    }
}

static void start_member(int i)
{
    uint64_t seed = crash_random(&chance, 0xffffffff);
    kin_process_options options = {.daemon = true};
    if (world->kind != PIPE)
        members[i] = test_start_with(live_at_queue, KIN_ARGS(segment, (int64_t)i, seed, queue), options);
    else
        members[i] = test_start_with(live_at_pipe, KIN_ARGS(segment, (int64_t)i, seed, i < MOST ? sender : receiver), options);
}

static int fill(void)
{
    int count = 0;
    if (world->kind == PIPE) {
        while (kin_connection_send(sender, NULL, 0, KIN_NOWAIT) == KIN_OK)
            count++;
        for (int i = 0; i < count; i++)
            check(kin_connection_recv(receiver, NULL, 0, NULL, KIN_NOWAIT));
    } else {
        while (kin_queue_put(queue, NULL, 0, KIN_NOWAIT) == KIN_OK)
            count++;
        for (int i = 0; i < count; i++)
            check(kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
    }
    return count;
}

static void for_all(void (*function)(int i))
{
    for (int i = 0; i < 2 * MOST; i++) {
        if (members[i] != NULL)
            function(i);
    }
}

static void make_world(uint32_t kind, uint32_t producers, uint32_t consumers)
{
    memset(world, 0, sizeof *world);
    world->kind = kind;
    world->producers = producers;
    world->consumers = consumers;
    may_miss = may_come_twice = 0;
    if (kind == PIPE)
        check(kin_pipe(&receiver, &sender, &(kin_pipe_options){.capacity = CAPACITY, .one_way = true}));
    else
        check(kin_queue_create(&queue, &(kin_queue_options){.capacity = kind == RELAXED ? 4 * CAPACITY : CAPACITY,
                                                            .relaxed = kind == RELAXED}));
    fresh = fill();
    kin__store32(&pulsing, 1);
    assert_int_equal(uv_thread_create(&pulser, pulse, NULL), 0);
    for (uint32_t i = 0; i < producers; i++)
        start_member((int)i);
    for (uint32_t i = 0; i < consumers; i++)
        start_member(MOST + (int)i);
}

static void stop_pulse(void)
{
    if (kin__exchange32(&pulsing, 0) != 0)
        (void)uv_thread_join(&pulser);
}

static void say_where_it_is(int i)
{
    print_error("%s %d (pid %lld, %s): turn %lu, begun %lu, put %lu\n", i < MOST ? "producer" : "consumer", i % MOST,
                (long long)kin_process_pid(members[i]), kin_process_alive(members[i]) ? "alive" : "ended",
                (unsigned long)kin__load32(&slot_of(i)->turns), (unsigned long)slot_of(i)->begun, (unsigned long)slot_of(i)->put);
}

static void say_where_all_are(void)
{
    for_all(say_where_it_is);
    if (world->kind != PIPE) {
        for (uint32_t i = 0; i < (world->kind == RELAXED ? 16u : 1u); i++) {
            const kin__ring *r = kin__queue_flow(queue, i)->ring;
            print_error("ring %lu: head %#llx, tail %#llx, next %#llx, waits %#llx, returned %lu, epoch %lu\n", (unsigned long)i,
                        (unsigned long long)r->head, (unsigned long long)r->tail, (unsigned long long)r->next, (unsigned long long)r->waits,
                        (unsigned long)r->returned, (unsigned long)r->epoch);
            print_error("    putter %#llx of %#llx, getter %#llx of %#llx\n", (unsigned long long)r->putter.word,
                        (unsigned long long)r->putter.own, (unsigned long long)r->getter.word, (unsigned long long)r->getter.own);
        }
        print_error("gate: waits %#llx\n", (unsigned long long)kin__queue_flow(queue, 0)->gate->waits);
    }
    crash_print_threads(NULL);
}

/* Everybody alive ends a turn within LONG_MS, and nobody has ended. */
static void everybody_works(void)
{
    uint32_t turns[2 * MOST], from = kin__load32(&world->awake_ms);
    for (int i = 0; i < 2 * MOST; i++)
        turns[i] = kin__load32(&slot_of(i)->turns);
    for (int i = 0; i < 2 * MOST;) {
        if (members[i] == NULL || kin__load32(&slot_of(i)->turns) != turns[i]) {
            i++;
        } else if (kin__load32(&world->awake_ms) - from > (uint32_t)test_ms(LONG_MS) || !kin_process_alive(members[i])) {
            say_where_all_are();
            fail_msg("%s %d does not go on", i < MOST ? "producer" : "consumer", i % MOST);
        } else {
            uv_sleep(0);
        }
    }
}

static void kill_member(int i)
{
    int64_t pid = kin_process_pid(members[i]);
    if (crash_random(&chance, 16) == 0 && test_process_stop(pid)) /* death reaches a stopped one too */
        crash_spin_us(crash_random(&chance, 500));
    kin__store64(&world->killed_ns, uv_hrtime());
    kin__add32(&world->kills, 1);
    if (!test_on_windows() && crash_random(&chance, 2) == 0)
        crash_kill(pid); /* past kin: on Windows that cannot be told from an exit */
    else
        check(kin_process_kill(members[i]));
}

/* It was killed, and not before. */
static void bury_member(int i)
{
    slot *s = slot_of(i);
    int code = crash_join(members[i]);
    members[i] = NULL;
    if (code != -9) {
        say_where_all_are();
        fail_msg("%s: %s %d ended with %d", kind_names[world->kind], i < MOST ? "producer" : "consumer", i % MOST, code);
    }
    if (i < MOST) {
        for (uint32_t n = s->put; n < s->begun; n++)
            (void)mark(world->uncertain[i], n);
        kin__store32(&s->put, s->begun);
        s->life++;
    } else {
        may_miss += s->at_risk;
        may_come_twice++;
        s->at_risk = 0;
    }
}

static int kill_some(void)
{
    bool doomed[2 * MOST] = {false};
    int killed = 0, victims = 1 + (crash_random(&chance, 3) != 0 ? (int)crash_random(&chance, world->producers + world->consumers) : 0);
    crash_spin_us(crash_random(&chance, crash_random(&chance, 8) == 0 ? 5000 : 500));
    for (int v = 0; v < victims; v++) {
        uint32_t n = crash_random(&chance, world->producers + world->consumers);
        doomed[n < world->producers ? n : MOST + n - world->producers] = true;
    }
    for (int i = 0; i < 2 * MOST; i++) {
        if (doomed[i])
            kill_member(i);
    }
    for (int i = 0; i < 2 * MOST; i++) {
        if (!doomed[i])
            continue;
        bury_member(i);
        start_member(i);
        killed++;
    }
    if (crash_random(&chance, 16) == 0)
        everybody_works();
    return killed;
}

/* ---- what is left ---- */

static void get_the_rest(void)
{
    static char data[LARGE];
    size_t size;
    kin_err err;
    for (;;) {
        err = world->kind == PIPE ? kin_connection_recv(receiver, data, sizeof data, &size, KIN_NOWAIT)
                                  : kin_queue_get(queue, data, sizeof data, &size, KIN_NOWAIT);
        if (err != KIN_OK)
            break;
        member m = {0}; /* order was for each consumer */
        assert_int_equal(check_letter(&m, data, size), 0);
    }
    assert_int_equal(err, world->kind == PIPE ? KIN_ETIMEDOUT : KIN_EEMPTY);
}

static bool has(const uint32_t *bits, uint32_t number) { return (bits[number / 32] >> number % 32 & 1) != 0; }

static void check_remains(void)
{
    uint32_t missing = 0;
    get_the_rest();
    for (uint32_t p = 0; p < world->producers; p++) {
        for (uint32_t n = 0; n < MESSAGES; n++) {
            if (n >= world->put[p].begun && has(world->got[p], n))
                fail_msg("message %lu of producer %lu was never put", (unsigned long)n, (unsigned long)p);
            missing += n < world->put[p].begun && !has(world->got[p], n) && !has(world->uncertain[p], n);
        }
    }
    if (missing > may_miss)
        fail_msg("%s: %lu messages are missing, at most %lu may be", kind_names[world->kind], (unsigned long)missing,
                 (unsigned long)may_miss);
    if (world->twice > may_come_twice)
        fail_msg("%s: %lu messages came twice, at most %lu may", kind_names[world->kind], (unsigned long)world->twice,
                 (unsigned long)may_come_twice);
    int now = fill();
    if (now != fresh)
        fail_msg("%s: %d messages fit instead of %d", kind_names[world->kind], now, fresh);
    if (world->kind != PIPE) {
        assert_int_equal(kin_queue_size(queue), 0);
        if (OS_BAG_HANDLES != 0 && world->kind != RELAXED)
            assert_int_equal(os_bag_oldest(kin__queue_flow(queue, 0)->out), 0);
    }
    kin_queue_close(queue);
    kin_connection_close(receiver);
    kin_connection_close(sender);
    queue = NULL;
    receiver = sender = NULL;
}

static void kill_all(void)
{
    for_all(kill_member);
    for_all(bury_member);
    stop_pulse();
}

/* ---- what it came to ---- */

static struct sum {
    uint32_t took[128], late, slowest_us, twice;
    uint64_t calm, stormy; /* messages */
    uint64_t calm_ns, stormy_ns;
} sum;

static uint64_t messages(void)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < world->producers; i++)
        all += kin__load32(&world->put[i].put);
    return all;
}

static void add_up(void)
{
    for (uint32_t i = 0; i < 128; i++)
        sum.took[i] += world->took[i];
    sum.late += world->late;
    sum.twice += world->twice;
    if (world->slowest_us > sum.slowest_us)
        sum.slowest_us = world->slowest_us;
}

/* So many of a hundred calls during which somebody was killed took no longer than that after the kill, in us. */
static uint32_t of_a_hundred(uint32_t percent)
{
    uint64_t all = 0, seen = 0;
    for (uint32_t i = 0; i < 128; i++)
        all += sum.took[i];
    for (uint32_t i = 0; i < 128; i++) {
        seen += sum.took[i];
        if (seen * 100 >= all * percent)
            return i < 4 ? i : (4 + (i & 3) + 1) << (i / 4 - 2);
    }
    return 0;
}

static void say_all(int kills)
{
    double calm = sum.calm_ns != 0 ? (double)sum.calm * 1e9 / (double)sum.calm_ns : 0;
    double stormy = sum.stormy_ns != 0 ? (double)sum.stormy * 1e9 / (double)sum.stormy_ns : 0;
    print_message("%d kills, %.0f a second; %.0f messages a second while calm, %.0f (%.0f %%) in the storm; %lu came twice\n", kills,
                  sum.stormy_ns != 0 ? kills * 1e9 / (double)sum.stormy_ns : 0, calm, stormy, calm > 0 ? 100 * stormy / calm : 0,
                  (unsigned long)sum.twice);
    print_message("calls took after a kill: half of them up to %lu us, 99 %% up to %lu us, at most %lu us; %lu over 100 ms\n",
                  (unsigned long)of_a_hundred(50), (unsigned long)of_a_hundred(99), (unsigned long)sum.slowest_us, (unsigned long)sum.late);
}

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != 0 ? strtol(text, NULL, 10) : otherwise;
}

static void be_calm(void)
{
    uint64_t from = uv_hrtime(), before = messages();
    uv_sleep(test_scale(CALM_MS, CALM_MS));
    sum.calm += messages() - before;
    sum.calm_ns += uv_hrtime() - from;
}

static void members_are_killed(void **state)
{
    (void)state;
    long kills = setting("KIN_STORM_KILLS", test_by_spawn() ? test_scale(500, 60) : test_scale(1200, 60)),
         how_many = setting("KIN_STORM_MEMBERS", 0);
    int64_t until = kin_now() + 1000 * setting("KIN_STORM_SECONDS", (long)test_ms(15000) / 1000);
    int done = 0, said = 0;
    assert_true(how_many <= 2 * MOST);
    memset(&sum, 0, sizeof sum);
    for (uint32_t period = 0; done < kills && kin_now() < until; period++) {
        int period_end = done + test_scale(PERIOD_KILLS, PERIOD_KILLS / 10);
        uint32_t half = how_many > 1 ? (uint32_t)how_many / 2 : 2 + period / KINDS % 3;
        make_world(period % KINDS, half, how_many > 1 ? (uint32_t)how_many - half : 2 + (period / KINDS + period) % 3);
        everybody_works();
        be_calm();
        uint64_t from = uv_hrtime(), before = messages();
        while (done < period_end && done < kills && kin_now() < until)
            done += kill_some();
        sum.stormy += messages() - before;
        sum.stormy_ns += uv_hrtime() - from;
        everybody_works();
        kill_all();
        check_remains();
        add_up();
        if (done - said > 5000) {
            said = done;
            say_all(done);
        }
    }
    say_all(done);
    uint32_t calls = 0;
    for (uint32_t i = 0; i < 128; i++)
        calls += sum.took[i];
    assert_in_range(sum.late, 0, 5 + calls / 50); /* the machine may be busy; the aim is none */
    assert_true(crash_until_places(crash_server() != 0 ? 2 : 1));
}

/* Nobody is killed, some are stopped for a while: everything is got, once. */
static void members_are_stopped(void **state)
{
    (void)state;
    memset(&sum, 0, sizeof sum);
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        make_world(kind, 2, 2);
        everybody_works();
        for (int i = 0, times = test_scale(4, 1); i < times; i++) {
            uint32_t n = crash_random(&chance, 4);
            int64_t pid = kin_process_pid(members[n < 2 ? n : MOST + n - 2]);
            crash_spin_us(crash_random(&chance, 2000));
            if (!test_process_stop(pid)) {
                kill_all();
                check_remains();
                test_skip("no process can be stopped here");
            }
            uv_sleep(STOPPED_MS);
            assert_true(test_process_continue(pid));
            everybody_works();
        }
        kill_all();
        check_remains();
    }
}

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct world)));
    world = kin_segment_data(segment);
    if (chance == 0)
        chance = crash_seed();
    return 0;
}

static void end_member(int i)
{
    (void)kin_process_kill(members[i]);
    (void)crash_join(members[i]);
    members[i] = NULL;
}

/* Also of what a failure has left. */
static int teardown(void **state)
{
    (void)state;
    for_all(end_member);
    stop_pulse();
    kin_segment_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(members_are_killed, setup, teardown),
                                       cmocka_unit_test_setup_teardown(members_are_stopped, setup, teardown)};
    return cmocka_run_group_tests_name("queue storm", tests, NULL, NULL);
}
