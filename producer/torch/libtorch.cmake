# Finds libtorch and defines moetrace_libtorch: link it to include libtorch's headers.
#
# -DTorch_DIR=…/share/cmake/Torch, CMAKE_PREFIX_PATH or -DMOETRACE_LIBTORCH=<folder with include/
# and lib/> choose a libtorch; the default is Debian's libtorch-dev. PyTorch's own TorchConfig.cmake
# is not used: if it was built with CUDA, it stops the configuration without nvcc, although an
# include path, three libraries and one flag are all that is needed.
set(MOETRACE_LIBTORCH "" CACHE PATH "Folder of libtorch (include/, lib/); empty: searched")
set(torch_hints ${MOETRACE_LIBTORCH})
if(Torch_DIR)
  list(APPEND torch_hints ${Torch_DIR}/../../..)
endif()
find_path(MOETRACE_TORCH_INCLUDE ATen/ATen.h HINTS ${torch_hints} PATH_SUFFIXES include REQUIRED)
foreach(library torch torch_cpu c10)
  find_library(MOETRACE_LIB_${library} ${library} HINTS ${torch_hints} PATH_SUFFIXES lib REQUIRED)
endforeach()
# From a libtorch with CUDA the operators' CUDA kernels need only the current stream.
find_library(MOETRACE_LIB_c10_cuda c10_cuda HINTS ${torch_hints} PATH_SUFFIXES lib)
if(MOETRACE_CUDA AND NOT MOETRACE_LIB_c10_cuda)
  message(STATUS "libtorch has no CUDA: moetrace::record is built for CPU tensors only")
endif()
mark_as_advanced(MOETRACE_LIB_c10_cuda MOETRACE_TORCH_INCLUDE MOETRACE_LIB_torch MOETRACE_LIB_torch_cpu MOETRACE_LIB_c10)

add_library(moetrace_libtorch INTERFACE)
target_include_directories(moetrace_libtorch SYSTEM INTERFACE ${MOETRACE_TORCH_INCLUDE}
                           ${MOETRACE_TORCH_INCLUDE}/torch/csrc/api/include)
# --no-as-needed: libtorch pulls in libtorch_cuda, if it exists, without a reference to its symbols.
# libstdc++ comes first: PyTorch's wheels export their built-in parts of std::filesystem, and a
# program that finds those first crashes in remove_all().
target_link_libraries(moetrace_libtorch INTERFACE -Wl,--no-as-needed -lstdc++ ${MOETRACE_LIB_torch} ${MOETRACE_LIB_torch_cpu}
                      ${MOETRACE_LIB_c10} -Wl,--as-needed)
# PyTorch's wheels before 2.7 use the old string ABI; their TorchConfig.cmake says so.
get_filename_component(torch_root ${MOETRACE_TORCH_INCLUDE} DIRECTORY)
if(EXISTS ${torch_root}/share/cmake/Torch/TorchConfig.cmake)
  file(STRINGS ${torch_root}/share/cmake/Torch/TorchConfig.cmake old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(old_abi)
    target_compile_definitions(moetrace_libtorch INTERFACE _GLIBCXX_USE_CXX11_ABI=0)
  endif()
endif()
message(STATUS "libtorch: ${MOETRACE_LIB_torch}")
