// SPDX-License-Identifier: Apache-2.0
#include "convert/export_tensors.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.hpp"
#include "family/foreign_names.hpp"
#include "family/parameters.hpp"

namespace caravan::convert {
namespace {

using layout::Rectangle;

// Of fp32 values; a checkpoint's blocks of 16 MiB of bf16 have as many rows, so each is read once.
constexpr std::int64_t block_bytes = 32 << 20;

// Rows [begin, end) of the target as a box of our tensor: an expert's rows are its second dimension.
Rectangle rows_of_target(const ExportTensor& tensor, std::int64_t begin, std::int64_t end) {
  const std::size_t dimension = tensor.place.extent.size() - tensor.target.shape.size();
  Rectangle box = tensor.place;
  box.offset[dimension] += begin;
  box.extent[dimension] = end - begin;
  return box;
}

std::vector<float> read_whole(const layout::TensorSource& source, const std::string& name) {
  const Rectangle all = layout::whole(source.info(name).shape);
  std::vector<float> values(static_cast<std::size_t>(all.count()));
  source.read(name, all, core::DType::f32, values.data());
  return values;
}

/// A of [rank, in], read once, and the rows of B of [out, rank] as they are needed.
class LowRankUpdate {
 public:
  LowRankUpdate(const layout::TensorSource& source, const ExportTensor& tensor, double scale)
      : source_(source), b_(tensor.lora_b), scale_(static_cast<float>(scale)) {
    if (tensor.lora_a.empty()) return;
    rank_ = static_cast<std::size_t>(source.info(tensor.lora_a).shape[0]);
    in_ = static_cast<std::size_t>(tensor.target.shape[1]);
    a_ = read_whole(source, tensor.lora_a);
  }

  /// weight[i] += scale · Σ_k B[begin + i, k] · A[k]
  void add_to(std::vector<float>& weight, std::int64_t begin, std::int64_t end) {
    if (rank_ == 0) return;
    const auto rows = static_cast<std::size_t>(end - begin);
    std::vector<float> b(rows * rank_);
    source_.read(b_, {{begin, 0}, {end - begin, static_cast<std::int64_t>(rank_)}}, core::DType::f32, b.data());
    std::vector<float> sum(in_);
    for (std::size_t i = 0; i < rows; ++i) {
      std::fill(sum.begin(), sum.end(), 0.0F);
      for (std::size_t k = 0; k < rank_; ++k) {
        const float factor = b[i * rank_ + k];
        const float* row = a_.data() + k * in_;
        for (std::size_t j = 0; j < in_; ++j) sum[j] += factor * row[j];
      }
      float* out = weight.data() + i * in_;
      for (std::size_t j = 0; j < in_; ++j) out[j] += scale_ * sum[j];
    }
  }

 private:
  const layout::TensorSource& source_;
  std::string b_;
  float scale_;
  std::size_t rank_ = 0, in_ = 0;
  std::vector<float> a_;
};

// Throws when rounding to the target's type, or training, left something that is no number.
void require_finite(const layout::TensorSource& source, const ExportTensor& tensor, const std::vector<float>& before,
                    const std::vector<char>& rounded, std::int64_t first_row, std::size_t width) {
  std::vector<float> after(before.size());
  core::convert(rounded.data(), tensor.target.dtype, after.data(), core::DType::f32, after.size());
  const auto bad = std::find_if(after.begin(), after.end(), [](float value) { return !std::isfinite(value); });
  if (bad == after.end()) return;
  const auto index = static_cast<std::size_t>(bad - after.begin());
  const std::int64_t row = first_row + static_cast<std::int64_t>(index / width);
  if (std::isfinite(before[index])) {
    core::bad_input(source.where(), ": ", tensor.target.name, ", row ", row, ": ", before[index], " is too large for ",
                    core::name_of(tensor.target.dtype), "; export with --export.dtype=bfloat16");
  }
  core::bad_input(source.where(), ": ", tensor.target.name, ", row ", row,
                  ": NaN or infinity; export an earlier checkpoint");
}

}  // namespace

std::vector<ExportTensor> export_tensors(const family::ModelSpec& spec, core::DType dtype) {
  const std::vector<layout::ParameterSpec> parameters = family::parameter_specs(spec);
  std::set<std::string> names;
  for (const layout::ParameterSpec& parameter : parameters) names.insert(parameter.name);
  std::vector<ExportTensor> tensors;
  for (const layout::ParameterSpec& parameter : parameters) {
    const std::string linear = parameter.name.substr(0, parameter.name.rfind('.'));
    const bool merged = parameter.name.ends_with(".weight") && names.contains(linear + ".lora_A.weight");
    for (const family::ForeignPart& part : family::hugging_face_parts(spec, parameter)) {
      tensors.push_back({{part.name, part.shape, dtype},
                         parameter.name,
                         part.place,
                         merged ? linear + ".lora_A.weight" : "",
                         merged ? linear + ".lora_B.weight" : ""});
    }
  }
  return tensors;
}

void make_tensor(const layout::TensorSource& source, const ExportTensor& tensor, double scale,
                 const std::function<void(const void* data, std::size_t bytes)>& write) {
  const std::int64_t rows = tensor.target.shape.at(0);
  const std::int64_t width = layout::element_count(tensor.target.shape) / std::max<std::int64_t>(1, rows);
  const std::int64_t step = std::max<std::int64_t>(1, block_bytes / (width * static_cast<std::int64_t>(sizeof(float))));
  LowRankUpdate update(source, tensor, scale);
  std::vector<float> values;
  std::vector<char> rounded;
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t end = std::min(rows, begin + step);
    values.resize(static_cast<std::size_t>((end - begin) * width));
    source.read(tensor.source, rows_of_target(tensor, begin, end), core::DType::f32, values.data());
    update.add_to(values, begin, end);
    rounded.resize(values.size() * core::size_of(tensor.target.dtype));
    core::convert(values.data(), core::DType::f32, rounded.data(), tensor.target.dtype, values.size());
    require_finite(source, tensor, values, rounded, begin, static_cast<std::size_t>(width));
    write(rounded.data(), rounded.size());
  }
}

}  // namespace caravan::convert
