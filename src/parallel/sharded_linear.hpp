// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "parallel/activation.hpp"
#include "parallel/parameters.hpp"
#include "parallel/tensor_kernels.hpp"
#include "parallel/token_axis.hpp"

namespace caravan::parallel {

/// One linear's parts on this rank. Without LoRA `a` and `b` are null.
struct LinearParts {
  const FrozenWeight* base = nullptr;
  at::Tensor bias{};  // [out]; undefined: none
  Trainable* a = nullptr;
  Trainable* b = nullptr;

  LowRank update(double scale) const { return {b->value, scale}; }
};

/// Linears with a common input, cut by outputs over TP (Megatron's column parallel), each with an optional LoRA update
///   y_i = x W_iᵀ + b_i + scale · dropout(x) A_iᵀ B_iᵀ          (Hu et al. 2022; one mask per input, shared by its
///   linears)
/// x comes as the sequence shard [T/TP, in]; y_i leaves for all tokens, [T, out_i / TP]. A runs on the shard and only
/// its r columns are gathered, so its input gradient is complete and joins after the base's reduce-scatter. Those
/// columns are kept for backward, so outputs that are remade cost the base's products and the gather of x.
class ColumnLinears {
 public:
  ColumnLinears(const Context& context, std::vector<LinearParts> parts, double scale);
  std::vector<Activation> forward(const Activation& x, const TokenAxis& axis, const DropoutMask& mask,
                                  Recall recall = Recall::kept) const;

 private:
  struct Saved;
  /// y_i of the shard x and the gathered inner activations.
  std::vector<at::Tensor> outputs(const at::Tensor& x, const at::Tensor& u) const;
  at::Tensor backward(const Saved& saved, const std::vector<at::Tensor>& gradients) const;

  const Context& context_;
  std::vector<LinearParts> parts_;
  double scale_;
  bool lora_ = false;
};

/// A linear cut by inputs over TP (row parallel), with an optional LoRA update that is added to the partial sum:
/// z [T, in / TP] → y [T/TP, out], the sequence shard of the sum. A is cut by inputs, B and bias are whole.
class RowLinear {
 public:
  RowLinear(const Context& context, LinearParts parts, double scale);
  Activation forward(const Activation& z, const TokenAxis& axis, DropoutMask mask, Recall recall = Recall::kept) const;

 private:
  /// y of z and this rank's part of the inner activations.
  at::Tensor output(const at::Tensor& z, const at::Tensor& u) const;

  const Context& context_;
  LinearParts parts_;
  double scale_;
};

}  // namespace caravan::parallel
