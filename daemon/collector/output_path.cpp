#include "daemon/collector/output_path.hpp"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace moetrace {

std::vector<std::string> output_candidates(const CollectorOptions& options,
                                           const std::string& trace_id, std::uint32_t rank) {
  if (options.output.empty())
    return {(std::filesystem::path(options.output_dir) / (trace_id + ".jsonl")).string()};
  const std::filesystem::path wanted(options.output);
  const auto with = [&](const std::string& mark) {
    std::filesystem::path path = wanted;
    return path.replace_filename(wanted.stem().string() + mark + wanted.extension().string())
        .string();
  };
  std::vector<std::string> paths;
  paths.push_back(rank == 0 ? options.output : with(".rank" + std::to_string(rank)));
  // A command that opens a second trace, of the same rank, gets a second file.
  constexpr int kMostTraces = 100;
  for (int n = 2; n <= kMostTraces; ++n) {
    paths.push_back(
        with((rank == 0 ? "." : ".rank" + std::to_string(rank) + ".") + std::to_string(n)));
  }
  return paths;
}

std::optional<Error> prepare_output(const CollectorOptions& options) {
  std::filesystem::path folder = options.output_dir;
  if (!options.output.empty()) folder = std::filesystem::path(options.output).parent_path();
  if (folder.empty()) folder = ".";
  std::error_code why;
  std::filesystem::create_directories(folder, why);
  if (!why && ::access(folder.c_str(), W_OK | X_OK) != 0) why = {errno, std::system_category()};
  if (!why) return std::nullopt;
  return Error{ErrorCode::kPermission, folder.string() + ": can't write traces there: " +
                                           why.message() + "; give an output that can be written"};
}

}  // namespace moetrace
