// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/decoder.hpp"

// Whether two models compute the same: their logits on the same tokens.
namespace caravan::evaluate {

/// Texts as tokens, each a document of its own; none is empty.
using TokenTexts = std::vector<std::vector<std::int32_t>>;

/// Gets the logits after tokens first, first + 1, … of a text: fp32 [rows, V], on the host.
using LogitsSink = std::function<void(std::size_t text, std::int64_t first, const at::Tensor& logits)>;

/// Runs the model without dropout, a text at a time on each data-parallel rank. Collective. `sink` is called, in order,
/// on every rank that computes the text: all tensor-parallel ranks of one data-parallel rank. Logits come some rows at
/// a time, so that [tokens, V] of a long text never exists.
void run_texts(const parallel::Context& context, const model::Decoder& decoder, const TokenTexts& texts,
               const LogitsSink& sink);

/// How far logits are from a reference's. The same on all ranks.
struct LogitDifference {
  std::int64_t positions = 0;                      // compared: tokens of all texts
  std::int64_t agreeing = 0;                       // positions at which both have the same most likely token
  std::int64_t not_finite = 0;                     // logits that are NaN or infinite, in positions that have any
  std::int64_t reference_not_finite = 0;           // the same of the reference
  double largest = 0;                              // absolute difference
  double mean = 0;                                 // of the absolute differences
  double rms = 0;                                  // root of the mean square difference
  double deviation = 0;                            // standard deviation of the reference's logits
  std::int64_t text = 0, position = 0, token = 0;  // where the largest one is

  double agreement() const {
    return positions > 0 ? static_cast<double>(agreeing) / static_cast<double>(positions) : 1;
  }
  /// "maximum absolute difference 2.4e-06 (text 0, position 7, token 13), mean …": one line.
  std::string describe() const;
};

/// What the logits should be: floating [rows, V] on the host, for rows [first, first + rows) of a text. Asked for texts
/// and rows as run_texts() computes them on this rank.
using LogitsReference = std::function<at::Tensor(std::size_t text, std::int64_t first, std::int64_t rows)>;

/// Collective. Differences are taken in fp64. Positions with values that are not finite are counted, and left out of
/// the rest.
LogitDifference compare_logits(const parallel::Context& context, const model::Decoder& decoder, const TokenTexts& texts,
                               const LogitsReference& reference);

/// What differences may be, absolute. A rms of 0: only the largest counts.
struct LogitTolerance {
  double largest = 0;
  double rms = 0;

  /// "maximum absolute difference 5e-05": what differences are held against.
  std::string describe() const;
};

/// For fp32 computation of equal weights: 5e-5 · max(1, deviation / 1.2) · max(1, √(layers / 2)). Two implementations
/// add in other orders. Measured on models of 2 layers whose logits deviate by 1.2: 2.4e-6; the 20-fold allows for
/// wider sums and more values. Errors of independent layers add like noise, so they grow with the root of their number,
/// and they are relative to the logits. A wrong weight, position or expert shows at the size of the deviation.
LogitTolerance same_weights(const LogitDifference& difference, std::int64_t layers);

/// For weights, or a reference's whole computation, rounded to 16 bits: rms 0.03 of the deviation, and none larger than
/// the deviation. bf16 rounds a weight by 1.6e-3 of itself (rms). Through the layers that measured 0.003 of the
/// deviation (rms; 4 layers, weights rounded) to 0.009 (2 layers, activations rounded too). The largest one tells
/// little of rounding: a token at a router's near tie goes to another expert and moves alone, by 0.18 of the deviation
/// in that measurement; but a row or tensor that is not the model's moves logits by more than they deviate.
LogitTolerance rounded_weights(const LogitDifference& difference);

/// Whether all is finite and within the tolerance.
bool within(const LogitDifference& difference, const LogitTolerance& tolerance);

}  // namespace caravan::evaluate
