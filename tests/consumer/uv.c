/* A loop of libuv in a project that uses kin: prints 42. */
#include <kin.h>
#include <kin/uv.h>

#include <stdio.h>

static kin_queue *queue;

static int send_number(kin_args *args)
{
    kin_queue *to;
    int number;
    if (kin_unpack(args, &to, &number) != KIN_OK)
        return 1;
    return kin_queue_put(to, &number, sizeof number, KIN_FOREVER);
}

static void on_number(kin_uv_watch *watch, kin_err status)
{
    int number = 0;
    if (status == KIN_OK && kin_queue_get(queue, &number, sizeof number, NULL, KIN_NOWAIT) == KIN_OK)
        printf("%d\n", number);
    kin_uv_watch_close(watch, NULL);
}

int main(int argc, char **argv)
{
    kin_process *child;
    kin_uv_watch watch;
    if (kin_init(argc, argv) != KIN_OK || kin_queue_create(&queue, NULL) != KIN_OK ||
        kin_process_start(&child, send_number, KIN_ARGS(queue, 42), NULL) != KIN_OK ||
        kin_uv_watch_init(uv_default_loop(), &watch) != KIN_OK ||
        kin_uv_watch_start(&watch, KIN_WAIT_FOR(queue), on_number) != KIN_OK)
        return 1;
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return kin_process_join(child, KIN_FOREVER);
}
