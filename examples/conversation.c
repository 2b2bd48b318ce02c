/* A parent and its child talk over the two ends of a pipe: one asks, the other answers, until there is nothing more to ask.
 *
 * What to learn: a message arrives as it was sent, whole, however long it is: nothing is glued together or cut in two, as in
 * a pipe of the system. Whoever has nothing more to say closes its end, and the other sees that as KIN_EPIPE; the same if it
 * dies. The parent closes its copy of the child's end right after the start: the child has one of its own.
 */
#include "must.h"

#include <string.h>

/* Answers each question with a number: how often a letter is in a text. */
static int count_letters(kin_args *args)
{
    kin_connection *parent;
    if (kin_unpack(args, &parent) != KIN_OK)
        return 1;

    for (;;) {
        kin_args *question;
        kin_err err = kin_connection_recv_args(parent, &question, KIN_FOREVER);
        if (err == KIN_EPIPE)
            break; /* the parent has closed its end: no more questions */
        const char *text, *letter;
        if (err != KIN_OK || kin_unpack(question, &text, &letter) != KIN_OK)
            return 1;
        int64_t count = 0;
        for (const char *p = text; *p != 0; p++)
            count += *p == *letter;
        kin_args_free(question);
        if (kin_connection_send(parent, &count, sizeof count, KIN_FOREVER) != KIN_OK)
            return 1;
    }
    kin_connection_close(parent);
    return 0;
}

static int64_t ask(kin_connection *child, const char *text, const char *letter)
{
    int64_t count;
    must(kin_connection_send_args(child, KIN_ARGS(text, letter), KIN_FOREVER), "asking");
    must(kin_connection_recv(child, &count, sizeof count, NULL, KIN_FOREVER), "hearing the answer");
    return count;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    kin_connection *child, *its_end;
    kin_process *process;
    must(kin_pipe(&child, &its_end, &(kin_pipe_options){.name = "questions"}), "making a pipe");
    must(kin_process_start(&process, count_letters, KIN_ARGS(its_end), NULL), "starting the child");
    kin_connection_close(its_end);

    printf("'abracadabra' has %d times 'a'\n", (int)ask(child, "abracadabra", "a"));
    printf("'' has %d times 'a'\n", (int)ask(child, "", "a"));

    size_t length = 1000000; /* larger than the pipe: it makes no difference */
    char *text = calloc(1, length + 1);
    if (text == NULL)
        return EXIT_FAILURE;
    memset(text, 'x', length);
    printf("a text of %d letters has %d times 'x'\n", (int)length, (int)ask(child, text, "x"));
    free(text);

    kin_connection_close(child); /* good-bye */
    int code;
    must(kin_process_join(process, KIN_FOREVER), "waiting for the child");
    must(kin_process_exit_code(process, &code), "asking for its exit code");
    printf("the child has ended with %d\n", code);
    kin_process_close(process);
    return EXIT_SUCCESS;
}
