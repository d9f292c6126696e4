// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

namespace caravan::parallel {

/// Gradients of the outputs in, gradients of the inputs out. What comes in is defined, of its output's shape and type,
/// and zero where nothing depends on the output; what goes out may be undefined, which stands for zeros.
using Backward = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// Connects outputs that were computed without autograd to their inputs by a hand-written backward. What backward needs
/// is captured by the closure and freed with the graph. Does nothing when no gradient is wanted.
/// The closure adds the gradients of trainables to their own buffers; it must not capture an output.
void connect(const char* name, const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
             Backward backward);

/// Whether a backward will be run through these inputs: gradients are on and one of them wants one.
bool wants_gradient(const std::vector<at::Tensor>& inputs);

}  // namespace caravan::parallel
