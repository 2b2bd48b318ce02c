/* kin/queue.h: messages in place: reserved and committed, taken and given up, in every order, by several threads and processes. */
#include "queue_support.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static kin_message reserve(kin_queue *q, int64_t number)
{
    kin_message m = {0};
    check(kin_queue_reserve(q, &m, sizeof number, KIN_NOWAIT));
    assert_non_null(m.data);
    assert_int_equal(m.size, sizeof number);
    memcpy(m.data, &number, sizeof number);
    return m;
}

static kin_message take(kin_queue *q, int64_t expected)
{
    kin_message m = {0};
    int64_t number = INT64_MIN;
    check(kin_queue_take(q, &m, KIN_NOWAIT));
    assert_int_equal(m.size, sizeof number);
    memcpy(&number, m.data, sizeof number);
    assert_int_equal(number, expected);
    return m;
}

static void take_and_be_done(kin_queue *q, int64_t expected)
{
    kin_message m = take(q, expected);
    check(kin_queue_done(q, &m));
}

static void nothing_to_get(kin_queue *q)
{
    kin_message m = {0};
    char byte;
    check_fails(KIN_EEMPTY, kin_queue_take(q, &m, KIN_NOWAIT));
    check_fails(KIN_EEMPTY, kin_queue_get(q, &byte, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_queue_get(q, &byte, 1, NULL, 1));
    assert_true(kin_queue_empty(q));
}

/* ---- sizes ---- */

static void all_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 1967, 1983, 1984, 1985, 2000, 2048, 4080, 4096, 4097, 300000};
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "places", .capacity = 4096, .relaxed = relaxed != 0});
        nothing_to_get(q); /* what the first sleep of a process opens is not counted */
        int before = test_count_handles();
        for (uint32_t round = 0; round < 6; round++) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                kin_message in = {0}, out = {0};
                size_t size = sizes[i], found = 0;
                check(kin_queue_reserve(q, &in, size, KIN_NOWAIT));
                assert_true(in.size == size && (uintptr_t)in.data % 16 == 0);
                queue_fill(in.data, size, round);
                assert_int_equal(kin_queue_size(q), 1);
                nothing_to_get(q);
                check(kin_queue_commit(q, &in));
                assert_null(in.data);
                if (round % 3 == 0) {
                    void *data;
                    check(kin_queue_get_new(q, &data, &found, KIN_NOWAIT));
                    assert_true(found == size && queue_filled(data, size, round));
                    kin_free(data);
                    continue;
                }
                check(kin_queue_take(q, &out, KIN_NOWAIT));
                assert_true(out.size == size && (uintptr_t)out.data % 16 == 0 && queue_filled(out.data, size, round));
                if (round % 3 == 2) {
                    check(kin_queue_give_back(q, &out));
                    check(kin_queue_take(q, &out, KIN_NOWAIT));
                    assert_true(out.size == size && queue_filled(out.data, size, round));
                }
                assert_int_equal(kin_queue_size(q), 1);
                nothing_to_get(q);
                check(kin_queue_done(q, &out));
                assert_null(out.data);
                assert_int_equal(kin_queue_size(q), 0);
            }
        }
        queue_check_usable(q);
        assert_int_equal(test_count_handles(), before);
        kin_queue_close(q);
    }
}

/* ---- orders ---- */

static void passed_over_while_not_committed(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "places"});
    kin_message a = reserve(q, 1);
    queue_put_number(q, 2);
    kin_message c = reserve(q, 3);
    queue_put_number(q, 4);
    assert_int_equal(kin_queue_size(q), 4);
    assert_int_equal(queue_get_number(q), 2);
    assert_int_equal(kin_queue_size(q), 3);
    check(kin_queue_commit(q, &c));
    assert_int_equal(queue_get_number(q), 3);
    check(kin_queue_commit(q, &a)); /* its place is before 4 */
    assert_int_equal(queue_get_number(q), 1);
    assert_int_equal(queue_get_number(q), 4);
    queue_check_usable(q);

    /* Committed in another order, before anybody looks: they come in the order of their places. */
    kin_message m[3] = {reserve(q, 0), reserve(q, 1), reserve(q, 2)};
    queue_put_number(q, 3);
    check(kin_queue_commit(q, &m[2]));
    check(kin_queue_commit(q, &m[0]));
    check(kin_queue_commit(q, &m[1]));
    for (int i = 0; i < 4; i++)
        assert_int_equal(queue_get_number(q), i);
    queue_check_usable(q);
    kin_queue_close(q);
}

static void cancelled(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "dropped", .capacity = 4096, .relaxed = relaxed != 0});
        static kin_message m[10000];
        size_t count = 0;
        while (kin_queue_reserve(q, &m[count], 48, KIN_NOWAIT) == KIN_OK)
            count++;
        assert_int_equal(kin_last_code(), KIN_EFULL);
        assert_true(count == 4096 / 64);
        for (size_t round = 0; round < 3; round++) { /* in order, backwards, the odd ones first */
            for (size_t i = 0; i < count; i++) {
                size_t which = round == 0      ? i
                               : round == 1    ? count - 1 - i
                               : i * 2 < count ? i * 2 + 1
                                               : (i - count / 2) * 2;
                check(kin_queue_cancel(q, &m[which]));
                assert_null(m[which].data);
                assert_int_equal(kin_queue_size(q), count - 1 - i);
            }
            assert_true(kin_queue_empty(q));
            for (size_t i = 0; i < count; i++)
                check(kin_queue_reserve(q, &m[i], 48, KIN_NOWAIT));
        }
        for (size_t i = 0; i < count; i++)
            check(kin_queue_cancel(q, &m[i]));
        queue_check_usable(q);
        kin_message large = {0};
        for (int i = 0; i < 3; i++) {
            check(kin_queue_reserve(q, &large, 5000, KIN_NOWAIT));
            check(kin_queue_cancel(q, &large));
        }
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* Four taken, given up in every order, each done or given back. */
static void given_up_in_every_order(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "orders", .capacity = 4096});
    for (int order = 0; order < 256; order++) {
        int who[4] = {order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6};
        if ((1 << who[0] | 1 << who[1] | 1 << who[2] | 1 << who[3]) != 15)
            continue;
        for (int back = 0; back < 16; back++) {
            kin_message m[4];
            for (int i = 0; i < 5; i++)
                queue_put_number(q, i);
            for (int i = 0; i < 4; i++)
                m[i] = take(q, i);
            int left = 5;
            for (int i = 0; i < 4; i++) {
                bool is_back = (back >> who[i] & 1) != 0;
                check((is_back ? kin_queue_give_back : kin_queue_done)(q, &m[who[i]]));
                assert_int_equal(kin_queue_size(q), left -= is_back ? 0 : 1);
            }
            for (int i = 0; i < 4; i++) {
                if ((back >> i & 1) != 0 && i % 2 == 0)
                    take_and_be_done(q, i);
                else if ((back >> i & 1) != 0)
                    assert_int_equal(queue_get_number(q), i);
            }
            assert_int_equal(queue_get_number(q), 4);
            queue_check_usable(q);
        }
    }
    kin_queue_close(q);
}

static void the_middle_comes_back_in_its_place(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "middle"});
    for (int i = 0; i < 6; i++)
        queue_put_number(q, i);
    kin_message a = take(q, 0), b = take(q, 1), c = take(q, 2);
    check(kin_queue_give_back(q, &b));
    assert_false(kin_queue_empty(q));
    b = take(q, 1);
    check(kin_queue_done(q, &b));
    kin_message d = take(q, 3);
    check(kin_queue_give_back(q, &d));
    check(kin_queue_give_back(q, &a));
    for (int i = 0; i < 6; i++) {
        if (i != 1 && i != 2)
            assert_int_equal(queue_get_number(q), i);
    }
    check(kin_queue_done(q, &c));
    queue_check_usable(q);
    kin_queue_close(q);
}

static void room_comes_back_with_the_oldest(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "room", .capacity = 4096});
    kin_message m[128];
    int count = 0;
    while (!kin_queue_full(q, 8))
        queue_put_number(q, count++);
    assert_int_equal(count, 128);
    for (int i = 0; i < count; i++)
        m[i] = take(q, i);
    for (int i = 1; i < count; i++) {
        check(kin_queue_done(q, &m[i]));
        assert_true(kin_queue_full(q, 8));
        int64_t number = 0;
        check_fails(KIN_EFULL, kin_queue_put(q, &number, sizeof number, KIN_NOWAIT));
    }
    assert_int_equal(kin_queue_size(q), 1);
    check(kin_queue_done(q, &m[0]));
    for (int i = 0; i < count; i++)
        queue_put_number(q, i);
    for (int i = 0; i < count; i++)
        assert_int_equal(queue_get_number(q), i);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* Whatever is done by chance is as in a model: an array of messages in the order of their places. */
enum { GONE, READY, WRITTEN, READ };

static void by_chance(void **state)
{
    (void)state;
    uint32_t seed = crash_seed();
    enum { MOST = 4000 };
    static struct {
        int state;
        kin_message message;
    } model[MOST];
    for (int round = 0; round < test_scale(20, 5); round++) {
        kin_queue *q =
            queue_new((kin_queue_options){.name = "chance", .capacity = 4096, .max_items = round % 3 == 0 ? 9 : 0});
        int count = 0, held = 0;
        for (int step = 0; count < MOST && step < 3 * MOST; step++) {
            int ready = -1, some[3] = {-1, -1, -1};
            size_t size = 0;
            for (int i = count > 300 ? count - 300 : 0; i < count; i++) {
                int s = model[i].state;
                size += s != GONE;
                if (s == READY && ready < 0)
                    ready = i;
                if ((s == WRITTEN || s == READ) && (some[s - 1] < 0 || crash_random(&seed, 3) == 0))
                    some[s - 1] = i;
            }
            assert_int_equal(kin_queue_size(q), size);
            assert_true(kin_queue_empty(q) == (ready < 0));
            int64_t number = count;
            kin_message m = {0};
            switch (crash_random(&seed, 7)) {
            case 0:
                if (kin_queue_put(q, &number, sizeof number, KIN_NOWAIT) == KIN_OK)
                    model[count++].state = READY;
                break;
            case 1: {
                size_t extra = crash_random(&seed, 20) == 0 ? 3000 : crash_random(&seed, 200);
                if (kin_queue_reserve(q, &m, sizeof number + extra, KIN_NOWAIT) == KIN_OK) {
                    memcpy(m.data, &number, sizeof number);
                    model[count].message = m;
                    model[count++].state = WRITTEN;
                    held++;
                }
                break;
            }
            case 2:
            case 3: {
                kin_err err = kin_queue_take(q, &m, KIN_NOWAIT);
                assert_int_equal(err, ready < 0 ? KIN_EEMPTY : KIN_OK);
                if (err == KIN_OK) {
                    memcpy(&number, m.data, sizeof number);
                    assert_int_equal(number, ready);
                    model[ready].state = READ;
                    model[ready].message = m;
                    held++;
                }
                break;
            }
            case 4: {
                char buffer[4000];
                kin_err err = kin_queue_get(q, buffer, sizeof buffer, NULL, KIN_NOWAIT);
                assert_int_equal(err, ready < 0 ? KIN_EEMPTY : KIN_OK);
                if (err == KIN_OK) {
                    memcpy(&number, buffer, sizeof number);
                    assert_int_equal(number, ready);
                    model[ready].state = GONE;
                }
                break;
            }
            case 5:
                if (some[1] >= 0) {
                    bool drop = crash_random(&seed, 4) == 0;
                    check((drop ? kin_queue_cancel : kin_queue_commit)(q, &model[some[1]].message));
                    model[some[1]].state = drop ? GONE : READY;
                    held--;
                }
                break;
            default:
                if (some[2] >= 0) {
                    bool back = crash_random(&seed, 3) == 0;
                    check((back ? kin_queue_give_back : kin_queue_done)(q, &model[some[2]].message));
                    model[some[2]].state = back ? READY : GONE;
                    held--;
                }
                break;
            }
            if (step % 200 == 199) { /* what is held for long is in the way of everything else */
                for (int i = 0; i < count; i++) {
                    if (model[i].state == WRITTEN)
                        check(kin_queue_commit(q, &model[i].message));
                    else if (model[i].state == READ)
                        check(kin_queue_give_back(q, &model[i].message));
                    model[i].state = model[i].state == GONE ? GONE : READY;
                }
                for (int i = 0; i < count; i++) {
                    if (model[i].state == READY) {
                        kin_message next = {0};
                        check(kin_queue_take(q, &next, KIN_NOWAIT));
                        memcpy(&number, next.data, sizeof number);
                        assert_int_equal(number, i);
                        check(kin_queue_done(q, &next));
                        model[i].state = GONE;
                    }
                }
                queue_check_usable(q);
            }
        }
        kin_queue_close(q);
    }
}

/* ---- wrong uses ---- */

static void not_any_more(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "wrong"}),
              *other = queue_new((kin_queue_options){.name = "other"});
    kin_queue *lanes = queue_new((kin_queue_options){.name = "lanes", .relaxed = true});
    kin_message m, copy;
    for (int large = 0; large < 2; large++) {
        size_t size = large != 0 ? 2 * KIN_QUEUE_CAPACITY : 8;
        kin_queue *all[3] = {q, other, lanes};
        kin_message reserved[3], taken[3];
        for (int i = 0; i < 3; i++)
            check(kin_queue_reserve(all[i], &reserved[i], size, KIN_NOWAIT));
        for (int i = 0; i < 3; i++) { /* another's lie in the same place */
            for (int k = 0; k < 3; k++) {
                if (k == i)
                    continue;
                copy = reserved[k];
                check_fails(KIN_EINVAL, kin_queue_commit(all[i], &copy));
                check_says(kin_queue_name(all[i]));
                check_fails(KIN_EINVAL, kin_queue_cancel(all[i], &copy));
            }
            copy = reserved[i];
            check_fails(KIN_EINVAL, kin_queue_done(all[i], &copy)); /* it is not taken */
            check_fails(KIN_EINVAL, kin_queue_give_back(all[i], &copy));
            m = copy = reserved[i];
            check(kin_queue_commit(all[i], &m));
            check_fails(KIN_EINVAL, kin_queue_commit(all[i], &m)); /* it is forgotten */
            m = copy;
            m.kin__m.mapping = 0;
            check_fails(KIN_EINVAL, kin_queue_commit(all[i], &m));
            check_fails(KIN_EINVAL, kin_queue_cancel(all[i], &m));
            check(kin_queue_take(all[i], &taken[i], KIN_NOWAIT));
        }
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 3; k++) {
                copy = taken[k];
                if (k != i)
                    check_fails(KIN_EINVAL, kin_queue_done(all[i], &copy));
            }
            copy = taken[i];
            check_fails(KIN_EINVAL, kin_queue_commit(all[i], &copy));
            check_fails(KIN_EINVAL, kin_queue_cancel(all[i], &copy));
            m = copy = taken[i];
            copy.kin__m.mapping = 0;
            check(kin_queue_give_back(all[i], &m));
            m = copy;
            check_fails(KIN_EINVAL, kin_queue_done(all[i], &m));
            check_fails(KIN_EINVAL, kin_queue_give_back(all[i], &m));
            check(kin_queue_take(all[i], &m, KIN_NOWAIT));
            check(kin_queue_done(all[i], &m));
            check_fails(KIN_EINVAL, kin_queue_done(all[i], &m));
            m = copy;
            check_fails(KIN_EINVAL, kin_queue_done(all[i], &m));
            queue_check_usable(all[i]);
        }
    }
    kin_queue_close(q);
    kin_queue_close(other);
    kin_queue_close(lanes);
}

static void forged(void **state)
{
    (void)state;
    uint32_t seed = crash_seed();
    kin_queue *q = queue_new((kin_queue_options){.name = "forged", .capacity = 4096});
    queue_put_number(q, 1);
    kin_message taken = take(q, 1);
    for (int i = 0; i < 20000; i++) {
        kin_message m = taken;
        if (i % 2 == 0) {
            unsigned char *bytes = (unsigned char *)&m.kin__m;
            for (int n = 0; n < 3; n++)
                bytes[crash_random(&seed, sizeof m.kin__m)] ^= (unsigned char)(1u << crash_random(&seed, 8));
            m.kin__m.mapping = 0;
            if (memcmp(&m.kin__m, &taken.kin__m, sizeof m.kin__m) == 0)
                continue;
        } else {
            for (size_t n = 0; n < sizeof m.kin__m; n++)
                ((unsigned char *)&m.kin__m)[n] = (unsigned char)crash_random(&seed, 256);
            m.kin__m.mapping = 0;
        }
        check_fails(KIN_EINVAL, kin_queue_done(q, &m));
        check_fails(KIN_EINVAL, kin_queue_give_back(q, &m));
        check_fails(KIN_EINVAL, kin_queue_commit(q, &m));
        check_fails(KIN_EINVAL, kin_queue_cancel(q, &m));
    }
    check(kin_queue_done(q, &taken));
    queue_check_usable(q);
    kin_queue_close(q);
}

static int target_use_another_s(kin_args *args)
{
    kin_queue *q;
    kin_message m, copy;
    CHILD_CHECK(kin_unpack(args, &q, kin_struct_out(m)) == KIN_OK);
    m.data = &m;
    m.kin__m.mapping = 0;
    copy = m;
    CHILD_CHECK(kin_queue_done(q, &copy) == KIN_EINVAL && kin_queue_give_back(q, &copy) == KIN_EINVAL);
    CHILD_CHECK(kin_queue_commit(q, &copy) == KIN_EINVAL && kin_queue_cancel(q, &copy) == KIN_EINVAL);
    kin_queue_close(q);
    return 0;
}

static void another_process_s(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "own"});
    queue_put_number(q, 1);
    kin_message taken = take(q, 1), reserved = reserve(q, 2);
    assert_int_equal(test_run(target_use_another_s, KIN_ARGS(q, kin_struct(taken))), 0);
    assert_int_equal(test_run(target_use_another_s, KIN_ARGS(q, kin_struct(reserved))), 0);
    check(kin_queue_done(q, &taken));
    check(kin_queue_commit(q, &reserved));
    assert_int_equal(queue_get_number(q), 2);
    queue_check_usable(q);
    kin_queue_close(q);
}

/* ---- several threads ---- */

typedef struct other_thread {
    kin_queue *queue;
    kin_message message;
    kin_err (*call)(kin_queue *, kin_message *);
    kin_err err;
} other_thread;

static void do_call(void *arg)
{
    other_thread *t = arg;
    t->err = t->call(t->queue, &t->message);
}

static kin_err elsewhere(kin_queue *q, kin_message m, kin_err (*call)(kin_queue *, kin_message *))
{
    other_thread t = {q, m, call, KIN_EIO};
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, do_call, &t), 0);
    uv_thread_join(&thread);
    return t.err;
}

static void by_other_threads(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "threads", .relaxed = relaxed != 0});
        kin_message a = reserve(q, 1), b = reserve(q, 2);
        check(elsewhere(q, b, kin_queue_commit));
        check(elsewhere(q, a, kin_queue_cancel));
        a = take(q, 2);
        check(elsewhere(q, a, kin_queue_give_back));
        a = take(q, 2);
        check(elsewhere(q, a, kin_queue_done));
        check_fails(KIN_EINVAL, kin_queue_done(q, &a));
        queue_check_usable(q);
        kin_queue_close(q);
    }
}

/* ---- others who end ---- */

static int target_hold_and_end(kin_args *args)
{
    kin_queue *q;
    int taken, reserved, large;
    kin_message m;
    CHILD_CHECK(kin_unpack(args, &q, &taken, &reserved, &large) == KIN_OK);
    for (int i = 0; i < taken; i++)
        CHILD_CHECK(kin_queue_take(q, &m, KIN_NOWAIT) == KIN_OK);
    for (int i = 0; i < reserved || reserved < 0; i++) {
        kin_err err = kin_queue_reserve(q, &m, large != 0 && i == 0 ? 100000 : 100, KIN_NOWAIT);
        if (err == KIN_EFULL && reserved < 0)
            break;
        CHILD_CHECK(err == KIN_OK);
    }
    kin_queue_close(q);
    return 4;
}

static void who_took_or_reserved_ends(void **state)
{
    (void)state;
    for (int relaxed = 0; relaxed < 2; relaxed++) {
        kin_queue *q = queue_new((kin_queue_options){.name = "heirs", .capacity = 4096, .relaxed = relaxed != 0});
        for (int i = 0; i < 6; i++)
            queue_put_number(q, i);
        kin_message mine = take(q, 0);
        assert_int_equal(test_run(target_hold_and_end, KIN_ARGS(q, 3, 3, relaxed == 0)), 4);
        queue_put_number(q, 6);
        for (int i = 1; i <= 6; i++)
            assert_int_equal(queue_get_number(q), i);
        assert_int_equal(kin_queue_size(q), 1);
        check(kin_queue_give_back(q, &mine));
        assert_int_equal(queue_get_number(q), 0);
        queue_check_usable(q);
        /* In one go, past what nobody will finish. */
        assert_int_equal(test_run(target_hold_and_end, KIN_ARGS(q, 0, 2, false)), 4);
        for (int i = 0; i < 5; i++)
            queue_put_number(q, i);
        int64_t numbers[8];
        kin_view views[8];
        size_t count;
        for (int next = 0; next < 5; next += (int)count) {
            check(kin_queue_get_many(q, numbers, sizeof numbers, views, 8, &count, KIN_NOWAIT));
            for (size_t i = 0; i < count; i++)
                assert_int_equal(numbers[i], next + (int)i);
        }
        queue_check_usable(q);
        /* Full of what nobody will finish. */
        for (int i = 0; i < 3; i++) {
            assert_int_equal(test_run(target_hold_and_end, KIN_ARGS(q, 0, -1, i == 2)), 4);
            assert_false(kin_queue_full(q, 1000));
            queue_check_usable(q);
        }
        kin_queue_close(q);
    }
}

static int target_fill_and_wait(kin_args *args)
{
    kin_queue *q, *ready;
    kin_lock *gate;
    kin_message m;
    CHILD_CHECK(kin_unpack(args, &q, &ready, &gate) == KIN_OK);
    CHILD_CHECK(kin_queue_take(q, &m, KIN_NOWAIT) == KIN_OK);
    while (kin_queue_reserve(q, &m, 100, KIN_NOWAIT) == KIN_OK || kin_queue_reserve(q, &m, 0, KIN_NOWAIT) == KIN_OK) {
    }
    CHILD_CHECK(queue_send(ready, 1));
    CHILD_CHECK(test_pass(gate));
    kin_queue_close(q);
    kin_queue_close(ready);
    return 4;
}

typedef struct waiter {
    kin_queue *queue;
    kin_err err;
    int64_t number;
} waiter;

static void wait_to_get(void *arg)
{
    waiter *w = arg;
    w->err = kin_queue_get(w->queue, &w->number, sizeof w->number, NULL, test_ms(20000));
}

static void wait_to_put(void *arg)
{
    waiter *w = arg;
    w->err = kin_queue_put(w->queue, &w->number, sizeof w->number, test_ms(20000));
}

/* Who waits for a message or for room is woken when a process ends that had them. */
static void the_end_wakes(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "woken", .capacity = 4096}),
              *ready = queue_new((kin_queue_options){0});
    kin_lock *gate = test_gate();
    queue_put_number(q, 1);
    kin_process *child = test_start(target_fill_and_wait, KIN_ARGS(q, ready, gate));
    int64_t number;
    assert_true(queue_receive(ready, &number));
    assert_true(kin_queue_empty(q) && kin_queue_full(q, 0));
    waiter getter = {q, KIN_EIO, 0}, putter = {q, KIN_EIO, 2};
    uv_thread_t threads[2];
    assert_int_equal(uv_thread_create(&threads[0], wait_to_get, &getter), 0);
    assert_true(crash_until_asleep(1));
    assert_int_equal(uv_thread_create(&threads[1], wait_to_put, &putter), 0);
    assert_true(crash_until_asleep(2));
    test_open(gate);
    assert_int_equal(test_finish(child), 4);
    for (int i = 0; i < 2; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(getter.err, KIN_OK);
    assert_int_equal(putter.err, KIN_OK);
    assert_int_equal(getter.number, 1);
    assert_int_equal(queue_get_number(q), 2);
    queue_check_usable(q);
    kin_lock_close(gate);
    kin_queue_close(ready);
    kin_queue_close(q);
}

/* Woken by commit, give_back, cancel and done, not by deaths. */
static void giving_up_wakes(void **state)
{
    (void)state;
    kin_queue *q = queue_new((kin_queue_options){.name = "woken", .capacity = 4096});
    for (int round = 0; round < 12; round++) {
        uv_thread_t thread;
        waiter w = {q, KIN_EIO, round};
        kin_message m;
        bool for_room = round % 4 >= 2;
        if (round % 2 == 0) {
            m = reserve(q, round);
        } else {
            queue_put_number(q, round);
            m = take(q, round);
        }
        kin_message filler[64];
        int fillers = 0;
        while (for_room && kin_queue_reserve(q, &filler[fillers], 48, KIN_NOWAIT) == KIN_OK)
            fillers++;
        assert_int_equal(uv_thread_create(&thread, for_room ? wait_to_put : wait_to_get, &w), 0);
        assert_true(crash_until_asleep(1));
        check(round % 4 == 0   ? kin_queue_commit(q, &m)
              : round % 4 == 1 ? kin_queue_give_back(q, &m)
              : round % 4 == 2 ? kin_queue_cancel(q, &m)
                               : kin_queue_done(q, &m));
        uv_thread_join(&thread);
        assert_int_equal(w.err, KIN_OK);
        assert_int_equal(w.number, round);
        for (int i = 0; i < fillers; i++)
            check(kin_queue_cancel(q, &filler[i]));
        if (for_room)
            assert_int_equal(queue_get_number(q), round);
        queue_check_usable(q);
    }
    kin_queue_close(q);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(passed_over_while_not_committed),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(given_up_in_every_order),
        cmocka_unit_test(the_middle_comes_back_in_its_place),
        cmocka_unit_test(room_comes_back_with_the_oldest),
        cmocka_unit_test(by_chance),
        cmocka_unit_test(not_any_more),
        cmocka_unit_test(forged),
        cmocka_unit_test(another_process_s),
        cmocka_unit_test(by_other_threads),
        cmocka_unit_test(who_took_or_reserved_ends),
        cmocka_unit_test(the_end_wakes),
        cmocka_unit_test(giving_up_wakes),
    };
    return cmocka_run_group_tests_name("queue place", tests, NULL, NULL);
}
