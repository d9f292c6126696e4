// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator.hpp"

#include <exception>
#include <utility>

namespace caravan::comm {
namespace {

std::size_t sum_of(const Communicator::Counts& lengths) {
  std::int64_t total = 0;
  for (const std::int64_t n : lengths) total += n;
  return static_cast<std::size_t>(total);
}

std::vector<std::string> parted(const std::string& joined, const Communicator::Counts& lengths) {
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (const std::int64_t n : lengths) {
    texts.push_back(joined.substr(at, static_cast<std::size_t>(n)));
    at += static_cast<std::size_t>(n);
  }
  return texts;
}

}  // namespace

// NOLINTNEXTLINE(performance-noexcept-move-constructor): it may throw, as wait() does
Pending& Pending::operator=(Pending&& other) {
  wait();
  finish_ = std::exchange(other.finish_, nullptr);
  return *this;
}

Pending::~Pending() noexcept(false) {
  // While an exception unwinds, the peers may never come: waiting could hang, and throwing would end the process.
  if (finish_ && std::uncaught_exceptions() == 0) wait();
}

void Pending::wait() {
  if (const auto finish = std::exchange(finish_, nullptr)) finish();
}

double Communicator::all_reduce(const char* operation, double value, Reduce reduce) {
  all_reduce(operation, &value, 1, core::DType::f64, reduce).wait();
  return value;
}

std::int64_t Communicator::all_reduce(const char* operation, std::int64_t value, Reduce reduce) {
  all_reduce(operation, &value, 1, core::DType::i64, reduce).wait();
  return value;
}

Communicator::Counts Communicator::lengths_of_all(const char* operation, const std::string& text) {
  Counts lengths(static_cast<std::size_t>(size()));
  const auto length = static_cast<std::int64_t>(text.size());
  all_gather(operation, &length, lengths.data(), Counts(lengths.size(), 1), core::DType::i64).wait();
  return lengths;
}

std::vector<std::string> Communicator::all_gather_text(const char* operation, const std::string& text) {
  const Counts lengths = lengths_of_all(operation, text);
  std::string joined(sum_of(lengths), '\0');
  all_gather(operation, text.data(), joined.data(), lengths, core::DType::u8).wait();
  return parted(joined, lengths);
}

std::vector<std::string> Communicator::gather_text(const char* operation, const std::string& text, int root) {
  const Counts lengths = lengths_of_all(operation, text);
  const Counts none(lengths.size(), 0);
  Counts sent = none;
  sent[static_cast<std::size_t>(root)] = static_cast<std::int64_t>(text.size());
  std::string joined(rank() == root ? sum_of(lengths) : 0, '\0');
  all_to_all(operation, text.data(), sent, joined.data(), rank() == root ? lengths : none, core::DType::u8).wait();
  return rank() == root ? parted(joined, lengths) : std::vector<std::string>();
}

std::string Communicator::broadcast_text(const char* operation, const std::string& text, int root) {
  auto length = static_cast<std::int64_t>(text.size());
  broadcast(operation, &length, 1, core::DType::i64, root).wait();
  std::string copy = rank() == root ? text : std::string(static_cast<std::size_t>(length), '\0');
  broadcast(operation, copy.data(), length, core::DType::u8, root).wait();
  return copy;
}

}  // namespace caravan::comm
