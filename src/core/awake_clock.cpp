// SPDX-License-Identifier: Apache-2.0
#include "core/awake_clock.hpp"

#include <condition_variable>
#include <mutex>

#include "core/background_thread.hpp"

namespace caravan::core {

AwakeClock::AwakeClock() {
  ticker_ = start_attendant("caravan-clock", [this](const std::stop_token& stop) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::duration<double> tick(resolution / 2);
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    auto before = Clock::now();
    while (!never.wait_for(lock, stop, tick, [&] { return stop.stop_requested(); })) {
      const auto now = Clock::now();
      seconds_ = seconds_ + std::min(std::chrono::duration<double>(now - before).count(), 4 * tick.count());
      before = now;
    }
  });
}

}  // namespace caravan::core
