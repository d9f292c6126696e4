// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "device/device.hpp"

namespace caravan::comm {

/// The library below reports that a transfer failed; what() is its text.
class TransferError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A transfer under way. Its buffers must stay until it has ended; one that is destroyed before is never waited for.
class Transfer {
 public:
  virtual ~Transfer() = default;
  /// Moves it on; true once it has ended. Throws TransferError.
  virtual bool done() = 0;
};

/// Moves bytes between the ranks of a group, and nothing else: names, numbers, accounts, the watchdog, deadlines and
/// sums are comm::Front's, which makes a communicator of it. All ranks of the group call the same verbs in the same
/// order. A verb begins a transfer, or returns null when it has ended already; it throws TransferError. Any number of
/// bytes may be moved, as far as there is memory.
class Transport {
 public:
  using Bytes = std::vector<std::int64_t>;  // one entry a rank

  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Whether it moves memory of this place; no verb is called with another one.
  virtual bool serves(const device::Place& place) const = 0;

  /// Rank r contributes bytes[r]; `receive` gets all of them in rank order. `send` may point at this rank's place
  /// inside `receive`.
  virtual std::unique_ptr<Transfer> all_gather(const void* send, void* receive, const Bytes& bytes,
                                               const device::Place& place) = 0;

  /// sent[r] bytes go to rank r, received[r] come from it, both packed in rank order.
  virtual std::unique_ptr<Transfer> all_to_all(const void* send, const Bytes& sent, void* receive,
                                               const Bytes& received, const device::Place& place) = 0;

  virtual std::unique_ptr<Transfer> broadcast(void* data, std::int64_t bytes, int root, const device::Place& place) = 0;

  virtual std::unique_ptr<Transfer> barrier() = 0;

  /// Lets transfers under way move on.
  virtual void advance() {}
};

/// Of a group of one rank: copies at the place, on a device in the order of its stream.
std::unique_ptr<Transport> make_serial_transport();

}  // namespace caravan::comm
