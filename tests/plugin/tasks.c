/* Tasks in a shared library. They cannot call kin, but need not: items are plain memory. */
typedef struct kin_task kin_task;

int plugin_square(kin_task *task, const void *in, void *out)
{
    (void)task;
    *(double *)out = *(const double *)in * *(const double *)in;
    return 0;
}

int plugin_fail(kin_task *task, const void *in, void *out)
{
    (void)task;
    (void)in;
    (void)out;
    return 23;
}
