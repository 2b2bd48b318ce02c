/* Values that cross: the constructors behind KIN_ARGS and KIN_OUT, and packs as bytes and handles.
 *
 * On the wire a pack is a count and, for each value, a 24-byte head {type, extra, number or size, offset} followed by its bytes, all aligned
 * to 8. The decoder believes nothing: every size and index is checked against what is there before it is used. */
#include "any.h"

#include "error.h"
#include "lock.h"
#include "segment.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define DEPTH 16
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
kin_out kin__out_same(kin_out out) { return out; }

static const char *type_name(kin_type type)
{
    static const char *const names[] = {"nothing", "bool", "signed integer", "unsigned integer", "double", "string", "bytes", "struct",
                                        "list", "FILE", "fd", "handle", "kin_segment", "kin_value", "kin_array", "kin_lock"};
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "unknown type";
}

/* ---- packing ---- */

typedef struct item_head {
    uint32_t type;
    uint32_t extra;  /* index of the handle                                             */
    uint64_t number; /* the number's bits, or how many bytes or items follow            */
    uint64_t offset; /* of a lock in its segment; of a FILE: how it was opened          */
} item_head;
_Static_assert(sizeof(item_head) == 24, "form on the wire");

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

static kin_err add_object(kin__parcel *parcel, const kin_any *value, item_head *head)
{
    kin__header *header;
    os_handle handle;
    if (value->type == KIN_TYPE_LOCK ? !kin__is_lock(value->as.p) : !kin__is(value->as.p, value->type))
        return kin__fail(KIN_EINVAL, "not an open %s", type_name(value->type));
    kin_err err = kin__segment_find(value->as.p, &header, &handle);
    if (err != KIN_OK)
        return err;
    head->offset = (uint64_t)((const char *)value->as.p - (const char *)header);
    return add_handle(parcel, handle, false, &head->extra);
}

static kin_err add_system_handle(kin__parcel *parcel, const kin_any *value, item_head *head)
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
    item_head head = {.type = (uint32_t)value->type};
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
        if (depth >= DEPTH)
            return kin__fail(KIN_EINVAL, "lists nest deeper than %d", DEPTH);
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
        err = add_object(parcel, value, &head);
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

/* ---- unpacking ---- */

typedef struct arg {
    item_head head;
    const void *bytes;
    kin_args *list;
    bool taken;
} arg;

struct kin_args {
    size_t count;
    os_handle *handles; /* shared with the lists inside; the outermost frees them */
    size_t handle_count;
    bool inner;
    arg items[];
};

typedef struct reader {
    const char *at;
    size_t left;
} reader;

static kin_err damaged(void)
{
    return kin__fail(KIN_EPROTO, "the packed values are damaged");
}

static bool take(reader *r, void *to, size_t size)
{
    if (r->left < size)
        return false;
    memcpy(to, r->at, size);
    r->at += size;
    r->left -= size;
    return true;
}

static kin_err decode(reader *r, os_handle *handles, size_t handle_count, int depth, kin_args **args);

static kin_err decode_item(reader *r, const kin_args *args, int depth, arg *item)
{
    if (!take(r, &item->head, sizeof item->head))
        return damaged();
    uint64_t size = item->head.number;
    switch ((kin_type)item->head.type) {
    case KIN_TYPE_BOOL:
    case KIN_TYPE_INT:
    case KIN_TYPE_UINT:
    case KIN_TYPE_DOUBLE:
        return KIN_OK;
    case KIN_TYPE_STRING:
    case KIN_TYPE_BYTES:
    case KIN_TYPE_STRUCT:
        if (size > r->left || (size + 7) / 8 * 8 > r->left)
            return damaged();
        item->bytes = r->at;
        r->at += (size + 7) / 8 * 8;
        r->left -= (size_t)((size + 7) / 8 * 8);
        if (item->head.type == KIN_TYPE_STRING && (size == 0 || memchr(item->bytes, 0, (size_t)size) != (const char *)item->bytes + size - 1))
            return damaged();
        return KIN_OK;
    case KIN_TYPE_LIST:
        if (depth >= DEPTH)
            return damaged();
        return decode(r, args->handles, args->handle_count, depth + 1, &item->list);
    case KIN_TYPE_FILE:
    case KIN_TYPE_FD:
    case KIN_TYPE_HANDLE:
    case KIN_TYPE_SEGMENT:
    case KIN_TYPE_VALUE:
    case KIN_TYPE_ARRAY:
    case KIN_TYPE_LOCK:
        return item->head.extra < args->handle_count ? KIN_OK : damaged();
    default:
        return damaged();
    }
}

static void free_items(kin_args *args)
{
    for (size_t i = 0; i < args->count; i++) {
        if (args->items[i].list != NULL)
            free_items(args->items[i].list);
    }
    free(args);
}

static kin_err decode(reader *r, os_handle *handles, size_t handle_count, int depth, kin_args **args)
{
    uint64_t count;
    if (!take(r, &count, sizeof count) || count > r->left / sizeof(item_head))
        return damaged();
    kin_args *a = calloc(1, sizeof *a + (size_t)count * sizeof a->items[0]);
    if (a == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for %llu values", (unsigned long long)count);
    a->handles = handles;
    a->handle_count = handle_count;
    a->inner = depth > 0;
    a->count = (size_t)count;
    for (size_t i = 0; i < a->count; i++) {
        kin_err err = decode_item(r, a, depth, &a->items[i]);
        if (err != KIN_OK) {
            free_items(a);
            return err;
        }
    }
    *args = a;
    return KIN_OK;
}

kin_err kin__args_decode(const void *bytes, size_t size, os_handle *handles, size_t handle_count, kin_args **args)
{
    reader r = {bytes, size};
    kin_err err = decode(&r, handles, handle_count, 0, args);
    if (err != KIN_OK) {
        for (size_t i = 0; i < handle_count; i++)
            os_handle_close(handles[i]);
    }
    return err;
}

void kin__args_free(kin_args *args)
{
    if (args == NULL)
        return;
    for (size_t i = 0; i < args->handle_count; i++)
        os_handle_close(args->handles[i]);
    free_items(args);
}

size_t kin_args_count(const kin_args *args)
{
    return args != NULL ? args->count : 0;
}

kin_type kin_args_type(const kin_args *args, size_t index)
{
    return args != NULL && index < args->count ? (kin_type)args->items[index].head.type : KIN_TYPE_NONE;
}

/* ---- taking out ---- */

static bool is_integer(kin_type type)
{
    return type == KIN_TYPE_INT || type == KIN_TYPE_UINT;
}

static kin_err check_integer(const arg *item, size_t index, const kin_out *out)
{
    bool negative = item->head.type == KIN_TYPE_INT && (int64_t)item->head.number < 0, fits;
    unsigned bits = (unsigned)out->size * 8 - (out->type == KIN_TYPE_INT ? 1 : 0);
    if (negative)
        fits = out->type == KIN_TYPE_INT && (int64_t)item->head.number >= -(int64_t)((uint64_t)1 << (bits - 1)) * 2;
    else
        fits = bits == 64 || item->head.number >> bits == 0;
    if (fits)
        return KIN_OK;
    if (negative)
        return kin__fail(KIN_ERANGE, "value %zu: %lld does not fit a%s integer of %zu bytes", index, (long long)item->head.number,
                         out->type == KIN_TYPE_INT ? " signed" : "n unsigned", out->size);
    return kin__fail(KIN_ERANGE, "value %zu: %llu does not fit a%s integer of %zu bytes", index, (unsigned long long)item->head.number,
                     out->type == KIN_TYPE_INT ? " signed" : "n unsigned", out->size);
}

static kin_err check_out(const kin_args *args, size_t index, const kin_out *out)
{
    const arg *item = &args->items[index];
    kin_type found = (kin_type)item->head.type;
    if (out->place == NULL)
        return kin__fail(KIN_EINVAL, "value %zu: the place for it is NULL", index);
    if (is_integer(found) && is_integer(out->type))
        return check_integer(item, index, out);
    if (is_integer(found) && out->type == KIN_TYPE_BOOL) { /* in C before C23 `true` is an int */
        if (item->head.number <= 1)
            return KIN_OK;
        return kin__fail(KIN_ERANGE, "value %zu: an integer that is neither 0 nor 1 does not fit a bool", index);
    }
    if (found != out->type)
        return kin__fail(KIN_ETYPE, "value %zu: expected a %s, found a %s", index, type_name(out->type), type_name(found));
    if (found == KIN_TYPE_STRUCT && item->head.number != out->size)
        return kin__fail(KIN_ETYPE, "value %zu: expected a struct of %zu bytes, found one of %llu", index, out->size,
                         (unsigned long long)item->head.number);
    if (found >= KIN_TYPE_FILE && (item->taken || args->handles[item->head.extra] == OS_NO_HANDLE))
        return kin__fail(KIN_ESTATE, "value %zu: the %s was taken out already", index, type_name(found));
    return KIN_OK;
}

static void put_integer(uint64_t number, const kin_out *out)
{
    switch (out->size) {
    case 1: {
        uint8_t n = (uint8_t)number;
        memcpy(out->place, &n, 1);
        break;
    }
    case 2: {
        uint16_t n = (uint16_t)number;
        memcpy(out->place, &n, 2);
        break;
    }
    case 4: {
        uint32_t n = (uint32_t)number;
        memcpy(out->place, &n, 4);
        break;
    }
    default:
        memcpy(out->place, &number, 8);
    }
}

static void put_double(uint64_t bits, const kin_out *out)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    if (out->size == sizeof(float))
        *(float *)out->place = (float)number;
    else
        *(double *)out->place = number;
}

static kin_err put_object(kin_args *args, arg *item, const kin_out *out)
{
    kin__header *header;
    os_handle *handle = &args->handles[item->head.extra];
    kin_err err = kin__segment_adopt(*handle, out->type == KIN_TYPE_LOCK ? KIN_TYPE_NONE : out->type, &header);
    if (err != KIN_OK)
        return err;
    *handle = OS_NO_HANDLE;
    item->taken = true;
    void *object = header;
    if (out->type == KIN_TYPE_LOCK) {
        uint64_t offset = item->head.offset;
        object = (char *)header + offset;
        if (offset > header->size + sizeof *header - sizeof(kin_lock) || !kin__is_lock(object)) {
            kin__segment_release(header);
            return kin__fail(KIN_EPROTO, "there is no lock where one was passed");
        }
    }
    memcpy(out->place, &object, sizeof object);
    return KIN_OK;
}

static kin_err put_handle(kin_args *args, arg *item, const kin_out *out)
{
    os_handle *handle = &args->handles[item->head.extra];
    kin_err err = KIN_OK;
    if (out->type == KIN_TYPE_FILE)
        err = os_handle_to_file(*handle, (uint32_t)item->head.offset, out->place);
    else if (out->type == KIN_TYPE_FD)
        err = os_handle_to_fd(*handle, out->place);
    else
        *(intptr_t *)out->place = *handle;
    if (err == KIN_OK) {
        *handle = OS_NO_HANDLE;
        item->taken = true;
    }
    return err;
}

static kin_err put(kin_args *args, size_t index, const kin_out *out)
{
    arg *item = &args->items[index];
    switch (out->type) {
    case KIN_TYPE_BOOL:
        *(bool *)out->place = item->head.number != 0;
        return KIN_OK;
    case KIN_TYPE_INT:
    case KIN_TYPE_UINT:
        put_integer(item->head.number, out);
        return KIN_OK;
    case KIN_TYPE_DOUBLE:
        put_double(item->head.number, out);
        return KIN_OK;
    case KIN_TYPE_STRING:
        memcpy(out->place, &item->bytes, sizeof item->bytes);
        return KIN_OK;
    case KIN_TYPE_BYTES:
        *(kin_view *)out->place = (kin_view){item->bytes, (size_t)item->head.number};
        return KIN_OK;
    case KIN_TYPE_STRUCT:
        memcpy(out->place, item->bytes, out->size);
        return KIN_OK;
    case KIN_TYPE_LIST:
        *(kin_args **)out->place = item->list;
        return KIN_OK;
    case KIN_TYPE_FILE:
    case KIN_TYPE_FD:
    case KIN_TYPE_HANDLE:
        return put_handle(args, item, out);
    default:
        return put_object(args, item, out);
    }
}

/* Takes back what a kin_unpack that failed in the middle had handed out. */
static void take_back(const kin_out *out)
{
    void *object = NULL;
    if (out->type >= KIN_TYPE_SEGMENT) {
        memcpy(&object, out->place, sizeof object);
        kin__segment_release(object);
        memset(out->place, 0, sizeof object);
    } else if (out->type == KIN_TYPE_FILE) {
        (void)fclose(*(FILE **)out->place);
        *(FILE **)out->place = NULL;
    } else if (out->type == KIN_TYPE_FD) {
        uv_fs_t request;
        (void)uv_fs_close(NULL, &request, *(int *)out->place, NULL);
        *(int *)out->place = -1;
    } else if (out->type == KIN_TYPE_HANDLE) {
        os_handle_close(*(os_handle *)out->place);
        *(os_handle *)out->place = OS_NO_HANDLE;
    }
}

kin_err kin__unpack(kin_args *args, kin__outs outs)
{
    size_t count = kin_args_count(args);
    if (args == NULL)
        return kin__fail(KIN_EINVAL, "kin_unpack: the args are NULL");
    if (outs.count != count)
        return kin__fail(KIN_ETYPE, "kin_unpack: %zu values were passed, %zu are expected", count, outs.count);
    for (size_t i = 0; i < count; i++) {
        kin_err err = check_out(args, i, &outs.items[i]);
        if (err != KIN_OK)
            return kin__fail_in(err, "kin_unpack");
    }
    for (size_t i = 0; i < count; i++) {
        kin_err err = put(args, i, &outs.items[i]);
        if (err == KIN_OK)
            continue;
        kin__fail_in(err, "kin_unpack: value %zu", i);
        while (i-- > 0)
            take_back(&outs.items[i]);
        return err;
    }
    return KIN_OK;
}

kin_err kin_args_get(kin_args *args, size_t index, kin_out out)
{
    if (args == NULL || index >= args->count)
        return kin__fail(args == NULL ? KIN_EINVAL : KIN_ERANGE, "value %zu of %zu", index, kin_args_count(args));
    kin_err err = check_out(args, index, &out);
    return err != KIN_OK ? err : put(args, index, &out);
}
