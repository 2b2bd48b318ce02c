/* Threads: who a thread is, for everybody else. An owner word names a thread for ever: [generation:32][0:15][place + 1:16][0:1].
 * Its lowest bit is free for those who store it in a lock. */
#ifndef KIN_SRC_THREAD_H
#define KIN_SRC_THREAD_H

#include "session.h"

/* The calling thread's owner word; 0 until it has a place in the thread table. */
extern OS_THREAD_LOCAL uint64_t kin__me;
/* How many locks it holds. */
extern OS_THREAD_LOCAL uint32_t kin__held;

/* Gives the calling thread a place. 0 on failure (KIN_ESTATE, KIN_EAGAIN). */
uint64_t kin__thread_attach(void);

static inline uint64_t kin__thread_me(void)
{
    uint64_t me = kin__me;
    return me != 0 ? me : kin__thread_attach();
}

static inline uint32_t kin__owner_place(uint64_t owner) { return ((uint32_t)owner >> 1 & 0xffff) - 1; }
static inline uint32_t kin__owner_generation(uint64_t owner) { return (uint32_t)(owner >> 32); }

/* Whether the thread has neither ended nor gone with its process, as far as anybody has noticed. */
bool kin__owner_alive(uint64_t owner);

/* Once per process: threads give their places back when they end. */
kin_err kin__threads_begin(void);
/* In a child that is a copy of its server: the calling thread has no place yet. */
void kin__threads_reset(void);
/* Frees the places of all threads of a process that has ended. */
void kin__threads_sweep(kin__pid process);

#endif
