// SPDX-License-Identifier: Apache-2.0
// What a chat template gives in transformers, tests/exchange compares with packed tokens; here, how it begins.
#include "data/chat_template.hpp"

#include <algorithm>

#include "data/template.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::TemplateKind;

TEST_CASE("a chat template has as many bos as a prompt, and the words around it") {
  for (const bool adds_bos : {true, false}) {
    test::TemporaryFolder folder;
    test::write_tokenizer(folder, adds_bos, false);
    const auto opened = data::open_tokenizer(folder / "");
    const data::Tokenizer& tokenizer = *opened;
    for (const TemplateKind kind : {TemplateKind::idae, TemplateKind::idae_official}) {
      const std::vector<std::int32_t> ids = data::Template(tokenizer, kind, 512, 0).prompt("", "a");
      std::string text = data::chat_template(kind, tokenizer);
      const std::string bos = "{{ bos_token }}";
      std::size_t count = 0;
      for (; text.starts_with(bos); ++count) text = text.substr(bos.size());
      REQUIRE(count < ids.size());
      for (std::size_t t = 0; t <= count; ++t) CHECK((ids[t] == tokenizer.bos_id()) == (t < count));
      for (const char* words : {"'### System:\\n'", "'### Human:\\n'", "'### Assistant:\\n'", " + eos_token"}) {
        INFO(words);
        CHECK(text.find(words) != std::string::npos);
      }
    }
  }
}

TEST_CASE("a chat template has as many eos behind an answer as its tokens") {
  for (const bool adds_eos : {true, false}) {
    test::TemporaryFolder folder;
    test::write_tokenizer(folder, true, false);
    auto config = test::read_json(folder / "tokenizer_config.json");
    config["add_eos_token"] = adds_eos;
    folder.write("tokenizer_config.json", config.dump());
    const auto opened = data::open_tokenizer(folder / "");
    const data::Tokenizer& tokenizer = *opened;
    REQUIRE(tokenizer.adds_eos() == adds_eos);
    for (const TemplateKind kind : {TemplateKind::idae, TemplateKind::idae_official}) {
      data::Record record;
      record.turns.push_back({"a", "b"});
      const auto ids = data::Template(tokenizer, kind, 512, 0).render(record).document.tokens;
      const auto end = std::find_if(ids.rbegin(), ids.rend(), [&](auto id) { return id != tokenizer.eos_id(); });
      const std::string text = data::chat_template(kind, tokenizer), eos = " + eos_token";
      std::ptrdiff_t count = 0;
      for (auto at = text.find(eos); at != std::string::npos; at = text.find(eos, at + 1)) ++count;
      CHECK(count == end - ids.rbegin());
      CHECK(count == (adds_eos && kind == TemplateKind::idae_official ? 2 : 1));
    }
  }
}

TEST_CASE("a checkpoint's chat template is that of its data, else the setting's") {
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, true, false);
  const auto tokenizer = data::open_tokenizer(folder / "");
  const auto trained = [&](const nlohmann::json& state) { return data::trained_chat_template(state, *tokenizer); };
  const std::string idae = data::chat_template(TemplateKind::idae, *tokenizer);
  const std::string official = data::chat_template(TemplateKind::idae_official, *tokenizer);
  REQUIRE(idae != official);
  const nlohmann::json set{{"data", {{"template", "idae_official"}}}};
  CHECK(trained({{"config", set}, {"packed", {{"template", "idae"}}}}) == idae);
  CHECK(trained({{"config", set}}) == official);
  CHECK(trained({{"config", set}, {"packed", nullptr}}) == official);
  CHECK(trained({{"config", nlohmann::json::object()}}).empty());
  CHECK(trained(nlohmann::json::object()).empty());
}

}  // namespace
}  // namespace caravan
