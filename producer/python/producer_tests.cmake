# The Python package, against this build's library; Debian's python3 and python3-numpy.
if(MOETRACE_SANITIZE)  # a sanitized library can't be loaded by a python that isn't
  return()
endif()
set(moetrace_python_environment
  "PYTHONPATH=${CMAKE_CURRENT_SOURCE_DIR}/python" "MOETRACE_LIBRARY=$<TARGET_FILE:moetrace_shared>")
if(MOETRACE_PROGRAMS)
  list(APPEND moetrace_python_environment "MOETRACE_READER_LIBRARY=$<TARGET_FILE:moetrace_reader>")
endif()
add_test(NAME python.layout
  COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/python/tests/layout_test.py ${CMAKE_C_COMPILER} ${PROJECT_SOURCE_DIR})
set_tests_properties(python.layout PROPERTIES TIMEOUT 60 ENVIRONMENT "${moetrace_python_environment}")
foreach(name imports plugins)
  add_test(NAME python.${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/python/tests/${name}_test.py)
  set_tests_properties(python.${name} PROPERTIES TIMEOUT 60 ENVIRONMENT "${moetrace_python_environment}")
endforeach()
if(MOETRACE_PROGRAMS)
  set(moetrace_python_tests producer reading streaming)
  if(MOETRACE_PYTHON)
    list(APPEND moetrace_python_tests vllm_steps)
  endif()
  foreach(name ${moetrace_python_tests})
    add_test(NAME python.${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/python/tests/${name}_test.py)
    set_tests_properties(python.${name} PROPERTIES
      LABELS end-to-end
      TIMEOUT 600
      ENVIRONMENT "${moetrace_python_environment};MOETRACED=$<TARGET_FILE:moetraced>;MOETRACE_CLI=$<TARGET_FILE:moetrace>")
  endforeach()
endif()
