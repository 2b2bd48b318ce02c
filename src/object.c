/* What the synchronisation objects share inside. Nothing here waits. */
#include "object.h"

#include "any.h"
#include "error.h"
#include "kin/barrier.h"
#include "kin/condition.h"
#include "kin/event.h"
#include "kin/rwlock.h"
#include "kin/semaphore.h"
#include "segment.h"
#include "session.h"

#include <string.h>

_Static_assert(sizeof(kin__object) == 64 && offsetof(kin__object, magic) == 16 && offsetof(kin__object, name) == 24,
               "layout in shared memory");
_Static_assert(sizeof(kin_lock) == 64 && sizeof(kin_rlock) == 64 && sizeof(kin_event) == 64 && sizeof(kin_condition) == 64,
               "layout in shared memory");
_Static_assert(sizeof(kin_semaphore) == 512 && sizeof(kin_rwlock) == 512 && sizeof(kin_barrier) == 4096, "layout in shared memory");

size_t kin__object_size(kin_type kind)
{
    switch (kind) {
    case KIN_TYPE_LOCK:
        return sizeof(kin_lock);
    case KIN_TYPE_RLOCK:
        return sizeof(kin_rlock);
    case KIN_TYPE_SEMAPHORE:
        return sizeof(kin_semaphore);
    case KIN_TYPE_EVENT:
        return sizeof(kin_event);
    case KIN_TYPE_CONDITION:
        return sizeof(kin_condition);
    case KIN_TYPE_BARRIER:
        return sizeof(kin_barrier);
    case KIN_TYPE_RWLOCK:
        return sizeof(kin_rwlock);
    default:
        return 0;
    }
}

const char *kin__object_kind(kin_type kind)
{
    return kin__type_name(kind) + 4; /* without "kin_" */
}

const char *kin__object_name(const kin__object *o)
{
    return o->name[0] != 0 ? o->name : "(unnamed)";
}

kin_err kin__object_begin(void *p, kin_type kind, const char *name)
{
    kin__object *o = p;
    if (o == NULL || ((uintptr_t)o & 7) != 0)
        return kin__fail(KIN_EINVAL, "the %s needs an address that is a multiple of 8", kin__object_kind(kind));
    memset(o, 0, kin__object_size(kind));
    o->id = kin__unique();
    if (name != NULL)
        (void)snprintf(o->name, sizeof o->name, "%s", name);
    return KIN_OK;
}

void kin__object_ready(void *p, kin_type kind)
{
    ((kin__object *)p)->magic = kin__object_magic(kind);
}

kin_err kin__object_create(void **p, kin_type kind)
{
    if (p == NULL)
        return kin__fail(KIN_EINVAL, "there is no place for the new %s", kin__object_kind(kind));
    kin__header *header;
    kin_err err = kin__segment_new(kind, kin__object_size(kind), &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot create the %s", kin__object_kind(kind));
    *p = kin__header_data(header);
    return KIN_OK;
}

void kin__object_close(void *p, kin_type kind)
{
    if (kin__is_object(p, kind))
        kin__segment_release(p);
}

kin_err kin__no_object(const void *p, kin_type kind)
{
    const char *name = kin__object_kind(kind);
    return p == NULL ? kin__fail(KIN_EINVAL, "the %s is NULL", name) : kin__fail(KIN_EINVAL, "not an open %s", name);
}

kin_err kin__wrong_timeout(const kin__object *o, kin_type kind, int64_t timeout_ms)
{
    return kin__fail(KIN_EINVAL, "%s '%s': a time-out of %lld ms", kin__object_kind(kind), kin__object_name(o), (long long)timeout_ms);
}

kin_err kin__timed_out(const kin__object *o, kin_type kind, const char *what, int64_t timeout_ms)
{
    return kin__fail(KIN_ETIMEDOUT, "%s '%s': %s within %lld ms", kin__object_kind(kind), kin__object_name(o), what, (long long)timeout_ms);
}
