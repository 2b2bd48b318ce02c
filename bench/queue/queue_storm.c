/* queue-storm: what a kin_queue does while its producers and consumers are killed at random and replaced.
 *
 *     queue_storm FORM KILLS SECONDS        FORM: plain, relaxed or place, as in queue.c; SECONDS of calm come first
 *
 * Two producers and two consumers, nowhere pinned, work without a pause; each life of one has a number. A message says whose it
 * is, has a size of its own and a checksum. Counted are
 *
 *     stalls    a process put or got nothing for more than 100 ms; time in which this program itself did not run is left out
 *     corrupt   a wrong checksum or size
 *     disorder  a message came after a later one of the same producer, at one consumer; relaxed: of the same life of it (not for
 *               place: a message that a consumer had taken when it was killed comes again, later)
 *     lost      messages beyond one for each kill: a killed producer may have put one more than it has counted, a killed
 *               consumer may have got one more
 *     capacity  how many messages fewer fit into the empty queue at the end than at the beginning */
#include "queue.h"

#include "../sync/children.h"

enum { PRODUCERS = 2, CONSUMERS = 2, WORKERS = PRODUCERS + CONSUMERS };
#define STORM_SECONDS 170
#define STORM_CAPACITY 65536 /* so small that it is often full and often empty */
#define KILLS_PER_SECOND 340 /* what it tries                                  */
#define STALL_MS 100
#define LOOK_MS 20     /* of the time between two looks, no more is held against a worker */
#define WORDS_MOST 32u /* of a message */
#define END_PLACE 99u  /* tells a consumer to end */

enum form { PLAIN, RELAXED, PLACE };

struct message {
    uint32_t place, life;
    uint64_t number, check;
    uint64_t words[WORDS_MOST - 3];
};

/* Of a place among the workers; over all lives. */
struct worker {
    _Alignas(64) _Atomic uint64_t count; /* messages put or got */
    _Atomic uint64_t corrupt, disorder;
};

struct storm {
    struct worker workers[WORKERS];
    _Alignas(64) _Atomic uint32_t stop;
};

/* ---- messages ---- */

static uint64_t sum_of(const struct message *m, size_t words)
{
    const uint64_t *w = (const uint64_t *)m;
    uint64_t sum = words;
    for (size_t i = 0; i < words; i++)
        sum = (sum ^ (i == 2 ? 0 : w[i])) * 0x9e3779b97f4a7c15u + (sum >> 29);
    return sum;
}

/* From 24 to 256 bytes, another size each time. */
static size_t words_of(uint64_t number) { return 3 + (size_t)(number * 0x9e3779b97f4a7c15u >> 32) % (WORDS_MOST - 2); }

static void fill_in(struct message *m, uint32_t place, uint32_t life, uint64_t number)
{
    size_t words = words_of(number);
    m->place = place;
    m->life = life;
    m->number = number;
    for (size_t i = 3; i < words; i++)
        m->words[i - 3] = number + i;
    m->check = sum_of(m, words);
}

static int is_whole(const struct message *m, size_t size)
{
    return size == 8 * words_of(m->number) && m->check == sum_of(m, size / 8);
}

/* ---- one message ---- */

static kin_err put(kin_queue *q, enum form form, uint32_t place, uint32_t life, uint64_t number)
{
    if (form != PLACE) {
        struct message m;
        fill_in(&m, place, life, number);
        return kin_queue_put(q, &m, 8 * words_of(number), KIN_FOREVER);
    }
    kin_message m;
    kin_err error = kin_queue_reserve(q, &m, 8 * words_of(number), KIN_FOREVER);
    if (error != KIN_OK)
        return error;
    fill_in(m.data, place, life, number);
    return kin_queue_commit(q, &m);
}

/* Gets one, and says whether it is whole. What is not copied is looked at before it is given up. */
static kin_err get(kin_queue *q, enum form form, struct message *got, int *whole, int64_t timeout_ms)
{
    size_t size = 0;
    kin_err error;
    if (form != PLACE) {
        error = kin_queue_get(q, got, sizeof *got, &size, timeout_ms);
        *whole = error == KIN_OK && size >= 24 && is_whole(got, size);
        return error;
    }
    kin_message m;
    if ((error = kin_queue_take(q, &m, timeout_ms)) != KIN_OK)
        return error;
    memcpy(got, m.data, 24);
    *whole = m.size >= 24 && m.size <= sizeof *got && is_whole(m.data, m.size);
    return kin_queue_done(q, &m);
}

/* ---- the workers ---- */

static int work(kin_args *args)
{
    kin_segment *segment;
    kin_queue *queue;
    uint32_t form, place, life;
    bench_kin(kin_unpack(args, &segment, &queue, &form, &place, &life));
    struct storm *s = kin_segment_data(segment);
    struct worker *me = &s->workers[place];
    uint64_t n = atomic_load(&me->count);
    if (place < PRODUCERS) {
        for (uint64_t number = 1; atomic_load_explicit(&s->stop, memory_order_relaxed) == 0; number++) {
            bench_kin(put(queue, (enum form)form, place, life, number));
            atomic_store_explicit(&me->count, ++n, memory_order_relaxed);
        }
        return 0;
    }
    struct message m;
    uint64_t last[PRODUCERS] = {0};
    for (int whole;;) {
        bench_kin(get(queue, (enum form)form, &m, &whole, KIN_FOREVER));
        if (!whole || (m.place >= PRODUCERS && m.place != END_PLACE)) {
            atomic_fetch_add(&me->corrupt, 1);
            continue;
        }
        if (m.place == END_PLACE)
            return 0;
        uint64_t when = ((uint64_t)m.life << 40) + m.number;
        /* In relaxed order only a thread's own messages keep it: what an earlier life left in another lane may come later. */
        int earlier_life = form == RELAXED && when >> 40 < last[m.place] >> 40;
        if (when <= last[m.place] && form != PLACE && !earlier_life)
            atomic_fetch_add(&me->disorder, 1);
        if (!earlier_life)
            last[m.place] = when;
        atomic_store_explicit(&me->count, ++n, memory_order_relaxed);
    }
}

/* ---- the storm ---- */

struct watch { /* of one worker */
    kin_process *process;
    uint32_t life;
    uint64_t count, idle_ns; /* what it had done at the last look, and for how long it has done nothing */
    int stalled;
};

static struct {
    kin_segment *segment;
    struct storm *shared;
    kin_queue *queue;
    uint32_t form;
    struct watch watch[WORKERS];
    uint64_t looked, longest_ns, stalls, kills[2]; /* of producers, of consumers */
} the;

static void start(uint32_t place)
{
    struct watch *w = &the.watch[place];
    w->life++;
    w->process = bench_start(work, KIN_ARGS(the.segment, the.queue, the.form, place, w->life));
    w->count = atomic_load(&the.shared->workers[place].count);
    w->idle_ns = 0;
    w->stalled = 0;
}

/* Whether all go on. */
static void look(void)
{
    uint64_t now = bench_now(), gap = now - the.looked;
    the.looked = now;
    if (gap > LOOK_MS * 1000000ull)
        gap = LOOK_MS * 1000000ull;
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct watch *w = &the.watch[i];
        uint64_t count = atomic_load(&the.shared->workers[i].count);
        w->idle_ns = count == w->count ? w->idle_ns + gap : 0;
        if (w->idle_ns == 0)
            w->stalled = 0;
        w->count = count;
        if (w->idle_ns > the.longest_ns)
            the.longest_ns = w->idle_ns;
        if (w->idle_ns > STALL_MS * 1000000ull && !w->stalled) {
            w->stalled = 1;
            the.stalls++;
            fprintf(stderr, "bench: %s stands still: the queue holds %zu messages%s%s\n",
                    i < PRODUCERS ? "a producer" : "a consumer", kin_queue_size(the.queue),
                    kin_queue_empty(the.queue) ? ", none to be got" : "",
                    kin_queue_full(the.queue, sizeof(struct message)) ? ", no room for a large one" : "");
        }
    }
}

static uint64_t total(uint32_t first, uint32_t end)
{
    uint64_t n = 0;
    for (uint32_t i = first; i < end; i++)
        n += atomic_load(&the.shared->workers[i].count);
    return n;
}

#define NOBODY WORKERS

/* Waits for the end of the one that was killed last, and starts another in its place. */
static void replace(uint32_t *killed)
{
    if (*killed == NOBODY)
        return;
    struct watch *w = &the.watch[*killed];
    int code = 0;
    bench_kin(kin_process_join(w->process, 10000));
    bench_kin(kin_process_exit_code(w->process, &code));
    bench_check(code == -SIGKILL, "a worker ended by itself");
    kin_process_close(w->process);
    start(*killed);
    *killed = NOBODY;
}

/* Kills another one, and replaces the one before, which had that much time to end. */
static void kill_one(uint64_t *random, uint32_t *killed)
{
    uint32_t place;
    do {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        place = (uint32_t)(*random >> 33) % WORKERS;
    } while (place == *killed);
    bench_kin(kin_process_kill(the.watch[place].process));
    the.kills[place >= PRODUCERS]++;
    replace(killed);
    *killed = place;
}

/* Messages that fit into the queue when it is empty; empties it again. They have no bytes: how many larger ones fit depends on
 * where the end of the ring is. */
static uint64_t room(void)
{
    uint64_t n = 0;
    kin_err error;
    while ((error = kin_queue_put(the.queue, NULL, 0, KIN_NOWAIT)) == KIN_OK)
        n++;
    bench_check(error == KIN_EFULL, kin_last_error());
    for (uint64_t i = 0; i < n; i++)
        bench_kin(kin_queue_get(the.queue, NULL, 0, NULL, KIN_NOWAIT));
    bench_check(kin_queue_get(the.queue, NULL, 0, NULL, KIN_NOWAIT) == KIN_EEMPTY, "more came than was put");
    return n;
}

/* Ends all workers, and gets what is left. Gives how many that are, and adds those that are not whole. */
static uint64_t end_all(uint64_t *corrupt)
{
    atomic_store(&the.shared->stop, 1);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        bench_join(the.watch[i].process);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        bench_kin(put(the.queue, (enum form)the.form, END_PLACE, 1, i + 1));
    for (uint32_t i = PRODUCERS; i < WORKERS; i++)
        bench_join(the.watch[i].process);
    struct message m;
    uint64_t left = 0;
    for (int whole; get(the.queue, (enum form)the.form, &m, &whole, KIN_NOWAIT) == KIN_OK; left++)
        *corrupt += !whole;
    return left;
}

/* The killing, until there were as many; the seconds it took. */
static double storm(uint64_t kills)
{
    uint64_t random = bench_now(), began = bench_now();
    uint32_t killed = NOBODY;
    the.looked = began;
    for (uint64_t i = 1; i <= kills; i++) {
        kill_one(&random, &killed);
        look();
        for (uint64_t due = began + i * 1000000000ull / KILLS_PER_SECOND, now; (now = bench_now()) < due; look())
            bench_nap(due - now > 1000000 ? 1000 : (due - now) / 1000 + 1);
    }
    replace(&killed);
    return (double)(bench_now() - began) / 1e9;
}

static double calm(uint64_t seconds)
{
    uint64_t began = bench_now(), before = total(PRODUCERS, WORKERS);
    the.looked = began;
    while (bench_now() - began < seconds * 1000000000ull) {
        bench_nap(3000);
        look();
    }
    bench_check(total(PRODUCERS, WORKERS) > before, "no message came");
    return (double)(bench_now() - began) / (double)(total(PRODUCERS, WORKERS) - before);
}

/* Messages that are missing, or too many, beyond one for each kill. */
static uint64_t lost(uint64_t left)
{
    uint64_t put = total(0, PRODUCERS), got = total(PRODUCERS, WORKERS) + left;
    uint64_t least = put > the.kills[1] ? put - the.kills[1] : 0, most = put + the.kills[0];
    return got < least ? least - got : got > most ? got - most : 0;
}

static void print(const char *param, double value, const char *unit)
{
    static const char *const names[] = {"kin", "kin-relaxed", "kin-place"};
    bench_print("queue-storm", names[the.form], param, value, unit);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    alarm(STORM_SECONDS);
    bench_check(argc == 4, "usage: queue_storm plain|relaxed|place KILLS SECONDS");
    the.form = strcmp(argv[1], "relaxed") == 0 ? RELAXED : strcmp(argv[1], "place") == 0 ? PLACE : PLAIN;
    bench_check(the.form != PLAIN || strcmp(argv[1], "plain") == 0, "the form is plain, relaxed or place");
    uint64_t kills = bench_number(argv[2], 1, 1000000), seconds = bench_number(argv[3], 1, 30);

    the.segment = bench_segment(sizeof(struct storm));
    the.shared = kin_segment_data(the.segment);
    kin_queue_options options = {.capacity = STORM_CAPACITY, .relaxed = the.form == RELAXED};
    bench_kin(kin_queue_create(&the.queue, &options));
    uint64_t before = room(), corrupt = 0, disorder = 0;
    for (uint32_t i = 0; i < WORKERS; i++)
        start(i);
    double calm_ns = calm(seconds);
    uint64_t got = total(PRODUCERS, WORKERS);
    double took = storm(kills), storm_ns = took * 1e9 / (double)(total(PRODUCERS, WORKERS) - got);
    uint64_t left = end_all(&corrupt), missing = lost(left), after = room();
    for (uint32_t i = 0; i < WORKERS; i++) {
        corrupt += atomic_load(&the.shared->workers[i].corrupt);
        disorder += atomic_load(&the.shared->workers[i].disorder);
    }
    print("kills", (double)kills, "kills");
    print("per-second", (double)kills / took, "kills/s");
    print("calm", calm_ns, "ns");
    print("storm", storm_ns, "ns");
    print("stalls", (double)the.stalls, "stalls");
    print("longest", (double)the.longest_ns / 1e6, "ms");
    print("corrupt", (double)corrupt, "messages");
    print("disorder", (double)disorder, "messages");
    print("lost", (double)missing, "messages");
    print("capacity", before > after ? (double)(before - after) : 0, "messages");
    return 0;
}
