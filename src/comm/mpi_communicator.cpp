// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_communicator.hpp"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstring>
#include <exception>
#include <thread>

#include "comm/ordered_sum.hpp"
#include "core/error.hpp"
#include "watch/activity.hpp"

namespace caravan::comm {
namespace {

using Clock = std::chrono::steady_clock;

void check(int code, const std::string& what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw core::Error(core::ExitCode::peer_lost,
                    what + " failed: " + std::string(text, static_cast<std::size_t>(length)) +
                        "; another rank was probably lost. Start the job again: it resumes from the newest checkpoint");
}

[[noreturn]] void give_up(const std::string& why) {
  watch::activity().fail(why);
  throw core::Error(core::ExitCode::peer_lost, why);
}

/// Elements travel as bytes: MPI has no bf16, and no arithmetic is left to it.
struct ByteCounts {
  std::vector<int> counts, offsets;
  std::size_t total = 0;

  /// Adds the pieces for all ranks but this one.
  void count_sent(Traffic& account, int rank) const {
    for (std::size_t r = 0; r < counts.size(); ++r) {
      if (r == static_cast<std::size_t>(rank) || counts[r] == 0) continue;
      ++account.messages;
      account.bytes += counts[r];
    }
  }

  ByteCounts(const Communicator::Counts& elements, std::size_t element_bytes, const std::string& what) {
    for (const std::int64_t n : elements) {
      const std::size_t bytes = static_cast<std::size_t>(n) * element_bytes;
      CARAVAN_CHECK(n >= 0, what);
      if (total + bytes > INT_MAX) {
        core::bad_input(what, " would exchange more than 2 GiB at once, which MPI does not carry; lower ",
                        "train.micro_batch or train.sequence, or raise layout.tp or layout.ep");
      }
      counts.push_back(static_cast<int>(bytes));
      offsets.push_back(static_cast<int>(total));
      total += bytes;
    }
  }
};

/// A group of host processes over MPI's non-blocking collectives, which only move bytes; sums are made here, in rank
/// order. Owns the MPI communicator it is given.
class MpiCommunicator final : public Communicator {
 public:
  /// crowded: more ranks than cores are on this node.
  /// slot: of the group in what this rank publishes.
  MpiCommunicator(std::string name, MPI_Comm comm, double deadline_seconds, bool crowded, int slot);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

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
  /// A verb under way: what to call it in messages, and where its cost is booked.
  struct Call {
    std::string what;
    const char* operation;
    std::int64_t number;
    Traffic* account;
  };
  Call next(const char* operation, const device::Place& place = {});
  /// Tests the request until it is done, the watchdog has found out why it will not be, or the deadline has passed,
  /// by which the watchdog, if there is one, should have.
  void finish(MPI_Request request, const Call& call) const;
  /// Books the same piece for every other rank.
  void count_for_all(const Call& call, int bytes) const;
  /// An all-to-all of pieces, then a reduction in rank order: reduce_scatter for any element type.
  Pending reduce_pieces(const char* operation, const void* send, void* receive, const Counts& counts, core::DType dtype,
                        Reduce reduce, const device::Place& place);

  std::string name_;
  double deadline_seconds_;
  bool crowded_;
  int slot_;
  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::int64_t sequence_ = 0;
};

MpiCommunicator::MpiCommunicator(std::string name, MPI_Comm comm, double deadline_seconds, bool crowded, int slot)
    : name_(std::move(name)), deadline_seconds_(deadline_seconds), crowded_(crowded), slot_(slot), comm_(comm) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

MpiCommunicator::~MpiCommunicator() {
  watch::activity().remove_group(slot_);
  // Freeing is collective: while an error unwinds this rank alone, the others would not come.
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
}

MpiCommunicator::Call MpiCommunicator::next(const char* operation, const device::Place& place) {
  CARAVAN_CHECK(place.kind == device::Kind::host, operation, ": MPI moves host memory only, not that of ",
                device::name_of(place));
  watch::activity().begin(slot_, ++sequence_);
  Traffic& account = this->account(operation);
  ++account.calls;
  return {core::concat("\"", operation, "\" (number ", sequence_, " of group ", name_, ", rank ", rank_, " of ", size_,
                       ")"),
          operation, sequence_, &account};
}

void MpiCommunicator::count_for_all(const Call& call, int bytes) const {
  if (bytes == 0) return;
  call.account->messages += size_ - 1;
  call.account->bytes += std::int64_t{bytes} * (size_ - 1);
}

void MpiCommunicator::advance() {
  int arrived = 0;
  check(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &arrived, MPI_STATUS_IGNORE), "moving transfers on");
}

void MpiCommunicator::finish(MPI_Request request, const Call& call) const {
  const auto start = Clock::now();
  watch::Activity& activity = watch::activity();
  activity.wait(slot_, call.number, call.operation, start);
  double waited = 0;  // without the time for which this process itself stood still, suspended with its job
  auto looked = start;
  int done = 0;
  for (std::int64_t tries = 0;; ++tries) {
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), call.what);
    if (done) {
      const auto now = Clock::now();
      call.account->waited += std::chrono::duration<double>(now - start).count();
      activity.go_on(now);
      return;
    }
    // MPI moves large messages inside MPI_Test, so that a sleeping rank moves nothing. But peers may share this core:
    // give way at once, and really sleep after about a millisecond where they do.
    if (tries < (crowded_ ? 2000 : 2'000'000)) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    if (tries % 1024 != 1023) continue;
    if (activity.has_verdict()) {
      if (const auto verdict = activity.take_verdict()) throw core::Error(core::ExitCode::peer_lost, *verdict);
    }
    constexpr double longest_round = 5;
    const auto now = Clock::now();
    waited += std::min(longest_round, std::chrono::duration<double>(now - looked).count());
    looked = now;
    if (waited > deadline_seconds_ + activity.patience()) {
      give_up(core::concat("the other ranks did not answer for ", deadline_seconds_, " s in ", call.what,
                           "; one of them is lost or hangs. Start the job again: it resumes from the newest "
                           "checkpoint"));
    }
  }
}

Pending MpiCommunicator::all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype,
                                    Reduce reduce, const device::Place& place) {
  // Few elements: everybody gets everything and reduces it alike. Many: each rank reduces its part, then all gather,
  // so that a rank never gets more than twice the elements, however many ranks there are.
  constexpr std::int64_t few = 16384;
  const std::size_t bytes = core::size_of(dtype);
  const auto ranks = static_cast<std::size_t>(size_);
  if (count * size_ <= few) {
    const Call call = next(operation, place);
    auto parts = std::make_shared<std::vector<std::byte>>(ranks * static_cast<std::size_t>(count) * bytes);
    MPI_Request request;
    const ByteCounts one({count}, bytes, call.what);
    count_for_all(call, one.counts[0]);
    check(MPI_Iallgather(data, one.counts[0], MPI_BYTE, parts->data(), one.counts[0], MPI_BYTE, comm_, &request),
          call.what);
    return Pending([=, this] {
      finish(request, call);
      reduce_in_rank_order(parts->data(), size_, count, dtype, reduce, data);
    });
  }
  Counts counts(ranks, count / size_);
  for (std::size_t r = 0; r < static_cast<std::size_t>(count % size_); ++r) ++counts[r];
  const auto mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(rank_)]);
  auto sums = std::make_shared<std::vector<std::byte>>(mine * bytes);
  auto first = std::make_shared<Pending>(reduce_pieces(operation, data, sums->data(), counts, dtype, reduce, place));
  const std::string name = operation;
  return Pending([=, this] {
    first->wait();
    all_gather(name.c_str(), sums->data(), data, counts, dtype, place).wait();
  });
}

Pending MpiCommunicator::all_gather(const char* operation, const void* send, void* receive, const Counts& counts,
                                    core::DType dtype, const device::Place& place) {
  const Call call = next(operation, place);
  CARAVAN_CHECK(counts.size() == static_cast<std::size_t>(size_), call.what);
  auto layout = std::make_shared<ByteCounts>(counts, core::size_of(dtype), call.what);
  const auto me = static_cast<std::size_t>(rank_);
  // MPI wants MPI_IN_PLACE from all ranks or from none, and a rank with nothing to send cannot tell: send from a copy.
  auto copy = std::make_shared<std::vector<std::byte>>();
  if (layout->counts[me] > 0 && send == static_cast<char*>(receive) + layout->offsets[me]) {
    const auto* bytes = static_cast<const std::byte*>(send);
    copy->assign(bytes, bytes + layout->counts[me]);
    send = copy->data();
  }
  count_for_all(call, layout->counts[me]);
  MPI_Request request;
  check(MPI_Iallgatherv(send, layout->counts[me], MPI_BYTE, receive, layout->counts.data(), layout->offsets.data(),
                        MPI_BYTE, comm_, &request),
        call.what);
  return Pending([this, request, call, layout, copy] { finish(request, call); });
}

Pending MpiCommunicator::reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                                        core::DType dtype, const device::Place& place) {
  return reduce_pieces(operation, send, receive, counts, dtype, Reduce::sum, place);
}

Pending MpiCommunicator::reduce_pieces(const char* operation, const void* send, void* receive, const Counts& counts,
                                       core::DType dtype, Reduce reduce, const device::Place& place) {
  CARAVAN_CHECK(counts.size() == static_cast<std::size_t>(size_), operation);
  const std::int64_t mine = counts[static_cast<std::size_t>(rank_)];
  auto parts = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(mine * size_) * core::size_of(dtype));
  auto exchange = std::make_shared<Pending>(
      all_to_all(operation, send, counts, parts->data(), Counts(counts.size(), mine), dtype, place));
  return Pending([=, this] {
    exchange->wait();
    reduce_in_rank_order(parts->data(), size_, mine, dtype, reduce, receive);
  });
}

Pending MpiCommunicator::all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                                    const Counts& receive_counts, core::DType dtype, const device::Place& place) {
  const Call call = next(operation, place);
  const auto ranks = static_cast<std::size_t>(size_);
  CARAVAN_CHECK(send_counts.size() == ranks && receive_counts.size() == ranks, call.what);
  auto out = std::make_shared<ByteCounts>(send_counts, core::size_of(dtype), call.what);
  auto in = std::make_shared<ByteCounts>(receive_counts, core::size_of(dtype), call.what);
  out->count_sent(*call.account, rank_);
  MPI_Request request;
  check(MPI_Ialltoallv(send, out->counts.data(), out->offsets.data(), MPI_BYTE, receive, in->counts.data(),
                       in->offsets.data(), MPI_BYTE, comm_, &request),
        call.what);
  return Pending([this, request, call, out, in] { finish(request, call); });
}

Pending MpiCommunicator::broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                                   const device::Place& place) {
  const Call call = next(operation, place);
  const ByteCounts one({count}, core::size_of(dtype), call.what);
  if (rank_ == root) count_for_all(call, one.counts[0]);
  MPI_Request request;
  check(MPI_Ibcast(data, one.counts[0], MPI_BYTE, root, comm_, &request), call.what);
  return Pending([this, request, call] { finish(request, call); });
}

void MpiCommunicator::barrier(const char* operation) {
  const Call call = next(operation);
  MPI_Request request;
  check(MPI_Ibarrier(comm_, &request), call.what);
  finish(request, call);
}

/// Collective over the world.
bool more_ranks_than_cores() {
  MPI_Comm node = MPI_COMM_NULL;
  int ranks = 1;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &ranks);
  MPI_Comm_free(&node);
  return ranks > sysconf(_SC_NPROCESSORS_ONLN);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_group(std::string name, int color, int size, int place,
                                             double deadline_seconds) {
  static const bool crowded = more_ranks_than_cores();  // all ranks make their first group together
  static int made = 0;                                  // and every other one: its number is the same on all
  const int id = made++;
  MPI_Comm group = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, color, place, &group);
  if (size > 1) {
    const int slot = watch::activity().add_group(name, id, color);
    return std::make_unique<MpiCommunicator>(std::move(name), group, deadline_seconds, crowded, slot);
  }
  MPI_Comm_free(&group);
  return make_serial_communicator(std::move(name));
}

}  // namespace caravan::comm
