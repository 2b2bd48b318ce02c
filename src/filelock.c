/* The file lock: two locks, one after the other. `inner` is an ordinary kin_lock in this process's own memory: it
 * keeps the threads of the process apart, knows its owner, and says when that ended. Whoever holds it, and nobody
 * else, takes and gives back the system's lock on the file. So the file is locked only while the inner lock is held,
 * but for an owner that ended: then its heir finds the file locked already.
 *
 * The system can wait for a file for ever or not at all; with a time-out it is tried again and again, at growing
 * distances. A file must never stay locked when an acquire has failed. */
#include "kin/filelock.h"

#include "error.h"
#include "lock.h"
#include "os.h"
#include "park.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define FILELOCK_MAGIC 0x6b696e66u /* "kinf" */
#define LONGEST_PAUSE_MS 20u

struct kin_filelock {
    uint32_t magic;
    os_handle file; /* locked; OS_NO_HANDLE else. Belongs to the owner of `inner` */
    kin_lock inner;
    char path[];
};

static bool is_filelock(const kin_filelock *lock)
{
    return lock != NULL && lock->magic == FILELOCK_MAGIC;
}

/* KIN_OK if it can be used, here and now. */
static kin_err check(const kin_filelock *lock)
{
    if (!is_filelock(lock))
        return kin__fail(KIN_EINVAL, lock == NULL ? "the file lock is NULL" : "not a file lock, or it was closed");
    return kin__check_init();
}

/* The last characters of a path, as many as fit: they tell more than the first. */
static const char *tail_of(const char *path, size_t space)
{
    size_t length = strlen(path);
    if (length < space)
        return path;
    path += length - (space - 1);
    while (((unsigned char)*path & 0xc0) == 0x80)
        path++; /* not in the middle of a character */
    return path;
}

kin_err kin_filelock_open(kin_filelock **lock, const char *path)
{
    if (lock == NULL)
        return kin__fail(KIN_EINVAL, "kin_filelock_open needs a place for the lock");
    if (path == NULL || path[0] == 0)
        return kin__fail(KIN_EINVAL, "kin_filelock_open needs the path of a file");
    kin_err err = kin__check_init();
    if (err != KIN_OK)
        return err;
    size_t size = strlen(path) + 1;
    kin_filelock *made = malloc(sizeof *made + size);
    if (made == NULL)
        return kin__fail(KIN_ENOMEM, "file lock '%s': no memory", path);
    const char *name = tail_of(path, sizeof made->inner.kin__o.name);
    if ((err = kin_lock_init(&made->inner, &(kin_lock_options){.name = name})) != KIN_OK) {
        free(made);
        return err;
    }
    memcpy(made->path, path, size);
    made->file = OS_NO_HANDLE;
    made->magic = FILELOCK_MAGIC;
    *lock = made;
    return KIN_OK;
}

/* Tries until the deadline, and once more then. The calling thread sleeps without being woken: the system tells
 * nobody that a file is free. */
static kin_err lock_until(kin_filelock *lock, uint64_t deadline)
{
    for (uint64_t pause_ms = 1;; pause_ms = pause_ms * 2 < LONGEST_PAUSE_MS ? pause_ms * 2 : LONGEST_PAUSE_MS) {
        uint64_t now = kin__now_ns();
        kin_err err = os_file_lock(lock->path, false, &lock->file);
        if (err != KIN_ETIMEDOUT || now >= deadline)
            return err;
        uint64_t left_ms = (deadline - now + 999999u) / 1000000u;
        uv_sleep((unsigned)(left_ms < pause_ms ? left_ms : pause_ms));
    }
}

static kin_err lock_file(kin_filelock *lock, uint64_t deadline, int64_t timeout_ms)
{
    kin_err err = deadline == KIN__NEVER ? os_file_lock(lock->path, true, &lock->file) : lock_until(lock, deadline);
    if (err == KIN_ETIMEDOUT)
        return kin__fail(err, "file lock '%s': not free within %lld ms", lock->path, (long long)timeout_ms);
    return err; /* the sentence names the path */
}

/* Why the threads' lock could not be had. */
static kin_err inner_failed(const kin_filelock *lock, kin_err err, int64_t timeout_ms)
{
    if (kin_lock_held(&lock->inner))
        return kin__fail(err, "file lock '%s': this thread holds it already", lock->path);
    if (err == KIN_ETIMEDOUT)
        return kin__fail(
            err, "file lock '%s': not free within %lld ms; another thread of this process has it, or waits for it",
            lock->path, (long long)timeout_ms);
    return kin__fail_in(err, "file lock '%s'", lock->path);
}

kin_err kin_filelock_acquire(kin_filelock *lock, int64_t timeout_ms)
{
    kin_err err = check(lock);
    if (err != KIN_OK)
        return err;
    if (timeout_ms < KIN_FOREVER)
        return kin__fail(KIN_EINVAL, "file lock '%s': a time-out of %lld ms", lock->path, (long long)timeout_ms);
    uint64_t deadline = kin__deadline(timeout_ms);
    err = kin_lock_acquire(&lock->inner, timeout_ms);
    if (err != KIN_OK && err != KIN_EOWNERDEAD)
        return inner_failed(lock, err, timeout_ms);
    if (lock->file != OS_NO_HANDLE)
        return kin__fail(KIN_EOWNERDEAD,
                         "file lock '%s': the thread that held it ended with it; it is held now by this thread",
                         lock->path);
    err = lock_file(lock, deadline, timeout_ms); /* also after a thread that ended before it had the file */
    if (err != KIN_OK)
        (void)kin_lock_release(&lock->inner);
    return err;
}

static void unlock_file(kin_filelock *lock)
{
    os_handle file = lock->file;
    lock->file = OS_NO_HANDLE;
    if (file != OS_NO_HANDLE)
        os_file_unlock(file);
}

kin_err kin_filelock_release(kin_filelock *lock)
{
    kin_err err = check(lock);
    if (err != KIN_OK)
        return err;
    if (!kin_lock_held(&lock->inner))
        return kin__fail(KIN_EPERM, "file lock '%s': this thread does not hold it", lock->path);
    unlock_file(lock);
    return kin_lock_release(&lock->inner);
}

bool kin_filelock_held(const kin_filelock *lock)
{
    return is_filelock(lock) && kin_lock_held(&lock->inner);
}

void kin_filelock_close(kin_filelock *lock)
{
    if (!is_filelock(lock))
        return;
    if (kin__my.session == NULL)
        os_handle_close(lock->file); /* a copy made by a plain fork(): what it would unlock is its maker's */
    else
        unlock_file(lock);
    if (kin_lock_held(&lock->inner))
        (void)kin_lock_release(&lock->inner);
    lock->magic = 0;
    free(lock);
}
