# Runs a program and compares what it prints: cmake -DPROGRAM=… [-DEMULATOR=…] [-DEXPECTED=…] -DDIRECTORY=… -P this -- args…
# Portable (no shell, no diff); \r\n counts as \n.
set(arguments "")
set(seen FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(seen)
    list(APPEND arguments "${CMAKE_ARGV${i}}")
  elseif(CMAKE_ARGV${i} STREQUAL "--")
    set(seen TRUE)
  endif()
endforeach()

file(REMOVE_RECURSE "${DIRECTORY}")
file(MAKE_DIRECTORY "${DIRECTORY}")
execute_process(
  COMMAND ${EMULATOR} "${PROGRAM}" ${arguments}
  WORKING_DIRECTORY "${DIRECTORY}"
  RESULT_VARIABLE result
  OUTPUT_FILE "${DIRECTORY}/stdout.txt"
  ERROR_FILE "${DIRECTORY}/stderr.txt")

file(READ "${DIRECTORY}/stdout.txt" output)
file(READ "${DIRECTORY}/stderr.txt" errors)
string(REPLACE "\r\n" "\n" output "${output}")
if(errors)
  message("--- standard error:\n${errors}")
endif()
if(NOT result STREQUAL "0")
  message("--- standard output:\n${output}")
  message(FATAL_ERROR "${PROGRAM} ended with ${result}")
endif()
if(EXPECTED)
  file(READ "${EXPECTED}" expected)
  string(REPLACE "\r\n" "\n" expected "${expected}")
  if(NOT output STREQUAL expected)
    message("--- expected (${EXPECTED}):\n${expected}--- but it printed:\n${output}---")
    message(FATAL_ERROR "${PROGRAM}: the output differs")
  endif()
endif()
