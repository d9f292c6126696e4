// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/options.hpp"
#include "model/modes.hpp"

namespace caravan::train {

/// Number format of matrices and activations in the computation.
enum class Precision : std::uint8_t { bf16, fp32 };
constexpr std::array<std::string_view, 2> spellings(Precision) { return {"bf16", "fp32"}; }

/// Section [train]. The defaults are the published recipe (Wu et al., EMNLP 2024, and its code).
struct Options {
  std::int64_t sequence = 2048;
  std::int64_t batch = 128;
  std::int64_t micro_batch = 1;
  std::int64_t steps = 0;
  std::int64_t epochs = 1;
  double lr = 2e-4;
  std::int64_t warmup_steps = 0;
  double warmup_ratio = 0.03;
  double clip = 0.3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double balance_loss = 0.01;
  model::BalanceScope balance_scope = model::BalanceScope::batch;
  double expert_dropout = 0.1;
  Precision precision = Precision::bf16;
  model::Recompute recompute = model::Recompute::none;
  core::Mebibytes exchange_mib{1024};
  double capacity = 0;
  std::int64_t seed = 42;
  std::int64_t log_every = 10;
  bool shuffle = true;
  std::int64_t max_skipped = 5;
  double spike = 2;
  core::Mebibytes bucket_mib{32};
  bool profile = false;

  template <typename Visitor>
  void describe(Visitor& visit) {
    visit("sequence", sequence, core::whole(2, 1 << 24, "tokens"), "length of a training sequence");
    visit("batch", batch, core::whole(1, 1 << 24, "sequences"), "global batch: sequences of one optimizer step");
    visit("micro_batch", micro_batch, core::whole(1, 1 << 20, "sequences"),
          "sequences that a data-parallel rank computes at once; accumulation follows from it");
    visit("steps", steps, core::whole(0, 1'000'000'000), "optimizer steps; 0: train.epochs decides");
    visit("epochs", epochs, core::whole(0, 1'000'000), "passes over the data; 0: train.steps decides");
    visit("lr", lr, core::above(0, 1), "learning rate after the warm-up, then constant");
    visit("warmup_steps", warmup_steps, core::whole(0, 1'000'000'000, "steps"),
          "steps in which the rate rises from 0 to lr; instead of train.warmup_ratio");
    visit("warmup_ratio", warmup_ratio, core::real(0, 1),
          "the same as a share of all steps, also of those that are added to a run later");
    visit("clip", clip, core::real(0, 1e9), "largest global norm of the gradient; 0: no clipping");
    visit("beta1", beta1, core::real(0, 0.999999999), "AdamW: decay of the first moment");
    visit("beta2", beta2, core::real(0, 0.999999999), "AdamW: decay of the second moment");
    visit("eps", eps, core::above(0, 1), "AdamW: added to the root of the second moment");
    visit("weight_decay", weight_decay, core::real(0, 1), "AdamW: decoupled decay, times lr");
    visit("balance_loss", balance_loss, core::real(0, 1e3), "weight of the experts' load balance; 0: off");
    visit("balance_scope", balance_scope, core::choice(),
          "over which tokens the balance is measured: a micro-step of all ranks, or each sequence");
    visit("expert_dropout", expert_dropout, core::real(0, 0.999),
          "probability that an input of an expert is zeroed in training");
    visit("precision", precision, core::choice(),
          "number format of the computation; what is trained and its optimizer are fp32 in both");
    visit("recompute", recompute, core::choice(),
          "what backward computes again instead of keeping it, with the same results: selective keeps half of the "
          "activations for 5 to 10 % more time, full a ninth for 30 to 50 %");
    visit(
        "exchange_mib", exchange_mib, core::whole(1, 1 << 20, "MiB"),
        "token rows that a rank's experts receive at a time (backward works on four times as much); where it would be "
        "more, they come in rounds, are not kept for backward, and are sent again then");
    visit("capacity", capacity, core::real(0, 1024),
          "in training an expert takes so many times its even share of the assignments of each sequence, the first "
          "ones, and the rest are dropped; 0: it takes all");
    visit("seed", seed, core::whole(0, std::int64_t{1} << 53), "of the order of the data and of dropout");
    visit("log_every", log_every, core::whole(1, 1'000'000, "steps"), "one line of progress in so many steps");
    visit("shuffle", shuffle, core::flag(), "a new order of the sequences in every epoch");
    visit("max_skipped", max_skipped, core::whole(0, 1'000'000, "steps"),
          "a step whose loss or gradient is not finite updates nothing and is counted; more of them in a row end the "
          "run (exit 16)");
    visit("spike", spike, core::real(0, 1e6),
          "a loss so many times that of the last 20 steps is reported with the numbers of its sequences; 0: off");
    visit("bucket_mib", bucket_mib, core::whole(1, 1024, "MiB"),
          "gradients that are summed over the replicas in one go, while backward computes those of earlier layers");
    visit("profile", profile, core::flag(),
          "measure the phases of a step and what each collective sends and waits, into metrics.jsonl and, every "
          "log_every steps, the log; --profile for short");
  }
};

}  // namespace caravan::train
