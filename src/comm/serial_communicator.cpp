// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "watch/activity.hpp"

namespace caravan::comm {
namespace {

class SerialCommunicator final : public Communicator {
 public:
  explicit SerialCommunicator(std::string name) : name_(std::move(name)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  Pending all_reduce(const char* operation, void*, std::int64_t, core::DType, Reduce,
                     const device::Place& place) override {
    require_host(operation, place);
    return {};
  }

  Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts, core::DType dtype,
                     const device::Place& place) override {
    return copy(operation, send, counts, receive, counts, dtype, place);
  }
  Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                         core::DType dtype, const device::Place& place) override {
    return copy(operation, send, counts, receive, counts, dtype, place);
  }
  Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                     const Counts& receive_counts, core::DType dtype, const device::Place& place) override {
    return copy(operation, send, send_counts, receive, receive_counts, dtype, place);
  }
  Pending broadcast(const char* operation, void*, std::int64_t, core::DType, int, const device::Place& place) override {
    require_host(operation, place);
    return {};
  }
  void barrier(const char*) override {}

 private:
  static void require_host(const char* operation, const device::Place& place) {
    CARAVAN_CHECK(place.kind == device::Kind::host, operation, " at ", device::name_of(place));
  }
  static Pending copy(const char* operation, const void* send, const Counts& send_counts, void* receive,
                      const Counts& receive_counts, core::DType dtype, const device::Place& place) {
    require_host(operation, place);
    watch::activity().go_on(watch::Activity::Clock::now());  // a sign of life where no rank waits for another
    CARAVAN_CHECK(send_counts.size() == 1 && send_counts == receive_counts, operation);
    const std::size_t bytes = static_cast<std::size_t>(send_counts[0]) * core::size_of(dtype);
    if (bytes > 0 && send != receive) std::memmove(receive, send, bytes);
    return {};
  }

  std::string name_;
};

}  // namespace

std::unique_ptr<Communicator> make_serial_communicator(std::string name) {
  return std::make_unique<SerialCommunicator>(std::move(name));
}

}  // namespace caravan::comm
