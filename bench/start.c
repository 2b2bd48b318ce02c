/* start: how long it takes to start a child of kin and join it, from a parent of a given size.
 *
 *     start fork|spawn MEGABYTES ITERATIONS
 *
 * The ballast is made after kin_init, where a program makes its data. The child's target returns at once, so what is
 * timed is the start, the exit and the join. */
#include "bench.h"

#include <kin.h>

static int nothing(kin_args *args)
{
    (void)args;
    return 0;
}

static void start_and_join(void)
{
    kin_process *child;
    int code = -1;
    bench_check(kin_process_start(&child, nothing, KIN_ARGS(), NULL) == KIN_OK, kin_last_error());
    bench_check(kin_process_join(child, KIN_FOREVER) == KIN_OK, kin_last_error());
    bench_check(kin_process_exit_code(child, &code) == KIN_OK && code == 0, "the child's exit code");
    kin_process_close(child);
}

int main(int argc, char **argv)
{
    kin_options options = {KIN_START_DEFAULT};
    if (argc > 1 && strcmp(argv[1], "fork") == 0)
        options.start_method = KIN_START_FORK;
    else if (argc > 1 && strcmp(argv[1], "spawn") == 0)
        options.start_method = KIN_START_SPAWN;
    bench_check(kin_init_with(argc, argv, &options) == KIN_OK, kin_last_error());
    bench_check(argc == 4 && options.start_method != KIN_START_DEFAULT,
                "usage: start fork|spawn MEGABYTES ITERATIONS");

    uint64_t megabytes = bench_number(argv[2], 0, 1 << 16), wanted = bench_number(argv[3], 1, 1000000);
    bench_ballast(megabytes);
    for (int i = 0; i < BENCH_START_WARMUP; i++)
        start_and_join();

    uint64_t done = 0, began = bench_now();
    while (!bench_start_enough(done, wanted, began)) {
        start_and_join();
        done++;
    }
    double us = (double)(bench_now() - began) / 1e3 / (double)done;

    char subject[32], param[32];
    snprintf(subject, sizeof subject, "kin-%s", kin_start_method_name());
    snprintf(param, sizeof param, "%sMB", argv[2]);
    bench_print("start", subject, param, us, "us");
    return 0;
}
