/* A struct of the program's own in shared memory, with locks in it.
 *
 * What to learn: a kin_segment is memory that processes share; what is in it is up to the program. A
 * kin_lock is a plain struct that may be a member, as many of them as wanted: here each account has its
 * own, and processes wait for each other only when they want the same account.
 */
#include "must.h"

enum { CHILDREN = 4, ACCOUNTS = 3, PAYMENTS = 300 };

struct account {
    kin_lock lock; /* protects what follows */
    int64_t payments;
    int64_t balance;
};

struct bank { /* no pointers in it: every process sees it at another address */
    struct account accounts[ACCOUNTS];
};

static int pay(kin_args *args)
{
    kin_segment *segment;
    if (kin_unpack(args, &segment) != KIN_OK)
        return 1;

    struct bank *bank = kin_segment_data(segment);
    for (int i = 0; i < PAYMENTS; i++) {
        struct account *account = &bank->accounts[i % ACCOUNTS];
        if (kin_lock_acquire(&account->lock, KIN_FOREVER) != KIN_OK)
            return 1;
        account->payments++;
        account->balance += i;
        kin_lock_release(&account->lock);
    }
    kin_segment_close(segment);
    return 0;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_segment *segment;
    must(kin_segment_create(&segment, sizeof(struct bank)), "create a segment"); /* all zero */
    struct bank *bank = kin_segment_data(segment);
    for (int i = 0; i < ACCOUNTS; i++)
        must(kin_lock_init(&bank->accounts[i].lock, NULL), "make a lock"); /* before others have it */

    kin_process *children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        must(kin_process_start(&children[i], pay, KIN_ARGS(segment), NULL), "start a child");
    for (int i = 0; i < CHILDREN; i++) {
        must(kin_process_join(children[i], KIN_FOREVER), "join a child");
        kin_process_close(children[i]);
    }

    for (int i = 0; i < ACCOUNTS; i++)
        printf("account %d: %lld payments, balance %lld\n", i, (long long)bank->accounts[i].payments,
               (long long)bank->accounts[i].balance);
    kin_segment_close(segment);
}
