// moetrace clean: removes the files of dead processes.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/text.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/dead_segments.hpp"
#include "daemon/cli/segments.hpp"
#include "daemon/dead_files.hpp"
#include "shm/abandoned_files.hpp"
#include "shm/segment_names.hpp"

namespace moetrace::cli {
namespace {

struct CleanOptions {
  std::string directory;
  std::optional<std::string> session;
  bool dry_run = false;
  bool discard_rows = false;
};

class Clean {
 public:
  explicit Clean(const CleanOptions& options)
      : options_(options), directory_(ring_directory(options.directory)) {}

  void session(const std::string& name) {
    removed(remove_dead_files(directory_, name, options_.dry_run));
    removed(remove_abandoned(directory_, name, options_.dry_run));
    for (const DeadSegment& segment : dead_segments(directory_, name)) ring(segment);
  }

  void say_totals() const {
    std::printf("%s %s, kept %s\n", options_.dry_run ? "would remove" : "removed",
                counted(removed_, "file").c_str(), counted(kept_, "ring").c_str());
  }

 private:
  void removed(const std::vector<std::string>& files) {
    removed_ += files.size();
    for (const std::string& file : files)
      std::printf("%s %s\n", options_.dry_run ? "would remove" : "removed", file.c_str());
  }

  void ring(const DeadSegment& segment) {
    const std::string path = directory_ + "/" + segment.name.ring_file();
    if (!segment.undelivered.empty() && !options_.discard_rows) {
      ++kept_;
      std::printf("kept %s: %s; drain it with %s, or give --discard-rows\n", path.c_str(),
                  segment.undelivered.c_str(), drain_command(directory_, segment.name).c_str());
      return;
    }
    if (options_.dry_run || remove_dead_segment(directory_, segment.name))
      removed({path, directory_ + "/" + segment.name.ctl_file()});
  }

  const CleanOptions& options_;
  std::string directory_;
  std::size_t removed_ = 0;
  std::size_t kept_ = 0;
};

Outcome clean(const CleanOptions& options) {
  if (options.session) {
    if (auto wrong = session_error(*options.session)) return *wrong;
  }
  const std::string directory = ring_directory(options.directory);
  if (const auto listed = list_segments(directory, "default"); !listed)
    return Failure{kFailed, listed.error().message};
  Clean cleaner(options);
  for (const std::string& session :
       options.session ? std::vector{*options.session} : sessions_with_files(directory))
    cleaner.session(session);
  cleaner.say_totals();
  return std::fflush(stdout) == 0 ? kOk : kFailed;
}

}  // namespace

void add_clean(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "clean", "Remove and list the files that your dead collectors and engines have left");
  auto options = std::make_shared<CleanOptions>();
  sub->add_option("--session", options->session, "Only this session; without it, all");
  add_directory_option(sub, options->directory);
  sub->add_flag("--dry-run", options->dry_run, "List the files, and remove nothing");
  sub->add_flag("--discard-rows", options->discard_rows,
                "Also remove rings whose rows are not in a trace file yet");
  sub->callback([options, &chosen] { chosen = [options] { return clean(*options); }; });
}

}  // namespace moetrace::cli
