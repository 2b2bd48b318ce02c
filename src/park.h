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
 * for keys. All four are sequentially consistent, so at least one of them sees the other. */
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
} kin__wait;
kin_err kin__park_on(const kin__wait *wait);

/* Wakes those who have slept longest on `key`: one, as many as there are units of something, or all. Returns how
 * many. Who was woken passes on what it does not use. A caller that held what they sleep on is named as its holder
 * no more (deadlock.h). */
uint32_t kin__wake_one(uint64_t key);
uint32_t kin__wake_some(uint64_t key, uint32_t most);
uint32_t kin__wake_all(uint64_t key);
/* Whether anybody but the caller sleeps on `key`. */
bool kin__anybody_sleeps(uint64_t key);
/* Wakes the thread in this place, to look again at what it waits for, if it still sleeps in this turn. */
void kin__wake_place(uint32_t place, uint32_t turn);
/* Calls `visit` for every sleeping thread of a living process until it returns false. */
void kin__each_sleeper(bool (*visit)(uint32_t place, kin__thread *t, void *arg), void *arg);
/* Wakes all who sleep on anything: after a death. */
void kin__wake_everybody(void);

/* For objects whose fast paths do without a fence (os.h: os_order_all). Who changes something and then looks whether somebody
 * sleeps does that with kin__order between the two; who has said that it sleeps calls kin__order_all, then looks once more. */
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
