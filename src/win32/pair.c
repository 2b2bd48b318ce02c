/* Two ends that know of each other, and handles kept beside messages.
 *
 * A pair is a pipe through which nothing ever goes: the system breaks it when the last handle of one end is closed, which it
 * does for a process that ends before it signals that end. Its name is used once, between two lines of os_pair_create: one
 * instance, 128 random bits, nobody else's process, no other machine.
 *
 * Nothing here keeps handles but processes, so the handles of a bag are in the one that outlives all who use it: the root of
 * the session. What must never happen is that a number that means nothing there, or -1, which means a whole process,
 * reaches the system. */
#include "win.h"

#include <bcrypt.h>

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static bool pipe_name(wchar_t *name, size_t space)
{
    uint64_t random[2];
    if (KIN_FAULT("BCryptGenRandom") ||
        BCryptGenRandom(NULL, (PUCHAR)random, sizeof random, BCRYPT_USE_SYSTEM_PREFERRED_RNG) != 0)
        return false;
    (void)swprintf(name, space, L"\\\\.\\pipe\\kin-pair-%016llx%016llx", (unsigned long long)random[0],
                   (unsigned long long)random[1]);
    return true;
}

kin_err os_pair_create(os_handle *a, os_handle *b)
{
    wchar_t name[64];
    if (!pipe_name(name, sizeof name / sizeof name[0]))
        return win_fail(ERROR_NOT_ENOUGH_MEMORY, "BCryptGenRandom", "cannot make a name for a pair");
    SECURITY_ATTRIBUTES *access = win_owner_only();
    HANDLE one = INVALID_HANDLE_VALUE;
    if (access != NULL && !WIN_FAULT("CreateNamedPipeW"))
        one = CreateNamedPipeW(name, PIPE_ACCESS_DUPLEX | FILE_FLAG_FIRST_PIPE_INSTANCE,
                               PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, 1, 0, 0, 0,
                               access);
    if (one == INVALID_HANDLE_VALUE)
        return win_fail(GetLastError(), "CreateNamedPipeW", "cannot create a pair");
    HANDLE other = WIN_FAULT("CreateFileW") ? INVALID_HANDLE_VALUE
                                            : CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                                                          SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS, NULL);
    if (other == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        CloseHandle(one);
        return win_fail(error, "CreateFileW", "cannot open the other end of a pair");
    }
    *a = (os_handle)one;
    *b = (os_handle)other;
    return KIN_OK;
}

/* Any other failure (no memory) says nothing about the other end. */
bool os_pair_broken(os_handle mine)
{
    if (win_no_handle(mine) || PeekNamedPipe(win_handle(mine), NULL, 0, NULL, NULL, NULL))
        return false;
    DWORD error = GetLastError();
    return error == ERROR_BROKEN_PIPE || error == ERROR_PIPE_NOT_CONNECTED || error == ERROR_NO_DATA;
}

/* ---- bags -------------------------------------------------------------------------------------------------------- */

#define ROOT_ACCESS (PROCESS_DUP_HANDLE | PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE)

static kin_err root_lost(void)
{
    return kin__fail(KIN_ELOST, "the process that keeps the handles of the session, its root, has ended");
}

static bool has_ended(HANDLE process) { return WaitForSingleObject(process, 0) == WAIT_OBJECT_0; }

/* One that has ended can still be opened while somebody has a handle to it. It keeps nothing any more. */
static kin_err open_root(HANDLE *process)
{
    kin__mortal root = kin__root();
    if (root.pid <= 0 || root.pid > UINT32_MAX)
        return root_lost();
    HANDLE found = WIN_FAULT("OpenProcess") ? NULL : OpenProcess(ROOT_ACCESS, FALSE, (DWORD)root.pid);
    if (found == NULL) {
        DWORD error = GetLastError();
        return error == ERROR_INVALID_PARAMETER ? root_lost()
                                                : win_fail(error, "OpenProcess", "cannot open the session's root");
    }
    uint64_t began;
    if (WIN_FAULT("GetProcessTimes") || !win_birthday(found, &began)) {
        DWORD error = GetLastError();
        CloseHandle(found);
        return win_fail(error, "GetProcessTimes", "cannot tell when the session's root began");
    }
    if (began != root.birthday || has_ended(found)) {
        CloseHandle(found);
        return root_lost();
    }
    *process = found;
    return KIN_OK;
}

/* The root, as this process knows it: opened once, never closed. */
static kin_err root_process(HANDLE *process)
{
    static SRWLOCK lock = SRWLOCK_INIT;
    static HANDLE root;
    kin_err err = KIN_OK;
    AcquireSRWLockExclusive(&lock);
    if (root == NULL && kin__root().pid == os_process_self())
        root = GetCurrentProcess();
    else if (root == NULL)
        err = open_root(&root);
    *process = root;
    ReleaseSRWLockExclusive(&lock);
    return err;
}

static bool is_entry(uint64_t tag, size_t count) { return tag != 0 && count > 0 && count <= OS_BAG_MOST; }

/* What a word says, as a handle of the root's; OS_NO_HANDLE if it cannot be one. */
static HANDLE word_handle(uint64_t word)
{
    return win_no_handle((os_handle)word) || (os_handle)word < 0 ? INVALID_HANDLE_VALUE : (HANDLE)(uintptr_t)word;
}

/* A process that is ending takes no handles, and gives none, some time before it has ended. */
static kin_err fail_at_root(DWORD error, HANDLE root, const char *tried)
{
    kin_err failure = win_fail(error, "DuplicateHandle", "%s", tried);
    return error == ERROR_ACCESS_DENIED || has_ended(root) ? kin__fail_in(KIN_ELOST, "the session's root has ended")
                                                           : failure;
}

kin_err os_bag_put(os_handle in, uint64_t tag, const os_handle *handles, size_t count, uint64_t *words)
{
    (void)in;
    HANDLE root;
    if (!is_entry(tag, count))
        return kin__fail(KIN_EINVAL, "%zu handles with tag %llu are no entry of a bag", count, (unsigned long long)tag);
    kin_err err = root_process(&root);
    for (size_t i = 0; i < count && err == KIN_OK; i++) {
        HANDLE there;
        if (win_no_handle(handles[i]))
            err = kin__fail(KIN_EINVAL, "cannot put handle %zu of %zu into a bag: there is none", i, count);
        else if (!win_duplicate(win_handle(handles[i]), root, false, &there))
            err = fail_at_root(GetLastError(), root, "cannot put handles into a bag");
        else
            words[i] = (uint64_t)(uintptr_t)there;
        for (size_t k = 0; err != KIN_OK && k < i; k++)
            win_close_in(root, word_handle(words[k]));
    }
    return err;
}

kin_err os_bag_look(os_handle out, uint64_t tag, const uint64_t *words, size_t count, os_handle *handles)
{
    (void)out;
    HANDLE root;
    if (!is_entry(tag, count))
        return kin__fail(KIN_EINVAL, "%zu handles with tag %llu are no entry of a bag", count, (unsigned long long)tag);
    kin_err err = root_process(&root);
    for (size_t i = 0; i < count && err == KIN_OK; i++) {
        HANDLE there = word_handle(words[i]), copy = NULL;
        DWORD error = ERROR_SUCCESS;
        if (there == INVALID_HANDLE_VALUE)
            error = ERROR_INVALID_HANDLE;
        else if (WIN_FAULT("DuplicateHandle") ||
                 !DuplicateHandle(root, there, GetCurrentProcess(), &copy, 0, FALSE, DUPLICATE_SAME_ACCESS))
            error = GetLastError();
        handles[i] = (os_handle)copy;
        if (error == ERROR_SUCCESS)
            continue;
        while (i > 0)
            CloseHandle(win_handle(handles[--i]));
        if (error == ERROR_INVALID_HANDLE)
            return kin__fail(KIN_ELOST, "the handles are no longer in the bag");
        return fail_at_root(error, root, "cannot take handles from a bag");
    }
    return err;
}

/* That the root has ended is no failure: with it, they are gone. */
bool os_bag_drop(os_handle out, uint64_t tag, const uint64_t *words, size_t count)
{
    (void)out;
    HANDLE root;
    kin__error_kept kept;
    if (!is_entry(tag, count))
        return false;
    kin__error_keep(&kept);
    bool known = root_process(&root) == KIN_OK;
    kin__error_back(&kept);
    for (size_t i = 0; known && i < count; i++) {
        HANDLE there = word_handle(words[i]);
        if (there != INVALID_HANDLE_VALUE)
            win_close_in(root, there);
    }
    return false;
}

uint64_t os_bag_oldest(os_handle out)
{
    (void)out;
    return 0;
}
