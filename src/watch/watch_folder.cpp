// SPDX-License-Identifier: Apache-2.0
#include "watch/watch_folder.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "core/json.hpp"

namespace caravan::watch {
namespace {

constexpr std::size_t least_bytes = 2048;  // so that a newer state covers the former one

// In place: a rename for every state would be a change of the folder each time.
void overwrite(const std::filesystem::path& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return;
  [[maybe_unused]] const ssize_t written = ::pwrite(file, text.data(), text.size(), 0);
  [[maybe_unused]] const int cut = ::ftruncate(file, static_cast<off_t>(text.size()));
  ::close(file);
}

std::optional<std::string> read(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::filesystem::path WatchFolder::file(const char* kind, int rank, const char* suffix) const {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%s-%05d%s", kind, rank, suffix);
  return folder_ / name.data();
}

void WatchFolder::write_state(const RankState& state) const {
  std::string text = core::json_text(to_json(state));
  text.resize(std::max(least_bytes, text.size() + 1), ' ');
  text.back() = '\n';
  overwrite(file("rank", rank_, ".json"), text);
}

RankState WatchFolder::read_state(int rank) const {
  return parse_state(read(file("rank", rank, ".json")).value_or(""));
}

bool WatchFolder::raise_alarm() const {
  const int made = ::open((folder_ / "alarm").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (made < 0) return errno != EEXIST;
  ::close(made);
  return true;
}

bool WatchFolder::alarm() const { return ::access((folder_ / "alarm").c_str(), F_OK) == 0; }

void WatchFolder::withdraw_alarm() const { ::unlink((folder_ / "alarm").c_str()); }

void WatchFolder::write_stack(const std::string& text) const {
  const std::filesystem::path whole = file("stack", rank_, ".txt"), part = file("stack", rank_, ".part");
  overwrite(part, text);
  ::rename(part.c_str(), whole.c_str());
}

std::optional<std::string> WatchFolder::read_stack(int rank) const { return read(file("stack", rank, ".txt")); }

void WatchFolder::remove_stack() const { ::unlink(file("stack", rank_, ".txt").c_str()); }

void WatchFolder::clean_up() const {
  remove_stack();
  ::unlink(file("rank", rank_, ".json").c_str());
  ::rmdir(folder_.c_str());  // the last one succeeds
}

}  // namespace caravan::watch
