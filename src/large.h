/* Memory for messages that are too large for a ring: one piece for each, whose handle goes into the ring. Making such memory, mapping it
 * and giving it back takes several times as long as copying the message. So a producer keeps what it made and uses it again, once
 * whoever got the message has said in the piece's header that it is done with it; and a consumer keeps what it mapped, and knows it by its
 * id when it comes again. Who dies before it says so leaves the piece as it is: then it is not used again. Each ring has at most one
 * large message on its way, so each side keeps three pieces: that one, one that is filled meanwhile, and one that is still read. */
#ifndef KIN_SRC_LARGE_H
#define KIN_SRC_LARGE_H

#include "ring.h"
#include "segment.h"

typedef struct kin__large {
    kin__header *header; /* of KIN_TYPE_SEGMENT; at least as large as the message */
    size_t mapped;
    os_handle handle; /* the producer's */
} kin__large;

static inline void *kin__large_data(const kin__large *l) { return kin__header_data(l->header); }

/* Of a producer: memory for `size` bytes, which are anything. KIN_ENOMEM, KIN_EMFILE. */
kin_err kin__large_make(kin__flow *f, size_t size, kin__large **large);
/* It is on its way, or it could not be sent; either way it is kept for the next. */
void kin__large_keep(kin__flow *f, kin__large *large, bool sent);

/* Of a consumer: what it has mapped before, with room for so much; or NULL. */
kin__large *kin__large_known(kin__flow *f, uint64_t piece, size_t size);
/* Maps what came with a message of `size` bytes; the handle is taken over. KIN_EPROTO: it is something else. KIN_ENOMEM. */
kin_err kin__large_open(os_handle handle, size_t size, kin__large **large);
/* The message was got, and copied: the memory is its producer's again. `piece`: it may come again. */
void kin__large_got(kin__flow *f, kin__large *large, uint64_t piece);
/* It was not. */
void kin__large_put_back(kin__flow *f, kin__large *large);

/* The flow ends: nothing is kept for it any more. */
void kin__large_end(kin__flow *f);

#endif
