/* The latch, as src/latch.c does it: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef ROUNDS /* how often the threads use the latch; the last one LAST_ROUNDS times */
#define ROUNDS 1
#endif
#ifndef LAST_ROUNDS
#define LAST_ROUNDS 1
#endif
#define MEMORY
byte stored[N]; /* what waits in a thread's store buffer. 0: nothing; WORD, INSIDE */
#define GONE(n) (stored[n] == 0)
#include "parking.inc"

#define OWN 1
#define LATCH 1 /* keys */
#ifdef BUG_ONE_KEY
#define EMPTY LATCH
#else
#define EMPTY 2
#endif
#define name(n) (((n) + 1) << 1)
#define owner_of(w) (((w) >> 1) - 1)

byte word = name(0) | OWN; /* 0; owner; owner | OWN */
byte own = name(0);        /* whose own it was last: by who has the latch */
#ifndef BUG_SHARED_INSIDE
byte inside[N];    /* in each thread's place: it is within what is its own */
#define MARK 1
#define INSIDE_OF(n) inside[n]
#else
byte inside;       /* in the latch: who is */
#define MARK name(me)
#define INSIDE_OF(n) inside
#endif
byte waits;        /* bits: somebody sleeps on that key */
byte left[N] = { ROUNDS, ROUNDS, LAST_ROUNDS };
byte within;       /* a bit for each thread that is within: ghost */

/* A plain store waits in the store buffer of its processor, which has room for one, until it goes out by itself, by an atomic operation
 * of the same thread, or by anybody's kin__order_all. */
byte value[N];
#define WORD 1
#define INSIDE 2
inline out(t)
{
    if
    :: stored[t] == WORD -> word = value[t]
    :: stored[t] == INSIDE -> INSIDE_OF(t) = value[t]
    :: else
    fi;
    stored[t] = 0;
    value[t] = 0
}
#define STORE(what, v) d_step { stored[me] == 0 -> stored[me] = what; value[me] = v }
#define DRAINED (stored[me] == 0) /* an atomic operation waits until it is */
#define WORD_SEEN (stored[me] == WORD -> value[me] : word)
#ifndef BUG_SHARED_INSIDE
#define IS_WITHIN(o) (inside[owner_of(o)] != 0 && alive(owner_of(o)))
#else
#define IS_WITHIN(o) (inside == (o) && alive(owner_of(o)))
#endif
inline order_all()
{
#ifndef BUG_NO_ORDER
    d_step { out(0); out(1); out(2);
#if N > 3
        out(3);
#endif
        skip }
#else
    skip
#endif
}
#define OUT(n) d_step { stored[n] != 0 -> out(n) }
proctype processors()
{
end:
    do
    :: OUT(0)
    :: OUT(1)
    :: OUT(2)
#if N > 3
    :: OUT(3)
#endif
    od
}

inline wake_by_bit(k)
{
    if
    :: (waits & k) != 0 ->
        DRAINED;
        wake_counting(k);
        if
        :: chosen -> chosen = false
        :: !chosen ->
            waits = waits & ~k;
#ifndef BUG_CLEARED_FOR_GOOD
            anybody_sleeps(k);
            if
            :: d_step { chosen -> chosen = false; waits = waits | k }; wake_one(k)
            :: !chosen
            fi
#endif
        fi
    :: (waits & k) == 0
    fi
}

inline look()
{
    wake_by_bit(LATCH);
#ifndef BUG_ONE_KEY
    wake_by_bit(EMPTY)
#endif
}

/* Sleeps on k if `condition` still holds then. */
#define SLEEP_WHILE(k, condition) \
    DRAINED; \
    publish(k); \
    waits = waits | k; \
    order_all(); \
    if \
    :: (condition) -> sleep_turn(false) \
    :: !(condition) \
    fi; \
    leave(); \
    chosen = false

inline enter()
{
    atomic { assert((within & ~dead & ~BIT(me)) == 0); within = (within & ~dead) | BIT(me) }
}

proctype thread()
{
    byte turn, bits, saw;
    bool chosen, late, held;
    {
        do
        :: left[me] == 0 -> break
        :: d_step { left[me] != 0 -> left[me]-- };
            /* kin__latch_try */
            if
            :: WORD_SEEN == (name(me) | OWN) ->
                STORE(INSIDE, MARK);
                if
                :: WORD_SEEN == (name(me) | OWN) -> held = false; goto entered
                :: WORD_SEEN != (name(me) | OWN) -> d_step { DRAINED -> INSIDE_OF(me) = 0 }
                fi
            :: WORD_SEEN == 0 ->
                if
                :: d_step { DRAINED && word == 0 -> word = name(me); held = true }; goto entered
                :: DRAINED && word != 0
                fi
            :: WORD_SEEN != (name(me) | OWN) && WORD_SEEN != 0
            fi;
            /* kin__latch_enter */
            look();
            do
            :: saw = WORD_SEEN;
                if
                :: saw == 0 || owner_of(saw) == me ->
                    if
                    :: d_step { DRAINED && word == saw -> word = name(me); held = true }; goto entered
                    :: d_step { DRAINED && word != saw -> saw = 0 }
                    fi
                :: saw != 0 && owner_of(saw) != me && ((saw & OWN) != 0 || !alive(owner_of(saw))) ->
                    if
                    :: d_step { DRAINED && word == saw -> word = name(me); saw = 0 }; break
                    :: d_step { DRAINED && word != saw -> saw = 0 }
                    fi
                :: saw != 0 && owner_of(saw) != me && (saw & OWN) == 0 && alive(owner_of(saw)) ->
                    SLEEP_WHILE(LATCH, WORD_SEEN == saw && alive(owner_of(saw)));
                    saw = 0
                fi
            od;
            /* wait_until_empty: the word is ours */
            order_all();
            do
            :: saw = own;
                if
                :: saw == 0 || saw == name(me) -> break
                :: saw != 0 && saw != name(me) && !IS_WITHIN(saw) -> break
#ifdef GIVES_UP
                :: saw != 0 && saw != name(me) && IS_WITHIN(saw) ->
                    d_step { DRAINED -> word = saw | OWN; saw = 0 };
                    look();
                    goto not_entered
#endif
                :: saw != 0 && saw != name(me) && IS_WITHIN(saw) ->
                    SLEEP_WHILE(EMPTY, IS_WITHIN(saw))
                fi
            od;
            atomic { saw = 0; held = true };
        entered:
            enter();
            d_step { within = within & ~BIT(me) };
            /* kin__latch_leave */
            if
            :: held ->
                if
                :: STORE(WORD, 0)
                :: DRAINED -> own = name(me); STORE(WORD, name(me) | OWN)
                fi
            :: !held -> STORE(INSIDE, 0)
            fi;
            held = false;
            look();
#ifdef GIVES_UP
        not_entered:
            skip
#endif
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; saw = 0; left[me] = 0; held = false } }
}
