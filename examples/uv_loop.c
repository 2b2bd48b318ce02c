/* One loop of libuv that serves a timer, a queue and the end of a child.
 *
 * What to learn: kin_uv_watch brings what kin_wait can wait for into a loop that a program has anyway. The
 * timer gives the child a job, its answer comes through a queue, and when there are no more jobs the child
 * ends. Nobody blocks, and the loop ends when all that it serves has been closed.
 */
#include "must.h"

#include <kin/uv.h>

#define JOBS 3

static kin_queue *jobs, *answers;
static kin_process *worker;
static uv_timer_t timer;
static kin_uv_watch answer_watch, worker_watch;
static int given;

static int square(kin_args *args)
{
    kin_queue *in, *out;
    int number;
    if (kin_unpack(args, &in, &out) != KIN_OK)
        return 1;
    while (kin_queue_get(in, &number, sizeof number, NULL, KIN_FOREVER) == KIN_OK) {
        int squared = number * number;
        if (kin_queue_put(out, &squared, sizeof squared, KIN_FOREVER) != KIN_OK)
            return 1;
    }
    return 0;
}

static void on_timer(uv_timer_t *t)
{
    (void)t;
    given++;
    printf("timer    job %d\n", given);
    must(kin_queue_put(jobs, &given, sizeof given, KIN_NOWAIT), "give a job");
}

static void on_answer(kin_uv_watch *watch, kin_err status)
{
    must(status, "wait for answers");
    int answer;
    while (kin_queue_get(answers, &answer, sizeof answer, NULL, KIN_NOWAIT) == KIN_OK) {
        printf("queue    %d squared is %d\n", given, answer);
        if (given < JOBS) {
            uv_timer_start(&timer, on_timer, 5, 0);
        } else {
            must(kin_queue_shutdown(jobs), "say that there are no more jobs");
            kin_uv_watch_close(watch, NULL);
            uv_close((uv_handle_t *)&timer, NULL);
            break;
        }
    }
}

static void on_end(kin_uv_watch *watch, kin_err status)
{
    int code;
    must(status, "wait for the worker");
    must(kin_process_exit_code(worker, &code), "ask for its exit code");
    printf("process  the worker has ended with %d\n", code);
    kin_uv_watch_close(watch, NULL);
}

int main(int argc, char **argv)
{
    must(kin_init(argc, argv), "kin_init");
    must(kin_queue_create(&jobs, NULL), "create a queue");
    must(kin_queue_create(&answers, NULL), "create a queue");
    must(kin_process_start(&worker, square, KIN_ARGS(jobs, answers), NULL), "start the worker");

    uv_loop_t *loop = uv_default_loop();
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, on_timer, 5, 0);
    must(kin_uv_watch_init(loop, &answer_watch), "prepare a watch");
    must(kin_uv_watch_start(&answer_watch, KIN_WAIT_FOR(answers), on_answer), "watch the queue");
    must(kin_uv_watch_init(loop, &worker_watch), "prepare a watch");
    must(kin_uv_watch_start(&worker_watch, KIN_WAIT_FOR(worker), on_end), "watch the worker");

    uv_run(loop, UV_RUN_DEFAULT);
    printf("loop     nothing is left to do\n");

    uv_loop_close(loop);
    kin_process_close(worker);
    kin_queue_close(jobs);
    kin_queue_close(answers);
}
