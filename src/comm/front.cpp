// SPDX-License-Identifier: Apache-2.0
#include "comm/front.hpp"

#include <sched.h>

#include <chrono>
#include <optional>
#include <thread>

#include "comm/ordered_sum.hpp"
#include "core/awake_clock.hpp"
#include "core/error.hpp"
#include "layout/thresholds.hpp"
#include "watch/activity.hpp"

namespace caravan::comm {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& why) {
  watch::activity().fail(why);
  throw core::Error(core::ExitCode::peer_lost, why);
}

core::Error lost(const std::string& what, const TransferError& error) {
  return {core::ExitCode::peer_lost,
          what + " failed: " + error.what() +
              "; another rank was probably lost. Start the job again: it resumes from the newest checkpoint"};
}

}  // namespace

Front::Front(std::string name, std::unique_ptr<Transport> transport, const Waiting& waiting)
    : name_(std::move(name)),
      transport_(std::move(transport)),
      waiting_(waiting),
      rank_(transport_->rank()),
      size_(transport_->size()) {}

Front::~Front() { watch::activity().remove_group(waiting_.slot); }

Front::Call Front::next(const char* operation, const device::Place& place) {
  if (!transport_->serves(place)) {
    core::internal_error("\"", operation, "\" in group ", name_, ": this group moves no memory of ",
                         device::name_of(place));
  }
  if (size_ == 1) return {.operation = operation};
  watch::activity().begin(waiting_.slot, ++sequence_);
  Traffic& account = this->account(operation);
  ++account.calls;
  return {operation, sequence_, &account};
}

std::string Front::what(const Call& call) const {
  return core::concat("\"", call.operation, "\" (number ", call.number, " of group ", name_, ", rank ", rank_, " of ",
                      size_, ")");
}

Transport::Bytes Front::bytes_of(const Counts& counts, core::DType dtype, const Call& call) const {
  CARAVAN_CHECK(counts.size() == static_cast<std::size_t>(size_), what(call));
  const auto element = static_cast<std::int64_t>(core::size_of(dtype));
  Transport::Bytes bytes;
  for (const std::int64_t n : counts) {
    CARAVAN_CHECK(n >= 0, what(call));
    bytes.push_back(n * element);
  }
  return bytes;
}

void Front::book(const Call& call, const Transport::Bytes& sent) const {
  for (std::size_t r = 0; r < sent.size(); ++r) {
    if (r == static_cast<std::size_t>(rank_) || sent[r] == 0) continue;
    ++call.account->messages;
    call.account->bytes += sent[r];
  }
}

void Front::book_for_all(const Call& call, std::int64_t bytes) const {
  if (bytes == 0 || size_ == 1) return;
  call.account->messages += size_ - 1;
  call.account->bytes += bytes * (size_ - 1);
}

template <typename Work>
auto Front::naming(const Call& call, const Work& work) const {
  try {
    return work();
  } catch (const TransferError& error) {
    throw lost(what(call), error);
  }
}

Pending Front::pending(const Call& call, const std::shared_ptr<Transfer>& transfer) {
  if (transfer) return Pending([=, this] { finish(*transfer, call); });
  watch::activity().go_on(Clock::now());  // a sign of life where no rank waits for another
  return {};
}

void Front::advance() {
  try {
    transport_->advance();
  } catch (const TransferError& error) {
    throw lost("moving transfers on", error);
  }
}

void Front::finish(Transfer& transfer, const Call& call) const {
  const auto start = Clock::now();
  watch::Activity& activity = watch::activity();
  activity.wait(waiting_.slot, call.number, call.operation.c_str(), start);
  std::optional<core::AwakeStopwatch> waited;  // without the time for which the process was suspended with its job
  for (std::int64_t tries = 0;; ++tries) {
    if (naming(call, [&] { return transfer.done(); })) {
      const auto now = Clock::now();
      call.account->waited += std::chrono::duration<double>(now - start).count();
      activity.go_on(now);
      return;
    }
    // Transports move large messages inside done(), so that a sleeping rank moves nothing. But peers may share this
    // core: give way at once, and really sleep after about a millisecond where they do.
    if (tries < (waiting_.crowded ? 2000 : 2'000'000)) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    if (tries % 1024 != 1023) continue;
    if (activity.has_verdict()) {
      if (const auto verdict = activity.take_verdict()) throw core::Error(core::ExitCode::peer_lost, *verdict);
    }
    if (!waited) waited.emplace();
    if (waited->seconds() > waiting_.deadline_seconds + activity.patience()) {
      give_up(core::concat("the other ranks did not answer for ", waiting_.deadline_seconds, " s in ", what(call),
                           "; one of them is lost or hangs. Start the job again: it resumes from the newest "
                           "checkpoint"));
    }
  }
}

Pending Front::all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype, Reduce reduce,
                          const device::Place& place) {
  // Few elements: everybody gets everything and reduces it alike. Many: each rank reduces its part, then all gather,
  // so that a rank never gets more than twice the elements, however many ranks there are.
  const std::size_t bytes = core::size_of(dtype);
  const auto ranks = static_cast<std::size_t>(size_);
  if (size_ == 1) {
    next(operation, place);
    return {};
  }
  if (count * size_ <= layout::gathered_sum) {
    const Call call = next(operation, place);
    auto parts = std::make_shared<std::vector<std::byte>>(ranks * static_cast<std::size_t>(count) * bytes);
    const Transport::Bytes each = bytes_of(Counts(ranks, count), dtype, call);
    book_for_all(call, each[0]);
    auto gathered = std::make_shared<Pending>(
        pending(call, naming(call, [&] { return transport_->all_gather(data, parts->data(), each, place); })));
    return Pending([=, this] {
      gathered->wait();
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

Pending Front::all_gather(const char* operation, const void* send, void* receive, const Counts& counts,
                          core::DType dtype, const device::Place& place) {
  const Call call = next(operation, place);
  const Transport::Bytes bytes = bytes_of(counts, dtype, call);
  book_for_all(call, bytes[static_cast<std::size_t>(rank_)]);
  return pending(call, naming(call, [&] { return transport_->all_gather(send, receive, bytes, place); }));
}

Pending Front::reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                              core::DType dtype, const device::Place& place) {
  if (size_ == 1) return all_gather(operation, send, receive, counts, dtype, place);
  return reduce_pieces(operation, send, receive, counts, dtype, Reduce::sum, place);
}

Pending Front::reduce_pieces(const char* operation, const void* send, void* receive, const Counts& counts,
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

Pending Front::all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                          const Counts& receive_counts, core::DType dtype, const device::Place& place) {
  const Call call = next(operation, place);
  const Transport::Bytes sent = bytes_of(send_counts, dtype, call), received = bytes_of(receive_counts, dtype, call);
  const auto me = static_cast<std::size_t>(rank_);
  CARAVAN_CHECK(sent[me] == received[me], what(call));
  book(call, sent);
  return pending(call, naming(call, [&] { return transport_->all_to_all(send, sent, receive, received, place); }));
}

Pending Front::broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                         const device::Place& place) {
  const Call call = next(operation, place);
  const std::int64_t bytes = count * static_cast<std::int64_t>(core::size_of(dtype));
  CARAVAN_CHECK(bytes >= 0, what(call));
  if (rank_ == root) book_for_all(call, bytes);
  return pending(call, naming(call, [&] { return transport_->broadcast(data, bytes, root, place); }));
}

void Front::barrier(const char* operation) {
  const Call call = next(operation, {});
  pending(call, naming(call, [&] { return transport_->barrier(); })).wait();
}

std::unique_ptr<Communicator> make_serial_communicator(std::string name) {
  return std::make_unique<Front>(std::move(name), make_serial_transport(), Front::Waiting{});
}

}  // namespace caravan::comm
