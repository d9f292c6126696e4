// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.hpp"
#include "comm/transport.hpp"

namespace caravan::comm {

/// The communicator of a group over a transport that moves its bytes. It names and numbers the verbs, books what they
/// send and how long they are waited for, publishes both to the watchdog and throws its verdict, keeps the deadline,
/// and adds in rank order. A group of one rank sends nothing: it books nothing, and only copies.
class Front final : public Communicator {
 public:
  struct Waiting {
    double deadline_seconds = 0;
    bool crowded = false;  // more ranks than cores are on this node
    int slot = -1;         // of the group in what this rank publishes; -1: it is not watched
  };
  Front(std::string name, std::unique_ptr<Transport> transport, const Waiting& waiting);
  ~Front() override;
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  using Communicator::all_reduce;
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  Pending all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype, Reduce reduce,
                     const device::Place& place) override;
  Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts, core::DType dtype,
                     const device::Place& place) override;
  Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                         core::DType dtype, const device::Place& place) override;
  Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                     const Counts& receive_counts, core::DType dtype, const device::Place& place) override;
  Pending broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                    const device::Place& place) override;
  void barrier(const char* operation) override;
  void advance() override;

 private:
  /// A verb under way: what to call it in messages, and where its cost is booked; nowhere in a group of one.
  struct Call {
    std::string operation;
    std::int64_t number = 0;
    Traffic* account = nullptr;
  };
  Call next(const char* operation, const device::Place& place);
  /// "\"sum loss\" (number 3 of group dp, rank 1 of 2)".
  std::string what(const Call& call) const;
  /// Bytes of each rank's elements.
  Transport::Bytes bytes_of(const Counts& counts, core::DType dtype, const Call& call) const;
  /// Books a piece for every other rank.
  void book(const Call& call, const Transport::Bytes& sent) const;
  void book_for_all(const Call& call, std::int64_t bytes) const;

  /// Calls work() on the transport; where that fails, the error names the call.
  template <typename Work>
  auto naming(const Call& call, const Work& work) const;
  Pending pending(const Call& call, const std::shared_ptr<Transfer>& transfer);
  /// Tests the transfer until it is done, the watchdog has found out why it will not be, or the deadline has passed,
  /// by which the watchdog, if there is one, should have.
  void finish(Transfer& transfer, const Call& call) const;
  /// An all-to-all of pieces, then a reduction in rank order: reduce_scatter for any element type.
  Pending reduce_pieces(const char* operation, const void* send, void* receive, const Counts& counts, core::DType dtype,
                        Reduce reduce, const device::Place& place);

  std::string name_;
  std::unique_ptr<Transport> transport_;
  Waiting waiting_;
  int rank_;
  int size_;
  std::int64_t sequence_ = 0;
};

}  // namespace caravan::comm
