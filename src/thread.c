/* The thread table: a place for each thread that ever waits or holds something. The claim of a place names the
 * process in the same word, so that the places of a dead process are found and freed by anybody, any number of
 * times. A place's generation grows with each freeing: whatever still names its former thread names the dead. */
#include "thread.h"

#include "error.h"
#include "park.h"

#include <stdlib.h>
#include <string.h>

OS_THREAD_LOCAL_FAST kin__holds kin__held;

static uint32_t process_half(kin__pid process)
{
    return (kin__pid_generation(process) & 0xffff) << 16 | (kin__pid_place(process) + 1);
}

static void remember_used(uint32_t *used, uint32_t place)
{
    uint32_t seen = kin__load32(used);
    while (seen <= place && !kin__cas32(used, &seen, place + 1)) {
    }
}

/* Frees a place whose claim was `claim`: this one step, so that it does not matter who does it, how often or how late. */
static bool free_place(uint32_t place, uint64_t claim)
{
    return kin__cas64(&kin__my.session->threads[place].claim, &claim, ((claim >> 32) + 1) << 32);
}

uint64_t kin__thread_attach(void)
{
    if (kin__check_init() != KIN_OK)
        return 0;
    kin__session *s = kin__my.session;
    uint32_t half = process_half(kin__my.id);
    for (uint32_t i = 0; i < KIN__THREADS; i++) {
        uint64_t claim = kin__load64(&s->threads[i].claim);
        if ((uint32_t)claim != 0)
            continue;
        remember_used(&s->threads_used, i); /* first: the places that are in use must be swept, whenever this process dies */
        if (!kin__cas64(&s->threads[i].claim, &claim, claim | half))
            continue;
        /* What a thread that was killed here may have left. Only the owner of a place clears its bit: a sweep that
         * comes late would put a living sleeper out of everybody's sight. */
        kin__and64(&s->sleeping[i / 64], ~((uint64_t)1 << (i % 64)));
        kin__store64(&s->threads[i].key, 0);
        kin__store64(&s->threads[i].edge, 0);
        kin__store32(&s->threads[i].inside, 0);
        kin__or32(&s->threads[i].wake, 1);
        kin__store32(&s->threads[i].number, os_thread_number());
        kin__store64(&s->threads[i].process, kin__my.id);
        if (os_thread_set(&kin__held) != KIN_OK) { /* its locks would stay locked when it ends */
            (void)free_place(i, claim | half);
            return 0;
        }
        kin__held.inside = &s->threads[i].inside;
        kin__me = (claim >> 32) << 32 | (uint64_t)(i + 1) << 1;
        return kin__me;
    }
    kin__fail(KIN_EAGAIN, "no place left in the thread table (%u threads that wait or hold locks at once)", KIN__THREADS);
    return 0;
}

/* Locks beyond KIN__HOLDS; a thread that has so many can afford it. */
static OS_THREAD_LOCAL struct spill {
    uint64_t *ids;
    bool *pointed;
    uint32_t count, space;
} spill;

static bool spill_grow(void)
{
    if (spill.count < spill.space)
        return true;
    uint32_t space = spill.space != 0 ? spill.space * 2 : 256;
    uint64_t *ids = realloc(spill.ids, space * sizeof *ids);
    if (ids != NULL)
        spill.ids = ids;
    bool *pointed = ids != NULL ? realloc(spill.pointed, space * sizeof *pointed) : NULL;
    if (pointed == NULL)
        return false;
    spill.pointed = pointed;
    spill.space = space;
    return true;
}

static void spill_drop(void)
{
    free(spill.ids);
    free(spill.pointed);
    memset(&spill, 0, sizeof spill);
}

void kin__hold_more(uint64_t id)
{
    if (!spill_grow()) {
        kin__held.unlisted++; /* a deadlock through it may go unseen */
        return;
    }
    spill.ids[spill.count] = id;
    spill.pointed[spill.count++] = false;
}

static bool unhold_spilled(uint64_t id)
{
    uint32_t i = spill.count;
    while (i > 0 && spill.ids[i - 1] != id)
        i--;
    if (i == 0) {
        if (kin__held.unlisted != 0)
            kin__held.unlisted--;
        return true;
    }
    bool was_pointed = spill.pointed[i - 1];
    spill.count--;
    spill.ids[i - 1] = spill.ids[spill.count];
    spill.pointed[i - 1] = spill.pointed[spill.count];
    return was_pointed;
}

/* Locks are mostly released in the reverse order; any order will do. */
bool kin__unhold_any(uint64_t id)
{
    kin__holds *h = &kin__held;
    uint32_t i = h->count;
    while (i > 0 && h->ids[i - 1] != id)
        i--;
    if (i-- == 0)
        return unhold_spilled(id);
    uint64_t below = ((uint64_t)1 << i) - 1;
    bool was_pointed = (h->pointed >> i & 1) != 0;
    h->pointed = (h->pointed & below) | (h->pointed >> 1 & ~below);
    h->count--;
    memmove(&h->ids[i], &h->ids[i + 1], (h->count - i) * sizeof h->ids[0]);
    return was_pointed;
}

bool kin__points(uint64_t id)
{
    for (uint32_t i = 0; i < kin__held.count; i++) {
        if (kin__held.ids[i] == id) {
            kin__held.pointed |= (uint64_t)1 << i;
            return true;
        }
    }
    for (uint32_t i = 0; i < spill.count; i++) {
        if (spill.ids[i] == id) {
            spill.pointed[i] = true;
            return true;
        }
    }
    return false;
}

bool kin__holds_anything(void)
{
    return kin__held.count + kin__held.unlisted + spill.count != 0;
}

void kin__describe_thread(uint64_t owner, char *text, size_t size)
{
    kin__session *s = kin__my.session;
    uint32_t place = kin__owner_place(owner);
    uint64_t claim = place < KIN__THREADS ? kin__load64(&s->threads[place].claim) : 0;
    /* The place is still its own, or was freed and not taken again. */
    bool known = place < KIN__THREADS && (claim >> 32 == owner >> 32 || ((uint32_t)claim == 0 && (claim >> 32) - 1 == owner >> 32));
    if (!known) {
        (void)snprintf(text, size, "a thread that has ended");
        return;
    }
    char process[128];
    kin__describe_process(kin__load64(&s->threads[place].process), process, sizeof process);
    (void)snprintf(text, size, "thread %lu of %s", (unsigned long)kin__load32(&s->threads[place].number), process);
}

bool kin__owner_alive(uint64_t owner)
{
    kin__session *s = kin__my.session;
    uint32_t place = kin__owner_place(owner);
    if (place >= KIN__THREADS)
        return false;
    uint64_t claim = kin__load64(&s->threads[place].claim);
    if (claim >> 32 != owner >> 32 || (uint32_t)claim == 0)
        return false;
    uint32_t process = ((uint32_t)claim & 0xffff) - 1;
    if (process >= KIN__PROCESSES)
        return false;
    uint64_t word = kin__load64(&s->words[process]);
    uint32_t state = kin__word_state(word);
    return (state == KIN__CLAIMED || state == KIN__RUNNING) &&
           (kin__word_generation(word) & 0xffff) == ((uint32_t)claim >> 16);
}

static void thread_ended(void *value)
{
    (void)value;
    uint64_t me = kin__me;
    kin__me = 0;
    if (me == 0 || kin__my.session == NULL)
        return;
    uint32_t place = kin__owner_place(me);
    os_park_leave(place, kin__owner_generation(me));
    uint64_t claim = kin__load64(&kin__my.session->threads[place].claim);
    bool held = kin__holds_anything();
    spill_drop();
    if (claim >> 32 == me >> 32 && free_place(place, claim) && held)
        kin__wake_everybody(); /* whoever waits for a lock that this thread took along looks again */
    memset(&kin__held, 0, sizeof kin__held);
}

kin_err kin__threads_begin(void)
{
    return os_thread_on_end(thread_ended);
}

void kin__threads_reset(void)
{
    kin__me = 0;
    kin__held.count = kin__held.unlisted = 0; /* the rest of it was never touched in a server */
    (void)os_thread_set(NULL);
}

void kin__threads_sweep(kin__pid process)
{
    kin__session *s = kin__my.session;
    uint32_t half = process_half(process);
    uint32_t used = kin__load32(&s->threads_used);
    for (uint32_t i = 0; i < used && i < KIN__THREADS; i++) {
        uint64_t claim = kin__load64(&s->threads[i].claim);
        if ((uint32_t)claim == half)
            free_place(i, claim);
    }
}
