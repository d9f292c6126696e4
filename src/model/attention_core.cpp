// SPDX-License-Identifier: Apache-2.0
#include "model/attention_core.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel/backward.hpp"

namespace caravan::model {
namespace {

// Query rows handled at once: scores are [heads, block, keys], and the masked half beyond a block is never computed.
constexpr std::int64_t block_rows = 512;

/// A document's rows of x [T, heads · d] as [kv_heads, group, L, d]; group query heads share a key head.
at::Tensor heads_of(const at::Tensor& x, std::int64_t begin, std::int64_t length, const AttentionShape& shape) {
  return x.narrow(0, begin, length).view({length, shape.kv_heads, -1, shape.head_dim}).permute({1, 2, 0, 3});
}

/// One block of query rows of a document and the keys that it sees.
struct Block {
  std::int64_t kv, group, rows, d;
  std::int64_t first, keys;  // the keys are [first, first + keys) of the document
  std::int64_t begin, window;
  at::Tensor q, k, v;  // [kv, group · rows, d], [kv, keys, d]
  double scale;

  Block(const at::Tensor& q_heads, const at::Tensor& k_heads, const at::Tensor& v_heads, std::int64_t first_row,
        std::int64_t end, std::int64_t window_size)
      : kv(q_heads.size(0)),
        group(q_heads.size(1)),
        rows(end - first_row),
        d(q_heads.size(3)),
        first(window_size > 0 ? std::max<std::int64_t>(0, first_row - window_size + 1) : 0),
        keys(end - first),
        begin(first_row),
        window(window_size),
        q(q_heads.narrow(2, first_row, rows).reshape({kv, group * rows, d})),
        k(k_heads.select(1, 0).narrow(1, first, keys)),
        v(v_heads.select(1, 0).narrow(1, first, keys)),
        scale(1.0 / std::sqrt(static_cast<double>(d))) {}

  /// fp32 [kv, group · rows, keys].
  at::Tensor probabilities() const {
    at::Tensor scores = at::bmm(q, k.transpose(1, 2)).to(at::kFloat).mul_(scale);
    const at::Tensor future = at::ones({rows, rows}, scores.options().dtype(at::kBool)).triu_(1);
    const at::Tensor all = scores.view({kv, group, rows, keys});
    all.narrow(3, keys - rows, rows).masked_fill_(future, -std::numeric_limits<double>::infinity());
    if (window > 0) {
      const at::Tensor past = at::ones({rows, keys}, future.options()).tril_(begin - first - window);
      all.masked_fill_(past, -std::numeric_limits<double>::infinity());
    }
    return scores.softmax(-1);
  }
};

template <typename Work>
void for_each_block(std::int64_t length, const Work& work) {
  for (std::int64_t begin = 0; begin < length; begin += block_rows) work(begin, std::min(length, begin + block_rows));
}

struct Saved {
  at::Tensor q, k, v;
  AttentionShape shape;
  std::vector<std::int64_t> starts;
};

std::vector<at::Tensor> attend_backward(const Saved& saved, const at::Tensor& gradient) {
  at::Tensor dq = at::zeros_like(saved.q);
  at::Tensor dk = at::zeros_like(saved.k);
  at::Tensor dv = at::zeros_like(saved.v);
  const at::Tensor dout = gradient.contiguous();
  for (std::size_t document = 0; document + 1 < saved.starts.size(); ++document) {
    const std::int64_t first = saved.starts[document];
    const std::int64_t length = saved.starts[document + 1] - first;
    const auto heads = [&](const at::Tensor& x) { return heads_of(x, first, length, saved.shape); };
    const at::Tensor q = heads(saved.q), k = heads(saved.k), v = heads(saved.v), g = heads(dout);
    const at::Tensor dq_heads = heads(dq), dk_heads = heads(dk).select(1, 0), dv_heads = heads(dv).select(1, 0);
    for_each_block(length, [&](std::int64_t begin, std::int64_t end) {
      const Block block(q, k, v, begin, end, saved.shape.window);
      const at::Tensor p = block.probabilities();
      const at::Tensor p_compute = p.to(saved.q.scalar_type());
      const at::Tensor go = g.narrow(2, begin, block.rows).reshape_as(block.q);
      dv_heads.narrow(1, block.first, block.keys).add_(at::bmm(p_compute.transpose(1, 2), go));
      const at::Tensor dp = at::bmm(go, block.v.transpose(1, 2)).to(at::kFloat);
      // Softmax backward: dS = P ∘ (dP − rowsum(dP ∘ P)).
      const at::Tensor ds =
          p.mul(dp.sub(dp.mul(p).sum(-1, /*keepdim=*/true))).mul_(block.scale).to(saved.q.scalar_type());
      dk_heads.narrow(1, block.first, block.keys).add_(at::bmm(ds.transpose(1, 2), block.q));
      dq_heads.narrow(2, begin, block.rows)
          .copy_(at::bmm(ds, block.k).view({block.kv, block.group, block.rows, block.d}));
    });
  }
  return {dq, dk, dv};
}

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionShape& shape,
                  const std::vector<std::int64_t>& document_starts) {
  const Saved saved{q.detach(), k.detach(), v.detach(), shape, document_starts};
  at::Tensor out = at::zeros_like(saved.q);
  for (std::size_t document = 0; document + 1 < document_starts.size(); ++document) {
    const std::int64_t first = document_starts[document];
    const std::int64_t length = document_starts[document + 1] - first;
    const at::Tensor q_heads = heads_of(saved.q, first, length, shape);
    const at::Tensor k_heads = heads_of(saved.k, first, length, shape);
    const at::Tensor v_heads = heads_of(saved.v, first, length, shape);
    const at::Tensor out_heads = heads_of(out, first, length, shape);
    for_each_block(length, [&](std::int64_t begin, std::int64_t end) {
      const Block block(q_heads, k_heads, v_heads, begin, end, shape.window);
      const at::Tensor p = block.probabilities().to(q.scalar_type());
      out_heads.narrow(2, begin, block.rows)
          .copy_(at::bmm(p, block.v).view({block.kv, block.group, block.rows, block.d}));
    });
  }
  parallel::connect("attention", {q, k, v}, {out},
                    [saved](const std::vector<at::Tensor>& gradients) { return attend_backward(saved, gradients[0]); });
  return out;
}

}  // namespace caravan::model
