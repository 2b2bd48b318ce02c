/* Reading and writing the addresses of listeners. */
#include "address.h"

#include "error.h"

#include <string.h>

#define TCP "tcp:"
#define PIPE "\\\\.\\pipe\\"

static kin_err wrong(const char *text, const char *why)
{
    return kin__fail(KIN_EINVAL, "the address '%.200s': %s", text, why);
}

static bool is_path(const char *text)
{
    return OS_WINDOWS ? strncmp(text, PIPE, strlen(PIPE)) == 0 : text[0] == '/' || strncmp(text, "./", 2) == 0;
}

static kin_err parse_name(kin__address *address, const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t length = strlen(text);
    if (strspn(text, letters) != length)
        return wrong(text, OS_WINDOWS ? "a name has letters, digits, '-', '_' and '.' only; a pipe is \\\\.\\pipe\\name, TCP is tcp:host:port"
                                      : "a name has letters, digits, '-', '_' and '.' only; a path begins with / or ./, TCP is tcp:host:port");
    if (length == 0 || length > KIN__NAME_MOST || text[0] == '.')
        return wrong(text, "a local name has 1 to 64 bytes and does not begin with a '.'");
    address->os.kind = OS_ADDRESS_NAME;
    (void)snprintf(address->text, sizeof address->text, "%s", text);
    return KIN_OK;
}

static kin_err parse_port(kin__address *address, const char *text, const char *digits)
{
    uint32_t port = 0;
    size_t n = strspn(digits, "0123456789");
    for (size_t i = 0; i < n && i < 6; i++)
        port = port * 10 + (uint32_t)(digits[i] - '0');
    if (n == 0 || n > 5 || digits[n] != 0 || port > UINT16_MAX)
        return wrong(text, "a port is a number from 0 to 65535");
    address->os.port = (uint16_t)port;
    return KIN_OK;
}

static kin_err parse_tcp(kin__address *address, const char *text)
{
    const char *host = text + strlen(TCP);
    address->brackets = host[0] == '[';
    const char *end = address->brackets ? strchr(host, ']') : strrchr(host, ':');
    if (end == NULL || (address->brackets && end[1] != ':'))
        return wrong(text, "TCP is written tcp:host:port");
    host += address->brackets;
    size_t length = (size_t)(end - host);
    if (length == 0)
        return wrong(text, "the host is missing; 0.0.0.0 stands for all that this machine has");
    if (length >= KIN__ADDRESS_SIZE - 16)
        return wrong(text, "the host is too long");
    if (!address->brackets && memchr(host, ':', length) != NULL)
        return wrong(text, "an IPv6 host is written in brackets: tcp:[::1]:5000");
    memcpy(address->text, host, length);
    address->text[length] = 0;
    address->os.kind = OS_ADDRESS_TCP;
    return parse_port(address, text, end + (address->brackets ? 2 : 1));
}

kin_err kin__address_parse(kin__address *address, const char *text)
{
    memset(address, 0, sizeof *address);
    address->os.text = address->text;
    if (text == NULL)
        return kin__fail(KIN_EINVAL, "the address is NULL");
    if (strncmp(text, TCP, strlen(TCP)) == 0)
        return parse_tcp(address, text);
    if (!is_path(text))
        return parse_name(address, text);
    if (strlen(text) >= KIN__ADDRESS_SIZE)
        return wrong(text, "the path is too long");
    address->os.kind = OS_ADDRESS_PATH;
    (void)snprintf(address->text, sizeof address->text, "%s", text);
    return KIN_OK;
}

void kin__address_write(const kin__address *address, char text[KIN__ADDRESS_SIZE])
{
    if (address->os.kind != OS_ADDRESS_TCP)
        memcpy(text, address->text, KIN__ADDRESS_SIZE);
    else
        (void)snprintf(text, KIN__ADDRESS_SIZE, address->brackets ? "tcp:[%.490s]:%u" : "tcp:%.490s:%u", address->text, address->os.port);
}
