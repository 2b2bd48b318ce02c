/* What the tests of listeners share: a listener and both ends of a connection, which the teardown closes; in this process all three. */
#ifndef TEST_LISTENER_SUPPORT_H
#define TEST_LISTENER_SUPPORT_H

#include "peer_support.h"

#define KEY KIN_KEY("secret")
#define SOON test_ms(20000)

extern kin_listener *listener;
extern kin_connection *here, *there; /* the accepted end, the connecting one */

int setup(void **state);
int teardown(void **state);
void close_ends(void);
/* Nothing has been left open since the setup. */
void check_handles(void);

/* An address of each kind that is the same on all systems. */
#define PLACES 2
const char *place(int which);

/* Listens there, connects and accepts. */
void join_ends(const char *address, const kin_listen_options *options);

#endif
