/* Sleeping and waking by futex. The word is in shared memory, so the futex is not a private one; the kernel's own
 * comparison makes a wake that comes just before the sleep count. */
#include "posix.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
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

/* ThreadSanitizer does not know what membarrier orders. */
#if defined(__SANITIZE_THREAD__)
#define ORDER_IS_SEEN 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ORDER_IS_SEEN 0
#endif
#endif
#if !defined(ORDER_IS_SEEN)
#define ORDER_IS_SEEN 1
#endif

kin_err os_order_begin(void)
{
    if (!ORDER_IS_SEEN || TRY("membarrier", -1, ENOSYS, (int)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0)) != 0)
        return kin__fail(KIN_ENOTSUP, "the kernel orders no memory between processes (membarrier)");
    return KIN_OK;
}

/* Nobody may go on as if there had been an order where there was none. Who has registered may lack memory for a moment (ENOMEM); or it
 * is refused by a filter of system calls that came later. Then time must do: no processor keeps a store to itself for a millisecond. */
void os_order_all(void)
{
    while (TRY("membarrier", -1, ENOMEM, (int)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) != 0) {
        bool refused = errno != ENOMEM;
        struct timespec left = {.tv_nsec = 1000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
        if (refused)
            return;
    }
}
