// SPDX-License-Identifier: Apache-2.0
#include "train/sharded_adamw.hpp"

#include <cmath>

#include "parallel/collectives.hpp"
#include "parallel/device_tensors.hpp"
#include "parallel/tensor_kernels.hpp"

namespace caravan::train {

ShardedAdamW::ShardedAdamW(parallel::Parameters& parameters, const parallel::Context& context, const Options& options)
    : context_(context), options_(options), reduction_(parameters.buckets()) {
  for (parallel::Bucket& bucket : parameters.buckets()) {
    const at::TensorOptions fp32 = bucket.gradients.options();
    const at::Tensor owned = bucket.values.narrow(0, bucket.owned_begin, bucket.owned_count);
    // Where the computation is fp32 the owned part of the values is the master. Elsewhere the values are rounded, and
    // what was lost comes with load().
    states_.push_back({&bucket, owned.scalar_type() == at::kFloat ? owned : owned.to(at::kFloat),
                       at::zeros({bucket.owned_count}, fp32), at::zeros({bucket.owned_count}, fp32), at::Tensor()});
  }
}

void ShardedAdamW::reduce_gradients() {
  const std::vector<at::Tensor> sums = reduction_.finish();
  for (std::size_t b = 0; b < states_.size(); ++b) states_[b].gradient = sums[b];
}

at::Tensor ShardedAdamW::squared_gradients() const {
  at::Tensor squares = at::zeros({}, at::TensorOptions(at::kDouble).device(context_.device));
  for (const State& state : states_) squares.add_(parallel::sum_of_squares(state.gradient));
  return squares;
}

double ShardedAdamW::gradient_norm(double squared_gradients) const {
  return std::sqrt(context_.groups.world->all_reduce("sum of squared gradients", squared_gradients, comm::Reduce::sum));
}

void ShardedAdamW::update(std::int64_t step, double lr, double gradient_scale) {
  const parallel::AdamW settings{lr, options_.beta1, options_.beta2, options_.eps, options_.weight_decay, step};
  std::vector<comm::Pending> gathers;  // while the next bucket is updated
  for (State& state : states_) {
    parallel::Bucket& bucket = *state.bucket;
    parallel::adamw(state.master, state.exp_avg, state.exp_avg_sq, state.gradient, gradient_scale, settings);
    at::Tensor owned = bucket.values.narrow(0, bucket.owned_begin, bucket.owned_count);
    if (owned.scalar_type() != at::kFloat) owned.copy_(state.master);
    gathers.push_back(bucket.replicas->all_gather("gather updated parameters", owned.const_data_ptr(),
                                                  bucket.values.data_ptr(), bucket.counts,
                                                  parallel::dtype_of(owned.scalar_type()), parallel::place_of(owned)));
  }
  for (comm::Pending& gather : gathers) gather.wait();
}

std::vector<ShardedAdamW::Piece> ShardedAdamW::owned_pieces() {
  std::vector<Piece> pieces;
  for (State& state : states_) {
    const parallel::Bucket& bucket = *state.bucket;
    const std::vector<layout::Rows>& rows = bucket.owned_rows();
    std::int64_t at = 0;
    for (std::size_t i = 0; i < bucket.members.size(); ++i) {
      const parallel::Trainable& member = *bucket.members[i];
      for (const layout::Rectangle& part : layout::rectangles_of(member.slice, rows[i])) {
        const auto add = [&](const std::string& prefix, at::Tensor& values) {
          pieces.push_back({prefix + member.spec.name, member.spec.shape, part, values.data_ptr<float>() + at});
        };
        add("", state.master);
        add("optimizer/exp_avg/", state.exp_avg);
        add("optimizer/exp_avg_sq/", state.exp_avg_sq);
        at += part.count();
      }
    }
  }
  return pieces;
}

std::vector<std::string> ShardedAdamW::tensor_names() const {
  std::vector<std::string> names;
  for (const State& state : states_) {
    for (const parallel::Trainable* member : state.bucket->members) {
      for (const char* prefix : {"", "optimizer/exp_avg/", "optimizer/exp_avg_sq/"}) {
        names.push_back(prefix + member->spec.name);
      }
    }
  }
  return names;
}

void ShardedAdamW::load(const layout::TensorSource& source) {
  // An earlier load may have filled them in part before it met damage.
  for (State& state : states_) {
    state.exp_avg.zero_();
    state.exp_avg_sq.zero_();
  }
  for (const Piece& piece : owned_pieces()) {
    if (source.contains(piece.name)) source.read(piece.name, piece.part, core::DType::f32, piece.data);
  }
}

}  // namespace caravan::train
