/* Processes: who they are, ending them, and hearing of their end. A process is named by its id and the time it was
 * created, which the system keeps for as long as any handle to it is open; a handle therefore never comes to mean
 * another process. Ends are heard through a thread pool of kin's own, which has no limit of 63 and cannot be kept busy
 * by the program's work. What is reported must never come before the last thread of the process is gone: a process is
 * signalled only then. */
#include "win.h"

/* How a process that kin ended is told from one that returned a number. */
#define CODE_KILLED 0xE0004B09u
#define CODE_ASKED 0xE0004B0Fu

#define PROCESS_ACCESS (PROCESS_TERMINATE | PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE)

/* How long a process that is on its way out, so that it cannot be ended any more, is given to be gone. */
#define LEAVING_MS 2000

int64_t os_process_self(void)
{
    return (int64_t)GetCurrentProcessId();
}

bool win_birthday(HANDLE process, uint64_t *birthday)
{
    FILETIME created, exited, kernel, user;
    if (!GetProcessTimes(process, &created, &exited, &kernel, &user))
        return false;
    *birthday = ((uint64_t)created.dwHighDateTime << 32) | created.dwLowDateTime;
    return true;
}

uint64_t os_process_birthday(void)
{
    uint64_t birthday = 0;
    return win_birthday(GetCurrentProcess(), &birthday) ? birthday : 0;
}

static bool has_ended(HANDLE process, DWORD wait_ms)
{
    return WaitForSingleObject(process, wait_ms) == WAIT_OBJECT_0;
}

kin_err os_process_open(int64_t pid, uint64_t birthday, os_handle *process)
{
    if (pid <= 0 || pid > UINT32_MAX)
        return kin__fail(KIN_ENOENT, "there is no process %lld", (long long)pid);
    HANDLE found = WIN_FAULT("OpenProcess") ? NULL : OpenProcess(PROCESS_ACCESS, FALSE, (DWORD)pid);
    if (found == NULL) {
        DWORD error = GetLastError();
        kin_err failure = win_fail(error, "OpenProcess", "cannot open process %lld", (long long)pid);
        return error == ERROR_INVALID_PARAMETER ? kin__fail_in(KIN_ENOENT, "it has ended") : failure;
    }
    uint64_t began;
    if (WIN_FAULT("GetProcessTimes") || !win_birthday(found, &began)) {
        DWORD error = GetLastError();
        CloseHandle(found);
        return win_fail(error, "GetProcessTimes", "cannot tell when process %lld began", (long long)pid);
    }
    /* One that has ended can still be opened while somebody holds a handle to it. That must make no difference. */
    if (began != birthday || has_ended(found, 0)) {
        CloseHandle(found);
        return kin__fail(KIN_ENOENT, "process %lld has ended", (long long)pid);
    }
    *process = (os_handle)found;
    return KIN_OK;
}

/* Ending a process that is ending already is refused as if it were forbidden. Its exit code is set by then; a code that
 * happens to be STILL_ACTIVE says nothing, so the process itself is asked too. */
static bool is_leaving(HANDLE process)
{
    DWORD code;
    if (GetExitCodeProcess(process, &code) && code != STILL_ACTIVE)
        return true;
    return has_ended(process, LEAVING_MS);
}

kin_err os_process_end(os_handle process, bool force)
{
    if (win_no_handle(process)) /* -1 is this very process to the system */
        return kin__fail(KIN_EINVAL, "cannot end a process: no handle");
    HANDLE target = win_handle(process);
    if (!WIN_FAULT("TerminateProcess") && TerminateProcess(target, force ? CODE_KILLED : CODE_ASKED))
        return KIN_OK;
    DWORD error = GetLastError();
    if (error == ERROR_ACCESS_DENIED && is_leaving(target))
        return KIN_OK;
    return win_fail(error, "TerminateProcess", "cannot end process %lu", (unsigned long)GetProcessId(target));
}

/* ---- exit codes -------------------------------------------------------------------------------------------------- */

/* An end by an exception is the signal that it would have been. abort() of the C library ends with 3, as exit(3)
 * does: it is reported as 3, and portable code, which knows whether the process went through exit(), tells them
 * apart. */
int win_status(DWORD code)
{
    switch (code) {
    case CODE_KILLED:
        return -9;
    case CODE_ASKED:
        return -15;
    case 0xC0000005u: /* access violation */
    case 0xC00000FDu: /* stack overflow */
        return -11;
    case 0xC000008Du: /* floating point: a denormal operand */
    case 0xC000008Eu: /* division by zero */
    case 0xC000008Fu: /* an inexact result */
    case 0xC0000090u: /* an invalid operation */
    case 0xC0000091u: /* overflow */
    case 0xC0000092u: /* its stack */
    case 0xC0000093u: /* underflow */
    case 0xC0000094u: /* integers: division by zero */
    case 0xC0000095u: /* overflow */
        return -8;
    case 0xC0000409u: /* fail fast: abort() as newer C libraries may end, a damaged stack */
        return -6;
    case 0x80000003u: /* breakpoint */
        return -5;
    case 0xC000001Du: /* illegal instruction */
        return -4;
    case 0xC000013Au: /* Ctrl-C */
        return -2;
    default:
        return code >> 28 == 0xC ? -127 : (int)(code & 0xFF);
    }
}

/* ---- watching ---------------------------------------------------------------------------------------------------- */

typedef struct watch {
    HANDLE process;
    uint64_t who;
    void (*ended)(uint64_t who, int status);
} watch;

static INIT_ONCE pool_once = INIT_ONCE_STATIC_INIT;
static PTP_POOL pool;

/* One thread, made at once so that it is there when a process ends while memory is short. */
static BOOL CALLBACK make_pool(PINIT_ONCE once, PVOID parameter, PVOID *context)
{
    (void)once;
    (void)parameter;
    (void)context;
    pool = WIN_FAULT("CreateThreadpool") ? NULL : CreateThreadpool(NULL);
    if (pool == NULL)
        return FALSE;
    SetThreadpoolThreadMaximum(pool, 1);
    if (!WIN_FAULT("SetThreadpoolThreadMinimum") && SetThreadpoolThreadMinimum(pool, 1))
        return TRUE;
    DWORD error = GetLastError();
    CloseThreadpool(pool);
    SetLastError(error);
    return FALSE;
}

/* The handle is closed last: until then the system does not give the process's number to another. */
static void CALLBACK process_ended(PTP_CALLBACK_INSTANCE instance, void *context, PTP_WAIT wait, TP_WAIT_RESULT result)
{
    (void)instance;
    (void)result;
    watch *w = context;
    DWORD code;
    w->ended(w->who, GetExitCodeProcess(w->process, &code) ? win_status(code) : OS_STATUS_UNKNOWN);
    CloseThreadpoolWait(wait); /* allowed here: it goes when this function has returned */
    CloseHandle(w->process);
    free(w);
}

static kin_err begin_watch(watch *w)
{
    if (!InitOnceExecuteOnce(&pool_once, make_pool, NULL, NULL))
        return win_fail(GetLastError(), "CreateThreadpool", "cannot watch a process");
    TP_CALLBACK_ENVIRON where;
    InitializeThreadpoolEnvironment(&where);
    SetThreadpoolCallbackPool(&where, pool);
    PTP_WAIT wait = WIN_FAULT("CreateThreadpoolWait") ? NULL : CreateThreadpoolWait(process_ended, w, &where);
    DWORD error = GetLastError();
    DestroyThreadpoolEnvironment(&where);
    if (wait == NULL)
        return win_fail(error, "CreateThreadpoolWait", "cannot watch a process");
    SetThreadpoolWait(wait, w->process, NULL);
    return KIN_OK;
}

/* The handle is taken over in any case: when this fails it is closed. */
kin_err os_process_watch(os_handle process, uint64_t who, void (*ended)(uint64_t who, int status))
{
    if (win_no_handle(process))
        return kin__fail(KIN_EINVAL, "cannot watch a process: no handle");
    watch *w = KIN_FAULT("malloc") ? NULL : malloc(sizeof *w);
    if (w == NULL) {
        os_handle_close(process);
        return kin__fail(KIN_ENOMEM, "cannot watch a process: no memory [malloc]");
    }
    *w = (watch){win_handle(process), who, ended};
    kin_err error = begin_watch(w);
    if (error != KIN_OK) {
        os_handle_close(process);
        free(w);
    }
    return error;
}

/* ---- this process ------------------------------------------------------------------------------------------------ */

typedef HRESULT(WINAPI *describe_thread)(HANDLE thread, PCWSTR description);

/* Windows shows no name for a process but that of its file; debuggers and profilers show those of threads. */
void os_process_set_name(const char *name)
{
    HMODULE kernel = GetModuleHandleW(L"kernel32.dll");
    describe_thread describe =
        kernel != NULL ? (describe_thread)(void (*)(void))GetProcAddress(kernel, "SetThreadDescription") : NULL;
    wchar_t *wide = describe != NULL ? win_wide(name) : NULL;
    if (wide != NULL)
        (void)describe(GetCurrentThread(), wide);
    free(wide);
}

/* ExitProcess would run the parting code of every library, under a lock that another thread may hold. */
_Noreturn void os_process_exit(int code)
{
    TerminateProcess(GetCurrentProcess(), (UINT)code & 0xFF);
    for (;;)
        ExitProcess((UINT)code & 0xFF);
}

/* There is no fork. */
kin_err os_on_fork(void (*forked)(void))
{
    (void)forked;
    return KIN_OK;
}
