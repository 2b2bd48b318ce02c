/* A segment: shared memory for structs of your own. */
#ifndef KIN_SEGMENT_H
#define KIN_SEGMENT_H

#include "any.h"

KIN_BEGIN

/* Creates `size` bytes (>= 1) of shared memory, zeroed, reserved at once: too little memory is KIN_ENOMEM here and
 * never a fault at first touch. The caller holds a reference; the memory is freed when the last process that has one
 * has closed it or ended, however it ended. Processes map it at different addresses: keep offsets in it, not
 * pointers. KIN_EINVAL, KIN_ENOMEM, KIN_EMFILE, KIN_ESTATE (before kin_init). */
KIN_API kin_err kin_segment_create(kin_segment **segment, size_t size);

/* Its memory, aligned to 64 bytes; NULL if `segment` is no open segment. */
KIN_API void *kin_segment_data(const kin_segment *segment);

/* Exactly the size it was created with, on every system; 0 if `segment` is no open segment. */
KIN_API size_t kin_segment_size(const kin_segment *segment);

/* Gives the reference back. Pointers into it are invalid from then on. NULL does nothing. */
KIN_API void kin_segment_close(kin_segment *segment);

KIN_END

#endif
