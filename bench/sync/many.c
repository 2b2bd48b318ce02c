/* many: a process that creates many locks, takes them all and releases them all; and a child that is passed many, in one list,
 * and takes and releases each.
 *
 *     many LOCKS PASSED
 */
#include "children.h"

static int use(kin_args *args)
{
    kin_args *list;
    uint64_t n;
    bench_kin(kin_unpack(args, &list, &n));
    bench_check(kin_args_count(list) == n, "not all locks have come");
    for (size_t i = 0; i < n; i++) {
        kin_lock *lock;
        bench_kin(kin_args_get(list, i, KIN_OUT(&lock)));
        bench_kin(kin_lock_acquire(lock, KIN_NOWAIT));
        bench_kin(kin_lock_release(lock));
        kin_lock_close(lock);
    }
    return 0;
}

/* Each lock of its own has a descriptor. */
static void allow_descriptors(uint64_t n)
{
    struct rlimit limit;
    bench_check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    if (limit.rlim_cur >= n)
        return;
    limit.rlim_cur = n;
    bench_check(limit.rlim_max >= n && setrlimit(RLIMIT_NOFILE, &limit) == 0, "too few descriptors are allowed here");
}

static void print_ms(const char *param, uint64_t began)
{
    bench_print("many", "kin", param, (double)(bench_now() - began) / 1e6, "ms");
}

int main(int argc, char **argv)
{
    size_t n = argc == 3 ? (size_t)bench_number(argv[1], 1, 1000000) : 0;
    allow_descriptors(n + 100); /* before kin_init: for the children, too */
    bench_begin(argc, argv);
    bench_check(argc == 3, "usage: many LOCKS PASSED");
    size_t passed = (size_t)bench_number(argv[2], 1, n);
    kin_lock **locks = malloc(n * sizeof(kin_lock *));
    kin_any *items = malloc(passed * sizeof(kin_any));
    bench_check(locks != NULL && items != NULL, "no memory");

    uint64_t began = bench_now();
    for (size_t i = 0; i < n; i++)
        bench_kin(kin_lock_create(&locks[i], NULL));
    print_ms("create", began);
    began = bench_now();
    for (size_t i = 0; i < n; i++)
        bench_kin(kin_lock_acquire(locks[i], KIN_NOWAIT));
    for (size_t i = 0; i < n; i++)
        bench_kin(kin_lock_release(locks[i]));
    print_ms("take-release", began);

    began = bench_now();
    for (size_t i = 0; i < passed; i++)
        items[i] = KIN_ANY(locks[i]);
    kin_process *child = bench_start(use, KIN_ARGS(kin_list(((kin_pack){items, passed})), (uint64_t)passed));
    bench_join(child);
    print_ms("pass", began);

    began = bench_now();
    for (size_t i = 0; i < n; i++)
        kin_lock_close(locks[i]);
    print_ms("close", began);
    /* Every call above has succeeded. */
    bench_print("many", "kin", "worked", (double)n, "locks");
    bench_print("many", "kin", "passed", (double)passed, "locks");
    free(items);
    free(locks);
    return 0;
}
