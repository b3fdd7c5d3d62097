# The Python package, against this build's library; Debian's python3 and python3-numpy.
if(MOETRACE_SANITIZE)  # a sanitized library can't be loaded by a python that isn't
  return()
endif()
set(moetrace_python_environment
  "PYTHONPATH=${CMAKE_CURRENT_SOURCE_DIR}" "MOETRACE_LIBRARY=$<TARGET_FILE:moetrace_shared>")
if(MOETRACE_PROGRAMS)
  list(APPEND moetrace_python_environment "MOETRACE_READER_LIBRARY=$<TARGET_FILE:moetrace_reader>")
endif()
add_test(NAME python.layout
  COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/tests/layout_test.py ${CMAKE_C_COMPILER} ${PROJECT_SOURCE_DIR})
set_tests_properties(python.layout PROPERTIES TIMEOUT 60 ENVIRONMENT "${moetrace_python_environment}")
foreach(name adapter_layers adapters imports modules plugins ring_sizes sglang_runner)
  add_test(NAME python.${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/tests/${name}_test.py)
  set_tests_properties(python.${name} PROPERTIES TIMEOUT 180 ENVIRONMENT "${moetrace_python_environment}")
endforeach()
if(MOETRACE_PROGRAMS)
  set(moetrace_python_tests
    main producer producer_errors reading reading_files reading_lines reading_rows streaming streaming_endpoints streaming_messages
    streaming_repeats)
  if(MOETRACE_PYTHON)
    list(APPEND moetrace_python_tests vllm_steps vllm_steps_module)
  endif()
  # The same with topic `rows`, beside Arrow files.
  add_test(NAME python.streaming_rows COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/tests/streaming_test.py)
  set_tests_properties(python.streaming_rows PROPERTIES
    LABELS end-to-end
    TIMEOUT 600
    ENVIRONMENT "${moetrace_python_environment};MOETRACED=$<TARGET_FILE:moetraced>;MOETRACE_CLI=$<TARGET_FILE:moetrace>;MOETRACE_TEST_TOPIC=rows;MOETRACE_TEST_ROWS=arrow")
  foreach(name ${moetrace_python_tests})
    add_test(NAME python.${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/tests/${name}_test.py)
    set_tests_properties(python.${name} PROPERTIES
      LABELS end-to-end
      TIMEOUT 600
      ENVIRONMENT "${moetrace_python_environment};MOETRACED=$<TARGET_FILE:moetraced>;MOETRACE_CLI=$<TARGET_FILE:moetrace>;CC=${CMAKE_C_COMPILER}")
  endforeach()
endif()

# The libtorch operators on a GPU. The python3 in PATH must have this PyTorch.
if(TARGET moetrace_torch AND MOETRACE_CUDA AND MOETRACE_LIB_c10_cuda)
  add_test(NAME gpu.torch_op COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/tests/torch_op_cuda_test.py $<TARGET_FILE:moetrace_torch>)
  set_tests_properties(gpu.torch_op PROPERTIES LABELS gpu SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()

# The library that an engine loads, under the same name, and beside it the compiled module: for Python's side of it.
if(MOETRACE_PROGRAMS AND TARGET moetrace_cuda_hook_emulated)
  add_library(moetrace_emulated SHARED $<TARGET_OBJECTS:moetrace_producer_core>)
  target_link_libraries(moetrace_emulated PRIVATE moetrace_cuda_hook_emulated)
  set_target_properties(moetrace_emulated PROPERTIES
    OUTPUT_NAME moetrace SOVERSION ${PROJECT_VERSION_MAJOR} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/emulated)
  add_dependencies(moetrace_emulated moetrace_steps)
  add_custom_command(TARGET moetrace_emulated POST_BUILD COMMAND ${CMAKE_COMMAND} -E create_symlink
    $<TARGET_FILE:moetrace_steps> $<TARGET_FILE_DIR:moetrace_emulated>/$<TARGET_FILE_NAME:moetrace_steps>)
  set(environment ${moetrace_python_environment})
  list(FILTER environment EXCLUDE REGEX "^MOETRACE_LIBRARY=")
  add_test(NAME emulator.python COMMAND /usr/bin/python3 -B ${PROJECT_SOURCE_DIR}/python/tests/cuda_producer_test.py)
  set_tests_properties(emulator.python PROPERTIES
    LABELS end-to-end
    TIMEOUT 300
    ENVIRONMENT "${environment};MOETRACE_LIBRARY=$<TARGET_FILE:moetrace_emulated>;MOETRACED=$<TARGET_FILE:moetraced>;MOETRACE_CLI=$<TARGET_FILE:moetrace>")
endif()
