# Runs crunch and looks at its output, its messages and its exit status, byte for byte:
#     cmake -DPROGRAM=… [-DEMULATOR=…] -DSOURCE=<this folder> -DDIRECTORY=<scratch> -P this
# Portable: no shell, no other program. The expected files are the same on all systems.

file(REMOVE_RECURSE "${DIRECTORY}")
file(MAKE_DIRECTORY "${DIRECTORY}")

# crunch(<expected exit status> <arguments>…); its standard streams go to out.txt and err.txt.
function(crunch status)
  execute_process(
    COMMAND ${EMULATOR} "${PROGRAM}" ${ARGN}
    WORKING_DIRECTORY "${DIRECTORY}"
    RESULT_VARIABLE result
    OUTPUT_FILE "${DIRECTORY}/out.txt"
    ERROR_FILE "${DIRECTORY}/err.txt")
  if(NOT result STREQUAL status)
    file(READ "${DIRECTORY}/err.txt" errors)
    message(FATAL_ERROR "crunch ${ARGN}: ended with ${result}, expected ${status}\n${errors}")
  endif()
endfunction()

function(same what file expected)
  file(SHA256 "${file}" one)
  file(SHA256 "${expected}" other)
  if(NOT one STREQUAL other)
    message(FATAL_ERROR "${what}: ${file} differs from ${expected}")
  endif()
endfunction()

function(same_text what text expected)
  if(NOT text STREQUAL expected)
    message(FATAL_ERROR "${what}\n--- expected:\n${expected}\n--- but it is:\n${text}\n---")
  endif()
endfunction()

# Text from a standard stream: with the line ends of C.
function(read_text variable file)
  file(READ "${file}" text)
  string(REPLACE "\r\n" "\n" text "${text}")
  set(${variable}
      "${text}"
      PARENT_SCOPE)
endfunction()

# ---- any number of workers gives the same bytes ------------------------------------------------------------------------

foreach(input good good_crlf) # the second has a byte order mark and lines that end in CR LF
  file(COPY "${SOURCE}/${input}.csv" DESTINATION "${DIRECTORY}")
  foreach(workers 1 2 8)
    crunch(0 --quiet --workers ${workers} --input ${input}.csv --output ${input}.out)
    same("${input}.csv with ${workers} workers" "${DIRECTORY}/${input}.out" "${SOURCE}/expected.csv")
  endforeach()
endforeach()

# The built-in input. The sum was computed on x86-64 Linux with GCC and found the same with Clang and on Windows.
foreach(workers 1 2 8)
  crunch(0 --quiet --workers ${workers} --rows 600 --output built_in.out)
  file(SHA256 "${DIRECTORY}/built_in.out" sum)
  same_text("the built-in input with ${workers} workers" "${sum}"
            "87df91db5cd65fc5f40d0c53688505b3bd5d5a0f658292e10bb71b948408c8fd")
endforeach()

# Standard output, the bar, the summary; as many workers as there are cores.
crunch(0 --input good.csv)
read_text(text "${DIRECTORY}/out.txt")
read_text(expected "${SOURCE}/expected.csv")
same_text("standard output" "${text}" "${expected}")
file(READ "${DIRECTORY}/err.txt" errors)
if(NOT errors MATCHES "crunch: 14 rows, 0 failed, [0-9.]+ s, [0-9]+ rows/s, [0-9]+ worker")
  message(FATAL_ERROR "no summary:\n${errors}")
endif()

# An input without rows.
file(WRITE "${DIRECTORY}/empty.csv" "")
crunch(0 --quiet --workers 2 --input empty.csv --output empty.out)
crunch(0 --quiet --workers 2 --rows 0 --output none.out)
file(WRITE "${DIRECTORY}/header.csv" "id,range,height,time\n")
same("no rows" "${DIRECTORY}/empty.out" "${DIRECTORY}/header.csv")
same("no rows" "${DIRECTORY}/none.out" "${DIRECTORY}/header.csv")

# The output may replace the input.
crunch(0 --quiet --workers 2 --input good.csv --output good.csv)
same("in place" "${DIRECTORY}/good.csv" "${SOURCE}/expected.csv")

# ---- bad rows are told and left out, all others are computed --------------------------------------------------------------

file(COPY "${SOURCE}/malformed.csv" DESTINATION "${DIRECTORY}")
string(REPEAT "1" 1048576 long)
file(APPEND "${DIRECTORY}/malformed.csv" "${long}\nlong number,${long},45,1,0.1\ngood 4,50,45,1,0.1")
foreach(workers 1 8)
  crunch(1 --quiet --workers ${workers} --input malformed.csv --output malformed.out)
  same("malformed.csv with ${workers} workers" "${DIRECTORY}/malformed.out" "${SOURCE}/expected_malformed.csv")
  read_text(errors "${DIRECTORY}/err.txt")
  string(REGEX REPLACE "crunch: 41 rows, 37 failed, [^\n]*\n$" "" errors "${errors}")
  read_text(expected "${SOURCE}/expected_malformed.txt")
  same_text("the messages for malformed.csv with ${workers} workers" "${errors}" "${expected}")
endforeach()

# ---- what makes it give up ------------------------------------------------------------------------------------------------

function(gives_up pattern)
  crunch(2 ${ARGN})
  file(READ "${DIRECTORY}/err.txt" errors)
  if(NOT errors MATCHES "${pattern}")
    message(FATAL_ERROR "crunch ${ARGN}: expected ${pattern}, but it says:\n${errors}")
  endif()
endfunction()

gives_up("cannot read missing.csv: " --input missing.csv)
gives_up("cannot read \\.: " --input .)
gives_up("cannot write missing/out.csv: " --rows 1 --output missing/out.csv)
gives_up("--workers must be.*Usage" --workers 0)
gives_up("--workers must be.*Usage" --workers 2x)
gives_up("--workers must be.*Usage" --workers 99999999999999999999)
gives_up("--rows must be.*Usage" --rows -1)
gives_up("lacks its value.*Usage" --rows)
gives_up("unknown option.*Usage" --frobnicate 1)
gives_up("unknown option.*Usage" "stray")
if(EXISTS /dev/full AND NOT EMULATOR)
  gives_up("cannot write /dev/full: No space left" --quiet --workers 2 --rows 1 --output /dev/full)
  gives_up("cannot write /dev/full: No space left" --quiet --workers 2 --rows 600 --output /dev/full)
endif()

crunch(0 --help)
