// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <algorithm>
#include <cstring>

#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using core::DType;

namespace {

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, 'd'));
}

}  // namespace

TEST_CASE("what is written is read") {
  const test::ScratchFolder scratch;
  const std::vector<float> weights{1, 2, 3, 4, 5, 6};
  const std::vector<std::uint8_t> codes{7, 8, 9};
  const std::int64_t scalar = -5;
  io::write_safetensors(scratch / "m.safetensors",
                        {{"codes", {3}, DType::u8, codes.data()},
                         {"weights", {2, 3}, DType::f32, weights.data()},
                         {"scalar", {}, DType::i64, &scalar},
                         {"nothing", {0, 4}, DType::bf16, nullptr}},
                        {{"format", "pt"}});
  const io::SafetensorsFile file(scratch / "m.safetensors");
  CHECK(file.names() == std::vector<std::string>{"codes", "nothing", "scalar", "weights"});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(file.info("weights").shape == layout::Shape{2, 3});
  CHECK(file.info("weights").dtype == DType::f32);
  CHECK(file.info("scalar").shape.empty());
  CHECK(file.info("nothing").shape == layout::Shape{0, 4});
  CHECK(std::equal(weights.begin(), weights.end(), reinterpret_cast<const float*>(file.data("weights"))));
  CHECK(std::memcmp(file.data("codes"), codes.data(), 3) == 0);
  CHECK(std::memcmp(file.data("scalar"), &scalar, 8) == 0);
  // Aligned to their elements, for readers that map the file.
  CHECK(reinterpret_cast<std::uintptr_t>(file.data("weights")) % 4 == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(file.data("scalar")) % 8 == 0);
}

TEST_CASE("a tensor that is missing or of a foreign type is named") {
  const test::ScratchFolder scratch;
  test::write_text(scratch / "m.safetensors",
                   file_of(R"({"mask":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}})", 4));
  const io::SafetensorsFile file(scratch / "m.safetensors");  // opening accepts what nobody asks for
  CHECK(file.contains("mask"));
  test::expect_error(core::ExitCode::bad_input, {"m.safetensors", "tensor mask", "BOOL"}, [&] { file.info("mask"); });
  test::expect_error(core::ExitCode::bad_input, {"m.safetensors", "task", "nearest name is mask"},
                     [&] { file.info("task"); });
}

TEST_CASE("a malformed header is refused with its reason") {
  struct Case {
    std::string what;
    std::string bytes;
    std::vector<std::string> message;
  };
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  // The header of a single tensor "a" is n bytes long, so its data begin at byte 8 + n.
  const auto at = [](const std::string& header, std::size_t offset) {
    return std::to_string(8 + header.size() + offset);
  };
  const std::string whole = "{" + a + "}";
  const std::string gap = "{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})";
  const std::string overlap = "{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[7,8]}})";
  const std::string late = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  const std::vector<Case> cases{
      {"empty file", "", {"0 bytes", "byte 0"}},
      {"seven bytes", "1234567", {"7 bytes", "byte 0"}},
      {"length beyond the file", with_length(1000, "{}"), {"1000", "only 2"}},
      {"length of all bits", with_length(UINT64_MAX, "{}"), {"18446744073709551615"}},
      {"length 0", with_length(0, ""), {"byte 8", "begin"}},
      {"not an object", file_of("[1]", 0), {"byte 8", "begin"}},
      {"cut JSON", file_of(R"({"a":{"dtype")", 0), {"not valid JSON at byte"}},
      {"text after the object", file_of("{} x", 0), {"not valid JSON at byte"}},
      {"invalid UTF-8", file_of("{\"\xff\":1}", 0), {"not valid JSON at byte"}},
      {"name twice", file_of("{" + a + "," + a + "}", 8), {"tensor a", "twice"}},
      {"entry is a number", file_of(R"({"a":1})", 0), {"tensor a", "not an object"}},
      {"no dtype", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8), {"tensor a", "lacks \"dtype\""}},
      {"no shape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8), {"tensor a", "lacks \"shape\""}},
      {"no offsets", file_of(R"({"a":{"dtype":"F32","shape":[2]}})", 8), {"tensor a", "lacks \"data_offsets\""}},
      {"dtype unknown", file_of(R"({"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}})", 8), {"tensor a", "F7"}},
      {"dtype no text", file_of(R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", 8), {"tensor a", "dtype"}},
      {"shape negative",
       file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
       {"tensor a", "shape"}},
      {"shape a fraction",
       file_of(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8),
       {"tensor a", "shape"}},
      {"shape no list", file_of(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8), {"tensor a", "shape"}},
      {"shape overflows",
       file_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
       {"tensor a", "too large"}},
      {"three offsets",
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8),
       {"tensor a", "data_offsets"}},
      {"backwards",
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
       {"tensor a", "8 to 0", "backwards"}},
      {"cut short", file_of(whole, 7), {"tensor a", "0 to 8", "7 bytes", "cut short", at(whole, 0)}},
      {"offsets wrap",
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}})", 8),
       {"tensor a", "beyond the file"}},
      {"bytes differ from shape",
       file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
       {"tensor a", "8 bytes", "[3] of F32 takes 12"}},
      {"gap", file_of(gap, 10), {"tensor b", at(gap, 8), at(gap, 9), "no tensor"}},
      {"gap at the begin", file_of(late, 12), {"tensor a", at(late, 0), "no tensor"}},
      {"overlap", file_of(overlap, 8), {"tensor b", "overlaps tensor a", at(overlap, 7)}},
      {"trailing bytes", file_of(whole, 11), {"3 bytes", at(whole, 8), "no tensor"}},
      {"only trailing bytes", file_of("{}", 1), {"1 bytes", "byte 10"}},
      {"metadata no object", file_of(R"({"__metadata__":1})", 0), {"__metadata__"}},
      {"metadata no text", file_of(R"({"__metadata__":{"k":1}})", 0), {"__metadata__", "\"k\""}}};
  const test::ScratchFolder scratch;
  for (const Case& test_case : cases) {
    INFO(test_case.what);
    test::write_text(scratch / "m.safetensors", test_case.bytes);
    std::vector<std::string> parts = test_case.message;
    parts.push_back((scratch / "m.safetensors").string());
    test::expect_error(core::ExitCode::bad_input, parts, [&] { io::SafetensorsFile file(scratch / "m.safetensors"); });
  }
  // The header that the cases spoil is good itself.
  test::write_text(scratch / "m.safetensors", file_of(whole, 8));
  CHECK(io::SafetensorsFile(scratch / "m.safetensors").contains("a"));
}
