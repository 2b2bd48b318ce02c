/* Death: what happens in the tables when a process ends, and who notices.
 *
 * Every process has a keeper that notices its end: its fork server, or on Windows its parent. Each process in turn watches its keeper, and
 * whoever notices an end looks for orphans, processes whose keeper is dead, and watches them too. So of the living every one is watched by
 * another, whatever died before, and no death goes unseen by those who sleep. All steps may be done twice, by several at once, or by a
 * second after the first died in the middle. Time is never evidence of death: a stopped process is alive. */
#include "error.h"
#include "fault.h"
#include "park.h"

#include <string.h>
#include <uv.h>

/* Whom this process watches: the generation + 1 of each place, so that nobody is watched twice. */
static uint32_t watched[KIN__PROCESSES];
static uint32_t servers_watched; /* how many there were when we last looked */

static void ended(int64_t pid, int status)
{
    if (kin__my.session != NULL)
        kin__ended(pid, status);
}

static bool note_end(int64_t pid, int status);

/* True if the process turned out to have ended, and this was written down. */
static bool watch(kin__pid id)
{
    kin__session *s = kin__my.session;
    uint32_t place = kin__pid_place(id);
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if ((state != KIN__CLAIMED && state != KIN__RUNNING) || id == kin__my.id)
        return false;
    if (kin__exchange32(&watched[place], kin__pid_generation(id) + 1) == kin__pid_generation(id) + 1)
        return false;
    int64_t pid = kin__word_low(word);
    os_handle process;
    kin_err err = os_process_open(pid, kin__load64(&s->info[place].birthday), &process);
    if (err == KIN_ENOENT)
        return note_end(pid, OS_STATUS_UNKNOWN);
    if (err == KIN_OK)
        err = os_process_watch(process, pid, ended);
    if (err != KIN_OK)
        kin__store32(&watched[place], 0); /* out of descriptors: the next death is another chance */
    return false;
}

void kin__watch_reset(void)
{
    if (servers_watched != 0) /* a copy of a server has watched nobody: its pages need not be touched */
        memset(watched, 0, sizeof watched);
    servers_watched = 0;
}

/* Watches all whose keeper is dead. True if some have ended. */
static bool watch_orphans(void)
{
    kin__session *s = kin__my.session;
    bool any = false;
    for (bool more = true; more; any = any || more) {
        more = false; /* an end may leave new orphans */
        uint32_t used = kin__load32(&s->processes_used);
        for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
            uint64_t word = kin__load64(&s->words[i]);
            uint32_t state = kin__word_state(word);
            if (state != KIN__CLAIMED && state != KIN__RUNNING)
                continue;
            kin__pid keeper = kin__load64(&s->info[i].keeper);
            if (keeper != 0 && !kin__process_alive(keeper) && watch(kin__pid_of(i, kin__word_generation(word))))
                more = true;
        }
    }
    return any;
}

void kin__watch_keepers(void)
{
    kin__session *s = kin__my.session;
    uint32_t servers = kin__load32(&s->servers);
    if (kin__load32_relaxed(&servers_watched) == servers || kin__my.server)
        return;
    kin__store32(&servers_watched, servers);
    bool any = false;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        if ((kin__load32(&s->info[i].flags) & KIN__IS_SERVER) != 0 && watch(kin__pid_of(i, kin__word_generation(kin__load64(&s->words[i])))))
            any = true;
    }
    kin__pid keeper = kin__load64(&s->info[kin__my.place].keeper);
    if (keeper != 0 && watch(keeper))
        any = true;
    /* Orphans there may be from before this process ever slept, whoever noticed the death of their keeper then. */
    if (watch_orphans() || any)
        kin__wake_everybody();
}

/* The number of a process is only reused after its word has left RUNNING, so a handle that was opened before the word was seen
 * unchanged is the right one. */
kin_err kin__process_end(kin__pid id, bool force)
{
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if (state != KIN__CLAIMED && state != KIN__RUNNING)
        return KIN_OK;
    os_handle process;
    kin_err err = os_process_open(kin__word_low(word), kin__load64(&kin__my.session->info[kin__pid_place(id)].birthday), &process);
    if (err != KIN_OK)
        return err == KIN_ENOENT ? KIN_OK : err;
    word = kin__process_word(id);
    state = kin__word_state(word);
    if (state == KIN__CLAIMED || state == KIN__RUNNING)
        err = os_process_end(process, force);
    os_handle_close(process);
    return err;
}

/* The children of a process that has ended: requests are withdrawn, daemons ended, statuses that nobody will ask for forgotten. */
static void settle_children(kin__pid parent)
{
    kin__session *s = kin__my.session;
    uint32_t by = (kin__pid_generation(parent) & 0xffff) << 16 | (kin__pid_place(parent) + 1);
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        kin__pid id = kin__pid_of(i, kin__word_generation(word));
        switch (kin__word_state(word)) {
        case KIN__STARTING:
            if (kin__word_low(word) == by && !kin__place_free(id))
                i--; /* claimed meanwhile: once more */
            break;
        case KIN__CLAIMED:
        case KIN__RUNNING:
            if (kin__load64(&s->info[i].parent) == parent && (kin__load32(&s->info[i].flags) & KIN__IS_DAEMON) != 0)
                (void)kin__process_end(id, true);
            break;
        case KIN__DEAD:
            if (kin__load64(&s->info[i].parent) == parent)
                (void)kin__place_free(id);
            break;
        default:
            break;
        }
    }
}

/* From DYING on: nobody but the dead is named by what is swept, so it does not matter who does it, or how often. */
static void bury(uint32_t place, uint64_t dying)
{
    kin__session *s = kin__my.session;
    uint32_t generation = kin__word_generation(dying);
    kin__pid id = kin__pid_of(place, generation);
    KIN_CRASH_POINT("death.dying");
    kin__threads_sweep(id);
    settle_children(id);
    KIN_CRASH_POINT("death.swept");
    if (kin__cas64(&s->words[place], &dying, kin__word(generation, KIN__DEAD, kin__word_low(dying)))) {
        kin__pid parent = kin__load64(&s->info[place].parent);
        if (kin__load32(&s->info[place].detached) != 0 || parent == 0 || !kin__process_alive(parent))
            (void)kin__place_free(id);
    }
}

/* Whether there was such a process, or one whose burial nobody may be at any more. */
static bool note_end(int64_t pid, int status)
{
    kin__session *s = kin__my.session;
    bool found = false;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        uint32_t state = kin__word_state(word);
        if (state == KIN__DYING) { /* whoever was at it may be dead */
            bury(i, word);
            found = true;
        }
        if ((state != KIN__CLAIMED && state != KIN__RUNNING) || kin__word_low(word) != (uint32_t)pid)
            continue;
        if (status == OS_ABORT_CODE && kin__load32(&s->info[i].clean) == 0)
            status = -6; /* it did not go through exit() */
        uint64_t dying = kin__word(kin__word_generation(word), KIN__DYING, (uint32_t)status);
        kin__store32(&s->info[i].pid, (uint32_t)pid);
        if (kin__cas64(&s->words[i], &word, dying)) {
            bury(i, dying);
            found = true;
        }
    }
    return found;
}

void kin__ended(int64_t pid, int status)
{
    if (note_end(pid, status))
        kin__wake_everybody();
    /* Also when another wrote the end down first: what it has seen to dies with it. */
    if (!kin__my.server && watch_orphans())
        kin__wake_everybody();
}
