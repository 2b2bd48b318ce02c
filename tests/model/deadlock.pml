/* Finding deadlocks among threads that sleep on locks: see README.md. */
#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef LOCKS
#define LOCKS 2
#endif
#ifndef TAKES
#define TAKES 2       /* how often a thread takes a lock, and how often the last thread does */
#endif
#ifndef LAST_TAKES
#define LAST_TAKES TAKES
#endif
#ifdef RING /* each thread takes one lock, and then the next one of the ring: with the first, or after it */
#define next_is(n) ((me + takes) % LOCKS == n)
#else
#define next_is(n) (n == 0 || me != 0 || takes != 0)
#endif
#define may_take (!failed && takes < (me == N - 1 -> LAST_TAKES : TAKES))

#define BIT(n) (1 << (n))
#define me (_pid - 3) /* after init, the killer and the reaper */
#define alive(n) ((noticed & BIT(n)) == 0) /* as far as the library knows */

/* ---- the thread table and parking, coarser than in parking.inc: a scan that wakes is one step ---- */

byte wake[N] = 1;   /* even: the turn in which the thread sleeps; odd: it was woken, or is awake */
byte key[N];        /* the lock (+ 1) it sleeps on; 0: it does not */
byte dead;          /* a bit for each thread that has died; only the model knows */
byte noticed;       /* those of which it was written down */
byte done;
byte deaths;
byte remembers[N * N]; /* [who * N + n]: the turn of n that `who` has seen; 0: none */
hidden byte x, y, z;

/* As in parking.inc: the smallest turn which nobody remembers. */
inline new_turn()
{
    turn = 2;
    x = 0;
    do
    :: x < N -> if :: remembers[x * N + me] == turn -> turn = turn + 2; x = 0 :: else -> x++ fi
    :: else -> break
    od;
    assert((wake[me] & 1) != 0);
    wake[me] = turn
}

inline wake_one(k)
{
    d_step {
        x = 0;
        do
        :: x < N -> if :: (wake[x] & 1) == 0 && key[x] == k && alive(x) -> wake[x] = 1; x = N :: else -> x++ fi
        :: else -> break
        od;
        skip
    }
}

#define KILL(n) d_step { deaths != 0 && ((dead | done) & BIT(n)) == 0 -> dead = dead | BIT(n); deaths-- }
proctype killer()
{
end:
    do
    :: KILL(0)
    :: KILL(1)
    :: KILL(2)
    od
}

#define NOTICE(n) d_step { (dead & BIT(n)) != 0 && alive(n) -> noticed = noticed | BIT(n) }
#define WAKE(n) d_step { if :: alive(n) && key[n] != 0 -> wake[n] = 1 :: else fi; skip }
proctype reaper()
{
end:
    do
    :: if
       :: NOTICE(0)
       :: NOTICE(1)
       :: NOTICE(2)
       fi;
       WAKE(0);
       WAKE(1);
       WAKE(2)
    od
}

/* ---- locks and edges ---- */

#define WAIT 1
#define name(n) (((n) + 1) << 1)
#define owner_of(w) (((w) >> 1) - 1)

byte word[LOCKS];  /* 0, owner, owner|WAIT. Lock m has the key m + 1 */

/* The edge word of a thread: whom it waits for, in this turn. What was checked after it could be seen is confirmed. */
typedef edge_word { byte turn; byte to; bool confirmed };
edge_word edge[N];

byte want[N];      /* ghost: the lock (+ 1) a thread is about to take; 0: none */

#define NOBODY N
#define NEXT_(w) seen[w] = 0; at[w]++; find(w)
#define asleep_in(n, t) (wake[n] == (t))

/* Ghost, into r: whether `who` is in a cycle of threads that each want a lock which the next one owns. */
inline true_cycle(who, r)
{
    x = who; y = 0; r = false;
    do
    :: y < N && want[x] != 0 && word[want[x] - 1] != 0 ->
        x = owner_of(word[want[x] - 1]);
        y++;
        if :: x == who -> r = true; break :: else fi
    :: else -> break
    od;
    skip
}

inline must_sleep(m)
{
    if
    :: (word[m] & ~WAIT) != saw || !alive(owner_of(saw)) -> goto leaving
    :: word[m] == (saw | WAIT) && alive(owner_of(saw))
    :: word[m] == saw && alive(owner_of(saw)) ->
        if
        :: d_step { word[m] == saw -> word[m] = saw | WAIT }
        :: word[m] != saw -> goto leaving
        fi
    fi
}

/* Tells everybody who sleeps on a lock of mine that it waits for me. Between the look at a turn and a key and the change of the edge,
 * which is for this turn only, anything may happen. */
inline point()
{
    do
    :: d_step { i < N && (i == me || (wake[i] & 1) != 0 || key[i] == 0 || (mine & BIT(key[i] - 1)) == 0) -> i++ }
    :: d_step { i < N && i != me && (wake[i] & 1) == 0 && key[i] != 0 && (mine & BIT(key[i] - 1)) != 0 ->
           pointed = pointed | BIT(key[i] - 1); remembers[me * N + i] = wake[i] };
       d_step { if :: edge[i].turn == remembers[me * N + i] -> edge[i].to = me; edge[i].confirmed = true :: else fi;
           remembers[me * N + i] = 0; i++ }
    :: i >= N -> break
    od;
    i = 0
}

/* Those who sleep on m do not wait for me any more. Nobody takes an edge that names a thread which is awake for a part of a cycle, so the order
 * among them does not matter. */
inline unpoint(m)
{
    d_step {
        x = 0;
        do
        :: x < N ->
            if
            :: (wake[x] & 1) == 0 && key[x] == m + 1 && edge[x].turn == wake[x] && edge[x].to == me ->
                edge[x].to = NOBODY; edge[x].confirmed = false
            :: else
            fi;
            x++
        :: else -> break
        od;
        skip
    }
}

#define WALKS(n) ((wake[n] & 1) == 0 && edge[n].turn == wake[n] && edge[n].confirmed && ALIVE(n))
#ifdef BUG_WALK_THROUGH_DEAD
#define ALIVE(n) true
#else
#define ALIVE(n) alive(n)
#endif
#define FORGET_WALK remembers[me * N] = 0; remembers[me * N + 1] = 0; remembers[me * N + 2] = 0; \
    path[0] = 0; path[1] = 0; path[2] = 0; node = 0; start = 0; victim = 0; was = false

/* Follows the edges from me, twice; sets `victim` to its name if there is a cycle. */
inline walk()
{
    atomic { node = me };
    do
    :: d_step { remembers[me * N + node] == 0 && WALKS(node) ->
           remembers[me * N + node] = wake[node]; path[node] = edge[node].to + 1; node = edge[node].to;
           if :: remembers[me * N + node] != 0 -> true_cycle(me, was) :: else fi }
    :: d_step { remembers[me * N + node] == 0 && !WALKS(node) -> FORGET_WALK }; break
    :: d_step { remembers[me * N + node] != 0 -> start = node + 1 };
#ifndef BUG_WALK_ONCE
        do
        :: d_step { WALKS(node) && wake[node] == remembers[me * N + node] && path[node] == edge[node].to + 1 ->
               if :: node + 1 > victim -> victim = node + 1 :: else fi;
               node = edge[node].to;
               if
               :: node + 1 == start && victim == me + 1 -> start = 0; deadlk()
               :: node + 1 == start && victim != me + 1 -> start = 0
               :: else
               fi }
           if :: start == 0 -> break :: else fi
        :: d_step { !(WALKS(node) && wake[node] == remembers[me * N + node] && path[node] == edge[node].to + 1) -> FORGET_WALK }; break
        od;
#else
        d_step {
            do
            :: start != 0 -> if :: node + 1 > victim -> victim = node + 1 :: else fi; node = path[node] - 1;
                if :: node + 1 == start -> start = 0 :: else fi
            :: else -> break
            od;
            if :: victim == me + 1 -> deadlk() :: else fi
        };
#endif
        break
    od;
    if
    :: victim == me + 1 -> d_step { FORGET_WALK; failed = true }; goto leaving
    :: victim != 0 && victim != me + 1 ->
#ifdef BUG_VICTIM_NOT_WOKEN
        d_step { FORGET_WALK }
#else
        if
        :: d_step { wake[victim - 1] == remembers[me * N + victim - 1] -> wake[victim - 1] = 1; FORGET_WALK }
        :: d_step { wake[victim - 1] != remembers[me * N + victim - 1] -> FORGET_WALK }
        fi
#endif
    :: victim == 0
    fi
}

/* The moment at which the answer is KIN_EDEADLK. */
inline deadlk()
{
    true_cycle(me, z);
    assert(z || (was && noticed != 0)); /* no false alarm; and the cycle is still whole, so nobody else of it was told */
    want[me] = 0
}

#define GOT want[me] = 0; slept = false; mine = mine | BIT(m); m = 0

/* The wake word first: as long as it is even, a walk believes the edge, and once the key is gone no release clears it. */
inline leave()
{
#ifdef BUG_LEAVE_KEY_FIRST
    key[me] = 0;
#endif
    d_step {
        chosen = wake[me] != turn; wake[me] = 1; turn = 0; slept = true; saw = 0;
        edge[me].turn = 0; edge[me].to = 0; edge[me].confirmed = false;
        key[me] = 0
    }
}

/* Into `failed`: the answer is KIN_EDEADLK. */
inline acquire(m)
{
    do
    :: d_step { word[m] == 0 && !slept -> word[m] = name(me); GOT }; break
    :: word[m] == 0 && slept ->
        d_step {
            x = 0;
            do
            :: x < N -> if :: x != me && key[x] == m + 1 && alive(x) -> chosen = true; x = N :: else -> x++ fi
            :: else -> break
            od;
            skip
        };
        if
        :: d_step { word[m] == 0 -> word[m] = name(me) | (chosen -> WAIT : 0); chosen = false; GOT }; break
        :: d_step { word[m] != 0 -> chosen = false }
        fi
    :: d_step { word[m] != 0 && !alive(owner_of(word[m])) -> saw = word[m] };
        if
        :: d_step { word[m] == saw -> word[m] = name(me) | WAIT; saw = 0; GOT }; break
        :: d_step { word[m] != saw -> saw = 0 }
        fi
    :: d_step { word[m] != 0 && alive(owner_of(word[m])) -> saw = word[m] & ~WAIT; want[me] = m + 1 };
        /* A tentative edge can be seen with the key, so that a release finds it. */
        d_step {
            new_turn(); edge[me].turn = turn; edge[me].confirmed = false;
#ifdef BUG_NO_TENTATIVE_EDGE
            edge[me].to = NOBODY;
#else
            edge[me].to = owner_of(saw);
#endif
            key[me] = m + 1
        };
        must_sleep(m);
        d_step {
            if
#ifdef BUG_NO_TENTATIVE_EDGE
            :: edge[me].to == NOBODY -> edge[me].to = owner_of(saw); edge[me].confirmed = true
#else
            :: edge[me].to == owner_of(saw) -> edge[me].confirmed = true
#endif
            :: else
            fi;
            saw = 0
        };
#ifndef BUG_NO_POINT
        if :: mine != 0 -> point() :: mine == 0 fi;
#endif
        walk();
        wake[me] != turn; /* sleeps */
    leaving:
        leave();
        if
        :: d_step { failed && chosen -> chosen = false; slept = false }; wake_one(m + 1); break
        :: d_step { failed && !chosen -> slept = false; m = 0 }; break
        :: d_step { !failed -> chosen = false }
        fi
    od
}
inline release(m)
{
    if
    :: d_step { (word[m] & WAIT) != 0 || (pointed & BIT(m)) != 0 ->
           assert(owner_of(word[m]) == me); word[m] = 0; mine = mine & ~BIT(m); pointed = pointed & ~BIT(m) };
#ifndef BUG_NO_UNPOINT
       unpoint(m);
#endif
       wake_one(m + 1)
    :: d_step { (word[m] & WAIT) == 0 && (pointed & BIT(m)) == 0 ->
           assert(owner_of(word[m]) == me); word[m] = 0; mine = mine & ~BIT(m) }
    fi
}

/* Takes and releases locks as it likes, for as long as it likes, never one that it has. After KIN_EDEADLK it releases all. */
proctype thread()
{
    byte turn, i, saw, mine, pointed, node, start, victim, path[3], m, was, takes;
    bool chosen, slept, failed;
    {
        do
        :: atomic { may_take && next_is(0) && (mine & 1) == 0 -> takes++; m = 0 };
           go: acquire(m)
        :: atomic { may_take && next_is(1) && (mine & 2) == 0 -> takes++; m = 1; goto go }
#if LOCKS > 2
        :: atomic { may_take && next_is(2) && (mine & 4) == 0 -> takes++; m = 2; goto go }
#endif
        :: atomic { (mine & 1) != 0 -> m = 0 };
           back: release(m)
        :: atomic { (mine & 2) != 0 -> m = 1; goto back }
#if LOCKS > 2
        :: atomic { (mine & 4) != 0 -> m = 2; goto back }
#endif
        :: failed && mine == 0 -> failed = false
        :: !failed && !may_take && mine == 0 -> break
        od;
        done = done | BIT(me)
    } unless { d_step { (dead & BIT(me)) != 0; FORGET_WALK; turn = 0; i = 0; saw = 0; mine = 0; pointed = 0; m = 0; takes = 0;
        chosen = false; slept = false; failed = false } }
}

/* Decides how many will die. */
init
{
    atomic {
        if
        :: deaths = 0
#if DEATHS > 0
        :: deaths = 1
#endif
#if DEATHS > 1
        :: deaths = 2
#endif
        fi;
        run killer();
        run reaper();
        run thread();
        run thread();
        run thread()
    }
}
