// SPDX-License-Identifier: Apache-2.0
#include "model/feed_forward.hpp"

#include "family/parameters.hpp"
#include "model/linear_parts.hpp"
#include "parallel/backward.hpp"

namespace caravan::model {
namespace {

std::string prefix_of(std::int64_t layer) { return family::layer_prefix(layer) + "mlp."; }

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor g = gate.detach();
  const at::Tensor u = up.detach();
  at::Tensor out = parallel::swiglu(g, u);
  parallel::connect("swiglu", {gate, up}, {out}, [g, u](const std::vector<at::Tensor>& gradients) {
    auto [dgate, dup] = parallel::swiglu_backward(gradients[0], g, u);
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

at::Tensor FeedForward::forward(const at::Tensor& x, const Pass& pass) const {
  const std::vector<at::Tensor> gate_up = gate_up_.forward(x, pass.axis, pass.lora_mask(layer_, 2));
  return down_.forward(swiglu(gate_up[0], gate_up[1]), pass.axis, pass.lora_mask(layer_, 3));
}

}  // namespace caravan::model
