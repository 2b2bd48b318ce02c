/* The process table: words, places, and what becomes of them when a process ends. The processes are made up. */
#include "crash_support.h"

#include "park.h"
#include "session.h"
#include "thread.h"

#include <stdlib.h>
#include <string.h>

static void words(void **state)
{
    (void)state;
    for (uint64_t generation = 0; generation <= 0xffffff; generation = generation * 3 + 1) {
        for (uint32_t s = KIN__FREE; s <= KIN__DEAD; s++) {
            uint64_t word = kin__word(generation, s, 0xdeadbeef);
            assert_true(kin__word_generation(word) == (uint32_t)generation);
            assert_true(kin__word_state(word) == s);
            assert_true(kin__word_low(word) == 0xdeadbeef);
        }
    }
    assert_true(kin__word_generation(kin__word(0x1000001, KIN__RUNNING, 5)) == 1); /* it wraps */
    for (uint32_t place = 0; place < KIN__PROCESSES; place += 89) {
        kin__pid id = kin__pid_of(place, 0xabcdef);
        assert_true(id != 0 && kin__pid_place(id) == place && kin__pid_generation(id) == 0xabcdef);
    }
}

/* As if a process `pid` ran in a place of its own. */
static kin__pid make_up(uint32_t state, uint32_t low, kin__pid parent, uint32_t flags)
{
    uint32_t place, generation;
    check(kin__place_take(&place, &generation));
    kin__process_info *info = &kin__my.session->info[place];
    kin__store64(&info->parent, parent);
    kin__store32(&info->flags, flags);
    (void)snprintf(info->name, sizeof info->name, "made up");
    if (state != KIN__STARTING)
        kin__store64(&kin__my.session->words[place], kin__word(generation, state, low));
    return kin__pid_of(place, generation);
}

static uint32_t state_of(kin__pid id)
{
    return kin__word_state(kin__process_word(id));
}

enum { NO_PID = 0x7ffffff0 }; /* larger than any system gives */

static void places(void **state)
{
    (void)state;
    int before = crash_places();
    kin__pid id = make_up(KIN__STARTING, 0, kin__my.id, 0);
    assert_int_equal(crash_places(), before + 1);
    assert_int_equal(state_of(id), KIN__STARTING);
    assert_true(kin__word_low(kin__process_word(id)) != 0); /* who asked */
    assert_false(kin__process_alive(id));
    assert_true(kin__place_free(id));
    assert_false(kin__place_free(id)); /* once */
    assert_int_equal(state_of(id), KIN__FREE);
    kin__pid next = make_up(KIN__STARTING, 0, kin__my.id, 0);
    assert_true(next != id); /* the same place, perhaps, but another generation */
    assert_false(kin__place_free(id));
    assert_int_equal(state_of(next), KIN__STARTING);
    uint64_t *word = &kin__my.session->words[kin__pid_place(next)];
    const uint32_t kept[] = {KIN__CLAIMED, KIN__RUNNING, KIN__DYING};
    for (size_t i = 0; i < 3; i++) {
        kin__store64(word, kin__word(kin__pid_generation(next), kept[i], NO_PID));
        assert_false(kin__place_free(next));
        assert_true(kin__process_alive(next) == (kept[i] != KIN__DYING));
    }
    kin__store64(word, kin__word(kin__pid_generation(next), KIN__DEAD, 0));
    assert_true(kin__place_free(next));
    assert_int_equal(crash_places(), before);
    assert_int_equal(state_of(0), KIN__FREE);
    assert_int_equal(state_of(UINT64_MAX), KIN__FREE);
    assert_int_equal(state_of(kin__pid_of(KIN__PROCESSES, 0)), KIN__FREE);
    assert_true(kin__process_alive(kin__my.id));
}

/* The thread places of a made up process. */
static uint64_t make_up_thread(kin__pid process)
{
    kin__session *s = kin__my.session;
    uint32_t i = KIN__THREADS - 1;
    while ((uint32_t)s->threads[i].claim != 0)
        i--;
    uint64_t claim = s->threads[i].claim | (kin__pid_generation(process) & 0xffff) << 16 | (kin__pid_place(process) + 1);
    kin__store64(&s->threads[i].claim, claim);
    kin__store32(&s->threads_used, KIN__THREADS);
    return (claim >> 32) << 32 | (uint64_t)(i + 1) << 1;
}

static void an_end(void **state)
{
    (void)state;
    int before = crash_places();
    kin__pid id = make_up(KIN__RUNNING, NO_PID, kin__my.id, 0), other = make_up(KIN__RUNNING, NO_PID + 1, kin__my.id, 0);
    uint64_t threads[3], others = make_up_thread(other);
    for (int i = 0; i < 3; i++)
        threads[i] = make_up_thread(id);
    assert_true(kin__owner_alive(threads[0]) && kin__owner_alive(others));
    kin_lock lock;
    check(kin_lock_init(&lock, NULL));
    lock.kin__o.word = threads[1];
    assert_true(kin__thread_me() != 0);
    check_fails(KIN_ETIMEDOUT, kin_lock_acquire(&lock, KIN_NOWAIT));
    kin__ended(id, 7);
    assert_int_equal(state_of(id), KIN__DEAD);
    assert_int_equal((int)kin__word_low(kin__process_word(id)), 7);
    for (int i = 0; i < 3; i++)
        assert_false(kin__owner_alive(threads[i]));
    assert_true(kin__owner_alive(others));
    check_fails(KIN_EOWNERDEAD, kin_lock_acquire(&lock, KIN_NOWAIT));
    check(kin_lock_release(&lock));
    kin__ended(id, 9); /* a second time changes nothing */
    assert_int_equal((int)kin__word_low(kin__process_word(id)), 7);
    assert_true(kin__place_free(id));
    kin__ended(other, -9);
    assert_int_equal((int)kin__word_low(kin__process_word(other)), -9);
    assert_true(kin__place_free(other));
    kin__ended(id, 3); /* long gone */
    assert_int_equal(crash_places(), before);
}

/* Whoever was burying it died: the next end that is noticed finishes it. */
static void a_burial_is_finished_by_another(void **state)
{
    (void)state;
    int before = crash_places();
    kin__pid half = make_up(KIN__DYING, 5, kin__my.id, 0), next = make_up(KIN__RUNNING, NO_PID, kin__my.id, 0);
    uint64_t thread = make_up_thread(half);
    assert_false(kin__owner_alive(thread)); /* from DYING on */
    kin__ended(next, 1);
    assert_int_equal(state_of(half), KIN__DEAD);
    assert_int_equal((int)kin__word_low(kin__process_word(half)), 5);
    assert_true((uint32_t)kin__my.session->threads[kin__owner_place(thread)].claim == 0);
    assert_true(kin__place_free(half));
    assert_true(kin__place_free(next));
    assert_int_equal(crash_places(), before);
}

static void children_of_a_dead_parent(void **state)
{
    (void)state;
    int before = crash_places();
    kin__pid parent = make_up(KIN__RUNNING, NO_PID, kin__my.id, 0);
    kin__pid asked = make_up(KIN__STARTING, 0, parent, 0), ended = make_up(KIN__DEAD, 3, parent, 0);
    kin__pid lives = make_up(KIN__RUNNING, NO_PID + 1, parent, 0), strangers = make_up(KIN__STARTING, 0, kin__my.id, 0);
    /* The request names its starter. */
    uint32_t by = (kin__pid_generation(parent) & 0xffff) << 16 | (kin__pid_place(parent) + 1);
    kin__store64(&kin__my.session->words[kin__pid_place(asked)], kin__word(kin__pid_generation(asked), KIN__STARTING, by));
    kin__ended(parent, 0);
    assert_int_equal(state_of(parent), KIN__DEAD);
    assert_int_equal(state_of(asked), KIN__FREE);   /* withdrawn */
    assert_int_equal(state_of(ended), KIN__FREE);   /* nobody will ask */
    assert_int_equal(state_of(lives), KIN__RUNNING);/* no daemon */
    assert_int_equal(state_of(strangers), KIN__STARTING);
    kin__ended(lives, 4);
    assert_int_equal(state_of(lives), KIN__FREE); /* its parent is dead */
    assert_true(kin__place_free(strangers));
    assert_true(kin__place_free(parent));
    assert_int_equal(crash_places(), before);
}

static void a_detached_child_leaves_nothing(void **state)
{
    (void)state;
    int before = crash_places();
    kin__pid id = make_up(KIN__CLAIMED, NO_PID, kin__my.id, 0);
    kin__store32(&kin__my.session->info[kin__pid_place(id)].detached, 1);
    kin__ended(id, 0);
    assert_int_equal(state_of(id), KIN__FREE);
    assert_int_equal(crash_places(), before);
}

static void claims(void **state)
{
    (void)state;
    kin__pid id = make_up(KIN__STARTING, 0, kin__my.id, 0);
    uint32_t place = kin__pid_place(id), generation = kin__pid_generation(id);
    assert_false(kin__claim(place, generation + 1, NO_PID, 1)); /* withdrawn, and the place is another's */
    assert_false(kin__claim(KIN__PROCESSES, generation, NO_PID, 1));
    assert_true(kin__claim(place, generation, NO_PID, 1));
    assert_false(kin__claim(place, generation, NO_PID + 1, 1)); /* of two, one */
    assert_int_equal(state_of(id), KIN__CLAIMED);
    assert_true(kin__word_low(kin__process_word(id)) == NO_PID);
    kin__ended(id, 255);
    assert_true(kin__place_free(id));
    id = make_up(KIN__STARTING, 0, kin__my.id, 0);
    kin__refused(kin__pid_place(id), kin__pid_generation(id) + 1, KIN_ENOMEM, "not this one");
    assert_int_equal(state_of(id), KIN__STARTING);
    kin__refused(kin__pid_place(id), kin__pid_generation(id), KIN_ENOMEM, "no memory at all");
    assert_int_equal(state_of(id), KIN__DEAD);
    assert_int_equal(kin__my.session->info[kin__pid_place(id)].refused, KIN_ENOMEM);
    assert_string_equal(kin__my.session->info[kin__pid_place(id)].why, "no memory at all");
    assert_true(kin__place_free(id));
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void numbers_are_unique(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    uint64_t *numbers = malloc(COUNT * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < COUNT; i++)
        numbers[i] = kin__unique();
    qsort(numbers, COUNT, sizeof *numbers, compare);
    assert_true(numbers[0] != 0);
    for (size_t i = 1; i < COUNT; i++)
        assert_true(numbers[i] != numbers[i - 1]);
    free(numbers);
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK) {
        (void)fprintf(stderr, "%s\n", kin_last_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(places),
        cmocka_unit_test(an_end),
        cmocka_unit_test(a_burial_is_finished_by_another),
        cmocka_unit_test(children_of_a_dead_parent),
        cmocka_unit_test(a_detached_child_leaves_nothing),
        cmocka_unit_test(claims),
        cmocka_unit_test(numbers_are_unique),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
