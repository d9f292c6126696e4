// SPDX-License-Identifier: Apache-2.0
#include "data/template.hpp"

#include <algorithm>

#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::Dropped;
using data::Record;
using data::Rendered;
using data::Template;
using data::TemplateKind;
using data::Tokenizer;
using Ids = std::vector<std::int32_t>;

Record record_of(const nlohmann::json& item) {
  Record record;
  record.corpus = item["corpus"];
  record.instruction = item["instruction"];
  for (const auto& turn : item["conversation"]) record.turns.push_back({turn["input"], turn["output"]});
  return record;
}

Ids labels_of(const data::Document& document) {
  Ids labels;
  for (std::size_t t = 0; t < document.tokens.size(); ++t) {
    labels.push_back(document.labelled[t] ? document.tokens[t] : -100);
  }
  return labels;
}

struct Variant {
  const char* name;
  bool add_bos_token, legacy;
};
const Variant variants[] = {{"llama2", true, false}, {"llama2_legacy", true, true}, {"no_auto_bos", false, false}};

bool has_special_text(const Record& record) {
  std::string all = record.corpus + record.instruction;
  for (const auto& turn : record.turns) all += turn.input + turn.output;
  return all.find("<s>") != std::string::npos || all.find("</s>") != std::string::npos ||
         all.find("<unk>") != std::string::npos;
}

TEST_CASE("idae_official equals the official code on every golden case") {
  const auto golden = test::read_json(test::fixtures() / "format_cases.json");
  std::size_t compared = 0, dropped = 0;
  for (const Variant& variant : variants) {
    test::TemporaryFolder folder;
    test::write_tokenizer(folder, variant.add_bos_token, variant.legacy);
    const auto opened = data::open_tokenizer(folder / "");
    const Tokenizer& tokenizer = *opened;
    for (const auto& item : golden["cases"]) {
      const Record record = record_of(item["item"]);
      if (item.value("dropped", false)) {
        ++dropped;
        CHECK(Template(tokenizer, TemplateKind::idae_official, 512, 0).render(record).dropped == Dropped::many_turns);
      }
      if (!item.contains(variant.name)) continue;
      for (const auto& [length, expected] : item[variant.name].items()) {
        CAPTURE(variant.name, length, item["note"], item["data_index"].dump());
        const Rendered rendered =
            Template(tokenizer, TemplateKind::idae_official, std::stoll(length), 0).render(record);
        CHECK(rendered.document.tokens == expected["input_ids"].get<Ids>());
        CHECK(labels_of(rendered.document) == expected["labels"].get<Ids>());
        ++compared;
      }
    }
  }
  CHECK(compared > golden["cases"].size());
  CHECK(dropped > 0);
}

TEST_CASE("idae equals the official code where that falls into no trap") {
  // The official text brings its own bos; without an automatic second one, special texts or truncation both must agree.
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, false, false);
  const auto opened = data::open_tokenizer(folder / "");
  const Tokenizer& tokenizer = *opened;
  const auto golden = test::read_json(test::fixtures() / "format_cases.json");
  std::size_t compared = 0;
  for (const auto& item : golden["cases"]) {
    const Record record = record_of(item["item"]);
    if (!item.contains("no_auto_bos") || has_special_text(record)) continue;
    for (const auto& [length, expected] : item["no_auto_bos"].items()) {
      const auto ids = expected["input_ids"].get<Ids>();
      if (ids.back() != tokenizer.eos_id()) continue;  // cut
      CAPTURE(item["note"], item["data_index"].dump());
      const Rendered rendered = Template(tokenizer, TemplateKind::idae, std::stoll(length), 0).render(record);
      CHECK_FALSE(rendered.cut);
      CHECK(rendered.document.tokens == ids);
      CHECK(labels_of(rendered.document) == expected["labels"].get<Ids>());
      ++compared;
    }
  }
  CHECK(compared > 0);
}

TEST_CASE("idae: one bos, an exact mask and no control token from a text, in any tokenizer") {
  for (const Variant& variant : variants) {
    test::TemporaryFolder folder;
    test::write_tokenizer(folder, variant.add_bos_token, variant.legacy);
    const auto opened = data::open_tokenizer(folder / "");
    const Tokenizer& tokenizer = *opened;
    const Template form(tokenizer, TemplateKind::idae, 512, 0);
    Record record;
    record.instruction = "Answer <s>shortly</s>.";
    record.turns = {{"<unk> and </s>?", " \n  x <unk></s>"}, {"More", "Yes."}};
    const auto document = form.render(record).document;
    const auto& tokens = document.tokens;
    CHECK(tokens.front() == tokenizer.bos_id());
    CHECK(std::count(tokens.begin(), tokens.end(), tokenizer.bos_id()) == 1);
    CHECK(std::count(tokens.begin(), tokens.end(), tokenizer.eos_id()) == 2);
    CHECK(std::count(tokens.begin(), tokens.end(), tokenizer.facts().unk.id) == 0);
    // The labelled runs are the answers, each with its eos.
    std::vector<Ids> answers;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      if (!document.labelled[t]) continue;
      if (!document.labelled[t - 1]) answers.emplace_back();
      answers.back().push_back(tokens[t]);
    }
    REQUIRE(answers.size() == 2);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      CHECK(answers[i].back() == tokenizer.eos_id());
      answers[i].pop_back();
      // A token of its own before the answer keeps decode from taking leading white space for a mark.
      Ids shown{tokenizer.bos_id(), tokenizer.bos_id()};
      shown.insert(shown.end(), answers[i].begin(), answers[i].end());
      const std::string start = tokenizer.bos_text() + tokenizer.bos_text();
      if (!variant.legacy) CHECK(tokenizer.decode(shown, false) == start + record.turns[i].output);
    }
    // What generation asks with is what training saw.
    record.turns.resize(1);
    const auto whole = form.render(record).document;
    const Ids prompt = form.prompt(record.instruction, record.turns[0].input);
    REQUIRE(prompt.size() < whole.tokens.size());
    CHECK(std::equal(prompt.begin(), prompt.end(), whole.tokens.begin()));
    CHECK(std::count(whole.labelled.begin(), whole.labelled.end(), 0) == static_cast<long>(prompt.size()));
  }
}

TEST_CASE("idae at the limits: cut answers keep their mask, unlabelled or long records go") {
  const auto opened = data::open_tokenizer((test::fixtures() / "llama-tiny").string());
  const Tokenizer& tokenizer = *opened;
  Record record;
  record.turns = {{"Say a long thing.", "one two three four five six seven"}};
  const auto whole = Template(tokenizer, TemplateKind::idae, 1000, 0).render(record);
  CHECK_FALSE(whole.cut);
  const auto n = static_cast<std::int64_t>(whole.document.tokens.size());
  const auto prompt = std::count(whole.document.labelled.begin(), whole.document.labelled.end(), 0);
  for (std::int64_t sequence = 2; sequence <= n; ++sequence) {
    const auto rendered = Template(tokenizer, TemplateKind::idae, sequence, 0).render(record);
    CAPTURE(sequence);
    if (sequence <= prompt) {
      CHECK(rendered.dropped == Dropped::no_label);
      CHECK(rendered.document.tokens.empty());
      continue;
    }
    CHECK(rendered.cut == (sequence < n));
    CHECK(std::equal(rendered.document.tokens.begin(), rendered.document.tokens.end(), whole.document.tokens.begin()));
    CHECK(static_cast<std::int64_t>(rendered.document.tokens.size()) == sequence);
    CHECK(rendered.document.targets() == sequence - prompt);
    CHECK(rendered.document.labelled.size() == rendered.document.tokens.size());
  }
  for (const auto kind : {TemplateKind::idae, TemplateKind::idae_official}) {
    const auto length =
        static_cast<std::int64_t>(Template(tokenizer, kind, n, 0).prompt("", "Say a long thing.").size());
    CHECK(Template(tokenizer, kind, 1000, length).render(record).dropped == Dropped::no);
    CHECK(Template(tokenizer, kind, 1000, length - 1).render(record).dropped == Dropped::long_prompt);
  }
}

TEST_CASE("without bos the official text begins with the word None, the corrected one not") {
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, false, false);
  auto config = test::read_json(folder / "tokenizer_config.json");
  config["bos_token"] = nullptr;
  folder.write("tokenizer_config.json", config.dump());
  const auto opened = data::open_tokenizer(folder / "");
  const Tokenizer& tokenizer = *opened;
  Record record;
  record.turns = {{"Hi", "Hello"}};
  const auto text = [&](TemplateKind kind) {
    return tokenizer.decode(Template(tokenizer, kind, 512, 0).render(record).document.tokens, false);
  };
  CHECK(text(TemplateKind::idae) == "### Human:\nHi\n### Assistant:\nHello</s>");
  CHECK(text(TemplateKind::idae_official) == "None### Human:\nHi\n### Assistant:\nHello</s>");
}

}  // namespace
}  // namespace caravan
