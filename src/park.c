/* Parking, as park.h describes it: portable, on os_park_sleep and os_park_wake alone. It must never wait for another
 * thread, and never make a system call when nobody sleeps. */
#include "park.h"

#include "any.h"
#include "deadlock.h"
#include "error.h"
#include "fault.h"

#include <string.h>

#define COST_MAX_NS 100000u
#define FALLING_ASLEEP_NS 10000u
#define SPIN_MIN_NS 1000u
#define UNWATCHED_NS 50000000 /* the longest sleep of a process that cannot watch for deaths just now */

uint64_t kin__deadline(int64_t timeout_ms)
{
    if (timeout_ms < 0)
        return KIN__NEVER;
    if (timeout_ms == KIN_NOWAIT)
        return 0; /* long ago */
    uint64_t now = kin__now_ns();
    if ((uint64_t)timeout_ms > (KIN__NEVER - 1 - now) / 1000000u)
        return KIN__NEVER;
    return now + (uint64_t)timeout_ms * 1000000u;
}

int64_t kin__time_left(uint64_t deadline, int64_t timeout_ms)
{
    if (timeout_ms <= 0)
        return timeout_ms;
    uint64_t now = kin__now_ns();
    return now >= deadline ? KIN_NOWAIT : (int64_t)((deadline - now + 999999) / 1000000);
}

static kin__thread *my_place(uint64_t me)
{
    return &kin__my.session->threads[kin__owner_place(me)];
}

/* Learns what a wake-up costs here from the wakes that happen: a moving average over eight. A wake that came as the
 * thread was only just going to sleep tells nothing. */
static void learn_wake_cost(const kin__thread *t, uint64_t asleep_at)
{
    uint64_t woken_at = kin__load64(&t->woken_at), now = kin__now_ns();
    if (asleep_at == 0 || woken_at < asleep_at + FALLING_ASLEEP_NS || now < woken_at)
        return;
    uint64_t cost = now - woken_at;
    if (cost > COST_MAX_NS)
        cost = COST_MAX_NS;
    uint32_t *average = &kin__my.session->wake_ns;
    uint32_t old = kin__load32(average);
    kin__store32(average, (uint32_t)(((uint64_t)old * 7 + cost) / 8));
}

/* What others may want to know of this sleep, before it can be seen. */
static void publish(kin__thread *t, uint64_t me, uint32_t turn, const kin__wait *wait)
{
    kin__store64(&t->sleeper, me);
    kin__store32(&t->wake, turn); /* a waker that looked at an earlier turn cannot spend its wake on this one */
    kin__store64(&t->woken_at, 0);
    kin__store64(&t->edge, kin__edge_to_be(turn, wait->holder));
    kin__store64(&t->lock, wait->lock);
    kin__store64(&t->since, wait->since != 0 ? wait->since : kin__now_ns());
    kin__store32(&t->kind, wait->kind);
    kin__store32(&t->stays, wait->stays);
    kin__store32(&t->interruptible, wait->interruptible);
    for (size_t i = 0; i < sizeof t->name / sizeof t->name[0]; i++) {
        uint64_t part = 0;
        if (wait->many != NULL)
            part = i < 4 ? wait->many->bits[i] : 0;
        else if (wait->name != NULL)
            memcpy(&part, wait->name + i * 8, 8);
        kin__store64(&t->name[i], part);
    }
    kin__store64(&t->key, wait->key);
}

static void spin_for_wake(const uint32_t *wake, uint32_t turn)
{
    for (kin__spin spin = {0}; kin__load32(wake) == turn && kin__spin_more(&spin);) {
    }
}

/* Until it is woken in this turn, or the deadline. */
static kin_err sleep_until(kin__thread *t, uint32_t turn, uint64_t me, uint64_t deadline, bool watching, uint64_t *asleep_at)
{
    *asleep_at = kin__now_ns();
    while (kin__load32(&t->wake) == turn) {
        int64_t left = -1;
        if (deadline != KIN__NEVER) {
            uint64_t now = kin__now_ns();
            if (now >= deadline)
                return KIN_ETIMEDOUT;
            left = (int64_t)(deadline - now);
        }
        if (!watching && (left < 0 || left > UNWATCHED_NS))
            left = UNWATCHED_NS;
        os_park_sleep(&t->wake, turn, kin__owner_place(me), kin__owner_generation(me), left);
        if (!watching)
            break; /* to look again, and to try again to watch */
    }
    return KIN_OK;
}

static kin_err interrupted(const kin__wait *wait)
{
    if (wait->kind == 0)
        return kin__fail(KIN_EINTERRUPTED, "this process was asked to stop");
    const char *kind = kin__type_name((kin_type)wait->kind);
    return kin__fail(KIN_EINTERRUPTED, "%s '%.40s': this process was asked to stop", strncmp(kind, "kin_", 4) == 0 ? kind + 4 : kind,
                     wait->name != NULL && wait->name[0] != 0 ? wait->name : "(unnamed)");
}

kin_err kin__park_on(const kin__wait *wait)
{
    uint64_t me = kin__me;
    uint32_t place = kin__owner_place(me);
    kin__thread *t = my_place(me);
    uint64_t *sleeping = &kin__my.session->sleeping[place / 64], bit = (uint64_t)1 << (place % 64);

    uint32_t turn = (kin__load32(&t->wake) | 1) + 1;
    publish(t, me, turn, wait);
    kin__or64(sleeping, bit);
    KIN_CRASH_POINT("park.published");
    bool watching = kin__watch_keepers(); /* after it is visible: whoever makes a new server wakes all who sleep, so that they watch it */
    kin_err err = KIN_OK;
    uint64_t asleep_at = 0;
    if (wait->must_sleep(wait->object)) {
        KIN_CRASH_POINT("park.sleeping");
        if (wait->interruptible && kin__stopping())
            err = interrupted(wait);
        if (err == KIN_OK && wait->holder != 0)
            err = kin__deadlock(turn, wait->holder);
        if (err == KIN_OK && wait->spins)
            spin_for_wake(&t->wake, turn);
        if (err == KIN_OK)
            err = sleep_until(t, turn, me, wait->deadline, watching, &asleep_at);
        KIN_CRASH_POINT("park.woken");
    }
    bool chosen = !kin__cas32(&t->wake, &turn, turn | 1); /* first: while this looks asleep, who releases must find the edge to drop it */
    kin__and64(sleeping, ~bit);
    kin__store64(&t->key, 0);
    if (err == KIN_OK && chosen)
        learn_wake_cost(t, asleep_at);
    if (err != KIN_OK && chosen && wait->key != KIN__KEY_MANY) {
        if (wait->directed)
            return KIN_OK;
        kin__wake_those_on(wait->key, 1); /* the wake came too late for us: it is somebody else's */
    }
    return err;
}

kin_err kin__park(uint64_t key, kin__must_sleep must_sleep, void *object, uint64_t deadline)
{
    return kin__park_on(&(kin__wait){.key = key, .must_sleep = must_sleep, .object = object, .deadline = deadline});
}

/* Wakes a thread that sleeps in this turn; false if it was woken, or woke, before. */
static bool wake(uint32_t place, kin__thread *t, uint32_t turn, uint64_t now)
{
    uint64_t claim = kin__load64(&t->claim);
    kin__store64(&t->woken_at, now);
    if (!kin__cas32(&t->wake, &turn, turn | 1))
        return false;
    KIN_CRASH_POINT("park.waking");
    os_park_wake(&t->wake, place, (uint32_t)(claim >> 32));
    return true;
}

/* Alive, and the sleep is its own. One that was killed asleep leaves its key and its bit to the next who gets the
 * place, until that one has cleared them: a wake must not be spent on it. */
static bool place_alive(uint32_t place, const kin__thread *t)
{
    uint64_t owner = kin__load64(&t->claim) >> 32 << 32 | (uint64_t)(place + 1) << 1;
    return kin__load64(&t->sleeper) == owner && kin__owner_alive(owner);
}

static uint32_t lowest_bit(uint64_t bits)
{
    uint32_t n = 0;
    if ((bits & 0xffffffffu) == 0)
        bits >>= 32, n += 32;
    if ((bits & 0xffff) == 0)
        bits >>= 16, n += 16;
    if ((bits & 0xff) == 0)
        bits >>= 8, n += 8;
    while ((bits & 1) == 0)
        bits >>= 1, n++;
    return n;
}

void kin__each_sleeper(bool (*visit)(uint32_t place, kin__thread *t, void *arg), void *arg)
{
    kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->threads_used);
    if (used > KIN__THREADS)
        used = KIN__THREADS;
    for (uint32_t i = 0; i < (used + 63) / 64; i++) {
        for (uint64_t bits = kin__load64(&s->sleeping[i]); bits != 0; bits &= bits - 1) {
            uint32_t place = i * 64 + lowest_bit(bits);
            if (place_alive(place, &s->threads[place]) && !visit(place, &s->threads[place], arg))
                return;
        }
    }
}

typedef struct search {
    uint64_t key, now, since;
    uint32_t place, turn, woken;
    bool found;
    bool many; /* those who sleep on many keys are to be woken, too */
} search;

/* Whether a thread that sleeps on many keys may sleep on this one. */
static bool may_be_among(const kin__thread *t, uint64_t key)
{
    kin__keys one = {{0}};
    kin__keys_add(&one, key);
    for (size_t i = 0; i < 4; i++) {
        if (one.bits[i] != 0)
            return (kin__load64(&t->name[i]) & one.bits[i]) != 0;
    }
    return false;
}

/* The one that has slept longest; and all who sleep on it forget that the caller holds it. */
static bool is_oldest(uint32_t place, kin__thread *t, void *arg)
{
    search *look = arg;
    uint32_t turn = kin__load32(&t->wake); /* before the key: the wake counts only if both belong to the same sleep */
    if ((turn & 1) != 0)
        return true;
    uint64_t key = kin__load64(&t->key);
    if (key == KIN__KEY_MANY && look->many && may_be_among(t, look->key))
        (void)wake(place, t, turn, kin__now_ns());
    if (key != look->key)
        return true;
    kin__edge_drop(t);
    uint64_t since = kin__load64(&t->since);
    if (!look->found || since < look->since) {
        look->found = true;
        look->since = since;
        look->place = place;
        look->turn = turn;
    }
    return true;
}

static uint32_t wake_oldest(uint64_t key, uint32_t most, bool many)
{
    uint32_t woken = 0;
    for (; woken < most; many = false) {
        search look = {.key = key, .many = many};
        kin__each_sleeper(is_oldest, &look);
        if (!look.found)
            break;
        woken += wake(look.place, &kin__my.session->threads[look.place], look.turn, kin__now_ns());
    }
    return woken;
}

uint32_t kin__wake_some(uint64_t key, uint32_t most)
{
    return wake_oldest(key, most, true);
}

uint32_t kin__wake_one(uint64_t key)
{
    return wake_oldest(key, 1, true);
}

static bool wake_if_waiting(uint32_t place, kin__thread *t, void *arg)
{
    search *look = arg;
    uint32_t turn = kin__load32(&t->wake);
    if ((turn & 1) != 0)
        return true;
    uint64_t key = kin__load64(&t->key);
    if (key == look->key)
        look->woken += wake(place, t, turn, look->now);
    else if (key == KIN__KEY_MANY && look->many && may_be_among(t, look->key))
        (void)wake(place, t, turn, look->now);
    return true;
}

uint32_t kin__wake_all(uint64_t key)
{
    search look = {.key = key, .now = kin__now_ns(), .many = true};
    kin__each_sleeper(wake_if_waiting, &look);
    return look.woken;
}

uint32_t kin__wake_those_on(uint64_t key, uint32_t most)
{
    if (most != KIN__EVERYONE)
        return wake_oldest(key, most, false);
    search look = {.key = key, .now = kin__now_ns()};
    kin__each_sleeper(wake_if_waiting, &look);
    return look.woken;
}

void kin__wake_place(uint32_t place, uint32_t turn)
{
    (void)wake(place, &kin__my.session->threads[place], turn, kin__now_ns());
}

void kin__wake_thread(uint64_t owner)
{
    uint32_t place = kin__owner_place(owner), turn = kin__load32(&kin__my.session->threads[place].wake);
    if ((turn & 1) == 0)
        kin__wake_place(place, turn);
}

static bool wake_if_interruptible(uint32_t place, kin__thread *t, void *arg)
{
    uint32_t turn = kin__load32(&t->wake);
    if ((turn & 1) == 0 && kin__load64(&t->process) == *(const kin__pid *)arg && kin__load32(&t->interruptible) != 0)
        kin__wake_place(place, turn);
    return true;
}

void kin__wake_process(kin__pid process)
{
    kin__each_sleeper(wake_if_interruptible, &process);
}

static bool found_exactly(uint32_t place, kin__thread *t, void *arg)
{
    search *look = arg;
    look->found = place != kin__owner_place(kin__me) && kin__load64(&t->key) == look->key;
    return !look->found;
}

bool kin__anybody_sleeps_on(uint64_t key)
{
    search look = {.key = key};
    kin__each_sleeper(found_exactly, &look);
    return look.found;
}

static bool found_other(uint32_t place, kin__thread *t, void *arg)
{
    search *look = arg;
    uint64_t key = place != kin__owner_place(kin__me) ? kin__load64(&t->key) : 0;
    look->found = key == look->key || (key == KIN__KEY_MANY && may_be_among(t, look->key));
    return !look->found;
}

bool kin__anybody_sleeps(uint64_t key)
{
    search look = {.key = key};
    kin__each_sleeper(found_other, &look);
    return look.found;
}

static bool wake_any(uint32_t place, kin__thread *t, void *arg)
{
    uint32_t turn = kin__load32(&t->wake);
    if ((turn & 1) == 0)
        (void)wake(place, t, turn, *(const uint64_t *)arg);
    else /* who wrote that it is woken may have died before it woke it */
        os_park_wake(&t->wake, place, (uint32_t)(kin__load64(&t->claim) >> 32));
    return true;
}

void kin__wake_everybody(void)
{
    uint64_t now = kin__now_ns();
    kin__each_sleeper(wake_any, &now);
}

/* Each process that changes such objects must have begun before anybody relies on it; what the root could, all can. */
kin_err kin__order_begin(void)
{
    static uint64_t begun; /* in which process: a copy begins anew */
    kin_err err = kin__check_init();
    if (err != KIN_OK || kin__my.session->ordered == 0 || kin__load64(&begun) == kin__my.id + 1)
        return err;
    err = os_order_begin();
    if (err == KIN_OK)
        kin__store64(&begun, kin__my.id + 1);
    return err;
}

void kin__order_all(void)
{
    if (kin__my.session->ordered != 0)
        os_order_all();
    else
        kin__fence();
}

bool kin__spin_more(kin__spin *spin)
{
    static uint32_t cpus; /* written by any thread, always with about the same number */
    if (spin->turns == 0) {
        if (kin__load32_relaxed(&cpus) == 0)
            kin__store32(&cpus, (uint32_t)os_cpu_count());
        if (kin__my.session->cpus == 1)
            return false;
        uint32_t budget = kin__load32_relaxed(&kin__my.session->wake_ns), most = kin__load32_relaxed(&kin__my.session->spin_ns);
        if (most == 0)
            return false;
        if (budget < SPIN_MIN_NS)
            budget = SPIN_MIN_NS;
        if (budget > most)
            budget = most;
        spin->until = kin__now_ns() + budget;
    }
    bool only_one = kin__load32_relaxed(&cpus) == 1;
    /* Who is wanted may be waiting for this very CPU: the more likely where this process has only one. */
    spin->turns++;
    if (spin->apart != 0) { /* each look takes the line away from those who use it */
        for (uint32_t i = 0; i < spin->apart; i++)
            kin__relax();
        if (spin->apart < KIN__APART_MOST)
            spin->apart *= 2;
        if (spin->turns % (only_one ? 2 : 32) == 0)
            os_yield();
        return kin__now_ns() < spin->until;
    }
    if (spin->turns % 32 != 0) {
        kin__relax();
        return true;
    }
    if (spin->turns % (only_one ? 32 : 256) == 0)
        os_yield();
    return kin__now_ns() < spin->until;
}
