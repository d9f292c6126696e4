// SPDX-License-Identifier: Apache-2.0
#include "parallel/parameters.hpp"

#include <algorithm>
#include <numeric>

#include "core/error.hpp"
#include "parallel/base_loading.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

// Small enough that a bucket's messages stay below MPI's 2 GiB and that several can be under way.
constexpr std::int64_t bucket_elements = 32 << 20;

// Of both factors of a weight gradient: 1024 x 20480 in fp32 are 84 MB.
constexpr std::int64_t widened_rows = 1024;

class PlainWeight final : public FrozenWeight {
 public:
  explicit PlainWeight(at::Tensor value) : value_(std::move(value)) {}
  at::Tensor materialise(Workspace&) const override { return value_; }

 private:
  at::Tensor value_;
};

at::Tensor read_slice(const layout::TensorSource& source, const layout::ParameterSpec& spec, const Context& context) {
  const layout::Rectangle slice = layout::slice_of(spec, context.grid);
  at::Tensor value = at::empty(slice.extent, at::TensorOptions(context.compute));
  source.read(spec.name, slice, dtype_of(context.compute), value.data_ptr());
  return value.to(context.device);
}

/// Which group holds the same slice, for a parameter split like this.
comm::Communicator* replica_group(const layout::ParameterSpec& spec, comm::Groups& groups) {
  if (!spec.split) return groups.world.get();
  return spec.split->axis == layout::Axis::tp ? groups.dp.get() : groups.edp.get();
}

std::int64_t row_elements(const layout::Rectangle& slice) {
  return slice.extent[0] == 0 ? 0 : slice.count() / slice.extent[0];
}

}  // namespace

Parameters::Parameters(const std::vector<layout::ParameterSpec>& specs, const Context& context)
    : context_(context), specs_(specs) {
  make_buckets();
}

void Parameters::make_buckets() {
  // Bucket of a group that still takes members; parameters keep their order, so runs of rows stay runs of layers.
  std::map<comm::Communicator*, std::size_t> open;
  std::vector<std::int64_t> sizes;
  for (const layout::ParameterSpec& spec : specs_) {
    if (!spec.trainable) continue;
    auto parameter = std::make_unique<Trainable>();
    parameter->spec = spec;
    parameter->slice = layout::slice_of(spec, context_.grid);
    comm::Communicator* group = replica_group(spec, context_.groups);
    CARAVAN_CHECK(layout::replicas_of(spec, context_.grid).size() == static_cast<std::size_t>(group->size()),
                  spec.name);
    const std::int64_t count = parameter->slice.count();
    const auto found = open.find(group);
    if (found == open.end() || sizes[found->second] + count > bucket_elements) {
      open[group] = buckets_.size();
      buckets_.emplace_back().replicas = group;
      sizes.push_back(0);
    }
    buckets_[open[group]].members.push_back(parameter.get());
    sizes[open[group]] += count;
    trainable_.emplace(spec.name, std::move(parameter));
  }
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    Bucket& bucket = buckets_[b];
    bucket.values = at::zeros({sizes[b]}, at::TensorOptions(context_.compute).device(context_.device));
    bucket.gradients = at::zeros({sizes[b]}, at::TensorOptions(at::kFloat).device(context_.device));
    std::vector<std::int64_t> rows, widths;
    std::int64_t begin = 0;
    for (Trainable* member : bucket.members) {
      const std::int64_t count = member->slice.count();
      member->value = bucket.values.narrow(0, begin, count).view(member->slice.extent);
      member->gradient = bucket.gradients.narrow(0, begin, count).view(member->slice.extent);
      begin += count;
      rows.push_back(member->slice.extent[0]);
      widths.push_back(row_elements(member->slice));
    }
    bucket.rows = layout::share_rows(rows, widths, bucket.replicas->size());
    for (const auto& shares : bucket.rows) {
      std::int64_t owned = 0;
      for (std::size_t i = 0; i < shares.size(); ++i) owned += shares[i].count() * widths[i];
      bucket.counts.push_back(owned);
    }
    const auto me = static_cast<std::size_t>(bucket.replicas->rank());
    bucket.owned_begin = std::accumulate(bucket.counts.begin(), bucket.counts.begin() + static_cast<std::ptrdiff_t>(me),
                                         std::int64_t{0});
    bucket.owned_count = bucket.counts[me];
  }
}

void Parameters::load_frozen(const layout::TensorSource& source) {
  std::vector<BaseTensor> tensors;
  std::vector<at::Tensor> values;
  for (const layout::ParameterSpec& spec : specs_) {
    if (spec.trainable) continue;
    values.push_back(at::empty(layout::slice_of(spec, context_.grid).extent, at::TensorOptions(context_.compute)));
    tensors.push_back({spec, values.back().data_ptr()});
  }
  load_base(*context_.groups.world, context_.grid, source, dtype_of(context_.compute), tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    frozen_[tensors[i].spec.name] = std::make_unique<PlainWeight>(values[i].to(context_.device));
  }
}

void Parameters::load_trainable(const layout::TensorSource& source) {
  for (const layout::ParameterSpec& spec : specs_) {
    if (spec.trainable) trainable(spec.name).value.copy_(read_slice(source, spec, context_));
  }
}

const FrozenWeight& Parameters::frozen(const std::string& name) const {
  const auto found = frozen_.find(name);
  if (found == frozen_.end()) core::internal_error("no frozen parameter ", name);
  return *found->second;
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
