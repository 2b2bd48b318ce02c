/* What other files of kin need to know of locks beside the public interface. */
#ifndef KIN_SRC_LOCK_H
#define KIN_SRC_LOCK_H

#include "kin/lock.h"

/* Whether `p` is an open lock, in a segment of its own or in somebody's struct. */
bool kin__is_lock(const void *p);

#endif
