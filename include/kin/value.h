/* A value: one number that processes share. Every operation is atomic: `add` loses no update, whoever else adds. */
#ifndef KIN_VALUE_H
#define KIN_VALUE_H

#include "any.h"
#include "lock.h"

KIN_BEGIN

/* Creates a value of a type, which it keeps. The functions for another type answer KIN_ETYPE.
 * KIN_ENOMEM, KIN_EMFILE, KIN_ESTATE (before kin_init). */
KIN_API kin_err kin_value_create(kin_value **value, int64_t start); /* int64 */
KIN_API kin_err kin_value_create_u64(kin_value **value, uint64_t start);
KIN_API kin_err kin_value_create_f64(kin_value **value, double start);

/* Gives the reference back; the number lives until the last process that has it has closed it or ended. */
KIN_API void kin_value_close(kin_value *value);

/* The number now. 0 if `value` is not an open value of this type; kin_last_code() tells. */
KIN_API int64_t kin_value_get_i64(const kin_value *value);
KIN_API uint64_t kin_value_get_u64(const kin_value *value);
KIN_API double kin_value_get_f64(const kin_value *value);

KIN_API kin_err kin_value_set_i64(kin_value *value, int64_t number);
KIN_API kin_err kin_value_set_u64(kin_value *value, uint64_t number);
KIN_API kin_err kin_value_set_f64(kin_value *value, double number);

/* Adds, wrapping around for integers; `sum`, if not NULL, gets the number after it. */
KIN_API kin_err kin_value_add_i64(kin_value *value, int64_t number, int64_t *sum);
KIN_API kin_err kin_value_add_u64(kin_value *value, uint64_t number, uint64_t *sum);
KIN_API kin_err kin_value_add_f64(kin_value *value, double number, double *sum);

/* Sets; `before`, if not NULL, gets the number before it. */
KIN_API kin_err kin_value_exchange_i64(kin_value *value, int64_t number, int64_t *before);
KIN_API kin_err kin_value_exchange_u64(kin_value *value, uint64_t number, uint64_t *before);
KIN_API kin_err kin_value_exchange_f64(kin_value *value, double number, double *before);

/* Sets to `number` if the value equals *expected (doubles: bit by bit) and says in *swapped whether it did; if it does
 * not, *expected gets what it is. As C11 atomic_compare_exchange_strong. */
KIN_API kin_err kin_value_compare_exchange_i64(kin_value *value, int64_t *expected, int64_t number, bool *swapped);
KIN_API kin_err kin_value_compare_exchange_u64(kin_value *value, uint64_t *expected, uint64_t number, bool *swapped);
KIN_API kin_err kin_value_compare_exchange_f64(kin_value *value, double *expected, double number, bool *swapped);

/* The lock that comes with the value, for work that is more than one operation. It belongs to the value: do not close
 * it. The operations above neither take nor heed it. NULL if `value` is no open value. */
KIN_API kin_lock *kin_value_lock(kin_value *value);

KIN_END

#endif
