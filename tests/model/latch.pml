/* The latch, as src/latch.h and src/latch.c do it: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
/* How often each thread uses it. */
#if defined(ONCE)
#define ROUNDS 1, 1, 1
#elif defined(TWICE_ONE)
#define ROUNDS 2, 1, 1
#else
#define ROUNDS 2, 2, 1
#endif
#ifndef BUFFER /* how many stores wait at most */
#define BUFFER 1
#endif
#ifndef TIMEOUTS /* a bit for each thread that may give up */
#define TIMEOUTS 0
#endif
#ifndef MORTAL /* a bit for each thread that may die */
#define MORTAL 7
#endif
#define EXPIRES ((TIMEOUTS & BIT(me)) != 0)

#define BIT(n) (1 << (n))
#define me (_pid - 4) /* after init, the killer, the reaper and the processors */

byte asleep;  /* a bit for each thread whose sleep can be seen, and that was not woken */
byte dead;    /* those that have died; only the model knows */
byte noticed; /* those of which it was written down: what the library calls dead */
byte done;    /* those that have come to their end */
byte deaths;
#define is_dead(n) ((dead & BIT(n)) != 0)
#define alive(n) ((noticed & BIT(n)) == 0)

byte first[N]; /* what waits in a thread's store buffer, in order: ENTERED, …; 0: nothing */
#if BUFFER == 2
byte second[N];
#define SECOND(n) second[n]
#else
#define SECOND(n) 0
#endif

#define OWN 1
#define name(n) (((n) + 1) << 1)
#define owner_of(w) (((w) >> 1) - 1)
#define MINE (name(me) | OWN)

#ifdef OWNED /* from the beginning */
byte word = 3, own = 2;
#else
byte word;   /* 0; owner; owner | OWN */
byte own;    /* a name: whose own it was last. Only who has the latch writes or reads it */
#endif
byte inside; /* a bit for each thread whose place says that it is within */
bool waits;  /* the bit */
byte unset;  /* those since whose look at the bit nobody has set it, which the library tells by a count */
byte eager;  /* those that sleep and have the word: they are woken first */
byte rounds[N] = { ROUNDS };
byte within; /* those that are within, dead ones too until somebody has taken over: ghost */

/* ---- memory: a plain store waits in the store buffer until it goes out by itself, by an atomic operation of its thread, or by anybody's
 * kin__order_all; loads of the same thread see it ---- */

#define ENTERED 1 /* inside = this latch */
#define LEFT_IT 2 /* inside = 0          */
#define FREED 3   /* word = 0            */
#define KEPT 4    /* word = owner | OWN  */
inline out(n)
{
    if
    :: first[n] == ENTERED ->
#ifdef BUG_ONE_INSIDE_FOR_ALL
        inside = 0;
#endif
        inside = inside | BIT(n)
#ifdef BUG_ONE_INSIDE_FOR_ALL
    :: first[n] == LEFT_IT -> inside = 0
#else
    :: first[n] == LEFT_IT -> inside = inside & ~BIT(n)
#endif
    :: first[n] == FREED -> word = 0
    :: first[n] == KEPT -> word = name(n) | OWN
    :: else
    fi;
    first[n] = SECOND(n);
#if BUFFER == 2
    second[n] = 0
#endif
}
#ifndef UNORDERED
#if BUFFER == 2
#define STORE(what) d_step { second[me] == 0 -> if :: first[me] == 0 -> first[me] = what :: else -> second[me] = what fi; skip }
#define MAY_STORE (second[me] == 0)
#else
#define STORE(what) d_step { first[me] == 0 -> first[me] = what }
#define MAY_STORE (first[me] == 0)
#endif
#else
#define STORE(what) d_step { first[me] = what; out(me) } /* sequentially consistent */
#define MAY_STORE true
#endif
#define DRAINED (first[me] == 0)
#define STORED(what) (what == FREED -> 0 : MINE)
#define WORD_SEEN (SECOND(me) >= FREED -> STORED(SECOND(me)) : (first[me] >= FREED -> STORED(first[me]) : word))
inline order_all()
{
    d_step { out(0); out(0); out(1); out(1); out(2); out(2) }
}
#define OUT(n) d_step { first[n] != 0 -> out(n) }
proctype processors()
{
end:
    do
    :: OUT(0)
    :: OUT(1)
    :: OUT(2)
    od
}

/* ---- waking: those who have slept longest are woken first, here any; but who has the word before all others ---- */

#define SLEEPS(n) ((asleep & BIT(n)) != 0 && alive(n))
#ifndef BUG_ANY_IS_WOKEN_FIRST
#define EAGER(n) (SLEEPS(n) && (eager & BIT(n)) != 0)
#else
#define EAGER(n) false
#endif
#define ANY_EAGER (EAGER(0) || EAGER(1) || EAGER(2))
#define MAY_BE_WOKEN(n) (SLEEPS(n) && (EAGER(n) || !ANY_EAGER))
#define WAKE(n) DRAINED && MAY_BE_WOKEN(n) -> asleep = asleep & ~BIT(n); chosen = true
/* Looking and waking are one step: a wake that comes too late for who was seen is tried again. Into `chosen`: whether one was woken. */
inline wake_best()
{
    atomic {
        if
        :: WAKE(0)
        :: WAKE(1)
        :: WAKE(2)
        :: !(SLEEPS(0) || SLEEPS(1) || SLEEPS(2)) -> chosen = false
        fi
    }
}

inline look()
{
    do
    :: d_step { !waits -> unset = unset & ~BIT(me) }; break
    :: d_step { waits -> unset = unset | BIT(me) };
        wake_best();
        if
        :: chosen -> atomic { chosen = false; unset = unset & ~BIT(me) }; break
#ifdef BUG_CLEARED_FOR_GOOD
        :: !chosen -> d_step { DRAINED -> waits = false; unset = unset & ~BIT(me) }; break
#else
        :: d_step { !chosen && DRAINED && waits && (unset & BIT(me)) != 0 -> waits = false; unset = unset & ~BIT(me) }; break
        :: d_step { !chosen && DRAINED && !(waits && (unset & BIT(me)) != 0) -> unset = unset & ~BIT(me) }
#endif
        fi
    od
}

/* Sleeps while `condition`; a time-out is `late`, and a wake that came too late is passed on. That it sleeps can be seen before the bit is set,
 * and the bit before kin__order_all, but nobody can do anything in between that it could not do before or after. */
#define SLEEP_WHILE(condition) \
    atomic { DRAINED -> asleep = asleep | BIT(me); waits = true; unset = 0; ORDER_BEFORE_SLEEP }; \
    if \
    :: (condition) -> \
        if \
        :: (asleep & BIT(me)) == 0 \
        :: EXPIRES -> late = true \
        fi \
    :: !(condition) \
    fi; \
    atomic { chosen = late && (asleep & BIT(me)) == 0; asleep = asleep & ~BIT(me) }; \
    if \
    :: chosen -> wake_best(); chosen = false \
    :: !chosen \
    fi
#ifndef BUG_NO_ORDER_BEFORE_SLEEP
#define ORDER_BEFORE_SLEEP order_all()
#else
#define ORDER_BEFORE_SLEEP skip
#endif

/* ---- the latch ---- */

#define IS_WITHIN(who) ((inside & BIT(owner_of(who))) != 0 && alive(owner_of(who)))
#define IS_DEAD(who) (!alive(owner_of(who)))

#define TAKEABLE (WORD_SEEN == 0 || owner_of(WORD_SEEN) == me || (WORD_SEEN & OWN) != 0 || IS_DEAD(WORD_SEEN))

/* Nobody who lives is within; and if a dead one was, we were told. */
inline come_in(inherited)
{
    atomic {
        assert((within & ~dead & ~BIT(me)) == 0);
        assert((within & dead) == 0 || inherited);
        within = BIT(me)
    }
}

proctype thread()
{
    byte saw, before;
    bool chosen, late, held, heir;
    {
        do
        :: rounds[me] == 0 -> break
        :: rounds[me] != 0 -> rounds[me]--;
            /* kin__latch_try */
            if
            :: WORD_SEEN == MINE ->
                STORE(ENTERED);
#ifndef BUG_NO_SECOND_LOOK
                if
                :: WORD_SEEN == MINE -> held = false; goto entered
                :: WORD_SEEN != MINE ->
                    d_step { DRAINED -> first[me] = LEFT_IT; out(me) };
#ifndef BUG_BACKS_OUT_SILENTLY
                    wake_best();
                    chosen = false;
#endif
                    if
                    :: skip
                    :: goto not_entered /* the queue was shut down meanwhile */
                    fi
                fi
#else
                held = false;
                goto entered
#endif
            :: WORD_SEEN != MINE
            fi;
            /* kin__latch_enter; a compare-and-swap that fails is tried again */
            do
            :: atomic { DRAINED && TAKEABLE && (word == 0 || owner_of(word) == me) -> word = name(me); held = true }; goto entered
            :: atomic { DRAINED && TAKEABLE && word != 0 && owner_of(word) != me -> before = word; word = name(me) };
                if
                :: heir = IS_DEAD(before)
                :: before & OWN -> heir = false /* it has died since it was looked at */
                fi;
                break
            :: !TAKEABLE && late -> goto not_entered
            :: atomic { !TAKEABLE && !late -> saw = WORD_SEEN };
                SLEEP_WHILE(WORD_SEEN == saw && !IS_DEAD(saw));
                saw = 0
            od;
            /* wait_until_empty: the word is ours */
#ifdef BUG_DOES_NOT_WAIT
            goto taken;
#endif
#ifdef BUG_HEIR_DOES_NOT_WAIT
            if
            :: heir -> goto taken
            :: !heir
            fi;
#endif
#ifndef BUG_NO_ORDER_WHEN_TAKING
            order_all();
#endif
            do
            :: d_step { own == 0 || own == name(me) || !IS_WITHIN(own) -> heir = heir || (own != 0 && IS_DEAD(own)) }; break
            :: own != 0 && own != name(me) && IS_WITHIN(own) ->
                if
                :: late ->
#ifdef BUG_GIVE_UP_FREES
                    d_step { DRAINED -> word = 0 };
#else
#ifdef BUG_GIVE_UP_HIDES_DEATH
                    d_step { DRAINED -> word = own | OWN };
#else
                    d_step { DRAINED -> word = before };
#endif
#endif
                    look();
                    goto not_entered
                :: !late ->
                    eager = eager | BIT(me);
                    SLEEP_WHILE(IS_WITHIN(own));
                    eager = eager & ~BIT(me)
                fi
            od;
        taken:
            held = true;
        entered:
            come_in(heir);
            within = within & ~BIT(me);
            /* kin__latch_leave */
            if
            :: !held -> STORE(LEFT_IT)
            :: held -> STORE(FREED)
            :: held -> d_step { MAY_STORE -> own = name(me) }; STORE(KEPT)
            fi;
#ifndef BUG_NO_LOOK
            look();
#endif
        not_entered:
            atomic { held = false; heir = false; late = false; saw = 0; before = 0 }
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me) -> saw = 0; before = 0; chosen = false; late = false; held = false; heir = false; unset = unset & ~BIT(me) } }
}

/* ---- death: as in parking.inc; who notices it wakes all who sleep ---- */

#define KILL(n) d_step { deaths != 0 && (MORTAL & BIT(n) & ~dead & ~done) != 0 -> dead = dead | BIT(n); deaths-- }
proctype killer()
{
end:
    do
    :: KILL(0)
    :: KILL(1)
    :: KILL(2)
    od
}

/* What it had stored arrives before its end can be noticed. */
#define NOTICE(n) d_step { is_dead(n) && alive(n) && first[n] == 0 -> noticed = noticed | BIT(n) }
proctype reaper()
{
end:
    do
    :: if
       :: NOTICE(0)
       :: NOTICE(1)
       :: NOTICE(2)
       fi;
#ifndef BUG_NO_WAKE_AFTER_DEATH
       asleep = 0
#endif
    od
}

init
{
    atomic {
        if
#ifndef DIES /* surely: where only that is looked for */
        :: deaths = 0
#endif
#if DEATHS > 0
        :: deaths = 1
#endif
#if DEATHS > 1
        :: deaths = 2
#endif
        fi;
        run killer();
        run reaper();
        run processors();
        run thread();
        run thread();
        run thread()
    }
}
