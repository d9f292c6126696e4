// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "watch/node_pages.hpp"
#include "watch/watch_folder.hpp"

namespace caravan::watch {

/// The one thread of a watchdog that touches files. A file system that does not answer holds up nobody else: who asks
/// waits for a while and goes on without.
class FileKeeper {
 public:
  struct Times {      // in seconds
    double tick;      // between two looks at the alarm
    double pace;      // between two writes of the own state, unless there is an alarm
    double patience;  // for an answer
  };

  /// Writes what this rank's page says into the folder, which exists, from now on. An empty path: there is no folder,
  /// and nothing is answered.
  FileKeeper(const std::filesystem::path& folder, std::shared_ptr<NodePages> pages, std::string host,
             const Times& times);
  /// After end().
  ~FileKeeper();
  FileKeeper(const FileKeeper&) = delete;
  FileKeeper& operator=(const FileKeeper&) = delete;

  /// What `question` returns on that thread; nothing when it does not come in time, or `give_up` holds meanwhile. After
  /// an answer that did not come, others are not waited for until the thread has moved again.
  template <typename Answer>
  std::optional<Answer> ask(std::function<Answer(const WatchFolder&)> question, const std::function<bool()>& give_up) {
    const auto answer = std::make_shared<std::promise<Answer>>();
    std::future<Answer> future = answer->get_future();
    const auto came = [&] { return future.wait_for(slice) == std::future_status::ready; };
    const auto put = [answer, question = std::move(question)](const WatchFolder& folder) {
      answer->set_value(question(folder));
    };
    return wait_for(put, came, give_up) ? std::optional(future.get()) : std::nullopt;
  }

  /// Whether there was an alarm when the thread last looked.
  bool alarm() const;
  /// To be written as this rank's stack, as long as there is an alarm.
  void give_stack(const std::string& text);

  /// Lets the thread take this rank's files away and end. False when it does not in so many seconds: then it is left
  /// alone, with what it uses, for the end of the process.
  bool end(double seconds);

 private:
  using Task = std::function<void(const WatchFolder&)>;
  static constexpr std::chrono::milliseconds slice{10};
  struct Shared;

  bool wait_for(const Task& task, const std::function<bool()>& came, const std::function<bool()>& give_up);

  std::shared_ptr<Shared> shared_;
  std::uint64_t silent_since_ = 0;  // the round in which no answer came; 0: none
  std::jthread thread_;
};

}  // namespace caravan::watch
