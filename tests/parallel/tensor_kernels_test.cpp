// SPDX-License-Identifier: Apache-2.0
// Tensors that a kernel would read or write wrongly are refused before it runs. What kernels compute is tested in
// tests/kernels.
#include "parallel/tensor_kernels.hpp"

#include <functional>

#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

constexpr std::int64_t tokens = 6, width = 8, experts = 4, topk = 2;

/// A tensor with every other column left out.
at::Tensor gaps(const at::Tensor& whole) {
  return at::cat({whole, whole}, -1).unflatten(-1, {whole.size(-1), 2}).select(-1, 0);
}

/// The error names the kernel and the tensor, and says what is wrong.
void refuses(const std::string& says, const std::function<void()>& call) {
  CAPTURE(says);
  try {
    call();
    FAIL_CHECK("no error");
  } catch (const core::Error& error) {
    CAPTURE(error.what());
    CHECK(std::string(error.what()).find(says) != std::string::npos);
    CHECK(error.code() == core::ExitCode::internal);
  }
}

struct Tensors {
  at::Tensor x = noise({tokens, width}, "x");
  at::Tensor identity = at::arange(tokens, at::kLong);
  at::Tensor logits = noise({tokens, experts}, "logits");
  at::Tensor row = at::zeros({tokens}, at::kInt);
  parallel::Routing routing = parallel::route(logits, row, topk);
  parallel::Permutation permutation = parallel::permute_by_expert(routing, experts);
  parallel::ExpertDropout mask{at::arange(experts, at::kLong), identity, 0.25};
};

}  // namespace

TEST_CASE("kernels refuse tensors of another type, size, or with gaps") {
  start_kernels();
  const Tensors t;
  const parallel::DropoutMask mask{1, 0.5, 0};
  const at::Tensor bf16 = t.x.to(at::kBFloat16);
  refuses("dropout: identity is of type Int, not Long", [&] { parallel::dropout(t.x, t.identity.to(at::kInt), mask); });
  refuses("dropout: identity has 5 elements, not 6",
          [&] { parallel::dropout(t.x, t.identity.narrow(0, 0, tokens - 1), mask); });
  refuses("dropout: x is not contiguous", [&] { parallel::dropout(gaps(t.x), t.identity, mask); });
  refuses("dropout: a tensor of 1 dimensions", [&] { parallel::dropout(t.x[0], t.identity, mask); });
  refuses("no kernels for activations of type Double",
          [&] { parallel::dropout(t.x.to(at::kDouble), t.identity, mask); });
  at::Tensor sum = bf16.clone();
  refuses("add_dropout: sum is of type BFloat16, not Float",
          [&] { parallel::add_dropout(sum, t.x, t.identity, mask); });
  refuses("rms_norm: weight is of type BFloat16, not Float", [&] { parallel::rms_norm(t.x, bf16[0], 1e-5); });
  refuses("rms_norm: weight has 4 elements, not 8", [&] { parallel::rms_norm(t.x, t.logits[0], 1e-5); });
  refuses("rms_norm: weight is undefined", [&] { parallel::rms_norm(t.x, {}, 1e-5); });
  refuses("swiglu: up is of type BFloat16, not Float", [&] { parallel::swiglu(t.x, bf16); });
  refuses("swiglu: up is not contiguous", [&] { parallel::swiglu(t.x, gaps(t.x)); });
  at::Tensor heads = t.x.clone();
  refuses("rotary: rows of 8 in heads of 6",
          [&] { parallel::rotary(heads, 6, t.row, noise({3}, "frequency"), false); });
  refuses("rotary: positions is of type Long, not Int",
          [&] { parallel::rotary(heads, 4, t.identity, noise({2}, "frequency"), false); });
  refuses("rotary: inverse frequency has 3 elements, not 2",
          [&] { parallel::rotary(heads, 4, t.row, noise({3}, "frequency"), false); });
  CHECK(heads.equal(t.x));
  at::Tensor weight = noise({width}, "w"), first = at::zeros({width}), second = at::zeros({width});
  refuses("adamw: gradient is of type BFloat16, not Float", [&] {
    parallel::adamw(weight, first, second, bf16[0], 1, {1, 0.9, 0.95, 1e-8, 0, 1});
  });
  refuses("sum_of_squares: x is not contiguous", [&] { parallel::sum_of_squares(gaps(t.x)); });
}

TEST_CASE("the kernels of routing refuse them, too") {
  start_kernels();
  const Tensors t;
  refuses("route: row is of type Long, not Int", [&] { parallel::route(t.logits, t.identity, topk); });
  refuses("route: logits is of type BFloat16, not Float",
          [&] { parallel::route(t.logits.to(at::kBFloat16), t.row, topk); });
  refuses("routing_statistics: indices has 10 elements, not 12", [&] {
    parallel::routing_statistics(t.logits, {t.routing.indices.narrow(0, 0, tokens - 1), t.routing.weights}, t.row, 1);
  });
  refuses("route_backward: share has 6 elements, not 8", [&] {
    parallel::route_backward(t.logits, t.routing, t.routing.weights, t.row, at::ones({2, 3}, at::kDouble), 1);
  });
  at::Tensor taken = at::zeros({1, experts}, at::kLong);
  refuses("keep_within_limit: limit is of type Double, not Long",
          [&] { parallel::keep_within_limit(t.routing.indices, t.row, at::ones({1}, at::kDouble), taken); });
  refuses("permute_by_expert: indices is of type Long, not Int", [&] {
    parallel::permute_by_expert({t.routing.indices.to(at::kLong), t.routing.weights}, experts);
  });
  refuses("gather_dropout: slot_token is of type Long, not Int",
          [&] { parallel::gather_dropout(t.x, t.permutation.slot_token.to(at::kLong), t.routing, t.mask); });
  refuses("gather_slots: rows is not contiguous",
          [&] { parallel::gather_slots(gaps(t.x), t.permutation.slot_token, topk); });
  refuses("combine: slots has 88 elements, not 96", [&] {
    parallel::combine(t.x, noise({11, width}, "slots"), t.permutation);
  });
  refuses("combine_dropout_backward: dout is not contiguous", [&] {
    parallel::combine_dropout_backward(gaps(t.x), noise({12, width}, "slots"), t.permutation, t.routing, t.mask);
  });
  refuses("weighted_gelu: w has 5 elements, not 6", [&] { parallel::weighted_gelu(t.x, noise({tokens - 1}, "w"), 1); });
  refuses("weighted_gelu_backward: g is of type BFloat16, not Float",
          [&] { parallel::weighted_gelu_backward(t.x.to(at::kBFloat16), t.x, noise({tokens}, "w"), 1); });
}

TEST_CASE("tensors of another device than this build's are refused") {
  start_kernels();
  const Tensors t;
  const at::Tensor elsewhere = at::empty({tokens, width}, at::TensorOptions(at::kFloat).device(at::kMeta));
  refuses("this build computes on the host alone, and a tensor is on meta",
          [&] { parallel::swiglu(elsewhere, elsewhere); });
  refuses("swiglu: up is on meta, not on cpu", [&] { parallel::swiglu(t.x, elsewhere); });
}

}  // namespace caravan::tests
