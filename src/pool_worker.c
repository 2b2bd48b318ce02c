/* The life of a pool's worker: sleep until there is a job, claim units of it and run their items, and when none is
 * left say so and sleep again.
 *
 * Units are claimed in order, by a cursor that is only a hint, in runs whose length follows the time an item takes:
 * so trivial tasks cost a few nanoseconds each, and long ones are shared out one by one. Each unit of a run is
 * claimed only when its turn comes, so whoever runs out of work takes what another has not begun. It must never hold
 * anything whose loss with it others would notice. */
#include "pool.h"

#include "kin/segment.h"

#include "error.h"
#include "fault.h"
#include "park.h"

#include <stdarg.h>
#include <string.h>

#define RUN_NS 100000u /* what a run of units is to take: long beside a claim, short beside a wake-up's worth of imbalance */
#define RUN_MOST 4096u

struct kin_task {
    size_t index;
    int worker, attempt;
    char message[KIN__MESSAGE_SIZE];
};

typedef struct worker {
    kin__pool_shared *shared;
    kin__worker *mine;
    uint32_t index, number;
    os_handle channel;
    kin__header *arena, *array;
    uint64_t seen; /* the last kick it has dealt with */
    void (*function)(void);
    kin__job *job;
    uint64_t run;
} worker;

size_t kin_task_index(const kin_task *task)
{
    return task != NULL ? task->index : 0;
}

int kin_task_worker(const kin_task *task)
{
    return task != NULL ? task->worker : 0;
}

int kin_task_attempt(const kin_task *task)
{
    return task != NULL ? task->attempt : 0;
}

int kin_task_fail(kin_task *task, int code, const char *format, ...)
{
    if (task != NULL && format != NULL) {
        va_list values;
        va_start(values, format);
        (void)vsnprintf(task->message, sizeof task->message, format, values);
        va_end(values);
    }
    return code != 0 ? code : 1;
}

void kin__job_failed(kin__job *job, uint64_t index, int code, bool died, const char *message)
{
    ((int32_t *)kin__job_at(job, job->status))[index] = code;
    uint64_t place = kin__add64(&job->records_used, 1);
    if (place >= job->records_space)
        return; /* its code is known, only its words are not */
    kin__task_record *r = (kin__task_record *)kin__job_at(job, job->records) + place;
    r->index = index;
    r->code = code;
    r->died = died;
    (void)snprintf(r->message, sizeof r->message, "%s", message);
    kin__store32(&r->ready, 1);
}

static int run_item(worker *w, uint64_t index, uint64_t attempt, kin_task *task)
{
    kin__job *job = w->job;
    task->index = (size_t)index;
    task->attempt = (int)attempt;
    task->message[0] = 0;
    char *out = (job->array != 0 ? (char *)kin__header_data(w->array) : (char *)kin__job_at(job, job->out)) + index * job->out_size;
    if (job->array != 0)
        return ((kin_array_fn)w->function)(task, out);
    const char *in = (const char *)kin__job_at(job, job->in) + index * job->in_size;
    return ((kin_map_fn)w->function)(task, job->in_size != 0 ? in : NULL, job->out_size != 0 ? out : NULL);
}

/* Runs what is left of a unit this worker has claimed. */
static void run_unit(worker *w, uint64_t unit, uint64_t word)
{
    kin__job *job = w->job;
    uint64_t *at = (uint64_t *)kin__job_at(job, job->words) + unit;
    uint64_t items = kin__unit_items(job, unit), position = kin__unit_position(word), attempt = kin__unit_attempt(word);
    kin_task task = {.worker = (int)w->index};
    while (position < items) {
        if (kin__load64_relaxed(&job->abandon) != 0) {
            kin__store64(at, kin__unit(attempt, position, 0));
            return;
        }
        KIN_CRASH_POINT("pool.item");
        uint64_t index = unit * job->unit_size + position;
        int code = run_item(w, index, attempt, &task);
        if (code != 0 && attempt < job->retries) {
            kin__store64_release(at, kin__unit(++attempt, position, w->number));
            continue;
        }
        if (code != 0) {
            kin__job_failed(job, index, code, false, task.message);
            kin__store64_release(&w->mine->failed, w->mine->failed + 1);
        }
        attempt = 0;
        position++;
        if (position < items)
            kin__store64_release(at, kin__unit(0, position, w->number));
        kin__store64_release(&w->mine->done, w->mine->done + 1);
    }
    KIN_CRASH_POINT("pool.unit");
    kin__store64_release(at, kin__unit(0, 0, KIN__DONE));
}

static bool claim_and_run(worker *w, uint64_t unit)
{
    uint64_t *at = (uint64_t *)kin__job_at(w->job, w->job->words) + unit, word = kin__load64(at);
    if (kin__unit_owner(word) != 0)
        return false;
    uint64_t mine = word | w->number;
    if (!kin__cas64(at, &word, mine))
        return false;
    KIN_CRASH_POINT("pool.claimed");
    run_unit(w, unit, mine);
    return true;
}

/* How many units to reserve next, after `units` of them took `ns`. */
static uint64_t next_run(const worker *w, uint64_t units, uint64_t ns, uint64_t left)
{
    uint64_t run = ns < RUN_NS / 8 ? w->run * 4 : units * RUN_NS / (ns + 1);
    uint64_t share = left / ((uint64_t)w->shared->worker_count * 4) + 1;
    if (run > share)
        run = share;
    return run < 1 ? 1 : run > RUN_MOST ? RUN_MOST : run;
}

static void run_job(worker *w)
{
    kin__job *job = w->job;
    w->run = 1;
    uint64_t then = job->adaptive != 0 ? kin__now_ns() : 0;
    for (;;) {
        uint64_t from = kin__add64(&job->cursor, w->run), to = from + w->run;
        if (from >= job->units)
            break;
        if (to > job->units)
            to = job->units;
        for (uint64_t unit = from; unit < to; unit++)
            (void)claim_and_run(w, unit);
        if (job->adaptive != 0) {
            uint64_t now = kin__now_ns();
            w->run = next_run(w, to - from, now - then, job->units - to);
            then = now;
        }
    }
    /* From the end, where the runs of the others arrive last. */
    for (uint64_t unit = job->units; unit-- > 0;)
        (void)claim_and_run(w, unit);
}

/* ---- getting a job ---- */

static kin_err take_delivery(worker *w)
{
    kin__delivery delivery;
    os_handle handle;
    size_t size, count;
    kin_err err = os_channel_receive(w->channel, &delivery, sizeof delivery, &size, &handle, 1, &count, KIN_FOREVER);
    if (err != KIN_OK)
        return err;
    if (count != 1 || size != sizeof delivery) {
        if (count == 1)
            os_handle_close(handle);
        return kin__fail(KIN_EPROTO, "a delivery of %zu bytes and %zu handles", size, count);
    }
    kin__header **place = delivery.is_array != 0 ? &w->array : &w->arena;
    if (*place != NULL)
        kin__segment_release(*place);
    *place = NULL;
    err = kin__segment_adopt(handle, delivery.is_array != 0 ? KIN_TYPE_ARRAY : KIN_TYPE_SEGMENT, place);
    if (err != KIN_OK) {
        *place = NULL;
        os_handle_close(handle);
    }
    return err;
}

/* Maps what the job needs; the parent has sent it before it opened the job. */
static kin_err prepare(worker *w, uint64_t arena)
{
    while (w->arena == NULL || w->arena->id != arena) {
        kin_err err = take_delivery(w);
        if (err != KIN_OK)
            return err;
    }
    w->job = kin__header_data(w->arena);
    while (w->job->array != 0 && (w->array == NULL || w->array->id != w->job->array)) {
        kin_err err = take_delivery(w);
        if (err != KIN_OK)
            return err;
    }
    size_t used;
    return kin__function_read(w->job->function, (size_t)w->job->function_size, &used, &w->function);
}

static bool nothing_new(void *object)
{
    worker *w = object;
    uint64_t kick = kin__load64(&w->shared->kick);
    return (kick == w->seen || (kick & 1) != 0) && kin__load32(&w->shared->stop) == 0;
}

static void wait_for_job(worker *w)
{
    for (kin__spin spin = {0}; kin__spin_more(&spin);) {
        if (!nothing_new(w))
            return;
    }
    while (nothing_new(w))
        (void)kin__park(w->shared->id, nothing_new, w, KIN__NEVER);
}

static void report_fault(worker *w, kin_err err)
{
    uint32_t none = 0;
    (void)snprintf(w->shared->why, sizeof w->shared->why, "%s", kin_last_error());
    (void)kin__cas32(&w->shared->fault, &none, (uint32_t)err);
}

static void work(worker *w)
{
    while (kin__load32(&w->shared->stop) == 0) {
        wait_for_job(w);
        uint64_t kick = kin__load64(&w->shared->kick);
        if (kick == w->seen || (kick & 1) != 0)
            continue;
        kin__store64(&w->mine->entered, kick);
        if (kin__load64(&w->shared->kick) == kick) {
            KIN_CRASH_POINT("pool.entered");
            kin_err err = prepare(w, kin__load64(&w->shared->arena));
            if (err == KIN_OK)
                run_job(w);
            else
                report_fault(w, err);
            kin__store64(&w->mine->idle_at, kick);
        }
        w->seen = kick;
        kin__store64(&w->mine->entered, 0);
        (void)kin__wake_those_on(w->shared->id + 1, KIN__EVERYONE);
    }
}

int kin__worker_main(kin_args *args)
{
    kin_segment *segment;
    intptr_t channel;
    worker w = {0};
    if (kin_unpack(args, &segment, &w.index, &w.number, kin_handle_out(&channel)) != KIN_OK)
        return 1;
    w.shared = kin_segment_data(segment);
    if (w.index >= w.shared->worker_count || kin__thread_me() == 0)
        return 1;
    w.mine = &w.shared->workers[w.index];
    w.channel = channel;
    work(&w);
    return 0;
}
