// SPDX-License-Identifier: Apache-2.0
// The device room of a build for the host: its verbs are done when they return, and refuse a device.
#include <numeric>
#include <vector>

#include "core/error.hpp"
#include "device/event.hpp"
#include "tests/support/catch.hpp"

namespace caravan::device {
namespace {

const Place on_device{.kind = Kind::device, .index = 3, .stream = nullptr};

template <typename Work>
void check_refused(const Work& work) {
  try {
    work();
    FAIL_CHECK("accepted");
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::internal);
    CHECK(std::string(error.what()).find("at device 3: this build computes on the host alone") != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a place is the host's unless it says otherwise") {
  CHECK_FALSE(present());
  CHECK(name_of({}) == "the host");
  CHECK(name_of(on_device) == "device 3");
}

TEST_CASE("a copy on the host is done when it returns") {
  std::vector<int> from(1000), to(1001, -1);
  std::iota(from.begin(), from.end(), 0);
  copy(to.data(), from.data(), from.size() * sizeof(int), {});
  CHECK(std::equal(from.begin(), from.end(), to.begin()));
  CHECK(to.back() == -1);
  copy(nullptr, nullptr, 0, {});
}

TEST_CASE("an event on the host is done at once, and each wait is counted") {
  const std::int64_t before = waits();
  Event event;
  CHECK(event.done());
  event.record({});
  event.hold({});
  CHECK(event.done());
  CHECK(waits() == before);
  wait(event, "a copy");
  wait(event, "a copy");
  CHECK(waits() == before + 2);
}

TEST_CASE("a build for the host refuses a device even where its stream is null") {
  int value = 1, other = 2;
  check_refused([&] { copy(&value, &other, sizeof value, on_device); });
  CHECK(value == 1);
  Event event;
  check_refused([&] { event.record(on_device); });
  check_refused([&] { event.hold(on_device); });
}

}  // namespace caravan::device
