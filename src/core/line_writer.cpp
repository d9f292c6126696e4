// SPDX-License-Identifier: Apache-2.0
#include "core/line_writer.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "core/background_thread.hpp"

namespace caravan::core {

void write_all(int descriptor, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(descriptor, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {  // another process that shares it has made it non-blocking
      pollfd room{descriptor, POLLOUT, 0};
      ::poll(&room, 1, -1);
      continue;
    }
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

template <typename Condition>
bool LineWriter::wait(std::unique_lock<std::mutex>& lock, Seconds patience, Condition condition) {
  return changed_.wait_for(lock, std::chrono::duration<double>(patience), condition);
}

void LineWriter::write(std::string text, Seconds patience, Wait when) {
  std::unique_lock lock(mutex_);
  if (bytes_ + text.size() > most_bytes && !waiting_.empty()) {
    ++lost_;
    return;
  }
  if (lost_ > 0) put(note_(std::exchange(lost_, 0)));
  put(std::move(text));
  const std::int64_t number = put_;
  start(lock);
  if (!stuck_ || when == Wait::always) stuck_ = !wait(lock, patience, [&] { return written_ >= number; });
}

void LineWriter::flush(Seconds patience) {
  std::unique_lock lock(mutex_);
  wait(lock, patience, [this] { return !writing_; });
}

void LineWriter::put(std::string text) {
  bytes_ += text.size();
  waiting_.push_back(std::move(text));
  ++put_;
}

void LineWriter::start(std::unique_lock<std::mutex>& lock) {
  if (std::exchange(writing_, true) || run_apart([this] { run(); })) return;
  lock.unlock();
  run();  // the system has no thread left
  lock.lock();
}

void LineWriter::run() {
  std::unique_lock lock(mutex_);
  while (!waiting_.empty()) {
    const std::string& text = waiting_.front();  // others only add behind it
    lock.unlock();
    std::fflush(stream_);
    write_all(::fileno(stream_), text);
    lock.lock();
    bytes_ -= text.size();
    waiting_.pop_front();
    ++written_;
    if (waiting_.empty() && lost_ > 0) put(note_(std::exchange(lost_, 0)));
    changed_.notify_all();
  }
  writing_ = stuck_ = false;
  changed_.notify_all();
}

}  // namespace caravan::core
