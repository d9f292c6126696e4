// SPDX-License-Identifier: Apache-2.0
#include "convert/base_tensors.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "core/error.hpp"
#include "tests/support/catch.hpp"

using namespace caravan;

namespace {

/// Tensors in memory, as fp32.
class MemorySource : public layout::TensorSource {
 public:
  std::map<std::string, std::vector<float>> values;
  layout::Shape shape{3000, 2};

  bool contains(const std::string& name) const override { return values.contains(name); }
  Info info(const std::string&) const override { return {shape, core::DType::f32}; }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    std::vector<float> box(static_cast<std::size_t>(part.count()));
    layout::copy_part(part, layout::whole(shape), values.at(name).data(), part, box.data(), sizeof(float));
    core::convert(box.data(), core::DType::f32, target, dtype, box.size());
  }
  std::string where() const override { return "memory"; }
};

MemorySource ramp() {
  MemorySource source;
  for (int i = 0; i < 6000; ++i) source.values["w"].push_back(static_cast<float>(i) - 3000.0F);
  return source;
}

layout::ParameterSpec stored_as(core::DType dtype) { return {.name = "w", .shape = {3000, 2}, .storage = dtype}; }

std::string error_of(const MemorySource& source, core::DType dtype, const layout::Rectangle& rows) {
  std::vector<float> out(static_cast<std::size_t>(rows.count()));
  try {
    convert::read_finite(source, stored_as(dtype), rows, out.data());
  } catch (const core::Error& error) {
    CHECK(error.code() == core::ExitCode::bad_input);
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("finite values are read in the storage type") {
  const MemorySource source = ramp();
  const layout::Rectangle rows{{1000, 0}, {1500, 2}};
  std::vector<float> out(3000);
  convert::read_finite(source, stored_as(core::DType::f32), rows, out.data());
  CHECK(std::memcmp(out.data(), source.values.at("w").data() + 2000, out.size() * sizeof(float)) == 0);
  std::vector<std::uint16_t> halves(3000);
  convert::read_finite(source, stored_as(core::DType::bf16), rows, halves.data());
  for (std::size_t i = 0; i < halves.size(); ++i) CHECK(halves[i] == core::float_to_bf16(out[i]));
}

TEST_CASE("NaN and infinity are refused with their place, in every storage type") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), infinity, -infinity}) {
    MemorySource source = ramp();
    source.values["w"][4001] = bad;  // row 2000, element 1: inside the second block of the scan
    for (const core::DType dtype : {core::DType::f32, core::DType::bf16, core::DType::f16}) {
      const std::string message = error_of(source, dtype, {{500, 0}, {2500, 2}});
      CHECK(message.starts_with("memory: w holds NaN or infinity in row 2000, element 1"));
      CHECK(error_of(source, dtype, {{2001, 0}, {999, 2}}) == "no error");
    }
  }
}

TEST_CASE("a value that only the storage type cannot hold is explained") {
  MemorySource source = ramp();
  source.values["w"][0] = 1e5F;  // float16 ends at 65504
  CHECK(error_of(source, core::DType::f32, {{0, 0}, {1, 2}}) == "no error");
  CHECK(error_of(source, core::DType::f16, {{0, 0}, {1, 2}}) ==
        "memory: w holds NaN or infinity in row 0, element 0, as float16 (the file holds float32; set torch_dtype in "
        "config.json accordingly)");
}

TEST_CASE("the fingerprint follows names, shapes and values") {
  const std::vector<layout::ParameterSpec> parameters{stored_as(core::DType::f32)};
  const std::uint64_t plain = convert::base_fingerprint(ramp(), parameters);
  CHECK(convert::base_fingerprint(ramp(), parameters) == plain);
  for (const std::size_t i : {std::size_t{0}, std::size_t{5999}}) {
    MemorySource changed = ramp();
    changed.values["w"][i] += 1;
    CHECK(convert::base_fingerprint(changed, parameters) != plain);
  }
  MemorySource turned = ramp();
  turned.shape = {2, 3000};
  CHECK(convert::base_fingerprint(turned, parameters) != plain);
}
