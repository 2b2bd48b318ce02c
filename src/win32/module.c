/* Functions as (module, offset). A module is loaded at another address in every process, but the distance of a function
 * from its module's start is fixed when the file is linked. So a function crosses as a file, a distance, and the
 * identity of the build, read from the headers of the loaded image. Only an address inside a section that holds code is
 * ever accepted, on either side: a number from outside must not become a jump into data. */
#include "win.h"

/* ---- the loaded image -------------------------------------------------------------------------------------------- */

static const IMAGE_NT_HEADERS *headers_of(HMODULE module)
{
    const unsigned char *base = (const unsigned char *)module;
    const IMAGE_DOS_HEADER *dos = (const IMAGE_DOS_HEADER *)(const void *)base;
    if (dos->e_magic != IMAGE_DOS_SIGNATURE)
        return NULL;
    const IMAGE_NT_HEADERS *headers = (const IMAGE_NT_HEADERS *)(const void *)(base + dos->e_lfanew);
    if (headers->Signature != IMAGE_NT_SIGNATURE || headers->OptionalHeader.Magic != IMAGE_NT_OPTIONAL_HDR_MAGIC)
        return NULL;
    return headers;
}

static bool is_code(const IMAGE_NT_HEADERS *headers, uint64_t offset)
{
    const IMAGE_SECTION_HEADER *section = IMAGE_FIRST_SECTION(headers);
    for (WORD i = 0; i < headers->FileHeader.NumberOfSections; i++, section++) {
        uint64_t start = section->VirtualAddress;
        uint64_t size = section->Misc.VirtualSize != 0 ? section->Misc.VirtualSize : section->SizeOfRawData;
        if ((section->Characteristics & IMAGE_SCN_MEM_EXECUTE) != 0 && offset >= start && offset - start < size)
            return true;
    }
    return false;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t so_far, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i++)
        so_far = (so_far ^ p[i]) * 0x100000001B3u;
    return so_far;
}

/* The linker's own mark of a build, with which debuggers match a program to its symbols: a GUID and an age. */
static uint64_t hash_debug_records(uint64_t so_far, HMODULE module, const IMAGE_NT_HEADERS *headers)
{
    const unsigned char *base = (const unsigned char *)module;
    const IMAGE_OPTIONAL_HEADER *optional = &headers->OptionalHeader;
    if (optional->NumberOfRvaAndSizes <= IMAGE_DIRECTORY_ENTRY_DEBUG)
        return so_far;
    const IMAGE_DATA_DIRECTORY *where = &optional->DataDirectory[IMAGE_DIRECTORY_ENTRY_DEBUG];
    const uint64_t end = optional->SizeOfImage;
    if (where->VirtualAddress == 0 || (uint64_t)where->VirtualAddress + where->Size > end)
        return so_far;
    const IMAGE_DEBUG_DIRECTORY *entry = (const IMAGE_DEBUG_DIRECTORY *)(const void *)(base + where->VirtualAddress);
    for (size_t i = 0; i < where->Size / sizeof *entry; i++, entry++)
        if (entry->Type == IMAGE_DEBUG_TYPE_CODEVIEW && entry->AddressOfRawData != 0 &&
            (uint64_t)entry->AddressOfRawData + entry->SizeOfData <= end)
            so_far = hash(so_far, base + entry->AddressOfRawData, entry->SizeOfData);
    return so_far;
}

/* Left out is what the loader changes: the address at which the image was loaded. */
static uint64_t build_of(HMODULE module, const IMAGE_NT_HEADERS *headers)
{
    const IMAGE_OPTIONAL_HEADER *optional = &headers->OptionalHeader;
    const DWORD facts[] = {headers->FileHeader.TimeDateStamp, optional->CheckSum, optional->SizeOfImage,
                           optional->AddressOfEntryPoint};
    uint64_t build = hash(0xCBF29CE484222325u, facts, sizeof facts);
    build =
        hash(build, IMAGE_FIRST_SECTION(headers), headers->FileHeader.NumberOfSections * sizeof(IMAGE_SECTION_HEADER));
    return hash_debug_records(build, module, headers);
}

/* ---- its file ---------------------------------------------------------------------------------------------------- */

/* GetModuleFileNameW does not say how much room it needs, only that there was too little. */
wchar_t *win_module_path(HMODULE module)
{
    for (DWORD space = 512; space <= 65536; space *= 2) {
        wchar_t *path = malloc(space * sizeof *path);
        if (path == NULL) {
            SetLastError(ERROR_NOT_ENOUGH_MEMORY);
            return NULL;
        }
        DWORD length = WIN_FAULT("GetModuleFileNameW") ? 0 : GetModuleFileNameW(module, path, space);
        if (length > 0 && length < space)
            return path;
        DWORD error = GetLastError();
        free(path);
        SetLastError(error);
        if (length == 0)
            return NULL;
    }
    return NULL;
}

static kin_err name_module(HMODULE module, char *name, size_t space)
{
    name[0] = '\0';
    if (module == GetModuleHandleW(NULL))
        return KIN_OK;
    wchar_t *wide = win_module_path(module);
    char *path = wide != NULL ? win_utf8(wide) : NULL;
    DWORD error = GetLastError();
    free(wide);
    if (path == NULL)
        return win_fail(error, "GetModuleFileNameW", "cannot tell the file of a library");
    size_t size = strlen(path) + 1;
    if (size <= space)
        memcpy(name, path, size);
    else
        (void)kin__fail(KIN_ERANGE, "the path of the library '%.200s...' is longer than %zu bytes", path, space - 1);
    free(path);
    return size <= space ? KIN_OK : KIN_ERANGE;
}

kin_err os_place_of(void (*function)(void), os_place *place)
{
    HMODULE module = NULL;
    const uintptr_t address = (uintptr_t)function;
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            (LPCWSTR)address, &module))
        return kin__fail(KIN_ENOENT, "address 0x%llx is in no module of the program [GetModuleHandleEx, error %lu]",
                         (unsigned long long)address, (unsigned long)GetLastError());
    const IMAGE_NT_HEADERS *headers = headers_of(module);
    const uint64_t offset = address - (uintptr_t)module;
    if (headers == NULL || !is_code(headers, offset))
        return kin__fail(KIN_ENOENT, "address 0x%llx is not code of the program", (unsigned long long)address);
    memset(place, 0, sizeof *place);
    place->offset = offset;
    place->build = build_of(module, headers);
    return name_module(module, place->module, sizeof place->module);
}

/* The library, with one more reference to it, so that what is found in it stays. It is looked for by its whole path;
 * what it needs itself is looked for beside it first. */
static kin_err take_library(const char *name, HMODULE *module)
{
    wchar_t *path = win_wide(name);
    if (path == NULL)
        return win_fail(GetLastError(), "MultiByteToWideChar", "cannot find the library '%.200s'", name);
    if (!GetModuleHandleExW(0, path, module))
        *module = WIN_FAULT("LoadLibraryExW") ? NULL : LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    DWORD error = GetLastError();
    free(path);
    return *module != NULL ? KIN_OK : win_fail(error, "LoadLibraryExW", "cannot load the library '%.200s'", name);
}

static kin_err find_in(HMODULE module, const os_place *place, void (**function)(void))
{
    const char *name = place->module[0] != '\0' ? place->module : "the executable";
    const IMAGE_NT_HEADERS *headers = headers_of(module);
    if (headers == NULL || build_of(module, headers) != place->build)
        return kin__fail(KIN_EPROTO, "%.200s is not the build that the function was named in", name);
    if (!is_code(headers, place->offset))
        return kin__fail(KIN_ENOENT, "offset 0x%llx is not in the code of %.200s", (unsigned long long)place->offset,
                         name);
    *function = (void (*)(void))((uintptr_t)module + (uintptr_t)place->offset);
    return KIN_OK;
}

kin_err os_place_find(const os_place *place, void (**function)(void))
{
    if (memchr(place->module, '\0', sizeof place->module) == NULL)
        return kin__fail(KIN_EPROTO, "the name of a library does not end");
    if (place->module[0] == '\0')
        return find_in(GetModuleHandleW(NULL), place, function);
    HMODULE module = NULL;
    kin_err error = take_library(place->module, &module);
    if (error == KIN_OK && (error = find_in(module, place, function)) != KIN_OK)
        FreeLibrary(module);
    return error;
}
