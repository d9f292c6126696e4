// SPDX-License-Identifier: Apache-2.0
#include "model/feed_forward.hpp"

#include "family/parameters.hpp"
#include "model/linear_parts.hpp"
#include "parallel/backward.hpp"

namespace caravan::model {
namespace {

std::string prefix_of(std::int64_t layer) { return family::layer_prefix(layer) + "mlp."; }

parallel::Activation swiglu(const parallel::Activation& gate, const parallel::Activation& up, parallel::Recall recall) {
  const auto forward = [](const at::Tensor& g, const at::Tensor& u) { return parallel::swiglu(g, u); };
  parallel::Activation out = parallel::compute(recall, forward, gate, up);
  parallel::connect("swiglu", {gate.value, up.value}, {out.value},
                    [g = gate.recalled, u = up.recalled](const std::vector<at::Tensor>& gradients) {
                      auto [dgate, dup] = parallel::swiglu_backward(gradients[0], g.get(), u.get());
                      return std::vector<at::Tensor>{dgate, dup};
                    });
  return out;
}

}  // namespace

FeedForward::FeedForward(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                         parallel::Parameters& parameters)
    : layer_(layer),
      gate_up_(context,
               {linear_parts(spec, parameters, prefix_of(layer), "gate_proj", spec.biases.feed_forward),
                linear_parts(spec, parameters, prefix_of(layer), "up_proj", spec.biases.feed_forward)},
               lora_scale(spec)),
      down_(context, linear_parts(spec, parameters, prefix_of(layer), "down_proj", spec.biases.feed_forward),
            lora_scale(spec)) {}

parallel::Activation FeedForward::forward(const parallel::Activation& x, const Pass& pass) const {
  const auto gate_up = gate_up_.forward(x, pass.axis, pass.lora_mask(layer_, 2), pass.costly());
  const parallel::Activation z = swiglu(gate_up[0], gate_up[1], pass.cheap());
  return down_.forward(z, pass.axis, pass.lora_mask(layer_, 3), pass.costly());
}

}  // namespace caravan::model
