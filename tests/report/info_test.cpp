// SPDX-License-Identifier: Apache-2.0
#include "report/info.hpp"

#include "data/packed_file.hpp"
#include "family/parameters.hpp"
#include "family/peft.hpp"
#include "io/safetensors.hpp"
#include "report/page.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/report/expect_text.hpp"
#include "tests/support/fixtures.hpp"

using namespace caravan;
using report::grouped;
using test::expect_error;
using test::expect_problem;
using test::expect_text;
using test::request_of;

namespace {

/// Two documents of 3 and 5 tokens in one sequence; labelled: the last two of each.
void write_packed(const std::filesystem::path& path) {
  data::PackedWriter writer(
      {"idae", "simple", 16, "0123456789abcdef", 50, "some.json", "fedcba9876543210", "train", 5, "caravan of a test"});
  writer.add({{1, 2, 3}, {0, 1, 1}});
  writer.add({{4, 5, 6, 7, 8}, {0, 0, 0, 1, 1}});
  io::AtomicFile file(path);
  writer.write(file);
  file.commit();
}

}  // namespace

TEST_CASE("a packed token file says how it was made and what it holds") {
  const test::ScratchFolder scratch;
  write_packed(scratch / "tokens");  // known by its first bytes
  const report::Report report = info(request_of(scratch / "tokens", true, true));
  CHECK(report.problems.empty());
  expect_text(report.text, {"packed token file: " + (scratch / "tokens").string(), "caravan of a test",
                            "1, of at most 16 tokens; the longest has 8", "documents       2\n", "8, which fill 50 %",
                            "4 tokens, 50 % of all", "idae, packing simple", "some.json, fingerprint fedcba9876543210",
                            "vocabulary 50", data::PackedFile((scratch / "tokens").string()).fingerprint()});

  test::flip_bit(scratch / "tokens", static_cast<std::int64_t>(std::filesystem::file_size(scratch / "tokens")) / 2);
  expect_problem(info(request_of(scratch / "tokens", false, true)), {(scratch / "tokens").string(), "damaged"});
  expect_error(core::ExitCode::bad_input, {(scratch / "tokens").string(), "damaged"},
               [&] { info(request_of(scratch / "tokens")); });
}

TEST_CASE("a Hugging Face folder says its family, sizes and parameters") {
  for (const std::string name : {"llama-tiny", "camelidae-tiny"}) {
    const std::filesystem::path folder = tests::fixtures() / name;
    const family::ModelSpec spec = family::read_model_spec(folder.string());
    const auto parameters = family::parameter_specs(spec);
    const report::Report report = info(request_of(folder, true, true));
    CHECK(report.problems.empty());
    expect_text(report.text, {"Hugging Face model: " + folder.string(), spec.pesc ? "mixture of experts" : "dense",
                              core::concat(spec.layers, " layers, hidden ", spec.hidden), "model.safetensors\n",
                              "no other", "no checksums", grouped(family::count_elements(parameters, false))});
    if (spec.pesc) {
      expect_text(report.text, {core::concat(spec.pesc->experts, " experts, top-", spec.pesc->topk),
                                grouped(family::count_elements(parameters, true)) + " of them trained"});
    }
    const io::SafetensorsDirectory directory(folder);
    for (const std::string& tensor : directory.names()) expect_text(report.text, {"\n  " + tensor + " "});
    expect_text(info(request_of(folder / "config.json")).text, {"Hugging Face model: " + folder.string() + "\n"});
  }
}

TEST_CASE("a PEFT folder says its update and what it holds") {
  for (const auto& folder : tests::folders_in(tests::more_fixtures() / "peft")) {
    const family::PeftAdapter adapter = family::read_peft_adapter(folder.string());
    const report::Report report = info(request_of(folder, true));
    CHECK(report.problems.empty());
    expect_text(report.text, {"PEFT adapter: " + folder.string(), core::concat("rank ", adapter.lora->rank, ", alpha "),
                              "q_proj", "caravan verify --model=BASE --adapter=" + folder.string()});
    CHECK((report.text.find("rank-stabilised") != std::string::npos) == adapter.lora->rank_stabilised);
    expect_text(info(request_of(folder / "adapter_config.json")).text, {"PEFT adapter: " + folder.string()});
  }
}

TEST_CASE("files that do not fit config.json are refused, and with --verify a problem") {
  const test::ScratchFolder scratch;
  const std::filesystem::path folder = scratch / "model";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(tests::fixtures() / "llama-tiny/config.json", folder / "config.json");
  io::write_safetensors(folder / "model.safetensors", {});
  expect_error(core::ExitCode::bad_input, {folder.string(), "model.embed_tokens.weight is missing"},
               [&] { info(request_of(folder)); });
  expect_problem(info(request_of(folder, false, true)), {folder.string(), "is missing"});
  std::filesystem::remove(folder / "model.safetensors");
  expect_error(core::ExitCode::bad_input, {folder.string(), "model.safetensors.index.json"},
               [&] { info(request_of(folder)); });
}

TEST_CASE("a folder that export marked is a problem") {
  const test::ScratchFolder scratch;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(tests::fixtures() / "llama-tiny" / name, scratch / name);
  }
  CHECK(info(request_of(scratch.path())).problems.empty());
  test::write_text(scratch / "UNVERIFIED", "");
  expect_problem(info(request_of(scratch.path())), {(scratch / "UNVERIFIED").string()});
}

TEST_CASE("a safetensors file says what it holds and where") {
  const test::ScratchFolder scratch;
  const std::filesystem::path file = scratch / "some.safetensors";
  const std::vector<float> values(1500, 1.0F);
  const std::vector<std::int64_t> ids(6, 1);
  io::write_safetensors(
      file,
      {{"logits", {3, 500}, core::DType::f32, values.data()}, {"input_ids", {2, 3}, core::DType::i64, ids.data()}},
      {{"made", "here"}});
  const report::Report report = info(request_of(file, true, true));
  CHECK(report.problems.empty());
  const auto first_byte = std::filesystem::file_size(file) - 1500 * sizeof(float);  // the narrower type lies last
  expect_text(report.text, {"safetensors file: " + file.string(), "metadata made  here", "1,500", "[3, 500]", "[2, 3]",
                            "6 kB", "48 bytes", grouped(static_cast<std::int64_t>(first_byte)) + "  some.safetensors"});
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  expect_error(core::ExitCode::bad_input, {file.string(), "logits", "cut short"}, [&] { info(request_of(file)); });
  expect_problem(info(request_of(file, false, true)), {file.string(), "logits"});
}

TEST_CASE("a configuration says what differs from the defaults") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "some.ini", "");
  expect_text(info(request_of(scratch / "some.ini")).text,
              {"configuration: " + (scratch / "some.ini").string(), "train.lr  = 0.004  (default 0.0002)"});
  report::Request request = request_of(scratch / "some.ini");
  request.read_settings = [&](const std::string&) { return request.default_settings; };
  expect_text(info(request).text, {"settings: all defaults"});
  request.read_settings = [](const std::string& file) -> nlohmann::json { core::bad_input(file, ":3: unknown"); };
  expect_error(core::ExitCode::bad_input, {"some.ini:3: unknown"}, [&] { info(request); });
}

TEST_CASE("other things are refused with what info knows, also with --verify") {
  const test::ScratchFolder scratch;
  std::filesystem::create_directories(scratch / "folder");
  test::write_text(scratch / "notes.txt", "hello");
  test::write_text(scratch / "empty", "");
  test::write_text(scratch / "lock", "{}");  // beside no run
  test::write_text(scratch / "manifest.json", R"({"kind": "something else"})");
  for (const bool verify : {false, true}) {
    expect_error(core::ExitCode::bad_input, {(scratch / "nowhere").string(), "no such file or folder"},
                 [&] { info(request_of(scratch / "nowhere", false, verify)); });
    for (const char* name : {"folder", "notes.txt", "empty", "lock"}) {
      expect_error(core::ExitCode::bad_input, {(scratch / name).string(), "run folders, packed token files"},
                   [&] { info(request_of(scratch / name, false, verify)); });
    }
  }
  expect_error(core::ExitCode::bad_input,
               {(scratch / "manifest.json").string(), "not the manifest of a Caravan checkpoint"},
               [&] { info(request_of(scratch / "manifest.json")); });
}
