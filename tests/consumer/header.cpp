// The headers in C++17: they compile, KIN_ARGS and kin_unpack choose the right types, and a raw pointer is refused.
#include <kin.h>

#include <type_traits>
#include <utility>

struct config {
    int width;
    double scale;
};

int target(kin_args *args)
{
    kin_value *value = nullptr;
    int64_t times = 0;
    const char *name = nullptr;
    config c{};
    double ratio = 0;
    bool flag = false;
    kin_view bytes{};
    FILE *file = nullptr;
    return kin_unpack(args, &value, &times, &name, kin_struct_out(c), &ratio, &flag, &bytes, &file);
}

kin_err connect_both(kin_listener **listener, kin_connection **connection)
{
    kin_err err = kin_listen(listener, "name", KIN_NO_KEY, nullptr);
    return err | kin_connect(connection, "name", KIN_KEY("secret"), KIN_FOREVER);
}

kin_err converse(kin_value *value)
{
    kin_connection *mine = nullptr, *theirs = nullptr;
    kin_pipe_options options{};
    options.one_way = false;
    kin_args *args = nullptr;
    kin_err err = kin_pipe(&mine, &theirs, &options);
    err |= kin_connection_send(mine, "hello", 5, KIN_FOREVER) | kin_connection_send_args(mine, KIN_ARGS(value, theirs), 10);
    err |= kin_connection_recv_args(theirs, &args, KIN_NOWAIT);
    err |= kin_unpack(args, &value, &mine);
    kin_args_free(args);
    kin_connection_close(mine);
    return err;
}

kin_err queue_up(kin_queue **queue, kin_value *value)
{
    kin_queue_options options{};
    options.joinable = true;
    kin_message message{};
    kin_view views[2] = {kin_view{"a", 1}, kin_view{"b", 1}};
    kin_args *args = nullptr;
    kin_err err = kin_queue_create(queue, &options);
    err |= kin_queue_put_many(*queue, views, 2, nullptr, KIN_FOREVER) | kin_queue_put_args(*queue, KIN_ARGS(value, *queue), KIN_NOWAIT);
    err |= kin_queue_take(*queue, &message, 10) | kin_queue_done(*queue, &message);
    err |= kin_queue_get_args(*queue, &args, KIN_FOREVER) | kin_unpack(args, &value, queue);
    kin_args_free(args);
    return err;
}

kin_err wait_for_any(kin_queue *queue, const kin_connection *connection, kin_listener *listener, kin_process *process, kin_event *event,
                     kin_semaphore *semaphore, size_t *ready)
{
    kin_waitable all[] = {KIN_WAIT_FOR(queue),     KIN_WAIT_FOR(connection), KIN_WAIT_FOR(listener),
                          KIN_WAIT_FOR(process),   KIN_WAIT_FOR(event),      KIN_WAIT_FOR(semaphore),
                          KIN_WAIT_ROOM(queue),    KIN_WAIT_ROOM(connection), kin_wait_fd_read(0),
                          KIN_WAIT_ROOM_FOR(queue, 100), KIN_WAIT_ROOM_FOR(connection, 100)};
    return kin_wait(all, sizeof all / sizeof all[0], ready, KIN_FOREVER);
}

bool is_ready(void *arg)
{
    return arg != nullptr;
}

kin_err synchronise(kin_lock *lock, kin_rlock *rlock, kin_condition *condition, kin_semaphore *semaphore, kin_event *event,
                    kin_barrier *barrier, kin_rwlock *rwlock, kin_process **process)
{
    kin_err err = kin_condition_wait(condition, lock, 1);
    err |= kin_condition_wait(condition, rlock, 1);
    err |= kin_condition_wait_for(condition, rlock, is_ready, nullptr, KIN_NOWAIT);
    err |= kin_condition_notify(condition, lock, 1) | kin_condition_notify_all(condition, rlock);
    err |= kin_process_start(process, target, KIN_ARGS(lock, rlock, condition, semaphore, event, barrier, rwlock), nullptr);
    return err;
}

int synchronised(kin_args *args)
{
    kin_lock *lock;
    kin_rlock *rlock;
    kin_condition *condition;
    kin_semaphore *semaphore;
    kin_event *event;
    kin_barrier *barrier;
    kin_rwlock *rwlock;
    return kin_unpack(args, &lock, &rlock, &condition, &semaphore, &event, &barrier, &rwlock);
}

kin_err start(kin_process **process, kin_value *value, FILE *file)
{
    config c{3, 0.5};
    return kin_process_start(process, target,
                             KIN_ARGS(value, 5, "name", kin_struct(c), 0.25, true, kin_bytes("abc", 3), file), nullptr);
}

template <typename T, typename = void> struct crosses : std::false_type {};
template <typename T> struct crosses<T, std::void_t<decltype(kin__any(std::declval<T>()))>> : std::true_type {};
static_assert(crosses<int>::value && crosses<const char *>::value && crosses<kin_lock *>::value, "these cross");
static_assert(!crosses<config *>::value && !crosses<void *>::value, "raw pointers do not");
