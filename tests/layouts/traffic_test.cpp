// SPDX-License-Identifier: Apache-2.0
// Every message and byte of a training step, as the communicators booked them, against the formulas of
// docs/parallelism.md: exactly, and with no collective that the page does not know.
#include <ATen/core/grad_mode.h>

#include "tests/layouts/expected_traffic.hpp"
#include "tests/layouts/random_model.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/profile.hpp"
#include "train/trainer.hpp"

namespace caravan::tests {
namespace {

ExpectedTraffic booked(const comm::Groups& groups) {
  ExpectedTraffic all;
  for (const auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) {
      all[(*group)->name() + ": " + operation] = {traffic.messages, traffic.bytes};
    }
  }
  return all;
}

/// What the step's dispatch will be: each layer's routing on this rank's tokens, and that of its EP group.
std::vector<TrafficFormulas::Slots> slots_of_layers(const parallel::Context& context, const model::Decoder& decoder,
                                                    const data::TokenBatch& batch, const model::DropoutRates& dropout) {
  const at::NoGradGuard no_grad;
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis, dropout};
  std::vector<TrafficFormulas::Slots> slots;
  parallel::Activation hidden = decoder.embed(pass);
  for (const model::DecoderLayer& layer : decoder.layers()) {
    const at::Tensor logits = layer.mixture()->logits(layer.feed_forward_input(layer.attend(hidden, pass)));
    const at::Tensor chosen = layer.mixture()->choose(logits, pass).indices.flatten().to(at::kLong);
    const at::Tensor counts =
        at::bincount(chosen.masked_select(chosen.ge(0)), {}, decoder.spec().pesc->experts).unsqueeze(0);
    slots.push_back(parallel::gather_rows(*context.groups.ep, "slots of all ranks", counts));
    hidden = layer.forward(hidden, pass);
  }
  return slots;
}

}  // namespace

TEST_CASE("A step sends what the formulas say", "[traffic]") {
  start_kernels();
  const int world = comm::make_world(60)->size();
  const family::ModelSpec spec = random_model_spec();
  const RandomTensors tensors(spec);
  for (const auto& [tp, ep] : layouts(world, 8)) {
    if (world == 32 && (tp != 4 || ep != 8)) continue;  // slow on ranks without cores
    CAPTURE(tp, ep);
    const OnGrid on(tp, ep);
    const parallel::Context& context = on.context;
    parallel::Parameters parameters(family::parameter_specs(spec), context, /*bucket_elements=*/3000);
    parameters.load_frozen(tensors);
    parameters.load_trainable(tensors);
    const model::Decoder decoder(context, spec, parameters);
    train::Options options;
    options.precision = train::Precision::fp32;
    options.steps = 2;
    train::Trainer trainer(context, decoder, parameters, options, /*lora_dropout=*/0.1,
                           train::make_schedule(options, 0));

    // Two micro-steps; the last rank of several has no token in the second one.
    std::vector<data::TokenBatch> micro;
    for (std::uint64_t m = 0; m < 2; ++m) {
      const bool idle = m == 1 && context.grid.dp() > 1 && context.grid.dp_rank() == context.grid.dp() - 1;
      const auto key = static_cast<std::uint64_t>(context.grid.dp_rank()) + 1000 * m;
      micro.push_back(idle ? data::TokenBatch() : random_batch({9, 17, 4}, key, spec.vocabulary));
    }
    TrafficFormulas formulas(context, spec);
    for (const data::TokenBatch& batch : micro) {
      const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
      const auto targets = std::count_if(batch.targets.begin(), batch.targets.end(), [](auto t) { return t >= 0; });
      const model::DropoutRates dropout{static_cast<std::uint64_t>(options.seed), 0.1, options.expert_dropout};
      formulas.micro_step((tokens + tp - 1) / tp * tp, targets, slots_of_layers(context, decoder, batch, dropout));
    }
    formulas.update(parameters.buckets());

    const ExpectedTraffic before = booked(on.groups);
    train::Profiler profiler(on.groups);
    const train::StepReport report =
        trainer.step(1, micro, {std::int64_t{60} * context.grid.dp(), std::int64_t{40} * context.grid.dp()});
    ExpectedTraffic sent = booked(on.groups);
    for (const auto& [operation, earlier] : before) {
      sent[operation].messages -= earlier.messages;
      sent[operation].bytes -= earlier.bytes;
    }
    for (const auto& [operation, expected] : formulas.sent()) {
      CAPTURE(operation);
      CHECK(sent[operation] == expected);
      sent.erase(operation);
    }
    for (const auto& [operation, unexpected] : sent) {
      CAPTURE(operation);
      CHECK(unexpected == Sent{});
    }

    // --profile gives the same, as means and maxima over the ranks.
    const train::StepProfile profile = profiler.step(1.0, report.phases);
    for (const train::StepProfile::Operation& operation : profile.operations) {
      CAPTURE(operation.group, operation.name);
      const Sent& mine = formulas.sent().at(operation.group + ": " + operation.name);
      comm::Communicator& all = *on.groups.world;
      CHECK(operation.bytes.mean * world ==
            Approx(all.all_reduce("check", static_cast<double>(mine.bytes), comm::Reduce::sum)));
      CHECK(operation.bytes.most == all.all_reduce("check", static_cast<double>(mine.bytes), comm::Reduce::max));
      CHECK(operation.messages.most == all.all_reduce("check", static_cast<double>(mine.messages), comm::Reduce::max));
    }
    std::size_t groups_sending = 0;
    for (const auto& [operation, expected] : formulas.sent()) {
      groups_sending += on.groups.world->all_reduce("check", expected.messages, comm::Reduce::sum) > 0;
    }
    CHECK(profile.operations.size() == groups_sending);
  }
}

}  // namespace caravan::tests
