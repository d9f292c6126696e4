// SPDX-License-Identifier: Apache-2.0
// Logits and routing of the reference models, at every layout that the ranks allow.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "tests/golden/every_layout.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

// Tolerances of the fixtures' README, fp32: other orders of summation differ by 2.4e-6 at logits of deviation 1.2.
constexpr double logit_tolerance = 5e-5;
constexpr double layer_tolerance = 2e-5;

at::Tensor logits_of(const ModelOnGrid& model, const data::TokenBatch& batch) {
  const at::NoGradGuard no_grad;
  const parallel::TokenAxis axis(parallel::token_rows(batch), model.context);
  const model::Pass pass{axis};
  const at::Tensor rows = at::arange(0, axis.real, at::kLong);
  return model.decoder->logits(model.decoder->forward(pass), rows);
}

/// Two rows of several documents each as one batch; the positions are the file's own.
data::TokenBatch packed_batch(const io::SafetensorsFile& file) {
  const at::Tensor ids = read_tensor(file, "input_ids"), labels = read_tensor(file, "labels");
  const at::Tensor positions = read_tensor(file, "position_ids"), documents = read_tensor(file, "document_ids");
  data::TokenBatch batch;
  for (std::int64_t r = 0; r < ids.size(0); ++r) {
    for (std::int64_t t = 0; t < ids.size(1); ++t) {
      const bool last = t + 1 == ids.size(1);
      const bool ends = last || !documents[r][t + 1].equal(documents[r][t]);
      batch.tokens.push_back(ids[r][t].item<std::int32_t>());
      batch.targets.push_back(last ? -100 : labels[r][t + 1].item<std::int32_t>());
      batch.positions.push_back(positions[r][t].item<std::int32_t>());
      batch.sequence.push_back(static_cast<std::int32_t>(r));
      batch.identity.push_back(core::token_identity(static_cast<std::uint64_t>(r), static_cast<std::uint32_t>(t)));
      if (ends) batch.document_starts.push_back(static_cast<std::int64_t>(batch.tokens.size()));
    }
  }
  return batch;
}

void compare_logits(const std::filesystem::path& folder, const std::filesystem::path& expected_file,
                    const std::string& prefix = "") {
  const io::SafetensorsFile expected(expected_file);
  const at::Tensor ids = read_tensor(expected, prefix + "input_ids");
  const at::Tensor mask = expected.contains("attention_mask") ? read_tensor(expected, "attention_mask") : at::Tensor();
  const at::Tensor wanted = read_tensor(expected, prefix + "logits");
  at_every_layout(folder, [&](const ModelOnGrid& model) {
    const at::Tensor got = logits_of(model, batch_of_rows(ids, mask, {}, 0, ids.size(0)));
    std::int64_t row = 0;
    for (std::int64_t b = 0; b < ids.size(0); ++b) {
      const std::int64_t length = mask.defined() ? mask[b].sum().item<std::int64_t>() : ids.size(1);
      CHECK(max_difference(got.narrow(0, row, length), wanted[b].narrow(0, 0, length)) < logit_tolerance);
      row += length;
    }
  });
}

void compare_routing(const std::filesystem::path& folder) {
  const io::SafetensorsFile expected(folder / "expected.safetensors");
  const at::Tensor ids = read_tensor(expected, "input_ids");
  at_every_layout(folder, [&](const ModelOnGrid& model) {
    const at::NoGradGuard no_grad;
    const data::TokenBatch batch = batch_of_rows(ids, {}, {}, 0, ids.size(0));
    const parallel::TokenAxis axis(parallel::token_rows(batch), model.context);
    const model::Pass pass{axis};
    comm::Communicator& tp = *model.groups.tp;
    at::Tensor hidden = model.decoder->embed(pass);
    for (std::size_t n = 0; n < model.decoder->layers().size(); ++n) {
      const model::DecoderLayer& layer = model.decoder->layers()[n];
      const std::string prefix = "layers." + std::to_string(n) + ".";
      const at::Tensor x = layer.feed_forward_input(layer.attend(hidden, pass));
      const at::Tensor logits = layer.mixture()->logits(x);
      const parallel::Routing routing = layer.mixture()->choose(logits, pass);
      const auto all = [&](const at::Tensor& rows) { return parallel::gather_rows(tp, "gather for comparison", rows); };
      CHECK(max_difference(all(logits), read_tensor(expected, prefix + "router_logits")) < layer_tolerance);
      CHECK(all(routing.indices).equal(read_tensor(expected, prefix + "topk_indices").to(at::kInt)));
      CHECK(max_difference(all(routing.weights), read_tensor(expected, prefix + "topk_weights")) < layer_tolerance);
      if (n == 0) {
        const at::Tensor y = layer.feed_forward().forward(x, pass);
        const at::Tensor out = layer.mixture()->forward(x, y, pass);
        const auto wanted = [&](const char* name) {
          return read_tensor(expected, prefix + "moe_adapter." + name).flatten(0, 1);
        };
        CHECK(max_difference(all(x), wanted("router_in")) < layer_tolerance);
        CHECK(max_difference(all(y), wanted("ffn_out")) < layer_tolerance);
        CHECK(max_difference(all(out), wanted("out")) < layer_tolerance);
      }
      hidden = layer.forward(hidden, pass);
    }
  });
}

}  // namespace

TEST_CASE("Dense models give the reference's logits", "[golden]") {
  int models = 0;
  for (const std::filesystem::path& folder : folders_in(fixtures())) {
    const std::filesystem::path expected = folder / "expected_logits.safetensors";
    if (!std::filesystem::exists(expected)) continue;
    compare_logits(folder, expected);
    ++models;
  }
  CHECK(models >= 4);  // Llama, Qwen2, Qwen2 with tied embeddings, Mistral
}

TEST_CASE("A model in shards is the model in one file", "[golden]") {
  compare_logits(fixtures() / "mistral-tiny-sharded", fixtures() / "mistral-tiny" / "expected_logits.safetensors");
}

TEST_CASE("Every field of the families that changes the numbers is followed", "[golden]") {
  for (const std::filesystem::path& folder : folders_in(more_fixtures() / "families")) {
    compare_logits(folder, folder / "expected_logits.safetensors");
  }
}

TEST_CASE("Dynamic rotary scaling leaves short texts alone", "[golden]") {
  const std::filesystem::path folder = more_fixtures() / "families" / "llama-rope-dynamic";
  compare_logits(folder, folder / "expected_logits.safetensors", "short_");
}

TEST_CASE("Mixtures give the reference's logits", "[golden]") {
  for (const auto& folder :
       {fixtures() / "camelidae-tiny", fixtures() / "qwen2idae-tiny", more_fixtures() / "sparsetral-tiny"}) {
    compare_logits(folder, folder / "expected.safetensors");
  }
}

TEST_CASE("Camelidae gives the reference's logits on a padded batch", "[golden]") {
  compare_logits(fixtures() / "camelidae-tiny", fixtures() / "camelidae-tiny" / "expected_padded.safetensors");
}

TEST_CASE("Camelidae's routers choose the reference's experts", "[golden]") {
  compare_routing(fixtures() / "camelidae-tiny");
}

TEST_CASE("Qwen2idae's routers choose the reference's experts", "[golden]") {
  compare_routing(fixtures() / "qwen2idae-tiny");
}

TEST_CASE("Sparsetral's routers choose the reference's experts", "[golden]") {
  compare_routing(more_fixtures() / "sparsetral-tiny");
}

TEST_CASE("Packed documents do not see each other", "[golden]") {
  // The documents run alone gave the file's logits. Its loss is the mean over the labels (README: 1e-5).
  for (const char* name : {"llama-tiny", "camelidae-tiny"}) {
    const io::SafetensorsFile expected(more_fixtures() / "packed" / (std::string(name) + ".safetensors"));
    const data::TokenBatch batch = packed_batch(expected);
    const at::Tensor wanted = read_tensor(expected, "logits").flatten(0, 1);
    const double wanted_loss = read_tensor(expected, "loss").item<double>();
    const auto labelled = std::count_if(batch.targets.begin(), batch.targets.end(), [](auto id) { return id >= 0; });
    at_every_layout(fixtures() / name, [&](const ModelOnGrid& model) {
      CHECK(max_difference(logits_of(model, batch), wanted) < logit_tolerance);
      const at::NoGradGuard no_grad;
      const parallel::TokenAxis axis(parallel::token_rows(batch), model.context);
      const parallel::TokenTargets targets = axis.targets_of(batch.targets);
      const double loss = model.decoder->loss(model.decoder->forward({axis}), targets, 1.0).sum.item<double>();
      CHECK(std::abs(loss / static_cast<double>(labelled) - wanted_loss) < 1e-5);
    });
  }
}

}  // namespace caravan::tests
