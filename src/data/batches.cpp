// SPDX-License-Identifier: Apache-2.0
#include "data/batches.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.hpp"
#include "core/random.hpp"
#include "core/text.hpp"

namespace caravan::data {
namespace {

constexpr std::int32_t no_target = -100;

/// Uniform in [0, bound): the upper half of a 64 × 64 bit product (Lemire, "Fast random integer generation in an
/// interval", 2019) without its rejection; the bias is below bound / 2^64.
std::uint64_t draw_below(std::uint64_t key, std::uint64_t counter, std::uint64_t bound) {
  const auto words = core::philox(key, counter);
  const std::uint64_t random = (std::uint64_t{words[1]} << 32) | words[0];
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(random) * bound) >> 64);
}

std::int64_t accumulation_of(const BatchOptions& options) {
  const auto [seed, shuffle, batch, micro, dp] = options;
  CARAVAN_CHECK(batch > 0 && micro > 0 && dp > 0);
  CARAVAN_CHECK(batch % dp == 0 && batch / dp % micro == 0, batch, " over ", dp, " ranks in micro-batches of ", micro);
  return batch / dp / micro;
}

}  // namespace

Batches::Batches(const PackedFile& file, const BatchOptions& options)
    : file_(file), options_(options), accumulation_(accumulation_of(options)) {
  if (file.sequences() == 0) core::bad_input(file.path(), ": holds no sequence");
}

const std::vector<std::int64_t>& Batches::order_of(std::int64_t epoch) {
  if (epoch == ordered_epoch_) return order_;
  order_.resize(static_cast<std::size_t>(file_.sequences()));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  if (options_.shuffle) {
    const std::uint64_t key =
        core::random_key(options_.seed, core::RandomUse::data_order, static_cast<std::uint64_t>(epoch), 0);
    for (std::size_t i = order_.size(); i-- > 1;) std::swap(order_[i], order_[draw_below(key, i, i + 1)]);
  }
  ordered_epoch_ = epoch;
  return order_;
}

GlobalBatch Batches::next(Position& position) {
  const std::int64_t n = file_.sequences();
  if (position.epoch < 0 || position.index < 0 || position.index >= n) {
    core::bad_input(file_.path(), ": holds ", n, " sequences, so training cannot go on at sequence ", position.index,
                    " of epoch ", position.epoch, "; this is not the file that the run began with");
  }
  const auto& order = order_of(position.epoch);
  const std::int64_t end = std::min(n, position.index + options_.batch);
  GlobalBatch global;
  for (std::int64_t i = position.index; i < end; ++i) {
    const std::int64_t sequence = order[static_cast<std::size_t>(i)];
    global.samples.push_back({sequence, static_cast<std::uint64_t>(position.epoch * n + i)});
    global.tokens += file_.length(sequence);
    global.targets += file_.targets(sequence);
  }
  position = end == n ? Position{position.epoch + 1, 0} : Position{position.epoch, end};
  return global;
}

TokenBatch Batches::micro_batch(const GlobalBatch& global, std::int64_t m, std::int64_t dp_rank) const {
  CARAVAN_CHECK(m >= 0 && m < accumulation_ && dp_rank >= 0 && dp_rank < options_.dp_size);
  const auto count = static_cast<std::int64_t>(global.samples.size());
  const std::int64_t begin = std::min(count, (m * options_.dp_size + dp_rank) * options_.micro_batch);
  const std::int64_t end = std::min(count, begin + options_.micro_batch);
  const auto tokens = file_.tokens();
  const auto labelled = file_.labelled();
  const auto documents = file_.document_starts();
  TokenBatch batch;
  for (std::int64_t row = begin; row < end; ++row) {
    const Sample& sample = global.samples[static_cast<std::size_t>(row)];
    const std::uint64_t sequence_start = file_.first_token(sample.sequence);
    const auto sequences = file_.sequence_starts().subspan(static_cast<std::size_t>(sample.sequence), 2);
    for (std::uint64_t d = sequences[0]; d < sequences[1]; ++d) {
      for (std::uint64_t t = documents[d]; t < documents[d + 1]; ++t) {
        const bool is_target = t + 1 < documents[d + 1] && labelled[t + 1] != 0;
        batch.tokens.push_back(tokens[t]);
        batch.targets.push_back(is_target ? tokens[t + 1] : no_target);
        batch.positions.push_back(static_cast<std::int32_t>(t - documents[d]));
        batch.sequence.push_back(static_cast<std::int32_t>(row - begin));
        batch.identity.push_back(core::token_identity(sample.ordinal, static_cast<std::uint32_t>(t - sequence_start)));
      }
      batch.document_starts.push_back(static_cast<std::int64_t>(batch.tokens.size()));
    }
  }
  return batch;
}

}  // namespace caravan::data
