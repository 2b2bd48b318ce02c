/* Addresses of listeners, as text: "name", a path of the system's, "tcp:host:port". */
#ifndef KIN_SRC_ADDRESS_H
#define KIN_SRC_ADDRESS_H

#include "os.h"

#define KIN__ADDRESS_SIZE 512u /* with its 0 */
#define KIN__NAME_MOST 64u     /* bytes of a local name */

typedef struct kin__address {
    os_address os; /* os.text is in `text` */
    bool brackets; /* the host was written in them */
    char text[KIN__ADDRESS_SIZE];
} kin__address;

/* KIN_EINVAL with a sentence. Pure. */
kin_err kin__address_parse(kin__address *address, const char *text);
/* The text again, with the port that it has now. */
void kin__address_write(const kin__address *address, char text[KIN__ADDRESS_SIZE]);

#endif
