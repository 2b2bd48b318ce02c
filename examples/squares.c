/* A pool of four workers squares the numbers from 0 to 9.
 *
 * What to learn: kin_pool_map calls one function for every item of an array, on all workers at once, and
 * gives the results in order, whichever worker computed them.
 */
#include "must.h"

enum { COUNT = 10 };

static int square(kin_task *task, const void *in, void *out)
{
    const int *number = in;
    int *result = out;
    (void)task;
    *result = *number * *number;
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    int numbers[COUNT], squares[COUNT];
    for (int i = 0; i < COUNT; i++)
        numbers[i] = i;

    kin_pool *pool;
    must(kin_pool_create(&pool, &(kin_pool_options){.workers = 4}), "create a pool");
    must(kin_pool_map(pool, square, numbers, sizeof(int), squares, sizeof(int), COUNT, NULL), "square");
    kin_pool_close(pool);

    for (int i = 0; i < COUNT; i++)
        printf("%d squared is %d\n", numbers[i], squares[i]);
}
