// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "family/model_spec.hpp"
#include "layout/options.hpp"

namespace caravan::family {

/// How training cuts a batch: over data-parallel ranks and, on each of them, into micro-batches.
struct BatchSplit {
  std::int64_t batch = 1;        // train.batch
  std::int64_t micro_batch = 1;  // train.micro_batch
};

/// What a layout must divide: the ranks and the model over tp, the ranks and the experts over ep (a model without
/// experts has ep 1), and, where `batch` is given, the batch over world / tp data-parallel ranks times micro-batch.
/// Throws (exit 2) one line with all that does not fit, every tp and ep that would fit these ranks with the divisors
/// that train.micro_batch may be, and the numbers of ranks and batches with which the layout could stay as it is. When
/// nothing fits these ranks, the same for the nearest numbers of ranks that something fits.
void require_layout(const ModelSpec& spec, int world, const layout::Options& layout,
                    const std::optional<BatchSplit>& batch);

}  // namespace caravan::family
