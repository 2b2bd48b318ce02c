/* Places to which programs connect, and the ways there: named pipes that keep the boundaries of messages, and TCP. Only this user can
 * open a pipe of kin's, and only from this machine; by name, the process at the other end must be this user's as well. There is
 * always one instance of the pipe more than there are clients, so that the name is never free in between. */
#include "stream.h"

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

/* ---- failing ---- */

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
                            PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_REJECT_REMOTE_CLIENTS, PIPE_UNLIMITED_INSTANCES, WIN_STREAM_BUFFER,
                            WIN_STREAM_BUFFER, 0, access);
}

/* Has the instance wait for a client, which may be there already. */
static kin_err await_client(os_port *port)
{
    for (;;) {
        (void)ResetEvent(port->changed);
        memset(&port->connecting, 0, sizeof port->connecting);
        port->connecting.hEvent = win_quiet(port->changed);
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
    win_exempt(port->next);
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

static bool is_stopped(bool (*stop)(void))
{
    return stop != NULL && stop();
}

static kin_err stopped(void)
{
    return kin__fail(KIN_ECANCELLED, "told to stop connecting");
}

static kin_err open_client(const wchar_t *name, const os_address *address, uint64_t deadline, HANDLE *pipe, bool (*stop)(void))
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
        DWORD left = win_left_ms(deadline);
        if (left == 0)
            return kin__fail(KIN_ETIMEDOUT, "'%.200s' took no connection in time: too many wait there", address->text);
        if (is_stopped(stop))
            return stopped();
        (void)WaitNamedPipeW(name, left < OS_CONNECT_MS ? left : OS_CONNECT_MS); /* another may be faster: try again */
    }
}

static kin_err connect_pipe(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    HANDLE pipe = INVALID_HANDLE_VALUE;
    DWORD mode = PIPE_READMODE_MESSAGE;
    wchar_t *name = pipe_name(address);
    if (name == NULL)
        return kin_last_code();
    kin_err err = open_client(name, address, deadline, &pipe, stop);
    free(name);
    if (err != KIN_OK)
        return err;
    if (address->kind == OS_ADDRESS_NAME && !is_same_user(pipe, true))
        err = kin__fail(KIN_EPERM, "who listens at '%.200s' is another user", address->text);
    else if (WIN_FAULT("SetNamedPipeHandleState") || !SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
        err = win_fail(GetLastError(), "SetNamedPipeHandleState", "'%.200s' is no pipe of messages", address->text);
    else
        err = win_stream_new(pipe, INVALID_SOCKET, stream);
    if (err != KIN_OK)
        CloseHandle(pipe);
    return err;
}

/* ---- TCP ---- */

static kin_err check_winsock(void)
{
    int error = win_streams_begin();
    return error == 0 ? KIN_OK : win_fail((DWORD)error, "WSAStartup", "there is no TCP");
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

/* Until it is connected, or not. The system's error; ERROR_CANCELLED: stopped. */
static DWORD await_connection(SOCKET s, HANDLE event, uint64_t deadline, bool (*stop)(void))
{
    WSANETWORKEVENTS events;
    kin_err err = KIN_ETIMEDOUT;
    for (uint64_t some = 0; err == KIN_ETIMEDOUT && some < deadline;) {
        if (is_stopped(stop))
            return ERROR_CANCELLED;
        some = kin__now_ns() + OS_CONNECT_MS * 1000000u;
        err = win_wait_until(&event, 1, some < deadline ? some : deadline);
    }
    if (err != KIN_OK)
        return err == KIN_ETIMEDOUT ? WSAETIMEDOUT : GetLastError();
    if (WSAEnumNetworkEvents(s, event, &events) != 0)
        return (DWORD)WSAGetLastError();
    return (DWORD)events.iErrorCode[FD_CONNECT_BIT];
}

static DWORD connect_socket(SOCKET s, const struct addrinfo *a, uint64_t deadline, bool (*stop)(void))
{
    u_long blocking = 0;
    HANDLE event = win_new_event();
    if (event == NULL)
        return GetLastError();
    DWORD error = ERROR_SUCCESS;
    if (WSAEventSelect(s, event, FD_CONNECT) != 0 || WIN_FAULT("connect") || connect(s, a->ai_addr, (int)a->ai_addrlen) != 0)
        error = (DWORD)WSAGetLastError();
    if (error == WSAEWOULDBLOCK)
        error = await_connection(s, event, deadline, stop);
    (void)WSAEventSelect(s, NULL, 0);
    (void)ioctlsocket(s, (long)FIONBIO, &blocking);
    CloseHandle(event);
    return error;
}

static kin_err connect_to(const struct addrinfo *a, const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    SOCKET s = new_socket(a->ai_family);
    if (s == INVALID_SOCKET)
        return fail_socket((DWORD)WSAGetLastError(), "WSASocketW", "cannot make a socket for", address);
    DWORD error = connect_socket(s, a, deadline, stop);
    if (error != ERROR_SUCCESS) {
        (void)closesocket(s);
        return error == ERROR_CANCELLED ? stopped() : fail_socket(error, "connect", "cannot connect to", address);
    }
    set_tcp(s);
    kin_err err = win_stream_new(INVALID_HANDLE_VALUE, s, stream);
    if (err != KIN_OK)
        (void)closesocket(s);
    return err;
}

/* One address after the other, each with its share of the time. */
static kin_err connect_tcp(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
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
    for (const struct addrinfo *a = found; a != NULL && err != KIN_OK && err != KIN_ECANCELLED; a = a->ai_next, left--) {
        uint64_t now = kin__now_ns();
        err = connect_to(a, address, stream, deadline == OS_NEVER || deadline < now ? deadline : now + (deadline - now) / left, stop);
    }
    freeaddrinfo(found);
    return err;
}

kin_err os_stream_connect(const os_address *address, os_stream **stream, uint64_t deadline, bool (*stop)(void))
{
    (void)win_streams_begin();
    return address->kind == OS_ADDRESS_TCP ? connect_tcp(address, stream, deadline, stop)
                                           : connect_pipe(address, stream, deadline, stop);
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
    (void)win_streams_begin();
    os_port *p = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *p);
    if (p == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a listener");
    p->next = INVALID_HANDLE_VALUE;
    p->socket = INVALID_SOCKET;
    p->same_user = address->kind == OS_ADDRESS_NAME;
    p->stop = win_new_event();
    p->changed = p->stop != NULL ? win_new_event() : NULL;
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
    kin_err err = win_stream_new(pipe, INVALID_SOCKET, stream);
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
    kin_err err = win_stream_new(INVALID_HANDLE_VALUE, s, stream);
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
            err = win_wait_until(events, 2, deadline);
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
