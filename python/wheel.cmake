# What the Python wheel holds: the hook's library and the compiled module, files beside the modules that need nothing but the C
# library; and with MOETRACE_PROGRAMS the programs, which pip puts beside python. Sections that nothing calls go, because those of
# the C++ library's would raise the glibc that is needed.
set(wheel_targets moetrace_shared moetrace_steps)
if(MOETRACE_PROGRAMS)
  list(APPEND wheel_targets moetrace moetraced moetrace-plot)
endif()
foreach(target ${wheel_targets})
  target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc -s -Wl,--gc-sections,--as-needed)
endforeach()
install(FILES $<TARGET_FILE:moetrace_shared> DESTINATION moetrace RENAME libmoetrace.so COMPONENT wheel)
install(FILES $<TARGET_FILE:moetrace_steps> DESTINATION moetrace COMPONENT wheel)
if(MOETRACE_PROGRAMS)
  install(TARGETS moetrace moetraced moetrace-plot RUNTIME DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT wheel)
endif()
# As scripts/wheel builds it: with the letters of the pictures, and the licences of what is linked in.
if(MOETRACE_PROGRAMS AND DEFINED ENV{MOETRACE_WHEEL_ROOT})
  set(fonts $ENV{MOETRACE_WHEEL_ROOT}/usr/share/fonts/truetype/dejavu)
  install(FILES ${fonts}/DejaVuSans.ttf ${fonts}/DejaVuSans-Bold.ttf DESTINATION ${SKBUILD_DATA_DIR}/share/moetrace/fonts
          COMPONENT wheel)
  install(FILES $ENV{MOETRACE_WHEEL_ROOT}/THIRD_PARTY.txt DESTINATION ${SKBUILD_METADATA_DIR}/licenses COMPONENT wheel)
endif()
