/* An open file is passed to a child, which writes into it.
 *
 * What to learn: a child has none of its parent's open files, except those it was passed. The child's
 * stream and the parent's share one position in the file, so the child goes on where the parent stopped.
 */
#include "must.h"

static int write_line(kin_args *args)
{
    FILE *file; /* the child's own stream on the parent's file: it closes it, and the parent's stays open */
    const char *line;
    if (kin_unpack(args, &file, &line) != KIN_OK)
        return 1;
    int failed = fprintf(file, "%s\n", line) < 0;
    return fclose(file) != 0 || failed;
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");

    FILE *file = fopen("passing_file.tmp", "w+");
    if (!file) {
        perror("passing_file.tmp");
        return EXIT_FAILURE;
    }
    fprintf(file, "a line of the parent\n"); /* still in the stream's buffer; passing the file flushes it */

    kin_process *child;
    must(kin_process_start(&child, write_line, KIN_ARGS(file, "a line of the child"), NULL), "start a child");
    must(kin_process_join(child, KIN_FOREVER), "join the child");
    kin_process_close(child);

    char line[80];
    rewind(file);
    while (fgets(line, sizeof line, file))
        printf("%s", line);
    fclose(file);
    remove("passing_file.tmp");
}
