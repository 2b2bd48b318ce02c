/* kin/init.h: what happens before, in and at the end of a program that uses kin. Much of it is seen from outside only: the program runs
 * itself again with an argument that says what to do. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define FILE_NAME test_file("init_test")

/* What kin answers before kin_init, gathered in main: whoever forgets the call learns of it. */
static struct {
    kin_err start, segment, value, array, lock, late_code, sync[6];
    char sentence[256];
    bool names_empty;
    bool objects_null;
} before;

static int target_return(kin_args *args)
{
    int code;
    return kin_unpack(args, &code) == KIN_OK ? code : 99;
}

static void gather_before(void)
{
    kin_process *process = NULL;
    kin_segment *segment = NULL;
    kin_value *value = NULL;
    kin_array *array = NULL;
    kin_lock *lock = NULL;
    before.names_empty = kin_start_method_name()[0] == 0 && kin_current_name()[0] == 0 && kin_current_pid() == 0 && kin_parent_pid() == 0 &&
                         kin_last_error()[0] == 0 && kin_last_code() == KIN_OK;
    before.start = kin_process_start(&process, target_return, KIN_ARGS(1), NULL);
    (void)snprintf(before.sentence, sizeof before.sentence, "%s", kin_last_error());
    before.segment = kin_segment_create(&segment, 10);
    before.value = kin_value_create(&value, 1);
    before.array = kin_array_create(&array, KIN_I32, 1);
    before.lock = kin_lock_create(&lock, NULL);
    kin_rlock *rlock = NULL;
    kin_semaphore *semaphore = NULL;
    kin_event *event = NULL;
    kin_condition *condition = NULL;
    kin_barrier *barrier = NULL;
    kin_rwlock *rwlock = NULL;
    before.sync[0] = kin_rlock_create(&rlock, NULL);
    before.sync[1] = kin_semaphore_create(&semaphore, 1, NULL);
    before.sync[2] = kin_event_create(&event, NULL);
    before.sync[3] = kin_condition_create(&condition, NULL);
    before.sync[4] = kin_barrier_create(&barrier, 2, NULL);
    before.sync[5] = kin_rwlock_create(&rwlock, NULL);
    before.late_code = kin_last_code();
    before.objects_null = rlock == NULL && semaphore == NULL && event == NULL && condition == NULL && barrier == NULL && rwlock == NULL;
    before.objects_null = before.objects_null && process == NULL && segment == NULL && value == NULL && array == NULL && lock == NULL;
}

static void nothing_before_init(void **state)
{
    (void)state;
    assert_true(before.names_empty);
    assert_int_equal(before.start, KIN_ESTATE);
    assert_non_null(strstr(before.sentence, "kin_init"));
    assert_int_equal(before.segment, KIN_ESTATE);
    assert_int_equal(before.value, KIN_ESTATE);
    assert_int_equal(before.array, KIN_ESTATE);
    assert_int_equal(before.lock, KIN_ESTATE);
    for (size_t i = 0; i < sizeof before.sync / sizeof before.sync[0]; i++)
        assert_int_equal(before.sync[i], KIN_ESTATE);
    assert_int_equal(before.late_code, KIN_ESTATE);
    assert_true(before.objects_null);
}

static void second_call_does_nothing(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof name, "%s", kin_start_method_name());
    check(kin_init(0, NULL));
    check(kin_init_with(0, NULL, NULL));
    check(kin_init_with(0, NULL, &(kin_options){.start_method = KIN_START_SPAWN}));
    assert_string_equal(kin_start_method_name(), name);
    assert_int_equal(test_run(target_return, KIN_ARGS(3)), 3);
}

static int target_init_again(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    CHILD_CHECK(kin_init(0, NULL) == KIN_OK);
    CHILD_CHECK(kin_start_method_name()[0] != 0);
    return 5;
}

static void second_call_in_a_child(void **state)
{
    (void)state;
    assert_int_equal(test_run(target_init_again, KIN_ARGS()), 5);
}

static void method_is_from_the_environment(void **state)
{
    const char *method = getenv("KIN_START_METHOD");
    (void)state;
    if (method == NULL || method[0] == 0)
        method = test_on_windows() ? "spawn" : "fork";
    assert_string_equal(kin_start_method_name(), method);
}

static void first_process(void **state)
{
    (void)state;
    assert_string_equal(kin_current_name(), "Main");
    assert_true(kin_current_pid() == uv_os_getpid());
    assert_int_equal(kin_parent_pid(), 0);
}

/* ---- seen from outside ---- */

#define RUN(output, ...) test_run_self((const char *const[]){__VA_ARGS__, NULL}, NULL, (output))

static void set_method(const char *method)
{
    assert_int_equal(method != NULL ? uv_os_setenv("KIN_START_METHOD", method) : uv_os_unsetenv("KIN_START_METHOD"), 0);
}

/* The program says what kin_init_with answered for the method `option`, then with the environment's. */
static int report_init(int argc, char **argv)
{
    kin_options options = {.start_method = (kin_start_method)strtol(argv[2], NULL, 10)};
    kin_err err = kin_init_with(argc, argv, &options);
    printf("%d \"%s\" %s\n", err, kin_start_method_name(), err != KIN_OK ? kin_last_error() : "");
    if (err != KIN_OK) {
        options.start_method = KIN_START_SPAWN; /* a refusal spoils nothing */
        err = kin_init_with(argc, argv, &options);
        printf("%d \"%s\"\n", err, kin_start_method_name());
    }
    kin_process *process = NULL;
    int code = -1;
    if (kin_process_start(&process, target_return, KIN_ARGS(17), NULL) == KIN_OK && kin_process_join(process, test_ms(20000)) == KIN_OK)
        (void)kin_process_exit_code(process, &code);
    kin_process_close(process);
    printf("%d\n", code);
    return 0;
}

static void methods(void **state)
{
    static test_output o;
    char was[32], *kept = getenv("KIN_START_METHOD");
    (void)state;
    (void)snprintf(was, sizeof was, "%s", kept != NULL ? kept : "");
    set_method(NULL);
    RUN(&o, "report-init", "0");
    assert_string_equal(o.out, test_on_windows() ? "0 \"spawn\" \n17\n" : "0 \"fork\" \n17\n");
    RUN(&o, "report-init", "2");
    assert_string_equal(o.out, "0 \"spawn\" \n17\n");
    set_method("");
    RUN(&o, "report-init", "0");
    assert_string_equal(o.out, test_on_windows() ? "0 \"spawn\" \n17\n" : "0 \"fork\" \n17\n");
    set_method("spawn");
    RUN(&o, "report-init", "0");
    assert_string_equal(o.out, "0 \"spawn\" \n17\n");
    set_method("banana");
    RUN(&o, "report-init", "0");
    assert_int_equal(strncmp(o.out, "1 \"\" ", 5), 0);
    assert_non_null(strstr(o.out, "banana"));
    assert_non_null(strstr(o.out, "\n0 \"spawn\"\n17\n"));
    RUN(&o, "report-init", "2"); /* options count, not the environment */
    assert_string_equal(o.out, "0 \"spawn\" \n17\n");
    set_method(NULL);
    RUN(&o, "report-init", "3");
    assert_int_equal(strncmp(o.out, "1 \"\" ", 5), 0);
    RUN(&o, "report-init", "-1");
    assert_int_equal(strncmp(o.out, "1 \"\" ", 5), 0);
    set_method("fork");
    RUN(&o, "report-init", "0");
    if (test_on_windows())
        assert_int_equal(strncmp(o.out, "15 \"\" ", 6), 0);
    else
        assert_string_equal(o.out, "0 \"fork\" \n17\n");
    set_method(was[0] != 0 ? was : NULL);
}

static int target_print(kin_args *args)
{
    const char *text;
    CHILD_CHECK(kin_unpack(args, &text) == KIN_OK);
    printf("%s", text);                  /* left in the buffer: flushed at the end */
    fprintf(stderr, "%s to stderr", text);
    return 0;
}

/* Buffered output: before kin_init, after it, and in a child. */
static int print_once(int argc, char **argv)
{
    kin_process *process;
    setvbuf(stdout, NULL, _IOFBF, 4096);
    if (argc > 2) /* what main does before kin_init is repeated in a spawned child */
        printf("before ");
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    printf("after ");
    if (kin_process_start(&process, target_print, KIN_ARGS("child "), NULL) != KIN_OK)
        return 2;
    if (kin_process_join(process, test_ms(20000)) != KIN_OK)
        return 3;
    kin_process_close(process);
    printf("end");
    return 0;
}

static void nothing_is_printed_twice(void **state)
{
    static test_output o;
    (void)state;
    RUN(&o, "print-once");
    assert_int_equal(o.exit_code, 0);
    assert_string_equal(o.out, "child after end");
    assert_string_equal(o.err, "child  to stderr");
    if (test_by_spawn())
        return;
    RUN(&o, "print-once", "before");
    assert_string_equal(o.out, "before child after end");
}

/* ---- the end of the program ---- */

static int target_slow(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    uv_sleep(100); /* its work: the parent has long returned from main */
    printf("child done\n");
    return 0;
}

static void say_end(void)
{
    if (strcmp(kin_current_name(), "Main") == 0)
        printf("main ends\n");
}

static int end_with_children(int argc, char **argv)
{
    static kin_process *process; /* kept, or it would be a leak */
    setvbuf(stdout, NULL, _IONBF, 0);
    (void)atexit(say_end); /* registered before kin's own, so it runs after that */
    if (kin_init(argc, argv) != KIN_OK || kin_process_start(&process, target_slow, KIN_ARGS(), NULL) != KIN_OK)
        return 1;
    if (argc > 2)
        kin_process_close(process); /* closed or not, it is joined */
    return 6;
}

static void children_are_joined_at_the_end(void **state)
{
    static test_output o;
    (void)state;
    RUN(&o, "end-with-children");
    assert_string_equal(o.out, "child done\nmain ends\n");
    assert_int_equal(o.exit_code, 6);
    RUN(&o, "end-with-children", "closed");
    assert_string_equal(o.out, "child done\nmain ends\n");
    assert_int_equal(o.exit_code, 6);
}

static int target_for_ever(kin_args *args)
{
    (void)args;
    for (int64_t end = kin_now() + test_ms(60000); kin_now() < end;)
        uv_sleep(10);
    printf("a daemon that was not ended\n");
    return 0;
}

static int end_with_daemons(int argc, char **argv)
{
    static kin_process *processes[3]; /* kept, or it would be a leak */
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    for (int i = 0; i < 3; i++) {
        if (kin_process_start(&processes[i], target_for_ever, KIN_ARGS(), &(kin_process_options){.daemon = true}) != KIN_OK)
            return 2;
    }
    printf("%lld %lld %lld\n", (long long)kin_process_pid(processes[0]), (long long)kin_process_pid(processes[1]),
           (long long)kin_process_pid(processes[2]));
    if (argc > 2)
        exit(8);
    return 7;
}

static void daemons_are_killed_at_the_end(void **state)
{
    static test_output o;
    long long pids[3];
    (void)state;
    for (int way = 0; way < 2; way++) {
        RUN(&o, "end-with-daemons", way == 0 ? NULL : "exit"); /* by return from main; by exit */
        assert_int_equal(o.exit_code, 7 + way);
        assert_int_equal(sscanf(o.out, "%lld %lld %lld", &pids[0], &pids[1], &pids[2]), 3);
        assert_null(strstr(o.out, "daemon"));
        for (int i = 0; i < 3; i++)
            assert_false(test_process_exists(pids[i]));
    }
}

/* ---- what was there before kin_init ---- */

static int target_has_file(kin_args *args)
{
    CHILD_CHECK(kin_unpack(args) == KIN_OK);
    return test_has_open(FILE_NAME) ? 1 : 0;
}

static int open_before(int argc, char **argv)
{
    kin_process *process;
    int code = -1;
    bool child = getenv("KIN_TEST_CHILD") != NULL; /* main is repeated in a spawned child */
    if (!child)
        (void)test_open_inheritable(FILE_NAME);
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    (void)uv_os_setenv("KIN_TEST_CHILD", "1");
    printf("%d ", test_has_open(FILE_NAME));
    if (kin_process_start(&process, target_has_file, KIN_ARGS(), NULL) != KIN_OK || kin_process_join(process, test_ms(20000)) != KIN_OK)
        return 2;
    (void)kin_process_exit_code(process, &code);
    kin_process_close(process);
    printf("%d\n", code);
    return 0;
}

static void files_from_before_are_not_in_a_child(void **state)
{
    static test_output o;
    (void)state;
    RUN(&o, "open-before");
    (void)remove(FILE_NAME);
    assert_string_equal(o.out, "1 0\n");
    assert_int_equal(o.exit_code, 0);
}

/* A program without standard streams, as services are started: kin's own descriptors get their numbers. */
static int target_into_file(kin_args *args)
{
    FILE *file;
    kin_value *value;
    CHILD_CHECK(kin_unpack(args, &file, &value) == KIN_OK);
    printf("printed by the child\n"); /* to the null device */
    fprintf(stderr, "printed by the child\n");
    (void)fflush(NULL);
    bool good = getchar() == EOF && kin_value_add_i64(value, 1, NULL) == KIN_OK && fputs("child ", file) >= 0;
    kin_value_close(value);
    return fclose(file) == 0 && good ? 0 : 1;
}

static int closed_streams(int argc, char **argv)
{
    kin_process *process = NULL;
    kin_value *value = NULL;
    test_close_descriptors(0, 2);
    kin_err err = kin_init(argc, argv);
    FILE *file = fopen(FILE_NAME, "w");
    if (file == NULL)
        return 1;
    if (err == KIN_OK)
        err = kin_value_create(&value, 0);
    for (int i = 0; i < 3 && err == KIN_OK; i++) {
        int code = -1;
        err = kin_process_start(&process, target_into_file, KIN_ARGS(file, value), NULL);
        if (err == KIN_OK)
            err = kin_process_join(process, test_ms(20000));
        if (err == KIN_OK)
            err = kin_process_exit_code(process, &code);
        kin_process_close(process);
        fprintf(file, "%d ", code);
    }
    fprintf(file, "%d %d%s", err, (int)kin_value_get_i64(value), err != KIN_OK ? kin_last_error() : "");
    kin_value_close(value);
    return fclose(file) == 0 ? 0 : 2;
}

static void program_without_streams(void **state)
{
    static test_output o;
    char text[512] = "";
    (void)state;
    RUN(&o, "closed-streams");
    FILE *file = fopen(FILE_NAME, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    (void)fclose(file);
    (void)remove(FILE_NAME);
    assert_string_equal(text, "child 0 child 0 child 0 0 3");
    assert_int_equal(o.exit_code, 0);
}

/* A spawned child whose main ends before kin_init never reaches its target, and its starter learns of it. */
static int die_before_init(int argc, char **argv)
{
    static kin_process *process; /* kept, or it would be a leak */
    if (getenv("KIN_TEST_DIE") != NULL)
        return 4;
    if (kin_init(argc, argv) != KIN_OK)
        return 1;
    (void)uv_os_setenv("KIN_TEST_DIE", "1");
    kin_err err = kin_process_start(&process, target_return, KIN_ARGS(1), NULL);
    printf("%d %s %s\n", err, process == NULL ? "NULL" : "set", kin_last_error());
    (void)uv_os_unsetenv("KIN_TEST_DIE");
    err = kin_process_start(&process, target_return, KIN_ARGS(1), NULL); /* and it spoils nothing */
    printf("%d\n", err);
    return 0;
}

static void child_that_ends_before_its_target(void **state)
{
    static test_output o;
    (void)state;
    if (!test_by_spawn())
        return; /* by fork nothing runs before the target */
    RUN(&o, "die-before-init");
    assert_int_equal(strncmp(o.out, "10 NULL ", 8), 0);
    assert_non_null(strstr(o.out, "before it could run its target"));
    assert_non_null(strstr(o.out, "exit code 4"));
    assert_non_null(strstr(o.out, "\n0\n"));
}

/* A child keeps the command line of the program. */
static int target_nothing(kin_args *args)
{
    (void)args;
    return 0;
}

static int with_arguments(int argc, char **argv)
{
    static kin_process *process; /* kept, or it would be a leak */
    if (argc != 7 || strcmp(argv[2], "") != 0 || strcmp(argv[3], "two words") != 0 || strcmp(argv[4], "\"quoted\"") != 0 ||
        strcmp(argv[5], "back\\slash\\") != 0 || strcmp(argv[6], "*?") != 0) {
        fprintf(stderr, "%d arguments\n", argc);
        return 50;
    }
    if (kin_init(argc, argv) != KIN_OK || kin_process_start(&process, target_nothing, KIN_ARGS(), NULL) != KIN_OK) {
        fprintf(stderr, "%s\n", kin_last_error());
        return 51;
    }
    return 0;
}

static void arguments_of_the_program(void **state)
{
    static test_output o;
    (void)state;
    RUN(&o, "with-arguments", "", "two words", "\"quoted\"", "back\\slash\\", "*?");
    assert_string_equal(o.err, "");
    assert_int_equal(o.exit_code, 0);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} programs[] = {{"report-init", report_init},
                {"print-once", print_once},
                {"end-with-children", end_with_children},
                {"end-with-daemons", end_with_daemons},
                {"open-before", open_before},
                {"closed-streams", closed_streams},
                {"die-before-init", die_before_init},
                {"with-arguments", with_arguments}};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_before_init),
        cmocka_unit_test(second_call_does_nothing),
        cmocka_unit_test(second_call_in_a_child),
        cmocka_unit_test(method_is_from_the_environment),
        cmocka_unit_test(first_process),
        cmocka_unit_test(methods),
        cmocka_unit_test(nothing_is_printed_twice),
        cmocka_unit_test(children_are_joined_at_the_end),
        cmocka_unit_test(daemons_are_killed_at_the_end),
        cmocka_unit_test(files_from_before_are_not_in_a_child),
        cmocka_unit_test(program_without_streams),
        cmocka_unit_test(child_that_ends_before_its_target),
        cmocka_unit_test(arguments_of_the_program),
    };
    for (size_t i = 0; argc > 1 && i < sizeof programs / sizeof programs[0]; i++) {
        if (strcmp(argv[1], programs[i].name) == 0)
            return programs[i].run(argc, argv);
    }
    gather_before();
    if (kin_init(argc, argv) != KIN_OK)
        return EXIT_FAILURE;
    return cmocka_run_group_tests_name("init", tests, NULL, NULL);
}
