/* Handles that outlive their close for a while: the last ones freed wait in a ring before their memory is really
 * given back. */
#include "handle.h"

#include "atomic.h"
#include "error.h"

#include <stdlib.h>

#define KEPT 256u

static uint64_t kept[KEPT]; /* addresses */
static uint32_t next;

void *kin__handle_new(uint32_t mark, size_t size)
{
    kin__mark *handle = calloc(1, size);
    if (handle == NULL) {
        kin__fail(KIN_ENOMEM, "no memory for a handle of %zu bytes", size);
        return NULL;
    }
    handle->mark = mark;
    return handle;
}

bool kin__handle_unmark(void *handle, uint32_t mark)
{
    return kin__handle_is(handle, mark) && kin__cas32(&((kin__mark *)handle)->mark, &mark, 0);
}

void kin__handle_free(void *handle)
{
    uint32_t place = kin__add32(&next, 1) % KEPT;
    free((void *)(uintptr_t)kin__exchange64(&kept[place], (uint64_t)(uintptr_t)handle));
}
