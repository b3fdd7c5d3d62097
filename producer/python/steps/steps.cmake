# moetrace_steps, the part of the Python package that is compiled: for the stable ABI, so that one file serves every Python 3.9 and
# later. It lies beside libmoetrace.so, calls it, and finds it loaded.
find_package(Python3 REQUIRED COMPONENTS Interpreter Development.Module)
add_library(moetrace_steps MODULE python/steps/module.cpp python/steps/steps.cpp python/steps/column.cpp)
target_compile_definitions(moetrace_steps PRIVATE Py_LIMITED_API=0x03090000)
target_include_directories(moetrace_steps SYSTEM PRIVATE ${Python3_INCLUDE_DIRS})
target_link_libraries(moetrace_steps PRIVATE moetrace_shared moetrace_flags)
set_target_properties(moetrace_steps PROPERTIES
  PREFIX "" SUFFIX ".abi3.so" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON UNITY_BUILD OFF
  SKIP_BUILD_RPATH ON)
