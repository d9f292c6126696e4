// SPDX-License-Identifier: Apache-2.0
// Training curves of a small random model: at some layout, and of one rank alone to compare with.
#pragma once

#include <ATen/core/grad_mode.h>
#include <unistd.h>

#include <limits>

#include "data/batches.hpp"
#include "tests/layouts/random_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"
#include "train/trainer.hpp"

namespace caravan::tests {

// fp32 sums in another order differ by about 1e-7 relative; AdamW divides by the gradient's own size, so small
// gradients move parameters by more: 2.3e-6 after 12 steps of up to 2e-3, which the gradient norm of the last steps
// shows as 4e-5 relative (measured at 4 and 8 ranks; the losses stay within 5e-6).
struct Tolerances {
  double loss, balance, norm;
  double parameters;  // 0: not compared
};
inline constexpr Tolerances fp32_tolerances{1e-5, 1e-5, 2e-4, 5e-5};
// bf16: the fixtures' README allows the loss 3e-3 relative, and 6e-4 was measured; 1.9e-3 in the balance loss, where
// every token at a near tie counts, and 1.6e-3 in the norm. AdamW makes whole steps of gradients that are all rounding.
inline constexpr Tolerances bf16_tolerances{3e-3, 1e-2, 1e-2, 0};

// Router logits differ between layouts by some 1e-6 after 12 steps: no token near enough to a tie to change its
// experts.
inline constexpr double safe_routing_gap = 2e-5;

inline constexpr std::int64_t steps = 12;
inline constexpr std::int64_t batch = 8;

/// Sequences of different lengths, one document each, the second half of each labelled; written once per process.
class SyntheticData {
 public:
  explicit SyntheticData(std::int64_t vocabulary)
      : path_(std::filesystem::temp_directory_path() / ("caravan-curve-" + std::to_string(getpid()) + ".packed")) {
    data::PackedMetadata metadata;
    metadata.template_name = "idae";
    metadata.packing = "none";
    metadata.sequence = 40;
    metadata.vocabulary = vocabulary;
    metadata.part = "train";
    data::PackedWriter writer(metadata);
    for (std::uint64_t s = 0; s < 21; ++s) {
      data::Document document;
      const std::uint64_t length = 7 + core::philox(1, s)[0] % 30;
      for (std::uint64_t t = 0; t < length; ++t) {
        document.tokens.push_back(
            static_cast<std::int32_t>(core::philox(302 + s, t)[0] % static_cast<std::uint64_t>(vocabulary)));
        document.labelled.push_back(t >= length / 2 ? 1 : 0);
      }
      writer.add(document);
    }
    io::AtomicFile file(path_);
    writer.write(file);
    file.commit();
    packed_.emplace(path_.string());
  }
  ~SyntheticData() { std::filesystem::remove(path_); }
  const data::PackedFile& file() const { return *packed_; }

 private:
  std::filesystem::path path_;
  std::optional<data::PackedFile> packed_;
};

/// What is trained, but for the layout.
struct Training {
  family::ModelSpec spec;
  const layout::TensorSource& tensors;
  const data::PackedFile& file;
  model::BalanceScope balance_scope = model::BalanceScope::batch;
};

struct Curve {
  std::vector<train::StepReport> steps;
  std::map<std::string, std::pair<layout::Rectangle, at::Tensor>> trainables;  // this rank's slices, fp32
  double routing_gap = std::numeric_limits<double>::infinity();  // smallest of all steps; measured on one rank alone
};

/// How much larger the last chosen router logit of a token is than the first that is not, at least. A gap far above the
/// rounding of fp32 means that every layout routes every token alike.
inline double routing_gap(const parallel::Context& context, const model::Decoder& decoder,
                          const data::TokenBatch& tokens, const model::DropoutRates& dropout) {
  const at::NoGradGuard no_grad;
  const parallel::TokenAxis axis(parallel::token_rows(tokens), context);
  const model::Pass pass{axis, dropout};
  const auto k = decoder.spec().pesc->topk;
  double gap = std::numeric_limits<double>::infinity();
  parallel::Activation hidden = decoder.embed(pass);
  for (const model::DecoderLayer& layer : decoder.layers()) {
    const at::Tensor logits = layer.mixture()->logits(layer.feed_forward_input(layer.attend(hidden, pass)));
    const at::Tensor sorted = std::get<0>(logits.sort(/*dim=*/1, /*descending=*/true));
    gap = std::min(gap, (sorted.select(1, k - 1) - sorted.select(1, k)).min().item<double>());
    hidden = layer.forward(hidden, pass);
  }
  return gap;
}

/// Trains on a grid. accumulation: micro-steps per step. Buckets are so small that sums begin in the midst of backward.
inline Curve train_on(const parallel::Context& context, const Training& training, std::int64_t accumulation) {
  const auto& [spec, tensors, file, balance_scope] = training;
  parallel::Parameters parameters(family::parameter_specs(spec), context, /*bucket_elements=*/3000);
  parameters.load_frozen(tensors);
  parameters.load_trainable(tensors);
  const model::Decoder decoder(context, spec, parameters);
  train::Options options;
  options.lr = 2e-3;
  options.steps = steps;
  options.warmup_steps = 3;
  options.balance_scope = balance_scope;
  train::Trainer trainer(context, decoder, parameters, options, /*lora_dropout=*/0.1, train::make_schedule(options, 0));
  trainer.optimizer().load(tensors);
  data::Batches batches(file, {.seed = 5,
                               .shuffle = true,
                               .batch = batch,
                               .micro_batch = batch / context.grid.dp() / accumulation,
                               .dp_size = context.grid.dp()});
  Curve curve;
  data::Position position;
  const bool alone = context.grid.world() == 1 && spec.pesc->topk < spec.pesc->experts;
  for (std::int64_t step = 1; step <= steps; ++step) {
    const data::GlobalBatch global = batches.next(position);
    std::vector<data::TokenBatch> micro;
    for (std::int64_t m = 0; m < batches.accumulation(); ++m) {
      micro.push_back(batches.micro_batch(global, m, context.grid.dp_rank()));
    }
    for (std::size_t m = 0; alone && m < micro.size(); ++m) {
      if (micro[m].tokens.empty()) continue;
      const model::DropoutRates dropout{static_cast<std::uint64_t>(options.seed), 0.1, options.expert_dropout};
      curve.routing_gap = std::min(curve.routing_gap, routing_gap(context, decoder, micro[m], dropout));
    }
    curve.steps.push_back(trainer.step(step, micro, {global.tokens, global.targets}));
  }
  for (const layout::ParameterSpec& parameter : parameters.specs()) {
    if (!parameter.trainable) continue;
    const parallel::Trainable& trained = parameters.trainable(parameter.name);
    curve.trainables[parameter.name] = {trained.slice, trained.value.to(at::kFloat, false, /*copy=*/true)};
  }
  return curve;
}

/// The curve of rank 0 alone, on all ranks; trainables are whole. Collective.
inline Curve train_alone(const Training& training, at::ScalarType compute = at::kFloat) {
  const auto world = comm::make_world(600);
  Curve curve;
  if (world->rank() == 0) {
    comm::Groups groups;
    for (auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
      *group = comm::make_serial_communicator("alone");
    }
    const parallel::Context context{layout::Grid(1, 0, {}), groups, at::kCPU, compute};
    curve = train_on(context, training, 1);
  }
  constexpr std::int64_t numbers = 6;
  std::vector<double> reports;
  for (const train::StepReport& step : curve.steps) {
    for (const double number : {step.loss, step.balance_loss, step.grad_norm, static_cast<double>(step.tokens),
                                static_cast<double>(step.targets), step.idlest_expert}) {
      reports.push_back(number);
    }
  }
  reports.resize(steps * numbers);
  world->broadcast("reports alone", reports.data(), steps * numbers, core::DType::f64, 0).wait();
  world->broadcast("routing gap alone", &curve.routing_gap, 1, core::DType::f64, 0).wait();
  if (world->rank() != 0) {
    for (std::size_t i = 0; i < steps; ++i) {
      const double* at = &reports[i * numbers];
      train::StepReport step;
      step.loss = at[0];
      step.balance_loss = at[1];
      step.grad_norm = at[2];
      step.tokens = static_cast<std::int64_t>(at[3]);
      step.targets = static_cast<std::int64_t>(at[4]);
      step.idlest_expert = at[5];
      curve.steps.push_back(step);
    }
  }
  for (const layout::ParameterSpec& parameter : family::parameter_specs(training.spec)) {
    if (!parameter.trainable) continue;
    auto& [place, values] = curve.trainables[parameter.name];
    if (world->rank() != 0) {
      place = layout::whole(parameter.shape);
      values = at::empty(parameter.shape);
    }
    world->broadcast("trainable alone", values.data_ptr(), values.numel(), core::DType::f32, 0).wait();
  }
  return curve;
}

inline void compare(const Curve& curve, const Curve& alone, const Tolerances& tolerances = fp32_tolerances) {
  for (std::size_t i = 0; i < curve.steps.size(); ++i) {
    CAPTURE(i);
    CHECK(curve.steps[i].loss == Approx(alone.steps[i].loss).epsilon(tolerances.loss));
    CHECK(curve.steps[i].balance_loss == Approx(alone.steps[i].balance_loss).epsilon(tolerances.balance));
    CHECK(curve.steps[i].grad_norm == Approx(alone.steps[i].grad_norm).epsilon(tolerances.norm));
    CHECK(curve.steps[i].tokens == alone.steps[i].tokens);
    CHECK(curve.steps[i].targets == alone.steps[i].targets);
  }
  if (tolerances.parameters == 0) return;
  for (const auto& [name, mine] : curve.trainables) {
    CAPTURE(name);
    const auto& [whole, reference] = alone.trainables.at(name);
    at::Tensor wanted = at::empty_like(mine.second);
    layout::copy_part(mine.first, whole, reference.data_ptr(), mine.first, wanted.data_ptr(), sizeof(float));
    CHECK(max_difference(mine.second, wanted) < tolerances.parameters);
  }
}

}  // namespace caravan::tests
