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
