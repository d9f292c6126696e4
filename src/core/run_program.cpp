// SPDX-License-Identifier: Apache-2.0
#include "core/run_program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace caravan::core {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<char*> environment_without(const std::vector<std::string_view>& hidden) {
  std::vector<char*> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (std::none_of(hidden.begin(), hidden.end(), [&](std::string_view name) { return text.starts_with(name); })) {
      kept.push_back(*variable);
    }
  }
  kept.push_back(nullptr);
  return kept;
}

// A process group of its own, so that all of it can be killed; spawned, not forked: what this process holds in memory
// is not copied, and no descriptor is passed on.
pid_t spawn(const std::vector<std::string>& words, const std::vector<std::string_view>& hidden, int output) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment = environment_without(hidden);
  pid_t child = -1;
  const int error = posix_spawnp(&child, arguments[0], &files, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 ? child : -1;
}

// Whether there may be more to come.
bool read_some(int descriptor, std::string& output) {
  constexpr std::size_t most = 64 << 10;
  std::array<char, 4096> buffer;
  const ssize_t size = ::read(descriptor, buffer.data(), buffer.size());
  if (size > 0) output.append(buffer.data(), std::min(static_cast<std::size_t>(size), most - output.size()));
  return size > 0;
}

bool readable(int descriptor, std::chrono::milliseconds most) {
  pollfd wanted{descriptor, POLLIN, 0};  // a descriptor of −1 is never readable
  return ::poll(&wanted, 1, static_cast<int>(most.count())) > 0;
}

}  // namespace

std::optional<ProgramResult> run_program(const std::vector<std::string>& words,
                                         const std::vector<std::string_view>& hidden, std::chrono::milliseconds most) {
  using namespace std::chrono_literals;
  const auto end = Clock::now() + most;
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return std::nullopt;
  const pid_t child = spawn(words, hidden, pipe[1]);
  ::close(pipe[1]);
  std::optional<ProgramResult> result;
  std::string output;
  bool more = true;
  while (child > 0) {
    // Another process may keep the pipe open when the program has ended: its end is what is waited for.
    if (readable(more ? pipe[0] : -1, 10ms)) more = read_some(pipe[0], output);
    int status = 0;
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) {
      while (more && readable(pipe[0], 0ms)) more = read_some(pipe[0], output);
      result = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), std::move(output)};
    } else if (ended == 0 && Clock::now() >= end) {
      ::kill(-child, SIGKILL);
      ::waitpid(child, &status, 0);
    } else if (ended == 0) {
      continue;
    }
    break;
  }
  ::close(pipe[0]);
  return result;
}

}  // namespace caravan::core
