/* kin_init and the end of a process. What this process is (the one the user started, a child, a fork server) is the
 * system's to tell; the rest is the same for all. The end of a process that goes through exit() joins its children;
 * daemons are killed. */
#include "kin/init.h"

#include "error.h"
#include "park.h"

#include <stdlib.h>
#include <string.h>

static kin_err choose_method(const kin_options *options, kin_start_method *method)
{
    const char *name = NULL;
    *method = options != NULL ? options->start_method : KIN_START_DEFAULT;
    if (*method == KIN_START_DEFAULT && (name = getenv("KIN_START_METHOD")) != NULL && name[0] != 0) {
        if (strcmp(name, "fork") == 0)
            *method = KIN_START_FORK;
        else if (strcmp(name, "spawn") == 0)
            *method = KIN_START_SPAWN;
        else
            return kin__fail(KIN_EINVAL, "KIN_START_METHOD is '%s': fork and spawn are possible", name);
    }
    if (*method == KIN_START_DEFAULT)
        *method = OS_WINDOWS ? KIN_START_SPAWN : KIN_START_FORK;
    if (*method != KIN_START_FORK && *method != KIN_START_SPAWN)
        return kin__fail(KIN_EINVAL, "%d is no start method", (int)*method);
    if (OS_WINDOWS && *method == KIN_START_FORK)
        return kin__fail(KIN_ENOTSUP, "Windows has no fork; spawn is the start method");
    return KIN_OK;
}

/* The next living child of this process that is a daemon, or is not; 0 if there is none. */
static kin__pid next_child(bool daemon, uint32_t *from)
{
    kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->processes_used);
    for (; *from < used && *from < KIN__PROCESSES; ++*from) {
        uint64_t word = kin__load64(&s->words[*from]);
        uint32_t state = kin__word_state(word);
        if ((state == KIN__CLAIMED || state == KIN__RUNNING || state == KIN__DYING) && kin__load64(&s->info[*from].parent) == kin__my.id &&
            ((kin__load32(&s->info[*from].flags) & KIN__IS_DAEMON) != 0) == daemon)
            return kin__pid_of((*from)++, kin__word_generation(word));
    }
    return 0;
}

static bool still_there(void *object)
{
    uint32_t state = kin__word_state(kin__process_word(*(kin__pid *)object));
    return state == KIN__CLAIMED || state == KIN__RUNNING || state == KIN__DYING;
}

static void wait_for(kin__pid child)
{
    while (still_there(&child) && kin__thread_me() != 0)
        (void)kin__park(kin__process_key(child), still_there, &child, KIN__NEVER);
}

/* Whether no process of the family but this one and the fork servers is left. */
static bool is_last(void)
{
    kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint32_t state = kin__word_state(kin__load64(&s->words[i]));
        if ((state == KIN__CLAIMED || state == KIN__RUNNING) && i != kin__my.place && (kin__load32(&s->info[i].flags) & KIN__IS_SERVER) == 0)
            return false;
    }
    return true;
}

static void at_end(void)
{
    if (kin__my.session == NULL)
        return;
    kin__store32(&kin__my.session->info[kin__my.place].clean, 1);
    kin__pid child;
    for (uint32_t from = 0; (child = next_child(true, &from)) != 0;)
        (void)kin__process_end(child, true);
    for (uint32_t from = 0; (child = next_child(true, &from)) != 0;) {
        if (kin__process_end(child, true) == KIN_OK) /* one that cannot be killed now is, once this process is gone */
            wait_for(child);
    }
    for (uint32_t from = 0; (child = next_child(false, &from)) != 0;)
        wait_for(child);
    if (kin__my.id == kin__my.session->root && is_last()) {
        kin__store64(&kin__my.session->info[kin__my.place].server, 0);
        os_starter_end();
    }
}

static kin_err begin_root(const kin_options *options)
{
    kin_start_method method;
    kin_err err = choose_method(options, &method);
    if (err != KIN_OK)
        return err;
    (void)fflush(NULL); /* what is buffered now would otherwise be printed by every child too */
    err = kin__session_create(method);
    if (err == KIN_OK && (err = os_starter_create(kin__my.handle, true)) != KIN_OK)
        kin__session_drop(); /* kin_init may be called again */
    return err;
}

kin_err kin_init_with(int argc, char **argv, const kin_options *options)
{
    (void)argc;
    (void)argv;
    if (kin__my.session != NULL)
        return KIN_OK;
    if (kin__my.forked)
        return kin__check_init();
    os_birth birth;
    kin_err err = os_birth_read(&birth);
    if (err != KIN_OK)
        return kin__fail_in(err, "kin_init");
    static bool registered;
    if (!registered && atexit(at_end) != 0)
        return kin__fail(KIN_ENOMEM, "kin_init: no memory to register an exit handler");
    registered = true;
    switch (birth.role) {
    case OS_ROLE_CHILD:
        if (kin__session_attach(birth.session, birth.slot, birth.generation) != KIN_OK)
            os_process_exit(255);
        kin__child_main(&birth);
    case OS_ROLE_SERVER:
        os_starter_run(&birth);
    default:
        err = begin_root(options);
        return err == KIN_OK ? KIN_OK : kin__fail_in(err, "kin_init");
    }
}

kin_err kin_init(int argc, char **argv)
{
    return kin_init_with(argc, argv, NULL);
}

const char *kin_start_method_name(void)
{
    if (kin__my.session == NULL)
        return "";
    return kin__my.session->method == KIN_START_SPAWN ? "spawn" : "fork";
}

/* ---- for the fork server ---- */

static kin__pid server_client; /* whom it was made for */

kin_err kin__server_begin(os_handle session, uint32_t slot, uint32_t generation)
{
    if (session != OS_NO_HANDLE) {
        kin_err err = kin__session_attach(session, slot, generation);
        if (err != KIN_OK)
            return err;
    }
    kin__session *s = kin__my.session;
    kin__pid client = kin__my.id;
    uint32_t place, mine;
    kin_err err = kin__place_take(&place, &mine);
    if (err != KIN_OK)
        return err;
    kin__process_info *info = &s->info[place];
    int64_t pid = os_process_self();
    kin__store64(&info->parent, 0);
    kin__store64(&info->keeper, 0);
    kin__store64(&info->server, 0);
    kin__store64(&info->birthday, os_process_birthday());
    kin__store32(&info->flags, KIN__IS_SERVER);
    info->pid = (uint32_t)pid;
    (void)snprintf(info->name, sizeof info->name, "fork server");
    uint64_t word = kin__load64(&s->words[place]);
    if (kin__word_state(word) != KIN__STARTING || kin__word_generation(word) != mine ||
        !kin__cas64(&s->words[place], &word, kin__word(mine, KIN__RUNNING, (uint32_t)pid)))
        return kin__fail(KIN_ELOST, "the process that wanted a fork server has ended"); /* and its place is another's */
    server_client = client;
    kin__my.id = kin__pid_of(place, mine);
    kin__my.place = place;
    kin__my.server = true;
    kin__store64(&s->info[kin__pid_place(client)].server, kin__my.id);
    kin__add32(&s->servers, 1);
    kin__wake_everybody(); /* so that whoever sleeps watches this server, too */
    return KIN_OK;
}

static kin__mortal mortal_of(kin__pid id)
{
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    uint64_t birthday = kin__load64(&kin__my.session->info[kin__pid_place(id)].birthday);
    return (kin__mortal){.who = id,
                         .pid = state == KIN__RUNNING || state == KIN__CLAIMED ? kin__word_low(word) : 0,
                         .birthday = birthday != 0 ? birthday : UINT64_MAX};
}

kin__mortal kin__root(void)
{
    return mortal_of(kin__my.session->root);
}

kin__mortal kin__client(void)
{
    return mortal_of(server_client);
}

bool kin__server_needed(void)
{
    kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->processes_used);
    for (uint32_t i = 0; i < used && i < KIN__PROCESSES; i++) {
        uint32_t state = kin__word_state(kin__load64(&s->words[i]));
        if (i == kin__my.place || state == KIN__FREE || state == KIN__DEAD)
            continue;
        if (kin__load64(&s->info[i].keeper) == kin__my.id || (state != KIN__DYING && kin__load64(&s->info[i].server) == kin__my.id))
            return true;
    }
    return false;
}

void kin__my_place(uint32_t *slot, uint32_t *generation)
{
    *slot = kin__my.place;
    *generation = kin__pid_generation(kin__my.id);
}

void kin__rehearse(void)
{
    /* The words, and the places of the first few processes. */
    kin__session *s = kin__my.session;
    os_memory_touch(s, offsetof(kin__session, info) + 16 * sizeof s->info[0]);
    (void)kin__now_ns();
    kin__watch_reset();
    kin__threads_reset();
    kin__my.server = true; /* what it is; the page is ours now */
}

void kin__request_lost(void)
{
    kin__add32(&kin__my.session->requests_lost, 1);
    kin__wake_everybody();
}
