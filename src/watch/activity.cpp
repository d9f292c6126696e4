// SPDX-License-Identifier: Apache-2.0
#include "watch/activity.hpp"

#include <algorithm>
#include <cstring>
#include <thread>
#include <type_traits>
#include <utility>

namespace caravan::watch {
namespace {

static_assert(std::is_trivially_copyable_v<Published> && sizeof(Doing) % 8 == 0 && sizeof(Membership) % 8 == 0);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<double>::is_always_lock_free);

template <std::size_t size>
void copy_text(std::array<char, size>& to, const char* from) {
  const std::size_t length = std::min(std::strlen(from), size - 1);
  std::memcpy(to.data(), from, length);
  to[length] = '\0';
}

std::int64_t nanoseconds(Activity::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

}  // namespace

Published Page::read() const {
  // Its process may be interrupted in the middle of a change; where that lasts, it stands still: better torn than
  // nothing then.
  constexpr int tries = 2000;
  std::array<std::uint64_t, sizeof(Published) / 8> copy;
  for (int i = 0; i < tries; ++i) {
    const std::uint64_t before = version.load(std::memory_order_acquire);
    for (std::size_t w = 0; w < copy.size(); ++w) copy[w] = words[w].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (before % 2 == 0 && version.load(std::memory_order_relaxed) == before) break;
    if (i < tries / 2) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  Published read;
  std::memcpy(static_cast<void*>(&read), copy.data(), sizeof read);
  read.doing.phase.back() = read.doing.operation.back() = '\0';
  for (Membership& group : read.groups) group.name.back() = '\0';
  return read;
}

Activity::Activity() {
  now_.doing.since = nanoseconds(Clock::now());
  put(&now_, sizeof now_);
}

void Activity::put(const void* member, std::size_t bytes) {
  const auto first = static_cast<std::size_t>(static_cast<const char*>(member) - reinterpret_cast<const char*>(&now_));
  for (std::size_t at = 0; at < bytes; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, static_cast<const char*>(member) + at, 8);
    page_->words[(first + at) / 8].store(word, std::memory_order_relaxed);
  }
}

void Activity::put_doing() {
  const std::uint64_t version = page_->version.load(std::memory_order_relaxed);
  page_->version.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  put(&now_.doing, sizeof now_.doing);
  page_->version.store(version + 2, std::memory_order_release);
}

int Activity::add_group(const std::string& name, int id, int color) {
  for (std::size_t slot = 0; slot < most_groups; ++slot) {
    Membership& group = now_.groups[slot];
    if (group.id >= 0) continue;
    group = {.id = id, .color = color};
    copy_text(group.name, name.c_str());
    put(&group, sizeof group);
    return static_cast<int>(slot);
  }
  return -1;
}

void Activity::remove_group(int slot) {
  if (slot < 0) return;
  Membership& group = now_.groups[static_cast<std::size_t>(slot)];
  group.id = -1;
  put(&group, sizeof group);
}

void Activity::begin(int slot, std::int64_t number) {
  if (failed_.load(std::memory_order_relaxed)) failed_.store(false, std::memory_order_relaxed);
  if (slot < 0) return;
  std::int64_t& begun = now_.groups[static_cast<std::size_t>(slot)].begun;
  begun = number;
  put(&begun, sizeof begun);
}

void Activity::wait(int slot, std::int64_t number, const char* operation, Clock::time_point now) {
  if (slot < 0) return;
  now_.doing.waiting = 1;
  now_.doing.slot = slot;
  now_.doing.number = number;
  now_.doing.since = nanoseconds(now);
  copy_text(now_.doing.operation, operation);
  put_doing();
}

void Activity::go_on(Clock::time_point now) {
  now_.doing.waiting = 0;
  now_.doing.since = nanoseconds(now);
  put_doing();
}

void Activity::enter_step(std::int64_t step) {
  now_.doing.step = step;
  put_doing();
}

void Activity::enter_phase(const char* phase) {
  copy_text(now_.doing.phase, phase);
  now_.doing.since = nanoseconds(Clock::now());
  put_doing();
}

void Activity::give_verdict(Verdict verdict) {
  const std::lock_guard lock(mutex_);
  verdict_ = std::move(verdict);
  taken_ = false;
  has_verdict_.store(true, std::memory_order_release);
}

void Activity::clear_verdict() {
  const std::lock_guard lock(mutex_);
  verdict_.reset();
  taken_ = false;
  has_verdict_.store(false, std::memory_order_release);
}

bool Activity::withdraw_verdict() {
  const std::lock_guard lock(mutex_);
  if (!verdict_ || taken_) return false;
  verdict_.reset();
  has_verdict_.store(false, std::memory_order_release);
  return true;
}

std::optional<std::string> Activity::take_verdict() {
  const std::lock_guard lock(mutex_);
  if (!verdict_) return std::nullopt;
  if (!taken_) {
    const Doing& doing = now_.doing;
    if (doing.waiting == 0 || doing.number != verdict_->number) return std::nullopt;
    const Membership& group = now_.groups[static_cast<std::size_t>(doing.slot)];
    if (group.id != verdict_->id || group.color != verdict_->color) return std::nullopt;
  }
  taken_ = true;
  failure_ = verdict_->text;
  failed_.store(true, std::memory_order_relaxed);
  return failure_;
}

void Activity::fail(const std::string& text) {
  const std::lock_guard lock(mutex_);
  failure_ = text;
  failed_.store(true, std::memory_order_relaxed);
}

std::optional<std::string> Activity::failure() const {
  if (!failed_.load(std::memory_order_relaxed)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Activity::publish_to(Page* page) {
  page_ = page != nullptr ? page : &own_;
  put(&now_, sizeof now_);
}

Activity& activity() {
  static Activity instance;
  return instance;
}

}  // namespace caravan::watch
