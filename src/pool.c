/* A pool's workers, as its owner sees them: they are seated when the pool is created, replaced when they die
 * (pool_map.c says when), and sent home or killed at the end. A seat's worker has a number that no other worker of
 * the pool ever had. */
#include "pool.h"

#include "error.h"
#include "park.h"
#include "wait.h"

#include <stdlib.h>
#include <string.h>

#define WORKERS_MOST 1024
#define END_MS 2000

bool kin__is_pool(const kin_pool *pool)
{
    return kin__handle_is(pool, KIN__MARK_POOL);
}

kin_err kin__not_a_pool(const kin_pool *pool)
{
    return kin__fail(KIN_EINVAL, pool == NULL ? "the pool is NULL" : "not a pool, or it was closed");
}

kin_err kin__pool_seat(kin_pool *pool, int index)
{
    kin__seat *s = &pool->seats[index];
    kin__worker *w = &pool->shared->workers[index];
    char name[KIN__NAME_SIZE];
    os_handle receiver, sender;
    kin_err err = os_channel_create(&receiver, &sender);
    if (err != KIN_OK)
        return err;
    (void)snprintf(name, sizeof name, "%s-%d", pool->name, index + 1);
    kin_process_options options = {.name = name, .daemon = true};
    kin_process *process;
    uint32_t number = ++pool->numbers;
    kin__store64(&w->entered, 0);
    kin__store64(&w->idle_at, 0);
    err = kin_process_start(&process, kin__worker_main, KIN_ARGS(pool->segment, (unsigned)index, (unsigned)number, kin_handle(receiver)), &options);
    os_handle_close(receiver);
    if (err != KIN_OK) {
        os_handle_close(sender);
        return err;
    }
    uv_mutex_lock(&pool->seat_mutex);
    bool late = kin__load32(&pool->terminated) != 0;
    *s = (kin__seat){.process = process, .channel = sender, .number = number};
    uv_mutex_unlock(&pool->seat_mutex);
    return late ? kin_process_kill(process) : KIN_OK;
}

void kin__pool_unseat(kin_pool *pool, int index)
{
    uv_mutex_lock(&pool->seat_mutex);
    kin__seat gone = pool->seats[index];
    pool->seats[index] = (kin__seat){.process = NULL, .channel = OS_NO_HANDLE};
    uv_mutex_unlock(&pool->seat_mutex);
    kin_process_close(gone.process);
    os_handle_close(gone.channel);
}

void kin__pool_kill(kin_pool *pool, int index)
{
    kin_process *process = pool->seats[index].process;
    if (process != NULL && kin_process_kill(process) == KIN_OK)
        (void)kin__process_join(process, KIN_FOREVER, false);
}

static void end_workers(kin_pool *pool)
{
    kin__store32(&pool->shared->stop, 1);
    (void)kin__wake_those_on(pool->shared->id, KIN__EVERYONE);
    uint64_t deadline = kin__deadline(END_MS);
    for (int i = 0; i < pool->count; i++) {
        if (pool->seats[i].process == NULL)
            continue;
        uint64_t now = kin__now_ns();
        if (kin__process_join(pool->seats[i].process, now < deadline ? (int64_t)((deadline - now) / 1000000) : 0, false) == KIN_ETIMEDOUT)
            kin__pool_kill(pool, i);
        kin__pool_unseat(pool, i);
    }
}

static void free_pool(kin_pool *pool)
{
    if (pool->arena != NULL)
        kin__segment_release(pool->arena);
    if (pool->segment != NULL)
        kin_segment_close(pool->segment);
    uv_mutex_destroy(&pool->map_mutex);
    uv_mutex_destroy(&pool->seat_mutex);
    kin__handle_free(pool);
}

static kin_err make_pool(kin_pool *pool)
{
    kin_err err = kin_segment_create(&pool->segment, sizeof *pool->shared + (size_t)pool->count * sizeof(kin__worker));
    if (err != KIN_OK)
        return err;
    pool->shared = kin_segment_data(pool->segment);
    pool->shared->id = kin__unique();
    pool->shared->worker_count = (uint32_t)pool->count;
    for (int i = 0; i < pool->count && err == KIN_OK; i++)
        err = kin__pool_seat(pool, i);
    if (err != KIN_OK)
        end_workers(pool);
    return err;
}

kin_err kin_pool_create(kin_pool **pool, const kin_pool_options *options)
{
    static const kin_pool_options defaults;
    static uint32_t pools;
    if (options == NULL)
        options = &defaults;
    kin_err err = kin__check_init();
    if (err != KIN_OK)
        return err;
    if (pool == NULL || options->workers < 0 || options->workers > WORKERS_MOST)
        return pool == NULL ? kin__fail(KIN_EINVAL, "kin_pool_create needs a place for the pool")
                            : kin__fail(KIN_EINVAL, "a pool of %d workers: 1 to %d are possible", options->workers, WORKERS_MOST);
    if (options->name != NULL && (options->name[0] == 0 || strlen(options->name) >= sizeof(*pool)->name))
        return kin__fail(KIN_EINVAL, "a pool name of %zu bytes: 1 to %zu are possible", strlen(options->name), sizeof(*pool)->name - 1);
    int count = options->workers != 0 ? options->workers : kin_cpu_count();
    kin_pool *p = kin__handle_new(KIN__MARK_POOL, sizeof *p + (size_t)count * sizeof(kin__seat));
    if (p == NULL)
        return KIN_ENOMEM;
    p->count = count;
    for (int i = 0; i < count; i++)
        p->seats[i].channel = OS_NO_HANDLE;
    if (options->name != NULL)
        (void)snprintf(p->name, sizeof p->name, "%s", options->name);
    else
        (void)snprintf(p->name, sizeof p->name, "Pool-%u", kin__add32(&pools, 1) + 1);
    if (uv_mutex_init(&p->map_mutex) != 0 || uv_mutex_init(&p->seat_mutex) != 0)
        err = kin__fail(KIN_ENOMEM, "no memory for a mutex");
    else
        err = make_pool(p);
    if (err != KIN_OK) {
        kin__fail_in(err, "cannot create pool '%s'", p->name);
        (void)kin__handle_unmark(p, KIN__MARK_POOL);
        free_pool(p);
        return err;
    }
    *pool = p;
    return KIN_OK;
}

int kin_pool_workers(const kin_pool *pool)
{
    if (kin__is_pool(pool))
        return pool->count;
    (void)kin__not_a_pool(pool);
    return 0;
}

int64_t kin_pool_worker_pid(const kin_pool *pool, int index)
{
    if (!kin__is_pool(pool) || index < 0 || index >= pool->count) {
        (void)(kin__is_pool(pool) ? kin__fail(KIN_ERANGE, "worker %d of %d", index, pool->count) : kin__not_a_pool(pool));
        return 0;
    }
    uv_mutex_t *mutex = (uv_mutex_t *)(uintptr_t)&pool->seat_mutex;
    uv_mutex_lock(mutex);
    kin_process *process = pool->seats[index].process;
    int64_t pid = process != NULL && kin_process_alive(process) ? kin_process_pid(process) : 0;
    uv_mutex_unlock(mutex);
    return pid;
}

void kin_pool_close(kin_pool *pool)
{
    if (!kin__handle_unmark(pool, KIN__MARK_POOL) || kin__my.session == NULL)
        return;
    while (kin__load32(&pool->users) != 0) { /* those who come now are told that it is closed */
        uv_mutex_lock(&pool->map_mutex);     /* and those who were here have the mutex, or wait for it */
        uv_mutex_unlock(&pool->map_mutex);
        os_yield();
    }
    if (kin__thread_me() != 0)
        end_workers(pool);
    free_pool(pool);
}

kin_err kin_pool_terminate(kin_pool *pool)
{
    if (!kin__is_pool(pool))
        return kin__not_a_pool(pool);
    kin__store32(&pool->terminated, 1);
    uv_mutex_lock(&pool->seat_mutex);
    for (int i = 0; i < pool->count; i++) {
        if (pool->seats[i].process != NULL)
            (void)kin_process_kill(pool->seats[i].process);
    }
    uv_mutex_unlock(&pool->seat_mutex);
    (void)kin__wake_those_on(pool->shared->id + 1, KIN__EVERYONE);
    return KIN_OK;
}
