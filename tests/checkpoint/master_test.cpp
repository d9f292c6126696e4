// SPDX-License-Identifier: Apache-2.0
// master.h5 serves other programs: HDF5's own h5dump reads whole tensors from it.
#include <array>
#include <cstdio>
#include <memory>
#include <sstream>

#include "comm/communicator.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;
using core::DType;

namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string output;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) output += buffer.data();
  return output;
}

// The numbers that h5dump prints for a dataset, without its indices.
std::vector<float> dumped(const std::filesystem::path& file, const std::string& dataset) {
  const std::string text = output_of("cd / && h5dump -y -w 0 -d '" + dataset + "' '" + file.string() + "' 2>&1");
  const std::size_t data = text.find("DATA {");
  INFO(text);
  REQUIRE(data != std::string::npos);
  std::string numbers = text.substr(data + 6, text.find('}', data) - data - 6);
  for (char& c : numbers) c = c == ',' ? ' ' : c;
  std::istringstream in(numbers);
  std::vector<float> values;
  for (float value = 0; in >> value;) values.push_back(value);
  return values;
}

}  // namespace

TEST_CASE("h5dump reads tensors whole, whatever their cut") {
  if (output_of("command -v h5dump").empty()) {
    WARN("skipped: h5dump (hdf5-tools) is not installed");
    return;
  }
  const test::ScratchFolder scratch;
  const layout::Shape shape{4, 8};
  const layout::Shape small{3, 2};
  const auto world = comm::make_serial_communicator("world");
  std::vector<checkpoint::Piece> pieces;
  for (int part = 0; part < 4; ++part) {
    pieces.push_back(test::piece_of("layers.0.w", shape, DType::f32, test::slice(shape, 1, 4, part)));
    pieces.push_back(test::piece_of("optimizer/exp_avg/layers.0.w", shape, DType::f32, test::slice(shape, 0, 4, part)));
  }
  pieces.push_back(test::piece_of("half", small, DType::bf16, layout::whole(small)));
  checkpoint::save(*world, {.folder = scratch / "before", .step = 1}, pieces);
  std::filesystem::rename(scratch / "before", scratch / "after");
  const auto master = scratch / "after/master.h5";
  for (const std::string name : {"layers.0.w", "optimizer/exp_avg/layers.0.w"}) {
    CHECK(dumped(master, "/" + name) == test::elements(name, shape, layout::whole(shape)));
  }
  std::vector<float> halves;
  for (const float bits : dumped(master, "/half")) {
    halves.push_back(core::bf16_to_float(static_cast<std::uint16_t>(bits)));
  }
  CHECK(halves == test::elements("half", small, layout::whole(small)));
  CHECK(output_of("h5dump -a /half/dtype '" + master.string() + "'").find("\"bfloat16\"") != std::string::npos);
}
