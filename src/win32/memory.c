/* Shared memory as unnamed sections backed by the page file. A section has no name, so nobody can open, squat or guess
 * it; it reaches another process only as a handle duplicated into it, and the system frees it with its last handle and
 * view. All of it is committed when it is made, so that memory runs out here and never as a fault at first touch.
 * Nothing in this file may keep a section open behind the caller's back. */
#include "win.h"

#define MAPPED_ACCESS (FILE_MAP_READ | FILE_MAP_WRITE)

kin_err os_memory_create(size_t size, os_handle *handle)
{
    if (size == 0)
        return kin__fail(KIN_EINVAL, "cannot create shared memory of 0 bytes");
    SECURITY_ATTRIBUTES *access = win_owner_only();
    if (access == NULL)
        return win_fail(GetLastError(), "GetTokenInformation", "cannot create %zu bytes of shared memory", size);
    DWORD high = (DWORD)((uint64_t)size >> 32), low = (DWORD)((uint64_t)size & 0xFFFFFFFFu);
    HANDLE section = WIN_FAULT("CreateFileMappingW") ? NULL
                                                     : CreateFileMappingW(INVALID_HANDLE_VALUE, access,
                                                                          PAGE_READWRITE | SEC_COMMIT, high, low, NULL);
    if (section == NULL) {
        DWORD error = GetLastError();
        /* The only argument that can be wrong is the size, and it is wrong by being more than there can be. */
        if (error == ERROR_INVALID_PARAMETER || error == ERROR_ARITHMETIC_OVERFLOW || error == ERROR_FILE_TOO_LARGE ||
            error == ERROR_DISK_FULL)
            error = ERROR_NOT_ENOUGH_MEMORY;
        return win_fail(error, "CreateFileMappingW", "cannot create %zu bytes of shared memory", size);
    }
    *handle = (os_handle)section;
    return KIN_OK;
}

/* How much is mapped at `base`: a view of a whole section is one region while nobody has changed its protection. */
static bool view_size(const void *base, size_t *size)
{
    MEMORY_BASIC_INFORMATION view;
    if (WIN_FAULT("VirtualQuery") || VirtualQuery(base, &view, sizeof view) != sizeof view)
        return false;
    if (view.Type != MEM_MAPPED || view.State != MEM_COMMIT || view.BaseAddress != base) {
        SetLastError(ERROR_INVALID_HANDLE);
        return false;
    }
    *size = view.RegionSize;
    return true;
}

kin_err os_memory_map(os_handle handle, void **base, size_t *size)
{
    if (win_no_handle(handle))
        return kin__fail(KIN_EPROTO, "cannot map shared memory: no handle");
    void *view = WIN_FAULT("MapViewOfFile") ? NULL : MapViewOfFile(win_handle(handle), MAPPED_ACCESS, 0, 0, 0);
    if (view == NULL) {
        DWORD error = GetLastError();
        kin_err failure =
            win_fail(error, "MapViewOfFile", "cannot map shared memory of handle 0x%llx", (unsigned long long)handle);
        /* Another kind of object, or a section that was not made to be written: foreign. */
        if (error == ERROR_INVALID_HANDLE || error == ERROR_ACCESS_DENIED)
            failure = kin__fail_in(KIN_EPROTO, "not shared memory of kin's");
        return failure;
    }
    if (!view_size(view, size)) {
        DWORD error = GetLastError();
        UnmapViewOfFile(view);
        kin_err failure = win_fail(error, "VirtualQuery", "cannot tell the size of shared memory");
        return error == ERROR_INVALID_HANDLE ? kin__fail_in(KIN_EPROTO, "not shared memory of kin's") : failure;
    }
    *base = view;
    return KIN_OK;
}

void os_memory_touch(void *base, size_t size)
{
    (void)base; /* children start with an address space of their own: nothing is to be gained */
    (void)size;
}

void os_memory_unmap(void *base, size_t size)
{
    (void)size;
    if (base != NULL)
        UnmapViewOfFile(base);
}

/* Windows cannot replace a view in one step without placeholders reserved when it was mapped. Between the two calls the
 * addresses are free: another thread may get them, and then there is nothing to keep. */
bool os_memory_blank(void *base, size_t size)
{
    if (base == NULL || !UnmapViewOfFile(base))
        return false;
    if (WIN_FAULT("VirtualAlloc"))
        return false;
    return VirtualAlloc(base, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) != NULL;
}

void os_memory_forget(void *base, size_t size)
{
    (void)size;
    if (base != NULL)
        VirtualFree(base, 0, MEM_RELEASE);
}

/* ---- who may open what is made here ------------------------------------------------------------------------------ */

static INIT_ONCE owner_once = INIT_ONCE_STATIC_INIT;
static SECURITY_ATTRIBUTES owner_attributes;
static SECURITY_DESCRIPTOR owner_descriptor;
static union {
    ACL acl;
    BYTE space[sizeof(ACL) + sizeof(ACCESS_ALLOWED_ACE) + SECURITY_MAX_SID_SIZE];
} owner_list;

/* One entry: everything to the user this process runs as. Whoever is not in it, an administrator too, is refused. */
static bool describe_owner(HANDLE token)
{
    union {
        TOKEN_USER user;
        BYTE space[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } who;
    DWORD used;
    if (WIN_FAULT("GetTokenInformation") || !GetTokenInformation(token, TokenUser, &who, sizeof who, &used))
        return false;
    return InitializeAcl(&owner_list.acl, sizeof owner_list, ACL_REVISION) &&
           AddAccessAllowedAce(&owner_list.acl, ACL_REVISION, GENERIC_ALL, who.user.User.Sid) &&
           InitializeSecurityDescriptor(&owner_descriptor, SECURITY_DESCRIPTOR_REVISION) &&
           SetSecurityDescriptorDacl(&owner_descriptor, TRUE, &owner_list.acl, FALSE);
}

/* Fails if memory is short just then; the next caller tries again. */
static BOOL CALLBACK make_owner_only(PINIT_ONCE once, PVOID parameter, PVOID *context)
{
    (void)once;
    (void)parameter;
    (void)context;
    HANDLE token;
    if (WIN_FAULT("OpenProcessToken") || !OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return FALSE;
    bool described = describe_owner(token);
    DWORD error = GetLastError();
    CloseHandle(token);
    owner_attributes.nLength = sizeof owner_attributes;
    owner_attributes.lpSecurityDescriptor = &owner_descriptor;
    owner_attributes.bInheritHandle = FALSE;
    SetLastError(error);
    return described;
}

SECURITY_ATTRIBUTES *win_owner_only(void)
{
    return InitOnceExecuteOnce(&owner_once, make_owner_only, NULL, NULL) ? &owner_attributes : NULL;
}
