/* Death: what happens in the tables when a process ends, and who notices.
 *
 * Every process has a keeper that notices its end: its fork server, or on Windows its parent. Each process in turn
 * watches its keeper, and whoever notices an end looks for orphans, processes whose keeper is dead, and watches them
 * too. So of the living every one is watched by another, whatever died before, and no death goes unseen by those who
 * sleep. All steps may be done twice, by several at once, or by a second after the first died in the middle. Time is
 * never evidence of death: a stopped process is alive. */
#include "deadlock.h"
#include "error.h"
#include "fault.h"
#include "park.h"

#include <string.h>
#include <uv.h>

/* Whom this process watches: the generation + 1 of each place, so that nobody is watched twice. */
static uint32_t watched[KIN__PROCESSES];
static uint32_t servers_watched; /* how many there were when we last looked */
static uint32_t failures;        /* how often somebody could not be watched    */

static void ended(uint64_t who, int status)
{
    if (kin__my.session != NULL)
        kin__ended(who, status);
}

static bool note_end(kin__pid id, int status);

/* A handle to a process whose word was seen as `word`. */
static kin_err open_process(uint32_t place, uint64_t word, os_handle *process)
{
    uint64_t birthday = kin__load64(&kin__my.session->info[place].birthday);
    return os_process_open(kin__word_low(word), birthday != 0 ? birthday : UINT64_MAX, process);
}

/* True if the process turned out to have ended, and this was written down. */
static bool watch(kin__pid id)
{
    uint32_t place = kin__pid_place(id);
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if ((state != KIN__CLAIMED && state != KIN__RUNNING) || id == kin__my.id)
        return false;
    if (kin__exchange32(&watched[place], kin__pid_generation(id) + 1) == kin__pid_generation(id) + 1)
        return false;
    os_handle process;
    kin_err err = open_process(place, word, &process);
    if (err == KIN_ENOENT)
        return note_end(id, OS_STATUS_UNKNOWN);
    if (err == KIN_OK)
        err = os_process_watch(process, id, ended);
    if (err != KIN_OK) { /* out of descriptors, or of threads: whoever sleeps tries again */
        kin__store32(&watched[place], 0);
        kin__add32(&failures, 1);
        kin__store32(&servers_watched, 0);
    }
    return false;
}

void kin__watch_reset(void)
{
    if (servers_watched != 0) /* a copy of a server has watched nobody: its pages need not be touched */
        memset(watched, 0, sizeof watched);
    servers_watched = 0;
}

void kin__watch_lost(void)
{
    for (uint32_t i = 0; i < KIN__PROCESSES; i++)
        kin__store32(&watched[i], 0);
    kin__store32(&servers_watched, 0);
    kin__wake_everybody(); /* who sleeps again watches again */
}

/* Asks the fork server to look whether a request lies unread. */
void kin__server_nudge(kin__pid server)
{
    uint64_t word = kin__process_word(server);
    os_handle process;
    if (!kin__process_alive(server) || open_process(kin__pid_place(server), word, &process) != KIN_OK)
        return;
    if (kin__process_word(server) == word)
        (void)os_starter_nudge(process);
    os_handle_close(process);
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
            /* The root has no keeper; the server that was made for it notices its end. */
            kin__pid keeper = kin__load64(i == kin__pid_place(s->root) ? &s->info[i].server : &s->info[i].keeper);
            if (keeper != 0 && !kin__process_alive(keeper) && watch(kin__pid_of(i, kin__word_generation(word))))
                more = true;
        }
    }
    return any;
}

bool kin__watch_keepers(void)
{
    kin__session *s = kin__my.session;
    uint32_t servers = kin__load32(&s->servers), seen = kin__load32_relaxed(&servers_watched), failed = kin__load32(&failures);
    if (seen == servers || kin__my.server)
        return true;
    kin__error_kept kept; /* this happens within calls that succeed */
    kin__error_keep(&kept);
    bool any = false;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]); /* before the flags, and the same after: else they may be of two processes */
        if ((kin__load32(&s->info[i].flags) & KIN__IS_SERVER) != 0 && kin__load64(&s->words[i]) == word &&
            watch(kin__pid_of(i, kin__word_generation(word))))
            any = true;
    }
    kin__pid keeper = kin__load64(&s->info[kin__my.place].keeper);
    if (keeper != 0 && watch(keeper))
        any = true;
    /* Orphans there may be from before this process ever slept, whoever noticed the death of their keeper then. */
    if (watch_orphans() || any)
        kin__wake_everybody();
    kin__error_back(&kept);
    return kin__load32(&failures) == failed && kin__cas32(&servers_watched, &seen, servers);
}

/* The number of a process is only reused after its word has left RUNNING, so a handle that was opened before the
 * word was seen unchanged is the right one. */
kin_err kin__process_end(kin__pid id, bool force)
{
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if (state != KIN__CLAIMED && state != KIN__RUNNING)
        return KIN_OK;
    os_handle process;
    kin_err err = open_process(kin__pid_place(id), word, &process);
    if (err != KIN_OK)
        return err == KIN_ENOENT ? KIN_OK : err;
    word = kin__process_word(id);
    state = kin__word_state(word);
    if (state == KIN__CLAIMED || state == KIN__RUNNING)
        err = os_process_end(process, force);
    os_handle_close(process);
    return err;
}

/* The children of a process that has ended: requests are withdrawn, daemons ended, statuses that nobody will ask for
 * forgotten. */
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

/* Where nobody could know the status, a process that went through exit() has at least said so. */
static bool by_force(uint32_t place, int32_t status)
{
    return status == OS_STATUS_UNKNOWN ? kin__load32(&kin__my.session->info[place].clean) == 0 : status < 0;
}

static kin__fallen *find_fallen(kin__pid id)
{
    for (uint32_t i = 0; i < KIN__FALLEN && id != 0; i++) { /* 0: an entry that is free, or being written */
        if (kin__load64(&kin__my.session->fallen[i].id) == id)
            return &kin__my.session->fallen[i];
    }
    return NULL;
}

/* Its place tells first: it is dead in there a little before it is remembered, or long before if who was to do that
 * died. */
bool kin__has_fallen(kin__pid id)
{
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if (state == KIN__DYING || state == KIN__DEAD)
        return by_force(kin__pid_place(id), (int32_t)kin__word_low(word));
    return find_fallen(id) != NULL;
}

/* Remembers one that was killed or crashed, before anybody is woken by its death. Twice does not matter. */
static void remember_fallen(uint32_t place, uint64_t dying)
{
    kin__session *s = kin__my.session;
    kin__pid id = kin__pid_of(place, kin__word_generation(dying));
    int32_t status = (int32_t)kin__word_low(dying);
    if (!by_force(place, status) || find_fallen(id) != NULL)
        return;
    kin__fallen *f = &s->fallen[kin__add32(&s->fallen_count, 1) % KIN__FALLEN];
    kin__store64(&f->id, 0);
    kin__store32(&f->pid, kin__load32(&s->info[place].pid));
    kin__store32((uint32_t *)&f->status, (uint32_t)status);
    for (size_t i = 0; i < KIN__NAME_SIZE / 8; i++) {
        uint64_t part;
        memcpy(&part, s->info[place].name + i * 8, 8);
        kin__store64(&f->name[i], part);
    }
    kin__store64(&f->id, id);
}

static void describe_end(const char *name, uint32_t pid, int32_t status, char *text, size_t size)
{
    if (status == OS_STATUS_UNKNOWN)
        (void)snprintf(text, size, "'%.47s' (pid %lu, ended)", name, (unsigned long)pid);
    else if (status < 0)
        (void)snprintf(text, size, "'%.47s' (pid %lu, ended by signal %d)", name, (unsigned long)pid, -status);
    else
        (void)snprintf(text, size, "'%.47s' (pid %lu, ended with %d)", name, (unsigned long)pid, status);
}

void kin__describe_process(kin__pid id, char *text, size_t size)
{
    kin__session *s = kin__my.session;
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word), place = kin__pid_place(id);
    const kin__fallen *f = find_fallen(id);
    char name[KIN__NAME_SIZE + 1] = "";
    if (f != NULL) {
        for (size_t i = 0; i < KIN__NAME_SIZE / 8; i++) {
            uint64_t part = kin__load64(&f->name[i]);
            memcpy(name + i * 8, &part, 8);
        }
        describe_end(name, f->pid, (int32_t)kin__load32((const uint32_t *)&f->status), text, size);
    } else if (state == KIN__CLAIMED || state == KIN__RUNNING) {
        (void)snprintf(text, size, "'%.47s' (pid %lu)", s->info[place].name, (unsigned long)kin__word_low(word));
    } else if (state == KIN__DYING || state == KIN__DEAD) {
        describe_end(s->info[place].name, kin__load32(&s->info[place].pid), (int32_t)kin__word_low(word), text, size);
    } else {
        (void)snprintf(text, size, "a process that has ended");
    }
}

/* From DYING on: nobody but the dead is named by what is swept, so it does not matter who does it, or how often. */
static void bury(uint32_t place, uint64_t dying)
{
    kin__session *s = kin__my.session;
    uint32_t generation = kin__word_generation(dying);
    kin__pid id = kin__pid_of(place, generation);
    KIN_CRASH_POINT("death.dying");
    remember_fallen(place, dying);
    kin__wake_heirs(id);
    kin__threads_sweep(id);
    settle_children(id);
    kin__add32(&s->epoch, 1);
    KIN_CRASH_POINT("death.swept");
    if (kin__cas64(&s->words[place], &dying, kin__word(generation, KIN__DEAD, kin__word_low(dying)))) {
        kin__pid parent = kin__load64(&s->info[place].parent);
        if (kin__load32(&s->info[place].detached) != 0 || parent == 0 || !kin__process_alive(parent))
            (void)kin__place_free(id);
    }
}

/* Writes an end down; false if it was known, and its burial is nobody's business any more. */
static bool note_end(kin__pid id, int status)
{
    kin__session *s = kin__my.session;
    uint32_t place = kin__pid_place(id), generation = kin__pid_generation(id);
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if (state == KIN__CLAIMED || state == KIN__RUNNING) {
        if (status == OS_ABORT_CODE && kin__load32(&s->info[place].clean) == 0)
            status = -6; /* it did not go through exit() */
        uint32_t pid = kin__word_low(word);
        uint64_t dying = kin__word(generation, KIN__DYING, (uint32_t)status);
        if (!kin__cas64(&s->words[place], &word, dying))
            return note_end(id, status); /* from CLAIMED to RUNNING, or to its end, meanwhile */
        kin__store32(&s->info[place].pid, pid);
        word = dying;
        state = KIN__DYING;
    }
    if (state != KIN__DYING) /* else whoever was at it may be dead */
        return false;
    bury(place, word);
    return true;
}

/* Ends that whoever wrote them down did not live to deal with. */
static bool finish_burials(void)
{
    kin__session *s = kin__my.session;
    bool any = false;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        if (kin__word_state(word) == KIN__DYING) {
            bury(i, word);
            any = true;
        }
    }
    return any;
}

void kin__ended(uint64_t who, int status)
{
    bool any = note_end(who, status);
    if (finish_burials() || any)
        kin__wake_everybody();
    /* Also when another wrote the end down first: what it has seen to dies with it. Who sleeps must not rely on a
     * watch that failed. */
    uint32_t failed = kin__load32(&failures);
    if (!kin__my.server && (watch_orphans() || kin__load32(&failures) != failed))
        kin__wake_everybody();
}

void kin__child_ended(int64_t pid, int status)
{
    kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        uint32_t state = kin__word_state(word);
        if ((state == KIN__CLAIMED || state == KIN__RUNNING) && kin__word_low(word) == (uint32_t)pid && kin__load64(&s->info[i].keeper) == kin__my.id) {
            kin__ended(kin__pid_of(i, kin__word_generation(word)), status);
            return;
        }
    }
}
