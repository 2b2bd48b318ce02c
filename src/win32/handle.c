/* Handles, descriptors and streams of the C library, and channels that carry handles to a process that runs. A handle
 * is a number that means something in one process only; to pass one is to have the system put a duplicate into the
 * receiver and to tell the receiver its number there. What must never happen is that a duplicate stays behind in a
 * process that was never told of it: when the number cannot be delivered, the duplicate is closed from here. Nor may -1
 * reach the system: it means "this process". */
#include "win.h"

/* ---- handles ----------------------------------------------------------------------------------------------------- */

void os_handle_close(os_handle handle)
{
    if (!win_no_handle(handle))
        CloseHandle(win_handle(handle));
}

bool win_duplicate(HANDLE source, HANDLE target, bool inheritable, HANDLE *copy)
{
    return !WIN_FAULT("DuplicateHandle") &&
           DuplicateHandle(GetCurrentProcess(), source, target, copy, 0, inheritable, DUPLICATE_SAME_ACCESS);
}

/* DUPLICATE_CLOSE_SOURCE with no target would be enough on Windows; some systems that imitate it close nothing then. */
void win_close_in(HANDLE process, HANDLE handle)
{
    HANDLE copy = NULL;
    if (DuplicateHandle(process, handle, GetCurrentProcess(), &copy, 0, FALSE,
                        DUPLICATE_CLOSE_SOURCE | DUPLICATE_SAME_ACCESS) &&
        copy != NULL)
        CloseHandle(copy);
}

kin_err os_handle_duplicate(os_handle handle, os_handle *copy)
{
    HANDLE made;
    if (win_no_handle(handle))
        return kin__fail(KIN_EINVAL, "cannot duplicate a handle: there is none");
    if (!win_duplicate(win_handle(handle), GetCurrentProcess(), false, &made))
        return win_fail(GetLastError(), "DuplicateHandle", "cannot duplicate handle 0x%llx",
                        (unsigned long long)handle);
    *copy = (os_handle)made;
    return KIN_OK;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

#if defined(_MSC_VER)
static void ignore_parameter(const wchar_t *expression, const wchar_t *function, const wchar_t *file, unsigned line,
                             uintptr_t reserved)
{
    (void)expression, (void)function, (void)file, (void)line, (void)reserved;
}
#endif

/* Microsoft's C library ends the program when it is asked about a descriptor that is not open; here that is only an
 * answer. */
HANDLE win_handle_of_fd(int fd)
{
    if (fd < 0)
        return INVALID_HANDLE_VALUE;
#if defined(_MSC_VER)
    _invalid_parameter_handler before = _set_thread_local_invalid_parameter_handler(ignore_parameter);
#endif
    intptr_t handle = _get_osfhandle(fd);
#if defined(_MSC_VER)
    (void)_set_thread_local_invalid_parameter_handler(before);
#endif
    return handle > 0 ? (HANDLE)handle : INVALID_HANDLE_VALUE; /* -2: a standard stream without a handle */
}

kin_err os_handle_from_fd(int fd, os_handle *copy)
{
    HANDLE handle = win_handle_of_fd(fd), made;
    if (handle == INVALID_HANDLE_VALUE)
        return kin__fail(KIN_EINVAL, "descriptor %d is not open", fd);
    if (!win_duplicate(handle, GetCurrentProcess(), false, &made))
        return win_fail(GetLastError(), "DuplicateHandle", "cannot duplicate descriptor %d", fd);
    *copy = (os_handle)made;
    return KIN_OK;
}

static kin_err open_fd(os_handle handle, int flags, int *fd)
{
    if (win_no_handle(handle))
        return kin__fail(KIN_EINVAL, "cannot make a descriptor: no handle");
    int made = KIN_FAULT("_open_osfhandle") ? (errno = EMFILE, -1) : _open_osfhandle(handle, flags | _O_NOINHERIT);
    if (made >= 0) {
        *fd = made;
        return KIN_OK;
    }
    int error = errno;
    return kin__fail(error == EMFILE   ? KIN_EMFILE
                     : error == ENOMEM ? KIN_ENOMEM
                                       : KIN_EINVAL,
                     "cannot make a descriptor of handle 0x%llx: %s [_open_osfhandle, errno %d]",
                     (unsigned long long)handle, strerror(error), error);
}

/* Without translation of line ends: bytes are bytes, as everywhere else. */
kin_err os_handle_to_fd(os_handle handle, int *fd)
{
    return open_fd(handle, _O_BINARY, fd);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

#define MODE_READ 1u
#define MODE_WRITE 2u
#define MODE_APPEND 4u
#define MODE_TRANSLATION (uint32_t)(_O_TEXT | _O_BINARY | _O_WTEXT | _O_U16TEXT | _O_U8TEXT)

/* What NtQueryObject tells of any handle (PUBLIC_OBJECT_BASIC_INFORMATION). */
typedef struct object_information {
    ULONG attributes;
    ACCESS_MASK access;
    ULONG counts[2];
    ULONG reserved[10];
} object_information;
typedef LONG(NTAPI *query_object)(HANDLE handle, int what, void *answer, ULONG size, ULONG *used);

/* What may be done with a handle. The C library does not tell how it opened a stream; the system knows. When it cannot
 * be asked, everything: an operation that is not allowed then fails when it is tried. */
static ACCESS_MASK access_of(HANDLE handle)
{
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    query_object query = ntdll != NULL ? (query_object)(void (*)(void))GetProcAddress(ntdll, "NtQueryObject") : NULL;
    object_information answer;
    memset(&answer, 0, sizeof answer);
    if (query == NULL || query(handle, 0, &answer, sizeof answer, NULL) < 0)
        return FILE_READ_DATA | FILE_WRITE_DATA;
    return answer.access;
}

/* The C library keeps "append" to itself. A stream that was just opened for appending to something gives itself away by
 * standing at the start of a file that is not empty and that it cannot read; any other mode would have emptied it.
 * After its first write it stands at the end, and there plain writing does the same, as sender and receiver share the
 * position. */
static bool appends(HANDLE handle, ACCESS_MASK access)
{
    LARGE_INTEGER size, at, nowhere = {.QuadPart = 0};
    if ((access & FILE_APPEND_DATA) != 0 && (access & FILE_WRITE_DATA) == 0)
        return true;
    if ((access & FILE_READ_DATA) != 0 || GetFileType(handle) != FILE_TYPE_DISK)
        return false;
    return GetFileSizeEx(handle, &size) && SetFilePointerEx(handle, nowhere, &at, FILE_CURRENT) && at.QuadPart == 0 &&
           size.QuadPart > 0;
}

/* The only way to learn how line ends are translated is to change it. The stream is locked by the caller meanwhile. */
static uint32_t translation_of(int fd)
{
    int mode = _setmode(fd, _O_BINARY);
    if (mode != -1 && mode != _O_BINARY)
        (void)_setmode(fd, mode);
    return mode != -1 ? (uint32_t)mode & MODE_TRANSLATION : (uint32_t)_O_BINARY;
}

/* Writes out what is buffered and brings the position that the system keeps to where the user of the stream is. The
 * position is asked for first, as flushing a reader forgets it in older C libraries; and the way leads over the end, as
 * a seek within what is buffered does not reach the system in newer ones. A pipe's reader is left alone: what it has
 * buffered cannot be put back. */
static bool settle(FILE *file, HANDLE handle, ACCESS_MASK access)
{
    if (GetFileType(handle) != FILE_TYPE_DISK)
        return (access & FILE_WRITE_DATA) == 0 || fflush(file) == 0;
    const int64_t at = _ftelli64(file);
    return at >= 0 && _fseeki64(file, 0, SEEK_END) == 0 && _fseeki64(file, at, SEEK_SET) == 0;
}

static kin_err pass_stream(FILE *file, os_handle *copy, uint32_t *mode)
{
    HANDLE handle = win_handle_of_fd(_fileno(file)), made;
    if (handle == INVALID_HANDLE_VALUE)
        return kin__fail(KIN_EINVAL, "the FILE is not open");
    const ACCESS_MASK access = access_of(handle);
    const bool append = appends(handle, access);
    if (KIN_FAULT("fflush") ? (errno = EIO, true) : !settle(file, handle, access)) {
        int error = errno;
        return kin__fail(KIN_EIO, "cannot bring a FILE and its handle to the same place: %s [fflush, errno %d]",
                         strerror(error), error);
    }
    if (!win_duplicate(handle, GetCurrentProcess(), false, &made))
        return win_fail(GetLastError(), "DuplicateHandle", "cannot duplicate the handle of a FILE");
    *mode = ((access & FILE_READ_DATA) != 0 ? MODE_READ : 0) |
            ((access & (FILE_WRITE_DATA | FILE_APPEND_DATA)) != 0 ? MODE_WRITE : 0) | (append ? MODE_APPEND : 0) |
            translation_of(_fileno(file));
    *copy = (os_handle)made;
    return KIN_OK;
}

kin_err os_handle_from_file(FILE *file, os_handle *copy, uint32_t *mode)
{
    if (file == NULL)
        return kin__fail(KIN_EINVAL, "the FILE is NULL");
    _lock_file(file);
    kin_err error = pass_stream(file, copy, mode);
    _unlock_file(file);
    return error;
}

static const char *mode_text(uint32_t mode)
{
    const bool binary = (mode & (uint32_t)_O_BINARY) != 0;
    switch (mode & (MODE_READ | MODE_WRITE | MODE_APPEND)) {
    case MODE_READ:
        return binary ? "rb" : "r";
    case MODE_WRITE:
        return binary ? "wb" : "w"; /* empties nothing: the file is open already */
    case MODE_READ | MODE_WRITE:
        return binary ? "r+b" : "r+";
    case MODE_WRITE | MODE_APPEND:
        return binary ? "ab" : "a";
    case MODE_READ | MODE_WRITE | MODE_APPEND:
        return binary ? "a+b" : "a+";
    default:
        return NULL;
    }
}

static kin_err open_stream(int fd, uint32_t mode, FILE **file)
{
    const int translation = (int)(mode & MODE_TRANSLATION);
    if (translation != _O_TEXT && translation != _O_BINARY && _setmode(fd, translation) == -1)
        return kin__fail(KIN_EPROTO, "a FILE was passed with an unknown translation 0x%x", (unsigned)translation);
    FILE *made = KIN_FAULT("_fdopen") ? (errno = EMFILE, NULL) : _fdopen(fd, mode_text(mode));
    if (made == NULL)
        return kin__fail(errno == EMFILE ? KIN_EMFILE : KIN_ENOMEM, "cannot make a FILE: %s [_fdopen, errno %d]",
                         strerror(errno), errno);
    *file = made;
    return KIN_OK;
}

/* Works on a duplicate: the C library closes what it was given when it is undone half-way, and the caller's must
 * survive that. */
kin_err os_handle_to_file(os_handle handle, uint32_t mode, FILE **file)
{
    os_handle copy;
    int fd = -1;
    if (mode_text(mode) == NULL)
        return kin__fail(KIN_EPROTO, "a FILE was passed with an unknown mode 0x%x", (unsigned)mode);
    kin_err error = os_handle_duplicate(handle, &copy);
    if (error != KIN_OK)
        return error;
    error = open_fd(copy,
                    (int)(mode & (uint32_t)_O_TEXT) | ((mode & MODE_APPEND) != 0 ? _O_APPEND : 0) |
                        ((mode & MODE_WRITE) == 0 ? _O_RDONLY : 0),
                    &fd);
    if (error != KIN_OK) {
        os_handle_close(copy);
        return error;
    }
    error = open_stream(fd, mode, file);
    if (error == KIN_OK)
        os_handle_close(handle);
    else
        (void)_close(fd); /* and with it the copy */
    return error;
}

/* ---- channels ---------------------------------------------------------------------------------------------------- */

/* A pipe that keeps messages apart, with waits that can be given up (an anonymous pipe has neither). Its name is used
 * once, between two lines of os_channel_create: one instance, nobody else's process, no other machine. */

#define CHANNEL_MAGIC 0x4E484B31u /* "1KHN" */
#define CHANNEL_BUFFER 65536
#define SEND_MS 10000 /* a receiver that takes nothing for so long is not going to */

typedef struct channel_message {
    uint32_t magic;
    uint32_t size;
    uint32_t count;
    uint32_t spare;
    int64_t handles[OS_CHANNEL_HANDLES]; /* as they are called in the receiver */
    unsigned char bytes[OS_CHANNEL_BYTES];
} channel_message;
#define CHANNEL_HEADER offsetof(channel_message, bytes)

static_assert(CHANNEL_HEADER == 80, "the layout of a message is the same in every process");

kin_err os_channel_create(os_handle *receiver, os_handle *sender)
{
    static LONG volatile made;
    wchar_t name[96];
    LARGE_INTEGER ticks;
    QueryPerformanceCounter(&ticks);
    (void)swprintf(name, sizeof name / sizeof name[0], L"\\\\.\\pipe\\kin-channel-%lx-%lx-%llx",
                   (unsigned long)GetCurrentProcessId(), (unsigned long)InterlockedIncrement(&made),
                   (unsigned long long)ticks.QuadPart);
    SECURITY_ATTRIBUTES *access = win_owner_only();
    HANDLE reader = INVALID_HANDLE_VALUE;
    if (access != NULL && !WIN_FAULT("CreateNamedPipeW"))
        reader = CreateNamedPipeW(name, PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                                  PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_REJECT_REMOTE_CLIENTS, 1, 0,
                                  CHANNEL_BUFFER, 0, access);
    if (reader == INVALID_HANDLE_VALUE)
        return win_fail(GetLastError(), "CreateNamedPipeW", "cannot create a channel");
    HANDLE writer = WIN_FAULT("CreateFileW") ? INVALID_HANDLE_VALUE
                                             : CreateFileW(name, GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                                                           FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT, NULL);
    if (writer == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        CloseHandle(reader);
        return win_fail(error, "CreateFileW", "cannot open the sending end of a channel");
    }
    *receiver = (os_handle)reader;
    *sender = (os_handle)writer;
    return KIN_OK;
}

/* Ends an operation that was begun: waits for it, or takes it back. Returns the system's error; WAIT_TIMEOUT if it was
 * taken back. It may have been done after all when it is being taken back; then it counts as done. */
static DWORD finish(HANDLE pipe, OVERLAPPED *operation, BOOL begun, DWORD wait_ms, DWORD *moved)
{
    bool timed_out = false;
    if (!begun && GetLastError() != ERROR_IO_PENDING)
        return GetLastError();
    if (!begun && WaitForSingleObject(operation->hEvent, wait_ms) != WAIT_OBJECT_0) {
        timed_out = true;
        CancelIoEx(pipe, operation);
    }
    if (GetOverlappedResult(pipe, operation, moved, TRUE))
        return ERROR_SUCCESS;
    return timed_out && GetLastError() == ERROR_OPERATION_ABORTED ? (DWORD)WAIT_TIMEOUT : GetLastError();
}

static DWORD write_message(HANDLE pipe, const channel_message *message)
{
    OVERLAPPED operation = {.hEvent = WIN_FAULT("CreateEventW") ? NULL : CreateEventW(NULL, TRUE, FALSE, NULL)};
    if (operation.hEvent == NULL)
        return GetLastError();
    DWORD size = (DWORD)CHANNEL_HEADER + message->size, written = 0;
    BOOL begun = !WIN_FAULT("WriteFile") && WriteFile(pipe, message, size, NULL, &operation);
    DWORD error = finish(pipe, &operation, begun, SEND_MS, &written);
    CloseHandle(operation.hEvent);
    return error == ERROR_SUCCESS && written != size ? (DWORD)ERROR_WRITE_FAULT : error;
}

static void take_back(HANDLE process, const channel_message *message)
{
    for (uint32_t i = 0; i < message->count; i++)
        win_close_in(process, (HANDLE)(intptr_t)message->handles[i]);
}

/* Puts duplicates into the receiver; message->count says how many are there, also on failure. */
static DWORD put_handles(HANDLE process, channel_message *message, const os_handle *handles, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        HANDLE there;
        if (win_no_handle(handles[i]))
            return ERROR_INVALID_HANDLE;
        if (!win_duplicate(win_handle(handles[i]), process, false, &there))
            return GetLastError();
        message->handles[message->count++] = (int64_t)(intptr_t)there;
    }
    return ERROR_SUCCESS;
}

/* The receiver has ended if its number names no process, or one that takes no handles any more. (Should the number name
 * another process already, the write below fails and the duplicates are taken out of it again.) */
static kin_err fail_to_pass(DWORD error, const char *call, int64_t peer)
{
    kin_err failure = win_fail(error, call, "cannot pass handles to process %lld", (long long)peer);
    bool gone = error == ERROR_ACCESS_DENIED || (error == ERROR_INVALID_PARAMETER && strcmp(call, "OpenProcess") == 0);
    return gone ? kin__fail_in(KIN_EPIPE, "the receiver is gone") : failure;
}

kin_err os_channel_send(os_handle sender, int64_t peer, const void *bytes, size_t size, const os_handle *handles,
                        size_t count)
{
    if (win_no_handle(sender) || size == 0 || size > OS_CHANNEL_BYTES || count > OS_CHANNEL_HANDLES)
        return kin__fail(KIN_EINVAL, "a message of %zu bytes and %zu handles does not fit a channel", size, count);
    channel_message message = {.magic = CHANNEL_MAGIC, .size = (uint32_t)size};
    memcpy(message.bytes, bytes, size);
    HANDLE process = NULL;
    DWORD error = ERROR_SUCCESS;
    if (count > 0) {
        process = WIN_FAULT("OpenProcess") ? NULL : OpenProcess(PROCESS_DUP_HANDLE, FALSE, (DWORD)peer);
        if (process == NULL)
            return fail_to_pass(GetLastError(), "OpenProcess", peer);
        error = put_handles(process, &message, handles, count);
    }
    const char *call = error != ERROR_SUCCESS ? "DuplicateHandle" : "WriteFile";
    if (error == ERROR_SUCCESS)
        error = write_message(win_handle(sender), &message);
    if (error != ERROR_SUCCESS && process != NULL)
        take_back(process, &message);
    if (process != NULL)
        CloseHandle(process);
    if (error == ERROR_SUCCESS)
        return KIN_OK;
    return strcmp(call, "DuplicateHandle") == 0 ? fail_to_pass(error, call, peer)
                                                : win_fail(error, call, "cannot send on a channel");
}

static DWORD read_message(HANDLE pipe, channel_message *message, DWORD *size, int64_t timeout_ms)
{
    OVERLAPPED operation = {.hEvent = WIN_FAULT("CreateEventW") ? NULL : CreateEventW(NULL, TRUE, FALSE, NULL)};
    if (operation.hEvent == NULL)
        return GetLastError();
    DWORD wait_ms = timeout_ms < 0 ? INFINITE : timeout_ms < INFINITE - 1 ? (DWORD)timeout_ms : INFINITE - 1;
    BOOL begun = !WIN_FAULT("ReadFile") && ReadFile(pipe, message, sizeof *message, NULL, &operation);
    DWORD error = finish(pipe, &operation, begun, wait_ms, size);
    CloseHandle(operation.hEvent);
    return error;
}

static bool is_whole(const channel_message *message, DWORD size)
{
    return size > CHANNEL_HEADER && message->magic == CHANNEL_MAGIC && message->size <= OS_CHANNEL_BYTES &&
           message->count <= OS_CHANNEL_HANDLES && size == CHANNEL_HEADER + message->size;
}

kin_err os_channel_receive(os_handle receiver, void *bytes, size_t space, size_t *size, os_handle *handles,
                           size_t handle_space, size_t *count, int64_t timeout_ms)
{
    if (win_no_handle(receiver))
        return kin__fail(KIN_EINVAL, "cannot receive: no channel");
    channel_message message;
    DWORD got = 0;
    DWORD error = read_message(win_handle(receiver), &message, &got, timeout_ms);
    if (error != ERROR_SUCCESS && error != ERROR_MORE_DATA)
        return win_fail(error, "ReadFile", "cannot receive on a channel");
    if (error == ERROR_MORE_DATA || !is_whole(&message, got))
        return kin__fail(KIN_EPROTO, "a damaged message came through a channel");
    if (message.size > space || message.count > handle_space) {
        for (uint32_t i = 0; i < message.count; i++)
            os_handle_close((os_handle)message.handles[i]);
        return kin__fail(KIN_EPROTO, "a message of %u bytes and %u handles does not fit the space for it",
                         (unsigned)message.size, (unsigned)message.count);
    }
    memcpy(bytes, message.bytes, message.size);
    for (uint32_t i = 0; i < message.count; i++)
        handles[i] = (os_handle)message.handles[i];
    *size = message.size;
    *count = message.count;
    return KIN_OK;
}
