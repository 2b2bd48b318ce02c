/* kin/base.h: codes, sentences, the clock. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static void every_code_has_a_name(void **state)
{
    static const struct {
        kin_err code;
        const char *name;
    } codes[] = {{KIN_OK, "KIN_OK"},
                 {KIN_EINVAL, "KIN_EINVAL"},
                 {KIN_ENOMEM, "KIN_ENOMEM"},
                 {KIN_EAGAIN, "KIN_EAGAIN"},
                 {KIN_EMFILE, "KIN_EMFILE"},
                 {KIN_ETIMEDOUT, "KIN_ETIMEDOUT"},
                 {KIN_EPERM, "KIN_EPERM"},
                 {KIN_EOWNERDEAD, "KIN_EOWNERDEAD"},
                 {KIN_EDEADLK, "KIN_EDEADLK"},
                 {KIN_ELOST, "KIN_ELOST"},
                 {KIN_ECHILD, "KIN_ECHILD"},
                 {KIN_ETYPE, "KIN_ETYPE"},
                 {KIN_ERANGE, "KIN_ERANGE"},
                 {KIN_ENOENT, "KIN_ENOENT"},
                 {KIN_ESTATE, "KIN_ESTATE"},
                 {KIN_ENOTSUP, "KIN_ENOTSUP"},
                 {KIN_EINTERRUPTED, "KIN_EINTERRUPTED"},
                 {KIN_ETASK, "KIN_ETASK"},
                 {KIN_EPROTO, "KIN_EPROTO"},
                 {KIN_EIO, "KIN_EIO"},
                 {KIN_EPIPE, "KIN_EPIPE"},
                 {KIN_EEXIST, "KIN_EEXIST"},
                 {KIN_ECANCELLED, "KIN_ECANCELLED"}};
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        const char *text = kin_strerror(codes[i].code);
        size_t length = strlen(codes[i].name);
        assert_int_equal(codes[i].code, i); /* the numbers never change */
        assert_int_equal(strncmp(text, codes[i].name, length), 0);
        assert_int_equal(strncmp(text + length, ": ", 2), 0);
        assert_true(strlen(text) > length + 2);
    }
}

static void foreign_codes(void **state)
{
    static const kin_err codes[] = {-1, 23, 1000, INT32_MAX, INT32_MIN};
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_non_null(kin_strerror(codes[i]));
        assert_true(strlen(kin_strerror(codes[i])) > 0);
    }
}

static void version(void **state)
{
    char text[32];
    (void)state;
    (void)snprintf(text, sizeof text, "%d.%d.%d", KIN_VERSION_MAJOR, KIN_VERSION_MINOR, KIN_VERSION_PATCH);
    assert_string_equal(kin_version(), text);
}

static void cpus(void **state)
{
    (void)state;
    assert_true(kin_cpu_count() >= 1);
    assert_true(kin_cpu_count() <= 65536);
}

static void clock_goes_on(void **state)
{
    (void)state;
    int64_t start = kin_now(), before = start;
    for (int i = 0; i < 10000; i++) {
        int64_t now = kin_now();
        assert_true(now >= before);
        before = now;
    }
    for (int i = 0; i < 10000 && kin_now() == start; i++)
        uv_sleep(1);
    assert_true(kin_now() > start);
}

static void look_at_errors(void *arg)
{
    bool *good = arg;
    *good = strcmp(kin_last_error(), "") == 0 && kin_last_code() == KIN_OK;
    kin_lock_close(NULL);
    *good = *good && kin_lock_acquire(NULL, KIN_NOWAIT) == KIN_EINVAL && kin_last_code() == KIN_EINVAL;
}

/* A failure is a matter of its thread; a success changes nothing. */
static void last_error(void **state)
{
    char kept[256];
    kin_value *value;
    uv_thread_t thread;
    bool good = false;
    (void)state;
    check_fails(KIN_EINVAL, kin_value_set_i64(NULL, 1));
    assert_int_equal(kin_last_code(), KIN_EINVAL);
    (void)snprintf(kept, sizeof kept, "%s", kin_last_error());
    assert_true(strlen(kept) > 0);
    check(kin_value_create(&value, 3));
    assert_int_equal(kin_value_get_i64(value), 3);
    kin_value_close(value);
    assert_string_equal(kin_last_error(), kept);
    assert_int_equal(uv_thread_create(&thread, look_at_errors, &good), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_true(good);
    assert_string_equal(kin_last_error(), kept);
    assert_int_equal(kin_last_code(), KIN_EINVAL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name), cmocka_unit_test(foreign_codes), cmocka_unit_test(version),
        cmocka_unit_test(cpus),                  cmocka_unit_test(clock_goes_on), cmocka_unit_test(last_error),
    };
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
