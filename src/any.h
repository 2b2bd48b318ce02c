/* Packs on the wire: a kin_pack becomes bytes and handles, and bytes and handles become a kin_args. The same form
 * serves process arguments and everything else that crosses. Little-endian or big-endian does not matter: both ends
 * are the same machine. */
#ifndef KIN_SRC_ANY_H
#define KIN_SRC_ANY_H

#include "kin/any.h"
#include "os.h"

/* How deep lists may nest. */
#define KIN__LIST_DEPTH 16

/* Before each value on the wire; the value's bytes follow, aligned to 8. */
typedef struct kin__item_head {
    uint32_t type;
    uint32_t extra;  /* index of the handle                                             */
    uint64_t number; /* the number's bits, or how many bytes or items follow            */
    uint64_t offset; /* of a lock in its segment; of a FILE: how it was opened          */
} kin__item_head;
_Static_assert(sizeof(kin__item_head) == 24, "form on the wire");

/* "string", "kin_lock" … for messages. */
const char *kin__type_name(kin_type type);

/* A pack on its way: bytes in one block, handles beside them. */
typedef struct kin__parcel {
    char *bytes;
    size_t size, space;
    os_handle *handles;
    bool *owned; /* made for this parcel, closed with it */
    size_t handle_count, handle_space;
} kin__parcel;

/* Appends raw bytes, aligned to 8; or a pack. On failure the parcel must still be freed. */
kin_err kin__parcel_add(kin__parcel *parcel, const void *bytes, size_t size);
kin_err kin__parcel_add_pack(kin__parcel *parcel, kin_pack pack);
void kin__parcel_free(kin__parcel *parcel);

/* Makes a kin_args of what kin__parcel_add_pack wrote. `bytes` (aligned to 8) must outlive it; handles are taken
 * over, all of them, also on failure: each is closed when it is not taken out. KIN_EPROTO: the bytes are damaged. */
kin_err kin__args_decode(const void *bytes, size_t size, os_handle *handles, size_t handle_count, kin_args **args);
/* The same for a message: bytes and handles are both of malloc, and belong to the kin_args; freed on failure. */
kin_err kin__args_of_message(void *bytes, size_t size, os_handle *handles, size_t handle_count, kin_args **args);
void kin__args_free(kin_args *args);

#endif
