/* Functions as (module, offset) on ELF systems: the loader's list of what is mapped says in which file an address
 * lies. A file is known by its GNU build id, or, where the linker made none, by its program headers and a sample of
 * its code. */
#include "posix.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

typedef struct search {
    uintptr_t address;  /* looked for; 0: look for `name` instead */
    const char *name;
    bool first;         /* the first one the loader names is the executable */
    bool found, executable;
    uintptr_t base;
    uint64_t build;
    bool in_code;
    const char *path;
} search;

static uint64_t hash(uint64_t h, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 0x100000001b3u; /* FNV-1a */
    return h;
}

static bool build_id(const struct dl_phdr_info *info, const ElfW(Phdr) *segment, uint64_t *id)
{
    const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr), *end = at + segment->p_memsz;
    while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, at, sizeof note);
        const char *name = at + sizeof note, *text = name + (note.n_namesz + 3) / 4 * 4;
        if (text > end || note.n_descsz > (size_t)(end - text))
            return false;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
            *id = hash(0xcbf29ce484222325u, text, note.n_descsz);
            return true;
        }
        at = text + (note.n_descsz + 3) / 4 * 4;
    }
    return false;
}

static uint64_t build_of(const struct dl_phdr_info *info)
{
    uint64_t id = 0xcbf29ce484222325u;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_NOTE && build_id(info, &info->dlpi_phdr[i], &id))
            return id;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        id = hash(id, segment, sizeof *segment);
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0)
            id = hash(id, (const void *)(info->dlpi_addr + segment->p_vaddr), segment->p_memsz < 65536 ? segment->p_memsz : 65536);
    }
    return id;
}

static bool covers(const struct dl_phdr_info *info, uintptr_t address, bool code_only)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && (!code_only || (segment->p_flags & PF_X) != 0) && address >= from && address - from < segment->p_memsz)
            return true;
    }
    return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    search *s = arg;
    bool executable = s->first;
    s->first = false;
    if (s->name != NULL ? (s->name[0] == 0 ? !executable : strcmp(info->dlpi_name, s->name) != 0) : !covers(info, s->address, false))
        return 0;
    s->found = true;
    s->executable = executable;
    s->base = info->dlpi_addr;
    s->path = info->dlpi_name;
    s->build = build_of(info);
    s->in_code = covers(info, s->address, true);
    return 1;
}

kin_err os_place_of(void (*function)(void), os_place *place)
{
    search s = {.address = (uintptr_t)function, .first = true};
    (void)dl_iterate_phdr(visit, &s);
    if (!s.found || !s.in_code)
        return kin__fail(KIN_ENOENT, "the address %p is in no code of the program or its libraries", (void *)(uintptr_t)function);
    size_t length = s.executable ? 0 : strlen(s.path);
    if (length >= sizeof place->module)
        return kin__fail(KIN_ENOENT, "the path of the library is longer than %zu bytes", sizeof place->module - 1);
    memcpy(place->module, s.executable ? "" : s.path, length + 1);
    place->offset = (uintptr_t)function - s.base;
    place->build = s.build;
    return KIN_OK;
}

kin_err os_place_find(const os_place *place, void (**function)(void))
{
    search s = {.name = place->module, .first = true};
    (void)dl_iterate_phdr(visit, &s);
    if (!s.found && dlopen(place->module, RTLD_NOW | RTLD_LOCAL) != NULL) {
        s = (search){.name = place->module, .first = true};
        (void)dl_iterate_phdr(visit, &s);
    }
    if (!s.found) {
        const char *why = dlerror();
        return kin__fail(KIN_ENOENT, "cannot load the library '%s': %s", place->module, why != NULL ? why : "it is not there");
    }
    if (s.build != place->build)
        return kin__fail(KIN_EPROTO, "%s%s is another build than the one that started this process",
                         place->module[0] != 0 ? "the library " : "the executable", place->module);
    uintptr_t base = s.base;
    s = (search){.address = base + (uintptr_t)place->offset, .first = true};
    (void)dl_iterate_phdr(visit, &s);
    if (!s.found || !s.in_code || s.base != base) /* it must not lie in another library */
        return kin__fail(KIN_ENOENT, "there is no code at the target's offset");
    *function = (void (*)(void))s.address;
    return KIN_OK;
}
