#include "daemon/config/config_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "common/text.hpp"
#include "common/unique_fd.hpp"

namespace moetrace {
namespace {

// A few hundred settings fit; a file that grows without end does not fill the memory.
constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::size_t kLongestReason = 200;

Error bad_file(const std::string& path, const std::string& why) {
  return {ErrorCode::kBadArgument, path + ": " + why};
}

// "line 3, column 5" of the byte before which the parser stopped.
std::string place_in(const std::string& text, std::size_t position) {
  const std::size_t at = std::min(position, text.size());
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(at == 0 ? 0 : at - 1);
  const auto line = std::count(text.begin(), end, '\n') + 1;
  const std::size_t newline = text.rfind('\n', at < 2 ? std::string::npos : at - 2);
  const std::size_t begin = at < 2 || newline == std::string::npos ? 0 : newline + 1;
  return "line " + std::to_string(line) + ", column " +
         std::to_string(std::max<std::size_t>(1, at - begin));
}

// Checks the syntax, with the position that the parser's exceptions lack for some errors, and finds
// a key that the object has twice.
class Syntax : public nlohmann::json_sax<ConfigJson> {
 public:
  explicit Syntax(const std::string& text) : text_(text) {}
  // "" if it is good.
  const std::string& wrong() const { return wrong_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    if (depth_ != 1 || keys_.insert(name).second) return true;
    wrong_ = "duplicate key " + shown(name) + "; keep one of them";
    return false;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 3, column 5: syntax error while …"
    std::string why = error.what();
    for (const char* before : {"] ", "column "}) {
      if (const auto at = why.find(before); at != std::string::npos)
        why.erase(0, at + std::strlen(before));
    }
    // The number of the column; without one, npos is far beyond.
    if (const auto colon = why.find(": "); colon < 12) why.erase(0, colon + 2);
    // It quotes the file, which may hold anything.
    for (char& byte : why) {
      if (byte < ' ' || byte > '~') byte = '?';
    }
    wrong_ = place_in(text_, position) + ": " + shortened(why, kLongestReason) +
             "; see moetraced --print-config for an example";
    return false;
  }

 private:
  bool enter() {
    ++depth_;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }
  static std::string shown(const std::string& name) { return ConfigJson(name).dump(); }

  const std::string& text_;
  std::string wrong_;
  int depth_ = 0;
  std::set<std::string> keys_;
};

}  // namespace

Result<ConfigEntries> parse_config(const std::string& path, const std::string& text) {
  Syntax syntax(text);
  if (!ConfigJson::sax_parse(text, &syntax, nlohmann::json::input_format_t::json, true, true))
    return bad_file(path, syntax.wrong());
  const ConfigJson json = ConfigJson::parse(text, nullptr, false, true);
  if (!json.is_object())
    return bad_file(path, R"(expected a JSON object such as {"output_dir": "/var/lib/moetrace"})");
  ConfigEntries entries;
  for (const auto& item : json.items()) entries.emplace_back(item.key(), item.value());
  return entries;
}

Result<ConfigEntries> read_config_file(const std::string& path) {
  // Without O_NONBLOCK a pipe would wait for its other end.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    return bad_file(path, std::string("can't read the configuration: ") + std::strerror(errno) +
                              "; check --config or MOETRACE_CONFIG");
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return bad_file(path, std::string("is ") +
                              (S_ISDIR(status.st_mode) ? "a folder" : "a device or a pipe") +
                              "; name a regular file, which SIGHUP can read again");
  }
  std::string text(kMostBytes + 1, '\0');
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + bytes, text.size() - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return bad_file(path, std::string("can't read the configuration: ") + std::strerror(errno));
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  if (bytes > kMostBytes)
    return bad_file(path, "has more than 1 MiB, too much for a configuration; check its name");
  text.resize(bytes);
  return parse_config(path, text);
}

}  // namespace moetrace
