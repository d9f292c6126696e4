// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

namespace caravan::parallel {

/// LoRA's second factor on this rank: the weight becomes W + scale · B A. A stays with the caller, who drops its input.
struct LowRank {
  at::Tensor b;      // [out, r]
  double scale = 1;  // alpha / r
};

/// Gradients of a product's inputs.
struct InputGradients {
  at::Tensor x;  // [n, in]
  at::Tensor u;  // [n, r]
};

/// A matrix that is never trained, this rank's slice, [out, in]. It multiplies itself, because only it knows how it is
/// stored: as it is, packed for the processor, in 4 bits. Activations, results and bias have the compute type.
class FrozenWeight {
 public:
  virtual ~FrozenWeight() = default;

  virtual std::int64_t out_features() const = 0;

  /// x Wᵀ + bias: [n, in] → [n, out], new memory. bias [out] may be undefined.
  virtual at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias = {}) const = 0;
  /// dy W, the gradient of x: [n, out] → [n, in]. Where `sum` is defined, the gradient is added to it in place, and it
  /// is the result.
  virtual at::Tensor multiply_transposed(const at::Tensor& dy, at::Tensor sum = {}) const = 0;

  /// The same with LoRA's update: x Wᵀ + bias + scale · u Bᵀ, with u [n, r] the input's product with A. A weight that
  /// holds B among its own columns overrides both and makes one product of the two.
  virtual at::Tensor multiply(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& u,
                              const LowRank& update) const;
  /// dy W (added to `sum` as above) and scale · dy B.
  virtual InputGradients multiply_transposed(const at::Tensor& dy, at::Tensor sum, const LowRank& update) const;

  /// Rows of W, [n, in], new memory: embeddings. index: int64 [n].
  virtual at::Tensor rows(const at::Tensor& index) const = 0;
};

/// A weight stored as it is. value: [out, in] in the compute type; throws (exit 70) when it is no matrix.
std::unique_ptr<FrozenWeight> make_plain_weight(at::Tensor value);

}  // namespace caravan::parallel
