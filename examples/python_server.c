/* A server in C for clients in Python (python_client.py), or in C: it counts the primes below a number.
 *
 *     python_server [ADDRESS]      default tcp:127.0.0.1:0, a free port; it prints where it listens
 *
 * What to learn: kin speaks what Python's multiprocessing.connection speaks from 3.12 on, so that Client(address, authkey=…)
 * connects to kin_listen and Listener is found by kin_connect. Messages are bytes: send_bytes and recv_bytes in Python. Both
 * sides have proved to each other that they know the key before kin_listener_accept gives the connection.
 *
 * A local name, as "primes", is a socket for Python: $XDG_RUNTIME_DIR/kin/primes, or /tmp/kin-UID/primes.
 */
#include "must.h"

#include <string.h>

#define MOST 10000000

static int64_t primes_below(int64_t n)
{
    int64_t count = 0;
    char *composite = calloc((size_t)n + 1, 1);
    if (composite == NULL)
        return -1;
    for (int64_t i = 2; i < n; i++) {
        if (composite[i])
            continue;
        count++;
        for (int64_t j = i * i; j < n; j += i)
            composite[j] = 1;
    }
    free(composite);
    return count;
}

/* One client, until it leaves. Whatever it does, the server goes on. True: it said "stop". */
static bool serve(kin_connection *client)
{
    char question[32], answer[64];
    size_t size;
    while (kin_connection_recv(client, question, sizeof question - 1, &size, 10000) == KIN_OK) {
        question[size] = 0;
        if (strcmp(question, "stop") == 0)
            return true;
        int64_t n = strtoll(question, NULL, 10);
        if (n < 0 || n > MOST)
            snprintf(answer, sizeof answer, "only up to %d", MOST);
        else
            snprintf(answer, sizeof answer, "%lld", (long long)primes_below(n));
        if (kin_connection_send(client, answer, strlen(answer), 10000) != KIN_OK)
            break;
    }
    return false;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_listener *listener;
    must(kin_listen(&listener, argc > 1 ? argv[1] : "tcp:127.0.0.1:0", KIN_KEY("a shared secret"), NULL), "listen");
    printf("%s\n", kin_listener_address(listener));
    fflush(stdout);

    for (bool stop = false; !stop;) {
        kin_connection *client;
        must(kin_listener_accept(listener, &client, 60000), "accept");
        stop = serve(client);
        kin_connection_close(client);
    }
    kin_listener_close(listener);
}
