// SPDX-License-Identifier: Apache-2.0
// What tests of distributed parts compare with: whole tensors on every rank, plain torch autograd, a world of one.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "comm/mpi_runtime.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "data/batches.hpp"
#include "parallel/collectives.hpp"
#include "parallel/parameters.hpp"
#include "parallel/tensor_kernels.hpp"

namespace caravan::tests {

/// Uniform in ±size, the same on every rank.
inline at::Tensor noise(const layout::Shape& shape, const std::string& name, double size = 1) {
  at::Tensor tensor = at::empty(shape);
  const std::uint64_t key = core::hash_name(name.data(), name.size());
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<float>()[i] =
        static_cast<float>((2.0 * core::uniform(key, static_cast<std::uint64_t>(i)) - 1.0) * size);
  }
  return tensor;
}

/// A leaf of torch's own autograd.
inline at::Tensor leaf(const at::Tensor& value) { return value.detach().clone().requires_grad_(); }

/// A leaf's gradient; zeros where nothing arrived.
inline at::Tensor gradient_of(const at::Tensor& tensor) {
  return tensor.grad().defined() ? tensor.grad() : at::zeros_like(tensor);
}

/// Whole fp32 tensors in memory.
class MemorySource final : public layout::TensorSource {
 public:
  std::map<std::string, at::Tensor> tensors;

  bool contains(const std::string& name) const override { return tensors.count(name) > 0; }
  Info info(const std::string& name) const override { return {tensors.at(name).sizes().vec(), core::DType::f32}; }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    const at::Tensor whole = tensors.at(name).contiguous();
    at::Tensor box = at::empty(part.extent);
    layout::copy_part(part, layout::whole(whole.sizes().vec()), whole.data_ptr(), part, box.data_ptr(), sizeof(float));
    core::convert(box.data_ptr(), core::DType::f32, target, dtype, static_cast<std::size_t>(part.count()));
  }
  std::string where() const override { return "memory"; }
};

/// Noise for every parameter: weights of about unit gain, and norms near one.
inline MemorySource random_parameters(const std::vector<layout::ParameterSpec>& specs, double gain = 1.5) {
  MemorySource source;
  for (const layout::ParameterSpec& spec : specs) {
    const double fan_in = static_cast<double>(spec.shape.back());
    const bool norm = spec.shape.size() == 1;
    at::Tensor value = noise(spec.shape, spec.name, norm ? 0.3 : gain / std::sqrt(fan_in));
    source.tensors[spec.name] = norm ? value + 1 : value;
  }
  return source;
}

/// The part of a whole tensor.
inline at::Tensor part_of(const at::Tensor& whole, const layout::Rectangle& part) {
  at::Tensor result = whole;
  for (std::size_t d = 0; d < part.extent.size(); ++d) {
    result = result.narrow(static_cast<std::int64_t>(d), part.offset[d], part.extent[d]);
  }
  return result;
}

/// What a rank has of a parameter.
inline at::Tensor value_of(parallel::Parameters& parameters, const layout::ParameterSpec& spec) {
  if (spec.trainable) return parameters.trainable(spec.name).value;
  if (spec.shape.size() == 1) return parameters.frozen_vector(spec.name);
  const parallel::FrozenWeight& weight = parameters.frozen(spec.name);
  return weight.rows(at::arange(weight.out_features(), at::kLong));
}

/// A world of one rank, whatever the job's is.
struct Alone {
  Alone() {
    groups.world = comm::make_serial_communicator("world");
    groups.tp = comm::make_serial_communicator("tp");
    groups.dp = comm::make_serial_communicator("dp");
    groups.ep = comm::make_serial_communicator("ep");
    groups.edp = comm::make_serial_communicator("edp");
  }
  comm::Groups groups;
  parallel::Context context{layout::Grid(1, 0, {}), groups};
};

/// Sequences of these lengths, a document each, with noise for tokens; about two thirds of them have a target.
inline data::TokenBatch random_batch(const std::vector<std::int64_t>& lengths, std::uint64_t first_ordinal,
                                     std::int64_t vocabulary) {
  data::TokenBatch batch;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const std::uint64_t ordinal = first_ordinal + s;
    for (std::int64_t t = 0; t < lengths[s]; ++t) {
      const std::uint64_t identity = core::token_identity(ordinal, static_cast<std::uint32_t>(t));
      const std::uint64_t drawn = core::mix64(identity + 17);
      batch.tokens.push_back(static_cast<std::int32_t>(drawn % static_cast<std::uint64_t>(vocabulary)));
      const auto next = static_cast<std::int32_t>((drawn >> 20) % static_cast<std::uint64_t>(vocabulary));
      batch.targets.push_back(t + 1 < lengths[s] && (drawn >> 40) % 3 != 0 ? next : -100);
      batch.positions.push_back(static_cast<std::int32_t>(t));
      batch.sequence.push_back(static_cast<std::int32_t>(s));
      batch.identity.push_back(identity);
    }
    if (lengths[s] > 0) batch.document_starts.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  return batch;
}

/// Batches one after another as one; sequences count on.
inline data::TokenBatch joined(const std::vector<data::TokenBatch>& batches) {
  data::TokenBatch all;
  std::int32_t sequences = 0;
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const data::TokenBatch& batch : batches) {
    const auto before = static_cast<std::int64_t>(all.tokens.size());
    append(all.tokens, batch.tokens);
    append(all.targets, batch.targets);
    append(all.positions, batch.positions);
    append(all.identity, batch.identity);
    for (const std::int32_t s : batch.sequence) all.sequence.push_back(sequences + s);
    if (!all.sequence.empty()) sequences = all.sequence.back() + 1;
    for (std::size_t d = 1; d < batch.document_starts.size(); ++d) {
      all.document_starts.push_back(before + batch.document_starts[d]);
    }
  }
  return all;
}

/// What dropout multiplies by: 0 or 1/(1 − p), [tokens, units], one value at a time from the definition.
inline at::Tensor dropout_factors(std::uint64_t key, const std::vector<std::uint64_t>& identity, std::int64_t units,
                                  double probability) {
  at::Tensor factors = at::ones({static_cast<std::int64_t>(identity.size()), units});
  if (probability == 0) return factors;
  const std::uint32_t threshold = core::dropout_threshold(probability);
  for (std::size_t t = 0; t < identity.size(); ++t) {
    const std::uint64_t row = core::dropout_row_key(key, identity[t]);
    for (std::int64_t u = 0; u < units; ++u) {
      const bool dropped = core::dropout_bits(row, static_cast<std::uint32_t>(u)) < threshold;
      factors.data_ptr<float>()[static_cast<std::int64_t>(t) * units + u] =
          dropped ? 0.0F : static_cast<float>(1.0 / (1.0 - probability));
    }
  }
  return factors;
}

/// Rows of a tensor with zero rows appended up to `rows`.
inline at::Tensor padded(const at::Tensor& values, std::int64_t rows) {
  auto sizes = values.sizes().vec();
  sizes[0] = rows - sizes[0];
  return at::cat({values, at::zeros(sizes, values.options())});
}

/// Gradients of all trainables, summed over the replicas: this rank's slices by name. Collective.
inline std::map<std::string, at::Tensor> reduced_gradients(parallel::Parameters& parameters) {
  std::map<std::string, at::Tensor> result;
  for (parallel::Bucket& bucket : parameters.buckets()) {
    at::Tensor sums = bucket.gradients.clone();
    parallel::all_reduce(*bucket.replicas, "sum gradients for comparison", sums, comm::Reduce::sum);
    std::int64_t at = 0;
    for (const parallel::Trainable* member : bucket.members) {
      result[member->spec.name] = sums.narrow(0, at, member->slice.count()).view(member->slice.extent);
      at += member->slice.count();
    }
  }
  return result;
}

}  // namespace caravan::tests
