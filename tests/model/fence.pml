/* The words that say that somebody sleeps, and when who looks at one puts a fence before: src/latch.h. See README.md. */
/* How much each producer puts, and each sleeper gets. */
#ifndef P0
#define P0 2
#endif
#ifndef P1
#define P1 1
#endif
#ifndef G0
#define G0 2
#endif
#ifndef G1
#define G1 1
#endif
#ifndef G2
#define G2 0
#endif
#ifndef STOPS /* how many sleepers stop for ever as they set their bit */
#define STOPS 0
#endif
#define PRODUCERS 2
#define BIT(n) (1 << (n))

/* ---- memory: what a producer put waits in its store buffer until it goes out by itself, by an atomic operation or a fence of its
 * thread, or by anybody's kin__order_all ---- */
byte there;          /* messages that all can see */
bit held[PRODUCERS]; /* one that only its producer can */
byte puts[PRODUCERS] = { P0, P1 };
byte gets[3] = { G0, G1, G2 };
byte stops = STOPS;

#define OUT(p) d_step { held[p] -> held[p] = 0; there++ }
#define DRAIN atomic { if :: held[me] -> held[me] = 0; there++ :: else fi }
#define ORDER_ALL atomic { if :: held[0] -> held[0] = 0; there++ :: else fi; if :: held[1] -> held[1] = 0; there++ :: else fi }
proctype processors()
{
end:
    do
    :: OUT(0)
    :: OUT(1)
    od
}

/* ---- the word ---- */
bool waits, fence, fenced;
byte same;   /* those who would find the word as they have seen it: what the count in it is for */
byte asleep; /* whose sleep can be seen, and who were not woken */

/* Looks and wakes one in one step: park.pml. */
inline wake_one()
{
    atomic {
        if
        :: asleep & BIT(2) -> asleep = asleep & ~BIT(2); chosen = true
        :: asleep & BIT(3) -> asleep = asleep & ~BIT(3); chosen = true
        :: asleep & BIT(4) -> asleep = asleep & ~BIT(4); chosen = true
        :: asleep == 0 -> chosen = false
        fi
    }
}

proctype producer(byte me)
{
    bool chosen, saw;
    do
    :: puts[me] == 0 -> break
    :: d_step { puts[me] != 0 && !held[me] -> held[me] = 1; puts[me]-- };
        /* kin__waits_fence */
        if
        :: d_step { !fence -> saw = waits }
        :: fence ->
#ifndef BUG_NO_FENCE
            DRAIN;
#endif
            d_step { same = same | BIT(me); saw = waits };
            if
            :: saw || !fence
            :: !saw -> /* it was often so */
                atomic {
                    if
                    :: same & BIT(me) -> fence = false; fenced = false; same = 0
                    :: else
                    fi
                };
                saw = waits
            fi
        fi;
        /* kin__wake_by_bit */
        do
        :: !saw -> break
        :: saw ->
            d_step { same = same | BIT(me); saw = waits };
            if
            :: !saw
            :: saw ->
                DRAIN;
                wake_one();
                if
                :: chosen -> saw = false
                :: !chosen ->
                    atomic {
                        if
                        :: same & BIT(me) -> waits = false; same = 0; saw = false
                        :: else
                        fi
                    }
                fi
            fi
        od;
        atomic { chosen = false; saw = false }
    od
}

#define MAY_STOP if :: stops != 0 -> stops--; goto stopped :: skip fi
proctype sleeper(byte me)
{
    bool relies, chosen;
    do
    :: gets[me - 2] == 0 -> goto over
    :: d_step { gets[me - 2] != 0 && there != 0 -> there--; gets[me - 2]-- }
    :: gets[me - 2] != 0 && there == 0 ->
        asleep = asleep | BIT(me);
        /* kin__waits_arm */
        d_step { waits = true; fence = true; relies = fenced; same = BIT(me) };
#ifdef BUG_RELIES_ON_FENCE
        relies = true;
#endif
        if
        :: relies
        :: !relies ->
            MAY_STOP;
            ORDER_ALL;
            MAY_STOP;
#ifdef BUG_SAYS_FENCED_BLINDLY
            d_step { fenced = true; same = 0 }
#else
            atomic {
                if
                :: same & BIT(me) -> fenced = true; same = 0
                :: else
                fi
            }
#endif
        fi;
        /* the last look, and the sleep */
        if
        :: there == 0 ->
        end_asleep:
            (asleep & BIT(me)) == 0
        :: there != 0
        fi;
        atomic { asleep = asleep & ~BIT(me); relies = false }
    od;
stopped: /* a wake that it was chosen for waits for it, which is not what is looked for here */
    if
    :: atomic { asleep & BIT(me) -> asleep = asleep & ~BIT(me) }
    :: atomic { !(asleep & BIT(me)) -> relies = false }; wake_one()
    fi;
end_stopped:
    false;
over:
    skip
}

init
{
    atomic {
#ifdef BEGUN /* as a new word is */
        fence = true;
        fenced = true;
#endif
        run processors();
        run producer(0);
        run producer(1);
        run sleeper(2);
        run sleeper(3);
        run sleeper(4)
    };
    timeout -> assert(there == 0 || asleep == 0)
}
