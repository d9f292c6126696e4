// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)) (Shazeer, "GLU variants improve transformer", 2020).
/// All [count]; out may be gate or up. T is float or Bf16.
template <typename T>
void swiglu(Execution execution, const T* gate, const T* up, T* out, std::int64_t count);

/// dgate = dout * up * silu'(gate), dup = dout * silu(gate). dgate may be gate or dout, dup may be up or dout (not both
/// results in one array).
template <typename T>
void swiglu_backward(Execution execution, const T* dout, const T* gate, const T* up, T* dgate, T* dup,
                     std::int64_t count);

}  // namespace caravan::kernels
