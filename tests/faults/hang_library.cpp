// SPDX-License-Identifier: Apache-2.0
// Loaded before a program's own libraries (LD_PRELOAD), it makes posix_memalign, by which LibTorch gets the memory of
// tensors, hang for ever in the main thread of rank CARAVAN_HANG_RANK as soon as the file CARAVAN_HANG_FILE exists; and
// MPI_Finalize when CARAVAN_HANG_AT_END is set. A thread of its own reads a clock all the time, as those of many
// libraries do.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

const char* file_to_wait_for() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* wanted = std::getenv("CARAVAN_HANG_RANK");
  const bool victim = wanted != nullptr && std::strcmp(rank != nullptr ? rank : "0", wanted) == 0;
  return victim ? std::getenv("CARAVAN_HANG_FILE") : nullptr;
}

void* read_a_clock(void*) {
  const int clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  const itimerspec tenth{{0, 100'000'000}, {0, 100'000'000}};
  timerfd_settime(clock, 0, &tenth, nullptr);
  for (std::uint64_t ticks = 0; read(clock, &ticks, sizeof ticks) == sizeof ticks;) continue;
  return nullptr;
}

__attribute__((constructor)) void start_clock() {
  if (file_to_wait_for() == nullptr) return;
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  pthread_t thread{};
  if (pthread_create(&thread, nullptr, read_a_clock, nullptr) != 0) std::abort();
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
}

}  // namespace

extern "C" void hang_for_ever() {
  std::atomic<int> turns{0};
  for (;;) ++turns;
}

extern "C" int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  using Function = int (*)(void**, std::size_t, std::size_t);
  static const auto genuine = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "posix_memalign"));
  static const char* const file = file_to_wait_for();
  if (file != nullptr && gettid() == getpid() && access(file, F_OK) == 0) hang_for_ever();
  return genuine(memory, alignment, size);
}

extern "C" int MPI_Finalize() {  // NOLINT(readability-identifier-naming): the library's name
  using Function = int (*)();
  if (file_to_wait_for() != nullptr && std::getenv("CARAVAN_HANG_AT_END") != nullptr) hang_for_ever();
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, "MPI_Finalize"))();
}
