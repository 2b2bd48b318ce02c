/* HMAC-SHA-256 against the vectors of RFC 4231, and the handshake: both roles, every step with every kind of message. */
#include "auth.h"
#include "support.h"

#include "fault.h"

#include <stdlib.h>
#include <string.h>

static bool without(void)
{
    kin__key key;
    return kin__key_make(&key, "k", 1) == KIN_ENOTSUP;
}
#define NEEDS_DIGEST                                                                                                   \
    if (without())                                                                                                     \
        test_skip("kin was built without Mbed TLS");

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t n = 0;
    for (; hex[0] != 0; hex += 2) {
        char pair[3] = {hex[0], hex[1], 0};
        bytes[n++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

typedef struct vector {
    uint8_t key_byte;
    size_t key_size; /* of that byte; 0: key_hex */
    const char *key_hex;
    const char *data; /* text, or NULL: 50 bytes of data_byte */
    uint8_t data_byte;
    const char *mac; /* hexadecimal */
} vector;

/* RFC 4231, sections 4.2 to 4.8, but for 4.6, which is about shortened digests. */
static const vector vectors[] = {
    {0x0b, 20, NULL, "Hi There", 0, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {0, 0, "4a656665", "what do ya want for nothing?", 0,
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {0xaa, 20, NULL, NULL, 0xdd, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {0, 0, "0102030405060708090a0b0c0d0e0f10111213141516171819", NULL, 0xcd,
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {0xaa, 131, NULL, "Test Using Larger Than Block-Size Key - Hash Key First", 0,
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {0xaa, 131, NULL,
     "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed "
     "before "
     "being used by the HMAC algorithm.",
     0, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

static void known_answers(void **state)
{
    (void)state;
    NEEDS_DIGEST
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const vector *v = &vectors[i];
        uint8_t bytes[256], mac[32], found[32], data[256];
        size_t size = v->key_size, length = v->data != NULL ? strlen(v->data) : 50;
        memset(bytes, v->key_byte, sizeof bytes);
        if (size == 0)
            size = from_hex(v->key_hex, bytes);
        memset(data, v->data_byte, sizeof data);
        if (v->data != NULL)
            memcpy(data, v->data, length);
        assert_int_equal(from_hex(v->mac, mac), 32);
        kin__key key;
        check(kin__key_make(&key, bytes, size));
        check(kin__hmac(&key, data, length, found));
        assert_memory_equal(found, mac, 32);
        bool same;
        check(kin__hmac_check(&key, data, length, mac, &same));
        assert_true(same);
        for (int bit = 0; bit < 256; bit += 15) {
            mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
            check(kin__hmac_check(&key, data, length, mac, &same));
            assert_false(same);
            mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        kin__key_forget(&key);
        assert_int_equal(key.size, 0);
        for (size_t j = 0; j < sizeof key.bytes; j++)
            assert_int_equal(key.bytes[j], 0);
    }
}

static void keys_of_any_size(void **state)
{
    (void)state;
    NEEDS_DIGEST
    static const size_t sizes[] = {1, 31, 32, 63, 64, 65, 8191, 8192, 65536, 1 << 20};
    uint8_t *bytes = malloc(1 << 20), last[32] = {0}, mac[32];
    assert_non_null(bytes);
    memset(bytes, 7, 1 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        kin__key key;
        check(kin__key_make(&key, bytes, sizes[i]));
        check(kin__hmac(&key, "data", 4, mac));
        assert_memory_not_equal(mac, last, 32);
        memcpy(last, mac, 32);
    }
    free(bytes);
}

/* ---- the handshake ---- */

static const uint8_t nonce_a[KIN__AUTH_RANDOM] = "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDD";
static const uint8_t nonce_b[KIN__AUTH_RANDOM] = "bbbbbbbbbbccccccccccddddddddddee";

static kin__key key_of(const char *text)
{
    kin__key key;
    check(kin__key_make(&key, text, strlen(text)));
    return key;
}

typedef struct message {
    uint8_t bytes[300];
    size_t size;
} message;

static message taken(kin__auth *a)
{
    message m;
    assert_int_equal(kin__auth_next_step(a), KIN__AUTH_SEND);
    kin__auth_take(a, m.bytes, &m.size);
    return m;
}

/* Runs two against each other; the messages in order, at most 6. */
static size_t converse(kin__auth *server, kin__auth *client, message *said)
{
    size_t n = 0;
    kin__auth *both[2] = {server, client};
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < 2; i++) {
            if (kin__auth_next_step(both[i]) != KIN__AUTH_SEND)
                continue;
            assert_true(n < 6);
            said[n] = taken(both[i]);
            (void)kin__auth_give(both[1 - i], said[n].bytes, said[n].size);
            n++;
            moved = true;
        }
    }
    return n;
}

static void both_know_the_key(void **state)
{
    (void)state;
    NEEDS_DIGEST
    kin__key key = key_of("secret");
    kin__auth server, client;
    message said[6];
    kin__auth_begin(&server, true, &key, nonce_a);
    kin__auth_begin(&client, false, &key, nonce_b);
    assert_int_equal(kin__auth_next_step(&client), KIN__AUTH_RECEIVE);
    assert_int_equal(converse(&server, &client, said), 6);
    assert_int_equal(kin__auth_next_step(&server), KIN__AUTH_DONE);
    assert_int_equal(kin__auth_next_step(&client), KIN__AUTH_DONE);
    assert_true(server.proved && client.proved);

    /* What Python says with these random bytes, to the byte. */
    uint8_t mac[32];
    assert_int_equal(said[0].size, 59);
    assert_memory_equal(said[0].bytes, "#CHALLENGE#{sha256}listenerAAAAAAAAAABBBBBBBBBBCCCCCCCCCCDD", 59);
    assert_int_equal(said[1].size, 40);
    assert_memory_equal(said[1].bytes, "{sha256}", 8);
    assert_int_equal(from_hex("0bbd60425dccc0c39a1d591dd37fbb15afa05a8ad30178dcef2da736fa3077cf", mac), 32);
    assert_memory_equal(said[1].bytes + 8, mac, 32);
    assert_int_equal(said[2].size, 9);
    assert_memory_equal(said[2].bytes, "#WELCOME#", 9);
    assert_memory_equal(said[3].bytes, "#CHALLENGE#{sha256}connectsbbbbbbbbbbccccccccccddddddddddee", 59);
    assert_int_equal(said[4].size, 40);
    assert_int_equal(from_hex("d5c6c7c942e22f4d082df34d39f484e229cb95204f387cb0d0209649da350f3e", mac), 32);
    assert_memory_equal(said[4].bytes + 8, mac, 32);
    assert_memory_equal(said[5].bytes, "#WELCOME#", 9);

    kin__auth_end(&server);
    assert_int_equal(server.key.size, 0);
    assert_int_equal(kin__auth_next_step(&server), KIN__AUTH_FAILED);
}

static void another_key(void **state)
{
    (void)state;
    NEEDS_DIGEST
    kin__key key = key_of("secret"), other = key_of("Secret");
    kin__auth server, client;
    message said[6];
    kin__auth_begin(&server, true, &key, nonce_a);
    kin__auth_begin(&client, false, &other, nonce_b);
    assert_int_equal(converse(&server, &client, said), 3);
    assert_int_equal(said[2].size, 9);
    assert_memory_equal(said[2].bytes, "#FAILURE#", 9);
    assert_int_equal(kin__auth_next_step(&server), KIN__AUTH_FAILED);
    assert_int_equal(kin__auth_next_step(&client), KIN__AUTH_FAILED);
    assert_false(server.proved || client.proved);
}

/* ---- every step with every kind of message ---- */

enum { BY_SERVER_1, BY_SERVER_2, BY_SERVER_3, BY_CLIENT_1, BY_CLIENT_2, BY_CLIENT_3, STEPS };

/* A side that waits for its first, second or third message of the conversation, and the message that it waits for. */
static kin__auth side_at(int step, message *right)
{
    kin__key key = key_of("secret");
    kin__auth server, client;
    kin__auth_begin(&server, true, &key, nonce_a);
    kin__auth_begin(&client, false, &key, nonce_b);
    bool of_server = step < BY_CLIENT_1;
    int wanted = (of_server ? step : step - BY_CLIENT_1) + 1;
    for (int received[2] = {0, 0};;) {
        for (int i = 0; i < 2; i++) {
            kin__auth *from = i == 0 ? &server : &client, *to = i == 0 ? &client : &server;
            if (kin__auth_next_step(from) != KIN__AUTH_SEND)
                continue;
            *right = taken(from);
            if (of_server == (i == 1) && ++received[i] == wanted)
                return *to;
            check(kin__auth_give(to, right->bytes, right->size));
        }
    }
}

static message text(const char *bytes, size_t size)
{
    message m = {.size = size};
    memcpy(m.bytes, bytes, size);
    return m;
}

/* Gives a copy of the side a message; whether it was what it waited for, and what follows. */
static bool accepts(const kin__auth *side, const message *m)
{
    kin__auth a = *side;
    kin_err err = kin__auth_give(&a, m->bytes, m->size);
    if (err == KIN_OK) {
        assert_true(kin__auth_next_step(&a) == KIN__AUTH_SEND || kin__auth_next_step(&a) == KIN__AUTH_DONE);
        return true;
    }
    assert_int_equal(err, KIN_EAUTH);
    assert_true(kin_last_error()[0] != 0);
    if (kin__auth_next_step(&a) == KIN__AUTH_SEND) { /* it may say so, once */
        message last = taken(&a);
        assert_int_equal(last.size, 9);
        assert_memory_equal(last.bytes, "#FAILURE#", 9);
    }
    assert_int_equal(kin__auth_next_step(&a), KIN__AUTH_FAILED);
    /* And it stays so, whatever comes. */
    assert_int_equal(kin__auth_give(&a, "#WELCOME#", 9), KIN_EAUTH);
    assert_int_equal(kin__auth_next_step(&a), KIN__AUTH_FAILED);
    return false;
}

static bool awaits_challenge(int step) { return step == BY_SERVER_2 || step == BY_CLIENT_1; }
static bool awaits_verdict(int step) { return step == BY_SERVER_3 || step == BY_CLIENT_2; }

static void every_message_at_every_step(void **state)
{
    (void)state;
    NEEDS_DIGEST
    message right[STEPS];
    kin__auth sides[STEPS];
    for (int i = 0; i < STEPS; i++)
        sides[i] = side_at(i, &right[i]);
    for (int i = 0; i < STEPS; i++) {
        const kin__auth *side = &sides[i];
        assert_int_equal(kin__auth_next_step(side), KIN__AUTH_RECEIVE);
        for (int j = 0; j < STEPS; j++) {
            bool fits = i == j || (awaits_verdict(i) && awaits_verdict(j)); /* and no challenge of its own kind */
            assert_int_equal(accepts(side, &right[j]), fits);
        }
        /* The right one, cut short, made longer, or with one bit wrong. */
        for (size_t n = 0; n < right[i].size; n++) {
            message m = right[i];
            m.size = n;
            bool enough =
                awaits_challenge(i) && n >= 11 + 8 + 20; /* as many random bytes as the other side likes, from 20 */
            assert_int_equal(accepts(side, &m), enough);
            m = right[i];
            m.bytes[n] ^= 1;
            assert_int_equal(accepts(side, &m), awaits_challenge(i) && n >= 11 + 8);
        }
        message m = right[i];
        m.bytes[m.size++] = 'x';
        assert_int_equal(accepts(side, &m), awaits_challenge(i));
        m.size = 256;
        assert_int_equal(accepts(side, &m), awaits_challenge(i));
        m.size = 257;
        assert_false(accepts(side, &m));
        message others[] = {
            text("", 0),
            text("#FAILURE#", 9),
            text("#CHALLENGE#", 11),
            text("#CHALLENGE#{sha256}", 19),
            text("#CHALLENGE#01234567890123456789", 31), /* of Python up to 3.11 */
            text("#CHALLENGE#{sha256}012345678901", 31), /* would be taken for that */
            text("#CHALLENGE#{md5}0123456789012345678901234567890123456789", 56),
            text("#CHALLENGE#{sha384}0123456789012345678901234567890123456789", 59),
            text("#CHALLENGE#{SHA256}0123456789012345678901234567890123456789", 59),
            text("0123456789abcdef", 16), /* MD5, without a name */
            text("01234567890123456789", 20),
            text("{md5}0123456789abcdef", 21),
            text("{sha256}", 8),
            text("{sha384}012345678901234567890123456789012345678901234567", 56),
            text("{sha256}01234567890123456789012345678901", 40),
            text("{sha256}0123456789012345678901234567890", 39),
            text("#welcome#", 9),
            text("#WELCOME#\0", 10),
            text("GET / HTTP/1.1\r\n\r\n", 18),
        };
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++)
            assert_false(accepts(side, &others[j]));
    }
}

static void out_of_turn(void **state)
{
    (void)state;
    NEEDS_DIGEST
    kin__key key = key_of("secret");
    kin__auth a;
    kin__auth_begin(&a, true, &key, nonce_a);
    assert_int_equal(kin__auth_next_step(&a), KIN__AUTH_SEND);
    check_fails(KIN_EAUTH, kin__auth_give(&a, "#WELCOME#", 9)); /* before anything was asked */
    assert_int_equal(kin__auth_next_step(&a), KIN__AUTH_FAILED);
    uint8_t bytes[KIN__AUTH_MESSAGE];
    size_t size = 1;
    kin__auth_take(&a, bytes, &size);
    assert_int_equal(size, 0);
}

/* Its own challenge sent back at it gains nobody anything. */
static void reflection(void **state)
{
    (void)state;
    NEEDS_DIGEST
    kin__key key = key_of("secret");
    kin__auth server;
    kin__auth_begin(&server, true, &key, nonce_a);
    message challenge = taken(&server);
    check_fails(KIN_EAUTH, kin__auth_give(&server, challenge.bytes, challenge.size));
    message verdict = taken(&server);
    assert_memory_equal(verdict.bytes, "#FAILURE#", 9);
    assert_false(server.proved);

    /* Nor that of another which connects, to one that connects; nor of a listener to a listener. */
    for (int i = 0; i < 2; i++) {
        message right, asked;
        kin__auth side = side_at(i == 0 ? BY_CLIENT_1 : BY_SERVER_2, &right), other;
        (void)side_at(i == 0 ? BY_SERVER_2 : BY_CLIENT_1, &asked);
        assert_true(accepts(&side, &right));
        assert_false(accepts(&side, &asked));
        check_fails(KIN_EAUTH, (other = side, kin__auth_give(&other, asked.bytes, asked.size)));
        check_says("somebody else's");
    }
}

static void digest_fails(void **state)
{
    (void)state;
    NEEDS_DIGEST
    message right;
    kin__key key;
    for (int i = 0; i < STEPS; i++) {
        if (awaits_verdict(i))
            continue;
        for (int n = 1; n <= 2; n++) { /* psa_crypto_init, psa_import_key */
            kin__auth side = side_at(i, &right);
            kin__fault_arm(n);
            kin_err err = kin__auth_give(&side, right.bytes, right.size);
            assert_true(err == KIN_EIO || err == KIN_ENOMEM);
            assert_non_null(kin__fault_hit());
            assert_int_equal(kin__auth_next_step(&side),
                             KIN__AUTH_FAILED); /* and the other side is not told that its key is wrong */
            assert_false(i == BY_SERVER_1 && side.proved);
        }
    }
    kin__fault_arm(1);
    check_fails(KIN_EIO, kin__key_make(&key, "secret", 6));
    kin__fault_arm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(keys_of_any_size),
        cmocka_unit_test(both_know_the_key),
        cmocka_unit_test(another_key),
        cmocka_unit_test(every_message_at_every_step),
        cmocka_unit_test(out_of_turn),
        cmocka_unit_test(reflection),
        cmocka_unit_test(digest_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
