// SPDX-License-Identifier: Apache-2.0
// Attention and rotary positions against their formulas; nothing here is distributed.
#include "model/attention_core.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

/// softmax(q kᵀ / √d + mask) v of one document in fp64, causal and within the window; q [L, heads · d], k and v [L,
/// kv_heads · d].
at::Tensor naive_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const model::AttentionShape& shape) {
  const std::int64_t length = q.size(0);
  const auto heads = [&](const at::Tensor& x) {
    return x.view({length, -1, shape.head_dim}).transpose(0, 1);  // [heads, L, d]
  };
  const std::int64_t group = shape.heads / shape.kv_heads;
  const at::Tensor keys = heads(k).repeat_interleave(group, 0), values = heads(v).repeat_interleave(group, 0);
  at::Tensor unseen = at::ones({length, length}, at::kBool).triu(1);
  if (shape.window > 0) unseen = unseen.logical_or(at::ones({length, length}, at::kBool).tril(-shape.window));
  const at::Tensor scores = at::bmm(heads(q), keys.transpose(1, 2)) / std::sqrt(static_cast<double>(shape.head_dim));
  const at::Tensor p = scores.masked_fill(unseen, -std::numeric_limits<double>::infinity()).softmax(-1);
  return at::bmm(p, values).transpose(0, 1).reshape({length, -1});
}

void compare_attention(const model::AttentionShape& shape, const std::vector<std::int64_t>& lengths,
                       std::int64_t pads) {
  std::vector<std::int64_t> starts{0};
  for (const std::int64_t length : lengths) starts.push_back(starts.back() + length);
  const std::int64_t tokens = starts.back() + pads;
  const std::int64_t q_width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  const at::Tensor q = noise({tokens, q_width}, "q", 3), k = noise({tokens, kv_width}, "k", 3),
                   v = noise({tokens, kv_width}, "v"), c = noise({tokens, q_width}, "c");

  const auto wide = [](const at::Tensor& x) { return leaf(x.to(at::kDouble)); };
  const at::Tensor nq = wide(q), nk = wide(k), nv = wide(v);
  std::vector<at::Tensor> documents;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    const auto rows = [&](const at::Tensor& x) { return x.narrow(0, starts[d], lengths[d]); };
    documents.push_back(naive_attention(rows(nq), rows(nk), rows(nv), shape));
  }
  documents.push_back(at::zeros({pads, q_width}, at::kDouble));
  const at::Tensor wanted = at::cat(documents);
  (wanted * c).sum().backward();

  const at::Tensor gq = leaf(q), gk = leaf(k), gv = leaf(v);
  const at::Tensor got = model::attend(gq, gk, gv, shape, starts);
  (got * c).sum().backward();
  CAPTURE(shape.heads, shape.kv_heads, lengths, pads);
  // Scores of up to 20 carry an fp32 error of 2e-6, which the softmax turns into that share of values below one.
  CHECK(max_difference(got, wanted.detach()) < 1e-5);
  // Keys and values gather from up to 600 rows; their gradients are of the order of ten.
  CHECK(max_difference(gradient_of(gq), gradient_of(nq)) < 2e-5);
  CHECK(max_difference(gradient_of(gk), gradient_of(nk)) < 1e-4);
  CHECK(max_difference(gradient_of(gv), gradient_of(nv)) < 1e-4);
  if (pads == 0) return;
  for (const at::Tensor& tensor : {got.detach(), gradient_of(gq), gradient_of(gk), gradient_of(gv)}) {
    CHECK(tensor.narrow(0, tokens - pads, pads).eq(0).all().item<bool>());
  }
}

}  // namespace

TEST_CASE("attention within documents, with grouped heads, and its gradients") {
  compare_attention({4, 2, 8}, {1, 7, 2, 30}, 3);
  compare_attention({4, 4, 8}, {5, 1, 1}, 0);
  compare_attention({6, 1, 4}, {9}, 1);
}

TEST_CASE("attention crosses the border between blocks of query rows") {
  compare_attention({2, 1, 4}, {3, 512, 4}, 0);
  compare_attention({2, 1, 4}, {513, 1, 600}, 2);
}

TEST_CASE("a sliding window hides what lies further back, also across blocks") {
  compare_attention({4, 2, 8, 3}, {1, 3, 4, 30}, 2);
  compare_attention({2, 1, 4, 1}, {5}, 0);
  compare_attention({2, 1, 4, 100}, {700, 99}, 1);
  compare_attention({2, 2, 4, 600}, {1100}, 0);
}

TEST_CASE("attention of no document is zeros") {
  const at::Tensor q = leaf(noise({3, 8}, "q")), k = leaf(noise({3, 4}, "k")), v = leaf(noise({3, 4}, "v"));
  const at::Tensor out = model::attend(q, k, v, {2, 1, 4}, {0});
  CHECK(out.detach().equal(at::zeros({3, 8})));
  out.sum().backward();
  CHECK(gradient_of(q).equal(at::zeros({3, 8})));
  const at::Tensor empty = at::empty({0, 8});
  CHECK(model::attend(empty, at::empty({0, 4}), at::empty({0, 4}), {2, 1, 4}, {0}).value.sizes() == empty.sizes());
}

TEST_CASE("rotary positions turn pairs of halves, and backward turns them back") {
  start_kernels();
  constexpr std::int64_t tokens = 5, heads = 3, dim = 8;
  const at::Tensor x = noise({tokens, heads * dim}, "x");
  const at::Tensor positions = at::tensor({0, 1, 2, 3, 1000}, at::kInt);
  const at::Tensor frequencies = at::tensor({1.0, 0.1, 0.01, 0.001}, at::kFloat);
  // Llama's convention: unit i goes with unit i + d/2. Angles in fp32, as the model makes them.
  const at::Tensor angles = positions.to(at::kFloat).outer(frequencies).unsqueeze(1).to(at::kDouble);
  const at::Tensor halves = x.to(at::kDouble).view({tokens, heads, 2, dim / 2});
  const at::Tensor first = halves.select(2, 0), second = halves.select(2, 1);
  const at::Tensor wanted =
      at::stack({first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()}, 2);
  at::Tensor turned = x.clone();
  parallel::rotary(turned, dim, positions, frequencies, false);
  // Two products of numbers below one; sine and cosine of an fp32 angle are good to 1e-6 also at 1000.
  CHECK(max_difference(turned.view({tokens, heads, 2, dim / 2}), wanted) < 2e-6);
  parallel::rotary(turned, dim, positions, frequencies, true);
  CHECK(max_difference(turned, x) < 1e-6);
}

}  // namespace caravan::tests
