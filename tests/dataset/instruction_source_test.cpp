// SPDX-License-Identifier: Apache-2.0
#include "data/instruction_source.hpp"

#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::InstructionSource;
using data::Record;

const std::string open = "[", bom = "\xEF\xBB\xBF";

std::vector<Record> read_all(const std::string& path, bool skip = false, std::int64_t* damaged = nullptr) {
  InstructionSource source(path, skip);
  std::vector<Record> records;
  Record record;
  while (source.next(record)) records.push_back(record);
  CHECK_FALSE(source.next(record));
  if (damaged) *damaged = source.damaged();
  return records;
}

std::string good(const std::string& output) {
  return R"({"corpus": "", "dataset": "d", "instruction": "s", "conversation": [{"input": "[a, \"{", "output": ")" +
         output + R"("}]})";
}

TEST_CASE("arrays and lines give the same records, with the line where each begins") {
  test::TemporaryFolder folder;
  const std::string corpus = "{\n \"corpus\": \"text\\u00e9 \\\\\"\n}";
  const std::string array =
      folder.write("a.json", bom + " \n[\n" + good("1\\n]") + ",\n" + corpus + "\n, " + good("\xC3\xA9,") + "\n ]\n\n");
  const auto records = read_all(array);
  REQUIRE(records.size() == 3);
  CHECK(records[0].line == 3);
  CHECK(records[1].line == 4);
  CHECK(records[2].line == 7);
  CHECK(records[0].turns.at(0).output == "1\n]");
  CHECK(records[0].turns.at(0).input == "[a, \"{");
  CHECK(records[0].instruction == "s");
  CHECK(records[0].dataset == "d");
  CHECK(records[1].corpus == "text\xC3\xA9 \\");
  CHECK(records[1].turns.empty());
  CHECK(records[2].turns.at(0).output == "\xC3\xA9,");
  for (std::size_t i = 0; i < 3; ++i) CHECK(records[i].index == static_cast<std::int64_t>(i));

  const auto lines = read_all(folder.write("a.jsonl", good("1") + "\r\n\n  \n" + good("2") + "\n" + good("3")));
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].line == 1);
  CHECK(lines[1].line == 4);
  CHECK(lines[2].line == 5);
  CHECK(lines[2].index == 2);
  CHECK(read_all(folder.write("e.json", " [ ] ")).empty());
  CHECK(read_all(folder.write("one.json", open + good("x") + "]")).size() == 1);
}

TEST_CASE("a damaged record is refused with file, line and field, or left out and counted") {
  const struct {
    std::string record;
    const char* words;
    int line = 0;  // after the record's first
  } damages[] = {
      {"{\"instruction\": }", "not JSON"},
      {"{\"instruction\": \"a\nb\"}", "not JSON", 0},
      {R"({"instruction": "\x"})", "not JSON"},
      {"{\"instruction\": \"\xFF\"}", "ill-formed UTF-8"},
      {R"({"instruction": "\ud800"})", "not JSON"},
      {"3", "the record must be an object, not number"},
      {"{}", "instruction is missing"},
      {R"({"instruction": ""})", "conversation is missing"},
      {R"({"instruction": 3, "conversation": []})", "instruction must be a text, not number"},
      {R"({"corpus": null})", "instruction is missing"},
      {R"({"instruction": null, "conversation": null})", "conversation is missing"},
      {R"({"instruction": "", "conversation": [{"input": null, "output": "b"}]})",
       "conversation[0].input must be a text, not null"},
      {R"({"dataset": [], "instruction": "", "conversation": []})", "dataset must be a text, not array"},
      {R"({"instruction": "", "conversation": {}})", "conversation must be an array, not object"},
      {R"({"instruction": "", "conversation": []})", "conversation is empty, and so is corpus"},
      {R"({"instruction": "", "conversation": [1]})", "conversation[0] must be an object, not number"},
      {R"({"instruction": "", "conversation": [{"output": "b"}]})", "conversation[0].input is missing"},
      {R"({"instruction": "", "conversation": [{"input": "a", "output": "b"}, {"input": "a"}]})",
       "conversation[1].output is missing"},
      {R"({"instruction": "", "conversation": [{"input": "a", "output": false}]})",
       "conversation[0].output must be a text, not boolean"},
      {R"({"instruction": "", "conversation": [{"input": "a", "output": ""}]})", "conversation[0].output is empty"},
      {R"({"corpus": "c", "conversation": [{"input": "a", "output": "b"}]})", "conversation must be empty"},
  };
  test::TemporaryFolder folder;
  for (const auto& damage : damages) {
    CAPTURE(damage.record);
    const bool one_line = damage.record.find('\n') == std::string::npos;
    const std::string array =
        folder.write("x.json", open + good("1") + ",\n" + damage.record + ",\n" + good("2") + "]");
    const std::string lines = folder.write("x.jsonl", good("1") + "\n" + damage.record + "\n" + good("2") + "\n");
    for (const auto& path : {array, lines}) {
      if (path == lines && !one_line) continue;
      const std::string message = test::refusal([&] { read_all(path); });
      CAPTURE(message);
      CHECK(message.find(path + ":2: ") == 0);
      CHECK(message.find(damage.words) != std::string::npos);
      CHECK(message.find("on_error = skip") != std::string::npos);
      std::int64_t damaged = 0;
      const auto records = read_all(path, true, &damaged);
      REQUIRE(records.size() == 2);
      CHECK(damaged == 1);
      CHECK(records[0].index == 0);
      CHECK(records[1].index == 2);
    }
  }
}

TEST_CASE("a JSON error inside a record is reported on its own line") {
  test::TemporaryFolder folder;
  const std::string path = folder.write("x.json", open + "\n" + good("1") + ",\n{\n \"corpus\":\n  oops\n}]");
  CHECK(test::refusal([&] { read_all(path); }).find(path + ":5: not JSON") == 0);
}

TEST_CASE("a file cut anywhere never passes for a whole one") {
  test::TemporaryFolder folder;
  const std::string whole = open + good("1") + ",\n" + good("2") + "]";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut.json", whole.substr(0, size));
    CAPTURE(size);
    CHECK(test::refusal([&] { read_all(path); }).find(path) == 0);
  }
  const std::string cut = folder.write("cut.json", whole.substr(0, whole.size() - 3));
  CHECK(test::refusal([&] { read_all(cut); }).find("cut off") != std::string::npos);
  std::int64_t damaged = 0;
  CHECK(read_all(cut, true, &damaged).size() == 1);
  CHECK(damaged == 1);
  const std::string more = folder.write("more.json", whole + "\n\n" + good("3"));
  CHECK(test::refusal([&] { read_all(more); }).find(more + ":4: text after the end") == 0);
  CHECK(read_all(more, true).size() == 2);
  CHECK(test::refusal([&] { read_all(folder.write("comma.json", open + good("1") + ",]")); }).find("not JSON") !=
        std::string::npos);
  CHECK(test::refusal([&] { read_all(folder / "none.json"); }).find("none.json") != std::string::npos);
  CHECK(test::refusal([&] { read_all(folder.write("blank.json", " \n")); }).find("holds no records") !=
        std::string::npos);
}

}  // namespace
}  // namespace caravan
