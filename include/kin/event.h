/* An event: a flag that any number of threads wait for. Setting it wakes them all; it stays set until it is cleared.
 *
 * kin_event_set, kin_event_clear and kin_event_is_set may be called in a signal handler, with an open event. Setting
 * it when nobody waits is one atomic operation and no system call. Who was waiting when it was set goes on, even if
 * it was cleared again before that thread ran.
 *
 * Death     who dies                          what the others see
 *           a waiter                          nothing: who sets it never waits for a waiter
 *           who is setting it                 it is set, and all waiters go on, or it is not
 */
#ifndef KIN_EVENT_H
#define KIN_EVENT_H

#include "object.h"

KIN_BEGIN

/* 64 bytes, aligned to 8. */
struct kin_event {
    kin__object kin__o;
};

typedef struct kin_event_options {
    const char *name; /* for messages; copied, the first 39 bytes */
    bool set;         /* it begins set */
} kin_event_options;

/* As kin_lock_create, kin_lock_init and kin_lock_close. */
KIN_API kin_err kin_event_create(kin_event **event, const kin_event_options *options);
KIN_API kin_err kin_event_init(kin_event *event, const kin_event_options *options);
KIN_API void kin_event_close(kin_event *event);

/* Sets it, or clears it; if it is so already nothing happens. KIN_EINVAL: no event, or closed; KIN_ESTATE: set
 * before kin_init, or in a copy made by a plain fork(). */
KIN_API kin_err kin_event_set(kin_event *event);
KIN_API kin_err kin_event_clear(kin_event *event);

/* Whether it is set now; false if it is no open event. */
KIN_API bool kin_event_is_set(const kin_event *event);

/* Waits up to `timeout_ms` until it is set, or was set after the call began. KIN_ETIMEDOUT; KIN_EINTERRUPTED: this
 * process was asked to stop (kin_process_interrupt); KIN_EINVAL as kin_lock_acquire. */
KIN_API kin_err kin_event_wait(kin_event *event, int64_t timeout_ms);

KIN_END

#endif
