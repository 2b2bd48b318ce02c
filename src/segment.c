/* Shared segments and this process's registry of them. The registry is a sorted array, searched by address; it is
 * only used to create, pass and close, never by an operation on an object. A segment that is closed is blanked and
 * kept for a while, so that a use after close finds zeros and becomes an error rather than a crash. */
#include "kin/segment.h"

#include "error.h"
#include "segment.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

typedef struct mapping {
    char *base;
    size_t mapped; /* bytes */
    os_handle handle;
    uint64_t id;
    size_t references;
} mapping;

#define KEPT_BLANK 64u

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t mutex;
static mapping *mappings;
static size_t mapping_count, mapping_space;
static mapping blanks[KEPT_BLANK]; /* closed ones, oldest at blank_next */
static size_t blank_next;

static void make_mutex(void)
{
    if (uv_mutex_init(&mutex) != 0)
        abort(); /* no memory for a few bytes at the very beginning */
}

static void lock_registry(void)
{
    uv_once(&once, make_mutex);
    uv_mutex_lock(&mutex);
}

/* The index of the first mapping that ends after `p`. */
static size_t find_from(const char *p)
{
    size_t low = 0, high = mapping_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mappings[middle].base + mappings[middle].mapped <= p)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static mapping *find(const void *p)
{
    size_t i = find_from(p);
    return i < mapping_count && mappings[i].base <= (const char *)p ? &mappings[i] : NULL;
}

static kin_err insert(mapping m)
{
    if (mapping_count == mapping_space) {
        size_t space = mapping_space != 0 ? mapping_space * 2 : 16;
        mapping *more = realloc(mappings, space * sizeof *more);
        if (more == NULL)
            return kin__fail(KIN_ENOMEM, "no memory to register a segment");
        mappings = more;
        mapping_space = space;
    }
    size_t i = find_from(m.base);
    memmove(&mappings[i + 1], &mappings[i], (mapping_count - i) * sizeof *mappings);
    mappings[i] = m;
    mapping_count++;
    return KIN_OK;
}

static kin_err register_mapping(mapping m)
{
    lock_registry();
    kin_err err = insert(m);
    uv_mutex_unlock(&mutex);
    return err;
}

kin_err kin__segment_new(kin_type kind, uint64_t size, kin__header **header)
{
    kin_err err = kin__check_init();
    if (err != KIN_OK)
        return err;
    if (size > (uint64_t)(SIZE_MAX / 2))
        return kin__fail(KIN_ENOMEM, "%llu bytes of shared memory are more than can be addressed", (unsigned long long)size);
    mapping m = {.references = 1, .id = kin__unique()};
    err = os_memory_create((size_t)size + sizeof(kin__header), &m.handle);
    if (err != KIN_OK)
        return err;
    void *base;
    err = os_memory_map(m.handle, &base, &m.mapped);
    if (err != KIN_OK) {
        os_handle_close(m.handle);
        return err;
    }
    m.base = base;
    *header = base;
    **header = (kin__header){.version = KIN__HEADER_VERSION, .kind = (uint32_t)kind, .size = size, .id = m.id};
    (*header)->magic = KIN__HEADER_MAGIC;
    err = register_mapping(m);
    if (err != KIN_OK) {
        os_memory_unmap(base, m.mapped);
        os_handle_close(m.handle);
    }
    return err;
}

/* A segment may come from a hostile or broken process: nothing in it is used before it is checked. */
kin_err kin__header_check(const kin__header *h, size_t mapped, kin_type kind)
{
    if (mapped < sizeof *h || h->magic != KIN__HEADER_MAGIC || h->version != KIN__HEADER_VERSION)
        return kin__fail(KIN_EPROTO, "the shared memory holds no object of this version of kin");
    if (kind != KIN_TYPE_NONE && h->kind != (uint32_t)kind)
        return kin__fail(KIN_EPROTO, "the shared memory holds an object of kind %u, expected %u", h->kind, (unsigned)kind);
    if (h->size > mapped - sizeof *h)
        return kin__fail(KIN_EPROTO, "the shared memory has %zu bytes, its header says %llu", mapped, (unsigned long long)h->size);
    if (h->kind == KIN_TYPE_ARRAY && (h->item_size == 0 || h->count == 0 || h->count > h->size / h->item_size))
        return kin__fail(KIN_EPROTO, "the array's header is damaged");
    return KIN_OK;
}

kin_err kin__segment_adopt(os_handle handle, kin_type kind, kin__header **header)
{
    void *base;
    mapping m = {.handle = handle, .references = 1};
    kin_err err = os_memory_map(handle, &base, &m.mapped);
    if (err != KIN_OK)
        return err;
    m.base = base;
    err = kin__header_check(base, m.mapped, kind);
    if (err != KIN_OK) {
        os_memory_unmap(base, m.mapped);
        return err;
    }
    m.id = ((kin__header *)base)->id;
    lock_registry();
    for (size_t i = 0; i < mapping_count; i++) {
        if (mappings[i].id != m.id || mappings[i].mapped != m.mapped)
            continue;
        /* It says of itself that it is this one, which must be believed: the system has no name for memory. So what is there counts. */
        err = kin__header_check((const kin__header *)(void *)mappings[i].base, m.mapped, kind);
        if (err != KIN_OK) {
            uv_mutex_unlock(&mutex);
            os_memory_unmap(base, m.mapped);
            return err;
        }
        mappings[i].references++;
        *header = (kin__header *)(void *)mappings[i].base;
        uv_mutex_unlock(&mutex);
        os_memory_unmap(base, m.mapped);
        os_handle_close(handle);
        return KIN_OK;
    }
    err = insert(m);
    uv_mutex_unlock(&mutex);
    if (err != KIN_OK)
        os_memory_unmap(base, m.mapped);
    *header = base;
    return err;
}

kin_err kin__segment_find(const void *p, kin__header **header, os_handle *handle)
{
    lock_registry();
    mapping *m = find(p);
    if (m != NULL) {
        *header = (kin__header *)(void *)m->base;
        *handle = m->handle;
    }
    uv_mutex_unlock(&mutex);
    return m != NULL ? KIN_OK : kin__fail(KIN_EINVAL, "the object is not in shared memory of kin's, or it was closed");
}

void kin__segment_reference(const void *p)
{
    lock_registry();
    mapping *m = find(p);
    if (m != NULL)
        m->references++;
    uv_mutex_unlock(&mutex);
}

/* Takes the mapping's place among the blank ones; the one that had it loses its addresses for good. */
static mapping keep_blank(mapping m)
{
    mapping oldest = blanks[blank_next];
    blanks[blank_next] = m;
    blank_next = (blank_next + 1) % KEPT_BLANK;
    return oldest;
}

void kin__segment_release(const void *p)
{
    mapping gone = {.base = NULL}, oldest = {.base = NULL};
    lock_registry();
    mapping *m = find(p);
    if (m != NULL && --m->references == 0) {
        gone = *m;
        size_t i = (size_t)(m - mappings);
        memmove(m, m + 1, (mapping_count - i - 1) * sizeof *m);
        mapping_count--;
        if (os_memory_blank(gone.base, gone.mapped))
            oldest = keep_blank(gone);
    }
    uv_mutex_unlock(&mutex);
    if (gone.base != NULL)
        os_handle_close(gone.handle);
    if (oldest.base != NULL)
        os_memory_forget(oldest.base, oldest.mapped);
}

kin_err kin_segment_create(kin_segment **segment, size_t size)
{
    if (segment == NULL || size == 0)
        return kin__fail(KIN_EINVAL, segment == NULL ? "kin_segment_create needs a place for the segment" : "a segment of 0 bytes");
    kin__header *header;
    kin_err err = kin__segment_new(KIN_TYPE_SEGMENT, size, &header);
    if (err != KIN_OK)
        return kin__fail_in(err, "cannot create a segment of %zu bytes", size);
    *segment = (kin_segment *)header;
    return KIN_OK;
}

void *kin_segment_data(const kin_segment *segment)
{
    if (kin__is(segment, KIN_TYPE_SEGMENT))
        return kin__header_data((const kin__header *)(const void *)segment);
    kin__fail(KIN_EINVAL, "not a segment, or it was closed");
    return NULL;
}

size_t kin_segment_size(const kin_segment *segment)
{
    if (kin__is(segment, KIN_TYPE_SEGMENT))
        return (size_t)((const kin__header *)(const void *)segment)->size;
    kin__fail(KIN_EINVAL, "not a segment, or it was closed");
    return 0;
}

void kin_segment_close(kin_segment *segment)
{
    if (kin__is(segment, KIN_TYPE_SEGMENT))
        kin__segment_release(segment);
}
