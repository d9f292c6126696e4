// SPDX-License-Identifier: Apache-2.0
#include "tests/structure/layering.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

namespace caravan::structure {
namespace {

namespace fs = std::filesystem;

struct Include {
  int line = 0;
  std::string name;  // what stands between the quotes or brackets
  bool quoted = false;
};

struct File {
  std::string room;
  std::vector<Include> includes;
};

/// A library from outside and the rooms that may see it.
struct Foreign {
  std::string_view name;
  std::regex header;
  std::set<std::string> rooms;
  bool only_sources;  // not even in a header of those rooms
};

const std::vector<Foreign>& foreign_libraries() {
  static const std::vector<Foreign> table{
      {"MPI", std::regex("mpi\\.h"), {"comm"}, true},
      {"NCCL", std::regex("nccl\\.h"), {"comm"}, true},
      {"HDF5", std::regex("hdf5.*\\.h|H5.*\\.h"), {"io"}, false},
      {"SentencePiece", std::regex("sentencepiece.*"), {"data"}, true},
      {"Kokkos", std::regex("Kokkos_.*|KokkosCore.*"), {"kernels"}, false},
      {"torch", std::regex("(torch|ATen|c10)/.*"), {"parallel", "model", "train", "evaluate", "commands"}, false},
  };
  return table;
}

std::string read(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The words after LINKS, PUBLIC, PRIVATE or INTERFACE in a room's calls; "caravan_io" stands for the room io.
std::set<std::string> linked_targets(const fs::path& cmake_file) {
  const std::string text = std::regex_replace(read(cmake_file), std::regex("#[^\n]*"), "");
  static const std::regex call("(caravan_add_room|target_link_libraries)\\s*\\(([^)]*)\\)");
  std::set<std::string> targets;
  for (auto it = std::sregex_iterator(text.begin(), text.end(), call); it != std::sregex_iterator(); ++it) {
    std::istringstream words((*it)[2].str());
    std::string word;
    bool linking = false;
    while (words >> word) {
      if (word == "SOURCES" || word == "TORCH") linking = false;
      if (linking) targets.insert(word);
      if (word == "LINKS" || word == "PUBLIC" || word == "PRIVATE" || word == "INTERFACE") linking = true;
    }
  }
  return targets;
}

class Tree {
 public:
  explicit Tree(const fs::path& root) {
    std::vector<fs::path> folders{root / "kernels", root / "io"};
    if (fs::is_directory(root / "src")) {
      for (const auto& entry : fs::directory_iterator(root / "src")) folders.push_back(entry.path());
    }
    for (const fs::path& folder : folders) {
      if (fs::exists(folder / "CMakeLists.txt")) read_room(folder);
    }
    if (rooms_.empty())
      throw std::runtime_error("no rooms (src/*, kernels, io with a CMakeLists.txt) in " + root.string());
  }

  std::vector<std::string> broken() {
    for (const auto& [room, targets] : rooms_) {
      for (const std::string& linked : reachable(room)) {
        if (linked != room && reachable(linked).contains(room)) report(room, "links ", linked, ", which links it back");
      }
    }
    for (const auto& [path, file] : files_) {
      for (const Include& include : file.includes) check_include(path, file, include);
      const std::set<std::string> seen = libraries_seen(path);
      if (seen.contains("torch") && seen.contains("Kokkos")) report(path, "sees both torch and Kokkos");
    }
    return problems_;
  }

 private:
  void read_room(const fs::path& folder) {
    const std::string room = folder.filename();
    rooms_[room] = linked_targets(folder / "CMakeLists.txt");
    static const std::regex line_pattern("\\s*#\\s*include\\s*([<\"])([^>\"]+)[>\"].*");
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      static const std::array<std::string_view, 5> suffixes{".hpp", ".h", ".cpp", ".cu", ".cuh"};
      if (std::find(suffixes.begin(), suffixes.end(), entry.path().extension()) == suffixes.end()) continue;
      File file{room, {}};
      std::istringstream text(read(entry.path()));
      std::string line;
      for (int number = 1; std::getline(text, line); ++number) {
        std::smatch match;
        if (std::regex_match(line, match, line_pattern)) file.includes.push_back({number, match[2], match[1] == "\""});
      }
      files_[room + "/" + fs::relative(entry.path(), folder).generic_string()] = file;
    }
  }

  /// The room itself and every room that it links, directly or through others.
  std::set<std::string> reachable(const std::string& room) const {
    std::set<std::string> found{room};
    std::vector<std::string> open{room};
    while (!open.empty()) {
      const std::string next = open.back();
      open.pop_back();
      for (const std::string& target : rooms_.at(next)) {
        const std::string linked = target.starts_with("caravan_") ? target.substr(8) : "";
        if (rooms_.contains(linked) && found.insert(linked).second) open.push_back(linked);
      }
    }
    return found;
  }

  void check_include(const std::string& path, const File& file, const Include& include) {
    const auto own = [&](auto&&... parts) { report(path, "line ", std::to_string(include.line), ": ", parts...); };
    for (const Foreign& library : foreign_libraries()) {
      if (!std::regex_match(include.name, library.header)) continue;
      if (!library.rooms.contains(file.room))
        own("room ", file.room, " may not see ", library.name);
      else if (library.only_sources && !path.ends_with(".cpp"))
        own(library.name, " belongs in a .cpp file");
      return;
    }
    if (!include.quoted) return;
    const auto target = files_.find(include.name);
    if (target == files_.end()) {
      own("\"", include.name, "\" is not a file of a room; includes are written from the room");
    } else if (!reachable(file.room).contains(target->second.room)) {
      own("room ", file.room, " does not link room ", target->second.room);
    }
  }

  /// Names of the outside libraries that a file sees itself or through headers of this tree.
  std::set<std::string> libraries_seen(const std::string& path) const {
    std::set<std::string> seen_files{path};
    std::set<std::string> libraries;
    std::vector<std::string> open{path};
    while (!open.empty()) {
      const File& file = files_.at(open.back());
      open.pop_back();
      for (const Include& include : file.includes) {
        for (const Foreign& library : foreign_libraries()) {
          if (std::regex_match(include.name, library.header)) libraries.emplace(library.name);
        }
        if (files_.contains(include.name) && seen_files.insert(include.name).second) open.push_back(include.name);
      }
    }
    return libraries;
  }

  template <typename... Parts>
  void report(const std::string& where, const Parts&... parts) {
    std::string message = where + ": ";
    (message.append(parts), ...);
    problems_.push_back(message);
  }

  std::map<std::string, std::set<std::string>> rooms_;  // room → the targets it links
  std::map<std::string, File> files_;                   // "core/error.hpp" → its includes
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<std::string> broken_layers(const std::filesystem::path& root) { return Tree(root).broken(); }

}  // namespace caravan::structure
