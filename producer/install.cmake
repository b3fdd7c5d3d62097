# What an engine outside of this tree needs: libmoetrace.so with the C API alone, its headers, and
# how to find them.
add_library(moetrace_shared SHARED ${producer_sources})
target_link_libraries(moetrace_shared
  PUBLIC $<BUILD_INTERFACE:moetrace_room_producer> $<BUILD_INTERFACE:moetrace_room_shm>
  PRIVATE moetrace_shm moetrace_flags ${moetrace_device_hook})
set_target_properties(moetrace_shared PROPERTIES
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  OUTPUT_NAME moetrace EXPORT_NAME producer SOVERSION ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION})
target_link_options(moetrace_shared PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/libmoetrace.map)
if(NOT MOETRACE_SANITIZE)  # the program brings the sanitizers' runtime
  # Report a missing symbol here, not in a user's engine.
  target_link_options(moetrace_shared PRIVATE -Wl,--no-undefined)
endif()
set_target_properties(moetrace_shared PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/libmoetrace.map)
target_include_directories(moetrace_shared PUBLIC $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

# Users include <moetrace/producer.h> and <moetrace/abi.h>. The headers of install/ forward from the
# paths of 0.1, and from "shm/abi.h", the name under which producer.h includes abi.h.
install(TARGETS moetrace_shared EXPORT moetrace-producer LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES producer.h ../shm/abi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace)
install(FILES install/producer.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace/producer)
install(FILES install/abi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace/shm)
install(EXPORT moetrace-producer NAMESPACE moetrace:: FILE moetrace-producer-targets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moetrace)

include(CMakePackageConfigHelpers)
# As the library's SOVERSION: releases of one major version are compatible.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/moetrace-config-version.cmake COMPATIBILITY SameMajorVersion)
configure_file(moetrace-config.cmake.in moetrace-config.cmake @ONLY)
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)  # "../.." or, in Debian's own tree, "../../.."
configure_file(moetrace.pc.in moetrace.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moetrace-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/moetrace-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moetrace)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moetrace.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
