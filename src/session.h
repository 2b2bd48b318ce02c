/* The session: the small shared memory that every process of a family maps. It holds the process table and the
 * thread table, which say who is alive and who waits for what. Everything crash-safe in kin rests on two rules of
 * this file:
 *
 *   - Whoever claims something is named in the same atomic word as the claim.
 *   - A name is (place, generation), so a place that was given to another never looks like its former holder.
 *
 * The life of a process's place, in one 64-bit word  [generation:24][state:8][low:32]:
 *
 *   FREE      low 0
 *   STARTING  low = who asked (place and generation of the starter)    the request is on its way
 *   CLAIMED   low = pid    a process has taken it up but not run its target yet
 *   RUNNING   low = pid
 *   DYING     low = exit status    ended; its threads' places are being swept
 *   DEAD      low = exit status    swept; kept for whoever joins it
 *
 * Who may die where: the starter in STARTING (the reaper of the starter withdraws the request); the process in
 * CLAIMED or RUNNING (its reaper moves it on); the reaper in DYING (sweeping is repeated by whoever notices the
 * reaper's death: each step is a CAS that names the dead). Nothing read from here is trusted as an index without a
 * check. */
#ifndef KIN_SRC_SESSION_H
#define KIN_SRC_SESSION_H

#include "atomic.h"
#include "os.h"

#define KIN__PROCESSES 2048u
#define KIN__THREADS 4096u
#define KIN__NAME_SIZE 48u
#define KIN__WHY_SIZE 192u
#define KIN__FALLEN 64u

enum { KIN__FREE = 0, KIN__STARTING = 1, KIN__CLAIMED = 2, KIN__RUNNING = 3, KIN__DYING = 4, KIN__DEAD = 5 };

/* A process, for ever: its place and the place's generation, never 0. */
typedef uint64_t kin__pid;

/* What is known of a process beside its state. Written by its starter before the request is sent, but for the fields
 * marked. */
typedef struct kin__process_info {
    uint64_t parent;     /* kin__pid; 0 for the root and for servers          */
    uint64_t keeper;     /* kin__pid of who notices its end: its fork server, or on Windows its parent. By the starter, then by the claimer */
    uint64_t server;     /* kin__pid of the fork server that it asks for children; 0 where there is none. By the server  */
    uint64_t birthday;   /* os_process_birthday; 0 until it is written. By the claimer                                  */
    uint32_t flags;      /* KIN__IS_*                                                                                   */
    uint32_t detached;   /* nobody will ask for its status. By the parent                                                */
    uint32_t clean;      /* it went through exit(). By itself                                                            */
    uint32_t children;   /* how many it has started so far, for names. By itself                                         */
    uint32_t refused;    /* why it could not become a child: kin_err, with `why`. By the claimer or the server           */
    uint32_t pid;        /* for messages, once it is dead                                                                */
    uint32_t started;    /* it has reached its target. By itself                                                         */
    uint32_t parent_pid; /* of its parent, alive or not                                                                  */
    uint32_t stop;       /* [generation of the place:24][ACCEPTED:1][ASKED:1]: whether it was asked to stop. By anybody; ACCEPTED by itself */
    uint32_t pad;
    char name[KIN__NAME_SIZE];
    char why[KIN__WHY_SIZE];
} kin__process_info;
_Static_assert(sizeof(kin__process_info) == 72 + KIN__NAME_SIZE + KIN__WHY_SIZE, "layout in shared memory");

enum { KIN__IS_DAEMON = 1, KIN__IS_SERVER = 2, KIN__IS_ROOT = 4 };
enum { KIN__STOP_ASKED = 1, KIN__STOP_ACCEPTED = 2 };

/* A thread that waits or holds something. `claim` is [generation:32][process generation:16][process place + 1:16];
 * the low half is 0 when the place is free. All but the first and the last four lines are about its present sleep;
 * see park.h and deadlock.h. */
typedef struct kin__thread {
    uint64_t claim;
    uint64_t key;      /* what it waits for; 0 when it does not                         */
    uint64_t edge;     /* who holds that: deadlock.h                                    */
    uint64_t since;    /* when it went to sleep: kin__now_ns                            */
    uint64_t woken_at; /* when it was last woken                                        */
    uint64_t name[5];  /* of what it waits for: 40 bytes; of KIN__KEY_MANY: the set of keys, in the first four */
    uint32_t kind;     /* of that: kin_type                                             */
    uint32_t stays;    /* it cannot give its wait up                                    */
    uint32_t wake;     /* even: it may sleep, each time with a number of its own; odd: it is awake or was woken */
    uint32_t number;   /* the system's number of the thread                             */
    uint64_t process;  /* kin__pid of whose it is, or was if the place is free           */
    uint64_t lock;     /* the id of the lock that it waits for; 0 if that has no holder  */
    uint64_t sleeper;  /* whose sleep the rest is about, an owner word: else what a dead one left would pass for its successor's */
    uint32_t interruptible; /* it goes on when its process is asked to stop               */
    uint32_t inside;   /* which latch it is within as that's owner (latch.h); 0: none. By itself */
} kin__thread;
_Static_assert(sizeof(kin__thread) == 128, "two cache lines each");

/* One that was killed or crashed, remembered for a while after its place was given to another. */
typedef struct kin__fallen {
    uint64_t id; /* kin__pid */
    uint32_t pid;
    int32_t status;
    uint64_t name[KIN__NAME_SIZE / 8];
} kin__fallen;
_Static_assert(sizeof(kin__fallen) == 64, "one cache line each");

typedef struct kin__session {
    uint32_t magic;
    uint32_t version;
    uint64_t size;
    uint8_t id[16];
    uint64_t root;            /* kin__pid */
    uint32_t method;          /* kin_start_method */
    uint32_t wake_ns;         /* what waking a thread costs here, measured as it happens */
    uint32_t processes_used;  /* places from here on were never used */
    uint32_t threads_used;
    uint32_t servers; /* how many fork servers there have been, plus 1 */
    uint32_t requests_lost;   /* how often a request may have gone with the process that took it */
    uint64_t sleeping[KIN__THREADS / 64]; /* a bit for each thread that may sleep */
    uint32_t spin_ns;      /* the longest spinning before a sleep */
    uint32_t fallen_count; /* how many there have been */
    uint32_t cpus;         /* that the root could use when it began: where this process may run says nothing of the others */
    uint32_t ordered;      /* os_order_all works between processes here */
    uint32_t epoch;        /* counts what may make somebody's partner go: ends of processes, closed connections */
    uint32_t pad[11];
    kin__fallen fallen[KIN__FALLEN];
    uint64_t words[KIN__PROCESSES];
    kin__process_info info[KIN__PROCESSES];
    kin__thread threads[KIN__THREADS];
} kin__session;
_Static_assert(offsetof(kin__session, sleeping) == 64, "layout in shared memory");

/* This process's part in it. */
typedef struct kin__self {
    kin__session *session; /* NULL before kin_init and in a copy made by a plain fork() */
    os_handle handle;
    kin__pid id;
    uint32_t place;
    bool forked; /* such a copy */
    bool server; /* a fork server: it has no threads, and watches nobody but its own children */
} kin__self;
extern kin__self kin__my;

/* KIN_ESTATE with a sentence if kin cannot be used in this process (now). */
kin_err kin__check_init(void);

/* Creates the session and makes this process its root; or joins one, as the process in `place`. */
kin_err kin__session_create(kin_start_method method);
/* Undoes the first, before anybody else has joined. */
void kin__session_drop(void);
kin_err kin__session_attach(os_handle handle, uint32_t place, uint32_t generation);

/* ---- the word of a process's place ---- */
static inline uint64_t kin__word(uint64_t generation, uint32_t state, uint32_t low)
{
    return (generation & 0xffffffu) << 40 | (uint64_t)state << 32 | low;
}
static inline uint32_t kin__word_generation(uint64_t word) { return (uint32_t)(word >> 40); }
static inline uint32_t kin__word_state(uint64_t word) { return (uint32_t)(word >> 32) & 0xff; }
static inline uint32_t kin__word_low(uint64_t word) { return (uint32_t)word; }

static inline kin__pid kin__pid_of(uint32_t place, uint32_t generation) { return os_who(place, generation); }
static inline uint32_t kin__pid_place(kin__pid id) { return (uint32_t)(id & 0xffff) - 1; }
static inline uint32_t kin__pid_generation(kin__pid id) { return (uint32_t)(id >> 16) & 0xffffff; }

/* The word of a process; FREE of another generation if it is gone. */
uint64_t kin__process_word(kin__pid id);
/* Whether it has not ended, as far as anybody has noticed. */
bool kin__process_alive(kin__pid id);

/* Whether this process was asked to stop and has not accepted that: then it does not sleep where it can be interrupted. */
static inline bool kin__stopping(void)
{
    return (kin__load32(&kin__my.session->info[kin__my.place].stop) & (KIN__STOP_ASKED | KIN__STOP_ACCEPTED)) == KIN__STOP_ASKED;
}

/* Takes a free place in state STARTING, named after this process. KIN_EAGAIN: the table is full. */
kin_err kin__place_take(uint32_t *place, uint32_t *generation);
/* Gives a place in STARTING or DEAD back; false if it is in neither. */
bool kin__place_free(kin__pid id);

/* What sleepers wait for while they wait for a process to change state. */
static inline uint64_t kin__process_key(kin__pid id) { return id | (uint64_t)1 << 63; }

/* ---- death.c ---- */
/* Has this process notice the death of its keeper and of every fork server, and from then on of all whom a dead one
 * kept. Before each sleep; does something the first time, and when there is a new server. False if somebody is not
 * watched, as descriptors or threads are lacking: then no sleep may be long. */
bool kin__watch_keepers(void);
/* Ends a process by force, or asks it to end. KIN_OK if it has ended. */
kin_err kin__process_end(kin__pid id, bool force);
/* Has a fork server look whether a request lies unread, because its spares are stopped. */
void kin__server_nudge(kin__pid server);
/* Whether a process that is not alive was killed or crashed, as far as that is remembered. */
bool kin__has_fallen(kin__pid id);
/* Writes "'name' (pid 12, killed by signal 9)" or what is known of it, alive or dead. */
void kin__describe_process(kin__pid id, char *text, size_t size);
/* Forgets what was watched: in a child that is a copy of its server. */
void kin__watch_reset(void);

/* ---- time and chance ---- */
uint64_t kin__now_ns(void);
/* A number that no other call in any process gives. */
uint64_t kin__unique(void);

#endif
