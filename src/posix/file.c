/* Locks on files, by flock. Such a lock belongs to the open file, not to the process: it goes with the last
 * descriptor of it, so that the system releases it however its owner ends, and two threads that each open the path
 * exclude each other too. It is on a file, not on a name: between the opening and the locking the name may have come
 * to mean another file, and a lock on one that nobody finds any more excludes nobody. So what is locked is compared
 * with what the path names then. Nothing here may write to a file or remove one. */
#include "posix.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static kin_err not_regular(const char *path, const struct stat *st)
{
    const char *what = S_ISDIR(st->st_mode) ? "a directory" : S_ISFIFO(st->st_mode) ? "a FIFO" : "no regular file";
    return kin__fail(KIN_EIO, "cannot lock '%.200s': it is %s", path, what);
}

/* A file that others own, on a system that is mounted read-only perhaps, can be locked by whoever may read it. */
static int open_file(const char *path)
{
    int fd;
    do {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
        if (fd < 0 && (errno == EACCES || errno == EROFS)) {
            int number = errno;
            fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
            if (fd < 0 && errno == ENOENT)
                errno = number; /* what there is not could not be made */
        }
    } while (fd < 0 && errno == EINTR);
    return kin__above_streams(fd);
}

static kin_err open_regular(const char *path, int *file)
{
    struct stat st;
    /* Before it is opened, which means something to a device, and may wait for ever. */
    if (TRY("stat", -1, EIO, stat(path, &st)) == 0 && !S_ISREG(st.st_mode))
        return not_regular(path, &st);
    int fd = TRY("open", -1, EMFILE, open_file(path));
    if (fd < 0)
        return kin__fail_errno("open", "cannot open '%.200s' to lock it", path);
    if (TRY("fstat", -1, EIO, fstat(fd, &st)) != 0) {
        kin_err err = kin__fail_errno("fstat", "cannot look at '%.200s' to lock it", path);
        (void)close(fd);
        return err;
    }
    if (!S_ISREG(st.st_mode)) {
        (void)close(fd);
        return not_regular(path, &st);
    }
    *file = fd;
    return KIN_OK;
}

static int lock_whole(int fd, bool wait)
{
    int result;
    do {
        result = flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Whether the path still names this file. */
static kin_err is_at(const char *path, int fd, bool *same)
{
    struct stat mine, there;
    if (TRY("fstat", -1, EIO, fstat(fd, &mine)) != 0)
        return kin__fail_errno("fstat", "cannot look at '%.200s', which is locked", path);
    *same = false;
    if (TRY("stat", -1, EIO, stat(path, &there)) == 0)
        *same = mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
    else if (errno != ENOENT)
        return kin__fail_errno("stat", "cannot look for '%.200s', which is locked", path);
    return KIN_OK;
}

kin_err os_file_lock(const char *path, bool wait, os_handle *file)
{
    for (;;) {
        int fd = -1;
        bool same = false;
        kin_err err = open_regular(path, &fd);
        if (err != KIN_OK)
            return err;
        if (TRY("flock", -1, ENOLCK, lock_whole(fd, wait)) == 0)
            err = is_at(path, fd, &same);
        else if (errno == EWOULDBLOCK)
            err = kin__fail(KIN_ETIMEDOUT, "'%.200s' is locked by somebody else", path);
        else
            err = kin__fail_errno("flock", "cannot lock '%.200s'", path);
        if (err == KIN_OK && same) {
            *file = fd;
            return KIN_OK;
        }
        (void)close(fd);
        if (err != KIN_OK)
            return err;
    }
}

/* Said, not only by closing it: a copy of this process made by a plain fork() has the same open file. */
void os_file_unlock(os_handle file)
{
    (void)flock((int)file, LOCK_UN);
    (void)close((int)file);
}
