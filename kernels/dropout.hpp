// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"

namespace caravan::kernels {

/// One use of dropout. The mask is a function of (key, token, unit) alone, so no layout or restart changes it.
struct Dropout {
  std::uint64_t key = 0;         // core::random_key of (seed, use, layer, item)
  double probability = 0;        // in [0, 1); kept values are multiplied by 1 / (1 - probability)
  std::uint32_t first_unit = 0;  // global unit of column 0: the begin of this rank's slice of the columns
};

/// out[r, c] = in[r, c] / (1 - p) where core::dropout_bits(core::dropout_row_key(key, tokens[r]), first_unit + c)
/// >= core::dropout_threshold(p), else 0. in, out: [rows, columns] (in == out is allowed); tokens: [rows], the identity
/// of each row's token (core::token_identity). Probability 0 copies and reads no tokens. Its backward is the same call
/// on the gradient. T is float or Bf16.
template <typename T>
void dropout(Execution execution, const T* in, T* out, std::int64_t rows, std::int64_t columns,
             const std::uint64_t* tokens, Dropout use);

/// out += dropout(in), rounded once.
template <typename T>
void dropout_add(Execution execution, const T* in, T* out, std::int64_t rows, std::int64_t columns,
                 const std::uint64_t* tokens, Dropout use);

}  // namespace caravan::kernels
