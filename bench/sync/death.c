/* death: how long it takes from the kill of a kin_lock's owner until a process that was waiting, asleep, holds the lock.
 *
 *     death TIMES
 *
 * In turn with it, in the same program and with the same children: until poll() of a pidfd returns. That is what the system
 * itself needs to end a process and to tell; no lock can be faster. */
#include "children.h"

#include <poll.h>
#include <sys/syscall.h>

/* Takes the lock and waits to be killed. */
static int own(kin_args *args)
{
    kin_segment *segment;
    uint32_t round;
    bench_kin(kin_unpack(args, &segment, &round));
    struct death *d = kin_segment_data(segment);
    bench_kin(kin_lock_acquire((kin_lock *)d->lock, KIN_FOREVER));
    atomic_store(&d->held, round);
    bench_nap(BENCH_SYNC_SECONDS * 1000000ull);
    return 1;
}

static int kill_owners(kin_args *args)
{
    kin_segment *segment;
    uint32_t n;
    bench_kin(kin_unpack(args, &segment, &n));
    death_kill(kin_segment_data(segment), n);
    return 0;
}

/* Waits for the end of `pid`, asleep. */
static uint64_t by_pidfd(struct death *d, int64_t pid, uint32_t round)
{
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    bench_check(fd >= 0, "pidfd_open");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    atomic_store(&d->wanted, round);
    bench_check(poll(&p, 1, BENCH_SYNC_SECONDS * 1000) == 1, "poll of a pidfd");
    uint64_t now = bench_now();
    close(fd);
    return now - atomic_load(&d->killed);
}

/* Waits for the lock, asleep, and has it. */
static uint64_t by_lock(struct death *d, uint32_t round)
{
    atomic_store(&d->wanted, round);
    kin_err error = kin_lock_acquire((kin_lock *)d->lock, KIN_FOREVER);
    uint64_t now = bench_now();
    bench_check(error == KIN_EOWNERDEAD, "the owner of the lock was killed, and that was not told");
    return now - atomic_load(&d->killed);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bench_check(argc == 2, "usage: death TIMES");
    uint32_t n = (uint32_t)bench_number(argv[1], 1, DEATH_MAX);
    static uint64_t lock_took[DEATH_MAX], pidfd_took[DEATH_MAX];

    kin_segment *segment = bench_segment(sizeof(struct death));
    struct death *d = kin_segment_data(segment);
    kin_lock *lock = (kin_lock *)d->lock;
    bench_kin(kin_lock_init(lock, NULL));
    kin_process *killer = bench_start(kill_owners, KIN_ARGS(segment, 2 * n));
    for (uint32_t round = 1; round <= 2 * n; round++) {
        kin_process *owner = bench_start(own, KIN_ARGS(segment, round));
        atomic_store(&d->owner, kin_process_pid(owner));
        bench_await(&d->held, round);
        if (round % 2 == 0) {
            lock_took[round / 2 - 1] = by_lock(d, round);
        } else {
            pidfd_took[round / 2] = by_pidfd(d, kin_process_pid(owner), round);
            bench_check(kin_lock_acquire(lock, KIN_FOREVER) == KIN_EOWNERDEAD, "a dead owner was not told");
        }
        bench_kin(kin_lock_release(lock));
        bench_kin(kin_process_join(owner, BENCH_SYNC_SECONDS * 1000));
        kin_process_close(owner);
    }
    bench_join(killer);
    death_print("kin", lock_took, n);
    death_print("pidfd", pidfd_took, n);
    return 0;
}
