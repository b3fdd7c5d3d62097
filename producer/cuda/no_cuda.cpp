// The DeviceHook of a build without CUDA: open() always fails.
#include "producer/device_hook.hpp"

namespace moetrace {

Result<std::unique_ptr<DeviceHook>> DeviceHook::open(const SegmentMap&, int device) {
  return Error{ErrorCode::kBadArgument,
               "cuda_device " + std::to_string(device) +
                   ": this libmoetrace was built without CUDA; use -1, or build it with "
                   "-DMOETRACE_CUDA=ON"};
}

}  // namespace moetrace
