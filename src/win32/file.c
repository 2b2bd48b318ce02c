/* Locks on files, by LockFileEx on all bytes there could be. The lock belongs to the handle's file object, so that
 * it goes with the process, however that ends. The file is opened so that others may read, write, rename and delete
 * it meanwhile; so the name may have come to mean another file by the time the lock is had, and a lock on one that
 * nobody finds any more excludes nobody: what is locked is compared with what the path names then. Nothing here may
 * write to a file or remove one. */
#include "win.h"

#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
#define ALL_LOW MAXDWORD
#define ALL_HIGH MAXDWORD
#define TAKEN_PAUSE_MS 5

typedef LONG(NTAPI *status_query)(void);

/* Whether the last call was refused because the file is deleted but still open somewhere. Its name is taken then
 * until the last handle is closed, on file systems where a deletion does not free the name at once. To the rest of
 * the system that is "access denied". */
static bool name_is_pending(void)
{
    const LONG delete_pending = (LONG)0xC0000056;
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    status_query query =
        ntdll != NULL ? (status_query)(void (*)(void))GetProcAddress(ntdll, "RtlGetLastNtStatus") : NULL;
    return query != NULL && query() == delete_pending;
}

static bool is_directory(const wchar_t *path)
{
    DWORD attributes = GetFileAttributesW(path);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

/* To read is enough to lock, and works with a file that is write-protected. */
static HANDLE open_file(const wchar_t *path)
{
    HANDLE file = WIN_FAULT("CreateFileW")
                      ? INVALID_HANDLE_VALUE
                      : CreateFileW(path, GENERIC_READ, SHARE_ALL, NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE && GetLastError() == ERROR_ACCESS_DENIED && name_is_pending())
        SetLastError(ERROR_DELETE_PENDING);
    return file;
}

/* It cannot be opened as long as somebody has it open: who has deleted it, or shares it with nobody. The system lets
 * nobody wait for that. */
static bool is_taken(DWORD error) { return error == ERROR_DELETE_PENDING || error == ERROR_SHARING_VIOLATION; }

static DWORD lock_whole(HANDLE file, bool wait)
{
    OVERLAPPED from_the_start;
    memset(&from_the_start, 0, sizeof from_the_start);
    DWORD how = wait ? LOCKFILE_EXCLUSIVE_LOCK : LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    if (!WIN_FAULT("LockFileEx") && LockFileEx(file, how, 0, ALL_LOW, ALL_HIGH, &from_the_start))
        return ERROR_SUCCESS;
    DWORD error = GetLastError();
    return error == ERROR_IO_PENDING ? ERROR_LOCK_VIOLATION
                                     : error; /* how some versions answer who would have to wait */
}

static bool identity_of(HANDLE file, BY_HANDLE_FILE_INFORMATION *identity)
{
    return !WIN_FAULT("GetFileInformationByHandle") && GetFileInformationByHandle(file, identity);
}

/* Whether the path still names this file. Where that cannot be told because of its permissions, it does as far as
 * can be known. */
static kin_err is_at(const char *path, const wchar_t *wide, HANDLE file, bool *same)
{
    BY_HANDLE_FILE_INFORMATION mine, there;
    if (!identity_of(file, &mine))
        return win_fail(GetLastError(), "GetFileInformationByHandle", "cannot look at '%.200s', which is locked", path);
    HANDLE found = WIN_FAULT("CreateFileW")
                       ? INVALID_HANDLE_VALUE
                       : CreateFileW(wide, FILE_READ_ATTRIBUTES, SHARE_ALL, NULL, OPEN_EXISTING, 0, NULL);
    if (found == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        *same = error == ERROR_ACCESS_DENIED && !name_is_pending();
        if (error == ERROR_ACCESS_DENIED || error == ERROR_FILE_NOT_FOUND || is_taken(error))
            return KIN_OK;
        return win_fail(error, "CreateFileW", "cannot look for '%.200s', which is locked", path);
    }
    bool known = identity_of(found, &there);
    DWORD error = GetLastError();
    CloseHandle(found);
    if (!known)
        return win_fail(error, "GetFileInformationByHandle", "cannot look for '%.200s', which is locked", path);
    *same = mine.dwVolumeSerialNumber == there.dwVolumeSerialNumber && mine.nFileIndexHigh == there.nFileIndexHigh &&
            mine.nFileIndexLow == there.nFileIndexLow;
    return KIN_OK;
}

static kin_err cannot_open(DWORD error, const char *path, const wchar_t *wide)
{
    if (error == ERROR_ACCESS_DENIED && is_directory(wide))
        return kin__fail(KIN_EIO, "cannot lock '%.200s': it is a directory", path);
    return win_fail(error, "CreateFileW", "cannot open '%.200s' to lock it", path);
}

/* Locks a file that was just opened. *same: it is the one that the path names; else it is to be closed. */
static kin_err lock_open(const char *path, const wchar_t *wide, bool wait, HANDLE file, bool *same)
{
    if (GetFileType(file) != FILE_TYPE_DISK)
        return kin__fail(KIN_EIO, "cannot lock '%.200s': it is no regular file", path);
    DWORD error = lock_whole(file, wait);
    if (error == ERROR_LOCK_VIOLATION)
        return kin__fail(KIN_ETIMEDOUT, "'%.200s' is locked by somebody else", path);
    if (error != ERROR_SUCCESS)
        return win_fail(error, "LockFileEx", "cannot lock '%.200s'", path);
    return is_at(path, wide, file, same);
}

/* *again: what was locked is not, or no longer, what the path names. */
static kin_err lock_once(const char *path, const wchar_t *wide, bool wait, os_handle *handle, bool *again)
{
    bool same = false;
    HANDLE file = open_file(wide);
    DWORD error = GetLastError();
    *again = false;
    if (file == INVALID_HANDLE_VALUE && !is_taken(error))
        return cannot_open(error, path, wide);
    if (file == INVALID_HANDLE_VALUE && !wait)
        return kin__fail(KIN_ETIMEDOUT, "somebody has '%.200s' open, and lets nobody else [CreateFileW, error %lu]",
                         path, (unsigned long)error);
    if (file == INVALID_HANDLE_VALUE) {
        Sleep(TAKEN_PAUSE_MS);
        *again = true;
        return KIN_OK;
    }
    kin_err err = lock_open(path, wide, wait, file, &same);
    if (err == KIN_OK && same) {
        *handle = (os_handle)file;
        return KIN_OK;
    }
    CloseHandle(file);
    *again = err == KIN_OK;
    return err;
}

kin_err os_file_lock(const char *path, bool wait, os_handle *file)
{
    wchar_t *wide = win_wide(path);
    if (wide == NULL)
        return win_fail(GetLastError(), "MultiByteToWideChar", "cannot lock '%.200s': its name", path);
    bool again;
    kin_err err;
    do {
        err = lock_once(path, wide, wait, file, &again);
    } while (again);
    free(wide);
    return err;
}

/* Closing alone would do it too, but some time later. */
void os_file_unlock(os_handle file)
{
    OVERLAPPED from_the_start;
    memset(&from_the_start, 0, sizeof from_the_start);
    (void)UnlockFileEx(win_handle(file), 0, ALL_LOW, ALL_HIGH, &from_the_start);
    CloseHandle(win_handle(file));
}
