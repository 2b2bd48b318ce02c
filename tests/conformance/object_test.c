/* kin/object.h: what the synchronisation objects have in common, each in its turn: where they live, how they are passed, what they are called, and what
 * is refused. What each of them does is in a test of its own. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

_Static_assert(sizeof(kin_lock) == 64 && sizeof(kin_rlock) == 64 && sizeof(kin_event) == 64 && sizeof(kin_condition) == 64, "as the headers say");
_Static_assert(sizeof(kin_semaphore) == 512 && sizeof(kin_rwlock) == 512 && sizeof(kin_barrier) == 4096, "as the headers say");
_Static_assert(_Alignof(kin_lock) == 8 && _Alignof(kin_rlock) == 8 && _Alignof(kin_event) == 8 && _Alignof(kin_condition) == 8, "as the headers say");
_Static_assert(_Alignof(kin_semaphore) == 8 && _Alignof(kin_rwlock) == 8 && _Alignof(kin_barrier) == 8, "as the headers say");
_Static_assert(KIN_SEMAPHORE_MAX == 2147483647 && KIN_SEMAPHORE_UNDO_MAX == 56 && KIN_BARRIER_MAX == 240 && KIN_RWLOCK_READERS == 56,
               "as the headers say");

enum { UNITS = 3, LARGEST = 4096, CALLS = 4 };

/* One kind of object, so that all can be treated alike. */
typedef struct kind {
    const char *name;
    kin_type type;
    size_t size;
    kin_err (*create)(void **object, const char *name);
    kin_err (*init)(void *object, const char *name); /* NULL: without options, where all can be left out */
    void (*close)(void *object);
    kin_any (*any)(const void *object);
    kin_err (*get)(kin_args *args, size_t index, void **object);
    kin_err (*unpack)(kin_args *args, int *index, int *way, void **object);
    kin_err (*wait)(void *object, int64_t timeout_ms);
    kin_err (*undo)(void *object); /* what wait did */
    kin_err (*calls[CALLS])(void *object); /* every function that answers with an error; wait is among them */
    bool (*quiet)(void *object); /* the functions that answer with a value say that this is none */
    /* before in one process, then during in another, then after in the first: each is true only if they have the same object. */
    bool (*before)(void *object), (*during)(void *object), (*after)(void *object);
} kind;

#define WRAP(type, create_it, init_it)                                                                                                     \
    static kin_err type##_create(void **object, const char *name)                                                                          \
    {                                                                                                                                      \
        kin_##type *o = NULL;                                                                                                              \
        kin_##type##_options options = type##_with(name);                                                                                  \
        kin_err err = create_it;                                                                                                           \
        *object = o;                                                                                                                       \
        return err;                                                                                                                        \
    }                                                                                                                                      \
    static kin_err type##_init(void *object, const char *name)                                                                             \
    {                                                                                                                                      \
        kin_##type *o = object;                                                                                                            \
        kin_##type##_options options = type##_with(name);                                                                                  \
        return init_it;                                                                                                                    \
    }                                                                                                                                      \
    static void type##_close(void *object) { kin_##type##_close(object); }                                                                 \
    static kin_any type##_any(const void *object) { return KIN_ANY((const kin_##type *)object); }                                          \
    static kin_err type##_get(kin_args *args, size_t index, void **object)                                                                 \
    {                                                                                                                                      \
        kin_##type *o = *object;                                                                                                           \
        kin_err err = kin_args_get(args, index, KIN_OUT(&o));                                                                              \
        *object = o;                                                                                                                       \
        return err;                                                                                                                        \
    }                                                                                                                                      \
    static kin_err type##_unpack(kin_args *args, int *index, int *way, void **object)                                                       \
    {                                                                                                                                      \
        kin_##type *o = *object;                                                                                                           \
        kin_err err = kin_unpack(args, index, way, &o);                                                                                     \
        *object = o;                                                                                                                       \
        return err;                                                                                                                        \
    }

#define USUAL_OPTIONS(type)                                                                                                                \
    static kin_##type##_options type##_with(const char *name) { return (kin_##type##_options){.name = name}; }

USUAL_OPTIONS(lock)
USUAL_OPTIONS(rlock)
USUAL_OPTIONS(semaphore)
USUAL_OPTIONS(condition)
USUAL_OPTIONS(barrier)
USUAL_OPTIONS(rwlock)
static kin_event_options event_with(const char *name)
{
    return (kin_event_options){.name = name, .set = true};
}

WRAP(lock, kin_lock_create(&o, name != NULL ? &options : NULL), kin_lock_init(o, name != NULL ? &options : NULL))
WRAP(rlock, kin_rlock_create(&o, name != NULL ? &options : NULL), kin_rlock_init(o, name != NULL ? &options : NULL))
WRAP(semaphore, kin_semaphore_create(&o, UNITS, name != NULL ? &options : NULL), kin_semaphore_init(o, UNITS, name != NULL ? &options : NULL))
WRAP(event, kin_event_create(&o, &options), kin_event_init(o, &options))
WRAP(condition, kin_condition_create(&o, name != NULL ? &options : NULL), kin_condition_init(o, name != NULL ? &options : NULL))
WRAP(barrier, kin_barrier_create(&o, 1, name != NULL ? &options : NULL), kin_barrier_init(o, 1, name != NULL ? &options : NULL))
WRAP(rwlock, kin_rwlock_create(&o, name != NULL ? &options : NULL), kin_rwlock_init(o, name != NULL ? &options : NULL))

/* ---- lock ---- */

static kin_err lock_wait(void *o, int64_t timeout_ms) { return kin_lock_acquire(o, timeout_ms); }
static kin_err lock_undo(void *o) { return kin_lock_release(o); }
static kin_err lock_acquire(void *o) { return kin_lock_acquire(o, KIN_FOREVER); }
static bool lock_quiet(void *o) { return !kin_lock_held(o); }
static bool lock_before(void *o) { return kin_lock_acquire(o, KIN_NOWAIT) == KIN_OK; }
static bool lock_during(void *o) { return kin_lock_acquire(o, KIN_NOWAIT) == KIN_ETIMEDOUT && kin_lock_release(o) == KIN_EPERM; }
static bool lock_after(void *o) { return kin_lock_held(o) && kin_lock_release(o) == KIN_OK; }

/* ---- rlock ---- */

static kin_err rlock_wait(void *o, int64_t timeout_ms) { return kin_rlock_acquire(o, timeout_ms); }
static kin_err rlock_undo(void *o) { return kin_rlock_release(o); }
static kin_err rlock_acquire(void *o) { return kin_rlock_acquire(o, KIN_FOREVER); }
static bool rlock_quiet(void *o) { return kin_rlock_count(o) == 0; }
static bool rlock_before(void *o) { return kin_rlock_acquire(o, KIN_NOWAIT) == KIN_OK && kin_rlock_acquire(o, KIN_NOWAIT) == KIN_OK; }
static bool rlock_during(void *o)
{
    return kin_rlock_acquire(o, KIN_NOWAIT) == KIN_ETIMEDOUT && kin_rlock_release(o) == KIN_EPERM && kin_rlock_count(o) == 0;
}
static bool rlock_after(void *o) { return kin_rlock_count(o) == 2 && kin_rlock_release(o) == KIN_OK && kin_rlock_release(o) == KIN_OK; }

/* ---- semaphore ---- */

static kin_err semaphore_wait(void *o, int64_t timeout_ms) { return kin_semaphore_acquire(o, timeout_ms); }
static kin_err semaphore_undo(void *o) { return kin_semaphore_release(o); }
static kin_err semaphore_acquire(void *o) { return kin_semaphore_acquire(o, KIN_FOREVER); }
static kin_err semaphore_release_two(void *o) { return kin_semaphore_release_many(o, 2); }
static bool semaphore_quiet(void *o) { return kin_semaphore_units(o) == -1; }
static bool semaphore_before(void *o) { return kin_semaphore_acquire(o, KIN_NOWAIT) == KIN_OK; }
static bool semaphore_during(void *o) { return kin_semaphore_units(o) == UNITS - 1 && kin_semaphore_acquire(o, KIN_NOWAIT) == KIN_OK; }
static bool semaphore_after(void *o) { return kin_semaphore_units(o) == UNITS - 2 && kin_semaphore_release_many(o, 2) == KIN_OK; }

/* ---- event ---- */

static kin_err event_wait(void *o, int64_t timeout_ms) { return kin_event_wait(o, timeout_ms); }
static kin_err event_undo(void *o) { return kin_event_set(o); }
static kin_err event_wait_for_ever(void *o) { return kin_event_wait(o, KIN_FOREVER); }
static kin_err event_clear(void *o) { return kin_event_clear(o); }
static bool event_quiet(void *o) { return !kin_event_is_set(o); }
static bool event_before(void *o) { return kin_event_is_set(o); }
static bool event_during(void *o) { return kin_event_wait(o, KIN_NOWAIT) == KIN_OK && kin_event_clear(o) == KIN_OK; }
static bool event_after(void *o) { return !kin_event_is_set(o) && kin_event_wait(o, KIN_NOWAIT) == KIN_ETIMEDOUT && kin_event_set(o) == KIN_OK; }

/* ---- condition: under a lock that only this process knows ---- */

static kin_lock *under;

static kin_err with_lock(kin_err (*call)(void *o, int64_t number), void *o, int64_t number)
{
    kin_err err = under == NULL ? kin_lock_create(&under, NULL) : KIN_OK;
    if (err == KIN_OK)
        err = kin_lock_acquire(under, KIN_FOREVER);
    if (err != KIN_OK)
        return KIN_EPROTO; /* what no test expects */
    err = call(o, number);
    return kin_lock_release(under) == KIN_OK ? err : KIN_EPROTO;
}
static bool is_ready(void *arg) { return arg != NULL; }
static kin_err wait_call(void *o, int64_t timeout_ms) { return kin_condition_wait((kin_condition *)o, under, timeout_ms); }
static kin_err wait_for_call(void *o, int64_t timeout_ms) { return kin_condition_wait_for((kin_condition *)o, under, is_ready, o, timeout_ms); }
static kin_err notify_call(void *o, int64_t n) { return kin_condition_notify((kin_condition *)o, under, n); }
static kin_err notify_all_call(void *o, int64_t n) { return (void)n, kin_condition_notify_all((kin_condition *)o, under); }
static kin_err condition_wait(void *o, int64_t timeout_ms) { return with_lock(timeout_ms < KIN_FOREVER ? wait_call : wait_for_call, o, timeout_ms); }
static kin_err condition_undo(void *o) { return with_lock(notify_all_call, o, 0); }
static kin_err condition_wait_short(void *o) { return with_lock(wait_call, o, 1); }
static kin_err condition_notify(void *o) { return with_lock(notify_call, o, 1); }
static bool condition_quiet(void *o) { return (void)o, true; }
static bool condition_before(void *o) { return with_lock(notify_call, o, 5) == KIN_OK; }
/* Nobody notifies, but the end of some process may wake it. */
static bool not_notified(void *o, int64_t timeout_ms)
{
    kin_err err = KIN_OK;
    for (int i = 0; i < 100 && err == KIN_OK; i++)
        err = with_lock(wait_call, o, timeout_ms);
    return err == KIN_ETIMEDOUT;
}
static bool condition_during(void *o) { return not_notified(o, KIN_NOWAIT) && with_lock(notify_call, o, 1) == KIN_OK; }
static bool condition_after(void *o) { return not_notified(o, 1); }

/* ---- barrier ---- */

static kin_err do_nothing(void *arg) { return (void)arg, KIN_OK; }
static kin_err barrier_wait(void *o, int64_t timeout_ms) { return kin_barrier_wait(o, timeout_ms, NULL); }
static kin_err barrier_undo(void *o) { return kin_barrier_reset(o); }
static kin_err barrier_wait_for_ever(void *o) { return kin_barrier_wait(o, KIN_FOREVER, NULL); }
static kin_err barrier_wait_action(void *o) { return kin_barrier_wait_action(o, do_nothing, NULL, KIN_FOREVER, NULL); }
static kin_err barrier_abort(void *o) { return kin_barrier_abort(o); }
static bool barrier_quiet(void *o) { return kin_barrier_parties(o) == 0 && kin_barrier_waiting(o) == 0 && !kin_barrier_is_broken(o); }
static bool barrier_before(void *o) { return kin_barrier_parties(o) == 1 && kin_barrier_abort(o) == KIN_OK; }
static bool barrier_during(void *o) { return kin_barrier_is_broken(o) && kin_barrier_wait(o, KIN_NOWAIT, NULL) == KIN_EBROKEN && kin_barrier_reset(o) == KIN_OK; }
static bool barrier_after(void *o) { return !kin_barrier_is_broken(o) && kin_barrier_wait(o, KIN_NOWAIT, NULL) == KIN_OK; }

/* ---- rwlock ---- */

static kin_err rwlock_wait(void *o, int64_t timeout_ms) { return timeout_ms % 2 != 0 ? kin_rwlock_acquire_read(o, timeout_ms) : kin_rwlock_acquire_write(o, timeout_ms); }
static kin_err rwlock_undo(void *o) { return kin_rwlock_release(o); }
static kin_err rwlock_read(void *o) { return kin_rwlock_acquire_read(o, KIN_FOREVER); }
static kin_err rwlock_write(void *o) { return kin_rwlock_acquire_write(o, KIN_FOREVER); }
static bool rwlock_quiet(void *o) { return !kin_rwlock_reading(o) && !kin_rwlock_writing(o); }
static bool rwlock_before(void *o) { return kin_rwlock_acquire_read(o, KIN_NOWAIT) == KIN_OK; }
static bool rwlock_during(void *o)
{
    return kin_rwlock_acquire_write(o, KIN_NOWAIT) == KIN_ETIMEDOUT && kin_rwlock_acquire_read(o, KIN_NOWAIT) == KIN_OK && kin_rwlock_release(o) == KIN_OK;
}
static bool rwlock_after(void *o) { return kin_rwlock_reading(o) && !kin_rwlock_writing(o) && kin_rwlock_release(o) == KIN_OK; }

#define KIND(t, T, ...)                                                                                                                    \
    {                                                                                                                                      \
        .name = "kin_" #t, .type = KIN_TYPE_##T, .size = sizeof(kin_##t), .create = t##_create, .init = t##_init, .close = t##_close,      \
        .any = t##_any, .get = t##_get, .unpack = t##_unpack, .wait = t##_wait, .undo = t##_undo, .calls = {__VA_ARGS__},                  \
        .quiet = t##_quiet, .before = t##_before, .during = t##_during, .after = t##_after                                                 \
    }
static const kind kinds[] = {
    KIND(lock, LOCK, lock_acquire, lock_undo),
    KIND(rlock, RLOCK, rlock_acquire, rlock_undo),
    KIND(semaphore, SEMAPHORE, semaphore_acquire, semaphore_undo, semaphore_release_two),
    KIND(event, EVENT, event_wait_for_ever, event_undo, event_clear),
    KIND(condition, CONDITION, condition_wait_short, condition_wait_short, condition_undo, condition_notify),
    KIND(barrier, BARRIER, barrier_wait_for_ever, barrier_wait_action, barrier_abort, barrier_undo),
    KIND(rwlock, RWLOCK, rwlock_read, rwlock_write, rwlock_undo),
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- where they live ---- */

/* It works by itself: in this process alone. */
static void use(const kind *k, void *object)
{
    assert_true(k->before(object));
    if (k->type == KIN_TYPE_EVENT || k->type == KIN_TYPE_BARRIER || k->type == KIN_TYPE_SEMAPHORE || k->type == KIN_TYPE_CONDITION)
        assert_true(k->during(object));
    assert_true(k->after(object));
    check(k->wait(object, k->type == KIN_TYPE_CONDITION ? KIN_NOWAIT : INT64_MAX)); /* the longest there is */
    check(k->undo(object));
}

static void of_its_own(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object, *other;
        check(k->create(&object, NULL));
        check(k->create(&other, "other"));
        assert_non_null(object);
        assert_true(object != other);
        assert_int_equal((uintptr_t)object % 64, 0);
        use(k, object);
        use(k, other);
        k->close(other);
        use(k, object);
        k->close(object);
    }
}

/* At each place that is a multiple of 8, between bytes that stay as they are. */
static void in_a_segment(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        kin_segment *segment;
        check(kin_segment_create(&segment, LARGEST + 256));
        unsigned char *data = kin_segment_data(segment);
        for (size_t at = 64; at < 128; at += 8) {
            memset(data, 0xa5, LARGEST + 256);
            check(k->init(data + at, at % 16 == 0 ? "placed" : NULL)); /* over whatever was there */
            use(k, data + at);
            for (size_t i = 0; i < LARGEST + 256; i++)
                assert_true((i >= at && i < at + k->size) || data[i] == 0xa5);
        }
        kin_segment_close(segment);
    }
}

static void in_an_array(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        kin_array *array;
        check(kin_array_create_of(&array, k->size, 20));
        char *items = kin_array_data(array);
        for (size_t i = 0; i < 20; i++)
            check(k->init(items + i * k->size, NULL));
        for (size_t i = 0; i < 20; i++)
            assert_true(k->before(items + i * k->size));
        for (size_t i = 0; i < 20; i++)
            assert_true(k->type == KIN_TYPE_EVENT || k->type == KIN_TYPE_BARRIER || k->type == KIN_TYPE_SEMAPHORE ? k->during(items + i * k->size) : true);
        for (size_t i = 0; i < 20; i++)
            assert_true(k->after(items + i * k->size));
        kin_array_close(array);
    }
}

static void made_anew_in_its_place(void **state)
{
    (void)state;
    kin_segment *segment;
    check(kin_segment_create(&segment, LARGEST));
    for (int i = 0; i < 2 * KINDS; i++) {
        const kind *k = &kinds[i % KINDS];
        check(k->init(kin_segment_data(segment), NULL));
        use(k, kin_segment_data(segment));
    }
    kin_segment_close(segment);
}

/* A descriptor and a page each, and none that is left behind. */
static void they_come_and_go(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        check(k->create(&object, NULL));
        k->close(object);
        int handles = test_count_handles();
        void *many[20];
        for (int i = 0; i < 20; i++)
            check(k->create(&many[i], NULL));
        assert_true(test_count_handles() <= handles + 20);
        for (int i = 0; i < 20; i++)
            k->close(many[i]);
        assert_true(test_count_handles() <= handles);
        for (int i = 0; i < test_scale(500, 50); i++) {
            check(k->create(&object, "fleeting"));
            k->close(object);
        }
        assert_true(test_count_handles() <= handles);
    }
}

/* ---- what is refused ---- */

static void refuses(const kind *k, void *object)
{
    for (int i = 0; i < CALLS && k->calls[i] != NULL; i++) {
        kin_err err = k->calls[i](object);
        if (err != KIN_EINVAL)
            fail_msg("%s: call %d gave %s", k->name, i, kin_strerror(err));
        assert_int_equal(kin_last_code(), KIN_EINVAL);
        assert_true(kin_last_error()[0] != 0);
    }
    assert_true(k->quiet(object));
}

static void null(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        refuses(k, NULL);
        k->close(NULL);
        check_fails(KIN_EINVAL, k->init(NULL, NULL));
        check_fails(KIN_EINVAL, k->init(NULL, "name"));
    }
    check_fails(KIN_EINVAL, kin_lock_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_rlock_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_semaphore_create(NULL, 1, NULL));
    check_fails(KIN_EINVAL, kin_event_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_condition_create(NULL, NULL));
    check_fails(KIN_EINVAL, kin_barrier_create(NULL, 1, NULL));
    check_fails(KIN_EINVAL, kin_rwlock_create(NULL, NULL));
}

static void closed(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        check(k->create(&object, "closed"));
        use(k, object);
        k->close(object);
        refuses(k, object);
        k->close(object);
        refuses(k, object);
    }
}

static void not_aligned(void **state)
{
    (void)state;
    kin_segment *segment;
    check(kin_segment_create(&segment, LARGEST + 64));
    char *data = kin_segment_data(segment);
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        memset(data, 0, LARGEST + 64);
        for (int off = 1; off < 8; off++) {
            check_fails(KIN_EINVAL, k->init(data + 8 + off, NULL));
            refuses(k, data + 8 + off);
        }
        for (int i = 0; i < LARGEST + 64; i++)
            assert_int_equal(data[i], 0); /* nothing was written */
        check(k->init(data + 8, NULL));
        refuses(k, data + 12);
        use(k, data + 8);
    }
    kin_segment_close(segment);
}

static void another_kind(void **state)
{
    (void)state;
    static uint64_t zeros[LARGEST / 8];
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        refuses(k, zeros);
        check(k->create(&object, "of its kind"));
        for (const kind *other = kinds; other < kinds + KINDS; other++) {
            if (other == k)
                continue;
            refuses(other, object);
            other->close(object); /* does nothing */
        }
        use(k, object);
        k->close(object);
    }
}

static void wrong_time_outs(void **state)
{
    (void)state;
    static const int64_t wrong[] = {-2, -3, -1000, INT32_MIN, INT64_MIN, INT64_MIN + 1};
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        check(k->create(&object, "patience"));
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            check_fails(KIN_EINVAL, k->wait(object, wrong[i])); /* although it need not wait */
            check_says("patience");
        }
        use(k, object);
        k->close(object);
    }
}

/* ---- names ---- */

static void names(void **state)
{
    (void)state;
    char name[100];
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        memset(name, 'x', sizeof name);
        memcpy(name, "stock of \"apples\" 100%s %n", 26);
        name[sizeof name - 1] = 0;
        check(k->create(&object, name));
        memset(name + 30, 'y', sizeof name - 31); /* it was copied */
        check_fails(KIN_EINVAL, k->wait(object, -2));
        memset(name + 30, 'x', 10);
        name[40] = 0;
        assert_null(strstr(kin_last_error(), name));
        name[39] = 0;
        check_says(name);
        k->close(object);
        check(k->create(&object, NULL));
        check_fails(KIN_EINVAL, k->wait(object, -2));
        assert_null(strstr(kin_last_error(), "''"));
        k->close(object);
        check(k->create(&object, ""));
        use(k, object);
        k->close(object);
    }
}

/* ---- passing ---- */

enum { ARGUMENT, ALONE, LIST, TWICE, LATE };

static int look(const kind *k, kin_args *args, int way, size_t first)
{
    int index, same_way;
    void *object = NULL, *twin = NULL, *list_object = NULL;
    kin_lock *gate;
    kin_args *list, *inner;
    switch (way) {
    case ARGUMENT:
        CHILD_CHECK(k->unpack(args, &index, &same_way, &object) == KIN_OK);
        break;
    case ALONE:
        for (const kind *other = kinds; other < kinds + KINDS; other++) {
            void *nothing = NULL;
            if (other == k)
                continue;
            CHILD_CHECK(other->get(args, first, &nothing) == KIN_ETYPE);
            CHILD_CHECK(nothing == NULL);
            CHILD_CHECK(strstr(kin_last_error(), k->name) != NULL && strstr(kin_last_error(), other->name) != NULL);
        }
        CHILD_CHECK(kin_args_type(args, first) == k->type);
        CHILD_CHECK(k->get(args, first, &object) == KIN_OK);
        break;
    case LIST:
        CHILD_CHECK(kin_args_get(args, first, KIN_OUT(&list)) == KIN_OK && kin_args_count(list) == 2);
        CHILD_CHECK(kin_args_get(list, 1, KIN_OUT(&inner)) == KIN_OK && kin_args_count(inner) == 1);
        CHILD_CHECK(k->get(list, 0, &list_object) == KIN_OK);
        CHILD_CHECK(k->get(inner, 0, &object) == KIN_OK);
        k->close(list_object); /* one reference each */
        break;
    case TWICE:
        CHILD_CHECK(k->get(args, first, &object) == KIN_OK);
        CHILD_CHECK(k->get(args, first + 1, &twin) == KIN_OK);
        k->close(twin);
        break;
    case LATE:
        CHILD_CHECK(k->get(args, first, &object) == KIN_OK);
        CHILD_CHECK(kin_args_get(args, first + 1, KIN_OUT(&gate)) == KIN_OK);
        CHILD_CHECK(test_pass(gate));
        kin_lock_close(gate);
        break;
    default:
        return 98;
    }
    CHILD_CHECK(object != NULL && ((uintptr_t)object & 7) == 0);
    CHILD_CHECK(k->during(object));
    k->close(object);
    return 0;
}

static int receive(kin_args *args)
{
    int index, way;
    CHILD_CHECK(kin_args_get(args, 0, KIN_OUT(&index)) == KIN_OK);
    CHILD_CHECK(kin_args_get(args, 1, KIN_OUT(&way)) == KIN_OK);
    CHILD_CHECK(index >= 0 && index < KINDS);
    return look(&kinds[index], args, way, 2);
}

static void pass(const kind *k, void *object, int way)
{
    int index = (int)(k - kinds);
    kin_any list[2] = {k->any(object), kin_list(KIN_ARGS(k->any(object)))};
    assert_true(k->before(object));
    switch (way) {
    case LIST:
        assert_int_equal(test_run(receive, KIN_ARGS(index, way, kin_list(((kin_pack){list, 2})))), 0);
        break;
    case TWICE:
        assert_int_equal(test_run(receive, KIN_ARGS(index, way, k->any(object), k->any(object))), 0);
        break;
    default:
        assert_int_equal(test_run(receive, KIN_ARGS(index, way, k->any(object))), 0);
    }
    assert_true(k->after(object));
}

static void passed_in_every_way(void **state)
{
    (void)state;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        check(k->create(&object, NULL));
        for (int way = ARGUMENT; way <= TWICE; way++)
            pass(k, object, way);
        use(k, object);
        k->close(object);
    }
}

/* A pointer to one in a struct, or in an item of an array, is as good. */
static void passed_from_within_a_struct(void **state)
{
    (void)state;
    kin_segment *segment;
    kin_array *array;
    check(kin_segment_create(&segment, LARGEST + 64));
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        char *data = kin_segment_data(segment);
        void *first = data + 8, *last = data + LARGEST + 64 - k->size;
        check(k->init(last, NULL));
        pass(k, last, ALONE);
        check(k->init(first, NULL));
        pass(k, first, ARGUMENT);
        check(kin_array_create_of(&array, k->size, 3));
        void *item = (char *)kin_array_data(array) + 2 * k->size;
        check(k->init(item, NULL));
        pass(k, item, k->type % 2 == 0 ? LIST : TWICE);
        kin_array_close(array);
    }
    kin_segment_close(segment);
}

/* Many of all kinds at once. */
enum { EACH = 12 };

static int receive_many(kin_args *args)
{
    CHILD_CHECK(kin_args_count(args) == (size_t)EACH * KINDS);
    for (size_t i = 0; i < (size_t)EACH * KINDS; i++) {
        const kind *k = &kinds[i % KINDS];
        void *object;
        CHILD_CHECK(kin_args_type(args, i) == k->type);
        CHILD_CHECK(k->get(args, i, &object) == KIN_OK);
        CHILD_CHECK(k->during(object));
        k->close(object);
    }
    return 0;
}

static void many_of_all_kinds(void **state)
{
    (void)state;
    void *objects[EACH * KINDS];
    kin_any items[EACH * KINDS];
    for (int i = 0; i < EACH * KINDS; i++) {
        const kind *k = &kinds[i % KINDS];
        check(k->create(&objects[i], NULL));
        assert_true(k->before(objects[i]));
        items[i] = k->any(objects[i]);
    }
    assert_int_equal(test_run(receive_many, ((kin_pack){items, (size_t)EACH * KINDS})), 0);
    for (int i = 0; i < EACH * KINDS; i++) {
        assert_true(kinds[i % KINDS].after(objects[i]));
        kinds[i % KINDS].close(objects[i]);
    }
}

/* The sender's close takes nothing from the receiver. */
static void the_sender_closes_first(void **state)
{
    (void)state;
    kin_lock *gate = test_gate();
    kin_process *children[KINDS];
    for (int i = 0; i < KINDS; i++) {
        const kind *k = &kinds[i];
        void *object;
        check(k->create(&object, NULL));
        assert_true(k->before(object));
        children[i] = test_start(receive, KIN_ARGS(i, LATE, k->any(object), gate));
        k->close(object);
    }
    test_open(gate);
    for (int i = 0; i < KINDS; i++)
        assert_int_equal(test_finish(children[i]), 0);
    kin_lock_close(gate);
}

static void cannot_be_passed(void **state)
{
    (void)state;
    static uint64_t local[LARGEST / 8];
    kin_process *process = NULL;
    for (const kind *k = kinds; k < kinds + KINDS; k++) {
        void *object;
        int index = (int)(k - kinds);
        check_fails(KIN_EINVAL, kin_process_start(&process, receive, KIN_ARGS(index, ALONE, k->any(NULL)), NULL));
        check(k->create(&object, NULL));
        k->close(object);
        check_fails(KIN_EINVAL, kin_process_start(&process, receive, KIN_ARGS(index, ALONE, k->any(object)), NULL));
        check_says(k->name);
        check(k->init(local, NULL)); /* a good one, but in no shared memory */
        check_fails(KIN_EINVAL, kin_process_start(&process, receive, KIN_ARGS(index, ALONE, k->any(local)), NULL));
        for (const kind *other = kinds; other < kinds + KINDS; other++) {
            if (other == k)
                continue;
            check(other->create(&object, NULL));
            check_fails(KIN_EINVAL, kin_process_start(&process, receive, KIN_ARGS(index, ALONE, k->any(object)), NULL));
            other->close(object);
        }
        assert_null(process);
    }
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_its_own),
        cmocka_unit_test(in_a_segment),
        cmocka_unit_test(in_an_array),
        cmocka_unit_test(made_anew_in_its_place),
        cmocka_unit_test(they_come_and_go),
        cmocka_unit_test(null),
        cmocka_unit_test(closed),
        cmocka_unit_test(not_aligned),
        cmocka_unit_test(another_kind),
        cmocka_unit_test(wrong_time_outs),
        cmocka_unit_test(names),
        cmocka_unit_test(passed_in_every_way),
        cmocka_unit_test(passed_from_within_a_struct),
        cmocka_unit_test(many_of_all_kinds),
        cmocka_unit_test(the_sender_closes_first),
        cmocka_unit_test(cannot_be_passed),
    };
    return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}
