// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "data/packed_file.hpp"

namespace caravan::data {

/// Where training stands in the data: `index` sequences of epoch `epoch` were used. Part of a checkpoint.
struct Position {
  std::int64_t epoch = 0;
  std::int64_t index = 0;  // in [0, sequences)
  friend bool operator==(const Position&, const Position&) = default;
};

struct Sample {
  std::int64_t sequence = 0;  // in the packed file
  std::uint64_t ordinal = 0;  // epoch · sequences + place in the epoch's order: no layout or restart changes it
};

/// The sequences of one optimizer step over all ranks, in order.
struct GlobalBatch {
  std::vector<Sample> samples;  // `batch` of them, fewer at the end of an epoch
  std::int64_t tokens = 0;
  std::int64_t targets = 0;  // response tokens, the loss's denominator; may be 0 with template idae_official
};

/// What one data-parallel rank computes in one micro-step; T tokens in D documents, possibly none. Documents follow
/// each other without padding.
struct TokenBatch {
  std::vector<std::int32_t> tokens;   // [T]
  std::vector<std::int32_t> targets;  // [T], the next token's id if it is labelled and of the same document, else −100
  std::vector<std::int32_t> positions;           // [T], from 0 in every document
  std::vector<std::int32_t> sequence;            // [T], which of this rank's sequences in this micro-step, from 0
  std::vector<std::uint64_t> identity;           // [T], core::token_identity(ordinal, place in the sequence)
  std::vector<std::int64_t> document_starts{0};  // [D+1], then T
};

struct BatchOptions {
  std::uint64_t seed = 0;
  bool shuffle = true;           // a new order each epoch, from (seed, epoch) alone; false: the file's
  std::int64_t batch = 1;        // sequences of a step, over all ranks
  std::int64_t micro_batch = 1;  // sequences of a micro-step, per data-parallel rank
  std::int64_t dp_size = 1;
};

/// Cuts a packed file into batches. Every rank makes the same GlobalBatch and takes its own part of it.
class Batches {
 public:
  /// `file` must outlive this. dp_size · micro_batch divides batch: a user's numbers are checked with the layout.
  /// Throws (exit 2) when the file has no sequence.
  Batches(const PackedFile& file, const BatchOptions& options);

  /// Micro-steps of a full batch: batch / (dp_size · micro_batch).
  std::int64_t accumulation() const { return accumulation_; }

  /// The batch at `position`, which moves behind it. Batches do not cross epochs: the last of one holds what is left.
  /// Throws (exit 2) when `position` is not in this file.
  GlobalBatch next(Position& position);

  /// Part of data-parallel rank `dp_rank` in micro-step m of [0, accumulation()): samples
  /// [(m · dp_size + dp_rank) · micro_batch, … + micro_batch) of the batch, as far as they exist.
  TokenBatch micro_batch(const GlobalBatch& global, std::int64_t m, std::int64_t dp_rank) const;

 private:
  const std::vector<std::int64_t>& order_of(std::int64_t epoch);

  const PackedFile& file_;
  BatchOptions options_;
  std::int64_t accumulation_ = 0;
  std::int64_t ordered_epoch_ = -1;
  std::vector<std::int64_t> order_;  // [sequences] of ordered_epoch_
};

}  // namespace caravan::data
