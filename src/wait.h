/* What kin_wait asks of the things that can be waited for; queues and connections: message.h. */
#ifndef KIN_SRC_WAIT_H
#define KIN_SRC_WAIT_H

#include "kin/event.h"
#include "kin/listener.h"
#include "kin/process.h"
#include "kin/semaphore.h"
#include "message.h"

/* KIN_EINVAL with a sentence if it is no open object. */
kin_err kin__event_watch(const kin_event *event, kin__watched *watched);
kin_err kin__semaphore_watch(const kin_semaphore *semaphore, kin__watched *watched);
kin_err kin__process_watch(const kin_process *process, kin__watched *watched);
/* Has whoever changes it look for sleepers. (A process needs no such thing.) */
void kin__event_arm(const kin_event *event);
void kin__semaphore_arm(const kin_semaphore *semaphore);
/* Whether it is set, has a unit, has ended. */
bool kin__event_ready(const kin_event *event);
bool kin__semaphore_ready(const kin_semaphore *semaphore);
bool kin__process_ready(const kin_process *process);

kin_err kin__listener_watch(const kin_listener *listener, kin__watched *watched);
void kin__listener_arm(const kin_listener *listener);
bool kin__listener_ready(const kin_listener *listener);

/* kin_process_join; `interruptible`: not for kin's own work, which goes on when the process was asked to stop. */
kin_err kin__process_join(kin_process *process, int64_t timeout_ms, bool interruptible);

#endif
