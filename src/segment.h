/* Segments: every object of kin lives in shared memory that begins with a header, and each process keeps a registry
 * of what it has mapped, so that a pointer into shared memory can be turned back into the handle that must be
 * passed. */
#ifndef KIN_SRC_SEGMENT_H
#define KIN_SRC_SEGMENT_H

#include "kin/any.h"
#include "os.h"

/* The first 64 bytes of every segment; the object's data follows. The public types kin_segment, kin_value and
 * kin_array are pointers to it; a kin_lock of its own is a pointer to the data. */
typedef struct kin__header {
    uint32_t magic;
    uint32_t version;
    uint32_t kind; /* kin_type */
    uint32_t item; /* of an array: kin_item; of a value: the number's kin_type */
    uint64_t size; /* of the data, exactly */
    uint64_t id;
    uint64_t item_size;
    uint64_t count;
    uint32_t got; /* large.h */
    uint32_t reserved0;
    uint64_t reserved1;
} kin__header;
_Static_assert(sizeof(kin__header) == 64, "layout in shared memory");

#define KIN__HEADER_MAGIC 0x6b696e68u /* "kinh" */
#define KIN__HEADER_VERSION 1u

static inline void *kin__header_data(const kin__header *header)
{
    return (char *)(uintptr_t)header + sizeof *header;
}

/* Whether `p` is an open object of this kind. A closed one reads as zeros. */
static inline bool kin__is(const void *p, kin_type kind)
{
    const kin__header *h = p;
    return h != NULL && ((uintptr_t)h & 63) == 0 && h->magic == KIN__HEADER_MAGIC && h->kind == (uint32_t)kind;
}

/* Whether what lies in `mapped` bytes at `header` can be an object of this kind (KIN_TYPE_NONE: of any): KIN_OK, or KIN_EPROTO. */
kin_err kin__header_check(const kin__header *header, size_t mapped, kin_type kind);

/* Creates a zeroed segment with `size` bytes of data and registers it with one reference. */
kin_err kin__segment_new(kin_type kind, uint64_t size, kin__header **header);

/* Maps a segment that was passed, checks that it is one of `kind` (KIN_TYPE_NONE: of any), and registers it; one
 * that is registered already gets one reference more. Takes the handle over if it succeeds. */
kin_err kin__segment_adopt(os_handle handle, kin_type kind, kin__header **header);

/* The segment that `p` points into, and its handle (borrowed: valid until released). */
kin_err kin__segment_find(const void *p, kin__header **header, os_handle *handle);

/* One reference more to the registered segment that `p` points into. */
void kin__segment_reference(const void *p);

/* Gives back one reference to the segment that `p` points into; unmaps it with the last. */
void kin__segment_release(const void *p);

#endif
