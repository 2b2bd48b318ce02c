/* A shared array: the header says what it holds, the items follow it. Access by index is checked against the header;
 * the hot loop uses the raw pointer. */
#include "kin/array.h"

#include "error.h"
#include "segment.h"

#include <string.h>

static const size_t item_sizes[] = {[KIN_I8] = 1,  [KIN_U8] = 1,  [KIN_I16] = 2, [KIN_U16] = 2, [KIN_I32] = 4,
                                    [KIN_U32] = 4, [KIN_I64] = 8, [KIN_U64] = 8, [KIN_F32] = 4, [KIN_F64] = 8};

static kin_err create(kin_array **array, kin_item type, size_t item_size, size_t count)
{
    if (array == NULL || item_size == 0 || count == 0)
        return kin__fail(KIN_EINVAL, array == NULL ? "kin_array_create needs a place for the array" : "an array of nothing: %zu items of %zu bytes", count, item_size);
    if (count > (SIZE_MAX / 2) / item_size)
        return kin__fail(KIN_EINVAL, "an array of %zu items of %zu bytes is more than can be addressed", count, item_size);
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_ARRAY, (uint64_t)item_size * count, &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot create an array of %zu items of %zu bytes", count, item_size);
    header->item = (uint32_t)type;
    header->item_size = item_size;
    header->count = count;
    *array = (kin_array *)header;
    return KIN_OK;
}

kin_err kin_array_create(kin_array **array, kin_item type, size_t count)
{
    if (type < KIN_I8 || type > KIN_F64)
        return kin__fail(KIN_EINVAL, "%d is no item type", (int)type);
    return create(array, type, item_sizes[type], count);
}

kin_err kin_array_create_of(kin_array **array, size_t item_size, size_t count)
{
    return create(array, KIN_ITEM_STRUCT, item_size, count);
}

static const kin__header *header_of(const kin_array *array)
{
    if (kin__is(array, KIN_TYPE_ARRAY))
        return (const kin__header *)(const void *)array;
    kin__fail(KIN_EINVAL, array == NULL ? "the array is NULL" : "not an array, or it was closed");
    return NULL;
}

void kin_array_close(kin_array *array)
{
    if (kin__is(array, KIN_TYPE_ARRAY))
        kin__segment_release(array);
}

size_t kin_array_count(const kin_array *array)
{
    const kin__header *h = header_of(array);
    return h != NULL ? (size_t)h->count : 0;
}

size_t kin_array_item_size(const kin_array *array)
{
    const kin__header *h = header_of(array);
    return h != NULL ? (size_t)h->item_size : 0;
}

kin_item kin_array_type(const kin_array *array)
{
    const kin__header *h = header_of(array);
    return h != NULL ? (kin_item)h->item : KIN_ITEM_STRUCT;
}

void *kin_array_data(kin_array *array)
{
    const kin__header *h = header_of(array);
    return h != NULL ? kin__header_data(h) : NULL;
}

static kin_err find_item(const kin_array *array, size_t index, const void *place, char **item, size_t *size)
{
    const kin__header *h = header_of(array);
    if (h == NULL)
        return KIN_EINVAL;
    if (place == NULL)
        return kin__fail(KIN_EINVAL, "no place for the item");
    if (index >= h->count)
        return kin__fail(KIN_ERANGE, "index %zu of an array of %llu items", index, (unsigned long long)h->count);
    *size = (size_t)h->item_size;
    *item = (char *)kin__header_data(h) + index * *size;
    return KIN_OK;
}

kin_err kin_array_get(const kin_array *array, size_t index, void *item)
{
    char *from = NULL;
    size_t size = 0;
    kin_err err = find_item(array, index, item, &from, &size);
    if (err == KIN_OK)
        memcpy(item, from, size);
    return err;
}

kin_err kin_array_set(kin_array *array, size_t index, const void *item)
{
    char *to = NULL;
    size_t size = 0;
    kin_err err = find_item(array, index, item, &to, &size);
    if (err == KIN_OK)
        memcpy(to, item, size);
    return err;
}
