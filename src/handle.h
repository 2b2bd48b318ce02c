/* Handles: the private structs behind kin_process, kin_pool, kin_queue and others. One that is freed is kept for a while with its mark
 * removed, so that a use after close is an error instead of a crash. */
#ifndef KIN_SRC_HANDLE_H
#define KIN_SRC_HANDLE_H

#include "atomic.h"
#include "kin/base.h"

/* The first member of such a struct. */
typedef struct kin__mark {
    uint32_t mark;
} kin__mark;

#define KIN__MARK_PROCESS 0x6b696e70u
#define KIN__MARK_POOL 0x6b696e6fu
#define KIN__MARK_QUEUE 0x6b696e71u
#define KIN__MARK_CONNECTION 0x6b696e63u
#define KIN__MARK_LISTENER 0x6b696e6cu

/* Zeroed memory of `size` bytes beginning with the mark; NULL and KIN_ENOMEM if there is none. */
void *kin__handle_new(uint32_t mark, size_t size);
/* Removes the mark and frees the memory later. False if it was no such handle (any more): of several closers one is
 * told true. */
bool kin__handle_unmark(void *handle, uint32_t mark);
void kin__handle_free(void *handle);
static inline bool kin__handle_is(const void *handle, uint32_t mark)
{
    return handle != NULL && ((uintptr_t)handle & 7) == 0 && kin__load32(&((const kin__mark *)handle)->mark) == mark;
}

#endif
