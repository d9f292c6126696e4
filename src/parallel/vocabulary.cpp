// SPDX-License-Identifier: Apache-2.0
#include "parallel/vocabulary.hpp"

#include <algorithm>
#include <limits>

#include "core/error.hpp"
#include "layout/thresholds.hpp"
#include "parallel/backward.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

/// Ids relative to this rank's part of the vocabulary, clamped into it, and whether they lie in it.
struct LocalIds {
  at::Tensor index, owned;
  LocalIds(const at::Tensor& ids, std::int64_t part, std::int64_t rank) {
    const at::Tensor relative = ids - part * rank;
    owned = relative.ge(0).logical_and_(relative.lt(part));
    index = relative.clamp(0, part - 1);
  }
};

struct Chunk {
  at::Tensor loss;     // fp64 scalar
  at::Tensor dlogits;  // fp32, unscaled
};

/// Gives the columns of this rank's part of the logits that stand for no token a value that is no maximum, and whose
/// exponential is 0; a finite one, which times 0 is 0.
void mask_padding(const Context& context, at::Tensor& part, std::int64_t vocabulary) {
  const std::int64_t columns = part.size(1);
  const std::int64_t real = std::clamp<std::int64_t>(vocabulary - columns * context.grid.tp_rank(), 0, columns);
  if (real < columns) part.narrow(1, real, columns - real).fill_(std::numeric_limits<float>::lowest());
}

/// Loss of some rows over the whole vocabulary from this rank's part of their logits [n, P] (fp32).
Chunk cross_entropy(const Context& context, const at::Tensor& part, const at::Tensor& targets, bool gradient) {
  comm::Communicator& tp = *context.groups.tp;
  at::Tensor most = part.amax(1);
  all_reduce(tp, "maximum of logits", most, comm::Reduce::max);
  at::Tensor exponentials = part.sub(most.unsqueeze(1)).exp_();
  const LocalIds local(targets, part.size(1), context.grid.tp_rank());
  // One message: the sum of exponentials and the target's logit, which one rank of the group holds.
  at::Tensor sums =
      at::stack({exponentials.sum(1), part.gather(1, local.index.unsqueeze(1)).squeeze(1).mul(local.owned)});
  all_reduce(tp, "sums of logits", sums, comm::Reduce::sum);
  Chunk chunk;
  chunk.loss = (sums[0].log() + most - sums[1]).sum(at::kDouble);
  if (gradient) {
    chunk.dlogits = exponentials.div_(sums[0].unsqueeze(1));
    chunk.dlogits.scatter_add_(1, local.index.unsqueeze(1), local.owned.to(at::kFloat).neg_().unsqueeze(1));
  }
  return chunk;
}

}  // namespace

at::Tensor embed(const Context& context, const FrozenWeight& table, const TokenAxis& axis) {
  const LocalIds local(axis.ids, table.out_features(), context.grid.tp_rank());
  const at::Tensor rows = table.rows(local.index).mul_(local.owned.unsqueeze(1));
  return reduce_scatter_rows(*context.groups.tp, "reduce embeddings", rows);
}

TokenLoss token_loss(const Context& context, const FrozenWeight& head, std::int64_t vocabulary, const at::Tensor& x,
                     const TokenTargets& targets, double scale) {
  const bool gradient = wants_gradient({x});
  const at::Tensor all = gather_rows(*context.groups.tp, "gather input of the head", x.detach());
  const std::int64_t count = targets.rows.size(0);
  at::Tensor dx = gradient ? at::zeros_like(all) : at::Tensor();
  TokenLoss result{{}, at::zeros({}, x.options().dtype(at::kDouble))};
  // At least once, also without a target: every TP group makes the same calls, whatever its tokens.
  for (std::int64_t begin = 0; begin == 0 || begin < count; begin += layout::logit_tokens) {
    const std::int64_t size = std::min(layout::logit_tokens, count - begin);
    const at::Tensor rows = targets.rows.narrow(0, begin, size);
    at::Tensor part = head.multiply(all.index_select(0, rows)).to(at::kFloat);
    mask_padding(context, part, vocabulary);
    Chunk chunk = cross_entropy(context, part, targets.ids.narrow(0, begin, size), gradient);
    result.sum.add_(chunk.loss);
    if (gradient) {
      dx.index_copy_(0, rows, head.multiply_transposed(chunk.dlogits.mul_(scale).to(all.scalar_type())));
    }
  }
  result.loss = result.sum.mul(scale).to(at::kFloat);
  if (gradient) {
    const at::Tensor dx_shard = reduce_scatter_rows(*context.groups.tp, "reduce input gradient of the head", dx);
    connect("token loss", {x}, {result.loss}, [dx_shard](const std::vector<at::Tensor>& gradients) {
      return std::vector<at::Tensor>{dx_shard * gradients[0].to(dx_shard.scalar_type())};
    });
  }
  return result;
}

at::Tensor logits(const Context& context, const FrozenWeight& head, std::int64_t vocabulary, const at::Tensor& x,
                  const at::Tensor& rows) {
  const at::Tensor all = gather_rows(*context.groups.tp, "gather input of the head", x.detach());
  const at::Tensor part = head.multiply(all.index_select(0, rows)).to(at::kFloat);
  return gather_rows(*context.groups.tp, "gather logits", part.t().contiguous()).narrow(0, 0, vocabulary).t();
}

}  // namespace caravan::parallel
