/* A pool: workers that compute many tasks on all cores.
 *
 * Tasks are claimed by workers from shared memory, so nothing is sent for a task and no task has a fixed worker. A
 * worker that is killed fails (or retries) exactly the task it was running; another takes its place; nobody else
 * notices. The calling process runs no task itself: a task cannot harm it.
 */
#ifndef KIN_POOL_H
#define KIN_POOL_H

#include "any.h"

KIN_BEGIN

typedef struct kin_pool kin_pool;

/* The task that is running, as its function sees it. */
typedef struct kin_task kin_task;

/* A task: computes *out from *in. Returns 0, or an error code of its own (any other number; kin_task_fail adds a
 * message). `in` and `out` are aligned like malloc's memory when the item size is a multiple of 16, else to the
 * largest power of two that divides it. */
typedef int (*kin_map_fn)(kin_task *task, const void *in, void *out);
/* The same in place, over an item of a kin_array. */
typedef int (*kin_array_fn)(kin_task *task, void *item);

/* Which item this is, from 0; which worker runs it, from 0; how often it was run before (retries). */
KIN_API size_t kin_task_index(const kin_task *task);
KIN_API int kin_task_worker(const kin_task *task);
KIN_API int kin_task_attempt(const kin_task *task);
/* Sets the message of this task's failure, up to 207 bytes, and gives `code` back, so that a task can say
 * return kin_task_fail(task, 7, "mass is %g", m). A code of 0 is made 1. */
KIN_API int kin_task_fail(kin_task *task, int code, const char *format, ...) KIN_PRINTF(3, 4);

typedef struct kin_pool_options {
    int workers;      /* 0: kin_cpu_count() */
    const char *name; /* its workers are called name-1, name-2 ...; default "Pool-1" */
} kin_pool_options;

/* How a map is doing. */
typedef struct kin_progress {
    size_t total;      /* tasks                                        */
    size_t done;       /* ended, well or not                           */
    size_t failed;     /* of these                                     */
    double seconds;    /* since the map began                          */
    double rate;       /* tasks per second, of late                    */
    double remaining;  /* seconds until the end; negative if not known */
} kin_progress;
typedef void (*kin_progress_fn)(const kin_progress *progress, void *data);

/* A task that failed. */
typedef struct kin_task_error {
    size_t index;
    int code;           /* what the task returned; KIN_ECHILD if its worker died */
    bool died;          /* its worker died while running it */
    char message[208];  /* from kin_task_fail, or who died of what */
} kin_task_error;

typedef struct kin_map_options {
    size_t chunk;             /* tasks that are claimed together; 0: measured                                        */
    int retries;              /* how often a task is run again that failed or lost its worker; 0-100                 */
    int64_t timeout_ms;       /* for the whole map; 0 or KIN_FOREVER: none. Tasks not ended by then fail             */
    kin_progress_fn progress; /* called in the calling thread, about ten times a second and once at the end          */
    void *progress_data;
    const char *bar;          /* draws a progress bar with this label on stderr: done/total, rate, time left, failed;
                                 plain lines when stderr is no terminal                                              */
    kin_task_error *errors;   /* gets the failed tasks, by index, as many as fit                                     */
    size_t errors_max;
    size_t *failed;           /* gets the number of failed tasks                                                     */
} kin_map_options;

/* Starts the workers, as daemons. KIN_EINVAL for a negative number of workers or more than 1024; the errors of
 * kin_process_start. */
KIN_API kin_err kin_pool_create(kin_pool **pool, const kin_pool_options *options);

/* Computes out[i] from in[i] for all i < count, on all workers, and returns when all have ended; results are in
 * order. `in` (count x in_size bytes) is copied once into shared memory and `out` (count x out_size) once out of it;
 * either may be NULL with size 0. `out` of a failed task is left as it was. count 0 is fine. Maps from several
 * threads take turns.
 *
 * KIN_OK         every task returned 0
 * KIN_ETASK      at least one did not: the others are done; see options.errors and options.failed
 * KIN_ETIMEDOUT  options.timeout_ms passed; the tasks that had ended are done
 * KIN_EINVAL, KIN_ENOMEM, KIN_ESTATE (closed)
 * KIN_ECANCELLED kin_pool_terminate was called meanwhile
 * KIN_ECHILD     workers die as soon as they start; and the errors of kin_process_start if none can be replaced */
KIN_API kin_err kin_pool_map(kin_pool *pool, kin_map_fn function, const void *in, size_t in_size, void *out,
                             size_t out_size, size_t count, const kin_map_options *options);

/* The same in place over a shared array: nothing is copied. A task that failed or lost its worker may have changed its
 * item in part. */
KIN_API kin_err kin_pool_map_array(kin_pool *pool, kin_array_fn function, kin_array *array,
                                   const kin_map_options *options);

/* How many workers it has; 0 if `pool` is no open pool. The pid of worker `index`, 0 if it is being replaced. */
KIN_API int kin_pool_workers(const kin_pool *pool);
KIN_API int64_t kin_pool_worker_pid(const kin_pool *pool, int index);

/* Waits for maps under way, ends the workers and frees the pool. NULL does nothing. */
KIN_API void kin_pool_close(kin_pool *pool);

/* Kills the workers at once; maps under way return KIN_ECANCELLED. The pool must still be closed. */
KIN_API kin_err kin_pool_terminate(kin_pool *pool);

KIN_END

#endif
