# All interleavings of the real templates, under relacy (Debian: relacy-dev, header only). Relacy runs its threads as
# contexts of one thread, which the sanitizers can't follow. Each name after WEAKEN relaxes one memory order; the model must
# find the race.
find_path(RELACY_INCLUDE_DIR relacy/relacy.hpp)
if(NOT RELACY_INCLUDE_DIR OR MOETRACE_SANITIZE)
  message(STATUS "relacy not found, or a sanitizer is on: the model tests are left out")
endif()

# moetrace_model(<folder>/<name> WEAKEN <order>...): <folder>/<name>_model.cpp
function(moetrace_model path)
  cmake_parse_arguments(PARSE_ARGV 1 model "" "" WEAKEN)
  if(NOT RELACY_INCLUDE_DIR OR MOETRACE_SANITIZE)
    return()
  endif()
  get_filename_component(name ${path} NAME)
  add_executable(moetrace-${name}-model ${PROJECT_SOURCE_DIR}/${path}_model.cpp)
  target_include_directories(moetrace-${name}-model SYSTEM PRIVATE ${RELACY_INCLUDE_DIR})
  target_link_libraries(moetrace-${name}-model PRIVATE moetrace_room_shm moetrace_flags)
  target_compile_options(moetrace-${name}-model PRIVATE -Wno-shadow)
  add_test(NAME model.${name} COMMAND moetrace-${name}-model)
  foreach(order ${model_WEAKEN})
    add_test(NAME model.${name}.finds_weak_${order} COMMAND moetrace-${name}-model --weaken ${order})
  endforeach()
endfunction()
