# What a program outside of this tree needs to read traces: libmoetrace_reader.so with the C API alone, its header, and how to find
# them. The header stands beside the producer's, as <moetrace/reader.h>.
set_target_properties(moetrace_reader PROPERTIES
  EXPORT_NAME reader SOVERSION ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION})
if(NOT MOETRACE_SANITIZE)  # the sanitizers' runtime comes with the program
  # A missing symbol is an error here and not in a user's program.
  target_link_options(moetrace_reader PRIVATE -Wl,--no-undefined)
endif()
target_include_directories(moetrace_reader INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

install(TARGETS moetrace_reader EXPORT moetrace-reader LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES reader.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moetrace)
# moetrace-config.cmake includes every moetrace-*-targets.cmake of its folder.
install(EXPORT moetrace-reader NAMESPACE moetrace:: FILE moetrace-reader-targets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/moetrace)

file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)  # "../.." or, in Debian's own tree, "../../.."
configure_file(moetrace-reader.pc.in moetrace-reader.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moetrace-reader.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
