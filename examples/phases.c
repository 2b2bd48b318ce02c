/* Heat spreads along a rod. Each of four processes computes a part of it, phase after phase.
 *
 * What to learn: a barrier lets processes wait for each other. What one computes depends on what its neighbours had at the end of the
 * phase before, so nobody may begin a phase before all have finished the last. Its action is run once in each round, by
 * whoever comes last, while all others wait: the place for what must be done by one.
 */
#include "must.h"

enum { WORKERS = 4, CELLS = 16, PHASES = 6, PART = CELLS / WORKERS };

struct rod {
    kin_barrier barrier;
    int phase;
    int heat[2][CELLS + 2]; /* by turns the old and the new; the ends stay cold */
};

/* What all processes do at the end of a phase, done by one of them. */
static kin_err end_phase(void *arg)
{
    struct rod *rod = arg;
    rod->phase++;
    printf("phase %d:", rod->phase);
    for (int i = 1; i <= CELLS; i++)
        printf(" %3d", rod->heat[rod->phase % 2][i]);
    printf("\n");
    fflush(stdout); /* the next line may be another process's */
    return KIN_OK;
}

static int work(kin_args *args)
{
    kin_segment *segment;
    int number;
    if (kin_unpack(args, &segment, &number) != KIN_OK)
        return 1;

    struct rod *rod = kin_segment_data(segment);
    for (int phase = 0; phase < PHASES; phase++) {
        const int *before = rod->heat[phase % 2];
        int *after = rod->heat[(phase + 1) % 2];
        for (int i = 1 + number * PART; i <= (number + 1) * PART; i++)
            after[i] = (before[i - 1] + 2 * before[i] + before[i + 1]) / 4;
        if (kin_barrier_wait_action(&rod->barrier, end_phase, rod, KIN_FOREVER, NULL) != KIN_OK)
            return 1;
    }
    kin_segment_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_segment *segment;
    must(kin_segment_create(&segment, sizeof(struct rod)), "create a segment");
    struct rod *rod = kin_segment_data(segment);
    must(kin_barrier_init(&rod->barrier, WORKERS, NULL), "make a barrier");
    rod->heat[0][CELLS / 2] = 960;

    kin_process *workers[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        must(kin_process_start(&workers[i], work, KIN_ARGS(segment, i), NULL), "start a worker");
    for (int i = 0; i < WORKERS; i++) {
        int code;
        must(kin_process_join(workers[i], KIN_FOREVER), "join a worker");
        must(kin_process_exit_code(workers[i], &code), "its exit code");
        if (code != 0)
            printf("worker %d failed with %d\n", i, code);
        kin_process_close(workers[i]);
    }
    printf("%d phases\n", rod->phase);
    kin_segment_close(segment);
}
