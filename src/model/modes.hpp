// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

// Modes of a forward and backward pass that settings choose, with their spellings. Free of torch, so that options can
// name them.
namespace caravan::model {

/// Which activations backward makes again instead of finding them kept; the gradients have the same bits. Of a layer
/// stay, in numbers per token (H hidden, F feed-forward, K keys or values, k experts of inner width D):
///   none       6 H + 2 K + 3 F + k (H + D)
///   selective  2 H + 2 F + k D: outputs of o, gate, up, down and of the experts' Down. Norms, q, k, v, attention,
///              SwiGLU and the experts' inputs are made again, and the next layer's input by the experts' Up. Where
///              fewer than 4 query heads share a key head, q, k and v are dear and stay.
///   full       H: the layer's input
/// and in all three what is small: LoRA's inner activations, the norms' statistics, routing. Where the rows for the
/// experts travel in several rounds, their inputs, k H, are never kept.
enum class Recompute { none, selective, full };
constexpr std::array<std::string_view, 3> spellings(Recompute) { return {"none", "selective", "full"}; }

/// Over which tokens the shares f and p of the balance loss are taken.
enum class BalanceScope { batch, sequence };
constexpr std::array<std::string_view, 2> spellings(BalanceScope) { return {"batch", "sequence"}; }

}  // namespace caravan::model
