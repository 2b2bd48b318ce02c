/* Processes that produce, processes that consume, and between them a buffer with room for a few.
 *
 * What to learn: a condition is how a process waits, asleep, until something that a lock protects has changed. The rule
 * is always the same: with the lock held, look; while it is not as needed, wait, and look again. Who changes something
 * that others may wait for notifies them.
 */
#include "must.h"

enum { PRODUCERS = 3, CONSUMERS = 2, EACH = 100, ROOM = 4 };

struct buffer {
    kin_lock lock;             /* protects all the rest */
    kin_condition has_room;    /* something was taken */
    kin_condition has_numbers; /* something was put, or nothing will be any more */
    int64_t numbers[ROOM];
    int64_t put, taken; /* how many so far */
    int64_t most;       /* the most that were there at a time */
    int64_t sum;        /* of what was taken */
    int64_t producing;  /* how many producers have not finished */
};

static int produce(kin_args *args)
{
    kin_segment *segment;
    int number;
    if (kin_unpack(args, &segment, &number) != KIN_OK)
        return 1;

    struct buffer *b = kin_segment_data(segment);
    for (int i = 0; i < EACH; i++) {
        if (kin_lock_acquire(&b->lock, KIN_FOREVER) != KIN_OK)
            return 1;
        while (b->put - b->taken == ROOM) {
            if (kin_condition_wait(&b->has_room, &b->lock, KIN_FOREVER) != KIN_OK)
                return 1;
        }
        b->numbers[b->put++ % ROOM] = number * EACH + i;
        if (b->most < b->put - b->taken)
            b->most = b->put - b->taken;
        kin_condition_notify(&b->has_numbers, &b->lock, 1);
        kin_lock_release(&b->lock);
    }
    if (kin_lock_acquire(&b->lock, KIN_FOREVER) != KIN_OK)
        return 1;
    b->producing--;
    kin_condition_notify_all(&b->has_numbers, &b->lock); /* those who wait for more may have waited for nothing */
    kin_lock_release(&b->lock);
    kin_segment_close(segment);
    return 0;
}

static int consume(kin_args *args)
{
    kin_segment *segment;
    if (kin_unpack(args, &segment) != KIN_OK)
        return 1;

    struct buffer *b = kin_segment_data(segment);
    for (;;) {
        if (kin_lock_acquire(&b->lock, KIN_FOREVER) != KIN_OK)
            return 1;
        while (b->put == b->taken && b->producing > 0) {
            if (kin_condition_wait(&b->has_numbers, &b->lock, KIN_FOREVER) != KIN_OK)
                return 1;
        }
        if (b->put == b->taken) { /* and nobody produces any more */
            kin_lock_release(&b->lock);
            break;
        }
        b->sum += b->numbers[b->taken++ % ROOM];
        kin_condition_notify(&b->has_room, &b->lock, 1);
        kin_lock_release(&b->lock);
    }
    kin_segment_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_segment *segment;
    must(kin_segment_create(&segment, sizeof(struct buffer)), "create a segment");
    struct buffer *b = kin_segment_data(segment);
    must(kin_lock_init(&b->lock, NULL), "make a lock");
    must(kin_condition_init(&b->has_room, NULL), "make a condition");
    must(kin_condition_init(&b->has_numbers, NULL), "make a condition");
    b->producing = PRODUCERS;

    kin_process *all[PRODUCERS + CONSUMERS];
    for (int i = 0; i < PRODUCERS; i++)
        must(kin_process_start(&all[i], produce, KIN_ARGS(segment, i), NULL), "start a producer");
    for (int i = 0; i < CONSUMERS; i++)
        must(kin_process_start(&all[PRODUCERS + i], consume, KIN_ARGS(segment), NULL), "start a consumer");
    for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
        must(kin_process_join(all[i], KIN_FOREVER), "join a child");
        kin_process_close(all[i]);
    }

    printf("%lld numbers were put, %lld were taken, %s than %d were there at a time\n", (long long)b->put, (long long)b->taken,
           b->most <= ROOM ? "never more" : "more", ROOM);
    printf("their sum is %lld\n", (long long)b->sum);
    kin_segment_close(segment);
}
