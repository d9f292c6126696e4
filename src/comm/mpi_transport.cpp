// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_transport.hpp"

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <exception>
#include <string>

#include "core/error.hpp"

namespace caravan::comm {
namespace {

// MPI keeps the order of two ranks' messages with one tag, and all ranks begin verbs in the same order. No message has
// the other tag: a probe for it finds nothing, and so always lets MPI work.
constexpr int data_tag = 0, no_tag = 1;

void check(int code) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw TransferError(std::string(text, static_cast<std::size_t>(length)));
}

class MpiTransfer final : public Transfer {
 public:
  MPI_Request* add() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

  bool done() override {
    while (!requests_.empty()) {
      int ended = 0;
      check(MPI_Test(&requests_.back(), &ended, MPI_STATUS_IGNORE));
      if (!ended) return false;
      requests_.pop_back();
    }
    return true;
  }

  std::vector<int> counts, offsets;  // which MPI reads until the end
  std::vector<std::byte> copy;

 private:
  std::vector<MPI_Request> requests_;
};

/// Where each rank's bytes begin, and behind them the total.
Transport::Bytes offsets_of(const Transport::Bytes& bytes) {
  Transport::Bytes offsets{0};
  for (const std::int64_t n : bytes) offsets.push_back(offsets.back() + n);
  return offsets;
}

/// Non-blocking MPI between host processes. MPI only moves bytes: it has no bf16, and no arithmetic is left to it.
class MpiTransport final : public Transport {
 public:
  /// Owns the MPI communicator.
  MpiTransport(MPI_Comm comm, std::int64_t longest_message) : comm_(comm), longest_message_(longest_message) {
    CARAVAN_CHECK(longest_message > 0 && longest_message <= INT_MAX, longest_message);
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiTransport() override {
    // Freeing is collective: while an error unwinds this rank alone, the others would not come.
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  bool serves(const device::Place& place) const override { return place.kind == device::Kind::host; }

  std::unique_ptr<Transfer> all_gather(const void* send, void* receive, const Bytes& bytes,
                                       const device::Place& place) override;
  std::unique_ptr<Transfer> all_to_all(const void* send, const Bytes& sent, void* receive, const Bytes& received,
                                       const device::Place& place) override;
  std::unique_ptr<Transfer> broadcast(void* data, std::int64_t bytes, int root, const device::Place& place) override;
  std::unique_ptr<Transfer> barrier() override;
  void advance() override;

 private:
  /// Calls message(begin, count) for the messages that carry so many bytes; none for no bytes.
  template <typename Message>
  void in_messages(std::int64_t bytes, const Message& message) const {
    for (std::int64_t begin = 0; begin < bytes; begin += longest_message_) {
      message(begin, static_cast<int>(std::min(longest_message_, bytes - begin)));
    }
  }
  /// Receives from every other rank and sends it piece_for(rank). How many messages a pair exchanges follows from the
  /// bytes, which both know; a collective of MPI would want all ranks to know the longest pair's.
  template <typename PieceFor>
  void exchange(MpiTransfer& transfer, const PieceFor& piece_for, const Bytes& sent, std::byte* receive,
                const Bytes& received) const;

  MPI_Comm comm_;
  std::int64_t longest_message_;
  int rank_ = 0;
  int size_ = 1;
};

template <typename PieceFor>
void MpiTransport::exchange(MpiTransfer& transfer, const PieceFor& piece_for, const Bytes& sent, std::byte* receive,
                            const Bytes& received) const {
  const Bytes offsets = offsets_of(received);
  // Each rank begins with its neighbour, so that they do not all send to the same one.
  for (int step = 1; step < size_; ++step) {
    const int from = (rank_ - step + size_) % size_;
    const auto at = static_cast<std::size_t>(from);
    in_messages(received[at], [&](std::int64_t begin, int count) {
      check(MPI_Irecv(receive + offsets[at] + begin, count, MPI_BYTE, from, data_tag, comm_, transfer.add()));
    });
  }
  for (int step = 1; step < size_; ++step) {
    const int to = (rank_ + step) % size_;
    in_messages(sent[static_cast<std::size_t>(to)], [&](std::int64_t begin, int count) {
      check(MPI_Isend(piece_for(to) + begin, count, MPI_BYTE, to, data_tag, comm_, transfer.add()));
    });
  }
}

std::unique_ptr<Transfer> MpiTransport::all_gather(const void* send, void* receive, const Bytes& bytes,
                                                   const device::Place&) {
  auto transfer = std::make_unique<MpiTransfer>();
  const Bytes offsets = offsets_of(bytes);
  const auto me = static_cast<std::size_t>(rank_);
  const auto mine = static_cast<std::size_t>(bytes[me]);
  std::byte* all = static_cast<std::byte*>(receive);
  std::byte* own = all + offsets[me];
  const auto* piece = static_cast<const std::byte*>(send);
  if (offsets.back() > longest_message_) {
    if (mine > 0 && piece != own) std::memcpy(own, piece, mine);
    exchange(
        *transfer, [&](int) { return piece; }, Bytes(bytes.size(), bytes[me]), all, bytes);
    return transfer;
  }
  // MPI wants MPI_IN_PLACE from all ranks or from none, and a rank with nothing to send cannot tell: send from a copy.
  if (mine > 0 && piece == own) {
    transfer->copy.assign(piece, piece + mine);
    piece = transfer->copy.data();
  }
  transfer->counts.assign(bytes.begin(), bytes.end());
  transfer->offsets.assign(offsets.begin(), offsets.end() - 1);
  check(MPI_Iallgatherv(piece, transfer->counts[me], MPI_BYTE, receive, transfer->counts.data(),
                        transfer->offsets.data(), MPI_BYTE, comm_, transfer->add()));
  return transfer;
}

std::unique_ptr<Transfer> MpiTransport::all_to_all(const void* send, const Bytes& sent, void* receive,
                                                   const Bytes& received, const device::Place&) {
  auto transfer = std::make_unique<MpiTransfer>();
  const Bytes from = offsets_of(sent), to = offsets_of(received);
  const auto me = static_cast<std::size_t>(rank_);
  const auto* out = static_cast<const std::byte*>(send);
  std::byte* in = static_cast<std::byte*>(receive);
  exchange(
      *transfer, [&](int rank) { return out + from[static_cast<std::size_t>(rank)]; }, sent, in, received);
  if (sent[me] > 0) std::memcpy(in + to[me], out + from[me], static_cast<std::size_t>(sent[me]));
  return transfer;
}

std::unique_ptr<Transfer> MpiTransport::broadcast(void* data, std::int64_t bytes, int root, const device::Place&) {
  auto transfer = std::make_unique<MpiTransfer>();
  in_messages(bytes, [&](std::int64_t begin, int count) {
    check(MPI_Ibcast(static_cast<std::byte*>(data) + begin, count, MPI_BYTE, root, comm_, transfer->add()));
  });
  return transfer;
}

std::unique_ptr<Transfer> MpiTransport::barrier() {
  auto transfer = std::make_unique<MpiTransfer>();
  check(MPI_Ibarrier(comm_, transfer->add()));
  return transfer;
}

void MpiTransport::advance() {
  int arrived = 0;
  check(MPI_Iprobe(MPI_ANY_SOURCE, no_tag, comm_, &arrived, MPI_STATUS_IGNORE));
}

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(int color, int place, std::int64_t longest_message) {
  MPI_Comm group = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, color, place, &group);
  return std::make_unique<MpiTransport>(group, longest_message);
}

}  // namespace caravan::comm
