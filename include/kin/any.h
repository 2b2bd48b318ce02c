/* Values that cross from one process to another: KIN_ARGS packs them, kin_unpack takes them out again.
 *
 *     kin_process_start(&p, work, KIN_ARGS(counter, 5, "name", kin_struct(config)), NULL);
 *
 *     static int work(kin_args *args)
 *     {
 *         kin_value *counter; int64_t times; const char *name; struct config config;
 *         if (kin_unpack(args, &counter, &times, &name, kin_struct_out(config)) != KIN_OK)
 *             return 1;
 *
 * What can cross: integers, floating point, bool, strings, kin_bytes, kin_struct, kin_list, FILE *, kin_fd, kin_handle
 * and every object of kin. What cannot (a raw pointer) does not compile. Everything is copied or duplicated before the
 * call that takes the pack returns; the sender keeps what it has.
 */
#ifndef KIN_ANY_H
#define KIN_ANY_H

#include "base.h"

typedef struct kin_segment kin_segment;
typedef struct kin_value kin_value;
typedef struct kin_array kin_array;
typedef struct kin_lock kin_lock;
typedef struct kin_rlock kin_rlock;
typedef struct kin_semaphore kin_semaphore;
typedef struct kin_event kin_event;
typedef struct kin_condition kin_condition;
typedef struct kin_barrier kin_barrier;
typedef struct kin_rwlock kin_rwlock;
typedef struct kin_queue kin_queue;
typedef struct kin_connection kin_connection;

/* The numbers are part of the form in which values travel. */
typedef enum kin_type {
    KIN_TYPE_NONE = 0,
    KIN_TYPE_BOOL = 1,
    KIN_TYPE_INT = 2,    /* any signed integer; unpacks into every integer type it fits in */
    KIN_TYPE_UINT = 3,   /* any unsigned integer; likewise                                  */
    KIN_TYPE_DOUBLE = 4,
    KIN_TYPE_STRING = 5,
    KIN_TYPE_BYTES = 6,
    KIN_TYPE_STRUCT = 7,
    KIN_TYPE_LIST = 8,
    KIN_TYPE_FILE = 9,   /* shares the file offset with the sender's stream; written-ahead output is flushed first */
    KIN_TYPE_FD = 10,    /* a descriptor of the C library */
    KIN_TYPE_HANDLE = 11,/* a handle of the system: the same as a descriptor on Linux, a HANDLE on Windows */
    KIN_TYPE_SEGMENT = 12,
    KIN_TYPE_VALUE = 13,
    KIN_TYPE_ARRAY = 14,
    KIN_TYPE_LOCK = 15,
    KIN_TYPE_RLOCK = 16,
    KIN_TYPE_SEMAPHORE = 17,
    KIN_TYPE_EVENT = 18,
    KIN_TYPE_CONDITION = 19,
    KIN_TYPE_BARRIER = 20,
    KIN_TYPE_RWLOCK = 21,
    KIN_TYPE_QUEUE = 22,
    KIN_TYPE_CONNECTION = 23 /* an end of a kin_pipe */
} kin_type;

/* One value on its way out. Made by KIN_ARGS and the functions below; borrows what it points to. */
typedef struct kin_any {
    kin_type type;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        const void *p;
    } as;
    size_t size; /* of what p points to: bytes, or items of a list */
} kin_any;

/* Values in a row: what KIN_ARGS makes. For a number of values known only at run time fill one yourself. */
typedef struct kin_pack {
    const kin_any *items;
    size_t count;
} kin_pack;

/* What was received: the values that were passed. A target's belong to kin and live as long as it runs; those of a
 * message are yours: kin_args_free. */
typedef struct kin_args kin_args;

/* Bytes that belong to a kin_args. */
typedef struct kin_view {
    const void *data;
    size_t size;
} kin_view;

/* A place for one value, with the type it takes: made by kin_unpack. */
typedef struct kin_out {
    kin_type type;
    void *place;
    size_t size;
} kin_out;

KIN_BEGIN

/* `size` bytes at `data`; unpacks into a kin_view. size 0 is fine. */
KIN_API kin_any kin_bytes(const void *data, size_t size);
/* A descriptor of the C library; unpacks with kin_fd_out. The receiver gets a duplicate that shares the file offset. */
KIN_API kin_any kin_fd(int fd);
/* A handle of the system (a HANDLE on Windows, a descriptor elsewhere), as an integer; unpacks with kin_handle_out. */
KIN_API kin_any kin_handle(intptr_t handle);
/* Values within a value: kin_list(KIN_ARGS(1, 2, 3)); unpacks into a kin_args *. Lists nest to a depth of 16. */
KIN_API kin_any kin_list(kin_pack pack);

/* Frees values that came in a message, with what was not taken out of them. NULL does nothing. Not for a target's, nor for
 * lists in others: those belong to the whole. */
KIN_API void kin_args_free(kin_args *args);

/* How many values there are. 0 for NULL. */
KIN_API size_t kin_args_count(const kin_args *args);
/* The type of value `index`, from 0; KIN_TYPE_NONE if there is none. */
KIN_API kin_type kin_args_type(const kin_args *args, size_t index);
/* Takes out value `index` alone: kin_args_get(args, 7, KIN_OUT(&lock)). Errors as kin_unpack. */
KIN_API kin_err kin_args_get(kin_args *args, size_t index, kin_out out);

/* A struct by value, given by name: kin_struct(config). Only what is in it crosses, so it must hold no pointers. */
#define kin_struct(s) kin__any_struct(&(s), sizeof(s))
/* A place for a struct, descriptor or handle in kin_unpack, given by name: kin_struct_out(config), kin_fd_out(fd). */
#define kin_struct_out(s) kin__out_struct(&(s), sizeof(s))
KIN_API kin_out kin_fd_out(int *fd);
KIN_API kin_out kin_handle_out(intptr_t *handle);

/* kin_unpack(args, &a, &b, ...) takes out all values in order, one place for each: exactly as many as were passed.
 *
 *     passed                          place
 *     bool, or the integer 0 or 1     bool *          (in C11 `true` is an int)
 *     any integer                     a pointer to any integer type; KIN_ERANGE if the number does not fit
 *     float, double                   double *, float *
 *     string                          const char **   (borrowed: lives as long as args)
 *     kin_bytes                       kin_view *      (borrowed)
 *     kin_list                        kin_args **     (borrowed)
 *     kin_struct                      kin_struct_out(s), of the same size
 *     FILE *                          FILE **         (yours: fclose it)
 *     kin_fd, kin_handle              kin_fd_out(&fd), kin_handle_out(&handle)  (yours: close it)
 *     object                          pointer to a pointer to it; yours: close it
 *
 * KIN_ETYPE names the index, what was expected and what was found; nothing is handed out then. KIN_ESTATE: an object, file or descriptor
 * of these was taken out before; once is all there is. */
#define kin_unpack(args, ...) kin__unpack((args), KIN__OUTS(__VA_ARGS__))

/* ---- below: how the macros do it ------------------------------------------------------------------------------- */

KIN_API kin_any kin__any_bool(bool v);
KIN_API kin_any kin__any_int(int64_t v);
KIN_API kin_any kin__any_uint(uint64_t v);
KIN_API kin_any kin__any_double(double v);
KIN_API kin_any kin__any_string(const char *v);
KIN_API kin_any kin__any_struct(const void *p, size_t size);
KIN_API kin_any kin__any_file(FILE *v);
KIN_API kin_any kin__any_segment(const kin_segment *v);
KIN_API kin_any kin__any_value(const kin_value *v);
KIN_API kin_any kin__any_array(const kin_array *v);
KIN_API kin_any kin__any_lock(const kin_lock *v);
KIN_API kin_any kin__any_rlock(const kin_rlock *v);
KIN_API kin_any kin__any_semaphore(const kin_semaphore *v);
KIN_API kin_any kin__any_event(const kin_event *v);
KIN_API kin_any kin__any_condition(const kin_condition *v);
KIN_API kin_any kin__any_barrier(const kin_barrier *v);
KIN_API kin_any kin__any_rwlock(const kin_rwlock *v);
KIN_API kin_any kin__any_queue(const kin_queue *v);
KIN_API kin_any kin__any_connection(const kin_connection *v);
KIN_API kin_any kin__any_same(kin_any v);

KIN_API kin_out kin__out_bool(bool *p);
KIN_API kin_out kin__out_i8(signed char *p);
KIN_API kin_out kin__out_char(char *p);
KIN_API kin_out kin__out_u8(unsigned char *p);
KIN_API kin_out kin__out_i16(short *p);
KIN_API kin_out kin__out_u16(unsigned short *p);
KIN_API kin_out kin__out_int(int *p);
KIN_API kin_out kin__out_uint(unsigned *p);
KIN_API kin_out kin__out_long(long *p);
KIN_API kin_out kin__out_ulong(unsigned long *p);
KIN_API kin_out kin__out_llong(long long *p);
KIN_API kin_out kin__out_ullong(unsigned long long *p);
KIN_API kin_out kin__out_float(float *p);
KIN_API kin_out kin__out_double(double *p);
KIN_API kin_out kin__out_string(const char **p);
KIN_API kin_out kin__out_view(kin_view *p);
KIN_API kin_out kin__out_list(kin_args **p);
KIN_API kin_out kin__out_file(FILE **p);
KIN_API kin_out kin__out_struct(void *p, size_t size);
KIN_API kin_out kin__out_segment(kin_segment **p);
KIN_API kin_out kin__out_value(kin_value **p);
KIN_API kin_out kin__out_array(kin_array **p);
KIN_API kin_out kin__out_lock(kin_lock **p);
KIN_API kin_out kin__out_rlock(kin_rlock **p);
KIN_API kin_out kin__out_semaphore(kin_semaphore **p);
KIN_API kin_out kin__out_event(kin_event **p);
KIN_API kin_out kin__out_condition(kin_condition **p);
KIN_API kin_out kin__out_barrier(kin_barrier **p);
KIN_API kin_out kin__out_rwlock(kin_rwlock **p);
KIN_API kin_out kin__out_queue(kin_queue **p);
KIN_API kin_out kin__out_connection(kin_connection **p);
KIN_API kin_out kin__out_same(kin_out out);

typedef struct kin__outs {
    const kin_out *items;
    size_t count;
} kin__outs;
KIN_API kin_err kin__unpack(kin_args *args, kin__outs outs);

KIN_END

#ifndef __cplusplus

#define KIN_ANY(x)                                                                                                     \
    _Generic((x),                                                                                                      \
        bool: kin__any_bool,                                                                                           \
        char: kin__any_int,                                                                                            \
        signed char: kin__any_int,                                                                                     \
        unsigned char: kin__any_uint,                                                                                  \
        short: kin__any_int,                                                                                           \
        unsigned short: kin__any_uint,                                                                                 \
        int: kin__any_int,                                                                                             \
        unsigned: kin__any_uint,                                                                                       \
        long: kin__any_int,                                                                                            \
        unsigned long: kin__any_uint,                                                                                  \
        long long: kin__any_int,                                                                                       \
        unsigned long long: kin__any_uint,                                                                             \
        float: kin__any_double,                                                                                        \
        double: kin__any_double,                                                                                       \
        char *: kin__any_string,                                                                                       \
        const char *: kin__any_string,                                                                                 \
        FILE *: kin__any_file,                                                                                         \
        kin_segment *: kin__any_segment,                                                                               \
        const kin_segment *: kin__any_segment,                                                                         \
        kin_value *: kin__any_value,                                                                                   \
        const kin_value *: kin__any_value,                                                                             \
        kin_array *: kin__any_array,                                                                                   \
        const kin_array *: kin__any_array,                                                                             \
        kin_lock *: kin__any_lock,                                                                                     \
        const kin_lock *: kin__any_lock,                                                                               \
        kin_rlock *: kin__any_rlock,                                                                                   \
        const kin_rlock *: kin__any_rlock,                                                                             \
        kin_semaphore *: kin__any_semaphore,                                                                           \
        const kin_semaphore *: kin__any_semaphore,                                                                     \
        kin_event *: kin__any_event,                                                                                   \
        const kin_event *: kin__any_event,                                                                             \
        kin_condition *: kin__any_condition,                                                                           \
        const kin_condition *: kin__any_condition,                                                                     \
        kin_barrier *: kin__any_barrier,                                                                               \
        const kin_barrier *: kin__any_barrier,                                                                         \
        kin_rwlock *: kin__any_rwlock,                                                                                 \
        const kin_rwlock *: kin__any_rwlock,                                                                           \
        kin_queue *: kin__any_queue,                                                                                   \
        const kin_queue *: kin__any_queue,                                                                             \
        kin_connection *: kin__any_connection,                                                                         \
        const kin_connection *: kin__any_connection,                                                                   \
        kin_any: kin__any_same)(x)

#define KIN_OUT(x)                                                                                                     \
    _Generic((x),                                                                                                      \
        bool *: kin__out_bool,                                                                                         \
        char *: kin__out_char,                                                                                         \
        signed char *: kin__out_i8,                                                                                    \
        unsigned char *: kin__out_u8,                                                                                  \
        short *: kin__out_i16,                                                                                         \
        unsigned short *: kin__out_u16,                                                                                \
        int *: kin__out_int,                                                                                           \
        unsigned *: kin__out_uint,                                                                                     \
        long *: kin__out_long,                                                                                         \
        unsigned long *: kin__out_ulong,                                                                               \
        long long *: kin__out_llong,                                                                                   \
        unsigned long long *: kin__out_ullong,                                                                         \
        float *: kin__out_float,                                                                                       \
        double *: kin__out_double,                                                                                     \
        const char **: kin__out_string,                                                                                \
        kin_view *: kin__out_view,                                                                                     \
        kin_args **: kin__out_list,                                                                                    \
        FILE **: kin__out_file,                                                                                        \
        kin_segment **: kin__out_segment,                                                                              \
        kin_value **: kin__out_value,                                                                                  \
        kin_array **: kin__out_array,                                                                                  \
        kin_lock **: kin__out_lock,                                                                                    \
        kin_rlock **: kin__out_rlock,                                                                                  \
        kin_semaphore **: kin__out_semaphore,                                                                          \
        kin_event **: kin__out_event,                                                                                  \
        kin_condition **: kin__out_condition,                                                                          \
        kin_barrier **: kin__out_barrier,                                                                              \
        kin_rwlock **: kin__out_rwlock,                                                                                \
        kin_queue **: kin__out_queue,                                                                                  \
        kin_connection **: kin__out_connection,                                                                        \
        kin_out: kin__out_same)(x)

/* Up to 32 values; none is fine. For more use a kin_pack of your own, or lists. */
#define KIN_ARGS(...) KIN__JOIN(KIN__ARGS_, KIN__IS_EMPTY(__VA_ARGS__))(__VA_ARGS__)
#define KIN__ARGS_1(...) ((kin_pack){NULL, 0})
#define KIN__ARGS_0(...)                                                                                               \
    ((kin_pack){(const kin_any[]){KIN__EACH(KIN_ANY, __VA_ARGS__)},                                                    \
                sizeof((const char[]){KIN__EACH(KIN__ZERO, __VA_ARGS__)})})

#define KIN__OUTS(...) KIN__JOIN(KIN__OUTS_, KIN__IS_EMPTY(__VA_ARGS__))(__VA_ARGS__)
#define KIN__OUTS_1(...) ((kin__outs){NULL, 0})
#define KIN__OUTS_0(...)                                                                                               \
    ((kin__outs){(const kin_out[]){KIN__EACH(KIN_OUT, __VA_ARGS__)},                                                   \
                 sizeof((const char[]){KIN__EACH(KIN__ZERO, __VA_ARGS__)})})

#define KIN__ZERO(x) 0

#endif /* C */

/* The number of arguments: argument 33 of the list followed by 32, 31, ... 1. */
#define KIN__PICK(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, a21, a22, \
                  a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, n, ...)                                            \
    n
#define KIN__COUNT(...)                                                                                                \
    KIN__PICK(__VA_ARGS__, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, \
              9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define KIN__HAS_COMMA(...)                                                                                            \
    KIN__PICK(__VA_ARGS__, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, \
              0, 0)
#define KIN__COMMA(...) ,
#define KIN__JOIN(a, b) KIN__JOIN_(a, b)
#define KIN__JOIN_(a, b) a##b

/* Whether the list is empty: a comma appears where one argument too many was written, and only for an empty list when
 * it stands between a macro that makes a comma and its parentheses (P99, Jens Gustedt). C11 has no __VA_OPT__. */
#define KIN__IS_EMPTY(...)                                                                                             \
    KIN__IS_EMPTY_(KIN__HAS_COMMA(__VA_ARGS__), KIN__HAS_COMMA(KIN__COMMA __VA_ARGS__),                                \
                   KIN__HAS_COMMA(__VA_ARGS__()), KIN__HAS_COMMA(KIN__COMMA __VA_ARGS__()))
#define KIN__IS_EMPTY_(a, b, c, d) KIN__HAS_COMMA(KIN__JOIN5(KIN__EMPTY_, a, b, c, d))
#define KIN__JOIN5(a, b, c, d, e) KIN__JOIN5_(a, b, c, d, e)
#define KIN__JOIN5_(a, b, c, d, e) a##b##c##d##e
#define KIN__EMPTY_0001 ,

/* f(a1), f(a2), ... */
#define KIN__EACH(f, ...) KIN__JOIN(KIN__EACH_, KIN__COUNT(__VA_ARGS__))(f, __VA_ARGS__)
#define KIN__EACH_1(f, a) f(a)
#define KIN__EACH_2(f, a, ...) f(a), KIN__EACH_1(f, __VA_ARGS__)
#define KIN__EACH_3(f, a, ...) f(a), KIN__EACH_2(f, __VA_ARGS__)
#define KIN__EACH_4(f, a, ...) f(a), KIN__EACH_3(f, __VA_ARGS__)
#define KIN__EACH_5(f, a, ...) f(a), KIN__EACH_4(f, __VA_ARGS__)
#define KIN__EACH_6(f, a, ...) f(a), KIN__EACH_5(f, __VA_ARGS__)
#define KIN__EACH_7(f, a, ...) f(a), KIN__EACH_6(f, __VA_ARGS__)
#define KIN__EACH_8(f, a, ...) f(a), KIN__EACH_7(f, __VA_ARGS__)
#define KIN__EACH_9(f, a, ...) f(a), KIN__EACH_8(f, __VA_ARGS__)
#define KIN__EACH_10(f, a, ...) f(a), KIN__EACH_9(f, __VA_ARGS__)
#define KIN__EACH_11(f, a, ...) f(a), KIN__EACH_10(f, __VA_ARGS__)
#define KIN__EACH_12(f, a, ...) f(a), KIN__EACH_11(f, __VA_ARGS__)
#define KIN__EACH_13(f, a, ...) f(a), KIN__EACH_12(f, __VA_ARGS__)
#define KIN__EACH_14(f, a, ...) f(a), KIN__EACH_13(f, __VA_ARGS__)
#define KIN__EACH_15(f, a, ...) f(a), KIN__EACH_14(f, __VA_ARGS__)
#define KIN__EACH_16(f, a, ...) f(a), KIN__EACH_15(f, __VA_ARGS__)
#define KIN__EACH_17(f, a, ...) f(a), KIN__EACH_16(f, __VA_ARGS__)
#define KIN__EACH_18(f, a, ...) f(a), KIN__EACH_17(f, __VA_ARGS__)
#define KIN__EACH_19(f, a, ...) f(a), KIN__EACH_18(f, __VA_ARGS__)
#define KIN__EACH_20(f, a, ...) f(a), KIN__EACH_19(f, __VA_ARGS__)
#define KIN__EACH_21(f, a, ...) f(a), KIN__EACH_20(f, __VA_ARGS__)
#define KIN__EACH_22(f, a, ...) f(a), KIN__EACH_21(f, __VA_ARGS__)
#define KIN__EACH_23(f, a, ...) f(a), KIN__EACH_22(f, __VA_ARGS__)
#define KIN__EACH_24(f, a, ...) f(a), KIN__EACH_23(f, __VA_ARGS__)
#define KIN__EACH_25(f, a, ...) f(a), KIN__EACH_24(f, __VA_ARGS__)
#define KIN__EACH_26(f, a, ...) f(a), KIN__EACH_25(f, __VA_ARGS__)
#define KIN__EACH_27(f, a, ...) f(a), KIN__EACH_26(f, __VA_ARGS__)
#define KIN__EACH_28(f, a, ...) f(a), KIN__EACH_27(f, __VA_ARGS__)
#define KIN__EACH_29(f, a, ...) f(a), KIN__EACH_28(f, __VA_ARGS__)
#define KIN__EACH_30(f, a, ...) f(a), KIN__EACH_29(f, __VA_ARGS__)
#define KIN__EACH_31(f, a, ...) f(a), KIN__EACH_30(f, __VA_ARGS__)
#define KIN__EACH_32(f, a, ...) f(a), KIN__EACH_31(f, __VA_ARGS__)

#ifdef __cplusplus

inline kin_any kin__any(bool v) { return kin__any_bool(v); }
inline kin_any kin__any(char v) { return kin__any_int(v); }
inline kin_any kin__any(signed char v) { return kin__any_int(v); }
inline kin_any kin__any(unsigned char v) { return kin__any_uint(v); }
inline kin_any kin__any(short v) { return kin__any_int(v); }
inline kin_any kin__any(unsigned short v) { return kin__any_uint(v); }
inline kin_any kin__any(int v) { return kin__any_int(v); }
inline kin_any kin__any(unsigned v) { return kin__any_uint(v); }
inline kin_any kin__any(long v) { return kin__any_int(v); }
inline kin_any kin__any(unsigned long v) { return kin__any_uint(v); }
inline kin_any kin__any(long long v) { return kin__any_int(v); }
inline kin_any kin__any(unsigned long long v) { return kin__any_uint(v); }
inline kin_any kin__any(float v) { return kin__any_double(static_cast<double>(v)); }
inline kin_any kin__any(double v) { return kin__any_double(v); }
inline kin_any kin__any(char *v) { return kin__any_string(v); }
inline kin_any kin__any(const char *v) { return kin__any_string(v); }
inline kin_any kin__any(FILE *v) { return kin__any_file(v); }
inline kin_any kin__any(kin_segment *v) { return kin__any_segment(v); }
inline kin_any kin__any(const kin_segment *v) { return kin__any_segment(v); }
inline kin_any kin__any(kin_value *v) { return kin__any_value(v); }
inline kin_any kin__any(const kin_value *v) { return kin__any_value(v); }
inline kin_any kin__any(kin_array *v) { return kin__any_array(v); }
inline kin_any kin__any(const kin_array *v) { return kin__any_array(v); }
inline kin_any kin__any(kin_lock *v) { return kin__any_lock(v); }
inline kin_any kin__any(const kin_lock *v) { return kin__any_lock(v); }
inline kin_any kin__any(kin_rlock *v) { return kin__any_rlock(v); }
inline kin_any kin__any(const kin_rlock *v) { return kin__any_rlock(v); }
inline kin_any kin__any(kin_semaphore *v) { return kin__any_semaphore(v); }
inline kin_any kin__any(const kin_semaphore *v) { return kin__any_semaphore(v); }
inline kin_any kin__any(kin_event *v) { return kin__any_event(v); }
inline kin_any kin__any(const kin_event *v) { return kin__any_event(v); }
inline kin_any kin__any(kin_condition *v) { return kin__any_condition(v); }
inline kin_any kin__any(const kin_condition *v) { return kin__any_condition(v); }
inline kin_any kin__any(kin_barrier *v) { return kin__any_barrier(v); }
inline kin_any kin__any(const kin_barrier *v) { return kin__any_barrier(v); }
inline kin_any kin__any(kin_rwlock *v) { return kin__any_rwlock(v); }
inline kin_any kin__any(const kin_rwlock *v) { return kin__any_rwlock(v); }
inline kin_any kin__any(kin_queue *v) { return kin__any_queue(v); }
inline kin_any kin__any(const kin_queue *v) { return kin__any_queue(v); }
inline kin_any kin__any(kin_connection *v) { return kin__any_connection(v); }
inline kin_any kin__any(const kin_connection *v) { return kin__any_connection(v); }
inline kin_any kin__any(kin_any v) { return v; }
template <typename T> kin_any kin__any(T *) = delete; /* a raw pointer cannot cross */

inline kin_out kin__out(bool *p) { return kin__out_bool(p); }
inline kin_out kin__out(char *p) { return kin__out_char(p); }
inline kin_out kin__out(signed char *p) { return kin__out_i8(p); }
inline kin_out kin__out(unsigned char *p) { return kin__out_u8(p); }
inline kin_out kin__out(short *p) { return kin__out_i16(p); }
inline kin_out kin__out(unsigned short *p) { return kin__out_u16(p); }
inline kin_out kin__out(int *p) { return kin__out_int(p); }
inline kin_out kin__out(unsigned *p) { return kin__out_uint(p); }
inline kin_out kin__out(long *p) { return kin__out_long(p); }
inline kin_out kin__out(unsigned long *p) { return kin__out_ulong(p); }
inline kin_out kin__out(long long *p) { return kin__out_llong(p); }
inline kin_out kin__out(unsigned long long *p) { return kin__out_ullong(p); }
inline kin_out kin__out(float *p) { return kin__out_float(p); }
inline kin_out kin__out(double *p) { return kin__out_double(p); }
inline kin_out kin__out(const char **p) { return kin__out_string(p); }
inline kin_out kin__out(kin_view *p) { return kin__out_view(p); }
inline kin_out kin__out(kin_args **p) { return kin__out_list(p); }
inline kin_out kin__out(FILE **p) { return kin__out_file(p); }
inline kin_out kin__out(kin_segment **p) { return kin__out_segment(p); }
inline kin_out kin__out(kin_value **p) { return kin__out_value(p); }
inline kin_out kin__out(kin_array **p) { return kin__out_array(p); }
inline kin_out kin__out(kin_lock **p) { return kin__out_lock(p); }
inline kin_out kin__out(kin_rlock **p) { return kin__out_rlock(p); }
inline kin_out kin__out(kin_semaphore **p) { return kin__out_semaphore(p); }
inline kin_out kin__out(kin_event **p) { return kin__out_event(p); }
inline kin_out kin__out(kin_condition **p) { return kin__out_condition(p); }
inline kin_out kin__out(kin_barrier **p) { return kin__out_barrier(p); }
inline kin_out kin__out(kin_rwlock **p) { return kin__out_rwlock(p); }
inline kin_out kin__out(kin_queue **p) { return kin__out_queue(p); }
inline kin_out kin__out(kin_connection **p) { return kin__out_connection(p); }
inline kin_out kin__out(kin_out out) { return out; }

/* Holds the values until the end of the full expression, as a compound literal does in C. */
template <typename Item, size_t N> struct kin__row {
    Item items[N ? N : 1];
};
template <typename... T> kin__row<kin_any, sizeof...(T)> kin__anys_of(const T &...v) { return {{kin__any(v)...}}; }
template <typename... T> kin__row<kin_out, sizeof...(T)> kin__outs_of(T... v) { return {{kin__out(v)...}}; }
template <size_t N> kin_pack kin__pack_of(const kin__row<kin_any, N> &row) { return {row.items, N}; }
template <size_t N> kin__outs kin__places_of(const kin__row<kin_out, N> &row) { return {row.items, N}; }

#define KIN_ANY(x) kin__any(x)
#define KIN_OUT(x) kin__out(x)
#define KIN_ARGS(...) kin__pack_of(kin__anys_of(__VA_ARGS__))
#define KIN__OUTS(...) kin__places_of(kin__outs_of(__VA_ARGS__))

#endif /* C++ */

#endif
