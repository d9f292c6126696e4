// SPDX-License-Identifier: Apache-2.0
#include "data/prepared.hpp"

#include <chrono>
#include <filesystem>

#include "core/checksum.hpp"
#include "data/prepare.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::Options;
using Texts = std::vector<std::string>;

std::string base_folder() { return (test::fixtures() / "llama-tiny").string(); }

std::string records(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) lines += R"({"corpus": "text )" + std::to_string(i) + "\"}\n";
  return lines;
}

}  // namespace

TEST_CASE("a packed file says which settings it was not made by") {
  test::TemporaryFolder folder;
  Options options;
  options.source = folder.write("data.json", records(9));
  options.packed = folder / "packed";
  options.held_out_every = 4;
  CHECK_FALSE(data::prepared(options, 64, base_folder()).there);
  data::prepare(options, 64, {base_folder()}, "caravan test");
  const auto differences = [&](const Options& now, std::int64_t sequence) {
    const data::Prepared found = data::prepared(now, sequence, base_folder());
    CHECK(found.there);
    return found.differences;
  };
  CHECK(differences(options, 64) == Texts{});
  CHECK(differences(options, 128) == Texts{"train.sequence = 128, but it was 64"});

  Options now = options;
  now.prompt_template = data::TemplateKind::idae_official;
  now.packing = data::Packing::simple;
  now.max_prompt = 7;
  CHECK(differences(now, 64) == Texts{"data.template = idae_official, but it was idae",
                                      "data.packing = simple, but it was none", "data.max_prompt = 7, but it was 0"});
  now = options;
  now.held_out_every = 0;
  CHECK(differences(now, 64) == Texts{"data.held_out_every = 0, but it was 4"});
  now = options;
  now.source = folder.write("other.json", records(9));
  CHECK(differences(now, 64) == Texts{"data.source = " + now.source + ", but it was data.json"});
  now.source = folder / "gone/data.json";  // who trains need not have it
  CHECK(differences(now, 64) == Texts{});
  now.source.clear();
  CHECK(differences(now, 64) == Texts{});
  now = options;
  now.tokenizer = folder.write("tokenizer.model", "another");
  REQUIRE(differences(now, 64).size() == 1);
  CHECK(differences(now, 64).front().find(now.tokenizer + ": is not a SentencePiece model") != std::string::npos);
  // The same tokens in other files are no difference, and what is one is named.
  test::TemporaryFolder other;
  test::write_tokenizer(other, true, false);
  now.tokenizer = other / "tokenizer.model";
  CHECK(differences(now, 64) == Texts{});
  other.write("special_tokens_map.json", R"({"eos_token": "<unk>"})");
  CHECK(differences(now, 64) ==
        Texts{"the tokenizer is " + now.tokenizer + R"(: eos_token is "<unk>" (id 0), but it was "</s>" (id 2))"});

  folder.write("data.json", records(10));
  CHECK(differences(options, 64) == Texts{"data.source = " + options.source + ", which has changed since"});
  folder.write("data.json", records(9));
  CHECK(differences(options, 64) == Texts{});

  // The held-out file is of the same run of prepare.
  now = options;
  now.packed = folder / "again";
  now.prompt_template = data::TemplateKind::idae_official;
  data::prepare(now, 64, {base_folder()}, "caravan test");
  now = options;
  now.held_out = folder / "again.heldout";
  CHECK(differences(now, 64) == Texts{now.held_out + " was not made together with " + now.packed});
  std::filesystem::remove(data::held_out_path(options));
  CHECK_FALSE(data::prepared(options, 64, base_folder()).there);
  folder.write("packed", "no packed file");
  options.held_out_every = 0;
  CHECK(test::refusal([&] { data::prepared(options, 64, base_folder()); }).find(options.packed) == 0);
}

TEST_CASE("a packed file of an earlier version is judged by how its records end") {
  test::TemporaryFolder folder;
  const std::string model = test::read_bytes(base_folder() + "/tokenizer.model");
  constexpr std::int64_t sequence = 6;
  // Its fingerprint is that of tokenizer.model. Documents have these lengths and last tokens.
  const auto packed = [&](const std::vector<std::pair<std::size_t, std::int32_t>>& documents) {
    data::PackedWriter writer({"idae", "none", sequence, core::checksum(model.data(), model.size()), 512, "data.json",
                               "0", "train", 0, "0.1.0"});
    for (const auto& [length, last] : documents) {
      data::Document document{std::vector<std::int32_t>(length, 300), std::vector<std::uint8_t>(length, 1)};
      document.tokens.back() = last;
      writer.add(document);
    }
    io::AtomicFile file(folder / "packed");
    writer.write(file);
    file.commit();
    return folder / "packed";
  };
  Options options;
  options.tokenizer = folder / "";
  std::filesystem::copy_file(base_folder() + "/tokenizer.model", folder / "tokenizer.model");
  const auto differences = [&](const std::string& eos) {  // as JSON
    folder.write("tokenizer_config.json", R"({"eos_token": )" + eos + "}");
    return data::prepared(options, sequence, "").differences;
  };
  const std::string right = "\"</s>\"", other = "\"<unk>\"";
  const auto ends_with = [&](int token) {
    return Texts{"the tokenizer is " + (folder / "tokenizer.model") + ": eos_token is \"" +
                 (token == 2 ? "<unk>\" (id 0)" : "</s>\" (id 2)") + ", but a record ends with the token " +
                 std::to_string(token)};
  };
  options.packed = packed({{3, 2}, {sequence, 300}, {5, 2}});  // the second one is cut
  CHECK(differences(right) == Texts{});
  CHECK(differences(other) == ends_with(2));
  CHECK(differences("null") == Texts{});  // a tokenizer without one
  options.packed = packed({{3, 2}, {5, 300}, {4, 2}});
  CHECK(differences(right) == ends_with(300));
  options.packed = packed({{sequence, 300}, {sequence, 301}});  // nothing is known
  CHECK(differences(right) == Texts{});
  CHECK(differences(other) == Texts{});
}

TEST_CASE("an untouched source is compared with what was packed without reading it") {
  using data::SourceCheck;
  using std::chrono::hours;
  test::TemporaryFolder folder;
  Options options;
  options.source = folder.write("data.json", records(9));
  options.packed = folder / "packed";
  data::prepare(options, 64, {base_folder()}, "caravan test");
  const auto now = std::filesystem::file_time_type::clock::now();
  const auto packed_at = [&](hours age) { std::filesystem::last_write_time(options.packed, now - age); };
  const auto differences = [&](SourceCheck check) {
    return data::prepared(options, 64, base_folder(), check).differences;
  };
  const Texts changed{"data.source = " + options.source + ", which has changed since"};
  CHECK(differences(SourceCheck::quick) == Texts{});
  packed_at(hours(3));  // before the source, which has to be read then
  CHECK(differences(SourceCheck::quick) == Texts{});

  std::string other = records(9);
  other.replace(other.find("text 0"), 6, "word 0");
  folder.write("data.json", other);
  CHECK(differences(SourceCheck::quick) == changed);
  CHECK(differences(SourceCheck::name) == Texts{});
  // Older than the packed file, though its status was changed later: as a copy that keeps the times, or chmod, leaves
  // it. That it is another one shows that it is not read.
  std::filesystem::last_write_time(options.source, now - hours(5));
  CHECK(differences(SourceCheck::quick) == Texts{});
  CHECK(differences(SourceCheck::bytes) == changed);  // as train compares
  std::filesystem::last_write_time(options.source, now - hours(2));
  CHECK(differences(SourceCheck::quick) == changed);
  folder.write("data.json", records(8));
  CHECK(differences(SourceCheck::quick) == changed);  // by its size
}

}  // namespace caravan
