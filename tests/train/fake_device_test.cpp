// SPDX-License-Identifier: Apache-2.0
// Training steps on a device whose memory the host cannot read.
#include "tests/support/fake_device.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "parallel/device_tensors.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/trainer.hpp"

namespace caravan::tests {
namespace {

constexpr std::int64_t steps = 3, micro_steps = 2;

struct Outcome {
  std::vector<train::StepReport> reports;
  std::map<std::string, at::Tensor> values;
  std::vector<fake_device::Reads> reads;  // of each step
};

struct Case {
  at::ScalarType compute = at::kFloat;
  model::Recompute recompute = model::Recompute::none;
  model::BalanceScope balance_scope = model::BalanceScope::batch;
  double capacity = 0;
};

train::Options options(const Case& which) {
  train::Options options;
  options.lr = 1e-2;
  options.expert_dropout = 0.1;
  options.balance_loss = 0.05;
  options.balance_scope = which.balance_scope;
  options.recompute = which.recompute;
  options.capacity = which.capacity;
  options.seed = 3;
  return options;
}

/// Two micro-batches of sequences of several lengths.
std::vector<data::TokenBatch> micro_batches(std::int64_t step) {
  std::vector<data::TokenBatch> batches;
  for (std::int64_t m = 0; m < micro_steps; ++m) {
    batches.push_back(random_batch({9, 5, 12}, static_cast<std::uint64_t>(100 * step + 10 * m), 40));
  }
  return batches;
}

train::BatchTotals totals_of(const std::vector<data::TokenBatch>& batches) {
  train::BatchTotals totals;
  for (const data::TokenBatch& batch : batches) {
    totals.tokens += static_cast<std::int64_t>(batch.tokens.size());
    totals.targets += std::count_if(batch.targets.begin(), batch.targets.end(), [](auto id) { return id >= 0; });
  }
  return totals;
}

Outcome train_on(at::Device device, const Case& which) {
  Alone alone;
  const parallel::Context context{layout::Grid(1, 0, {}), alone.groups, device, which.compute};
  RandomModel model(context, small_spec());
  const train::Options how = options(which);
  train::Trainer trainer(context, *model.decoder, model.parameters, how, 0.1, {how.lr, 0, steps});
  Outcome outcome;
  for (std::int64_t step = 1; step <= steps; ++step) {
    const std::vector<data::TokenBatch> batches = micro_batches(step);
    fake_device::reset();
    outcome.reports.push_back(trainer.step(step, batches, totals_of(batches)));
    outcome.reads.push_back(fake_device::reads());
  }
  for (const layout::ParameterSpec& spec : model.parameters.specs()) {
    if (!spec.trainable) continue;
    outcome.values[spec.name] = fake_device::look(model.parameters.trainable(spec.name).value);
    outcome.values[spec.name + " gradient"] = fake_device::look(model.parameters.trainable(spec.name).gradient);
  }
  return outcome;
}

void compare(const Case& which) {
  CAPTURE(at::toString(which.compute), which.recompute, which.balance_scope, which.capacity);
  const Outcome host = train_on(at::kCPU, which), device = train_on(fake_device::device(), which);
  for (std::size_t s = 0; s < host.reports.size(); ++s) {
    CHECK(device.reports[s].loss == host.reports[s].loss);
    CHECK(device.reports[s].balance_loss == host.reports[s].balance_loss);
    CHECK(device.reports[s].grad_norm == host.reports[s].grad_norm);
    CHECK(device.reports[s].busiest_expert == host.reports[s].busiest_expert);
    CHECK(device.reports[s].dropped == host.reports[s].dropped);
    CHECK_FALSE(device.reports[s].skipped);
    // The step's numbers, and for the experts' products the counts of each layer.
    CHECK(device.reads[s].waits == 1 + micro_steps * small_spec().layers);
    CHECK(device.reads[s].hidden == 0);
  }
  for (const auto& [name, value] : host.values) {
    CAPTURE(name);
    CHECK(device.values.at(name).equal(value));
  }
}

/// How a child process ends that does this: the number of the signal, or 0.
template <typename Work>
int signal_of(const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // not the test program's handler
    work();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("the fake device keeps its memory from the host and counts who asks for it") {
  const at::Tensor host = noise({4, 6}, "x"), there = host.to(fake_device::device());
  CHECK(signal_of([&] { _exit(there.const_data_ptr<float>()[3] > 0 ? 1 : 2); }) == SIGSEGV);
  CHECK(signal_of([&] { _exit(static_cast<float*>(parallel::kernel_address(there))[3] > 0 ? 1 : 2); }) == 0);
  fake_device::reset();
  CHECK(fake_device::look(there).equal(host));
  CHECK(fake_device::reads().hidden == 0);
  CHECK(there.sum().item<float>() == host.sum().item<float>());
  CHECK(there.t().cpu().equal(host.t()));
  CHECK(there.gt(0).nonzero().size(0) == host.gt(0).nonzero().size(0));
  CHECK(fake_device::reads().hidden == 3);
  CHECK(fake_device::reads().waits == 0);
  CHECK(parallel::to_host(there).equal(host));
  CHECK(fake_device::reads().waits == 1);
}

TEST_CASE("a step on a device has the host's bits and reads one number a layer") {
  start_kernels();
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    for (const model::Recompute recompute :
         {model::Recompute::none, model::Recompute::selective, model::Recompute::full}) {
      compare({.compute = compute, .recompute = recompute});
    }
    compare({.compute = compute, .balance_scope = model::BalanceScope::sequence, .capacity = 0.75});
  }
}

}  // namespace caravan::tests
