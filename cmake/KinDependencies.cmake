# libuv and cmocka: what is on the machine first (cmake/FindLibuv.cmake, cmake/FindCmocka.cmake), else from the projects' own
# release archives, which needs a network. Without one:
#
#     cmake … -DFETCHCONTENT_SOURCE_DIR_LIBUV=<tree> -DFETCHCONTENT_SOURCE_DIR_CMOCKA=<tree>
include(FetchContent)

# Finds or builds libuv: the target Libuv::Libuv, and Libuv_PKG_CONFIG.
function(kin_find_libuv)
  FetchContent_Declare(
    Libuv
    URL https://github.com/libuv/libuv/archive/refs/tags/v1.48.0.tar.gz
    URL_HASH SHA256=8c253adb0f800926a6cbd1c6576abae0bc8eb86a4f891049b72f9e5b7dc58f33
    DOWNLOAD_EXTRACT_TIMESTAMP TRUE
    FIND_PACKAGE_ARGS 1.44 MODULE)
  # For a fetched one only, and only in here: not the users' own settings.
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
  set(BUILD_TESTING OFF)
  set(LIBUV_BUILD_TESTS OFF)
  set(LIBUV_BUILD_BENCH OFF)
  set(LIBUV_BUILD_SHARED OFF)
  FetchContent_MakeAvailable(Libuv)
  if(NOT TARGET Libuv::Libuv)
    add_library(Libuv::Libuv ALIAS uv_a)
    set(Libuv_PKG_CONFIG libuv-static)
    if(NOT KIN_INSTALL) # otherwise it is installed beside kin, which needs it
      set_property(DIRECTORY "${libuv_SOURCE_DIR}" PROPERTY EXCLUDE_FROM_ALL ON)
    endif()
  endif()
  set(Libuv_PKG_CONFIG
      "${Libuv_PKG_CONFIG}"
      PARENT_SCOPE)
endfunction()

# Finds Mbed TLS: the target MbedTLS::Crypto and KIN_HAS_AUTH, as KIN_AUTH wants it. It is not fetched: what proves keys should
# be the one that the system keeps up to date, or one that was chosen.
function(kin_find_mbedtls)
  set(KIN_HAS_AUTH
      OFF
      PARENT_SCOPE)
  set(MbedTLS_PKG_CONFIG "")
  if(KIN_AUTH STREQUAL "AUTO")
    find_package(MbedTLS 2.28 MODULE)
    if(NOT MbedTLS_FOUND)
      message(STATUS "Without Mbed TLS: connections between programs cannot prove a key")
    endif()
  elseif(KIN_AUTH)
    find_package(MbedTLS 2.28 MODULE REQUIRED)
  endif()
  if(KIN_AUTH AND MbedTLS_FOUND)
    set(KIN_HAS_AUTH
        ON
        PARENT_SCOPE)
  endif()
  set(MbedTLS_PKG_CONFIG
      "${MbedTLS_PKG_CONFIG}"
      PARENT_SCOPE)
endfunction()

# Finds or builds cmocka: the target Cmocka::Cmocka.
function(kin_find_cmocka)
  FetchContent_Declare(
    Cmocka
    URL https://cmocka.org/files/1.1/cmocka-1.1.7.tar.xz
    URL_HASH SHA256=810570eb0b8d64804331f82b29ff47c790ce9cd6b163e98d47a4807047ecad82
    DOWNLOAD_EXTRACT_TIMESTAMP TRUE
    FIND_PACKAGE_ARGS MODULE)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
  set(BUILD_SHARED_LIBS OFF)
  set(BUILD_TESTING OFF)
  set(UNIT_TESTING OFF)
  set(WITH_EXAMPLES OFF)
  FetchContent_MakeAvailable(Cmocka)
  if(NOT TARGET Cmocka::Cmocka)
    add_library(Cmocka::Cmocka ALIAS cmocka)
    set_property(DIRECTORY "${cmocka_SOURCE_DIR}" PROPERTY EXCLUDE_FROM_ALL ON) # not installed with kin
  endif()
endfunction()
