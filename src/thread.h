/* Threads: who a thread is, for everybody else. An owner word names a thread for ever: [generation:32][0:15][place +
 * 1:16][0:1]. Its lowest bit is free for those who store it in a lock. */
#ifndef KIN_SRC_THREAD_H
#define KIN_SRC_THREAD_H

#include "session.h"

/* Who the calling thread is, and what it holds: the ids of locks, the last taken last. Whoever goes to sleep must be
 * able to say so (deadlock.h), and whoever ends while holding must wake those who wait. */
#define KIN__HOLDS 64u
typedef struct kin__holds {
    uint64_t me;       /* the owner word; 0 until the thread has a place in the thread table */
    uint32_t count;    /* of ids                                                             */
    uint32_t unlisted; /* what is held and has no single owner                               */
    uint32_t *inside;  /* of its place: latch.h */
    uint64_t pointed;  /* a bit for each id: sleepers were told that it is held by this thread */
    uint64_t ids[KIN__HOLDS];
} kin__holds;
extern OS_THREAD_LOCAL_FAST kin__holds kin__held;
#define kin__me kin__held.me

void kin__hold_more(uint64_t id);
static inline void kin__hold(uint64_t id)
{
    uint32_t n = kin__held.count;
    if (n == KIN__HOLDS) {
        kin__hold_more(id);
        return;
    }
    kin__held.ids[n] = id;
    kin__held.count = n + 1;
}

/* True if sleepers must be told that this thread holds it no more. */
bool kin__unhold_any(uint64_t id);
static inline bool kin__unhold(uint64_t id)
{
    uint32_t n = kin__held.count;
    if (n == 0 || kin__held.ids[n - 1] != id || kin__held.pointed != 0)
        return kin__unhold_any(id);
    kin__held.count = n - 1;
    return false;
}

/* Whether the thread holds that lock; from now on sleepers must be told when it does no more. */
bool kin__points(uint64_t id);
bool kin__holds_anything(void);

/* Gives the calling thread a place. 0 on failure (KIN_ESTATE, KIN_EAGAIN). */
uint64_t kin__thread_attach(void);

static inline uint64_t kin__thread_me(void)
{
    uint64_t me = kin__me;
    return me != 0 ? me : kin__thread_attach();
}

static inline uint32_t kin__owner_place(uint64_t owner) { return ((uint32_t)owner >> 1 & 0xffff) - 1; }
static inline uint32_t kin__owner_generation(uint64_t owner) { return (uint32_t)(owner >> 32); }

/* An owner in 32 bits, [generation:16][place + 1:16]: enough to tell those apart who can meet. */
static inline uint32_t kin__owner_short(uint64_t owner)
{
    return kin__owner_generation(owner) << 16 | (kin__owner_place(owner) + 1);
}

/* Writes "thread 12 of 'Process-1' (pid 12)" or what is known of it, alive or dead. */
void kin__describe_thread(uint64_t owner, char *text, size_t size);

/* Whether the thread has neither ended nor gone with its process, as far as anybody has noticed. */
bool kin__owner_alive(uint64_t owner);

/* Once per process: threads give their places back when they end. */
kin_err kin__threads_begin(void);
/* In a child that is a copy of its server: the calling thread has no place yet. */
void kin__threads_reset(void);
/* Frees the places of all threads of a process that has ended. */
void kin__threads_sweep(kin__pid process);

#endif
