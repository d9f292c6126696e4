// SPDX-License-Identifier: Apache-2.0
#include "run/stages.hpp"

#include "data/packed_file.hpp"
#include "io/atomic_file.hpp"
#include "run/export_record.hpp"
#include "run/step_0_origin.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/run/checkpoints.hpp"
#include "tests/run/run_on_disk.hpp"

using namespace caravan;
using test::Run;
namespace fs = std::filesystem;

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
