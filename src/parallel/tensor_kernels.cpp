// SPDX-License-Identifier: Apache-2.0
#include "parallel/tensor_kernels.hpp"

#include <type_traits>

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
#include "parallel/device_tensors.hpp"

namespace caravan::parallel {
namespace {

using kernels::Bf16;

/// The element types of tensors as kernels name them.
template <typename T>
constexpr at::ScalarType scalar_type() {
  using Element = std::remove_const_t<T>;
  if constexpr (std::is_same_v<Element, Bf16>) return at::kBFloat16;
  if constexpr (std::is_same_v<Element, float>) return at::kFloat;
  if constexpr (std::is_same_v<Element, double>) return at::kDouble;
  if constexpr (std::is_same_v<Element, std::int32_t>) return at::kInt;
  if constexpr (std::is_same_v<Element, std::int64_t> || std::is_same_v<Element, std::uint64_t>) return at::kLong;
}

/// One launch of a kernel. It hands out the elements of tensors that are what the kernel takes them for.
class Launch {
 public:
  /// `leading`: one of the kernel's tensors, which says where it runs.
  Launch(const char* kernel, const at::Tensor& leading)
      : kernel_(kernel), device_(leading.device()), execution_{place_of(leading)} {}

  const kernels::Execution& execution() const { return execution_; }

  /// The `count` elements of a tensor. Throws (exit 70), naming kernel and tensor, unless it is a contiguous one of
  /// that many elements of type T on the kernel's device.
  template <typename T>
  T* elements(const char* name, const at::Tensor& tensor, std::int64_t count) const {
    CARAVAN_CHECK(tensor.defined(), kernel_, ": ", name, " is undefined");
    CARAVAN_CHECK(tensor.scalar_type() == scalar_type<T>(), kernel_, ": ", name, " is of type ",
                  at::toString(tensor.scalar_type()), ", not ", at::toString(scalar_type<T>()));
    CARAVAN_CHECK(tensor.numel() == count, kernel_, ": ", name, " has ", tensor.numel(), " elements, not ", count);
    CARAVAN_CHECK(tensor.is_contiguous(), kernel_, ": ", name, " is not contiguous");
    CARAVAN_CHECK(tensor.device() == device_, kernel_, ": ", name, " is on ", tensor.device().str(), ", not on ",
                  device_.str());
    return static_cast<T*>(kernel_address(tensor));
  }

 private:
  const char* kernel_;
  at::Device device_;
  kernels::Execution execution_;
};

/// Calls work(T*) with a null pointer of the kernel's element type.
template <typename Work>
void by_type(const at::Tensor& tensor, const Work& work) {
  switch (tensor.scalar_type()) {
    case at::kFloat: work(static_cast<float*>(nullptr)); return;
    case at::kBFloat16: work(static_cast<Bf16*>(nullptr)); return;
    default: core::internal_error("no kernels for activations of type ", at::toString(tensor.scalar_type()));
  }
}

/// Rows and columns of an activation.
struct Matrix {
  std::int64_t rows, columns, count;
  Matrix(const char* kernel, const at::Tensor& tensor) {
    CARAVAN_CHECK(tensor.dim() == 2, kernel, ": a tensor of ", tensor.dim(), " dimensions");
    rows = tensor.size(0);
    columns = tensor.size(1);
    count = rows * columns;
  }
};

kernels::RouterShape shape_of(const Routing& routing, std::int64_t experts) {
  return {routing.indices.size(0), experts, routing.indices.size(1)};
}

}  // namespace

at::Tensor dropout(const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask) {
  if (mask.probability == 0) return x;
  const Launch launch("dropout", x);
  const Matrix m("dropout", x);
  at::Tensor out = at::empty(x.sizes(), x.options());
  by_type(x, [&]<typename T>(T*) {
    kernels::dropout(launch.execution(), launch.elements<const T>("x", x, m.count),
                     launch.elements<T>("result", out, m.count), m.rows, m.columns,
                     launch.elements<const std::uint64_t>("identity", identity, m.rows),
                     {mask.key, mask.probability, static_cast<std::uint32_t>(mask.first_unit)});
  });
  return out;
}

void add_dropout(at::Tensor& out, const at::Tensor& x, const at::Tensor& identity, const DropoutMask& mask) {
  if (mask.probability == 0) {
    out.add_(x);
    return;
  }
  const Launch launch("add_dropout", x);
  const Matrix m("add_dropout", x);
  by_type(x, [&]<typename T>(T*) {
    kernels::dropout_add(launch.execution(), launch.elements<const T>("x", x, m.count),
                         launch.elements<T>("sum", out, m.count), m.rows, m.columns,
                         launch.elements<const std::uint64_t>("identity", identity, m.rows),
                         {mask.key, mask.probability, static_cast<std::uint32_t>(mask.first_unit)});
  });
}

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const Launch launch("rms_norm", x);
  const Matrix m("rms_norm", x);
  at::Tensor y = at::empty(x.sizes(), x.options());
  at::Tensor rstd = at::empty({m.rows}, x.options().dtype(at::kFloat));
  by_type(x, [&]<typename T>(T*) {
    kernels::rms_norm(launch.execution(), launch.elements<const T>("x", x, m.count),
                      launch.elements<const float>("weight", weight, m.columns), launch.elements<T>("y", y, m.count),
                      launch.elements<float>("rstd", rstd, m.rows), m.rows, m.columns, eps);
  });
  return {y, rstd};
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& rstd) {
  const Launch launch("rms_norm_backward", x);
  const Matrix m("rms_norm_backward", x);
  at::Tensor dx = at::empty(x.sizes(), x.options());
  const at::Tensor gradient = dy.contiguous();
  by_type(x, [&]<typename T>(T*) {
    kernels::rms_norm_backward(
        launch.execution(), launch.elements<const T>("dy", gradient, m.count),
        launch.elements<const T>("x", x, m.count), launch.elements<const float>("weight", weight, m.columns),
        launch.elements<const float>("rstd", rstd, m.rows), launch.elements<T>("dx", dx, m.count), m.rows, m.columns);
  });
  return dx;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const Launch launch("swiglu", gate);
  const std::int64_t count = gate.numel();
  at::Tensor out = at::empty(gate.sizes(), gate.options());
  by_type(gate, [&]<typename T>(T*) {
    kernels::swiglu(launch.execution(), launch.elements<const T>("gate", gate, count),
                    launch.elements<const T>("up", up, count), launch.elements<T>("result", out, count), count);
  });
  return out;
}

std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& dout, const at::Tensor& gate,
                                                  const at::Tensor& up) {
  const Launch launch("swiglu_backward", gate);
  const std::int64_t count = gate.numel();
  at::Tensor dgate = at::empty(gate.sizes(), gate.options());
  at::Tensor dup = at::empty(gate.sizes(), gate.options());
  const at::Tensor gradient = dout.contiguous();
  by_type(gate, [&]<typename T>(T*) {
    kernels::swiglu_backward(launch.execution(), launch.elements<const T>("gradient", gradient, count),
                             launch.elements<const T>("gate", gate, count), launch.elements<const T>("up", up, count),
                             launch.elements<T>("dgate", dgate, count), launch.elements<T>("dup", dup, count), count);
  });
  return {dgate, dup};
}

void rotary(at::Tensor& x, std::int64_t head_dim, const at::Tensor& positions, const at::Tensor& inverse_frequency,
            bool inverse) {
  const Launch launch("rotary", x);
  const Matrix m("rotary", x);
  CARAVAN_CHECK(head_dim > 0 && m.columns % head_dim == 0, "rotary: rows of ", m.columns, " in heads of ", head_dim);
  by_type(x, [&]<typename T>(T*) {
    kernels::rotary(launch.execution(), launch.elements<T>("x", x, m.count), m.rows, m.columns / head_dim, head_dim,
                    m.columns, launch.elements<const std::int32_t>("positions", positions, m.rows),
                    launch.elements<const float>("inverse frequency", inverse_frequency, head_dim / 2), inverse);
  });
}

Routing route(const at::Tensor& logits, const at::Tensor& row, std::int64_t topk) {
  const Launch launch("route", logits);
  const Matrix m("route", logits);
  Routing routing{at::empty({m.rows, topk}, logits.options().dtype(at::kInt)),
                  at::empty({m.rows, topk}, logits.options().dtype(at::kFloat))};
  kernels::route(launch.execution(), launch.elements<const float>("logits", logits, m.count),
                 launch.elements<const std::int32_t>("row", row, m.rows), shape_of(routing, m.columns),
                 launch.elements<std::int32_t>("indices", routing.indices, m.rows * topk),
                 launch.elements<float>("weights", routing.weights, m.rows * topk));
  return routing;
}

at::Tensor routing_statistics(const at::Tensor& logits, const Routing& routing, const at::Tensor& row,
                              std::int64_t rows) {
  const Launch launch("routing_statistics", logits);
  const Matrix m("routing_statistics", logits);
  const kernels::RouterShape shape = shape_of(routing, m.columns);
  at::Tensor statistics = at::empty({2, rows, m.columns}, logits.options().dtype(at::kDouble));
  double* counts = launch.elements<double>("statistics", statistics, 2 * rows * m.columns);
  kernels::routing_statistics(launch.execution(), launch.elements<const float>("logits", logits, m.count),
                              launch.elements<const std::int32_t>("indices", routing.indices, m.rows * shape.topk),
                              launch.elements<const std::int32_t>("row", row, m.rows), shape, rows, counts,
                              counts + rows * m.columns);
  return statistics;
}

at::Tensor route_backward(const at::Tensor& logits, const Routing& routing, const at::Tensor& dweights,
                          const at::Tensor& row, const at::Tensor& share, double balance_scale) {
  const Launch launch("route_backward", logits);
  const Matrix m("route_backward", logits);
  const kernels::RouterShape shape = shape_of(routing, m.columns);
  const std::int64_t chosen = m.rows * shape.topk;
  const double* shares = nullptr;
  if (share.defined()) {
    const Matrix balanced("route_backward", share);
    shares = launch.elements<const double>("share", share, balanced.rows * m.columns);
  }
  at::Tensor dlogits = at::empty(logits.sizes(), logits.options());
  kernels::route_backward(launch.execution(), launch.elements<const float>("logits", logits, m.count),
                          launch.elements<const std::int32_t>("indices", routing.indices, chosen),
                          launch.elements<const float>("weights", routing.weights, chosen),
                          launch.elements<const float>("dweights", dweights, chosen),
                          launch.elements<const std::int32_t>("row", row, m.rows), shape, {shares, balance_scale},
                          launch.elements<float>("dlogits", dlogits, m.count));
  return dlogits;
}

at::Tensor keep_within_limit(const at::Tensor& indices, const at::Tensor& row, const at::Tensor& limit,
                             at::Tensor& taken) {
  const Launch launch("keep_within_limit", indices);
  const Matrix m("keep_within_limit", indices), limits("keep_within_limit", taken);
  at::Tensor kept = at::empty(indices.sizes(), indices.options());
  kernels::keep_within_limit(launch.execution(), launch.elements<const std::int32_t>("indices", indices, m.count),
                             launch.elements<const std::int32_t>("row", row, m.rows),
                             {m.rows, limits.columns, m.columns}, limits.rows,
                             launch.elements<const std::int64_t>("limit", limit, limits.rows),
                             launch.elements<std::int64_t>("taken", taken, limits.count),
                             launch.elements<std::int32_t>("kept", kept, m.count));
  return kept;
}

Permutation permute_by_expert(const Routing& routing, std::int64_t experts) {
  const Launch launch("permute_by_expert", routing.indices);
  const Matrix m("permute_by_expert", routing.indices);
  const at::TensorOptions options = routing.indices.options().dtype(at::kInt);
  Permutation permutation{at::empty({experts}, options.dtype(at::kLong)), at::empty({m.count}, options),
                          at::empty(routing.indices.sizes(), options)};
  kernels::permute_by_expert(
      launch.execution(), launch.elements<const std::int32_t>("indices", routing.indices, m.count),
      shape_of(routing, experts), launch.elements<std::int64_t>("counts", permutation.counts, experts),
      launch.elements<std::int32_t>("slot_token", permutation.slot_token, m.count),
      launch.elements<std::int32_t>("token_slot", permutation.token_slot, m.count));
  permutation.counts = to_host(permutation.counts);
  permutation.slots = permutation.counts.sum().item<std::int64_t>();
  permutation.slot_token = permutation.slot_token.narrow(0, 0, permutation.slots);
  return permutation;
}

at::Tensor gather_dropout(const at::Tensor& y, const at::Tensor& slot_token, const Routing& routing,
                          const ExpertDropout& mask) {
  const Launch launch("gather_dropout", y);
  const Matrix m("gather_dropout", y), chosen("gather_dropout", routing.indices);
  const std::int64_t slots = slot_token.size(0);
  at::Tensor out = at::empty({slots, m.columns}, y.options());
  by_type(y, [&]<typename T>(T*) {
    kernels::gather_dropout(
        launch.execution(), launch.elements<const T>("y", y, m.count),
        launch.elements<T>("result", out, slots * m.columns), slots, m.columns,
        launch.elements<const std::int32_t>("slot_token", slot_token, slots),
        launch.elements<const std::int32_t>("indices", routing.indices, m.rows * chosen.columns), chosen.columns,
        launch.elements<const std::uint64_t>("identity", mask.identity, m.rows),
        launch.elements<const std::uint64_t>("expert_keys", mask.expert_keys, mask.expert_keys.size(0)),
        mask.probability);
  });
  return out;
}

at::Tensor gather_slots(const at::Tensor& rows, const at::Tensor& slot_token, std::int64_t topk) {
  const Launch launch("gather_slots", rows);
  const Matrix m("gather_slots", rows);
  const std::int64_t slots = slot_token.size(0);
  at::Tensor out = at::empty({slots, m.columns}, rows.options());
  by_type(rows, [&]<typename T>(T*) {
    kernels::gather_rows(launch.execution(), launch.elements<const T>("rows", rows, m.count),
                         launch.elements<T>("result", out, slots * m.columns), slots, m.columns,
                         launch.elements<const std::int32_t>("slot_token", slot_token, slots), topk);
  });
  return out;
}

at::Tensor combine(const at::Tensor& y, const at::Tensor& slots, const Permutation& permutation) {
  const Launch launch("combine", y);
  const Matrix m("combine", y), choices("combine", permutation.token_slot);
  at::Tensor out = at::empty(y.sizes(), y.options());
  by_type(y, [&]<typename T>(T*) {
    kernels::combine(
        launch.execution(), launch.elements<const T>("y", y, m.count),
        launch.elements<const T>("slots", slots, permutation.slots * m.columns),
        launch.elements<T>("result", out, m.count), m.rows, m.columns, choices.columns,
        launch.elements<const std::int32_t>("token_slot", permutation.token_slot, m.rows * choices.columns));
  });
  return out;
}

at::Tensor combine_dropout_backward(const at::Tensor& dout, const at::Tensor& dslots, const Permutation& permutation,
                                    const Routing& routing, const ExpertDropout& mask) {
  const Launch launch("combine_dropout_backward", dout);
  const Matrix m("combine_dropout_backward", dout), choices("combine_dropout_backward", routing.indices);
  const std::int64_t chosen = m.rows * choices.columns;
  at::Tensor dy = at::empty(dout.sizes(), dout.options());
  by_type(dout, [&]<typename T>(T*) {
    kernels::combine_dropout_backward(
        launch.execution(), launch.elements<const T>("dout", dout, m.count),
        launch.elements<const T>("dslots", dslots, permutation.slots * m.columns),
        launch.elements<T>("dy", dy, m.count), m.rows, m.columns, choices.columns,
        launch.elements<const std::int32_t>("token_slot", permutation.token_slot, chosen),
        launch.elements<const std::int32_t>("indices", routing.indices, chosen),
        launch.elements<const std::uint64_t>("identity", mask.identity, m.rows),
        launch.elements<const std::uint64_t>("expert_keys", mask.expert_keys, mask.expert_keys.size(0)),
        mask.probability);
  });
  return dy;
}

at::Tensor weighted_gelu(const at::Tensor& a, const at::Tensor& w, double scaling) {
  const Launch launch("weighted_gelu", a);
  const Matrix m("weighted_gelu", a);
  at::Tensor z = at::empty(a.sizes(), a.options());
  by_type(a, [&]<typename T>(T*) {
    kernels::weighted_gelu(launch.execution(), launch.elements<const T>("a", a, m.count),
                           launch.elements<const float>("w", w, m.rows), scaling, launch.elements<T>("z", z, m.count),
                           m.rows, m.columns);
  });
  return z;
}

WeightedGeluGradient weighted_gelu_backward(const at::Tensor& g, const at::Tensor& a, const at::Tensor& w,
                                            double scaling) {
  const Launch launch("weighted_gelu_backward", a);
  const Matrix m("weighted_gelu_backward", a);
  WeightedGeluGradient gradient{at::empty(a.sizes(), a.options()), at::empty(a.sizes(), a.options()),
                                at::empty(w.sizes(), w.options())};
  by_type(a, [&]<typename T>(T*) {
    kernels::weighted_gelu_backward(
        launch.execution(), launch.elements<const T>("g", g, m.count), launch.elements<const T>("a", a, m.count),
        launch.elements<const float>("w", w, m.rows), scaling, launch.elements<T>("da", gradient.da, m.count),
        launch.elements<T>("z", gradient.z, m.count), launch.elements<float>("dw", gradient.dw, m.rows), m.rows,
        m.columns);
  });
  return gradient;
}

void adamw(at::Tensor& weight, at::Tensor& exp_avg, at::Tensor& exp_avg_sq, const at::Tensor& gradient,
           double gradient_scale, const AdamW& settings) {
  const Launch launch("adamw", weight);
  const std::int64_t count = weight.numel();
  kernels::adamw(
      launch.execution(), launch.elements<float>("weight", weight, count),
      launch.elements<float>("exp_avg", exp_avg, count), launch.elements<float>("exp_avg_sq", exp_avg_sq, count),
      launch.elements<const float>("gradient", gradient, count), gradient_scale,
      {settings.lr, settings.beta1, settings.beta2, settings.eps, settings.weight_decay, settings.step}, count);
}

at::Tensor sum_of_squares(const at::Tensor& x) {
  const Launch launch("sum_of_squares", x);
  const std::int64_t scratch = kernels::sum_of_squares_scratch(x.numel());
  at::Tensor sums = at::empty({scratch + 1}, x.options().dtype(at::kDouble));
  double* sum = launch.elements<double>("sums", sums, scratch + 1);
  kernels::sum_of_squares(launch.execution(), launch.elements<const float>("x", x, x.numel()), x.numel(), sum + 1, sum);
  return sums[0];
}

}  // namespace caravan::parallel
