/* Shared memory on Linux: a memfd, filled at once so that a lack of memory shows here and not as a fault at first
 * touch, and sealed so that nobody who is passed it can shrink it under another's feet. What is mapped is only
 * trusted if it carries these seals. */
#include "posix.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t round_to_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return size > SIZE_MAX - page ? 0 : (size + page - 1) / page * page;
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

#define CHECKED_FROM ((size_t)1 << 20) /* less is had without asking */

/* The number of kilobytes on a line of /proc/meminfo. */
static uint64_t kilobytes(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line != NULL ? strtoull(line + strlen(name), NULL, 10) : 0;
}

/* Whether there is so much memory, and a little more for everybody else. A memfd has no limit of its own: asked for
 * too much, the kernel would take every page of the machine for it and then kill processes, whichever they are. */
static bool is_available(size_t bytes)
{
    char text[4096];
    if (bytes < CHECKED_FROM)
        return true;
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    text[n > 0 ? n : 0] = 0;
    uint64_t available = kilobytes(text, "MemAvailable:") + kilobytes(text, "SwapFree:");
    return available == 0 || bytes / 1024 < available - available / 32;
}

static int reserve(int fd, size_t bytes)
{
    int err;
    if (!is_available(bytes)) {
        errno = ENOMEM;
        return -1;
    }
    do {
        err = posix_fallocate(fd, 0, (off_t)bytes);
    } while (err == EINTR);
    errno = err;
    return err == 0 ? 0 : -1;
}

static int make_memfd(void)
{
    int fd;
    do {
        fd = kin__above_streams(memfd_create("kin", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    } while (kin__try_again(fd));
    return fd;
}

kin_err os_memory_create(size_t size, os_handle *handle)
{
    size_t bytes = round_to_pages(size);
    if (bytes == 0 || bytes > (size_t)INT64_MAX)
        return kin__fail(KIN_ENOMEM, "%zu bytes of shared memory are more than can be addressed", size);
    int fd = TRY("memfd_create", -1, EMFILE, make_memfd());
    if (fd < 0)
        return kin__fail_errno("memfd_create", "cannot create %zu bytes of shared memory", size);
    if (TRY("posix_fallocate", -1, ENOSPC, reserve(fd, bytes)) != 0) {
        kin_err err = kin__fail_errno("posix_fallocate", "cannot reserve %zu bytes of shared memory", size);
        close(fd);
        return err == KIN_EAGAIN || errno == EFBIG ? KIN_ENOMEM : err;
    }
    if (TRY("fcntl", -1, EPERM, fcntl(fd, F_ADD_SEALS, SEALS)) != 0) {
        kin_err err = kin__fail_errno("fcntl F_ADD_SEALS", "cannot seal shared memory");
        close(fd);
        return err;
    }
    *handle = fd;
    return KIN_OK;
}

kin_err os_memory_map(os_handle handle, void **base, size_t *size)
{
    struct stat st;
    int seals = fcntl((int)handle, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return kin__fail(KIN_EPROTO, "descriptor %d is no shared memory of kin's", (int)handle);
    if (TRY("fstat", -1, ENOMEM, fstat((int)handle, &st)) != 0)
        return kin__fail_errno("fstat", "cannot map shared memory");
    if (st.st_size <= 0)
        return kin__fail(KIN_EPROTO, "the shared memory is empty");
    void *p = TRY("mmap", MAP_FAILED, ENOMEM, mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)handle, 0));
    if (p == MAP_FAILED)
        return kin__fail_errno("mmap", "cannot map %lld bytes of shared memory", (long long)st.st_size);
    *base = p;
    *size = (size_t)st.st_size;
    return KIN_OK;
}

void os_memory_touch(void *base, size_t size)
{
#if defined(MADV_POPULATE_WRITE)
    (void)madvise(base, round_to_pages(size), MADV_POPULATE_WRITE);
#else
    (void)base;
    (void)size;
#endif
}

void os_memory_unmap(void *base, size_t size)
{
    (void)munmap(base, size);
}

bool os_memory_blank(void *base, size_t size)
{
    /* One call: there is no moment at which the addresses belong to nobody. */
    void *p = TRY("mmap", MAP_FAILED, ENOMEM,
                  mmap(base, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0));
    if (p != MAP_FAILED)
        return true;
    (void)munmap(base, size);
    return false;
}

void os_memory_forget(void *base, size_t size)
{
    (void)munmap(base, size);
}
