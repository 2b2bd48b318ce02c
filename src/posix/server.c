/* The fork server and its spares: where children come from on Linux.
 *
 * The server is a copy of the program as it was in kin_init: one thread, nothing open but a socket. It keeps a few
 * spares: copies of itself that wait for a request on that socket. A start is one message; whichever spare receives
 * it becomes the child, so that neither fork nor the server stands between the request and the child, and the server
 * makes the next spare meanwhile. The server is the parent of them all: it reaps them and writes what became of them
 * into the session.
 *
 * Who may die where: a request lies in the socket until a spare takes it. A spare that dies with a request it has
 * not claimed in the session takes it along: the server then has all who wait ask again. A request that comes twice
 * is claimed once. If the server dies, its spares and its daemons die with it, senders see the end of the socket,
 * and the next start makes a new server by starting the executable anew.
 *
 * It must never wait for a client, have a thread, or hold anything of the program's. */
#include "server.h"

#include "../atomic.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
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

#define SPARES 2u       /* that wait, when nothing happens                        */
#define SPARES_MOST 16u /* entries: some may be stopped, or have become children */

/* A spare: its pid while the server has not seen it become a child or end, and whether it has become one. */
struct spare {
    int32_t pid;
    uint32_t taken;
};

static struct {
    int requests;      /* the other end of kin__client_socket */
    int wanted_read;   /* a spare that becomes a child and leaves none behind says so here */
    int wanted_write;
    int executable;    /* for spawn */
    int session;
    pid_t pid;
    struct spare *spares; /* shared between the server and its spares */
    struct spare *mine;   /* in a spare: its own entry                */
    struct sigaction sigchld; /* the program's */
} server;

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

/* Closes every descriptor from 3 on but these; sorts them. */
static void close_all_but(int *keep, size_t count)
{
    for (size_t i = 1; i < count; i++) { /* nearly sorted: the kernel numbers upwards. qsort would allocate */
        int fd = keep[i];
        size_t j = i;
        for (; j > 0 && keep[j - 1] > fd; j--)
            keep[j] = keep[j - 1];
        keep[j] = fd;
    }
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

static void null_device_at(int fd)
{
    int null = open("/dev/null", O_RDWR);
    if (null >= 0 && null != fd) {
        (void)dup2(null, fd);
        (void)close(null);
    }
}

/* ---- a spare becomes a child ---- */

static struct {
    kin__request head;
    _Alignas(16) char body[KIN__INLINE_BODY];
} inbox;

typedef struct incoming {
    char *environment; /* NUL-terminated strings, then an empty one or the end */
    char *record;
    int fixed[KIN__FIXED_FDS];
    int *handles;
    size_t handle_count, handle_space;
} incoming;

/* Reads one message: how many bytes, or -1; its descriptors in fds. *lost: some did not arrive. */
static ssize_t receive_message(int from, void *a, size_t a_size, void *b, size_t b_size, int *fds, size_t *count, bool *lost, int flags,
                               struct ucred *sender)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE((KIN__FDS_PER_MESSAGE + 8) * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
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
        if (sender != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(sender, CMSG_DATA(c), sizeof *sender);
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

static bool refuse(const kin__request *r, kin_err err, const char *why)
{
    kin__refused(r->slot, r->generation, err, why);
    return false;
}

static bool receive_handles(const kin__request *r, int relay, const int *first, size_t first_count, incoming *in)
{
    static int few[KIN__FDS_PER_MESSAGE + 8];
    bool is_few = r->handle_count <= KIN__FDS_PER_MESSAGE;
    in->handles = is_few ? few : r->handle_count > 1u << 24 ? NULL : calloc(r->handle_count + KIN__FDS_PER_MESSAGE + 8, sizeof *in->handles);
    if (in->handles == NULL)
        return refuse(r, KIN_ENOMEM, "the child has no memory for its handles");
    if (r->handle_count > 256)
        (void)kin__more_descriptors(r->handle_count); /* before they come: those that find no room are lost */
    memcpy(in->handles, first, first_count * sizeof *first);
    in->handle_count = first_count;
    while (in->handle_count < r->handle_count) {
        char byte;
        bool lost;
        size_t count;
        if (relay < 0 || receive_message(relay, &byte, 1, NULL, 0, in->handles + in->handle_count, &count, &lost, 0, NULL) <= 0)
            return refuse(r, KIN_EPIPE, "the handles passed to the child did not arrive: the starter is gone");
        in->handle_count += count;
        if (lost || in->handle_count > r->handle_count)
            return refuse(r, KIN_EMFILE, "the child cannot take all the handles passed to it: too many open descriptors");
    }
    return true;
}

/* Takes a request that was claimed apart. False: it was refused. */
static bool unpack_request(const kin__request *r, size_t size, int *fds, size_t count, bool lost, incoming *in)
{
    size_t fixed = (size_t)KIN__FIXED_FDS + (r->body_in_memfd != 0) + (r->relayed != 0);
    if (lost || count < fixed)
        return refuse(r, KIN_EMFILE, "the child cannot take what was passed to it: too many open descriptors");
    memcpy(in->fixed, fds, sizeof in->fixed);
    size_t next = KIN__FIXED_FDS, body_size = (size_t)(r->environment_size + r->record_size);
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
    static char *few[128];
    char **variables = count < 128 ? few : calloc(count + 1, sizeof *variables);
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
    kin__signals_restore(&kin__signals_at_init);
}

static _Noreturn void run_as_copy(const kin__request *r, incoming *in)
{
    os_birth birth = {.role = OS_ROLE_CHILD,
                      .session = server.session,
                      .slot = r->slot,
                      .generation = r->generation,
                      .record = in->record,
                      .record_size = (size_t)r->record_size,
                      .handle_count = in->handle_count};
    static os_handle few[16];
    birth.handles = in->handle_count <= 16 ? few : calloc(in->handle_count, sizeof *birth.handles);
    if (birth.handles == NULL) {
        (void)refuse(r, KIN_ENOMEM, "the child has no memory for its handles");
        _exit(255);
    }
    for (size_t i = 0; i < in->handle_count; i++)
        birth.handles[i] = in->handles[i];
    kin__child_main(&birth);
}

static _Noreturn void run_by_exec(const kin__request *r, incoming *in)
{
    char variable[32];
    kin__birth_file head = {.role = OS_ROLE_CHILD,
                       .slot = r->slot,
                       .generation = r->generation,
                       .session = server.session,
                       .client_socket = kin__client_socket,
                       .handle_count = in->handle_count,
                       .record_size = r->record_size};
    int fd = kin__birth_write(head, in->handles, in->record);
    char **arguments = kin__original_arguments(), **variables = kin__with_birth(environ, variable, sizeof variable, fd);
    if (fd >= 0 && arguments != NULL && variables != NULL) {
        for (size_t i = 0; i < in->handle_count; i++)
            kin__inherit(in->handles[i], true);
        kin__inherit(fd, true);
        kin__inherit(server.session, true);
        kin__inherit(kin__client_socket, true);
        (void)TRY("fexecve", -1, ENOMEM, fexecve(server.executable, arguments, variables));
    }
    kin_err err = kin__fail_errno("fexecve", "the child cannot start the executable anew");
    (void)refuse(r, err, kin_last_error());
    _exit(255);
}

static uint32_t idle_spares(void)
{
    uint32_t count = 0;
    for (size_t i = 0; i < SPARES_MOST; i++)
        count += server.spares[i].pid != 0 && kin__load32(&server.spares[i].taken) == 0;
    return count;
}

static bool write_byte(int fd)
{
    while (write(fd, "", 1) < 0) {
        if (errno != EINTR)
            return false;
    }
    return true;
}

/* From here on this process is the child. */
static _Noreturn void become_child(const kin__request *r, size_t size, int *fds, size_t count, bool lost, const struct ucred *sender)
{
    incoming in = {0};
    kin__store32(&server.mine->taken, 1);
    if (idle_spares() == 0) /* else the server makes another when it is awake anyway, to reap: it need not wake up for this */
        (void)write_byte(server.wanted_write);
    /* The kernel says who sent it: a program that has given up its rights must not get them back through its children. */
    if (sender->uid != getuid() || sender->gid != getgid()) {
        (void)refuse(r, KIN_EPERM, "the program runs as another user than when it called kin_init: change the user first");
        _exit(255);
    }
    if (!unpack_request(r, size, fds, count, lost, &in))
        _exit(255);
    if (server.sigchld.sa_handler != SIG_DFL)
        (void)sigaction(SIGCHLD, &server.sigchld, NULL);
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
    static int few[16 + 3];
    int *keep = in.handle_count <= 16 ? few : calloc(in.handle_count + 3, sizeof *keep);
    if (keep == NULL) {
        (void)refuse(r, KIN_ENOMEM, "the child has no memory");
        _exit(255);
    }
    memcpy(keep, in.handles, in.handle_count * sizeof *keep);
    keep[in.handle_count] = kin__client_socket;
    keep[in.handle_count + 1] = server.session;
    keep[in.handle_count + 2] = r->method == KIN_START_SPAWN ? server.executable : kin__client_socket;
    close_all_but(keep, in.handle_count + 3);
    if (keep != few)
        free(keep);
    unblock_signals();
    if (r->method == KIN_START_SPAWN)
        run_by_exec(r, &in);
    run_as_copy(r, &in);
}

/* Touches what a child needs between the request and its target, so that the faults (a copy after a fork has few
 * pages of its own) are taken while nobody waits. Everything here may fail: it only would be slower. */
static void rehearse(void)
{
    volatile char stack[12288];
    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 1;
    memset(&inbox, 0, 4096);
    kin__rehearse();
    free(calloc(1, 256));
    sigset_t pending;
    (void)sigpending(&pending);
    (void)umask(022); /* the request brings the true one */
    (void)dup2(2, 2);
    (void)os_process_birthday();
    (void)*(volatile const char *)(uintptr_t)exit;
    (void)*(volatile const char *)(uintptr_t)fchdir;
    (void)*(volatile const char *)(uintptr_t)sigtimedwait;
    (void)*(volatile const char *)(uintptr_t)pthread_sigmask;
    (void)*(volatile const char *)(uintptr_t)prctl;
}

static _Noreturn void spare_main(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != server.pid)
        _exit(0);
    rehearse();
    for (;;) {
        int fds[KIN__FDS_PER_MESSAGE + 8];
        size_t count;
        bool lost;
        struct ucred sender = {.uid = (uid_t)-1};
        ssize_t n = receive_message(server.requests, &inbox.head, sizeof inbox.head, inbox.body, sizeof inbox.body, fds, &count, &lost, 0, &sender);
        if (n <= 0)
            _exit(0);
        KIN_CRASH_POINT("spare.received");
        if ((size_t)n >= sizeof inbox.head && inbox.head.magic == KIN__REQUEST_MAGIC &&
            kin__claim(inbox.head.slot, inbox.head.generation, getpid(), os_process_birthday()))
            become_child(&inbox.head, (size_t)n, fds, count, lost, &sender);
        close_fds(fds, count); /* withdrawn, or claimed already */
    }
}

/* ---- the server ---- */

/* A process has ended: whether it was a spare that had not become a child. */
static bool was_idle_spare(pid_t pid)
{
    for (size_t i = 0; i < SPARES_MOST; i++) {
        if (server.spares[i].pid == pid) {
            server.spares[i].pid = 0;
            return kin__load32(&server.spares[i].taken) == 0;
        }
    }
    return false;
}

/* Makes a spare; false if there is no process to be had. */
static bool make_spare(void)
{
    for (size_t i = 0; i < SPARES_MOST; i++) {
        struct spare *spare = &server.spares[i];
        if (spare->pid != 0 && kin__load32(&spare->taken) == 0)
            continue;
        kin__store32(&spare->taken, 0);
        server.mine = spare;
        pid_t pid = kin__fork();
        if (pid == 0)
            spare_main();
        spare->pid = pid > 0 ? pid : 0;
        return pid > 0;
    }
    /* All are idle, and still there is work: they are stopped. One that had a request in hand is asked for it again. */
    (void)kill(server.spares[0].pid, SIGKILL);
    return true;
}

/* Makes spares until there are enough; false if there is none and none could be made. (One that is made may be taken
 * at once: then it has asked for another, and the next round comes without delay.) */
static bool make_spares(void)
{
    for (uint32_t idle = idle_spares(); idle < SPARES; idle++) {
        if (!make_spare())
            return idle_spares() > 0;
    }
    return true;
}

/* A client waits too long for its taste: if there is a request that the spares, for whatever reason, do not take,
 * makes one more. */
static void help_spares(void)
{
    struct pollfd p = {.fd = server.requests, .events = POLLIN};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0)
        (void)make_spare();
}

/* There is no process to be had: tells one of those who ask. */
static void refuse_one(int number)
{
    int fds[KIN__FDS_PER_MESSAGE + 8];
    size_t count;
    bool lost;
    ssize_t n = receive_message(server.requests, &inbox.head, sizeof inbox.head, inbox.body, sizeof inbox.body, fds, &count, &lost, MSG_DONTWAIT, NULL);
    if (n < (ssize_t)sizeof inbox.head)
        return;
    close_fds(fds, count);
    errno = number;
    kin_err err = kin__fail_errno("fork", "no more processes");
    if (inbox.head.magic == KIN__REQUEST_MAGIC)
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
        kin__child_ended(info.si_pid, status_of(&info));
        if (was_idle_spare(info.si_pid))
            kin__request_lost();
        (void)waitpid(info.si_pid, NULL, 0);
    }
}

static _Noreturn void end_server(void)
{
    for (size_t i = 0; i < SPARES_MOST; i++) {
        if (server.spares[i].pid > 0 && kin__load32(&server.spares[i].taken) == 0) {
            (void)kill(server.spares[i].pid, SIGKILL);
            (void)waitpid(server.spares[i].pid, NULL, 0);
        }
    }
    _exit(0);
}

/* A descriptor that becomes readable when the process ends, or -1 if it has ended (then that is written down). A
 * server that could not see the end of those it is there for would never end itself, so it does not begin. */
static int watch_mortal(kin__mortal who)
{
    os_handle process = OS_NO_HANDLE;
    kin_err err = who.pid != 0 ? os_process_open(who.pid, who.birthday, &process) : KIN_ENOENT;
    if (err != KIN_OK && err != KIN_ENOENT)
        _exit(1);
    if (who.pid != 0 && err == KIN_ENOENT)
        kin__ended(who.who, OS_STATUS_UNKNOWN);
    return (int)process;
}

static _Noreturn void serve(int ends)
{
    kin__mortal root = kin__root(), client = kin__client();
    enum { ENDS, WANTED, REQUESTS, ROOT, CLIENT, COUNT };
    struct pollfd p[COUNT] = {[ENDS] = {.fd = ends, .events = POLLIN},
                              [WANTED] = {.fd = server.wanted_read, .events = POLLIN},
                              [REQUESTS] = {.fd = server.requests},
                              [ROOT] = {.fd = watch_mortal(root), .events = POLLIN},
                              [CLIENT] = {.fd = client.who == root.who ? -1 : watch_mortal(client), .events = POLLIN}};
    bool hung_up = false;
    for (;;) {
        bool client_gone = hung_up || (p[CLIENT].fd < 0 && (client.who != root.who || p[ROOT].fd < 0));
        if (client_gone && !kin__server_needed())
            end_server();
        bool able = make_spares();
        int number = errno;
        p[REQUESTS].events = able ? 0 : POLLIN;
        if (poll(p, COUNT, able ? -1 : 1000) < 0)
            continue;
        if (p[WANTED].revents != 0) {
            char bytes[64];
            (void)!read(server.wanted_read, bytes, sizeof bytes);
        }
        if (p[ENDS].revents != 0) {
            struct signalfd_siginfo info; /* one is pending at most; it is taken before the reaping, so that a later end makes another */
            (void)!read(ends, &info, sizeof info);
            reap();
            help_spares();
        }
        for (int i = ROOT; i <= CLIENT; i++) {
            if (p[i].fd < 0 || p[i].revents == 0)
                continue;
            (void)close(p[i].fd);
            p[i].fd = -1;
            kin__ended(i == ROOT ? root.who : client.who, OS_STATUS_UNKNOWN);
        }
        if ((p[REQUESTS].revents & POLLHUP) != 0) { /* the root has said that it ends */
            hung_up = true;
            p[REQUESTS].fd = -1;
        } else if (p[REQUESTS].revents != 0) {
            refuse_one(number);
        }
    }
}

/* Becomes the server: lets go of everything, enters the session and says so over the socket. */
_Noreturn void kin__server_run(int requests, os_handle session, os_handle session_to_enter, uint32_t slot, uint32_t generation)
{
    kin__signals before;
    server.requests = requests;
    server.session = (int)session;
    kin__signals_block(&before);
    for (int fd = 0; fd < 3; fd++)
        null_device_at(fd);
    int keep[] = {server.requests, kin__client_socket, server.session};
    close_all_but(keep, sizeof keep / sizeof keep[0]);
    (void)prctl(PR_SET_NAME, "kin server", 0, 0, 0);

    int wanted[2], ends, yes = 1;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    server.pid = getpid();
    server.executable = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    server.spares = mmap(NULL, SPARES_MOST * sizeof *server.spares, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sigaction standard = {.sa_handler = SIG_DFL}; /* if the program ignores SIGCHLD, the kernel would reap for us */
    if (server.spares == MAP_FAILED || sigaction(SIGCHLD, &standard, &server.sigchld) != 0 ||
        setsockopt(server.requests, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0 || pipe2(wanted, O_CLOEXEC) != 0 || (ends = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
        kin__server_begin(session_to_enter, slot, generation) != KIN_OK)
        _exit(1);
    server.wanted_read = wanted[0];
    server.wanted_write = wanted[1];
    if (!make_spares() || send(server.requests, "", 1, MSG_NOSIGNAL) != 1)
        _exit(1);
    serve(ends);
}
