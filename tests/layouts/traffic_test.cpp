// SPDX-License-Identifier: Apache-2.0
// Every message and byte of a training step, as the communicators booked them, against the formulas of
// docs/parallelism.md (plan/traffic.hpp): exactly, and with no collective that the page does not know.
#include "plan/traffic.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>

#include "tests/layouts/random_model.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/profile.hpp"
#include "train/trainer.hpp"

namespace caravan::tests {
namespace {

using plan::Sent;
using plan::Traffic;

Traffic booked(const comm::Groups& groups) {
  Traffic all;
  for (const auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) {
      all[(*group)->name() + ": " + operation] = {traffic.messages, traffic.bytes};
    }
  }
  return all;
}

/// What the step's exchanges will move: each layer's routing on this rank's tokens, and that of its EP group.
std::vector<plan::ExchangeRows> exchanges_of_layers(const parallel::Context& context, const model::Decoder& decoder,
                                                    const data::TokenBatch& batch, const model::DropoutRates& dropout) {
  const at::NoGradGuard no_grad;
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis, dropout};
  std::vector<plan::ExchangeRows> exchanges;
  parallel::Activation hidden = decoder.embed(pass);
  for (const model::DecoderLayer& layer : decoder.layers()) {
    const at::Tensor logits = layer.mixture()->logits(layer.feed_forward_input(layer.attend(hidden, pass)));
    const at::Tensor chosen = layer.mixture()->choose(logits, pass).indices.flatten().to(at::kLong);
    const at::Tensor counts =
        at::bincount(chosen.masked_select(chosen.ge(0)), {}, decoder.spec().pesc->experts).unsqueeze(0);
    const std::int64_t ranks = context.grid.ep(), me = context.grid.ep_rank();
    const at::Tensor pairs =  // [from, to]
        parallel::gather_rows(*context.groups.ep, "slots of all ranks", counts).view({ranks, ranks, -1}).sum(2);
    plan::ExchangeRows rows;
    for (std::int64_t other = 0; other < ranks; ++other) {
      rows.to.push_back(pairs[me][other].item<std::int64_t>());
      rows.from.push_back(pairs[other][me].item<std::int64_t>());
    }
    exchanges.push_back(rows);
    hidden = layer.forward(hidden, pass);
  }
  return exchanges;
}

struct Case {
  std::string name;
  family::ModelSpec spec = random_model_spec();
  train::Options options{};
  bool idle = false;  // the last rank of several has no token at all, else none in the second micro-step
};

Case plain_case() {
  Case plain{"plain"};
  plain.options.precision = train::Precision::fp32;
  plain.options.steps = 2;
  return plain;
}

std::vector<Case> other_cases() {
  std::vector<Case> cases;
  const auto add = [&](const char* name, const auto& change) {
    cases.push_back(plain_case());
    cases.back().name = name;
    change(cases.back());
  };
  add("selective", [](Case& c) { c.options.recompute = model::Recompute::selective; });
  add("selective, grouped heads", [](Case& c) {
    c.options.recompute = model::Recompute::selective;
    c.spec.kv_heads = 4;
  });
  add("full", [](Case& c) { c.options.recompute = model::Recompute::full; });
  add("balance by sequence, capacity", [](Case& c) {
    c.options.balance_scope = model::BalanceScope::sequence;
    c.options.capacity = 0.75;
  });
  add("a rank without tokens", [](Case& c) { c.idle = true; });
  add("some updates", [](Case& c) { c.spec.lora->targets = {"q_proj", "o_proj", "up_proj"}; });
  add("no adapters, updates of rows alone", [](Case& c) {
    c.spec.pesc.reset();
    c.spec.lora->targets = {"down_proj"};
  });
  return cases;
}

/// Two micro-steps.
std::vector<data::TokenBatch> micro_batches_of(const layout::Grid& grid, const Case& test) {
  std::vector<data::TokenBatch> micro;
  for (std::uint64_t m = 0; m < 2; ++m) {
    const bool idle = (m == 1 || test.idle) && grid.dp() > 1 && grid.dp_rank() == grid.dp() - 1;
    const auto key = static_cast<std::uint64_t>(grid.dp_rank()) + 1000 * m;
    micro.push_back(idle ? data::TokenBatch() : random_batch({9, 17, 4}, key, test.spec.vocabulary));
  }
  return micro;
}

/// The formulas for such a step, with the routing that it will have.
Traffic formulas_for(const Case& test, const parallel::Context& context, const model::Decoder& decoder,
                     parallel::Parameters& parameters, const std::vector<data::TokenBatch>& micro) {
  const train::Options& options = test.options;
  const model::DropoutRates dropout{static_cast<std::uint64_t>(options.seed), 0.1, options.expert_dropout};
  plan::StepTraffic formulas(
      context.grid, test.spec,
      {4, options.recompute == model::Recompute::selective, options.recompute == model::Recompute::full,
       options.balance_scope == model::BalanceScope::sequence, options.capacity > 0});
  for (const data::TokenBatch& batch : micro) {
    const auto targets = std::count_if(batch.targets.begin(), batch.targets.end(), [](auto t) { return t >= 0; });
    const auto sequences =
        batch.sequence.empty() ? 0 : *std::max_element(batch.sequence.begin(), batch.sequence.end()) + 1;
    std::vector<plan::ExchangeRows> exchanges;
    if (test.spec.pesc) exchanges = exchanges_of_layers(context, decoder, batch, dropout);
    formulas.micro_step({static_cast<std::int64_t>(batch.tokens.size()), targets, sequences}, exchanges);
  }
  std::vector<plan::BucketShares> buckets;
  for (const parallel::Bucket& bucket : parameters.buckets()) {
    buckets.push_back({bucket.replicas->name(), bucket.replicas->rank(), bucket.counts});
  }
  formulas.update(buckets);
  return formulas.sent();
}

/// What `train --profile` gives, as means and maxima over the ranks, is what this rank and the others sent.
void check_profile(const train::StepProfile& profile, const Traffic& sent, comm::Communicator& world) {
  for (const train::StepProfile::Operation& operation : profile.operations) {
    CAPTURE(operation.group, operation.name);
    const Sent& mine = sent.at(operation.group + ": " + operation.name);
    const auto bytes = static_cast<double>(mine.bytes), messages = static_cast<double>(mine.messages);
    CHECK(operation.bytes.mean * world.size() == Approx(world.all_reduce("check", bytes, comm::Reduce::sum)));
    CHECK(operation.bytes.most == world.all_reduce("check", bytes, comm::Reduce::max));
    CHECK(operation.messages.most == world.all_reduce("check", messages, comm::Reduce::max));
    // The program's own formulas know no routing, and all else exactly.
    REQUIRE(operation.computed);
    CHECK(operation.differing == 0);
    if (plan::depends_on_routing(operation.group + ": " + operation.name)) continue;
    CHECK(operation.computed->mean == operation.bytes.mean);
    CHECK(operation.computed->most == operation.bytes.most);
  }
  std::size_t groups_sending = 0;
  for (const auto& [operation, expected] : sent) {
    groups_sending += world.all_reduce("check", expected.messages, comm::Reduce::sum) > 0;
  }
  CHECK(profile.operations.size() == groups_sending);
}

void check_step(const Case& test, int tp, int ep) {
  CAPTURE(test.name, tp, ep);
  const RandomTensors tensors(test.spec);
  const OnGrid on(tp, ep);
  const parallel::Context& context = on.context;
  parallel::Parameters parameters(family::parameter_specs(test.spec), context, /*bucket_elements=*/3000);
  parameters.load_frozen(tensors);
  parameters.load_trainable(tensors);
  const model::Decoder decoder(context, test.spec, parameters);
  train::Trainer trainer(context, decoder, parameters, test.options, /*lora_dropout=*/0.1,
                         train::make_schedule(test.options, 0));
  const std::vector<data::TokenBatch> micro = micro_batches_of(context.grid, test);
  Traffic expected = formulas_for(test, context, decoder, parameters, micro);

  const Traffic before = booked(on.groups);
  train::Profiler profiler(on.groups);
  const train::StepReport report =
      trainer.step(1, micro, {std::int64_t{60} * context.grid.dp(), std::int64_t{40} * context.grid.dp()});
  Traffic sent = booked(on.groups);
  for (const auto& [operation, earlier] : before) {
    sent[operation].messages -= earlier.messages;
    sent[operation].bytes -= earlier.bytes;
  }
  if (test.options.capacity > 0) {  // which assignments are dropped is not known here
    for (auto& [operation, formula] : expected) {
      if (plan::depends_on_routing(operation)) formula = sent[operation];
    }
  }
  Traffic unexpected = sent;
  for (const auto& [operation, formula] : expected) {
    CAPTURE(operation);
    CHECK(sent[operation] == formula);
    unexpected.erase(operation);
  }
  for (const auto& [operation, what] : unexpected) {
    CAPTURE(operation);
    CHECK(what == Sent{});
  }
  check_profile(profiler.step(1.0, report.phases, trainer.traffic(micro)), expected, *on.groups.world);
}

}  // namespace

TEST_CASE("A step sends what the formulas say", "[traffic]") {
  start_kernels();
  const int world = comm::make_world(60)->size();
  for (const auto& [tp, ep] : layouts(world, 8)) {
    if (world == 32 && (tp != 4 || ep != 8)) continue;  // slow on ranks without cores
    check_step(plain_case(), tp, ep);
    if (world > 4) continue;
    for (const Case& test : other_cases()) check_step(test, tp, ep);
  }
}

TEST_CASE("An operation that does not send what was computed is noticed", "[traffic]") {
  const auto world = comm::make_world(60);
  if (world->size() == 1) return;
  const comm::Groups groups = comm::make_groups(layout::Grid(world->size(), world->rank(), layout::Options{}), 60);
  const auto profile_of = [&](const std::function<void(Traffic&)>& change) {
    train::Profiler profiler(groups);
    groups.world->all_reduce("one number", 1.0, comm::Reduce::sum);
    groups.world->all_reduce("unknown", 1.0, comm::Reduce::sum);
    Traffic computed{{"world: one number", {world->size() - 1, 8 * (world->size() - 1)}}};
    change(computed);
    return profiler.step(1.0, {}, computed);
  };
  const auto check = [&](const train::StepProfile& profile, int differing) {
    REQUIRE(profile.operations.size() == 2);
    CHECK(profile.operations[0].name == "one number");
    CHECK(profile.operations[0].computed);
    CHECK(profile.operations[0].differing == differing);
    CHECK_FALSE(profile.operations[1].computed);
    CHECK(profile.operations[1].differing == 0);
    CHECK(profile.to_json()["collectives"]["world: one number"].contains("computed"));
    CHECK_FALSE(profile.to_json()["collectives"]["world: unknown"].contains("computed"));
  };
  check(profile_of([](Traffic&) {}), 0);
  check(profile_of([&](Traffic& computed) { computed.begin()->second.bytes += world->rank() == 1 ? 8 : 0; }), 1);
  check(profile_of([&](Traffic& computed) { ++computed.begin()->second.messages; }), world->size());
}

}  // namespace caravan::tests
