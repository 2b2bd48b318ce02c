/* The search for deadlocks, as deadlock.h describes it. It runs in a thread that is about to sleep anyway, reads the
 * thread table alone, waits for nobody, and must never report a cycle that is not one. */
#include "deadlock.h"

#include "error.h"
#include "fault.h"
#include "kin/any.h"
#include "any.h"
#include "park.h"

#include <string.h>

#define CYCLE_MAX 512u /* threads; a longer cycle is not found */

void kin__edge_drop(kin__thread *t)
{
    uint64_t edge = kin__load64(&t->edge);
    /* Again if the sleeper has confirmed it meanwhile: an edge that is left would be a lie once this thread sleeps. */
    while (kin__me != 0 && (uint32_t)edge == kin__owner_short(kin__me) && !kin__cas64(&t->edge, &edge, edge >> 33 << 33)) {
    }
}

static bool drop(uint32_t place, kin__thread *t, void *arg)
{
    (void)place;
    if (kin__load64(&t->lock) == *(const uint64_t *)arg)
        kin__edge_drop(t);
    return true;
}

void kin__edges_drop(uint64_t lock)
{
    kin__each_sleeper(drop, &lock);
}

static bool wake_heir(uint32_t place, kin__thread *t, void *arg)
{
    uint64_t edge = kin__load64(&t->edge);
    uint32_t turn = kin__load32(&t->wake), holder = ((uint32_t)edge & 0xffff) - 1;
    if ((turn & 1) == 0 && edge >> 33 == turn >> 1 && holder < KIN__THREADS &&
        kin__load64(&kin__my.session->threads[holder].process) == *(const kin__pid *)arg)
        kin__wake_place(place, turn);
    return true;
}

void kin__wake_heirs(kin__pid process)
{
    kin__each_sleeper(wake_heir, &process);
}

/* Points a sleeper at this thread if that holds what it waits for. */
static bool point(uint32_t place, kin__thread *t, void *arg)
{
    (void)place;
    (void)arg;
    uint32_t turn = kin__load32(&t->wake);
    uint64_t lock = kin__load64(&t->lock), edge = kin__load64(&t->edge);
    uint64_t mine = (uint64_t)(turn | 1) << 32 | kin__owner_short(kin__me);
    if (lock == 0 || (turn & 1) != 0)
        return true;
    while (edge >> 33 == turn >> 1 && edge != mine && kin__points(lock)) { /* only in the sleep that `lock` was read in */
        if (kin__cas64(&t->edge, &edge, mine))
            break; /* else the sleeper has confirmed its own, or one that released has dropped it */
    }
    return true;
}

/* The place of who holds what the thread in `place` waits for; KIN__THREADS if it does not sleep, or nobody alive
 * holds it. */
static uint32_t next(uint32_t place, uint64_t *edge)
{
    kin__session *s = kin__my.session;
    const kin__thread *t = &s->threads[place];
    *edge = kin__load64(&t->edge);
    uint32_t turn = kin__load32(&t->wake), holder = ((uint32_t)*edge & 0xffff) - 1;
    if ((turn & 1) != 0 || *edge >> 32 != (turn | 1) || holder >= KIN__THREADS)
        return KIN__THREADS;
    uint64_t claim = kin__load64(&s->threads[holder].claim), owner = claim >> 32 << 32 | (uint64_t)(holder + 1) << 1;
    return kin__owner_short(owner) == (uint32_t)*edge && kin__owner_alive(owner) ? holder : KIN__THREADS;
}

/* A member of the cycle that the chain from `place` runs into; KIN__THREADS if it ends. */
static uint32_t find_cycle(uint32_t place)
{
    uint64_t seen[KIN__THREADS / 64] = {0}, edge;
    while (place < KIN__THREADS && (seen[place / 64] >> (place % 64) & 1) == 0) {
        seen[place / 64] |= (uint64_t)1 << (place % 64);
        place = next(place, &edge);
    }
    return place;
}

typedef struct member {
    uint32_t place;
    uint64_t edge;
} member;

/* The members of the cycle that `place` is in, from it on; 0 if it is no more, or too long. */
static uint32_t walk(uint32_t place, member *members)
{
    uint32_t count = 0, at = place;
    do {
        if (count == CYCLE_MAX)
            return 0;
        members[count].place = at;
        at = next(at, &members[count].edge);
        count++;
        if (at == KIN__THREADS)
            return 0;
    } while (at != place);
    return count;
}

static bool still_the_same(const member *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t edge;
        if (next(members[i].place, &edge) != members[(i + 1) % count].place || edge != members[i].edge)
            return false;
    }
    return true;
}

/* The one to be told. */
static const member *choose(const member *members, uint32_t count)
{
    const member *chosen = NULL;
    bool chosen_stays = false;
    for (uint32_t i = 0; i < count; i++) {
        bool stays = kin__load32(&kin__my.session->threads[members[i].place].stays) != 0;
        if (chosen == NULL || (chosen_stays && !stays) || (chosen_stays == stays && members[i].place > chosen->place)) {
            chosen = &members[i];
            chosen_stays = stays;
        }
    }
    return chosen;
}

static uint64_t owner_in(uint32_t place)
{
    return kin__load64(&kin__my.session->threads[place].claim) >> 32 << 32 | (uint64_t)(place + 1) << 1;
}

/* "thread 12 of 'Process-1' (pid 12) waits for the lock 'a', held by thread 13 of …", beginning with the member at
 * `first`. */
static kin_err report(const member *members, uint32_t count, uint32_t first)
{
    char text[4000];
    size_t used = 0;
    for (uint32_t i = 0; i < count && used < sizeof text; i++) {
        const kin__thread *t = &kin__my.session->threads[members[(first + i) % count].place];
        char who[192], name[41] = "";
        kin__describe_thread(owner_in(members[(first + i) % count].place), who, sizeof who);
        for (size_t part = 0; part < 5; part++) {
            uint64_t bytes = kin__load64(&t->name[part]);
            memcpy(name + part * 8, &bytes, 8);
        }
        const char *kind = kin__type_name((kin_type)kin__load32(&t->kind));
        int n = snprintf(text + used, sizeof text - used, "%s%s%s waits for the %s '%s'", i == 0 ? "" : ", held by ", who, i == 0 ? "" : ", which",
                         strncmp(kind, "kin_", 4) == 0 ? kind + 4 : kind, name[0] != 0 ? name : "(unnamed)");
        used += n > 0 ? (size_t)n : 0;
    }
    return kin__fail(KIN_EDEADLK, "deadlock of %lu threads: %s, held by the first", (unsigned long)count, text);
}

kin_err kin__deadlock(uint32_t turn, uint64_t holder)
{
    kin__thread *t = &kin__my.session->threads[kin__owner_place(kin__me)];
    uint64_t edge = kin__edge_to_be(turn, holder);
    (void)kin__cas64(&t->edge, &edge, edge | (uint64_t)1 << 32); /* unless the holder has released it, or another has pointed us */
    if (!kin__holds_anything())
        return KIN_OK; /* nobody waits for us, so no cycle can have closed here */
    kin__each_sleeper(point, NULL);
    KIN_CRASH_POINT("deadlock.pointed");
    member members[CYCLE_MAX];
    uint32_t in = find_cycle(kin__owner_place(kin__me)), count = in < KIN__THREADS ? walk(in, members) : 0;
    if (count == 0 || !still_the_same(members, count))
        return KIN_OK;
    const member *told = choose(members, count);
    if (told->place == kin__owner_place(kin__me))
        return report(members, count, (uint32_t)(told - members));
    KIN_CRASH_POINT("deadlock.found");
    kin__wake_place(told->place, (uint32_t)(told->edge >> 32) & ~1u);
    return KIN_OK;
}
