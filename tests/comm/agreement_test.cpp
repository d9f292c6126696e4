// SPDX-License-Identifier: Apache-2.0
// Failures that all ranks share, and ranks that do not come.
#include "comm/agreement.hpp"

#include <optional>

#include "comm/mpi_runtime.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

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

TEST_CASE("of several errors the lowest rank's is reported, and a foreign one counts as a defect") {
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

TEST_CASE("require_same finds the rank that differs") {
  const auto world = make_world(60);
  CHECK_NOTHROW(require_same(*world, "configuration", "a=1"));
  for (int odd = 1; odd < world->size(); ++odd) {
    const auto error =
        error_of<AgreedError>([&] { require_same(*world, "configuration", world->rank() == odd ? "a=2" : "a=1"); });
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::bad_input);
    CHECK(has(error->what(), "ranks 0 and " + std::to_string(odd) + " have different configuration"));
    CHECK(has(error->what(), "\"a=1\" and \"a=2\""));
  }
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
