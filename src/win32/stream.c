/* Streams: named pipes that keep the boundaries of messages, and TCP. Both by overlapped operations: a stream always has at
 * most one read under way, into its own buffer, and at most one write, from a copy; their events say when they are done. So
 * nothing ever waits inside an operation, no operation is taken back because somebody's time is over, and what becomes
 * ready can be watched. A thread's end would cancel what it has begun; handles that belong to a completion port are
 * exempt, so all belong to one, which nobody reads: the lowest bit of an event's handle keeps the operations out of it. */
#include <winsock2.h>
#include <ws2tcpip.h>

#include "win.h"

#include "../atomic.h"
#include "../session.h"

#define BUFFER 65536u
#define WRITE_MOST ((size_t)262144) /* bytes that are copied at once where boundaries do not matter */
#define USER_MOST 64u

struct os_port {
    bool pipe, same_user;
    uint32_t cancelled;
    HANDLE stop;    /* an event */
    HANDLE changed; /* an event: somebody has connected */
    SOCKET socket;
    wchar_t *name;
    HANDLE next; /* the instance that waits for a client; INVALID_HANDLE_VALUE: still to be made */
    OVERLAPPED connecting;
};

struct os_stream {
    bool pipe;
    uint32_t cancelled;
    HANDLE handle; /* of a pipe: INVALID_HANDLE_VALUE when it was cancelled */
    SOCKET socket;
    /* under `reading` */
    SRWLOCK reading;
    OVERLAPPED in;
    HANDLE in_done;
    bool in_pending, have; /* a read is under way; the buffer holds what one brought */
    bool whole;            /* which ends a message */
    DWORD in_error;
    DWORD at, end;
    char *buffer;
    /* under `writing` */
    SRWLOCK writing;
    OVERLAPPED out;
    HANDLE out_done;
    bool out_pending;
    DWORD out_error;
    char *copy;
};

/* ---- once per process ---- */

static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
static HANDLE nobodys_port;
static int winsock_error = -1;

static BOOL CALLBACK begin(INIT_ONCE *o, void *arg, void **context)
{
    WSADATA data;
    (void)o, (void)arg, (void)context;
    nobodys_port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    winsock_error = WSAStartup(MAKEWORD(2, 2), &data); /* for as long as the process lives */
    return TRUE;
}

static void begin_once(void)
{
    (void)InitOnceExecuteOnce(&once, begin, NULL, NULL);
}

static HANDLE new_event(void)
{
    return WIN_FAULT("CreateEventW") ? NULL : CreateEventW(NULL, TRUE, FALSE, NULL);
}

/* What is begun on it goes on when the thread that began it ends. A second time changes nothing. */
static void exempt(HANDLE handle)
{
    if (nobodys_port != NULL)
        (void)CreateIoCompletionPort(handle, nobodys_port, 0, 0);
}

/* For an OVERLAPPED: see above. */
static HANDLE quiet(HANDLE event)
{
    return (HANDLE)((uintptr_t)event | 1);
}

/* ---- failing ---- */

static bool is_end(DWORD error)
{
    switch (error) {
    case ERROR_BROKEN_PIPE:
    case ERROR_NO_DATA:
    case ERROR_PIPE_NOT_CONNECTED:
    case ERROR_NETNAME_DELETED:
    case ERROR_CONNECTION_ABORTED:
    case WSAECONNRESET:
    case WSAECONNABORTED:
    case WSAENETRESET:
    case WSAESHUTDOWN:
    case WSAEDISCON:
    case WSAENOTCONN:
        return true;
    default:
        return false;
    }
}

static kin_err socket_code(DWORD error)
{
    switch (error) {
    case WSAEMFILE:
        return KIN_EMFILE;
    case WSAENOBUFS:
        return KIN_ENOMEM;
    case WSAEACCES:
        return KIN_EPERM;
    case WSAEADDRINUSE:
        return KIN_EEXIST;
    case WSAECONNREFUSED:
    case WSAEADDRNOTAVAIL:
    case WSAEHOSTUNREACH:
    case WSAENETUNREACH:
        return KIN_ENOENT;
    case WSAETIMEDOUT:
        return KIN_ETIMEDOUT;
    default:
        return win_error(error);
    }
}

static kin_err fail_socket(DWORD error, const char *call, const char *what, const os_address *address)
{
    kin_err code = socket_code(error), general = win_fail(error, call, "%s port %u of '%.200s'", what, address->port, address->text);
    return code == general ? code : kin__fail_in(code, "TCP");
}

/* ---- time ---- */

static DWORD left_ms(uint64_t deadline)
{
    if (deadline == OS_NEVER)
        return INFINITE;
    uint64_t now = kin__now_ns();
    if (now >= deadline)
        return 0;
    uint64_t ms = (deadline - now + 999999) / 1000000;
    return ms >= INFINITE ? INFINITE - 1 : (DWORD)ms;
}

static kin_err wait_until(const HANDLE *handles, DWORD count, uint64_t deadline)
{
    for (;;) {
        DWORD left = left_ms(deadline);
        DWORD found = WIN_FAULT("WaitForMultipleObjects") ? WAIT_FAILED : WaitForMultipleObjects(count, handles, FALSE, left);
        if (found < WAIT_OBJECT_0 + count)
            return KIN_OK;
        if (found != WAIT_TIMEOUT)
            return win_fail(GetLastError(), "WaitForMultipleObjects", "cannot wait for a connection");
        if (left == 0)
            return kin__fail(KIN_ETIMEDOUT, "nothing happened on the connection in time");
    }
}

/* ---- streams ---- */

static void free_stream(os_stream *s)
{
    if (s->in_done != NULL)
        CloseHandle(s->in_done);
    if (s->out_done != NULL)
        CloseHandle(s->out_done);
    free(s->buffer);
    free(s->copy);
    free(s);
}

/* Takes over the pipe, or the socket, if it succeeds. */
static kin_err new_stream(HANDLE pipe, SOCKET socket, os_stream **stream)
{
    os_stream *s = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *s);
    if (s == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a connection");
    s->pipe = pipe != INVALID_HANDLE_VALUE;
    s->handle = pipe;
    s->socket = socket;
    s->in_done = new_event();
    s->out_done = s->in_done != NULL ? new_event() : NULL;
    s->buffer = malloc(BUFFER);
    if (s->out_done == NULL || s->buffer == NULL) {
        free_stream(s);
        return kin__fail(KIN_ENOMEM, "no memory, or no event, for a connection");
    }
    s->in.hEvent = quiet(s->in_done);
    s->out.hEvent = quiet(s->out_done);
    exempt(s->pipe ? pipe : (HANDLE)socket);
    *stream = s;
    return KIN_OK;
}

bool os_stream_has_messages(const os_stream *stream)
{
    return stream->pipe;
}

static kin_err cancelled(void)
{
    return kin__fail(KIN_ECANCELLED, "the connection was cancelled");
}

static kin_err failed(DWORD error, const char *call)
{
    return is_end(error) ? kin__fail(KIN_EPIPE, "the other end is closed") : win_fail(error, call, "the connection failed");
}

/* What came of an operation that was begun: ERROR_IO_INCOMPLETE if it is not done. */
static DWORD result_of(const os_stream *s, OVERLAPPED *operation, DWORD *moved)
{
    DWORD flags;
    if (s->pipe)
        return GetOverlappedResult(s->handle, operation, moved, FALSE) ? ERROR_SUCCESS : GetLastError();
    return WSAGetOverlappedResult(s->socket, operation, moved, FALSE, &flags) ? ERROR_SUCCESS : (DWORD)WSAGetLastError();
}

static DWORD begin_read(os_stream *s)
{
    if (WIN_FAULT("ReadFile"))
        return GetLastError();
    if (s->pipe)
        return ReadFile(s->handle, s->buffer, BUFFER, NULL, &s->in) ? ERROR_SUCCESS : GetLastError();
    WSABUF part = {BUFFER, s->buffer};
    DWORD flags = 0;
    return WSARecv(s->socket, &part, 1, NULL, &flags, &s->in, NULL) == 0 ? ERROR_SUCCESS : (DWORD)WSAGetLastError();
}

/* With `reading`: looks what came of the read that is under way, and begins one if there is none. Afterwards there is
 * something in the buffer, or an error, or a read under way. */
static void advance(os_stream *s)
{
    for (int turn = 0; turn < 2 && !s->have && s->in_error == ERROR_SUCCESS; turn++) {
        if (!s->in_pending) {
            DWORD error = begin_read(s);
            s->in_pending = error == ERROR_SUCCESS || error == ERROR_IO_PENDING || error == ERROR_MORE_DATA;
            if (!s->in_pending) {
                s->in_error = error;
                return;
            }
        }
        DWORD moved = 0, error = result_of(s, &s->in, &moved);
        if (error == ERROR_IO_INCOMPLETE)
            return;
        s->in_pending = false;
        if (error == ERROR_OPERATION_ABORTED && kin__load32(&s->cancelled) == 0)
            continue; /* with the thread that had begun it */
        bool empty = !s->pipe && error == ERROR_SUCCESS && moved == 0; /* which is how TCP tells the end */
        if (empty || (error != ERROR_SUCCESS && error != ERROR_MORE_DATA)) {
            s->in_error = empty ? ERROR_BROKEN_PIPE : error;
            return;
        }
        s->have = true;
        s->whole = s->pipe && error == ERROR_SUCCESS;
        s->at = 0;
        s->end = moved;
    }
}

kin_err os_stream_read(os_stream *stream, void *buffer, size_t space, size_t *got, bool *whole)
{
    os_stream *s = stream;
    kin_err err = KIN_OK;
    *got = 0;
    *whole = false;
    AcquireSRWLockExclusive(&s->reading);
    if (kin__load32(&s->cancelled) == 0)
        advance(s);
    if (kin__load32(&s->cancelled) != 0) {
        err = cancelled();
    } else if (s->have) {
        size_t there = s->end - s->at;
        *got = there < space ? there : space;
        memcpy(buffer, s->buffer + s->at, *got);
        s->at += (DWORD)*got;
        s->have = s->at < s->end;
        *whole = s->whole && !s->have;
    } else if (s->in_error != ERROR_SUCCESS) {
        err = failed(s->in_error, s->pipe ? "ReadFile" : "WSARecv");
        if (win_error(s->in_error) == KIN_ENOMEM)
            s->in_error = ERROR_SUCCESS; /* which passes */
    }
    ReleaseSRWLockExclusive(&s->reading);
    return err;
}

static DWORD begin_write(os_stream *s, DWORD size)
{
    if (WIN_FAULT("WriteFile"))
        return GetLastError();
    if (s->pipe)
        return WriteFile(s->handle, s->copy, size, NULL, &s->out) ? ERROR_SUCCESS : GetLastError();
    WSABUF part = {size, s->copy};
    return WSASend(s->socket, &part, 1, NULL, 0, &s->out, NULL) == 0 ? ERROR_SUCCESS : (DWORD)WSAGetLastError();
}

/* With `writing`: whether no write is under way, having seen what came of it. */
static bool is_written(os_stream *s)
{
    DWORD moved;
    if (!s->out_pending)
        return true;
    DWORD error = result_of(s, &s->out, &moved);
    if (error == ERROR_IO_INCOMPLETE)
        return false;
    s->out_pending = false;
    s->out_error = error;
    free(s->copy);
    s->copy = NULL;
    return true;
}

/* With `writing`, and no write under way. */
static kin_err write_copy(os_stream *s, const void *head, size_t head_size, const void *data, size_t size)
{
    s->copy = KIN_FAULT("malloc") ? NULL : malloc(head_size + size + 1);
    if (s->copy == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to send %zu bytes", head_size + size);
    if (head_size != 0)
        memcpy(s->copy, head, head_size);
    if (size != 0)
        memcpy(s->copy + head_size, data, size);
    DWORD error = begin_write(s, (DWORD)(head_size + size));
    s->out_pending = error == ERROR_SUCCESS || error == ERROR_IO_PENDING;
    if (s->out_pending) {
        (void)is_written(s);
        return KIN_OK;
    }
    free(s->copy);
    s->copy = NULL;
    return failed(error, s->pipe ? "WriteFile" : "WSASend");
}

kin_err os_stream_write(os_stream *stream, const void *head, size_t head_size, const void *data, size_t size, size_t *taken, bool *any)
{
    os_stream *s = stream;
    kin_err err = KIN_OK;
    *taken = 0;
    *any = false;
    if (s->pipe && size > INT32_MAX - head_size)
        return kin__fail(KIN_EMSGSIZE, "a message of %zu bytes: a pipe takes at most 2 GiB", size);
    if (!s->pipe && size > WRITE_MOST)
        size = WRITE_MOST;
    AcquireSRWLockExclusive(&s->writing);
    if (kin__load32(&s->cancelled) != 0)
        err = cancelled();
    else if (is_written(s) && s->out_error != ERROR_SUCCESS)
        err = failed(s->out_error, s->pipe ? "WriteFile" : "WSASend");
    else if (!s->out_pending && (err = write_copy(s, head, head_size, data, size)) == KIN_OK) {
        *taken = head_size + size;
        *any = true;
    }
    ReleaseSRWLockExclusive(&s->writing);
    return err;
}

bool os_stream_source(os_stream *stream, os_stream_for what, os_source *source)
{
    os_stream *s = stream;
    bool quiet_now, reads = what == OS_STREAM_READ;
    SRWLOCK *lock = reads ? &s->reading : &s->writing;
    AcquireSRWLockExclusive(lock);
    bool on = kin__load32(&s->cancelled) == 0;
    if (on && reads)
        advance(s);
    if (reads)
        quiet_now = on && !s->have && s->in_error == ERROR_SUCCESS;
    else
        quiet_now = on && !is_written(s);
    ReleaseSRWLockExclusive(lock);
    *source = (os_source){.source = (intptr_t)(reads ? s->in_done : s->out_done), .events = OS_SIGNALLED};
    return quiet_now;
}

kin_err os_stream_wait(os_stream *stream, os_stream_for what, uint64_t deadline)
{
    os_source source;
    while (os_stream_source(stream, what, &source)) {
        HANDLE event = win_handle(source.source);
        kin_err err = wait_until(&event, 1, deadline);
        if (err != KIN_OK)
            return err;
    }
    return KIN_OK;
}

/* With its lock: takes an operation back, and waits until the system has let go of its memory. */
static void take_back(os_stream *s, OVERLAPPED *operation, HANDLE done, bool *pending)
{
    if (!*pending)
        return;
    (void)CancelIoEx(s->pipe ? s->handle : (HANDLE)s->socket, operation);
    (void)WaitForSingleObject(done, INFINITE);
    *pending = false;
}

/* A pipe's other side sees the end only when this end is closed; a socket can say so. */
void os_stream_cancel(os_stream *stream)
{
    os_stream *s = stream;
    kin__store32(&s->cancelled, 1);
    AcquireSRWLockExclusive(&s->reading);
    AcquireSRWLockExclusive(&s->writing);
    take_back(s, &s->in, s->in_done, &s->in_pending);
    take_back(s, &s->out, s->out_done, &s->out_pending);
    (void)SetEvent(s->in_done);
    (void)SetEvent(s->out_done);
    if (!s->pipe) {
        (void)shutdown(s->socket, SD_BOTH);
    } else if (s->handle != INVALID_HANDLE_VALUE) {
        CloseHandle(s->handle);
        s->handle = INVALID_HANDLE_VALUE;
    }
    ReleaseSRWLockExclusive(&s->writing);
    ReleaseSRWLockExclusive(&s->reading);
}

void os_stream_close(os_stream *stream)
{
    os_stream *s = stream;
    if (s == NULL)
        return;
    take_back(s, &s->in, s->in_done, &s->in_pending);
    take_back(s, &s->out, s->out_done, &s->out_pending);
    if (s->pipe && s->handle != INVALID_HANDLE_VALUE)
        CloseHandle(s->handle);
    if (!s->pipe)
        (void)closesocket(s->socket);
    free_stream(s);
}

/* ---- pipes ---- */

/* \\.\pipe\kin-USER-name, or the path that was given. In memory to be freed; NULL with an error. */
static wchar_t *pipe_name(const os_address *address)
{
    wchar_t user[USER_MOST + 1] = L"", *text = win_wide(address->text);
    DWORD length = USER_MOST;
    if (text == NULL) {
        (void)win_fail(GetLastError(), "MultiByteToWideChar", "the address '%.200s'", address->text);
        return NULL;
    }
    if (address->kind == OS_ADDRESS_PATH)
        return text;
    if (!GetUserNameW(user, &length)) {
        (void)win_fail(GetLastError(), "GetUserNameW", "cannot tell whose name '%s' is", address->text);
        free(text);
        return NULL;
    }
    size_t space = wcslen(text) + wcslen(user) + 32;
    wchar_t *name = malloc(space * sizeof *name);
    if (name != NULL)
        (void)swprintf(name, space, L"\\\\.\\pipe\\kin-%ls-%ls", user, text);
    else
        kin__fail(KIN_ENOMEM, "no memory for a name");
    free(text);
    return name;
}

/* Another instance of the pipe, or the first, which fails if there is one already. */
static HANDLE new_instance(const wchar_t *name, bool first)
{
    SECURITY_ATTRIBUTES *access = win_owner_only();
    if (access == NULL || WIN_FAULT("CreateNamedPipeW"))
        return INVALID_HANDLE_VALUE;
    return CreateNamedPipeW(name, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | (first ? FILE_FLAG_FIRST_PIPE_INSTANCE : 0),
                            PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_REJECT_REMOTE_CLIENTS, PIPE_UNLIMITED_INSTANCES, BUFFER,
                            BUFFER, 0, access);
}

/* Has the instance wait for a client, which may be there already. */
static kin_err await_client(os_port *port)
{
    for (;;) {
        (void)ResetEvent(port->changed);
        memset(&port->connecting, 0, sizeof port->connecting);
        port->connecting.hEvent = quiet(port->changed);
        if (WIN_FAULT("ConnectNamedPipe"))
            return win_fail(GetLastError(), "ConnectNamedPipe", "cannot wait for a client");
        if (ConnectNamedPipe(port->next, &port->connecting))
            return KIN_OK;
        switch (GetLastError()) {
        case ERROR_IO_PENDING:
            return KIN_OK;
        case ERROR_PIPE_CONNECTED:
            port->connecting.Internal = 0; /* as of one that is done */
            (void)SetEvent(port->changed);
            return KIN_OK;
        case ERROR_NO_DATA: /* one came and went */
            (void)DisconnectNamedPipe(port->next);
            break;
        default:
            return win_fail(GetLastError(), "ConnectNamedPipe", "cannot wait for a client");
        }
    }
}

static kin_err open_instance(os_port *port, bool first)
{
    port->next = new_instance(port->name, first);
    if (port->next == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        if (first && (error == ERROR_ACCESS_DENIED || error == ERROR_PIPE_BUSY))
            return kin__fail(KIN_EEXIST, "somebody has that pipe already");
        return win_fail(error, "CreateNamedPipeW", "cannot make a pipe");
    }
    exempt(port->next);
    kin_err err = await_client(port);
    if (err != KIN_OK) {
        CloseHandle(port->next);
        port->next = INVALID_HANDLE_VALUE;
    }
    return err;
}

static kin_err open_pipe(const os_address *address, os_port *port)
{
    port->pipe = true;
    port->name = pipe_name(address);
    return port->name != NULL ? open_instance(port, true) : kin_last_code();
}

static bool user_of(HANDLE process, void *space, DWORD size)
{
    HANDLE token;
    if (!OpenProcessToken(process, TOKEN_QUERY, &token))
        return false;
    bool known = GetTokenInformation(token, TokenUser, space, size, &size);
    CloseHandle(token);
    return known;
}

/* Whether the process at the other end of a pipe belongs to this user. A system that cannot say which process that is leaves it
 * to the access that the pipe gives. */
static bool is_same_user(HANDLE pipe, bool server)
{
    union {
        TOKEN_USER user;
        char space[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } mine, theirs;
    ULONG pid = 0;
    if (!(server ? GetNamedPipeServerProcessId(pipe, &pid) : GetNamedPipeClientProcessId(pipe, &pid))) {
        DWORD error = GetLastError();
        return error == ERROR_CALL_NOT_IMPLEMENTED || error == ERROR_INVALID_FUNCTION || error == ERROR_NOT_SUPPORTED;
    }
    if (pid == 0)
        return true;
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, pid);
    if (process == NULL)
        return false;
    bool same = user_of(process, &theirs, sizeof theirs) && user_of(GetCurrentProcess(), &mine, sizeof mine) &&
                EqualSid(theirs.user.User.Sid, mine.user.User.Sid);
    CloseHandle(process);
    return same;
}

static kin_err open_client(const wchar_t *name, const os_address *address, uint64_t deadline, HANDLE *pipe)
{
    for (;;) {
        HANDLE h = WIN_FAULT("CreateFileW") ? INVALID_HANDLE_VALUE
                                            : CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                                                          FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
        DWORD error = GetLastError();
        if (h != INVALID_HANDLE_VALUE) {
            *pipe = h;
            return KIN_OK;
        }
        if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND)
            return kin__fail(KIN_ENOENT, "nobody listens at '%.200s'", address->text);
        if (error != ERROR_PIPE_BUSY)
            return win_fail(error, "CreateFileW", "cannot connect to '%.200s'", address->text);
        DWORD left = left_ms(deadline);
        if (left == 0)
            return kin__fail(KIN_ETIMEDOUT, "'%.200s' took no connection in time: too many wait there", address->text);
        (void)WaitNamedPipeW(name, left == INFINITE ? NMPWAIT_WAIT_FOREVER : left); /* another may be faster: try again */
    }
}

static kin_err connect_pipe(const os_address *address, os_stream **stream, uint64_t deadline)
{
    HANDLE pipe = INVALID_HANDLE_VALUE;
    DWORD mode = PIPE_READMODE_MESSAGE;
    wchar_t *name = pipe_name(address);
    if (name == NULL)
        return kin_last_code();
    kin_err err = open_client(name, address, deadline, &pipe);
    free(name);
    if (err != KIN_OK)
        return err;
    if (address->kind == OS_ADDRESS_NAME && !is_same_user(pipe, true))
        err = kin__fail(KIN_EPERM, "who listens at '%.200s' is another user", address->text);
    else if (WIN_FAULT("SetNamedPipeHandleState") || !SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
        err = win_fail(GetLastError(), "SetNamedPipeHandleState", "'%.200s' is no pipe of messages", address->text);
    else
        err = new_stream(pipe, INVALID_SOCKET, stream);
    if (err != KIN_OK)
        CloseHandle(pipe);
    return err;
}

/* ---- TCP ---- */

static kin_err check_winsock(void)
{
    return winsock_error == 0 ? KIN_OK : win_fail((DWORD)winsock_error, "WSAStartup", "there is no TCP");
}

static SOCKET new_socket(int family)
{
    DWORD flags = WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT;
    return WIN_FAULT("WSASocketW") ? INVALID_SOCKET : WSASocketW(family, SOCK_STREAM, IPPROTO_TCP, NULL, 0, flags);
}

static void set_option(SOCKET s, int level, int option)
{
    BOOL on = TRUE;
    (void)setsockopt(s, level, option, (const char *)&on, sizeof on);
}

static void set_tcp(SOCKET s)
{
    set_option(s, IPPROTO_TCP, TCP_NODELAY); /* messages are written whole, and answers are waited for */
    set_option(s, SOL_SOCKET, SO_KEEPALIVE);
}

static kin_err find_host(const os_address *address, bool listens, struct addrinfo **found)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP, .ai_flags = listens ? AI_PASSIVE : 0};
    (void)snprintf(port, sizeof port, "%u", address->port);
    int err = WIN_FAULT("getaddrinfo") ? WSA_NOT_ENOUGH_MEMORY : getaddrinfo(address->text, port, &hints, found);
    if (err == 0)
        return KIN_OK;
    kin_err code = err == WSA_NOT_ENOUGH_MEMORY ? KIN_ENOMEM : KIN_ENOENT;
    return kin__fail(code, "no such host as '%.200s' [getaddrinfo, error %d]", address->text, err);
}

static kin_err listen_at(os_port *port, const struct addrinfo *a, os_address *address)
{
    struct sockaddr_storage real;
    int size = sizeof real;
    port->socket = new_socket(a->ai_family);
    if (port->socket == INVALID_SOCKET)
        return fail_socket((DWORD)WSAGetLastError(), "WSASocketW", "cannot make a socket for", address);
    set_option(port->socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE); /* else any program could listen at the same port */
    if (a->ai_family == AF_INET6) /* the same on all systems */
        set_option(port->socket, IPPROTO_IPV6, IPV6_V6ONLY);
    if (!WIN_FAULT("bind") && bind(port->socket, a->ai_addr, (int)a->ai_addrlen) == 0 && listen(port->socket, SOMAXCONN) == 0 &&
        getsockname(port->socket, (struct sockaddr *)&real, &size) == 0 && WSAEventSelect(port->socket, port->changed, FD_ACCEPT) == 0) {
        address->port = ntohs(real.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&real)->sin6_port
                                                         : ((struct sockaddr_in *)&real)->sin_port);
        return KIN_OK;
    }
    DWORD error = (DWORD)WSAGetLastError();
    (void)closesocket(port->socket);
    port->socket = INVALID_SOCKET;
    return fail_socket(error == WSAEACCES ? WSAEADDRINUSE : error, "bind", "cannot listen at", address);
}

/* The first address that works, IPv4 before others: that is what older programs look for at a name with several. */
static kin_err open_tcp(os_address *address, os_port *port)
{
    struct addrinfo *found;
    kin_err err = check_winsock();
    if (err == KIN_OK)
        err = find_host(address, true, &found);
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

/* Until it is connected, or not. The system's error. */
static DWORD await_connection(SOCKET s, HANDLE event, uint64_t deadline)
{
    WSANETWORKEVENTS events;
    kin_err err = wait_until(&event, 1, deadline);
    if (err != KIN_OK)
        return err == KIN_ETIMEDOUT ? WSAETIMEDOUT : GetLastError();
    if (WSAEnumNetworkEvents(s, event, &events) != 0)
        return (DWORD)WSAGetLastError();
    return (DWORD)events.iErrorCode[FD_CONNECT_BIT];
}

static DWORD connect_socket(SOCKET s, const struct addrinfo *a, uint64_t deadline)
{
    u_long blocking = 0;
    HANDLE event = new_event();
    if (event == NULL)
        return GetLastError();
    DWORD error = ERROR_SUCCESS;
    if (WSAEventSelect(s, event, FD_CONNECT) != 0 || WIN_FAULT("connect") || connect(s, a->ai_addr, (int)a->ai_addrlen) != 0)
        error = (DWORD)WSAGetLastError();
    if (error == WSAEWOULDBLOCK)
        error = await_connection(s, event, deadline);
    (void)WSAEventSelect(s, NULL, 0);
    (void)ioctlsocket(s, (long)FIONBIO, &blocking);
    CloseHandle(event);
    return error;
}

static kin_err connect_to(const struct addrinfo *a, const os_address *address, os_stream **stream, uint64_t deadline)
{
    SOCKET s = new_socket(a->ai_family);
    if (s == INVALID_SOCKET)
        return fail_socket((DWORD)WSAGetLastError(), "WSASocketW", "cannot make a socket for", address);
    DWORD error = connect_socket(s, a, deadline);
    if (error != ERROR_SUCCESS) {
        (void)closesocket(s);
        return fail_socket(error, "connect", "cannot connect to", address);
    }
    set_tcp(s);
    kin_err err = new_stream(INVALID_HANDLE_VALUE, s, stream);
    if (err != KIN_OK)
        (void)closesocket(s);
    return err;
}

/* One address after the other, each with its share of the time. */
static kin_err connect_tcp(const os_address *address, os_stream **stream, uint64_t deadline)
{
    struct addrinfo *found;
    unsigned left = 0;
    kin_err err = check_winsock();
    if (err == KIN_OK)
        err = find_host(address, false, &found);
    if (err != KIN_OK)
        return err;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
        left++;
    err = KIN_ENOENT;
    for (const struct addrinfo *a = found; a != NULL && err != KIN_OK; a = a->ai_next, left--) {
        uint64_t now = kin__now_ns();
        err = connect_to(a, address, stream, deadline == OS_NEVER || deadline < now ? deadline : now + (deadline - now) / left);
    }
    freeaddrinfo(found);
    return err;
}

kin_err os_stream_connect(const os_address *address, os_stream **stream, uint64_t deadline)
{
    begin_once();
    return address->kind == OS_ADDRESS_TCP ? connect_tcp(address, stream, deadline) : connect_pipe(address, stream, deadline);
}

/* ---- ports ---- */

static void free_port(os_port *port)
{
    if (port->next != INVALID_HANDLE_VALUE) {
        DWORD moved;
        if (CancelIoEx(port->next, &port->connecting))
            (void)GetOverlappedResult(port->next, &port->connecting, &moved, TRUE);
        CloseHandle(port->next);
    }
    if (port->socket != INVALID_SOCKET)
        (void)closesocket(port->socket);
    if (port->stop != NULL)
        CloseHandle(port->stop);
    if (port->changed != NULL)
        CloseHandle(port->changed);
    free(port->name);
    free(port);
}

kin_err os_port_open(os_address *address, os_port **port)
{
    begin_once();
    os_port *p = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *p);
    if (p == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a listener");
    p->next = INVALID_HANDLE_VALUE;
    p->socket = INVALID_SOCKET;
    p->same_user = address->kind == OS_ADDRESS_NAME;
    p->stop = new_event();
    p->changed = p->stop != NULL ? new_event() : NULL;
    kin_err err = p->changed == NULL                  ? win_fail(GetLastError(), "CreateEventW", "no event for a listener")
                  : address->kind == OS_ADDRESS_TCP ? open_tcp(address, p)
                                                    : open_pipe(address, p);
    if (err != KIN_OK)
        free_port(p);
    else
        *port = p;
    return err;
}

/* The client of the instance that was waited with; another instance takes its place. *stream stays NULL if it has gone. */
static kin_err take_client(os_port *port, os_stream **stream)
{
    DWORD moved, error = GetOverlappedResult(port->next, &port->connecting, &moved, FALSE) ? ERROR_SUCCESS : GetLastError();
    HANDLE pipe = port->next;
    if (error == ERROR_OPERATION_ABORTED) /* with the thread that had begun to wait; a client may be there all the same */
        return await_client(port);
    bool came = error == ERROR_SUCCESS || error == ERROR_PIPE_CONNECTED;
    port->next = INVALID_HANDLE_VALUE;
    kin__error_kept kept;
    kin__error_keep(&kept);
    if (open_instance(port, false) != KIN_OK) /* tried again when the next client is waited for */
        kin__error_back(&kept);
    if (!came || (port->same_user && !is_same_user(pipe, false))) {
        CloseHandle(pipe);
        return KIN_OK;
    }
    kin_err err = new_stream(pipe, INVALID_SOCKET, stream);
    if (err != KIN_OK)
        CloseHandle(pipe);
    return err;
}

static kin_err take_socket(os_port *port, os_stream **stream)
{
    u_long blocking = 0;
    (void)ResetEvent(port->changed); /* accepting has it set again for the next */
    SOCKET s = WIN_FAULT("accept") ? (WSASetLastError(WSAENOBUFS), INVALID_SOCKET) : accept(port->socket, NULL, NULL);
    if (s == INVALID_SOCKET) {
        DWORD error = (DWORD)WSAGetLastError();
        if (error == WSAEWOULDBLOCK || error == WSAECONNRESET || error == WSAEINTR)
            return KIN_OK;
        (void)SetEvent(port->changed);
        return kin__fail(socket_code(error), "cannot take a connection [accept, error %lu]", (unsigned long)error);
    }
    (void)WSAEventSelect(s, NULL, 0);
    (void)ioctlsocket(s, (long)FIONBIO, &blocking);
    (void)SetHandleInformation((HANDLE)s, HANDLE_FLAG_INHERIT, 0);
    set_tcp(s);
    kin_err err = new_stream(INVALID_HANDLE_VALUE, s, stream);
    if (err != KIN_OK)
        (void)closesocket(s);
    return err;
}

kin_err os_port_accept(os_port *port, os_stream **stream, uint64_t deadline)
{
    *stream = NULL;
    for (;;) {
        kin_err err = KIN_OK;
        if (port->pipe && port->next == INVALID_HANDLE_VALUE)
            err = open_instance(port, false);
        HANDLE events[] = {port->stop, port->changed};
        if (err == KIN_OK)
            err = wait_until(events, 2, deadline);
        if (kin__load32(&port->cancelled) != 0)
            return kin__fail(KIN_ECANCELLED, "the listener is being closed");
        if (err == KIN_OK)
            err = port->pipe ? take_client(port, stream) : take_socket(port, stream);
        if (err != KIN_OK || *stream != NULL)
            return err;
    }
}

void os_port_cancel(os_port *port)
{
    kin__store32(&port->cancelled, 1);
    (void)SetEvent(port->stop);
}

void os_port_close(os_port *port)
{
    free_port(port);
}
