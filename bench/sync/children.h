/* Children of kin for the programs of the group sync: daemons, so that none is left if the program fails or is killed. */
#ifndef BENCH_CHILDREN_H
#define BENCH_CHILDREN_H

#include "sync.h"

#include <kin.h>

/* Ends the program when a call of kin fails. */
static inline void bench_kin(kin_err error)
{
    bench_check(error == KIN_OK, kin_last_error());
}

/* kin_init with all that a program of this group begins with. */
static inline void bench_begin(int argc, char **argv)
{
    bench_kin(kin_init(argc, argv));
    alarm(BENCH_SYNC_SECONDS);
}

static inline kin_process *bench_start(kin_target target, kin_pack args)
{
    kin_process *child;
    kin_process_options options = {.daemon = true};
    bench_kin(kin_process_start(&child, target, args, &options));
    return child;
}

/* Waits for its end, which must be a good one. */
static inline void bench_join(kin_process *child)
{
    int code = -1;
    bench_kin(kin_process_join(child, BENCH_SYNC_SECONDS * 1000));
    bench_kin(kin_process_exit_code(child, &code));
    bench_check(code == 0, "a child failed");
    kin_process_close(child);
}

/* Segments are zeroed and aligned to 64 bytes. */
static inline kin_segment *bench_segment(size_t size)
{
    kin_segment *segment;
    bench_kin(kin_segment_create(&segment, size));
    return segment;
}

#endif
