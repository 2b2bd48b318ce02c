/* A shared library with targets in it. It knows nothing of kin: a child only has to find the function again. */
typedef struct kin_args kin_args;

int plugin_target(kin_args *args)
{
    (void)args;
    return 42;
}

/* Data, not code. */
int plugin_data = 7;

static int calls;

/* A library that is loaded in the child is loaded anew: it has no state of the parent's. */
int plugin_count(kin_args *args)
{
    (void)args;
    return ++calls;
}
