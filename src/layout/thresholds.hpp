// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Sizes at which the program computes, and so sends, in another way. They stand below all rooms that compute, because
// src/plan, which says what a step sends, sees none of those.
namespace caravan::layout {

/// Elements times ranks of an all-reduce up to which everybody gets everything and sums it alike. Above, each rank sums
/// its part, then all gather the parts.
inline constexpr std::int64_t gathered_sum = 16384;

/// Tokens with a target whose logits exist at a time: 1024 x 64000 fp32 are 262 MB.
inline constexpr std::int64_t logit_tokens = 1024;

/// Query heads of a key head from which on selective recomputation makes q, k and v again: at 4 their linears and
/// attention are about 9 % of a step, at 1 they are 13 %.
inline constexpr std::int64_t cheap_query_heads = 4;

}  // namespace caravan::layout
