/* The lock, as src/lock.c does it: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef ROUNDS
#define ROUNDS 0
#endif
#define LEFT slept = true; chosen = false; saw = 0
#include "parking.inc"

#define WAIT 1
#define LOCK 1
#define name(n) (((n) + 1) << 1)
#define owner_of(w) (((w) >> 1) - 1)

byte word;     /* 0, owner, owner|WAIT */
byte truly;    /* name of the thread whose acquire was the last, until it releases: ghost */

inline acquired(with_dead)
{
    assert(truly == 0 || is_dead(owner_of(truly)));          /* never from the living */
    assert((truly != 0) == with_dead);                       /* EOWNERDEAD: exactly when the last owner died with it */
    truly = name(me)
}

inline acquire()
{
    do
    :: d_step { word == 0 && !slept -> word = name(me); acquired(false) }; break
    :: word == 0 && slept ->
        anybody_sleeps(LOCK);
        if
        :: d_step { word == 0 ->
#ifdef BUG_NO_WAIT_FOR_OTHERS
               word = name(me);
#else
               word = name(me) | (chosen -> WAIT : 0);
#endif
               acquired(false); chosen = false; slept = false }; break
        :: d_step { word != 0 -> chosen = false }
        fi
    :: d_step { word != 0 && !alive(owner_of(word)) -> saw = word };
        if
        :: d_step { word == saw -> word = name(me) | WAIT; acquired(true); saw = 0; slept = false }; break
#ifdef BUG_TAKE_OVER_BY_STORE
        :: d_step { word != saw -> word = name(me) | WAIT; acquired(true); saw = 0; slept = false }; break
#else
        :: d_step { word != saw -> saw = 0 }
#endif
        fi
#ifdef BUG_TAKE_OVER_BY_TIME
    :: d_step { word != 0 && alive(owner_of(word)) && slept -> word = name(me) | WAIT; acquired(true) }; break
#endif
    :: d_step { word != 0 && alive(owner_of(word)) -> saw = word & ~WAIT };
#ifdef BUG_LOOK_BEFORE_PUBLISH
        must_sleep();
        publish(LOCK);
#else
        publish(LOCK);
        must_sleep();
#endif
        sleep_turn(false);
    leaving:
        leave()
    od
}

/* Goes on to sleep if it must. A compare-and-swap that fails sends the caller away to look again. */
inline must_sleep()
{
    if
    :: (word & ~WAIT) != saw || !alive(owner_of(saw)) -> goto leaving
#ifdef BUG_WAIT_BIT_NOT_SET
    :: (word & ~WAIT) == saw && alive(owner_of(saw))
#else
    :: word == (saw | WAIT) && alive(owner_of(saw))
    :: word == saw && alive(owner_of(saw)) ->
        if
        :: d_step { word == saw -> word = saw | WAIT }
        :: word != saw -> goto leaving
        fi
#endif
    fi
}

inline released()
{
    assert(owner_of(word) == me && truly == name(me));
    word = 0;
    truly = 0
}

inline release()
{
#ifdef BUG_SCAN_BEFORE_RELEASE
    if
    :: (word & WAIT) != 0 -> wake_one(LOCK)
    :: (word & WAIT) == 0
    fi;
    atomic { released() }
#else
    if
    :: d_step { (word & WAIT) != 0 -> released() }; wake_one(LOCK)
    :: d_step { (word & WAIT) == 0 -> released() }
    fi
#endif
}

proctype thread()
{
    byte turn, bits, saw;
    bool chosen, late, slept;
#if ROUNDS
    byte rounds;
#endif
    {
        do
#if ROUNDS
        :: rounds < ROUNDS ->
            acquire();
            rounds++;
            release()
        :: rounds == ROUNDS -> break
#else
        :: acquire(); release()
        :: break
#endif
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; saw = 0; slept = false } }
}
