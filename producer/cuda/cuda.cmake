# The CUDA hook, a part of libmoetrace. It has kernels for every GPU from sm_80 on: machine code for
# Ampere and Hopper, PTX for later ones. It contains the CUDA runtime, so that one library works
# with every PyTorch.
find_package(CUDAToolkit 12.4 REQUIRED)
add_library(moetrace_cuda_hook STATIC cuda/cuda_hook.cpp cuda/gpu_state.cpp cuda/record_kernel.cu cuda/step_kernels.cu)
target_link_libraries(moetrace_cuda_hook PUBLIC moetrace_room_producer moetrace_shm PRIVATE moetrace_flags CUDA::cudart_static)
