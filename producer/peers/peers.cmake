# moetrace-peers: this ring beside other ways to pass records to another process (scripts/bench-peers). Nothing else needs what it
# needs, so that it is built only if asked for.
find_package(iceoryx_posh REQUIRED)
find_package(spdlog REQUIRED)
find_path(MOETRACE_ATOMIC_QUEUE atomic_queue/atomic_queue.h REQUIRED)

add_executable(moetrace-peers
  peers/atomic_queue_peer.cpp peers/file_records.cpp peers/iceoryx_peer.cpp peers/lttng_peer.cpp peers/main.cpp
  peers/message_queue_peer.cpp peers/process.cpp peers/ring_peer.cpp peers/spdlog_peer.cpp peers/spsc_queue_peer.cpp)
target_include_directories(moetrace-peers SYSTEM PRIVATE ${MOETRACE_ATOMIC_QUEUE})
target_link_libraries(moetrace-peers PRIVATE
  moetrace_room_producer moetrace_shm moetrace_flags iceoryx_posh::iceoryx_posh spdlog::spdlog ${CMAKE_DL_LIBS})
# lttng-ust's macros are for GNU C.
add_library(moetrace-peers-lttng MODULE peers/lttng_module.c)
set_target_properties(moetrace-peers-lttng PROPERTIES
  PREFIX "" C_EXTENSIONS ON LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
target_link_libraries(moetrace-peers-lttng PRIVATE moetrace_room_producer lttng-ust)
add_dependencies(moetrace-peers moetrace-peers-lttng)
