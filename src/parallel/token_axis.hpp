// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/context.hpp"

namespace caravan::parallel {

/// The tokens of one micro-batch of a DP rank as plain arrays, documents one after another, without padding.
struct TokenRows {
  std::span<const std::int32_t> ids;
  std::span<const std::int32_t> positions;        // in the document, from 0
  std::span<const std::int32_t> sequence;         // which sequence of the micro-batch, from 0
  std::span<const std::uint64_t> identity;        // core::token_identity
  std::span<const std::int64_t> document_starts;  // D + 1 offsets; attention never crosses them
};

/// Any struct with these fields, such as data::TokenBatch, as rows. It must outlive the result.
template <typename Batch>
TokenRows token_rows(const Batch& batch) {
  return {batch.tokens, batch.positions, batch.sequence, batch.identity, batch.document_starts};
}

/// The tokens that have a target, the next token, and the targets.
struct TokenTargets {
  at::Tensor rows;  // int64 [n], ascending: rows of the token axis
  at::Tensor ids;   // int64 [n]
};

/// The flattened token axis of one forward pass, T tokens, the same on all ranks of a TP group. T is the number of
/// tokens rounded up to a multiple of TP; pad rows stand at the end, have id −1 and sequence −1, and take no part in
/// attention, routing, loss or statistics. Each TP rank holds the shard of T/TP consecutive rows.
struct TokenAxis {
  TokenAxis(const TokenRows& rows, const Context& context);

  std::int64_t tokens = 0;       // T
  std::int64_t real = 0;         // without pads
  std::int64_t shard = 0;        // T / TP
  std::int64_t shard_begin = 0;  // first row of this rank's shard
  std::int64_t sequences = 0;    // in the micro-batch
  at::Tensor ids;                // int64 [T]
  at::Tensor positions;          // int32 [T]
  at::Tensor identity;           // int64 [T], the bits of core::token_identity
  at::Tensor sequence;           // int32 [T]
  std::vector<std::int64_t> document_starts;

  /// targets: one for each token without pads; a negative one, such as −100, is none.
  TokenTargets targets_of(std::span<const std::int32_t> targets) const;

  /// This rank's rows of a tensor whose dimension 0 is the token axis.
  at::Tensor shard_of(const at::Tensor& rows) const { return rows.narrow(0, shard_begin, shard); }
};

}  // namespace caravan::parallel
