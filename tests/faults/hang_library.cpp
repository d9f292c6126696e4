// SPDX-License-Identifier: Apache-2.0
// Loaded before a program's own libraries (LD_PRELOAD), it makes posix_memalign, by which LibTorch gets the memory of
// tensors, hang for ever in the main thread of rank CARAVAN_HANG_RANK as soon as the file CARAVAN_HANG_FILE exists.
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

const char* file_to_wait_for() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* wanted = std::getenv("CARAVAN_HANG_RANK");
  const bool victim = wanted != nullptr && std::strcmp(rank != nullptr ? rank : "0", wanted) == 0;
  return victim ? std::getenv("CARAVAN_HANG_FILE") : nullptr;
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
