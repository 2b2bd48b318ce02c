/* The smallest program that uses kin from outside its tree: one child adds to a number both can see. */
#include <kin.h>
#include <stdio.h>

static int add(kin_args *args)
{
    kin_value *sum;
    int64_t number;
    if (kin_unpack(args, &sum, &number) != KIN_OK)
        return 1;
    return kin_value_add_i64(sum, number, NULL) == KIN_OK ? 0 : 2;
}

int main(int argc, char **argv)
{
    kin_value *sum;
    kin_process *child;
    int code = -1;
    if (kin_init(argc, argv) != KIN_OK || kin_value_create(&sum, 40) != KIN_OK ||
        kin_process_start(&child, add, KIN_ARGS(sum, 2), NULL) != KIN_OK || kin_process_join(child, 60000) != KIN_OK ||
        kin_process_exit_code(child, &code) != KIN_OK) {
        fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    printf("%lld\n", (long long)kin_value_get_i64(sum));
    kin_process_close(child);
    kin_value_close(sum);
    return code;
}
