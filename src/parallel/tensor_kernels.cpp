// SPDX-License-Identifier: Apache-2.0
#include "parallel/tensor_kernels.hpp"

#include "core/error.hpp"
#include "kernels/adamw.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/dropout.hpp"
#include "kernels/expert_activation.hpp"
#include "kernels/expert_capacity.hpp"
#include "kernels/norm.hpp"
#include "kernels/rotary.hpp"
#include "kernels/router.hpp"
#include "kernels/swiglu.hpp"
#include "kernels/token_permute.hpp"
#include "parallel/collectives.hpp"

namespace caravan::parallel {
namespace {

using kernels::Bf16;

/// Where kernels on this tensor run.
kernels::Execution execution_of(const at::Tensor& tensor) { return {place_of(tensor)}; }

/// Calls work(T*) with a null pointer of the kernel's element type.
template <typename Work>
void by_type(const at::Tensor& tensor, const Work& work) {
  CARAVAN_CHECK(tensor.is_contiguous(), "kernels take contiguous tensors");
  switch (tensor.scalar_type()) {
    case at::kFloat: work(static_cast<float*>(nullptr)); return;
    case at::kBFloat16: work(static_cast<Bf16*>(nullptr)); return;
    default: core::internal_error("no kernels for activations of type ", at::toString(tensor.scalar_type()));
  }
}

template <typename T>
T* in(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

const std::uint64_t* identities(const at::Tensor& identity) { return in<std::uint64_t>(identity); }

kernels::RouterShape shape_of(const Routing& routing, std::int64_t experts) {
  return {routing.indices.size(0), experts, routing.indices.size(1)};
}

std::int64_t columns_of(const at::Tensor& x) { return x.size(-1); }

}  // namespace

at::Tensor dropout(const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask) {
  if (mask.probability == 0) return x;
  at::Tensor out = at::empty_like(x);
  by_type(x, [&]<typename T>(T*) {
    kernels::dropout(execution_of(x), in<const T>(x), in<T>(out), x.size(0), columns_of(x), identities(identity),
                     {mask.key, mask.probability, static_cast<std::uint32_t>(mask.first_unit)});
  });
  return out;
}

void add_dropout(at::Tensor& out, const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask) {
  if (mask.probability == 0) {
    out.add_(x);
    return;
  }
  by_type(x, [&]<typename T>(T*) {
    kernels::dropout_add(execution_of(x), in<const T>(x), in<T>(out), x.size(0), columns_of(x), identities(identity),
                         {mask.key, mask.probability, static_cast<std::uint32_t>(mask.first_unit)});
  });
}

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  at::Tensor y = at::empty_like(x);
  at::Tensor rstd = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  by_type(x, [&]<typename T>(T*) {
    kernels::rms_norm(execution_of(x), in<const T>(x), in<const float>(weight), in<T>(y), in<float>(rstd), x.size(0),
                      columns_of(x), eps);
  });
  return {y, rstd};
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& rstd) {
  at::Tensor dx = at::empty_like(x);
  const at::Tensor gradient = dy.contiguous();
  by_type(x, [&]<typename T>(T*) {
    kernels::rms_norm_backward(execution_of(x), in<const T>(gradient), in<const T>(x), in<const float>(weight),
                               in<const float>(rstd), in<T>(dx), x.size(0), columns_of(x));
  });
  return dx;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  by_type(gate, [&]<typename T>(T*) {
    kernels::swiglu(execution_of(gate), in<const T>(gate), in<const T>(up), in<T>(out), gate.numel());
  });
  return out;
}

std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& dout, const at::Tensor& gate,
                                                  const at::Tensor& up) {
  at::Tensor dgate = at::empty_like(gate);
  at::Tensor dup = at::empty_like(up);
  const at::Tensor gradient = dout.contiguous();
  by_type(gate, [&]<typename T>(T*) {
    kernels::swiglu_backward(execution_of(gate), in<const T>(gradient), in<const T>(gate), in<const T>(up),
                             in<T>(dgate), in<T>(dup), gate.numel());
  });
  return {dgate, dup};
}

void rotary(at::Tensor& x, std::int64_t head_dim, const at::Tensor& positions, const at::Tensor& inverse_frequency,
            bool inverse) {
  by_type(x, [&]<typename T>(T*) {
    kernels::rotary(execution_of(x), in<T>(x), x.size(0), columns_of(x) / head_dim, head_dim, columns_of(x),
                    in<const std::int32_t>(positions), in<const float>(inverse_frequency), inverse);
  });
}

Routing route(const at::Tensor& logits, const at::Tensor& row, std::int64_t topk) {
  const std::int64_t tokens = logits.size(0);
  Routing routing{at::empty({tokens, topk}, logits.options().dtype(at::kInt)),
                  at::empty({tokens, topk}, logits.options().dtype(at::kFloat))};
  kernels::route(execution_of(logits), in<const float>(logits), in<const std::int32_t>(row),
                 shape_of(routing, logits.size(1)), in<std::int32_t>(routing.indices), in<float>(routing.weights));
  return routing;
}

at::Tensor routing_statistics(const at::Tensor& logits, const Routing& routing, const at::Tensor& row,
                              std::int64_t rows) {
  at::Tensor statistics = at::empty({2, rows, logits.size(1)}, logits.options().dtype(at::kDouble));
  double* counts = in<double>(statistics);
  kernels::routing_statistics(execution_of(logits), in<const float>(logits), in<const std::int32_t>(routing.indices),
                              in<const std::int32_t>(row), shape_of(routing, logits.size(1)), rows, counts,
                              counts + rows * logits.size(1));
  return statistics;
}

at::Tensor route_backward(const at::Tensor& logits, const Routing& routing, const at::Tensor& dweights,
                          const at::Tensor& row, const at::Tensor& share, double balance_scale) {
  at::Tensor dlogits = at::empty_like(logits);
  kernels::route_backward(execution_of(logits), in<const float>(logits), in<const std::int32_t>(routing.indices),
                          in<const float>(routing.weights), in<const float>(dweights), in<const std::int32_t>(row),
                          shape_of(routing, logits.size(1)),
                          {share.defined() ? in<const double>(share) : nullptr, balance_scale}, in<float>(dlogits));
  return dlogits;
}

at::Tensor keep_within_limit(const at::Tensor& indices, const at::Tensor& row, const at::Tensor& limit,
                             at::Tensor& taken) {
  at::Tensor kept = at::empty_like(indices);
  kernels::keep_within_limit(execution_of(indices), in<const std::int32_t>(indices), in<const std::int32_t>(row),
                             {indices.size(0), taken.size(1), indices.size(1)}, limit.size(0),
                             in<const std::int64_t>(limit), in<std::int64_t>(taken), in<std::int32_t>(kept));
  return kept;
}

Permutation permute_by_expert(const Routing& routing, std::int64_t experts) {
  const at::TensorOptions options = routing.indices.options();
  Permutation permutation{at::empty({experts}, options.dtype(at::kLong)), at::empty({routing.indices.numel()}, options),
                          at::empty_like(routing.indices)};
  kernels::permute_by_expert(execution_of(routing.indices), in<const std::int32_t>(routing.indices),
                             shape_of(routing, experts), in<std::int64_t>(permutation.counts),
                             in<std::int32_t>(permutation.slot_token), in<std::int32_t>(permutation.token_slot));
  permutation.counts = permutation.counts.cpu();
  permutation.slots = permutation.counts.sum().item<std::int64_t>();
  permutation.slot_token = permutation.slot_token.narrow(0, 0, permutation.slots);
  return permutation;
}

at::Tensor gather_dropout(const at::Tensor& y, const at::Tensor& slot_token, const Routing& routing,
                          const ExpertDropout& mask) {
  at::Tensor out = at::empty({slot_token.size(0), y.size(1)}, y.options());
  by_type(y, [&]<typename T>(T*) {
    kernels::gather_dropout(execution_of(y), in<const T>(y), in<T>(out), slot_token.size(0), y.size(1),
                            in<const std::int32_t>(slot_token), in<const std::int32_t>(routing.indices),
                            routing.indices.size(1), identities(mask.identity), identities(mask.expert_keys),
                            mask.probability);
  });
  return out;
}

at::Tensor gather_slots(const at::Tensor& rows, const at::Tensor& slot_token, std::int64_t topk) {
  at::Tensor out = at::empty({slot_token.size(0), rows.size(1)}, rows.options());
  by_type(rows, [&]<typename T>(T*) {
    kernels::gather_rows(execution_of(rows), in<const T>(rows), in<T>(out), slot_token.size(0), rows.size(1),
                         in<const std::int32_t>(slot_token), topk);
  });
  return out;
}

at::Tensor combine(const at::Tensor& y, const at::Tensor& slots, const Permutation& permutation) {
  at::Tensor out = at::empty_like(y);
  by_type(y, [&]<typename T>(T*) {
    kernels::combine(execution_of(y), in<const T>(y), in<const T>(slots), in<T>(out), y.size(0), y.size(1),
                     permutation.token_slot.size(1), in<const std::int32_t>(permutation.token_slot));
  });
  return out;
}

at::Tensor combine_dropout_backward(const at::Tensor& dout, const at::Tensor& dslots, const Permutation& permutation,
                                    const Routing& routing, const ExpertDropout& mask) {
  at::Tensor dy = at::empty_like(dout);
  by_type(dout, [&]<typename T>(T*) {
    kernels::combine_dropout_backward(execution_of(dout), in<const T>(dout), in<const T>(dslots), in<T>(dy),
                                      dout.size(0), dout.size(1), routing.indices.size(1),
                                      in<const std::int32_t>(permutation.token_slot),
                                      in<const std::int32_t>(routing.indices), identities(mask.identity),
                                      identities(mask.expert_keys), mask.probability);
  });
  return dy;
}

at::Tensor weighted_gelu(const at::Tensor& a, const at::Tensor& w, double scaling) {
  at::Tensor z = at::empty_like(a);
  by_type(a, [&]<typename T>(T*) {
    kernels::weighted_gelu(execution_of(a), in<const T>(a), in<const float>(w), scaling, in<T>(z), a.size(0),
                           a.size(1));
  });
  return z;
}

WeightedGeluGradient weighted_gelu_backward(const at::Tensor& g, const at::Tensor& a, const at::Tensor& w,
                                            double scaling) {
  WeightedGeluGradient gradient{at::empty_like(a), at::empty_like(a), at::empty_like(w)};
  by_type(a, [&]<typename T>(T*) {
    kernels::weighted_gelu_backward(execution_of(a), in<const T>(g), in<const T>(a), in<const float>(w), scaling,
                                    in<T>(gradient.da), in<T>(gradient.z), in<float>(gradient.dw), a.size(0),
                                    a.size(1));
  });
  return gradient;
}

void adamw(at::Tensor& weight, at::Tensor& exp_avg, at::Tensor& exp_avg_sq, const at::Tensor& gradient,
           double gradient_scale, const AdamW& settings) {
  kernels::adamw(execution_of(weight), in<float>(weight), in<float>(exp_avg), in<float>(exp_avg_sq),
                 in<const float>(gradient), gradient_scale,
                 {settings.lr, settings.beta1, settings.beta2, settings.eps, settings.weight_decay, settings.step},
                 weight.numel());
}

double sum_of_squares(const at::Tensor& x) {
  return kernels::sum_of_squares(execution_of(x), in<const float>(x), x.numel());
}

}  // namespace caravan::parallel
