/* Shared memory from a hostile sender: os_memory_map and kin__segment_adopt, and the use of what that lets through.
 *
 * Input: how (below), the kind of object that is expected, which system call fails (0: none); the rest is what the memory holds. */
#include "fuzz.h"

enum {
    WHAT = 0x0f,    /* of the handle: fuzz_handle */
    TWICE = 0x10,   /* adopted a second time by another handle */
    POSES = 0x20    /* under the id of an object that is open */
};

/* The id of a value that stays open. */
static uint64_t id_of_another(void)
{
    static kin_value *value;
    if (value == NULL)
        FUZZ_CHECK(kin_value_create(&value, 1) == KIN_OK);
    return ((const kin__header *)(const void *)value)->id;
}

static void use(kin__header *header, kin_type expected)
{
    kin_type kind = (kin_type)header->kind;
    volatile const char *data = kin__header_data(header);
    FUZZ_CHECK(expected == KIN_TYPE_NONE || kind == expected);
    for (uint64_t i = 0; i < header->size; i++)
        (void)data[i];
    if (kin__object_size(kind) == 0 && kind >= KIN_TYPE_SEGMENT && kind <= KIN_TYPE_ARRAY)
        fuzz_use(kind, header);
    else if (kin__object_size(kind) != 0 && header->size >= kin__object_size(kind))
        fuzz_use(kind, kin__header_data(header));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    kin__header *first = NULL, *second = NULL;
    os_handle other = OS_NO_HANDLE;
    uint64_t id = id_of_another();
    fuzz_mark mark = fuzz_handles_begin();
    uint8_t how = fuzz_u8(&in);
    kin_type expected = (kin_type)(fuzz_u8(&in) % (KIN_TYPE_CONNECTION + 1));
    uint8_t fault = fuzz_u8(&in);
    size_t image_size = in.left;
    char *image = fuzz_block(&in, &image_size);
    if ((how & POSES) != 0 && image_size >= sizeof(kin__header))
        memcpy(image + offsetof(kin__header, id), &id, sizeof id);
    os_handle handle = fuzz_handle(how & WHAT, image, image_size);
    free(image);
    if ((how & TWICE) != 0 && handle != OS_NO_HANDLE)
        FUZZ_CHECK(os_handle_duplicate(handle, &other) == KIN_OK);

    kin__fault_arm(fault);
    if (fuzz_ok(kin__segment_adopt(handle, expected, &first)))
        use(first, expected);
    else
        os_handle_close(handle);
    if (other != OS_NO_HANDLE && fuzz_ok(kin__segment_adopt(other, expected, &second)))
        use(second, expected);
    else
        os_handle_close(other);
    FUZZ_CHECK(first == NULL || second == NULL || first == second);
    kin__fault_arm(0);
    kin__segment_release(first);
    kin__segment_release(second);
    fuzz_handles_end(mark);
    return 0;
}
