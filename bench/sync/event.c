/* event: setting a kin_event that nobody waits for.
 *
 *     event set|again|set-clear|marked TIMES
 *
 * set: a cleared one, of a few hundred, which are cleared again while the clock stands still. again: one that is set.
 * set-clear: both calls. marked: sets and clears between two calls of getppid, for somebody who counts system calls. */
#include "../bench.h"

#include <kin.h>
#include <unistd.h>

enum { EVENTS = 256 };

static int set(void *o) { return kin_event_set(o); }
static int clear(void *o) { return kin_event_clear(o); }

/* Nanoseconds for one set of an event that is cleared. */
static double set_cleared(uint64_t n)
{
    kin_segment *segment;
    bench_check(kin_segment_create(&segment, EVENTS * sizeof(kin_event)) == KIN_OK, kin_last_error());
    kin_event *events = kin_segment_data(segment);
    for (int i = 0; i < EVENTS; i++)
        bench_check(kin_event_init(&events[i], NULL) == KIN_OK, kin_last_error());

    uint64_t total = 0, batches = n / EVENTS + 1;
    unsigned bad = 0;
    for (uint64_t batch = 0; batch < batches; batch++) {
        for (int i = 0; i < EVENTS; i++)
            bad |= (unsigned)clear(&events[i]);
        uint64_t began = bench_now();
        for (int i = 0; i < EVENTS; i++)
            bad |= (unsigned)set(&events[i]);
        total += bench_now() - began;
    }
    for (int i = 0; i < EVENTS; i++)
        bad |= !kin_event_is_set(&events[i]);
    bench_check(bad == 0, "an operation on an event");
    kin_segment_close(segment);
    return (double)total / (double)(batches * EVENTS);
}

int main(int argc, char **argv)
{
    bench_check(kin_init(argc, argv) == KIN_OK, kin_last_error());
    bench_check(argc == 3, "usage: event set|again|set-clear|marked TIMES");
    const char *kind = argv[1];
    uint64_t n = bench_number(argv[2], 1, 1000000000);
    kin_event *event;
    bench_check(kin_event_create(&event, NULL) == KIN_OK, kin_last_error());

    if (strcmp(kind, "marked") == 0) {
        bench_pairs(event, set, clear, 1); /* what the first use of anything costs */
        bench_sink = (uint64_t)getppid();
        bench_pairs(event, set, clear, n);
        bench_sink = (uint64_t)getppid();
    } else if (strcmp(kind, "set") == 0) {
        bench_print("event", "kin", kind, set_cleared(n), "ns");
    } else if (strcmp(kind, "again") == 0) {
        bench_check(kin_event_set(event) == KIN_OK, kin_last_error());
        bench_print("event", "kin", kind, bench_pair_ns(event, set, set, n) / 2, "ns");
    } else {
        bench_check(strcmp(kind, "set-clear") == 0, "there is no such measurement");
        bench_print("event", "kin", kind, bench_pair_ns(event, set, clear, n), "ns");
    }
    kin_event_close(event);
    return 0;
}
