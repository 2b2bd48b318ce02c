/* start, peers: fork+_exit+waitpid, and posix_spawn+waitpid of a program that does nothing, linked statically: the
 * cheapest there is.
 *
 *     start fork MEGABYTES ITERATIONS
 *     start posix_spawn MEGABYTES ITERATIONS PROGRAM
 */
#include "../bench.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program; /* NULL: fork */

static void start_and_join(void)
{
    pid_t pid;
    int status = -1;
    if (program == NULL) {
        pid = fork();
        if (pid == 0)
            _exit(0);
        bench_check(pid > 0, "fork");
    } else {
        char *arguments[] = {(char *)program, NULL};
        bench_check(posix_spawn(&pid, program, NULL, NULL, arguments, environ) == 0, "posix_spawn");
    }
    bench_check(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
}

int main(int argc, char **argv)
{
    bench_check(argc >= 4, "usage: start fork|posix_spawn MEGABYTES ITERATIONS [PROGRAM]");
    if (strcmp(argv[1], "posix_spawn") == 0) {
        bench_check(argc == 5, "posix_spawn needs a program");
        program = argv[4];
    }
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

    char param[32];
    snprintf(param, sizeof param, "%sMB", argv[2]);
    bench_print("start", program == NULL ? "fork" : "posix_spawn", param, us, "us");
    return 0;
}
