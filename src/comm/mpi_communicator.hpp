// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <string>

#include "comm/communicator.hpp"

// Private to this room: the only header with mpi.h.
namespace caravan::comm {

/// A group of host processes over MPI's non-blocking collectives, which only move bytes; sums are made here, in rank
/// order. Owns the MPI communicator it is given.
class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::string name, MPI_Comm comm, double deadline_seconds);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  using Communicator::all_reduce;
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  Pending all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype, Reduce reduce,
                     void* stream) override;
  Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts, core::DType dtype,
                     void* stream) override;
  Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                         core::DType dtype, void* stream) override;
  Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                     const Counts& receive_counts, core::DType dtype, void* stream) override;
  Pending broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                    void* stream) override;
  void barrier(const char* operation) override;

 private:
  /// Counts the verb and says what to call it in messages.
  std::string next(const char* operation);
  /// Tests the request until it is done or the deadline has passed.
  void finish(MPI_Request request, const std::string& what) const;
  /// An all-to-all of pieces, then a reduction in rank order: reduce_scatter for any element type.
  Pending reduce_pieces(const char* operation, const void* send, void* receive, const Counts& counts,
                        core::DType dtype, Reduce reduce);

  std::string name_;
  double deadline_seconds_;
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::int64_t sequence_ = 0;
};

}  // namespace caravan::comm
