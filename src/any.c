/* Values on their way out: the constructors behind KIN_ARGS and KIN_OUT, and packs as bytes and handles.
 *
 * On the wire a pack is a count and, for each value, a 24-byte head {type, extra, number or size, offset} followed
 * by its bytes, all aligned to 8. unpack.c is the other half. */
#include "any.h"

#include "error.h"
#include "message.h"
#include "object.h"
#include "segment.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ITEM(t, ...) ((kin_any){.type = (t), __VA_ARGS__})

kin_any kin__any_bool(bool v) { return ITEM(KIN_TYPE_BOOL, .as.b = v); }
kin_any kin__any_int(int64_t v) { return ITEM(KIN_TYPE_INT, .as.i = v); }
kin_any kin__any_uint(uint64_t v) { return ITEM(KIN_TYPE_UINT, .as.u = v); }
kin_any kin__any_double(double v) { return ITEM(KIN_TYPE_DOUBLE, .as.d = v); }
kin_any kin__any_string(const char *v) { return ITEM(KIN_TYPE_STRING, .as.p = v); }
kin_any kin__any_struct(const void *p, size_t size) { return ITEM(KIN_TYPE_STRUCT, .as.p = p, .size = size); }
kin_any kin__any_file(FILE *v) { return ITEM(KIN_TYPE_FILE, .as.p = v); }
kin_any kin__any_segment(const kin_segment *v) { return ITEM(KIN_TYPE_SEGMENT, .as.p = v); }
kin_any kin__any_value(const kin_value *v) { return ITEM(KIN_TYPE_VALUE, .as.p = v); }
kin_any kin__any_array(const kin_array *v) { return ITEM(KIN_TYPE_ARRAY, .as.p = v); }
kin_any kin__any_lock(const kin_lock *v) { return ITEM(KIN_TYPE_LOCK, .as.p = v); }
kin_any kin__any_rlock(const kin_rlock *v) { return ITEM(KIN_TYPE_RLOCK, .as.p = v); }
kin_any kin__any_semaphore(const kin_semaphore *v) { return ITEM(KIN_TYPE_SEMAPHORE, .as.p = v); }
kin_any kin__any_event(const kin_event *v) { return ITEM(KIN_TYPE_EVENT, .as.p = v); }
kin_any kin__any_condition(const kin_condition *v) { return ITEM(KIN_TYPE_CONDITION, .as.p = v); }
kin_any kin__any_barrier(const kin_barrier *v) { return ITEM(KIN_TYPE_BARRIER, .as.p = v); }
kin_any kin__any_rwlock(const kin_rwlock *v) { return ITEM(KIN_TYPE_RWLOCK, .as.p = v); }
kin_any kin__any_queue(const kin_queue *v) { return ITEM(KIN_TYPE_QUEUE, .as.p = v); }
kin_any kin__any_connection(const kin_connection *v) { return ITEM(KIN_TYPE_CONNECTION, .as.p = v); }
kin_any kin__any_same(kin_any v) { return v; }
kin_any kin_bytes(const void *data, size_t size) { return ITEM(KIN_TYPE_BYTES, .as.p = data, .size = size); }
kin_any kin_fd(int fd) { return ITEM(KIN_TYPE_FD, .as.i = fd); }
kin_any kin_handle(intptr_t handle) { return ITEM(KIN_TYPE_HANDLE, .as.i = handle); }
kin_any kin_list(kin_pack pack) { return ITEM(KIN_TYPE_LIST, .as.p = pack.items, .size = pack.count); }

/* Integers of every width share the type KIN_TYPE_INT or _UINT; the size says which. */
#define PLACE(t, p, s) ((kin_out){(t), (p), (s)})
kin_out kin__out_bool(bool *p) { return PLACE(KIN_TYPE_BOOL, p, sizeof *p); }
kin_out kin__out_i8(signed char *p) { return PLACE(KIN_TYPE_INT, p, 1); }
kin_out kin__out_char(char *p) { return PLACE(CHAR_MIN < 0 ? KIN_TYPE_INT : KIN_TYPE_UINT, p, 1); }
kin_out kin__out_u8(unsigned char *p) { return PLACE(KIN_TYPE_UINT, p, 1); }
kin_out kin__out_i16(short *p) { return PLACE(KIN_TYPE_INT, p, sizeof *p); }
kin_out kin__out_u16(unsigned short *p) { return PLACE(KIN_TYPE_UINT, p, sizeof *p); }
kin_out kin__out_int(int *p) { return PLACE(KIN_TYPE_INT, p, sizeof *p); }
kin_out kin__out_uint(unsigned *p) { return PLACE(KIN_TYPE_UINT, p, sizeof *p); }
kin_out kin__out_long(long *p) { return PLACE(KIN_TYPE_INT, p, sizeof *p); }
kin_out kin__out_ulong(unsigned long *p) { return PLACE(KIN_TYPE_UINT, p, sizeof *p); }
kin_out kin__out_llong(long long *p) { return PLACE(KIN_TYPE_INT, p, sizeof *p); }
kin_out kin__out_ullong(unsigned long long *p) { return PLACE(KIN_TYPE_UINT, p, sizeof *p); }
kin_out kin__out_float(float *p) { return PLACE(KIN_TYPE_DOUBLE, p, sizeof *p); }
kin_out kin__out_double(double *p) { return PLACE(KIN_TYPE_DOUBLE, p, sizeof *p); }
kin_out kin__out_string(const char **p) { return PLACE(KIN_TYPE_STRING, (void *)(uintptr_t)p, sizeof *p); }
kin_out kin__out_view(kin_view *p) { return PLACE(KIN_TYPE_BYTES, p, sizeof *p); }
kin_out kin__out_list(kin_args **p) { return PLACE(KIN_TYPE_LIST, p, sizeof *p); }
kin_out kin__out_file(FILE **p) { return PLACE(KIN_TYPE_FILE, p, sizeof *p); }
kin_out kin__out_struct(void *p, size_t size) { return PLACE(KIN_TYPE_STRUCT, p, size); }
kin_out kin_fd_out(int *fd) { return PLACE(KIN_TYPE_FD, fd, sizeof *fd); }
kin_out kin_handle_out(intptr_t *handle) { return PLACE(KIN_TYPE_HANDLE, handle, sizeof *handle); }
kin_out kin__out_segment(kin_segment **p) { return PLACE(KIN_TYPE_SEGMENT, p, sizeof *p); }
kin_out kin__out_value(kin_value **p) { return PLACE(KIN_TYPE_VALUE, p, sizeof *p); }
kin_out kin__out_array(kin_array **p) { return PLACE(KIN_TYPE_ARRAY, p, sizeof *p); }
kin_out kin__out_lock(kin_lock **p) { return PLACE(KIN_TYPE_LOCK, p, sizeof *p); }
kin_out kin__out_rlock(kin_rlock **p) { return PLACE(KIN_TYPE_RLOCK, p, sizeof *p); }
kin_out kin__out_semaphore(kin_semaphore **p) { return PLACE(KIN_TYPE_SEMAPHORE, p, sizeof *p); }
kin_out kin__out_event(kin_event **p) { return PLACE(KIN_TYPE_EVENT, p, sizeof *p); }
kin_out kin__out_condition(kin_condition **p) { return PLACE(KIN_TYPE_CONDITION, p, sizeof *p); }
kin_out kin__out_barrier(kin_barrier **p) { return PLACE(KIN_TYPE_BARRIER, p, sizeof *p); }
kin_out kin__out_rwlock(kin_rwlock **p) { return PLACE(KIN_TYPE_RWLOCK, p, sizeof *p); }
kin_out kin__out_queue(kin_queue **p) { return PLACE(KIN_TYPE_QUEUE, p, sizeof *p); }
kin_out kin__out_connection(kin_connection **p) { return PLACE(KIN_TYPE_CONNECTION, p, sizeof *p); }
kin_out kin__out_same(kin_out out) { return out; }

const char *kin__type_name(kin_type type)
{
    static const char *const names[] = {"nothing", "bool", "signed integer", "unsigned integer", "double", "string", "bytes", "struct",
                                        "list", "FILE", "fd", "handle", "kin_segment", "kin_value", "kin_array", "kin_lock",
                                        "kin_rlock", "kin_semaphore", "kin_event", "kin_condition", "kin_barrier", "kin_rwlock", "kin_queue", "kin_connection"};
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "unknown type";
}

/* ---- packing ---- */

static kin_err grow(void **block, size_t *space, size_t need, size_t each)
{
    if (need <= *space)
        return KIN_OK;
    size_t more = *space != 0 ? *space : 16;
    while (more < need) {
        if (more > SIZE_MAX / 4 / each)
            return kin__fail(KIN_ENOMEM, "no memory to pack the values");
        more *= 2;
    }
    void *bigger = realloc(*block, more * each);
    if (bigger == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to pack the values (%zu bytes)", more * each);
    *block = bigger;
    *space = more;
    return KIN_OK;
}

kin_err kin__parcel_add(kin__parcel *parcel, const void *bytes, size_t size)
{
    static const char zeros[8];
    size_t pad = (8 - size % 8) % 8;
    if (size > SIZE_MAX / 4 - parcel->size)
        return kin__fail(KIN_ENOMEM, "no memory to pack %zu bytes", size);
    void *block = parcel->bytes;
    kin_err err = grow(&block, &parcel->space, parcel->size + size + pad, 1);
    parcel->bytes = block;
    if (err != KIN_OK)
        return err;
    if (size != 0)
        memcpy(parcel->bytes + parcel->size, bytes, size);
    memcpy(parcel->bytes + parcel->size + size, zeros, pad);
    parcel->size += size + pad;
    return KIN_OK;
}

static kin_err add_handle(kin__parcel *parcel, os_handle handle, bool owned, uint32_t *index)
{
    void *handles = parcel->handles, *flags = parcel->owned;
    size_t space = parcel->handle_space, flag_space = parcel->handle_space;
    kin_err err = grow(&handles, &space, parcel->handle_count + 1, sizeof *parcel->handles);
    parcel->handles = handles;
    if (err == KIN_OK)
        err = grow(&flags, &flag_space, parcel->handle_count + 1, sizeof *parcel->owned);
    parcel->owned = flags;
    if (err != KIN_OK) {
        if (owned)
            os_handle_close(handle);
        return err;
    }
    parcel->handle_space = space < flag_space ? space : flag_space;
    *index = (uint32_t)parcel->handle_count;
    parcel->owned[parcel->handle_count] = owned;
    parcel->handles[parcel->handle_count++] = handle;
    return KIN_OK;
}

static kin_err add_object(kin__parcel *parcel, const kin_any *value, kin__item_head *head)
{
    kin__header *header;
    os_handle handle;
    if (kin__object_size(value->type) != 0 ? !kin__is_object(value->as.p, value->type) : !kin__is(value->as.p, value->type))
        return kin__fail(KIN_EINVAL, "not an open %s", kin__type_name(value->type));
    kin_err err = kin__segment_find(value->as.p, &header, &handle);
    if (err != KIN_OK)
        return err;
    head->offset = (uint64_t)((const char *)value->as.p - (const char *)header);
    return add_handle(parcel, handle, false, &head->extra);
}

/* A queue or an end of a pipe: a row of handles. They are duplicated, since its close may come before the parcel has gone. */
static kin_err add_message_object(kin__parcel *parcel, const kin_any *value, kin__item_head *head)
{
    os_handle handles[KIN__EXPORT_HANDLES];
    size_t count = 0;
    uint32_t index;
    kin_err err = value->type == KIN_TYPE_QUEUE ? kin__queue_export(value->as.p, handles, &count)
                                                : kin__connection_export(value->as.p, handles, &count, &head->offset);
    head->number = count;
    for (size_t i = 0; i < count; i++) {
        if (err == KIN_OK)
            err = add_handle(parcel, handles[i], true, i == 0 ? &head->extra : &index);
        else
            os_handle_close(handles[i]);
    }
    return err;
}

static kin_err add_system_handle(kin__parcel *parcel, const kin_any *value, kin__item_head *head)
{
    os_handle handle;
    uint32_t mode = 0;
    kin_err err;
    if (value->type == KIN_TYPE_FILE)
        err = value->as.p != NULL ? os_handle_from_file((FILE *)(uintptr_t)value->as.p, &handle, &mode) : kin__fail(KIN_EINVAL, "the FILE is NULL");
    else if (value->type == KIN_TYPE_FD)
        err = os_handle_from_fd((int)value->as.i, &handle);
    else
        err = os_handle_duplicate((os_handle)value->as.i, &handle);
    if (err != KIN_OK)
        return err;
    head->offset = mode;
    return add_handle(parcel, handle, true, &head->extra);
}

static kin_err add_pack(kin__parcel *parcel, kin_pack pack, int depth);

static kin_err add_item(kin__parcel *parcel, const kin_any *value, int depth)
{
    kin__item_head head = {.type = (uint32_t)value->type};
    const void *bytes = NULL;
    size_t size = 0;
    kin_err err = KIN_OK;
    switch (value->type) {
    case KIN_TYPE_BOOL:
        head.number = value->as.b ? 1 : 0;
        break;
    case KIN_TYPE_INT:
    case KIN_TYPE_UINT:
        head.number = value->as.u;
        break;
    case KIN_TYPE_DOUBLE:
        memcpy(&head.number, &value->as.d, sizeof head.number);
        break;
    case KIN_TYPE_STRING:
        if (value->as.p == NULL)
            return kin__fail(KIN_EINVAL, "the string is NULL");
        bytes = value->as.p;
        size = strlen(bytes) + 1;
        head.number = size;
        break;
    case KIN_TYPE_BYTES:
    case KIN_TYPE_STRUCT:
        if (value->as.p == NULL && value->size != 0)
            return kin__fail(KIN_EINVAL, "%zu bytes at NULL", value->size);
        bytes = value->as.p;
        size = value->size;
        head.number = size;
        break;
    case KIN_TYPE_LIST:
        if (depth >= KIN__LIST_DEPTH)
            return kin__fail(KIN_EINVAL, "lists nest deeper than %d", KIN__LIST_DEPTH);
        err = kin__parcel_add(parcel, &head, sizeof head);
        return err != KIN_OK ? err : add_pack(parcel, (kin_pack){value->as.p, value->size}, depth + 1);
    case KIN_TYPE_FILE:
    case KIN_TYPE_FD:
    case KIN_TYPE_HANDLE:
        err = add_system_handle(parcel, value, &head);
        break;
    case KIN_TYPE_SEGMENT:
    case KIN_TYPE_VALUE:
    case KIN_TYPE_ARRAY:
    case KIN_TYPE_LOCK:
    case KIN_TYPE_RLOCK:
    case KIN_TYPE_SEMAPHORE:
    case KIN_TYPE_EVENT:
    case KIN_TYPE_CONDITION:
    case KIN_TYPE_BARRIER:
    case KIN_TYPE_RWLOCK:
        err = add_object(parcel, value, &head);
        break;
    case KIN_TYPE_QUEUE:
    case KIN_TYPE_CONNECTION:
        err = add_message_object(parcel, value, &head);
        break;
    default:
        return kin__fail(KIN_EINVAL, "%d is no type of value", (int)value->type);
    }
    if (err == KIN_OK)
        err = kin__parcel_add(parcel, &head, sizeof head);
    return err == KIN_OK && bytes != NULL ? kin__parcel_add(parcel, bytes, size) : err;
}

static kin_err add_pack(kin__parcel *parcel, kin_pack pack, int depth)
{
    uint64_t count = pack.count;
    if (pack.items == NULL && count != 0)
        return kin__fail(KIN_EINVAL, "%zu values at NULL", pack.count);
    kin_err err = kin__parcel_add(parcel, &count, sizeof count);
    for (size_t i = 0; i < pack.count && err == KIN_OK; i++) {
        err = add_item(parcel, &pack.items[i], depth);
        if (err != KIN_OK)
            kin__fail_in(err, "value %zu", i);
    }
    return err;
}

kin_err kin__parcel_add_pack(kin__parcel *parcel, kin_pack pack)
{
    return add_pack(parcel, pack, 0);
}

void kin__parcel_free(kin__parcel *parcel)
{
    for (size_t i = 0; i < parcel->handle_count; i++) {
        if (parcel->owned[i])
            os_handle_close(parcel->handles[i]);
    }
    free(parcel->bytes);
    free(parcel->handles);
    free(parcel->owned);
    *parcel = (kin__parcel){0};
}
