/* The start record: what a child is told at its birth, the same under every start method. */
#ifndef KIN_SRC_START_H
#define KIN_SRC_START_H

#include "any.h"
#include "kin/process.h"

/* A function of the program or its libraries, as it travels. */
kin_err kin__parcel_add_function(kin__parcel *parcel, void (*function)(void));
/* Reads one from `bytes`, which has `size` bytes left; *used gets how many it took. */
kin_err kin__function_read(const void *bytes, size_t size, size_t *used, void (**function)(void));

/* Writes the record of a child that is to run `target` with `args`. KIN_EINVAL: the target is not in the program or
 * its libraries. */
kin_err kin__record_write(kin__parcel *parcel, kin_target target, kin_pack args);

/* Reads one. The bytes must outlive *args; the handles are taken over, also on failure. KIN_EPROTO: it is damaged, or of another
 * build; KIN_ENOENT: there is no such function. */
kin_err kin__record_read(const void *record, size_t size, os_handle *handles, size_t handle_count, kin_target *target, kin_args **args);

#endif
