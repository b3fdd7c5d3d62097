# Finds libtorch and defines moetrace_libtorch, to be linked by what includes its headers.
# PyTorch's own TorchConfig.cmake is not run: a build with CUDA in it stops the configuration where nvcc is missing, although
# what we need from it are an include path, three libraries and one flag. -DTorch_DIR=…/share/cmake/Torch, CMAKE_PREFIX_PATH or
# -DMOETRACE_LIBTORCH=<folder with include/ and lib/> choose one; else Debian's libtorch-dev is found.
set(MOETRACE_LIBTORCH "" CACHE PATH "Folder of libtorch (include/, lib/); empty: searched")
set(torch_hints ${MOETRACE_LIBTORCH})
if(Torch_DIR)
  list(APPEND torch_hints ${Torch_DIR}/../../..)
endif()
find_path(MOETRACE_TORCH_INCLUDE ATen/ATen.h HINTS ${torch_hints} PATH_SUFFIXES include REQUIRED)
foreach(library torch torch_cpu c10)
  find_library(MOETRACE_LIB_${library} ${library} HINTS ${torch_hints} PATH_SUFFIXES lib REQUIRED)
endforeach()
# The operators' CUDA kernels need the current stream, which is all that they take from a libtorch with CUDA.
find_library(MOETRACE_LIB_c10_cuda c10_cuda HINTS ${torch_hints} PATH_SUFFIXES lib)
if(MOETRACE_CUDA AND NOT MOETRACE_LIB_c10_cuda)
  message(STATUS "libtorch has no CUDA: moetrace::record is built for CPU tensors only")
endif()
mark_as_advanced(MOETRACE_LIB_c10_cuda MOETRACE_TORCH_INCLUDE MOETRACE_LIB_torch MOETRACE_LIB_torch_cpu MOETRACE_LIB_c10)

add_library(moetrace_libtorch INTERFACE)
target_include_directories(moetrace_libtorch SYSTEM INTERFACE ${MOETRACE_TORCH_INCLUDE}
                           ${MOETRACE_TORCH_INCLUDE}/torch/csrc/api/include)
# libtorch pulls in libtorch_cuda where that exists, and nothing refers to it by a symbol. libstdc++ goes first: PyTorch's wheels
# export parts of std::filesystem that are built into them, and a program that finds those first crashes in remove_all().
target_link_libraries(moetrace_libtorch INTERFACE -Wl,--no-as-needed -lstdc++ ${MOETRACE_LIB_torch} ${MOETRACE_LIB_torch_cpu}
                      ${MOETRACE_LIB_c10} -Wl,--as-needed)
# PyTorch's wheels before 2.7 were built with the old string ABI, and say so here.
get_filename_component(torch_root ${MOETRACE_TORCH_INCLUDE} DIRECTORY)
if(EXISTS ${torch_root}/share/cmake/Torch/TorchConfig.cmake)
  file(STRINGS ${torch_root}/share/cmake/Torch/TorchConfig.cmake old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(old_abi)
    target_compile_definitions(moetrace_libtorch INTERFACE _GLIBCXX_USE_CXX11_ABI=0)
  endif()
endif()
message(STATUS "libtorch: ${MOETRACE_LIB_torch}")
