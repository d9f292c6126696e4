// SPDX-License-Identifier: Apache-2.0
#include "parallel/sharded_linear.hpp"

#include "parallel/backward.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
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
    if (!part.a) {
      outputs.push_back(part.base->multiply(all, part.bias));
      continue;
    }
    const std::int64_t rank = part.a->value.size(0);
    outputs.push_back(part.base->multiply(all, part.bias, u.narrow(1, column, rank), part.update(scale_)));
    column += rank;
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
  at::Tensor dx_all;
  at::Tensor du_all = lora_ ? at::empty_like(saved.u) : at::Tensor();
  std::int64_t column = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const LinearParts& part = parts_[i];
    const at::Tensor& dy = gradients[i];
    if (!part.a) {
      dx_all = part.base->multiply_transposed(dy, dx_all);
      continue;
    }
    const std::int64_t rank = part.a->value.size(0);
    const InputGradients inputs = part.base->multiply_transposed(dy, dx_all, part.update(scale_));
    dx_all = inputs.x;
    du_all.narrow(1, column, rank).copy_(inputs.u);
    add_product(part.b->gradient, dy, saved.u.narrow(1, column, rank), scale_);
    part.b->gradient_added();
    column += rank;
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
    : context_(context), parts_(std::move(parts)), scale_(scale) {}

at::Tensor RowLinear::output(const at::Tensor& z, const at::Tensor& u) const {
  const at::Tensor partial =
      parts_.a ? parts_.base->multiply(z, {}, u, parts_.update(scale_)) : parts_.base->multiply(z);
  at::Tensor y = reduce_scatter_rows(*context_.groups.tp, "reduce output of row linear", partial);
  if (parts_.bias.defined()) y.add_(parts_.bias);  // once, to the sum
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
            const at::Tensor dy =
                gather_rows(*context_.groups.tp, "gather output gradient of row linear", gradients[0]);
            if (!parts_.a) return std::vector<at::Tensor>{parts_.base->multiply_transposed(dy)};
            auto [dz, du] = parts_.base->multiply_transposed(dy, {}, parts_.update(scale_));
            add_product(parts_.b->gradient, dy, u, scale_);
            parts_.b->gradient_added();
            add_product(parts_.a->gradient, du, dropout(input.get(), identity, mask), 1.0);
            parts_.a->gradient_added();
            add_dropout(dz, at::mm(du, parts_.a->value), identity, mask);
            return std::vector<at::Tensor>{dz};
          });
  return y;
}

}  // namespace caravan::parallel
