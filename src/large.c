/* Memory for large messages: large.h. It must never be written to while somebody may read it: only what its consumer has given back is
 * used again, and only by the process that made it. A piece that is kept is in a place of the flow's, and in nobody's hands; who takes it
 * out has it alone, so no lock is needed. */
#include "large.h"

#include "error.h"
#include "fault.h"

#include <stdlib.h>

#define KEPT_MOST ((size_t)16 << 20) /* bytes: larger pieces are not kept */

/* Not what the header says, which others may have written over since it was checked. */
static size_t room(const kin__large *l) { return l->mapped - sizeof(kin__header); }

static void give_up(kin__large *l)
{
    os_memory_unmap(l->header, l->mapped);
    if (l->handle != OS_NO_HANDLE)
        os_handle_close(l->handle);
    free(l);
}

static kin__large *take_out(uint64_t *place) { return (kin__large *)(uintptr_t)kin__exchange64(place, 0); }

/* Where it was, unless another thread has put its own there meanwhile. */
static void put_back(uint64_t *place, kin__large *l)
{
    uint64_t none = 0;
    if (!kin__cas64(place, &none, (uint64_t)(uintptr_t)l))
        give_up(l);
}

/* In the first place; what was there moves on, and the oldest goes. */
static void keep(uint64_t *places, kin__large *l)
{
    for (size_t i = 0; i < KIN__KEPT && l != NULL && l->mapped <= KEPT_MOST; i++)
        l = (kin__large *)(uintptr_t)kin__exchange64(&places[i], (uint64_t)(uintptr_t)l);
    if (l != NULL)
        give_up(l);
}

/* ---- a producer's ---- */

/* Given back, large enough, and not much too large. */
static bool fits(const kin__large *l, size_t size)
{
    return kin__load32(&l->header->got) != 0 && room(l) >= size && room(l) / 4 <= size;
}

static kin_err make(size_t size, kin__large *l)
{
    void *base;
    kin_err err = os_memory_create(size + sizeof(kin__header), &l->handle);
    if (err != KIN_OK)
        return err;
    err = os_memory_map(l->handle, &base, &l->mapped);
    if (err != KIN_OK) {
        os_handle_close(l->handle);
        return err;
    }
    os_memory_touch(base, size + sizeof(kin__header));
    l->header = base;
    *l->header = (kin__header){.version = KIN__HEADER_VERSION, .kind = KIN_TYPE_SEGMENT, .size = room(l), .id = kin__unique()};
    l->header->magic = KIN__HEADER_MAGIC;
    return KIN_OK;
}

kin_err kin__large_make(kin__flow *f, size_t size, kin__large **large)
{
    for (size_t i = 0; i < KIN__KEPT; i++) {
        kin__large *l = take_out(&f->made[i]);
        if (l != NULL && fits(l, size)) {
            kin__store32(&l->header->got, 0);
            *large = l;
            return KIN_OK;
        }
        if (l != NULL)
            put_back(&f->made[i], l);
    }
    if (size > SIZE_MAX / 2)
        return kin__fail(KIN_ENOMEM, "a message of %zu bytes is more than can be addressed", size);
    kin__large *l = malloc(sizeof *l);
    if (l == NULL)
        return kin__fail(KIN_ENOMEM, "no memory for a message");
    kin__error_kept kept;
    kin__error_keep(&kept);
    kin_err err = make(size <= KEPT_MOST / 2 ? size + size / 8 : size, l); /* the next may be a little larger */
    if (err != KIN_OK) { /* what is kept must not be what is lacking, nor what is asked for beyond the message */
        kin__large_end(f);
        err = make(size, l);
        if (err == KIN_OK)
            kin__error_back(&kept);
    }
    if (err != KIN_OK) {
        free(l);
        return kin__fail_in(err, "a message of %zu bytes", size);
    }
    *large = l;
    return KIN_OK;
}

void kin__large_keep(kin__flow *f, kin__large *l, bool sent)
{
    if (!sent)
        kin__store32(&l->header->got, 1);
    keep(f->made, l);
}

/* ---- a consumer's ---- */

kin__large *kin__large_known(kin__flow *f, uint64_t piece, size_t size)
{
    for (size_t i = 0; i < KIN__KEPT && piece != 0; i++) {
        kin__large *l = take_out(&f->opened[i]);
        if (l != NULL && l->header->id == piece && room(l) >= size)
            return l;
        if (l != NULL)
            put_back(&f->opened[i], l);
    }
    return NULL;
}

kin_err kin__large_open(os_handle handle, size_t size, kin__large **large)
{
    void *base = NULL;
    kin__large *l = malloc(sizeof *l);
    kin_err err = l == NULL ? kin__fail(KIN_ENOMEM, "no memory for a message") : os_memory_map(handle, &base, &l->mapped);
    if (err == KIN_OK) {
        l->header = base;
        l->handle = OS_NO_HANDLE;
        err = kin__header_check(base, l->mapped, KIN_TYPE_SEGMENT);
        if (err == KIN_OK && room(l) < size)
            err = kin__fail(KIN_EPROTO, "a message of %zu bytes comes with memory for %zu", size, room(l));
        if (err != KIN_OK)
            os_memory_unmap(base, l->mapped);
    }
    os_handle_close(handle);
    if (err != KIN_OK) {
        free(l);
        return err;
    }
    os_memory_touch(base, size + sizeof(kin__header));
    *large = l;
    return KIN_OK;
}

void kin__large_got(kin__flow *f, kin__large *l, uint64_t piece)
{
    KIN_CRASH_POINT("large.copied");
    kin__store32(&l->header->got, 1);
    if (piece != 0)
        keep(f->opened, l);
    else
        give_up(l);
}

void kin__large_put_back(kin__flow *f, kin__large *l) { keep(f->opened, l); }

void kin__large_end(kin__flow *f)
{
    for (size_t i = 0; i < KIN__KEPT; i++) {
        kin__large *made = take_out(&f->made[i]), *opened = take_out(&f->opened[i]);
        if (made != NULL)
            give_up(made);
        if (opened != NULL)
            give_up(opened);
    }
}
