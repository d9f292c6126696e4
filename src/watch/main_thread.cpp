// SPDX-License-Identifier: Apache-2.0
#include "watch/main_thread.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>

#include "core/error.hpp"

namespace caravan::watch {
namespace {

constexpr std::size_t longest_name = 200;
constexpr int above_the_program = 2;  // this file's handler and the kernel's way into it

std::array<void*, 128> frames;
std::atomic<int> depth{0};  // of `frames`, once they are there

// Only addresses: their names need memory and locks that the interrupted code may hold.
extern "C" void caravan_note_stack(int) { depth.store(backtrace(frames.data(), static_cast<int>(frames.size()))); }

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  std::string result = status == 0 ? text.get() : name;
  if (result.size() > longest_name) result = result.substr(0, longest_name) + "...";
  return result;
}

std::string describe_frame(void* address, bool innermost) {
  // A caller's address is the instruction after the call, which may be the next function's first.
  const char* instruction = static_cast<const char*>(address) - (innermost ? 0 : 1);
  Dl_info found{};
  if (dladdr(instruction, &found) == 0 || found.dli_fname == nullptr) return core::concat("at ", address);
  std::ostringstream text;
  if (found.dli_sname != nullptr) text << demangled(found.dli_sname) << " in ";
  text << std::filesystem::path(found.dli_fname).filename().string() << "+0x" << std::hex
       << instruction - static_cast<const char*>(found.dli_fbase);
  return text.str();
}

std::string proc_file(int task, const char* name) {
  std::ifstream file(core::concat("/proc/self/task/", task, "/", name));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Nothing when the thread has ended.
std::optional<std::uint64_t> signs_of(int task) {
  std::uint64_t sum = 0;
  std::string field;
  std::istringstream io(proc_file(task, "io"));  // "rchar: N", "wchar: N", …; not on every kernel
  for (std::uint64_t value = 0; io >> field >> value;) {
    if (field == "rchar:" || field == "wchar:" || field == "read_bytes:") sum += value;
  }
  // After the other one: a thread that is there now was there then.
  // "PID (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt …"; the name may hold anything.
  const std::string stat = proc_file(task, "stat");
  if (stat.empty()) return std::nullopt;
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(") ") + 2)));
  for (int i = 0; i < 10 && fields >> field; ++i) {
    if (i == 7 || i == 9) sum += std::strtoull(field.c_str(), nullptr, 10);
  }
  return sum;
}

}  // namespace

MainThread::MainThread() : thread_(pthread_self()), task_(gettid()) {
  [[maybe_unused]] const int loaded = backtrace(frames.data(), 1);  // its first call allocates
  struct sigaction action {};
  action.sa_handler = caravan_note_stack;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int number = SIGRTMAX - 1; number >= SIGRTMIN; --number) {
    if (sigaction(number, nullptr, &former_) != 0 || former_.sa_handler != SIG_DFL) continue;
    if (sigaction(number, &action, nullptr) == 0) signal_ = number;
    break;
  }
}

MainThread::~MainThread() {
  if (signal_ != 0) sigaction(signal_, &former_, nullptr);
}

std::uint64_t MainThread::signs_of_work(const std::vector<int>& workers) {
  std::erase_if(seen_, [&](const auto& one) {
    return one.first != task_ && std::find(workers.begin(), workers.end(), one.first) == workers.end();
  });
  const auto look_at = [&](int task) {
    const std::optional<std::uint64_t> now = signs_of(task);
    if (!now) return;
    std::uint64_t& before = seen_[task];
    signs_ += *now >= before ? *now - before : *now;  // less: of another thread, under the number of one that has ended
    before = *now;
  };
  look_at(task_);
  for (const int worker : workers) look_at(worker);
  return signs_;
}

std::string MainThread::stack(double seconds, const std::function<void()>& meanwhile) const {
  if (signal_ == 0) return "no stack: every real-time signal has another use";
  depth.store(0);
  if (pthread_kill(thread_, signal_) != 0) return "no stack: the thread does not take signals";
  const auto start = std::chrono::steady_clock::now();
  int count = 0;
  while ((count = depth.load()) == 0) {
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > seconds) {
      std::string where = proc_file(task_, "wchan");
      if (where.empty() || where == "0") where = "an unknown place";
      return "no stack: the thread does not come back from the kernel, where it waits in " + where;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    meanwhile();
  }
  std::string text;
  for (int i = above_the_program; i < count; ++i) {
    text += core::concat(i > above_the_program ? "\n" : "", "#", i - above_the_program, " ",
                         describe_frame(frames[static_cast<std::size_t>(i)], i == above_the_program));
  }
  return text.empty() ? "no stack: it has no frames" : text;
}

}  // namespace caravan::watch
