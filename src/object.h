/* What the synchronisation objects share inside: making them, knowing them, and saying what is wrong. */
#ifndef KIN_SRC_OBJECT_H
#define KIN_SRC_OBJECT_H

#include "kin/object.h"

/* Bytes of an object of this kind; 0 for what is no synchronisation object. */
size_t kin__object_size(kin_type kind);

/* Whether `p` is an open object of this kind, in a segment of its own or in somebody's struct. A closed one reads as
 * zeros. */
static inline uint32_t kin__object_magic(kin_type kind) { return 0x6b696e00u + (uint32_t)kind; }
static inline bool kin__is_object(const void *p, kin_type kind)
{
    const kin__object *o = p;
    return o != NULL && ((uintptr_t)o & 7) == 0 && o->magic == kin__object_magic(kind);
}

/* "lock", "semaphore" …; its name, or "(unnamed)". */
const char *kin__object_kind(kin_type kind);
const char *kin__object_name(const kin__object *o);

/* Makes the memory at `p` an object; kin__object_ready makes it usable when its own fields are set. */
kin_err kin__object_begin(void *p, kin_type kind, const char *name);
void kin__object_ready(void *p, kin_type kind);
/* Zeroed memory for one in a segment of its own. */
kin_err kin__object_create(void **p, kin_type kind);
void kin__object_close(void *p, kin_type kind);

/* KIN_EINVAL: NULL, or something else, or closed. */
kin_err kin__no_object(const void *p, kin_type kind);
/* KIN_EINVAL. */
kin_err kin__wrong_timeout(const kin__object *o, kin_type kind, int64_t timeout_ms);
/* KIN_ETIMEDOUT: "… not free within 5 ms". */
kin_err kin__timed_out(const kin__object *o, kin_type kind, const char *what, int64_t timeout_ms);

#endif
