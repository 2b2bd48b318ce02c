/* A shared number. The number has a cache line of its own, apart from the header that every access reads and from
 * the lock. All operations are one atomic instruction, or a loop around one for doubles, so a death in the middle
 * leaves the old or the new number. */
#include "kin/value.h"

#include "atomic.h"
#include "error.h"
#include "segment.h"

#include <string.h>

typedef struct shared_value {
    kin__header header;
    uint64_t bits;
    uint64_t pad[7];
    kin_lock lock;
} shared_value;
_Static_assert(offsetof(shared_value, bits) == 64 && offsetof(shared_value, lock) == 128, "layout in shared memory");

static kin_err create(kin_value **value, kin_type number, uint64_t bits)
{
    if (value == NULL)
        return kin__fail(KIN_EINVAL, "kin_value_create needs a place for the value");
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_VALUE, sizeof(shared_value) - sizeof(kin__header), &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot create a value");
    shared_value *v = (shared_value *)header;
    header->item = (uint32_t)number;
    v->bits = bits;
    (void)kin_lock_init(&v->lock, NULL);
    *value = (kin_value *)v;
    return KIN_OK;
}

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static const char *type_name(uint32_t number)
{
    return number == KIN_TYPE_INT ? "int64" : number == KIN_TYPE_UINT ? "uint64" : "double";
}

/* The word of a value of this type; NULL, with the reason in *err, if it is none. */
static uint64_t *word_of(const kin_value *value, kin_type number, kin_err *err)
{
    const shared_value *v = (const shared_value *)(const void *)value;
    if (!kin__is(value, KIN_TYPE_VALUE))
        *err = kin__fail(KIN_EINVAL, value == NULL ? "the value is NULL" : "not a value, or it was closed");
    else if (v->header.item != (uint32_t)number)
        *err = kin__fail(KIN_ETYPE, "the value is a %s, not a %s", type_name(v->header.item), type_name((uint32_t)number));
    else
        return (uint64_t *)(uintptr_t)&v->bits;
    return NULL;
}

kin_err kin_value_create(kin_value **value, int64_t start)
{
    return create(value, KIN_TYPE_INT, (uint64_t)start);
}

kin_err kin_value_create_u64(kin_value **value, uint64_t start)
{
    return create(value, KIN_TYPE_UINT, start);
}

kin_err kin_value_create_f64(kin_value **value, double start)
{
    return create(value, KIN_TYPE_DOUBLE, bits_of(start));
}

void kin_value_close(kin_value *value)
{
    if (kin__is(value, KIN_TYPE_VALUE))
        kin__segment_release(value);
}

kin_lock *kin_value_lock(kin_value *value)
{
    if (kin__is(value, KIN_TYPE_VALUE))
        return &((shared_value *)value)->lock;
    kin__fail(KIN_EINVAL, "not a value, or it was closed");
    return NULL;
}

static uint64_t add_bits(uint64_t *word, uint64_t number)
{
    return kin__add64(word, number) + number;
}

static uint64_t add_double(uint64_t *word, uint64_t number)
{
    uint64_t before = kin__load64(word), after;
    do {
        after = bits_of(double_of(before) + double_of(number));
    } while (!kin__cas64(word, &before, after));
    return after;
}

/* The operations on one type of number: `number` is the C type, `as_bits` and `as_number` turn it into the stored
 * bits and back. */
#define OPERATIONS(suffix, type, number, as_bits, as_number, add)                                                      \
    number kin_value_get_##suffix(const kin_value *value)                                                              \
    {                                                                                                                  \
        kin_err err;                                                                                                   \
        const uint64_t *word = word_of(value, type, &err);                                                             \
        return word != NULL ? as_number(kin__load64(word)) : 0;                                                        \
    }                                                                                                                  \
    kin_err kin_value_set_##suffix(kin_value *value, number n)                                                         \
    {                                                                                                                  \
        kin_err err;                                                                                                   \
        uint64_t *word = word_of(value, type, &err);                                                                   \
        if (word == NULL)                                                                                              \
            return err;                                                                                                \
        kin__store64(word, as_bits(n));                                                                                \
        return KIN_OK;                                                                                                 \
    }                                                                                                                  \
    kin_err kin_value_add_##suffix(kin_value *value, number n, number *sum)                                            \
    {                                                                                                                  \
        kin_err err;                                                                                                   \
        uint64_t *word = word_of(value, type, &err);                                                                   \
        if (word == NULL)                                                                                              \
            return err;                                                                                                \
        uint64_t after = add(word, as_bits(n));                                                                        \
        if (sum != NULL)                                                                                               \
            *sum = as_number(after);                                                                                   \
        return KIN_OK;                                                                                                 \
    }                                                                                                                  \
    kin_err kin_value_exchange_##suffix(kin_value *value, number n, number *before)                                    \
    {                                                                                                                  \
        kin_err err;                                                                                                   \
        uint64_t *word = word_of(value, type, &err);                                                                   \
        if (word == NULL)                                                                                              \
            return err;                                                                                                \
        uint64_t bits = kin__exchange64(word, as_bits(n));                                                             \
        if (before != NULL)                                                                                            \
            *before = as_number(bits);                                                                                 \
        return KIN_OK;                                                                                                 \
    }                                                                                                                  \
    kin_err kin_value_compare_exchange_##suffix(kin_value *value, number *expected, number n, bool *swapped)           \
    {                                                                                                                  \
        kin_err err;                                                                                                   \
        uint64_t *word = word_of(value, type, &err);                                                                   \
        if (word == NULL)                                                                                              \
            return err;                                                                                                \
        if (expected == NULL)                                                                                          \
            return kin__fail(KIN_EINVAL, "compare_exchange needs the expected number");                                \
        uint64_t seen = as_bits(*expected);                                                                            \
        bool done = kin__cas64(word, &seen, as_bits(n));                                                               \
        *expected = as_number(seen);                                                                                   \
        if (swapped != NULL)                                                                                           \
            *swapped = done;                                                                                           \
        return KIN_OK;                                                                                                 \
    }

#define AS_U64(x) ((uint64_t)(x))
#define AS_I64(x) ((int64_t)(x))

OPERATIONS(i64, KIN_TYPE_INT, int64_t, AS_U64, AS_I64, add_bits)
OPERATIONS(u64, KIN_TYPE_UINT, uint64_t, AS_U64, AS_U64, add_bits)
OPERATIONS(f64, KIN_TYPE_DOUBLE, double, bits_of, double_of, add_double)
