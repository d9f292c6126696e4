// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// Rotary position embedding in place (Su et al., RoFormer), in Hugging Face's half-split convention: element i of a
/// head and element i + head_dim / 2 form a pair, rotated by the angle positions[t] * inverse_frequency[i], which is
/// an fp32 product; cosine and sine are fp32. inverse rotates by the negative angle: the backward pass.
/// x: `tokens` rows of [heads, head_dim], row_stride elements from one token to the next; positions: [tokens];
/// inverse_frequency: [head_dim / 2]. head_dim is even (exit 70). T is float or Bf16.
template <typename T>
void rotary(Execution execution, T* x, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
            std::int64_t row_stride, const std::int32_t* positions, const float* inverse_frequency, bool inverse);

}  // namespace caravan::kernels
