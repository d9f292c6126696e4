// SPDX-License-Identifier: Apache-2.0
// mpirun -n N scaling HEADS LAYERS TOKENS DOCUMENT ROUNDS: weak scaling of a training step, in fp32 with one thread per
// rank. Four trainings take turns: every rank by itself, then all ranks together as DP, TP and EP, each rank with as
// much work as before (TOKENS tokens of a micro-batch per rank; with TP all ranks share N times as many). The first
// loads the machine as the others do, so that what is left is communication. Ratios are medians of those within a
// round.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "comm/agreement.hpp"
#include "tests/layouts/random_model.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/model_on_grid.hpp"
#include "train/trainer.hpp"

namespace {

using namespace caravan;

family::ModelSpec spec_of(std::int64_t heads, std::int64_t layers) {
  family::ModelSpec spec = tests::random_model_spec();
  spec.layers = layers;
  spec.heads = heads;
  spec.kv_heads = heads / 2;
  spec.head_dim = 128;
  spec.hidden = heads * spec.head_dim;
  spec.ffn = spec.hidden * 11 / 4;
  spec.vocabulary = 1024;  // of a deep model the head is a small part
  spec.pesc = family::Pesc{8, 2, spec.hidden / 8, 1.0};
  spec.lora->rank = 64;
  return spec;
}

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Waits for every collective at once, so that nothing is hidden.
class Blocking final : public comm::Communicator {
 public:
  explicit Blocking(std::unique_ptr<comm::Communicator> inner) : inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  comm::Pending all_reduce(const char* operation, void* data, std::int64_t count, core::DType dtype,
                           comm::Reduce reduce, const device::Place& place) override {
    return now(operation, inner_->all_reduce(operation, data, count, dtype, reduce, place));
  }
  comm::Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts,
                           core::DType dtype, const device::Place& place) override {
    return now(operation, inner_->all_gather(operation, send, receive, counts, dtype, place));
  }
  comm::Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                               core::DType dtype, const device::Place& place) override {
    return now(operation, inner_->reduce_scatter(operation, send, receive, counts, dtype, place));
  }
  comm::Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                           const Counts& receive_counts, core::DType dtype, const device::Place& place) override {
    return now(operation, inner_->all_to_all(operation, send, send_counts, receive, receive_counts, dtype, place));
  }
  comm::Pending broadcast(const char* operation, void* data, std::int64_t count, core::DType dtype, int root,
                          const device::Place& place) override {
    return now(operation, inner_->broadcast(operation, data, count, dtype, root, place));
  }
  void barrier(const char* operation) override { inner_->barrier(operation); }

 private:
  comm::Pending now(const char* operation, comm::Pending pending) {
    const auto start = Clock::now();
    pending.wait();
    account(operation).waited += since(start);
    return {};
  }
  std::unique_ptr<comm::Communicator> inner_;
};

/// One model with its optimizer, and the micro-batch that it trains on again and again.
struct Training {
  Training(const family::ModelSpec& spec, const layout::Grid& grid, comm::Groups given, const data::TokenBatch& tokens)
      : groups(std::move(given)),
        context{grid, groups, at::kCPU, at::kFloat},
        parameters(family::parameter_specs(spec), context),
        batch(tokens) {
    const tests::RandomTensors tensors(spec);
    parameters.load_frozen(tensors);
    parameters.load_trainable(tensors);
    decoder = std::make_unique<model::Decoder>(context, spec, parameters);
    options.precision = train::Precision::fp32;
    options.steps = 1 << 20;
    options.lr = 1e-6;  // routing stays as it is
    trainer =
        std::make_unique<train::Trainer>(context, *decoder, parameters, options, 0.1, train::make_schedule(options, 0));
  }

  /// Seconds of a step on the slowest rank.
  double step(comm::Communicator& world) {
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size()) * context.grid.dp();
    world.barrier("start together");
    const auto start = Clock::now();
    trainer->step(++steps, {&batch, 1}, {tokens, tokens});
    return world.all_reduce("slowest rank", since(start), comm::Reduce::max);
  }

  std::int64_t optimizer_bytes() {
    std::int64_t bytes = 0;
    for (const train::ShardedAdamW::Piece& piece : trainer->optimizer().owned_pieces()) bytes += piece.part.count() * 4;
    return bytes;
  }

  comm::Groups groups;
  parallel::Context context;
  parallel::Parameters parameters;
  data::TokenBatch batch;
  train::Options options;
  std::unique_ptr<model::Decoder> decoder;
  std::unique_ptr<train::Trainer> trainer;
  std::int64_t steps = 0;
};

struct Waited {
  double all = 0;
  double gradients = 0;  // for their sums, and for the updated values
};

Waited waited(const comm::Groups& groups) {
  Waited seconds;
  for (const auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    for (const auto& [operation, traffic] : (*group)->traffic()) {
      seconds.all += traffic.waited;
      if (operation == "reduce gradients" || operation == "gather updated parameters") {
        seconds.gradients += traffic.waited;
      }
    }
  }
  return seconds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

comm::Groups alone() {
  comm::Groups groups;
  for (auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    *group = comm::make_serial_communicator("alone");
  }
  return groups;
}

comm::Groups blocking(comm::Groups groups) {
  for (auto* group : {&groups.world, &groups.tp, &groups.dp, &groups.ep, &groups.edp}) {
    *group = std::make_unique<Blocking>(std::move(*group));
  }
  return groups;
}

void measure(int count, char** arguments) {
  const auto number = [&](int i) { return static_cast<std::int64_t>(std::atoll(arguments[i])); };
  if (count != 6) core::bad_input("usage: mpirun -n N scaling HEADS LAYERS TOKENS DOCUMENT ROUNDS");
  tests::start_kernels();
  const auto world = comm::make_world(600);
  const int ranks = world->size();
  const family::ModelSpec spec = spec_of(number(1), number(2));
  const std::int64_t tokens = number(3), document = number(4), rounds = number(5);
  const auto batch = [&](std::int64_t wanted, int key) {
    const std::vector<std::int64_t> lengths(static_cast<std::size_t>(wanted / document), document);
    return tests::random_batch(lengths, static_cast<std::uint64_t>(key), spec.vocabulary);
  };
  const auto grid = [&](std::int64_t tp, std::int64_t ep) { return layout::Grid(ranks, world->rank(), {tp, ep}); };
  const auto together = [&](std::int64_t tp, std::int64_t ep) { return comm::make_groups(grid(tp, ep), 600); };
  const data::TokenBatch mine = batch(tokens, world->rank()), all = batch(tokens * ranks, 0);

  Training apart(spec, layout::Grid(1, 0, {}), alone(), mine);
  Training dp(spec, grid(1, 1), together(1, 1), mine);
  Training dp_blocking(spec, grid(1, 1), blocking(together(1, 1)), mine);
  Training tp(spec, grid(ranks, 1), together(ranks, 1), all);
  Training ep(spec, grid(1, ranks), together(1, ranks), mine);
  struct Row {
    const char* name;
    Training& training;
    std::vector<double> seconds{}, ratios{}, waits{}, gradient_waits{};
  };
  std::array<Row, 5> rows{{{"apart", apart}, {"DP", dp}, {"DP, nothing hidden", dp_blocking}, {"TP", tp}, {"EP", ep}}};
  for (std::int64_t round = 0; round <= rounds; ++round) {
    for (Row& row : rows) {
      const Waited before = waited(row.training.groups);
      const double seconds = row.training.step(*world);
      const Waited after = waited(row.training.groups);
      const double wait = world->all_reduce("waited", after.all - before.all, comm::Reduce::max);
      const double gradients = world->all_reduce("waited", after.gradients - before.gradients, comm::Reduce::max);
      if (round == 0) continue;  // warms up
      row.seconds.push_back(seconds);
      row.ratios.push_back(rows[0].seconds.back() / seconds);
      row.waits.push_back(wait / seconds);
      row.gradient_waits.push_back(gradients);
    }
  }
  if (world->rank() != 0) return;
  std::printf("%d ranks, hidden %lld, ffn %lld, %lld layers, %lld tokens per rank in documents of %lld, %lld rounds\n",
              ranks, static_cast<long long>(spec.hidden), static_cast<long long>(spec.ffn),
              static_cast<long long>(spec.layers), static_cast<long long>(tokens), static_cast<long long>(document),
              static_cast<long long>(rounds));
  std::printf("%-20s %10s %12s %14s %18s %16s\n", "training", "best s", "efficiency", "share waited", "for gradients s",
              "optimizer MB");
  for (Row& row : rows) {
    std::printf("%-20s %10.3f %12.3f %14.3f %18.4f %16.1f\n", row.name,
                *std::min_element(row.seconds.begin(), row.seconds.end()), median(row.ratios), median(row.waits),
                median(row.gradient_waits), static_cast<double>(row.training.optimizer_bytes()) / 1e6);
  }
  std::printf("hidden share of the gradients' and updated values' communication: %.2f\n",
              1 - median(rows[1].gradient_waits) / median(rows[2].gradient_waits));
}

}  // namespace

int main(int count, char** arguments) {
  const comm::MpiRuntime mpi(&count, &arguments);
  const comm::Failure failure = comm::attempt([&] { measure(count, arguments); });
  if (failure.code == core::ExitCode::done) return 0;
  std::fprintf(stderr, "scaling: %s\n", failure.message.c_str());
  mpi.abort(static_cast<int>(failure.code));
}
