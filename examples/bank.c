/* A bank whose tellers are processes: transfers between accounts, each with a lock of its own; and two careless tellers who block
 * each other.
 *
 * What to learn: who needs two locks at once takes them in an order that is the same for all (here: the lower
 * account first). Where two do not, each may hold what the other waits for. kin finds that when it happens:
 * one of the two gets KIN_EDEADLK, with a sentence that names all who take part (bank --verbose shows it). To go on, it
 * releases what it has, and tries again beginning with what it did not get.
 */
#include "must.h"
#include <string.h>

enum { TELLERS = 4, ACCOUNTS = 8, TRANSFERS = 500, START = 10000 };

struct account {
    kin_lock lock; /* protects what follows */
    int64_t cents;
};

struct bank {
    struct account accounts[ACCOUNTS];
    kin_barrier both_have_one;
};

static int64_t sum_of(const struct bank *bank)
{
    int64_t sum = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        sum += bank->accounts[i].cents;
    return sum;
}

/* ---- the careful way ---- */

static kin_err transfer(struct bank *bank, int from, int to, int64_t cents)
{
    struct account *first = &bank->accounts[from < to ? from : to], *second = &bank->accounts[from < to ? to : from];
    kin_err error = kin_lock_acquire(&first->lock, KIN_FOREVER);
    if (error != KIN_OK)
        return error;
    error = kin_lock_acquire(&second->lock, KIN_FOREVER);
    if (error == KIN_OK) {
        bank->accounts[from].cents -= cents;
        bank->accounts[to].cents += cents;
        kin_lock_release(&second->lock);
    }
    kin_lock_release(&first->lock);
    return error;
}

static int careful_teller(kin_args *args)
{
    kin_segment *segment;
    int number;
    if (kin_unpack(args, &segment, &number) != KIN_OK)
        return 1;

    struct bank *bank = kin_segment_data(segment);
    for (int i = 0; i < TRANSFERS; i++) {
        int from = (number + i) % ACCOUNTS, to = (from + 1 + i % (ACCOUNTS - 1)) % ACCOUNTS;
        if (transfer(bank, from, to, i % 50) != KIN_OK)
            return 1;
    }
    kin_segment_close(segment);
    return 0;
}

/* ---- the careless way ---- */

static int careless_teller(kin_args *args)
{
    kin_segment *segment;
    kin_value *found;
    int from, to;
    bool verbose;
    if (kin_unpack(args, &segment, &found, &from, &to, &verbose) != KIN_OK)
        return 1;

    struct bank *bank = kin_segment_data(segment);
    kin_lock *mine = &bank->accounts[from].lock, *other = &bank->accounts[to].lock;
    if (kin_lock_acquire(mine, KIN_FOREVER) != KIN_OK)
        return 1;
    if (kin_barrier_wait(&bank->both_have_one, KIN_FOREVER, NULL) != KIN_OK) /* so that it happens each time */
        return 1;
    kin_err error = kin_lock_acquire(other, KIN_FOREVER);
    if (error == KIN_EDEADLK) {
        if (verbose)
            printf("%s\n", kin_last_error());
        kin_value_add_i64(found, 1, NULL);
        kin_lock_release(mine); /* the other one can go on now */
        error = kin_lock_acquire(other, KIN_FOREVER);
        if (error == KIN_OK)
            error = kin_lock_acquire(mine, KIN_FOREVER);
    }
    if (error != KIN_OK)
        return 1;
    bank->accounts[from].cents -= 100;
    bank->accounts[to].cents += 100;
    kin_lock_release(other);
    kin_lock_release(mine);
    kin_segment_close(segment);
    kin_value_close(found);
    return 0;
}

/* ---- the bank ---- */

static void finish(kin_process *teller)
{
    int code;
    must(kin_process_join(teller, KIN_FOREVER), "join a teller");
    must(kin_process_exit_code(teller, &code), "its exit code");
    if (code != 0)
        printf("a teller failed with %d\n", code);
    kin_process_close(teller);
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");
    bool verbose = argc > 1 && strcmp(argv[1], "--verbose") == 0;

    kin_segment *segment;
    must(kin_segment_create(&segment, sizeof(struct bank)), "create a segment");
    struct bank *bank = kin_segment_data(segment);
    for (int i = 0; i < ACCOUNTS; i++) {
        char name[40];
        snprintf(name, sizeof name, "account %d", i);
        must(kin_lock_init(&bank->accounts[i].lock, &(kin_lock_options){.name = name}), "make a lock");
        bank->accounts[i].cents = START;
    }
    must(kin_barrier_init(&bank->both_have_one, 2, NULL), "make a barrier");
    printf("%d accounts with %lld cents in all\n", ACCOUNTS, (long long)sum_of(bank));

    kin_process *tellers[TELLERS];
    for (int i = 0; i < TELLERS; i++)
        must(kin_process_start(&tellers[i], careful_teller, KIN_ARGS(segment, i), NULL), "start a teller");
    for (int i = 0; i < TELLERS; i++)
        finish(tellers[i]);
    printf("after %d transfers: %lld cents\n", TELLERS * TRANSFERS, (long long)sum_of(bank));

    kin_value *found;
    must(kin_value_create(&found, 0), "create a value");
    for (int i = 0; i < 2; i++)
        must(kin_process_start(&tellers[i], careless_teller, KIN_ARGS(segment, found, i, 1 - i, verbose), NULL), "start a teller");
    for (int i = 0; i < 2; i++)
        finish(tellers[i]);
    printf("two careless tellers: %lld deadlock found, both went on\n", (long long)kin_value_get_i64(found));
    printf("at the end: %lld cents\n", (long long)sum_of(bank));
    kin_value_close(found);
    kin_segment_close(segment);
}
