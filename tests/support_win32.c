/* What the tests ask of Windows. */
#include "os.h"

#if OS_WINDOWS

#include "support.h"

#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

#include <psapi.h>
#include <share.h>

enum { MOST_HANDLES = 4096 };

/* Wine can list all handles of the system, in one call. */
typedef struct listed {
    void *object;
    ULONG_PTR process, handle;
    ULONG access;
    USHORT trace, type;
    ULONG attributes, reserved;
} listed;
typedef struct list {
    ULONG_PTR count, reserved;
    listed all[];
} list;
typedef LONG(WINAPI *query)(ULONG what, void *into, ULONG size, ULONG *needed);
enum { ALL_HANDLES = 64 };

/* Numbers that may be handles of this process: under Wine just those that are; else every one that could be, as they are multiples of
 * 4, and small. */
static int possible_handles(HANDLE possible[MOST_HANDLES])
{
    int count = 0;
    if (!test_under_wine()) {
        for (uintptr_t number = 1; number < MOST_HANDLES; number++)
            possible[count++] = (HANDLE)(4 * number);
        return count;
    }
    query ask = (query)(void (*)(void))GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtQuerySystemInformation");
    list *l = NULL;
    for (ULONG size = 1 << 17; l == NULL && ask != NULL && size != 0; size *= 2) {
        l = malloc(size);
        if (l != NULL && ask(ALL_HANDLES, l, size, NULL) != 0) { /* more handles than that */
            free(l);
            l = NULL;
        }
    }
    for (ULONG_PTR i = 0; l != NULL && i < l->count && count < MOST_HANDLES; i++) {
        if (l->all[i].process == GetCurrentProcessId())
            possible[count++] = (HANDLE)l->all[i].handle;
    }
    free(l);
    return count;
}

/* Wine counts none. */
int test_count_handles(void)
{
    HANDLE possible[MOST_HANDLES];
    DWORD count = 0;
    if (test_under_wine())
        return possible_handles(possible);
    return GetProcessHandleCount(GetCurrentProcess(), &count) ? (int)count : -1;
}

static HANDLE open_file(const char *path, bool inheritable, DWORD how)
{
    SECURITY_ATTRIBUTES attributes = {sizeof attributes, NULL, inheritable};
    return CreateFileA(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, &attributes, how,
                       FILE_ATTRIBUTE_NORMAL, NULL);
}

bool test_has_open(const char *path)
{
    BY_HANDLE_FILE_INFORMATION wanted, info;
    HANDLE possible[MOST_HANDLES];
    bool found = false;
    HANDLE own = open_file(path, false, OPEN_EXISTING);
    if (own == INVALID_HANDLE_VALUE || !GetFileInformationByHandle(own, &wanted))
        return false;
    for (int i = possible_handles(possible); i-- > 0 && !found;) {
        found = possible[i] != own && GetFileType(possible[i]) == FILE_TYPE_DISK && GetFileInformationByHandle(possible[i], &info) &&
                info.dwVolumeSerialNumber == wanted.dwVolumeSerialNumber && info.nFileIndexHigh == wanted.nFileIndexHigh &&
                info.nFileIndexLow == wanted.nFileIndexLow;
    }
    CloseHandle(own);
    return found;
}

intptr_t test_open_inheritable(const char *path)
{
    return (intptr_t)open_file(path, true, OPEN_ALWAYS);
}

void test_close_handle(intptr_t handle)
{
    CloseHandle((HANDLE)handle);
}

void test_allow_handles(int count)
{
    (void)count;
}

bool test_limit_handles(int soft, int hard)
{
    (void)soft;
    (void)hard;
    return false;
}

bool test_process_exists(int64_t pid)
{
    HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, (DWORD)pid);
    if (process == NULL)
        return GetLastError() == ERROR_ACCESS_DENIED;
    bool exists = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
    CloseHandle(process);
    return exists;
}

void test_process_kill(int64_t pid)
{
    HANDLE process = OpenProcess(PROCESS_TERMINATE, FALSE, (DWORD)pid);
    if (process == NULL)
        return;
    TerminateProcess(process, 1);
    CloseHandle(process);
}

typedef LONG(NTAPI *process_call)(HANDLE);

static bool call_for(int64_t pid, const char *name)
{
    process_call call = (process_call)(void (*)(void))GetProcAddress(GetModuleHandleW(L"ntdll.dll"), name);
    HANDLE process = OpenProcess(PROCESS_SUSPEND_RESUME, FALSE, (DWORD)pid);
    bool done = call != NULL && process != NULL && call(process) >= 0;
    if (process != NULL)
        CloseHandle(process);
    return done;
}

bool test_process_stop(int64_t pid)
{
    return call_for(pid, "NtSuspendProcess");
}

bool test_process_continue(int64_t pid)
{
    return call_for(pid, "NtResumeProcess");
}

void test_process_title(int64_t pid, char title[64])
{
    (void)pid;
    title[0] = 0;
}

int test_count_zombies(void)
{
    return 0;
}

bool test_under_wine(void)
{
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    return ntdll != NULL && GetProcAddress(ntdll, "wine_get_version") != NULL;
}

bool test_has_children(void)
{
    return false;
}

void test_watch_signals(void)
{
}

int test_signals(void)
{
    return 0;
}

bool test_has_signals(void)
{
    return false;
}

bool test_on_signal(void (*function)(void))
{
    (void)function;
    return false;
}

void test_signal(int64_t pid)
{
    (void)pid;
}

int test_in_copy(int (*function)(void))
{
    (void)function;
    return -1;
}

int test_umask(int mask)
{
    int before = 0;
    return _umask_s(mask, &before) == 0 ? before : -1;
}

int64_t test_memory(void)
{
    PROCESS_MEMORY_COUNTERS counters = {.cb = sizeof counters};
    return K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters) ? (int64_t)counters.PagefileUsage : 0;
}

void test_crash_access(void)
{
    static int *volatile nowhere;
    *(volatile int *)nowhere = 1;
}

void test_crash_divide(void)
{
    static volatile int one = 1, zero, result;
    result = one / zero;
    (void)result;
}

void test_close_descriptors(int from, int to)
{
    for (int fd = from; fd <= to; fd++)
        (void)_close(fd);
}

#else

typedef int test_nothing_here; /* ISO C wants a declaration in every file */

#endif
