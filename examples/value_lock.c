/* Ten processes change a number in steps that must not be mixed: read it, compute, write it back.
 *
 * What to learn: each step of a value is atomic, but three of them in a row are not: another process may
 * write between the read and the write, and its work is lost. The lock that comes with every value makes
 * them one.
 */
#include "must.h"

enum { CHILDREN = 10, TIMES = 10 };

static int increment(kin_args *args)
{
    kin_value *number;
    if (kin_unpack(args, &number) != KIN_OK)
        return 1;

    kin_lock *lock = kin_value_lock(number);
    for (int i = 0; i < TIMES; i++) {
        if (kin_lock_acquire(lock, KIN_FOREVER) != KIN_OK)
            return 1;
        int64_t seen = kin_value_get_i64(number);
        int64_t next = seen + 1; /* without the lock, others could have gone on from `seen` by now */
        kin_value_set_i64(number, next);
        kin_lock_release(lock);
    }
    kin_value_close(number);
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_value *number;
    must(kin_value_create(&number, 0), "create a value");

    kin_process *children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        must(kin_process_start(&children[i], increment, KIN_ARGS(number), NULL), "start a child");
    for (int i = 0; i < CHILDREN; i++) {
        must(kin_process_join(children[i], KIN_FOREVER), "join a child");
        kin_process_close(children[i]);
    }

    printf("%lld\n", (long long)kin_value_get_i64(number));
    kin_value_close(number);
}
