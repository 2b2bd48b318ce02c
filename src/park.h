/* Parking: the one way to sleep in kin.
 *
 * A thread that must wait writes what it waits for (a key) and who holds it into its place in the thread table,
 * marks itself sleeping, has the object's wait bit set and looks at the object once more, and sleeps on its own
 * place. Each sleep has a number of its own, its turn, and a wake counts for one turn only: it is not spent on a
 * thread that has since gone to sleep on something else. Whoever changes an object whose wait bit is set looks
 * through the sleeping threads for the key and wakes one or all. A waker never waits for a waiter. A waiter may be
 * woken for nothing and looks again; a wake that went to a thread that died is repeated by the death notice, which
 * wakes every sleeping thread of the session once.
 *
 * No wake is lost: the waiter publishes its key, then looks at the object; the waker changes the object, then looks
 * for keys. All four are sequentially consistent, so at least one of them sees the other.
 *
 * A thread can sleep on many keys at once (kin_wait). It publishes KIN__KEY_MANY and a set of 256 bits, one of them set
 * for each key; several keys may share a bit, so who wakes a key wakes every such sleeper whose set has the key's bit,
 * and those for whom it was nothing sleep again. Why nothing is lost:
 *   - By such a sleeper: its set is written before KIN__KEY_MANY, and all that before it looks at its objects, so the
 *     argument above holds for each of its keys. Who reads the set in the middle of a change has read an earlier turn
 *     before, and its wake counts for nothing; the sleeper is then about to look anyway.
 *   - By one that sleeps on a single key: a wake is chosen among, counted by, and passed on by those alone. One that sleeps
 *     on many looks only, and takes nothing, so it is woken beside them; it uses no wake up and has none to pass on.
 *   - Between two of them: each is woken by each wake.
 *
 * A sleep that is `interruptible` ends when the process is asked to stop: the waiter shows its sleep, then looks whether it
 * was asked; who asks writes that down, then looks for sleeps. */
#ifndef KIN_SRC_PARK_H
#define KIN_SRC_PARK_H

#include "thread.h"

/* Whether the caller must still sleep; sets the object's wait bit if it must. Called after the key is visible. */
typedef bool (*kin__must_sleep)(void *object);

/* A moment in the future, in kin__now_ns; KIN__NEVER for KIN_FOREVER. */
#define KIN__NEVER UINT64_MAX
uint64_t kin__deadline(int64_t timeout_ms);
/* Milliseconds until then, rounded up, for a further call; timeout_ms itself if that is KIN_FOREVER or KIN_NOWAIT. */
int64_t kin__time_left(uint64_t deadline, int64_t timeout_ms);

/* Sleeps until woken, or until `deadline`. KIN_OK: look again (there may be no reason); KIN_ETIMEDOUT: the deadline
 * has passed, and if the caller was the one chosen by kin__wake_one, that wake was passed on. */
kin_err kin__park(uint64_t key, kin__must_sleep must_sleep, void *object, uint64_t deadline);

/* A set of keys; a key that was not added may seem to be in it. */
#define KIN__KEY_MANY UINT64_MAX
typedef struct kin__keys {
    uint64_t bits[4];
} kin__keys;
static inline void kin__keys_add(kin__keys *keys, uint64_t key)
{
    uint32_t n = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 56);
    keys->bits[n / 64] |= (uint64_t)1 << (n % 64);
}

/* The same, with all there is to say. */
typedef struct kin__wait {
    uint64_t key;
    kin__must_sleep must_sleep;
    void *object;
    uint64_t deadline;
    uint64_t lock;    /* the id of the lock that it waits for, and who holds that: an owner word. The answer may be KIN_EDEADLK then */
    uint64_t holder;  /* 0: nobody in particular holds what it waits for */
    uint64_t since;   /* when it began to wait, for those who slept before and sleep again; 0: now */
    uint32_t kind;    /* of what it waits for: kin_type                                     */
    const char *name; /* of that, 40 bytes; NULL: none                                      */
    bool stays;       /* it cannot give up: another of the cycle should get KIN_EDEADLK     */
    bool directed;    /* a wake is meant for this sleeper and no other: it is KIN_OK even past the deadline, never passed on */
    bool spins;       /* looks for its wake for a while before it sleeps                    */
    bool interruptible; /* KIN_EINTERRUPTED, with a sentence, instead of a sleep while this process is asked to stop. What it waits for
                           was not there then: there is no need to look again */
    const kin__keys *many; /* with the key KIN__KEY_MANY: all that it waits for */
} kin__wait;
kin_err kin__park_on(const kin__wait *wait);

/* Wakes those who have slept longest on `key`: one, as many as there are units of something, or all. Returns how
 * many. Who was woken passes on what it does not use. A caller that held what they sleep on is named as its holder
 * no more (deadlock.h). Those who sleep on many keys are woken beside them, and not counted. */
uint32_t kin__wake_one(uint64_t key);
uint32_t kin__wake_some(uint64_t key, uint32_t most);
uint32_t kin__wake_all(uint64_t key);
/* The same for what nobody waits for beside other things (locks, for example): those who sleep on many keys are left asleep.
 * `most` is KIN__EVERYONE for all. */
#define KIN__EVERYONE UINT32_MAX
uint32_t kin__wake_those_on(uint64_t key, uint32_t most);
/* Whether anybody but the caller sleeps on `key`; true also if somebody who sleeps on many keys may. */
bool kin__anybody_sleeps(uint64_t key);
/* The same without those: see kin__wake_those_on. */
bool kin__anybody_sleeps_on(uint64_t key);
/* Wakes the thread in this place, to look again at what it waits for, if it still sleeps in this turn. */
void kin__wake_place(uint32_t place, uint32_t turn);
/* Has that thread look again at what it waits for, if it sleeps. */
void kin__wake_thread(uint64_t owner);
/* Ends the interruptible sleeps of a process that was asked to stop. */
void kin__wake_process(kin__pid process);
/* Calls `visit` for every sleeping thread of a living process until it returns false. */
void kin__each_sleeper(bool (*visit)(uint32_t place, kin__thread *t, void *arg), void *arg);
/* Wakes all who sleep on anything: after a death. */
void kin__wake_everybody(void);

/* For objects whose fast paths do without a fence (os.h: os_order_all; latch.h). Who changes something and then looks whether somebody
 * sleeps keeps the compiler from moving the one across the other; who has said that it sleeps calls kin__order_all, then looks once more. */
kin_err kin__order_begin(void); /* before this process uses either */
void kin__order_all(void);

/* Spinning before parking: for about as long as a wake-up costs on this machine, and not at all with one CPU.
 *     for (kin__spin spin = {0}; kin__spin_more(&spin);) if (free) … */
typedef struct kin__spin {
    uint64_t until;
    uint32_t turns;
    uint32_t apart; /* how many pauses lie between two looks, doubled each time; 0: as few as can be. For what many fight for */
} kin__spin;
#define KIN__APART 16u /* to begin with */
#define KIN__APART_MOST 256u
bool kin__spin_more(kin__spin *spin);

#endif
