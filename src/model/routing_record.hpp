// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "model/modes.hpp"
#include "parallel/token_axis.hpp"

namespace caravan::model {

/// Routing statistics of one micro-step, and the balance loss they give (Switch Transformer's, Fedus et al. 2021, with
/// top-k counts). Rows: one for the whole micro-step over all ranks (batch), or one for each sequence.
///   f = share of the token-slot assignments, p = mean of the full softmax;  Σ_rows T_row/T · E · Σ_i f_i p_i, mean
///   over layers, times alpha. Pads count nowhere.
/// All of it stays where the model computes: nothing here makes the host wait for a number.
class RoutingRecord {
 public:
  RoutingRecord(const parallel::Context& context, const parallel::TokenAxis& axis, std::int64_t layers,
                std::int64_t experts, BalanceScope scope);

  /// Row of each token of this rank's shard, int32 [T/TP], −1 on pads.
  const at::Tensor& rows() const { return rows_; }
  std::int64_t row_count() const { return row_count_; }

  /// Counts and probability sums of a layer over this rank's shard, fp64 [2, rows, E].
  void set(std::int64_t layer, const at::Tensor& statistics);
  /// Assignments of this rank's shard that a layer's experts did not take, int64 scalar.
  void add_dropped(const at::Tensor& assignments) { dropped_.add_(assignments); }

  /// Sums over the ranks that share rows; after the forward pass, before the backward. Collective: over the world for
  /// the batch scope, over TP for the sequence scope.
  void reduce();

  /// f of a layer, fp64 [rows, E]. After reduce().
  at::Tensor share(std::int64_t layer) const;
  /// Σ over layers, rows and experts of f · (sum of p over the row's tokens), fp64 scalar. The balance loss is
  /// this times alpha · E / (layers · tokens). After reduce().
  at::Tensor share_times_probability() const;
  /// Assignments, fp64 [layers, E], over the ranks that share rows. After reduce().
  at::Tensor assignments() const;
  /// Those of them that no expert took, over all layers, fp64 scalar. After reduce().
  const at::Tensor& dropped() const { return reduced_dropped_; }

  /// The factor of this micro-step's balance gradient, alpha · E / (layers · tokens of the global batch); 0: none.
  double gradient_scale = 0;

 private:
  const parallel::Context& context_;
  BalanceScope scope_;
  at::Tensor rows_;
  std::int64_t row_count_;
  at::Tensor local_, reduced_;            // fp64 [layers, 2, rows, E]
  at::Tensor dropped_, reduced_dropped_;  // fp64 scalars
};

}  // namespace caravan::model
