/* What the fuzz targets share: kin_init once, inputs, handles that are lies, and a use of every kind of object. */
#include "fuzz.h"

#include "message.h"

_Noreturn void fuzz_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: not so: %s\n    kin's last error: %s\n", file, line, what, kin_last_error());
    (void)fflush(stderr);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    if (kin_init(*argc, *argv) != KIN_OK) {
        (void)fprintf(stderr, "kin_init: %s\n", kin_last_error());
        exit(EXIT_FAILURE);
    }
    return 0;
}

uint8_t fuzz_u8(fuzz_input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

uint16_t fuzz_u16(fuzz_input *in)
{
    uint16_t low = fuzz_u8(in);
    return (uint16_t)(low | fuzz_u8(in) << 8);
}

void *fuzz_block(fuzz_input *in, size_t *size)
{
    if (*size > in->left)
        *size = in->left;
    void *block = malloc(*size > 0 ? *size : 1);
    FUZZ_CHECK(block != NULL);
    if (*size > 0)
        memcpy(block, in->at, *size);
    in->at += *size;
    in->left -= *size;
    return block;
}

bool fuzz_ok(kin_err err)
{
    FUZZ_CHECK(err == KIN_OK || kin_last_error()[0] != 0);
    return err == KIN_OK;
}

/* ---- handles ---- */

/* The receiving end of a channel that nobody sends on. */
static os_handle channel(void)
{
    static os_handle receiver = OS_NO_HANDLE, sender = OS_NO_HANDLE;
    if (receiver == OS_NO_HANDLE)
        FUZZ_CHECK(os_channel_create(&receiver, &sender) == KIN_OK);
    return receiver;
}

static os_handle duplicate(os_handle handle)
{
    os_handle copy;
    FUZZ_CHECK(os_handle_duplicate(handle, &copy) == KIN_OK);
    return copy;
}

static os_handle memory(const void *image, size_t size)
{
    os_handle handle;
    void *base;
    size_t mapped;
    FUZZ_CHECK(os_memory_create(size > 0 ? size : 1, &handle) == KIN_OK);
    FUZZ_CHECK(os_memory_map(handle, &base, &mapped) == KIN_OK && mapped >= size);
    if (size > 0)
        memcpy(base, image, size);
    os_memory_unmap(base, mapped);
    return handle;
}

static kin_any make_live(kin_type type)
{
    kin_segment *segment = NULL;
    kin_value *value = NULL;
    kin_array *array = NULL;
    kin_lock *lock = NULL;
    kin_rlock *rlock = NULL;
    kin_semaphore *semaphore = NULL;
    kin_event *event = NULL;
    kin_condition *condition = NULL;
    kin_barrier *barrier = NULL;
    kin_rwlock *rwlock = NULL;
    switch (type) {
    case KIN_TYPE_SEGMENT:
        FUZZ_CHECK(kin_segment_create(&segment, 100) == KIN_OK);
        return KIN_ANY(segment);
    case KIN_TYPE_VALUE:
        FUZZ_CHECK(kin_value_create(&value, 5) == KIN_OK);
        return KIN_ANY(value);
    case KIN_TYPE_ARRAY:
        FUZZ_CHECK(kin_array_create(&array, KIN_I32, 10) == KIN_OK);
        return KIN_ANY(array);
    case KIN_TYPE_LOCK:
        FUZZ_CHECK(kin_lock_create(&lock, NULL) == KIN_OK);
        return KIN_ANY(lock);
    case KIN_TYPE_RLOCK:
        FUZZ_CHECK(kin_rlock_create(&rlock, NULL) == KIN_OK);
        return KIN_ANY(rlock);
    case KIN_TYPE_SEMAPHORE:
        FUZZ_CHECK(kin_semaphore_create(&semaphore, 1, NULL) == KIN_OK);
        return KIN_ANY(semaphore);
    case KIN_TYPE_EVENT:
        FUZZ_CHECK(kin_event_create(&event, NULL) == KIN_OK);
        return KIN_ANY(event);
    case KIN_TYPE_CONDITION:
        FUZZ_CHECK(kin_condition_create(&condition, NULL) == KIN_OK);
        return KIN_ANY(condition);
    case KIN_TYPE_BARRIER:
        FUZZ_CHECK(kin_barrier_create(&barrier, 2, NULL) == KIN_OK);
        return KIN_ANY(barrier);
    case KIN_TYPE_RWLOCK:
        FUZZ_CHECK(kin_rwlock_create(&rwlock, NULL) == KIN_OK);
        return KIN_ANY(rwlock);
    default:
        return (kin_any){.type = KIN_TYPE_NONE};
    }
}

/* The handle of an object that is open all the time. All are made before the first input, so that no input seems to leave one open. */
static os_handle live(kin_type type)
{
    static kin_any objects[KIN_TYPE_RWLOCK + 1];
    kin__header *header;
    os_handle handle;
    for (int i = KIN_TYPE_SEGMENT; i <= KIN_TYPE_RWLOCK; i++) {
        if (objects[i].type == KIN_TYPE_NONE)
            objects[i] = make_live((kin_type)i);
    }
    if (type > KIN_TYPE_RWLOCK)
        return OS_NO_HANDLE;
    FUZZ_CHECK(kin__segment_find(objects[type].as.p, &header, &handle) == KIN_OK);
    return handle;
}

fuzz_mark fuzz_handles_begin(void)
{
    (void)live(KIN_TYPE_SEGMENT);
    fuzz_mark mark = {duplicate(channel())};
    os_handle_close(mark.lowest);
    return mark;
}

void fuzz_handles_end(fuzz_mark mark)
{
    fuzz_mark now = fuzz_handles_begin();
    FUZZ_CHECK(OS_WINDOWS || now.lowest == mark.lowest);
}

os_handle fuzz_handle(uint8_t kind, const void *image, size_t size)
{
    os_handle borrowed = OS_NO_HANDLE;
    if (kind == FUZZ_MEMORY)
        return memory(image, size);
    if (kind == FUZZ_CHANNEL)
        borrowed = channel();
    else if (kind >= FUZZ_LIVE)
        borrowed = live((kin_type)(kind - FUZZ_LIVE + KIN_TYPE_SEGMENT));
    return borrowed != OS_NO_HANDLE ? duplicate(borrowed) : OS_NO_HANDLE;
}

/* ---- objects ---- */

static void use_segment(kin_segment *segment)
{
    volatile uint8_t *data = kin_segment_data(segment);
    FUZZ_CHECK(data != NULL);
    for (size_t i = 0, size = kin_segment_size(segment); i < size; i += 64)
        (void)data[i];
}

static void use_value(kin_value *value)
{
    double d = 0;
    (void)kin_value_get_i64(value);
    (void)kin_value_get_u64(value);
    (void)fuzz_ok(kin_value_add_i64(value, 1, NULL));
    (void)fuzz_ok(kin_value_add_i64(value, -1, NULL));
    (void)fuzz_ok(kin_value_add_f64(value, 0, &d));
    FUZZ_CHECK(kin_value_lock(value) != NULL);
    (void)kin_lock_held(kin_value_lock(value));
}

static void use_array(kin_array *array)
{
    size_t count = kin_array_count(array), size = kin_array_item_size(array);
    void *item = malloc(size);
    FUZZ_CHECK(count > 0 && size > 0 && kin_array_data(array) != NULL && item != NULL);
    (void)kin_array_type(array);
    for (size_t i = 0; i < count; i += count / 16 + 1) {
        FUZZ_CHECK(kin_array_get(array, i, item) == KIN_OK);
        FUZZ_CHECK(kin_array_set(array, i, item) == KIN_OK);
    }
    FUZZ_CHECK(kin_array_get(array, count - 1, item) == KIN_OK && kin_array_get(array, count, item) == KIN_ERANGE);
    free(item);
}

/* Whether something was acquired: from a dead owner too. */
static bool got(kin_err err)
{
    return fuzz_ok(err) || err == KIN_EOWNERDEAD;
}

static void use_locks(kin_type type, void *object)
{
    if (type == KIN_TYPE_LOCK) {
        if (got(kin_lock_acquire(object, KIN_NOWAIT)))
            FUZZ_CHECK(kin_lock_held(object) && kin_lock_release(object) == KIN_OK);
    } else if (type == KIN_TYPE_RLOCK) {
        (void)kin_rlock_count(object);
        if (got(kin_rlock_acquire(object, KIN_NOWAIT)))
            FUZZ_CHECK(kin_rlock_count(object) > 0 && kin_rlock_release(object) == KIN_OK);
    } else {
        if (got(kin_rwlock_acquire_read(object, KIN_NOWAIT)))
            (void)fuzz_ok(kin_rwlock_release(object));
        if (got(kin_rwlock_acquire_write(object, KIN_NOWAIT)))
            (void)fuzz_ok(kin_rwlock_release(object));
        (void)kin_rwlock_reading(object);
        (void)kin_rwlock_writing(object);
    }
}

static void use_others(kin_type type, void *object)
{
    if (type == KIN_TYPE_SEMAPHORE) {
        (void)kin_semaphore_units(object);
        if (got(kin_semaphore_acquire(object, KIN_NOWAIT)))
            (void)fuzz_ok(kin_semaphore_release(object));
    } else if (type == KIN_TYPE_EVENT) {
        bool was = kin_event_is_set(object);
        (void)fuzz_ok(kin_event_wait(object, KIN_NOWAIT));
        (void)fuzz_ok(kin_event_set(object));
        if (!was)
            (void)fuzz_ok(kin_event_clear(object));
    } else if (type == KIN_TYPE_BARRIER) {
        (void)kin_barrier_parties(object);
        (void)kin_barrier_waiting(object);
        (void)kin_barrier_is_broken(object);
        (void)fuzz_ok(kin_barrier_wait(object, KIN_NOWAIT, NULL));
        (void)fuzz_ok(kin_barrier_reset(object));
    }
}

void fuzz_use(kin_type type, void *object)
{
    switch (type) {
    case KIN_TYPE_SEGMENT:
        use_segment(object);
        break;
    case KIN_TYPE_VALUE:
        use_value(object);
        break;
    case KIN_TYPE_ARRAY:
        use_array(object);
        break;
    case KIN_TYPE_LOCK:
    case KIN_TYPE_RLOCK:
    case KIN_TYPE_RWLOCK:
        use_locks(type, object);
        break;
    default:
        use_others(type, object);
    }
}

void fuzz_close(kin_type type, void *object)
{
    if (type == KIN_TYPE_QUEUE)
        kin_queue_close(object);
    else if (type == KIN_TYPE_CONNECTION)
        kin_connection_close(object);
    else
        kin__segment_release(object);
}
