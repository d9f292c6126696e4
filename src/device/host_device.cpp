// SPDX-License-Identifier: Apache-2.0
// The device room of a build that computes on the host alone.
#include <atomic>
#include <cstring>

#include "core/error.hpp"
#include "device/event.hpp"

namespace caravan::device {
namespace {

std::atomic<std::int64_t> waited{0};

void require_host(const Place& place, const char* what) {
  CARAVAN_CHECK(place.kind == Kind::host, what, " at ", name_of(place), ": this build computes on the host alone");
}

}  // namespace

class Event::State {};

std::string name_of(const Place& place) {
  return place.kind == Kind::host ? "the host" : core::concat("device ", place.index);
}

bool present() { return false; }

void copy(void* to, const void* from, std::size_t bytes, const Place& place) {
  require_host(place, "a copy");
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Event::record(const Place& place) { require_host(place, "an event"); }

void Event::hold(const Place& place) const { require_host(place, "an event"); }

bool Event::done() const { return true; }

void wait(const Event& event, const char* what) {
  CARAVAN_CHECK(event.done(), what);
  ++waited;
}

std::int64_t waits() { return waited; }

}  // namespace caravan::device
