// SPDX-License-Identifier: Apache-2.0
#include "convert/terms.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <optional>
#include <sstream>

#include "io/atomic_file.hpp"

namespace caravan::convert {
namespace {

namespace fs = std::filesystem;

constexpr std::array beginnings{"license", "licence",   "notice",       "use_policy",
                                "copying", "copyright", "usage_policy", "acceptable_use"};

// A license by what only its text says near its beginning, in capitals. A text that quotes it further down, or goes on
// after it, says something else. Lengths are in characters without repeated spaces.
struct KnownText {
  const char* said;
  const char* id;             // the Hub's
  std::size_t begins_before;  // copyright lines may stand before it
  std::size_t most;           // of the whole text
};
constexpr std::size_t any_length = std::numeric_limits<std::size_t>::max();
constexpr std::array<KnownText, 8> known_texts{{
    {"LLAMA 3.3 COMMUNITY LICENSE", "llama3.3", 200, any_length},
    {"LLAMA 3.2 COMMUNITY LICENSE", "llama3.2", 200, any_length},
    {"LLAMA 3.1 COMMUNITY LICENSE", "llama3.1", 200, any_length},
    {"LLAMA 3 COMMUNITY LICENSE", "llama3", 200, any_length},
    {"LLAMA 2 COMMUNITY LICENSE", "llama2", 200, any_length},
    {"APACHE LICENSE VERSION 2.0", "apache-2.0", 200, 12000},
    {"PERMISSION IS HEREBY GRANTED, FREE OF CHARGE, TO ANY PERSON OBTAINING A COPY OF THIS SOFTWARE", "mit", 500, 1500},
    {"NEITHER THE NAME OF THE COPYRIGHT HOLDER NOR THE NAMES OF ITS CONTRIBUTORS", "bsd-3-clause", 1200, 2000},
}};

std::string changed_case(std::string text, int (*change)(int)) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [change](unsigned char c) { return static_cast<char>(change(c)); });
  return text;
}

/// In capitals, with one space for each run of white space.
std::string plain(const std::string& text) {
  std::istringstream words(changed_case(text, std::toupper));
  std::string joined, word;
  while (words >> word) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

std::string without_quotes(std::string text) {
  const auto edge = [](unsigned char c) { return std::isspace(c) != 0 || c == '"' || c == '\''; };
  while (!text.empty() && edge(static_cast<unsigned char>(text.back()))) text.pop_back();
  const auto first = std::find_if_not(text.begin(), text.end(), edge);
  return {first, text.end()};
}

/// The fields license, license_name and license_link of the YAML between the first two lines "---".
License read_head(const std::string& card) {
  License license;
  std::istringstream lines(card);
  std::string line;
  if (!std::getline(lines, line) || without_quotes(line) != "---") return license;
  std::string key;
  while (std::getline(lines, line) && without_quotes(line) != "---") {
    // "license:" may have its value, or a list of them, in the lines below it.
    const bool item = without_quotes(line).starts_with("- ");
    if (!item) {
      const std::size_t colon = line.find(':');
      if (colon == std::string::npos || std::isspace(static_cast<unsigned char>(line.front())) != 0) continue;
      key = line.substr(0, colon);
    }
    const std::string value = without_quotes(line.substr(line.find(item ? '-' : ':') + 1));
    if (key == "license" && license.id.empty()) license.id = value;
    if (key == "license_name") license.name = value;
    if (key == "license_link") license.link = value;
  }
  return license;
}

constexpr const char* other = "other";

License see(const std::string& file) { return {other, "see-" + changed_case(file, std::tolower), file}; }

License recognised(const std::string& text, const std::string& file) {
  const std::string words = plain(text);
  for (const KnownText& known : known_texts) {
    if (words.find(known.said) < known.begins_before && words.size() <= known.most) return {known.id, "", ""};
  }
  return see(file);
}

}  // namespace

std::vector<std::string> files_of_terms(const fs::path& folder) {
  std::vector<std::string> names;
  if (!fs::is_directory(folder)) return names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::string lower = changed_case(name, std::tolower);
    const bool one =
        std::any_of(beginnings.begin(), beginnings.end(), [&](const char* word) { return lower.starts_with(word); });
    if (one && entry.is_regular_file()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void copy_terms(const fs::path& from, const fs::path& to) {
  for (const std::string& name : files_of_terms(from)) {
    io::write_file_atomically(to / name, io::read_file(from / name));
  }
}

void keep_terms(const fs::path& base, const fs::path& checkpoint) {
  copy_terms(base, checkpoint);
  if (fs::exists(base / "README.md")) {
    io::write_file_atomically(checkpoint / base_card_file, io::read_file(base / "README.md"));
  }
}

License license_of(const fs::path& folder) {
  for (const char* name : {base_card_file, "README.md"}) {
    if (!fs::exists(folder / name)) continue;
    License license = read_head(io::read_file(folder / name));
    if (!license.id.empty()) return license;
  }
  std::optional<License> all;
  for (const std::string& name : files_of_terms(folder)) {
    if (!changed_case(name, std::tolower).starts_with("licen")) continue;
    const License one = recognised(io::read_file(folder / name), name);
    if (!all) all = one;
    if (one.id == all->id) continue;
    // Some are for the code, others for the weights, and which ones are is not known.
    all = one.id == other ? one : see(name);
  }
  return all.value_or(License{});
}

}  // namespace caravan::convert
