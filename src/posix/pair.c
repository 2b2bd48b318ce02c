/* Two ends that know of each other, and handles kept beside messages. Both are socket pairs of the kind that keeps messages
 * apart. The kernel hangs an end up when the last descriptor of the other is closed, which it does for a process that ends
 * before it reports that end. A bag is such a pair with descriptors in flight: each entry is one message, which no process
 * owns, so that it outlives all who know it, and whatever is still in it goes with the last descriptor of the bag. To look
 * is to peek, which leaves a message where it is and still gives duplicates of its descriptors. Where the next peek begins
 * is state of the socket, which a reader that was killed leaves behind: it is set anew each time. What must never happen is
 * that descriptors that nobody asked for come into this process: they are received only with room for them. */
#include "posix.h"

#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What may lie in a bag, in bytes as the kernel counts them: 768 for each entry, however many descriptors it has. It
 * grants twice this, but no more than twice net.core.wmem_max: 2731 entries were measured to fit, 555 with that limit as
 * kernels have it by themselves (208 KiB). */
#define BAG_BYTES (1 << 20)

typedef struct entry {
    uint64_t tag;
    uint64_t count; /* of descriptors */
} entry;
_Static_assert(sizeof(entry) == 16, "every message has this size: entry n begins at byte 16 n");

typedef union entry_control {
    struct cmsghdr align;
    char space[CMSG_SPACE(OS_BAG_MOST * sizeof(int))];
} entry_control;

/* ---- pairs ---- */

kin_err os_pair_create(os_handle *a, os_handle *b)
{
    int ends[2], room = BAG_BYTES;
    if (TRY("socketpair", -1, EMFILE, kin__socket_pair(ends)) != 0 &&
        (errno != EMFILE || !kin__more_descriptors(2) || TRY("socketpair", -1, EMFILE, kin__socket_pair(ends)) != 0))
        return kin__fail_errno("socketpair", "cannot create a pair");
    for (int i = 0; i < 2; i++) /* with less a bag only holds less */
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    *a = ends[0];
    *b = ends[1];
    return KIN_OK;
}

bool os_pair_broken(os_handle mine)
{
    struct pollfd p = {.fd = (int)mine}; /* a hang-up is reported unasked */
    int n;
    do {
        n = poll(&p, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && (p.revents & POLLHUP) != 0;
}

/* ---- bags ---- */

/* The limit of descriptors in flight is one for all of the user's processes, and counts what lies anywhere. If nothing is
 * in this bag, to wait for room in it would be to wait for ever. */
static kin_err fail_to_put(os_handle in)
{
    int number = errno, waiting = 0;
    bool full = number == EAGAIN || (number == ETOOMANYREFS && ioctl((int)in, SIOCOUTQ, &waiting) == 0 && waiting > 0);
    errno = number;
    kin_err err = kin__fail_errno("sendmsg", "cannot put handles into a bag");
    return full ? kin__fail_in(KIN_EAGAIN, "the bag is full") : err;
}

kin_err os_bag_put(os_handle in, uint64_t tag, const os_handle *handles, size_t count, uint64_t *words)
{
    (void)words;
    if (tag == 0 || count == 0 || count > OS_BAG_MOST)
        return kin__fail(KIN_EINVAL, "%zu handles with tag %llu are no entry of a bag", count, (unsigned long long)tag);
    entry bytes = {tag, count};
    entry_control control = {0};
    struct iovec part = {&bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    int fds[OS_BAG_MOST];
    for (size_t i = 0; i < count; i++)
        fds[i] = (int)handles[i];
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    ssize_t n;
    do {
        n = TRY("sendmsg", -1, ENOBUFS, sendmsg((int)in, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
        /* The limit of those in flight is that of open ones. */
    } while (n < 0 && (errno == EINTR || (errno == ETOOMANYREFS && kin__more_descriptors(count))));
    return n >= 0 ? KIN_OK : fail_to_put(in);
}

/* The next peek begins with the entry that has `index` before it. False with errno: ENOPROTOOPT where only the oldest can be peeked at
 * (qemu's user mode). */
static bool peek_from(os_handle out, size_t index)
{
    int offset = (int)(index * sizeof(entry)), failed;
    do {
        failed = TRY("setsockopt", -1, ENOMEM, setsockopt((int)out, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
    } while (failed != 0 && errno == EINTR);
    return failed == 0;
}

/* The tag of an entry, whose descriptors stay out of this process. `flags` MSG_PEEK: looks, and after it the next such call
 * sees the next entry; 0: takes the oldest out. 0: there is none (errno 0), or it failed. */
static uint64_t read_tag(os_handle out, int flags)
{
    entry found = {0};
    ssize_t n;
    do {
        n = TRY("recv", -1, ENOMEM, recv((int)out, &found, sizeof found, MSG_DONTWAIT | flags));
    } while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && errno == EAGAIN))
        errno = 0;
    else if (n > 0 && n != sizeof found)
        errno = EIO;
    return n == sizeof found ? found.tag : 0;
}

/* False: it is not there (errno 0), or that cannot be told. */
static bool find(os_handle out, uint64_t tag, size_t *index)
{
    bool goes_on = peek_from(out, 0);
    if (!goes_on && errno != ENOPROTOOPT)
        return false;
    uint64_t found = read_tag(out, MSG_PEEK);
    for (*index = 0; found != 0 && found != tag && goes_on; ++*index)
        found = read_tag(out, MSG_PEEK);
    if (found != 0 && found != tag)
        errno = ENOPROTOOPT;
    return found == tag;
}

static void close_all(const os_handle *handles, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)close((int)handles[i]);
}

/* What came beside a message: up to `space` of its descriptors; more are closed. How many there are. */
static size_t descriptors_of(struct msghdr *message, os_handle *handles, size_t space)
{
    size_t got = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (got < space)
                handles[got++] = fd;
            else
                (void)close(fd);
        }
    }
    return got;
}

/* Duplicates of the descriptors of the entry that has `index` before it: all, or none with errno. EMFILE: they found no
 * room in this process. */
static bool receive(os_handle out, size_t index, size_t count, os_handle *handles)
{
    entry bytes = {0};
    entry_control control;
    struct iovec part = {&bytes, sizeof bytes};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n;
    if (!peek_from(out, index) && (index != 0 || errno != ENOPROTOOPT))
        return false;
    do {
        n = TRY("recvmsg", -1, ENOMEM, recvmsg((int)out, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    size_t got = descriptors_of(&message, handles, count);
    if (got == count && bytes.count == count && (message.msg_flags & MSG_CTRUNC) == 0)
        return true;
    close_all(handles, got);
    errno = (message.msg_flags & MSG_CTRUNC) != 0 ? EMFILE : EIO;
    return false;
}

static bool all_above_streams(os_handle *handles, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        handles[i] = kin__above_streams((int)handles[i]);
        if (handles[i] >= 0)
            continue;
        int number = errno;
        close_all(handles, i);
        close_all(handles + i + 1, count - i - 1);
        errno = number;
        return false;
    }
    return true;
}

kin_err os_bag_look(os_handle out, uint64_t tag, const uint64_t *words, size_t count, os_handle *handles)
{
    (void)words;
    size_t index;
    if (tag == 0 || count == 0 || count > OS_BAG_MOST)
        return kin__fail(KIN_EINVAL, "%zu handles with tag %llu are no entry of a bag", count, (unsigned long long)tag);
    if (!find(out, tag, &index))
        return errno != 0 ? kin__fail_errno("setsockopt or recv", "cannot look into a bag")
                          : kin__fail(KIN_ELOST, "the handles are no longer in the bag");
    bool good;
    do {
        good = receive(out, index, count, handles) && all_above_streams(handles, count);
    } while (!good && errno == EMFILE && kin__more_descriptors(count));
    return good ? KIN_OK : kin__fail_errno("setsockopt or recvmsg", "cannot take %zu handles from a bag", count);
}

bool os_bag_drop(os_handle out, uint64_t tag, const uint64_t *words, size_t count)
{
    (void)words;
    (void)count;
    size_t index;
    uint64_t dropped;
    if (tag == 0 || !find(out, tag, &index))
        return false;
    do {
        dropped = read_tag(out, 0);
    } while (dropped != 0 && dropped != tag);
    return index != 0;
}

uint64_t os_bag_oldest(os_handle out)
{
    return peek_from(out, 0) || errno == ENOPROTOOPT ? read_tag(out, MSG_PEEK) : 0;
}
