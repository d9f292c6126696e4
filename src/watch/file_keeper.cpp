// SPDX-License-Identifier: Apache-2.0
#include "watch/file_keeper.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "core/awake_clock.hpp"
#include "core/background_thread.hpp"

namespace caravan::watch {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// What the thread uses; it may outlive the object.
struct FileKeeper::Shared {
  Shared(WatchFolder files, std::shared_ptr<NodePages> all_pages, std::string host_name, const Times& settings)
      : folder(std::move(files)), pages(std::move(all_pages)), host(std::move(host_name)), times(settings) {}

  WatchFolder folder;
  std::shared_ptr<NodePages> pages;
  std::string host;
  Times times;

  std::mutex mutex;
  std::condition_variable wake, ended;
  std::vector<Task> tasks;
  std::string stack;  // empty: none
  bool ending = false, done = false;
  std::atomic<bool> alarm{false};
  std::atomic<std::uint64_t> rounds{1};

  RankState own() const { return state_of(pages->own(), host); }

  void run() {
    Clock::time_point written{};
    std::string stack_there;
    std::unique_lock lock(mutex);
    while (!ending) {
      std::vector<Task> now;
      now.swap(tasks);
      const std::string given = stack;
      lock.unlock();
      for (const Task& task : now) task(folder);
      alarm = folder.alarm();
      if (alarm || Seconds(Clock::now() - written).count() >= times.pace) {
        folder.write_state(own());
        written = Clock::now();
      }
      if (alarm && !given.empty() && given != stack_there) {
        folder.write_stack(given);
        stack_there = given;
      } else if (!alarm && !stack_there.empty()) {
        folder.remove_stack();
        stack_there.clear();
      }
      ++rounds;
      lock.lock();
      if (!alarm && stack == given) stack.clear();
      wake.wait_for(lock, Seconds(times.tick), [this] { return ending || !tasks.empty(); });
    }
    const std::vector<Task> last = std::move(tasks);
    lock.unlock();
    for (const Task& task : last) task(folder);
    folder.clean_up();
    lock.lock();
    done = true;
    ended.notify_all();
  }
};

FileKeeper::FileKeeper(const std::filesystem::path& folder, std::shared_ptr<NodePages> pages, std::string host,
                       const Times& times) {
  if (folder.empty()) return;
  const int rank = pages->rank();
  shared_ = std::make_shared<Shared>(WatchFolder(folder, rank), std::move(pages), std::move(host), times);
  thread_ = core::start_attendant("caravan-files", [shared = shared_] { shared->run(); });
}

FileKeeper::~FileKeeper() {
  if (thread_.joinable()) end(shared_->times.patience);
}

bool FileKeeper::wait_for(const Task& task, const std::function<bool()>& came, const std::function<bool()>& give_up) {
  if (!shared_ || silent_since_ == shared_->rounds) return false;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->tasks.push_back(task);
  }
  shared_->wake.notify_all();
  const core::AwakeStopwatch stopwatch;
  do {
    if (came()) return true;
    if (give_up()) return false;
  } while (stopwatch.seconds() < shared_->times.patience);
  silent_since_ = shared_->rounds;
  return false;
}

bool FileKeeper::alarm() const { return shared_ && shared_->alarm; }

void FileKeeper::give_stack(const std::string& text) {
  if (!shared_) return;
  const std::lock_guard lock(shared_->mutex);
  shared_->stack = text;
}

bool FileKeeper::end(double seconds) {
  if (!thread_.joinable()) return true;
  std::unique_lock lock(shared_->mutex);
  shared_->ending = true;
  shared_->wake.notify_all();
  const bool done = shared_->ended.wait_for(lock, Seconds(seconds), [this] { return shared_->done; });
  lock.unlock();
  if (done) {
    thread_.join();
  } else {
    thread_.detach();
  }
  return done;
}

}  // namespace caravan::watch
