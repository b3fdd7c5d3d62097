# The hook's library as the Python wheel holds it, and the compiled module: files beside the modules, that need nothing but the C
# library. Sections that nobody calls go, because those of the C++ library's would raise the glibc that is needed.
foreach(target moetrace_shared moetrace_steps)
  target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc -s -Wl,--gc-sections)
endforeach()
install(FILES $<TARGET_FILE:moetrace_shared> DESTINATION moetrace RENAME libmoetrace.so COMPONENT wheel)
install(FILES $<TARGET_FILE:moetrace_steps> DESTINATION moetrace COMPONENT wheel)
