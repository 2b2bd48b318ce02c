/* Handles: what was freed is known as such for a while, and of several closers one wins. */
#include "handle.h"
#include "support.h"

#include <string.h>
#include <uv.h>

#define MARK 0x12345678u
#define OTHER 0x12345679u

typedef struct thing {
    kin__mark mark;
    char text[60];
} thing;

static void new_is_zeroed(void **state)
{
    (void)state;
    thing *t = kin__handle_new(MARK, sizeof *t);
    assert_non_null(t);
    for (size_t i = 0; i < sizeof t->text; i++)
        assert_int_equal(t->text[i], 0);
    assert_true(kin__handle_is(t, MARK));
    assert_false(kin__handle_is(t, OTHER));
    assert_true(kin__handle_unmark(t, MARK));
    kin__handle_free(t);
}

static void no_handles(void **state)
{
    static char bytes[64];
    (void)state;
    assert_false(kin__handle_is(NULL, MARK));
    assert_false(kin__handle_unmark(NULL, MARK));
    assert_false(kin__handle_is(bytes, MARK));
    assert_false(kin__handle_is(bytes + 1, MARK));
    assert_false(kin__handle_unmark(bytes, OTHER));
}

static void use_after_free(void **state)
{
    thing *many[100];
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        many[i] = kin__handle_new(MARK, sizeof *many[i]);
        assert_non_null(many[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_true(kin__handle_unmark(many[i], MARK));
        kin__handle_free(many[i]);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_false(kin__handle_is(many[i], MARK));
        assert_false(kin__handle_unmark(many[i], MARK));
    }
}

static void too_much(void **state)
{
    (void)state;
    if (test_with_sanitizer())
        test_skip("the sanitizer ends a program that asks for so much memory");
    size_t most = SIZE_MAX / 4;
    assert_null(kin__handle_new(MARK, most));
    assert_int_equal(kin_last_code(), KIN_ENOMEM);
}

static thing *contended;
static uv_barrier_t barrier;

static void close_it(void *arg)
{
    (void)uv_barrier_wait(&barrier);
    *(bool *)arg = kin__handle_unmark(contended, MARK);
}

static void one_closer_wins(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        uv_thread_t threads[4];
        bool won[4];
        int winners = 0;
        contended = kin__handle_new(MARK, sizeof *contended);
        assert_non_null(contended);
        assert_int_equal(uv_barrier_init(&barrier, 4), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(uv_thread_create(&threads[i], close_it, &won[i]), 0);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(uv_thread_join(&threads[i]), 0);
            winners += won[i];
        }
        uv_barrier_destroy(&barrier);
        kin__handle_free(contended);
        assert_int_equal(winners, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_is_zeroed), cmocka_unit_test(no_handles),      cmocka_unit_test(use_after_free),
        cmocka_unit_test(too_much),      cmocka_unit_test(one_closer_wins),
    };
    return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
