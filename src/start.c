/* The start record and the life of a child. A record is a head, the target as (module, offset, build) and the packed
 * values. The child reads it, finds its target, says that it has started, runs the target and ends through exit().
 * Whatever goes wrong before the target runs is written into its place in the session, where its starter finds it. A
 * child must never return to the program's own code. */
#include "start.h"

#include "error.h"
#include "fault.h"
#include "park.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_MAGIC 0x6b696e72u /* "kinr" */
#define RECORD_VERSION 1u

typedef struct record_head {
    uint32_t magic;
    uint32_t version;
} record_head;

/* A place as it travels: the name's bytes follow, with its final 0. */
typedef struct place_head {
    uint64_t offset;
    uint64_t build;
    uint64_t name_size;
} place_head;

kin_err kin__parcel_add_function(kin__parcel *parcel, void (*function)(void))
{
    os_place place;
    kin_err err = os_place_of(function, &place);
    if (err != KIN_OK)
        return err;
    place_head head = {place.offset, place.build, strlen(place.module) + 1};
    err = kin__parcel_add(parcel, &head, sizeof head);
    return err != KIN_OK ? err : kin__parcel_add(parcel, place.module, (size_t)head.name_size);
}

kin_err kin__function_read(const void *bytes, size_t size, size_t *used, void (**function)(void))
{
    place_head head;
    os_place place;
    if (size < sizeof head)
        return kin__fail(KIN_EPROTO, "the start record is damaged");
    memcpy(&head, bytes, sizeof head);
    const char *name = (const char *)bytes + sizeof head;
    if (head.name_size == 0 || head.name_size > sizeof place.module || (head.name_size + 7) / 8 * 8 > size - sizeof head ||
        name[head.name_size - 1] != 0)
        return kin__fail(KIN_EPROTO, "the start record is damaged");
    memcpy(place.module, name, (size_t)head.name_size);
    place.offset = head.offset;
    place.build = head.build;
    *used = sizeof head + (size_t)((head.name_size + 7) / 8 * 8);
    return os_place_find(&place, function);
}

kin_err kin__record_write(kin__parcel *parcel, kin_target target, kin_pack args)
{
    record_head head = {RECORD_MAGIC, RECORD_VERSION};
    kin_err err = kin__parcel_add(parcel, &head, sizeof head);
    if (err == KIN_OK) {
        err = kin__parcel_add_function(parcel, (void (*)(void))target);
        if (err == KIN_ENOENT)
            err = kin__fail_in(KIN_EINVAL, "the target");
    }
    return err != KIN_OK ? err : kin__parcel_add_pack(parcel, args);
}

/* The target that a record begins with; *used gets how many bytes it took. */
static kin_err read_target(const char *bytes, size_t size, size_t *used, kin_target *target)
{
    record_head head;
    void (*function)(void) = NULL;
    if (size < sizeof head)
        return kin__fail(KIN_EPROTO, "the start record is damaged");
    memcpy(&head, bytes, sizeof head);
    if (head.magic != RECORD_MAGIC || head.version != RECORD_VERSION)
        return kin__fail(KIN_EPROTO, "the start record was made by another version of kin");
    kin_err err = kin__function_read(bytes + sizeof head, size - sizeof head, used, &function);
    *used += sizeof head;
    *target = (kin_target)function;
    return err;
}

kin_err kin__record_read(const void *record, size_t size, os_handle *handles, size_t handle_count, kin_target *target, kin_args **args)
{
    const char *bytes = record;
    size_t used = 0;
    kin_err err = read_target(bytes, size, &used, target);
    if (err == KIN_OK)
        return kin__args_decode(bytes + used, size - used, handles, handle_count, args);
    for (size_t i = 0; i < handle_count; i++)
        os_handle_close(handles[i]);
    return err;
}

bool kin__claim(uint32_t slot, uint32_t generation, int64_t pid, uint64_t birthday)
{
    kin__session *s = kin__my.session;
    if (slot >= KIN__PROCESSES)
        return false;
    uint64_t word = kin__load64(&s->words[slot]);
    if (kin__word_generation(word) != generation || kin__word_state(word) != KIN__STARTING)
        return false;
    if (!kin__cas64(&s->words[slot], &word, kin__word(generation, KIN__CLAIMED, (uint32_t)pid)))
        return false;
    /* Only now: before, the place might have become another's. */
    kin__process_info *info = &s->info[slot];
    kin__store64(&info->keeper, kin__my.id);
    kin__store64(&info->server, kin__my.server ? kin__my.id : 0);
    kin__store64(&info->birthday, birthday);
    return true;
}

void kin__refused(uint32_t slot, uint32_t generation, kin_err error, const char *why)
{
    kin__session *s = kin__my.session;
    if (slot >= KIN__PROCESSES)
        return;
    uint64_t word = kin__load64(&s->words[slot]), mine = kin__word(generation, KIN__CLAIMED, (uint32_t)os_process_self());
    uint32_t state = kin__word_state(word);
    kin__process_info *info = &s->info[slot];
    if (kin__word_generation(word) != generation || (state != KIN__STARTING && state != KIN__CLAIMED))
        return;
    /* One that nobody has taken up is claimed first, so that what is written here is not written into another's place. */
    if (state == KIN__STARTING && !kin__cas64(&s->words[slot], &word, mine))
        return;
    (void)snprintf(info->why, sizeof info->why, "%s", why);
    kin__store32(&info->refused, (uint32_t)error);
    /* One that was claimed before is moved on by its reaper, once it has ended. */
    if (state == KIN__STARTING && kin__cas64(&s->words[slot], &mine, kin__word(generation, KIN__DEAD, (uint32_t)OS_STATUS_UNKNOWN)))
        (void)kin__wake_all(kin__process_key(kin__pid_of(slot, generation)));
}

_Noreturn void kin__child_main(const os_birth *birth)
{
    kin__my.id = kin__pid_of(birth->slot, birth->generation);
    kin__my.place = birth->slot;
    kin__my.server = false;
    kin__threads_reset();
    kin__watch_reset();
    kin__session *s = kin__my.session;
    kin__process_info *info = &s->info[birth->slot];
    os_process_set_name(info->name);
    KIN_CRASH_POINT("child.claimed");

    kin_target target = NULL;
    kin_args *args = NULL;
    kin_err err = kin__record_read(birth->record, birth->record_size, birth->handles, birth->handle_count, &target, &args);
    uint64_t word = kin__load64(&s->words[birth->slot]);
    if (err != KIN_OK)
        kin__refused(birth->slot, birth->generation, err, kin_last_error());
    if (err != KIN_OK || kin__word_state(word) != KIN__CLAIMED || kin__word_generation(word) != birth->generation)
        os_process_exit(255);
    kin__store32(&info->started, 1);
    if (!kin__cas64(&s->words[birth->slot], &word, kin__word(birth->generation, KIN__RUNNING, kin__word_low(word))))
        os_process_exit(255);
    KIN_CRASH_POINT("child.running");
    (void)kin__wake_all(kin__process_key(kin__my.id));
    int code = target(args);
    kin__args_free(args);
    exit(code & 255);
}
