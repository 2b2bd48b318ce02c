# Checks a model: cmake -DSPIN=… -DCC=… -DMODEL=….pml -DDEFINES=A=1,B -DDEPTH=… -DEXPECT=clean|error -DDIRECTORY=… -P this
# clean: the search found nothing wrong, and was exhaustive. error: it found something, as it must where a known bug is switched on.
string(REPLACE "," ";" defines "${DEFINES}")
list(TRANSFORM defines PREPEND -D)
file(REMOVE_RECURSE "${DIRECTORY}")
file(MAKE_DIRECTORY "${DIRECTORY}")

function(run what)
  execute_process(
    COMMAND ${ARGN}
    WORKING_DIRECTORY "${DIRECTORY}"
    RESULT_VARIABLE result
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  message("${output}")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what}: ${result}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run("spin" "${SPIN}" ${defines} -a "${MODEL}")
if(NOT EXISTS "${DIRECTORY}/pan.c")
  message(FATAL_ERROR "spin made no verifier")
endif()
# MEMLIM is in megabytes. A mistake is found in less time than a better program takes to compile.
if(EXPECT STREQUAL "error")
  set(optimize -O1)
else()
  set(optimize -O2)
endif()
run("the compiler" "${CC}" ${optimize} -w -DSAFETY -DMEMLIM=2000 -o pan pan.c)
run("pan" "${DIRECTORY}/pan" "-m${DEPTH}")

if(NOT output MATCHES "errors: ([0-9]+)")
  message(FATAL_ERROR "pan came to no end")
endif()
set(errors ${CMAKE_MATCH_1})
file(REMOVE "${DIRECTORY}/pan" "${DIRECTORY}/pan.c") # the trail of an error stays
if(EXPECT STREQUAL "error")
  if(errors EQUAL 0 OR NOT output MATCHES "pan:1: (assertion violated|invalid end state)")
    message(FATAL_ERROR "the bug was not seen")
  endif()
else()
  if(NOT errors EQUAL 0)
    message(FATAL_ERROR "the model is wrong, or what it models: spin ${defines} -p -g -t -k <the trail> ${MODEL} shows how")
  endif()
  if(output MATCHES "max search depth too small|Search not completed|MEMLIM|out of memory|Bit statespace|hash-compact|Hash-Compact|aborting")
    message(FATAL_ERROR "the search was not exhaustive")
  endif()
endif()
