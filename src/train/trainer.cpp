// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "parallel/collectives.hpp"
#include "parallel/device_tensors.hpp"

namespace caravan::train {

Trainer::Trainer(const parallel::Context& context, const model::Decoder& decoder, parallel::Parameters& parameters,
                 const Options& options, double lora_dropout, const Schedule& schedule)
    : context_(context),
      decoder_(decoder),
      parameters_(parameters),
      options_(options),
      dropout_{static_cast<std::uint64_t>(options.seed), lora_dropout, options.expert_dropout},
      schedule_(schedule),
      optimizer_(parameters, context, options) {}

void Trainer::accumulate(const data::TokenBatch& batch, const BatchTotals& totals, bool last, Sums& sums) {
  const at::AutoGradMode with_gradients(true);
  const parallel::TokenAxis axis(parallel::token_rows(batch), context_);
  const family::ModelSpec& spec = decoder_.spec();
  model::Pass pass{axis, dropout_, nullptr, options_.recompute, options_.capacity};
  const double tokens = static_cast<double>(std::max<std::int64_t>(1, totals.tokens));
  if (spec.pesc) {
    pass.routing =
        std::make_shared<model::RoutingRecord>(context_, axis, spec.layers, spec.pesc->experts, options_.balance_scope);
    pass.routing->gradient_scale =
        options_.balance_loss * static_cast<double>(spec.pesc->experts) / (static_cast<double>(spec.layers) * tokens);
  }
  clock_.begin(Phase::forward);
  const at::Tensor hidden = decoder_.forward(pass);
  clock_.begin(Phase::loss);
  // A batch without a target (possible with the literal template only) has no loss rather than 0/0.
  const double scale = 1.0 / static_cast<double>(std::max<std::int64_t>(1, totals.targets));
  const parallel::TokenLoss loss = decoder_.loss(hidden, axis.targets_of(batch.targets), scale);
  sums.ce.add_(loss.sum);
  if (pass.routing) {
    pass.routing->reduce();
    sums.balance.add_(pass.routing->share_times_probability().mul(pass.routing->gradient_scale));
    const at::Tensor assignments = pass.routing->assignments();
    sums.dropped.add_(pass.routing->dropped());
    sums.assignments = sums.assignments.defined() ? sums.assignments + assignments : assignments;
  }
  clock_.begin(Phase::backward);
  if (last) optimizer_.begin_reduction();
  loss.loss.backward();
}

Trainer::Totals Trainer::totals_of(const Sums& sums) const {
  at::Tensor numbers = at::stack({sums.ce, sums.balance, sums.dropped, optimizer_.squared_gradients()});
  if (sums.assignments.defined()) numbers = at::cat({numbers, sums.assignments.flatten()});
  numbers = parallel::to_host(numbers);
  const auto* number = numbers.const_data_ptr<double>();
  Totals totals{number[0], number[1], static_cast<std::int64_t>(number[2]), {}, number[3]};
  if (sums.assignments.defined()) totals.assignments = numbers.slice(0, 4).view_as(sums.assignments);

  comm::Communicator& dp = *context_.groups.dp;
  totals.ce = dp.all_reduce("sum loss", totals.ce, comm::Reduce::sum);
  if (!batch_scope() && totals.assignments.defined()) {
    totals.balance = dp.all_reduce("sum balance loss", totals.balance, comm::Reduce::sum);
    parallel::all_reduce(dp, "sum expert assignments", totals.assignments, comm::Reduce::sum);
    if (options_.capacity > 0) {
      totals.dropped = dp.all_reduce("sum dropped assignments", totals.dropped, comm::Reduce::sum);
    }
  }
  return totals;
}

void Trainer::describe_experts(const Totals& totals, StepReport& report) const {
  if (!totals.assignments.defined()) return;
  const at::Tensor share = totals.assignments.div(totals.assignments.sum(1, /*keepdim=*/true).clamp_min(1));
  const auto experts = static_cast<double>(share.size(1));
  report.busiest_expert = share.amax(1).mean().item<double>() * experts;
  report.idlest_expert = share.amin(1).mean().item<double>() * experts;
  report.assignments = static_cast<std::int64_t>(totals.assignments.sum().item<double>());
  if (options_.capacity > 0) report.dropped = totals.dropped;
}

plan::Traffic Trainer::traffic(std::span<const data::TokenBatch> micro_batches) const {
  const family::ModelSpec& spec = decoder_.spec();
  plan::StepTraffic traffic(
      context_.grid, spec,
      {static_cast<std::int64_t>(at::elementSize(context_.compute)), options_.recompute == model::Recompute::selective,
       options_.recompute == model::Recompute::full, !batch_scope(), options_.capacity > 0});
  for (const data::TokenBatch& batch : micro_batches) {
    plan::MicroStep step;
    step.tokens = static_cast<std::int64_t>(batch.tokens.size());
    step.targets = std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t >= 0; });
    for (const std::int32_t sequence : batch.sequence) {
      step.sequences = std::max<std::int64_t>(step.sequences, sequence + 1);
    }
    std::vector<plan::ExchangeRows> exchanges;
    if (spec.pesc) {
      exchanges.assign(static_cast<std::size_t>(spec.layers),
                       plan::even_exchange(context_.grid, *spec.pesc, step.tokens));
    }
    traffic.micro_step(step, exchanges);
  }
  std::vector<plan::BucketShares> buckets;
  for (const parallel::Bucket& bucket : parameters_.buckets()) {
    buckets.push_back({bucket.replicas->name(), bucket.replicas->rank(), bucket.counts});
  }
  traffic.update(buckets);
  return traffic.sent();
}

StepReport Trainer::step(std::int64_t step, std::span<const data::TokenBatch> micro_batches, const BatchTotals& totals,
                         std::int64_t skipped) {
  parameters_.zero_gradients();
  const at::Tensor zero = at::zeros({}, at::TensorOptions(at::kDouble).device(context_.device));
  Sums sums{zero, zero.clone(), zero.clone(), {}};
  for (std::size_t m = 0; m < micro_batches.size(); ++m) {
    accumulate(micro_batches[m], totals, m + 1 == micro_batches.size(), sums);
  }

  clock_.begin(Phase::reduction);
  optimizer_.reduce_gradients();
  const Totals sum = totals_of(sums);

  StepReport report;
  report.step = step;
  report.ce_loss = sum.ce / static_cast<double>(std::max<std::int64_t>(1, totals.targets));
  report.balance_loss = sum.balance;
  report.loss = report.ce_loss + report.balance_loss;
  report.lr = schedule_.rate(step);
  report.grad_norm = optimizer_.gradient_norm(sum.squared_gradients);
  report.tokens = totals.tokens;
  report.targets = totals.targets;
  describe_experts(sum, report);
  // Both are sums over all ranks, so all decide alike.
  report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.grad_norm);
  if (report.skipped) {
    report.phases = clock_.take();
    return report;
  }
  // torch's clip_grad_norm_: factor clip / (norm + 1e-6), at most 1.
  const double scale = options_.clip > 0 ? std::min(1.0, options_.clip / (report.grad_norm + 1e-6)) : 1.0;
  clock_.begin(Phase::update);
  optimizer_.update(step - skipped, report.lr, scale);
  report.phases = clock_.take();
  return report;
}

}  // namespace caravan::train
