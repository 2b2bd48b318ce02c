# kin_find_python(<variable>): a Python to test with: KIN_PYTHON, or the newest that is found and works; empty if there is none.
set(KIN_PYTHON
    ""
    CACHE STRING "the Python to test with; empty: the newest that is found")
function(kin_find_python variable)
  set(python "${KIN_PYTHON}")
  set(newest "")
  if(NOT python)
    foreach(name python3.14 python3.13 python3.12 python3)
      find_program(found NAMES ${name} NO_CACHE)
      if(found)
        execute_process(
          COMMAND "${found}" -c "import sys; print('%d.%02d' % sys.version_info[:2])"
          OUTPUT_VARIABLE version
          ERROR_QUIET
          RESULT_VARIABLE failed)
        if(NOT failed AND version STRGREATER newest)
          set(newest "${version}")
          set(python "${found}")
        endif()
      endif()
      unset(found)
    endforeach()
  endif()
  set(${variable}
      "${python}"
      PARENT_SCOPE)
endfunction()
