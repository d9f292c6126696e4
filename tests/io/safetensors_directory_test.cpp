// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "io/safetensors.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using core::DType;

namespace {

const std::vector<float> counting{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

void write_shard(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<io::SafetensorsEntry> entries;
  for (const std::string& name : names) entries.push_back({name, {3, 4}, DType::f32, counting.data()});
  io::write_safetensors(path, entries);
}

void write_index(const std::filesystem::path& folder, const nlohmann::json& weight_map) {
  const nlohmann::json index = {{"metadata", {{"total_size", 96}}}, {"weight_map", weight_map}};
  test::write_text(folder / "model.safetensors.index.json", index.dump());
}

}  // namespace

TEST_CASE("a folder with one file is read in boxes and types") {
  const test::ScratchFolder scratch;
  write_shard(scratch / "model.safetensors", {"w"});
  const io::SafetensorsDirectory source(scratch.path());
  CHECK(source.info("w").shape == layout::Shape{3, 4});
  CHECK(source.where() == scratch.path().string());

  std::vector<float> part(4);
  source.read("w", {{1, 2}, {2, 2}}, DType::f32, part.data());
  CHECK(part == std::vector<float>{6, 7, 10, 11});
  std::vector<double> column(3);
  source.read("w", {{0, 3}, {3, 1}}, DType::f64, column.data());
  CHECK(column == std::vector<double>{3, 7, 11});
  std::vector<std::uint16_t> rounded(2);
  source.read("w", {{2, 0}, {1, 2}}, DType::bf16, rounded.data());
  CHECK(core::bf16_to_float(rounded[0]) == 8);
  CHECK(core::bf16_to_float(rounded[1]) == 9);

  std::vector<std::int64_t> integers(1);
  test::expect_error(core::ExitCode::bad_input, {"model.safetensors", "tensor w", "float32", "int64"}, [&] {
    source.read("w", {{0, 0}, {1, 1}}, DType::i64, integers.data());
  });
  test::expect_error(core::ExitCode::internal, {"w", "outside"}, [&] {
    source.read("w", {{2, 0}, {2, 4}}, DType::f32, part.data());
  });
  test::expect_error(core::ExitCode::bad_input, {scratch.path().string(), "there is no tensor v"},
                     [&] { source.info("v"); });
}

TEST_CASE("shards make one source") {
  const test::ScratchFolder scratch;
  write_shard(scratch / "one.safetensors", {"a", "b"});
  write_shard(scratch / "two.safetensors", {"c", "extra"});
  write_index(scratch.path(), {{"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}});
  const io::SafetensorsDirectory source(scratch.path());
  CHECK(source.names() == std::vector<std::string>{"a", "b", "c", "extra"});
  CHECK(source.file_of("c").path().filename() == "two.safetensors");
  std::vector<float> row(4);
  source.read("c", {{1, 0}, {1, 4}}, DType::f32, row.data());
  CHECK(row == std::vector<float>{4, 5, 6, 7});
}

TEST_CASE("folders that are not whole models are refused") {
  const test::ScratchFolder scratch;
  const auto open = [&] { io::SafetensorsDirectory source(scratch.path()); };
  const auto refused = [&](const std::vector<std::string>& parts) {
    test::expect_error(core::ExitCode::bad_input, parts, open);
  };
  refused({scratch.path().string(), "neither"});
  test::expect_error(core::ExitCode::bad_input, {(scratch / "no").string(), "not a folder"},
                     [&] { io::SafetensorsDirectory source(scratch / "no"); });

  test::write_text(scratch / "pytorch_model.bin", "pickle");
  refused({scratch.path().string(), "pytorch_model.bin", "save_pretrained(safe_serialization=True)"});

  write_shard(scratch / "one.safetensors", {"a", "b"});
  write_shard(scratch / "two.safetensors", {"c"});
  write_index(scratch.path(), {{"a", "one.safetensors"}, {"z", "three.safetensors"}, {"y", "four.safetensors"}});
  refused({"four.safetensors and three.safetensors", "missing"});
  write_index(scratch.path(), {{"a", "two.safetensors"}, {"b", "one.safetensors"}});
  refused({"tensor a", "two.safetensors"});
  write_index(scratch.path(), {{"gone", "one.safetensors"}});
  refused({"tensor gone", "one.safetensors"});
  write_index(scratch.path(), {{"a", "../one.safetensors"}});
  refused({"weight_map of a", "not a plain file name"});
  write_index(scratch.path(), {{"a", 7}});
  refused({"weight_map of a", "not a file name"});
  test::write_text(scratch / "model.safetensors.index.json", "{\"weight_map\":");
  refused({"model.safetensors.index.json", "not a JSON object"});

  write_shard(scratch / "two.safetensors", {"b", "c"});
  write_index(scratch.path(), {{"a", "one.safetensors"}, {"c", "two.safetensors"}});
  refused({"tensor b", "one.safetensors", "two.safetensors"});
}
