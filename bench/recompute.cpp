// SPDX-License-Identifier: Apache-2.0
// recompute HEADS KV_HEADS TOKENS DOCUMENT ROUNDS: time and memory of a training step with train.recompute = none,
// selective and full, on one rank in fp32. Two layers in Yi-34B's ratios with heads of 128; rounds alternate the modes,
// and ratios are medians of those within a round. On a machine that others use too, processor time says more.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "tests/layouts/random_model.hpp"
#include "tests/layouts/step_cost.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/trainer.hpp"

namespace {

using namespace caravan;

constexpr std::array<model::Recompute, 3> modes{model::Recompute::none, model::Recompute::selective,
                                                model::Recompute::full};
constexpr std::array<const char*, 3> names{"none", "selective", "full"};

family::ModelSpec spec_of(std::int64_t heads, std::int64_t kv_heads) {
  family::ModelSpec spec = tests::random_model_spec();
  spec.heads = heads;
  spec.kv_heads = kv_heads;
  spec.head_dim = 128;
  spec.hidden = heads * spec.head_dim;
  spec.ffn = spec.hidden * 20 / 7;
  spec.vocabulary = 1024;  // of a model with 60 layers the head is a small part
  spec.pesc = family::Pesc{8, 2, spec.hidden / 14, 1.0};
  spec.lora->rank = 16;
  return spec;
}

struct Measured {
  double seconds = 0, processor = 0;  // elapsed; of all threads
  double kept = 0, peak = 0;          // bytes
};

/// Forward and backward of a micro-step.
Measured measure(const parallel::Context& context, const model::Decoder& decoder, const data::TokenBatch& batch,
                 model::Recompute recompute) {
  using Clock = std::chrono::steady_clock;
  tests::TensorMemory& memory = tests::TensorMemory::counting();
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis, {7, 0.05, 0.1}, nullptr, recompute};
  const std::int64_t before = memory.live();
  memory.forget_peak();
  const auto start = Clock::now();
  const std::clock_t processor = std::clock();
  const parallel::TokenLoss loss = decoder.loss(decoder.forward(pass), axis.targets_of(batch.targets), 1e-3);
  const std::int64_t kept = memory.live() - before;
  loss.loss.backward();
  return {std::chrono::duration<double>(Clock::now() - start).count(),
          static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC, static_cast<double>(kept),
          static_cast<double>(memory.peak() - before)};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) {
    std::fprintf(stderr, "usage: recompute HEADS KV_HEADS TOKENS DOCUMENT ROUNDS\n");
    return 2;
  }
  const auto number = [&](int i) { return static_cast<std::int64_t>(std::atoll(arguments[i])); };
  tests::start_kernels();
  tests::TensorMemory::counting();
  const tests::Alone alone;
  const family::ModelSpec spec = spec_of(number(1), number(2));
  parallel::Parameters parameters(family::parameter_specs(spec), alone.context);
  const tests::RandomTensors tensors(spec);
  parameters.load_frozen(tensors);
  parameters.load_trainable(tensors);
  const model::Decoder decoder(alone.context, spec, parameters);
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(number(3) / number(4)), number(4));
  const data::TokenBatch batch = tests::random_batch(lengths, 1, spec.vocabulary);

  std::array<std::vector<double>, 3> seconds, ratios, processor;
  std::array<Measured, 3> last;
  for (std::int64_t round = 0; round <= number(5); ++round) {
    for (std::size_t m = 0; m < modes.size(); ++m) last[m] = measure(alone.context, decoder, batch, modes[m]);
    if (round == 0) continue;  // warms up
    for (std::size_t m = 0; m < modes.size(); ++m) {
      seconds[m].push_back(last[m].seconds);
      ratios[m].push_back(last[m].seconds / last[0].seconds);
      processor[m].push_back(last[m].processor / last[0].processor);
    }
  }
  std::printf("hidden %lld, ffn %lld, heads %lld, kv heads %lld, tokens %lld in documents of %lld, %lld rounds\n",
              static_cast<long long>(spec.hidden), static_cast<long long>(spec.ffn), static_cast<long long>(number(1)),
              static_cast<long long>(number(2)), static_cast<long long>(number(3)), static_cast<long long>(number(4)),
              static_cast<long long>(number(5)));
  std::printf("%-10s %10s %10s %10s %10s %10s %10s\n", "recompute", "best s", "elapsed", "processor", "kept MB", "kept",
              "peak");
  for (std::size_t m = 0; m < modes.size(); ++m) {
    std::printf("%-10s %10.3f %10.3f %10.3f %10.1f %10.3f %10.3f\n", names[m],
                *std::min_element(seconds[m].begin(), seconds[m].end()), median(ratios[m]), median(processor[m]),
                last[m].kept / 1e6, last[m].kept / last[0].kept, last[m].peak / last[0].peak);
  }
}
