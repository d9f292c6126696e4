// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "device/device.hpp"

namespace caravan::comm {

enum class Reduce { sum, max };

/// A collective under way. wait() ends it: buffers may be touched again, results are there. A Pending that is dropped
/// without wait() waits in its destructor, unless an exception is on its way. Waiting longer than the communicator's
/// deadline throws core::Error (exit 76) naming operation, sequence number, group and rank.
class [[nodiscard]] Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> finish) : finish_(std::move(finish)) {}
  Pending(Pending&& other) noexcept : finish_(std::move(other.finish_)) { other.finish_ = nullptr; }
  // NOLINTNEXTLINE(performance-noexcept-move-constructor): it waits for the collective it replaces, which may throw
  Pending& operator=(Pending&& other);
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() noexcept(false);

  void wait();

 private:
  std::function<void()> finish_;
};

/// What one operation has cost this rank so far.
struct Traffic {
  std::int64_t calls = 0;     // collectives of the library underneath
  std::int64_t messages = 0;  // pieces that are not empty, handed to other ranks; a broadcast counts one per receiver
  std::int64_t bytes = 0;     // in them
  double waited = 0;          // seconds in wait(): what no computation hid
};

/// A group of ranks with a few collective verbs. All ranks of the group call the same verbs in the same order with the
/// same operation names; every verb has a name (for messages and the profile) and a sequence number. Reductions of
/// floating types add in rank order in fp32 (fp64 for f64), whatever the library underneath does, so results are the
/// same bits every time; bf16 is rounded once, at the end. Several verbs may be under way; all ranks wait for them in
/// the same order. A verb moves elements of `dtype` that lie at `place`; one that the group has no transport for is
/// refused (exit 70).
class Communicator {
 public:
  using Counts = std::vector<std::int64_t>;  // elements, one entry a rank

  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// "world", "tp", "dp", "ep" or "edp".
  virtual const std::string& name() const = 0;

  /// In place. f32, f64, bf16, i64, i32.
  virtual Pending all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype, Reduce reduce,
                             const device::Place& place = {}) = 0;

  /// Rank r contributes counts[r] elements; `receive` gets all of them in rank order. `send` may point at this rank's
  /// place inside `receive`.
  virtual Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts,
                             core::DType dtype, const device::Place& place = {}) = 0;

  /// `send` holds counts[0] + counts[1] + … elements on every rank; `receive` gets this rank's counts[rank] sums.
  /// f32, f64, bf16. The buffers do not overlap.
  virtual Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                                 core::DType dtype, const device::Place& place = {}) = 0;

  /// send_counts[r] elements go to rank r, receive_counts[r] come from it, both packed in rank order.
  virtual Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                             const Counts& receive_counts, core::DType dtype, const device::Place& place = {}) = 0;

  virtual Pending broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                            const device::Place& place = {}) = 0;

  virtual void barrier(const char* operation) = 0;

  /// Lets verbs that are under way move on. MPI moves data only inside its own calls, so a long computation that is to
  /// hide a transfer calls this now and then.
  virtual void advance() {}

  /// By operation name. Empty for a group of one rank, which sends nothing.
  const std::map<std::string, Traffic>& traffic() const { return traffic_; }

  /// The sum, or the maximum, of one number over the group.
  double all_reduce(const char* operation, double value, Reduce reduce);
  std::int64_t all_reduce(const char* operation, std::int64_t value, Reduce reduce);

  /// The text of every rank, in rank order.
  std::vector<std::string> all_gather_text(const char* operation, const std::string& text);
  /// The same, but only the root gets them; none on other ranks.
  std::vector<std::string> gather_text(const char* operation, const std::string& text, int root);
  /// The root's text on every rank.
  std::string broadcast_text(const char* operation, const std::string& text, int root);

 protected:
  /// The account of an operation; the reference stays valid as long as the communicator.
  Traffic& account(const char* operation) { return traffic_[operation]; }

 private:
  /// How many bytes each rank's text has.
  Counts lengths_of_all(const char* operation, const std::string& text);

  std::map<std::string, Traffic> traffic_;
};

/// A group of one rank: every verb copies or does nothing, without MPI.
std::unique_ptr<Communicator> make_serial_communicator(std::string name);

}  // namespace caravan::comm
