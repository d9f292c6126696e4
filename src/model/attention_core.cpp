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

using Starts = std::vector<std::int64_t>;

at::Tensor attend_forward(const at::Tensor& all_q, const at::Tensor& all_k, const at::Tensor& all_v,
                          const AttentionShape& shape, const Starts& starts) {
  at::Tensor out = at::zeros_like(all_q);
  for (std::size_t document = 0; document + 1 < starts.size(); ++document) {
    const std::int64_t first = starts[document];
    const std::int64_t length = starts[document + 1] - first;
    const auto heads = [&](const at::Tensor& x) { return heads_of(x, first, length, shape); };
    const at::Tensor q = heads(all_q), k = heads(all_k), v = heads(all_v), out_heads = heads(out);
    for_each_block(length, [&](std::int64_t begin, std::int64_t end) {
      const Block block(q, k, v, begin, end, shape.window);
      const at::Tensor p = block.probabilities().to(all_q.scalar_type());
      out_heads.narrow(2, begin, block.rows)
          .copy_(at::bmm(p, block.v).view({block.kv, block.group, block.rows, block.d}));
    });
  }
  return out;
}

std::vector<at::Tensor> attend_backward(const at::Tensor& all_q, const at::Tensor& all_k, const at::Tensor& all_v,
                                        const AttentionShape& shape, const Starts& starts, const at::Tensor& gradient) {
  at::Tensor dq = at::zeros_like(all_q);
  // Sums over blocks of query rows, in fp32.
  at::Tensor dk = at::zeros(all_k.sizes(), all_k.options().dtype(at::kFloat));
  at::Tensor dv = at::zeros(all_v.sizes(), all_v.options().dtype(at::kFloat));
  const at::Tensor dout = gradient.contiguous();
  for (std::size_t document = 0; document + 1 < starts.size(); ++document) {
    const std::int64_t first = starts[document];
    const std::int64_t length = starts[document + 1] - first;
    const auto heads = [&](const at::Tensor& x) { return heads_of(x, first, length, shape); };
    const at::Tensor q = heads(all_q), k = heads(all_k), v = heads(all_v), g = heads(dout);
    const at::Tensor dq_heads = heads(dq), dk_heads = heads(dk).select(1, 0), dv_heads = heads(dv).select(1, 0);
    for_each_block(length, [&](std::int64_t begin, std::int64_t end) {
      const Block block(q, k, v, begin, end, shape.window);
      const at::Tensor p = block.probabilities();
      const at::Tensor p_compute = p.to(all_q.scalar_type());
      const at::Tensor go = g.narrow(2, begin, block.rows).reshape_as(block.q);
      dv_heads.narrow(1, block.first, block.keys).add_(at::bmm(p_compute.transpose(1, 2), go));
      const at::Tensor dp = at::bmm(go, block.v.transpose(1, 2)).to(at::kFloat);
      // Softmax backward: dS = P ∘ (dP − rowsum(dP ∘ P)).
      const at::Tensor ds =
          p.mul(dp.sub(dp.mul(p).sum(-1, /*keepdim=*/true))).mul_(block.scale).to(all_q.scalar_type());
      dk_heads.narrow(1, block.first, block.keys).add_(at::bmm(ds.transpose(1, 2), block.q));
      dq_heads.narrow(2, begin, block.rows)
          .copy_(at::bmm(ds, block.k).view({block.kv, block.group, block.rows, block.d}));
    });
  }
  return {dq, dk.to(all_k.scalar_type()), dv.to(all_v.scalar_type())};
}

}  // namespace

parallel::Activation attend(const parallel::Activation& q, const parallel::Activation& k, const parallel::Activation& v,
                            const AttentionShape& shape, const Starts& document_starts, parallel::Recall recall) {
  const auto forward = [shape, document_starts](const at::Tensor& all_q, const at::Tensor& all_k,
                                                const at::Tensor& all_v) {
    return attend_forward(all_q, all_k, all_v, shape, document_starts);
  };
  parallel::Activation out = parallel::compute(recall, forward, q, k, v);
  parallel::connect("attention", {q.value, k.value, v.value}, {out.value},
                    [q = q.recalled, k = k.recalled, v = v.recalled, shape,
                     document_starts](const std::vector<at::Tensor>& gradients) {
                      return attend_backward(q.get(), k.get(), v.get(), shape, document_starts, gradients[0]);
                    });
  return out;
}

}  // namespace caravan::model
