/* A process: start a function in a child, join it, end it.
 *
 * The child has what it was passed, and nothing else: see kin.h. It takes from the moment of the start the current
 * directory, the environment, the umask, standard output and standard error; its standard input is the null device.
 */
#ifndef KIN_PROCESS_H
#define KIN_PROCESS_H

#include "any.h"

KIN_BEGIN

typedef struct kin_process kin_process;

/* What a child runs: any function of the program or of a shared library it has loaded. What it returns is the exit code
 * (0-255). `args` are its values, see kin_unpack. */
typedef int (*kin_target)(kin_args *args);

typedef struct kin_process_options {
    const char *name; /* up to 47 bytes; default "Process-1", a child of that "Process-1:1". ps shows the first 15 */
    bool daemon;      /* ends with its parent, however that ends (within a second). Children of a daemon always are.
                         Others are joined when their parent ends cleanly, and go on if it is killed */
} kin_process_options;

/* Starts `target` in a child with the values of `args` (KIN_ARGS(...), copied before this returns). Returns when the
 * child has everything it needs and is about to run the target: what can go wrong at a start is an error here.
 *
 * KIN_EINVAL   no target, or one that is not in the program or its libraries; a bad name; a value that is closed
 * KIN_EAGAIN   the process table of the system or of kin (2048 at once) is full
 * KIN_ENOMEM, KIN_EMFILE  no memory, or no descriptors left
 * KIN_ECHILD   the child ended before it could run the target: the message says how
 * KIN_EPROTO   the executable on disk is no longer the one that runs
 * KIN_ELOST    the fork server was killed in the middle and another could not be started
 * KIN_ESTATE   kin_init was not called, or this is a copy made by a plain fork() */
KIN_API kin_err kin_process_start(kin_process **process, kin_target target, kin_pack args,
                                  const kin_process_options *options);

/* Waits up to `timeout_ms` until the whole process has ended. Any number of threads may, and may again afterwards.
 * KIN_ETIMEDOUT; KIN_EINTERRUPTED: the calling process was asked to stop; KIN_ELOST: it has ended but its exit code is
 * unknown, as the fork server was killed. */
KIN_API kin_err kin_process_join(kin_process *process, int64_t timeout_ms);

/* Whether it is still running. false if `process` is no open process. */
KIN_API bool kin_process_alive(const kin_process *process);

/* How it ended: 0-255 from exit or return, or negative when it was ended by force: -9 kill, -15 terminate, -11 access
 * violation, -6 abort, -8 arithmetic; on Linux any other signal likewise; -127 an exception of Windows without such a
 * number. KIN_ETIMEDOUT while it runs, KIN_ELOST as join. */
KIN_API kin_err kin_process_exit_code(const kin_process *process, int *code);

/* The system's process id; 0 if `process` is no open process. */
KIN_API int64_t kin_process_pid(const kin_process *process);

/* Its name; valid until close; "" if `process` is no open process. */
KIN_API const char *kin_process_name(const kin_process *process);

/* Asks it to end (SIGTERM; on Windows it is ended at once), or ends it at once. Exit code -15 and -9. KIN_OK, and
 * nothing happens, if it has ended already. */
KIN_API kin_err kin_process_terminate(kin_process *process);
KIN_API kin_err kin_process_kill(kin_process *process);

/* Asks it to stop: kin_stop_requested() is true there from now on, and calls of it that sleep, or would, give
 * KIN_EINTERRUPTED: those on queues, connections, listeners, events and semaphores, kin_wait and join. Taking locks, and what a
 * condition or a barrier waits for, go on, so that it can leave everything in order. What is there comes first: a call that
 * need not sleep succeeds. Nothing happens if it has ended, or was asked before. If who asks dies in it, it was asked, or not.
 * Ctrl-C in a terminal goes to children too, who end by it (-2 on Linux) whatever their parent does about it: one that wants to stop in its
 * own time ignores or handles it at the beginning of its target, and the parent asks it so. */
KIN_API kin_err kin_process_interrupt(kin_process *process);
/* Whether this process was asked to stop; and the same, from when on its calls sleep again as if it had not been: to say
 * farewell over a queue, for example. Both false if it was not. */
KIN_API bool kin_stop_requested(void);
KIN_API bool kin_stop_accept(void);

/* Gives the handle back; the process itself goes on. NULL does nothing. */
KIN_API void kin_process_close(kin_process *process);

/* The process this runs in. Names are those of kin_process_options; the first process is "Main". "" and 0 before
 * kin_init. */
KIN_API const char *kin_current_name(void);
KIN_API int64_t kin_current_pid(void);
/* The process that started this one; 0 in the first process. */
KIN_API int64_t kin_parent_pid(void);

KIN_END

#endif
