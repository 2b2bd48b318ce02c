/* THE CONTRACT: all that differs between the systems kin runs on.
 *
 * src/posix and src/win32 each implement it, with the same file names; the linker chooses. Everything else in src/ is
 * portable C11 and sees the system only through this header. What stands here is a promise: each function says what it
 * guarantees, and portable code relies on nothing else.
 *
 * Rules that hold for every function
 *   - Errors are kin_err. A function that fails has called kin__fail (error.h) with a sentence naming what was tried and
 *     the system's own code, has changed nothing and leaked nothing.
 *   - Nothing here allocates an object's meaning: no function knows a lock, a queue or a pool.
 *   - Every descriptor or handle made here is not inheritable.
 *   - Every system call that can fail goes through KIN_FAULT (fault.h) in test builds, so that tests can make the n-th one fail.
 *   - Functions may be called from any thread unless it says otherwise.
 */
#ifndef KIN_SRC_OS_H
#define KIN_SRC_OS_H

#include "kin/base.h"
#include "kin/init.h"

#if defined(_WIN32)
#define OS_WINDOWS 1
#else
#define OS_WINDOWS 0
#endif

/* The exit code that abort() leaves, where nothing else tells it from exit() with that number; -1000 where something
 * does. */
#define OS_ABORT_CODE (OS_WINDOWS ? 3 : -1000)

#if defined(_MSC_VER) && !defined(__clang__)
#define OS_THREAD_LOCAL __declspec(thread)
#else
#define OS_THREAD_LOCAL _Thread_local
#endif

/* For what every lock looks at: found without a call, also in a shared library. Few bytes: they come out of a small
 * reserve when such a library is loaded late. */
#if defined(__ELF__)
#define OS_THREAD_LOCAL_FAST _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define OS_THREAD_LOCAL_FAST OS_THREAD_LOCAL
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define KIN__NOINLINE __declspec(noinline)
#else
#define KIN__NOINLINE __attribute__((noinline))
#endif

/* A descriptor on POSIX, a HANDLE on Windows. */
typedef intptr_t os_handle;
#define OS_NO_HANDLE ((os_handle)-1)

/* ---- memory.c: shared memory ------------------------------------------------------------------------------------- */

/* Creates zeroed shared memory of at least `size` bytes (rounded up to pages). All of it is reserved: KIN_ENOMEM here
 * rather than a fault at first touch. It cannot be resized afterwards by anybody. It lives as long as a handle or a
 * mapping of it, in any process. (memfd sealed against resizing; unnamed section, committed.) */
kin_err os_memory_create(size_t size, os_handle *handle);

/* Maps the whole of it, readable and writable, at an address of the system's choice, aligned to a page. *size gets
 * the size mapped. KIN_EPROTO if the handle is no shared memory of this kind (a POSIX handle whose memory could be
 * shrunk is refused). */
kin_err os_memory_map(os_handle handle, void **base, size_t *size);

/* Makes the first `size` bytes of a mapping present in this process at once rather than fault by fault, where the
 * system can. */
void os_memory_touch(void *base, size_t size);

/* Undoes os_memory_map. The addresses are free for other use at once. */
void os_memory_unmap(void *base, size_t size);

/* Replaces a mapping by private zeroed memory at the same addresses (as far as the system can: failing that, unmaps).
 * Whoever still uses an object that was closed then reads zeros, which no object begins with, instead of crashing.
 * Returns whether the addresses stay reserved; if so os_memory_forget frees them. */
bool os_memory_blank(void *base, size_t size);
void os_memory_forget(void *base, size_t size);

/* ---- handle.c: descriptors, handles, streams, and passing them to a process that runs ----------------------------- */

void os_handle_close(os_handle handle); /* OS_NO_HANDLE does nothing */
kin_err os_handle_duplicate(os_handle handle, os_handle *copy);

/* A duplicate, as handle, of a descriptor of the C library; and the descriptor for a handle, which it takes over. */
kin_err os_handle_from_fd(int fd, os_handle *copy);
kin_err os_handle_to_fd(os_handle handle, int *fd);

/* A duplicate of what `file` reads or writes, and what is needed to make a FILE of it again. Flushes what is
 * buffered for writing and sets the shared offset to where the reader of the stream is (if it can seek). */
kin_err os_handle_from_file(FILE *file, os_handle *copy, uint32_t *mode);
kin_err os_handle_to_file(os_handle handle, uint32_t mode, FILE **file); /* takes the handle over */

/* A channel carries short messages with handles from one process to another, in order, each whole: a socket pair; on
 * Windows a pipe, the handles being duplicated into the receiver. One process sends, one receives.
 *
 * send: up to OS_CHANNEL_BYTES bytes (at least 1) and OS_CHANNEL_HANDLES handles (borrowed). `peer` is the
 * receiver's process id (Windows needs it). The buffer holds at least 16 such messages; a receiver that does not
 * read is KIN_EAGAIN or KIN_ETIMEDOUT, after seconds at most. KIN_EPIPE: the receiver is gone.
 *
 * receive: waits up to timeout_ms. KIN_ETIMEDOUT; KIN_EPIPE: the sender is gone and nothing is left; KIN_EPROTO: larger than the space
 * given, or handles were lost (its handles are closed). The handles are the caller's. */
#define OS_CHANNEL_BYTES 1024
#define OS_CHANNEL_HANDLES 8
kin_err os_channel_create(os_handle *receiver, os_handle *sender);
kin_err os_channel_send(os_handle sender, int64_t peer, const void *bytes, size_t size, const os_handle *handles,
                        size_t count);
kin_err os_channel_receive(os_handle receiver, void *bytes, size_t space, size_t *size, os_handle *handles, size_t handle_space,
                           size_t *count, int64_t timeout_ms);

/* ---- pair.c: two ends that know of each other, and handles beside messages ------------------------------------------ */

/* Two connected ends. An end lives as long as any process has a handle of it, and while one is on its way to a process. A
 * socket pair; on Windows the two ends of a pipe. */
kin_err os_pair_create(os_handle *a, os_handle *b);
/* Whether all handles of the other end are gone: closed, or with the processes that had them. True from before the end of
 * the last such process is reported by os_process_watch or its fork server. Does not wait. */
bool os_pair_broken(os_handle mine);

/* A bag keeps handles for messages that lie in shared memory, so that they outlive whoever put them in. Several processes
 * have it; those who put are one at a time, and so are those who look and drop. Entries are in the order in which they were
 * put; each has a tag that no other has, and some words that the caller keeps with the message.
 *
 * On POSIX a bag is a socket pair, the handles being in flight in it: put writes to `in`, look and drop read from `out`.
 * On Windows the handles are duplicated into the root process, the words say which they are there; a bag has no handles
 * of its own (OS_BAG_HANDLES is 0, `in` and `out` are OS_NO_HANDLE), and what nobody drops is there until the root ends. */
#define OS_BAG_HANDLES (OS_WINDOWS ? 0 : 2)
#define OS_BAG_MOST 65 /* handles in one entry: those of a message, and that of its memory if it is large */
/* Puts duplicates of `handles` (borrowed; 1 to OS_BAG_MOST, tag not 0). Does not wait. KIN_EAGAIN: the bag is full; nothing
 * was put. KIN_EMFILE: the bag is empty, but too many are in flight elsewhere; KIN_EPIPE: nobody has `out` (both POSIX).
 * KIN_ELOST: the root has ended (Windows). */
kin_err os_bag_put(os_handle in, uint64_t tag, const os_handle *handles, size_t count, uint64_t *words);
/* Duplicates of what entry `tag` holds, for this process. The entry stays. KIN_ELOST: there is no such entry.
 * KIN_EMFILE: no room for them in this process. */
kin_err os_bag_look(os_handle out, uint64_t tag, const uint64_t *words, size_t count, os_handle *handles);
/* Drops entry `tag`, with all that were put before it and are still there (Windows: it alone); if there is none such,
 * nothing. True: others went with it. */
bool os_bag_drop(os_handle out, uint64_t tag, const uint64_t *words, size_t count);
/* The tag of the oldest entry; 0 if there is none (or the system has no order of them: then they cannot be left over). */
uint64_t os_bag_oldest(os_handle out);

/* ---- start.c: how a process comes into being ---------------------------------------------------------------------- */

typedef enum os_role {
    OS_ROLE_ROOT,  /* the process the user started          */
    OS_ROLE_CHILD, /* started to run a target               */
    OS_ROLE_SERVER /* started to be a fork server: POSIX    */
} os_role;

/* What a process was given at its birth. */
typedef struct os_birth {
    os_role role;
    os_handle session; /* the session's shared memory; OS_NO_HANDLE for the root. Belongs to the receiver */
    /* of a child; for a server: of the process that asked for it */
    uint32_t slot; /* the place in the session's process table, and the generation of that place */
    uint32_t generation;
    const void *record; /* as it was given to os_process_start; lives for ever, aligned to 16 */
    size_t record_size;
    os_handle *handles; /* likewise duplicated, in the same order; belong to the receiver */
    size_t handle_count;
} os_birth;

/* Called first in kin_init: what is this process? For a child or server that was made by starting the executable
 * anew it takes the hidden environment variable KIN_BIRTH, which says where to read the birth from, out of the
 * environment and applies what it took from the moment of its start (umask; on POSIX also current directory and
 * environment). A process that is marked as a child but whose birth cannot be read ends with _exit(255): it must
 * never reach the program's own code. */
kin_err os_birth_read(os_birth *birth);

/* Makes this process able to start others. POSIX: makes the fork server, from a fork of this process (`pristine`:
 * nothing has happened in it yet) or by starting the executable anew; it attaches to the session by itself, and its
 * children leave it through kin__child_main. Not a child of this process afterwards, so the program's waitpid(-1)
 * never sees it. Windows: nothing. */
kin_err os_starter_create(os_handle session, bool pristine);

/* The root ends, and no other process of the family is left: ends what os_starter_create made, and waits until it is
 * gone. */
void os_starter_end(void);

/* A request seems to lie too long: has the fork server (a handle to it) see to it. Windows: never called. */
kin_err os_starter_nudge(os_handle server);

/* The life of a process whose role is OS_ROLE_SERVER; never returns. */
_Noreturn void os_starter_run(const os_birth *birth);

typedef struct os_start {
    kin_start_method method;
    uint32_t slot; /* of the child, already marked as starting */
    uint32_t generation;
    bool daemon;
    const char *name;
    const void *record; /* reaches os_birth.record unchanged; any size */
    size_t record_size;
    const os_handle *handles; /* borrowed; any number */
    size_t handle_count;
} os_start;

/* Starts a child: it has the handles listed (and those kin needs itself) and no other, standard input from the null
 * device, this process's standard output and error (the null device if closed), and the current directory,
 * environment and umask of now.
 *
 * When it returns KIN_OK the request is on its way and exactly one of these will happen: a process takes it up
 * (kin__claim is called, in the child or here, before the child runs anything), or kin__refused is called with the
 * reason, or the starter itself is found dead. On Windows the child has been created when it returns. Errors:
 * KIN_ELOST if the starter is gone (POSIX: make a new one and ask again; a request is claimed at most once),
 * KIN_EAGAIN, KIN_ENOMEM, KIN_EMFILE …
 *
 * A daemon is ended by the system or by the starter when the process that started it ends, however that ends. */
kin_err os_process_start(const os_start *start);

/* ---- process.c: processes ------------------------------------------------------------------------------------------ */

int64_t os_process_self(void);

/* When this process began, in a unit of the system's: with the pid it names a process for ever. On POSIX an upper
 * bound is enough (now, when called early). */
uint64_t os_process_birthday(void);

/* A handle to process `pid` that began at (POSIX: not after) `birthday`. KIN_ENOENT if there is none: it has ended
 * and its number may name another. While the handle is open the number is not reused (Windows) or the handle stays
 * with the old process (pidfd). */
kin_err os_process_open(int64_t pid, uint64_t birthday, os_handle *process);

/* Ends it: by force (exit code -9), or by asking (SIGTERM; on Windows by force with exit code -15). KIN_OK if it has
 * ended. */
kin_err os_process_end(os_handle process, bool force);

/* A process of the session for ever: its slot and the slot's generation in one number, never 0. */
static inline uint64_t os_who(uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 16 | (slot + 1);
}

/* Has `ended(who, status)` called once, on a thread of kin's, when the whole process has ended and no thread of it
 * can write any more. Takes the handle over, also on failure. status is as kin_process_exit_code describes it, or
 * OS_STATUS_UNKNOWN where only a parent could know it (POSIX). The call may come before this returns. */
#define OS_STATUS_UNKNOWN INT32_MIN
kin_err os_process_watch(os_handle process, uint64_t who, void (*ended)(uint64_t who, int status));

/* Shows `name` in ps and top, as far as the system can. */
void os_process_set_name(const char *name);

/* Ends this process at once: nothing is flushed, no handler runs. */
_Noreturn void os_process_exit(int code);

/* Has `forked` called in a copy of this process that the program makes by a plain fork(). Windows: never. */
kin_err os_on_fork(void (*forked)(void));

/* ---- park.c: one thread sleeps, another wakes it -------------------------------------------------------------------- */

/* A thread sleeps on its own place in the session's thread table: a word that has a certain value while it may
 * sleep. `slot` and `generation` name the place. The session's id makes names unguessable where the system needs
 * names. */
void os_park_init(const uint8_t session_id[16]);

/* Sleeps while *word is `value`, at most timeout_ns (negative: for ever). May return for no reason. Only the thread
 * that owns the place calls it. Uses no CPU while it sleeps. */
void os_park_sleep(uint32_t *word, uint32_t value, uint32_t slot, uint32_t generation, int64_t timeout_ns);

/* Wakes the thread that sleeps on that place, in whatever process. The caller has changed *word before; a thread
 * that goes to sleep just then does not miss it. Does nothing, and harms nobody, if no thread sleeps there or its
 * process is dead. */
void os_park_wake(uint32_t *word, uint32_t slot, uint32_t generation);

/* The place is given up by its thread, which calls this last. */
void os_park_leave(uint32_t slot, uint32_t generation);

/* An order between processes that costs only the side that goes to sleep: after os_order_begin has answered KIN_OK in a
 * process, os_order_all, called in any process, has the effect of a full fence in every running thread of it. So who writes
 * and then looks whether anybody sleeps needs none of its own, if who says that it sleeps and looks again calls
 * os_order_all in between. KIN_ENOTSUP where the system has no such thing between processes (Windows; old kernels): then
 * both need a fence. (membarrier) */
kin_err os_order_begin(void);
void os_order_all(void);

/* ---- watch.c: descriptors, sockets and HANDLEs of the program, becoming ready ----------------------------------------- */

enum { OS_READABLE = 1, OS_WRITABLE = 2, OS_SIGNALLED = 4 /* a HANDLE of Windows */ };
typedef struct os_source {
    intptr_t source; /* a descriptor, on Windows a SOCKET or a HANDLE: borrowed */
    uint32_t events; /* one of the above */
    bool ready;
} os_source;

/* Marks those that are ready now, or have an error to tell, in addition to those that are marked. Does not wait; a HANDLE
 * that a successful wait changes (an auto-reset event) is changed. KIN_EINVAL: *wrong is not open. */
kin_err os_sources_look(os_source *sources, size_t count, size_t *wrong);

/* Has ready(arg) called once, on a thread of kin's, when at least one of `sources` (copied; the same may be in it twice)
 * is ready: possibly before this returns, and possibly for nothing, so that the caller looks. `ready` must not wait, nor
 * call anything of this section. No descriptor or socket is changed by it. KIN_ENOMEM, KIN_EMFILE, KIN_EAGAIN … */
typedef struct os_watch os_watch;
kin_err os_watch_add(const os_source *sources, size_t count, void (*ready)(void *arg), void *arg, os_watch **watch);
/* When this returns `ready` is not running and will not be called. Marks those `sources` (the same array) that the watch
 * may have changed by seeing them: HANDLEs. NULL does nothing. */
void os_watch_remove(os_watch *watch, os_source *sources);

/* ---- system.c -------------------------------------------------------------------------------------------------------- */

/* CPUs this process may use: affinity, and the cgroup's quota rounded up. At least 1. */
int os_cpu_count(void);
/* Gives the CPU to another thread that can run, if there is one. */
void os_yield(void);
/* Has `ended(value)` called at the end of each thread that called os_thread_set with a value other than NULL. Once,
 * early. */
kin_err os_thread_on_end(void (*ended)(void *value));
kin_err os_thread_set(void *value); /* KIN_ENOMEM */
/* Starts a thread of kin's: it gets none of the program's signals, is never joined, and has `stack` bytes. KIN_EAGAIN. */
kin_err os_thread_start(void (*body)(void *arg), void *arg, size_t stack);
/* The system's number for the calling thread, as debuggers and top show it. */
uint32_t os_thread_number(void);
bool os_is_terminal(FILE *file);

/* ---- file.c: locks on files ------------------------------------------------------------------------------------------- */

/* Opens the file at `path` (UTF-8), creating it empty (never truncating, writing or removing), and locks the whole
 * of it against everybody else who locks it, other programs too: flock; LockFileEx on all 2^64 - 1 bytes. `wait`:
 * waits for ever, asleep in the system, else KIN_ETIMEDOUT if it is locked. The lock is on the file that the path
 * names at the end: one that was removed or replaced meanwhile is tried again. The system releases it when the
 * process ends. KIN_ENOENT, KIN_EPERM, KIN_EMFILE, KIN_EIO. */
kin_err os_file_lock(const char *path, bool wait, os_handle *file);
/* Releases and closes. */
void os_file_unlock(os_handle file);

/* ---- module.c: functions as (module, offset) -------------------------------------------------------------------------- */

/* Where a function is: in which file of the program, how far from its start, and which build of the file it is. */
typedef struct os_place {
    char module[1024]; /* "" for the executable, else the path of the library, UTF-8 */
    uint64_t offset;
    uint64_t build; /* equal only if the files hold the same code */
} os_place;

/* KIN_ENOENT: the address is in no file of the program (data, a stack, code made at run time). */
kin_err os_place_of(void (*function)(void), os_place *place);
/* The function at a place, in this process; loads the library if it is not loaded. KIN_ENOENT: no such file, or the
 * offset is outside its code; KIN_EPROTO: another build. */
kin_err os_place_find(const os_place *place, void (**function)(void));

/* ---- port.c, stream.c: streams between programs that are no relatives ------------------------------------------------- */

/* A port is a place to which programs connect; a stream is one end of a connection. Deadlines are moments of kin__now_ns;
 * OS_NEVER: none. Of a stream, one thread reads and one writes at a time; any thread may cancel, or wait beside them.
 *
 * Local names and paths are Unix sockets, and on Windows pipes. Where streams keep the boundaries of messages (pipes)
 * each write is one message, and a read tells where one ends; elsewhere bytes flow. */
#define OS_NEVER UINT64_MAX
typedef struct os_port os_port;
typedef struct os_stream os_stream;

typedef enum os_address_kind {
    OS_ADDRESS_NAME, /* of this user's: nobody else can connect to it, or listen at it, unnoticed */
    OS_ADDRESS_PATH, /* POSIX: of a socket in the file system; Windows: \\.\pipe\name             */
    OS_ADDRESS_TCP
} os_address_kind;
typedef struct os_address {
    os_address_kind kind;
    const char *text; /* the name (checked: short, no separators), the path, or the host */
    uint16_t port;    /* TCP; 0: a free one                                             */
} os_address;

/* Listens. Only this user can connect by name or path, until the program changes the socket's permissions; by name, a
 * peer of another user is refused, too. What a dead listener left at the place is replaced. address->port gets the real
 * one. KIN_EEXIST: somebody listens there, or something else is there; KIN_EPERM; KIN_ENOENT: no such host or directory;
 * KIN_EINVAL: the path is too long for the system. */
kin_err os_port_open(os_address *address, os_port **port);
/* The next connection. KIN_ETIMEDOUT; KIN_ECANCELLED; KIN_EMFILE; what befell one connection only is not reported. */
kin_err os_port_accept(os_port *port, os_stream **stream, uint64_t deadline);
/* Ends os_port_accept, in another thread too, for good. */
void os_port_cancel(os_port *port);
/* No thread may be in os_port_accept. Removes what it made in the file system. */
void os_port_close(os_port *port);

/* Connects. KIN_ENOENT: nobody listens there, or there is no such host; KIN_ETIMEDOUT; KIN_EPERM: what listens at that
 * name is another user's. (Finding a host by its name takes what the system takes.) No system wakes who connects, so before it
 * waits and each OS_CONNECT_MS it asks `stop` (NULL: none): KIN_ECANCELLED. */
#define OS_CONNECT_MS 100
kin_err os_stream_connect(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void));

/* Whether it keeps the boundaries of messages. */
bool os_stream_has_messages(const os_stream *stream);

/* Reads what is there, up to `space` bytes, without waiting: *got may be 0. *whole: a message ends here (only where it has
 * messages: there an empty one is *got 0 and *whole). KIN_EPIPE: the other end is gone and nothing is left;
 * KIN_ECANCELLED. */
kin_err os_stream_read(os_stream *stream, void *buffer, size_t space, size_t *got, bool *whole);

/* Writes `head` and then `data`, or the first *taken bytes of the two, without waiting. *any: some were taken; where the
 * stream has messages all of them, as one message, which may be empty. KIN_EPIPE: the other end is gone, never a signal;
 * KIN_ECANCELLED; KIN_ENOMEM. */
kin_err os_stream_write(os_stream *stream, const void *head, size_t head_size, const void *data, size_t size, size_t *taken, bool *any);

/* Waits until there is something to read or its end; or until something can be written; or until all that was taken is in
 * the hands of the system, so that it arrives even if this end is closed. KIN_ETIMEDOUT; KIN_OK when it was cancelled, too. */
typedef enum os_stream_for { OS_STREAM_READ, OS_STREAM_WRITE, OS_STREAM_SENT } os_stream_for;
kin_err os_stream_wait(os_stream *stream, os_stream_for what, uint64_t deadline);
/* What becomes ready (watch.c) when os_stream_wait would return. False: it would return now. Any thread. */
bool os_stream_source(os_stream *stream, os_stream_for what, os_source *source);

/* From now on reading and writing is KIN_ECANCELLED, and nobody waits; the other side sees the end. From any thread. */
void os_stream_cancel(os_stream *stream);
/* No thread may use it. What os_stream_wait(OS_STREAM_SENT) would wait for may be lost, and by TCP all that has not arrived
 * yet, if something is unread. */
void os_stream_close(os_stream *stream);

/* ---- what the contract asks in return (session.c, init.c, process.c) -------------------------------------------------- */

/* The process `pid`, begun at `birthday`, takes up the request in `slot`. False: it was withdrawn or taken already,
 * so drop it. */
bool kin__claim(uint32_t slot, uint32_t generation, int64_t pid, uint64_t birthday);
/* The request in `slot` could not become a child, or the child that claimed it cannot go on (it must end then). */
void kin__refused(uint32_t slot, uint32_t generation, kin_err error, const char *why);
/* The process has ended. May be called again for the same end, by anybody, however late. */
void kin__ended(uint64_t who, int status);
/* The child `pid` of the calling fork server has ended. It has not been reaped yet, so that its number is still its
 * own. */
void kin__child_ended(int64_t pid, int status);
/* The life of a child; never returns. */
_Noreturn void kin__child_main(const os_birth *birth);
/* A fork server begins, for the process in `slot` (its own copy of that process's memory if it was forked: then
 * `session` is OS_NO_HANDLE). Enters it in the table. */
kin_err kin__server_begin(os_handle session, uint32_t slot, uint32_t generation);
/* This process's place in the session's process table. */
void kin__my_place(uint32_t *slot, uint32_t *generation);
/* A spare of a fork server, before it waits: touches what of the portable code's memory a child will need. */
void kin__rehearse(void);
/* The thread that watches processes has lost its means (a program that closes every descriptor): what was watched no
 * longer is. */
void kin__watch_lost(void);
/* A process that may have been given a request has ended without taking it up: whoever waits for one asks again. */
void kin__request_lost(void);
/* The process at whose end a fork server has no more to do once its children have ended. */
typedef struct kin__mortal {
    uint64_t who;
    int64_t pid; /* 0: it has ended */
    uint64_t birthday;
} kin__mortal;
kin__mortal kin__root(void);
/* The process that the calling fork server was made for. */
kin__mortal kin__client(void);
/* Whether any process needs the calling fork server: a child of it that is alive, or a process that would ask it for
 * one. */
bool kin__server_needed(void);

#endif
