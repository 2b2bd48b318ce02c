/* A child dies in the middle of a change, holding the lock; the parent puts things right and goes on.
 *
 * What to learn: a lock is never lost with its owner. The next to take it gets KIN_EOWNERDEAD: the lock is
 * held as with KIN_OK, and what it protects may be half changed. Only the program knows what is right, so
 * it looks, and repairs.
 */
#include "must.h"

struct book { /* the rule: paid + owed is always 100 */
    kin_lock lock;
    int64_t paid;
    int64_t owed;
};

static int pay_and_die(kin_args *args)
{
    kin_segment *segment;
    if (kin_unpack(args, &segment) != KIN_OK)
        return 1;

    struct book *book = kin_segment_data(segment);
    if (kin_lock_acquire(&book->lock, KIN_FOREVER) != KIN_OK)
        return 1;
    book->paid += 30;
    abort();
    /* never done: book->owed -= 30; kin_lock_release(&book->lock); */
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_segment *segment;
    must(kin_segment_create(&segment, sizeof(struct book)), "create a segment");
    struct book *book = kin_segment_data(segment);
    must(kin_lock_init(&book->lock, NULL), "make a lock");
    book->owed = 100;

    kin_process *child;
    int code;
    must(kin_process_start(&child, pay_and_die, KIN_ARGS(segment), NULL), "start a child");
    must(kin_process_join(child, KIN_FOREVER), "join the child");
    must(kin_process_exit_code(child, &code), "its exit code");
    printf("the child ended with %d\n", code); /* -6: abort, on every system */
    kin_process_close(child);

    kin_err error = kin_lock_acquire(&book->lock, KIN_FOREVER);
    if (error == KIN_EOWNERDEAD) {
        printf("the owner of the lock is dead: paid %d, owed %d\n", (int)book->paid, (int)book->owed);
        book->owed = 100 - book->paid;
    } else {
        must(error, "take the lock");
    }
    printf("repaired: paid %d, owed %d\n", (int)book->paid, (int)book->owed);
    must(kin_lock_release(&book->lock), "release the lock");

    error = kin_lock_acquire(&book->lock, KIN_NOWAIT);
    printf("the lock is %s\n", error == KIN_OK ? "as good as new" : kin_strerror(error));
    kin_lock_release(&book->lock);
    kin_segment_close(segment);
}
