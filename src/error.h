/* How a function fails: with a code and one sentence for kin_last_error. */
#ifndef KIN_SRC_ERROR_H
#define KIN_SRC_ERROR_H

#include "kin/base.h"

/* What is KIN_API is for kin's own adapters too, which are libraries of their own (src/uv). */

/* Remembers the failure for this thread and gives `error` back: return kin__fail(KIN_EINVAL, "lock '%s': …", name);
 * A sentence without a final full stop. Keeps errno and GetLastError as they are. */
KIN_API kin_err kin__fail(kin_err error, const char *format, ...) KIN_PRINTF(2, 3);

/* Puts words in front of the sentence of the failure that just happened ("cannot start 'x': cannot map …"); gives
 * `error` back. */
kin_err kin__fail_in(kin_err error, const char *format, ...) KIN_PRINTF(2, 3);

/* The last failure put aside, and back: around work of kin's own whose failures are nobody's business. */
typedef struct kin__error_kept {
    kin_err code;
    char text[4096];
} kin__error_kept;
KIN_API void kin__error_keep(kin__error_kept *kept);
KIN_API void kin__error_back(const kin__error_kept *kept);

/* Remembers a sentence that came from another process. */
kin_err kin__fail_text(kin_err error, const char *text);

#endif
