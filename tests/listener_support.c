/* A listener, and both ends of a connection. */
#include "listener_support.h"

kin_listener *listener;
kin_connection *here, *there;
static int handles;

int setup(void **state)
{
    (void)state;
    handles = test_count_handles();
    return 0;
}

void close_ends(void)
{
    kin_connection_close(here);
    kin_connection_close(there);
    here = there = NULL;
}

int teardown(void **state)
{
    (void)state;
    close_ends();
    kin_listener_close(listener);
    listener = NULL;
    return 0;
}

/* Wine's locks get handles when two threads first meet at one, and a thread keeps some until it is quite gone. */
void check_handles(void)
{
    int now = test_count_handles();
    assert_true(test_under_wine() ? now <= handles + 10 : now == handles);
}

const char *place(int which)
{
    return which == 0 ? peer_name() : PEER_TCP;
}

void join_ends(const char *address, const kin_listen_options *options)
{
    check(kin_listen(&listener, address, KEY, options));
    check(kin_connect(&there, kin_listener_address(listener), KEY, SOON));
    check(kin_listener_accept(listener, &here, SOON));
}
