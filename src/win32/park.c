/* One thread sleeps, another wakes it, in whatever process: each place in the session's thread table has an auto-reset
 * event under a name that holds the session's id, the slot and its generation. (WaitOnAddress and keyed events do not
 * reach other processes.) The key idea is the order: the sleeper makes its event before its last look at the word, the
 * waker writes the word before it looks for the event; so either the sleeper sees the word or the waker finds the
 * event, and no wake-up is lost. An event may be left set by a wake that came too late; the next sleep then returns for
 * nothing, which is allowed. A waker must never wait for a sleeper, nor mind that there is none. */
#include "win.h"

#include "../atomic.h"

/* When the event cannot be made (no memory), a thread still sleeps, in short naps, and looks at its word itself. */
#define NAP_MS 5

static wchar_t session_text[33]; /* the id in hexadecimal digits; "" before os_park_init */

/* Handles to the events of threads that were woken lately. Opening by name costs far more than setting. An entry keeps
 * the event of a dead thread in being, which harms nobody: a place that was given up comes back as another generation. */
typedef struct known_event {
    uint32_t slot;
    uint32_t generation;
    HANDLE event;
} known_event;

static SRWLOCK known_lock = SRWLOCK_INIT;
static known_event known[64];

/* The event of the place this thread sleeps on. */
static OS_THREAD_LOCAL HANDLE own_event;
static OS_THREAD_LOCAL uint32_t own_slot;
static OS_THREAD_LOCAL uint32_t own_generation;

static void forget_known(void)
{
    AcquireSRWLockExclusive(&known_lock);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].event != NULL)
            CloseHandle(known[i].event);
        known[i].event = NULL;
    }
    ReleaseSRWLockExclusive(&known_lock);
}

void os_park_init(const uint8_t session_id[16])
{
    static const wchar_t digits[] = L"0123456789abcdef";
    forget_known();
    for (size_t i = 0; i < 16; i++) {
        session_text[2 * i] = digits[session_id[i] >> 4];
        session_text[2 * i + 1] = digits[session_id[i] & 15];
    }
    session_text[32] = L'\0';
}

/* "Local\": the namespace of the logon session, where anybody may make names, but only who knows 128 random bits can
 * guess these. */
#define NAME_SPACE 96

static void event_name(wchar_t name[NAME_SPACE], uint32_t slot, uint32_t generation)
{
    (void)swprintf(name, NAME_SPACE, L"Local\\kin-%ls-%lu-%lu", session_text, (unsigned long)slot,
                   (unsigned long)generation);
}

static void drop_own_event(void)
{
    if (own_event != NULL)
        CloseHandle(own_event);
    own_event = NULL;
}

static HANDLE own_event_for(uint32_t slot, uint32_t generation)
{
    if (own_event != NULL && own_slot == slot && own_generation == generation)
        return own_event;
    drop_own_event();
    wchar_t name[NAME_SPACE];
    event_name(name, slot, generation);
    SECURITY_ATTRIBUTES *access = win_owner_only();
    if (access != NULL && !WIN_FAULT("CreateEventW"))
        own_event = CreateEventW(access, FALSE, FALSE, name);
    own_slot = slot;
    own_generation = generation;
    return own_event;
}

/* Milliseconds, rounded up so that a thread does not wake before its time and spins to meet it. */
static DWORD milliseconds(int64_t ns)
{
    if (ns < 0)
        return INFINITE;
    uint64_t ms = (uint64_t)ns / 1000000u + ((uint64_t)ns % 1000000u != 0);
    return ms < INFINITE - 1 ? (DWORD)ms : INFINITE - 1;
}

void os_park_sleep(uint32_t *word, uint32_t value, uint32_t slot, uint32_t generation, int64_t timeout_ns)
{
    if (kin__load32(word) != value)
        return;
    HANDLE event = own_event_for(slot, generation);
    DWORD ms = milliseconds(timeout_ns);
    if (event == NULL) {
        Sleep(ms < NAP_MS ? ms : NAP_MS);
        return;
    }
    if (kin__load32(word) == value)
        WaitForSingleObject(event, ms);
}

static bool set_known(uint32_t slot, uint32_t generation)
{
    const known_event *entry = &known[slot % (sizeof known / sizeof known[0])];
    AcquireSRWLockShared(&known_lock);
    bool found = entry->event != NULL && entry->slot == slot && entry->generation == generation;
    if (found)
        SetEvent(entry->event);
    ReleaseSRWLockShared(&known_lock);
    return found;
}

static void remember(uint32_t slot, uint32_t generation, HANDLE event)
{
    known_event *entry = &known[slot % (sizeof known / sizeof known[0])];
    AcquireSRWLockExclusive(&known_lock);
    HANDLE before = entry->event;
    entry->slot = slot;
    entry->generation = generation;
    entry->event = event;
    ReleaseSRWLockExclusive(&known_lock);
    if (before != NULL)
        CloseHandle(before);
}

/* No event: nobody sleeps there. Any other failure (no memory) would leave a thread asleep, so it is tried again for a
 * while. */
static HANDLE open_event(const wchar_t *name)
{
    for (int tries = 0; tries < 200; tries++) {
        HANDLE event = WIN_FAULT("OpenEventW") ? NULL : OpenEventW(EVENT_MODIFY_STATE, FALSE, name);
        if (event != NULL || GetLastError() == ERROR_FILE_NOT_FOUND || GetLastError() == ERROR_INVALID_HANDLE)
            return event;
        Sleep(1);
    }
    return NULL;
}

void os_park_wake(uint32_t *word, uint32_t slot, uint32_t generation)
{
    (void)word;
    if (set_known(slot, generation))
        return;
    wchar_t name[NAME_SPACE];
    event_name(name, slot, generation);
    HANDLE event = open_event(name);
    if (event == NULL)
        return;
    SetEvent(event);
    remember(slot, generation, event);
}

void os_park_leave(uint32_t slot, uint32_t generation)
{
    (void)slot;
    (void)generation;
    drop_own_event();
}

/* FlushProcessWriteBuffers does it within one process only. */
kin_err os_order_begin(void)
{
    return kin__fail(KIN_ENOTSUP, "Windows orders no memory between processes");
}

void os_order_all(void)
{
    MemoryBarrier();
}
