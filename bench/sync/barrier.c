/* barrier: rounds of a kin_barrier.
 *
 *     barrier PROCESSES ROUNDS
 */
#include "children.h"

static int come(void *o) { return kin_barrier_wait(o, KIN_FOREVER, NULL); }

static int work(kin_args *args)
{
    kin_segment *segment;
    unsigned me, parties;
    uint64_t n;
    bench_kin(kin_unpack(args, &segment, &me, &parties, &n));
    struct rounds *r = kin_segment_data(segment);
    barrier_rounds(r, me, parties, come, n);
    return 0;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bench_check(argc == 3, "usage: barrier PROCESSES ROUNDS");
    unsigned parties = (unsigned)bench_number(argv[1], 1, BARRIER_MAX);
    uint64_t n = bench_number(argv[2], 10, 10000000);

    kin_segment *segment = bench_segment(sizeof(struct rounds));
    struct rounds *r = kin_segment_data(segment);
    _Static_assert(sizeof r->barrier >= sizeof(kin_barrier), "a barrier fits");
    bench_kin(kin_barrier_init((kin_barrier *)r->barrier, parties, NULL));
    kin_process *children[BARRIER_MAX];
    for (unsigned i = 1; i < parties; i++)
        children[i] = bench_start(work, KIN_ARGS(segment, i, parties, n));
    barrier_measure(r, parties, come, n, "kin");
    for (unsigned i = 1; i < parties; i++)
        bench_join(children[i]);
    return 0;
}
