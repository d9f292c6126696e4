// SPDX-License-Identifier: Apache-2.0
// The watchdog over MPI: true ranks that come late, or call collectives in another order.
#include <unistd.h>

#include <fstream>
#include <optional>
#include <thread>

#include "comm/agreement.hpp"
#include "comm/mpi_runtime.hpp"
#include "comm/start_watchdog.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/support/catch.hpp"

namespace caravan::comm {
namespace {

namespace fs = std::filesystem;

bool has(const std::string& text, const std::string& part) {
  UNSCOPED_INFO(text);
  return text.find(part) != std::string::npos;
}

/// The message with which a collective gave up (exit 76), if it did.
std::optional<std::string> lost(Pending pending) {
  try {
    pending.wait();
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::peer_lost);
    return error.what();
  }
  return {};
}

/// Until MPI has moved what was given up, so that the process can leave in order.
void let_arrive(Communicator& world, const double& data) {
  bool arrived = false;
  for (int tries = 0; tries < 1000 && !arrived; ++tries) {
    arrived = world.all_reduce("let MPI work", data, Reduce::sum) == 7.0 * world.size();
  }
  CHECK(arrived);
}

/// What a rank reports of the `late` one, which does not send its 7 before another rank has given it up. One does.
std::optional<std::string> give_up(Communicator& world, Communicator& hasty, int late, const fs::path& folder,
                                   const char* what) {
  double data = world.rank() == late ? 7.0 : 0.0;
  const std::string given_up = folder / "given-up";
  // It must show no sign of work: sanitizers fault memory in with every allocation.
  for (int tries = 0; world.rank() == late && tries < 6000 && access(given_up.c_str(), F_OK) != 0; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::optional<std::string> report = lost(hasty.broadcast(what, &data, 1, core::DType::f64, late));
  watch::activity().clear_verdict();  // it would end the program
  if (report) test::write_text(given_up, *report);
  let_arrive(world, data);
  CHECK(world.all_reduce("count the reports", std::int64_t{report.has_value()}, Reduce::sum) == 1);
  if (report) {
    CHECK(world.rank() != late);
    CHECK(has(*report, "rank " + std::to_string(late) + " (host "));
    CHECK(has(*report, ") is late: it computes since"));
    CHECK(has(*report, ", in \"" + std::string(what) + "\" (number "));
    CHECK(has(*report, "\nstack of rank " + std::to_string(late) + ":\n#0 "));
    CHECK(has(*report, "comm_test+0x"));
  }
  return report;
}

}  // namespace

TEST_CASE("watchdogs see each other's pages and leave nothing behind") {
  const auto world = make_world(60);
  const test::ScratchFolder scratch;
  const fs::path folder = test::shared(*world, scratch) / "watchdog";
  on_all_ranks(*world, [&] {  // what a killed job left
    if (world->rank() > 0) return;
    fs::create_directories(folder);
    for (const char* name : {"alarm", "rank-00099.json", "stack-00000.txt"}) test::write_text(folder / name, "old");
  });
  {
    const auto watchdog = start_watchdog(*world, folder, 600);
    CHECK_FALSE(fs::exists(folder / "alarm"));
    CHECK_FALSE(fs::exists(folder / "stack-00000.txt"));
    int files = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++files;
    CHECK(files == world->size());
    for (int rank = 0; rank < world->size() && world->size() > 1; ++rank) {
      const watch::RankState state = watch::WatchFolder(folder, rank).read_state(rank);
      REQUIRE(state.known);
      CHECK((state.operation == "open the watchdogs' pages" || state.operation == "start the watchdogs"));
      CHECK(state.number > 0);
      CHECK(state.begun(state.group) == state.number);
    }
    world->barrier("all have looked");
  }
  world->barrier("all have ended");
  CHECK_FALSE(fs::exists(folder));
}

TEST_CASE("a watchdog without a folder needs files only for the ranks of other nodes") {
  const auto world = make_world(60);
  const test::ScratchFolder scratch;
  const fs::path folder = test::shared(*world, scratch) / "run";
  on_all_ranks(*world, [&] {
    if (world->rank() == 0) fs::create_directory(folder);
  });
  const auto entries = [&] {
    world->barrier("before looking");
    int count = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      for ([[maybe_unused]] const auto& file : fs::directory_iterator(entry)) ++count;
    }
    world->barrier("after looking");
    return count;
  };
  std::vector<int> nodes(static_cast<std::size_t>(world->size()));
  const fs::path what = folder / "not there" / "yet";
  {
    const auto watchdog = start_watchdog_beside(*world, what, 600, nodes);
    CHECK(entries() == 0);
  }
  for (int rank = 0; rank < world->size(); ++rank) nodes[static_cast<std::size_t>(rank)] = rank;
  {
    const auto watchdog = start_watchdog_beside(*world, what, 600, nodes);
    CHECK(entries() == (world->size() > 1 ? world->size() : 0));
  }
  world->barrier("all have ended");
  CHECK(fs::is_empty(folder));
  {
    const auto watchdog = start_watchdog_beside(*world, {}, 600, nodes);
    CHECK(entries() == 0);
  }
  world->barrier("all have looked at the folder");
}

TEST_CASE("without files, a rank that hangs is named with its stack, a busy one waited for") {
  const auto world = make_world(60), hasty = make_world(1.0);
  if (world->size() == 1) return;
  const test::ScratchFolder scratch;
  const fs::path folder = test::shared(*world, scratch);
  const int late = world->size() - 1;
  double data = world->rank() == late ? 7.0 : 0.0;
  std::optional<std::string> report;
  {
    const auto watchdog = start_watchdog_beside(*world, {}, 1.0);
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    while (world->rank() == late && seconds() < 3) {  // three deadlines
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      test::read_text("/proc/self/comm");
    }
    CHECK_FALSE(lost(hasty->broadcast("wait for who reads", &data, 1, core::DType::f64, late)));
    report = give_up(*world, *hasty, late, folder, "wait for who hangs");
  }
  if (report) CHECK(has(*report, "(number 2 of group world)"));
  world->barrier("all have looked at the folder");
}

TEST_CASE("one rank says who is late, and the others go on waiting for the end of the job") {
  const auto world = make_world(60), hasty = make_world(1.0);
  if (world->size() == 1) return;
  const test::ScratchFolder scratch;
  const fs::path folder = test::shared(*world, scratch);
  const int late = world->size() - 1;
  std::optional<std::string> report;
  {
    const auto watchdog = start_watchdog(*world, folder / "watchdog", 1.0);
    watch::activity().enter_step(41);
    watch::activity().enter_phase("backward");
    report = give_up(*world, *hasty, late, folder, "wait for the root");
  }
  if (report) {
    CHECK(has(*report, "in step 41, phase backward, after \"start the watchdogs\" (number"));
    CHECK(has(*report, "(number 1 of group world)"));
  }
  world->barrier("all have looked at the folder");
}

TEST_CASE("two ranks that wait for each other in different collectives are both named") {
  const auto world = make_world(60), first = make_world(60), second = make_world(60);
  if (world->size() != 2) return;
  const test::ScratchFolder scratch;
  const fs::path folder = test::shared(*world, scratch);
  const int me = world->rank();
  double of_first = me == 0 ? 7.0 : 0.0, of_second = me == 1 ? 7.0 : 0.0;
  std::optional<std::string> report;
  {
    const auto watchdog = start_watchdog(*world, folder / "watchdog", 1.0);
    const auto from_first = [&] { return lost(first->broadcast("from rank 0", &of_first, 1, core::DType::f64, 0)); };
    const auto from_second = [&] { return lost(second->broadcast("from rank 1", &of_second, 1, core::DType::f64, 1)); };
    // Each wants what the other one will send later. Whoever gives up goes on, which frees the other one.
    report = me == 0 ? from_second() : from_first();
    watch::activity().clear_verdict();  // it would end the program
    CHECK_FALSE((me == 0 ? from_first() : from_second()).has_value());
    let_arrive(*world, of_first);
    let_arrive(*world, of_second);
  }
  CHECK(world->all_reduce("count the reports", std::int64_t{report.has_value()}, Reduce::sum) == 1);
  if (report) {
    CHECK(has(*report, "no rank is late, but ranks 0 and 1 wait for each other in different collectives"));
    CHECK(has(*report, "rank 0 waits since"));
    CHECK(has(*report, "in \"from rank 1\" (number 1 of group world)"));
    CHECK(has(*report, "rank 1 waits since"));
    CHECK(has(*report, "in \"from rank 0\" (number 1 of group world)"));
  }
  world->barrier("all have looked at the folder");
}

}  // namespace caravan::comm
