// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.hpp"

#include "core/checksum.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using checkpoint::Manifest;
using checkpoint::StoredPiece;
using checkpoint::StoredTensor;
using nlohmann::json;

namespace {

StoredPiece stored(const layout::Rectangle& part) {
  return {part, "shard-00000.h5", "w", part.extent.empty() ? 1 : part.extent[0], {"0123456789abcdef"}};
}

Manifest small_manifest() {
  Manifest manifest;
  manifest.step = 12;
  manifest.program = "caravan 1 (\"built\" here)";
  manifest.layout = {8, 4, 2};
  manifest.tensors["w"] = {{4, 6}, core::DType::bf16, {stored({{0, 0}, {4, 6}})}};
  manifest.shard_bytes["shard-00000.h5"] = 5'000'000'000;
  manifest.master_bytes = 77;
  manifest.store = checkpoint::StoreReference{"../step-00000000", "00000000000000ff", "00000000000000ee"};
  manifest.state = {{"loss", 0.1}, {"tiny", 1e-300}, {"position", {{"epoch", 1}}}, {"text", "naïve\n"}};
  return manifest;
}

// The manifest's document, changed and with a checksum that fits the change.
void write_changed(const std::filesystem::path& folder, const std::function<void(json&)>& change) {
  json document = json::parse(small_manifest().to_text());
  change(document);
  document.erase("checksum");
  const std::string text = document.dump();
  document["checksum"] = core::checksum(text.data(), text.size());
  test::write_text(folder / "manifest.json", document.dump(1));
}

}  // namespace

TEST_CASE("a checksum is XXH3-64 as the reference prints it") {
  // The reference's own test vector for no bytes and seed 0.
  CHECK(core::checksum("", 0) == "2d06800538d394c2");
}

TEST_CASE("a manifest reads back as it was written") {
  const test::ScratchFolder folder;
  const Manifest written = small_manifest();
  test::write_text(folder / "manifest.json", written.to_text());
  const Manifest read = Manifest::read(folder.path());
  CHECK(read.to_text() == written.to_text());
  CHECK(read.step == 12);
  CHECK(read.layout.tp == 4);
  CHECK(read.shard_bytes.at("shard-00000.h5") == 5'000'000'000);
  CHECK(read.state == written.state);
  CHECK(read.store->folder == "../step-00000000");
  CHECK(read.store->content == "00000000000000ee");
  CHECK(read.tensors.at("w").pieces[0].part == layout::whole({4, 6}));
}

TEST_CASE("any flipped bit in a manifest is noticed") {
  const test::ScratchFolder folder;
  const std::string text = small_manifest().to_text();
  std::size_t unnoticed = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ' || text[i] == '\n') continue;  // between the tokens they mean nothing
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    test::write_text(folder / "manifest.json", damaged);
    try {
      Manifest::read(folder.path());
      ++unnoticed;
    } catch (const core::Error& error) {
      CHECK(error.code() == core::ExitCode::bad_input);
    }
  }
  CHECK(unnoticed == 0);
}

TEST_CASE("a manifest that is not one, newer or wrong is refused with its reason") {
  const test::ScratchFolder folder;
  const auto refused = [&](const std::vector<std::string>& parts) {
    test::expect_error(core::ExitCode::bad_input, parts, [&] { Manifest::read(folder.path()); });
  };
  refused({folder.path().string(), "no manifest.json"});
  test::write_text(folder / "manifest.json", "{\"kind\": ");
  refused({(folder / "manifest.json").string(), "not valid JSON"});
  test::write_text(folder / "manifest.json", "[]");
  refused({"not the manifest"});
  write_changed(folder.path(), [](json& document) { document["kind"] = "packed data"; });
  refused({"not the manifest"});
  write_changed(folder.path(), [](json& document) { document["version"] = 7; });
  refused({"version 7", "up to 1"});
  write_changed(folder.path(), [](json& document) { document.erase("version"); });
  refused({"version is missing"});
  write_changed(folder.path(), [](json& document) { document.erase("step"); });
  refused({(folder / "manifest.json").string(), "step"});
  write_changed(folder.path(), [](json& document) { document["tensors"]["w"]["pieces"][0]["extent"] = {4, 5}; });
  refused({"tensor w", "20 of 24"});
  write_changed(folder.path(), [](json& document) { document["shards"] = json::object(); });
  refused({"tensor w", "shard-00000.h5"});
  test::write_text(folder / "manifest.json", small_manifest().to_text());
  CHECK_NOTHROW(Manifest::read(folder.path()));
}

TEST_CASE("pieces must cover their tensor exactly once") {
  const auto problem = [](const std::vector<layout::Rectangle>& parts) {
    StoredTensor tensor{{4, 6}, core::DType::f32, {}};
    for (const auto& part : parts) tensor.pieces.push_back(stored(part));
    return checkpoint::coverage_problem(tensor);
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(problem({{{0, 0}, {4, 6}}}).empty());
  CHECK(problem({{{2, 0}, {2, 6}}, {{0, 0}, {2, 3}}, {{0, 3}, {2, 3}}}).empty());
  CHECK(contains(problem({}), "0 of 24"));
  CHECK(contains(problem({{{0, 0}, {3, 6}}}), "18 of 24"));
  CHECK(contains(problem({{{0, 0}, {4, 6}}, {{3, 5}, {1, 1}}}), "overlap"));
  // One overlap and one hole of the same size: the count alone would not tell.
  CHECK(contains(problem({{{0, 0}, {3, 6}}, {{2, 0}, {1, 6}}}), "overlap"));
  CHECK(contains(problem({{{1, 0}, {4, 6}}}), "not inside"));
  CHECK(contains(problem({{{-1, 0}, {4, 6}}}), "not inside"));
  CHECK(contains(problem({{{0, 0}, {4, 0}}}), "not inside"));
  CHECK(contains(problem({{{0}, {4}}}), "not inside"));
  StoredTensor hashes{{4, 6}, core::DType::f32, {stored({{0, 0}, {4, 6}})}};
  hashes.pieces[0].block_rows = 2;
  CHECK(contains(checkpoint::coverage_problem(hashes), "checksums"));
}
