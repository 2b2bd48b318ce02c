/* Packed values from a hostile sender: kin__args_decode, and every way of taking them out.
 *
 * Input: which system call fails (0: none), the number of handles, a byte for each (fuzz_handle), a 16-bit size and the image of the
 * shared memory among them; the rest is the pack. */
#include "fuzz.h"

#include <uv.h>

#define MOST_HANDLES 8
#define MOST_VALUES 32

typedef union place {
    uint8_t bytes[64];
    uint64_t number;
    void *pointer;
    const char *text;
    kin_view view;
    kin_args *list;
    FILE *file;
    int fd;
    intptr_t handle;
} place;

static void take_all(kin_args *args, int depth);

/* What was handed out is what it seems to be; then it goes. */
static void dispose(kin_type type, place *p, int depth)
{
    volatile uint8_t sum = 0;
    uv_fs_t request;
    switch (type) {
    case KIN_TYPE_STRING:
        FUZZ_CHECK(strlen(p->text) < (size_t)1 << 20);
        break;
    case KIN_TYPE_BYTES:
        for (size_t i = 0; i < p->view.size; i++)
            sum = (uint8_t)(sum + ((const uint8_t *)p->view.data)[i]);
        break;
    case KIN_TYPE_LIST:
        take_all(p->list, depth + 1);
        break;
    case KIN_TYPE_FILE:
        FUZZ_CHECK(p->file != NULL);
        (void)fclose(p->file);
        break;
    case KIN_TYPE_FD:
        FUZZ_CHECK(p->fd >= 0 && uv_fs_close(NULL, &request, p->fd, NULL) == 0);
        break;
    case KIN_TYPE_HANDLE:
        FUZZ_CHECK(p->handle != OS_NO_HANDLE);
        os_handle_close(p->handle);
        break;
    default:
        if (type < KIN_TYPE_SEGMENT)
            break;
        fuzz_use(type, p->pointer);
        fuzz_close(type, p->pointer);
    }
}

static size_t size_of(kin_type type)
{
    return type == KIN_TYPE_BYTES ? sizeof(kin_view) : type == KIN_TYPE_FD ? sizeof(int) : type == KIN_TYPE_BOOL ? 1 : 8;
}

static void take(kin_args *args, size_t index, kin_type type, size_t size, int depth)
{
    place p = {.number = 0};
    if (fuzz_ok(kin_args_get(args, index, (kin_out){type, &p, size})))
        dispose(type, &p, depth);
}

/* One by one, in every width and as what they are not. */
static void take_each(kin_args *args, int depth)
{
    for (size_t i = 0, count = kin_args_count(args); i < count; i++) {
        kin_type type = kin_args_type(args, i);
        FUZZ_CHECK(type > KIN_TYPE_NONE && type <= KIN_TYPE_CONNECTION);
        for (size_t size = 1; size <= 8; size *= 2) {
            take(args, i, KIN_TYPE_INT, size, depth);
            take(args, i, KIN_TYPE_UINT, size, depth);
        }
        take(args, i, KIN_TYPE_BOOL, 1, depth);
        take(args, i, KIN_TYPE_DOUBLE, sizeof(float), depth);
        for (size_t size = 0; size <= 64 && type == KIN_TYPE_STRUCT; size++)
            take(args, i, type, size, depth);
        take(args, i, type < KIN_TYPE_CONNECTION ? type + 1 : KIN_TYPE_FILE, 8, depth);
        take(args, i, type, size_of(type), depth);
        if (type >= KIN_TYPE_FILE) /* what can be taken out once only. A list twice, at every depth, would be one 65536 times */
            take(args, i, type, size_of(type), depth);
    }
}

/* All in one go. A struct is of a size that nobody but its sender knows: 8 here. */
static void take_whole(kin_args *args, int depth)
{
    place places[MOST_VALUES] = {{.number = 0}};
    kin_out outs[MOST_VALUES];
    size_t count = kin_args_count(args);
    if (count > MOST_VALUES)
        return;
    for (size_t i = 0; i < count; i++)
        outs[i] = (kin_out){kin_args_type(args, i), &places[i], size_of(kin_args_type(args, i))};
    if (!fuzz_ok(kin__unpack(args, (kin__outs){outs, count})))
        return;
    for (size_t i = 0; i < count; i++)
        dispose(outs[i].type, &places[i], depth);
}

static void take_all(kin_args *args, int depth)
{
    FUZZ_CHECK(depth <= KIN__LIST_DEPTH);
    if (depth == 0) /* in lists only one by one, likewise */
        take_whole(args, depth);
    take_each(args, depth);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    uint8_t kinds[MOST_HANDLES];
    fuzz_mark mark = fuzz_handles_begin();
    uint8_t fault = fuzz_u8(&in);
    size_t count = fuzz_u8(&in) % (MOST_HANDLES + 1);
    for (size_t i = 0; i < count; i++)
        kinds[i] = fuzz_u8(&in);
    size_t image_size = fuzz_u16(&in);
    void *image = fuzz_block(&in, &image_size);
    os_handle *handles = malloc(sizeof *handles * (count + 1)); /* of none too: its address is given away */
    FUZZ_CHECK(handles != NULL);
    for (size_t i = 0; i < count; i++)
        handles[i] = fuzz_handle(kinds[i], image, image_size);
    size_t pack_size = in.left;
    void *pack = fuzz_block(&in, &pack_size);
    kin_args *args = NULL;
    kin__fault_arm(fault);
    if (fuzz_ok(kin__args_of_message(pack, pack_size, handles, count, &args))) {
        take_all(args, 0);
        kin_args_free(args);
    }
    kin__fault_arm(0);
    free(image);
    fuzz_handles_end(mark);
    return 0;
}
