/* idle: how often a process wakes up that waits for a kin_lock and does not get it.
 *
 *     idle SECONDS
 *
 * Counted are all its threads, from a second after it went to sleep. */
#include "children.h"

#include <dirent.h>

struct idle {
    kin_lock lock;
    _Atomic uint32_t waiting;
};

static int wait_for_it(kin_args *args)
{
    kin_segment *segment;
    bench_kin(kin_unpack(args, &segment));
    struct idle *s = kin_segment_data(segment);
    atomic_store(&s->waiting, 1);
    bench_kin(kin_lock_acquire(&s->lock, KIN_FOREVER));
    bench_kin(kin_lock_release(&s->lock));
    return 0;
}

/* Voluntary context switches of a process so far: each is a sleep, and follows a wake-up. */
static uint64_t switches(int64_t pid)
{
    char path[300], line[256];
    uint64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%lld/task", (long long)pid);
    DIR *tasks = opendir(path);
    bench_check(tasks != NULL, path);
    for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%lld/task/%.20s/status", (long long)pid, e->d_name);
        FILE *f = fopen(path, "r");
        bench_check(f != NULL, path);
        int found = 0;
        for (unsigned long long n; fgets(line, sizeof line, f) != NULL;) {
            if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
                sum += n, found = 1;
        }
        fclose(f);
        bench_check(found, "no context switches in /proc");
    }
    closedir(tasks);
    return sum;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bench_check(argc == 2, "usage: idle SECONDS");
    uint64_t seconds = bench_number(argv[1], 1, 30);

    kin_segment *segment = bench_segment(sizeof(struct idle));
    struct idle *s = kin_segment_data(segment);
    bench_kin(kin_lock_init(&s->lock, NULL));
    bench_kin(kin_lock_acquire(&s->lock, KIN_FOREVER));
    kin_process *child = bench_start(wait_for_it, KIN_ARGS(segment));
    int64_t pid = kin_process_pid(child);
    bench_await(&s->waiting, 1);
    bench_nap(1000000);
    uint64_t before = switches(pid);
    bench_nap(seconds * 1000000);
    uint64_t woken = switches(pid) - before;
    bench_check(kin_process_alive(child), "the waiting process has ended");
    bench_kin(kin_lock_release(&s->lock));
    bench_join(child);
    bench_print("idle", "kin", "wake-ups", (double)woken, "wake-ups");
    return 0;
}
