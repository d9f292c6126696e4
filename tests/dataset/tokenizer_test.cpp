// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::EncodeOptions;
using data::open_tokenizer;
using data::Specials;
using data::Start;
using data::Tokenizer;
using Ids = std::vector<std::int32_t>;

TEST_CASE("every golden text has the reference tokenizer's ids and text") {
  const auto opened = open_tokenizer((test::fixtures() / "llama-tiny").string());
  const Tokenizer& tokenizer = *opened;
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, true, true);
  const auto opened_legacy = open_tokenizer(folder / "tokenizer.model");
  const Tokenizer& legacy = *opened_legacy;
  CHECK_FALSE(tokenizer.legacy());
  CHECK(legacy.legacy());
  CHECK(tokenizer.fingerprint() != legacy.fingerprint());

  const auto golden = test::read_json(test::fixtures() / "llama-tiny/tokenizer_cases.json");
  CHECK(tokenizer.vocabulary() == golden["vocab_size"].get<std::int64_t>());
  REQUIRE_FALSE(golden["cases"].empty());
  for (const auto& item : golden["cases"]) {
    const auto text = item["text"].get<std::string>();
    CAPTURE(text);
    const auto ids = item["ids"].get<Ids>();
    CHECK(tokenizer.encode(text, {.bos = true}) == ids);
    CHECK(tokenizer.encode(text) == item["ids_no_special"].get<Ids>());
    CHECK(legacy.encode(text) == item["ids_legacy_no_special"].get<Ids>());
    CHECK(tokenizer.decode(ids, false) == item["decoded"].get<std::string>());
    CHECK(tokenizer.decode(ids, true) == item["decoded_skip_special"].get<std::string>());
  }
}

TEST_CASE("a literal text never holds a special token and decodes to itself") {
  for (const bool is_legacy : {false, true}) {
    test::TemporaryFolder folder;
    test::write_tokenizer(folder, true, is_legacy);
    const auto opened = open_tokenizer(folder / "");
    const Tokenizer& tokenizer = *opened;
    const std::string text = "What does </s> mean, and <unk> or <s><s>?";
    for (const Start start : {Start::text, Start::after_special, Start::continued}) {
      Ids ids = tokenizer.encode(text, {.specials = Specials::literal, .start = start});
      CHECK(std::count(ids.begin(), ids.end(), tokenizer.bos_id()) == 0);
      CHECK(std::count(ids.begin(), ids.end(), tokenizer.eos_id()) == 0);
      CHECK(std::count(ids.begin(), ids.end(), tokenizer.facts().unk.id) == 0);
      if (start == Start::text) CHECK(tokenizer.decode(ids, false) == text);
    }
    const Ids parsed = tokenizer.encode(text);
    CHECK(std::count(parsed.begin(), parsed.end(), tokenizer.bos_id()) == 2);
    CHECK(std::count(parsed.begin(), parsed.end(), tokenizer.facts().unk.id) == 1);
  }
}

TEST_CASE("where a text begins decides on the word-start mark only") {
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, true, true);
  const auto opened_legacy = open_tokenizer(folder / "");
  const Tokenizer& legacy = *opened_legacy;
  const auto opened = open_tokenizer((test::fixtures() / "llama-tiny").string());
  const Tokenizer& tokenizer = *opened;
  // In a legacy tokenizer the mark stands after special tokens too; "continued" is what others do there.
  CHECK(legacy.encode("Hello", {.start = Start::after_special}) == legacy.encode("Hello"));
  CHECK(legacy.encode("Hello", {.start = Start::continued}) ==
        tokenizer.encode("Hello", {.start = Start::after_special}));
  CHECK(tokenizer.encode("Hello", {.start = Start::continued}) != tokenizer.encode("Hello"));
  // White space at the start is never lost.
  CHECK(tokenizer.encode("   x", {.start = Start::continued}) == tokenizer.encode("  x"));
  CHECK(tokenizer.encode("", {.bos = true, .eos = true}) == Ids{tokenizer.bos_id(), tokenizer.eos_id()});
}

TEST_CASE("added tokens of the configuration are literal and swallow the space they name") {
  test::TemporaryFolder folder;
  test::write_tokenizer(folder, false, false);
  auto config = test::read_json(folder / "tokenizer_config.json");
  const auto size = open_tokenizer((test::fixtures() / "llama-tiny").string())->vocabulary();
  config["added_tokens_decoder"][std::to_string(size + 3)] = {
      {"content", "<|im_start|>"}, {"special", true}, {"rstrip", true}};
  folder.write("tokenizer_config.json", config.dump());
  const auto opened = open_tokenizer(folder / "");
  const Tokenizer& tokenizer = *opened;
  CHECK(tokenizer.vocabulary() == size + 4);
  const auto id = static_cast<std::int32_t>(size + 3);
  const Ids ids = tokenizer.encode("a<|im_start|>  b");
  REQUIRE(std::count(ids.begin(), ids.end(), id) == 1);
  CHECK(tokenizer.decode(ids, false) == "a<|im_start|>b");
  CHECK(tokenizer.decode(ids, true) == "ab");
  const Ids literal = tokenizer.encode("a<|im_start|>  b", {.specials = Specials::literal});
  CHECK(std::count(literal.begin(), literal.end(), id) == 0);
  // A padded model may answer with ids that no token has.
  CHECK_FALSE(tokenizer.has_text(id - 1));
  CHECK(tokenizer.decode(Ids{id - 1, ids.front(), id + 1}, false) == tokenizer.decode(Ids{ids.front()}, false));
}

TEST_CASE("a missing or damaged tokenizer is refused with its path") {
  test::TemporaryFolder folder;
  CHECK(test::refusal([&] { open_tokenizer(folder / "none"); }).find(folder / "none") == 0);
  CHECK(test::refusal([&] { open_tokenizer(folder / ""); }).find("holds no tokenizer.model") != std::string::npos);
  folder.write("tokenizer.json", "{}");
  CHECK(test::refusal([&] { open_tokenizer(folder / ""); }).find("only tokenizer.json") != std::string::npos);
  for (const char* bytes : {"", "this is no model"}) {
    folder.write("tokenizer.model", bytes);
    CHECK(test::refusal([&] { open_tokenizer(folder / ""); }).find("not a SentencePiece model") != std::string::npos);
  }
  std::filesystem::remove(folder / "tokenizer.model");
  test::write_tokenizer(folder, true, false);
  const struct {
    const char *config, *words;
  } damages[] = {{"{", "not JSON"},
                 {"[]", "one JSON object"},
                 {R"({"legacy": "no"})", "legacy must be true or false"},
                 {R"({"eos_token": 3})", "eos_token must be"},
                 {R"({"sp_model_kwargs": {"enable_sampling": true}})", "enable_sampling = true is not supported"},
                 {R"({"added_tokens_decoder": {"x1": {"content": "a"}}})", "no token id"},
                 {R"({"added_tokens_decoder": {"700": {"special": true}}})", "no content"}};
  for (const auto& damage : damages) {
    folder.write("tokenizer_config.json", damage.config);
    CAPTURE(damage.config);
    CHECK(test::refusal([&] { open_tokenizer(folder / ""); }).find(damage.words) != std::string::npos);
  }
  folder.write("tokenizer_config.json", R"({"bos_token": null, "legacy": false})");
  const auto opened_without = open_tokenizer(folder / "");
  const Tokenizer& without_bos = *opened_without;
  CHECK(without_bos.bos_id() == -1);
  CHECK(without_bos.bos_text().empty());
  CHECK(test::refusal([&] { without_bos.encode("a", {.bos = true}); }).find("no token for the start") !=
        std::string::npos);
}

}  // namespace
}  // namespace caravan
