/* Some tasks of a map fail, and one kills its worker. The others never notice.
 *
 * What to learn: a task fails by returning a number other than 0; kin_task_fail adds a message. A worker
 * that dies costs the one task it was running, and another takes its place. The map says that there were
 * failures (KIN_ETASK), and which; the results of all other tasks are there, and those that failed are left
 * as they were.
 */
#include "must.h"

enum { COUNT = 10, REFUSED = 7 };

static int halve(kin_task *task, const void *in, void *out)
{
    const int *number = in;
    int *half = out;
    if (*number == 6)
        abort(); /* any crash would do */
    if (*number % 2 != 0)
        return kin_task_fail(task, REFUSED, "%d is odd", *number);
    *half = *number / 2;
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    int numbers[COUNT], halves[COUNT];
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = i;
        halves[i] = -1;
    }

    kin_pool *pool;
    must(kin_pool_create(&pool, &(kin_pool_options){.workers = 2}), "create a pool");

    kin_task_error errors[COUNT];
    size_t failed = 0;
    kin_map_options options = {.errors = errors, .errors_max = COUNT, .failed = &failed};
    kin_err error = kin_pool_map(pool, halve, numbers, sizeof(int), halves, sizeof(int), COUNT, &options);
    if (error != KIN_ETASK)
        must(error, "map");
    kin_pool_close(pool);

    for (int i = 0; i < COUNT; i++)
        printf("%d -> %d\n", numbers[i], halves[i]);
    printf("%d of %d failed\n", (int)failed, COUNT);
    for (size_t i = 0; i < failed; i++)
        if (errors[i].died) /* errors[i].message says who, and of what */
            printf("task %d: its worker died\n", (int)errors[i].index);
        else
            printf("task %d: %d, %s\n", (int)errors[i].index, errors[i].code, errors[i].message);
}
