// SPDX-License-Identifier: Apache-2.0
#include "run/status.hpp"

#include <unistd.h>

#include <ctime>

#include "core/host_name.hpp"
#include "data/packed_file.hpp"
#include "io/atomic_file.hpp"
#include "run/export_record.hpp"
#include "run/step_0_origin.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/run/checkpoints.hpp"
#include "tests/run/fake_slurm.hpp"

using namespace caravan;
namespace fs = std::filesystem;

namespace {

struct Run {
  test::ScratchFolder scratch;
  run::RunFolder folder{scratch.path()};
  run::StageSettings settings{
      .data = options(), .sequence = 8, .epochs = 2, .batch = 4, .samples = 4, .precision = "bf16"};

  data::Options options() const {
    data::Options data;
    data.packed = scratch / "data.packed";
    return data;
  }
  /// As prepare would with these settings.
  void write_packed(int sequences) const { write_part("train", settings.data.packed, sequences); }
  void write_held_out() const { write_part("held_out", data::held_out_path(settings.data), 1); }
  void write_part(const std::string& part, const std::string& path, int sequences) const {
    data::PackedWriter writer({.template_name = "idae",
                               .packing = "none",
                               .sequence = 8,
                               .tokenizer = "0123456789abcdef",
                               .vocabulary = 100,
                               .source = "talks.json",
                               .source_fingerprint = "fedcba9876543210",
                               .part = part,
                               .held_out_every = settings.data.held_out_every,
                               .program = "caravan 0.old"});
    for (int s = 0; s < sequences; ++s) writer.add({.tokens = {1, 2, 3}, .labelled = {0, 1, 1}});
    io::AtomicFile file(path);
    writer.write(file);
    file.commit();
  }
  nlohmann::json json() const { return run::to_json(run::read_status(folder, settings)); }
  std::string shell() const {
    const run::Checkpoints checkpoints = run::read_checkpoints(folder, settings);
    return run::to_shell(run::read_stages(folder, settings, checkpoints), checkpoints);
  }
  bool done(const char* stage) const { return json()["stages"][stage]["done"]; }
  std::string problem_of(const char* stage) const {
    const nlohmann::json problem = json()["stages"][stage]["problem"];
    return problem.is_null() ? "" : problem.get<std::string>();
  }
};

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

TEST_CASE("a step 0 of another base or other settings is no result") {
  Run run;
  const auto write_step_0 = [&](nlohmann::json state) {
    fs::remove_all(run.folder.checkpoints());
    test::save_step(run.folder.checkpoints(), 0, "", state);
  };
  const std::string made = run.scratch / "base", other = run.scratch / "base2";
  fs::create_directories(made);
  fs::create_directory_symlink(made, run.scratch / "link");
  const nlohmann::json config{{"num_experts", 8}, {"topk", 2}, {"adapter_dim", 512}, {"moe_scaling", 0.25}};
  nlohmann::json state{{"upcycle", {{"seed", 42}, {"config", config}}}};
  run.settings.base = other;
  run.settings.upcycle = {{"seed", 42}, {"experts", 8}, {"topk", 2}, {"adapter_dim", 512}, {"scaling", 0.25}};
  write_step_0(state);
  CHECK(run.done("upcycle"));  // an earlier version made it and does not name its base
  run::Step0Origin{made, ""}.write_into(state);
  write_step_0(state);
  const auto expect_other = [&](const std::string& text) {
    CHECK_FALSE(run.done("upcycle"));
    CHECK(run.problem_of("upcycle") == (run.folder.checkpoints() / "step-00000000").string() +
                                           " was made with other settings: " + text +
                                           "; upcycle would refuse another model");
  };
  expect_other("model.base = " + other + ", but it was " + made);
  for (const std::string& same : {made, made + "/", (run.scratch / "link").string(), std::string()}) {
    run.settings.base = same;
    CHECK(run.done("upcycle"));
  }
  run.settings.adapter = other;
  expect_other("model.adapter = " + other + ", but it was not set");
  run.settings.adapter.clear();
  run.settings.upcycle["seed"] = 77;
  run.settings.upcycle["experts"] = 4;
  expect_other("upcycle.seed = 77, but it was 42; upcycle.experts = 4, but it was 8");
  run.settings.upcycle["seed"] = 42;
  state["upcycle"]["kept"] = {"upcycle"};  // the base had its own experts
  write_step_0(state);
  CHECK(run.done("upcycle"));
}

TEST_CASE("packed files of other settings are no result, unless the run has trained") {
  Run run;
  run.write_packed(10);
  test::save_step(run.folder.checkpoints(), 0);
  CHECK(run.done("prepare"));
  run.settings.data.prompt_template = data::TemplateKind::idae_official;
  const std::string other =
      run.settings.data.packed + " was prepared with other settings: data.template = idae_official, but it was idae; ";
  const auto expect_replaced = [&] {
    CHECK_FALSE(run.done("prepare"));
    CHECK(run.problem_of("prepare") == other + "prepare would replace it");
  };
  const auto expect_kept = [&] {
    CHECK(run.done("prepare"));
    CHECK(run.problem_of("prepare") == other + "it is kept, because this run has trained already");
  };
  expect_replaced();
  CHECK(run.shell().ends_with("progress=1000000000001\n"));

  const Run origin;  // of a run that begins from another one's checkpoint
  test::save_step(origin.folder.checkpoints(), 0);
  test::save_step(origin.folder.checkpoints(), 4, "s");
  run.settings.resume = (origin.folder.checkpoints() / "step-00000000").string();
  expect_replaced();
  run.settings.resume = (origin.folder.checkpoints() / "step-00000004").string();
  expect_kept();
  run.settings.resume = "auto";

  test::save_step(run.folder.checkpoints(), 4, "s");
  expect_kept();
  test::damage_step(run.folder.checkpoints(), 4);
  expect_kept();
  run.settings.data.prompt_template = data::TemplateKind::idae;
  CHECK(run.problem_of("prepare").empty());
  run.settings.data.held_out_every = 4;  // to hold records out would change the others
  CHECK(run.done("prepare"));
  CHECK(run.problem_of("prepare").starts_with(run.settings.data.packed + ".heldout is missing; "));
}

TEST_CASE("held-out records that are missing do not let trained data be replaced") {
  Run run;
  run.settings.data.held_out_every = 4;
  run.write_packed(10);
  run.write_held_out();
  const std::string& packed = run.settings.data.packed;
  const std::string held_out = data::held_out_path(run.settings.data);
  test::save_step(run.folder.checkpoints(), 0);
  const auto damage = [&] { test::write_text(held_out, "no packed file at all"); };
  damage();
  CHECK_FALSE(run.done("prepare"));
  CHECK(run.problem_of("prepare").starts_with(held_out));
  test::save_step(run.folder.checkpoints(), 4, "s");
  const std::string kept = "; " + packed + " is kept, because this run has trained already";
  CHECK(run.done("prepare"));
  CHECK(run.problem_of("prepare").starts_with(held_out));
  CHECK(run.problem_of("prepare").ends_with(kept));
  fs::remove(held_out);
  CHECK(run.done("prepare"));
  CHECK(run.problem_of("prepare") == held_out + " is missing" + kept);
  run.write_held_out();
  CHECK(run.done("prepare"));
  CHECK(run.problem_of("prepare").empty());
  test::write_text(packed, "no packed file at all");  // nothing can be trained on that
  CHECK_FALSE(run.done("prepare"));
}

TEST_CASE("packed files stay while a checkpoint to resume cannot be read") {
  Run run;
  run.write_packed(10);
  const fs::path resumed = run.scratch / "elsewhere" / "step-00000004";
  run.settings.resume = resumed.string();
  run.settings.data.prompt_template = data::TemplateKind::idae_official;
  const auto expect_kept = [&] {
    CHECK(run.done("prepare"));
    CHECK(run.problem_of("prepare").find("it is kept, because checkpoint.resume may name a trained checkpoint (" +
                                         resumed.string()) != std::string::npos);
  };
  expect_kept();  // not there: its storage may be away
  fs::create_directories(resumed);
  test::write_text(resumed / "manifest.json", "{");
  expect_kept();
  run.settings.resume = "auto";
  CHECK_FALSE(run.done("prepare"));
}

TEST_CASE("evaluate and export are done for the step chosen, and only if its card says so") {
  Run run;
  test::save_step(run.folder.checkpoints(), 0);
  test::save_step(run.folder.checkpoints(), 12, "s");
  test::write_text(run.folder.evaluation(12), R"({"loss":1.5,"precision":"bf16","samples":4,"program":"caravan 1.1"})");
  CHECK(run.done("evaluate"));
  CHECK(run.json()["stages"]["evaluate"]["made_by"] == "caravan 1.1");
  CHECK(run.json()["stages"]["evaluate"]["settings"] == nlohmann::json{{"precision", "bf16"}, {"samples", 4}});
  const fs::path exported = run.folder.exported(12, true);
  CHECK(exported.filename() == "export-step-00000012");
  fs::create_directories(exported);
  CHECK_FALSE(run.done("export"));  // its last file is not there
  test::write_text(exported / "README.md", "of step 12, /run/checkpoints/step-00000012.\n\n## Program\ncaravan 1.2\n");
  CHECK(run.done("export"));
  CHECK(run.json()["stages"]["export"]["made_by"] == "caravan 1.2");
  test::write_text(exported / "UNVERIFIED", "");
  CHECK(run.shell().find("export_problem=" + exported.string() + " is marked UNVERIFIED") != std::string::npos);
  test::write_text(exported / "README.md", "/run/checkpoints/step-00000120.");
  CHECK_FALSE(run.done("export"));
  run.settings.step = 0;
  CHECK_FALSE(run.done("evaluate"));
  run.settings.step = 12;
  CHECK(run.done("evaluate"));
  run.settings.merge = false;
  CHECK(run.json()["stages"]["export"]["result"] == (run.scratch / "adapter-step-00000012").string());
}

TEST_CASE("an export of another checkpoint, type or form is no result") {
  Run run, other;
  for (const Run* each : {&run, &other}) test::save_step(each->folder.checkpoints(), 0);
  test::save_step(run.folder.checkpoints(), 12, "s");
  test::save_step(run.folder.checkpoints(), 13, "s");
  test::save_step(other.folder.checkpoints(), 12, "of another base");
  run.settings.step = other.settings.step = 12;
  const fs::path exported = run.scratch / "export";
  run.settings.export_folder = other.settings.export_folder = exported.string();
  fs::create_directories(exported);
  test::write_text(exported / "README.md", "of step 12, /run/checkpoints/step-00000012.\n");
  CHECK(run.done("export"));
  CHECK(other.done("export"));  // an earlier version wrote it and does not say more
  const fs::path checkpoint = checkpoint::step_folder(run.folder.checkpoints(), 12);
  run::ExportRecord record{.checkpoint = run::checkpoint_identity(checkpoint::Manifest::read(checkpoint)),
                           .step = 12,
                           .dtype = "bfloat16",
                           .automatic_dtype = "bfloat16",
                           .merge = true,
                           .format = "pesc",
                           .program = "caravan 1.3"};
  record.write(exported);
  CHECK(run.done("export"));
  CHECK(run.json()["stages"]["export"]["made_by"] == "caravan 1.3");
  const auto expect_other = [&](const Run& each, const std::string& text) {
    CHECK_FALSE(each.done("export"));
    CHECK(each.problem_of("export") == exported.string() + " holds another export: " + text);
  };
  expect_other(other, "the checkpoint is " + checkpoint::step_folder(other.folder.checkpoints(), 12).string() +
                          ", but it was another one of this step");
  run.settings.step = 13;
  expect_other(run, "the checkpoint is of step 13, but it was 12");
  run.settings.step = 12;
  run.settings.dtype = "float16";
  expect_other(run, "export.dtype = float16, but it was bfloat16");
  run.settings.dtype = "bfloat16";
  CHECK(run.done("export"));
  record.dtype = "float32";
  record.write(exported);
  run.settings.dtype = "auto";
  run.settings.format = "official";
  expect_other(run, "export.dtype = bfloat16, but it was float32; export.format = official, but it was pesc");
  run.settings.merge = false;
  expect_other(run, "export.merge = false, but it was true");
  run.settings = other.settings;
  record.checkpoint = run::checkpoint_identity(checkpoint::Manifest::read(checkpoint));
  record.dtype = "bfloat16";
  record.write(exported);
  CHECK(run.done("export"));
  fs::remove_all(checkpoint);  // the export outlives it
  CHECK(run.done("export"));
  test::write_text(exported / "export.json", "{}");
  CHECK_FALSE(run.done("export"));
  CHECK(run.problem_of("export").starts_with((exported / "export.json").string()));
}

TEST_CASE("an evaluation with other settings or records is no result") {
  Run run;
  test::save_step(run.folder.checkpoints(), 12);
  const std::string held_out = data::held_out_path(run.settings.data);
  const auto report = [&](const nlohmann::json& facts) { test::write_text(run.folder.evaluation(12), facts.dump()); };
  const auto expect_other = [&](const std::string& text) {
    CHECK_FALSE(run.done("evaluate"));
    CHECK(run.problem_of("evaluate") == run.folder.evaluation(12).string() + " is of other settings: " + text);
  };
  const auto content = [&] { return data::PackedFile(held_out, data::PackedFile::Check::header).content(); };
  report({{"precision", "fp32"}, {"samples", 3}});
  expect_other("train.precision = bf16, but it was fp32");
  run.write_part("held_out", held_out, 3);
  report({{"precision", "bf16"}, {"samples", 3}, {"held_out", content()}});
  CHECK(run.done("evaluate"));  // there are no more than 3
  run.settings.samples = 2;
  expect_other("evaluate.samples = 2, but it was 3");
  run.write_part("held_out", held_out, 2);
  expect_other(held_out + " has changed since");
  fs::remove(held_out);  // as on a machine that has the run folder alone
  CHECK(run.done("evaluate"));
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
