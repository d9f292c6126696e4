// SPDX-License-Identifier: Apache-2.0
#include "run/status.hpp"

#include <unistd.h>

#include <ctime>

#include "core/host_name.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/run/checkpoints.hpp"
#include "tests/run/fake_slurm.hpp"
#include "tests/run/run_on_disk.hpp"

using namespace caravan;
using test::Run;
namespace fs = std::filesystem;

namespace {

nlohmann::json held_by(const std::string& host, std::int64_t pid, std::int64_t heartbeat) {
  return {{"job", ""}, {"restart", 0}, {"host", host}, {"pid", pid}, {"heartbeat", heartbeat}};
}

}  // namespace

TEST_CASE("of a run without anything status says so") {
  const Run run;
  const nlohmann::json status = run.json();
  for (const char* stage : {"upcycle", "prepare", "train", "evaluate", "export"}) {
    CHECK(status["stages"][stage]["done"] == false);
  }
  CHECK(status["format"] == 1);
  CHECK(status["newest_good_step"].is_null());
  CHECK(status["planned_steps"].is_null());
  CHECK(status["lock"] == nlohmann::json{{"state", "free"}});
  CHECK(status["starts"] == 0);
  CHECK(status["restarts"] == 0);
  CHECK(status["node_hours"] == 0);
  CHECK(run.shell() ==
        "upcycle_done=no\nprepare_done=no\ntrain_done=no\nevaluate_done=no\nexport_done=no\nprogress=0\n");
}

TEST_CASE("status tells stages that are done, and by what their results were made") {
  Run run;
  test::save_step(run.folder.checkpoints(), 0, "", {{"upcycle", {{"seed", 7}}}});
  CHECK(run.done("upcycle"));
  CHECK_FALSE(run.done("prepare"));
  CHECK(run.shell().ends_with("progress=1000000000001\n"));
  run.settings.data.held_out_every = 4;
  run.write_packed(10);
  CHECK_FALSE(run.done("prepare"));
  CHECK(run.problem_of("prepare") == run.settings.data.packed + ".heldout is missing");
  run.write_held_out();
  CHECK(run.problem_of("prepare").empty());
  CHECK(run.json()["planned_steps"] == 6);  // two passes of three batches, the last one of two sequences
  CHECK(run.shell().ends_with("progress=2000000000001\n"));
  test::save_step(run.folder.checkpoints(), 4, "s");
  CHECK_FALSE(run.done("train"));
  CHECK(run.shell().ends_with("progress=2000000000005\n"));
  test::save_step(run.folder.checkpoints(), 6, "s", {{"config", {{"train", {{"lr", 0.5}}}}}});
  nlohmann::json status = run.json();
  CHECK(status["newest_good_step"] == 6);
  CHECK(status["committed_steps"] == std::vector{0, 4, 6});
  const nlohmann::json& stages = status["stages"];
  CHECK(stages["upcycle"]["made_by"] == "caravan 0.test");
  CHECK(stages["upcycle"]["settings"]["seed"] == 7);
  CHECK(stages["prepare"]["made_by"] == "caravan 0.old");
  CHECK(stages["prepare"]["settings"]["source"] == "talks.json");
  CHECK(stages["train"]["done"] == true);
  CHECK(stages["train"]["settings"]["train"]["lr"] == 0.5);
  CHECK(stages["train"]["result"] == (run.folder.checkpoints() / "step-00000006").string());
  run.settings.steps = 8;  // more than are computed
  CHECK_FALSE(run.done("train"));
  test::damage_step(run.folder.checkpoints(), 6);
  status = run.json();
  CHECK(status["newest_good_step"] == 4);
  CHECK(status["damaged"].size() == 1);
}

TEST_CASE("status tells who holds the lock, whether it lives, and what the starts cost") {
  const Run run;
  const test::FakeSlurm slurm(test::FakeSlurm::no_answer);
  const std::int64_t now = std::time(nullptr);
  const auto begin = [](std::int64_t time, const std::string& host, std::int64_t pid) {
    return nlohmann::json{{"event", "begin"}, {"time", time}, {"nodes", 2}, {"ranks", 8}, {"host", host}, {"pid", pid}}
               .dump() +
           "\n";
  };
  const std::string ended = begin(1000, "n1", 1) +
                            R"({"event":"end","time":4600,"code":75,"why":"stopped by signal 10"})"
                            "\n";
  test::write_text(run.folder.metrics(), "{\"step\":41}\n{\"step\":4");
  SECTION("nobody") {
    test::write_text(run.folder.starts(), ended);
    test::write_text(run.folder.stopped_early(), "signal 15\n");
    const nlohmann::json status = run.json();
    CHECK(status["node_hours"] == 2);
    CHECK(status["why_stopped"] == "stopped by signal 10");
    CHECK(status["newest_start"]["exit_code"] == 75);
    CHECK(status["stopped_early"] == true);
    CHECK(status["last_step"] == 41);
  }
  SECTION("a process that runs") {
    test::write_text(run.folder.starts(), ended + begin(now - 3600, core::host_name(), ::getppid()));
    test::write_text(run.folder.lock(), held_by(core::host_name(), ::getppid(), now).dump());
    test::write_text(run.folder.job_claim(), "4711 alpha\n");
    const nlohmann::json status = run.json();
    CHECK(status["lock"]["state"] == "held");
    CHECK(status["lock"]["pid"] == ::getppid());
    CHECK(status["job"] == "4711");
    CHECK(status["restarts"] == 1);
    CHECK(status["node_hours"].get<double>() >= 4);
    CHECK(status["node_hours"].get<double>() < 4.2);
    CHECK(status["starts_without_end"] == 0);
    CHECK(status["why_stopped"] == "it runs");
    CHECK(status["newest_start"]["end"].is_null());
  }
  SECTION("one that was killed and is silent") {
    test::write_text(run.folder.starts(), begin(now - 9000, "elsewhere", 5));
    test::write_text(run.folder.lock(), held_by("elsewhere", 5, now - 1800).dump());
    const nlohmann::json status = run.json();
    CHECK(status["lock"]["state"] == "expired");
    CHECK(status["lock"]["silent_seconds"].get<std::int64_t>() >= 1800);
    CHECK(status["node_hours"] == 4);
    CHECK(status["starts_without_end"] == 1);
    CHECK(status["why_stopped"].get<std::string>().starts_with("it was killed"));
  }
  SECTION("a start that has not begun its log") {
    test::write_text(run.folder.starts(), ended);
    test::write_text(run.folder.lock(), held_by(core::host_name(), ::getppid(), now).dump());
    CHECK(run.json()["why_stopped"] == "a start is reading its files");
  }
}

TEST_CASE("status changes nothing and says what a result is that cannot be read") {
  const Run run;
  fs::create_directories(run.folder.checkpoints() / "step-00000000");
  test::write_text(run.folder.checkpoints() / "step-00000000" / "manifest.json", "{");
  test::write_text(run.settings.data.packed, "no packed file at all");
  const nlohmann::json status = run.json();
  CHECK(status["stages"]["upcycle"]["problem"].get<std::string>().find("manifest.json") != std::string::npos);
  CHECK(status["stages"]["prepare"]["problem"].get<std::string>().find("is not a packed token file") !=
        std::string::npos);
  for (const char* stage : {"upcycle", "prepare"}) CHECK(status["stages"][stage]["done"] == false);
  CHECK(status["planned_steps"].is_null());
  CHECK_FALSE(fs::exists(run.folder.lock()));
  const std::string text = run::to_text(run::read_status(run.folder, run.settings));
  CHECK(text.find("lock          free: no job is writing") != std::string::npos);
}
