// SPDX-License-Identifier: Apache-2.0
#include "evaluate/compare.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.hpp"
#include "evaluate/text_batch.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::evaluate {
namespace {

// Bounds the memory of logits: 128 rows of a vocabulary of 152064 are 78 MB in fp32.
constexpr std::int64_t rows_at_once = 128;

std::string digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

/// Sums over the positions of this rank, in fp64.
class Sums {
 public:
  explicit Sums(const TokenTexts& texts) {
    for (const auto& text : texts) starts_.push_back(starts_.back() + static_cast<std::int64_t>(text.size()));
  }

  void add(std::size_t text, std::int64_t first, at::Tensor logits, at::Tensor reference) {
    logits = logits.to(at::kDouble);
    reference = reference.to(at::kDouble);
    const at::Tensor finite = at::isfinite(logits).all(1), reference_finite = at::isfinite(reference).all(1);
    not_finite_ += at::isfinite(logits).logical_not().sum().item<std::int64_t>();
    reference_not_finite_ += at::isfinite(reference).logical_not().sum().item<std::int64_t>();
    const at::Tensor rows = finite.logical_and(reference_finite).nonzero().squeeze(1);
    logits = logits.index_select(0, rows);
    reference = reference.index_select(0, rows);
    if (rows.size(0) == 0) return;
    agreeing_ += logits.argmax(1).eq(reference.argmax(1)).sum().item<std::int64_t>();
    reference_sum_ += reference.sum().item<double>();
    reference_squares_ += reference.square().sum().item<double>();
    values_ += reference.numel();
    vocabulary_ = reference.size(1);
    const at::Tensor difference = logits.sub_(reference).abs_();
    sum_ += difference.sum().item<double>();
    squares_ += difference.square().sum().item<double>();
    const std::int64_t at = difference.argmax().item<std::int64_t>();
    const double largest = difference.flatten()[at].item<double>();
    if (largest_at_ >= 0 && largest <= largest_) return;
    largest_ = largest;
    largest_at_ =
        (starts_[text] + first + rows[at / vocabulary_].item<std::int64_t>()) * vocabulary_ + at % vocabulary_;
  }

  LogitDifference over(comm::Communicator& ranks) const {
    const auto total = [&](auto value) { return ranks.all_reduce("sum logit differences", value, comm::Reduce::sum); };
    const auto most = [&](auto value) {
      return ranks.all_reduce("largest logit difference", value, comm::Reduce::max);
    };
    LogitDifference result;
    result.positions = starts_.back();
    result.agreeing = total(agreeing_);
    result.not_finite = total(not_finite_);
    result.reference_not_finite = total(reference_not_finite_);
    const auto values = static_cast<double>(std::max<std::int64_t>(1, total(values_)));
    result.mean = total(sum_) / values;
    result.rms = std::sqrt(total(squares_) / values);
    const double reference_mean = total(reference_sum_) / values;
    result.deviation = std::sqrt(std::max(0.0, total(reference_squares_) / values - reference_mean * reference_mean));
    result.largest = most(largest_);
    const std::int64_t vocabulary = std::max<std::int64_t>(1, most(vocabulary_));
    const std::int64_t at = std::max<std::int64_t>(0, most(largest_ >= result.largest ? largest_at_ : -1));
    const std::int64_t row = at / vocabulary;
    result.text = std::upper_bound(starts_.begin(), starts_.end(), row) - starts_.begin() - 1;
    result.position = row - starts_[static_cast<std::size_t>(result.text)];
    result.token = at % vocabulary;
    return result;
  }

 private:
  std::vector<std::int64_t> starts_{0};  // of each text among all positions
  std::int64_t agreeing_ = 0, not_finite_ = 0, reference_not_finite_ = 0, values_ = 0, vocabulary_ = 0;
  double sum_ = 0, squares_ = 0, reference_sum_ = 0, reference_squares_ = 0;
  double largest_ = 0;
  std::int64_t largest_at_ = -1;  // position · vocabulary + token
};

}  // namespace

void run_texts(const parallel::Context& context, const model::Decoder& decoder, const TokenTexts& texts,
               const LogitsSink& sink) {
  const at::NoGradGuard no_grad;
  const auto ranks = static_cast<std::size_t>(context.grid.dp());
  // All ranks run the same number of passes, some with nothing in them: experts may lie on any rank.
  for (std::size_t begin = 0; begin < texts.size(); begin += ranks) {
    const std::size_t number = begin + static_cast<std::size_t>(context.grid.dp_rank());
    const data::TokenBatch batch = number < texts.size() ? text_batch(texts[number], number) : data::TokenBatch();
    const parallel::TokenAxis axis(parallel::token_rows(batch), context);
    const model::Pass pass{axis};
    const at::Tensor hidden = decoder.forward(pass);
    for (std::int64_t first = 0; first < axis.real; first += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, axis.real - first);
      const at::Tensor wanted = at::arange(first, first + rows, at::TensorOptions(at::kLong).device(context.device));
      sink(number, first, parallel::to_host(decoder.logits(hidden, wanted)));
    }
  }
}

LogitDifference compare_logits(const parallel::Context& context, const model::Decoder& decoder, const TokenTexts& texts,
                               const LogitsReference& reference) {
  Sums sums(texts);
  run_texts(context, decoder, texts, [&](std::size_t text, std::int64_t first, const at::Tensor& logits) {
    sums.add(text, first, logits, reference(text, first, logits.size(0)));
  });
  // The ranks of a TP group have the same sums.
  return sums.over(*context.groups.dp);
}

std::string LogitDifference::describe() const {
  std::string bad;
  if (not_finite > 0) bad += core::concat(not_finite, " logits are NaN or infinite; ");
  if (reference_not_finite > 0) bad += core::concat(reference_not_finite, " of the reference are NaN or infinite; ");
  return bad + core::concat("maximum absolute difference ", digits(largest), " (text ", text, ", position ", position,
                            ", token ", token, "), mean ", digits(mean), ", rms ", digits(rms),
                            " (the reference deviates by ", digits(deviation), "), top-1 agreement ",
                            digits(100 * agreement()), " % (", agreeing, " of ", positions, " positions)");
}

std::string LogitTolerance::describe() const {
  return "maximum absolute difference " + digits(largest) + (rms > 0 ? ", rms " + digits(rms) : "");
}

LogitTolerance same_weights(const LogitDifference& difference, std::int64_t layers) {
  const double depth = std::max(1.0, std::sqrt(static_cast<double>(layers) / 2));
  return {5e-5 * std::max(1.0, difference.deviation / 1.2) * depth, 0};
}

LogitTolerance rounded_weights(const LogitDifference& difference) {
  return {difference.deviation, 0.03 * difference.deviation};
}

bool within(const LogitDifference& difference, const LogitTolerance& tolerance) {
  return difference.not_finite == 0 && difference.reference_not_finite == 0 &&
         difference.largest <= tolerance.largest && (tolerance.rms == 0 || difference.rms <= tolerance.rms);
}

}  // namespace caravan::evaluate
