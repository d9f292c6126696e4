// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "comm/communicator.hpp"
#include "family/parameters.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/report/expect_text.hpp"
#include "tests/support/fixtures.hpp"

using namespace caravan;
using test::expect_problem;
using test::expect_text;
using test::request_of;

namespace {

/// A run folder with step 0 (all tensors of the fixture's model) and step 12 (trained ones with moments, in 2 parts).
class SmallRun {
 public:
  SmallRun() : spec_(family::read_model_spec((tests::fixtures() / "camelidae-tiny").string())) {
    parameters_ = family::parameter_specs(spec_);
    const auto world = comm::make_serial_communicator("world");
    std::vector<checkpoint::Piece> pieces, trained;
    for (const auto& parameter : parameters_) {
      const layout::Rectangle all = layout::whole(parameter.shape);
      pieces.push_back(test::piece_of(parameter.name, parameter.shape, parameter.storage, all));
      if (!parameter.trainable) continue;
      for (const char* prefix : {"", "optimizer/exp_avg/", "optimizer/exp_avg_sq/"}) {
        layout::Rectangle first = all, rest = all;
        first.extent[0] = rest.offset[0] = 1;
        rest.extent[0] -= 1;
        trained.push_back(test::piece_of(prefix + parameter.name, parameter.shape, core::DType::f32, first));
        trained.push_back(test::piece_of(prefix + parameter.name, parameter.shape, core::DType::f32, rest));
      }
    }
    std::filesystem::create_directories(scratch_ / "run/checkpoints");
    const std::filesystem::path config = tests::fixtures() / "camelidae-tiny/config.json";
    const nlohmann::json made{
        {"seed", 7}, {"base", "0123abcd"}, {"config", nlohmann::json::parse(test::read_text(config))}};
    checkpoint::save(*world, {.folder = step(0), .state = {{"upcycle", made}}, .program = "P 1"}, pieces);
    std::filesystem::copy_file(config, step(0) / "config.json");
    const nlohmann::json state{{"progress", {{"epoch", 1}, {"index", 24}, {"tokens", 12345}, {"response_tokens", 678}}},
                               {"data", "fedcba98"},
                               {"config", {{"train", {{"lr", 0.001}, {"precision", "fp32"}, {"steps", 10}}}}}};
    checkpoint::save(*world,
                     {.folder = step(12),
                      .step = 12,
                      .state = state,
                      .store = checkpoint::store_reference(step(0), step(12)),
                      .program = "P 2\nbuilt with care"},
                     trained);
  }

  std::filesystem::path folder() const { return scratch_ / "run"; }
  std::filesystem::path step(int n) const {
    return folder() / (n == 0 ? "checkpoints/step-00000000" : "checkpoints/step-00000012");
  }
  std::int64_t elements(bool trainable_only) const { return family::count_elements(parameters_, trainable_only); }
  const std::vector<layout::ParameterSpec>& parameters() const { return parameters_; }

  /// Changes one byte of a frozen tensor in step 0, or of a trained one in step 12.
  std::string damage(int n) const {
    const bool frozen = n == 0;
    const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                    [&](const auto& parameter) { return parameter.trainable != frozen; });
    const std::vector<float> all = test::elements(found->name, found->shape, layout::whole(found->shape));
    const std::ptrdiff_t some = std::min<std::int64_t>(layout::element_count(found->shape) / found->shape[0], 64);
    const std::vector<float> values(all.begin(), all.begin() + some);
    std::vector<char> bytes(values.size() * core::size_of(found->storage));
    core::convert(values.data(), core::DType::f32, bytes.data(), found->storage, values.size());
    const std::int64_t at = test::find_bytes(step(n) / "shard-00000.h5", bytes.data(), bytes.size());
    REQUIRE(at > 0);
    test::flip_bit(step(n) / "shard-00000.h5", at);
    return found->name;
  }

 private:
  test::ScratchFolder scratch_;
  family::ModelSpec spec_;
  std::vector<layout::ParameterSpec> parameters_;
};

}  // namespace

TEST_CASE("a checkpoint says what it is, how it was trained, where its frozen tensors are") {
  const SmallRun run;
  const report::Report report = info(request_of(run.step(12), true, true));
  CHECK(report.problems.empty());
  const std::int64_t all = run.elements(false), trained = run.elements(true);
  expect_text(report.text, {"checkpoint: " + run.step(12).string(),
                            "step            12\n",
                            "format version  1\n",
                            "written by      P 2",
                            "built with care",
                            "layout          1 rank, TP 1, EP 1",
                            "1 shard, ",
                            "in " + run.step(0).string(),
                            "mixture of experts (PESC)",
                            "computed in fp32",
                            "epoch 1",
                            "12,345 tokens, 678 of them responses",
                            "fingerprint fedcba98",
                            report::grouped(all) + "; " + report::grouped(trained) + " of them trained",
                            "in step-00000000",
                            report::grouped(2 * trained),
                            "train.lr         = 0.001  (default 0.0002)",
                            "train.precision  = fp32  (default bf16)",
                            "every tensor of the model is there in its shape",
                            "every byte of every tensor, by its checksum"});
  CHECK(report.text.find("train.steps") == std::string::npos);
  for (const auto& parameter : run.parameters()) expect_text(report.text, {"\n  " + parameter.name + " "});
  const auto trainable = std::find_if(run.parameters().begin(), run.parameters().end(),
                                      [](const auto& parameter) { return parameter.trainable; });
  expect_text(report.text, {"2 pieces", "shard-00000.h5, dataset " + trainable->name + "@0,0"});
}

TEST_CASE("step 0 says what it was made from and needs no other checkpoint") {
  const SmallRun run;
  const report::Report report = info(request_of(run.step(0)));
  CHECK(report.problems.empty());
  expect_text(report.text, {"upcycle, seed 7, from a base with fingerprint 0123abcd", "base model (frozen)",
                            "router (trained)", "adapters (trained)", "--verify compares them"});
  CHECK(report.text.find("optimizer moments") == std::string::npos);
}

TEST_CASE("a file of a checkpoint leads to its folder") {
  const SmallRun run;
  for (const char* name : {"manifest.json", "shard-00000.h5", "master.h5", "config.json"}) {
    expect_text(info(request_of(run.step(0) / name)).text, {"checkpoint: " + run.step(0).string() + "\n"});
  }
}

TEST_CASE("--verify finds one changed byte, in the checkpoint and in its frozen tensors") {
  for (const int step : {0, 12}) {
    const SmallRun run;
    const std::string name = run.damage(step);
    CHECK(info(request_of(run.step(12))).problems.empty());  // only reading the bytes can tell
    expect_problem(info(request_of(run.step(12), false, true)),
                   {run.step(step).string(), "tensor " + name, "the checksum differs"});
    expect_problem(info(request_of(run.folder(), false, true)), {run.step(step).string(), "tensor " + name});
  }
}

TEST_CASE("an edited config.json beside the frozen tensors is a problem") {
  const SmallRun run;
  CHECK(info(request_of(run.step(0))).text.find("config.json is the one that upcycle wrote") != std::string::npos);
  nlohmann::json config = nlohmann::json::parse(test::read_text(run.step(0) / "config.json"));
  config["rms_norm_eps"] = 0.125;
  test::write_text(run.step(0) / "config.json", config.dump());
  for (const int step : {0, 12}) {
    expect_problem(info(request_of(run.step(step), false, true)),
                   {(run.step(0) / "config.json").string(), "rms_norm_eps = 0.125, but the model was made with "});
  }
}

TEST_CASE("missing parts of a checkpoint are problems, each named") {
  const SmallRun run;
  SECTION("a shard that was cut") {
    const auto shard = run.step(12) / "shard-00000.h5";
    std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
    for (const bool verify : {false, true}) {
      expect_problem(info(request_of(run.step(12), false, verify)), {shard.string(), "truncated or damaged"});
    }
    // The run goes on from the checkpoint before it.
    const report::Report report = info(request_of(run.folder()));
    expect_problem(report, {shard.string()});
    expect_text(report.text, {"newest good  step-00000000", "checkpoint: " + run.step(0).string()});
  }
  SECTION("the folder with the frozen tensors") {
    std::filesystem::remove_all(run.step(0));
    for (const bool verify : {false, true}) {
      expect_problem(info(request_of(run.step(12), false, verify)), {run.step(0).string(), "which is not there"});
    }
  }
  SECTION("a manifest that was edited cannot be believed at all") {
    std::string text = test::read_text(run.step(12) / "manifest.json");
    text.replace(text.find("\"step\": 12"), 10, "\"step\": 13");
    test::write_text(run.step(12) / "manifest.json", text);
    test::expect_error(core::ExitCode::bad_input, {run.step(12).string(), "checksum differs"},
                       [&] { info(request_of(run.step(12))); });
    expect_problem(info(request_of(run.step(12), false, true)), {run.step(12).string(), "checksum differs"});
  }
  SECTION("a save that was not finished") {
    std::filesystem::remove(run.step(12) / "manifest.json");
    test::expect_error(core::ExitCode::bad_input, {run.step(12).string(), "a save that was not finished"},
                       [&] { info(request_of(run.step(12))); });
    expect_text(info(request_of(run.folder())).text, {"step-00000012 (a save that was not finished)"});
  }
}

TEST_CASE("a tensor that the model needs and the checkpoint lacks is a problem") {
  const SmallRun run;
  const auto& parameters = run.parameters();
  const auto world = comm::make_serial_communicator("world");
  std::vector<checkpoint::Piece> pieces;
  for (std::size_t i = 0; i + 1 < parameters.size(); ++i) {
    layout::Shape shape = parameters[i].shape;
    if (i == 0) shape[0] += 1;
    pieces.push_back(test::piece_of(parameters[i].name, shape, parameters[i].storage, layout::whole(shape)));
  }
  const std::filesystem::path folder = run.folder() / "other";
  checkpoint::save(*world, {.folder = folder, .program = "P"}, pieces);
  std::filesystem::copy_file(run.step(0) / "config.json", folder / "config.json");
  const report::Report report = info(request_of(folder));
  REQUIRE(report.problems.size() == 2);
  expect_text(report.problems[0], {parameters.front().name, "has shape", layout::to_string(parameters.front().shape)});
  expect_text(report.problems[1], {parameters.back().name, "is missing"});
}

TEST_CASE("a run folder says its steps, last measurement, writer and how it was trained") {
  const SmallRun run;
  test::write_text(run.folder() / "metrics.jsonl",
                   "{\"step\":11,\"loss\":4.5}\n{\"step\":12,\"loss\":3.25,\"lr\":0.5}\n{\"st");
  test::write_text(run.folder() / "config.ini", "");
  std::filesystem::create_directories(run.folder() / "checkpoints/step-00000020.set-aside");
  report::Report report = info(request_of(run.folder()));
  CHECK(report.problems.empty());
  expect_text(report.text, {"run folder: " + run.folder().string(), "steps 0 and 12", "newest good  step-00000012",
                            "step-00000020.set-aside (set aside", "12: loss 3.25, lr 0.5", "free: no job is writing",
                            "train.lr  = 0.004  (default 0.0002)", "checkpoint: " + run.step(12).string()});
  report::Request request = request_of(run.folder());
  request.read_settings = [](const std::string&) {
    return nlohmann::json{{"train", {{"lr", 0.001}, {"precision", "fp32"}, {"steps", 10}}}};
  };
  CHECK(info(request).text.find("config.ini") == std::string::npos);  // it says what the newest checkpoint says
  request.read_settings = [](const std::string& file) -> nlohmann::json { core::bad_input(file, ":3: unknown"); };
  expect_problem(info(request), {"config.ini:3: unknown"});
  test::write_text(run.folder() / "lock",
                   R"({"job": "77", "restart": "", "host": "node5", "pid": 4242, "heartbeat": 1000000000})");
  for (const auto& path : {run.folder() / "lock", run.folder() / "metrics.jsonl", run.folder() / "checkpoints"}) {
    expect_text(info(request_of(path)).text,
                {"run folder: " + run.folder().string(), "held by process 4242 on node5, job 77"});
  }
  test::write_text(run.folder() / "metrics.jsonl", "[1]\n");
  expect_problem(info(request_of(run.folder())), {"metrics.jsonl", "[1]"});
}
