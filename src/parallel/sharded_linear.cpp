// SPDX-License-Identifier: Apache-2.0
#include "parallel/sharded_linear.hpp"

#include "parallel/backward.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

/// x Wᵀ + b of a column-parallel linear.
at::Tensor base_product(const at::Tensor& x, const LinearParts& part) {
  Workspace workspace;
  const at::Tensor weight = part.base->materialise(workspace).t();
  if (!part.bias) return at::mm(x, weight);
  Workspace beside;
  return at::addmm(part.bias->materialise(beside), x, weight);
}

}  // namespace

/// What ColumnLinears keeps for backward: the shard of x, not the gathered x (a frozen base needs no weight gradient).
struct ColumnLinears::Saved {
  at::Tensor x;         // [T/TP, in]
  at::Tensor u;         // [T, Σ r], LoRA's inner activations
  at::Tensor identity;  // int64 [T/TP]
  DropoutMask mask;
};

ColumnLinears::ColumnLinears(const Context& context, std::vector<LinearParts> parts, double scale)
    : context_(context), parts_(std::move(parts)), scale_(scale) {
  for (const LinearParts& part : parts_) lora_ = lora_ || part.a != nullptr;
}

std::vector<at::Tensor> ColumnLinears::forward(const at::Tensor& x, const TokenAxis& axis,
                                               const DropoutMask& mask) const {
  comm::Communicator& tp = *context_.groups.tp;
  Saved saved{x.detach(), {}, axis.shard_of(axis.identity), mask};
  const at::Tensor all = gather_rows(tp, "gather input of column linears", saved.x);
  if (lora_) {
    const at::Tensor dropped = dropout(saved.x, saved.identity, mask);
    std::vector<at::Tensor> inner;
    for (const LinearParts& part : parts_) {
      if (part.a) inner.push_back(at::mm(dropped, part.a->value.t()));
    }
    saved.u = gather_rows(tp, "gather lora inner activations", at::cat(inner, 1));
  }
  std::vector<at::Tensor> outputs;
  std::int64_t column = 0;
  for (const LinearParts& part : parts_) {
    at::Tensor y = base_product(all, part);
    if (part.a) {
      const std::int64_t rank = part.a->value.size(0);
      y.addmm_(saved.u.narrow(1, column, rank), part.b->value.t(), 1.0, scale_);
      column += rank;
    }
    outputs.push_back(y);
  }
  connect("column linears", {x}, outputs, [this, saved](const std::vector<at::Tensor>& gradients) {
    return std::vector<at::Tensor>{backward(saved, gradients)};
  });
  return outputs;
}

at::Tensor ColumnLinears::backward(const Saved& saved, const std::vector<at::Tensor>& gradients) const {
  comm::Communicator& tp = *context_.groups.tp;
  Workspace workspace;
  at::Tensor dx_all;
  at::Tensor du_all = lora_ ? at::empty_like(saved.u) : at::Tensor();
  std::int64_t column = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const LinearParts& part = parts_[i];
    const at::Tensor& dy = gradients[i];
    const at::Tensor weight = part.base->materialise(workspace);
    if (dx_all.defined()) {
      dx_all.addmm_(dy, weight);
    } else {
      dx_all = at::mm(dy, weight);
    }
    if (part.a) {
      const std::int64_t rank = part.a->value.size(0);
      add_product(part.b->gradient, dy, saved.u.narrow(1, column, rank), scale_);
      du_all.narrow(1, column, rank).copy_(at::mm(dy, part.b->value).mul_(scale_));
      column += rank;
    }
  }
  at::Tensor dx = reduce_scatter_rows(tp, "reduce input gradient of column linears", dx_all);
  if (!lora_) return dx;
  const at::Tensor du = reduce_scatter_rows(tp, "reduce lora inner gradient", du_all);
  const at::Tensor dropped = dropout(saved.x, saved.identity, saved.mask);
  at::Tensor ddropped;
  column = 0;
  for (const LinearParts& part : parts_) {
    if (!part.a) continue;
    const at::Tensor mine = du.narrow(1, column, part.a->value.size(0));
    add_product(part.a->gradient, mine, dropped, 1.0);
    if (ddropped.defined()) {
      ddropped.addmm_(mine, part.a->value);
    } else {
      ddropped = at::mm(mine, part.a->value);
    }
    column += part.a->value.size(0);
  }
  add_dropout(dx, ddropped, saved.identity, saved.mask);
  return dx;
}

RowLinear::RowLinear(const Context& context, LinearParts parts, double scale)
    : context_(context), parts_(parts), scale_(scale) {}

at::Tensor RowLinear::forward(const at::Tensor& z, const TokenAxis& axis, DropoutMask mask) const {
  comm::Communicator& tp = *context_.groups.tp;
  const at::Tensor input = z.detach();
  mask.first_unit = input.size(1) * context_.grid.tp_rank();
  Workspace workspace;
  at::Tensor partial = at::mm(input, parts_.base->materialise(workspace).t());
  at::Tensor u;  // [T, r], this rank's part of the sum over inputs
  if (parts_.a) {
    u = at::mm(dropout(input, axis.identity, mask), parts_.a->value.t());
    partial.addmm_(u, parts_.b->value.t(), 1.0, scale_);
  }
  at::Tensor y = reduce_scatter_rows(tp, "reduce output of row linear", partial);
  if (parts_.bias) y.add_(parts_.bias->materialise(workspace));  // once, to the sum
  connect("row linear", {z}, {y},
          [this, input, u, mask, identity = axis.identity](const std::vector<at::Tensor>& gradients) {
            Workspace unpacked;
            const at::Tensor dy =
                gather_rows(*context_.groups.tp, "gather output gradient of row linear", gradients[0]);
            at::Tensor dz = at::mm(dy, parts_.base->materialise(unpacked));
            if (parts_.a) {
              add_product(parts_.b->gradient, dy, u, scale_);
              const at::Tensor du = at::mm(dy, parts_.b->value).mul_(scale_);
              add_product(parts_.a->gradient, du, dropout(input, identity, mask), 1.0);
              add_dropout(dz, at::mm(du, parts_.a->value), identity, mask);
            }
            return std::vector<at::Tensor>{dz};
          });
  return y;
}

}  // namespace caravan::parallel
