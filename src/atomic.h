/* Atomic operations on plain fixed-size integers in shared memory. No _Atomic types: processes built by different
 * compilers may share a segment, and their representation of _Atomic(T) need not agree. Sequentially consistent
 * unless the name says otherwise; 32 and 64 bits, lock-free. */
#ifndef KIN_SRC_ATOMIC_H
#define KIN_SRC_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Helgrind knows neither atomic words nor what they order; in a build for it each operation says so. */
#if defined(KIN_HELGRIND)
#include <valgrind/helgrind.h>
static inline void kin__shows(const void *p, size_t size)
{
    VALGRIND_HG_DISABLE_CHECKING(p, size);
    ANNOTATE_HAPPENS_BEFORE(p);
}
static inline void kin__looks(const void *p, size_t size) { VALGRIND_HG_DISABLE_CHECKING(p, size); }
static inline void kin__sees(const void *p) { ANNOTATE_HAPPENS_AFTER(p); }
#else
#define kin__looks(p, size) ((void)0)
#define kin__shows(p, size) ((void)0)
#define kin__sees(p) ((void)0)
#endif

#if defined(__GNUC__) || defined(__clang__)

#define KIN__ATOMIC(bits)                                                                                              \
    static inline uint##bits##_t kin__load##bits(const uint##bits##_t *p)                                              \
    {                                                                                                                  \
        kin__looks(p, sizeof *p);                                                                                      \
        uint##bits##_t v = __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                       \
        kin__sees(p);                                                                                                  \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline uint##bits##_t kin__load##bits##_relaxed(const uint##bits##_t *p)                                    \
    {                                                                                                                  \
        kin__looks(p, sizeof *p);                                                                                      \
        return __atomic_load_n(p, __ATOMIC_RELAXED);                                                                   \
    }                                                                                                                  \
    static inline void kin__store##bits(uint##bits##_t *p, uint##bits##_t v)                                           \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                      \
    }                                                                                                                  \
    static inline void kin__store##bits##_release(uint##bits##_t *p, uint##bits##_t v)                                 \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        __atomic_store_n(p, v, __ATOMIC_RELEASE);                                                                      \
    }                                                                                                                  \
    static inline uint##bits##_t kin__exchange##bits(uint##bits##_t *p, uint##bits##_t v)                              \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        uint##bits##_t before = __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                           \
        kin__sees(p);                                                                                                  \
        return before;                                                                                                 \
    }                                                                                                                  \
    static inline uint##bits##_t kin__add##bits(uint##bits##_t *p, uint##bits##_t v)                                   \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        uint##bits##_t before = __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                            \
        kin__sees(p);                                                                                                  \
        return before;                                                                                                 \
    }                                                                                                                  \
    static inline uint##bits##_t kin__or##bits(uint##bits##_t *p, uint##bits##_t v)                                    \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        uint##bits##_t before = __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                             \
        kin__sees(p);                                                                                                  \
        return before;                                                                                                 \
    }                                                                                                                  \
    static inline uint##bits##_t kin__and##bits(uint##bits##_t *p, uint##bits##_t v)                                   \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        uint##bits##_t before = __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                            \
        kin__sees(p);                                                                                                  \
        return before;                                                                                                 \
    }                                                                                                                  \
    static inline bool kin__cas##bits(uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t v)                   \
    {                                                                                                                  \
        kin__shows(p, sizeof *p);                                                                                      \
        bool done = __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
        kin__sees(p);                                                                                                  \
        return done;                                                                                                   \
    }

KIN__ATOMIC(32)
KIN__ATOMIC(64)
#undef KIN__ATOMIC

/* All that was written before is seen by everybody before anything after it is read. Not known to ThreadSanitizer: use it only
 * where both sides also go through the operations above. */
static inline void kin__fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* The compiler moves nothing across. */
static inline void kin__compiler_fence(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

#if defined(__x86_64__) || defined(__i386__)
#define kin__relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define kin__relax() __asm__ __volatile__("isb" ::: "memory")
#else
#define kin__relax() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

#elif defined(_MSC_VER)

#include <intrin.h>

/* The Interlocked intrinsics are full barriers. A load by an interlocked OR would write to the line, so loads are
 * volatile reads followed by a compiler barrier (x64: loads acquire by themselves) or load-acquire instructions
 * (ARM64). */
#if defined(_M_ARM64)
#define KIN__MSVC_LOAD32(p) ((uint32_t)__ldar32((volatile unsigned __int32 *)(p)))
#define KIN__MSVC_LOAD64(p) ((uint64_t)__ldar64((volatile unsigned __int64 *)(p)))
#define KIN__MSVC_STORE32(p, v) __stlr32((volatile unsigned __int32 *)(p), (v))
#define KIN__MSVC_STORE64(p, v) __stlr64((volatile unsigned __int64 *)(p), (v))
#define KIN__MSVC_FENCE() __dmb(_ARM64_BARRIER_ISH)
#define kin__relax() __isb(_ARM64_BARRIER_SY)
#else
#define KIN__MSVC_LOAD32(p) (*(const volatile uint32_t *)(p))
#define KIN__MSVC_LOAD64(p) (*(const volatile uint64_t *)(p))
#define KIN__MSVC_STORE32(p, v) (_ReadWriteBarrier(), (void)(*(volatile uint32_t *)(p) = (v)))
#define KIN__MSVC_STORE64(p, v) (_ReadWriteBarrier(), (void)(*(volatile uint64_t *)(p) = (v)))
#define KIN__MSVC_FENCE() _mm_mfence()
#define kin__relax() _mm_pause()
#endif

#define KIN__ATOMIC(bits, kind, suffix)                                                                                \
    static __inline uint##bits##_t kin__load##bits(const uint##bits##_t *p)                                            \
    {                                                                                                                  \
        uint##bits##_t v = KIN__MSVC_LOAD##bits(p);                                                                    \
        _ReadWriteBarrier();                                                                                           \
        return v;                                                                                                      \
    }                                                                                                                  \
    static __inline uint##bits##_t kin__load##bits##_relaxed(const uint##bits##_t *p)                                  \
    {                                                                                                                  \
        return *(const volatile uint##bits##_t *)p;                                                                    \
    }                                                                                                                  \
    static __inline void kin__store##bits(uint##bits##_t *p, uint##bits##_t v)                                         \
    {                                                                                                                  \
        (void)_InterlockedExchange##suffix((volatile kind *)p, (kind)v);                                               \
    }                                                                                                                  \
    static __inline void kin__store##bits##_release(uint##bits##_t *p, uint##bits##_t v)                               \
    {                                                                                                                  \
        KIN__MSVC_STORE##bits(p, v);                                                                                   \
    }                                                                                                                  \
    static __inline uint##bits##_t kin__exchange##bits(uint##bits##_t *p, uint##bits##_t v)                            \
    {                                                                                                                  \
        return (uint##bits##_t)_InterlockedExchange##suffix((volatile kind *)p, (kind)v);                              \
    }                                                                                                                  \
    static __inline uint##bits##_t kin__add##bits(uint##bits##_t *p, uint##bits##_t v)                                 \
    {                                                                                                                  \
        return (uint##bits##_t)_InterlockedExchangeAdd##suffix((volatile kind *)p, (kind)v);                           \
    }                                                                                                                  \
    static __inline uint##bits##_t kin__or##bits(uint##bits##_t *p, uint##bits##_t v)                                  \
    {                                                                                                                  \
        return (uint##bits##_t)_InterlockedOr##suffix((volatile kind *)p, (kind)v);                                    \
    }                                                                                                                  \
    static __inline uint##bits##_t kin__and##bits(uint##bits##_t *p, uint##bits##_t v)                                 \
    {                                                                                                                  \
        return (uint##bits##_t)_InterlockedAnd##suffix((volatile kind *)p, (kind)v);                                   \
    }                                                                                                                  \
    static __inline bool kin__cas##bits(uint##bits##_t *p, uint##bits##_t *expected, uint##bits##_t v)                 \
    {                                                                                                                  \
        uint##bits##_t seen = (uint##bits##_t)_InterlockedCompareExchange##suffix((volatile kind *)p, (kind)v,         \
                                                                                  (kind)*expected);                    \
        bool done = seen == *expected;                                                                                 \
        *expected = seen;                                                                                              \
        return done;                                                                                                   \
    }

KIN__ATOMIC(32, long, )
KIN__ATOMIC(64, __int64, 64)
#undef KIN__ATOMIC

static __inline void kin__fence(void) { KIN__MSVC_FENCE(); }
static __inline void kin__compiler_fence(void) { _ReadWriteBarrier(); }

#else
#error "kin needs the atomic builtins of gcc or clang, or the intrinsics of MSVC"
#endif

#endif
