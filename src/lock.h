/* The word that kin_lock, kin_rlock, the writers of a kin_rwlock and kin's own guards are made of. */
#ifndef KIN_SRC_LOCK_H
#define KIN_SRC_LOCK_H

#include "object.h"
#include "atomic.h"
#include "kin/lock.h"
#include "park.h"

#define KIN__WAIT ((uint64_t)1) /* somebody sleeps */

/* Takes the lock whose word is o->word. `stays`: the caller cannot give up, so that another of a cycle should be told.
 * Answers as kin_lock_acquire. */
kin_err kin__lock_acquire_slow(kin__object *o, kin_type kind, uint64_t me, int64_t timeout_ms, bool stays);
static inline kin_err kin__lock_acquire(kin__object *o, kin_type kind, uint64_t me, int64_t timeout_ms)
{
    uint64_t free_word = 0;
    if (!kin__cas64(&o->word, &free_word, me))
        return kin__lock_acquire_slow(o, kind, me, timeout_ms, false);
    kin__hold(o->id);
    return KIN_OK;
}

/* Whom the calling thread has last inherited from, by KIN_EOWNERDEAD. */
extern OS_THREAD_LOCAL uint64_t kin__heir_of;

static inline bool kin__lock_held(const kin__object *o)
{
    return (kin__load64_relaxed(&o->word) & ~KIN__WAIT) == kin__me && kin__me != 0;
}

/* Releases what the caller holds: KIN_OK. */
kin_err kin__lock_release_slow(uint64_t id, bool wake);
static inline kin_err kin__lock_release(kin__object *o)
{
    uint64_t id = o->id; /* once released, the next owner may give the memory up */
    bool pointed = kin__unhold(id);
    uint64_t word = kin__exchange64(&o->word, 0);
    if (((word & KIN__WAIT) | pointed) != 0)
        return kin__lock_release_slow(id, (word & KIN__WAIT) != 0);
    return KIN_OK;
}

#endif
