/* kin_init: the first line of main. */
#ifndef KIN_INIT_H
#define KIN_INIT_H

#include "base.h"

KIN_BEGIN

/* How a child comes into being. What it sees is the same with all of them.
 *
 * KIN_START_FORK   Linux. kin_init forks once, before the program did anything; that pristine copy (the fork server)
 *                  forks every child. Its cost does not depend on how large the program has become.
 * KIN_START_SPAWN  Linux and Windows. The program's executable is started anew and runs up to its kin_init.
 */
typedef enum kin_start_method {
    KIN_START_DEFAULT = 0, /* KIN_START_METHOD in the environment ("fork", "spawn"), else fork on Linux, spawn on Windows */
    KIN_START_FORK = 1,
    KIN_START_SPAWN = 2
} kin_start_method;

/* Zero means the default everywhere. */
typedef struct kin_options {
    kin_start_method start_method;
} kin_options;

/* Prepares the program for kin. Call it first in main: what main did before is repeated in every spawned child.
 *
 * In the process the user started it returns. In a child it does not: it runs the child's target and ends the process
 * with the target's result as exit code (0-255, the low eight bits), through exit(), so that functions registered with
 * atexit run.
 *
 * In a program that never calls it no child can be started (KIN_ESTATE), so a forgotten call cannot start processes
 * without end. A second call does nothing and returns KIN_OK.
 *
 * Files opened before kin_init are not open in a child: call it first. Output buffered in stdio is flushed.
 *
 * At the program's clean end (exit, return from main) children that are not daemons are joined and daemons killed.
 *
 * KIN_EINVAL  an unknown start method, here or in KIN_START_METHOD    KIN_ENOTSUP  fork on Windows
 * KIN_ENOMEM, KIN_EMFILE, KIN_EAGAIN  no memory, descriptors or processes left for the session
 */
KIN_API kin_err kin_init(int argc, char **argv);

/* The same with options; NULL means the defaults. Borrows them for the call. */
KIN_API kin_err kin_init_with(int argc, char **argv, const kin_options *options);

/* The start method in use: "fork" or "spawn"; "" before kin_init. Static. */
KIN_API const char *kin_start_method_name(void);

KIN_END

#endif
