// SPDX-License-Identifier: Apache-2.0
#include "parallel/parameters.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "parallel/base_loading.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

// Of both factors of a weight gradient: 1024 x 20480 in fp32 are 84 MB.
constexpr std::int64_t widened_rows = 1024;

at::Tensor read_slice(const layout::TensorSource& source, const layout::ParameterSpec& spec, const Context& context) {
  const layout::Rectangle slice = layout::slice_of(spec, context.grid);
  at::Tensor value = at::empty(slice.extent, at::TensorOptions(context.compute));
  source.read(spec.name, slice, dtype_of(context.compute), value.data_ptr());
  return value.to(context.device);
}

/// Room for this rank's slice. Where the rows of the tensor are no multiple of the parts, those of every part, of which
/// the last slices leave some at zero: all ranks of the group have products of the same shape.
at::Tensor room_for(const layout::ParameterSpec& spec, const Context& context) {
  layout::Shape extent = layout::slice_of(spec, context.grid).extent;
  const at::TensorOptions options(context.compute);
  if (!spec.split || spec.split->dimension != 0 || spec.split->axis != layout::Axis::tp)
    return at::empty(extent, options);
  const std::int64_t rows = (spec.shape[0] + context.grid.tp() - 1) / context.grid.tp();
  if (extent[0] == rows) return at::empty(extent, options);
  extent[0] = rows;
  return at::zeros(extent, options);
}

}  // namespace

Parameters::Parameters(const std::vector<layout::ParameterSpec>& specs, const Context& context,
                       std::int64_t bucket_elements)
    : context_(context), specs_(specs) {
  std::vector<Trainable*> trainables;
  for (const layout::ParameterSpec& spec : specs_) {
    if (!spec.trainable) continue;
    auto parameter = std::make_unique<Trainable>();
    parameter->spec = spec;
    parameter->slice = layout::slice_of(spec, context_.grid);
    trainables.push_back(parameter.get());
    trainable_.emplace(spec.name, std::move(parameter));
  }
  buckets_ = make_buckets(trainables, context_, bucket_elements);
}

void Parameters::load_frozen(const layout::TensorSource& source) {
  std::vector<BaseTensor> tensors;
  std::vector<at::Tensor> values;
  for (const layout::ParameterSpec& spec : specs_) {
    if (spec.trainable) continue;
    values.push_back(room_for(spec, context_));
    tensors.push_back({spec, values.back().data_ptr()});
  }
  load_base(*context_.groups.world, context_.grid, source, dtype_of(context_.compute), tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string& name = tensors[i].spec.name;
    at::Tensor value = values[i].to(context_.device);
    if (value.dim() == 1) {
      frozen_vectors_[name] = std::move(value);
    } else {
      frozen_[name] = make_plain_weight(std::move(value));
    }
  }
}

void Parameters::load_trainable(const layout::TensorSource& source) {
  for (const layout::ParameterSpec& spec : specs_) {
    if (spec.trainable) trainable(spec.name).value.copy_(read_slice(source, spec, context_));
  }
}

const FrozenWeight& Parameters::frozen(const std::string& name) const {
  const auto found = frozen_.find(name);
  if (found == frozen_.end()) core::internal_error("no frozen matrix ", name);
  return *found->second;
}

const at::Tensor& Parameters::frozen_vector(const std::string& name) const {
  const auto found = frozen_vectors_.find(name);
  if (found == frozen_vectors_.end()) core::internal_error("no frozen vector ", name);
  return found->second;
}

Trainable& Parameters::trainable(const std::string& name) {
  const auto found = trainable_.find(name);
  if (found == trainable_.end()) core::internal_error("no trainable parameter ", name);
  return *found->second;
}

void Parameters::zero_gradients() {
  for (Bucket& bucket : buckets_) bucket.gradients.zero_();
}

void add_product(at::Tensor& gradient, const at::Tensor& left, const at::Tensor& right, double scale) {
  if (left.scalar_type() == at::kFloat) {
    gradient.addmm_(left.t(), right, 1.0, scale);
    return;
  }
  // A bf16 product would be rounded before it is added. Widened factors make exact products; some rows at a time, so
  // that a second copy of the activations never exists.
  for (std::int64_t begin = 0; begin < left.size(0); begin += widened_rows) {
    const std::int64_t rows = std::min(widened_rows, left.size(0) - begin);
    gradient.addmm_(left.narrow(0, begin, rows).to(at::kFloat).t(), right.narrow(0, begin, rows).to(at::kFloat), 1.0,
                    scale);
  }
}

}  // namespace caravan::parallel
