/* The condition: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#define COARSE
#define LEFT skip
#define OVER all_over
bool all_over;
#include "parking.inc"

#define COND 1
#define MINE (me + 1)
#define dead_owner(o) ((o) != 0 && !alive((o) - 1))

byte owner;        /* the lock: 0, or the holder's number + 1. Taken over from the dead. Who waits for it waits for its word */
bool somebody;     /* the condition's wait bit; read and written under the lock */
byte order[N];     /* the order in which they published: 1 is the oldest; 0: none */
byte count;        /* what the lock protects */

inline lock()
{
    d_step { owner == 0 || dead_owner(owner) -> owner = MINE }
}

inline unlock()
{
    d_step { assert(owner == MINE); owner = 0 }
}

inline out_of_order()
{
    x = 0;
    do
    :: x < N -> if :: order[me] != 0 && order[x] > order[me] -> order[x]-- :: else fi; x++
    :: else -> break
    od;
    order[me] = 0
}

inline publish_in_order()
{
    d_step {
        publish_turn();
        out_of_order();
        x = 0; order[me] = 1;
        do
        :: x < N -> if :: x != me && order[x] >= order[me] -> order[me] = order[x] + 1 :: else fi; x++
        :: else -> break
        od;
        key[me] = COND; sleeping = sleeping | BIT(me)
    }
}

/* Waits; the lock is held before and after. */
inline cond_wait(expires)
{
#ifdef BUG_RELEASE_BEFORE_PUBLISH
    somebody = true;
    unlock();
    publish_in_order();
#else
    publish_in_order();
    somebody = true;
    unlock();
#endif
    sleep_turn(expires);
    leave();
#ifndef BUG_NOT_PASSED_ON
    if
    :: d_step { late && chosen -> chosen = false }; wake_some(COND, false)
    :: d_step { !late || !chosen -> chosen = false }
    fi;
#else
    chosen = false;
#endif
    lock()
}

/* Wakes the oldest, whose turn is the one that was seen; else the next. Never waits for anybody. */
inline cond_notify()
{
    if
    :: somebody ->
        do
        :: d_step {
               at[me] = N; x = 0;
               do
               :: x < N ->
                   if
                   :: (sleeping & BIT(x)) != 0 && key[x] == COND && (wake[x] & 1) == 0 && alive(x) && (at[me] == N || order[x] < order[at[me]]) -> at[me] = x
                   :: else
                   fi;
                   x++
               :: else -> break
               od;
               if :: at[me] < N -> seen[me] = wake[at[me]] :: else -> somebody = false fi;
               skip
           };
           if
           :: at[me] == N -> break
           :: d_step { at[me] < N && wake[at[me]] == seen[me] -> wake[at[me]] = 1; seen[me] = 0 };
              d_step { in_kernel[at[me]] = false; at[me] = N }; break
           :: d_step { at[me] < N && wake[at[me]] != seen[me] -> seen[me] = 0; at[me] = N }
#ifdef BUG_NEXT_NOT_TRIED
              ; break
#endif
           fi
        od
    :: !somebody
    fi
}

/* Thread 0 produces; the others consume, one each, or give up. */
proctype thread()
{
    byte turn, bits, items;
    bool chosen, late, limited;
    {
        if
        :: me == 0 ->
            do
            :: items < ITEMS -> lock(); count++; cond_notify(); unlock(); items++
            :: items == ITEMS -> break
            od
        :: me != 0 ->
#ifndef NO_TIMEOUT
            if :: limited = true :: limited = false fi;
#endif
            lock();
            do
            :: count == 0 && !late -> cond_wait(limited)
            :: count != 0 && !late -> count--; break
            :: late -> break /* gives up without looking */
            od;
            atomic { late = false; limited = false };
            unlock()
        fi;
    over:
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; items = 0; limited = false } }
}

/* When nothing happens any more: nobody alive sleeps while there is something, and nobody waits for the lock. */
#define RIGHTLY(n) (is_dead(n) || key[n] == 0 || count == 0)
proctype monitor()
{
    timeout ->
        atomic {
            assert(RIGHTLY(0) && RIGHTLY(1) && RIGHTLY(2));
#if N > 3
            assert(RIGHTLY(3));
#endif
            assert(owner == 0 || is_dead(owner - 1));
            all_over = true
        }
}
