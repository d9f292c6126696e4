// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/complaints.hpp"
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
    visit("sequence", sequence, core::whole(2, 1 << 24, "tokens"),
          "maximum length of a training sequence; prepare cuts longer records");
    visit("batch", batch, core::whole(1, 1 << 24, "sequences"), "global batch size of one optimizer step");
    visit("micro_batch", micro_batch, core::whole(1, 1 << 20, "sequences"),
          "what each data-parallel rank processes at once; the number of accumulation steps follows from train.batch");
    visit("steps", steps, core::whole(0, 1'000'000'000), "number of optimizer steps; 0: train.epochs decides");
    visit("epochs", epochs, core::whole(0, 1'000'000), "number of passes over the data; 0: train.steps decides");
    visit("lr", lr, core::above(0, 1), "learning rate after the warm-up; it stays constant");
    visit("warmup_steps", warmup_steps, core::whole(0, 1'000'000'000, "steps"),
          "length of the warm-up, in which the learning rate rises linearly from 0 to train.lr; instead of "
          "train.warmup_ratio");
    visit("warmup_ratio", warmup_ratio, core::real(0, 1),
          "length of the warm-up as a fraction of the run's total steps; recomputed if steps are added to the run");
    visit("clip", clip, core::real(0, 1e9), "maximum global norm of the gradient; 0: no clipping");
    visit("beta1", beta1, core::real(0, 0.999999999), "AdamW: decay rate of the first moment");
    visit("beta2", beta2, core::real(0, 0.999999999), "AdamW: decay rate of the second moment");
    visit("eps", eps, core::above(0, 1), "AdamW: added to the square root of the second moment");
    visit("weight_decay", weight_decay, core::real(0, 1),
          "AdamW: decoupled weight decay, multiplied by the learning rate");
    visit("balance_loss", balance_loss, core::real(0, 1e3), "weight of the experts' load-balancing loss; 0: off");
    visit("balance_scope", balance_scope, core::choice(),
          "tokens over which the load balance is measured: batch: those of one micro-step on all ranks; sequence: each "
          "sequence by itself");
    visit("expert_dropout", expert_dropout, core::real(0, 0.999),
          "dropout probability on the inputs of the experts, in training");
    visit("precision", precision, core::choice(),
          "number format of the computation; trained parameters and the optimizer's state are fp32 in both");
    visit(
        "recompute", recompute, core::choice(),
        "which activations the backward pass recomputes instead of keeping them. Results are bit-identical. selective "
        "halves the activation memory of grouped-query models and costs 5 to 10 % step time; full keeps only each "
        "layer's input, about a ninth, and costs 30 to 50 %");
    visit("exchange_mib", exchange_mib, core::whole(1, 1 << 20, "MiB"),
          "maximum size of the token rows that a rank's experts receive at once; the backward pass needs four times as "
          "much "
          "memory. More rows are exchanged in several rounds; these are not kept for the backward pass but sent again");
    visit("capacity", capacity, core::real(0, 1024),
          "in training, each expert accepts at most this multiple of its even share of a sequence's assignments: the "
          "first ones, while the rest are dropped; 0: nothing is dropped");
    visit("seed", seed, core::whole(0, std::int64_t{1} << 53), "random seed of the order of the data and of dropout");
    visit("log_every", log_every, core::whole(1, 1'000'000, "steps"), "interval between lines of progress in the log");
    visit("shuffle", shuffle, core::flag(), "shuffle the sequences anew in every epoch");
    visit(
        "max_skipped", max_skipped, core::whole(0, 1'000'000, "steps"),
        "a step whose loss or gradient is not finite is skipped: it updates nothing. More skipped steps in a row than "
        "this end the run (exit 16)");
    visit("spike", spike, core::real(0, 1e6),
          "report a loss that is larger than this multiple of the mean of the last 20 steps, with the numbers of its "
          "sequences; 0: off");
    visit("bucket_mib", bucket_mib, core::whole(1, 1024, "MiB"),
          "size of the buckets of gradients; each full bucket is summed over the replicas while the backward pass of "
          "earlier layers goes on");
    visit("profile", profile, core::flag(),
          "measure the phases of each step and the bytes and waiting time of each collective operation; written to "
          "metrics.jsonl and, every train.log_every steps, to the log. Short form: --profile");
  }

  /// Of each pair a file or command line gives at most one; it sets the other to 0.
  static constexpr std::array<core::Exclusive, 2> exclusives{
      {{"steps", "epochs", true}, {"warmup_steps", "warmup_ratio", false}}};

  void check(core::Complaints& complaints) const {
    if (batch % micro_batch == 0) return;
    complaints.add("train.batch = ", batch, " is no multiple of train.micro_batch = ", micro_batch);
  }
};

}  // namespace caravan::train
