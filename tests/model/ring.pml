/* Putting into a ring and getting from it, as src/ring.c and src/ring_quick.h do it: see README.md. */
#define N 4 /* two producers, two consumers */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PUTS_0
#define PUTS_0 2
#endif
#ifndef PUTS_1
#define PUTS_1 1
#endif
#ifndef MOST_3 /* how many messages the second consumer gets at once */
#define MOST_3 2
#endif
#define MESSAGES (PUTS_0 + PUTS_1)

/* What waits in a process's store buffer: the store to a commit word, and after it the one that lets go of the lock. */
byte buffer[N];
#define COMMIT 1
#define LET_GO 2
#define DRAINED (buffer[me] == 0)
#define GONE(n) (buffer[n] == 0)
#define NOTICED skip

byte tail, head;           /* positions are not taken modulo anything */
byte head_seen, tail_seen; /* by producers; by consumers */
byte first[SLOTS], last[SLOTS]; /* the halves of what is in a record */
byte size[N];              /* messages that a commit in the buffer is about */
byte put[MESSAGES];        /* what was committed at that position: ghost */
byte got;                  /* how many messages consumers have: ghost */

#include "crowd.inc"

inline right()
{
    d_step {
        assert(got == head);
        /* a living consumer has nothing left to get, and no living producer waits then */
        if
        :: (dead & 12) != 12 -> assert(head == tail && ((asleep & 3) == 0))
        :: else -> assert((asleep & 3) == 0 || tail - head == SLOTS)
        fi;
        assert((putter == 0 || is_dead(putter - 1)) && (getter == 0 || is_dead(getter - 1)))
    }
}

MONITOR

inline out(n, word, lock)
{
    if
    :: (buffer[n] & COMMIT) != 0 -> word = word + size[n]; size[n] = 0; buffer[n] = buffer[n] & ~COMMIT
    :: (buffer[n] & COMMIT) == 0 && buffer[n] != 0 -> lock = 0; buffer[n] = 0
    :: else
    fi
}
#ifndef BUG_NO_ORDER
#define ORDER_ALL \
    out(0, tail, putter); out(0, tail, putter); out(1, tail, putter); out(1, tail, putter); \
    out(2, head, getter); out(2, head, getter); out(3, head, getter); out(3, head, getter)
#else
#define ORDER_ALL skip
#endif
#define OUT(n, word, lock) d_step { buffer[n] != 0 -> out(n, word, lock) }
proctype processors()
{
end:
    do
    :: OUT(0, tail, putter)
    :: OUT(1, tail, putter)
    :: OUT(2, head, getter)
    :: OUT(3, head, getter)
    od
}

#define MINE(l) (DRAINED && TO_BE_HAD(l))
#define STORE_COMMIT(n) assert(buffer[me] == 0); buffer[me] = COMMIT; size[me] = n
#define STORE_LET_GO buffer[me] = buffer[me] | LET_GO
#define message (me * 4 + left)

proctype producer(byte me; byte left)
{
    byte saw;
    bool lacking, slept;
    {
        do
        :: left == 0 && !slept -> break
        :: d_step {
               left != 0 && MINE(putter) ->
               putter = me + 1;
               /* kin__ring_place: what was last seen of the head may do */
               if
               :: tail - head_seen < SLOTS -> lacking = false
               :: else -> head_seen = head; lacking = tail - head_seen == SLOTS
               fi
           };
           if
           :: d_step { !lacking -> first[tail % SLOTS] = message };
#ifdef BUG_TAIL_BEFORE_RECORD
              d_step { put[tail] = message; STORE_COMMIT(1) };
              last[tail % SLOTS] = message;
#else
              d_step { last[tail % SLOTS] = message; put[tail] = message; STORE_COMMIT(1) };
#endif
              d_step { STORE_LET_GO; left-- };
              wake_by_bit(GET);
              if
              :: d_step { !slept || !SEEN(ROOM) -> slept = false }
#ifndef BUG_NOT_PASSED_ON
              :: d_step { slept && SEEN(ROOM) -> slept = false }; wake_one(ROOM)
#else
              :: slept -> slept = false
#endif
              fi
           :: d_step { lacking -> STORE_LET_GO };
              atomic { DRAINED -> PUBLISH(ROOM); ORDER_ALL; saw = head };
              if
              :: d_step { tail - saw >= SLOTS -> FALL_ASLEEP };
                 if
                 :: WAKE_UP
                 :: over -> break
                 fi
              :: d_step { tail - saw < SLOTS -> STAY_AWAKE }
              fi;
              d_step { saw = 0; lacking = false; slept = true }
           fi
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; saw = 0; left = 0; lacking = false; slept = false } }
}

proctype consumer(byte me; byte most)
{
    byte saw, n;
    {
        do
        :: d_step {
               MINE(getter) ->
               getter = me + 1;
               if
               :: tail_seen == head -> tail_seen = tail
               :: else
               fi
           };
           if
           :: tail_seen != head ->
#ifdef BUG_HEAD_BEFORE_COPY
              d_step { saw = head; STORE_COMMIT(1); got++ };
              d_step { assert(first[saw % SLOTS] == put[saw]) };
              d_step { assert(last[saw % SLOTS] == put[saw]); saw = 0; STORE_LET_GO };
#else
              do
              :: d_step { n < most && head + n != tail_seen -> assert(got == head); assert(first[(head + n) % SLOTS] == put[head + n]) };
                 d_step { assert(last[(head + n) % SLOTS] == put[head + n]); n++ }
              :: d_step { n == most || head + n == tail_seen -> got = got + n; STORE_COMMIT(n); n = 0 }; break
              od;
              STORE_LET_GO;
#endif
              wake_by_bit(ROOM)
           :: d_step { tail_seen == head -> STORE_LET_GO };
              wake_by_bit(ROOM);
              atomic { DRAINED -> PUBLISH(GET); ORDER_ALL; saw = head };
              if
              :: d_step { tail == saw -> saw = 0; FALL_ASLEEP };
                 if
                 :: WAKE_UP
                 :: over -> break
                 fi
              :: d_step { tail != saw -> saw = 0; STAY_AWAKE }
              fi
           fi
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; saw = 0; n = 0 } }
}

init
{
    atomic {
        begin();
        run producer(0, PUTS_0);
        run producer(1, PUTS_1);
        run consumer(2, 1);
        run consumer(3, MOST_3);
        run processors()
    }
}
