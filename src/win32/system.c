/* CPUs, yielding, the end of threads, terminals; and what this folder needs to say what went wrong: the table from the
 * system's errors to kin's, and the system's own words for them. Nothing here may allocate on the way to reporting a
 * failure. */
#include "win.h"

#include <process.h>

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static const struct {
    DWORD system;
    kin_err error;
} errors[] = {
    {ERROR_NOT_ENOUGH_MEMORY, KIN_ENOMEM},
    {ERROR_OUTOFMEMORY, KIN_ENOMEM},
    {ERROR_COMMITMENT_LIMIT, KIN_ENOMEM},
    {ERROR_COMMITMENT_MINIMUM, KIN_ENOMEM},
    {ERROR_PAGEFILE_QUOTA, KIN_ENOMEM},
    {ERROR_PAGED_SYSTEM_RESOURCES, KIN_ENOMEM},
    {ERROR_NONPAGED_SYSTEM_RESOURCES, KIN_ENOMEM},
    {ERROR_WORKING_SET_QUOTA, KIN_ENOMEM},
    {ERROR_NOT_ENOUGH_QUOTA, KIN_ENOMEM},
    {ERROR_TOO_MANY_OPEN_FILES, KIN_EMFILE},
    {ERROR_NO_MORE_USER_HANDLES, KIN_EMFILE},
    {ERROR_NO_SYSTEM_RESOURCES, KIN_EAGAIN},
    {ERROR_NO_PROC_SLOTS, KIN_EAGAIN},
    {ERROR_MAX_THRDS_REACHED, KIN_EAGAIN},
    {ERROR_PIPE_BUSY, KIN_EAGAIN},
    {ERROR_BUSY, KIN_EAGAIN},
    {ERROR_ACCESS_DENIED, KIN_EPERM},
    {ERROR_PRIVILEGE_NOT_HELD, KIN_EPERM},
    {ERROR_INVALID_HANDLE, KIN_EINVAL},
    {ERROR_INVALID_PARAMETER, KIN_EINVAL},
    {ERROR_NO_UNICODE_TRANSLATION, KIN_EINVAL},
    {ERROR_FILE_NOT_FOUND, KIN_ENOENT},
    {ERROR_PATH_NOT_FOUND, KIN_ENOENT},
    {ERROR_MOD_NOT_FOUND, KIN_ENOENT},
    {ERROR_BROKEN_PIPE, KIN_EPIPE},
    {ERROR_NO_DATA, KIN_EPIPE},
    {ERROR_PIPE_NOT_CONNECTED, KIN_EPIPE},
    {ERROR_ALREADY_EXISTS, KIN_EEXIST},
    {ERROR_FILE_EXISTS, KIN_EEXIST},
    {ERROR_NOT_SUPPORTED, KIN_ENOTSUP},
    {ERROR_CALL_NOT_IMPLEMENTED, KIN_ENOTSUP},
    {ERROR_PROC_NOT_FOUND, KIN_ENOTSUP},
    {ERROR_TIMEOUT, KIN_ETIMEDOUT},
    {ERROR_SEM_TIMEOUT, KIN_ETIMEDOUT},
    {WAIT_TIMEOUT, KIN_ETIMEDOUT},
};

kin_err win_error(DWORD error)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].system == error)
            return errors[i].error;
    return KIN_EIO;
}

/* The system's sentence for `error` in UTF-8, in one line, without its full stop. "" if it has none. */
static void describe(DWORD error, char *text, size_t space)
{
    wchar_t wide[256];
    DWORD length =
        FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK, NULL,
                       error, 0, wide, (DWORD)(sizeof wide / sizeof wide[0]), NULL);
    while (length > 0 && (wide[length - 1] <= L' ' || wide[length - 1] == L'.'))
        length--;
    int used = WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, text, (int)space - 1, NULL, NULL);
    text[used > 0 ? used : 0] = '\0';
}

kin_err win_fail(DWORD error, const char *call, const char *format, ...)
{
    char sentence[384], text[300];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(sentence, sizeof sentence, format, values);
    va_end(values);
    describe(error, text, sizeof text);
    return kin__fail(win_error(error), "%s: %s [%s, error %lu]", sentence, text, call, (unsigned long)error);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

wchar_t *win_wide(const char *utf8)
{
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, utf8, -1, NULL, 0);
    wchar_t *wide = length > 0 ? malloc((size_t)length * sizeof *wide) : NULL;
    if (length > 0 && wide == NULL)
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
    if (wide != NULL)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, utf8, -1, wide, length);
    return wide;
}

char *win_utf8(const wchar_t *wide)
{
    int length = WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, wide, -1, NULL, 0, NULL, NULL);
    char *utf8 = length > 0 ? malloc((size_t)length) : NULL;
    if (length > 0 && utf8 == NULL)
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
    if (utf8 != NULL)
        WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, wide, -1, utf8, length, NULL, NULL);
    return utf8;
}

/* ---- CPUs -------------------------------------------------------------------------------------------------------- */

static int count_bits(DWORD_PTR mask)
{
    int bits = 0;
    for (; mask != 0; mask &= mask - 1)
        bits++;
    return bits;
}

/* Processors come in groups of up to 64. A process within one group has an affinity mask; one that spans several (by
 * default from Windows 11 on, on machines that have more than one) has all processors of its groups, as far as can be
 * told. */
int os_cpu_count(void)
{
    USHORT groups[64];
    USHORT count = (USHORT)(sizeof groups / sizeof groups[0]);
    if (!WIN_FAULT("GetProcessGroupAffinity") && GetProcessGroupAffinity(GetCurrentProcess(), &count, groups) &&
        count > 1) {
        int sum = 0;
        for (USHORT i = 0; i < count; i++)
            sum += (int)GetActiveProcessorCount(groups[i]);
        return sum > 0 ? sum : 1;
    }
    DWORD_PTR mine = 0, all = 0;
    int usable = 0;
    if (!WIN_FAULT("GetProcessAffinityMask") && GetProcessAffinityMask(GetCurrentProcess(), &mine, &all))
        usable = count_bits(mine & all);
    if (usable == 0)
        usable = (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return usable > 0 ? usable : 1;
}

/* SwitchToThread looks for a thread on this CPU only; Sleep(0) gives way to one that waits for any. */
void os_yield(void)
{
    if (!SwitchToThread())
        Sleep(0);
}

/* ---- the end of threads ------------------------------------------------------------------------------------------ */

typedef BOOLEAN(NTAPI *shutdown_query)(void);

static void (*thread_ended)(void *value);
static shutdown_query shutting_down;
static DWORD thread_key = FLS_OUT_OF_INDEXES;

/* Also called for the thread that ends the process, after all others were stopped wherever they were, perhaps holding a
 * lock. Nothing may be done then: the process is ending, and whoever watches it will tidy up. */
static void NTAPI thread_ends(void *value)
{
    if (value == NULL || (shutting_down != NULL && shutting_down()))
        return;
    thread_ended(value);
}

kin_err os_thread_on_end(void (*ended)(void *value))
{
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    thread_ended = ended;
    if (ntdll != NULL)
        shutting_down = (shutdown_query)(void (*)(void))GetProcAddress(ntdll, "RtlDllShutdownInProgress");
    if (thread_key != FLS_OUT_OF_INDEXES)
        return KIN_OK;
    thread_key = WIN_FAULT("FlsAlloc") ? FLS_OUT_OF_INDEXES : FlsAlloc(thread_ends);
    if (thread_key == FLS_OUT_OF_INDEXES)
        return win_fail(GetLastError(), "FlsAlloc", "cannot arrange to hear of the end of threads");
    return KIN_OK;
}

kin_err os_thread_set(void *value)
{
    if (WIN_FAULT("FlsSetValue") || !FlsSetValue(thread_key, value))
        return win_fail(GetLastError(), "FlsSetValue", "cannot follow the end of this thread");
    return KIN_OK;
}

uint32_t os_thread_number(void)
{
    return GetCurrentThreadId();
}

/* _isatty is true of every character device, the null device among them; a console has a mode. */
bool os_is_terminal(FILE *file)
{
    DWORD mode;
    HANDLE handle = file != NULL ? win_handle_of_fd(_fileno(file)) : INVALID_HANDLE_VALUE;
    return handle != INVALID_HANDLE_VALUE && GetConsoleMode(handle, &mode);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

typedef struct beginning {
    void (*body)(void *arg);
    void *arg;
} beginning;

static unsigned __stdcall run_thread(void *arg)
{
    beginning b = *(beginning *)arg;
    free(arg);
    b.body(b.arg);
    return 0;
}

kin_err os_thread_start(void (*body)(void *arg), void *arg, size_t stack)
{
    beginning *b = malloc(sizeof *b);
    if (b == NULL)
        return kin__fail(KIN_ENOMEM, "no memory to start a thread");
    *b = (beginning){body, arg};
    uintptr_t thread = WIN_FAULT("_beginthreadex")
                           ? 0
                           : _beginthreadex(NULL, (unsigned)stack, run_thread, b, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread == 0) {
        free(b);
        return kin__fail(KIN_EAGAIN, "cannot start a thread [_beginthreadex, errno %d]", errno);
    }
    CloseHandle((HANDLE)thread);
    return KIN_OK;
}
