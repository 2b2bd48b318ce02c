#!/usr/bin/env bash
# libuv, Mbed TLS and cmocka for the Windows build: see ci/deps.sh.
exec "$(dirname "$0")/deps.sh" windows "$@"
