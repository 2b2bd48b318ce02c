/* How the small examples handle errors: say what went wrong and end. */
#ifndef MUST_H
#define MUST_H

#include <kin.h>
#include <stdio.h>
#include <stdlib.h>

/* For the parent only: a child answers with its exit code. */
static inline void must(kin_err error, const char *what)
{
    if (error == KIN_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, kin_last_error());
    exit(EXIT_FAILURE);
}

#endif
