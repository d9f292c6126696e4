// SPDX-License-Identifier: Apache-2.0
#include "run/open_run.hpp"

#include <unistd.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "comm/agreement.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"
#include "tests/comm/shared_folder.hpp"
#include "tests/io/expect_error.hpp"

using namespace caravan;
namespace fs = std::filesystem;

namespace {

struct Ranks {
  test::SharedFolder shared;
  const std::unique_ptr<comm::Communicator>& world = shared.world;
  run::RunFolder folder{shared.folder / "new" / "run"};  // below a folder that is not there either

  bool first() const { return world->rank() == 0; }
  void meet() const { world->barrier("meet"); }
};

}  // namespace

TEST_CASE("a start that writes nothing leaves no run folder") {
  const Ranks ranks;
  {
    run::OpenRun held(*ranks.world, ranks.folder);
    CHECK(fs::exists(ranks.folder.lock()));
    CHECK((held.lock() != nullptr) == ranks.first());
    held.ended(core::ExitCode::bad_input, "refused");  // before its log began
    ranks.meet();
  }
  ranks.meet();
  CHECK_FALSE(fs::exists(ranks.folder.path().parent_path()));
}

TEST_CASE("a second hold on a run folder is refused on all ranks") {
  const Ranks ranks;
  run::OpenRun held(*ranks.world, ranks.folder);
  try {
    const run::OpenRun second(*ranks.world, ranks.folder);
    FAIL("it was given");
  } catch (const comm::AgreedError& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    CHECK(std::string(error.what()).find(ranks.folder.path().string() + " is in use by process") != std::string::npos);
  }
  if (held.lock() != nullptr) held.lock()->require_ours();
}

TEST_CASE("a start and its end are recorded once its log has begun") {
  const Ranks ranks;
  {
    run::OpenRun held(*ranks.world, ranks.folder);
    held.begin_log(3);
    held.ended(core::ExitCode::requeue, "stopped by signal 10", 7);
    held.ended(core::ExitCode::internal, "a later error on the way out");
    ranks.meet();
  }
  core::log_to_file("/dev/null");
  ranks.meet();
  const std::vector<run::StartRecord> starts = run::read_starts(ranks.folder.starts());
  REQUIRE(starts.size() == 1);
  CHECK(starts[0].ranks == ranks.world->size());
  CHECK(starts[0].nodes == 3);
  CHECK(std::abs(starts[0].begin - std::time(nullptr)) < 100);
  REQUIRE(starts[0].end);
  CHECK(*starts[0].end >= starts[0].begin);
  CHECK(starts[0].code == core::ExitCode::requeue);
  CHECK(starts[0].why == "stopped by signal 10");
  CHECK(starts[0].step == 7);
  CHECK(fs::exists(ranks.folder.log()));
  CHECK_FALSE(fs::exists(ranks.folder.lock()));
}

TEST_CASE("what a killed start left without an end gets its last heartbeat") {
  const Ranks ranks;
  constexpr std::int64_t begun = 1'000'000, last_sign = 1'000'500;
  if (ranks.first()) {
    fs::create_directories(ranks.folder.path());
    test::write_text(ranks.folder.starts(),
                     R"({"event":"begin","time":1000000,"ranks":8,"nodes":2,"host":"n1","pid":5})"
                     "\n");
    test::write_text(ranks.folder.lock(), nlohmann::json{{"host", "n1"}, {"pid", 5}, {"heartbeat", last_sign}}.dump());
  }
  ranks.meet();
  {
    run::OpenRun held(*ranks.world, ranks.folder);
    held.begin_log(1);
    ranks.meet();
  }
  core::log_to_file("/dev/null");
  ranks.meet();
  const std::vector<run::StartRecord> starts = run::read_starts(ranks.folder.starts());
  REQUIRE(starts.size() == 2);
  CHECK(starts[0].begin == begun);
  CHECK(starts[0].end == last_sign);
  CHECK_FALSE(starts[0].code);
  CHECK(starts[0].why == "it was killed, or its node was lost: process 5 on n1, outside of Slurm");
  CHECK_FALSE(starts[1].end);
}

TEST_CASE("a start that lost its folder writes no end into it") {
  const Ranks ranks;
  run::OpenRun held(*ranks.world, ranks.folder);
  held.begin_log(1);
  ranks.meet();
  if (ranks.first()) {
    fs::remove(ranks.folder.lock());
    test::write_text(ranks.folder.lock(), R"({"host":"elsewhere","pid":1,"heartbeat":5})");
    held.ended(core::ExitCode::peer_lost, "the lock is lost");
    CHECK_FALSE(run::read_starts(ranks.folder.starts()).at(0).end);
  }
  core::log_to_file("/dev/null");
}

TEST_CASE("ranks that see other run folders are refused with both names") {
  const Ranks ranks;
  if (ranks.world->size() == 1) return;
  const bool last = ranks.world->rank() == ranks.world->size() - 1;
  const run::RunFolder own(last ? fs::path(ranks.folder.path().string() + "-elsewhere") : ranks.folder.path());
  try {
    const run::OpenRun held(*ranks.world, own);
    FAIL("it was given");
  } catch (const comm::AgreedError& error) {
    const std::string text = error.what();
    CHECK(error.code() == core::ExitCode::bad_input);
    CHECK(text.find(ranks.folder.path().string() + "-elsewhere") != std::string::npos);
    CHECK(text.find("made in " + ranks.folder.path().string() + " on " + core::host_name()) != std::string::npos);
  }
  ranks.meet();
  CHECK_FALSE(fs::exists(ranks.folder.path()));
}
