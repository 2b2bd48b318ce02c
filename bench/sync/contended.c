/* contended: processes that take and release one kin_lock without a pause.
 *
 *     contended PROCESSES MILLISECONDS
 */
#include "children.h"

static int take(void *o) { return kin_lock_acquire(o, KIN_FOREVER); }
static int give(void *o) { return kin_lock_release(o); }

static int work(kin_args *args)
{
    kin_segment *segment;
    unsigned me;
    bench_kin(kin_unpack(args, &segment, &me));
    contended_work(kin_segment_data(segment), me, take, give);
    return 0;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bench_check(argc == 3, "usage: contended PROCESSES MILLISECONDS");
    unsigned processes = (unsigned)bench_number(argv[1], 1, CONTENDED_MAX);
    uint64_t ms = bench_number(argv[2], 1, 30000);

    kin_segment *segment = bench_segment(sizeof(struct contended));
    struct contended *c = kin_segment_data(segment);
    bench_kin(kin_lock_init((kin_lock *)c->lock, NULL));
    kin_process *children[CONTENDED_MAX];
    for (unsigned i = 0; i < processes; i++)
        children[i] = bench_start(work, KIN_ARGS(segment, i));
    uint64_t took = contended_run(c, processes, ms);
    for (unsigned i = 0; i < processes; i++)
        bench_join(children[i]);
    contended_print(c, "kin", processes, took);
    return 0;
}
