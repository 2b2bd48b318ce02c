/* An array in shared memory: fixed type and length, zeroed, bounds-checked access and a raw pointer for the hot loop. */
#ifndef KIN_ARRAY_H
#define KIN_ARRAY_H

#include "any.h"

KIN_BEGIN

typedef enum kin_item {
    KIN_ITEM_STRUCT = 0, /* kin_array_create_of: any size */
    KIN_I8 = 1,
    KIN_U8 = 2,
    KIN_I16 = 3,
    KIN_U16 = 4,
    KIN_I32 = 5,
    KIN_U32 = 6,
    KIN_I64 = 7,
    KIN_U64 = 8,
    KIN_F32 = 9,
    KIN_F64 = 10
} kin_item;

/* Creates an array of `count` (>= 1) zeroed items; memory is reserved at once (KIN_ENOMEM here, no fault later).
 * KIN_EINVAL for an unknown type, a count or size of 0, or more bytes than can be addressed. */
KIN_API kin_err kin_array_create(kin_array **array, kin_item type, size_t count);
/* The same for items of `item_size` bytes each: structs of your own, without pointers. */
KIN_API kin_err kin_array_create_of(kin_array **array, size_t item_size, size_t count);

/* Gives the reference back; see kin_segment_close. */
KIN_API void kin_array_close(kin_array *array);

/* 0, KIN_ITEM_STRUCT and NULL if `array` is no open array. The data is aligned to 64 bytes. */
KIN_API size_t kin_array_count(const kin_array *array);
KIN_API size_t kin_array_item_size(const kin_array *array);
KIN_API kin_item kin_array_type(const kin_array *array);
KIN_API void *kin_array_data(kin_array *array);

/* Copies item `index` out or in. Not atomic. KIN_ERANGE, naming index and count, outside the array. */
KIN_API kin_err kin_array_get(const kin_array *array, size_t index, void *item);
KIN_API kin_err kin_array_set(kin_array *array, size_t index, const void *item);

KIN_END

#endif
