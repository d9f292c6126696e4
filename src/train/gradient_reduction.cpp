// SPDX-License-Identifier: Apache-2.0
#include "train/gradient_reduction.hpp"

#include <utility>

#include "core/error.hpp"
#include "parallel/collectives.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::train {
namespace {

// Each bucket under way has a receive buffer of its own size.
constexpr std::size_t most_under_way = 4;

}  // namespace

void GradientReduction::begin() {
  missing_.clear();
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    missing_.push_back(buckets_[b].members.size());
    for (parallel::Trainable* member : buckets_[b].members) member->on_gradient = [this, b] { gradient_added(b); };
  }
}

void GradientReduction::gradient_added(std::size_t bucket) {
  CARAVAN_CHECK(missing_[bucket] > 0, "a gradient is complete for the second time");
  --missing_[bucket];
  // A bucket that is complete early waits for those before it: all ranks send in the same order.
  while (sums_.size() < buckets_.size() && missing_[sums_.size()] == 0) send_next();
  if (waited_ < under_way_.size()) buckets_[waited_].replicas->advance();
}

void GradientReduction::send_next() {
  parallel::Bucket& bucket = buckets_[sums_.size()];
  if (under_way_.size() - waited_ == most_under_way) under_way_[waited_++].wait();
  if (bucket.replicas->size() == 1) {
    sums_.push_back(bucket.gradients);
    under_way_.emplace_back();
    return;
  }
  sums_.push_back(at::empty({bucket.owned_count}, bucket.gradients.options()));
  under_way_.push_back(bucket.replicas->reduce_scatter("reduce gradients", bucket.gradients.const_data_ptr(),
                                                       sums_.back().data_ptr(), bucket.counts, core::DType::f32,
                                                       parallel::place_of(bucket.gradients)));
}

std::vector<at::Tensor> GradientReduction::finish() {
  ignore_gradients();
  while (sums_.size() < buckets_.size()) send_next();
  for (; waited_ < under_way_.size(); ++waited_) under_way_[waited_].wait();
  under_way_.clear();
  waited_ = 0;
  return std::exchange(sums_, {});
}

void GradientReduction::ignore_gradients() {
  for (parallel::Bucket& bucket : buckets_) {
    for (parallel::Trainable* member : bucket.members) member->on_gradient = nullptr;
  }
}

}  // namespace caravan::train
