/* A global that the parent sets is not set in its children.
 *
 * What to learn: a child has what it was passed, and nothing else. It begins with the state that the
 * program had at kin_init: what was set before is there (every process ran that far), what was set later is
 * not. So it is on every system and under every start method; what a child needs to know is an argument.
 */
#include "must.h"

static int before_init = 1;
static int after_init = 1;

static int report(kin_args *args)
{
    int argument;
    kin_value *seen_before, *seen_after, *seen_argument;
    if (kin_unpack(args, &argument, &seen_before, &seen_after, &seen_argument) != KIN_OK)
        return 1;
    kin_value_set_i64(seen_before, before_init);
    kin_value_set_i64(seen_after, after_init);
    kin_value_set_i64(seen_argument, argument);
    return 0;
}

int main(int argc, char **argv)
{
    before_init = 2;
    must(kin_init(argc, argv), "kin_init");
    after_init = 2;
    int argument = 2;

    kin_value *seen_before, *seen_after, *seen_argument;
    must(kin_value_create(&seen_before, 0), "create a value");
    must(kin_value_create(&seen_after, 0), "create a value");
    must(kin_value_create(&seen_argument, 0), "create a value");

    kin_process *child;
    must(kin_process_start(&child, report, KIN_ARGS(argument, seen_before, seen_after, seen_argument), NULL),
         "start a child");
    must(kin_process_join(child, KIN_FOREVER), "join the child");

    printf("set                parent  child\n");
    printf("before kin_init    %d       %lld\n", before_init, (long long)kin_value_get_i64(seen_before));
    printf("after kin_init     %d       %lld\n", after_init, (long long)kin_value_get_i64(seen_after));
    printf("as an argument     %d       %lld\n", argument, (long long)kin_value_get_i64(seen_argument));

    kin_process_close(child);
    kin_value_close(seen_before);
    kin_value_close(seen_after);
    kin_value_close(seen_argument);
}
