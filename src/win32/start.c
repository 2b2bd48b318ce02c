/* How a child comes into being: the program's own executable is started anew with the parent's command line, and is
 * told by a variable in its environment that it is a child. The key idea is that nothing crosses by inheritance but the
 * ends of one pipe and the standard streams: everything else is duplicated into the child once it exists, and the
 * record lies in a section whose handle is one of those duplicates. Through the pipe goes one small message, which
 * always fits its buffer; so a child that never reads it (its main does something else first, or never calls kin_init)
 * holds up nobody, and one whose parent dies reads the end of the pipe and ends. The parent's own environment and
 * handles must never be changed on the way: other threads use them. */
#include "win.h"

#define VARIABLE L"KIN_BIRTH"
#define BIRTH_MAGIC 0x3168747269426E6BULL /* "knBirth1" */
#define KILLED 0xE0004B09u                /* as in process.c */

/* Through the pipe. Handles are numbers of the child's. */
typedef struct birth_message {
    uint64_t magic;
    uint64_t pid; /* whom it is for: a program that the child started may have inherited its environment */
    int64_t session;
    int64_t section; /* the handles that were passed, then, from the next multiple of 16 on, the record */
    uint64_t handle_count;
    uint64_t record_size;
    uint32_t slot;
    uint32_t generation;
    uint32_t umask;
    uint32_t spare;
} birth_message;

static_assert(sizeof(birth_message) == 64, "the same in parent and child, and small enough for any pipe");

/* The session's memory, for children: a handle of this file's own. */
static SRWLOCK session_lock = SRWLOCK_INIT;
static HANDLE session_handle;

static kin_err keep_session(os_handle session)
{
    os_handle copy;
    kin_err error = os_handle_duplicate(session, &copy);
    if (error != KIN_OK)
        return kin__fail_in(error, "cannot keep the session for children");
    AcquireSRWLockExclusive(&session_lock);
    HANDLE before = session_handle;
    session_handle = win_handle(copy);
    ReleaseSRWLockExclusive(&session_lock);
    if (before != NULL)
        CloseHandle(before);
    return KIN_OK;
}

kin_err os_starter_create(os_handle session, bool pristine)
{
    (void)pristine;
    return keep_session(session);
}

void os_starter_end(void)
{
}

kin_err os_starter_nudge(os_handle server)
{
    (void)server;
    return KIN_OK;
}

/* No process is ever asked to be a fork server here. */
_Noreturn void os_starter_run(const os_birth *birth)
{
    (void)birth;
    os_process_exit(255);
}

/* The C library tells its umask only to who sets it. So it is set to what it was last time; only if the program has
 * changed it meanwhile is there a moment in which files made by another thread get the older one. */
static uint32_t current_umask(void)
{
    static SRWLOCK lock = SRWLOCK_INIT;
    static int last;
    AcquireSRWLockExclusive(&lock);
    int now = last;
    if (_umask_s(last, &now) == 0 && now != last) {
        int ignored;
        (void)_umask_s(now, &ignored);
        last = now;
    }
    ReleaseSRWLockExclusive(&lock);
    return (uint32_t)now;
}

/* ---- the environment --------------------------------------------------------------------------------------------- */

/* Blocks are sorted by name without regard to case. Names that begin with '=' (current directories of drives) come
 * first. */
static bool comes_before(const wchar_t *entry, const wchar_t *name)
{
    if (entry[0] == L'=')
        return true;
    int length = (int)wcscspn(entry, L"=");
    return CompareStringOrdinal(entry, length, name, -1, TRUE) == CSTR_LESS_THAN;
}

static bool is_named(const wchar_t *entry, const wchar_t *name)
{
    size_t length = wcscspn(entry, L"=");
    return length == wcslen(name) && CompareStringOrdinal(entry, (int)length, name, (int)length, TRUE) == CSTR_EQUAL;
}

static wchar_t *append(wchar_t *to, const wchar_t *entry)
{
    size_t size = wcslen(entry) + 1;
    memcpy(to, entry, size * sizeof *to);
    return to + size;
}

/* The environment of now, with one variable more. */
static wchar_t *environment_with(const wchar_t *addition)
{
    wchar_t *now = WIN_FAULT("GetEnvironmentStringsW") ? NULL : GetEnvironmentStringsW();
    if (now == NULL)
        return NULL;
    size_t size = 0;
    while (now[size] != L'\0')
        size += wcslen(now + size) + 1;
    wchar_t *made = KIN_FAULT("malloc") ? NULL : malloc((size + wcslen(addition) + 3) * sizeof *made);
    if (made != NULL) {
        wchar_t *to = made;
        const wchar_t *entry = now;
        for (; *entry != L'\0' && comes_before(entry, VARIABLE); entry += wcslen(entry) + 1)
            to = append(to, entry);
        to = append(to, addition);
        for (; *entry != L'\0'; entry += wcslen(entry) + 1)
            if (!is_named(entry, VARIABLE))
                to = append(to, entry);
        *to = L'\0';
    }
    FreeEnvironmentStringsW(now);
    SetLastError(ERROR_NOT_ENOUGH_MEMORY);
    return made;
}

/* ---- what the new process inherits ------------------------------------------------------------------------------- */

/* Made for one CreateProcess and closed right after it. Each is a duplicate of its own, so none is in the list twice
 * (which Windows refuses), and no handle of the program becomes inheritable, not even for a moment. */
typedef struct inheritance {
    HANDLE pipe, input, output, error;
} inheritance;

static void drop_inheritance(inheritance *list)
{
    HANDLE all[] = {list->pipe, list->input, list->output, list->error};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] != NULL && all[i] != INVALID_HANDLE_VALUE)
            CloseHandle(all[i]);
}

static HANDLE open_null(DWORD access)
{
    SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, NULL, TRUE};
    HANDLE null = WIN_FAULT("CreateFileW") ? INVALID_HANDLE_VALUE
                                           : CreateFileW(L"NUL", access, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                                         &inheritable, OPEN_EXISTING, 0, NULL);
    return null != INVALID_HANDLE_VALUE ? null : NULL;
}

/* Where a stream goes by the C library's word, which is the one that dup2 and freopen change. */
static HANDLE inherit_stream(FILE *stream, const char **step)
{
    HANDLE copy, handle = win_handle_of_fd(_fileno(stream));
    *step = "DuplicateHandle";
    if (handle != INVALID_HANDLE_VALUE) {
        if (win_duplicate(handle, GetCurrentProcess(), true, &copy))
            return copy;
        if (GetLastError() != ERROR_INVALID_HANDLE)
            return NULL;
    }
    *step = "CreateFileW";
    return open_null(GENERIC_READ | GENERIC_WRITE);
}

static bool make_inheritance(HANDLE pipe, inheritance *list, const char **step)
{
    memset(list, 0, sizeof *list);
    *step = "DuplicateHandle";
    if (!win_duplicate(pipe, GetCurrentProcess(), true, &list->pipe))
        return false;
    *step = "CreateFileW";
    return (list->input = open_null(GENERIC_READ)) != NULL && (list->output = inherit_stream(stdout, step)) != NULL &&
           (list->error = inherit_stream(stderr, step)) != NULL;
}

/* ---- daemons ----------------------------------------------------------------------------------------------------- */

static SRWLOCK job_lock = SRWLOCK_INIT;
static HANDLE job_handle;

/* The job of this process's daemons. Its only handle is here and goes with this process, however that ends; with it go
 * all that run in the job. */
static HANDLE daemon_job(void)
{
    AcquireSRWLockExclusive(&job_lock);
    if (job_handle == NULL) {
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits;
        memset(&limits, 0, sizeof limits);
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        HANDLE job = WIN_FAULT("CreateJobObjectW") ? NULL : CreateJobObjectW(win_owner_only(), NULL);
        if (job != NULL && (WIN_FAULT("SetInformationJobObject") ||
                            !SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits))) {
            DWORD error = GetLastError();
            CloseHandle(job);
            SetLastError(error);
            job = NULL;
        }
        job_handle = job;
    }
    HANDLE job = job_handle;
    ReleaseSRWLockExclusive(&job_lock);
    return job;
}

/* ---- creating the process ---------------------------------------------------------------------------------------- */

/* All that CreateProcess needs, to be given back together. */
typedef struct launch {
    wchar_t *path;
    wchar_t *command;
    wchar_t *environment;
    inheritance inherited;
    HANDLE list[4];
    HANDLE job;
    LPPROC_THREAD_ATTRIBUTE_LIST attributes;
    bool attributes_made;
    const char *step; /* the call under way, for the case that it fails */
} launch;

static void drop_launch(launch *l)
{
    if (l->attributes_made)
        DeleteProcThreadAttributeList(l->attributes);
    free(l->attributes);
    free(l->environment);
    free(l->command);
    free(l->path);
    drop_inheritance(&l->inherited);
}

/* The same file by its path of old, in parts of 8.3 characters; NULL if the volume keeps none that is short enough. */
static wchar_t *short_path(const wchar_t *path)
{
    wchar_t *made = malloc(MAX_PATH * sizeof *made);
    DWORD length = made != NULL ? GetShortPathNameW(path, made, MAX_PATH) : 0;
    if (length > 0 && length < MAX_PATH)
        return made;
    free(made);
    return NULL;
}

/* The same path in the form that is not looked into and may be long. */
static wchar_t *verbatim_path(const wchar_t *path)
{
    const bool share = wcsncmp(path, L"\\\\", 2) == 0;
    const wchar_t *prefix = share ? L"\\\\?\\UNC\\" : L"\\\\?\\";
    const wchar_t *rest = share ? path + 2 : path;
    wchar_t *made = malloc((wcslen(prefix) + wcslen(rest) + 1) * sizeof *made);
    if (made != NULL) {
        (void)append(made, prefix);
        (void)append(made + wcslen(prefix), rest);
    }
    return made;
}

/* A path of MAX_PATH or more is refused unless it is put in another way. */
static wchar_t *executable_path(void)
{
    wchar_t *path = win_module_path(NULL);
    if (path == NULL || wcslen(path) < MAX_PATH || wcsncmp(path, L"\\\\?\\", 4) == 0)
        return path;
    wchar_t *other = short_path(path);
    if (other == NULL)
        other = verbatim_path(path);
    free(path);
    return other;
}

static bool make_attributes(launch *l)
{
    const DWORD count = l->job != NULL ? 2 : 1;
    SIZE_T size = 0;
    (void)InitializeProcThreadAttributeList(NULL, count, 0, &size);
    l->step = "InitializeProcThreadAttributeList";
    l->attributes = malloc(size);
    if (l->attributes == NULL) {
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return false;
    }
    if (WIN_FAULT("InitializeProcThreadAttributeList") ||
        !InitializeProcThreadAttributeList(l->attributes, count, 0, &size))
        return false;
    l->attributes_made = true;
    l->step = "UpdateProcThreadAttribute";
    l->list[0] = l->inherited.pipe;
    l->list[1] = l->inherited.input;
    l->list[2] = l->inherited.output;
    l->list[3] = l->inherited.error;
    if (WIN_FAULT("UpdateProcThreadAttribute") ||
        !UpdateProcThreadAttribute(l->attributes, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, l->list, sizeof l->list, NULL,
                                   NULL))
        return false;
    return l->job == NULL || UpdateProcThreadAttribute(l->attributes, 0, PROC_THREAD_ATTRIBUTE_JOB_LIST, &l->job,
                                                       sizeof l->job, NULL, NULL);
}

static bool prepare_launch(launch *l, HANDLE pipe, bool daemon)
{
    wchar_t variable[48];
    if (!make_inheritance(pipe, &l->inherited, &l->step))
        return false;
    (void)swprintf(variable, sizeof variable / sizeof variable[0], VARIABLE L"=%llx:1",
                   (unsigned long long)(uintptr_t)l->inherited.pipe);
    l->step = "GetModuleFileNameW";
    if ((l->path = executable_path()) == NULL)
        return false;
    l->step = "GetEnvironmentStringsW";
    if ((l->environment = environment_with(variable)) == NULL)
        return false;
    l->step = "malloc";
    if ((l->command = _wcsdup(GetCommandLineW())) == NULL) { /* CreateProcess may write into it */
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return false;
    }
    l->step = "CreateJobObjectW";
    if (daemon && (l->job = daemon_job()) == NULL)
        return false;
    return make_attributes(l);
}

/* Without a console of its own to share, a console program would open a window. */
static DWORD console_flag(void)
{
    DWORD process;
    return GetConsoleProcessList(&process, 1) == 0 ? CREATE_NO_WINDOW : 0;
}

static bool run_launch(launch *l, PROCESS_INFORMATION *child)
{
    STARTUPINFOEXW info;
    memset(&info, 0, sizeof info);
    info.StartupInfo.cb = sizeof info;
    info.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    info.StartupInfo.hStdInput = l->inherited.input;
    info.StartupInfo.hStdOutput = l->inherited.output;
    info.StartupInfo.hStdError = l->inherited.error;
    info.lpAttributeList = l->attributes;
    l->step = "CreateProcessW";
    return !WIN_FAULT("CreateProcessW") &&
           CreateProcessW(l->path, l->command, NULL, NULL, TRUE,
                          EXTENDED_STARTUPINFO_PRESENT | CREATE_UNICODE_ENVIRONMENT | console_flag(), l->environment,
                          NULL, &info.StartupInfo, child);
}

static kin_err create_process(HANDLE pipe, bool daemon, PROCESS_INFORMATION *child)
{
    launch l;
    memset(&l, 0, sizeof l);
    kin_err error = KIN_OK;
    if (!prepare_launch(&l, pipe, daemon) || !run_launch(&l, child))
        error = win_fail(GetLastError(), l.step, "cannot start the executable anew");
    drop_launch(&l);
    return error;
}

/* ---- what the new process is given ------------------------------------------------------------------------------- */

/* A start that is under way. */
typedef struct start_state {
    const os_start *start;
    HANDLE read_end, write_end;
    os_handle section; /* with the handles and the record */
    void *view;
    size_t view_size;
    HANDLE child;
    int64_t pid;
    uint64_t birthday;
    birth_message message;
} start_state;

static size_t record_at(size_t handle_count)
{
    return (handle_count * sizeof(os_handle) + 15) & ~(size_t)15;
}

static kin_err fill_section(start_state *s)
{
    const os_start *start = s->start;
    const size_t at = record_at(start->handle_count);
    kin_err error = os_memory_create(at + start->record_size + 1, &s->section);
    if (error == KIN_OK)
        error = os_memory_map(s->section, &s->view, &s->view_size);
    if (error == KIN_OK && start->record_size > 0)
        memcpy((unsigned char *)s->view + at, start->record, start->record_size);
    return error;
}

static void drop_start(start_state *s)
{
    os_memory_unmap(s->view, s->view_size);
    os_handle_close(s->section);
    if (s->read_end != NULL)
        CloseHandle(s->read_end);
    if (s->write_end != NULL)
        CloseHandle(s->write_end);
}

static bool give(start_state *s, HANDLE handle, HANDLE *there)
{
    if (!win_no_handle((os_handle)handle))
        return win_duplicate(handle, s->child, false, there);
    SetLastError(ERROR_INVALID_HANDLE);
    return false;
}

static bool give_session(start_state *s, HANDLE *there)
{
    AcquireSRWLockShared(&session_lock);
    bool given = give(s, session_handle, there);
    DWORD error = GetLastError();
    ReleaseSRWLockShared(&session_lock);
    SetLastError(error);
    return given;
}

static bool give_all(start_state *s)
{
    os_handle *passed = s->view;
    HANDLE there;
    if (!give_session(s, &there))
        return false;
    s->message.session = (int64_t)(intptr_t)there;
    if (!give(s, win_handle(s->section), &there))
        return false;
    s->message.section = (int64_t)(intptr_t)there;
    for (size_t i = 0; i < s->start->handle_count; i++) {
        if (!give(s, win_handle(s->start->handles[i]), &there))
            return false;
        passed[i] = (os_handle)there;
    }
    return true;
}

/* A child that ends of itself while it is being given things is no failure of the start: its end will be reported. */
static kin_err equip(start_state *s, bool *ended)
{
    *ended = false;
    if (give_all(s))
        return KIN_OK;
    DWORD error = GetLastError();
    if (error == ERROR_ACCESS_DENIED && WaitForSingleObject(s->child, 2000) == WAIT_OBJECT_0) {
        *ended = true;
        return KIN_OK;
    }
    return win_fail(error, "DuplicateHandle", "cannot pass a handle to process %lld", (long long)s->pid);
}

static kin_err send_birth(start_state *s)
{
    DWORD written = 0;
    s->message.magic = BIRTH_MAGIC;
    s->message.pid = (uint64_t)s->pid;
    s->message.handle_count = s->start->handle_count;
    s->message.record_size = s->start->record_size;
    s->message.slot = s->start->slot;
    s->message.generation = s->start->generation;
    s->message.umask = current_umask();
    if (!WIN_FAULT("WriteFile") && WriteFile(s->write_end, &s->message, sizeof s->message, &written, NULL))
        return KIN_OK;
    DWORD error = GetLastError();
    if (error == ERROR_BROKEN_PIPE || error == ERROR_NO_DATA)
        return KIN_OK; /* it has ended already, which will be reported */
    return win_fail(error, "WriteFile", "cannot tell process %lld what it is", (long long)s->pid);
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

/* The child has been claimed: from here on it is the table that tells what became of it. */
static void set_off(start_state *s, bool ended)
{
    const os_start *start = s->start;
    uint64_t who = os_who(start->slot, start->generation);
    kin_err error = ended ? KIN_OK : send_birth(s);
    if (error != KIN_OK) {
        TerminateProcess(s->child, KILLED);
        kin__refused(start->slot, start->generation, error, kin_last_error());
    }
    HANDLE watched = NULL;
    if (win_duplicate(s->child, GetCurrentProcess(), false, &watched))
        error = os_process_watch((os_handle)watched, who, kin__ended);
    else
        error = win_fail(GetLastError(), "DuplicateHandle", "cannot watch process %lld", (long long)s->pid);
    if (error == KIN_OK)
        return;
    /* Nobody would hear of its end: it ends now, and its end is reported from here. */
    kin__refused(start->slot, start->generation, error, kin_last_error());
    TerminateProcess(s->child, KILLED);
    WaitForSingleObject(s->child, INFINITE);
    kin__ended(who, win_status(KILLED));
}

static kin_err take_up(start_state *s)
{
    bool ended;
    if (WIN_FAULT("GetProcessTimes") || !win_birthday(s->child, &s->birthday))
        return win_fail(GetLastError(), "GetProcessTimes", "cannot tell when process %lld began", (long long)s->pid);
    kin_err error = equip(s, &ended);
    if (error != KIN_OK)
        return error;
    if (!kin__claim(s->start->slot, s->start->generation, s->pid, s->birthday))
        return kin__fail(KIN_ECANCELLED, "the start was withdrawn");
    set_off(s, ended);
    return KIN_OK;
}

static kin_err start_child(start_state *s)
{
    kin_err error = fill_section(s);
    if (error != KIN_OK)
        return error;
    if (WIN_FAULT("CreatePipe") || !CreatePipe(&s->read_end, &s->write_end, NULL, 4096))
        return win_fail(GetLastError(), "CreatePipe", "cannot create the pipe to a child");
    PROCESS_INFORMATION child;
    error = create_process(s->read_end, s->start->daemon, &child);
    if (error != KIN_OK)
        return error;
    CloseHandle(child.hThread);
    s->child = child.hProcess;
    s->pid = (int64_t)child.dwProcessId;
    error = take_up(s);
    if (error != KIN_OK)
        TerminateProcess(s->child, KILLED);
    CloseHandle(s->child);
    return error;
}

kin_err os_process_start(const os_start *start)
{
    if (start->method == KIN_START_FORK)
        return kin__fail(KIN_ENOTSUP, "Windows has no fork: the start method is spawn");
    start_state s;
    memset(&s, 0, sizeof s);
    s.start = start;
    s.section = OS_NO_HANDLE;
    kin_err error = start_child(&s);
    drop_start(&s);
    return error;
}

/* ---- in the child ------------------------------------------------------------------------------------------------ */

/* Takes the variable out of both environments, the system's and the C library's. False: there is none. */
static bool take_variable(wchar_t text[64])
{
    DWORD length = GetEnvironmentVariableW(VARIABLE, text, 64);
    if (length == 0)
        return false;
    (void)_wputenv_s(VARIABLE, L"");
    SetEnvironmentVariableW(VARIABLE, NULL);
    if (length >= 64)
        text[0] = L'\0'; /* not ours, but it marks a child */
    return true;
}

/* The read end of the pipe, or NULL. The number may mean anything here: the variable can have come from elsewhere. */
static HANDLE pipe_of(const wchar_t *text)
{
    wchar_t *end;
    unsigned long long value = wcstoull(text, &end, 16);
    HANDLE pipe = (HANDLE)(uintptr_t)value;
    if (end == text || wcscmp(end, L":1") != 0 || win_no_handle((os_handle)pipe) || GetFileType(pipe) != FILE_TYPE_PIPE)
        return NULL;
    return pipe;
}

static bool read_message(HANDLE pipe, birth_message *message)
{
    unsigned char *to = (unsigned char *)message;
    DWORD done = 0, got = 0;
    while (done < sizeof *message) {
        if (!ReadFile(pipe, to + done, (DWORD)sizeof *message - done, &got, NULL) || got == 0)
            return false;
        done += got;
    }
    return message->magic == BIRTH_MAGIC && message->pid == GetCurrentProcessId();
}

/* The section stays mapped for ever; its handle is needed no more. */
static bool open_section(const birth_message *message, os_birth *birth)
{
    void *view;
    size_t size;
    if (os_memory_map((os_handle)message->section, &view, &size) != KIN_OK)
        return false;
    os_handle_close((os_handle)message->section);
    if (message->handle_count > size / sizeof(os_handle))
        return false;
    const size_t at = record_at((size_t)message->handle_count);
    if (at > size || message->record_size > size - at)
        return false;
    birth->handles = view;
    birth->handle_count = (size_t)message->handle_count;
    birth->record = (unsigned char *)view + at;
    birth->record_size = (size_t)message->record_size;
    return true;
}

static bool read_birth(const wchar_t *text, os_birth *birth)
{
    birth_message message;
    HANDLE pipe = pipe_of(text);
    if (pipe == NULL || !read_message(pipe, &message))
        return false;
    CloseHandle(pipe);
    birth->role = OS_ROLE_CHILD;
    birth->session = (os_handle)message.session;
    birth->slot = message.slot;
    birth->generation = message.generation;
    int before;
    (void)_umask_s((int)message.umask & (_S_IREAD | _S_IWRITE), &before);
    return open_section(&message, birth) && keep_session(birth->session) == KIN_OK;
}

/* A child answers to its parent alone: when it crashes nobody may have to close a window first. */
static void silence(void)
{
    SetErrorMode(GetErrorMode() | SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
    (void)_set_error_mode(_OUT_TO_STDERR);
#if defined(_MSC_VER) || defined(_UCRT)
    (void)_set_abort_behavior(0, _WRITE_ABORT_MSG | _CALL_REPORTFAULT);
#endif
}

kin_err os_birth_read(os_birth *birth)
{
    wchar_t text[64];
    memset(birth, 0, sizeof *birth);
    birth->role = OS_ROLE_ROOT;
    birth->session = OS_NO_HANDLE;
    if (!take_variable(text))
        return KIN_OK;
    silence();
    if (!read_birth(text, birth))
        os_process_exit(255);
    return KIN_OK;
}
