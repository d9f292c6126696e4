// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include "data/instruction_source.hpp"
#include "data/packed_file.hpp"
#include "data/template.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::Options;
using data::PackedFile;
using data::PrepareReport;
using Ids = std::vector<std::int32_t>;

std::string base_folder() { return (test::fixtures() / "llama-tiny").string(); }

/// The golden conversations as a source file: JSON lines, or an array.
std::string write_source(const test::TemporaryFolder& folder, bool as_array) {
  const auto golden = test::read_json(test::fixtures() / "format_cases.json");
  nlohmann::json items = nlohmann::json::array();
  std::string lines;
  for (const auto& item : golden["cases"]) {
    const auto& turns = item["item"]["conversation"];
    if (!turns.empty() && turns[0]["output"].get<std::string>().empty()) continue;
    items.push_back(item["item"]);
    lines += item["item"].dump() + "\n";
  }
  return folder.write("source", as_array ? items.dump(2) : lines);
}

std::size_t files_in(const test::TemporaryFolder& folder) {
  const std::filesystem::directory_iterator entries(folder / "");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

TEST_CASE("prepare writes what template and tokenizer give, training and held-out records") {
  test::TemporaryFolder folder;
  Options options;
  options.source = write_source(folder, false);
  options.packed = folder / "packed";
  options.held_out_every = 5;
  const std::int64_t sequence = 400;
  const PrepareReport report = data::prepare(options, sequence, {base_folder()}, "caravan test");
  const PackedFile train(options.packed), held_out(options.packed + ".heldout");

  const auto opened = data::open_tokenizer(base_folder());
  const data::Tokenizer& tokenizer = *opened;
  const data::Template form(tokenizer, data::TemplateKind::idae, sequence, 0);
  data::InstructionSource source(options.source, false);
  data::Record record;
  std::int64_t counts[2] = {0, 0}, no_label = 0, cut = 0;
  while (source.next(record)) {
    const auto rendered = form.render(record);
    no_label += rendered.dropped == data::Dropped::no_label;
    cut += rendered.cut;
    if (rendered.dropped != data::Dropped::no) continue;
    const bool held = record.index % 5 == 0;
    const PackedFile& file = held ? held_out : train;
    const auto d = static_cast<std::size_t>(counts[held]++);
    REQUIRE(file.documents() > static_cast<std::int64_t>(d));
    const auto begin = file.document_starts()[d], length = file.document_starts()[d + 1] - begin;
    const auto tokens = file.tokens().subspan(begin, length);
    const auto labelled = file.labelled().subspan(begin, length);
    CHECK(Ids(tokens.begin(), tokens.end()) == rendered.document.tokens);
    CHECK(std::vector<std::uint8_t>(labelled.begin(), labelled.end()) == rendered.document.labelled);
  }
  CHECK(train.documents() == counts[0]);
  CHECK(held_out.documents() == counts[1]);
  CHECK(report.records == source.seen());
  CHECK(report.no_label == no_label);
  CHECK(report.cut == cut);
  CHECK(report.records == no_label + counts[0] + counts[1]);
  CHECK(report.train.tokens == train.tokens().size());
  CHECK(report.held_out.labelled ==
        static_cast<std::uint64_t>(std::count(held_out.labelled().begin(), held_out.labelled().end(), 1)));
  CHECK(train.metadata().part == "train");
  CHECK(held_out.metadata().part == "held_out");
  CHECK(train.metadata().source == "source");
  CHECK(train.metadata().source_fingerprint == source.fingerprint());
  CHECK(train.metadata().tokenizer == tokenizer.fingerprint());
  CHECK(train.metadata().sequence == sequence);
  CHECK(train.metadata().template_name == "idae");
  CHECK(train.metadata().program == "caravan test");
  CHECK(report.lines().size() >= 3);

  // The same records as an array; and all of them without a held-out file.
  options.source = write_source(folder, true);
  options.held_out_every = 0;
  options.packing = data::Packing::simple;
  options.packed = folder / "joined";
  const PrepareReport joined = data::prepare(options, sequence, {base_folder()}, "caravan test");
  const PackedFile all(options.packed);
  CHECK(all.documents() == counts[0] + counts[1]);
  CHECK(all.sequences() < all.documents());
  CHECK(joined.held_out.path.empty());
  CHECK_FALSE(std::filesystem::exists(options.packed + ".heldout"));
}

TEST_CASE("idae_official leaves out several turns, keeps unlabelled records, counts both") {
  test::TemporaryFolder folder;
  Options options;
  options.source = write_source(folder, false);
  options.packed = folder / "packed";
  options.prompt_template = data::TemplateKind::idae_official;
  const PrepareReport report = data::prepare(options, 64, {base_folder()}, "caravan test");
  const PackedFile file(options.packed);
  CHECK(report.many_turns == 1);
  CHECK(report.unlabelled > 0);
  CHECK(report.no_label == 0);
  CHECK(file.documents() + report.many_turns == report.records);
  options.prompt_template = data::TemplateKind::idae;
  options.max_prompt = 40;
  const PrepareReport corrected = data::prepare(options, 64, {base_folder()}, "caravan test");
  CHECK(corrected.many_turns == 0);
  CHECK(corrected.unlabelled == 0);
  CHECK(corrected.long_prompt > 0);
}

TEST_CASE("on an error nothing is written and what was there stays") {
  test::TemporaryFolder folder;
  Options options;
  options.source = folder.write("source", R"({"corpus": "one"})"
                                          "\n"
                                          R"({"corpus": 2})"
                                          "\n"
                                          R"({"corpus": "three"})");
  options.packed = folder.write("packed", "what was there");
  options.held_out_every = 2;
  const auto refused = [&](const char* words) {
    const std::string message = test::refusal([&] { data::prepare(options, 32, {base_folder()}, "caravan test"); });
    CAPTURE(message, words);
    CHECK(message.find(words) != std::string::npos);
    CHECK(test::read_bytes(folder / "packed") == "what was there");
    CHECK(files_in(folder) == 2);
  };
  refused(":2: corpus must be a text");
  options.on_error = data::OnError::skip;
  refused("no record is left for the training file");  // indices 0 and 2 are held out
  options.held_out = options.packed;
  refused("would overwrite");
  options.held_out = options.source;
  refused("would overwrite");
  options.held_out.clear();
  options.tokenizer = folder / "none";
  refused("no such tokenizer.model");
  options.tokenizer.clear();
  std::swap(options.source, options.packed);
  options.source = options.packed;
  refused("would overwrite data.source");
  options.source.clear();
  refused("data.source is not set");
  options.source = folder / "source";
  options.packed.clear();
  refused("data.packed is not set");

  options.packed = folder / "packed";
  options.held_out_every = 3;
  const PrepareReport report = data::prepare(options, 32, {base_folder()}, "caravan test");
  CHECK(report.damaged == 1);
  CHECK(report.records == 3);
  CHECK(PackedFile(options.packed).documents() == 1);
  CHECK(PackedFile(data::held_out_path(options)).documents() == 1);
}

}  // namespace
}  // namespace caravan
