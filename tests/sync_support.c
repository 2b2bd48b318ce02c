#include "sync_support.h"

#include "park.h"
#include "session.h"

#include <string.h>

enum { DISMISSED = -1 };
#define IDLE_MS 60000 /* longer than any test: an actor whose test has failed goes away by itself */

/* ---- the actor ---- */

static void report(sync_actor *actor, kin_err error)
{
    actor->error = error;
    (void)snprintf(actor->said, sizeof actor->said, "%s", kin_last_error());
    kin__add32(&actor->answered, 1);
}

int sync_act(sync_actor *actor, sync_perform perform, void *shared)
{
    actor->pid = kin_current_pid();
    actor->thread = os_thread_number();
    actor->owner = kin__thread_me();
    (void)snprintf(actor->name, sizeof actor->name, "%s", kin_current_name());
    CHILD_CHECK(actor->owner != 0);
    report(actor, KIN_OK); /* to the order that it is to come */
    for (uint32_t done = 1;; done++) {
        int64_t end = kin_now() + test_ms(IDLE_MS);
        for (int turn = 0; kin__load32(&actor->asked) <= done; turn++) {
            CHILD_CHECK(kin_now() < end);
            if (turn > 20)
                uv_sleep(1);
        }
        if (actor->call == DISMISSED)
            return 0;
        report(actor, perform(shared, actor));
    }
}

static void run_thread(void *arg)
{
    sync_member *member = arg;
    (void)sync_act(member->actor, member->perform, member->shared);
}

/* ---- the crew ---- */

static sync_member *enlist(sync_crew *crew, sync_actor *actor)
{
    assert_true(crew->count < SYNC_CREW);
    sync_member *member = &crew->members[crew->count];
    memset(actor, 0, sizeof *actor);
    actor->asked = 1;
    *member = (sync_member){.actor = actor};
    return member;
}

void sync_enlist_process(sync_crew *crew, sync_actor *actor, kin_target target, kin_pack args)
{
    sync_enlist_process_named(crew, actor, target, args, NULL);
}

void sync_enlist_process_named(sync_crew *crew, sync_actor *actor, kin_target target, kin_pack args, const char *name)
{
    sync_member *member = enlist(crew, actor);
    member->process = test_start_with(target, args, (kin_process_options){.name = name});
    crew->count++;
    assert_int_equal(sync_answer(actor), KIN_OK);
}

void sync_enlist_thread(sync_crew *crew, sync_actor *actor, sync_perform perform, void *shared)
{
    sync_member *member = enlist(crew, actor);
    member->perform = perform;
    member->shared = shared;
    assert_int_equal(uv_thread_create(&member->thread, run_thread, member), 0);
    crew->count++;
    assert_int_equal(sync_answer(actor), KIN_OK);
}

void sync_dismiss_one(sync_crew *crew, int index)
{
    sync_member *member = &crew->members[index];
    sync_actor *actor = member->actor;
    assert_true(sync_answered(actor));
    sync_ask(actor, DISMISSED, 0, 0);
    member->actor = NULL;
    if (member->process != NULL)
        assert_int_equal(test_finish(member->process), 0);
    else
        assert_int_equal(uv_thread_join(&member->thread), 0);
}

void sync_dismiss(sync_crew *crew)
{
    for (int i = 0; i < crew->count; i++) {
        if (crew->members[i].actor != NULL)
            sync_dismiss_one(crew, i);
    }
    crew->count = 0;
}

bool sync_abandon(sync_crew *crew)
{
    bool all = true;
    for (int i = 0; i < crew->count; i++) {
        sync_member *member = &crew->members[i];
        if (member->actor == NULL)
            continue;
        if (member->process != NULL) {
            (void)kin_process_kill(member->process);
            kin_process_close(member->process);
        } else {
            all = false;
        }
    }
    memset(crew, 0, sizeof *crew);
    return all;
}

/* ---- orders ---- */

void sync_ask(sync_actor *actor, int call, int object, int64_t number)
{
    assert_int_equal(kin__load32(&actor->asked), kin__load32(&actor->answered));
    actor->call = call;
    actor->object = object;
    actor->number = number;
    kin__add32(&actor->asked, 1);
}

bool sync_answered(sync_actor *actor)
{
    return kin__load32(&actor->answered) == kin__load32(&actor->asked);
}

static bool has_answered(void *arg)
{
    return sync_answered(arg);
}

kin_err sync_answer(sync_actor *actor)
{
    if (!crash_until(has_answered, actor)) {
        crash_print_threads(NULL);
        fail_msg("an actor of '%s' did not come back from call %d with object %d", actor->name, actor->call, actor->object);
    }
    return actor->error;
}

kin_err sync_do(sync_actor *actor, int call, int object, int64_t number)
{
    sync_ask(actor, call, object, number);
    return sync_answer(actor);
}

bool sync_is_asleep(const sync_actor *actor)
{
    const kin__session *s = kin__my.session;
    uint32_t place = kin__owner_place(actor->owner);
    return (kin__load64(&s->sleeping[place / 64]) >> (place % 64) & 1) != 0 && kin__load64(&s->threads[place].key) != 0 &&
           (kin__load32(&s->threads[place].wake) & 1) == 0;
}

static bool is_asleep_or_back(void *arg)
{
    return sync_answered(arg) || sync_is_asleep(arg);
}

bool sync_until_asleep(sync_actor *actor)
{
    return crash_until(is_asleep_or_back, actor) && !sync_answered(actor);
}

void sync_ask_asleep(sync_actor *actor, int call, int object, int64_t number)
{
    sync_ask(actor, call, object, number);
    if (!sync_until_asleep(actor))
        fail_msg("call %d with object %d did not wait: %s, \"%s\"", call, object,
                 sync_answered(actor) ? kin_strerror(actor->error) : "still under way", actor->said);
}

/* ---- threads and time ---- */

void sync_threads(uv_thread_cb body, void *arguments, size_t size, int count)
{
    uv_thread_t threads[64];
    assert_true(count <= 64);
    for (int i = 0; i < count; i++)
        assert_int_equal(uv_thread_create(&threads[i], body, (char *)arguments + (size_t)i * size), 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
}

int64_t sync_cpu_ms(void)
{
    uv_rusage_t usage;
    if (uv_getrusage(&usage) != 0)
        return 0;
    return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (int64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}
