#include "queue_support.h"

kin_queue *queue_new(kin_queue_options options)
{
    kin_queue *queue;
    check(kin_queue_create(&queue, &options));
    return queue;
}

void queue_fill(void *bytes, size_t size, uint32_t seed)
{
    unsigned char *at = bytes;
    uint32_t word = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        at[i] = (unsigned char)(word >> 24);
        word = word * 1664525u + 1013904223u;
    }
}

bool queue_filled(const void *bytes, size_t size, uint32_t seed)
{
    const unsigned char *at = bytes;
    uint32_t word = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        if (at[i] != (unsigned char)(word >> 24))
            return false;
        word = word * 1664525u + 1013904223u;
    }
    return true;
}

void queue_put_number(kin_queue *queue, int64_t number)
{
    check(kin_queue_put(queue, &number, sizeof number, KIN_NOWAIT));
}

int64_t queue_get_number(kin_queue *queue)
{
    int64_t number = INT64_MIN;
    size_t size = 0;
    check(kin_queue_get(queue, &number, sizeof number, &size, KIN_NOWAIT));
    assert_int_equal(size, sizeof number);
    return number;
}

bool queue_send(kin_queue *queue, int64_t number)
{
    return kin_queue_put(queue, &number, sizeof number, test_ms(20000)) == KIN_OK;
}

bool queue_receive(kin_queue *queue, int64_t *number)
{
    size_t size = 0;
    return kin_queue_get(queue, number, sizeof *number, &size, test_ms(20000)) == KIN_OK && size == sizeof *number;
}

void queue_check_usable(kin_queue *queue)
{
    char byte;
    assert_true(kin_queue_empty(queue));
    assert_int_equal(kin_queue_size(queue), 0);
    assert_false(kin_queue_full(queue, 8));
    check_fails(KIN_EEMPTY, kin_queue_get(queue, &byte, 1, NULL, KIN_NOWAIT));
    check_fails(KIN_ETIMEDOUT, kin_queue_get(queue, &byte, 1, NULL, 1));
    queue_put_number(queue, 4711);
    assert_false(kin_queue_empty(queue));
    assert_int_equal(kin_queue_size(queue), 1);
    assert_int_equal(queue_get_number(queue), 4711);
    assert_true(kin_queue_empty(queue));
}
