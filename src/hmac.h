/* HMAC-SHA-256 (RFC 2104), by Mbed TLS through PSA: the only place of kin's that knows it. Built without it, everything here
 * is KIN_ENOTSUP. PSA's own store of keys is not made for several threads: kin's calls exclude each other; a program that
 * uses PSA itself while connections are made must have an Mbed TLS that is. */
#ifndef KIN_SRC_HMAC_H
#define KIN_SRC_HMAC_H

#include "kin/base.h"

#define KIN__HMAC_SIZE 32u
#define KIN__HMAC_BLOCK 64u

/* A key as HMAC uses it: a longer one is its digest. */
typedef struct kin__key {
    uint8_t bytes[KIN__HMAC_BLOCK];
    size_t size; /* at least 1 */
} kin__key;

/* Of any size but 0. */
kin_err kin__key_make(kin__key *key, const void *bytes, size_t size);
/* Overwrites it. */
void kin__key_forget(kin__key *key);

kin_err kin__hmac(const kin__key *key, const void *data, size_t size, uint8_t mac[KIN__HMAC_SIZE]);
/* Whether `mac` is that of the data; takes as long wherever they differ. */
kin_err kin__hmac_check(const kin__key *key, const void *data, size_t size, const uint8_t mac[KIN__HMAC_SIZE], bool *same);

#endif
