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

/* Wine counts none. Handles are multiples of 4, of small numbers: every one that could be is tried. (Wine would list those of all programs, but
 * its server dies of that now and then, and every program with it.) */
int test_count_handles(void)
{
    DWORD count = 0, flags;
    if (!GetProcessHandleCount(GetCurrentProcess(), &count))
        return -1;
    for (uintptr_t number = 4; number < 4 * 4096 && test_under_wine(); number += 4)
        count += GetHandleInformation((HANDLE)number, &flags) != 0;
    return (int)count;
}

static HANDLE open_file(const char *path, bool inheritable, DWORD how)
{
    SECURITY_ATTRIBUTES attributes = {sizeof attributes, NULL, inheritable};
    return CreateFileA(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, &attributes, how,
                       FILE_ATTRIBUTE_NORMAL, NULL);
}

/* Handles are multiples of 4. Their numbers are small: every one that could be is tried. */
bool test_has_open(const char *path)
{
    BY_HANDLE_FILE_INFORMATION wanted, info;
    bool found = false;
    HANDLE own = open_file(path, false, OPEN_EXISTING);
    if (own == INVALID_HANDLE_VALUE || !GetFileInformationByHandle(own, &wanted))
        return false;
    for (uintptr_t number = 4; number < 4 * 4096 && !found; number += 4) {
        HANDLE handle = (HANDLE)number;
        found = handle != own && GetFileType(handle) == FILE_TYPE_DISK && GetFileInformationByHandle(handle, &info) &&
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
