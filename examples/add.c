/* Two processes add the numbers from 1 to 1000, half of them each.
 *
 * What to learn: a child has what it was passed, here the bounds of its half and the value for the sum. It
 * keeps its part to itself until it is complete and adds it to the shared value once: little is shared, so
 * little is waited for.
 */
#include "must.h"

static int add_part(kin_args *args)
{
    kin_value *sum;
    int first, last;
    if (kin_unpack(args, &sum, &first, &last) != KIN_OK)
        return 1;

    int64_t part = 0;
    for (int i = first; i <= last; i++)
        part += i;
    return kin_value_add_i64(sum, part, NULL);
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_value *sum;
    must(kin_value_create(&sum, 0), "create the sum");

    kin_process *low, *high;
    must(kin_process_start(&low, add_part, KIN_ARGS(sum, 1, 500), NULL), "start the first child");
    must(kin_process_start(&high, add_part, KIN_ARGS(sum, 501, 1000), NULL), "start the second child");
    must(kin_process_join(low, KIN_FOREVER), "join the first child");
    must(kin_process_join(high, KIN_FOREVER), "join the second child");

    printf("%lld\n", (long long)kin_value_get_i64(sum));

    kin_process_close(low);
    kin_process_close(high);
    kin_value_close(sum);
}
