/* The start record that a child reads: kin__record_read. What it names is found, never called.
 *
 * Input: how (below); the rest is the record. Which build this is, and where its functions are, no stored input can know: it can have
 * them written in. */
#include "fuzz.h"
#include "start.h"

enum {
    HANDLES = 0x03, /* so many come with it */
    BUILD = 0x10,   /* of this program */
    OFFSET = 0x20   /* of a function in it */
};

/* Where they are in a record: after magic and version. */
#define OFFSET_AT 8
#define BUILD_AT 16
#define NAME_AT 32

static int target(kin_args *args)
{
    (void)args;
    return 0;
}

/* It is in the code of the module that the record names. */
static void check_place(kin_target found, const char *module)
{
    os_place place;
    FUZZ_CHECK(found != NULL && os_place_of((void (*)(void))found, &place) == KIN_OK);
    FUZZ_CHECK(module[0] != 0 || place.module[0] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    os_handle handles[HANDLES];
    os_place here;
    kin_target found = NULL;
    kin_args *args = NULL;
    FUZZ_CHECK(os_place_of((void (*)(void))target, &here) == KIN_OK);
    fuzz_mark mark = fuzz_handles_begin();
    uint8_t how = fuzz_u8(&in);
    size_t count = how & HANDLES, record_size = in.left;
    char *record = fuzz_block(&in, &record_size);
    if ((how & BUILD) != 0 && record_size >= BUILD_AT + sizeof here.build)
        memcpy(record + BUILD_AT, &here.build, sizeof here.build);
    if ((how & OFFSET) != 0 && record_size >= BUILD_AT)
        memcpy(record + OFFSET_AT, &here.offset, sizeof here.offset);
    for (size_t i = 0; i < count; i++)
        handles[i] = fuzz_handle(FUZZ_CHANNEL, NULL, 0);
    if (fuzz_ok(kin__record_read(record, record_size, handles, count, &found, &args))) {
        check_place(found, record + NAME_AT);
        FUZZ_CHECK((how & OFFSET) == 0 || record[NAME_AT] != 0 || found == target);
        for (size_t i = 0; i < kin_args_count(args); i++)
            FUZZ_CHECK(kin_args_type(args, i) != KIN_TYPE_NONE);
        kin__args_free(args);
    }
    free(record);
    fuzz_handles_end(mark);
    return 0;
}
