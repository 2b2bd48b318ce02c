/* Peers that speak byte by byte. */
#include "peer_support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

bool peer_has_keys(void)
{
    kin__key key;
    return kin__key_make(&key, "k", 1) != KIN_ENOTSUP;
}

const char *peer_name(void)
{
    static char names[8][64];
    static unsigned count;
    char *name = names[count % 8];
    (void)snprintf(name, sizeof names[0], "kin-test-%lld-%u", (long long)os_process_self(), count++);
    return name;
}

uint64_t peer_deadline(int64_t ms)
{
    return (uint64_t)(kin_now() + ms) * 1000000u;
}

os_stream *peer_try_connect(const char *address, int64_t ms)
{
    kin__address a;
    os_stream *stream;
    if (kin__address_parse(&a, address) != KIN_OK || os_stream_connect(&a.os, &stream, peer_deadline(ms), NULL) != KIN_OK)
        return NULL;
    return stream;
}

os_stream *peer_connect(const char *address)
{
    return peer_try_connect(address, test_ms(20000));
}

os_port *peer_listen(const char *address, char where[KIN__ADDRESS_SIZE])
{
    kin__address a;
    os_port *port;
    if (kin__address_parse(&a, address) != KIN_OK || os_port_open(&a.os, &port) != KIN_OK)
        return NULL;
    kin__address_write(&a, where);
    return port;
}

os_stream *peer_accept(os_port *port)
{
    os_stream *stream;
    return os_port_accept(port, &stream, peer_deadline(test_ms(20000))) == KIN_OK ? stream : NULL;
}

static bool write_all(os_stream *stream, const uint8_t *head, size_t head_size, const uint8_t *data, size_t size)
{
    uint64_t deadline = peer_deadline(test_ms(20000));
    for (bool begun = false; !begun || head_size + size != 0;) {
        size_t taken;
        bool any;
        if (os_stream_write(stream, head, head_size, data, size, &taken, &any) != KIN_OK)
            return false;
        begun = begun || any;
        size_t of_head = taken < head_size ? taken : head_size;
        head += of_head;
        head_size -= of_head;
        data += taken - of_head;
        size -= taken - of_head;
        if ((!begun || head_size + size != 0) && os_stream_wait(stream, OS_STREAM_WRITE, deadline) != KIN_OK)
            return false;
    }
    return os_stream_wait(stream, OS_STREAM_SENT, deadline) == KIN_OK;
}

bool peer_write(os_stream *stream, const void *bytes, size_t size)
{
    return size == 0 || write_all(stream, (const uint8_t *)"", 0, bytes, size);
}

bool peer_say(os_stream *stream, const void *message, size_t size)
{
    uint8_t head[KIN__FRAME_HEAD];
    size_t head_size = os_stream_has_messages(stream) ? 0 : kin__frame_head(head, size);
    return write_all(stream, head, head_size, message != NULL ? message : "", size);
}

/* Never reads beyond the end of a message: what follows is for the next call. */
static bool read_exactly(os_stream *stream, void *bytes, size_t size, bool *ended)
{
    uint64_t deadline = peer_deadline(test_ms(20000));
    for (size_t at = 0; at < size;) {
        size_t got;
        bool whole;
        kin_err err = os_stream_read(stream, (char *)bytes + at, size - at, &got, &whole);
        *ended = err == KIN_EPIPE;
        if (err != KIN_OK || (got == 0 && os_stream_wait(stream, OS_STREAM_READ, deadline) != KIN_OK))
            return false;
        at += got;
    }
    return true;
}

static bool hear_whole(os_stream *stream, void *message, size_t space, size_t *size, bool *ended)
{
    uint64_t deadline = peer_deadline(test_ms(20000));
    *size = 0;
    for (bool whole = false; !whole;) {
        size_t got;
        kin_err err = os_stream_read(stream, (char *)message + *size, space - *size, &got, &whole);
        *ended = err == KIN_EPIPE;
        if (err != KIN_OK || (got == 0 && !whole && os_stream_wait(stream, OS_STREAM_READ, deadline) != KIN_OK))
            return false;
        *size += got;
    }
    return true;
}

bool peer_hear(os_stream *stream, void *message, size_t space, size_t *size, bool *ended)
{
    uint8_t head[4];
    *ended = false;
    if (os_stream_has_messages(stream))
        return hear_whole(stream, message, space, size, ended);
    if (!read_exactly(stream, head, 4, ended))
        return false;
    *size = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    return *size <= space && read_exactly(stream, message, *size, ended);
}

bool peer_is_ended(os_stream *stream)
{
    char bytes[512];
    size_t size;
    bool ended = false;
    while (peer_hear(stream, bytes, sizeof bytes, &size, &ended)) {
    }
    return ended;
}

static bool say_slowly(os_stream *stream, const void *message, size_t size, int64_t pause)
{
    uint8_t frame[KIN__FRAME_HEAD + KIN__AUTH_MESSAGE];
    size_t head = kin__frame_head(frame, size);
    memcpy(frame + head, message, size);
    for (size_t i = 0; i < head + size; i++) {
        if (!peer_write(stream, frame + i, 1))
            return false;
        if (i % 8 == 0 && pause > 0)
            uv_sleep((unsigned)pause); /* a slow peer is what is tested */
    }
    return true;
}

/* `pause`: negative if it need not be slow. `half`: until it would ask something itself. */
static bool prove(os_stream *stream, bool server, const char *text, int64_t pause, bool half)
{
    static const uint8_t random[KIN__AUTH_RANDOM] = "not random, which is fine here  ";
    uint8_t message[KIN__AUTH_MESSAGE];
    size_t size;
    bool ended;
    kin__key key;
    kin__auth auth;
    if (kin__key_make(&key, text, strlen(text)) != KIN_OK)
        return false;
    kin__auth_begin(&auth, server, &key, random);
    for (int heard = 0;;) {
        switch (kin__auth_next_step(&auth)) {
        case KIN__AUTH_SEND:
            if (half && heard == 2)
                return true;
            kin__auth_take(&auth, message, &size);
            if (!(pause < 0 ? peer_say(stream, message, size) : say_slowly(stream, message, size, pause)))
                return false;
            break;
        case KIN__AUTH_RECEIVE:
            if (!peer_hear(stream, message, sizeof message, &size, &ended))
                return false;
            heard++;
            (void)kin__auth_give(&auth, message, size); /* what it has to say to that is sent, too */
            break;
        default:
            return kin__auth_next_step(&auth) == KIN__AUTH_DONE;
        }
    }
}

bool peer_prove(os_stream *stream, bool server, const char *key)
{
    return prove(stream, server, key, -1, false);
}

bool peer_prove_slowly(os_stream *stream, bool server, const char *key, int64_t pause)
{
    return prove(stream, server, key, pause, false);
}

bool peer_prove_half(os_stream *stream, const char *key)
{
    return prove(stream, false, key, -1, true);
}
