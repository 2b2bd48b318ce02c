/* The event: one word [times it was set:62][WAIT:1][SET:1]. A waiter remembers how often it had been set when it
 * came, so that an event that is set and cleared again before the waiter runs is not missed. Nobody sets WAIT while
 * it is SET. Setting touches nothing but the word when nobody sleeps, takes no lock and allocates nothing, so it is
 * fit for a signal handler. */
#include "kin/event.h"

#include "error.h"
#include "fault.h"
#include "lock.h"
#include "wait.h"

#define SET ((uint64_t)1)
#define WAIT ((uint64_t)2)
#define ONCE ((uint64_t)4)

kin_err kin_event_init(kin_event *event, const kin_event_options *options)
{
    kin_err err = kin__object_begin(event, KIN_TYPE_EVENT, options != NULL ? options->name : NULL);
    if (err != KIN_OK)
        return err;
    event->kin__o.word = options != NULL && options->set ? SET : 0;
    kin__object_ready(event, KIN_TYPE_EVENT);
    return KIN_OK;
}

kin_err kin_event_create(kin_event **event, const kin_event_options *options)
{
    void *p;
    kin_err err = kin__object_create(event != NULL ? &p : NULL, KIN_TYPE_EVENT);
    if (err != KIN_OK)
        return err;
    *event = p;
    return kin_event_init(*event, options);
}

void kin_event_close(kin_event *event)
{
    kin__object_close(event, KIN_TYPE_EVENT);
}

kin_err kin_event_set(kin_event *event)
{
    if (!kin__is_object(event, KIN_TYPE_EVENT))
        return kin__no_object(event, KIN_TYPE_EVENT);
    if (kin__my.session == NULL) /* a copy made by a plain fork() can wake nobody */
        return kin__check_init();
    uint64_t *at = &event->kin__o.word, word = kin__load64(at), after, id = event->kin__o.id;
    do {
        if ((word & (SET | WAIT)) == SET)
            return KIN_OK;
        after = (word & SET) != 0 ? word : (word + ONCE) | SET;
    } while (after != word && !kin__cas64(at, &word, after));
    KIN_CRASH_POINT("event.set");
    if ((after & WAIT) == 0)
        return KIN_OK;
    /* WAIT stays until all are woken: if who set it is stopped before, the next to set it wakes them. */
    kin__wake_all(id);
    KIN_CRASH_POINT("event.woken");
    (void)kin__cas64(at, &after, after & ~WAIT);
    return KIN_OK;
}

kin_err kin_event_clear(kin_event *event)
{
    if (!kin__is_object(event, KIN_TYPE_EVENT))
        return kin__no_object(event, KIN_TYPE_EVENT);
    if ((kin__load64(&event->kin__o.word) & SET) != 0)
        kin__and64(&event->kin__o.word, ~SET);
    return KIN_OK;
}

bool kin_event_is_set(const kin_event *event)
{
    return kin__is_object(event, KIN_TYPE_EVENT) && (kin__load64(&event->kin__o.word) & SET) != 0;
}

typedef struct look {
    uint64_t *word, before;
} look;

/* Set now, or since the call began. */
static bool was_set(const look *l, uint64_t word)
{
    return (word & SET) != 0 || word / ONCE != l->before / ONCE;
}

static bool must_sleep(void *object)
{
    look *l = object;
    uint64_t word = kin__load64(l->word);
    do {
        if (was_set(l, word))
            return false;
    } while ((word & WAIT) == 0 && !kin__cas64(l->word, &word, word | WAIT));
    return true;
}

kin_err kin_event_wait(kin_event *event, int64_t timeout_ms)
{
    if (!kin__is_object(event, KIN_TYPE_EVENT))
        return kin__no_object(event, KIN_TYPE_EVENT);
    kin__object *o = &event->kin__o;
    if (timeout_ms < KIN_FOREVER)
        return kin__wrong_timeout(o, KIN_TYPE_EVENT, timeout_ms);
    uint64_t before = kin__load64(&o->word);
    if ((before & SET) != 0)
        return KIN_OK;
    if (kin__thread_me() == 0)
        return kin_last_code();
    look l = {&o->word, before};
    uint64_t deadline = kin__deadline(timeout_ms);
    if (timeout_ms != KIN_NOWAIT) {
        for (kin__spin spin = {0}; kin__spin_more(&spin);) {
            if (was_set(&l, kin__load64(&o->word)))
                return KIN_OK;
        }
    }
    for (kin_err err = timeout_ms == KIN_NOWAIT ? KIN_ETIMEDOUT : KIN_OK;;) {
        if (was_set(&l, kin__load64(&o->word)))
            return KIN_OK;
        if (err != KIN_OK)
            return kin__timed_out(o, KIN_TYPE_EVENT, "not set", timeout_ms);
        err = kin__park_on(&(kin__wait){.key = o->id, .must_sleep = must_sleep, .object = &l, .deadline = deadline,
                                        .kind = KIN_TYPE_EVENT, .name = o->name, .interruptible = true});
        if (err == KIN_EINTERRUPTED)
            return err;
    }
}

kin_err kin__event_watch(const kin_event *event, kin__watched *watched)
{
    if (!kin__is_object(event, KIN_TYPE_EVENT))
        return kin__no_object(event, KIN_TYPE_EVENT);
    watched->key = event->kin__o.id;
    return KIN_OK;
}

void kin__event_arm(const kin_event *event)
{
    uint64_t *at = (uint64_t *)(uintptr_t)&event->kin__o.word, word = kin__load64(at);
    while ((word & (SET | WAIT)) == 0 && !kin__cas64(at, &word, word | WAIT)) {
    }
}

bool kin__event_ready(const kin_event *event)
{
    return (kin__load64(&event->kin__o.word) & SET) != 0;
}
