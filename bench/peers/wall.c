/* Times a whole program, by the wall clock, with its output thrown away.
 *
 *     wall GROUP SUBJECT PARAMETER PROGRAM [ARGUMENT...]
 */
#include "../bench.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    bench_check(argc >= 5, "usage: wall GROUP SUBJECT PARAMETER PROGRAM [ARGUMENT...]");
    posix_spawn_file_actions_t actions;
    bench_check(posix_spawn_file_actions_init(&actions) == 0 &&
                    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) == 0,
                "posix_spawn_file_actions");
    pid_t pid;
    int status = -1;
    uint64_t began = bench_now();
    bench_check(posix_spawn(&pid, argv[4], &actions, NULL, argv + 4, environ) == 0, argv[4]);
    bench_check(waitpid(pid, &status, 0) == pid && status == 0, "the program failed");
    bench_print(argv[1], argv[2], argv[3], (double)(bench_now() - began) / 1e9, "s");
    return 0;
}
