// SPDX-License-Identifier: Apache-2.0
#include "model/expert_mixture.hpp"

#include "family/parameters.hpp"
#include "parallel/backward.hpp"

namespace caravan::model {
namespace {

std::string prefix_of(std::int64_t layer) { return family::layer_prefix(layer) + "mlp.moe_adapter."; }

/// Key of each expert's dropout masks, int64 [E].
at::Tensor expert_keys(const DropoutRates& dropout, std::int64_t layer, std::int64_t experts, at::Device device) {
  at::Tensor keys = at::empty({experts}, at::kLong);
  for (std::int64_t e = 0; e < experts; ++e) {
    keys.data_ptr<std::int64_t>()[e] =
        static_cast<std::int64_t>(core::random_key(dropout.seed, core::RandomUse::expert_dropout,
                                                   static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(e)));
  }
  return keys.to(device);
}

}  // namespace

/// How rows travel to their experts and back; small beside the rows.
struct ExpertMixture::Travel {
  parallel::Routing routing;
  parallel::Permutation permutation;
  parallel::ExpertDropout mask;
  parallel::ExpertExchange exchange;
  at::Tensor weights;  // fp32 [received]
};

struct ExpertMixture::Saved {
  std::shared_ptr<const Travel> travel;
  at::Tensor logits, row;
  parallel::Recalled<at::Tensor> x, inputs, inner;
  std::shared_ptr<RoutingRecord> record;
};

ExpertMixture::ExpertMixture(const parallel::Context& context, const family::ModelSpec& spec, std::int64_t layer,
                             parallel::Parameters& parameters)
    : context_(context),
      pesc_(spec.pesc.value()),
      layer_(layer),
      router_(parameters.trainable(prefix_of(layer) + "router.weight")),
      down_(parameters.trainable(prefix_of(layer) + "experts.adapter_down.weight")),
      up_(parameters.trainable(prefix_of(layer) + "experts.adapter_up.weight")) {}

template <typename Work>
void ExpertMixture::for_each_expert(const parallel::ExpertExchange& exchange, const Work& work) {
  std::int64_t first = 0;
  for (std::size_t e = 0; e < exchange.expert_rows().size(); ++e) {
    const std::int64_t rows = exchange.expert_rows()[e];
    if (rows > 0) work(static_cast<std::int64_t>(e), first, rows);
    first += rows;
  }
}

at::Tensor ExpertMixture::logits(const at::Tensor& x) const {
  return at::mm(x.detach().to(at::kFloat), router_.value.to(at::kFloat).t());
}

parallel::Routing ExpertMixture::choose(const at::Tensor& logits, const Pass& pass) const {
  return parallel::route(logits, pass.axis.shard_of(pass.axis.sequence), pesc_.topk);
}

ExpertMixture::Travel ExpertMixture::travel_of(const parallel::Routing& routing, const Pass& pass) const {
  const parallel::Permutation permutation = parallel::permute_by_expert(routing, pesc_.experts);
  const parallel::ExpertDropout mask{expert_keys(pass.dropout, layer_, pesc_.experts, context_.device),
                                     pass.axis.shard_of(pass.axis.identity), pass.dropout.expert};
  const parallel::ExpertExchange exchange(context_, permutation.counts);
  const at::Tensor weights = exchange.dispatch("dispatch routing weights",
                                               routing.weights.reshape({-1}).index_select(0, permutation.slot_token));
  return {routing, permutation, mask, exchange, weights};
}

at::Tensor ExpertMixture::inputs(const Travel& travel, const at::Tensor& y) const {
  return travel.exchange.dispatch("dispatch tokens",
                                  parallel::gather_dropout(y, travel.permutation, travel.routing, travel.mask));
}

at::Tensor ExpertMixture::inner(const Travel& travel, const at::Tensor& inputs) const {
  at::Tensor inner = at::empty({travel.exchange.received(), pesc_.adapter_dim}, inputs.options());
  for_each_expert(travel.exchange, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    at::Tensor out = inner.narrow(0, first, rows);
    at::mm_out(out, inputs.narrow(0, first, rows), down_.value[e].t());
  });
  return inner;
}

at::Tensor ExpertMixture::mixed(const Travel& travel, const at::Tensor& y, const at::Tensor& inner) const {
  const at::Tensor activated = parallel::weighted_gelu(inner, travel.weights, pesc_.scaling);
  at::Tensor outputs = at::empty({travel.exchange.received(), y.size(1)}, y.options());
  for_each_expert(travel.exchange, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    at::Tensor out = outputs.narrow(0, first, rows);
    at::mm_out(out, activated.narrow(0, first, rows), up_.value[e].t());
  });
  return parallel::combine(y, travel.exchange.collect("collect expert outputs", outputs), travel.permutation);
}

parallel::Activation ExpertMixture::forward(const parallel::Activation& x, const parallel::Activation& y,
                                            const Pass& pass) const {
  const at::Tensor logit = logits(x);
  const parallel::Routing routing = choose(logit, pass);
  const at::Tensor row = pass.routing ? pass.routing->rows() : pass.axis.shard_of(pass.axis.sequence).contiguous();
  if (pass.routing) {
    pass.routing->set(layer_, parallel::routing_statistics(logit, routing, row, pass.routing->row_count()));
  }
  const auto travel = std::make_shared<const Travel>(travel_of(routing, pass));
  const parallel::Activation z = parallel::compute(
      pass.cheap(), [this, travel](const at::Tensor& of_y) { return inputs(*travel, of_y); }, y);
  const parallel::Activation a = parallel::compute(
      pass.costly(), [this, travel](const at::Tensor& of_z) { return inner(*travel, of_z); }, z);
  parallel::Activation out = parallel::compute(
      pass.layer_output(),
      [this, travel](const at::Tensor& of_y, const at::Tensor& of_a) { return mixed(*travel, of_y, of_a); }, y, a);
  const Saved saved{travel, logit, row, x.recalled, z.recalled, a.recalled, pass.routing};
  parallel::connect(
      "expert mixture", {x.value, y.value}, {out.value},
      [this, saved](const std::vector<at::Tensor>& gradients) { return backward(saved, gradients[0].contiguous()); });
  return out;
}

std::vector<at::Tensor> ExpertMixture::backward(const Saved& saved, const at::Tensor& gradient) const {
  const Travel& travel = *saved.travel;
  const parallel::ExpertExchange& exchange = travel.exchange;
  const at::Tensor doutputs = exchange.dispatch("dispatch expert output gradients",
                                                parallel::gather_slots(gradient, travel.permutation, pesc_.topk));
  const at::Tensor &x = saved.x.get(), &inputs = saved.inputs.get(), &inner = saved.inner.get();
  at::Tensor dactivated = at::empty_like(inner);
  for_each_expert(exchange, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    at::Tensor out = dactivated.narrow(0, first, rows);
    at::mm_out(out, doutputs.narrow(0, first, rows), up_.value[e]);
  });
  const parallel::WeightedGeluGradient activation =
      parallel::weighted_gelu_backward(dactivated, inner, travel.weights, pesc_.scaling);
  at::Tensor dinputs = at::empty_like(inputs);
  for_each_expert(exchange, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    const at::Tensor da = activation.da.narrow(0, first, rows);
    at::Tensor up_gradient = up_.gradient[e];
    at::Tensor down_gradient = down_.gradient[e];
    parallel::add_product(up_gradient, doutputs.narrow(0, first, rows), activation.z.narrow(0, first, rows), 1.0);
    parallel::add_product(down_gradient, da, inputs.narrow(0, first, rows), 1.0);
    at::Tensor out = dinputs.narrow(0, first, rows);
    at::mm_out(out, da, down_.value[e]);
  });
  const at::Tensor dslots = exchange.collect("collect expert input gradients", dinputs);
  const at::Tensor dweight_slots = exchange.collect("collect routing weight gradients", activation.dw);
  const at::Tensor dy =
      parallel::combine_dropout_backward(gradient, dslots, travel.permutation, travel.routing, travel.mask);

  at::Tensor dweights = at::zeros_like(travel.routing.weights);
  dweights.view({-1}).index_copy_(0, travel.permutation.slot_token.to(at::kLong), dweight_slots);
  const bool balanced = saved.record && saved.record->gradient_scale > 0;
  const at::Tensor dlogits = parallel::route_backward(saved.logits, travel.routing, dweights, saved.row,
                                                      balanced ? saved.record->share(layer_) : at::Tensor(),
                                                      balanced ? saved.record->gradient_scale : 0.0);
  at::Tensor router_gradient = router_.gradient;
  parallel::add_product(router_gradient, dlogits, x.to(at::kFloat), 1.0);
  const at::Tensor dx = at::mm(dlogits, router_.value.to(at::kFloat)).to(x.scalar_type());
  return {dx, dy};
}

}  // namespace caravan::model
