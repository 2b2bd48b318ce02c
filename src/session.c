/* The session segment: made by the root in kin_init, mapped by every process of the family. See session.h for what
 * it holds and for the life of a process's place. Nothing here waits. */
#include "session.h"

#include "error.h"
#include "thread.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define SESSION_MAGIC 0x6b696e73u /* "kins" */
#define SESSION_VERSION 3u

kin__self kin__my;

kin_err kin__check_init(void)
{
    if (kin__my.session != NULL)
        return KIN_OK;
    if (kin__my.forked)
        return kin__fail(KIN_ESTATE, "this process is a copy made by a plain fork(): it cannot use kin");
    return kin__fail(KIN_ESTATE, "kin_init was not called");
}

static void forked(void)
{
    kin__my.session = NULL;
    kin__my.forked = true;
    memset(&kin__held, 0, sizeof kin__held); /* with a list of holds but no name it would take a free lock for its own */
}

/* What both the root and a spawned child need, once per program image. */
static kin_err begin(void)
{
    static bool following_threads, following_forks; /* a kin_init that failed is tried again */
    kin_err err = KIN_OK;
    os_park_init(kin__my.session->id);
    if (!following_threads && (err = kin__threads_begin()) != KIN_OK)
        return err;
    following_threads = true;
    if (!following_forks && (err = os_on_fork(forked)) != KIN_OK)
        return err;
    following_forks = true;
    return KIN_OK;
}

/* A wake costs up to 80 us on a virtual machine; what is seen beyond that is a busy one. KIN_SPIN in the
 * environment, in microseconds, says otherwise: 0 for machines that had better do something else meanwhile. */
static uint32_t spin_limit(void)
{
    const char *says = getenv("KIN_SPIN");
    char *end;
    if (says == NULL || *says == 0)
        return 100000;
    unsigned long us = strtoul(says, &end, 10);
    return *end != 0 ? 100000 : us > 1000 ? 1000000 : (uint32_t)us * 1000;
}

kin_err kin__session_create(kin_start_method method)
{
    os_handle handle;
    kin_err err = os_memory_create(sizeof(kin__session), &handle);
    if (err != KIN_OK)
        return err;
    void *base;
    size_t size;
    err = os_memory_map(handle, &base, &size);
    if (err != KIN_OK) {
        os_handle_close(handle);
        return err;
    }
    kin__session *s = base;
    uint64_t random[2] = {0, 0};
    if (uv_random(NULL, NULL, random, sizeof random, 0, NULL) != 0)
        random[0] = kin__unique(), random[1] = kin__unique();
    memcpy(s->id, random, sizeof s->id);
    s->magic = SESSION_MAGIC;
    s->version = SESSION_VERSION;
    s->size = sizeof *s;
    s->method = (uint32_t)method;
    s->wake_ns = 20000;
    s->spin_ns = spin_limit();
    s->cpus = (uint32_t)os_cpu_count();
    kin__error_kept kept; /* that a kernel cannot do it is nobody's failure */
    kin__error_keep(&kept);
    s->ordered = os_order_begin() == KIN_OK;
    kin__error_back(&kept);
    s->servers = 1;
    s->processes_used = 1;
    s->root = kin__pid_of(0, 0);
    int64_t pid = os_process_self();
    s->info[0] = (kin__process_info){
        .flags = KIN__IS_ROOT, .birthday = os_process_birthday(), .pid = (uint32_t)pid, .name = "Main"};
    kin__store64(&s->words[0], kin__word(0, KIN__RUNNING, (uint32_t)pid));
    kin__my = (kin__self){.session = s, .handle = handle, .id = s->root, .place = 0};
    err = begin();
    if (err != KIN_OK)
        kin__session_drop();
    return err;
}

void kin__session_drop(void)
{
    os_memory_unmap(kin__my.session, sizeof *kin__my.session);
    os_handle_close(kin__my.handle);
    kin__my = (kin__self){.handle = OS_NO_HANDLE};
}

kin_err kin__session_attach(os_handle handle, uint32_t place, uint32_t generation)
{
    void *base;
    size_t size;
    kin_err err = os_memory_map(handle, &base, &size);
    if (err != KIN_OK)
        return err;
    kin__session *s = base;
    if (size < sizeof *s || s->magic != SESSION_MAGIC || s->version != SESSION_VERSION || s->size != sizeof *s ||
        place >= KIN__PROCESSES) {
        os_memory_unmap(base, size);
        return kin__fail(KIN_EPROTO, "the session was made by another build of kin");
    }
    kin__my = (kin__self){.session = s, .handle = handle, .id = kin__pid_of(place, generation), .place = place};
    return begin();
}

uint64_t kin__process_word(kin__pid id)
{
    uint32_t place = kin__pid_place(id);
    uint64_t gone = kin__word(kin__pid_generation(id) + 1, KIN__FREE, 0);
    if (place >= KIN__PROCESSES)
        return gone;
    uint64_t word = kin__load64(&kin__my.session->words[place]);
    return kin__word_generation(word) == kin__pid_generation(id) ? word : gone;
}

bool kin__process_alive(kin__pid id)
{
    uint32_t state = kin__word_state(kin__process_word(id));
    return state == KIN__CLAIMED || state == KIN__RUNNING;
}

kin_err kin__place_take(uint32_t *place, uint32_t *generation)
{
    kin__session *s = kin__my.session;
    uint32_t by = (kin__pid_generation(kin__my.id) & 0xffff) << 16 | (kin__my.place + 1);
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        uint32_t g = kin__word_generation(word);
        if (kin__word_state(word) != KIN__FREE)
            continue;
        uint32_t used = kin__load32(&s->processes_used); /* first: who looks through the table must see what is taken, whenever this process dies */
        while (used <= i && !kin__cas32(&s->processes_used, &used, i + 1)) {
        }
        if (!kin__cas64(&s->words[i], &word, kin__word(g, KIN__STARTING, by)))
            continue;
        kin__process_info *info = &s->info[i];
        kin__store64(&info->parent, kin__my.id);
        /* Who will notice its end, if the claimer is held up between claiming and saying so itself. */
        kin__pid server = kin__load64(&s->info[kin__my.place].server);
        kin__store64(&info->keeper, server != 0 ? server : kin__my.id);
        kin__store64(&info->server, server);
        kin__store64(&info->birthday, 0);
        kin__store32(&info->flags, 0);
        kin__store32(&info->detached, 0);
        kin__store32(&info->clean, 0);
        kin__store32(&info->children, 0);
        kin__store32(&info->refused, 0);
        kin__store32(&info->pid, 0);
        kin__store32(&info->started, 0);
        kin__store32(&info->stop, g << 2); /* who still means the former process does not hit this one */
        info->parent_pid = (uint32_t)os_process_self();
        *place = i;
        *generation = g;
        return KIN_OK;
    }
    return kin__fail(KIN_EAGAIN, "the process table is full: %u processes, counting ended ones that were neither joined nor closed",
                     KIN__PROCESSES);
}

bool kin__place_free(kin__pid id)
{
    uint64_t word = kin__process_word(id);
    uint32_t state = kin__word_state(word);
    if (state != KIN__STARTING && state != KIN__DEAD)
        return false;
    return kin__cas64(&kin__my.session->words[kin__pid_place(id)], &word, kin__word(kin__pid_generation(id) + 1, KIN__FREE, 0));
}

uint64_t kin__now_ns(void)
{
    return uv_hrtime();
}

int64_t kin_now(void)
{
    return (int64_t)(uv_hrtime() / 1000000u);
}

uint64_t kin__unique(void)
{
    /* A random start for each process and steps of an odd constant: no two alike in one process, and between
     * processes as unlikely as two random numbers. The start is made anew in a child that is a copy of its server. */
    static uint64_t seed, seed_of, count;
    uint64_t mine = kin__my.id + 1;
    if (kin__load64(&seed_of) != mine) {
        uint64_t random = 0;
        if (uv_random(NULL, NULL, &random, sizeof random, 0, NULL) != 0)
            random = uv_hrtime() ^ (uint64_t)os_process_self() << 32;
        kin__store64(&seed, random);
        kin__store64(&seed_of, mine);
    }
    uint64_t id = kin__load64(&seed) + kin__add64(&count, 1) * 0x9e3779b97f4a7c15u;
    return id != 0 ? id : kin__unique();
}

int kin_cpu_count(void)
{
    return os_cpu_count();
}

const char *kin_version(void)
{
#define KIN__TEXT(x) #x
#define KIN__VERSION(a, b, c) KIN__TEXT(a) "." KIN__TEXT(b) "." KIN__TEXT(c)
    return KIN__VERSION(KIN_VERSION_MAJOR, KIN_VERSION_MINOR, KIN_VERSION_PATCH);
}
