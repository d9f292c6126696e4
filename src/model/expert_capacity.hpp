// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "parallel/tensor_kernels.hpp"
#include "parallel/token_axis.hpp"

namespace caravan::model {

/// The choices that the experts take, int32 [T/TP, k]: of a sequence an expert takes the first
/// ⌈capacity · k · tokens / E⌉ assignments in the order of the tokens; the others are −1, as pads are. A sequence's
/// tokens on other ranks count, so the result is the same at any layout. indices: of this rank's shard. Collective over
/// TP.
at::Tensor within_capacity(const parallel::Context& context, const parallel::TokenAxis& axis, const at::Tensor& indices,
                           std::int64_t experts, double capacity);

}  // namespace caravan::model
