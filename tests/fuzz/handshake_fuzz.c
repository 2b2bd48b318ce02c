/* The handshake in both roles: kin__auth_give with any messages at any step, among them those that an honest peer would send.
 *
 * Input: the role (0: connects, else: listens), which call of the system's fails (0: none), then messages: what (below), and for those
 * that need it a size (16 bits) with as many bytes, or a place and bits to change there. */
#include "fuzz.h"

#include "auth.h"

enum { BYTES, RIGHT, ALMOST, KINDS };

typedef struct peer {
    kin__auth auth;
    uint8_t message[KIN__AUTH_MESSAGE];
    size_t size;
} peer;

static kin__key the_key(void)
{
    static kin__key key;
    if (key.size == 0)
        FUZZ_CHECK(kin__key_make(&key, "secret", 6) == KIN_OK);
    return key;
}

/* What an honest peer sends next, if it is its turn. */
static bool speak(peer *honest)
{
    if (kin__auth_next_step(&honest->auth) != KIN__AUTH_SEND)
        return false;
    kin__auth_take(&honest->auth, honest->message, &honest->size);
    return true;
}

/* Whether the message is the one proof of the key for the challenge of `auth`. */
static bool is_proof(const kin__auth *auth, const uint8_t *message, size_t size)
{
    uint8_t mac[KIN__HMAC_SIZE];
    kin__key key = the_key();
    FUZZ_CHECK(kin__hmac(&key, auth->challenge, sizeof auth->challenge, mac) == KIN_OK);
    return size == 8 + sizeof mac && memcmp(message, "{sha256}", 8) == 0 && memcmp(message + 8, mac, sizeof mac) == 0;
}

/* Gives a message, and checks what it changed. */
static void give(kin__auth *auth, const uint8_t *message, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, message, size);
    bool proved = auth->proved, expected = kin__auth_next_step(auth) == KIN__AUTH_RECEIVE;
    kin_err err = kin__auth_give(auth, copy, size);
    free(copy);
    kin__auth_next next = kin__auth_next_step(auth);
    if (fuzz_ok(err)) {
        FUZZ_CHECK(expected && size <= KIN__AUTH_MESSAGE && (next == KIN__AUTH_SEND || next == KIN__AUTH_DONE));
    } else {
        FUZZ_CHECK(err == KIN_EAUTH || err == KIN_EIO || err == KIN_ENOMEM);
        FUZZ_CHECK(next == KIN__AUTH_FAILED || next == KIN__AUTH_SEND);
    }
    kin__fault_arm(0);
    FUZZ_CHECK(auth->proved == (proved || (err == KIN_OK && auth->proved)));
    if (auth->proved && !proved)
        FUZZ_CHECK(is_proof(auth, message, size));
    FUZZ_CHECK(next != KIN__AUTH_DONE || auth->proved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ours[KIN__AUTH_RANDOM] = "the random bytes of the tested  ";
    static const uint8_t theirs[KIN__AUTH_RANDOM] = "and of an honest peer: others   ";
    fuzz_input in = {data, size};
    kin__key probe;
    if (kin__key_make(&probe, "x", 1) == KIN_ENOTSUP)
        return 0; /* built without Mbed TLS */
    kin__key key = the_key();
    bool server = fuzz_u8(&in) != 0, failed = false;
    uint8_t fault = fuzz_u8(&in);
    kin__auth auth;
    peer honest;
    kin__auth_begin(&auth, server, &key, ours);
    kin__auth_begin(&honest.auth, !server, &key, theirs);
    while (in.left > 0) {
        while (kin__auth_next_step(&auth) == KIN__AUTH_SEND) {
            uint8_t message[KIN__AUTH_MESSAGE];
            size_t length;
            kin__auth_take(&auth, message, &length);
            FUZZ_CHECK(length > 0 && length <= KIN__AUTH_MESSAGE);
            FUZZ_CHECK(!failed || kin__auth_next_step(&auth) == KIN__AUTH_FAILED);
            (void)kin__auth_give(&honest.auth, message, length);
        }
        uint8_t what = (uint8_t)(fuzz_u8(&in) % KINDS);
        if (what == BYTES) {
            size_t length = fuzz_u16(&in) % 600;
            uint8_t *bytes = fuzz_block(&in, &length);
            kin__fault_arm(fault);
            give(&auth, bytes, length);
            free(bytes);
        } else if (speak(&honest)) {
            if (what == ALMOST) {
                uint8_t at = fuzz_u8(&in);
                honest.message[at % honest.size] ^= fuzz_u8(&in);
            }
            kin__fault_arm(fault);
            give(&auth, honest.message, honest.size);
        }
        failed = failed || kin__auth_next_step(&auth) == KIN__AUTH_FAILED;
        FUZZ_CHECK(!failed || kin__auth_next_step(&auth) == KIN__AUTH_FAILED); /* there is no way back */
    }
    kin__fault_arm(0);
    kin__auth_end(&auth);
    kin__auth_end(&honest.auth);
    FUZZ_CHECK(kin__auth_next_step(&auth) == KIN__AUTH_FAILED);
    return 0;
}
