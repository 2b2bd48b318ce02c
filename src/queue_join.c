/* Joining a queue: how many messages each process got and has not dealt with is a table behind the queue (ring.h: `got`), each word
 * of which names the process, so that what a dead one had is not waited for. */
#include "queue.h"

#include "error.h"
#include "fault.h"

static kin_err check_joinable(const kin_queue *q, int64_t timeout_ms)
{
    kin_err err = kin__check_queue(q, timeout_ms);
    return err == KIN_OK && q->got == NULL ? kin__fail(KIN_ESTATE, "queue '%s' was not made joinable", q->shown) : err;
}

kin_err kin_queue_task_done(kin_queue *q)
{
    kin_err err = check_joinable(q, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    uint64_t *at = &q->got[kin__my.place], word = kin__load64(at);
    do {
        if (word >> 40 != kin__pid_generation(kin__my.id) || (word & 0xffffffffffu) == 0)
            return kin__fail(KIN_EPERM, "queue '%s': task_done, but this process has dealt with all that it got",
                             q->shown);
    } while (!kin__cas64(at, &word, word - 1));
    KIN_CRASH_POINT("queue.task.done");
    if ((word & 0xffffffffffu) == 1)
        kin__wake_by_bit(&q->flows[0].ring->waits, KIN__WAITS_JOIN, q->shared->gate.id_join, KIN__EVERYONE);
    return KIN_OK;
}

static bool got_and_not_done(const kin_queue *q)
{
    uint32_t used = kin__load32(&kin__my.session->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&q->got[i]);
        if ((word & 0xffffffffffu) != 0 && kin__process_alive(kin__pid_of(i, (uint32_t)(word >> 40))))
            return true;
    }
    return false;
}

/* At one moment. Who got a message may put others before it says that it is done: so when nobody has any that it got, nothing may
 * have been put since the lanes were seen empty. */
static bool all_dealt_with(const kin_queue *q)
{
    uint64_t tails[KIN__LANES];
    for (uint32_t i = 0; i < q->lanes; i++) {
        tails[i] = kin__load64(&q->flows[i].ring->tail);
        if (kin__load64(&q->flows[i].ring->head) != tails[i])
            return false;
    }
    if (got_and_not_done(q))
        return false;
    for (uint32_t i = 0; i < q->lanes; i++) {
        if (kin__load64(&q->flows[i].ring->tail) != tails[i])
            return false;
    }
    return true;
}

static bool not_dealt_with(void *object)
{
    kin_queue *q = object;
    for (uint32_t i = 0; i < q->lanes; i++)
        kin__waits_arm(&q->flows[i].ring->waits, KIN__WAITS_JOIN);
    for (uint32_t i = 0; i < q->lanes; i++) {
        if (kin__flow_unswept(&q->flows[i]))
            return false;
    }
    return !all_dealt_with(q);
}

kin_err kin_queue_join(kin_queue *q, int64_t timeout_ms)
{
    kin_err err = check_joinable(q, timeout_ms);
    if (err != KIN_OK)
        return err;
    if (kin__thread_me() == 0)
        return kin_last_code();
    uint64_t deadline = kin__deadline(timeout_ms), id = q->shared->gate.id_join;
    for (err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;;) {
        for (uint32_t i = 0; i < q->lanes && !all_dealt_with(q); i++) /* nobody else may come by */
            kin__flow_sweep(&q->flows[i]);
        if (err != KIN_OK || all_dealt_with(q))
            break;
        err = kin__park_on(&(kin__wait){.key = id,
                                        .must_sleep = not_dealt_with,
                                        .object = q,
                                        .deadline = deadline,
                                        .kind = KIN_TYPE_QUEUE,
                                        .name = q->shown,
                                        .interruptible = true});
    }
    if (err != KIN_OK && all_dealt_with(q))
        return KIN_OK;
    return err != KIN_ETIMEDOUT ? err
                                : kin__fail(err, "queue '%s': not all that was put is dealt with within %lld ms",
                                            q->shown, (long long)timeout_ms);
}

uint64_t kin_queue_abandoned(kin_queue *q)
{
    if (kin__check_queue(q, KIN_FOREVER) != KIN_OK || q->got == NULL)
        return 0;
    uint64_t sum = kin__load64(&q->shared->abandoned);
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&q->got[i]), count = word & 0xffffffffffu;
        if (count != 0 && !kin__process_alive(kin__pid_of(i, (uint32_t)(word >> 40))))
            sum += count;
    }
    return sum;
}
