// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "parallel/buckets.hpp"

namespace caravan::train {

/// Sums gradients over their replicas, a bucket at a time (reduce-scatter in fp32), while backward still computes those
/// of earlier layers. Buckets leave in one order on every rank, each when backward has added to all its members.
class GradientReduction {
 public:
  /// `buckets` outlives it.
  explicit GradientReduction(std::vector<parallel::Bucket>& buckets) : buckets_(buckets) {}
  ~GradientReduction() { ignore_gradients(); }
  GradientReduction(const GradientReduction&) = delete;
  GradientReduction& operator=(const GradientReduction&) = delete;

  /// The backward that follows is the step's last: every Trainable::gradient_added() completes that gradient.
  void begin();

  /// Sends what has not left, and waits. Per bucket: the sums of the elements that this rank owns, fp32. Collective.
  std::vector<at::Tensor> finish();

 private:
  void gradient_added(std::size_t bucket);
  void send_next();
  void ignore_gradients();

  std::vector<parallel::Bucket>& buckets_;
  std::vector<std::size_t> missing_;  // [bucket]: members whose gradient is not complete
  std::vector<at::Tensor> sums_;
  std::vector<comm::Pending> under_way_;
  std::size_t waited_ = 0;  // the first of under_way_ that has not been waited for
};

}  // namespace caravan::train
