/* The side of kin's in the tests with Python (run.py).
 *
 *     interop listen ADDRESS KEY     prints where it listens; echoes what clients send until one sends "quit"
 *     interop connect ADDRESS KEY    sends messages of many sizes, and expects each back
 *
 * Ends with 0, or prints the error and ends with it. Without Mbed TLS it ends with 77. */
#include <kin.h>

#include <stdlib.h>
#include <string.h>

#define LONG 60000

static int failed(const char *what, kin_err err)
{
    printf("%s: %s: %s\n", what, kin_strerror(err), kin_last_error());
    return err == KIN_ENOTSUP ? 77 : err;
}

/* Serves one client. True: it said "quit". */
static bool echo(kin_connection *c)
{
    for (;;) {
        void *data;
        size_t size;
        if (kin_connection_recv_new(c, &data, &size, 0, LONG) != KIN_OK)
            return false;
        bool quit = size == 4 && memcmp(data, "quit", 4) == 0;
        kin_err err = quit ? KIN_OK : kin_connection_send(c, data, size, LONG);
        kin_free(data);
        if (quit || err != KIN_OK)
            return quit;
    }
}

static int serve(const char *address, kin_view key)
{
    kin_listener *listener;
    kin_err err = kin_listen(&listener, address, key, NULL);
    if (err != KIN_OK)
        return failed("listen", err);
    printf("%s\n", kin_listener_address(listener));
    fflush(stdout);
    for (bool quit = false; !quit;) {
        kin_connection *c;
        err = kin_listener_accept(listener, &c, LONG);
        if (err != KIN_OK)
            return failed("accept", err);
        quit = echo(c);
        kin_connection_close(c);
    }
    kin_listener_close(listener);
    return 0;
}

static int talk(const char *address, kin_view key)
{
    static const size_t sizes[] = {0, 1, 19, 127, 128, 129, 255, 256, 257, 4096, 16383, 16384, 16385, 70000, 3000000};
    kin_connection *c;
    kin_err err = kin_connect(&c, address, key, LONG);
    if (err != KIN_OK)
        return failed("connect", err);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size, n = sizes[i];
        unsigned char *out = malloc(n + 1);
        void *in;
        if (out == NULL)
            return 1;
        for (size_t j = 0; j < n; j++)
            out[j] = (unsigned char)(j * 7 + j / 251 + n);
        err = kin_connection_send(c, out, n, LONG);
        if (err == KIN_OK)
            err = kin_connection_recv_new(c, &in, &size, 0, LONG);
        if (err != KIN_OK)
            return failed("message", err);
        if (size != n || memcmp(in, out, n) != 0) {
            printf("a message of %zu bytes came back as another, of %zu\n", n, size);
            return 1;
        }
        kin_free(in);
        free(out);
    }
    err = kin_connection_send(c, "quit", 4, LONG);
    kin_connection_close(c);
    return err != KIN_OK ? failed("quit", err) : 0;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK)
        return failed("init", kin_last_code());
    if (argc != 4)
        return 1;
    return strcmp(argv[1], "listen") == 0 ? serve(argv[2], KIN_KEY(argv[3])) : talk(argv[2], KIN_KEY(argv[3]));
}
