/* Four processes count together.
 *
 * What to learn: kin_init comes first; a child is an ordinary function; kin_value_add loses no update, so
 * four children that add 1 five times each make 20; and every call that can fail answers with a kin_err.
 */
#include <kin.h>
#include <stdio.h>

enum { CHILDREN = 4, TIMES = 5 };

static int count_up(kin_args *args)
{
    kin_value *counter;
    int times;
    if (kin_unpack(args, &counter, &times) != KIN_OK)
        return 1; /* the exit code is how a child says that it failed */
    for (int i = 0; i < times; i++)
        if (kin_value_add_i64(counter, 1, NULL) != KIN_OK)
            return 1;
    kin_value_close(counter);
    return 0;
}

static int complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, kin_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) /* in a child this runs count_up and does not return */
        return complain("kin_init");

    kin_value *counter;
    if (kin_value_create(&counter, 0) != KIN_OK)
        return complain("create a value");

    kin_process *children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        if (kin_process_start(&children[i], count_up, KIN_ARGS(counter, TIMES), NULL) != KIN_OK)
            return complain("start a child"); /* the ones already started are joined at exit */

    bool failed = false;
    for (int i = 0; i < CHILDREN; i++) {
        int code = 0;
        if (kin_process_join(children[i], KIN_FOREVER) != KIN_OK ||
            kin_process_exit_code(children[i], &code) != KIN_OK) {
            complain("join a child");
            failed = true;
        } else if (code != 0) {
            fprintf(stderr, "%s ended with %d\n", kin_process_name(children[i]), code);
            failed = true;
        }
        kin_process_close(children[i]);
    }

    printf("%lld\n", (long long)kin_value_get_i64(counter));
    kin_value_close(counter);
    return failed ? 1 : 0;
}
