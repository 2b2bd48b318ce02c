/* What start.c, which asks for children, and server.c, which becomes them, share: the request, the births of
 * processes that are started by exec, and the descriptors both know. */
#ifndef KIN_SRC_POSIX_SERVER_H
#define KIN_SRC_POSIX_SERVER_H

#include "posix.h"

#include <sys/types.h>

#define KIN__REQUEST_MAGIC 0x6b696e71u /* "kinq" */
#define KIN__INLINE_BODY 32768u        /* a larger body travels in a memfd */
#define KIN__FDS_PER_MESSAGE 240u      /* the kernel takes 253 */

/* The first part of a request; the body (environment, then record) follows, or is in a memfd. Descriptors: current
 * directory, stdout, stderr, [memfd of the body], [socket for the rest of the handles], handles. */
typedef struct kin__request {
    uint32_t magic, slot, generation, method;
    uint32_t umask, daemon, body_in_memfd, relayed;
    uint64_t handle_count, environment_size, record_size;
} kin__request;

enum { KIN__FIXED_FDS = 3 };

/* A birth in a memfd: for what is started by exec. The handles' descriptors follow, as int32_t, then the record at a
 * multiple of 16. */
typedef struct kin__birth_file {
    uint32_t magic, role, slot, generation;
    int32_t session, client_socket, requests, unused;
    uint64_t handle_count, record_size;
} kin__birth_file;

/* Where this process sends its requests; -1 while there is no server. */
extern int kin__client_socket;
/* The signal mask of the program when it called kin_init. */
extern kin__signals kin__signals_at_init;

/* A plain fork() of kin's own: the handlers for the program's forks do not run. */
pid_t kin__fork(void);
/* Whether an exec keeps the descriptor. */
void kin__inherit(int fd, bool yes);
/* A memfd with a birth in it, or -1 with errno. */
int kin__birth_write(kin__birth_file head, const int *handles, const void *record);
/* `variables` and KIN_BIRTH=fd, whose text is kept in `text`. The pointers are borrowed; free the array. NULL: no
 * memory. */
char **kin__with_birth(char **variables, char *text, size_t size, int fd);
/* The arguments the program was started with; free the first string and the array. NULL: no memory. */
char **kin__original_arguments(void);

/* The life of a server: lets go of everything but these, enters the session (its own copy if `session` is
 * OS_NO_HANDLE), says over the socket that it is there, and serves. */
_Noreturn void kin__server_run(int requests, os_handle session, os_handle session_to_enter, uint32_t slot, uint32_t generation);

#endif
