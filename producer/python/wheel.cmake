# The hook's library as the Python wheel holds it: one file beside the modules, that needs nothing but the C library. Sections
# that nobody calls go, because those of the C++ library's would raise the glibc that is needed.
target_link_options(moetrace_shared PRIVATE -static-libstdc++ -static-libgcc -s -Wl,--gc-sections)
install(FILES $<TARGET_FILE:moetrace_shared> DESTINATION moetrace RENAME libmoetrace.so COMPONENT wheel)
