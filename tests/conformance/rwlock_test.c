/* kin/rwlock.h as long as nobody is killed; what all objects have in common is in object_test.c. */
#include "sync_support.h"

#include "atomic.h"

#include <string.h>

enum { ACTORS = 64 };

struct shared {
    kin_rwlock lock, other;
    kin_lock mutex;
    uint64_t first; /* plain, as is the second: only the lock keeps them equal */
    uint32_t inside, most, writes, order[8], ordered;
    sync_actor actors[ACTORS];
    uint64_t second;
};

static kin_segment *segment;
static struct shared *shared;
static sync_crew crew;

static int setup(void **state)
{
    (void)state;
    check(kin_segment_create(&segment, sizeof(struct shared)));
    shared = kin_segment_data(segment);
    check(kin_rwlock_init(&shared->lock, &(kin_rwlock_options){.name = "catalogue"}));
    check(kin_rwlock_init(&shared->other, &(kin_rwlock_options){.name = "index"}));
    check(kin_lock_init(&shared->mutex, &(kin_lock_options){.name = "mutex"}));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (sync_abandon(&crew))
        kin_segment_close(segment);
    return 0;
}

/* ---- actors ---- */

enum { READ, WRITE, RELEASE, HELD, READ_AND_NOTE, WRITE_AND_NOTE, ACQUIRE, UNLOCK };
enum { READING = 1, WRITING = 2 }; /* what HELD answers */

static kin_err perform(void *arg, sync_actor *order)
{
    struct shared *s = arg;
    kin_rwlock *lock = order->object == 0 ? &s->lock : &s->other;
    kin_err err;
    switch (order->call) {
    case READ:
        return kin_rwlock_acquire_read(lock, order->number);
    case WRITE:
        return kin_rwlock_acquire_write(lock, order->number);
    case RELEASE:
        return kin_rwlock_release(lock);
    case HELD:
        order->result = (kin_rwlock_reading(lock) ? READING : 0) + (kin_rwlock_writing(lock) ? WRITING : 0);
        return KIN_OK;
    case READ_AND_NOTE: /* number: who it is */
    case WRITE_AND_NOTE:
        err = order->call == READ_AND_NOTE ? kin_rwlock_acquire_read(lock, KIN_FOREVER) : kin_rwlock_acquire_write(lock, KIN_FOREVER);
        s->order[kin__add32(&s->ordered, 1) % 8] = (uint32_t)order->number;
        return err != KIN_OK ? err : kin_rwlock_release(lock);
    case ACQUIRE:
        return kin_lock_acquire(&s->mutex, order->number);
    case UNLOCK:
        return kin_lock_release(&s->mutex);
    default:
        return KIN_ENOTSUP;
    }
}

static int act(kin_args *args)
{
    kin_segment *mine;
    int index;
    CHILD_CHECK(kin_unpack(args, &mine, &index) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    return sync_act(&s->actors[index], perform, s);
}

static sync_actor *actor(int index, bool thread)
{
    sync_actor *a = &shared->actors[index];
    if (thread)
        sync_enlist_thread(&crew, a, perform, shared);
    else
        sync_enlist_process(&crew, a, act, KIN_ARGS(segment, index));
    return a;
}

static int64_t held(sync_actor *a)
{
    assert_int_equal(sync_do(a, HELD, 0, 0), KIN_OK);
    return a->result;
}

/* ---- reading and writing ---- */

static void readers_share_writers_do_not(bool thread)
{
    kin_rwlock *lock = &shared->lock;
    sync_actor *a = actor(0, thread), *b = actor(1, !thread), *c = actor(2, thread);
    assert_int_equal(sync_do(a, READ, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(b, READ, 0, KIN_NOWAIT), KIN_OK);
    check(kin_rwlock_acquire_read(lock, 5));
    assert_int_equal(held(a), READING);
    assert_int_equal(held(b), READING);
    assert_int_equal(held(c), 0);
    assert_true(kin_rwlock_reading(lock) && !kin_rwlock_writing(lock));
    assert_int_equal(sync_do(c, WRITE, 0, KIN_NOWAIT), KIN_ETIMEDOUT);
    assert_non_null(strstr(c->said, "catalogue"));
    assert_int_equal(sync_do(c, WRITE, 0, 20), KIN_ETIMEDOUT);
    assert_int_equal(held(c), 0);
    assert_int_equal(sync_do(c, READ, 0, KIN_NOWAIT), KIN_OK); /* it waits no more, so it is in nobody's way */
    assert_int_equal(sync_do(c, RELEASE, 0, 0), KIN_OK);
    sync_ask_asleep(c, WRITE, 0, KIN_FOREVER);
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    check(kin_rwlock_release(lock));
    assert_false(sync_answered(c));
    assert_int_equal(sync_do(b, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(c), KIN_OK);
    assert_int_equal(held(c), WRITING);
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_read(lock, KIN_NOWAIT));
    check_says("catalogue");
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(lock, 1));
    assert_int_equal(sync_do(a, READ, 0, 20), KIN_ETIMEDOUT);
    sync_ask_asleep(a, READ, 0, KIN_FOREVER);
    sync_ask_asleep(b, READ, 0, KIN_FOREVER);
    assert_int_equal(sync_do(c, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK); /* both at once */
    assert_int_equal(sync_answer(b), KIN_OK);
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(b, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_do(b, RELEASE, 0, 0), KIN_EPERM);
    check(kin_rwlock_acquire_write(lock, KIN_NOWAIT));
    check(kin_rwlock_release(lock));
    sync_dismiss(&crew);
}

static void readers_share_writers_do_not_over_processes(void **state)
{
    (void)state;
    readers_share_writers_do_not(false);
}

static void readers_share_writers_do_not_over_threads(void **state)
{
    (void)state;
    readers_share_writers_do_not(true);
}

static void time_outs(void **state)
{
    (void)state;
    sync_actor *a = actor(0, false);
    for (int way = READ; way <= WRITE; way++) {
        assert_int_equal(sync_do(a, way, 0, KIN_FOREVER), KIN_OK);
        int64_t before = kin_now(), cpu = sync_cpu_ms();
        check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(&shared->lock, 300));
        assert_true(kin_now() - before >= 299);
        assert_true(sync_cpu_ms() - cpu < 150); /* asleep */
        check_says("catalogue");
        for (int i = 0; i < 20; i++) {
            check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(&shared->lock, i % 2));
            if (way == WRITE)
                check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_read(&shared->lock, i % 2));
        }
        assert_false(kin_rwlock_reading(&shared->lock) || kin_rwlock_writing(&shared->lock));
        assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
        check(kin_rwlock_acquire_write(&shared->lock, KIN_NOWAIT));
        check(kin_rwlock_release(&shared->lock));
    }
    sync_dismiss(&crew);
}

static void releasing_what_another_holds(void **state)
{
    (void)state;
    check_fails(KIN_EPERM, kin_rwlock_release(&shared->lock)); /* nobody does */
    check_says("catalogue");
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *a = actor(0, thread != 0);
        for (int way = READ; way <= WRITE; way++) {
            check(way == READ ? kin_rwlock_acquire_read(&shared->lock, KIN_NOWAIT) : kin_rwlock_acquire_write(&shared->lock, KIN_NOWAIT));
            assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_EPERM);
            assert_non_null(strstr(a->said, "catalogue"));
            assert_int_equal(held(a), 0);
            assert_true(way == READ ? kin_rwlock_reading(&shared->lock) : kin_rwlock_writing(&shared->lock));
            assert_int_equal(sync_do(a, WRITE, 0, KIN_NOWAIT), KIN_ETIMEDOUT);
            check(kin_rwlock_release(&shared->lock));
            check_fails(KIN_EPERM, kin_rwlock_release(&shared->lock));
        }
        sync_dismiss(&crew);
    }
}

/* ---- oneself ---- */

static void neither_up_nor_down(void **state)
{
    (void)state;
    static const int64_t time_outs_[] = {KIN_NOWAIT, 1, KIN_FOREVER};
    kin_rwlock *lock = &shared->lock;
    for (int i = 0; i < 3; i++) {
        check(kin_rwlock_acquire_read(lock, KIN_FOREVER));
        check_fails(KIN_EDEADLK, kin_rwlock_acquire_write(lock, time_outs_[i]));
        check_says("catalogue");
        assert_true(kin_rwlock_reading(lock) && !kin_rwlock_writing(lock));
        assert_int_equal(sync_do(actor(0, true), READ, 0, KIN_NOWAIT), KIN_OK); /* it left nothing behind */
        check_fails(KIN_EDEADLK, kin_rwlock_acquire_write(lock, time_outs_[i]));
        assert_int_equal(sync_do(&shared->actors[0], RELEASE, 0, 0), KIN_OK);
        sync_dismiss(&crew);
        check(kin_rwlock_release(lock));
        check(kin_rwlock_acquire_write(lock, KIN_FOREVER));
        check_fails(KIN_EDEADLK, kin_rwlock_acquire_write(lock, time_outs_[i]));
        check_says("catalogue");
        check_fails(KIN_EDEADLK, kin_rwlock_acquire_read(lock, time_outs_[i]));
        check_fails(KIN_EINVAL, kin_rwlock_acquire_read(lock, -2));
        assert_true(kin_rwlock_writing(lock) && !kin_rwlock_reading(lock));
        check(kin_rwlock_release(lock));
        check_fails(KIN_EPERM, kin_rwlock_release(lock));
    }
}

/* Also while another writer waits for this very reader. */
static void not_up_past_a_waiting_writer(void **state)
{
    (void)state;
    sync_actor *reader = actor(0, false), *writer = actor(1, true);
    assert_int_equal(sync_do(reader, READ, 0, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(writer, WRITE, 0, KIN_FOREVER);
    assert_int_equal(sync_do(reader, WRITE, 0, KIN_NOWAIT), KIN_EDEADLK);
    assert_int_equal(sync_do(reader, WRITE, 0, 300), KIN_EDEADLK);
    assert_int_equal(held(reader), READING);
    assert_false(sync_answered(writer));
    assert_int_equal(sync_do(reader, RELEASE, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(writer), KIN_OK);
    assert_int_equal(sync_do(writer, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void reading_once_more_passes_a_waiting_writer(bool thread)
{
    sync_actor *reader = actor(0, thread), *writer = actor(1, !thread), *late = actor(2, thread);
    assert_int_equal(sync_do(reader, READ, 0, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(writer, WRITE, 0, KIN_FOREVER);
    static const int64_t time_outs_[] = {KIN_NOWAIT, KIN_FOREVER, 5};
    for (int i = 0; i < 3; i++)
        assert_int_equal(sync_do(reader, READ, 0, time_outs_[i]), KIN_OK);
    assert_int_equal(sync_do(late, READ, 0, 5), KIN_ETIMEDOUT); /* this one must wait */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(held(reader), READING);
        assert_false(sync_answered(writer));
        assert_int_equal(sync_do(reader, RELEASE, 0, 0), KIN_OK);
    }
    assert_int_equal(held(reader), 0);
    assert_int_equal(sync_answer(writer), KIN_OK);
    assert_int_equal(sync_do(reader, RELEASE, 0, 0), KIN_EPERM);
    assert_int_equal(sync_do(writer, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

static void reading_once_more_passes_a_waiting_writer_over_processes(void **state)
{
    (void)state;
    reading_once_more_passes_a_waiting_writer(false);
}

static void reading_once_more_passes_a_waiting_writer_over_threads(void **state)
{
    (void)state;
    reading_once_more_passes_a_waiting_writer(true);
}

/* As often as one likes: it is one reader. */
static void reading_very_often(void **state)
{
    (void)state;
    enum { OFTEN = 3 * KIN_RWLOCK_READERS };
    int times = 0;
    while (times < OFTEN && kin_rwlock_acquire_read(&shared->lock, 100) == KIN_OK)
        times++;
    for (int i = 0; i < times; i++)
        check(kin_rwlock_release(&shared->lock));
    assert_int_equal(times, OFTEN);
    check_fails(KIN_EPERM, kin_rwlock_release(&shared->lock));
}

/* ---- order ---- */

static void a_waiting_writer_goes_before_later_readers(bool thread)
{
    for (int i = 0; i < 4; i++)
        (void)actor(i, thread ? i % 2 == 0 : false);
    for (int round = 0; round < test_scale(30, 6); round++) {
        sync_actor *writer = &shared->actors[round % 4];
        shared->ordered = 0;
        check(kin_rwlock_acquire_read(&shared->lock, KIN_FOREVER));
        sync_ask_asleep(writer, WRITE_AND_NOTE, 0, 1);
        for (int i = 0; i < 4; i++) {
            if (&shared->actors[i] != writer)
                sync_ask_asleep(&shared->actors[i], READ_AND_NOTE, 0, 2);
        }
        check(kin_rwlock_release(&shared->lock));
        for (int i = 0; i < 4; i++)
            assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
        assert_int_equal(shared->order[0], 1);
    }
    sync_dismiss(&crew);
}

static void a_waiting_writer_goes_before_later_readers_over_processes(void **state)
{
    (void)state;
    a_waiting_writer_goes_before_later_readers(false);
}

static void a_waiting_writer_goes_before_later_readers_over_threads(void **state)
{
    (void)state;
    a_waiting_writer_goes_before_later_readers(true);
}

/* The same behind another writer. */
static void also_after_a_writer(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        (void)actor(i, i % 2 == 0);
    int late = 0;
    for (int round = 0; round < test_scale(30, 6); round++) {
        sync_actor *writer = &shared->actors[round % 4];
        shared->ordered = 0;
        check(kin_rwlock_acquire_write(&shared->lock, KIN_FOREVER));
        sync_ask_asleep(writer, WRITE_AND_NOTE, 0, 1);
        for (int i = 0; i < 4; i++) {
            if (&shared->actors[i] != writer)
                sync_ask_asleep(&shared->actors[i], READ_AND_NOTE, 0, 2);
        }
        check(kin_rwlock_release(&shared->lock));
        for (int i = 0; i < 4; i++)
            assert_int_equal(sync_answer(&shared->actors[i]), KIN_OK);
        late += shared->order[0] != 1;
    }
    assert_true(late <= 1 + test_scale(30, 6) / 10); /* the late news of a death wakes all at once: who runs then may be faster */
    sync_dismiss(&crew);
}

/* A writer that gives up lets those in who came after it. */
static void a_writer_that_gives_up(void **state)
{
    (void)state;
    sync_actor *reader = actor(0, false), *writer = actor(1, false), *late = actor(2, true);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(sync_do(reader, READ, 0, KIN_FOREVER), KIN_OK);
        sync_ask_asleep(writer, WRITE, 0, 200);
        sync_ask(late, READ, 0, KIN_FOREVER);
        assert_int_equal(sync_answer(writer), KIN_ETIMEDOUT);
        assert_int_equal(sync_answer(late), KIN_OK); /* beside the first */
        assert_int_equal(held(reader), READING);
        assert_int_equal(sync_do(late, RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_do(reader, RELEASE, 0, 0), KIN_OK);
    }
    sync_dismiss(&crew);
}

/* ---- very many readers ---- */

static void more_readers_than_places_wait(void **state)
{
    (void)state;
    enum { MORE = 4, ALL = KIN_RWLOCK_READERS + MORE };
    for (int i = 0; i < ALL; i++)
        (void)actor(i, true);
    for (int i = 0; i < KIN_RWLOCK_READERS; i++)
        assert_int_equal(sync_do(&shared->actors[i], READ, 0, KIN_NOWAIT), KIN_OK);
    assert_int_equal(sync_do(&shared->actors[KIN_RWLOCK_READERS], READ, 0, KIN_NOWAIT), KIN_ETIMEDOUT);
    assert_int_equal(sync_do(&shared->actors[KIN_RWLOCK_READERS], READ, 0, 20), KIN_ETIMEDOUT);
    for (int i = 0; i < MORE; i++)
        sync_ask_asleep(&shared->actors[KIN_RWLOCK_READERS + i], READ, 0, KIN_FOREVER);
    int done = 0;
    for (int i = 0; i < MORE; i++) { /* one leaves, one comes */
        assert_int_equal(sync_do(&shared->actors[i * 7], RELEASE, 0, 0), KIN_OK);
        for (int64_t end = kin_now() + test_ms(20000); done <= i && kin_now() < end;) {
            done = 0;
            for (int k = 0; k < MORE; k++)
                done += sync_answered(&shared->actors[KIN_RWLOCK_READERS + k]);
        }
        assert_int_equal(done, i + 1);
    }
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(&shared->lock, 1));
    check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_read(&shared->lock, 1));
    for (int i = 0; i < ALL; i++)
        assert_int_equal(sync_do(&shared->actors[i], RELEASE, 0, 0), i % 7 == 0 && i < 7 * MORE ? KIN_EPERM : KIN_OK);
    check(kin_rwlock_acquire_write(&shared->lock, KIN_NOWAIT));
    check(kin_rwlock_release(&shared->lock));
    sync_dismiss(&crew);
}

/* One of as many as there can be reads once more. */
static void reading_once_more_when_it_is_full(void **state)
{
    (void)state;
    for (int i = 0; i < KIN_RWLOCK_READERS; i++)
        assert_int_equal(sync_do(actor(i, true), READ, 0, KIN_NOWAIT), KIN_OK);
    assert_int_equal(sync_do(&shared->actors[5], READ, 0, 100), KIN_OK);
    assert_int_equal(sync_do(&shared->actors[5], RELEASE, 0, 0), KIN_OK);
    for (int i = 0; i < KIN_RWLOCK_READERS; i++)
        assert_int_equal(sync_do(&shared->actors[i], RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- deadlock ---- */

static void writers_in_a_cycle(bool thread)
{
    sync_actor *a = actor(0, thread), *b = actor(1, thread);
    for (int way = READ; way <= WRITE; way++) { /* whatever they want to do with the other's */
        assert_int_equal(sync_do(a, WRITE, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(b, WRITE, 1, KIN_FOREVER), KIN_OK);
        sync_ask(a, way, 1, KIN_FOREVER);
        (void)sync_until_asleep(a);
        sync_ask(b, WRITE + READ - way, 0, test_ms(20000));
        sync_actor *told = a, *other = b;
        for (int64_t end = kin_now() + test_ms(20000); !sync_answered(a) && !sync_answered(b) && kin_now() < end;)
            uv_sleep(1);
        if (sync_answered(b))
            told = b, other = a;
        assert_int_equal(sync_answer(told), KIN_EDEADLK);
        assert_non_null(strstr(told->said, "catalogue"));
        assert_non_null(strstr(told->said, "index"));
        assert_false(sync_answered(other));
        assert_int_equal(sync_do(told, RELEASE, told == a ? 0 : 1, 0), KIN_OK);
        assert_int_equal(sync_answer(other), KIN_OK);
        assert_int_equal(sync_do(other, RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_do(other, RELEASE, 1, 0), KIN_OK);
    }
    sync_dismiss(&crew);
}

static void writers_in_a_cycle_over_processes(void **state)
{
    (void)state;
    writers_in_a_cycle(false);
}

static void writers_in_a_cycle_over_threads(void **state)
{
    (void)state;
    writers_in_a_cycle(true);
}

/* Waiting for readers is no part of it: they just time out. */
static void readers_in_a_cycle_are_not_looked_for(void **state)
{
    (void)state;
    sync_actor *a = actor(0, false), *b = actor(1, false);
    assert_int_equal(sync_do(a, READ, 0, KIN_FOREVER), KIN_OK);
    assert_int_equal(sync_do(b, ACQUIRE, 0, KIN_FOREVER), KIN_OK);
    sync_ask_asleep(a, ACQUIRE, 0, KIN_FOREVER);
    assert_int_equal(sync_do(b, WRITE, 0, 100), KIN_ETIMEDOUT);
    assert_false(sync_answered(a));
    assert_int_equal(sync_do(b, UNLOCK, 0, 0), KIN_OK);
    assert_int_equal(sync_answer(a), KIN_OK);
    assert_int_equal(sync_do(a, UNLOCK, 0, 0), KIN_OK);
    assert_int_equal(sync_do(a, RELEASE, 0, 0), KIN_OK);
    sync_dismiss(&crew);
}

/* ---- whoever ends ---- */

static void whoever_ends_while_writing(void **state)
{
    (void)state;
    kin_rwlock *lock = &shared->lock;
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *stays = actor(0, false);
        assert_int_equal(sync_do(actor(1, thread != 0), WRITE, 0, KIN_FOREVER), KIN_OK);
        sync_ask_asleep(stays, READ, 0, KIN_FOREVER);
        sync_dismiss_one(&crew, 1);
        assert_int_equal(sync_answer(stays), KIN_EOWNERDEAD); /* and it reads */
        assert_int_equal(held(stays), READING);
        assert_non_null(strstr(stays->said, "catalogue"));
        check_fails(KIN_EOWNERDEAD, kin_rwlock_acquire_read(lock, test_ms(20000)));
        check_fails(KIN_EOWNERDEAD, kin_rwlock_acquire_read(lock, test_ms(20000))); /* once more */
        check(kin_rwlock_release(lock));
        check(kin_rwlock_release(lock));
        assert_int_equal(sync_do(stays, RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_do(stays, READ, 0, 0), KIN_EOWNERDEAD); /* only a writer can put it right */
        check_fails(KIN_ETIMEDOUT, kin_rwlock_acquire_write(lock, 5));
        assert_int_equal(sync_do(stays, RELEASE, 0, 0), KIN_OK);
        assert_int_equal(sync_do(stays, READ, 0, 0), KIN_EOWNERDEAD); /* one that came and went without having had it has not */
        assert_int_equal(sync_do(stays, RELEASE, 0, 0), KIN_OK);
        check_fails(KIN_EOWNERDEAD, kin_rwlock_acquire_write(lock, KIN_NOWAIT));
        assert_true(kin_rwlock_writing(lock));
        check(kin_rwlock_release(lock));
        check(kin_rwlock_acquire_read(lock, KIN_NOWAIT));
        check(kin_rwlock_release(lock));
        check(kin_rwlock_acquire_write(lock, KIN_NOWAIT));
        check(kin_rwlock_release(lock));
        sync_dismiss(&crew);
    }
}

static void whoever_ends_while_reading_or_waiting(void **state)
{
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        sync_actor *writer = actor(0, false);
        assert_int_equal(sync_do(actor(1, thread != 0), READ, 0, KIN_FOREVER), KIN_OK);
        assert_int_equal(sync_do(&shared->actors[1], READ, 0, KIN_FOREVER), KIN_OK);
        sync_ask_asleep(writer, WRITE, 0, KIN_FOREVER);
        sync_dismiss_one(&crew, 1);
        assert_int_equal(sync_answer(writer), KIN_OK); /* it changed nothing */
        assert_int_equal(sync_do(writer, RELEASE, 0, 0), KIN_OK);
        sync_dismiss(&crew);
    }
}

/* ---- under load ---- */

static int read_and_write(kin_args *args)
{
    kin_segment *mine;
    kin_rwlock *lock;
    int64_t times, seed;
    CHILD_CHECK(kin_unpack(args, &mine, &lock, &times, &seed) == KIN_OK);
    struct shared *s = kin_segment_data(mine);
    uint32_t chance = (uint32_t)seed;
    for (int64_t i = 0; i < times; i++) {
        uint32_t what = crash_random(&chance, 10);
        if (what == 0) {
            CHILD_CHECK(kin_rwlock_acquire_write(lock, test_ms(20000)) == KIN_OK);
        } else if (what == 1) {
            kin_err err = kin_rwlock_acquire_write(lock, (int64_t)crash_random(&chance, 2));
            CHILD_CHECK(err == KIN_OK || err == KIN_ETIMEDOUT);
            if (err != KIN_OK)
                continue;
        } else {
            kin_err err = kin_rwlock_acquire_read(lock, what == 2 ? KIN_NOWAIT : what == 3 ? 1 : test_ms(20000));
            CHILD_CHECK(err == KIN_OK || (err == KIN_ETIMEDOUT && what < 4));
            if (err != KIN_OK)
                continue;
            uint32_t inside = kin__add32(&s->inside, 1) + 1;
            if (inside > kin__load32(&s->most))
                kin__store32(&s->most, inside);
            if (what == 4)
                CHILD_CHECK(kin_rwlock_acquire_read(lock, test_ms(20000)) == KIN_OK);
            uint64_t seen = s->first;
            if (i % 16 == 0)
                crash_spin_us(10);
            CHILD_CHECK(seen == s->second && kin_rwlock_reading(lock) && !kin_rwlock_writing(lock));
            if (what == 4)
                CHILD_CHECK(kin_rwlock_release(lock) == KIN_OK);
            kin__add32(&s->inside, (uint32_t)-1);
            CHILD_CHECK(kin_rwlock_release(lock) == KIN_OK);
            continue;
        }
        CHILD_CHECK(kin__load32(&s->inside) == 0 && s->first == s->second);
        s->first++;
        if (i % 16 == 0)
            crash_spin_us(10);
        CHILD_CHECK(kin__load32(&s->inside) == 0 && kin_rwlock_writing(lock));
        s->second++;
        CHILD_CHECK(kin_rwlock_release(lock) == KIN_OK);
        kin__add32(&s->writes, 1);
    }
    kin_rwlock_close(lock);
    return 0;
}

static void hammer(kin_rwlock *lock)
{
    kin_process *children[4];
    int64_t times = test_scale(10000, 1000);
    for (int64_t i = 0; i < 4; i++)
        children[i] = test_start(read_and_write, KIN_ARGS(segment, lock, times, i + 3));
    int bad = 0;
    for (int i = 0; i < 4; i++)
        bad += test_finish(children[i]) != 0;
    assert_int_equal(bad, 0);
    assert_int_equal(shared->first, shared->writes);
    assert_int_equal(shared->second, shared->writes);
    assert_true(shared->writes > 0);
    if (!test_with_sanitizer() && !test_on_windows())
        assert_true(shared->most > 1); /* they were there together */
    check(kin_rwlock_acquire_write(lock, KIN_NOWAIT));
    check(kin_rwlock_release(lock));
}

static void mixed_load_in_a_struct(void **state)
{
    (void)state;
    hammer(&shared->lock);
}

static void mixed_load_on_one_of_its_own(void **state)
{
    (void)state;
    kin_rwlock *own;
    check(kin_rwlock_create(&own, NULL));
    hammer(own);
    kin_rwlock_close(own);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        TEST(readers_share_writers_do_not_over_processes),
        TEST(readers_share_writers_do_not_over_threads),
        TEST(time_outs),
        TEST(releasing_what_another_holds),
        TEST(neither_up_nor_down),
        TEST(not_up_past_a_waiting_writer),
        TEST(reading_once_more_passes_a_waiting_writer_over_processes),
        TEST(reading_once_more_passes_a_waiting_writer_over_threads),
        TEST(reading_very_often),
        TEST(a_waiting_writer_goes_before_later_readers_over_processes),
        TEST(a_waiting_writer_goes_before_later_readers_over_threads),
        TEST(also_after_a_writer),
        TEST(a_writer_that_gives_up),
        TEST(more_readers_than_places_wait),
        TEST(reading_once_more_when_it_is_full),
        TEST(writers_in_a_cycle_over_processes),
        TEST(writers_in_a_cycle_over_threads),
        TEST(readers_in_a_cycle_are_not_looked_for),
        TEST(whoever_ends_while_writing),
        TEST(whoever_ends_while_reading_or_waiting),
        TEST(mixed_load_in_a_struct),
        TEST(mixed_load_on_one_of_its_own),
    };
    return cmocka_run_group_tests_name("rwlock", tests, NULL, NULL);
}
