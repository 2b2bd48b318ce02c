/* What the files of this folder share: the system's headers in the one order that works, turning an error of Windows
 * into one of kin's with a sentence, UTF-8 at the boundary, and the access that names made here give (their owner
 * alone). */
#ifndef KIN_SRC_WIN32_WIN_H
#define KIN_SRC_WIN32_WIN_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef _CRT_SECURE_NO_WARNINGS
#define _CRT_SECURE_NO_WARNINGS
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

#include "../error.h"
#include "../fault.h"
#include "../os.h"

/* Whether this system call is to fail in a test; it then looks as if memory had run out. */
#define WIN_FAULT(name) (KIN_FAULT(name) && (SetLastError(ERROR_NOT_ENOUGH_MEMORY), true))

/* The code of kin's for an error of the system's. */
kin_err win_error(DWORD error);

/* Fails with the sentence, followed by what the system says about `error`: "<sentence>: <text> [<call>, error <n>]". */
kin_err win_fail(DWORD error, const char *call, const char *format, ...) KIN_PRINTF(3, 4);

/* The text in the other encoding, in memory to be freed; NULL (the last error says why) if it is not valid or there is
 * no memory. */
wchar_t *win_wide(const char *utf8);
char *win_utf8(const wchar_t *wide);

/* The path of a module's file (NULL: of the executable), however long, in memory to be freed; NULL on failure. */
wchar_t *win_module_path(HMODULE module);

/* Attributes for something that only the user of this process may open; not inheritable. NULL on failure. */
SECURITY_ATTRIBUTES *win_owner_only(void);

/* The handle behind a descriptor of the C library, borrowed; OS_NO_HANDLE if it is not open or has none. */
HANDLE win_handle_of_fd(int fd);

/* A handle of this process duplicated into `target`. `inheritable` by the children of target. */
bool win_duplicate(HANDLE source, HANDLE target, bool inheritable, HANDLE *copy);

/* Closes a handle that is in another process. */
void win_close_in(HANDLE process, HANDLE handle);

/* When a process was created. */
bool win_birthday(HANDLE process, uint64_t *birthday);

/* The status, as kin_process_exit_code describes it, that an exit code of the system's stands for. */
int win_status(DWORD code);

static inline HANDLE win_handle(os_handle handle)
{
    return (HANDLE)handle;
}

/* A number that stands for no object, or for "this process" to the system: -1 is the pseudo handle of the process
 * itself. */
static inline bool win_no_handle(os_handle handle)
{
    return handle == 0 || handle == OS_NO_HANDLE;
}

#endif
