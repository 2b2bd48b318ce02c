/* Deadlocks: who waits for whom.
 *
 * Each sleeping thread has an edge: who holds the lock it waits for, with the turn of the sleep in the same word. As
 * a thread waits for one lock and a lock has one owner, edges form chains, and a deadlock is a chain that bites its
 * tail. A lock's word cannot be read by who has not mapped it, so edges are kept true by those who know:
 *
 *   - a sleeper writes its own edge before its last look at the lock, and confirms it after;
 *   - a thread on its way to sleep points all who sleep on what it holds at itself: it may have taken a lock past others that sleep on it;
 *   - who releases a lock that anybody was seen to sleep on, or whose sleepers it has pointed, drops their edges to it.
 *
 * So while a thread sleeps every confirmed edge to it is true and none is missing, and the last of a cycle to go to
 * sleep sees it whole. A walk that meets a cycle is made twice: if every member still sleeps in the same turn with
 * the same edge, then between the two walks all of them slept at once, and the cycle is real. It concerns one member
 * only, the one in the highest place that can give up; who finds the cycle and is not that one wakes it, to go to
 * sleep again and find for itself. A thread that is awake has no part in any cycle, so nothing is ever asked of
 * those who run, and nothing is paid by those who do not sleep. */
#ifndef KIN_SRC_DEADLOCK_H
#define KIN_SRC_DEADLOCK_H

#include "thread.h"

/* [turn, or turn + 1 when confirmed:32][holder, kin__owner_short:32] */
static inline uint64_t kin__edge_to_be(uint32_t turn, uint64_t holder)
{
    return (uint64_t)turn << 32 | (holder != 0 ? kin__owner_short(holder) : 0);
}

/* In kin__park_on, about to sleep in this turn on what `holder` has: KIN_EDEADLK, with a sentence naming everything,
 * if this thread is to be told. */
kin_err kin__deadlock(uint32_t turn, uint64_t holder);

/* Wakes those who wait for what a process that has just ended held, before all others. */
void kin__wake_heirs(kin__pid process);

/* This thread, awake, holds what a sleeper waits for no more. */
void kin__edge_drop(kin__thread *t);
/* The same for all who sleep on that lock. */
void kin__edges_drop(uint64_t lock);

#endif
