// SPDX-License-Identifier: Apache-2.0
// What the watchdog costs a rank: in its main thread for each collective, and in its own threads for each second.
#include "watch/watchdog.hpp"

#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <thread>

namespace {

using namespace caravan;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main() {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "caravan-bench-watchdog";
  std::filesystem::create_directories(folder);
  const watch::Watchdog watchdog(folder, 600, watch::NodePages(0, 1));
  watch::Activity& activity = watch::activity();
  const int slot = activity.add_group("tp", 2, 0);

  constexpr std::int64_t collectives = 10'000'000;
  const auto now = Clock::now();  // the communicator reads the clock for its own account anyway
  for (int round = 0; round < 3; ++round) {
    const auto start = Clock::now();
    for (std::int64_t number = 1; number <= collectives; ++number) {
      activity.begin(slot, number);
      activity.wait(slot, number, "gather input of column linears", now);
      activity.go_on(now);
    }
    std::printf("publication: %.1f ns for each collective\n",
                1e9 * seconds_since(start) / static_cast<double>(collectives));
  }

  constexpr int seconds = 30;
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  std::printf("threads: %.1f us of a processor for each second\n", 1e6 * (processor_seconds() - before) / seconds);
  return 0;
}
