# The hook's library as the Python wheel holds it: one file beside the modules, that needs nothing but the C library.
target_link_options(moetrace_shared PRIVATE -static-libstdc++ -static-libgcc -s)
install(FILES $<TARGET_FILE:moetrace_shared> DESTINATION moetrace RENAME libmoetrace.so COMPONENT wheel)
