// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "layout/parameter_spec.hpp"
#include "parallel/context.hpp"

namespace caravan::parallel {

/// A trainable parameter's slice on this rank.
struct Trainable {
  layout::ParameterSpec spec;
  layout::Rectangle slice;
  at::Tensor value;     // compute type, a view into its bucket
  at::Tensor gradient;  // fp32, a view into its bucket; backward adds to it, and then calls gradient_added()

  /// Backward has added all that a micro-step gives to this gradient.
  void gradient_added() const {
    if (on_gradient) on_gradient();
  }
  std::function<void()> on_gradient{};
};

/// Trainables with the same replicas, side by side: gradients are summed and optimizer state is shared out in one go.
struct Bucket {
  comm::Communicator* replicas = nullptr;
  std::vector<Trainable*> members;
  at::Tensor values;     // [n], compute type
  at::Tensor gradients;  // [n], fp32
  std::vector<std::vector<layout::Rows>>
      rows;                          // [replica][member]: rows of layout::as_matrix, contiguous in the bucket
  std::vector<std::int64_t> counts;  // [replica]: elements it owns; consecutive in rank order
  std::int64_t owned_begin = 0;      // this rank's elements are [owned_begin, owned_begin + owned_count)
  std::int64_t owned_count = 0;

  /// The rows of each member that this rank owns.
  const std::vector<layout::Rows>& owned_rows() const;
};

/// Gathers trainables into buckets of at most `most_elements` (a larger trainable has one to itself) and makes their
/// `value` and `gradient` views. Trainables come in the order of the forward pass; buckets go from its end to its
/// beginning, as backward fills them, and each is full before the next one is. The same on all ranks.
std::vector<Bucket> make_buckets(const std::vector<Trainable*>& trainables, const Context& context,
                                 std::int64_t most_elements);

}  // namespace caravan::parallel
