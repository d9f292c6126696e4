// SPDX-License-Identifier: Apache-2.0
// tests/README.md names the places where a mistake would break a promise, and the test cases that notice it. A file, a
// function or a test case that was renamed must be renamed there, too. The names of test cases fit a line of a report.
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/catch.hpp"

namespace fs = std::filesystem;

namespace {

const std::string start_of_test_case = "TEST_CASE(\"";

std::string read(const fs::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// All C++ sources of the tests, each as one line, and string literals in several pieces as one.
std::string test_sources(const fs::path& root) {
  std::string all;
  for (const auto& entry : fs::recursive_directory_iterator(root / "tests")) {
    if (entry.path().extension() == ".cpp") all += read(entry.path());
  }
  return std::regex_replace(std::regex_replace(all, std::regex("\n *"), ""), std::regex("\"\""), "");
}

/// What a row "| what goes wrong | `file` `Class::function`: mistake | `test` *test case* |" names and is not there.
std::vector<std::string> stale_names(const std::string& row, const fs::path& root, const std::string& sources) {
  std::vector<std::string> stale;
  const std::size_t last_cell = row.rfind(" | ");
  const std::string places = row.substr(0, last_cell), tests = row.substr(last_cell);
  static const std::regex place("`([\\w./]+\\.\\w+)` `([^`]+)`"), test_case("\\*([^*]+)\\*");
  const std::sregex_iterator none;
  if (!std::regex_search(places, place)) stale.push_back("no file and function");
  for (std::sregex_iterator it(places.begin(), places.end(), place); it != none; ++it) {
    std::string file = (*it)[1];
    const std::string name = (*it)[2];
    const std::size_t scope = name.rfind("::");
    const std::string function = scope == std::string::npos ? name : name.substr(scope + 2);
    if (!fs::exists(root / file))
      stale.push_back(file);
    else if (read(root / file).find(function) == std::string::npos)
      stale.push_back(file.append(": ").append(function));
  }
  for (std::sregex_iterator it(tests.begin(), tests.end(), test_case); it != none; ++it) {
    if (sources.find(start_of_test_case + (*it)[1].str()) == std::string::npos) stale.push_back((*it)[1]);
  }
  return stale;
}

/// The names of test cases in these sources, which test_sources gives, that are longer than a line of ctest's report.
std::vector<std::string> long_names(const std::string& sources) {
  constexpr std::size_t most_characters = 79;
  std::vector<std::string> found;
  for (std::size_t begin = 0; (begin = sources.find(start_of_test_case, begin)) != std::string::npos;) {
    begin += start_of_test_case.size();
    const std::string name = sources.substr(begin, sources.find('"', begin) - begin);
    if (name.size() > most_characters) found.push_back(name);
  }
  return found;
}

}  // namespace

TEST_CASE("files, functions and test cases that tests/README.md names exist") {
  const fs::path root = CARAVAN_SOURCE_TREE;
  const std::string sources = test_sources(root);
  std::ifstream readme(root / "tests/README.md");
  int rows = 0;
  bool inside = false;
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("## ")) inside = line == "## What the tests guard against";
    if (!inside || !line.starts_with("| ") || line.starts_with("| what goes wrong |")) continue;
    ++rows;
    INFO(line);
    for (const std::string& name : stale_names(line, root, sources)) FAIL_CHECK("not there: " << name);
  }
  CHECK(rows > 100);
}

TEST_CASE("a row that names a file, a function or a test case that is gone is noticed") {
  const fs::path root = CARAVAN_SOURCE_TREE;
  const std::string sources = "TEST_CASE(\"grids are split\") {";
  const auto stale = [&](const std::string& places, const std::string& tests) {
    return stale_names("| wrong | " + places + " | " + tests + " |", root, sources);
  };
  using Names = std::vector<std::string>;
  CHECK(stale("`src/layout/grid.cpp` `Grid::tp_group`: 0", "`layout_test` *grids are*; `cli.x`").empty());
  CHECK(stale("`src/layout/gird.cpp` `tp_group`: 0", "`layout_test`") == Names{"src/layout/gird.cpp"});
  CHECK(stale("`src/layout/grid.cpp` `pp_group`: 0", "`layout_test`") == Names{"src/layout/grid.cpp: pp_group"});
  CHECK(stale("`src/layout/grid.cpp` `tp_group`", "`layout_test` *grids were*") == Names{"grids were"});
  CHECK(stale("grid.cpp, `tp_group`: 0", "`layout_test`") == Names{"no file and function"});
}

TEST_CASE("no test case has a name of 80 characters or more") {
  for (const std::string& name : long_names(test_sources(CARAVAN_SOURCE_TREE))) FAIL_CHECK("too long: " << name);
}

TEST_CASE("a test case whose name is too long is noticed") {
  const std::string longest(79, 'n'), too_long(80, 'n');
  const std::string sources = start_of_test_case + "short\") {" + start_of_test_case + longest + "\") {" +
                              start_of_test_case + too_long + "\") {";
  CHECK(long_names(sources) == std::vector<std::string>{too_long});
}
