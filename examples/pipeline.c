/* A pipeline: one process reads, several work, one writes, and queues lie between them.
 *
 *     reader --jobs--> workers --results--> writer
 *
 * It factors numbers, one on each line of the file that is named, or some of its own. Which worker is first is a matter of chance; the
 * writer puts the lines back in order.
 *
 * What to learn: who gets from a queue need not know how many put into it. When all of these have ended, shut it down: what is in it is
 * still got, and then kin_queue_get says KIN_EPIPE. A queue holds what fits, so who puts too fast waits; here the writer must also not
 * fall behind for a line that takes long, so the reader takes a unit of a semaphore for each line, and the writer gives it back.
 */
#include "must.h"

enum { WORKERS = 3, FACTORS = 64, AHEAD = 100 /* lines under way at most */ };

struct job {
    int64_t line;
    uint64_t number;
};

struct result {
    struct job job;
    int64_t count;
    uint64_t factors[FACTORS]; /* only the first `count` are sent */
};

/* The n-th number if there is no file. */
static bool number_at(int64_t line, uint64_t *number)
{
    static const uint64_t some[] = {
        1, 2, 360, 8128, 65537, 123456789, 600851475143, 999999000001, 1000036000099, 6469693230, 4294967291, 97};
    if (line >= (int64_t)(sizeof some / sizeof some[0]))
        return false;
    *number = some[line];
    return true;
}

static int read_numbers(kin_args *args)
{
    kin_queue *jobs;
    kin_semaphore *ahead;
    const char *path;
    if (kin_unpack(args, &jobs, &ahead, &path) != KIN_OK)
        return 1;

    FILE *file = path[0] != 0 ? fopen(path, "r") : NULL;
    if (path[0] != 0 && file == NULL)
        return 1;
    struct job job = {0, 0};
    for (char text[64]; file != NULL ? fgets(text, sizeof text, file) != NULL : number_at(job.line, &job.number);
         job.line++) {
        if (file != NULL)
            job.number = strtoull(text, NULL, 10);
        if (kin_semaphore_acquire(ahead, KIN_FOREVER) != KIN_OK ||
            kin_queue_put(jobs, &job, sizeof job, KIN_FOREVER) != KIN_OK)
            return 1;
    }
    if (file != NULL)
        fclose(file);
    kin_semaphore_close(ahead);
    kin_queue_close(jobs);
    return 0;
}

static void factor(struct result *r)
{
    uint64_t left = r->job.number;
    for (uint64_t d = 2; d <= left / d; d += d == 2 ? 1 : 2) {
        for (; left % d == 0; left /= d)
            r->factors[r->count++] = d;
    }
    if (left > 1)
        r->factors[r->count++] = left;
}

static int work(kin_args *args)
{
    kin_queue *jobs, *results;
    if (kin_unpack(args, &jobs, &results) != KIN_OK)
        return 1;

    struct result r = {0};
    kin_err err;
    while ((err = kin_queue_get(jobs, &r.job, sizeof r.job, NULL, KIN_FOREVER)) == KIN_OK) {
        r.count = 0;
        factor(&r);
        size_t size = offsetof(struct result, factors) + (size_t)r.count * sizeof r.factors[0];
        if (kin_queue_put(results, &r, size, KIN_FOREVER) != KIN_OK)
            return 1;
    }
    kin_queue_close(jobs);
    kin_queue_close(results);
    return err == KIN_EPIPE ? 0 : 1; /* the end, or something else */
}

static void print(const struct result *r)
{
    printf("%llu:", (unsigned long long)r->job.number);
    for (int64_t i = 0; i < r->count; i++)
        printf(" %llu", (unsigned long long)r->factors[i]);
    printf("\n");
}

/* Lines that came before their turn wait in a window, in which there is a place for each that can be under way. */
static int write_results(kin_args *args)
{
    kin_queue *results;
    kin_semaphore *ahead;
    if (kin_unpack(args, &results, &ahead) != KIN_OK)
        return 1;

    static struct result window[AHEAD];
    static bool is_there[AHEAD];
    struct result r;
    kin_err err;
    for (int64_t next = 0; (err = kin_queue_get(results, &r, sizeof r, NULL, KIN_FOREVER)) == KIN_OK;) {
        window[r.job.line % AHEAD] = r;
        is_there[r.job.line % AHEAD] = true;
        for (; is_there[next % AHEAD]; next++) {
            print(&window[next % AHEAD]);
            is_there[next % AHEAD] = false;
            if (kin_semaphore_release(ahead) != KIN_OK)
                return 1;
        }
    }
    kin_semaphore_close(ahead);
    kin_queue_close(results);
    return err == KIN_EPIPE ? 0 : 1;
}

static int wait_for(kin_process *process)
{
    int code;
    must(kin_process_join(process, KIN_FOREVER), "join a child");
    must(kin_process_exit_code(process, &code), "ask how it ended");
    kin_process_close(process);
    return code;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_queue *jobs, *results;
    must(kin_queue_create(&jobs, &(kin_queue_options){.name = "jobs"}), "create a queue");
    must(kin_queue_create(&results, &(kin_queue_options){.name = "results"}), "create a queue");
    kin_semaphore *ahead;
    must(kin_semaphore_create(&ahead, AHEAD, NULL), "create a semaphore");

    kin_process *reader, *workers[WORKERS], *writer;
    must(kin_process_start(&reader, read_numbers, KIN_ARGS(jobs, ahead, argc > 1 ? argv[1] : ""), NULL),
         "start the reader");
    for (int i = 0; i < WORKERS; i++)
        must(kin_process_start(&workers[i], work, KIN_ARGS(jobs, results), NULL), "start a worker");
    must(kin_process_start(&writer, write_results, KIN_ARGS(results, ahead), NULL), "start the writer");

    /* From the beginning to the end: when nobody puts into a queue any more, it is shut down. */
    int failed = wait_for(reader);
    must(kin_queue_shutdown(jobs), "shut a queue down");
    for (int i = 0; i < WORKERS; i++)
        failed += wait_for(workers[i]);
    must(kin_queue_shutdown(results), "shut a queue down");
    failed += wait_for(writer);

    kin_semaphore_close(ahead);
    kin_queue_close(jobs);
    kin_queue_close(results);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
