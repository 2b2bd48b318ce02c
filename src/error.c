/* Errors: a code for the program, a sentence for the person. Each thread keeps its last sentence in a buffer of its
 * own, so that failing allocates nothing and can be reported even when there is no memory. */
#include "error.h"

#include "os.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static OS_THREAD_LOCAL kin_err last_code;
static OS_THREAD_LOCAL char last_text[sizeof((kin__error_kept *)0)->text];

kin_err kin__fail(kin_err error, const char *format, ...)
{
    int saved = errno;
    va_list values;
    va_start(values, format);
    (void)vsnprintf(last_text, sizeof last_text, format, values);
    va_end(values);
    last_code = error;
    errno = saved;
    return error;
}

kin_err kin__fail_in(kin_err error, const char *format, ...)
{
    char before[sizeof last_text];
    memcpy(before, last_text, sizeof before);
    va_list values;
    va_start(values, format);
    int n = vsnprintf(last_text, sizeof last_text, format, values);
    va_end(values);
    if (n >= 0 && (size_t)n + 3 < sizeof last_text) {
        last_text[n] = ':';
        last_text[n + 1] = ' ';
        memcpy(last_text + n + 2, before, sizeof last_text - (size_t)n - 2);
        last_text[sizeof last_text - 1] = 0;
    }
    last_code = error;
    return error;
}

kin_err kin__fail_text(kin_err error, const char *text)
{
    return kin__fail(error, "%s", text);
}

void kin__error_keep(kin__error_kept *kept)
{
    kept->code = last_code;
    memcpy(kept->text, last_text, sizeof kept->text);
}

void kin__error_back(const kin__error_kept *kept)
{
    last_code = kept->code;
    memcpy(last_text, kept->text, sizeof kept->text);
}

const char *kin_last_error(void)
{
    return last_text;
}

kin_err kin_last_code(void)
{
    return last_code;
}

const char *kin_strerror(kin_err error)
{
    static const char *const names[] = {
        [KIN_OK] = "KIN_OK: success",
        [KIN_EINVAL] = "KIN_EINVAL: wrong argument or closed object",
        [KIN_ENOMEM] = "KIN_ENOMEM: no memory",
        [KIN_EAGAIN] = "KIN_EAGAIN: a limit is reached",
        [KIN_EMFILE] = "KIN_EMFILE: too many open descriptors or handles",
        [KIN_ETIMEDOUT] = "KIN_ETIMEDOUT: the time-out passed",
        [KIN_EPERM] = "KIN_EPERM: not permitted",
        [KIN_EOWNERDEAD] = "KIN_EOWNERDEAD: the last owner died; the lock is held now",
        [KIN_EDEADLK] = "KIN_EDEADLK: waiting would never end",
        [KIN_ELOST] = "KIN_ELOST: the process that could have told is gone",
        [KIN_ECHILD] = "KIN_ECHILD: a child or worker died",
        [KIN_ETYPE] = "KIN_ETYPE: another number or type of values than expected",
        [KIN_ERANGE] = "KIN_ERANGE: out of range",
        [KIN_ENOENT] = "KIN_ENOENT: no such thing",
        [KIN_ESTATE] = "KIN_ESTATE: not possible now",
        [KIN_ENOTSUP] = "KIN_ENOTSUP: not supported",
        [KIN_EINTERRUPTED] = "KIN_EINTERRUPTED: asked to stop",
        [KIN_ETASK] = "KIN_ETASK: at least one task failed",
        [KIN_EPROTO] = "KIN_EPROTO: damaged or foreign data",
        [KIN_EIO] = "KIN_EIO: the system failed",
        [KIN_EPIPE] = "KIN_EPIPE: the other end is gone",
        [KIN_EEXIST] = "KIN_EEXIST: the name is taken",
        [KIN_ECANCELLED] = "KIN_ECANCELLED: ended before it ran",
        [KIN_EBROKEN] = "KIN_EBROKEN: the barrier is broken",
        [KIN_EMSGSIZE] = "KIN_EMSGSIZE: the message is too large",
        [KIN_EFULL] = "KIN_EFULL: no room in the queue",
        [KIN_EEMPTY] = "KIN_EEMPTY: no message in the queue",
        [KIN_EAUTH] = "KIN_EAUTH: the other side does not know the key",
    };
    if (error < 0 || (size_t)error >= sizeof names / sizeof names[0])
        return "unknown error";
    return names[error];
}

void kin_free(void *memory)
{
    free(memory);
}
