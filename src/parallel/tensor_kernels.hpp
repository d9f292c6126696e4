// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>

// The seam between tensors and kernels: the functions of kernels/ on tensors, dispatched by element type and device.
// Nothing here knows autograd. Activations are contiguous fp32 or bf16; see the kernels' headers for formulas. A tensor
// of another type, size, device or memory layout than its kernel takes is an error (exit 70) that names both.
namespace caravan::parallel {

/// Which mask a dropout draws. A probability of 0 switches it off.
struct DropoutMask {
  std::uint64_t key = 0;
  double probability = 0;
  std::int64_t first_unit = 0;  // global index of column 0
};

/// x with dropped units; x itself when the probability is 0. identity: int64 [rows].
at::Tensor dropout(const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask);
/// out += dropout(x).
void add_dropout(at::Tensor& out, const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask);

/// y and 1/rms, fp32 [rows].
std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& rstd);

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& dout, const at::Tensor& gate, const at::Tensor& up);

/// In place on x [T, heads · head_dim]. positions: int32 [T]; inverse_frequency: fp32 [head_dim / 2].
void rotary(at::Tensor& x, std::int64_t head_dim, const at::Tensor& positions, const at::Tensor& inverse_frequency,
            bool inverse);

/// Experts of each token: indices int32 [T, k], weights fp32 [T, k]. row: int32 [T], −1 on pads.
struct Routing {
  at::Tensor indices, weights;
};
Routing route(const at::Tensor& logits, const at::Tensor& row, std::int64_t topk);

/// counts and probability sums, fp64 [2, rows, E].
at::Tensor routing_statistics(const at::Tensor& logits, const Routing& routing, const at::Tensor& row,
                              std::int64_t rows);

/// Gradient at the logits, fp32 [T, E]. share: fp64 [rows, E], or undefined for no balance loss.
at::Tensor route_backward(const at::Tensor& logits, const Routing& routing, const at::Tensor& dweights,
                          const at::Tensor& row, const at::Tensor& share, double balance_scale);

/// indices with −1 where an expert has taken `limit` assignments of the sequence already. indices: int32 [T, k]; row:
/// int32 [T], −1 on pads; limit: int64 [S]; taken: int64 [S, E], assignments before these tokens; these are added.
at::Tensor keep_within_limit(const at::Tensor& indices, const at::Tensor& row, const at::Tensor& limit,
                             at::Tensor& taken);

/// Slots: the (token, choice) pairs ordered by expert, stable by token; those of expert −1 have none.
struct Permutation {
  at::Tensor counts;      // int64 [E], on the host
  at::Tensor slot_token;  // int32 [slots]: token · k + choice
  at::Tensor token_slot;  // int32 [T, k], −1 where there is no slot
  std::int64_t slots = 0;
};
Permutation permute_by_expert(const Routing& routing, std::int64_t experts);

/// How an expert's inputs are dropped: by (token, expert). expert_keys: int64 [E].
struct ExpertDropout {
  at::Tensor expert_keys;
  at::Tensor identity;  // int64 [T]
  double probability = 0;
};
/// Rows of y, dropped, or of any tensor for the slots in slot_token: a permutation's or some of them.
at::Tensor gather_dropout(const at::Tensor& y, const at::Tensor& slot_token, const Routing& routing,
                          const ExpertDropout& mask);
at::Tensor gather_slots(const at::Tensor& rows, const at::Tensor& slot_token, std::int64_t topk);
at::Tensor combine(const at::Tensor& y, const at::Tensor& slots, const Permutation& permutation);
at::Tensor combine_dropout_backward(const at::Tensor& dout, const at::Tensor& dslots, const Permutation& permutation,
                                    const Routing& routing, const ExpertDropout& mask);

/// z = scaling · w · gelu(a).
at::Tensor weighted_gelu(const at::Tensor& a, const at::Tensor& w, double scaling);
struct WeightedGeluGradient {
  at::Tensor da, z, dw;  // dw fp32 [rows]
};
WeightedGeluGradient weighted_gelu_backward(const at::Tensor& g, const at::Tensor& a, const at::Tensor& w,
                                            double scaling);

/// One AdamW update in place, fp32 and flat; see kernels/adamw.hpp.
struct AdamW {
  double lr, beta1, beta2, eps, weight_decay;
  std::int64_t step;  // from 1
};
void adamw(at::Tensor& weight, at::Tensor& exp_avg, at::Tensor& exp_avg_sq, const at::Tensor& gradient,
           double gradient_scale, const AdamW& settings);
/// Σ x² of fp32 numbers, in a fixed order: fp64 scalar.
at::Tensor sum_of_squares(const at::Tensor& x);

}  // namespace caravan::parallel
