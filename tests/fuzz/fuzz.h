/* What the fuzz targets share. A target defines LLVMFuzzerTestOneInput and calls these; see README.md for the shape. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include "any.h"
#include "error.h"
#include "fault.h"
#include "kin.h"
#include "object.h"
#include "segment.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Says what is not so, and aborts: for libFuzzer and for the driver that is a finding. */
#define FUZZ_CHECK(what) ((what) ? (void)0 : fuzz_failed(#what, __FILE__, __LINE__))
_Noreturn void fuzz_failed(const char *what, const char *file, int line);

/* An input is read from its front; what is missing reads as zeros. */
typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
} fuzz_input;
uint8_t fuzz_u8(fuzz_input *in);
uint16_t fuzz_u16(fuzz_input *in);
/* The next `size` bytes, or as many as there are, in memory of malloc that is exactly so large: a look beyond it shows. *size gets how
 * many. */
void *fuzz_block(fuzz_input *in, size_t *size);

/* A call of kin either succeeds or gives a reason: checks that, and gives whether it succeeded. */
bool fuzz_ok(kin_err err);

/* ---- handles ---- */

/* Whatever an input does, as many handles are open after it as before. Where the system gives out the lowest free descriptor this is
 * seen; elsewhere nothing is checked. */
typedef struct fuzz_mark {
    os_handle lowest;
} fuzz_mark;
fuzz_mark fuzz_handles_begin(void);
void fuzz_handles_end(fuzz_mark mark);

/* A handle of the caller's: what it is decides `kind`. */
enum {
    FUZZ_NO_HANDLE = 0,
    FUZZ_CHANNEL = 1, /* one that is no memory */
    FUZZ_MEMORY = 2,  /* shared memory that begins with `image` */
    FUZZ_LIVE = 3     /* from here on: kin's own object of kin_type kind - FUZZ_LIVE + KIN_TYPE_SEGMENT; else FUZZ_NO_HANDLE */
};
os_handle fuzz_handle(uint8_t kind, const void *image, size_t size);

/* Does with an open object what can be done with it without waiting, and leaves it as it was. Its contents may be anything. */
void fuzz_use(kin_type type, void *object);
/* Gives the reference back. */
void fuzz_close(kin_type type, void *object);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#endif
