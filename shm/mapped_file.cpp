#include "shm/mapped_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

namespace moetrace {
namespace {

namespace ipc = boost::interprocess;

// An open file, as Boost.Interprocess wants it.
struct MappableFile {
  int fd;
  ipc::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
};

}  // namespace

Result<ipc::mapped_region> map_file(const UniqueFd& fd, const std::string& path, ipc::mode_t mode,
                                    RingFile whose) {
  try {
    ipc::mapped_region region(MappableFile{fd.get()}, mode);
    // A forked child that saw the ring would write into its parent's records.
    ::madvise(region.get_address(), region.get_size(), MADV_DONTFORK);
    return region;
  } catch (const ipc::interprocess_exception& error) {
    return system_error(path, "can't map it", error.get_native_error(), whose);
  }
}

std::uint64_t file_bytes(const UniqueFd& fd) {
  struct stat status {};
  return ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode)
             ? static_cast<std::uint64_t>(status.st_size)
             : 0;
}

}  // namespace moetrace
