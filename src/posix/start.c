/* How a process comes into being on Linux: the fork server and its spares.
 *
 * The server is a copy of the program as it was in kin_init: one thread, nothing open but a socket. It keeps a few spares: copies of itself
 * that wait for a request on that socket. A start is one message; whichever spare receives it becomes the child, so that neither fork nor the
 * server stands between the request and the child, and the server makes the next spare meanwhile. The server is the parent of them all: it reaps
 * them and writes what became of them into the session.
 *
 * Who may die where: a request lies in the socket until a spare takes it. A spare that dies with a request it has not claimed in the session would
 * lose it: the server then has all who wait ask again. A request that comes twice is claimed once. If the server dies, its
 * spares and its daemons die with it, senders see the end of the socket, and the next start makes a new server by starting the executable anew.
 *
 * It must never wait for a client, have a thread, or hold anything of the program's. */
#include "posix.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define SPARES 2
#define REQUEST_MAGIC 0x6b696e71u /* "kinq" */
#define INLINE_BODY 32768u        /* a larger body travels in a memfd                           */
#define FDS_PER_MESSAGE 240u      /* the kernel takes 253                                       */
#define SERVER_WAIT_MS 30000      /* a new server that does not answer for so long is given up  */

/* The first part of a request; the body (environment, then record) follows, or is in a memfd. Descriptors: current directory, stdout, stderr,
 * [memfd of the body], [socket for the rest of the handles], handles. */
typedef struct request {
    uint32_t magic, slot, generation, method;
    uint32_t umask, daemon, body_in_memfd, relayed;
    uint64_t handle_count, environment_size, record_size;
} request;

enum { FIXED_FDS = 3 };

static int client_socket = -1; /* where this process sends requests */
static kin__signals signals_at_init;

/* What only the server and its spares have. */
static struct {
    int requests;      /* the other end of client_socket  */
    int taken_read;    /* a spare writes its pid when it has become a child */
    int taken_write;
    int executable;    /* for spawn */
    int session;
    pid_t pid;
    pid_t spares[64];
    size_t spare_count;
} server;

/* ---- small things ---- */

static pid_t own_fork(void)
{
    kin__own_fork = true;
    pid_t pid = TRY("fork", -1, EAGAIN, fork());
    kin__own_fork = false;
    return pid;
}

static void close_range_or_each(unsigned from, unsigned to)
{
    if (from > to || syscall(SYS_close_range, from, to, 0) == 0)
        return;
    DIR *d = opendir("/proc/self/fd");
    if (d == NULL)
        return;
    int fds[4096];
    size_t count = 0;
    for (struct dirent *e; count < 4096 && (e = readdir(d)) != NULL;) {
        long fd = strtol(e->d_name, NULL, 10);
        if (fd >= (long)from && fd <= (long)to && fd > 2 && fd != dirfd(d))
            fds[count++] = (int)fd;
    }
    (void)closedir(d);
    while (count > 0)
        (void)close(fds[--count]);
}

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Closes every descriptor from 3 on but these; sorts them. */
static void close_all_but(int *keep, size_t count)
{
    qsort(keep, count, sizeof *keep, compare_fds);
    unsigned from = 3;
    for (size_t i = 0; i < count; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            close_range_or_each(from, (unsigned)keep[i] - 1);
        from = (unsigned)keep[i] + 1;
    }
    close_range_or_each(from, ~0u >> 1);
}

static void inherit(int fd, bool yes)
{
    (void)fcntl(fd, F_SETFD, yes ? 0 : FD_CLOEXEC);
}

static void null_device_at(int fd)
{
    int null = open("/dev/null", O_RDWR);
    if (null >= 0 && null != fd) {
        (void)dup2(null, fd);
        (void)close(null);
    }
}

/* ---- a birth in a memfd: for what is started by exec ---- */

typedef struct birth_file {
    uint32_t magic, role, slot, generation;
    int32_t session, client_socket, requests, unused;
    uint64_t handle_count, record_size;
} birth_file; /* the handles' descriptors follow, as int, then the record at a multiple of 16 */

static size_t record_offset(size_t handle_count)
{
    return (sizeof(birth_file) + handle_count * sizeof(int32_t) + 15) / 16 * 16;
}

static bool write_all(int fd, const void *bytes, size_t size, off_t at)
{
    const char *p = bytes;
    while (size > 0) {
        ssize_t n = pwrite(fd, p, size, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* A memfd with a birth in it, or -1 with errno. */
static int birth_write(birth_file head, const int *handles, const void *record)
{
    int fd = TRY("memfd_create", -1, EMFILE, memfd_create("kin birth", MFD_CLOEXEC));
    if (fd < 0)
        return -1;
    head.magic = REQUEST_MAGIC;
    if (write_all(fd, &head, sizeof head, 0) && write_all(fd, handles, head.handle_count * sizeof(int32_t), sizeof head) &&
        write_all(fd, record, (size_t)head.record_size, (off_t)record_offset(head.handle_count)))
        return fd;
    int number = errno;
    (void)close(fd);
    errno = number;
    return -1;
}

static bool is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool birth_parse(const char *text, os_birth *birth)
{
    struct stat st;
    char *rest;
    long fd = strtol(text, &rest, 10);
    if (rest == text || *rest != 0 || fd < 3 || fd > INT32_MAX || fstat((int)fd, &st) != 0 || st.st_size < (off_t)sizeof(birth_file))
        return false;
    char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, (int)fd, 0);
    (void)close((int)fd);
    if (file == MAP_FAILED)
        return false;
    birth_file head;
    memcpy(&head, file, sizeof head);
    size_t left = (size_t)st.st_size - sizeof head;
    if (head.magic != REQUEST_MAGIC || head.handle_count > left / sizeof(int32_t) || record_offset(head.handle_count) > (size_t)st.st_size + 15 ||
        (head.record_size > 0 && head.record_size != (size_t)st.st_size - record_offset(head.handle_count)) || !is_socket(head.client_socket))
        return false;
    birth->role = head.role == OS_ROLE_SERVER ? OS_ROLE_SERVER : OS_ROLE_CHILD;
    birth->session = head.session;
    birth->slot = head.slot;
    birth->generation = head.generation;
    birth->record = file + record_offset(head.handle_count);
    birth->record_size = (size_t)head.record_size;
    birth->handle_count = (size_t)head.handle_count;
    birth->handles = calloc(head.handle_count + 1, sizeof *birth->handles);
    if (birth->handles == NULL)
        return false;
    for (size_t i = 0; i < head.handle_count; i++) {
        int32_t handle;
        memcpy(&handle, file + sizeof head + i * sizeof handle, sizeof handle);
        inherit(handle, false);
        birth->handles[i] = handle;
    }
    inherit(head.session, false);
    inherit(head.client_socket, false);
    client_socket = head.client_socket;
    if (birth->role == OS_ROLE_SERVER) {
        inherit(head.requests, false);
        server.requests = head.requests;
    }
    return true;
}

kin_err os_birth_read(os_birth *birth)
{
    *birth = (os_birth){.role = OS_ROLE_ROOT, .session = OS_NO_HANDLE};
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &none, (sigset_t *)(void *)signals_at_init.set);
    const char *text = getenv("KIN_BIRTH");
    if (text == NULL)
        return KIN_OK;
    bool good = birth_parse(text, birth);
    (void)unsetenv("KIN_BIRTH");
    if (!good)
        os_process_exit(255);
    return KIN_OK;
}

/* The environment with KIN_BIRTH=fd in it. The pointers are borrowed from `variables`. */
static char **with_birth(char **variables, char *text, size_t size, int fd)
{
    size_t count = 0;
    while (variables != NULL && variables[count] != NULL)
        count++;
    char **all = calloc(count + 2, sizeof *all);
    if (all == NULL)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(variables[i], "KIN_BIRTH=", 10) != 0)
            all[n++] = variables[i];
    }
    (void)snprintf(text, size, "KIN_BIRTH=%d", fd);
    all[n] = text;
    return all;
}

/* The program's arguments, as the kernel keeps them: an array and the text it points into, in one block. */
static char **original_arguments(void)
{
    size_t size = 0, space = 65536;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    char *text = malloc(space);
    while (fd >= 0 && text != NULL) {
        ssize_t n = read(fd, text + size, space - size - 1);
        if (n <= 0)
            break;
        size += (size_t)n;
        if (size + 1 == space) {
            char *more = realloc(text, space *= 2);
            if (more == NULL)
                break;
            text = more;
        }
    }
    if (fd >= 0)
        (void)close(fd);
    if (text == NULL)
        return NULL;
    text[size] = 0;
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += text[i] == 0;
    char **arguments = calloc(count + 2, sizeof *arguments);
    if (arguments == NULL)
        return NULL;
    char *at = text;
    for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
        arguments[i] = at;
    if (count == 0)
        arguments[0] = text;
    return arguments;
}

/* ---- the client's side: asking ---- */

static uint32_t current_umask(void)
{
    /* umask() cannot be read without changing it for every thread, so the kernel's own report is read. */
    static int status = -1;
    static pid_t owner;
    char text[256];
    pid_t self = getpid();
    if (__atomic_load_n(&owner, __ATOMIC_ACQUIRE) != self) {
        __atomic_store_n(&status, open("/proc/self/status", O_RDONLY | O_CLOEXEC), __ATOMIC_RELEASE);
        __atomic_store_n(&owner, self, __ATOMIC_RELEASE);
    }
    ssize_t n = pread(__atomic_load_n(&status, __ATOMIC_ACQUIRE), text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, "Umask:");
    return line != NULL ? (uint32_t)strtoul(line + 6, NULL, 8) : 022;
}

static size_t environment_size(void)
{
    size_t size = 0;
    for (char **v = environ; v != NULL && *v != NULL; v++)
        size += strlen(*v) + 1;
    return size;
}

/* Environment and record in one block. NULL: no memory. */
static char *make_body(const os_start *start, request *r, size_t *size)
{
    r->environment_size = (environment_size() + 15) / 16 * 16;
    r->record_size = start->record_size;
    *size = (size_t)r->environment_size + start->record_size;
    char *body = calloc(1, *size + 1), *at = body;
    if (body == NULL)
        return NULL;
    char *end = body + r->environment_size;
    for (char **v = environ; v != NULL && *v != NULL; v++) {
        size_t n = strlen(*v) + 1;
        if (n > (size_t)(end - at))
            break; /* it grew meanwhile */
        memcpy(at, *v, n);
        at += n;
    }
    memcpy(end, start->record, start->record_size);
    return body;
}

static ssize_t send_message(int to, const void *a, size_t a_size, const void *b, size_t b_size, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE((FDS_PER_MESSAGE + 8) * sizeof(int))];
    } control;
    struct iovec parts[2] = {{(void *)(uintptr_t)a, a_size}, {(void *)(uintptr_t)b, b_size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = b_size > 0 ? 2 : 1};
    if (count > 0) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    ssize_t n;
    do {
        n = TRY("sendmsg", -1, ENOBUFS, sendmsg(to, &message, MSG_NOSIGNAL));
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Sends what did not fit into the first message. That the receiver is gone is not our news to tell: its death is noticed. */
static kin_err send_rest(int relay, const os_start *start, size_t sent)
{
    while (sent < start->handle_count) {
        int fds[FDS_PER_MESSAGE];
        size_t n = start->handle_count - sent < FDS_PER_MESSAGE ? start->handle_count - sent : FDS_PER_MESSAGE;
        for (size_t i = 0; i < n; i++)
            fds[i] = (int)start->handles[sent + i];
        if (send_message(relay, "", 1, NULL, 0, fds, n) < 0)
            return errno == EPIPE || errno == ECONNRESET ? KIN_OK : kin__fail_errno("sendmsg", "cannot pass %zu handles", start->handle_count);
        sent += n;
    }
    return KIN_OK;
}

static int standard_or_null(int fd, int null)
{
    return fcntl(fd, F_GETFD) >= 0 ? fd : null;
}

static kin_err send_request(const os_start *start, request *r, const char *body, size_t body_size, int body_fd, int relay[2])
{
    int fds[FDS_PER_MESSAGE + 8], null = -1;
    size_t count = 0, sent = 0;
    int directory = TRY("open", -1, EMFILE, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (directory < 0)
        return kin__fail_errno("open", "cannot open the current directory");
    if (fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0)
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
    fds[count++] = directory;
    fds[count++] = standard_or_null(1, null);
    fds[count++] = standard_or_null(2, null);
    if (body_fd >= 0)
        fds[count++] = body_fd;
    if (relay[1] >= 0)
        fds[count++] = relay[1];
    for (; sent < start->handle_count && sent < FDS_PER_MESSAGE; sent++)
        fds[count++] = (int)start->handles[sent];
    ssize_t n = send_message(client_socket, r, sizeof *r, body, body_fd >= 0 ? 0 : body_size, fds, count);
    kin_err err = KIN_OK;
    if (n < 0) {
        err = kin__fail_errno("sendmsg", "cannot ask the fork server");
        if (err == KIN_EPIPE || errno == EBADF)
            err = kin__fail_in(KIN_ELOST, "the fork server is gone");
    }
    (void)close(directory);
    if (null >= 0)
        (void)close(null);
    if (relay[1] >= 0) {
        (void)close(relay[1]);
        relay[1] = -1;
    }
    return err == KIN_OK && relay[0] >= 0 ? send_rest(relay[0], start, sent) : err;
}

kin_err os_process_start(const os_start *start)
{
    request r = {.magic = REQUEST_MAGIC,
                 .slot = start->slot,
                 .generation = start->generation,
                 .method = (uint32_t)start->method,
                 .umask = current_umask(),
                 .daemon = start->daemon,
                 .handle_count = start->handle_count};
    int body_fd = -1, relay[2] = {-1, -1};
    size_t body_size;
    kin_err err = KIN_OK;
    char *body = make_body(start, &r, &body_size);
    if (body == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for the start record");
    if (body_size > INLINE_BODY) {
        body_fd = TRY("memfd_create", -1, EMFILE, memfd_create("kin record", MFD_CLOEXEC));
        if (body_fd < 0 || !write_all(body_fd, body, body_size, 0))
            err = kin__fail_errno("memfd_create", "cannot write a start record of %zu bytes", body_size);
        r.body_in_memfd = 1;
    }
    if (err == KIN_OK && start->handle_count > FDS_PER_MESSAGE) {
        if (TRY("socketpair", -1, EMFILE, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, relay)) != 0)
            err = kin__fail_errno("socketpair", "cannot pass %zu handles", start->handle_count);
        r.relayed = 1;
    }
    if (err == KIN_OK)
        err = send_request(start, &r, body, body_size, body_fd, relay);
    if (body_fd >= 0)
        (void)close(body_fd);
    if (relay[0] >= 0)
        (void)close(relay[0]);
    if (relay[1] >= 0)
        (void)close(relay[1]);
    free(body);
    return err;
}

/* ---- a spare becomes a child ---- */

static struct {
    request head;
    _Alignas(16) char body[INLINE_BODY];
} inbox;

typedef struct incoming {
    char *environment; /* NUL-terminated strings, then an empty one or the end */
    char *record;
    int fixed[FIXED_FDS];
    int *handles;
    size_t handle_count, handle_space;
} incoming;

/* Reads one message: how many bytes, or -1; its descriptors in fds. *lost: some did not arrive. */
static ssize_t receive_message(int from, void *a, size_t a_size, void *b, size_t b_size, int *fds, size_t *count, bool *lost, int flags)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE((FDS_PER_MESSAGE + 8) * sizeof(int))];
    } control;
    struct iovec parts[2] = {{a, a_size}, {b, b_size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = b_size > 0 ? 2 : 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n;
    do {
        n = recvmsg(from, &message, MSG_CMSG_CLOEXEC | flags);
    } while (n < 0 && errno == EINTR);
    *count = 0;
    *lost = (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
    for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds + *count, CMSG_DATA(c), got * sizeof(int));
        *count += got;
    }
    return n;
}

static void close_fds(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
}

static bool refuse(const request *r, kin_err err, const char *why)
{
    kin__refused(r->slot, r->generation, err, why);
    return false;
}

static bool receive_handles(const request *r, int relay, const int *first, size_t first_count, incoming *in)
{
    in->handles = calloc(r->handle_count + FDS_PER_MESSAGE + 8, sizeof *in->handles);
    if (in->handles == NULL)
        return refuse(r, KIN_ENOMEM, "the child has no memory for its handles");
    memcpy(in->handles, first, first_count * sizeof *first);
    in->handle_count = first_count;
    while (in->handle_count < r->handle_count) {
        char byte;
        bool lost;
        size_t count;
        if (relay < 0 || receive_message(relay, &byte, 1, NULL, 0, in->handles + in->handle_count, &count, &lost, 0) <= 0)
            return refuse(r, KIN_EPIPE, "the handles passed to the child did not arrive: the starter is gone");
        in->handle_count += count;
        if (lost || in->handle_count > r->handle_count)
            return refuse(r, KIN_EMFILE, "the child cannot take all the handles passed to it: too many open descriptors");
    }
    return true;
}

/* Takes a request that was claimed apart. False: it was refused. */
static bool unpack_request(const request *r, size_t size, int *fds, size_t count, bool lost, incoming *in)
{
    size_t fixed = (size_t)FIXED_FDS + (r->body_in_memfd != 0) + (r->relayed != 0);
    if (lost || count < fixed)
        return refuse(r, KIN_EMFILE, "the child cannot take what was passed to it: too many open descriptors");
    memcpy(in->fixed, fds, sizeof in->fixed);
    size_t next = FIXED_FDS, body_size = (size_t)(r->environment_size + r->record_size);
    in->environment = inbox.body;
    if (r->body_in_memfd != 0) {
        int fd = fds[next++];
        in->environment = body_size > 0 ? mmap(NULL, body_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) : inbox.body;
        (void)close(fd);
        if (in->environment == MAP_FAILED)
            return refuse(r, KIN_ENOMEM, "the child has no memory for its start record");
    } else if (size != sizeof *r + body_size) {
        return refuse(r, KIN_EPROTO, "the start record did not arrive whole");
    }
    in->record = in->environment + r->environment_size;
    int relay = r->relayed != 0 ? fds[next++] : -1;
    bool good = receive_handles(r, relay, fds + next, count - next, in);
    if (relay >= 0)
        (void)close(relay);
    return good;
}

static bool set_environment(incoming *in, size_t size)
{
    size_t count = 0;
    char *end = in->environment + size;
    for (char *at = in->environment; at < end && *at != 0; at += strlen(at) + 1)
        count++;
    char **variables = calloc(count + 1, sizeof *variables);
    if (variables == NULL)
        return false;
    char *at = in->environment;
    for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
        variables[i] = at;
    environ = variables;
    return true;
}

/* Forgets the signals that came for the spare, then lets the child have its own. */
static void unblock_signals(void)
{
    sigset_t pending, all;
    sigfillset(&all);
    struct timespec now = {0};
    while (sigpending(&pending) == 0 && !sigisemptyset(&pending) && sigtimedwait(&all, NULL, &now) > 0) {
    }
    kin__signals_restore(&signals_at_init);
}

static noreturn void run_as_copy(const request *r, incoming *in)
{
    os_birth birth = {.role = OS_ROLE_CHILD,
                      .session = server.session,
                      .slot = r->slot,
                      .generation = r->generation,
                      .record = in->record,
                      .record_size = (size_t)r->record_size,
                      .handle_count = in->handle_count};
    birth.handles = calloc(in->handle_count + 1, sizeof *birth.handles);
    if (birth.handles == NULL) {
        (void)refuse(r, KIN_ENOMEM, "the child has no memory for its handles");
        _exit(255);
    }
    for (size_t i = 0; i < in->handle_count; i++)
        birth.handles[i] = in->handles[i];
    free(in->handles);
    kin__child_main(&birth);
}

static noreturn void run_by_exec(const request *r, incoming *in)
{
    char variable[32];
    birth_file head = {.role = OS_ROLE_CHILD,
                       .slot = r->slot,
                       .generation = r->generation,
                       .session = server.session,
                       .client_socket = client_socket,
                       .handle_count = in->handle_count,
                       .record_size = r->record_size};
    int fd = birth_write(head, in->handles, in->record);
    char **arguments = original_arguments(), **variables = with_birth(environ, variable, sizeof variable, fd);
    if (fd >= 0 && arguments != NULL && variables != NULL) {
        for (size_t i = 0; i < in->handle_count; i++)
            inherit(in->handles[i], true);
        inherit(fd, true);
        inherit(server.session, true);
        inherit(client_socket, true);
        (void)TRY("fexecve", -1, ENOMEM, fexecve(server.executable, arguments, variables));
    }
    kin_err err = kin__fail_errno("fexecve", "the child cannot start the executable anew");
    (void)refuse(r, err, kin_last_error());
    _exit(255);
}

/* From here on this process is the child. */
static noreturn void become_child(const request *r, size_t size, int *fds, size_t count, bool lost)
{
    incoming in = {0};
    int self = (int)getpid();
    while (write(server.taken_write, &self, sizeof self) < 0 && errno == EINTR) {
    }
    if (!unpack_request(r, size, fds, count, lost, &in))
        _exit(255);
    if (r->daemon == 0)
        (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    (void)dup2(in.fixed[1], 1);
    (void)dup2(in.fixed[2], 2);
    (void)umask(r->umask);
    if (fchdir(in.fixed[0]) != 0) {
        kin_err err = kin__fail_errno("fchdir", "the child cannot enter the current directory");
        (void)refuse(r, err, kin_last_error());
        _exit(255);
    }
    if (!set_environment(&in, (size_t)r->environment_size)) {
        (void)refuse(r, KIN_ENOMEM, "the child has no memory for its environment");
        _exit(255);
    }
    int *keep = calloc(in.handle_count + 3, sizeof *keep);
    if (keep == NULL) {
        (void)refuse(r, KIN_ENOMEM, "the child has no memory");
        _exit(255);
    }
    memcpy(keep, in.handles, in.handle_count * sizeof *keep);
    keep[in.handle_count] = client_socket;
    keep[in.handle_count + 1] = server.session;
    keep[in.handle_count + 2] = r->method == KIN_START_SPAWN ? server.executable : client_socket;
    close_all_but(keep, in.handle_count + 3);
    free(keep);
    unblock_signals();
    if (r->method == KIN_START_SPAWN)
        run_by_exec(r, &in);
    run_as_copy(r, &in);
}

static noreturn void spare_main(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != server.pid)
        _exit(0);
    memset(&inbox, 0, sizeof inbox); /* pages that are touched now need not be copied when it matters */
    for (;;) {
        int fds[FDS_PER_MESSAGE + 8];
        size_t count;
        bool lost;
        ssize_t n = receive_message(server.requests, &inbox.head, sizeof inbox.head, inbox.body, sizeof inbox.body, fds, &count, &lost, 0);
        if (n <= 0)
            _exit(0);
        KIN_CRASH_POINT("spare.received");
        if ((size_t)n >= sizeof inbox.head && inbox.head.magic == REQUEST_MAGIC &&
            kin__claim(inbox.head.slot, inbox.head.generation, getpid(), os_process_birthday()))
            become_child(&inbox.head, (size_t)n, fds, count, lost);
        close_fds(fds, count); /* withdrawn, or claimed already */
    }
}

/* ---- the server ---- */

static bool forget_spare(pid_t pid)
{
    for (size_t i = 0; i < server.spare_count; i++) {
        if (server.spares[i] == pid) {
            server.spares[i] = server.spares[--server.spare_count];
            return true;
        }
    }
    return false;
}

/* Makes spares until there are enough; false if none could be made and there is none. */
static bool make_spares(void)
{
    while (server.spare_count < SPARES) {
        pid_t pid = own_fork();
        if (pid == 0)
            spare_main();
        if (pid < 0)
            break;
        server.spares[server.spare_count++] = pid;
    }
    return server.spare_count > 0;
}

/* There is no process to be had: tells one of those who ask. */
static void refuse_one(int number)
{
    int fds[FDS_PER_MESSAGE + 8];
    size_t count;
    bool lost;
    ssize_t n = receive_message(server.requests, &inbox.head, sizeof inbox.head, inbox.body, sizeof inbox.body, fds, &count, &lost, MSG_DONTWAIT);
    if (n < (ssize_t)sizeof inbox.head)
        return;
    close_fds(fds, count);
    errno = number;
    kin_err err = kin__fail_errno("fork", "no more processes");
    if (inbox.head.magic == REQUEST_MAGIC)
        kin__refused(inbox.head.slot, inbox.head.generation, err, kin_last_error());
}

static int status_of(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED ? info->si_status & 255 : -info->si_status;
}

/* Reaps whoever has ended. The session learns of it first, while the process id cannot be reused yet. */
static void reap(void)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return;
        kin__ended(info.si_pid, status_of(&info));
        if (forget_spare(info.si_pid))
            kin__request_lost();
        (void)waitpid(info.si_pid, NULL, 0);
    }
}

static void note_taken(void)
{
    int pids[64];
    ssize_t n = read(server.taken_read, pids, sizeof pids);
    for (ssize_t i = 0; i < n / (ssize_t)sizeof pids[0]; i++)
        (void)forget_spare(pids[i]);
}

static noreturn void end_server(void)
{
    for (size_t i = 0; i < server.spare_count; i++) {
        (void)kill(server.spares[i], SIGKILL);
        (void)waitpid(server.spares[i], NULL, 0);
    }
    _exit(0);
}

static noreturn void serve(int ends, int root, int64_t root_pid)
{
    struct pollfd p[4] = {{.fd = ends, .events = POLLIN},
                          {.fd = server.taken_read, .events = POLLIN},
                          {.fd = root, .events = POLLIN},
                          {.fd = server.requests}};
    bool root_gone = false;
    for (;;) {
        if (root_gone && kin__server_children() == 0)
            end_server();
        bool able = make_spares();
        int number = errno;
        p[3].events = able ? 0 : POLLIN;
        int n = poll(p, 4, able ? -1 : 1000);
        if (n < 0)
            continue;
        if (p[1].revents != 0)
            note_taken();
        if (p[0].revents != 0) {
            struct signalfd_siginfo info[8];
            while (read(ends, info, sizeof info) > 0) {
            }
            reap();
        }
        if (p[2].revents != 0) {
            root_gone = true;
            p[2].fd = -1;
            kin__ended(root_pid, OS_STATUS_UNKNOWN);
        }
        if ((p[3].revents & POLLHUP) != 0) { /* the root has said that it ends */
            root_gone = true;
            p[3].fd = -1;
        } else if (p[3].revents != 0) {
            refuse_one(number);
        }
    }
}

/* Becomes the server: lets go of everything, enters the session and says so over the socket. */
static noreturn void server_main(os_handle session, uint32_t slot, uint32_t generation)
{
    kin__signals before;
    kin__signals_block(&before);
    for (int fd = 0; fd < 3; fd++)
        null_device_at(fd);
    int keep[] = {server.requests, client_socket, server.session};
    close_all_but(keep, sizeof keep / sizeof keep[0]);
    (void)prctl(PR_SET_NAME, "kin server", 0, 0, 0);

    int taken[2], ends, root;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    server.pid = getpid();
    server.executable = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct sigaction standard = {.sa_handler = SIG_DFL}; /* a program that ignores SIGCHLD would have its children reaped by the kernel */
    if (sigaction(SIGCHLD, &standard, NULL) != 0 || pipe2(taken, O_CLOEXEC) != 0 || (ends = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
        kin__server_begin(session, slot, generation) != KIN_OK)
        _exit(1);
    server.taken_read = taken[0];
    server.taken_write = taken[1];
    uint64_t birthday;
    int64_t root_pid = kin__root_pid(&birthday);
    os_handle process = OS_NO_HANDLE;
    if (root_pid != 0 && os_process_open(root_pid, birthday, &process) == KIN_ENOENT)
        kin__ended(root_pid, OS_STATUS_UNKNOWN);
    root = (int)process;
    if (!make_spares() || send(server.requests, "", 1, MSG_NOSIGNAL) != 1)
        _exit(1);
    serve(ends, root, root_pid);
}

void os_starter_run(const os_birth *birth)
{
    server.session = (int)birth->session;
    pid_t pid = own_fork(); /* so that it is nobody's child: the program's wait() must not find it */
    if (pid != 0)
        _exit(pid < 0 ? 1 : 0);
    server_main(birth->session, birth->slot, birth->generation);
}

/* ---- making a server ---- */

static bool has_one_thread(void)
{
    DIR *d = opendir("/proc/self/task");
    int count = 0;
    if (d == NULL)
        return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.';
    (void)closedir(d);
    return count == 1;
}

/* A copy that sends no signal when it ends, so that it is no child for the program's wait() and SIGCHLD handler, but can be waited for with
 * __WCLONE: no zombie is left at a clean end. Made by the bare system call, it has the thread id of its original in the C library's eyes; that
 * matters to nothing the server does, and the children it makes by fork() have their own. */
static pid_t quiet_fork(void)
{
    return (pid_t)TRY("clone", -1, EAGAIN, syscall(SYS_clone, 0, NULL, NULL, NULL, NULL));
}

static pid_t start_by_copy(const int ends[2])
{
    pid_t pid = quiet_fork();
    if (pid != 0)
        return pid;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    client_socket = ends[0];
    server.requests = ends[1];
    server_main(OS_NO_HANDLE, 0, 0);
}

static pid_t start_anew(os_handle session, const int ends[2])
{
    char variable[32];
    uint32_t slot, generation;
    kin__my_place(&slot, &generation);
    birth_file head = {.role = OS_ROLE_SERVER,
                       .slot = slot,
                       .generation = generation,
                       .session = (int32_t)session,
                       .client_socket = ends[0],
                       .requests = ends[1]};
    int fd = birth_write(head, NULL, "");
    char **arguments = original_arguments(), **variables = with_birth(environ, variable, sizeof variable, fd);
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int pass[] = {fd, (int)session, ends[0], ends[1]};
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++)
        posix_spawn_file_actions_adddup2(&actions, pass[i], pass[i]); /* onto itself: only clears close-on-exec */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, (const sigset_t *)(const void *)signals_at_init.set);
    if (fd >= 0 && arguments != NULL && variables != NULL) {
        errno = TRY("posix_spawn", EAGAIN, EAGAIN, posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, arguments, variables));
        if (errno != 0)
            pid = -1;
    }
    int number = errno;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (fd >= 0)
        (void)close(fd);
    if (arguments != NULL)
        free(arguments[0]);
    free(arguments);
    free(variables);
    errno = number;
    return pid;
}

/* Waits for the server's first word. */
static bool answered(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;
    int n;
    do {
        n = poll(&p, 1, SERVER_WAIT_MS);
    } while (n < 0 && errno == EINTR);
    return n == 1 && recv(fd, &byte, 1, 0) == 1;
}

kin_err os_starter_create(os_handle session, bool pristine)
{
    int ends[2];
    if (TRY("socketpair", -1, EMFILE, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) != 0)
        return kin__fail_errno("socketpair", "cannot make a fork server");
    server.session = (int)session;
    bool copy = pristine && has_one_thread();
    pid_t pid = copy ? start_by_copy(ends) : start_anew(session, ends);
    kin_err err = KIN_OK;
    if (pid < 0)
        err = kin__fail_errno("clone", "cannot make a fork server");
    (void)close(ends[1]);
    while (err == KIN_OK && !copy && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    if (copy)
        server.pid = pid;
    if (err == KIN_OK && !answered(ends[0]))
        err = kin__fail(KIN_ELOST, "the fork server did not come up");
    if (err == KIN_OK && client_socket >= 0) {
        /* In place of the dead one's, so that no thread that is just using that descriptor meets another file. */
        if (dup3(ends[0], client_socket, O_CLOEXEC) < 0)
            err = kin__fail_errno("dup3", "cannot make a fork server");
        (void)close(ends[0]);
    } else if (err == KIN_OK) {
        client_socket = ends[0];
    } else {
        (void)close(ends[0]);
    }
    return err;
}

void os_starter_end(void)
{
    if (server.pid <= 0 || client_socket < 0)
        return;
    (void)shutdown(client_socket, SHUT_RDWR);
    while (waitpid(server.pid, NULL, (int)__WCLONE) < 0 && errno == EINTR) {
    }
    server.pid = 0;
}
