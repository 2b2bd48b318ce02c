# How every C target of this project is compiled.

# kin_configure_target(<target> [RELAXED]): C11 without extensions, warnings, the system's feature macros. RELAXED leaves
# out -Wconversion (tests: cmocka's macros cast).
function(kin_configure_target target)
  cmake_parse_arguments(arg "RELAXED" "" "" ${ARGN})
  set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF C_VISIBILITY_PRESET
                                                                                                  hidden)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /Zc:preprocessor /utf-8)
    target_compile_definitions(${target} PRIVATE _CRT_SECURE_NO_WARNINGS)
    if(KIN_WERROR)
      target_compile_options(${target} PRIVATE /WX)
    endif()
  else()
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow)
    if(NOT arg_RELAXED)
      target_compile_options(${target} PRIVATE -Wconversion)
    endif()
    if(KIN_WERROR)
      target_compile_options(${target} PRIVATE -Werror)
    endif()
  endif()
  if(WIN32)
    target_compile_definitions(${target} PRIVATE _WIN32_WINNT=0x0A00 WIN32_LEAN_AND_MEAN UNICODE _UNICODE)
    if(MINGW)
      target_compile_definitions(${target} PRIVATE __USE_MINGW_ANSI_STDIO=1)
      # No DLLs of the compiler beside the program.
      target_link_options(${target} PRIVATE -static)
    endif()
  else()
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    # Bind calls when the program is loaded: a child that is a copy of the fork server need not do it again, each time.
    target_compile_options(${target} PRIVATE -fno-plt)
  endif()
endfunction()

# The start methods tests and examples run under.
if(WIN32)
  set(_kin_methods spawn)
else()
  set(_kin_methods fork spawn)
endif()
set(KIN_TEST_START_METHODS
    "${_kin_methods}"
    CACHE STRING "start methods that tests and examples run under")
set(KIN_TEST_TIMEOUT_SCALE
    1
    CACHE STRING "factor for all time limits in tests: 10 for Wine, qemu, sanitizers on a slow machine")

# kin_test_limits(<ctest name> <seconds> <start method or ""> <labels>…)
function(kin_test_limits name seconds method)
  math(EXPR limit "${seconds} * ${KIN_TEST_TIMEOUT_SCALE}")
  set(environment "KIN_TEST_TIMEOUT_SCALE=${KIN_TEST_TIMEOUT_SCALE}")
  if(method)
    list(APPEND environment "KIN_START_METHOD=${method}")
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${limit} ENVIRONMENT "${environment}" LABELS "${ARGN}" SKIP_RETURN_CODE
                                                                                                        77)
endfunction()

# kin_example_test(<target> [NAME <name>] [ARGS <argument>…] [EXPECTED <file>] [TIMEOUT <seconds>])
#
# Runs the program under each start method. It must end with 0 and, with EXPECTED, print exactly what the file holds (line
# ends apart). Registered as example/<name>.<method>; NAME, default the target, is for a program that is run more than once.
# Each run has an empty working directory of its own.
function(kin_example_test target)
  cmake_parse_arguments(arg "" "NAME;EXPECTED;TIMEOUT" "ARGS" ${ARGN})
  if(NOT KIN_TESTS)
    return()
  endif()
  if(NOT arg_NAME)
    set(arg_NAME ${target})
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(arg_EXPECTED)
    get_filename_component(arg_EXPECTED "${arg_EXPECTED}" ABSOLUTE)
  endif()
  foreach(method IN LISTS KIN_TEST_START_METHODS)
    set(test example/${arg_NAME}.${method})
    set(directory "${CMAKE_CURRENT_BINARY_DIR}/run/${arg_NAME}.${method}")
    add_test(
      NAME ${test}
      COMMAND
        ${CMAKE_COMMAND} "-DEMULATOR=${CMAKE_CROSSCOMPILING_EMULATOR}" "-DPROGRAM=$<TARGET_FILE:${target}>"
        "-DEXPECTED=${arg_EXPECTED}" "-DDIRECTORY=${directory}" -P "${kin_SOURCE_DIR}/cmake/RunExample.cmake" --
        ${arg_ARGS})
    kin_test_limits(${test} ${arg_TIMEOUT} ${method} example)
  endforeach()
endfunction()
