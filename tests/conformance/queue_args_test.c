/* kin/queue.h: messages of values: numbers, text, files and objects of kin, within one process, to another and after the end of who put. */
#include "queue_support.h"

#include "any.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

typedef struct config {
    char letter;
    double number;
} config;

static kin_args *get_args(kin_queue *q)
{
    kin_args *args = NULL;
    check(kin_queue_get_args(q, &args, KIN_NOWAIT));
    assert_non_null(args);
    return args;
}

/* Nothing was put, and the sentence says which queue and why. */
static void refused(kin_queue *q, kin_pack pack, const char *why)
{
    check_fails(KIN_EINVAL, kin_queue_put_args(q, pack, KIN_FOREVER));
    check_says(kin_queue_name(q));
    check_says(why);
    assert_int_equal(kin_queue_size(q), 0);
}

/* ---- values ---- */

static int check_everything(kin_args *args)
{
    bool yes;
    char c;
    signed char i8;
    unsigned short u16;
    int i32;
    long long i64;
    unsigned long long u64;
    float f;
    double d;
    const char *text, *empty;
    kin_view bytes, none;
    config s;
    kin_args *list, *inner;
    const char *two;
    int one;
    CHILD_CHECK(kin_args_count(args) == 15);
    CHILD_CHECK(kin_unpack(args, &yes, &c, &i8, &u16, &i32, &i64, &u64, &f, &d, &text, &empty, &bytes, &none,
                           kin_struct_out(s), &list) == KIN_OK);
    CHILD_CHECK(yes && c == 'c' && i8 == SCHAR_MIN && u16 == USHRT_MAX && i32 == INT_MIN && i64 == LLONG_MIN &&
                u64 == ULLONG_MAX);
    CHILD_CHECK(f == 0.5f && d == 1e300 &&
                strcmp(text, "Gr\xc3\xbc\xc3\x9f"
                             "e") == 0 &&
                empty[0] == 0);
    CHILD_CHECK(bytes.size == 4 && memcmp(bytes.data, "\0\1\2\0", 4) == 0 && none.size == 0);
    CHILD_CHECK(s.letter == 'k' && s.number == -2.5);
    CHILD_CHECK(kin_unpack(list, &one, &inner) == KIN_OK && one == 1);
    CHILD_CHECK(kin_unpack(inner, &two) == KIN_OK && strcmp(two, "two") == 0);
    return 17;
}

static int target_everything(kin_args *args)
{
    kin_queue *q;
    kin_args *values;
    CHILD_CHECK(kin_unpack(args, &q) == KIN_OK);
    CHILD_CHECK(kin_queue_get_args(q, &values, test_ms(20000)) == KIN_OK);
    int result = check_everything(values);
    kin_args_free(values);
    kin_queue_close(q);
    return result;
}

static void put_everything(kin_queue *q)
{
    config s = {'k', -2.5};
    char text[] = "Gr\xc3\xbc\xc3\x9f"
                  "e";
    check(kin_queue_put_args(q,
                             KIN_ARGS(true, 'c', (signed char)SCHAR_MIN, (unsigned short)USHRT_MAX, INT_MIN, LLONG_MIN,
                                      ULLONG_MAX, 0.5f, 1e300, text, "", kin_bytes("\0\1\2\0", 4), kin_bytes(NULL, 0),
                                      kin_struct(s), kin_list(KIN_ARGS(1, kin_list(KIN_ARGS("two"))))),
                             KIN_NOWAIT));
    memset(text, 0, sizeof text);
    s.letter = 'x';
}

static void every_kind_of_value(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "values", .relaxed = relaxed != 0});
        put_everything(q);
        kin_args *args = get_args(q);
        assert_int_equal(check_everything(args), 17);
        kin_args_free(args);
        put_everything(q);
        assert_int_equal(test_run(target_everything, KIN_ARGS(q)), 17);
        check(kin_queue_put_args(q, KIN_ARGS(), KIN_NOWAIT));
        args = get_args(q);
        assert_int_equal(kin_args_count(args), 0);
        kin_args_free(args);
        kin_args_free(NULL);
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* Small and large, up to far beyond the capacity; together with objects. */
static void values_of_all_sizes(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "sizes", .capacity = 4096});
    static char bytes[100000];
    kin_value *value, *back;
    check(kin_value_create(&value, 5));
    for (size_t size = 0; size < sizeof bytes; size += size < 1800 ? 61 : size < 2200 ? 1 : 7000) {
        kin_view view, second;
        queue_fill(bytes, size, (uint32_t)size);
        check(kin_queue_put_args(q, KIN_ARGS(kin_bytes(bytes, size)), KIN_NOWAIT));
        kin_args *args = get_args(q);
        check(kin_queue_put_args(q, KIN_ARGS(value, kin_bytes(bytes, size)), KIN_NOWAIT));
        memset(bytes, 0, size);
        kin_args *other = get_args(q);
        check(kin_unpack(args, &view));
        assert_true(view.size == size && queue_filled(view.data, size, (uint32_t)size));
        check(kin_unpack(other, &back, &second));
        assert_true(second.size == size && queue_filled(second.data, size, (uint32_t)size));
        check(kin_value_add_i64(back, 1, NULL));
        assert_int_equal(kin_value_get_i64(back), kin_value_get_i64(value));
        kin_value_close(back);
        kin_args_free(args);
        kin_args_free(other);
    }
    kin_value_close(value);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- the other kind stays ---- */

static void kinds_apart(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "kinds", .relaxed = relaxed != 0});
        char buffer[64];
        void *data = NULL;
        size_t size, count;
        kin_view view;
        kin_message m;
        kin_args *args = NULL;
        check(kin_queue_put_args(q, KIN_ARGS(7), KIN_NOWAIT));
        queue_put_number(q, 8);
        static const int64_t waits[] = {KIN_NOWAIT, 20, KIN_FOREVER};
        for (int i = 0; i < 3; i++) {
            check_fails(KIN_ETYPE, kin_queue_get(q, buffer, sizeof buffer, &size, waits[i]));
            check_says("queue 'kinds': the next message is values, not bytes: kin_queue_get_args");
            check_fails(KIN_ETYPE, kin_queue_get(q, NULL, 0, &size, waits[i]));
            check_fails(KIN_ETYPE, kin_queue_get_new(q, &data, &size, waits[i]));
            check_fails(KIN_ETYPE, kin_queue_get_many(q, buffer, sizeof buffer, &view, 1, &count, waits[i]));
            check_fails(KIN_ETYPE, kin_queue_take(q, &m, waits[i]));
            assert_int_equal(kin_queue_size(q), 2);
        }
        assert_null(data);
        args = get_args(q);
        int seven;
        check(kin_unpack(args, &seven));
        assert_int_equal(seven, 7);
        kin_args_free(args);
        args = NULL;
        for (int i = 0; i < 3; i++)
            check_fails(KIN_ETYPE, kin_queue_get_args(q, &args, waits[i]));
        check_says("queue 'kinds': the next message is bytes, not values: kin_queue_get");
        assert_null(args);
        assert_int_equal(queue_get_number(q), 8);
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* ---- objects ---- */

typedef struct in_memory {
    kin_lock lock;
    kin_event event;
} in_memory;

static int target_objects(kin_args *args)
{
    kin_queue *q, *answer;
    kin_args *values;
    kin_segment *segment;
    kin_value *value;
    kin_array *array;
    kin_lock *lock, *placed_lock;
    kin_rlock *rlock;
    kin_semaphore *semaphore;
    kin_event *event, *placed_event;
    kin_condition *condition;
    kin_barrier *barrier;
    kin_rwlock *rwlock;
    CHILD_CHECK(kin_unpack(args, &q) == KIN_OK);
    CHILD_CHECK(kin_queue_get_args(q, &values, test_ms(20000)) == KIN_OK);
    CHILD_CHECK(kin_unpack(values, &segment, &value, &array, &lock, &rlock, &semaphore, &event, &condition, &barrier,
                           &rwlock, &answer, &placed_lock, &placed_event) == KIN_OK);
    kin_args_free(values);
    ((char *)kin_segment_data(segment))[sizeof(in_memory)] = 'S';
    CHILD_CHECK(kin_value_add_i64(value, 1, NULL) == KIN_OK);
    ((int *)kin_array_data(array))[3] = 33;
    CHILD_CHECK(kin_lock_acquire(lock, KIN_NOWAIT) == KIN_ETIMEDOUT); /* the parent holds it */
    CHILD_CHECK(kin_rlock_acquire(rlock, KIN_NOWAIT) == KIN_ETIMEDOUT);
    CHILD_CHECK(kin_semaphore_acquire(semaphore, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_semaphore_acquire(semaphore, KIN_NOWAIT) == KIN_ETIMEDOUT);
    CHILD_CHECK(kin_event_set(event) == KIN_OK);
    CHILD_CHECK(kin_event_set(placed_event) == KIN_OK);
    CHILD_CHECK(kin_lock_acquire(placed_lock, KIN_NOWAIT) == KIN_OK && kin_lock_release(placed_lock) == KIN_OK);
    CHILD_CHECK(kin_lock_acquire(placed_lock, KIN_NOWAIT) == KIN_OK);
    CHILD_CHECK(kin_condition_notify_all(condition, placed_lock) == KIN_OK && kin_lock_release(placed_lock) == KIN_OK);
    CHILD_CHECK(kin_rwlock_acquire_write(rwlock, KIN_NOWAIT) == KIN_ETIMEDOUT); /* the parent reads */
    CHILD_CHECK(kin_rwlock_acquire_read(rwlock, KIN_NOWAIT) == KIN_OK && kin_rwlock_release(rwlock) == KIN_OK);
    CHILD_CHECK(kin_barrier_wait(barrier, test_ms(20000), NULL) == KIN_OK);
    CHILD_CHECK(queue_send(answer, 4711));
    kin_segment_close(segment);
    kin_value_close(value);
    kin_array_close(array);
    kin_lock_close(lock);
    kin_rlock_close(rlock);
    kin_semaphore_close(semaphore);
    kin_event_close(event);
    kin_condition_close(condition);
    kin_barrier_close(barrier);
    kin_rwlock_close(rwlock);
    kin_queue_close(answer);
    kin_queue_close(q);
    return 0;
}

static void every_object(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "objects", .relaxed = relaxed != 0}),
                  *answer = queue_new((kin_queue_options){0});
        kin_segment *segment;
        kin_value *value;
        kin_array *array;
        kin_lock *lock;
        kin_rlock *rlock;
        kin_semaphore *semaphore;
        kin_event *event;
        kin_condition *condition;
        kin_barrier *barrier;
        kin_rwlock *rwlock;
        check(kin_segment_create(&segment, sizeof(in_memory) + 1));
        in_memory *placed = kin_segment_data(segment);
        check(kin_lock_init(&placed->lock, NULL));
        check(kin_event_init(&placed->event, NULL));
        check(kin_value_create(&value, 5));
        check(kin_array_create(&array, KIN_I32, 10));
        check(kin_lock_create(&lock, NULL));
        check(kin_rlock_create(&rlock, NULL));
        check(kin_semaphore_create(&semaphore, 1, NULL));
        check(kin_event_create(&event, NULL));
        check(kin_condition_create(&condition, NULL));
        check(kin_barrier_create(&barrier, 2, NULL));
        check(kin_rwlock_create(&rwlock, NULL));
        check(kin_lock_acquire(lock, KIN_NOWAIT));
        check(kin_rlock_acquire(rlock, KIN_NOWAIT));
        check(kin_rwlock_acquire_read(rwlock, KIN_NOWAIT));
        check(kin_queue_put_args(q,
                                 KIN_ARGS(segment, value, array, lock, rlock, semaphore, event, condition, barrier,
                                          rwlock, answer, &placed->lock, &placed->event),
                                 KIN_NOWAIT));
        kin_process *child = test_start(target_objects, KIN_ARGS(q));
        check(kin_barrier_wait(barrier, test_ms(20000), NULL));
        int64_t number = 0;
        assert_true(queue_receive(answer, &number));
        assert_int_equal(number, 4711);
        assert_int_equal(test_finish(child), 0);
        assert_int_equal(((char *)placed)[sizeof *placed], 'S');
        assert_int_equal(kin_value_get_i64(value), 6);
        assert_int_equal(((int *)kin_array_data(array))[3], 33);
        assert_true(kin_event_is_set(event) && kin_event_is_set(&placed->event));
        check_fails(KIN_ETIMEDOUT, kin_semaphore_acquire(semaphore, KIN_NOWAIT));
        check(kin_rwlock_release(rwlock));
        check(kin_rlock_release(rlock));
        check(kin_lock_release(lock));
        kin_segment_close(segment);
        kin_value_close(value);
        kin_array_close(array);
        kin_lock_close(lock);
        kin_rlock_close(rlock);
        kin_semaphore_close(semaphore);
        kin_event_close(event);
        kin_condition_close(condition);
        kin_barrier_close(barrier);
        kin_rwlock_close(rwlock);
        kin_queue_close(answer);
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* A queue in a message of another, and in one of its own. */
static void queues_in_queues(void **state)
{
    (void)state;
    int before = 0;
    for (int i = 0; i < 20; i++) {
        if (i == 2)
            before = test_count_handles();
        kin_queue *outer = queue_new((kin_queue_options){.name = "outer"}),
                  *inner = queue_new((kin_queue_options){.name = "inner"}), *back;
        queue_put_number(inner, 12);
        check(kin_queue_put_args(outer, KIN_ARGS(inner), KIN_NOWAIT));
        kin_queue_close(inner); /* now it is in the message alone */
        kin_args *args = get_args(outer);
        check(kin_unpack(args, &back));
        kin_args_free(args);
        assert_string_equal(kin_queue_name(back), "inner");
        assert_int_equal(queue_get_number(back), 12);
        queue_check_usable(back);
        kin_queue_close(back);

        check(kin_queue_put_args(outer, KIN_ARGS(outer), KIN_NOWAIT));
        args = get_args(outer);
        check(kin_unpack(args, &back));
        kin_args_free(args);
        queue_put_number(back, 13);
        assert_int_equal(queue_get_number(outer), 13);
        kin_queue_close(back);
        if (!test_on_windows()) /* never got: there it stays as long as the root does */
            check(kin_queue_put_args(outer, KIN_ARGS(outer), KIN_NOWAIT));
        kin_queue_close(outer);
    }
    assert_int_equal(test_count_handles(), before);
}

/* An end of a pipe travels in a message; it lives in that alone when its owner has closed it, and goes with the queue. */
static int target_answer(kin_args *args)
{
    kin_queue *q;
    kin_connection *end;
    kin_args *values;
    char text[8] = "";
    CHILD_CHECK(kin_unpack(args, &q) == KIN_OK);
    CHILD_CHECK(kin_queue_get_args(q, &values, test_ms(20000)) == KIN_OK);
    CHILD_CHECK(kin_unpack(values, &end) == KIN_OK);
    kin_args_free(values);
    CHILD_CHECK(kin_connection_recv(end, text, sizeof text, NULL, test_ms(20000)) == KIN_OK &&
                strcmp(text, "ping") == 0);
    CHILD_CHECK(kin_connection_send(end, "pong", 5, KIN_NOWAIT) == KIN_OK);
    kin_connection_close(end);
    kin_queue_close(q);
    return 0;
}

static void an_end_of_a_pipe(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "ends", .relaxed = relaxed != 0});
        kin_connection *mine, *theirs;
        char text[8] = "";
        check(kin_pipe(&mine, &theirs, NULL));
        check(kin_queue_put_args(q, KIN_ARGS(theirs), KIN_NOWAIT));
        kin_connection_close(theirs);
        check(kin_connection_send(mine, "ping", 5, KIN_NOWAIT));
        check_fails(KIN_ETIMEDOUT, kin_connection_recv(mine, text, sizeof text, NULL, KIN_NOWAIT)); /* it is not gone */
        assert_int_equal(test_run(target_answer, KIN_ARGS(q)), 0);
        check(kin_connection_recv(mine, text, sizeof text, NULL, test_ms(20000)));
        assert_string_equal(text, "pong");
        check_fails(KIN_EPIPE, kin_connection_recv(mine, text, sizeof text, NULL, test_ms(20000)));
        kin_connection_close(mine);
        queue_check_usable(q);

        if (test_on_windows()) { /* there, what is in messages that nobody gets stays */
            kin_queue_close(q);
            continue;
        }
        check(kin_pipe(&mine, &theirs, NULL));
        check(kin_queue_put_args(q, KIN_ARGS(theirs), KIN_NOWAIT));
        kin_connection_close(theirs);
        kin_queue_close(q); /* with the message in it */
        check_fails(KIN_EPIPE, kin_connection_recv(mine, text, sizeof text, NULL, test_ms(20000)));
        kin_connection_close(mine);
    }
}

/* ---- files ---- */

static void files(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "files"});
    const char *name = test_file("queue_args");
    FILE *file = fopen(name, "w+b"), *stream;
    assert_non_null(file);
    assert_true(fputs("one ", file) >= 0);
    check(kin_queue_put_args(q, KIN_ARGS(file), KIN_NOWAIT));
    kin_args *args = get_args(q);
    check(kin_unpack(args, &stream));
    kin_args_free(args);
    assert_true(fputs("two ", stream) >= 0);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    assert_int_equal(ftell(file), 8);
    (void)fclose(file);

    uv_fs_t request;
    int fd = uv_fs_open(NULL, &request, name, UV_FS_O_RDWR, 0, NULL), fd_back;
    uv_fs_req_cleanup(&request);
    assert_true(fd >= 0);
    intptr_t handle_back;
    check(kin_queue_put_args(q, KIN_ARGS(kin_fd(fd), kin_handle((intptr_t)uv_get_osfhandle(fd))), KIN_NOWAIT));
    (void)uv_fs_close(NULL, &request, fd, NULL);
    uv_fs_req_cleanup(&request);
    args = get_args(q);
    check(kin_unpack(args, kin_fd_out(&fd_back), kin_handle_out(&handle_back)));
    kin_args_free(args);
    char text[16] = "";
    uv_buf_t buffer = uv_buf_init(text, 8);
    assert_int_equal(uv_fs_read(NULL, &request, fd_back, &buffer, 1, 0, NULL), 8);
    uv_fs_req_cleanup(&request);
    assert_string_equal(text, "one two ");
    (void)uv_fs_close(NULL, &request, fd_back, NULL);
    uv_fs_req_cleanup(&request);
    assert_true(test_has_open(name)); /* by the handle still */
    test_close_handle(handle_back);
    assert_false(test_has_open(name));
    (void)remove(name);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- what cannot be passed ---- */

static void unpassable(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "strict"}), *closed = queue_new((kin_queue_options){0});
    kin_value *value;
    kin_lock local = {0}, *lock;
    check(kin_value_create(&value, 5));
    check(kin_lock_create(&lock, NULL));
    kin_value_close(value);
    kin_lock_close(lock);
    kin_queue_close(closed);
    refused(q, KIN_ARGS(value), "value 0");
    refused(q, KIN_ARGS(1, lock), "value 1");
    refused(q, KIN_ARGS(1, 2, closed), "value 2");
    refused(q, KIN_ARGS((kin_queue *)NULL), "value 0");
    check(kin_lock_init(&local, NULL));
    refused(q, KIN_ARGS(&local), "value 0");
    refused(q, KIN_ARGS(kin_fd(-1)), "value 0");
    refused(q, KIN_ARGS(kin_handle(-1)), "value 0");
    refused(q, KIN_ARGS((const char *)NULL), "value 0");
    refused(q, KIN_ARGS(kin_bytes(NULL, 5)), "value 0");
    refused(q, (kin_pack){NULL, 3}, "strict");
    kin_any deep[KIN__LIST_DEPTH + 2];
    deep[KIN__LIST_DEPTH + 1] = KIN_ANY(1);
    for (int i = KIN__LIST_DEPTH; i >= 0; i--)
        deep[i] = kin_list((kin_pack){&deep[i + 1], 1});
    refused(q, (kin_pack){deep, 1}, "value 0");
    queue_check_usable(q);
    kin_queue_close(q);
}

static void at_most_64(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "crowd", .capacity = 4096});
    static char large[8000];
    kin_value *values[65];
    kin_any pack[66];
    for (int i = 0; i < 65; i++) {
        check(kin_value_create(&values[i], i));
        pack[i] = KIN_ANY(values[i]);
    }
    int before = test_count_handles();
    refused(q, (kin_pack){pack, 65}, "64");
    for (size_t count = 62; count <= 64; count++) {
        for (int with_large = 0; with_large < 2; with_large++) {
            pack[count] = with_large != 0 ? kin_bytes(large, sizeof large) : KIN_ANY(1);
            kin_pack all = {pack, count + 1};
            check(kin_queue_put_args(q, all, KIN_NOWAIT));
            kin_args *args = get_args(q);
            assert_int_equal(kin_args_count(args), count + 1);
            for (size_t i = 0; i < count; i += 9) {
                kin_value *back;
                check(kin_args_get(args, i, KIN_OUT(&back)));
                assert_int_equal(kin_value_get_i64(back), i);
                kin_value_close(back);
            }
            kin_args_free(args);
        }
        pack[count] = KIN_ANY(values[count]);
    }
    assert_in_range(test_count_handles(), before, before + 3); /* memory for the next large message is kept */
    for (int i = 0; i < 65; i++)
        kin_value_close(values[i]);
    queue_check_usable(q);
    kin_queue_close(q);
}

static void leaks_nothing(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "tidy", .capacity = 4096});
    static char large[5000];
    kin_value *value, *back;
    int number, before = 0;
    check(kin_value_create(&value, 5));
    for (int i = 0; i < test_scale(1000, 200); i++) {
        if (i == 10)
            before = test_count_handles();
        check(kin_queue_put_args(q, KIN_ARGS(value, kin_bytes(large, i % 3 == 0 ? sizeof large : 10), q), KIN_NOWAIT));
        kin_args *args;
        check(kin_queue_get_args(q, &args, KIN_NOWAIT));
        if (i % 2 == 0) {
            check(kin_args_get(args, 0, KIN_OUT(&back)));
            kin_value_close(back);
        } else {
            check_fails(KIN_ETYPE, kin_unpack(args, &number)); /* nothing is handed out: it goes with the rest */
        }
        kin_args_free(args);
    }
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
    kin_queue_close(q);
}

/* Full of messages with objects, and emptied, several times: the bag too wraps, and its limit is KIN_EFULL like any other. */
static void many_objects_at_once(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "stuffed"});
    kin_value *value, *back;
    check(kin_value_create(&value, 5));
    int before = test_count_handles();
    for (int round = 0; round < 3; round++) {
        int put = 0, index;
        kin_err err = KIN_OK;
        while (put < 300 && (err = kin_queue_put_args(q, KIN_ARGS(value, put), KIN_NOWAIT)) == KIN_OK)
            put++;
        assert_true(err == KIN_OK || err == KIN_EFULL);
        assert_true(put >= 100);
        for (int i = 0; i < put; i++) {
            kin_args *args = get_args(q);
            check(kin_unpack(args, &back, &index));
            assert_int_equal(index, i);
            assert_int_equal(kin_value_get_i64(back), 5);
            kin_value_close(back);
            kin_args_free(args);
        }
        queue_check_usable(q);
    }
    assert_int_equal(test_count_handles(), before);
    kin_value_close(value);
    kin_queue_close(q);
}

/* ---- after the end of who put ---- */

static int target_put_and_end(kin_args *args)
{
    kin_queue *q;
    kin_value *value;
    int how;
    static char large[50000];
    CHILD_CHECK(kin_unpack(args, &q, &how) == KIN_OK);
    CHILD_CHECK(kin_value_create(&value, 77) == KIN_OK);
    kin_queue *inner;
    CHILD_CHECK(kin_queue_create(&inner, NULL) == KIN_OK);
    CHILD_CHECK(queue_send(inner, 78));
    queue_fill(large, sizeof large, 3);
    CHILD_CHECK(kin_queue_put_args(q, KIN_ARGS(value, "text", inner, kin_bytes(large, sizeof large)), KIN_NOWAIT) ==
                KIN_OK);
    if (how == 1)
        crash_end(5);
    kin_value_close(value);
    kin_queue_close(inner);
    kin_queue_close(q);
    return 5;
}

static void outlives_its_producer(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "legacy", .capacity = 4096}), *inner;
        kin_value *value;
        const char *text;
        kin_view large;
        assert_int_equal(test_run(target_put_and_end, KIN_ARGS(q, how)), 5);
        kin_args *args = get_args(q);
        check(kin_unpack(args, &value, &text, &inner, &large));
        assert_int_equal(kin_value_get_i64(value), 77);
        assert_string_equal(text, "text");
        assert_int_equal(queue_get_number(inner), 78);
        assert_true(large.size == 50000 && queue_filled(large.data, large.size, 3));
        kin_args_free(args);
        kin_value_close(value);
        kin_queue_close(inner);
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(values_of_all_sizes),
        cmocka_unit_test(kinds_apart),
        cmocka_unit_test(every_object),
        cmocka_unit_test(queues_in_queues),
        cmocka_unit_test(an_end_of_a_pipe),
        cmocka_unit_test(files),
        cmocka_unit_test(unpassable),
        cmocka_unit_test(at_most_64),
        cmocka_unit_test(leaks_nothing),
        cmocka_unit_test(many_objects_at_once),
        cmocka_unit_test(outlives_its_producer),
    };
    return cmocka_run_group_tests_name("queue args", tests, NULL, NULL);
}
