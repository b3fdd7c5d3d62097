#include "daemon/config/near_name.hpp"

#include <algorithm>
#include <cstddef>

namespace moetrace {
namespace {

// A longer text is not a misspelt name, and the table below grows with its length.
constexpr std::size_t kLongestText = 100;

// Optimal string alignment.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string near_name(std::string_view text, const std::vector<std::string>& names) {
  if (text.size() > kLongestText) return "";
  std::string nearest;
  std::size_t least = kLongestText;
  for (const std::string& name : names) {
    const std::size_t away = distance(text, name);
    if (away > std::max<std::size_t>(1, name.size() / 3) || away >= least) continue;
    least = away;
    nearest = name;
  }
  return nearest;
}

}  // namespace moetrace
