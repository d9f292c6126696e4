// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "family/model_spec.hpp"
#include "parallel/activation.hpp"
#include "parallel/token_axis.hpp"

namespace caravan::model {

/// Rotates queries and keys by their positions (Su et al. 2021), with the model's frequencies. Where those depend on a
/// document's length, each document has its own.
class Rotary {
 public:
  Rotary(const family::ModelSpec& spec, at::Device device);

  /// x [T, heads · d] of all tokens of the axis. In place, also when it is remade: nobody needs the linear's output
  /// itself. The gradient is rotated back.
  parallel::Activation rotate(const parallel::Activation& x, const parallel::TokenAxis& axis,
                              parallel::Recall recall) const;

 private:
  /// Consecutive rows with the same frequencies.
  struct Stretch {
    std::int64_t begin = 0, rows = 0;
    at::Tensor inverse_frequency;  // fp32 [d / 2]
  };
  at::Tensor frequencies(std::int64_t length) const;
  std::vector<Stretch> stretches(const parallel::TokenAxis& axis) const;

  family::Rotary rotary_;
  std::int64_t head_dim_;
  std::int64_t max_positions_;
  at::Device device_;
  at::Tensor plain_;  // of documents up to max_positions
};

}  // namespace caravan::model
