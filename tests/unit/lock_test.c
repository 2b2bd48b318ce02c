/* The word of a lock: what is in it, and what is made of a word that names nobody. */
#include "crash_support.h"

#include "thread.h"

#include <string.h>
#include <uv.h>

#define WAIT ((uint64_t)1)

static kin_lock lock;

static int setup(void **state)
{
    (void)state;
    check(kin_lock_init(&lock, &(kin_lock_options){.name = "word"}));
    return 0;
}

static void free_and_held(void **state)
{
    (void)state;
    assert_true(sizeof(kin_lock) == 64);
    assert_true(lock.kin__o.word == 0);
    check(kin_lock_acquire(&lock, KIN_FOREVER));
    assert_true(lock.kin__o.word == kin__me);
    assert_true((kin__me & WAIT) == 0);
    check(kin_lock_release(&lock));
    assert_true(lock.kin__o.word == 0);
}

static void wait_a_little(void *arg)
{
    *(kin_err *)arg = kin_lock_acquire(&lock, 30);
}

static void take(void *arg)
{
    kin_err *err = arg;
    *err = kin_lock_acquire(&lock, test_ms(20000));
    if (*err == KIN_OK)
        *err = kin_lock_release(&lock);
}

static void the_wait_bit(void **state)
{
    (void)state;
    uv_thread_t thread;
    kin_err err = KIN_EIO;
    check(kin_lock_acquire(&lock, KIN_FOREVER));
    assert_int_equal(uv_thread_create(&thread, wait_a_little, &err), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(err, KIN_ETIMEDOUT);
    assert_true((lock.kin__o.word & ~WAIT) == kin__me); /* the bit may stay: it costs one look */
    assert_true(kin_lock_held(&lock));
    check_fails(KIN_EDEADLK, kin_lock_acquire(&lock, KIN_NOWAIT));
    assert_int_equal(uv_thread_create(&thread, take, &err), 0);
    assert_true(crash_until_sleeping(&lock));
    assert_true(lock.kin__o.word == (kin__me | WAIT));
    check(kin_lock_release(&lock));
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(err, KIN_OK);
    assert_true(lock.kin__o.word == 0);
}

/* Words that name nobody who is alive are as a dead owner, however they came about. */
static void owners_that_do_not_exist(void **state)
{
    (void)state;
    uint64_t me = kin__thread_me();
    const uint64_t words[] = {
        me - ((uint64_t)1 << 32),                      /* an earlier generation of this very place */
        me + ((uint64_t)1 << 32),                      /* a later one                              */
        (uint64_t)(KIN__THREADS) << 1,                 /* the last place, never used               */
        (uint64_t)(KIN__THREADS + 1) << 1,             /* beyond the table                         */
        (uint64_t)0xffff << 1, UINT64_MAX & ~WAIT, (uint64_t)1 << 63, (uint64_t)1 << 32,
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (uint64_t wait = 0; wait < 2; wait++) {
            lock.kin__o.word = words[i] | wait;
            check_fails(KIN_EPERM, kin_lock_release(&lock));
            assert_true(lock.kin__o.word == (words[i] | wait)); /* nothing changed */
            assert_false(kin_lock_held(&lock));
            check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&lock, i % 2 == 0 ? KIN_NOWAIT : KIN_FOREVER));
            check_says("word");
            assert_true(lock.kin__o.word == (kin__me | WAIT)); /* perhaps others sleep: nobody knows */
            check(kin_lock_release(&lock));
            assert_true(lock.kin__o.word == 0);
        }
    }
    lock.kin__o.word = WAIT; /* free, but for the bit: nobody makes such a word, and it need not hang */
    kin_err err = kin_lock_acquire(&lock, 50);
    assert_true(err == KIN_OK || err == KIN_EOWNERDEAD);
    check(kin_lock_release(&lock));
}

static void damaged(void **state)
{
    (void)state;
    check(kin_lock_acquire(&lock, KIN_FOREVER));
    uint32_t magic = lock.kin__o.magic;
    lock.kin__o.magic ^= 1;
    check_fails(KIN_EINVAL, kin_lock_acquire(&lock, KIN_FOREVER));
    check_fails(KIN_EINVAL, kin_lock_release(&lock));
    assert_false(kin_lock_held(&lock));
    kin_lock_close(&lock);
    lock.kin__o.magic = magic;
    check(kin_lock_release(&lock));
}

static void names(void **state)
{
    (void)state;
    char name[64];
    for (size_t length = 0; length < sizeof name; length++) {
        memset(name, 'n', sizeof name);
        name[length] = 0;
        check(kin_lock_init(&lock, &(kin_lock_options){.name = name}));
        assert_true(strlen(lock.kin__o.name) == (length < 39 ? length : 39));
    }
    kin_lock other;
    check(kin_lock_init(&other, NULL));
    assert_true(other.kin__o.id != lock.kin__o.id);
    /* Made anew, whatever was there. */
    memset(&other, 0xff, sizeof other);
    check(kin_lock_init(&other, NULL));
    check(kin_lock_acquire(&other, KIN_NOWAIT));
    check(kin_lock_release(&other));
    /* The close of one that is in no segment does nothing. */
    kin_lock_close(&other);
    check(kin_lock_acquire(&other, KIN_NOWAIT));
    check(kin_lock_release(&other));
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(int argc, char **argv)
{
    kin_lock early;
    kin_err init = kin_lock_init(&early, NULL), acquired = kin_lock_acquire(&early, KIN_FOREVER);
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    if (init != KIN_OK || acquired != KIN_ESTATE) {
        (void)fprintf(stderr, "before kin_init: %s, %s\n", kin_strerror(init), kin_strerror(acquired));
        return 1;
    }
    const struct CMUnitTest tests[] = {TEST(free_and_held), TEST(the_wait_bit), TEST(owners_that_do_not_exist), TEST(damaged), TEST(names)};
    return cmocka_run_group_tests_name("lock words", tests, NULL, NULL);
}
