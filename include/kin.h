/* kin: multiprocessing for C. This header includes all of the library's interface.
 *
 * The one rule: a child has what it was passed, and nothing else. Globals, open files, locks and memory of the parent
 * do not reach a child unless they were among its arguments, on any system and under any start method. A child begins
 * with the state the program had when it called kin_init.
 */
#ifndef KIN_H
#define KIN_H

#include "kin/base.h"    /* errors, time-outs, version               */
#include "kin/init.h"    /* kin_init, start methods                  */
#include "kin/any.h"     /* KIN_ARGS, kin_unpack: values that cross  */
#include "kin/segment.h" /* shared memory                            */
#include "kin/value.h"   /* one shared number                        */
#include "kin/array.h"   /* a shared array                           */
#include "kin/lock.h"    /* mutual exclusion that survives a death   */
#include "kin/rlock.h"   /* the same, as often as its owner likes    */
#include "kin/rwlock.h"  /* many readers or one writer               */
#include "kin/semaphore.h" /* units to take and to give              */
#include "kin/event.h"   /* a flag to wait for                       */
#include "kin/condition.h" /* waiting for a change under a lock      */
#include "kin/barrier.h" /* waiting for each other                   */
#include "kin/filelock.h" /* between unrelated programs, by path     */
#include "kin/queue.h"   /* messages between any number of processes */
#include "kin/connection.h" /* two ends, messages both ways          */
#include "kin/listener.h" /* connections between programs, and Python's */
#include "kin/process.h" /* start, join, kill                        */
#include "kin/wait.h"    /* for any of many things                   */
#include "kin/pool.h"    /* map over all cores                       */

#endif
