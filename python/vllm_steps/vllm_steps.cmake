# moetrace_steps, the compiled module of the Python package. It uses the stable ABI, so that one file
# serves Python 3.9 and later. It lies beside libmoetrace.so, which is loaded before it.
find_package(Boost 1.81 REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter Development.Module)
add_library(moetrace_steps MODULE vllm_steps/module.cpp vllm_steps/steps.cpp vllm_steps/column.cpp)
target_compile_definitions(moetrace_steps PRIVATE Py_LIMITED_API=0x03090000)
target_include_directories(moetrace_steps SYSTEM PRIVATE ${Python3_INCLUDE_DIRS})
target_link_libraries(moetrace_steps PRIVATE moetrace_room_python moetrace_shared Boost::headers moetrace_flags)
target_link_options(moetrace_steps PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/vllm_steps/exports.map)
set_target_properties(moetrace_steps PROPERTIES
  PREFIX "" SUFFIX ".abi3.so" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON UNITY_BUILD OFF
  SKIP_BUILD_RPATH ON LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/vllm_steps/exports.map)
if(NOT SKBUILD)
  install(TARGETS moetrace_steps LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
