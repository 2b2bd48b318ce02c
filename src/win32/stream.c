/* Streams: named pipes that keep the boundaries of messages, and TCP. Both by overlapped operations: a stream always has at
 * most one read under way, into its own buffer, and at most one write, from a copy; their events say when they are done. So
 * nothing ever waits inside an operation, no operation is taken back because somebody's time is over, and what becomes
 * ready can be watched. A thread's end would cancel what it has begun; handles that belong to a completion port are
 * exempt, so all belong to one, which nobody reads: the lowest bit of an event's handle keeps the operations out of it. */
#include "stream.h"

#define WRITE_MOST ((size_t)262144) /* bytes that are copied at once where boundaries do not matter */

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

int win_streams_begin(void)
{
    (void)InitOnceExecuteOnce(&once, begin, NULL, NULL);
    return winsock_error;
}

HANDLE win_new_event(void)
{
    return WIN_FAULT("CreateEventW") ? NULL : CreateEventW(NULL, TRUE, FALSE, NULL);
}

void win_exempt(HANDLE handle)
{
    if (nobodys_port != NULL)
        (void)CreateIoCompletionPort(handle, nobodys_port, 0, 0);
}

/* ---- time ---- */

DWORD win_left_ms(uint64_t deadline)
{
    if (deadline == OS_NEVER)
        return INFINITE;
    uint64_t now = kin__now_ns();
    if (now >= deadline)
        return 0;
    uint64_t ms = (deadline - now + 999999) / 1000000;
    return ms >= INFINITE ? INFINITE - 1 : (DWORD)ms;
}

kin_err win_wait_until(const HANDLE *handles, DWORD count, uint64_t deadline)
{
    for (;;) {
        DWORD left = win_left_ms(deadline);
        DWORD found = WIN_FAULT("WaitForMultipleObjects") ? WAIT_FAILED : WaitForMultipleObjects(count, handles, FALSE, left);
        if (found < WAIT_OBJECT_0 + count)
            return KIN_OK;
        if (found != WAIT_TIMEOUT)
            return win_fail(GetLastError(), "WaitForMultipleObjects", "cannot wait for a connection");
        if (left == 0)
            return kin__fail(KIN_ETIMEDOUT, "nothing happened on the connection in time");
    }
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
    case WSAETIMEDOUT: /* out of reach for so long that the system has given it up */
    case WSAEHOSTUNREACH:
    case WSAENETUNREACH:
    case ERROR_SEM_TIMEOUT:
    case ERROR_HOST_UNREACHABLE:
    case ERROR_NETWORK_UNREACHABLE:
        return true;
    default:
        return false;
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

kin_err win_stream_new(HANDLE pipe, SOCKET socket, os_stream **stream)
{
    os_stream *s = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *s);
    if (s == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a connection");
    s->pipe = pipe != INVALID_HANDLE_VALUE;
    s->handle = pipe;
    s->socket = socket;
    s->in_done = win_new_event();
    s->out_done = s->in_done != NULL ? win_new_event() : NULL;
    s->buffer = malloc(WIN_STREAM_BUFFER);
    if (s->out_done == NULL || s->buffer == NULL) {
        free_stream(s);
        return kin__fail(KIN_ENOMEM, "no memory, or no event, for a connection");
    }
    s->in.hEvent = win_quiet(s->in_done);
    s->out.hEvent = win_quiet(s->out_done);
    win_exempt(s->pipe ? pipe : (HANDLE)socket);
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
        return ReadFile(s->handle, s->buffer, WIN_STREAM_BUFFER, NULL, &s->in) ? ERROR_SUCCESS : GetLastError();
    WSABUF part = {WIN_STREAM_BUFFER, s->buffer};
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
        kin_err err = win_wait_until(&event, 1, deadline);
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
        (void)shutdown(s->socket, SD_SEND); /* not both: that resets it if anything comes */
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
