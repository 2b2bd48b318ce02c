/* Sockets and HANDLEs becoming ready. One thread per process, made when first needed, waits for all sockets that are watched,
 * with WSAPoll, which leaves a socket's mode alone (event selection would make it non-blocking); a datagram socket that is
 * connected to itself tells it when there are more. What it hears of a watch that was removed meanwhile means nothing.
 * HANDLEs are waited for by threads of the watch's own. `ready` is called with the lock for sockets, and by those threads,
 * whose end is waited for; so who removes a watch has waited for it. */
#include <winsock2.h>
#include <ws2tcpip.h>

#include "win.h"

#include "../atomic.h"

struct os_watch {
    os_watch *next, **before; /* in the list of those that have sockets */
    uint64_t number;
    size_t count, sockets;
    os_source *sources;
    struct group *groups; /* of HANDLEs */
    size_t group_count;
    uint32_t called;
    void (*ready)(void *arg);
    void *arg;
};

static SRWLOCK lock = SRWLOCK_INIT;
static os_watch *watches;
static uint64_t numbers;
static size_t socket_count; /* of all watches */
static SOCKET bell = INVALID_SOCKET;

static kin_err fail_socket(const char *call, const char *what)
{
    return win_fail((DWORD)WSAGetLastError(), call, "%s", what);
}

static void call(os_watch *w)
{
    if (kin__exchange32(&w->called, 1) == 0)
        w->ready(w->arg);
}

/* ---- looking ---- */

static WSAPOLLFD poll_of(const os_source *source)
{
    return (WSAPOLLFD){.fd = (SOCKET)source->source, .events = source->events == OS_WRITABLE ? POLLWRNORM : POLLRDNORM};
}

static bool is_socket(SOCKET s)
{
    int type, size = sizeof type;
    return getsockopt(s, SOL_SOCKET, SO_TYPE, (char *)&type, &size) == 0;
}

static kin_err look_at_handle(os_source *source)
{
    if (win_no_handle(source->source))
        return kin__fail(KIN_EINVAL, "%lld is no open HANDLE", (long long)source->source);
    DWORD found = WIN_FAULT("WaitForSingleObject") ? WAIT_FAILED : WaitForSingleObject(win_handle(source->source), 0);
    if (found == WAIT_FAILED) {
        kin_err err = win_fail(GetLastError(), "WaitForSingleObject", "cannot wait for HANDLE %lld", (long long)source->source);
        return GetLastError() == ERROR_INVALID_HANDLE ? kin__fail_in(KIN_EINVAL, "not open") : err;
    }
    source->ready = source->ready || found != WAIT_TIMEOUT;
    return KIN_OK;
}

static kin_err look_at_sockets(os_source *sources, size_t count, size_t sockets, size_t *wrong)
{
    WSAPOLLFD *fds = KIN_FAULT("malloc") ? NULL : malloc(sockets * sizeof *fds);
    if (fds == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to look at %zu sockets", sockets);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (sources[i].events != OS_SIGNALLED)
            fds[n++] = poll_of(&sources[i]);
    }
    bool failed = WIN_FAULT("WSAPoll") || WSAPoll(fds, (ULONG)n, 0) == SOCKET_ERROR;
    kin_err err = failed ? fail_socket("WSAPoll", "cannot look at sockets") : KIN_OK;
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (sources[i].events == OS_SIGNALLED)
            continue;
        WSAPOLLFD *fd = &fds[n++];
        if ((failed || (fd->revents & POLLNVAL) != 0) && !is_socket(fd->fd)) {
            *wrong = i;
            err = kin__fail(KIN_EINVAL, "%lld is no open socket", (long long)sources[i].source);
            break;
        }
        sources[i].ready = sources[i].ready || (!failed && fd->revents != 0);
    }
    free(fds);
    return err;
}

kin_err os_sources_look(os_source *sources, size_t count, size_t *wrong)
{
    size_t sockets = 0;
    kin_err err = KIN_OK;
    for (size_t i = 0; i < count && err == KIN_OK; i++)
        sockets += sources[i].events != OS_SIGNALLED;
    if (sockets > 0)
        err = look_at_sockets(sources, count, sockets, wrong);
    for (size_t i = 0; i < count && err == KIN_OK; i++) { /* last: this may change them */
        if (sources[i].events == OS_SIGNALLED && (err = look_at_handle(&sources[i])) != KIN_OK)
            *wrong = i;
    }
    return err;
}

/* ---- the thread for sockets ---- */

static void ring(void)
{
    (void)send(bell, "", 1, 0);
}

typedef struct polled {
    WSAPOLLFD *fds;
    uint64_t *numbers; /* whose they are; the first is the bell */
    size_t count, space;
} polled;

/* With the lock. False: no memory. */
static bool collect(polled *p)
{
    if (p->space < socket_count + 1) {
        size_t space = (socket_count + 1) * 2;
        WSAPOLLFD *fds = realloc(p->fds, space * sizeof *fds);
        p->fds = fds != NULL ? fds : p->fds;
        uint64_t *owners = fds != NULL ? realloc(p->numbers, space * sizeof *owners) : NULL;
        if (owners == NULL)
            return false;
        p->numbers = owners;
        p->space = space;
    }
    p->fds[0] = (WSAPOLLFD){.fd = bell, .events = POLLRDNORM};
    p->count = 1;
    for (os_watch *w = watches; w != NULL; w = w->next) {
        for (size_t i = 0; i < w->count && kin__load32(&w->called) == 0; i++) {
            if (w->sources[i].events == OS_SIGNALLED)
                continue;
            p->fds[p->count] = poll_of(&w->sources[i]);
            p->numbers[p->count++] = w->number;
        }
    }
    return true;
}

/* With the lock. */
static void report(uint64_t number)
{
    os_watch *w = watches;
    while (w != NULL && w->number != number)
        w = w->next;
    if (w != NULL)
        call(w);
}

static void wait_once(polled *p)
{
    AcquireSRWLockExclusive(&lock);
    bool collected = collect(p);
    ReleaseSRWLockExclusive(&lock);
    int n = collected ? WSAPoll(p->fds, (ULONG)p->count, -1) : SOCKET_ERROR;
    if (!collected)
        Sleep(10); /* until there is memory again */
    if (n > 0 && p->fds[0].revents != 0) {
        char byte;
        (void)recv(bell, &byte, 1, 0);
    }
    AcquireSRWLockExclusive(&lock);
    for (size_t i = 1; collected && i < p->count; i++) {
        if (n == SOCKET_ERROR ? !is_socket(p->fds[i].fd) : p->fds[i].revents != 0)
            report(p->numbers[i]);
    }
    ReleaseSRWLockExclusive(&lock);
}

static DWORD WINAPI watch_thread(void *arg)
{
    polled p = {0};
    for (;;)
        wait_once(&p);
    (void)arg;
    return 0; /* never */
}

static SOCKET make_bell(void)
{
    SOCKET s = WIN_FAULT("socket") ? INVALID_SOCKET : WSASocketW(AF_INET, SOCK_DGRAM, 0, NULL, 0, WSA_FLAG_NO_HANDLE_INHERIT);
    struct sockaddr_in me = {.sin_family = AF_INET};
    int size = sizeof me;
    me.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s != INVALID_SOCKET && bind(s, (struct sockaddr *)&me, size) == 0 && getsockname(s, (struct sockaddr *)&me, &size) == 0 &&
        connect(s, (struct sockaddr *)&me, size) == 0)
        return s;
    int error = WSAGetLastError();
    if (s != INVALID_SOCKET)
        (void)closesocket(s);
    WSASetLastError(error);
    return INVALID_SOCKET;
}

/* With the lock. */
static kin_err start_thread(void)
{
    if (bell != INVALID_SOCKET)
        return KIN_OK;
    WSADATA data;
    int error = WSAStartup(MAKEWORD(2, 2), &data); /* for as long as the process lives */
    if (error != 0)
        return win_fail((DWORD)error, "WSAStartup", "cannot watch sockets");
    SOCKET s = make_bell();
    if (s == INVALID_SOCKET) {
        kin_err err = fail_socket("socket", "cannot watch sockets");
        (void)WSACleanup();
        return err;
    }
    bell = s;
    HANDLE thread = WIN_FAULT("CreateThread") ? NULL : CreateThread(NULL, 0, watch_thread, NULL, 0, NULL);
    if (thread == NULL) {
        kin_err err = win_fail(GetLastError(), "CreateThread", "cannot watch sockets");
        bell = INVALID_SOCKET;
        (void)closesocket(s);
        (void)WSACleanup();
        return err;
    }
    CloseHandle(thread);
    return KIN_OK;
}

static kin_err enter_sockets(os_watch *w)
{
    AcquireSRWLockExclusive(&lock);
    kin_err err = start_thread();
    if (err == KIN_OK) {
        w->number = ++numbers;
        w->next = watches;
        w->before = &watches;
        if (w->next != NULL)
            w->next->before = &w->next;
        watches = w;
        socket_count += w->sockets;
        ring();
    } else {
        w->sockets = 0;
    }
    ReleaseSRWLockExclusive(&lock);
    return err;
}

static void leave_sockets(os_watch *w)
{
    AcquireSRWLockExclusive(&lock);
    *w->before = w->next;
    if (w->next != NULL)
        w->next->before = w->before;
    socket_count -= w->sockets;
    ReleaseSRWLockExclusive(&lock);
}

/* ---- HANDLEs: a thread for each 63, for as long as the watch lives ------------------------------------------------ */

/* The system's thread pool would not do: a wait that is taken back there may have reset an event already, and nobody hears of it. */
#define GROUP (MAXIMUM_WAIT_OBJECTS - 1)

typedef struct group {
    os_watch *watch;
    HANDLE thread, handles[GROUP + 1]; /* the first ends it */
    DWORD count;
    HANDLE seen; /* written by the thread, read when it has ended */
} group;

static DWORD WINAPI wait_for_group(void *arg)
{
    group *g = arg;
    DWORD found = WaitForMultipleObjects(g->count, g->handles, FALSE, INFINITE);
    if (found == WAIT_OBJECT_0)
        return 0; /* of several that are signalled only the first is reported, and changed */
    if (found < WAIT_OBJECT_0 + g->count)
        g->seen = g->handles[found - WAIT_OBJECT_0];
    else if (found >= WAIT_ABANDONED_0 && found < WAIT_ABANDONED_0 + g->count)
        g->seen = g->handles[found - WAIT_ABANDONED_0];
    call(g->watch); /* also if one was closed: a look will tell */
    return 0;
}

static bool has(const group *g, HANDLE handle)
{
    for (DWORD i = 1; i < g->count; i++) {
        if (g->handles[i] == handle)
            return true;
    }
    return false;
}

static kin_err start_group(group *g)
{
    g->handles[0] = WIN_FAULT("CreateEventW") ? NULL : CreateEventW(NULL, TRUE, FALSE, NULL);
    if (g->handles[0] != NULL)
        g->thread = WIN_FAULT("CreateThread") ? NULL : CreateThread(NULL, 65536, wait_for_group, g, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return g->thread != NULL ? KIN_OK : win_fail(GetLastError(), "CreateThread", "cannot wait for %lu HANDLEs", (unsigned long)g->count - 1);
}

static kin_err enter_handles(os_watch *w)
{
    size_t most = (w->count - w->sockets + GROUP - 1) / GROUP;
    w->groups = KIN_FAULT("malloc") ? NULL : calloc(most, sizeof *w->groups);
    if (w->groups == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to wait for %zu HANDLEs", w->count - w->sockets);
    group *g = NULL;
    kin_err err = KIN_OK;
    for (size_t i = 0; i < w->count && err == KIN_OK; i++) {
        HANDLE handle = win_handle(w->sources[i].source);
        if (w->sources[i].events != OS_SIGNALLED || (g != NULL && has(g, handle)))
            continue; /* one call may not name the same twice */
        if (g != NULL && g->count == GROUP + 1) {
            err = start_group(g);
            g = NULL;
        }
        if (g == NULL) {
            g = &w->groups[w->group_count++];
            *g = (group){.watch = w, .count = 1};
        }
        g->handles[g->count++] = handle;
    }
    return err == KIN_OK ? start_group(g) : err;
}

static void end_group(group *g)
{
    if (g->thread != NULL) {
        (void)SetEvent(g->handles[0]);
        (void)WaitForSingleObject(g->thread, INFINITE);
        CloseHandle(g->thread);
    }
    if (g->handles[0] != NULL)
        CloseHandle(g->handles[0]);
}

/* Marks those that were seen: an auto-reset event is reset by that. */
static void leave_handles(os_watch *w, os_source *sources)
{
    for (size_t n = 0; n < w->group_count; n++) {
        end_group(&w->groups[n]);
        for (size_t i = 0; i < w->count && sources != NULL && w->groups[n].seen != NULL; i++) {
            if (sources[i].events == OS_SIGNALLED && win_handle(sources[i].source) == w->groups[n].seen)
                sources[i].ready = true;
        }
    }
    free(w->groups);
}

/* ---- both ---- */

kin_err os_watch_add(const os_source *sources, size_t count, void (*ready)(void *arg), void *arg, os_watch **watch)
{
    os_watch *w = KIN_FAULT("malloc") ? NULL : calloc(1, sizeof *w);
    os_source *copy = w != NULL ? malloc(count * sizeof *copy) : NULL;
    if (copy == NULL) {
        free(w);
        return kin__fail(KIN_ENOMEM, "no memory to watch %zu things", count);
    }
    memcpy(copy, sources, count * sizeof *copy);
    *w = (os_watch){.count = count, .sources = copy, .ready = ready, .arg = arg};
    for (size_t i = 0; i < count; i++)
        w->sockets += copy[i].events != OS_SIGNALLED;
    kin_err err = w->sockets > 0 ? enter_sockets(w) : KIN_OK;
    if (err == KIN_OK && w->sockets < count)
        err = enter_handles(w);
    if (err != KIN_OK)
        os_watch_remove(w, NULL);
    else
        *watch = w;
    return err;
}

void os_watch_remove(os_watch *w, os_source *sources)
{
    if (w == NULL)
        return;
    if (w->sockets > 0)
        leave_sockets(w);
    leave_handles(w, sources);
    free(w->sources);
    free(w);
}
