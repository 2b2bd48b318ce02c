/* HMAC-SHA-256 on PSA. A key is imported for each use and destroyed again, so that nothing of it stays behind; who fails
 * says which call of PSA's failed, and never what it was given. */
#include "hmac.h"

#include "error.h"
#include "fault.h"

#include <string.h>

void kin__key_forget(kin__key *key)
{
    volatile uint8_t *p = (volatile uint8_t *)key;
    for (size_t i = 0; i < sizeof *key; i++)
        p[i] = 0;
}

#if defined(KIN_HAS_MBEDTLS)

#include <psa/crypto.h>
#include <uv.h>

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t mutex;
static bool usable;

static void make_mutex(void)
{
    usable = uv_mutex_init(&mutex) == 0;
}

static kin_err failed(psa_status_t status, const char *call)
{
    kin_err err = status == PSA_ERROR_INSUFFICIENT_MEMORY ? KIN_ENOMEM : KIN_EIO;
    return kin__fail(err, "cannot compute a digest [%s, error %ld]", call, (long)status);
}

/* PSA is begun (once is enough, twice does no harm), and the caller's alone until leave. */
static kin_err enter(void)
{
    uv_once(&once, make_mutex);
    if (!usable)
        return kin__fail(KIN_ENOMEM, "no memory for a mutex");
    uv_mutex_lock(&mutex);
    psa_status_t status = KIN_FAULT("psa_crypto_init") ? PSA_ERROR_INSUFFICIENT_ENTROPY : psa_crypto_init();
    if (status == PSA_SUCCESS)
        return KIN_OK;
    uv_mutex_unlock(&mutex);
    return failed(status, "psa_crypto_init");
}

static void leave(void)
{
    uv_mutex_unlock(&mutex);
}

kin_err kin__key_make(kin__key *key, const void *bytes, size_t size)
{
    kin_err err = enter();
    if (err != KIN_OK)
        return err;
    memset(key, 0, sizeof *key);
    psa_status_t status = PSA_SUCCESS;
    if (size <= sizeof key->bytes) {
        memcpy(key->bytes, bytes, size);
        key->size = size;
    } else {
        status = psa_hash_compute(PSA_ALG_SHA_256, bytes, size, key->bytes, sizeof key->bytes, &key->size);
    }
    leave();
    return status == PSA_SUCCESS ? KIN_OK : failed(status, "psa_hash_compute");
}

static psa_status_t import(const kin__key *key, psa_key_id_t *id)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_HMAC);
    psa_set_key_algorithm(&attributes, PSA_ALG_HMAC(PSA_ALG_SHA_256));
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_SIGN_MESSAGE | PSA_KEY_USAGE_VERIFY_MESSAGE);
    return KIN_FAULT("psa_import_key") ? PSA_ERROR_INSUFFICIENT_MEMORY : psa_import_key(&attributes, key->bytes, key->size, id);
}

kin_err kin__hmac(const kin__key *key, const void *data, size_t size, uint8_t mac[KIN__HMAC_SIZE])
{
    kin_err err = enter();
    if (err != KIN_OK)
        return err;
    psa_key_id_t id;
    size_t length;
    psa_status_t status = import(key, &id);
    if (status != PSA_SUCCESS) {
        err = failed(status, "psa_import_key");
    } else {
        status = psa_mac_compute(id, PSA_ALG_HMAC(PSA_ALG_SHA_256), data, size, mac, KIN__HMAC_SIZE, &length);
        if (status != PSA_SUCCESS || length != KIN__HMAC_SIZE)
            err = failed(status, "psa_mac_compute");
        (void)psa_destroy_key(id);
    }
    leave();
    return err;
}

kin_err kin__hmac_check(const kin__key *key, const void *data, size_t size, const uint8_t mac[KIN__HMAC_SIZE], bool *same)
{
    *same = false;
    kin_err err = enter();
    if (err != KIN_OK)
        return err;
    psa_key_id_t id;
    psa_status_t status = import(key, &id);
    if (status != PSA_SUCCESS) {
        err = failed(status, "psa_import_key");
    } else {
        status = psa_mac_verify(id, PSA_ALG_HMAC(PSA_ALG_SHA_256), data, size, mac, KIN__HMAC_SIZE);
        if (status != PSA_SUCCESS && status != PSA_ERROR_INVALID_SIGNATURE)
            err = failed(status, "psa_mac_verify");
        *same = status == PSA_SUCCESS;
        (void)psa_destroy_key(id);
    }
    leave();
    return err;
}

#else

static kin_err missing(void)
{
    return kin__fail(KIN_ENOTSUP, "kin was built without Mbed TLS: there are no connections that prove a key");
}

kin_err kin__key_make(kin__key *key, const void *bytes, size_t size)
{
    (void)key, (void)bytes, (void)size;
    return missing();
}

kin_err kin__hmac(const kin__key *key, const void *data, size_t size, uint8_t mac[KIN__HMAC_SIZE])
{
    (void)key, (void)data, (void)size, (void)mac;
    return missing();
}

kin_err kin__hmac_check(const kin__key *key, const void *data, size_t size, const uint8_t mac[KIN__HMAC_SIZE], bool *same)
{
    (void)key, (void)data, (void)size, (void)mac, (void)same;
    return missing();
}

#endif
