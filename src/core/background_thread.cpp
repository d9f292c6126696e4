// SPDX-License-Identifier: Apache-2.0
#include "core/background_thread.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

namespace caravan::core {
namespace {

struct Present {
  std::mutex mutex;
  std::vector<int> tasks;
};
Present& present() {
  static Present instance;
  return instance;
}

}  // namespace

BlockedSignals::BlockedSignals() {
  sigset_t all;
  sigfillset(&all);
  // A thread's own faults: blocked, they would end the process before their handlers know (io/mapping_faults.hpp).
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &former_);
}

BlockedSignals::~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &former_, nullptr); }

void name_this_thread(const char* name) { pthread_setname_np(pthread_self(), name); }

AtWork::AtWork() {
  const std::lock_guard guard(present().mutex);
  present().tasks.push_back(gettid());
}

AtWork::~AtWork() {
  const std::lock_guard guard(present().mutex);
  std::erase(present().tasks, gettid());
}

std::vector<int> workers() {
  const std::lock_guard guard(present().mutex);
  return present().tasks;
}

}  // namespace caravan::core
