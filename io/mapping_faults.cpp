// SPDX-License-Identifier: Apache-2.0
#include "io/mapping_faults.hpp"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <string>

#include "core/error.hpp"
#include "core/log.hpp"

namespace caravan::io {

/// One of a list that only grows, so that the handler may walk it at any time; it is used again when it is free.
struct MappingFaults::Mapping {
  std::atomic<const std::byte*> begin{nullptr};  // null: free
  const std::byte* end = nullptr;
  std::string message;
  Mapping* next = nullptr;
};

namespace {

std::atomic<MappingFaults::Mapping*> first{nullptr};
struct sigaction former;

std::mutex& list_mutex() {
  static std::mutex instance;
  return instance;
}

// What follows runs in a signal's handler: only what POSIX allows there.
[[noreturn]] void end_process(const std::string& message) {
  constexpr int longest_wait = 3000;  // milliseconds; standard error may be a pipe that nobody empties
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&room, 1, longest_wait) > 0) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, message.data(), message.size());
  }
  ::_exit(static_cast<int>(core::ExitCode::peer_lost));
}

extern "C" void handle_bus_error(int number, siginfo_t* info, void* /*context*/) {
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  for (const auto* one = info->si_code == BUS_ADRERR ? first.load() : nullptr; one != nullptr; one = one->next) {
    const std::byte* begin = one->begin;
    if (begin != nullptr && at >= begin && at < one->end) end_process(one->message);
  }
  // Whatever was done before is done again, with its own flags: when this returns, the instruction faults again.
  ::sigaction(number, &former, nullptr);
  if (info->si_code <= 0) ::raise(number);  // it was sent by a process
}

void handle_bus_errors() {
  static const bool once = [] {
    struct sigaction action {};
    action.sa_sigaction = handle_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &former) == 0;
  }();
  static_cast<void>(once);
}

}  // namespace

MappingFaults::MappingFaults(const std::filesystem::path& path, const std::byte* data, std::size_t size) {
  handle_bus_errors();
  const std::lock_guard lock(list_mutex());
  Mapping* place = first;
  while (place != nullptr && place->begin != nullptr) place = place->next;
  const bool is_new = place == nullptr;
  if (is_new) place = new Mapping;
  place->message = core::error_text(core::concat(
      "cannot read ", path.string(),
      ": the storage failed, or the file was cut off while it was in use; start again when the file is whole"));
  place->end = data + size;
  place->begin = data;
  if (is_new) {
    place->next = first;
    first = place;
  }
  mapping_ = place;
}

MappingFaults::~MappingFaults() { mapping_->begin = nullptr; }

}  // namespace caravan::io
