// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_files.hpp"

#include <map>

#include "core/checksum.hpp"
#include "data/sentencepiece_model.hpp"
#include "data/tokenizer.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::open_tokenizer;
using Ids = std::vector<std::int32_t>;
using nlohmann::json;

constexpr const char* config = "tokenizer_config.json";
constexpr const char* map = "special_tokens_map.json";
constexpr const char* added = "added_tokens.json";
constexpr const char* fast = "tokenizer.json";

/// A folder with the fixture's tokenizer.model and these files.
using Files = std::map<std::string, json>;
struct Folder : test::TemporaryFolder {
  explicit Folder(const Files& files = {}) {
    std::filesystem::copy_file(test::fixtures() / "llama-tiny/tokenizer.model", *this / "tokenizer.model");
    for (const auto& [name, content] : files)
      write(name, content.is_string() ? content.get<std::string>() : content.dump());
  }
  std::string refusal() const {
    return test::refusal([&] { open_tokenizer(*this / ""); });
  }
};

std::int32_t pieces() { return static_cast<std::int32_t>(open_tokenizer(Folder() / "")->vocabulary()); }

TEST_CASE("facts and ids of every folder are those that transformers reads") {
  const json golden = test::read_json(CARAVAN_TEST_DATA "/tokenizers/cases.json");
  REQUIRE(golden["folders"].size() > 20);
  for (const json& item : golden["folders"]) {
    CAPTURE(item["name"].get<std::string>());
    const Folder folder(item["files"].get<Files>());
    const auto tokenizer = open_tokenizer(folder / "");
    CHECK(tokenizer->bos_id() == item["ids"]["bos"]);
    CHECK(tokenizer->eos_id() == item["ids"]["eos"]);
    CHECK(tokenizer->facts().unk.id == item["ids"]["unk"]);
    CHECK(tokenizer->facts().pad.id == item["ids"]["pad"]);
    for (const json& text : item["texts"]) {
      CAPTURE(text["text"].get<std::string>());
      CHECK(tokenizer->encode(text["text"].get<std::string>(),
                              {.bos = tokenizer->adds_bos(), .eos = tokenizer->adds_eos()}) == text["ids"].get<Ids>());
    }
  }
}

TEST_CASE("a named bos, eos or unk that no file has is refused by its name") {
  for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
    for (const char* file : {config, map}) {
      const Folder folder(Files{{file, {{role, "<|im_end|>"}}}});
      const std::string message = folder.refusal();
      CAPTURE(message);
      CHECK(message.find(folder / file + ": " + role) == 0);
      CHECK(message.find("\"<|im_end|>\" is neither in") != std::string::npos);
      CHECK(message.find("as " + std::to_string(pieces())) != std::string::npos);  // what transformers would do
    }
  }
  CHECK(Folder(Files{{config, {{"eos_token", ""}}}}).refusal().find("eos_token is empty") != std::string::npos);
  // A padding token is never used here: who adds one may do so.
  CHECK(open_tokenizer(Folder(Files{{config, {{"pad_token", "[PAD]"}}}}) / "")->facts().pad.id == pieces());
}

TEST_CASE("a folder that contradicts itself is refused with file and field") {
  const int first = pieces();
  const std::string id = std::to_string(first), next = std::to_string(first + 1);
  const auto entry = [](const char* content) { return json{{"content", content}}; };
  const auto in_list = [](int number, const char* content) { return json{{"id", number}, {"content", content}}; };
  const struct {
    Files files;
    const char* file;
    std::vector<std::string> words;
  } folders[] = {
      {{{config, {{"added_tokens_decoder", {{id, entry("<a>")}, {next, entry("<a>")}}}}}},
       config,
       {"added_tokens_decoder: \"<a>\" has the id " + next, "it is " + id}},
      {{{added, {{"<a>", first}, {"<b>", first}}}}, added, {"\"<b>\" has the id " + id, "that is \"<a>\""}},
      {{{added, R"({"<a>": )" + id + R"(, "<a>": )" + next + "}"}}, added, {"\"<a>\" twice"}},
      {{{config, R"({"eos_token": "</s>", "eos_token": "<s>"})"}}, config, {"\"eos_token\" twice"}},
      {{{fast, {{"added_tokens", {in_list(first, "<a>"), in_list(first, "<b>")}}}}}, fast, {"added_tokens: \"<b>\""}},
      // Also behind the vocabulary, which is not kept.
      {{{fast, R"({"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": [], "added_tokens": []})"}},
       fast,
       {"\"added_tokens\" twice"}},
      {{{fast, R"({"added_tokens": [{"id": )" + id + R"(, "content": "<a>", "content": "<b>"}]})"}},
       fast,
       {"\"content\" twice"}},
      {{{fast, R"({"model": {}, "model": {}})"}}, fast, {"\"model\" twice"}},
      {{{added, {{"<a>", first}}}, {fast, {{"added_tokens", {in_list(first + 1, "<a>")}}}}},
       fast,
       {"\"<a>\" has the id " + next, "added_tokens.json says that it is " + id}},
      // The slow tokenizer would take the one file, the fast one the other.
      {{{config, {{"added_tokens_decoder", {{id, entry("<a>")}}}}},
        {fast, {{"added_tokens", {in_list(first + 1, "<a>")}}}}},
       fast,
       {"\"<a>\" has the id " + next, "added_tokens_decoder says that it is " + id}},
      {{{added, {{"</s>", first}}}}, added, {"\"</s>\" has the id " + id, "tokenizer.model it is 2"}},
      {{{added, {{"<a>", 300}}}}, added, {"\"<a>\" has the id 300", "which ordinary text becomes"}},
      {{{config, R"({"additional_special_tokens": ["<a>", null]})"}}, config, {"must hold texts or objects with"}},
      {{{added, {{"<a>", -1}}}}, added, {"-1 is no token id"}},
      {{{added, {{"<a>", "x"}}}}, added, {"\"<a>\" must have a token id"}},
      // With a gap before it, transformers would give the padding token an id that is taken.
      {{{config, {{"pad_token", "[PAD]"}, {"added_tokens_decoder", {{next, entry("<a>")}}}}}},
       config,
       {"pad_token: \"[PAD]\"", "is that of \"<a>\""}},
  };
  for (const auto& item : folders) {
    const Folder folder(item.files);
    const std::string message = folder.refusal();
    CAPTURE(message, item.words);
    CHECK(message.find(folder / item.file) == 0);
    for (const std::string& words : item.words) CHECK(message.find(words) != std::string::npos);
  }
}

TEST_CASE("a tokenizer.json must have the vocabulary of tokenizer.model") {
  const Folder plain;
  const auto pieces_of_model =
      data::read_sentencepiece_model(test::read_bytes(plain / "tokenizer.model"), "tokenizer.model").pieces;
  json vocabulary, list = json::array();
  for (std::size_t id = 0; id < pieces_of_model.size(); ++id) {
    vocabulary[pieces_of_model[id].text] = id;
    list.push_back({pieces_of_model[id].text, pieces_of_model[id].score});
  }
  const auto refusal = [&](const json& vocab, const json& more = json::array()) {
    return Folder(Files{{fast, {{"model", {{"vocab", vocab}, {"merges", json::array()}}}, {"added_tokens", more}}}})
        .refusal();
  };
  const auto says = [](const std::string& message, const std::string& words) {
    CAPTURE(message);
    CHECK(message.find("tokenizer.json: model.vocab") != std::string::npos);
    CHECK(message.find(words) != std::string::npos);
  };
  CHECK(refusal(vocabulary).empty());
  CHECK(refusal(list).empty());
  CHECK(refusal(nullptr).empty());
  says(refusal({{"<unk>", 0}, {"zzz", 300}}), "does not have");
  says(refusal("text"), "must be an object or an array");
  json other = vocabulary;
  std::swap(other[pieces_of_model[300].text], other[pieces_of_model[301].text]);
  says(refusal(other), "with the id 301, but in");
  list.insert(list.begin(), json{"<s>", 0});  // as XLM-R shifts all ids
  says(refusal(list), "with the id ");
  other = vocabulary;
  other["<a>"] = pieces();
  says(refusal(other), "\"<a>\" with the id " + std::to_string(pieces()));
  CHECK(refusal(other, {{{"id", pieces()}, {"content", "<a>"}}}).empty());
}

TEST_CASE("a class whose ids may be others is refused, or else warned of") {
  const auto of_class = [](const json& name) { return Folder(Files{{config, {{"tokenizer_class", name}}}}).refusal(); };
  for (const char* name : {"LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"}) {
    CHECK(of_class(name).empty());
  }
  CHECK(of_class(nullptr).empty());
  CHECK(of_class("XLMRobertaTokenizer").find("tokenizer_class is \"XLMRobertaTokenizer\"") != std::string::npos);
  const Folder own(Files{{config, {{"tokenizer_class", "OwnTokenizer"}, {"auto_map", json::object()}}}});
  const auto warnings = open_tokenizer(own / "")->facts().warnings;
  REQUIRE(warnings.size() == 1);
  CHECK(warnings.front().find("\"OwnTokenizer\"") != std::string::npos);
}

TEST_CASE("a fingerprint is of tokens and flags, and the older one counts too") {
  const Folder plain(Files{{config, {{"legacy", false}}}});
  const auto tokenizer = open_tokenizer(plain / "");
  const auto same = [&](const Files& files) {
    return open_tokenizer(Folder(files) / "")->fingerprint() == tokenizer->fingerprint();
  };
  CHECK(same({{config, {{"legacy", false}, {"model_max_length", 7}, {"eos_token", "</s>"}}}}));
  CHECK(same({{config, {{"legacy", false}}}, {map, {{"eos_token", {{"content", "</s>"}}}}}}));
  CHECK_FALSE(same({{config, {{"legacy", true}}}}));
  CHECK_FALSE(same({{config, {{"legacy", false}, {"eos_token", "<s>"}}}}));
  CHECK_FALSE(same({{config, {{"legacy", false}, {"pad_token", "<unk>"}}}}));
  CHECK_FALSE(same({{config, {{"legacy", false}}}, {added, {{"<a>", pieces()}}}}));
  CHECK_FALSE(same({{config, {{"legacy", false}, {"bos_token", {{"content", "<s>"}, {"rstrip", true}}}}}}));

  const std::string bytes = test::read_bytes(plain / "tokenizer.model");
  // TrainerSpec (2) { input (1) = "x" }: how the model was trained. ModelProto.normalizer_spec (3) {
  // remove_extra_whitespaces (4) = true }: what it does.
  const auto with_model = [&](const std::string& more) {
    const Folder folder(Files{{config, {{"legacy", false}}}});
    folder.write("tokenizer.model", bytes + more);
    return open_tokenizer(folder / "");
  };
  const auto trained_elsewhere = with_model(std::string("\x12\x03\x0A\x01x"));
  CHECK(trained_elsewhere->fingerprint() == tokenizer->fingerprint());
  CHECK(with_model(std::string("\x1A\x02\x20\x01", 4))->fingerprint() != tokenizer->fingerprint());

  const std::string older = core::checksum(bytes.data(), bytes.size());
  CHECK(tokenizer->matches(older));
  CHECK(tokenizer->matches(tokenizer->fingerprint()));
  CHECK_FALSE(trained_elsewhere->matches(older));
  CHECK_FALSE(tokenizer->matches("0123456789abcdef"));
}

TEST_CASE("a tokenizer.json without a tokenizer.model is refused by what it is") {
  const auto message = [](const json& content) {
    const Folder folder(Files{{fast, content}});
    std::filesystem::remove(folder / "tokenizer.model");
    const std::string of_folder = folder.refusal();
    CHECK(of_folder.find("set data.tokenizer") != std::string::npos);
    CHECK(test::refusal([&] { open_tokenizer(folder / fast); }).find("set data.tokenizer") != std::string::npos);
    return of_folder;
  };
  const json llama{{"model", {{"type", "BPE"}, {"byte_fallback", true}, {"vocab", {{"a", 0}}}}}};
  CHECK(message(llama).find("a Llama tokenizer saved as tokenizer.json alone, as transformers 5 does") !=
        std::string::npos);
  const json qwen{{"model", {{"type", "BPE"}}}, {"decoder", {{"type", "ByteLevel"}}}};
  CHECK(message(qwen).find("a byte-level BPE tokenizer") != std::string::npos);
  CHECK(message({{"model", {{"type", "WordPiece"}}}}).find("a \"WordPiece\" tokenizer") != std::string::npos);
}

TEST_CASE("a user's text never becomes the token that took over a piece's id") {
  // As some chat models name an unused piece of their tokenizer.model; the fixture's has none, so one is added:
  // ModelProto.pieces (1) { piece (1) = "[UNUSED]", score (2) = 0, type (3) = USER_DEFINED (4) }.
  const int id = pieces();
  const Folder folder(Files{
      {config, {{"legacy", false}, {"added_tokens_decoder", {{std::to_string(id), {{"content", "<|im_end|>"}}}}}}}});
  const std::string piece("\x0A\x08[UNUSED]\x15\0\0\0\0\x18\x04", 17);
  folder.write("tokenizer.model",
               test::read_bytes(folder / "tokenizer.model") + '\x0A' + static_cast<char>(piece.size()) + piece);
  const auto tokenizer = open_tokenizer(folder / "");
  CHECK(tokenizer->encode("<|im_end|>").back() == id);
  for (const char* text : {"a [UNUSED] b", "<|im_end|>"}) {
    const Ids ids = tokenizer->encode(text, {.specials = data::Specials::literal});
    CHECK(std::count(ids.begin(), ids.end(), id) == 0);
    CHECK(tokenizer->decode(ids, false) == text);
  }
}

}  // namespace
}  // namespace caravan
