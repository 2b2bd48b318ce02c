/* roundtrip: two processes that wake each other in turn, through two objects of kin.
 *
 *     roundtrip semaphore|condition|event 1cpu|2cpu free|parked TIMES
 *
 * free: as kin is, spinning a little before it sleeps. parked: it does not (KIN_SPIN=0), and the other side is asleep. */
#include "children.h"

/* One direction. A condition needs a flag, and a lock for it. */
struct way {
    kin_semaphore semaphore;
    kin_event event;
    kin_condition condition;
    kin_lock lock;
    int flag;
};

struct both {
    struct roundtrip moments;
    _Alignas(64) struct way there;
    _Alignas(64) struct way back;
};

static int give_semaphore(void *o) { return kin_semaphore_release(&((struct way *)o)->semaphore); }
static int take_semaphore(void *o) { return kin_semaphore_acquire(&((struct way *)o)->semaphore, KIN_FOREVER); }

static int give_event(void *o) { return kin_event_set(&((struct way *)o)->event); }

static int take_event(void *o)
{
    struct way *w = o;
    return kin_event_wait(&w->event, KIN_FOREVER) | kin_event_clear(&w->event);
}

static int give_condition(void *o)
{
    struct way *w = o;
    kin_err e = kin_lock_acquire(&w->lock, KIN_FOREVER);
    w->flag = 1;
    e |= kin_condition_notify(&w->condition, &w->lock, 1);
    return e | kin_lock_release(&w->lock);
}

static int take_condition(void *o)
{
    struct way *w = o;
    kin_err e = kin_lock_acquire(&w->lock, KIN_FOREVER);
    while (w->flag == 0 && e == KIN_OK)
        e |= kin_condition_wait(&w->condition, &w->lock, KIN_FOREVER);
    w->flag = 0;
    return e | kin_lock_release(&w->lock);
}

static void make(struct way *w)
{
    bench_kin(kin_semaphore_init(&w->semaphore, 0, NULL));
    bench_kin(kin_event_init(&w->event, NULL));
    bench_kin(kin_condition_init(&w->condition, NULL));
    bench_kin(kin_lock_init(&w->lock, NULL));
}

static int answer(kin_args *args)
{
    kin_segment *segment;
    const char *kind, *place, *how;
    int64_t asker;
    uint64_t n;
    bench_kin(kin_unpack(args, &segment, &kind, &place, &how, &n, &asker));
    struct both *b = kin_segment_data(segment);
    bench_place(place, 1);
    int other = roundtrip_other(how, asker);
    if (strcmp(kind, "semaphore") == 0)
        roundtrip_answer(&b->moments, &b->there, &b->back, give_semaphore, take_semaphore, n, other);
    else if (strcmp(kind, "condition") == 0)
        roundtrip_answer(&b->moments, &b->there, &b->back, give_condition, take_condition, n, other);
    else
        roundtrip_answer(&b->moments, &b->there, &b->back, give_event, take_event, n, other);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[3], "parked") == 0)
        setenv("KIN_SPIN", "0", 1); /* kin_init reads it */
    bench_begin(argc, argv);
    bench_check(argc == 5, "usage: roundtrip semaphore|condition|event 1cpu|2cpu free|parked TIMES");
    char *kind = argv[1], *place = argv[2], *how = argv[3], subject[32];
    uint64_t n = bench_number(argv[4], 10, 10000000);
    snprintf(subject, sizeof subject, "kin-%s", kind);

    kin_segment *segment = bench_segment(sizeof(struct both));
    struct both *b = kin_segment_data(segment);
    make(&b->there);
    make(&b->back);
    kin_process *child = bench_start(answer, KIN_ARGS(segment, kind, place, how, n, (int64_t)getpid()));
    bench_place(place, 0);
    int other = roundtrip_other(how, kin_process_pid(child));
    if (strcmp(kind, "semaphore") == 0)
        roundtrip_measure(&b->moments, &b->there, &b->back, give_semaphore, take_semaphore, n, other, subject, place);
    else if (strcmp(kind, "condition") == 0)
        roundtrip_measure(&b->moments, &b->there, &b->back, give_condition, take_condition, n, other, subject, place);
    else if (strcmp(kind, "event") == 0)
        roundtrip_measure(&b->moments, &b->there, &b->back, give_event, take_event, n, other, subject, place);
    else
        bench_check(0, "a round trip is through a semaphore, condition or event");
    bench_join(child);
    return 0;
}
