/* kin/connection.h: values, with objects, files and other connections among them. What children leave open is in static variables:
 * there it is no leak.
 * @ctest TIMEOUT 120 */
#include "support.h"

#include "fault.h"

#include <stdlib.h>
#include <string.h>

static kin_connection *first, *second;

static void close_one(kin_connection **c)
{
    kin_connection_close(*c);
    *c = NULL;
}

static int teardown(void **state)
{
    (void)state;
    kin__fault_arm(0);
    close_one(&first);
    close_one(&second);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    check(kin_pipe(&first, &second, &(kin_pipe_options){.name = "goods"}));
    return 0;
}

static void still_good(void)
{
    int number = 0;
    check(kin_connection_send(first, "well", 4, KIN_NOWAIT));
    char text[8];
    check(kin_connection_recv(second, text, sizeof text, NULL, KIN_NOWAIT));
    assert_memory_equal(text, "well", 4);
    check(kin_connection_send_args(second, KIN_ARGS(11), KIN_NOWAIT));
    kin_args *args;
    check(kin_connection_recv_args(first, &args, KIN_NOWAIT));
    check(kin_unpack(args, &number));
    assert_int_equal(number, 11);
    kin_args_free(args);
}

/* ---- values ---- */

struct point {
    int x, y;
};

static void plain_values(void **state)
{
    (void)state;
    struct point p = {3, -4}, q = {0};
    kin_args *args, *list;
    bool yes = false;
    int number = 0, inner = 0;
    double real = 0;
    const char *text = NULL;
    kin_view bytes;
    char blob[300];
    memset(blob, 7, sizeof blob);
    check(kin_connection_send_args(
        first,
        KIN_ARGS(true, -5, 2.5, "text", kin_bytes(blob, sizeof blob), kin_struct(p), kin_list(KIN_ARGS(8, "in")), 1u),
        KIN_NOWAIT));
    check(kin_connection_send_args(first, KIN_ARGS(), KIN_NOWAIT));
    memset(blob, 0, sizeof blob); /* copied already */
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    uint8_t small = 0;
    check(kin_unpack(args, &yes, &number, &real, &text, &bytes, kin_struct_out(q), &list, &small));
    assert_true(yes && number == -5 && real == 2.5 && strcmp(text, "text") == 0 && q.x == 3 && q.y == -4 && small == 1);
    assert_int_equal(bytes.size, sizeof blob);
    for (size_t i = 0; i < bytes.size; i++)
        assert_int_equal(((const char *)bytes.data)[i], 7);
    check(kin_unpack(list, &inner, &text));
    assert_true(inner == 8 && strcmp(text, "in") == 0);
    kin_args_free(args);
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    assert_int_equal(kin_args_count(args), 0);
    kin_args_free(args);
}

/* Larger than half the pipe, so in memory of their own; with an object. */
static void large_values(void **state)
{
    (void)state;
    size_t size = 300000;
    char *blob = malloc(size);
    assert_non_null(blob);
    memset(blob, 5, size);
    kin_event *event, *same;
    kin_args *args;
    kin_view bytes;
    check(kin_event_create(&event, NULL));
    check(kin_connection_send_args(first, KIN_ARGS(kin_bytes(blob, size), event), KIN_NOWAIT));
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    check(kin_unpack(args, &bytes, &same));
    assert_int_equal(bytes.size, size);
    assert_memory_equal(bytes.data, blob, size);
    check(kin_event_set(event));
    assert_true(kin_event_is_set(same));
    kin_event_close(same);
    kin_event_close(event);
    kin_args_free(args);
    free(blob);
}

/* ---- objects, each used on the other side ---- */

enum {
    LOCK,
    RLOCK,
    SEMAPHORE,
    EVENT,
    CONDITION,
    BARRIER,
    RWLOCK,
    VALUE,
    ARRAY,
    SEGMENT,
    QUEUE,
    CONNECTION,
    A_FILE,
    FD,
    HANDLE,
    KINDS
};

/* What arrives is used, so that the parent can see it. */
static kin_err use(kin_args *args, int kind)
{
    kin_err err = KIN_EINVAL;
    kin_lock *lock;
    kin_rlock *rlock;
    kin_semaphore *semaphore;
    kin_event *event;
    kin_condition *condition;
    kin_barrier *barrier;
    kin_rwlock *rwlock;
    kin_value *value;
    kin_array *array;
    kin_segment *segment;
    static kin_queue *queue;
    static kin_connection *connection;
    FILE *file = NULL;
    int number, fd = -1;
    intptr_t handle;
    switch (kind) {
    case LOCK:
        return kin_unpack(args, &number, &lock) == KIN_OK && kin_lock_acquire(lock, KIN_NOWAIT) == KIN_ETIMEDOUT
                   ? KIN_OK
                   : err;
    case RLOCK:
        return kin_unpack(args, &number, &rlock) == KIN_OK && kin_rlock_acquire(rlock, KIN_NOWAIT) == KIN_ETIMEDOUT
                   ? KIN_OK
                   : err;
    case SEMAPHORE:
        err = kin_unpack(args, &number, &semaphore);
        return err != KIN_OK ? err : kin_semaphore_acquire(semaphore, KIN_NOWAIT);
    case EVENT:
        err = kin_unpack(args, &number, &event);
        return err != KIN_OK ? err : kin_event_set(event);
    case CONDITION:
        return kin_unpack(args, &number, &condition);
    case BARRIER:
        err = kin_unpack(args, &number, &barrier);
        return err != KIN_OK ? err : kin_barrier_abort(barrier);
    case RWLOCK:
        return kin_unpack(args, &number, &rwlock) == KIN_OK &&
                       kin_rwlock_acquire_read(rwlock, KIN_NOWAIT) == KIN_ETIMEDOUT
                   ? KIN_OK
                   : err;
    case VALUE:
        err = kin_unpack(args, &number, &value);
        if (err == KIN_OK)
            (void)kin_value_add_i64(value, 5, NULL);
        return err;
    case ARRAY:
        err = kin_unpack(args, &number, &array);
        if (err == KIN_OK)
            ((int32_t *)kin_array_data(array))[3] = 12;
        return err;
    case SEGMENT:
        err = kin_unpack(args, &number, &segment);
        if (err == KIN_OK)
            strcpy(kin_segment_data(segment), "written");
        return err;
    case QUEUE:
        err = kin_unpack(args, &number, &queue);
        return err != KIN_OK ? err : kin_queue_put(queue, "put", 3, KIN_NOWAIT);
    case CONNECTION:
        err = kin_unpack(args, &number, &connection);
        return err != KIN_OK ? err : kin_connection_send(connection, "sent", 4, KIN_NOWAIT);
    case A_FILE:
        err = kin_unpack(args, &number, &file);
        return err != KIN_OK ? err : fprintf(file, "child\n") > 0 && fclose(file) == 0 ? KIN_OK : KIN_EIO;
    case FD:
        err = kin_unpack(args, &number, kin_fd_out(&fd));
        if (err == KIN_OK)
            test_close_descriptors(fd, fd);
        return err != KIN_OK ? err : fd > 2 ? KIN_OK : KIN_EIO;
    default:
        err = kin_unpack(args, &number, kin_handle_out(&handle));
        if (err == KIN_OK)
            test_close_handle(handle);
        return err;
    }
}

static int taker(kin_args *args)
{
    static kin_connection *c;
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    for (int kind = 0; kind < KINDS; kind++) {
        kin_args *message;
        int found = -1;
        CHILD_CHECK(kin_connection_recv_args(c, &message, test_ms(20000)) == KIN_OK);
        CHILD_CHECK(kin_args_get(message, 0, KIN_OUT(&found)) == KIN_OK && found == kind);
        int err = use(message, kind);
        kin_args_free(message);
        CHILD_CHECK(kin_connection_send(c, &err, sizeof err, KIN_NOWAIT) == KIN_OK);
    }
    return 0;
}

static void give(int kind, kin_any object)
{
    int err = -1;
    check(kin_connection_send_args(first, KIN_ARGS(kind, object), KIN_NOWAIT));
    check(kin_connection_recv(first, &err, sizeof err, NULL, test_ms(20000)));
    if (err != KIN_OK)
        fail_msg("object of kind %d: the child found %s", kind, kin_strerror(err));
}

static void sync_objects(void)
{
    kin_lock *lock;
    kin_rlock *rlock;
    kin_semaphore *semaphore;
    kin_event *event;
    kin_condition *condition;
    kin_barrier *barrier;
    kin_rwlock *rwlock;
    check(kin_lock_create(&lock, NULL));
    check(kin_lock_acquire(lock, KIN_NOWAIT));
    give(LOCK, KIN_ANY(lock));
    check(kin_lock_release(lock));
    check(kin_rlock_create(&rlock, NULL));
    check(kin_rlock_acquire(rlock, KIN_NOWAIT));
    give(RLOCK, KIN_ANY(rlock));
    check(kin_rlock_release(rlock));
    check(kin_semaphore_create(&semaphore, 2, NULL));
    give(SEMAPHORE, KIN_ANY(semaphore));
    assert_int_equal(kin_semaphore_units(semaphore), 1);
    check(kin_event_create(&event, NULL));
    give(EVENT, KIN_ANY(event));
    assert_true(kin_event_is_set(event));
    check(kin_condition_create(&condition, NULL));
    give(CONDITION, KIN_ANY(condition));
    check(kin_barrier_create(&barrier, 2, NULL));
    give(BARRIER, KIN_ANY(barrier));
    assert_true(kin_barrier_is_broken(barrier));
    check(kin_rwlock_create(&rwlock, NULL));
    check(kin_rwlock_acquire_write(rwlock, KIN_NOWAIT));
    give(RWLOCK, KIN_ANY(rwlock));
    check(kin_rwlock_release(rwlock));
    kin_lock_close(lock);
    kin_rlock_close(rlock);
    kin_semaphore_close(semaphore);
    kin_event_close(event);
    kin_condition_close(condition);
    kin_barrier_close(barrier);
    kin_rwlock_close(rwlock);
}

static void memory_objects(void)
{
    kin_value *value;
    kin_array *array;
    kin_segment *segment;
    check(kin_value_create(&value, 37));
    give(VALUE, KIN_ANY(value));
    assert_int_equal(kin_value_get_i64(value), 42);
    kin_value_close(value);
    check(kin_array_create(&array, KIN_I32, 10));
    give(ARRAY, KIN_ANY(array));
    assert_int_equal(((int32_t *)kin_array_data(array))[3], 12);
    kin_array_close(array);
    check(kin_segment_create(&segment, 100));
    give(SEGMENT, KIN_ANY(segment));
    assert_string_equal(kin_segment_data(segment), "written");
    kin_segment_close(segment);
}

static void message_objects(void)
{
    kin_queue *queue;
    kin_connection *in, *out;
    char bytes[8] = "";
    check(kin_queue_create(&queue, NULL));
    give(QUEUE, KIN_ANY(queue));
    check(kin_queue_get(queue, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    assert_memory_equal(bytes, "put", 3);
    kin_queue_close(queue);
    check(kin_pipe(&out, &in, &(kin_pipe_options){.one_way = true}));
    give(CONNECTION, KIN_ANY(in));
    check(kin_connection_recv(out, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    assert_memory_equal(bytes, "sent", 4);
    kin_connection_close(in);
    kin_connection_close(out);
}

static void files(void)
{
    const char *path = test_file("passed");
    char line[32];
    FILE *file = fopen(path, "w+");
    assert_non_null(file);
    assert_true(fprintf(file, "parent\n") > 0); /* not flushed: passing sees to that */
    give(A_FILE, KIN_ANY(file));
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    assert_non_null(fgets(line, sizeof line, file));
    assert_memory_equal(line, "parent", 6);
    assert_non_null(fgets(line, sizeof line, file));
    assert_memory_equal(line, "child", 5);
    give(FD, kin_fd(fileno(file)));
    (void)fclose(file);
    intptr_t handle = test_open_inheritable(path);
    give(HANDLE, kin_handle(handle));
    test_close_handle(handle);
    (void)remove(path);
}

static void every_kind(void **state)
{
    (void)state;
    kin_process *p = test_start(taker, KIN_ARGS(second));
    close_one(&second);
    sync_objects();
    memory_objects();
    message_objects();
    files();
    assert_int_equal(test_finish(p), 0);
}

/* Both ends in one process that made neither. */
static int talk_to_itself(kin_args *args)
{
    static kin_connection *a, *b;
    char byte = 9;
    CHILD_CHECK(kin_unpack(args, &a, &b) == KIN_OK);
    CHILD_CHECK(kin_connection_send(a, &byte, 1, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_connection_recv(b, &byte, 1, NULL, KIN_NOWAIT) == KIN_OK);
    kin_connection_close(a);
    CHILD_CHECK(kin_connection_recv(b, &byte, 1, NULL, KIN_FOREVER) == KIN_EPIPE);
    return byte == 9 ? 0 : 1;
}

static void both_ends(void **state)
{
    (void)state;
    kin_process *p = test_start(talk_to_itself, KIN_ARGS(first, second));
    close_one(&first);
    close_one(&second);
    assert_int_equal(test_finish(p), 0);
}

/* The name, the limit and the direction go with it. */
static int look_at_it(kin_args *args)
{
    static kin_connection *c;
    char bytes[5] = "1234";
    CHILD_CHECK(kin_unpack(args, &c) == KIN_OK);
    CHILD_CHECK(strcmp(kin_connection_name(c), "lane") == 0);
    CHILD_CHECK(kin_connection_recv(c, bytes, 5, NULL, KIN_NOWAIT) == KIN_EPERM);
    CHILD_CHECK(kin_connection_send(c, bytes, 5, KIN_NOWAIT) == KIN_EMSGSIZE);
    CHILD_CHECK(kin_connection_send(c, bytes, 4, KIN_NOWAIT) == KIN_OK);
    return 0;
}

static void stays_what_it_is(void **state)
{
    (void)state;
    kin_connection *in, *out;
    char bytes[5];
    check(kin_pipe(&out, &in, &(kin_pipe_options){.name = "lane", .one_way = true, .max_message = 4}));
    assert_int_equal(test_run(look_at_it, KIN_ARGS(in)), 0);
    check(kin_connection_recv(out, bytes, sizeof bytes, NULL, KIN_NOWAIT));
    kin_connection_close(in);
    kin_connection_close(out);
}

/* Through itself: one end is sent to the other, and used from there. */
static void through_itself(void **state)
{
    (void)state;
    kin_connection *again;
    kin_args *args;
    check(kin_connection_send_args(first, KIN_ARGS(first), KIN_NOWAIT));
    close_one(&first);
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    check(kin_unpack(args, &again));
    kin_args_free(args);
    check(kin_connection_send(again, "well", 4, KIN_NOWAIT));
    first = again;
    char text[8];
    check(kin_connection_recv(second, text, sizeof text, NULL, KIN_NOWAIT));
    still_good();
}

/* ---- what cannot be passed ---- */

static void unpassable(void **state)
{
    (void)state;
    kin_event *event, *closed;
    check(kin_event_create(&event, NULL));
    check(kin_event_create(&closed, NULL));
    kin_event_close(closed);
    still_good();
    int before = test_count_handles();
    check_fails(KIN_EINVAL, kin_connection_send_args(first, KIN_ARGS(event, closed), KIN_NOWAIT));
    check_says("goods");
    check_says("value 1");
    check_fails(KIN_EINVAL, kin_connection_send_args(first, KIN_ARGS(event, (const char *)NULL), KIN_NOWAIT));
    check_fails(KIN_EINVAL, kin_connection_send_args(first, KIN_ARGS(event, (FILE *)NULL), KIN_NOWAIT));
    assert_true(kin_connection_send_args(first, KIN_ARGS(event, kin_fd(-1)), KIN_NOWAIT) != KIN_OK);
    assert_true(kin_connection_send_args(first, KIN_ARGS(event, (kin_any){.type = (kin_type)99}), KIN_NOWAIT) !=
                KIN_OK);
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(second, KIN_NOWAIT)); /* nothing of it was sent */
    assert_int_equal(test_count_handles(), before);
    kin_event_close(event);
    still_good();
}

static void too_many_objects(void **state)
{
    (void)state;
    kin_event *event, *out;
    kin_any many[65];
    kin_args *args;
    check(kin_event_create(&event, NULL));
    for (int i = 0; i < 65; i++)
        many[i] = KIN_ANY(event);
    check_fails(KIN_EINVAL, kin_connection_send_args(first, (kin_pack){many, 65}, KIN_NOWAIT));
    check(kin_connection_send_args(first, (kin_pack){many, 64}, KIN_NOWAIT));
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    assert_int_equal(kin_args_count(args), 64);
    for (size_t i = 0; i < 64; i++) {
        check(kin_args_get(args, i, KIN_OUT(&out)));
        kin_event_close(out);
    }
    kin_args_free(args);
    kin_event_close(event);
    still_good();
}

/* More messages with handles than are held beside the pipe: then there is no room, and later there is again. */
static void no_room_for_handles(void **state)
{
    (void)state;
    teardown(NULL);
    check(kin_pipe(&first, &second, &(kin_pipe_options){.capacity = (size_t)1 << 20}));
    kin_event *event;
    kin_args *args;
    check(kin_event_create(&event, NULL));
    check_fails(KIN_ETIMEDOUT, kin_connection_poll(second, 1)); /* what the first sleep of a process opens is no leak */
    int before = test_count_handles(), sent = 0, most = test_scale(100000, 1000), number = -1;
    kin_err err = KIN_OK;
    while (sent < most && (err = kin_connection_send_args(first, KIN_ARGS(sent, event), KIN_NOWAIT)) == KIN_OK)
        sent++;
    assert_true(sent > 50);
    if (sent < most) {
        assert_int_equal(err, KIN_ETIMEDOUT);
        check_fails(KIN_ETIMEDOUT, kin_connection_send_args(first, KIN_ARGS(sent, event), 10));
    }
    for (int i = 0; i < sent; i++) {
        check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
        check(kin_args_get(args, 0, KIN_OUT(&number)));
        assert_int_equal(number, i);
        kin_args_free(args);
        if (i == 0) {
            check(kin_connection_send_args(first, KIN_ARGS(sent, event), KIN_NOWAIT));
            sent++;
        }
    }
    assert_int_equal(test_count_handles(), before);
    kin_event_close(event);
    still_good();
}

/* Each call to the system fails once. What could not be sent is not there, what could not be received stays. */
static void system_fails(void **state)
{
    (void)state;
    kin_event *event, *same;
    kin_args *args;
    check(kin_event_create(&event, NULL));
    still_good();
    int before = test_count_handles(), failures = 0;
    for (int sending = 1; sending >= 0; sending--) {
        for (int n = 1;; n++) {
            if (!sending)
                check(kin_connection_send_args(first, KIN_ARGS(event, first), KIN_NOWAIT));
            kin__fault_arm(n);
            kin_err err = sending ? kin_connection_send_args(first, KIN_ARGS(event, first), KIN_NOWAIT)
                                  : kin_connection_recv_args(second, &args, KIN_NOWAIT);
            bool hit = kin__fault_hit() != NULL;
            kin__fault_arm(0);
            assert_true(err == KIN_OK || hit);
            failures += err != KIN_OK;
            if (sending && err != KIN_OK)
                check_fails(KIN_ETIMEDOUT, kin_connection_poll(second, KIN_NOWAIT));
            if (sending ? err == KIN_OK : err != KIN_OK)
                check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
            if (!sending || err == KIN_OK) {
                check(kin_args_get(args, 0, KIN_OUT(&same)));
                kin_event_close(same);
                kin_args_free(args);
            }
            /* What could not be taken out of the way goes with the next. */
            check(kin_connection_send_args(first, KIN_ARGS(event), KIN_NOWAIT));
            check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
            kin_args_free(args);
            assert_true(test_count_handles() <= before); /* Wine may close one of its own meanwhile */
            if (!hit)
                break;
        }
    }
    assert_true(failures > 0);
    kin_event_close(event);
    still_good();
}

/* Taking an end out of values fails, and can be tried again. */
static void unpacking_fails(void **state)
{
    (void)state;
    kin_connection *in, *out, *got = NULL;
    kin_args *args;
    check(kin_pipe(&out, &in, NULL));
    check(kin_connection_send_args(first, KIN_ARGS(in), KIN_NOWAIT));
    kin_connection_close(in);
    check(kin_connection_recv_args(second, &args, KIN_NOWAIT));
    int failures = 0;
    for (int n = 1; got == NULL; n++) {
        kin__fault_arm(n);
        kin_err err = kin_unpack(args, &got);
        assert_true(err == KIN_OK || kin__fault_hit() != NULL);
        kin__fault_arm(0);
        failures += err != KIN_OK;
    }
    assert_true(failures > 0);
    kin_args_free(args);
    check(kin_connection_send(got, "well", 4, KIN_NOWAIT));
    char text[8];
    check(kin_connection_recv(out, text, sizeof text, NULL, KIN_NOWAIT));
    kin_connection_close(got);
    check_fails(KIN_EPIPE, kin_connection_recv(out, text, sizeof text, NULL, KIN_NOWAIT));
    kin_connection_close(out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(plain_values),        TEST(large_values),   TEST(every_kind),      TEST(both_ends),
        TEST(stays_what_it_is),    TEST(through_itself), TEST(unpassable),      TEST(too_many_objects),
        TEST(no_room_for_handles), TEST(system_fails),   TEST(unpacking_fails),
    };
    return cmocka_run_group_tests_name("connection_pass", tests, NULL, NULL);
}
