// SPDX-License-Identifier: Apache-2.0
// Which rank holds and owns what, at every layout.
#include <set>

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

using layout::Axis;
using layout::Split;

const std::vector<layout::ParameterSpec> specs{
    {"base", {8, 4}, core::DType::f32, Split{1, Axis::tp}, false},
    {"norm", {8}, core::DType::f32, Split{0, Axis::tp}, false},
    {"router", {5, 3}, core::DType::f32, {}, true},
    {"one row", {1, 6}, core::DType::f32, {}, true},
    {"column", {8, 3}, core::DType::f32, Split{0, Axis::tp}, true},
    {"row", {3, 8}, core::DType::f32, Split{1, Axis::tp}, true},
    {"experts", {4, 3, 2}, core::DType::f32, Split{0, Axis::ep}, true},
};

template <typename Work>
void at_every_layout(const Work& work) {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    parallel::Parameters parameters(specs, grid.context);
    work(grid, parameters);
  }
}

}  // namespace

TEST_CASE("buckets hold every trainable once, side by side") {
  at_every_layout([](const OnGrid& grid, parallel::Parameters& parameters) {
    std::multiset<std::string> names;
    for (const parallel::Bucket& bucket : parameters.buckets()) {
      std::int64_t at = 0;
      for (const parallel::Trainable* member : bucket.members) {
        names.insert(member->spec.name);
        CHECK(member->slice == layout::slice_of(member->spec, grid.context.grid));
        CHECK(member->value.data_ptr<float>() == bucket.values.data_ptr<float>() + at);
        CHECK(member->gradient.data_ptr<float>() == bucket.gradients.data_ptr<float>() + at);
        CHECK(member->value.sizes().vec() == member->slice.extent);
        const auto replicas = layout::replicas_of(member->spec, grid.context.grid);
        CHECK(bucket.replicas->size() == static_cast<int>(replicas.size()));
        at += member->slice.count();
      }
      CHECK(bucket.values.numel() == at);
      CHECK(bucket.gradients.numel() == at);
    }
    CHECK(names == std::multiset<std::string>{"router", "one row", "column", "row", "experts"});
  });
}

TEST_CASE("what the replicas own tiles the bucket in whole rows") {
  at_every_layout([](const OnGrid&, parallel::Parameters& parameters) {
    for (parallel::Bucket& bucket : parameters.buckets()) {
      const auto ranks = static_cast<std::size_t>(bucket.replicas->size());
      const std::int64_t mine[2]{bucket.owned_begin, bucket.owned_count};
      std::vector<std::int64_t> all(2 * ranks);
      bucket.replicas
          ->all_gather("gather owned ranges", mine, all.data(), comm::Communicator::Counts(ranks, 2), core::DType::i64)
          .wait();
      std::int64_t at = 0;
      std::vector<std::int64_t> next_row(bucket.members.size(), 0);
      for (std::size_t r = 0; r < ranks; ++r) {
        CHECK(all[2 * r] == at);
        CHECK(all[2 * r + 1] == bucket.counts[r]);
        std::int64_t in_rows = 0;
        for (std::size_t i = 0; i < bucket.members.size(); ++i) {
          const layout::Rows& rows = bucket.rows[r][i];
          if (rows.count() == 0) continue;
          CHECK(rows.begin == next_row[i]);
          next_row[i] = rows.end;
          in_rows += rows.count() * layout::as_matrix(bucket.members[i]->slice).width;
        }
        CHECK(in_rows == bucket.counts[r]);
        at += bucket.counts[r];
      }
      CHECK(at == bucket.values.numel());
      for (std::size_t i = 0; i < bucket.members.size(); ++i) {
        CHECK(next_row[i] == layout::as_matrix(bucket.members[i]->slice).rows);
      }
    }
  });
}

TEST_CASE("slices are read where they belong, and gradients can be zeroed") {
  at_every_layout([](const OnGrid& grid, parallel::Parameters& parameters) {
    const MemorySource source = random_parameters(specs);
    parameters.load_frozen(source);
    parameters.load_trainable(source);
    for (const layout::ParameterSpec& spec : specs) {
      const at::Tensor wanted = part_of(source.tensors.at(spec.name), layout::slice_of(spec, grid.context.grid));
      CHECK(value_of(parameters, spec).equal(wanted));
    }
    parameters.trainable("column").gradient.fill_(3);
    CHECK(parameters.trainable("column").gradient.sum().item<double>() > 0);
    parameters.zero_gradients();
    for (const parallel::Bucket& bucket : parameters.buckets()) {
      CHECK(bucket.gradients.equal(at::zeros_like(bucket.gradients)));
    }
    CHECK_THROWS_AS(parameters.trainable("base"), core::Error);
    CHECK_THROWS_AS(parameters.frozen("router"), core::Error);
    CHECK_THROWS_AS(parameters.frozen("norm"), core::Error);
    CHECK_THROWS_AS(parameters.frozen_vector("base"), core::Error);
  });
}

TEST_CASE("gradients of bf16 factors are summed in fp32") {
  // More rows than are widened at a time. Products of bf16 numbers are exact in fp32; sums of 1500 of them below 1 err
  // by some 1e-6, a sum rounded to bf16 by up to 0.1.
  const at::Tensor left = noise({1500, 5}, "left").to(at::kBFloat16),
                   right = noise({1500, 7}, "right").to(at::kBFloat16);
  at::Tensor gradient = noise({5, 7}, "gradient");
  const at::Tensor wanted = gradient.to(at::kDouble) + 0.25 * at::mm(left.to(at::kDouble).t(), right.to(at::kDouble));
  parallel::add_product(gradient, left, right, 0.25);
  CHECK(gradient.scalar_type() == at::kFloat);
  CHECK(max_difference(gradient, wanted) < 1e-5);
  parallel::add_product(gradient, left.narrow(0, 0, 0), right.narrow(0, 0, 0), 1.0);
  CHECK(max_difference(gradient, wanted) < 1e-5);
}

TEST_CASE("values are read into the compute type") {
  const OnGrid grid(1, 1, at::kBFloat16);
  parallel::Parameters parameters(specs, grid.context);
  const MemorySource source = random_parameters(specs);
  parameters.load_frozen(source);
  parameters.load_trainable(source);
  for (const layout::ParameterSpec& spec : specs) {
    const at::Tensor wanted =
        part_of(source.tensors.at(spec.name), layout::slice_of(spec, grid.context.grid)).to(at::kBFloat16);
    CHECK(value_of(parameters, spec).equal(wanted));
  }
}

}  // namespace caravan::tests
