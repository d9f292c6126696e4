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

/// What ColumnLinears keeps for backward: the shard of x, not the gathered x (a frozen base needs no weight gradient),
/// and that for LoRA's A alone.
struct ColumnLinears::Saved {
  Recalled<at::Tensor> x;  // [T/TP, in]; with LoRA only, like the rest
  at::Tensor u;            // [T, Σ r], LoRA's inner activations
  at::Tensor identity;     // int64 [T/TP]
  DropoutMask mask;
};

ColumnLinears::ColumnLinears(const Context& context, std::vector<LinearParts> parts, double scale)
    : context_(context), parts_(std::move(parts)), scale_(scale) {
  for (const LinearParts& part : parts_) lora_ = lora_ || part.a != nullptr;
}

std::vector<at::Tensor> ColumnLinears::outputs(const at::Tensor& x, const at::Tensor& u) const {
  const at::Tensor all = gather_rows(*context_.groups.tp, "gather input of column linears", x);
  std::vector<at::Tensor> outputs;
  std::int64_t column = 0;
  for (const LinearParts& part : parts_) {
    at::Tensor y = base_product(all, part);
    if (part.a) {
      const std::int64_t rank = part.a->value.size(0);
      y.addmm_(u.narrow(1, column, rank), part.b->value.t(), 1.0, scale_);
      column += rank;
    }
    outputs.push_back(y);
  }
  return outputs;
}

std::vector<Activation> ColumnLinears::forward(const Activation& x, const TokenAxis& axis, const DropoutMask& mask,
                                               Recall recall) const {
  Saved saved;
  if (lora_) {
    saved = {x.recalled, {}, axis.shard_of(axis.identity), mask};
    const at::Tensor dropped = dropout(x.value.detach(), saved.identity, mask);
    std::vector<at::Tensor> inner;
    for (const LinearParts& part : parts_) {
      if (part.a) inner.push_back(at::mm(dropped, part.a->value.t()));
    }
    saved.u = gather_rows(*context_.groups.tp, "gather lora inner activations", at::cat(inner, 1));
  }
  const std::vector<at::Tensor> values = outputs(x.value.detach(), saved.u);
  std::vector<Activation> activations;
  if (recall == Recall::kept) {
    activations.assign(values.begin(), values.end());
  } else {
    const Recalled<std::vector<at::Tensor>> again([this, x = x.recalled, u = saved.u] { return outputs(x.get(), u); });
    for (std::size_t i = 0; i < values.size(); ++i) {
      activations.emplace_back(values[i], Recalled<at::Tensor>([again, i] { return again.get()[i]; }));
    }
  }
  connect("column linears", {x.value}, values, [this, saved](const std::vector<at::Tensor>& gradients) {
    return std::vector<at::Tensor>{backward(saved, gradients)};
  });
  return activations;
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
      part.b->gradient_added();
      du_all.narrow(1, column, rank).copy_(at::mm(dy, part.b->value).mul_(scale_));
      column += rank;
    }
  }
  at::Tensor dx = reduce_scatter_rows(tp, "reduce input gradient of column linears", dx_all);
  if (!lora_) return dx;
  const at::Tensor du = reduce_scatter_rows(tp, "reduce lora inner gradient", du_all);
  const at::Tensor dropped = dropout(saved.x.get(), saved.identity, saved.mask);
  at::Tensor ddropped;
  column = 0;
  for (const LinearParts& part : parts_) {
    if (!part.a) continue;
    const at::Tensor mine = du.narrow(1, column, part.a->value.size(0));
    add_product(part.a->gradient, mine, dropped, 1.0);
    part.a->gradient_added();
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

at::Tensor RowLinear::output(const at::Tensor& z, const at::Tensor& u) const {
  Workspace workspace;
  at::Tensor partial = at::mm(z, parts_.base->materialise(workspace).t());
  if (parts_.a) partial.addmm_(u, parts_.b->value.t(), 1.0, scale_);
  at::Tensor y = reduce_scatter_rows(*context_.groups.tp, "reduce output of row linear", partial);
  if (parts_.bias) y.add_(parts_.bias->materialise(workspace));  // once, to the sum
  return y;
}

Activation RowLinear::forward(const Activation& z, const TokenAxis& axis, DropoutMask mask, Recall recall) const {
  mask.first_unit = z.value.size(1) * context_.grid.tp_rank();
  Recalled<at::Tensor> input;  // with LoRA only
  at::Tensor u;                // [T, r], this rank's part of the sum over inputs
  if (parts_.a) {
    input = z.recalled;
    u = at::mm(dropout(z.value.detach(), axis.identity, mask), parts_.a->value.t());
  }
  Activation y = compute(
      recall, [this, u](const at::Tensor& again) { return output(again, u); }, z);
  connect("row linear", {z.value}, {y.value},
          [this, input, u, mask, identity = axis.identity](const std::vector<at::Tensor>& gradients) {
            Workspace unpacked;
            const at::Tensor dy =
                gather_rows(*context_.groups.tp, "gather output gradient of row linear", gradients[0]);
            at::Tensor dz = at::mm(dy, parts_.base->materialise(unpacked));
            if (parts_.a) {
              add_product(parts_.b->gradient, dy, u, scale_);
              parts_.b->gradient_added();
              const at::Tensor du = at::mm(dy, parts_.b->value).mul_(scale_);
              add_product(parts_.a->gradient, du, dropout(input.get(), identity, mask), 1.0);
              parts_.a->gradient_added();
              add_dropout(dz, at::mm(du, parts_.a->value), identity, mask);
            }
            return std::vector<at::Tensor>{dz};
          });
  return y;
}

}  // namespace caravan::parallel
