// SPDX-License-Identifier: Apache-2.0
// What lies between a verb and the library below: places that a transport does not serve, transfers that fail, and
// pieces that are longer than the library's messages.
#include <algorithm>
#include <cstring>
#include <optional>

#include "comm/front.hpp"
#include "comm/mpi_group.hpp"
#include "comm/mpi_runtime.hpp"
#include "core/error.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

using core::DType;
using Counts = Communicator::Counts;

template <typename Work>
std::optional<core::Error> error_of(const Work& work) {
  try {
    work();
  } catch (const core::Error& error) {
    return error;
  }
  return std::nullopt;
}

bool has(const core::Error& error, const std::string& part) {
  UNSCOPED_INFO(error.what());
  return std::string(error.what()).find(part) != std::string::npos;
}

/// Begins every transfer, fails each after some looks at it.
class FailingTransport final : public Transport {
 public:
  int rank() const override { return 1; }
  int size() const override { return 3; }
  bool serves(const device::Place&) const override { return true; }
  std::unique_ptr<Transfer> all_gather(const void*, void*, const Bytes&, const device::Place&) override {
    return std::make_unique<Failing>();
  }
  std::unique_ptr<Transfer> all_to_all(const void*, const Bytes&, void*, const Bytes&, const device::Place&) override {
    return std::make_unique<Failing>();
  }
  std::unique_ptr<Transfer> broadcast(void*, std::int64_t, int, const device::Place&) override {
    throw TransferError("the cable is cut");
  }
  std::unique_ptr<Transfer> barrier() override { return std::make_unique<Failing>(); }
  void advance() override { throw TransferError("the cable is cut"); }

 private:
  struct Failing final : Transfer {
    int looks = 0;
    bool done() override {
      if (++looks == 3) throw TransferError("the cable is cut");
      return false;
    }
  };
};

/// Bytes that say where they come from, where they go and which they are.
std::vector<std::uint8_t> piece(int from, int to, std::int64_t bytes) {
  std::vector<std::uint8_t> values(static_cast<std::size_t>(bytes));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint8_t>(31 * from + 7 * to + 13 * i);
  return values;
}

void append(std::vector<std::uint8_t>& values, const std::vector<std::uint8_t>& more) {
  values.insert(values.end(), more.begin(), more.end());
}

/// Unequal pieces, some empty, of which some are one message, and some a message and a byte.
std::int64_t amount(int from, int to, std::int64_t longest) {
  const std::int64_t amounts[] = {longest, 0, 2 * longest + 1, 1, longest - 1, 5 * longest};
  return amounts[(from + 2 * to) % 6];
}

void check_all_to_all(Communicator& group, std::int64_t longest) {
  Counts sent, received;
  std::vector<std::uint8_t> out, expected;
  for (int r = 0; r < group.size(); ++r) {
    sent.push_back(amount(group.rank(), r, longest));
    received.push_back(amount(r, group.rank(), longest));
    append(out, piece(group.rank(), r, sent.back()));
    append(expected, piece(r, group.rank(), received.back()));
  }
  std::vector<std::uint8_t> in(expected.size());
  group.all_to_all("exchange", out.data(), sent, in.data(), received, DType::u8).wait();
  CHECK(in == expected);
}

void check_all_gather(Communicator& group, std::int64_t longest) {
  Counts counts;
  std::vector<std::uint8_t> expected;
  std::size_t begin = 0;
  for (int r = 0; r < group.size(); ++r) {
    if (r == group.rank()) begin = expected.size();
    counts.push_back(amount(r, 1, longest));
    append(expected, piece(r, 0, counts.back()));
  }
  const std::vector<std::uint8_t> mine = piece(group.rank(), 0, counts[static_cast<std::size_t>(group.rank())]);
  std::vector<std::uint8_t> apart(expected.size()), in_place(expected.size());
  group.all_gather("gather", mine.data(), apart.data(), counts, DType::u8).wait();
  CHECK(apart == expected);
  std::copy(mine.begin(), mine.end(), in_place.begin() + static_cast<std::ptrdiff_t>(begin));
  group.all_gather("gather in place", in_place.data() + begin, in_place.data(), counts, DType::u8).wait();
  CHECK(in_place == expected);
}

}  // namespace

TEST_CASE("Memory of a place that no transport serves is refused by every verb") {
  const auto world = make_world(60), alone = make_serial_communicator("alone");
  const device::Place place{.kind = device::Kind::device, .index = 5, .stream = nullptr};
  for (Communicator* group : {world.get(), alone.get()}) {
    const Counts ones(static_cast<std::size_t>(group->size()), 1);
    std::vector<float> values(ones.size(), 1.0F), more(ones.size(), 2.0F);
    const auto check_refused = [&](const auto& verb) {
      const auto error = error_of([&] { verb().wait(); });
      REQUIRE(error);
      CHECK(error->code() == core::ExitCode::internal);
      CHECK(has(*error, "\"sums\" in group " + group->name()));
      CHECK(has(*error, "device 5"));
    };
    const DType type = DType::f32;
    check_refused([&] { return group->all_reduce("sums", values.data(), 1, type, Reduce::sum, place); });
    check_refused([&] { return group->all_gather("sums", values.data(), more.data(), ones, type, place); });
    check_refused([&] { return group->reduce_scatter("sums", values.data(), more.data(), ones, type, place); });
    check_refused([&] { return group->all_to_all("sums", values.data(), ones, more.data(), ones, type, place); });
    check_refused([&] { return group->broadcast("sums", values.data(), 1, type, 0, place); });
    CHECK(more == std::vector<float>(ones.size(), 2.0F));
  }
}

TEST_CASE("A transfer that fails counts as a lost peer and is named") {
  Front front("broken", std::make_unique<FailingTransport>(), Front::Waiting{60, false, -1});
  Communicator& group = front;
  std::int64_t values[3] = {};
  const auto check_named = [&](const auto& verb, const std::string& name) {
    const auto error = error_of(verb);
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::peer_lost);
    CHECK(has(*error, name + " failed: the cable is cut; another rank was probably lost"));
  };
  check_named([&] { group.all_reduce("sum", values, 3, DType::i64, Reduce::sum).wait(); },
              "\"sum\" (number 1 of group broken, rank 1 of 3)");
  check_named([&] { group.broadcast("spread", values, 3, DType::i64, 0).wait(); },
              "\"spread\" (number 2 of group broken, rank 1 of 3)");
  check_named([&] { group.barrier("meet"); }, "\"meet\" (number 3 of group broken, rank 1 of 3)");
  check_named([&] { group.advance(); }, "moving transfers on");
  CHECK(group.traffic().at("sum").waited == 0);
}

TEST_CASE("Pieces that are longer than a message are carried whole") {
  const auto world = make_world(60);
  for (const std::int64_t longest : {1, 2, 7, 1000}) {
    const auto group = make_mpi_group("parts", 0, world->size(), world->rank(), 60, longest);
    CAPTURE(group->size(), longest);
    check_all_to_all(*group, longest);
    check_all_gather(*group, longest);
    for (int root = 0; root < group->size(); ++root) {
      for (const std::int64_t bytes : {std::int64_t{0}, longest, 3 * longest + 1}) {
        std::vector<std::uint8_t> values = piece(group->rank(), 0, bytes);
        group->broadcast("spread", values.data(), bytes, DType::u8, root).wait();
        CHECK(values == piece(root, 0, bytes));
      }
    }
    if (group->size() == 1) continue;
    // What is booked does not depend on how MPI carries it.
    const Traffic& booked = group->traffic().at("exchange");
    std::int64_t messages = 0, bytes = 0;
    for (int r = 0; r < group->size(); ++r) {
      const std::int64_t sent = r == group->rank() ? 0 : amount(group->rank(), r, longest);
      messages += sent > 0;
      bytes += sent;
    }
    CHECK(booked.messages == messages);
    CHECK(booked.bytes == bytes);
  }
}

TEST_CASE("Collectives of unequal length do not mix while several are under way") {
  const auto world = make_world(60);
  const auto group = make_mpi_group("parts", 0, world->size(), world->rank(), 60, 5);
  const int ranks = group->size();
  std::vector<std::vector<std::uint8_t>> out, in, expected;
  std::vector<Pending> pending;
  for (int k = 0; k < 6; ++k) {  // longer ones, then shorter ones
    Counts sent, received;
    out.emplace_back();
    expected.emplace_back();
    for (int r = 0; r < ranks; ++r) {
      sent.push_back(amount(group->rank() + k, r, 10 * (6 - k)));
      received.push_back(amount(r + k, group->rank(), 10 * (6 - k)));
      append(out.back(), piece(group->rank() + k, r, sent.back()));
      append(expected.back(), piece(r + k, group->rank(), received.back()));
    }
    in.emplace_back(expected.back().size());
    pending.push_back(group->all_to_all("exchange", out.back().data(), sent, in.back().data(), received, DType::u8));
    group->advance();
  }
  for (Pending& one : pending) one.wait();
  CHECK(in == expected);
}

}  // namespace caravan::comm
