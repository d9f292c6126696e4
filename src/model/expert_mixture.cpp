// SPDX-License-Identifier: Apache-2.0
#include "model/expert_mixture.hpp"

#include <algorithm>

#include "family/parameters.hpp"
#include "model/expert_capacity.hpp"
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

/// Some of the slots' way to their experts and back; small beside their rows.
struct ExpertMixture::Round {
  parallel::ExchangeRound exchange;
  at::Tensor slot_token;  // int32 [slots of the round]
  at::Tensor weights;     // fp32 [received]
};

struct ExpertMixture::Travel {
  parallel::Routing routing;
  parallel::Permutation permutation;
  parallel::ExpertDropout mask;
  std::vector<Round> rounds;
};

struct ExpertMixture::Saved {
  std::shared_ptr<const Travel> travel;
  at::Tensor logits, row;
  parallel::Recalled<at::Tensor> x;
  std::vector<parallel::Recalled<at::Tensor>> inputs, inner;  // of each round
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
void ExpertMixture::for_each_expert(const Round& round, const Work& work) {
  const std::vector<std::int64_t>& expert_rows = round.exchange.expert_rows();
  std::int64_t first = 0;
  for (std::size_t e = 0; e < expert_rows.size(); ++e) {
    const std::int64_t rows = expert_rows[e];
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

parallel::Permutation ExpertMixture::permutation_of(const parallel::Routing& routing, const Pass& pass) const {
  if (pass.capacity == 0) return parallel::permute_by_expert(routing, pesc_.experts);
  const at::Tensor taken = within_capacity(context_, pass.axis, routing.indices, pesc_.experts, pass.capacity);
  if (pass.routing) {
    pass.routing->add_dropped(routing.indices.ge(0).sum().sub(taken.ge(0).sum()));
  }
  return parallel::permute_by_expert({taken, routing.weights}, pesc_.experts);
}

ExpertMixture::Travel ExpertMixture::travel_of(const parallel::Routing& routing, const at::Tensor& y,
                                               const Pass& pass) const {
  const parallel::Permutation permutation = permutation_of(routing, pass);
  const parallel::ExpertDropout mask{expert_keys(pass.dropout, layer_, pesc_.experts, context_.device),
                                     pass.axis.shard_of(pass.axis.identity), pass.dropout.expert};
  const std::int64_t row_bytes = y.size(1) * static_cast<std::int64_t>(y.element_size());
  const std::int64_t most_rows = std::max<std::int64_t>(1, context_.exchange_bytes / row_bytes);
  Travel travel{routing, permutation, mask, {}};
  for (parallel::ExchangeRound& exchange : parallel::plan_exchange(context_, permutation.counts, most_rows)) {
    const at::Tensor slot_token = exchange.part_of(permutation.slot_token);
    const at::Tensor weights =
        exchange.dispatch("dispatch routing weights", routing.weights.reshape({-1}).index_select(0, slot_token));
    travel.rounds.push_back({std::move(exchange), slot_token, weights});
  }
  return travel;
}

at::Tensor ExpertMixture::inputs(const Travel& travel, const Round& round, const at::Tensor& y) const {
  return round.exchange.dispatch("dispatch tokens",
                                 parallel::gather_dropout(y, round.slot_token, travel.routing, travel.mask));
}

at::Tensor ExpertMixture::inner(const Round& round, const at::Tensor& inputs) const {
  at::Tensor inner = at::empty({round.exchange.received(), pesc_.adapter_dim}, inputs.options());
  for_each_expert(round, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    at::Tensor out = inner.narrow(0, first, rows);
    at::mm_out(out, inputs.narrow(0, first, rows), down_.value[e].t());
  });
  return inner;
}

at::Tensor ExpertMixture::mixed(const Travel& travel, const at::Tensor& y, const std::vector<at::Tensor>& inner) const {
  at::Tensor slots;
  for (std::size_t r = 0; r < travel.rounds.size(); ++r) {
    const Round& round = travel.rounds[r];
    const at::Tensor activated = parallel::weighted_gelu(inner[r], round.weights, pesc_.scaling);
    at::Tensor outputs = at::empty({round.exchange.received(), y.size(1)}, y.options());
    for_each_expert(round, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
      at::Tensor out = outputs.narrow(0, first, rows);
      at::mm_out(out, activated.narrow(0, first, rows), up_.value[e].t());
    });
    round.exchange.put(slots, round.exchange.collect("collect expert outputs", outputs));
  }
  return parallel::combine(y, slots, travel.permutation);
}

parallel::Activation ExpertMixture::forward(const parallel::Activation& x, const parallel::Activation& y,
                                            const Pass& pass) const {
  const at::Tensor logit = logits(x);
  const parallel::Routing routing = choose(logit, pass);
  const at::Tensor row = pass.routing ? pass.routing->rows() : pass.axis.shard_of(pass.axis.sequence).contiguous();
  if (pass.routing) {
    pass.routing->set(layer_, parallel::routing_statistics(logit, routing, row, pass.routing->row_count()));
  }
  const auto travel = std::make_shared<const Travel>(travel_of(routing, y, pass));
  const auto saved = std::make_shared<Saved>(Saved{travel, logit, row, x.recalled, {}, {}, pass.routing});
  // The inputs of several rounds are too much to keep: backward has them sent again.
  const parallel::Recall of_inputs = travel->rounds.size() > 1 ? parallel::Recall::remade : pass.cheap();
  std::vector<at::Tensor> inner_rows;
  for (const Round& round : travel->rounds) {
    const parallel::Activation z = parallel::compute(
        of_inputs, [this, travel, &round](const at::Tensor& of_y) { return inputs(*travel, round, of_y); }, y);
    const parallel::Activation a = parallel::compute(
        pass.costly(), [this, travel, &round](const at::Tensor& of_z) { return inner(round, of_z); }, z);
    saved->inputs.push_back(z.recalled);
    saved->inner.push_back(a.recalled);
    inner_rows.push_back(a.value);
  }
  const auto again = [this, travel, y = y.recalled, inner = saved->inner] {
    std::vector<at::Tensor> recalled;
    recalled.reserve(inner.size());
    for (const parallel::Recalled<at::Tensor>& rows : inner) recalled.push_back(rows.get());
    return mixed(*travel, y.get(), recalled);
  };
  parallel::Activation out =
      parallel::activation(mixed(*travel, y.value.detach(), inner_rows), pass.layer_output(), again);
  parallel::connect(
      "expert mixture", {x.value, y.value}, {out.value},
      [this, saved](const std::vector<at::Tensor>& gradients) { return backward(*saved, gradients[0].contiguous()); });
  return out;
}

std::pair<at::Tensor, at::Tensor> ExpertMixture::experts_backward(const Round& round, const at::Tensor& doutputs,
                                                                  const at::Tensor& inputs,
                                                                  const at::Tensor& inner) const {
  at::Tensor dactivated = at::empty_like(inner);
  for_each_expert(round, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    at::Tensor out = dactivated.narrow(0, first, rows);
    at::mm_out(out, doutputs.narrow(0, first, rows), up_.value[e]);
  });
  const parallel::WeightedGeluGradient activation =
      parallel::weighted_gelu_backward(dactivated, inner, round.weights, pesc_.scaling);
  at::Tensor dinputs = at::empty_like(inputs);
  for_each_expert(round, [&](std::int64_t e, std::int64_t first, std::int64_t rows) {
    const at::Tensor da = activation.da.narrow(0, first, rows);
    at::Tensor up_gradient = up_.gradient[e];
    at::Tensor down_gradient = down_.gradient[e];
    parallel::add_product(up_gradient, doutputs.narrow(0, first, rows), activation.z.narrow(0, first, rows), 1.0);
    parallel::add_product(down_gradient, da, inputs.narrow(0, first, rows), 1.0);
    at::Tensor out = dinputs.narrow(0, first, rows);
    at::mm_out(out, da, down_.value[e]);
  });
  return {dinputs, activation.dw};
}

std::vector<at::Tensor> ExpertMixture::backward(Saved& saved, const at::Tensor& gradient) const {
  const Travel& travel = *saved.travel;
  at::Tensor dslots, dweight_slots;
  for (std::size_t r = 0; r < travel.rounds.size(); ++r) {
    const Round& round = travel.rounds[r];
    // Freed with the round.
    const parallel::Recalled<at::Tensor> inputs = std::move(saved.inputs[r]), inner = std::move(saved.inner[r]);
    const at::Tensor doutputs = round.exchange.dispatch("dispatch expert output gradients",
                                                        parallel::gather_slots(gradient, round.slot_token, pesc_.topk));
    const auto [dinputs, dweights] = experts_backward(round, doutputs, inputs.get(), inner.get());
    round.exchange.put(dslots, round.exchange.collect("collect expert input gradients", dinputs));
    round.exchange.put(dweight_slots, round.exchange.collect("collect routing weight gradients", dweights));
  }
  const at::Tensor dy =
      parallel::combine_dropout_backward(gradient, dslots, travel.permutation, travel.routing, travel.mask);

  at::Tensor dweights = at::zeros_like(travel.routing.weights);
  dweights.view({-1}).index_copy_(0, travel.permutation.slot_token.to(at::kLong), dweight_slots);
  const bool balanced = saved.record && saved.record->gradient_scale > 0;
  const at::Tensor dlogits = parallel::route_backward(saved.logits, travel.routing, dweights, saved.row,
                                                      balanced ? saved.record->share(layer_) : at::Tensor(),
                                                      balanced ? saved.record->gradient_scale : 0.0);
  const at::Tensor& x = saved.x.get();
  at::Tensor router_gradient = router_.gradient;
  parallel::add_product(router_gradient, dlogits, x.to(at::kFloat), 1.0);
  for (const parallel::Trainable* complete : {&up_, &down_, &router_}) complete->gradient_added();
  const at::Tensor dx = at::mm(dlogits, router_.value.to(at::kFloat)).to(x.scalar_type());
  return {dx, dy};
}

}  // namespace caravan::model
