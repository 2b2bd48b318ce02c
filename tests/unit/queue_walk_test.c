/* Random walks: one thread does with a queue whatever can be done, in any order, and a simple model says what each call must give. The
 * queues are small and near the ends of what positions and counts can say, so that rings, positions and counts all wrap. Some of what
 * is reserved or taken is made a dead process's. KIN_TEST_SEED repeats a walk.
 * @ctest TIMEOUT 120 */
#include "queue_support.h"

#include "ring_inside.h"

#include <string.h>

#define WALKS 60
#define STEPS 3000
#define MOST 1024   /* messages in a queue at once */
#define IN_HAND 24  /* reserved or taken at once */
#define LARGE 70000 /* at most so many bytes */
#define MANY 12
#define DEAD_PROCESS kin__pid_of(KIN__PROCESSES - 1, 12345)

/* ---- the model ---- */

typedef struct message {
    uint32_t id, size, state;
    uint32_t after; /* the position behind it */
    bool args, large;
} message;

static struct model {
    message messages[MOST]; /* from the oldest on that takes room */
    uint32_t count, next_id;
    uint32_t head, tail, units, most_items;
    uint32_t got; /* and not dealt with */
    bool shut;
} model;

static kin_queue *queue;
static kin_queue_options options;
static kin__flow *flow;
static uint32_t seed, args_size;

static uint32_t chance(uint32_t below) { return crash_random(&seed, below); }

static uint32_t units_of(uint32_t size, bool large) { return large ? 3 : 1 + (size + 15) / 16; }

static bool has_room(uint32_t size, bool large)
{
    uint32_t units = units_of(size, large), to_end = model.units - model.tail % model.units;
    for (uint32_t i = 0; i < model.count && large; i++) {
        if (model.messages[i].large)
            return false;
    }
    return (units <= to_end ? units : to_end + units) <= model.units - (model.tail - model.head) &&
           (model.most_items == 0 || model.count < model.most_items);
}

static bool is_large(size_t size) { return size > kin__flow_most(flow); }

static message *add(uint32_t size, uint32_t state, bool args)
{
    uint32_t units = units_of(size, is_large(size)), to_end = model.units - model.tail % model.units;
    assert_true(model.count < MOST);
    message *m = &model.messages[model.count++];
    model.tail += units <= to_end ? units : to_end + units;
    *m = (message){model.next_id++, size, state, model.tail, args, is_large(size)};
    return m;
}

/* What is done with leaves when it is the oldest. */
static void tidy(void)
{
    uint32_t gone = 0;
    for (; gone < model.count && model.messages[gone].state == KIN__FINISHED; gone++)
        model.head = model.messages[gone].after;
    model.count -= gone;
    memmove(model.messages, model.messages + gone, model.count * sizeof(message));
}

static message *first_ready(void)
{
    for (uint32_t i = 0; i < model.count; i++) {
        if (model.messages[i].state == KIN__READY)
            return &model.messages[i];
    }
    return NULL;
}

static message *find(uint32_t id)
{
    for (uint32_t i = 0; i < model.count; i++) {
        if (model.messages[i].id == id)
            return &model.messages[i];
    }
    fail_msg("message %u left too early", id);
    return NULL;
}

static void got(message *m)
{
    if (options.joinable)
        model.got++;
    m->state = KIN__FINISHED;
    tidy();
}

/* ---- putting and getting ---- */

static char bytes[LARGE + 1];

static uint32_t any_size(void)
{
    uint32_t most = (uint32_t)kin__flow_most(flow);
    switch (chance(16)) {
    case 0:
        return 0;
    case 1:
        return most - chance(40);
    case 2:
        return most + 1 + chance(LARGE - most);
    case 3:
    case 4:
        return chance(most / 3);
    default:
        return chance(100);
    }
}

static kin_err expected_put(uint32_t size)
{
    return model.shut ? KIN_EPIPE : has_room(size, is_large(size)) ? KIN_OK : KIN_EFULL;
}

static void put(void)
{
    uint32_t size = any_size();
    kin_err expected = expected_put(size);
    if (!model.shut)
        assert_int_equal(kin_queue_full(queue, size), expected == KIN_EFULL);
    queue_fill(bytes, size, model.next_id);
    check_fails(expected, kin_queue_put(queue, bytes, size, KIN_NOWAIT));
    if (expected == KIN_OK)
        (void)add(size, KIN__READY, false);
}

static void put_many(void)
{
    kin_view views[MANY];
    size_t count = 1 + chance(MANY), used = 0, done;
    for (size_t i = 0; i < count; i++) {
        size_t size = any_size();
        size = size < sizeof bytes - used ? size : sizeof bytes - used;
        queue_fill(bytes + used, size, model.next_id + (uint32_t)i);
        views[i] = (kin_view){bytes + used, size};
        used += size;
    }
    kin_err err = kin_queue_put_many(queue, views, count, &done, KIN_NOWAIT), expected = KIN_OK;
    for (size_t i = 0; i < count && expected == KIN_OK; i++) {
        expected = expected_put((uint32_t)views[i].size);
        assert_int_equal(i < done, expected == KIN_OK);
        if (expected == KIN_OK)
            (void)add((uint32_t)views[i].size, KIN__READY, false);
    }
    check_fails(expected, err);
}

static void put_values(void)
{
    kin_err expected = expected_put(args_size);
    check_fails(expected, kin_queue_put_args(queue, KIN_ARGS((int64_t)model.next_id), KIN_NOWAIT));
    if (expected == KIN_OK)
        (void)add(args_size, KIN__READY, true);
}

static kin_err expected_get(const message *m) { return m != NULL ? KIN_OK : model.shut ? KIN_EPIPE : KIN_EEMPTY; }

static void get(void)
{
    message *m = first_ready();
    size_t size = 12345, space = sizeof bytes;
    if (m != NULL && m->size > 0 && chance(8) == 0)
        space = chance(m->size);
    kin_err expected = m != NULL && m->args ? KIN_ETYPE : m != NULL && space < m->size ? KIN_EMSGSIZE : expected_get(m);
    void *data = bytes;
    bool anew = expected == KIN_OK && chance(4) == 0;
    check_fails(expected, anew ? kin_queue_get_new(queue, &data, &size, KIN_NOWAIT) : kin_queue_get(queue, bytes, space, &size, KIN_NOWAIT));
    if (m != NULL && !m->args)
        assert_int_equal(size, m->size);
    if (expected != KIN_OK)
        return;
    assert_true(queue_filled(data, size, m->id));
    if (anew)
        kin_free(data);
    got(m);
}

static void get_values(void)
{
    message *m = first_ready();
    kin_args *args;
    int64_t number;
    kin_err expected = m != NULL && !m->args ? KIN_ETYPE : expected_get(m);
    check_fails(expected, kin_queue_get_args(queue, &args, KIN_NOWAIT));
    if (expected != KIN_OK)
        return;
    check(kin_unpack(args, &number));
    kin_args_free(args);
    assert_int_equal(number, m->id);
    got(m);
}

static void get_many(void)
{
    message *m = first_ready();
    kin_view views[MANY];
    size_t count, most = 1 + chance(MANY), space = chance(2) ? sizeof bytes : chance(2000);
    kin_err expected = m != NULL && m->args ? KIN_ETYPE : m != NULL && space < m->size ? KIN_EMSGSIZE : expected_get(m);
    check_fails(expected, kin_queue_get_many(queue, bytes, space, views, most, &count, KIN_NOWAIT));
    if (expected == KIN_OK)
        assert_in_range(count, 1, most);
    else
        assert_int_equal(count, 0);
    for (size_t i = 0; i < count; i++) {
        m = first_ready();
        assert_non_null(m);
        assert_false(m->args);
        assert_int_equal(views[i].size, m->size);
        assert_true(queue_filled(views[i].data, m->size, m->id));
        got(m);
    }
}

/* ---- in place ---- */

static struct {
    kin_message at;
    uint32_t id;
    bool taken;
} hand[IN_HAND];
static uint32_t in_hand;

static void reserve(void)
{
    uint32_t size = any_size();
    kin_err expected = expected_put(size);
    if (in_hand == IN_HAND)
        return;
    check_fails(expected, kin_queue_reserve(queue, &hand[in_hand].at, size, KIN_NOWAIT));
    if (expected != KIN_OK)
        return;
    assert_int_equal(hand[in_hand].at.size, size);
    hand[in_hand].id = add(size, KIN__WRITING, false)->id;
    hand[in_hand].taken = false;
    queue_fill(hand[in_hand].at.data, size, hand[in_hand].id);
    in_hand++;
}

static void take(void)
{
    message *m = first_ready();
    kin_err expected = m != NULL && m->args ? KIN_ETYPE : expected_get(m);
    if (in_hand == IN_HAND)
        return;
    check_fails(expected, kin_queue_take(queue, &hand[in_hand].at, KIN_NOWAIT));
    if (expected != KIN_OK)
        return;
    assert_int_equal(hand[in_hand].at.size, m->size);
    assert_true(queue_filled(hand[in_hand].at.data, m->size, m->id));
    hand[in_hand].id = m->id;
    hand[in_hand].taken = true;
    m->state = KIN__TAKEN;
    in_hand++;
}

/* It becomes a dead process's; or what else can become of it. */
static void finish(void)
{
    if (in_hand == 0)
        return;
    uint32_t n = chance(in_hand);
    kin_message *at = &hand[n].at, before = *at;
    message *m = find(hand[n].id);
    bool back = chance(3) == 0;
    if (before.kin__m.mapping == 0 && chance(6) == 0) {
        kin__record *record = (kin__record *)(void *)(flow->data + at->kin__m.at);
        kin__store64(&record->state, kin__state(hand[n].taken ? KIN__TAKEN : KIN__WRITING, (uint32_t)(record->state >> 40), DEAD_PROCESS));
        kin__add32(&kin__my.session->epoch, 1);
        m->state = hand[n].taken ? KIN__READY : KIN__FINISHED;
    } else if (hand[n].taken) {
        assert_true(queue_filled(at->data, m->size, m->id));
        check(back ? kin_queue_give_back(queue, at) : kin_queue_done(queue, at));
        m->state = back ? KIN__READY : KIN__FINISHED;
    } else {
        check(back ? kin_queue_cancel(queue, at) : kin_queue_commit(queue, at));
        m->state = back ? KIN__FINISHED : KIN__READY;
    }
    check_fails(KIN_EINVAL, chance(2) ? kin_queue_done(queue, &before) : kin_queue_commit(queue, &before));
    hand[n] = hand[--in_hand];
    tidy();
}

/* ---- looking ---- */

static void look(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < model.count; i++)
        count += model.messages[i].state != KIN__FINISHED;
    switch (chance(3)) {
    case 0:
        assert_int_equal(kin_queue_size(queue), count);
        break;
    case 1:
        assert_int_equal(kin_queue_empty(queue), first_ready() == NULL);
        break;
    default:
        if (options.joinable)
            check_fails(count == 0 && model.got == 0 ? KIN_OK : KIN_ETIMEDOUT, kin_queue_join(queue, KIN_NOWAIT));
    }
}

static void deal_with(void)
{
    if (!options.joinable)
        return;
    check_fails(model.got != 0 ? KIN_OK : KIN_EPERM, kin_queue_task_done(queue));
    model.got -= model.got != 0;
}

/* ---- the walk ---- */

static uint32_t measure_values(void)
{
    kin_args *args;
    queue = queue_new((kin_queue_options){0});
    check(kin_queue_put_args(queue, KIN_ARGS((int64_t)1), KIN_NOWAIT));
    uint32_t size = kin__record_at(kin__queue_flow(queue, 0), 0)->size;
    check(kin_queue_get_args(queue, &args, KIN_NOWAIT));
    kin_args_free(args);
    kin_queue_close(queue);
    return size;
}

static void begin(void)
{
    options = (kin_queue_options){.capacity = (size_t)4096 << chance(3), .joinable = chance(4) == 0, .relaxed = chance(4) == 0};
    options.max_items = !options.relaxed && chance(4) == 0 ? 1 + chance(20) : 0;
    queue = queue_new(options);
    check(kin_queue_put(queue, NULL, 0, KIN_NOWAIT)); /* in a relaxed one it has a lane from then on */
    check(kin_queue_get(queue, NULL, 0, NULL, KIN_NOWAIT));
    if (options.joinable)
        check(kin_queue_task_done(queue));
    flow = kin__queue_flow(queue, options.relaxed ? 1 : 0);
    kin__ring *r = flow->ring;
    uint32_t start = 0u - chance(kin__flow_units(flow) * 2) + (chance(2) ? (uint32_t)1 << 31 : 0);
    r->head = r->tail = r->head_seen = r->tail_seen = r->next = (uint64_t)(0u - chance(300)) << 32 | start;
    memset(&model, 0, sizeof model);
    model.head = model.tail = start;
    model.units = kin__flow_units(flow);
    model.most_items = (uint32_t)options.max_items;
    in_hand = 0;
}

static void step(void)
{
    static void (*const steps[])(void) = {put, put, put, put_many, put_values, get, get, get, get_many, get_values, reserve, reserve, take,
                                          take, finish, finish, finish, finish, look, deal_with};
    steps[chance(sizeof steps / sizeof steps[0])]();
}

/* All that is left comes, in its order. */
static void end(void)
{
    check(kin_queue_shutdown(queue));
    model.shut = true;
    for (int i = 0; i < 50; i++)
        step();
    while (in_hand > 0)
        finish();
    while (first_ready() != NULL) {
        if (first_ready()->args)
            get_values();
        else
            get();
    }
    get();
    assert_int_equal(model.count, 0);
    assert_int_equal(kin_queue_size(queue), 0);
    assert_int_equal(kin__position(flow->ring->head), model.head);
    if (OS_BAG_HANDLES != 0)
        assert_int_equal(os_bag_oldest(flow->out), 0);
    kin_queue_close(queue);
}

static void walks(void **state)
{
    (void)state;
    uint32_t first = crash_seed();
    args_size = measure_values();
    int handles = 0;
    for (int i = 0; i < test_scale(WALKS, WALKS / 4); i++) {
        seed = first + (uint32_t)i;
        begin();
        for (int n = 0; n < STEPS; n++)
            step();
        end();
        if (i == 0)
            handles = test_count_handles();
    }
    assert_in_range(test_count_handles(), 0, handles);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(walks)};
    return cmocka_run_group_tests_name("queue walks", tests, NULL, NULL);
}
