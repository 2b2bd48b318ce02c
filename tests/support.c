/* The portable part of what the tests share. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "os.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZER 1
#endif
#endif
#if defined(KIN_HELGRIND) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZER 1
#endif

#if defined(SANITIZER)
/* A child that crashes on purpose must die of the signal itself. */
#define SIGNALS "handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0"
__attribute__((visibility("default"), used)) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return SIGNALS;
}
__attribute__((visibility("default"), used)) const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return SIGNALS ":print_stacktrace=1";
}
#endif

/* ---- asserting ---- */

void test_check(kin_err expected, kin_err found, const char *call, const char *file, int line)
{
    if (found == expected)
        return;
    if (found != KIN_OK)
        print_error("%s gave %s\n    \"%s\"\n", call, kin_strerror(found), kin_last_error());
    else
        print_error("%s gave KIN_OK\n", call);
    print_error("    instead of %s\n", kin_strerror(expected));
    _fail(file, line);
}

void test_check_says(const char *sentence, const char *text, const char *file, int line)
{
    if (strstr(sentence, text) != NULL)
        return;
    print_error("\"%s\" is not in \"%s\"\n", text, sentence);
    _fail(file, line);
}

int test_child_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: in '%s', not so: %s\n    kin's last error: %s\n", file, line, kin_current_name(), what, kin_last_error());
    (void)fflush(stderr);
    return 99;
}

/* ---- time and numbers ---- */

int64_t test_ms(int64_t ms)
{
    const char *text = getenv("KIN_TEST_TIMEOUT_SCALE");
    long scale = text != NULL ? strtol(text, NULL, 10) : 1;
    return ms * (scale > 0 ? scale : 1);
}

bool test_on_windows(void)
{
    return OS_WINDOWS;
}

bool test_with_sanitizer(void)
{
#if defined(SANITIZER)
    return true;
#else
    return false;
#endif
}

bool test_emulated(void)
{
    return getenv("KIN_TEST_EMULATOR") != NULL;
}

bool test_by_spawn(void)
{
    return strcmp(kin_start_method_name(), "spawn") == 0;
}

int test_scale(int on_linux, int on_windows)
{
    if (test_on_windows())
        return on_windows;
    if (test_with_sanitizer())
        return on_linux >= 10 ? on_linux / 10 : 1;
    return on_linux;
}

const char *test_file(const char *name)
{
    static char names[4][128];
    static unsigned next;
    char *text = names[next++ % 4], run[32] = "";
    size_t size = sizeof run;
    /* Children and programs run again inherit it. By libuv, as getenv of Windows' C library does not see what was set this way. */
    if (uv_os_getenv("KIN_TEST_RUN", run, &size) != 0) {
        (void)snprintf(run, sizeof run, "%d", (int)uv_os_getpid());
        (void)uv_os_setenv("KIN_TEST_RUN", run);
    }
    (void)snprintf(text, sizeof names[0], "%s.%s.tmp", name, run);
    return text;
}

/* ---- processes ---- */

#define FOR_EVER_MS 30000

kin_process *test_start_with(kin_target target, kin_pack args, kin_process_options options)
{
    kin_process *process = NULL;
    (void)test_file(""); /* so that both have the same names */
    check(kin_process_start(&process, target, args, &options));
    assert_non_null(process);
    return process;
}

kin_process *test_start(kin_target target, kin_pack args)
{
    return test_start_with(target, args, (kin_process_options){0});
}

int test_finish(kin_process *process)
{
    int code = -1000;
    kin_err err = kin_process_join(process, test_ms(FOR_EVER_MS));
    if (err != KIN_OK)
        (void)kin_process_kill(process);
    check(err);
    check(kin_process_exit_code(process, &code));
    kin_process_close(process);
    return code;
}

int test_run(kin_target target, kin_pack args)
{
    return test_finish(test_start(target, args));
}

bool test_await(kin_value *value, int64_t number)
{
    for (int64_t end = kin_now() + test_ms(FOR_EVER_MS); kin_value_get_i64(value) < number; uv_sleep(1)) {
        if (kin_now() > end)
            return false;
    }
    return true;
}

bool test_process_gone(int64_t pid)
{
    for (int64_t end = kin_now() + test_ms(FOR_EVER_MS); test_process_exists(pid); uv_sleep(1)) {
        if (kin_now() > end)
            return false;
    }
    return true;
}

kin_lock *test_gate(void)
{
    kin_lock *gate = NULL;
    check(kin_lock_create(&gate, &(kin_lock_options){.name = "gate"}));
    check(kin_lock_acquire(gate, KIN_NOWAIT));
    return gate;
}

void test_open(kin_lock *gate)
{
    check(kin_lock_release(gate));
}

bool test_pass(kin_lock *gate)
{
    kin_err err = kin_lock_acquire(gate, test_ms(FOR_EVER_MS));
    return (err == KIN_OK || err == KIN_EOWNERDEAD) && kin_lock_release(gate) == KIN_OK;
}

/* ---- this program once more ---- */

typedef struct collector {
    uv_pipe_t pipe;
    char *text;
    size_t size, space;
    char buffer[4096];
} collector;

typedef struct run {
    uv_process_t process;
    uv_timer_t timer;
    collector out, err;
    test_output *output;
    int open; /* pipes not at their end yet, and the process */
    bool late;
} run;

static void one_less(run *r)
{
    if (--r->open == 0)
        uv_close((uv_handle_t *)&r->timer, NULL);
}

static void give_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer)
{
    (void)wanted;
    collector *c = (collector *)(void *)handle;
    *buffer = uv_buf_init(c->buffer, sizeof c->buffer);
}

static void take_text(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    collector *c = (collector *)(void *)stream;
    for (ssize_t i = 0; i < count; i++) {
        if (buffer->base[i] != '\r' && c->size + 1 < c->space)
            c->text[c->size++] = buffer->base[i];
    }
    if (count < 0) {
        uv_close((uv_handle_t *)&c->pipe, NULL);
        one_less(stream->data);
    }
}

static void note_exit(uv_process_t *process, int64_t code, int signal)
{
    run *r = process->data;
    r->output->exit_code = code;
    r->output->signal = signal;
    uv_close((uv_handle_t *)process, NULL);
    one_less(r);
}

static void close_any(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void note_late(uv_timer_t *timer)
{
    run *r = timer->data;
    r->late = true;
    if (!uv_is_closing((uv_handle_t *)&r->process))
        (void)uv_process_kill(&r->process, 9);
    uv_walk(timer->loop, close_any, NULL);
}

static void collect(uv_loop_t *loop, run *r, collector *c, char *text, size_t space)
{
    c->text = text;
    c->space = space;
    c->pipe.data = r;
    assert_int_equal(uv_pipe_init(loop, &c->pipe, 0), 0);
}

void test_run_self(const char *const *arguments, const char *input, test_output *output)
{
    static run r; /* not on the stack: libuv keeps pointers into it, should a test fail half-way */
    uv_loop_t loop;
    char path[4096], *command[16] = {path};
    size_t size = sizeof path;
    uv_fs_t request;
    (void)test_file(""); /* so that both have the same names */
    memset(output, 0, sizeof *output);
    memset(&r, 0, sizeof r);
    r.output = output;
    assert_int_equal(uv_exepath(path, &size), 0);
    for (size_t i = 0; arguments[i] != NULL; i++) {
        assert_true(i + 2 < sizeof command / sizeof command[0]);
        command[i + 1] = (char *)(uintptr_t)arguments[i];
    }
    assert_int_equal(uv_loop_init(&loop), 0);
    collect(&loop, &r, &r.out, output->out, sizeof output->out);
    collect(&loop, &r, &r.err, output->err, sizeof output->err);
    uv_stdio_container_t streams[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r.out.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&r.err.pipe},
    };
    if (input != NULL) {
        int fd = uv_fs_open(NULL, &request, input, UV_FS_O_RDONLY, 0, NULL);
        assert_true(fd >= 0);
        streams[0] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = fd};
    }
    uv_process_options_t options = {.file = path, .args = command, .exit_cb = note_exit, .stdio = streams, .stdio_count = 3};
    r.process.data = &r;
    r.timer.data = &r;
    assert_int_equal(uv_timer_init(&loop, &r.timer), 0);
    assert_int_equal(uv_timer_start(&r.timer, note_late, (uint64_t)test_ms(FOR_EVER_MS), 0), 0);
    assert_int_equal(uv_spawn(&loop, &r.process, &options), 0);
    r.open = 3;
    assert_int_equal(uv_read_start((uv_stream_t *)&r.out.pipe, give_buffer, take_text), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&r.err.pipe, give_buffer, take_text), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    if (input != NULL)
        (void)uv_fs_close(NULL, &request, streams[0].data.fd, NULL);
    if (r.late)
        fail_msg("the program did not end, or somebody kept its output open; it printed: %s%s", output->out, output->err);
}
