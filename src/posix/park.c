/* Sleeping and waking by futex. The word is in shared memory, so the futex is not a private one; the kernel's own
 * comparison makes a wake that comes just before the sleep count. */
#include "posix.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void os_park_init(const uint8_t session_id[16])
{
    (void)session_id; /* no names are needed here */
}

void os_park_sleep(uint32_t *word, uint32_t value, uint32_t slot, uint32_t generation, int64_t timeout_ns)
{
    (void)slot;
    (void)generation;
    struct timespec left = {.tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000)};
    /* A relative time-out of FUTEX_WAIT runs on the monotonic clock. Every error means: look again. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? NULL : &left, NULL, 0);
}

void os_park_wake(uint32_t *word, uint32_t slot, uint32_t generation)
{
    (void)slot;
    (void)generation;
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void os_park_leave(uint32_t slot, uint32_t generation)
{
    (void)slot;
    (void)generation;
}
