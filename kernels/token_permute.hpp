// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/execution.hpp"
#include "kernels/router.hpp"

namespace caravan::kernels {

/// Orders the token-slot assignments by expert, stable by token. indices: [T, k], -1 on pads; counts: [E], assignments
/// per expert; slot_token: room for T * k, filled up to slots = sum of counts with the flat index token * k + j of each
/// slot; token_slot: [T, k], the inverse, -1 for pads.
void permute_by_expert(Execution execution, const std::int32_t* indices, RouterShape shape, std::int64_t* counts,
                       std::int32_t* slot_token, std::int32_t* token_slot);

/// out[s] = dropout(y[token of slot s]) with the key of the slot's expert and the identity of its token: no layout
/// changes an expert's mask. y: [T, hidden]; out: [slots, hidden]; slot_token: [slots] from permute_by_expert;
/// indices: [T * k], the expert of a flat index; tokens: [T], core::token_identity; expert_keys: [E], by global
/// expert, core::random_key; probability in [0, 1). T is float or Bf16.
template <typename T>
void gather_dropout(Execution execution, const T* y, T* out, std::int64_t slots, std::int64_t hidden,
                    const std::int32_t* slot_token, const std::int32_t* indices, std::int64_t topk,
                    const std::uint64_t* tokens, const std::uint64_t* expert_keys, double probability);

/// out[s] = in[slot_token[s] / topk]. in: [T, hidden]; out: [slots, hidden].
template <typename T>
void gather_rows(Execution execution, const T* in, T* out, std::int64_t slots, std::int64_t hidden,
                 const std::int32_t* slot_token, std::int64_t topk);

/// out[t] = y[t] + sum over j, in order, of rows[token_slot[t, j]], summed in fp32 and rounded once; slots of -1 add
/// nothing. y, out: [tokens, hidden] (y == out is allowed); rows: [slots, hidden]; token_slot: [tokens, topk].
template <typename T>
void combine(Execution execution, const T* y, const T* rows, T* out, std::int64_t tokens, std::int64_t hidden,
             std::int64_t topk, const std::int32_t* token_slot);

/// Backward of y -> (y, gather_dropout(y)): dy[t] = dout[t] + sum over j, in order, of mask_j o drows[slot_j] / (1 -
/// p). drows: [slots, hidden], the gradient of the dropped rows; the other arguments as in gather_dropout and combine;
/// tokens_id: [tokens], core::token_identity. dy == dout is allowed.
template <typename T>
void combine_dropout_backward(Execution execution, const T* dout, const T* drows, T* dy, std::int64_t tokens,
                              std::int64_t hidden, std::int64_t topk, const std::int32_t* token_slot,
                              const std::int32_t* indices, const std::uint64_t* tokens_id,
                              const std::uint64_t* expert_keys, double probability);

}  // namespace caravan::kernels
