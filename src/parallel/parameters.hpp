// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "layout/parameter_spec.hpp"
#include "layout/tensor_source.hpp"
#include "parallel/buckets.hpp"
#include "parallel/frozen_weight.hpp"

namespace caravan::parallel {

/// 32 MiB of gradients: long enough that a message's latency does not count, short enough that sums begin while
/// backward is busy.
inline constexpr std::int64_t default_bucket_elements = 8 << 20;

/// All parameters of a model on this rank, made from their specs.
class Parameters {
 public:
  /// Allocates the trainables (zeros) and nothing for the rest. bucket_elements: gradients that are summed in one go.
  Parameters(const std::vector<layout::ParameterSpec>& specs, const Context& context,
             std::int64_t bucket_elements = default_bucket_elements);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  /// Reads all frozen tensors, each once in the whole job, straight into the compute type. Collective over the world:
  /// see load_base, also for what it throws.
  void load_frozen(const layout::TensorSource& source);
  /// Reads this rank's slices of all trainables, rounded to the compute type; train::ShardedAdamW has the masters.
  void load_trainable(const layout::TensorSource& source);

  /// A frozen matrix, or a frozen vector (norms, biases), which is this rank's slice in the compute type, [n]; and a
  /// trainable. Throw (exit 70) on a name that they do not know.
  const FrozenWeight& frozen(const std::string& name) const;
  const at::Tensor& frozen_vector(const std::string& name) const;
  Trainable& trainable(const std::string& name);

  std::vector<Bucket>& buckets() { return buckets_; }
  const std::vector<layout::ParameterSpec>& specs() const { return specs_; }
  void zero_gradients();

 private:
  const Context& context_;
  std::vector<layout::ParameterSpec> specs_;
  std::map<std::string, std::unique_ptr<FrozenWeight>> frozen_;
  std::map<std::string, at::Tensor> frozen_vectors_;
  std::map<std::string, std::unique_ptr<Trainable>> trainable_;
  std::vector<Bucket> buckets_;
};

/// Gradient of a product: gradient += scale · leftᵀ · right, in fp32. left [n, rows], right [n, columns], both fp32 or
/// both bf16.
void add_product(at::Tensor& gradient, const at::Tensor& left, const at::Tensor& right, double scale);

}  // namespace caravan::parallel
