// SPDX-License-Identifier: Apache-2.0
#include "data/source_kind.hpp"

#include "data/instruction_source.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using nlohmann::json;

const json record{{"instruction", ""}, {"conversation", {{{"input", "a"}, {"output", "b"}}}}};
const json records = json::array({record, record, record});

std::string in_utf16(const std::string& ascii) {
  std::string text;
  for (const char c : ascii) text += {c, '\0'};
  return text;
}

/// What is said of a file with these bytes, whether damaged records are skipped or not.
std::string said(const std::string& bytes) {
  const test::TemporaryFolder folder;
  const std::string path = folder.write("x.json", bytes);
  std::string message;
  for (const bool skip : {false, true}) {
    message = test::refusal([&] {
      data::InstructionSource source(path, skip);
      for (data::Record one; source.next(one);) continue;
    });
    CHECK(message.find("correct the record") == std::string::npos);
  }
  if (message.find(path) != 0) return "no word of the file";
  return message.substr(path.size());
}

TEST_CASE("a file that is no list of records is described as a whole") {
  const json columns{{"instruction", {"", ""}}, {"conversation", {record["conversation"], record["conversation"]}}};
  const auto three = [](const std::string& line) { return line + "\n" + line + "\n" + line + "\n"; };
  const struct {
    std::string bytes;
    const char* words;
  } files[] = {
      {"", "the file is empty"},
      {" \n", "only white space"},
      {"\x1F\x8B\x08", "gzip"},
      {"\x28\xB5\x2F\xFD", "Zstandard"},
      {std::string("\xFD\x37zXZ\0", 6), "an xz archive"},
      {"BZh91AY", "bzip2"},
      {"PK\x03\x04", "zip"},
      {std::string(257, 'x') + "ustar\0", "tar archive"},
      {"PAR1\x15", "Parquet"},
      {std::string("ARROW1\0\0", 8), "Arrow"},
      {"\xFF\xFF\xFF\xFF\x10", "Arrow stream"},
      {"CRVNPACK", "packed token file"},
      {std::string(4096, '\0'), "zero bytes"},
      {std::string("\x01\x02\0\0\0", 5), "binary file"},
      {"\xFF\xFE" + in_utf16(records.dump()), "UTF-16"},
      {in_utf16(records.dump()), "UTF-16"},
      {"[{\"instruction\": \"\xE9\", \"conversation\": [{\"input\": \"\xFC\", \"output\": \"b\"}]}]", "Windows-1252"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"},
      {"\n<!DOCTYPE html>\n<html></html>", "web page"},
      {"<?xml version=\"1.0\"?>\n<a/>", "XML"},
      {"instruction,input,output\na,b,c\n", "CSV"},
      {"instruction\toutput\na\tb\n", "tab-separated"},
      {"- instruction: a\n  output: b\n", "YAML"},
      {"404: Not Found", "begins with \"404: Not Found\""},
      {"[{'instruction': 'a'}]", "Python's notation"},
      {record.dump(1), "one object over several lines"},
      {record.dump(1) + "\n" + record.dump(1), "one behind the other"},
      {json{{"version", 1}, {"data", records}}.dump(1), "under \"data\""},
      {json{{"version", 1}, {"train", records}}.dump(), "under \"train\""},
      {json{{"data", records}}.dump(1).substr(0, 60), "not JSON"},
      {json{{"0", record}, {"1", record}}.dump(), "records by name"},
      {columns.dump(), "columns"},
      {json::array({records, records}).dump(), "arrays instead of records"},
      {three(json(record.dump()).dump()), "texts instead of records"},
      {three(records.dump()), "another array"},
      {three(R"({"instruction": "a", "input": "", "output": "b"})"), "Alpaca"},
      {three(R"({"messages": [{"role": "user", "content": "a"}]})"), "OpenAI"},
      {R"([{"conversations": [{"from": "human", "value": "a"}]}])", "ShareGPT"},
      {three(R"({"text": "a"})"), "corpus"},
      {three(R"({"instruction": "", "conversation": [{"role": "user", "content": "a"}]})"),
       "role and content (the chat"},
      {R"([{"instruction": "", "conversation": [{"from": "human", "value": "a"}]}])",
       "from and value (the format of Sh"},
      {three(R"({"conversation": [{"q": "a"}, {"input": "a", "output": "b"}]})"), "turns with the field q;"},
      {three(R"({"instruction": "a", "output": "b", "corpus": null})"), "Alpaca"},
      {three(R"({"instruction": "a", "output": "b", "conversation": null})"), "Alpaca"},
      {R"([{"conversation": [["a", "b"]]}, {"conversation": [["a", "b"]]}])", "conversations of arrays"},
      {three(R"({"conversation": ["a", "b"]})"), "conversations of texts"},
      {R"({"conversation": ["a", "b"]})", "conversations of texts"},
      {three(R"({"conversation": {"input": "a", "output": "b"}})"), "conversations of one object"},
      {R"({"conversation": {"input": "a", "output": "b"}})", "conversations of one object"},
      {json{{"instruction", {{"0", "a"}}}, {"conversation", {{"0", json::array()}}}}.dump(), "columns"},
      {json{{"corpus", {"a", "b"}}}.dump(), "columns"},
      {three(record.dump() + ","), "no brackets"},
      {record.dump() + ",\n" + record.dump() + "\n", "no brackets"},
      {record.dump() + ", " + record.dump(), "no brackets"},
      {three(record.dump() + record.dump()), "several objects on a line"},
      {record.dump() + " " + record.dump(), "several objects on a line"},
  };
  for (const auto& file : files) {
    CAPTURE(file.bytes.substr(0, 60));
    CHECK(said(file.bytes).find(file.words) != std::string::npos);
  }
  CHECK(test::refusal([] { data::InstructionSource(CARAVAN_TEST_DATA, false); }).find("is a folder") !=
        std::string::npos);
}

TEST_CASE("one damaged record at the start is no other format") {
  const test::TemporaryFolder folder;
  const std::string good = record.dump();
  for (const std::string bad :
       {"oops", "3", "\"text\"", "[]", R"({"messages": []})", R"({"a": [)", "{'a': 1}", "a,b",
        R"({"conversation": [{"role": "user", "content": "a"}]})", R"({"corpus": ["a", "b"]})",
        "{\"instruction\": \"\xE9\", \"conversation\": [\n{\"input\": \"\xE9t\xE9\", \"output\": \"\xE9\"}]}"}) {
    for (const bool lines : {true, false}) {
      CAPTURE(bad, lines);
      // A bracket is an array's, in the middle of one or as the first of a file.
      if (bad == (lines ? "[]" : R"({"a": [)")) continue;
      if (lines && bad.find('\n') != std::string::npos) continue;
      const std::string path = folder.write(
          "x", lines ? bad + "\n" + good + "\n" + good + "\n" : "[" + bad + ",\n" + good + ",\n" + good + "]");
      data::InstructionSource source(path, true);
      data::Record one;
      std::int64_t right = 0;
      while (source.next(one)) ++right;
      CHECK(right == 2);
      CHECK(source.damaged() == (bad == "a,b" && !lines ? 2 : 1));
    }
  }
}

TEST_CASE("null is what a record does not have") {
  const test::TemporaryFolder folder;
  json asked = record,
       plain{{"corpus", "c"}, {"instruction", nullptr}, {"conversation", nullptr}, {"dataset", nullptr}};
  asked["corpus"] = asked["dataset"] = asked["instruction"] = nullptr;
  data::InstructionSource source(folder.write("x", json::array({asked, plain}).dump()), false);
  data::Record one;
  REQUIRE(source.next(one));
  CHECK(one.turns.at(0).output == "b");
  CHECK((one.instruction.empty() && one.corpus.empty() && one.dataset.empty()));
  REQUIRE(source.next(one));
  CHECK(one.corpus == "c");
  CHECK_FALSE(source.next(one));

  const std::string nan = folder.write("nan", R"([{"corpus": NaN}])");
  CHECK(test::refusal([&] { data::InstructionSource(nan, false).next(one); }).find("write null") != std::string::npos);
}

}  // namespace
}  // namespace caravan
