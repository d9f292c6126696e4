// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "parallel/parameters.hpp"
#include "train/gradient_reduction.hpp"
#include "train/options.hpp"

namespace caravan::train {

/// AdamW whose masters and moments (fp32) are shared out over each parameter's replicas (ZeRO stage 1, Rajbhandari et
/// al. 2020) in whole rows: an owned piece is a rectangle of the global tensor.
class ShardedAdamW {
 public:
  /// Masters begin as the parameters' values; where those are bf16, load() brings the unrounded ones.
  ShardedAdamW(parallel::Parameters& parameters, const parallel::Context& context, const Options& options);

  /// Before the last backward of a step: from now on sums over the replicas begin as soon as gradients are complete.
  void begin_reduction() { reduction_.begin(); }
  /// Sums the gradients over the replicas, as far as that is not done; each rank keeps the sums of the rows it owns.
  /// Collective.
  void reduce_gradients();

  /// Sum of the squares of the reduced gradients that this rank owns, fp64 scalar, where the model computes.
  at::Tensor squared_gradients() const;
  /// Global L2 norm of the reduced gradients, from that number of each rank: every element has one owner. Collective.
  double gradient_norm(double squared_gradients) const;

  /// One update with the reduced gradients times `gradient_scale`, then the new values go to all replicas. `step`
  /// counts from 1. Collective.
  void update(std::int64_t step, double lr, double gradient_scale);

  /// A piece of a tensor that this rank owns: part of the parameter or of one of its moments.
  struct Piece {
    std::string name;  // of the parameter, or "optimizer/exp_avg/NAME", "optimizer/exp_avg_sq/NAME"
    layout::Shape shape;
    layout::Rectangle part;
    float* data;  // row-major; valid as long as the optimizer
  };
  /// All pieces of this rank: weights and moments. Pieces of all ranks cover every tensor exactly once.
  std::vector<Piece> owned_pieces();

  /// Their names, of all ranks' pieces.
  std::vector<std::string> tensor_names() const;

  /// Takes masters (and, if the source has them, moments) from a checkpoint of any layout; without moments they are 0.
  void load(const layout::TensorSource& source);

 private:
  struct State {
    parallel::Bucket* bucket;
    at::Tensor master, exp_avg, exp_avg_sq, gradient;  // fp32 [owned]
  };

  const parallel::Context& context_;
  Options options_;
  GradientReduction reduction_;
  std::vector<State> states_;
};

}  // namespace caravan::train
