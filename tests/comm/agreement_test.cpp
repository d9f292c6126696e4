// SPDX-License-Identifier: Apache-2.0
// Failures that all ranks share, and ranks that do not come.
#include "comm/agreement.hpp"

#include <optional>

#include "comm/mpi_runtime.hpp"
#include "core/rank_list.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

using core::describe_ranks;

/// The error that `work` throws as a T, if it does.
template <typename T, typename Work>
std::optional<T> error_of(const Work& work) {
  try {
    work();
  } catch (const T& error) {
    return error;
  }
  return {};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("one rank's error reaches all ranks with its message, rank and exit code") {
  const auto world = make_world(60);
  for (int culprit = 0; culprit < world->size(); ++culprit) {
    const auto error = error_of<AgreedError>([&] {
      on_all_ranks(*world, [&] {
        if (world->rank() == culprit) throw core::Error(core::ExitCode::storage_full, "no space on the disk");
      });
    });
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::storage_full);
    const std::string who = culprit == 0 ? "" : "rank " + std::to_string(culprit) + ": ";
    CHECK(std::string(error->what()) == who + "no space on the disk");
  }
}

TEST_CASE("of several errors the lowest rank's is reported; a foreign one is a defect") {
  const auto world = make_world(60);
  const auto error = error_of<AgreedError>([&] {
    on_all_ranks(*world, [&] {
      if (world->rank() > 0) core::bad_input("rank ", world->rank(), " says so");
      throw std::runtime_error("something else");
    });
  });
  REQUIRE(error);
  CHECK(error->code() == core::ExitCode::internal);
  CHECK(std::string(error->what()) == "something else");
}

TEST_CASE("work without an error runs once on every rank") {
  const auto world = make_world(60);
  std::int64_t runs = 0;
  on_all_ranks(*world, [&] { ++runs; });
  CHECK(world->all_reduce("count runs", runs, Reduce::sum) == world->size());
}

TEST_CASE("ranks are named singly and in runs, and a long list ends with how many are left") {
  CHECK(describe_ranks({7}) == "rank 7");
  CHECK(describe_ranks({0, 1}) == "ranks 0 and 1");
  CHECK(describe_ranks({0, 1, 2}) == "ranks 0 to 2");
  CHECK(describe_ranks({0, 3, 4, 5, 9}) == "ranks 0, 3 to 5 and 9");
  CHECK(describe_ranks({1, 2, 4, 5}) == "ranks 1, 2, 4 and 5");
  std::vector<int> even;
  for (int rank = 0; rank < 40; rank += 2) even.push_back(rank);
  CHECK(describe_ranks(even) == "ranks 0, 2, 4, 6, 8, 10, 12, 14 and 12 more");
}

TEST_CASE("facts that are the same everywhere cost one number and differ nowhere") {
  const auto world = make_world(60);
  const std::vector<Fact> facts{{"train.lr", "0.0002"}, {"run.folder", ""}, {"long", std::string(100'000, 'x')}};
  CHECK(differences(*world, facts).empty());
  CHECK(differences(*world, {}).empty());
  CHECK_NOTHROW(require_same(*world, facts, "do something"));
  std::int64_t sent = 0;
  for (const auto& [operation, traffic] : world->traffic()) sent += traffic.bytes;
  CHECK(sent <= std::int64_t{3} * 16 * world->size());
}

TEST_CASE("each fact that differs is named with its values and ranks, on every rank") {
  const auto world = make_world(60);
  const int size = world->size();
  for (int odd = 0; odd < size && size > 1; ++odd) {
    const bool different = world->rank() == odd;
    const std::vector<Fact> facts{
        {"a", "1"}, {"train.lr", different ? "0.0003" : "0.0002"}, {"b", "2"}, {"train.steps", different ? "" : "7"}};
    std::vector<int> same;
    for (int rank = 0; rank < size; ++rank) {
      if (rank != odd) same.push_back(rank);
    }
    const std::string rest = describe_ranks(same), one = describe_ranks({odd});
    const std::vector<std::string> expected =
        odd == 0 ? std::vector<std::string>{core::concat("train.lr = 0.0003 on ", one, ", but 0.0002 on ", rest),
                                            core::concat("train.steps =  on ", one, ", but 7 on ", rest)}
                 : std::vector<std::string>{core::concat("train.lr = 0.0002 on ", rest, ", but 0.0003 on ", one),
                                            core::concat("train.steps = 7 on ", rest, ", but  on ", one)};
    CHECK(differences(*world, facts) == expected);
    const auto error = error_of<AgreedError>([&] { require_same(*world, facts, "make them the same"); });
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::bad_input);
    CHECK(std::string(error->what()) == expected[0] + "; " + expected[1] + "; make them the same");
  }
}

TEST_CASE("a fact that some ranks lack, and one value for each rank") {
  const auto world = make_world(60);
  const int size = world->size(), last = size - 1;
  if (size == 1) return;
  std::vector<Fact> facts{{"threads", std::to_string(world->rank())}};
  facts.push_back(world->rank() == last ? Fact{"new", "1"} : Fact{"old", "1"});
  std::vector<int> before_last;
  std::string each = "threads = 0 on rank 0";
  for (int rank = 0; rank < size; ++rank) {
    if (rank < last) before_last.push_back(rank);
    if (rank == 0) continue;
    each += rank == last ? ", but " : ", ";
    each += (rank < 3 ? std::to_string(rank) : "other values") + " on rank " + std::to_string(rank);
  }
  const std::string rest = describe_ranks(before_last), one = describe_ranks({last});
  CHECK(differences(*world, facts) == std::vector<std::string>{each, "old = 1 on " + rest + ", but (none) on " + one,
                                                               "new = (none) on " + rest + ", but 1 on " + one});
}

TEST_CASE("when everything differs, the message still ends") {
  const auto world = make_world(60);
  if (world->size() == 1) return;
  std::vector<Fact> facts;
  for (int i = 0; i < 50; ++i) facts.push_back({"setting " + std::to_string(i), std::to_string(world->rank() == 1)});
  const auto error = error_of<AgreedError>([&] { require_same(*world, facts, "mend it"); });
  REQUIRE(error);
  CHECK(has(error->what(), "setting 7 = 0 on rank"));
  CHECK_FALSE(has(error->what(), "setting 8 = "));
  CHECK(has(error->what(), "; 42 more; mend it"));
}

TEST_CASE("a collective that a peer does not join ends after its deadline and names itself") {
  const auto world = make_world(60);
  if (world->size() == 1) return;
  const auto hasty = make_world(1.0);
  const int late = world->size() - 1;
  double data = hasty->rank() == late ? 7.0 : 0.0;
  if (hasty->rank() != late) {
    const auto error =
        error_of<core::Error>([&] { hasty->broadcast("wait for the root", &data, 1, core::DType::f64, late).wait(); });
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::peer_lost);
    CAPTURE(error->what());
    CHECK(has(error->what(), "did not answer for 1 s"));
    CHECK(has(error->what(), "\"wait for the root\" (number 1 of group world, rank " + std::to_string(hasty->rank()) +
                                 " of " + std::to_string(hasty->size()) + ")"));
  }
  // The root comes after all, and MPI gets the time to end what is under way: the process can then leave in order.
  world->barrier("everybody else has given up");
  if (hasty->rank() == late) hasty->broadcast("wait for the root", &data, 1, core::DType::f64, late).wait();
  bool arrived = false;
  for (int tries = 0; tries < 1000 && !arrived; ++tries) {
    arrived = world->all_reduce("let MPI work", data, Reduce::sum) == 7.0 * world->size();
  }
  CHECK(arrived);
}

}  // namespace caravan::comm
