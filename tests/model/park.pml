/* Parking, as src/park.c does it: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef POSTS
#define POSTS 2
#endif
#define LEFT slept = true
#define OVER all_over
bool all_over;
#include "parking.inc"

#define TOKEN 1 /* keys */
#define GATE 2
#define FREE 1
#define WAIT 2

byte word[3];  /* by key. FREE: a token lies there, the gate is open; WAIT: somebody sleeps */

/* Goes on to sleep if it must. */
inline must_sleep(k)
{
#ifndef BUG_NO_SECOND_LOOK
    if
    :: (word[k] & FREE) != 0 -> goto leaving
    :: d_step { word[k] == 0 -> word[k] = WAIT }
    :: word[k] == WAIT
    fi;
    if
    :: k == GATE && !alive(0) -> goto leaving  /* its holder is dead: it will not be opened */
    :: else
    fi
#else
    word[k] = word[k] | WAIT
#endif
}

/* Waits for the token, or for the open gate, possibly only for a while. Into `got` whether it has it. */
inline wait_for()
{
    do
    :: d_step { (word[k] & FREE) != 0 && k == GATE -> got = true; slept = false }; break
    :: d_step { (word[k] & FREE) != 0 && k == TOKEN && !slept -> word[k] = word[k] & ~FREE; got = true }; break
    :: (word[k] & FREE) != 0 && k == TOKEN && slept ->
        anybody_sleeps(k); /* one who slept speaks for those who still do */
        if
        :: d_step { (word[k] & FREE) != 0 -> word[k] = (chosen -> WAIT : 0); got = true; slept = false; chosen = false; late = false; limited = false }; break
        :: d_step { (word[k] & FREE) == 0 -> chosen = false }
        fi
    :: d_step { late -> late = false; slept = false; limited = false }; break /* gives up, perhaps without a last look */
    :: d_step { (word[k] & FREE) == 0 && !late && k == GATE && !alive(0) -> slept = false }; break
    :: (word[k] & FREE) == 0 && !late && (k == TOKEN || alive(0)) ->
        if
#ifndef NO_TIMEOUT
        :: k == TOKEN -> limited = true
#endif
        :: limited = false
        fi;
#ifdef BUG_LOOK_BEFORE_PUBLISH
        must_sleep(k);
        publish(k);
#else
        publish(k);
        must_sleep(k);
#endif
        sleep_turn(limited);
    leaving:
        leave();
        if
#ifndef BUG_NOT_PASSED_ON
        :: d_step { late && chosen -> chosen = false }; wake_one(k)
        :: !late || !chosen -> chosen = false
#else
        :: chosen = false
#endif
        fi
    od
}

inline post(k)
{
#ifdef BUG_SCAN_BEFORE_CHANGE
    if
    :: (word[k] & WAIT) != 0 -> wake_some(k, k == GATE); word[k] = FREE
    :: d_step { (word[k] & WAIT) == 0 -> word[k] = FREE }
    fi
#else
    if
    :: d_step { (word[k] & WAIT) != 0 -> word[k] = FREE }; wake_some(k, k == GATE)
    :: d_step { (word[k] & WAIT) == 0 -> word[k] = FREE }
    fi
#endif
}

/* Thread 0 puts tokens down and then opens the gate. The others each wait for a token, perhaps give it back, and then for the gate. */
proctype thread()
{
    byte turn, bits, k, posts;
    bool chosen, late, slept, limited, got;
    {
        if
        :: me == 0 ->
            do
            :: posts < POSTS -> post(TOKEN); posts++
            :: posts == POSTS -> break
            od;
#ifndef NO_GATE
            post(GATE)
#endif
        :: me != 0 ->
            k = TOKEN;
            do
            ::  wait_for();
                if
                :: k == GATE -> break
                :: k == TOKEN && got -> post(TOKEN)
                :: k == TOKEN
                fi;
#ifdef NO_GATE
                break
#else
                atomic { got = false; k = GATE }
#endif
            od
        fi;
    over:
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; k = 0; posts = 0; slept = false; limited = false; got = false } }
}

/* When nothing happens any more: nobody alive sleeps on what is there, or on what its holder took along. */
#define RIGHTLY(n) (is_dead(n) || key[n] == 0 || (key[n] == TOKEN && (word[TOKEN] & FREE) == 0))
proctype monitor()
{
    timeout ->
        atomic {
            assert(RIGHTLY(0) && RIGHTLY(1) && RIGHTLY(2));
#if N > 3
            assert(RIGHTLY(3));
#endif
            all_over = true
        }
}
