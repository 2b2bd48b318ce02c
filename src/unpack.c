/* Values that have arrived: bytes and handles become a kin_args, and kin_unpack takes them out. It believes nothing:
 * every size and index is checked against what is there before it is used, and what is handed out by halves is taken
 * back. */
#include "any.h"

#include "error.h"
#include "message.h"
#include "object.h"
#include "segment.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

typedef struct arg {
    kin__item_head head;
    const void *bytes;
    kin_args *list;
    bool taken;
} arg;

struct kin_args {
    size_t count;
    os_handle *handles; /* shared with the lists inside; the outermost frees them */
    size_t handle_count;
    bool inner;
    void *bytes; /* of a message: freed with it */
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
        if (depth >= KIN__LIST_DEPTH)
            return damaged();
        return decode(r, args->handles, args->handle_count, depth + 1, &item->list);
    case KIN_TYPE_FILE:
    case KIN_TYPE_FD:
    case KIN_TYPE_HANDLE:
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
        return item->head.extra < args->handle_count ? KIN_OK : damaged();
    case KIN_TYPE_QUEUE:
    case KIN_TYPE_CONNECTION: /* a row of handles */
        return size >= 1 && size <= KIN__EXPORT_HANDLES && item->head.extra < args->handle_count &&
                       size <= args->handle_count - item->head.extra
                   ? KIN_OK
                   : damaged();
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
    if (!take(r, &count, sizeof count) || count > r->left / sizeof(kin__item_head))
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

/* Queues and ends of pipes that nobody took out are closed as such, not only their handles: somebody may wait for just that. */
static void close_untaken(kin_args *args)
{
    for (size_t i = 0; i < args->count; i++) {
        arg *item = &args->items[i];
        void *object = NULL;
        if (item->list != NULL)
            close_untaken(item->list);
        else if ((item->head.type == KIN_TYPE_QUEUE || item->head.type == KIN_TYPE_CONNECTION) && !item->taken)
            (void)kin_args_get(args, i, (kin_out){(kin_type)item->head.type, &object, sizeof object});
        if (object == NULL)
            continue;
        if (item->head.type == KIN_TYPE_QUEUE)
            kin_queue_close(object);
        else
            kin_connection_close(object);
    }
}

void kin__args_free(kin_args *args)
{
    if (args == NULL)
        return;
    kin__error_kept kept;
    kin__error_keep(&kept);
    close_untaken(args);
    kin__error_back(&kept);
    for (size_t i = 0; i < args->handle_count; i++)
        os_handle_close(args->handles[i]);
    void *bytes = args->bytes, *handles = bytes != NULL ? args->handles : NULL;
    free_items(args);
    free(bytes);
    free(handles);
}

kin_err kin__args_of_message(void *bytes, size_t size, os_handle *handles, size_t handle_count, kin_args **args)
{
    kin_err err = kin__args_decode(bytes, size, handles, handle_count, args);
    if (err == KIN_OK) {
        (*args)->bytes = bytes;
    } else {
        free(bytes);
        free(handles);
    }
    return err;
}

void kin_args_free(kin_args *args)
{
    if (args != NULL && args->bytes != NULL)
        kin__args_free(args);
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

/* Whether the handles that a value needs are all there still: it was not taken out, nor was another that names one of them. */
static bool has_handles(const kin_args *args, const arg *item)
{
    kin_type type = (kin_type)item->head.type;
    size_t count = type == KIN_TYPE_QUEUE || type == KIN_TYPE_CONNECTION ? (size_t)item->head.number : 1;
    if (type < KIN_TYPE_FILE)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (args->handles[item->head.extra + i] == OS_NO_HANDLE)
            return false;
    }
    return !item->taken;
}

static const char *article(kin_type type)
{
    return type == KIN_TYPE_BYTES ? "" : type == KIN_TYPE_UINT || type == KIN_TYPE_FD ? "an " : "a ";
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
        return kin__fail(KIN_ETYPE, "value %zu: expected %s%s, found %s%s", index, article(out->type),
                         kin__type_name(out->type), article(found), kin__type_name(found));
    if (found == KIN_TYPE_STRUCT && item->head.number != out->size)
        return kin__fail(KIN_ETYPE, "value %zu: expected a struct of %zu bytes, found one of %llu", index, out->size,
                         (unsigned long long)item->head.number);
    if (!has_handles(args, item))
        return kin__fail(KIN_ESTATE, "value %zu: the %s was taken out already", index, kin__type_name(found));
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
    size_t size = kin__object_size(out->type); /* such a thing may lie anywhere in a segment of any kind */
    kin_err err = kin__segment_adopt(*handle, size != 0 ? KIN_TYPE_NONE : out->type, &header);
    if (err != KIN_OK)
        return err;
    *handle = OS_NO_HANDLE;
    item->taken = true;
    void *object = header;
    if (size != 0) {
        uint64_t offset = item->head.offset, all = header->size + sizeof *header;
        bool inside = size <= all && offset <= all - size;
        object = inside ? (char *)header + offset : NULL;
        if (!kin__is_object(object, out->type)) {
            kin__segment_release(header);
            return kin__fail(KIN_EPROTO, "there is no %s where one was passed", kin__type_name(out->type));
        }
    }
    memcpy(out->place, &object, sizeof object);
    return KIN_OK;
}

/* A queue or an end of a pipe. */
static kin_err put_message_object(kin_args *args, arg *item, const kin_out *out)
{
    os_handle *handles = &args->handles[item->head.extra];
    size_t count = (size_t)item->head.number;
    kin_queue *queue = NULL;
    kin_connection *connection = NULL;
    kin_err err = out->type == KIN_TYPE_QUEUE ? kin__queue_import(&queue, handles, count)
                                              : kin__connection_import(&connection, handles, count, item->head.offset);
    if (err != KIN_OK)
        return err;
    for (size_t i = 0; i < count; i++)
        handles[i] = OS_NO_HANDLE;
    item->taken = true;
    if (out->type == KIN_TYPE_QUEUE)
        memcpy(out->place, &queue, sizeof queue);
    else
        memcpy(out->place, &connection, sizeof connection);
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
    if (!has_handles(args, item)) /* not since the check: two values may say that a handle is theirs */
        return kin__fail(KIN_EPROTO, "the %s is a part of another value", kin__type_name(out->type));
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
    case KIN_TYPE_QUEUE:
    case KIN_TYPE_CONNECTION:
        return put_message_object(args, item, out);
    default:
        return put_object(args, item, out);
    }
}

/* Takes back what a kin_unpack that failed in the middle had handed out. */
static void take_back(const kin_out *out)
{
    void *object = NULL;
    if (out->type == KIN_TYPE_QUEUE) {
        kin_queue_close(*(kin_queue **)out->place);
        *(kin_queue **)out->place = NULL;
    } else if (out->type == KIN_TYPE_CONNECTION) {
        kin_connection_close(*(kin_connection **)out->place);
        *(kin_connection **)out->place = NULL;
    } else if (out->type >= KIN_TYPE_SEGMENT) {
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
