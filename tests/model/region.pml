/* Messages that are worked on where they lie, as src/region.c does it, and plain puts and gets among them: see README.md. */
#define N 4 /* writers 0 and 1, consumers 2 and 3 */
#ifndef SLOTS
#define SLOTS 2
#endif
/* Writers first reserve so many, one after the other, then put so many. */
#ifndef RESERVES_0
#define RESERVES_0 1
#endif
#ifndef PUTS_0
#define PUTS_0 1
#endif
#ifndef RESERVES_1
#define RESERVES_1 0
#endif
#ifndef PUTS_1
#define PUTS_1 1
#endif
/* What consumers do: 1 get, 2 take, 3 either; 0: that one is not there. */
#ifndef DOES_2
#define DOES_2 2
#endif
#ifndef DOES_3
#define DOES_3 1
#endif
#ifndef GIVES_BACK /* how often one that takes may */
#define GIVES_BACK 0
#endif

#define DRAINED true /* memory is sequentially consistent here */
#define GONE(n) true
byte epoch; /* of the session */
#define NOTICED epoch++
#include "crowd.inc"

#define READY 1
#define WRITING 2
#define TAKEN 3
#define FINISHED 4
#define NONE 15

byte tail, head, next;  /* positions are not taken modulo anything */
bool returned, in_place;
bool tells;             /* KIN__TELL */
byte ring_epoch;        /* of the session, when the region was last looked through */
byte state[SLOTS], who[SLOTS], record[SLOTS];

/* Ghosts: a bit for each record. Number 2 * writer + how many it has still to put */
byte committed;
byte delivered; /* a consumer had it, to keep or to work on */
byte finished;  /* a consumer had it, for good */
#define name_of(n) (4 * me + (n))
byte before[8]; /* records of the same writer that were committed before */

#define NEXT (next > head -> next : head)
#define AT(p) ((p) % SLOTS)

inline right()
{
    d_step {
        if
        :: ((dead | done) & 12) != 12 ->
            assert(head == tail);
            assert((asleep & 3) == 0);
            assert((committed & ~finished) == 0)
        :: else ->
            assert((asleep & 3) == 0 || (tail - head == SLOTS && (state[AT(head)] == READY || state[AT(head)] == TAKEN)))
        fi;
        assert((putter == 0 || is_dead(putter - 1)) && (getter == 0 || is_dead(getter - 1)))
    }
}
MONITOR

#define LOCK(l) TO_BE_HAD(l) -> inherited = (l != 0); l = me + 1
/* Whoever had it may have been looking. */
inline lock_getter()
{
    d_step { LOCK(getter) };
    if
    :: d_step { inherited -> inherited = false; returned = true }
    :: !inherited
    fi
}
#define LEAVE head++; state[AT(head - 1)] = 0; who[AT(head - 1)] = 0; record[AT(head - 1)] = 0

/* Within a d_step. What stands for a process that is gone is put right: the dead does nothing any more, so this is one step. */
inline settle(p)
{
    assert(state[AT(p)] != 0);
    if
    :: state[AT(p)] == WRITING && !alive(who[AT(p)]) -> state[AT(p)] = FINISHED; who[AT(p)] = 0
    :: state[AT(p)] == TAKEN && !alive(who[AT(p)]) -> state[AT(p)] = READY; who[AT(p)] = 0
    :: else
    fi
}

#ifndef BUG_ADVANCES_TO_NEXT
#define ADVANCE_TO tail
#else
#define ADVANCE_TO next
#endif
#define LEFT_BEHIND(p) ((state[AT(p)] == WRITING || state[AT(p)] == TAKEN) && !alive(who[AT(p)]))
#define ADVANCES (head < ADVANCE_TO && (state[AT(head)] == FINISHED || LEFT_BEHIND(head)))
inline advance()
{
    do
    :: d_step {
           ADVANCES ->
           settle(head);
           if
           :: state[AT(head)] == FINISHED -> LEAVE
           :: else
           fi
       }
    :: !ADVANCES -> break
    od
}

/* The first READY record of the region, if there is any: found. */
inline look_through()
{
#ifndef BUG_EPOCH_NOT_LOOKED_AT
    ring_epoch = epoch;
#endif
#ifndef BUG_CLEARED_AFTER_SCAN
    returned = false;
#endif
    d_step { looked = head; end = NEXT };
    do
    :: d_step {
           looked < end ->
           settle(looked);
           if /* one before it may have been committed first, after that was looked at */
           :: state[AT(looked)] == READY -> found = looked; past = false; end = looked; looked = head
           :: else -> looked++
           fi
       }
    :: looked >= end -> break
    od;
#ifdef BUG_CLEARED_AFTER_SCAN
    returned = false;
#endif
    if
    :: found == end ->
       returned = true;
#ifndef BUG_NOT_TOLD_AGAIN
       if
       :: SEEN(GET) -> tells = true
       :: !SEEN(GET)
       fi;
#endif
       skip
    :: found != end
    fi;
    d_step { looked = 0; end = 0 }
}

/* One was taken out of those that are READY. `tells` is set by who has `getter`, and cleared by who let go of it, too. */
inline tell_no_more()
{
    if
    :: !tells
    :: d_step { tells -> looked = head; end = NEXT };
#ifndef BUG_TOLD_TO_NOBODY
       do
       :: d_step {
              looked < end ->
              settle(looked);
              if
              :: state[AT(looked)] == READY -> looked = NONE
              :: else -> looked++
              fi
          }
       :: looked >= end -> break
       od;
#else
       looked = end;
#endif
       if
       :: looked == end -> tells = false
       :: looked != end
       fi;
       d_step { looked = 0; end = 0 }
    fi
}

#ifndef BUG_EPOCH_NOT_LOOKED_AT
#define LOOK_AGAIN_EPOCH (ring_epoch != epoch)
#else
#define LOOK_AGAIN_EPOCH false
#endif
#define LOOK_AGAIN (returned || LOOK_AGAIN_EPOCH)

inline region_find()
{
    found = NONE;
    if
    :: LOOK_AGAIN -> look_through()
    :: !LOOK_AGAIN
    fi;
    advance();
    do
    :: found != NONE || NEXT == tail -> break
    :: d_step {
           found == NONE && NEXT != tail ->
           looked = NEXT;
           settle(looked);
           if
           :: state[AT(looked)] == READY -> found = looked; past = true
           :: else
           fi;
           looked = 0
       };
       if
       :: found != NONE ->
#ifndef BUG_NO_SECOND_LOOK
          if
          :: LOOK_AGAIN -> look_through()
          :: !LOOK_AGAIN
          fi;
#endif
          break
       :: d_step { found == NONE -> next = NEXT + 1 }; /* passed over */
          advance()
       fi
    od
}

/* kin__ring_find */
inline ring_find()
{
    if
    :: next <= head && head == tail -> found = NONE
    :: d_step { next <= head && head != tail && state[AT(head)] == READY -> found = head; past = true }
    :: next > head || (head != tail && state[AT(head)] != READY) -> region_find()
    fi
}

inline unlock_getter()
{
    getter = 0;
    if
    :: d_step { tells -> lets_in = SEEN(ROOM) };
       tells = false;
       wake_by_bit(GET)
    :: d_step { !tells -> lets_in = SEEN(ROOM) }
    fi;
    if
    :: d_step { lets_in -> lets_in = false }; wake_by_bit(ROOM)
    :: !lets_in
    fi
}
#define FORGET_FOUND found = NONE; past = false

/* What was before `next` may be for a consumer now. */
inline tell()
{
    if
    :: returned
    :: !returned -> returned = true
    fi;
    wake_by_bit(GET)
}

#define OWN_VARIABLES \
    byte found = NONE, looked, end; \
    bool past, inherited, lets_in
#define FORGET_OWN found = NONE; looked = 0; end = 0; past = false; inherited = false; lets_in = false

/* kin__ring_put_waiting: a record of this state. */
inline place(what)
{
    do
    :: d_step { LOCK(putter); inherited = false; lacking = tail - head == SLOTS };
       if
       :: d_step {
              !lacking ->
              mine = tail;
              state[AT(tail)] = what;
              record[AT(tail)] = name_of(left);
              who[AT(tail)] = (what == WRITING -> me : 0);
              before[name_of(left)] = committed & ((me == 0) -> 15 : 240);
              if
              :: what == READY -> committed = committed | BIT(name_of(left))
              :: else
              fi;
              tail++
          };
          putter = 0;
          wake_by_bit(GET);
          if
          :: d_step { !slept || !SEEN(ROOM) -> slept = false }
          :: d_step { slept && SEEN(ROOM) -> slept = false }; wake_one(ROOM)
          fi;
          swept = false;
          break
       :: d_step { lacking -> lacking = false; putter = 0 };
          if
          :: !swept ->
              swept = true;
              if
              :: in_place && head != tail ->
                  lock_getter();
                  region_find();
                  atomic { FORGET_FOUND };
                  unlock_getter()
              :: !in_place || head == tail
              fi
          :: d_step { swept -> swept = false; PUBLISH(ROOM); mine = head };
              d_step { lacking = tail - mine == SLOTS; past = in_place && LOOK_AGAIN_EPOCH && head != tail; mine = 0 };
              if
              :: d_step { lacking && !(past && TO_BE_HAD(getter)) -> past = false; lacking = false; FALL_ASLEEP };
                 if
                 :: WAKE_UP
                 :: over -> goto ended
                 fi
              :: d_step { !lacking || (past && TO_BE_HAD(getter)) -> past = false; lacking = false; STAY_AWAKE }
              fi;
              slept = true
          fi
       fi
    od
}

proctype writer(byte me; byte reserves; byte left)
{
    OWN_VARIABLES;
    byte mine;
    bool lacking, slept, swept;
    {
        do
        :: reserves == 0 -> break
        :: reserves != 0 ->
            if
            :: in_place
            :: !in_place -> in_place = true
            fi;
            place(WRITING);
            if
            :: d_step {
                   assert(state[AT(mine)] == WRITING && who[AT(mine)] == me && record[AT(mine)] == name_of(left));
                   state[AT(mine)] = READY;
                   who[AT(mine)] = 0;
                   committed = committed | BIT(name_of(left));
                   mine = 0
               };
               tell()
#ifndef NO_CANCEL
            :: d_step {
                   assert(state[AT(mine)] == WRITING && who[AT(mine)] == me && record[AT(mine)] == name_of(left));
                   state[AT(mine)] = FINISHED;
                   who[AT(mine)] = 0;
                   mine = 0
               };
               lock_getter();
               advance();
               unlock_getter()
#endif
            fi;
            atomic { reserves--; left-- }
        od;
        do
        :: left == 0 -> break
        :: left != 0 ->
            place(READY);
            atomic { left--; mine = 0 }
        od;
    ended:
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; FORGET_OWN; mine = 0; lacking = false; slept = false; swept = false; left = 0; reserves = 0 } }
}

inline deliver(r)
{
    assert((committed & BIT(r)) != 0 && (finished & BIT(r)) == 0);
    assert((before[r] & ~delivered) == 0);
    delivered = delivered | BIT(r)
}

proctype consumer(byte me; byte does; byte gives)
{
    OWN_VARIABLES;
    byte taken = NONE, name;
    bool region;
    {
        do
        :: does == 0 -> break
        :: does != 0 ->
           lock_getter();
           ring_find();
           if
           :: found != NONE && (does & 1) != 0 ->
               /* a plain get; the copy and the store after it are two steps only in ring.pml */
               if
               :: found > head || next > head ->
                   d_step {
                       assert(state[AT(found)] == READY);
                       deliver(record[AT(found)]);
                       finished = finished | BIT(record[AT(found)]);
                       state[AT(found)] = FINISHED
                   };
                   if
                   :: past -> next = found + 1
                   :: !past
                   fi;
                   advance();
                   tell_no_more()
               :: d_step {
                      found == head && next <= head ->
                      assert(state[AT(found)] == READY);
                      deliver(record[AT(found)]);
                      finished = finished | BIT(record[AT(found)]);
                      LEAVE
                  };
                  if
                  :: in_place -> advance()
                  :: !in_place
                  fi
               fi;
               atomic { FORGET_FOUND };
               unlock_getter()
           :: found != NONE && (does & 2) != 0 ->
               if
               :: in_place
               :: !in_place -> in_place = true
               fi;
               d_step {
                   assert(state[AT(found)] == READY);
                   deliver(record[AT(found)]);
                   state[AT(found)] = TAKEN;
                   who[AT(found)] = me;
                   taken = found;
                   name = record[AT(found)];
                   region = found > head || next > head /* it lies in the region */
               };
               if
               :: past -> next = found + 1
               :: !past
               fi;
               if
               :: d_step { region -> region = false }; tell_no_more()
               :: !region
               fi;
               atomic { FORGET_FOUND };
               unlock_getter();
               if
               :: d_step {
                      assert(state[AT(taken)] == TAKEN && who[AT(taken)] == me && record[AT(taken)] == name);
                      finished = finished | BIT(name);
                      state[AT(taken)] = FINISHED;
                      who[AT(taken)] = 0;
                      taken = NONE; name = 0
                  };
                  lock_getter();
                  advance();
                  unlock_getter()
               :: d_step {
                      gives != 0 ->
                      gives--;
                      assert(state[AT(taken)] == TAKEN && who[AT(taken)] == me && record[AT(taken)] == name);
                      state[AT(taken)] = READY;
                      who[AT(taken)] = 0
                  };
                  tell();
                  skip;
#ifdef BUG_DONE_WITHOUT_OWNER /* the caller's mistake, once more with the same message */
                  d_step {
                      if
                      :: state[AT(taken)] == TAKEN -> state[AT(taken)] = FINISHED; who[AT(taken)] = 0
                      :: else
                      fi
                  };
#endif
                  atomic { taken = NONE; name = 0 }
               fi
           :: found == NONE ->
               unlock_getter();
               atomic { PUBLISH(GET); looked = head; end = NEXT };
               if
               :: tail > end -> STAY_AWAKE
               :: tail <= end && end > looked && returned -> STAY_AWAKE
               :: tail <= end && !(end > looked && returned) ->
                   if
                   :: d_step { !(end > looked && LOOK_AGAIN_EPOCH) -> FALL_ASLEEP };
                      if
                      :: WAKE_UP
                      :: over -> break
                      fi
                   :: end > looked && LOOK_AGAIN_EPOCH -> STAY_AWAKE
                   fi
               fi;
               d_step { looked = 0; end = 0 }
           fi
        od;
        done = done | BIT(me)
    } unless { d_step { is_dead(me); FORGET; FORGET_OWN; taken = NONE; name = 0; region = false; gives = 0 } }
}

init
{
    atomic {
        begin();
        run writer(0, RESERVES_0, RESERVES_0 + PUTS_0);
        run writer(1, RESERVES_1, RESERVES_1 + PUTS_1);
        run consumer(2, DOES_2, GIVES_BACK);
        run consumer(3, DOES_3, GIVES_BACK)
    }
}
