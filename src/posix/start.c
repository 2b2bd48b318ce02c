/* How a process asks for children on Linux, and how one that was started by exec learns what it is.
 *
 * A request is one message to the fork server's socket (server.c), with the current directory, standard output and
 * error and the passed handles as descriptors; what does not fit goes through a memfd or a socket of its own. What
 * is started by exec, a child under spawn or a server that replaces a dead one, finds its birth in a memfd whose
 * number stands in KIN_BIRTH. */
#include "server.h"

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

#define END_WAIT_MS 2000          /* for the server to end with its spares */
#define SERVER_WAIT_MS 30000      /* a new server that does not answer for so long is given up  */

int kin__client_socket = -1;
kin__signals kin__signals_at_init;

static int requests_of_server = -1;  /* in a server that was started by exec: the socket's other end */
static struct stat client_stat;      /* what kin__client_socket is, to know it from a file the program opened in its place */
static uint64_t ignored_at_init;     /* signals: a bit each */
static pid_t server_pid;             /* in the root, while its first server lives                      */

/* ---- small things ---- */

pid_t kin__fork(void)
{
    kin__own_fork = true;
    pid_t pid = TRY("fork", -1, EAGAIN, fork());
    kin__own_fork = false;
    return pid;
}

void kin__inherit(int fd, bool yes)
{
    (void)fcntl(fd, F_SETFD, yes ? 0 : FD_CLOEXEC);
}

/* ---- a birth in a memfd: for what is started by exec ---- */

static size_t record_offset(size_t handle_count)
{
    return (sizeof(kin__birth_file) + handle_count * sizeof(int32_t) + 15) / 16 * 16;
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
int kin__birth_write(kin__birth_file head, const int *handles, const void *record)
{
    int fd = TRY("memfd_create", -1, EMFILE, kin__above_streams(memfd_create("kin birth", MFD_CLOEXEC)));
    if (fd < 0)
        return -1;
    head.magic = KIN__REQUEST_MAGIC;
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

/* Whether the program has left our descriptor alone. */
static bool socket_is_ours(void)
{
    struct stat st;
    return kin__client_socket >= 0 && fstat(kin__client_socket, &st) == 0 && st.st_ino == client_stat.st_ino && st.st_dev == client_stat.st_dev;
}

static bool birth_parse(const char *text, os_birth *birth)
{
    struct stat st;
    char *rest;
    long fd = strtol(text, &rest, 10);
    if (rest == text || *rest != 0 || fd < 3 || fd > INT32_MAX || fstat((int)fd, &st) != 0 || st.st_size < (off_t)sizeof(kin__birth_file))
        return false;
    char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, (int)fd, 0);
    (void)close((int)fd);
    if (file == MAP_FAILED)
        return false;
    kin__birth_file head;
    memcpy(&head, file, sizeof head);
    size_t left = (size_t)st.st_size - sizeof head;
    if (head.magic != KIN__REQUEST_MAGIC || head.handle_count > left / sizeof(int32_t) || record_offset(head.handle_count) > (size_t)st.st_size + 15 ||
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
        kin__inherit(handle, false);
        birth->handles[i] = handle;
    }
    kin__inherit(head.session, false);
    kin__inherit(head.client_socket, false);
    kin__client_socket = head.client_socket;
    (void)fstat(kin__client_socket, &client_stat);
    if (birth->role == OS_ROLE_SERVER) {
        kin__inherit(head.requests, false);
        requests_of_server = head.requests;
    }
    return true;
}

kin_err os_birth_read(os_birth *birth)
{
    *birth = (os_birth){.role = OS_ROLE_ROOT, .session = OS_NO_HANDLE};
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_BLOCK, &none, (sigset_t *)(void *)kin__signals_at_init.set);
    for (int i = 1; i < 64; i++) {
        struct sigaction action;
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            ignored_at_init |= (uint64_t)1 << i;
    }
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
char **kin__with_birth(char **variables, char *text, size_t size, int fd)
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
char **kin__original_arguments(void)
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

/* umask() cannot be read without changing it for every thread, so the kernel's own report is read; and each time,
 * since a descriptor that was kept might be closed by the program. */
static kin_err current_umask(uint32_t *mask)
{
    char text[256];
    int fd = TRY("open", -1, EMFILE, open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, "Umask:");
    kin_err err = line != NULL ? KIN_OK : kin__fail_errno("open", "cannot read the umask from /proc/self/status");
    if (line != NULL)
        *mask = (uint32_t)strtoul(line + 6, NULL, 8);
    if (fd >= 0)
        (void)close(fd);
    return err;
}

static size_t environment_size(void)
{
    size_t size = 0;
    for (char **v = environ; v != NULL && *v != NULL; v++)
        size += strlen(*v) + 1;
    return size;
}

/* Environment and record in one block. NULL: no memory. */
static char *make_body(const os_start *start, kin__request *r, size_t *size)
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
        char space[CMSG_SPACE((KIN__FDS_PER_MESSAGE + 8) * sizeof(int))];
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

/* Sends what did not fit into the first message. That the receiver is gone is not our news to tell: its death is
 * noticed. */
static kin_err send_rest(int relay, const os_start *start, size_t sent)
{
    while (sent < start->handle_count) {
        int fds[KIN__FDS_PER_MESSAGE];
        size_t n = start->handle_count - sent < KIN__FDS_PER_MESSAGE ? start->handle_count - sent : KIN__FDS_PER_MESSAGE;
        for (size_t i = 0; i < n; i++)
            fds[i] = (int)start->handles[sent + i];
        if (send_message(relay, "", 1, NULL, 0, fds, n) < 0)
            return errno == EPIPE || errno == ECONNRESET ? KIN_OK : kin__fail_errno("sendmsg", "cannot pass %zu handles", start->handle_count);
        sent += n;
    }
    return KIN_OK;
}

/* A standard stream that is closed is the null device to the child. Its number may belong to another file meanwhile,
 * even to one of kin's (shared memory, the directory opened below): those are close-on-exec, and no child is to
 * write into them. */
static int standard_or_null(int fd, int *null)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
        return fd;
    if (*null < 0)
        *null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return *null;
}

static kin_err send_request(const os_start *start, kin__request *r, const char *body, size_t body_size, int body_fd, int relay[2])
{
    int fds[KIN__FDS_PER_MESSAGE + 8], null = -1;
    size_t count = 0, sent = 0;
    if (!socket_is_ours())
        return kin__fail(KIN_ELOST, "the way to the fork server is gone: was a descriptor closed that is not the program's?");
    int directory = TRY("open", -1, EMFILE, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (directory < 0)
        return kin__fail_errno("open", "cannot open the current directory");
    fds[count++] = directory;
    fds[count++] = standard_or_null(1, &null);
    fds[count++] = standard_or_null(2, &null);
    if (body_fd >= 0)
        fds[count++] = body_fd;
    if (relay[1] >= 0)
        fds[count++] = relay[1];
    for (; sent < start->handle_count && sent < KIN__FDS_PER_MESSAGE; sent++)
        fds[count++] = (int)start->handles[sent];
    ssize_t n = send_message(kin__client_socket, r, sizeof *r, body, body_fd >= 0 ? 0 : body_size, fds, count);
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

/* Without it no end of a process would ever be seen, and whoever waits for one would for ever. */
static kin_err need_pidfd(void)
{
    static int seen;
    if (__atomic_load_n(&seen, __ATOMIC_RELAXED) != 0)
        return KIN_OK;
    int fd = TRY("pidfd_open", -1, ENOSYS, kin__pidfd_open(getpid()));
    if (fd < 0) {
        bool unknown = errno == ENOSYS || errno == EPERM;
        kin_err err = kin__fail_errno("pidfd_open", "cannot learn when processes end");
        return unknown ? kin__fail_in(KIN_ENOTSUP, "kin needs Linux 5.3 or newer, and no filter of system calls") : err;
    }
    (void)close(fd);
    __atomic_store_n(&seen, 1, __ATOMIC_RELAXED);
    return KIN_OK;
}

kin_err os_process_start(const os_start *start)
{
    kin__request r = {.magic = KIN__REQUEST_MAGIC,
                 .slot = start->slot,
                 .generation = start->generation,
                 .method = (uint32_t)start->method,
                 .daemon = start->daemon,
                 .handle_count = start->handle_count};
    int body_fd = -1, relay[2] = {-1, -1};
    size_t body_size;
    kin_err err = need_pidfd();
    if (err == KIN_OK)
        err = current_umask(&r.umask);
    if (err != KIN_OK)
        return err;
    char *body = make_body(start, &r, &body_size);
    if (body == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for the start record");
    if (body_size > KIN__INLINE_BODY) {
        body_fd = TRY("memfd_create", -1, EMFILE, kin__above_streams(memfd_create("kin record", MFD_CLOEXEC)));
        if (body_fd < 0 || !write_all(body_fd, body, body_size, 0))
            err = kin__fail_errno("memfd_create", "cannot write a start record of %zu bytes", body_size);
        r.body_in_memfd = 1;
    }
    if (err == KIN_OK && start->handle_count > KIN__FDS_PER_MESSAGE) {
        if (TRY("socketpair", -1, EMFILE, kin__socket_pair(relay)) != 0)
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

/* ---- making a server ---- */

void os_starter_run(const os_birth *birth)
{
    pid_t pid = kin__fork(); /* so that it is nobody's child: the program's wait() must not find it */
    if (pid != 0)
        _exit(pid < 0 ? 1 : 0);
    kin__server_run(requests_of_server, birth->session, birth->session, birth->slot, birth->generation);
}

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

/* A copy that sends no signal when it ends, so that it is no child for the program's wait() and SIGCHLD handler, but
 * can be waited for with __WCLONE: no zombie is left at a clean end. Made by the bare system call, it has the thread
 * id of its original in the C library's eyes; that matters to nothing the server does, and the children it makes by
 * fork() have their own. */
static pid_t quiet_fork(void)
{
    return (pid_t)TRY("clone", -1, EAGAIN, syscall(SYS_clone, 0, NULL, NULL, NULL, NULL));
}

/* Where that is not to be had (emulators know only fork), a copy of a copy, which is nobody's child either. 0: this
 * is it. */
static pid_t orphan_fork(void)
{
    pid_t pid = kin__fork();
    if (pid == 0 && (pid = kin__fork()) != 0)
        _exit(pid < 0 ? 1 : 0);
    return pid;
}

/* *waited: the copy must be waited for at once, and is not the server itself. */
static pid_t start_by_copy(os_handle session, const int ends[2], bool *waited)
{
    pid_t pid = quiet_fork();
    *waited = pid < 0 && errno == EINVAL;
    if (*waited)
        pid = orphan_fork();
    if (pid != 0)
        return pid;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    kin__client_socket = ends[0];
    (void)fstat(ends[0], &client_stat);
    kin__server_run(ends[1], session, OS_NO_HANDLE, 0, 0);
}

static pid_t start_anew(os_handle session, const int ends[2])
{
    char variable[32];
    uint32_t slot, generation;
    kin__my_place(&slot, &generation);
    kin__birth_file head = {.role = OS_ROLE_SERVER,
                       .slot = slot,
                       .generation = generation,
                       .session = (int32_t)session,
                       .client_socket = ends[0],
                       .requests = ends[1]};
    int fd = kin__birth_write(head, NULL, "");
    char **arguments = kin__original_arguments(), **variables = kin__with_birth(environ, variable, sizeof variable, fd);
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int pass[] = {fd, (int)session, ends[0], ends[1]};
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++)
        posix_spawn_file_actions_adddup2(&actions, pass[i], pass[i]); /* onto itself: only clears close-on-exec */
    sigset_t heeded; /* what the program ignores since then, its children do not */
    sigemptyset(&heeded);
    for (int i = 1; i < 64; i++) {
        if ((ignored_at_init >> i & 1) == 0)
            (void)sigaddset(&heeded, i);
    }
    posix_spawnattr_setsigdefault(&attributes, &heeded);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, (const sigset_t *)(const void *)kin__signals_at_init.set);
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

/* Makes a server in one of the two ways and waits for its first word. */
static kin_err make_server(os_handle session, bool copy, int *socket)
{
    int ends[2], status = 0;
    if (TRY("socketpair", -1, EMFILE, kin__socket_pair(ends)) != 0)
        return kin__fail_errno("socketpair", "cannot make a fork server");
    bool waited = !copy;
    pid_t pid = copy ? start_by_copy(session, ends, &waited) : start_anew(session, ends);
    kin_err err = pid < 0 ? kin__fail_errno(copy ? "clone" : "posix_spawn", "cannot make a fork server") : KIN_OK;
    (void)close(ends[1]);
    while (err == KIN_OK && waited && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (err == KIN_OK && !answered(ends[0]))
        err = kin__fail(KIN_ELOST, "the fork server did not come up");
    if (err != KIN_OK) {
        (void)shutdown(ends[0], SHUT_RDWR); /* if it comes up too late, it ends */
        (void)close(ends[0]);
        return err;
    }
    if (!waited)
        server_pid = pid;
    *socket = ends[0];
    return KIN_OK;
}

kin_err os_starter_create(os_handle session, bool pristine)
{
    int fd;
    bool copy = pristine && has_one_thread();
    kin_err err = make_server(session, copy, &fd);
    if (err != KIN_OK && pristine && !copy) /* the executable cannot be started anew, as under an emulator: a copy is what is left */
        err = make_server(session, true, &fd);
    if (err != KIN_OK)
        return err;
    if (!socket_is_ours()) {
        (void)fstat(fd, &client_stat);
        __atomic_store_n(&kin__client_socket, fd, __ATOMIC_SEQ_CST);
        return KIN_OK;
    }
    /* In place of the dead one's, so that no thread that is just using that descriptor meets another file. */
    if (TRY("dup3", -1, EMFILE, dup3(fd, kin__client_socket, O_CLOEXEC)) < 0)
        err = kin__fail_errno("dup3", "cannot make a fork server");
    if (err != KIN_OK)
        (void)shutdown(fd, SHUT_RDWR); /* it ends again */
    (void)fstat(kin__client_socket, &client_stat);
    (void)close(fd);
    return err;
}

void os_starter_end(void)
{
    if (server_pid <= 0)
        return;
    /* It is asked to end, so that it can reap its spares; and is not waited for without end. */
    struct pollfd p = {.fd = kin__pidfd_open(server_pid), .events = POLLIN};
    bool asked = socket_is_ours() && shutdown(kin__client_socket, SHUT_RDWR) == 0 && p.fd >= 0 && poll(&p, 1, END_WAIT_MS) == 1;
    if (p.fd >= 0)
        (void)close(p.fd);
    if (asked || kill(server_pid, SIGKILL) == 0) {
        while (waitpid(server_pid, NULL, (int)__WCLONE) < 0 && errno == EINTR) {
        }
    }
    server_pid = 0;
}

kin_err os_starter_nudge(os_handle server)
{
    if (TRY("pidfd_send_signal", -1, EPERM, (int)syscall(SYS_pidfd_send_signal, (int)server, SIGCHLD, NULL, 0)) == 0)
        return KIN_OK;
    return kin__fail_errno("pidfd_send_signal", "cannot signal the fork server");
}
