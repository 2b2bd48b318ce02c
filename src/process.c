/* Processes, as their starter sees them: a place in the session's table is taken, the child is asked for, and what
 * becomes of it is read from the word of that place. Nobody answers a start but the table, so nobody's death can
 * leave the starter without an answer: whoever notices a death writes it there and wakes all who sleep. */
#include "kin/process.h"

#include "any.h"
#include "error.h"
#include "fault.h"
#include "handle.h"
#include "park.h"
#include "start.h"
#include "wait.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct kin_process {
    kin__mark mark;
    uint32_t done; /* whether `status` is known; then the place may belong to another */
    int status;
    kin__pid id;
    int64_t pid;
    char name[KIN__NAME_SIZE];
};

#define STARTER_TRIES 3
#define REQUEST_TRIES 100
#define START_TRIES 3

static kin_err not_a_process(const kin_process *process)
{
    return kin__fail(KIN_EINVAL, process == NULL ? "the process is NULL" : "not a process, or it was closed");
}

static bool is_process(const kin_process *process)
{
    return kin__handle_is(process, KIN__MARK_PROCESS);
}

/* For what looks into the session's table, which a copy made by a plain fork() must not. */
static kin_err check_process(const kin_process *process)
{
    return is_process(process) ? kin__check_init() : not_a_process(process);
}

/* ---- start ---- */

/* "Process-1", of that "Process-1:1", and of a process with a name of its own "name:1". */
static void make_name(char *name, size_t size)
{
    kin__process_info *me = &kin__my.session->info[kin__my.place];
    uint32_t n = kin__add32(&me->children, 1) + 1;
    if ((me->flags & KIN__IS_ROOT) != 0)
        (void)snprintf(name, size, "Process-%u", n);
    else
        (void)snprintf(name, size, "%.*s:%u", (int)(size - 12), me->name, n);
}

static kin_err check_name(const char *name)
{
    if (name[0] == 0 || strlen(name) >= KIN__NAME_SIZE)
        return kin__fail(KIN_EINVAL, "a process name of %zu bytes: 1 to %u are possible", strlen(name), KIN__NAME_SIZE - 1);
    for (const char *c = name; *c != 0; c++) {
        if ((unsigned char)*c < ' ')
            return kin__fail(KIN_EINVAL, "a control character in a process name");
    }
    return KIN_OK;
}

typedef struct child {
    kin__pid id;
    kin__pid server; /* that was asked */
    uint32_t lost;   /* how many requests had been lost before */
} child;

/* Whether the child has neither reached its target nor ended, and whoever is to make it is alive. */
static bool still_starting(void *object)
{
    child *c = object;
    uint32_t state = kin__word_state(kin__process_word(c->id));
    if (state == KIN__STARTING)
        return (c->server == 0 || kin__process_alive(c->server)) && kin__load32(&kin__my.session->requests_lost) == c->lost;
    return state == KIN__CLAIMED || state == KIN__DYING;
}

static void wait_while(kin__must_sleep must_sleep, child *c)
{
    for (kin__spin spin = {0}; kin__spin_more(&spin);) {
        if (!must_sleep(c))
            return;
    }
    if (c->server != 0 && kin__word_state(kin__process_word(c->id)) == KIN__STARTING)
        kin__server_nudge(c->server); /* nobody has taken it up yet: perhaps those who could are stopped */
    while (must_sleep(c))
        (void)kin__park(kin__process_key(c->id), must_sleep, c, KIN__NEVER);
}

static kin__pid my_server(void)
{
    return kin__load64(&kin__my.session->info[kin__my.place].server);
}

static uv_mutex_t server_mutex;

static void make_server_mutex(void)
{
    if (uv_mutex_init(&server_mutex) != 0)
        abort(); /* no memory for a few bytes */
}

static uint32_t servers_made; /* by this process; counted once they are in use */

/* `made` is how many there were when `dead` was asked: another thread may have replaced it since, or be just about to. */
static kin_err replace_server(kin__pid dead, uint32_t made)
{
    static uv_once_t once = UV_ONCE_INIT;
    uv_once(&once, make_server_mutex);
    uv_mutex_lock(&server_mutex);
    kin_err err = KIN_OK;
    if (my_server() == dead && kin__load32(&servers_made) == made) {
        err = os_starter_create(kin__my.handle, false);
        if (err == KIN_OK)
            kin__add32(&servers_made, 1);
    }
    uv_mutex_unlock(&server_mutex);
    return err;
}

/* Nobody will ask for this child any more: whoever is last to know of it gives its place back. */
static void forget_child(kin__pid id)
{
    kin__store32(&kin__my.session->info[kin__pid_place(id)].detached, 1);
    (void)kin__place_free(id);
}

/* Asks for the child until somebody has taken the request up. It may be asked for twice: it is claimed once. */
static kin_err ask(const os_start *start, child *c)
{
    for (int servers = 0, requests = 0;;) {
        uint32_t made = kin__load32(&servers_made);
        c->server = my_server();
        c->lost = kin__load32(&kin__my.session->requests_lost);
        kin_err err = os_process_start(start);
        if (err == KIN_OK) {
            uint32_t state;
            do { /* claimed just as its request was taken for lost, it is awaited further */
                wait_while(still_starting, c);
                state = kin__word_state(kin__process_word(c->id));
            } while (state == KIN__CLAIMED || state == KIN__DYING);
            if (state != KIN__STARTING)
                return KIN_OK;
        } else if (err != KIN_ELOST) {
            return err;
        }
        if (c->server != 0 && err == KIN_OK && kin__process_alive(c->server)) {
            if (++requests == REQUEST_TRIES)
                return kin__fail(KIN_ECHILD, "whatever process was to become the child died first, %d times in a row", REQUEST_TRIES);
            continue; /* only the request is lost */
        }
        if (servers++ == STARTER_TRIES)
            return kin__fail(KIN_ELOST, "the fork server was killed, and so were %d others that replaced it", STARTER_TRIES);
        err = replace_server(c->server, made);
        if (err != KIN_OK && err != KIN_ELOST) /* lost: it was killed as it came up */
            return kin__fail_in(KIN_ELOST, "the fork server was killed and cannot be replaced");
    }
}

/* What became of the child that was asked for: KIN_OK if it runs (or has run) its target. */
static kin_err outcome(child *c)
{
    uint64_t word = kin__process_word(c->id);
    const kin__process_info *info = &kin__my.session->info[kin__pid_place(c->id)];
    uint32_t refused = kin__load32(&info->refused);
    if (refused != 0) {
        char why[KIN__WHY_SIZE];
        memcpy(why, info->why, sizeof why);
        why[sizeof why - 1] = 0;
        return kin__fail_text((kin_err)refused, why);
    }
    if (kin__word_state(word) == KIN__RUNNING || kin__load32(&info->started) != 0)
        return KIN_OK;
    int status = (int)kin__word_low(word);
    if (status == OS_STATUS_UNKNOWN)
        return kin__fail(KIN_ELOST, "the fork server was killed, and the child before it could run its target");
    return kin__fail(KIN_ECHILD, "the child ended before it could run its target, with %s %d%s", status < 0 ? "signal" : "exit code",
                     status < 0 ? -status : status, status == 255 ? " (does the program call kin_init first?)" : "");
}

static kin_err start_in_place(kin_process *p, kin_target target, kin_pack args, bool daemon)
{
    kin__process_info *info = &kin__my.session->info[kin__pid_place(p->id)];
    uint32_t flags = daemon || (kin__my.session->info[kin__my.place].flags & KIN__IS_DAEMON) != 0 ? KIN__IS_DAEMON : 0;
    kin__store32(&info->flags, flags);
    memcpy(info->name, p->name, sizeof info->name);
    kin__parcel parcel = {0};
    kin_err err = kin__record_write(&parcel, target, args);
    if (err == KIN_OK) {
        os_start start = {.method = (kin_start_method)kin__my.session->method,
                          .slot = kin__pid_place(p->id),
                          .generation = kin__pid_generation(p->id),
                          .daemon = flags != 0,
                          .name = p->name,
                          .record = parcel.bytes,
                          .record_size = parcel.size,
                          .handles = parcel.handles,
                          .handle_count = parcel.handle_count};
        child c = {.id = p->id};
        err = ask(&start, &c);
        if (err == KIN_OK)
            err = outcome(&c);
    }
    kin__parcel_free(&parcel);
    uint64_t word = kin__process_word(p->id);
    p->pid = kin__word_state(word) == KIN__RUNNING ? kin__word_low(word) : kin__load32(&info->pid);
    return err;
}

kin_err kin_process_start(kin_process **process, kin_target target, kin_pack args, const kin_process_options *options)
{
    static const kin_process_options defaults;
    if (options == NULL)
        options = &defaults;
    kin_err err = kin__check_init();
    if (err != KIN_OK)
        return err;
    if (process == NULL || target == NULL)
        return kin__fail(KIN_EINVAL, "kin_process_start needs a %s", process == NULL ? "place for the process" : "target");
    if (options->name != NULL && (err = check_name(options->name)) != KIN_OK)
        return err;
    if (kin__thread_me() == 0)
        return kin_last_code();
    kin_process *p = kin__handle_new(KIN__MARK_PROCESS, sizeof *p);
    if (p == NULL)
        return KIN_ENOMEM;
    if (options->name != NULL)
        (void)snprintf(p->name, sizeof p->name, "%s", options->name);
    else
        make_name(p->name, sizeof p->name);
    err = KIN_ELOST;
    for (int tries = 0; tries < START_TRIES && err == KIN_ELOST; tries++) { /* the target has not run: it may be tried again */
        uint32_t place, generation;
        err = kin__place_take(&place, &generation);
        if (err != KIN_OK)
            break;
        p->id = kin__pid_of(place, generation);
        err = start_in_place(p, target, args, options->daemon);
        if (err != KIN_OK)
            forget_child(p->id);
    }
    if (err != KIN_OK) {
        kin__fail_in(err, "cannot start '%s'", p->name);
        (void)kin__handle_unmark(p, KIN__MARK_PROCESS);
        kin__handle_free(p);
        return err;
    }
    *process = p;
    return KIN_OK;
}

/* ---- what becomes of it ---- */

/* Whether the status is known now. The first to see it keeps it in the handle and gives the place back. */
static bool look(kin_process *p)
{
    if (kin__load32(&p->done) != 0)
        return true;
    uint64_t word = kin__process_word(p->id);
    if (kin__word_state(word) != KIN__DEAD) {
        /* Another thread may have kept the status and freed the place between our two looks. */
        return kin__load32(&p->done) != 0;
    }
    kin__store32((uint32_t *)&p->status, kin__word_low(word));
    kin__store32(&p->done, 1);
    (void)kin__place_free(p->id);
    return true;
}

static bool not_done(void *object)
{
    return !look(object);
}

kin_err kin__process_join(kin_process *process, int64_t timeout_ms, bool interruptible)
{
    kin_err err = check_process(process);
    if (err != KIN_OK)
        return err;
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "join of '%s': a time-out of %lld ms", process->name, (long long)timeout_ms);
    if (!look(process)) {
        if (kin__thread_me() == 0)
            return kin_last_code();
        uint64_t deadline = kin__deadline(timeout_ms);
        kin__spin spin = {0};
        bool spinning = timeout_ms != KIN_NOWAIT;
        kin__wait wait = {.key = kin__process_key(process->id), .must_sleep = not_done, .object = process, .deadline = deadline,
                          .interruptible = interruptible};
        while (!look(process)) {
            if (spinning) {
                spinning = kin__spin_more(&spin);
                continue;
            }
            err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : kin__park_on(&wait);
            if (err == KIN_EINTERRUPTED)
                return kin__fail_in(err, "join of '%s'", process->name);
            if (err != KIN_OK && !look(process))
                return kin__fail(KIN_ETIMEDOUT, "'%s' has not ended within %lld ms", process->name, (long long)timeout_ms);
        }
    }
    if (process->status == OS_STATUS_UNKNOWN)
        return kin__fail(KIN_ELOST, "'%s' has ended, but its exit code is lost with the fork server", process->name);
    return KIN_OK;
}

kin_err kin_process_join(kin_process *process, int64_t timeout_ms)
{
    return kin__process_join(process, timeout_ms, true);
}

bool kin_process_alive(const kin_process *process)
{
    return check_process(process) == KIN_OK && !look((kin_process *)(uintptr_t)process);
}

kin_err kin_process_exit_code(const kin_process *process, int *code)
{
    kin_err err = code != NULL ? check_process(process) : kin__fail(KIN_EINVAL, "no place for the exit code");
    if (err != KIN_OK)
        return err;
    if (!look((kin_process *)(uintptr_t)process))
        return kin__fail(KIN_ETIMEDOUT, "'%s' has not ended", process->name);
    if (process->status == OS_STATUS_UNKNOWN)
        return kin__fail(KIN_ELOST, "the exit code of '%s' is lost with the fork server", process->name);
    *code = process->status;
    return KIN_OK;
}

int64_t kin_process_pid(const kin_process *process)
{
    if (is_process(process))
        return process->pid;
    (void)not_a_process(process);
    return 0;
}

const char *kin_process_name(const kin_process *process)
{
    if (is_process(process))
        return process->name;
    (void)not_a_process(process);
    return "";
}

static kin_err end(kin_process *process, bool force)
{
    kin_err err = check_process(process);
    if (err != KIN_OK || look(process))
        return err;
    err = kin__process_end(process->id, force);
    return err == KIN_OK ? KIN_OK : kin__fail_in(err, "cannot %s '%s'", force ? "kill" : "terminate", process->name);
}

kin_err kin_process_terminate(kin_process *process)
{
    return end(process, false);
}

kin_err kin_process_kill(kin_process *process)
{
    return end(process, true);
}

kin_err kin__process_watch(const kin_process *process, kin__watched *watched)
{
    if (!is_process(process))
        return not_a_process(process);
    watched->key = kin__process_key(process->id);
    return KIN_OK;
}

bool kin__process_ready(const kin_process *process)
{
    return !is_process(process) || look((kin_process *)(uintptr_t)process);
}

/* The word names the process, so one that came into its place meanwhile is not asked. */
kin_err kin_process_interrupt(kin_process *process)
{
    kin_err err = check_process(process);
    if (err != KIN_OK || look(process))
        return err;
    uint32_t *stop = &kin__my.session->info[kin__pid_place(process->id)].stop, calm = kin__pid_generation(process->id) << 2;
    if (!kin__cas32(stop, &calm, calm | KIN__STOP_ASKED) && calm >> 2 != kin__pid_generation(process->id))
        return KIN_OK; /* ended */
    KIN_CRASH_POINT("process.interrupted");
    kin__wake_process(process->id); /* also if it was asked before: who did may have died before it came to this */
    return KIN_OK;
}

bool kin_stop_requested(void)
{
    return kin__my.session != NULL && (kin__load32(&kin__my.session->info[kin__my.place].stop) & KIN__STOP_ASKED) != 0;
}

bool kin_stop_accept(void)
{
    if (!kin_stop_requested())
        return false;
    kin__or32(&kin__my.session->info[kin__my.place].stop, KIN__STOP_ACCEPTED);
    return true;
}

void kin_process_close(kin_process *process)
{
    if (!kin__handle_unmark(process, KIN__MARK_PROCESS))
        return;
    if (kin__load32(&process->done) == 0 && kin__my.session != NULL)
        forget_child(process->id);
    kin__handle_free(process);
}

/* ---- this process ---- */

const char *kin_current_name(void)
{
    return kin__my.session != NULL ? kin__my.session->info[kin__my.place].name : "";
}

int64_t kin_current_pid(void)
{
    return kin__my.session != NULL ? os_process_self() : 0;
}

int64_t kin_parent_pid(void)
{
    return kin__my.session != NULL ? (int64_t)kin__my.session->info[kin__my.place].parent_pid : 0;
}
