/* A map, as the owner of the pool runs it: lays a job out in shared memory, opens it, and waits until every unit is
 * done.
 *
 * The owner never waits for a particular worker: it looks at the units. It sleeps until all workers say that they
 * found nothing more to do, or one of them dies. A death is dealt with by looking for the dead one's number in the
 * units' words; a new worker, with a new number, takes its place. It must never wait for a worker that is dead, nor
 * fail an item that the dead one was not running. */
#include "pool.h"

#include "error.h"
#include "park.h"

#include <stdlib.h>
#include <string.h>

#define UNITS_WANTED 65536u /* when the chunk is ours to choose */
#define RECORDS_MOST 4096u
#define BARREN_MOST 3 /* deaths per worker without a single task begun, before the map gives up */
#define TICK_MS 100

/* A map under way. */
typedef struct map {
    kin_pool *pool;
    kin__job *job;
    const kin_map_options *options;
    kin__header *array; /* of a map in place */
    uint64_t kick, deadline;
    uint64_t first_open; /* all units before it are done */
    size_t lost;         /* items that failed with their worker */
    int barren;          /* deaths since anything was done */
    uint64_t done_before;
    kin__progress progress;
} map;

/* ---- laying out a job ---- */

typedef struct layout {
    uint64_t size;
    bool overflow;
} layout;

static uint64_t lay(layout *l, uint64_t count, uint64_t each)
{
    uint64_t at = (l->size + 63) / 64 * 64;
    if (each != 0 && count > ((uint64_t)1 << 62) / each)
        l->overflow = true;
    else
        l->size = at + count * each;
    if (l->size > (uint64_t)1 << 62)
        l->overflow = true;
    return at;
}

static kin_err enlarge_arena(kin_pool *pool, uint64_t size)
{
    if (pool->arena != NULL && pool->arena->size >= size)
        return KIN_OK;
    if (pool->arena != NULL)
        kin__segment_release(pool->arena);
    pool->arena = NULL;
    kin_err err = kin__segment_new(KIN_TYPE_SEGMENT, size + size / 8, &pool->arena);
    if (err != KIN_OK)
        pool->arena = NULL;
    return err;
}

/* The first job header is built here, then copied into the arena once that is large enough. */
static kin_err lay_out(map *m, kin__job *plan, void (*function)(void), const void *in)
{
    kin_pool *pool = m->pool;
    size_t chunk = m->options->chunk;
    plan->adaptive = chunk == 0;
    plan->unit_size = chunk != 0 ? chunk : plan->count / UNITS_WANTED + 1;
    if (plan->unit_size > KIN__UNIT_MOST)
        plan->unit_size = KIN__UNIT_MOST;
    plan->units = (plan->count + plan->unit_size - 1) / plan->unit_size;
    plan->retries = (uint64_t)m->options->retries;
    plan->records_space = plan->count < RECORDS_MOST ? plan->count : RECORDS_MOST;
    bool in_place = plan->array != 0;
    layout l = {.size = sizeof *plan};
    plan->words = lay(&l, plan->units, sizeof(uint64_t));
    plan->status = lay(&l, plan->count, sizeof(int32_t));
    plan->records = lay(&l, plan->records_space, sizeof(kin__task_record));
    plan->in = lay(&l, in_place ? 0 : plan->count, plan->in_size);
    plan->out = lay(&l, in_place ? 0 : plan->count, plan->out_size);
    if (l.overflow)
        return kin__fail(KIN_EINVAL, "a map of %llu items of %llu and %llu bytes is more than can be addressed", (unsigned long long)plan->count,
                         (unsigned long long)plan->in_size, (unsigned long long)plan->out_size);
    kin__parcel parcel = {0};
    kin_err err = kin__parcel_add_function(&parcel, function);
    if (err == KIN_OK && parcel.size > sizeof plan->function)
        err = kin__fail(KIN_ENOENT, "the path of the task's library is too long");
    if (err == KIN_OK) {
        memcpy(plan->function, parcel.bytes, parcel.size);
        plan->function_size = parcel.size;
        err = enlarge_arena(pool, l.size);
    } else if (err == KIN_ENOENT) {
        err = kin__fail_in(KIN_EINVAL, "the task");
    }
    kin__parcel_free(&parcel);
    if (err != KIN_OK)
        return err;
    m->job = kin__header_data(pool->arena);
    memcpy(m->job, plan, sizeof *plan);
    memset(kin__job_at(m->job, plan->words), 0, (size_t)(plan->records - plan->words));
    memset(kin__job_at(m->job, plan->records), 0, (size_t)plan->records_space * sizeof(kin__task_record));
    if (!in_place && plan->in_size != 0)
        memcpy(kin__job_at(m->job, plan->in), in, (size_t)(plan->count * plan->in_size));
    return KIN_OK;
}

/* ---- deaths ---- */

static void describe_end(const kin_process *process, char *text, size_t size)
{
    int code = 0;
    long long pid = (long long)kin_process_pid(process);
    const char *name = kin_process_name(process);
    if (kin_process_exit_code(process, &code) != KIN_OK)
        (void)snprintf(text, size, "worker '%s' (pid %lld) ended, nobody knows how", name, pid);
    else if (code < 0)
        (void)snprintf(text, size, "worker '%s' (pid %lld) was killed by signal %d", name, pid, -code);
    else
        (void)snprintf(text, size, "worker '%s' (pid %lld) exited with code %d", name, pid, code);
}

/* Gives the units that name a dead worker back, less the item it was running, which is tried again or fails. Returns
 * whether it had any. */
static bool take_back(map *m, uint32_t number, int code, const char *why)
{
    kin__job *job = m->job;
    uint64_t *words = kin__job_at(job, job->words);
    bool had_any = false;
    for (uint64_t unit = m->first_open; unit < job->units; unit++) {
        uint64_t word = kin__load64(&words[unit]);
        if (kin__unit_owner(word) != number)
            continue;
        had_any = true;
        uint64_t attempt = kin__unit_attempt(word), position = kin__unit_position(word);
        if (attempt < job->retries) {
            kin__store64(&words[unit], kin__unit(attempt + 1, position, 0));
            continue;
        }
        kin__job_failed(job, unit * job->unit_size + position, code, true, why);
        m->lost++;
        bool last = position + 1 == kin__unit_items(job, unit);
        kin__store64(&words[unit], last ? kin__unit(0, 0, KIN__DONE) : kin__unit(0, position + 1, 0));
    }
    return had_any;
}

/* Sends a worker what it has not yet: the arena, and the array of a map in place. */
static kin_err deliver(map *m, kin__seat *s)
{
    kin_pool *pool = m->pool;
    kin__header *segments[2] = {pool->arena, m->array};
    uint64_t *sent[2] = {&s->arena, &s->array};
    for (int i = 0; i < 2; i++) {
        kin__header *header;
        os_handle handle;
        if (segments[i] == NULL || *sent[i] == segments[i]->id)
            continue;
        kin__delivery delivery = {.id = segments[i]->id, .is_array = (uint64_t)i};
        kin_err err = kin__segment_find(segments[i], &header, &handle);
        if (err == KIN_OK)
            err = os_channel_send(s->channel, kin_process_pid(s->process), &delivery, sizeof delivery, &handle, 1);
        if (err == KIN_EAGAIN || err == KIN_ETIMEDOUT) { /* it is stopped and its channel full: another takes its place */
            (void)kin_process_kill(s->process);
            return KIN_OK;
        }
        if (err != KIN_OK && err != KIN_EPIPE) /* one that is dead will be replaced */
            return err;
        *sent[i] = segments[i]->id;
    }
    return KIN_OK;
}

static uint64_t items_done(const map *m)
{
    uint64_t done = 0;
    for (int i = 0; i < m->pool->count; i++)
        done += kin__load64(&m->pool->shared->workers[i].done);
    return done;
}

/* Deals with the workers that have died since the last look. *again: units have become free, so everybody must look
 * once more. */
static kin_err replace_dead(map *m, bool *again)
{
    kin_pool *pool = m->pool;
    for (int i = 0; i < pool->count; i++) {
        kin__seat *s = &pool->seats[i];
        if (s->process != NULL && kin_process_alive(s->process))
            continue;
        if (s->process != NULL) {
            char end[KIN__MESSAGE_SIZE - 32], why[KIN__MESSAGE_SIZE];
            describe_end(s->process, end, sizeof end);
            (void)snprintf(why, sizeof why, "%s while it ran this task", end);
            if (take_back(m, s->number, KIN_ECHILD, why)) {
                *again = true;
                m->barren = 0;
            } else if (items_done(m) != m->done_before || kin__load64(&pool->shared->workers[i].idle_at) != 0) {
                m->barren = 0; /* it lived long enough to run out of work */
                m->done_before = items_done(m);
            } else if (++m->barren > BARREN_MOST * pool->count) {
                return kin__fail(KIN_ECHILD, "workers of pool '%s' die before they begin a task; the last: %s", pool->name, end);
            }
            kin__pool_unseat(pool, i);
        }
        if (kin__load32(&pool->terminated) != 0)
            return kin__fail(KIN_ECANCELLED, "pool '%s' was terminated", pool->name);
        kin_err err = kin__pool_seat(pool, i);
        if (err == KIN_OK)
            err = deliver(m, &pool->seats[i]);
        if (err != KIN_OK)
            return kin__fail_in(err, "a worker of pool '%s' died and cannot be replaced", pool->name);
    }
    return KIN_OK;
}

/* ---- waiting ---- */

static bool all_done(map *m)
{
    kin__job *job = m->job;
    const uint64_t *words = kin__job_at(job, job->words);
    while (m->first_open < job->units && kin__unit_owner(kin__load64(&words[m->first_open])) == KIN__DONE)
        m->first_open++;
    return m->first_open == job->units;
}

/* Whether some worker may still be at it, and none has died unnoticed. */
static bool busy(void *object)
{
    map *m = object;
    kin_pool *pool = m->pool;
    bool working = false;
    if (kin__load32(&pool->terminated) != 0 || kin__load32(&pool->shared->fault) != 0)
        return false;
    for (int i = 0; i < pool->count; i++) {
        if (pool->seats[i].process == NULL || !kin_process_alive(pool->seats[i].process))
            return false;
        if (kin__load64(&pool->shared->workers[i].idle_at) != m->kick)
            working = true;
    }
    return working;
}

static void tell_progress(map *m, bool end)
{
    size_t done = m->lost, failed = m->lost;
    for (int i = 0; i < m->pool->count; i++) {
        done += (size_t)kin__load64(&m->pool->shared->workers[i].done);
        failed += (size_t)kin__load64(&m->pool->shared->workers[i].failed);
    }
    if (done > m->progress.now.total || end)
        done = m->progress.now.total;
    kin__progress_tell(&m->progress, m->options, done, failed, end);
}

static bool is_entered(void *object)
{
    kin_pool *pool = object;
    for (int i = 0; i < pool->count; i++) {
        if (pool->seats[i].process != NULL && kin__load64(&pool->shared->workers[i].entered) != 0 && kin_process_alive(pool->seats[i].process))
            return true;
    }
    return false;
}

/* Closes the job: no worker enters it any more. Returns when nobody is in it, or at the deadline (a worker may be
 * stopped in it). */
static kin_err close_job(kin_pool *pool, uint64_t deadline)
{
    uint64_t kick = kin__load64(&pool->shared->kick);
    if ((kick & 1) == 0)
        kin__store64(&pool->shared->kick, kick + 1);
    for (kin__spin spin = {0}; is_entered(pool) && kin__spin_more(&spin);) {
    }
    while (is_entered(pool)) {
        if (kin__park(pool->shared->id + 1, is_entered, pool, deadline) == KIN_ETIMEDOUT)
            return kin__fail(KIN_ETIMEDOUT, "a worker of pool '%s' does not leave the map before: is it stopped?", pool->name);
    }
    return KIN_OK;
}

/* Opens it, again if it is open: every worker looks once more for units that are free. */
static bool open_job(map *m)
{
    kin__pool_shared *shared = m->pool->shared;
    m->kick = (kin__load64(&shared->kick) | 1) + 1;
    kin__store64(&shared->kick, m->kick);
    return kin__wake_those_on(shared->id, KIN__EVERYONE) > 0;
}

static kin_err wait_for_units(map *m)
{
    kin_pool *pool = m->pool;
    bool tells = m->options->progress != NULL || m->options->bar != NULL;
    kin__spin spin = {0};
    bool spinning = true;
    while (!all_done(m)) {
        if (kin__load32(&pool->shared->fault) != 0)
            return kin__fail_text((kin_err)pool->shared->fault, pool->shared->why);
        if (m->deadline != KIN__NEVER && kin__now_ns() >= m->deadline)
            return kin__fail(KIN_ETIMEDOUT, "the map took longer than %lld ms", (long long)m->options->timeout_ms);
        if (!busy(m)) {
            bool again = false;
            kin_err err = replace_dead(m, &again);
            if (err != KIN_OK)
                return err;
            if (kin__load32(&pool->terminated) != 0)
                return kin__fail(KIN_ECANCELLED, "pool '%s' was terminated", pool->name);
            if (again || (!all_done(m) && !busy(m)))
                (void)open_job(m);
            continue;
        }
        if (spinning) {
            spinning = kin__spin_more(&spin);
            continue;
        }
        uint64_t tick = tells ? kin__deadline(TICK_MS) : KIN__NEVER;
        (void)kin__park(pool->shared->id + 1, busy, m, tick < m->deadline ? tick : m->deadline);
        if (tells)
            tell_progress(m, false);
    }
    return KIN_OK;
}

/* ---- the end of a map ---- */

/* Makes sure that no worker runs an item any more, and lets every item that has not ended fail. */
static void abandon(map *m, kin_err why)
{
    kin_pool *pool = m->pool;
    kin__job *job = m->job;
    uint64_t *words = kin__job_at(job, job->words);
    char message[KIN__MESSAGE_SIZE];
    (void)snprintf(message, sizeof message, "%s", kin_last_error());
    kin__store64(&job->abandon, 1);
    uint64_t kick = kin__load64(&pool->shared->kick);
    kin__store64(&pool->shared->kick, kick | 1);
    for (int i = 0; i < pool->count; i++) {
        if (pool->seats[i].process == NULL || kin__load64(&pool->shared->workers[i].entered) == 0)
            continue;
        kin__pool_kill(pool, i);
    }
    for (uint64_t unit = m->first_open; unit < job->units; unit++) {
        uint64_t word = kin__load64(&words[unit]);
        if (kin__unit_owner(word) == KIN__DONE)
            continue;
        uint64_t items = kin__unit_items(job, unit);
        for (uint64_t position = kin__unit_position(word); position < items; position++)
            kin__job_failed(job, unit * job->unit_size + position, why, false, message);
        kin__store64(&words[unit], kin__unit(0, 0, KIN__DONE));
    }
}

static int by_index(const void *a, const void *b)
{
    uint64_t i = ((const kin__task_record *)a)->index, j = ((const kin__task_record *)b)->index;
    return i < j ? -1 : i > j;
}

/* Fills options->errors in the order of the items, from their codes and the records, and returns how many failed. */
static size_t collect_errors(map *m)
{
    kin__job *job = m->job;
    const int32_t *status = kin__job_at(job, job->status);
    uint64_t used = kin__load64(&job->records_used), next = 0;
    if (used == 0)
        return 0;
    if (used > job->records_space)
        used = job->records_space;
    kin__task_record *records = kin__job_at(job, job->records);
    qsort(records, (size_t)used, sizeof *records, by_index);
    size_t failed = 0;
    for (uint64_t i = 0; i < job->count; i++) {
        if (status[i] == 0)
            continue;
        kin_task_error error = {.index = (size_t)i, .code = status[i]};
        /* A worker that died while it wrote one leaves it unready; one it had finished before it died may stand
         * beside what was noted of its death: the code says which counts. */
        for (; next < used && records[next].index <= i; next++) {
            if (records[next].ready == 0 || records[next].index != i || records[next].code != status[i])
                continue;
            error.died = records[next].died != 0;
            memcpy(error.message, records[next].message, sizeof error.message);
        }
        if (m->options->errors != NULL && failed < m->options->errors_max)
            m->options->errors[failed] = error;
        failed++;
    }
    return failed;
}

/* Copies the results out, but for items that failed. */
static void copy_results(const map *m, char *out, size_t failed)
{
    kin__job *job = m->job;
    const int32_t *status = kin__job_at(job, job->status);
    const char *from = kin__job_at(job, job->out);
    size_t size = (size_t)job->out_size;
    if (out == NULL || size == 0 || job->array != 0)
        return;
    if (failed == 0) {
        memcpy(out, from, (size_t)job->count * size);
        return;
    }
    for (size_t i = 0; i < job->count; i++) {
        if (status[i] == 0)
            memcpy(out + i * size, from + i * size, size);
    }
}

/* ---- map ---- */

static kin_err run_map(map *m, kin__job *plan, void (*function)(void), const void *in, void *out)
{
    kin_pool *pool = m->pool;
    kin_err err = close_job(pool, m->deadline);
    if (err == KIN_OK)
        err = lay_out(m, plan, function, in);
    if (err != KIN_OK)
        return err;
    for (int i = 0; i < pool->count; i++) {
        kin__store64(&pool->shared->workers[i].done, 0);
        kin__store64(&pool->shared->workers[i].failed, 0);
    }
    kin__store32(&pool->shared->fault, 0);
    kin__store64(&pool->shared->arena, pool->arena->id);
    bool again = false;
    err = replace_dead(m, &again); /* those that died since the last map */
    for (int i = 0; i < pool->count && err == KIN_OK; i++)
        err = deliver(m, &pool->seats[i]);
    if (err != KIN_OK)
        return err;
    kin__progress_begin(&m->progress, (size_t)plan->count);
    (void)open_job(m);
    err = wait_for_units(m);
    kin__error_kept kept; /* of what follows, killing whoever died meanwhile may fail, and progress is the caller's code */
    kin__error_keep(&kept);
    if (err != KIN_OK)
        abandon(m, err);
    size_t failed = collect_errors(m);
    copy_results(m, out, failed);
    tell_progress(m, true);
    if (m->options->failed != NULL)
        *m->options->failed = failed;
    kin__error_back(&kept);
    if (err != KIN_OK || failed == 0)
        return err;
    return kin__fail(KIN_ETASK, "%zu of %llu tasks failed", failed, (unsigned long long)plan->count);
}

static kin_err check_options(const kin_map_options *options)
{
    if (options->retries < 0 || options->retries > 100)
        return kin__fail(KIN_EINVAL, "%d retries: 0 to 100 are possible", options->retries);
    if (options->timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "a time-out of %lld ms", (long long)options->timeout_ms);
    if (options->errors == NULL && options->errors_max != 0)
        return kin__fail(KIN_EINVAL, "room for %zu errors at NULL", options->errors_max);
    return KIN_OK;
}

static kin_err start_map(kin_pool *pool, kin__job *plan, void (*function)(void), const void *in, void *out, kin__header *array,
                         const kin_map_options *options)
{
    static const kin_map_options defaults;
    if (options == NULL)
        options = &defaults;
    if (!kin__is_pool(pool))
        return kin__not_a_pool(pool);
    kin_err err = check_options(options);
    if (err != KIN_OK)
        return err;
    if (function == NULL)
        return kin__fail(KIN_EINVAL, "kin_pool_map needs a task");
    if (options->failed != NULL)
        *options->failed = 0;
    if (kin__thread_me() == 0)
        return kin_last_code();
    if (plan->count == 0)
        return KIN_OK;
    kin__add32(&pool->users, 1);
    if (!kin__is_pool(pool)) { /* closed just now */
        kin__add32(&pool->users, (uint32_t)-1);
        return kin__not_a_pool(pool);
    }
    map m = {.pool = pool, .options = options, .array = array, .deadline = kin__deadline(options->timeout_ms != 0 ? options->timeout_ms : KIN_FOREVER)};
    uv_mutex_lock(&pool->map_mutex);
    if (kin__load32(&pool->terminated) != 0)
        err = kin__fail(KIN_ECANCELLED, "pool '%s' was terminated", pool->name);
    else
        err = run_map(&m, plan, function, in, out);
    uv_mutex_unlock(&pool->map_mutex);
    kin__add32(&pool->users, (uint32_t)-1);
    return err;
}

kin_err kin_pool_map(kin_pool *pool, kin_map_fn function, const void *in, size_t in_size, void *out, size_t out_size, size_t count,
                     const kin_map_options *options)
{
    if ((in == NULL && in_size != 0) || (out == NULL && out_size != 0))
        return kin__fail(KIN_EINVAL, "kin_pool_map: items of %zu bytes at NULL", in == NULL && in_size != 0 ? in_size : out_size);
    kin__job plan = {.count = count, .in_size = in_size, .out_size = out_size};
    return start_map(pool, &plan, (void (*)(void))function, in, out, NULL, options);
}

kin_err kin_pool_map_array(kin_pool *pool, kin_array_fn function, kin_array *array, const kin_map_options *options)
{
    if (!kin__is(array, KIN_TYPE_ARRAY))
        return kin__fail(KIN_EINVAL, array == NULL ? "the array is NULL" : "not an array, or it was closed");
    kin__header *header = (kin__header *)array;
    kin__job plan = {.count = header->count, .out_size = header->item_size, .array = header->id};
    return start_map(pool, &plan, (void (*)(void))function, NULL, NULL, header, options);
}
