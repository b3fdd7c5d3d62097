# What an engine outside of this tree needs: libmoetrace.so with the C API alone, its two headers, and how to find them.
add_library(moetrace_shared SHARED ${producer_sources})
target_link_libraries(moetrace_shared
  PUBLIC $<BUILD_INTERFACE:moetrace_room_producer> $<BUILD_INTERFACE:moetrace_room_shm>
  PRIVATE moetrace_shm moetrace_flags ${moetrace_device_hook})
set_target_properties(moetrace_shared PROPERTIES
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  OUTPUT_NAME moetrace EXPORT_NAME producer SOVERSION ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION})
target_link_options(moetrace_shared PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/libmoetrace.map)
if(NOT MOETRACE_SANITIZE)  # the sanitizers' runtime comes with the program
  # A symbol that is missing is an error here and not in somebody's engine.
  target_link_options(moetrace_shared PRIVATE -Wl,--no-undefined)
endif()
set_target_properties(moetrace_shared PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/libmoetrace.map)
# Users include <moetrace/producer/producer.h>, which includes "shm/abi.h": the second directory is for that.
target_include_directories(moetrace_shared PUBLIC
  "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR};${CMAKE_INSTALL_INCLUDEDIR}/moetrace>")

install(TARGETS moetrace_shared EXPORT moetrace LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES producer.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace/producer)
install(FILES ../shm/abi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace/shm)
install(EXPORT moetrace NAMESPACE moetrace:: FILE moetrace-targets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moetrace)

include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/moetrace-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_file(moetrace-config.cmake.in moetrace-config.cmake @ONLY)
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)  # "../.." or, in Debian's own tree, "../../.."
configure_file(moetrace.pc.in moetrace.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moetrace-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/moetrace-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moetrace)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moetrace.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
