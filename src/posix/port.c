/* Places to which programs connect, and the ways there: Unix sockets and TCP. A local name is a socket in a directory that belongs to
 * this user and that nobody else can enter, so that a peer is known twice: by where it found us, and by the user id that the
 * kernel vouches for. A lock beside the socket tells a listener that lives from what a dead one left: only who has the lock
 * removes a socket. */
#include "stream.h"

#include "../atomic.h"

#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#define PATH_SIZE sizeof((struct sockaddr_un *)NULL)->sun_path
#define LOCK_SUFFIX "~lock" /* no name has a '~' */
#define WHOLE_SIZE (PATH_MAX + PATH_SIZE + sizeof LOCK_SUFFIX)

struct os_port {
    int fd;
    uint32_t cancelled;
    bool same_user; /* others are refused */
    char path[WHOLE_SIZE]; /* from the root: the program may change its directory */
    int lock;        /* on the file beside the socket */
    dev_t device;    /* of the socket at `path`       */
    ino_t inode;
};

/* ---- sockets ---- */

static int new_socket(int family)
{
    int fd;
    do {
        fd = TRY("socket", -1, EMFILE, kin__above_streams(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
    } while (kin__try_again(fd));
    return fd;
}

static void set_option(int fd, int level, int option)
{
    int on = 1;
    (void)setsockopt(fd, level, option, &on, sizeof on);
}

static void set_tcp(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY); /* messages are written whole, and answers are waited for */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
}

static kin_err close_failed(int fd, kin_err err)
{
    int number = errno;
    (void)close(fd);
    errno = number;
    return err;
}

/* ---- local names and paths ---- */

/* Whether this is a directory of this user's that nobody else can enter. */
static kin_err check_directory(const char *path)
{
    struct stat st;
    if (TRY("lstat", -1, EIO, lstat(path, &st)) != 0)
        return kin__fail_errno("lstat", "cannot look at the directory '%s'", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return kin__fail(KIN_EPERM, "the directory '%s' for local names is %s", path,
                         !S_ISDIR(st.st_mode)         ? "no directory"
                         : st.st_uid != geteuid() ? "another user's"
                                                  : "open to others (its mode is not 0700)");
    return KIN_OK;
}

static bool is_own_directory(const char *path)
{
    struct stat st;
    return path != NULL && path[0] == '/' && stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* The socket of a name. `make`: the directory, too, if it is not there. */
static kin_err path_of_name(const char *name, bool make, char path[PATH_SIZE])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR"); /* set, but another user's, after some ways of becoming root */
    char directory[PATH_MAX];
    int n = is_own_directory(runtime) ? snprintf(directory, sizeof directory, "%s/kin", runtime)
                                      : snprintf(directory, sizeof directory, "/tmp/kin-%lu", (unsigned long)geteuid());
    if (n < 0 || (size_t)n + 1 + strlen(name) + strlen(LOCK_SUFFIX) >= PATH_SIZE)
        return kin__fail(KIN_EINVAL, "'%s' is too long beneath '%.80s': the path of a socket has at most %zu bytes", name, directory,
                         PATH_SIZE - 1 - strlen(LOCK_SUFFIX));
    if (make && TRY("mkdir", -1, ENOSPC, mkdir(directory, 0700)) != 0 && errno != EEXIST)
        return kin__fail_errno("mkdir", "cannot make the directory '%s'", directory);
    kin_err err = check_directory(directory);
    if (err != KIN_OK)
        return err;
    (void)snprintf(path, PATH_SIZE, "%.90s/%s", directory, name);
    return KIN_OK;
}

static kin_err path_of(const os_address *address, bool make, char path[PATH_SIZE])
{
    if (address->kind == OS_ADDRESS_NAME)
        return path_of_name(address->text, make, path);
    if (strlen(address->text) + strlen(LOCK_SUFFIX) >= PATH_SIZE)
        return kin__fail(KIN_EINVAL, "'%.200s' is too long for the path of a socket: at most %zu bytes are possible", address->text,
                         PATH_SIZE - 1 - strlen(LOCK_SUFFIX));
    (void)snprintf(path, PATH_SIZE, "%s", address->text);
    return KIN_OK;
}

static void lock_path(const char *path, char beside[WHOLE_SIZE])
{
    size_t length = strlen(path);
    memcpy(beside, path, length);
    memcpy(beside + length, LOCK_SUFFIX, sizeof LOCK_SUFFIX);
}

static void whole_path(const char *path, char whole[WHOLE_SIZE])
{
    bool below = path[0] != '/' && getcwd(whole, PATH_MAX) != NULL;
    size_t length = below ? strlen(whole) : 0;
    if (below)
        whole[length++] = '/';
    memcpy(whole + length, path, strlen(path) + 1);
}

/* Locks the file beside the socket; again if it was removed meanwhile by who had it before. */
static kin_err lock_beside(const char *path, int *lock)
{
    char beside[WHOLE_SIZE];
    lock_path(path, beside);
    for (;;) {
        struct stat mine, there;
        int fd = TRY("open", -1, EMFILE, kin__above_streams(open(beside, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600)));
        if (kin__try_again(fd))
            continue;
        if (fd < 0)
            return kin__fail_errno("open", "cannot open '%s', which is locked by who listens at '%s'", beside, path);
        if (fstat(fd, &mine) != 0 || !S_ISREG(mine.st_mode) || mine.st_uid != geteuid()) {
            (void)close(fd);
            return kin__fail(KIN_EPERM, "'%s', which is locked by who listens at '%s', is not a file of this user's", beside, path);
        }
        if (TRY("flock", -1, ENOLCK, flock(fd, LOCK_EX | LOCK_NB)) != 0) {
            kin_err err = errno == EWOULDBLOCK ? kin__fail(KIN_EEXIST, "somebody listens at '%s' already", path)
                                               : kin__fail_errno("flock", "cannot lock '%s'", beside);
            return close_failed(fd, err);
        }
        if (lstat(beside, &there) == 0 && there.st_dev == mine.st_dev && there.st_ino == mine.st_ino) {
            *lock = fd;
            return KIN_OK;
        }
        (void)close(fd);
    }
}

static void unlock_beside(const char *path, int lock)
{
    char beside[WHOLE_SIZE];
    lock_path(path, beside);
    (void)unlink(beside); /* while it is locked: who opened it before will see that it is not there any more */
    (void)flock(lock, LOCK_UN); /* a copy of this process made by a plain fork() has the same open file */
    (void)close(lock);
}

static struct sockaddr_un socket_address(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, strlen(path) + 1);
    return a;
}

/* Something is at the path, and no listener of kin's has it: removes it if it is a socket where nobody listens. */
static kin_err remove_stale(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? KIN_OK : kin__fail_errno("lstat", "cannot look at '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return kin__fail(KIN_EEXIST, "'%s' is there already, and is no socket", path);
    int fd = new_socket(AF_UNIX);
    if (fd < 0)
        return kin__fail_errno("socket", "cannot make a socket");
    struct sockaddr_un a = socket_address(path);
    bool refused = connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    if (!refused)
        return kin__fail(KIN_EEXIST, "somebody listens at '%s' already", path);
    if (TRY("unlink", -1, EPERM, unlink(path)) != 0 && errno != ENOENT)
        return kin__fail_errno("unlink", "cannot remove '%s', which a listener that is gone has left", path);
    return KIN_OK;
}

/* The lock is held: nobody of kin's does the same. */
static kin_err bind_local(os_port *port, const char *path)
{
    kin_err err = remove_stale(path);
    if (err != KIN_OK)
        return err;
    port->fd = new_socket(AF_UNIX);
    if (port->fd < 0)
        return kin__fail_errno("socket", "cannot make a socket");
    struct sockaddr_un a = socket_address(path);
    if (TRY("bind", -1, EACCES, bind(port->fd, (struct sockaddr *)&a, sizeof a)) != 0) {
        err = errno == EADDRINUSE ? kin__fail(KIN_EEXIST, "somebody listens at '%s' already", path)
                                  : kin__fail_errno("bind", "cannot make the socket '%s'", path);
        return close_failed(port->fd, err);
    }
    struct stat st;
    /* Nobody can connect before it listens. */
    if (TRY("chmod", -1, EPERM, chmod(path, 0600)) != 0 || lstat(path, &st) != 0 ||
        TRY("listen", -1, ENOBUFS, listen(port->fd, SOMAXCONN)) != 0) {
        err = kin__fail_errno("listen", "cannot listen at '%s'", path);
        (void)unlink(path);
        return close_failed(port->fd, err);
    }
    port->device = st.st_dev;
    port->inode = st.st_ino;
    whole_path(path, port->path);
    return KIN_OK;
}

static kin_err open_local(const os_address *address, os_port *port)
{
    char path[PATH_SIZE];
    kin_err err = path_of(address, true, path);
    if (err == KIN_OK)
        err = lock_beside(path, &port->lock);
    if (err != KIN_OK)
        return err;
    port->same_user = address->kind == OS_ADDRESS_NAME;
    err = bind_local(port, path);
    if (err != KIN_OK)
        unlock_beside(path, port->lock);
    return err;
}

/* The user at the other end, as it was when it connected or began to listen. */
static bool is_same_user(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return TRY("getsockopt", -1, EIO, getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) == 0 && peer.uid == geteuid();
}

static bool is_stopped(bool (*stop)(void))
{
    return stop != NULL && stop();
}

static kin_err stopped(void)
{
    return kin__fail(KIN_ECANCELLED, "told to stop connecting");
}

/* A Unix socket knows no connecting in the background: with a full queue it waits here or not at all. */
static kin_err connect_local(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    char path[PATH_SIZE];
    kin_err err = path_of(address, false, path);
    if (err == KIN_ENOENT) /* the directory is not there either */
        return kin__fail(KIN_ENOENT, "nobody listens at '%s'", address->text);
    if (err != KIN_OK)
        return err;
    int fd = new_socket(AF_UNIX), flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (fd < 0)
        return kin__fail_errno("socket", "cannot make a socket");
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    struct sockaddr_un a = socket_address(path);
    int result, left;
    do {
        if (is_stopped(stop))
            return close_failed(fd, stopped());
        left = kin__left_ms(deadline);
        int some = left >= 0 && left < OS_CONNECT_MS ? left : OS_CONNECT_MS;
        struct timeval limit = {.tv_usec = some > 0 ? some * 1000 : 1}; /* 0 would be for ever */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        result = TRY("connect", -1, EACCES, connect(fd, (struct sockaddr *)&a, sizeof a));
    } while (result != 0 && (errno == EINTR || (errno == EAGAIN && left != 0)));
    if (result != 0) {
        err = errno == EAGAIN ? kin__fail(KIN_ETIMEDOUT, "'%s' took no connection in time: too many wait there", path)
              : errno == ENOENT || errno == ECONNREFUSED || errno == ENOTSOCK
                  ? kin__fail(KIN_ENOENT, "nobody listens at '%s'", path)
                  : kin__fail_errno("connect", "cannot connect to '%s'", path);
        return close_failed(fd, err);
    }
    (void)fcntl(fd, F_SETFL, flags);
    if (address->kind == OS_ADDRESS_NAME && !is_same_user(fd)) {
        (void)close(fd);
        return kin__fail(KIN_EPERM, "who listens at '%s' is another user", path);
    }
    return kin__stream_of(fd, stream);
}

/* ---- TCP ---- */

static kin_err find_host(const os_address *address, bool listens, struct addrinfo **found)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST | (listens ? AI_PASSIVE : 0)};
    (void)snprintf(port, sizeof port, "%u", address->port);
    int err = TRY("getaddrinfo", EAI_MEMORY, ENOMEM, getaddrinfo(address->text, port, &hints, found));
    if (err == EAI_NONAME) { /* not a number: only now need the system look for it */
        hints.ai_flags &= ~AI_NUMERICHOST;
        err = getaddrinfo(address->text, port, &hints, found);
    }
    if (err == 0)
        return KIN_OK;
    return kin__fail(err == EAI_MEMORY ? KIN_ENOMEM : KIN_ENOENT, "no such host as '%.200s': %s [getaddrinfo, error %d]", address->text,
                     gai_strerror(err), err);
}

static kin_err listen_at(os_port *port, const struct addrinfo *a, os_address *address)
{
    port->fd = new_socket(a->ai_family);
    if (port->fd < 0)
        return kin__fail_errno("socket", "cannot make a socket");
    set_option(port->fd, SOL_SOCKET, SO_REUSEADDR);
    if (a->ai_family == AF_INET6) /* the same on all systems */
        set_option(port->fd, IPPROTO_IPV6, IPV6_V6ONLY);
    struct sockaddr_storage real;
    socklen_t size = sizeof real;
    if (TRY("bind", -1, EACCES, bind(port->fd, a->ai_addr, a->ai_addrlen)) != 0 ||
        TRY("listen", -1, ENOBUFS, listen(port->fd, SOMAXCONN)) != 0 || getsockname(port->fd, (struct sockaddr *)&real, &size) != 0) {
        kin_err err = errno == EADDRINUSE
                          ? kin__fail(KIN_EEXIST, "somebody uses port %u of '%.200s' already", address->port, address->text)
                      : errno == EADDRNOTAVAIL ? kin__fail(KIN_ENOENT, "'%.200s' is not this machine", address->text)
                                               : kin__fail_errno("bind", "cannot listen at port %u of '%.200s'", address->port,
                                                                 address->text);
        return close_failed(port->fd, err);
    }
    address->port = ntohs(real.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&real)->sin6_port
                                                     : ((struct sockaddr_in *)(void *)&real)->sin_port);
    return KIN_OK;
}

/* The first address that works, IPv4 before others: that is what older programs look for at a name with several. */
static kin_err open_tcp(os_address *address, os_port *port)
{
    struct addrinfo *found;
    kin_err err = find_host(address, true, &found);
    if (err != KIN_OK)
        return err;
    err = KIN_ENOENT;
    for (int turn = 0; turn < 2 && err != KIN_OK; turn++) {
        for (const struct addrinfo *a = found; a != NULL && err != KIN_OK; a = a->ai_next) {
            if ((a->ai_family == AF_INET) == (turn == 0))
                err = listen_at(port, a, address);
        }
    }
    freeaddrinfo(found);
    return err;
}

/* A port of this machine that was free may have been given to this very socket: then it has found itself. */
static bool is_itself(int fd)
{
    struct sockaddr_storage mine, theirs;
    socklen_t size = sizeof mine, their_size = sizeof theirs;
    memset(&mine, 0, sizeof mine);
    memset(&theirs, 0, sizeof theirs);
    return getsockname(fd, (struct sockaddr *)&mine, &size) == 0 && getpeername(fd, (struct sockaddr *)&theirs, &their_size) == 0 &&
           size == their_size && memcmp(&mine, &theirs, size) == 0;
}

static kin_err await_connection(int fd, uint64_t deadline, bool (*stop)(void))
{
    for (;;) {
        uint64_t some = uv_hrtime() + OS_CONNECT_MS * 1000000u;
        if (is_stopped(stop))
            return stopped();
        kin_err err = kin__wait_for_socket(fd, POLLOUT, some < deadline ? some : deadline);
        if (err != KIN_ETIMEDOUT || some >= deadline)
            return err;
    }
}

static kin_err connect_to(const struct addrinfo *a, const os_address *address, int *socket_out, uint64_t deadline, bool (*stop)(void))
{
    int fd = new_socket(a->ai_family), number = 0;
    if (fd < 0)
        return kin__fail_errno("socket", "cannot make a socket");
    socklen_t size = sizeof number;
    if (TRY("connect", -1, EACCES, connect(fd, a->ai_addr, a->ai_addrlen)) != 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            kin_err err = await_connection(fd, deadline, stop);
            if (err != KIN_OK)
                return close_failed(fd, err == KIN_ETIMEDOUT ? kin__fail(KIN_ETIMEDOUT, "port %u of '%.200s' did not answer in time",
                                                                         address->port, address->text)
                                                             : err);
            if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0)
                number = errno;
        } else {
            number = errno;
        }
    }
    if (number == 0 && is_itself(fd))
        number = ECONNREFUSED;
    if (number == 0) {
        *socket_out = fd;
        return KIN_OK;
    }
    (void)close(fd);
    errno = number;
    kin_err err = kin__fail_errno("connect", "cannot connect to port %u of '%.200s'", address->port, address->text);
    if (number == ECONNREFUSED)
        return kin__fail(KIN_ENOENT, "nobody listens at port %u of '%.200s'", address->port, address->text);
    return number == ETIMEDOUT                                                                ? kin__fail_in(KIN_ETIMEDOUT, "too late")
           : number == EHOSTUNREACH || number == ENETUNREACH || number == EADDRNOTAVAIL ? kin__fail_in(KIN_ENOENT, "no way there")
                                                                                        : err;
}

/* One address after the other, each with its share of the time. */
static kin_err connect_tcp(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    struct addrinfo *found;
    kin_err err = find_host(address, false, &found);
    if (err != KIN_OK)
        return err;
    unsigned left = 0;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
        left++;
    int fd = -1;
    err = KIN_ENOENT;
    for (const struct addrinfo *a = found; a != NULL && fd < 0 && err != KIN_ECANCELLED; a = a->ai_next, left--) {
        uint64_t now = uv_hrtime();
        err = connect_to(a, address, &fd, deadline == OS_NEVER || deadline < now ? deadline : now + (deadline - now) / left, stop);
    }
    freeaddrinfo(found);
    if (err != KIN_OK)
        return err;
    set_tcp(fd);
    return kin__stream_of(fd, stream);
}

kin_err os_stream_connect(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    return address->kind == OS_ADDRESS_TCP ? connect_tcp(address, stream, deadline, stop)
                                           : connect_local(address, stream, deadline, stop);
}

/* ---- ports ---- */

kin_err os_port_open(os_address *address, os_port **port)
{
    os_port *p = calloc(1, sizeof *p);
    if (p == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a listener");
    kin_err err = address->kind == OS_ADDRESS_TCP ? open_tcp(address, p) : open_local(address, p);
    if (err != KIN_OK) {
        free(p);
        return err;
    }
    *port = p;
    return KIN_OK;
}

/* What befell one connection only, or is over by now. */
static bool is_passing(int number)
{
    switch (number) {
    case EINTR:
    case EAGAIN:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

kin_err os_port_accept(os_port *port, os_stream **stream, uint64_t deadline)
{
    for (;;) {
        kin_err err = kin__wait_for_socket(port->fd, POLLIN, deadline);
        if (kin__load32(&port->cancelled) != 0)
            return kin__fail(KIN_ECANCELLED, "the listener is being closed");
        if (err != KIN_OK)
            return err;
        int fd = TRY("accept4", -1, EMFILE, kin__above_streams(accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)));
        if (kin__try_again(fd) || (fd < 0 && is_passing(errno)))
            continue;
        if (fd < 0)
            return kin__fail_errno("accept4", "cannot take a connection");
        if (port->same_user && !is_same_user(fd)) {
            (void)close(fd);
            continue;
        }
        if (port->path[0] == 0)
            set_tcp(fd);
        return kin__stream_of(fd, stream);
    }
}

void os_port_cancel(os_port *port)
{
    kin__store32(&port->cancelled, 1);
    (void)shutdown(port->fd, SHUT_RDWR);
}

void os_port_close(os_port *port)
{
    struct stat st;
    if (port->path[0] != 0 && lstat(port->path, &st) == 0 && st.st_dev == port->device && st.st_ino == port->inode)
        (void)unlink(port->path);
    (void)close(port->fd);
    if (port->path[0] != 0)
        unlock_beside(port->path, port->lock);
    free(port);
}
