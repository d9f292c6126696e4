// SPDX-License-Identifier: Apache-2.0
// The reference models computed in bf16, at every layout that the ranks allow.
#include <ATen/core/grad_mode.h>

#include "tests/golden/every_layout.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

// Tolerances of the fixtures' README for bf16, at logits that deviate by 1.2 to 1.8.
constexpr double largest_difference = 0.15;
constexpr double rms_difference = 0.03;
// The same README: about 2 % of a layer's tokens take other experts, at near ties. Their logits move alone.
constexpr double moved_tokens = 0.03;
// Of the weights of equal choices; 0.009 was measured.
constexpr double weight_difference = 0.02;

template <typename Work>
void at_every_layout_in_bf16(const std::filesystem::path& folder, const Work& work) {
  at_every_layout(folder, work, at::kBFloat16);
}

void compare_logits(const std::filesystem::path& folder, const char* file, const char* name) {
  const io::SafetensorsFile expected(folder / file);
  const at::Tensor ids = read_tensor(expected, "input_ids");
  const at::Tensor wanted = read_tensor(expected, name).flatten(0, 1).to(at::kDouble);
  at_every_layout_in_bf16(folder, [&](const ModelOnGrid& model) {
    const at::NoGradGuard no_grad;
    const parallel::TokenAxis axis(parallel::token_rows(batch_of_rows(ids, {}, {}, 0, ids.size(0))), model.context);
    const at::Tensor hidden = model.decoder->forward({axis});
    CHECK(hidden.scalar_type() == at::kBFloat16);
    const at::Tensor difference = model.decoder->logits(hidden, at::arange(0, axis.real, at::kLong)).sub(wanted).abs();
    const at::Tensor largest = difference.amax(1);  // of each token
    CAPTURE(largest.max().item<double>());
    const double allowed = model.spec.pesc ? moved_tokens * static_cast<double>(axis.real) : 0.0;
    CHECK(largest.ge(largest_difference).sum().item<double>() <= allowed);
    CHECK(difference.square().mean().sqrt().item<double>() < rms_difference);
  });
}

struct Choices {
  std::int64_t all = 0, same = 0;
};

/// Every layer's choices against those of the reference in fp32.
void compare_routing(const std::filesystem::path& folder, Choices& choices) {
  const io::SafetensorsFile expected(folder / "expected.safetensors");
  const at::Tensor ids = read_tensor(expected, "input_ids");
  at_every_layout_in_bf16(folder, [&](const ModelOnGrid& model) {
    const at::NoGradGuard no_grad;
    const parallel::TokenAxis axis(parallel::token_rows(batch_of_rows(ids, {}, {}, 0, ids.size(0))), model.context);
    const model::Pass pass{axis};
    const auto all = [&](const at::Tensor& rows) {
      return parallel::gather_rows(*model.groups.tp, "gather for comparison", rows);
    };
    at::Tensor hidden = model.decoder->embed(pass);
    for (std::size_t n = 0; n < model.decoder->layers().size(); ++n) {
      CAPTURE(n);
      const model::DecoderLayer& layer = model.decoder->layers()[n];
      const std::string prefix = "layers." + std::to_string(n) + ".";
      const at::Tensor logits = layer.mixture()->logits(layer.feed_forward_input(layer.attend(hidden, pass)));
      CHECK(logits.scalar_type() == at::kFloat);
      const parallel::Routing routing = layer.mixture()->choose(logits, pass);
      const at::Tensor agree = all(routing.indices).eq(read_tensor(expected, prefix + "topk_indices")).all(1);
      const at::Tensor rows = agree.nonzero().squeeze(1);
      choices.all += agree.size(0);
      choices.same += rows.size(0);
      const at::Tensor wanted = read_tensor(expected, prefix + "topk_weights").index_select(0, rows);
      CHECK(max_difference(all(routing.weights).index_select(0, rows), wanted) < weight_difference);
      hidden = layer.forward(hidden, pass);
    }
  });
}

}  // namespace

TEST_CASE("Dense models in bf16 give the reference's logits", "[golden]") {
  int models = 0;
  for (const std::filesystem::path& folder : folders_in(fixtures())) {
    if (!std::filesystem::exists(folder / "expected_logits.safetensors")) continue;
    compare_logits(folder, "expected_logits.safetensors", "logits");
    ++models;
  }
  CHECK(models >= 4);  // Llama, Qwen2, Qwen2 with tied embeddings, Mistral
}

TEST_CASE("Mixtures in bf16 give the logits of the reference in bf16", "[golden]") {
  compare_logits(fixtures() / "camelidae-tiny", "expected.safetensors", "logits_bf16");
  compare_logits(fixtures() / "qwen2idae-tiny", "expected.safetensors", "logits_bf16");
}

TEST_CASE("Routers in bf16 choose the reference's experts but at near ties", "[golden]") {
  Choices choices;
  for (const auto& folder :
       {fixtures() / "camelidae-tiny", fixtures() / "qwen2idae-tiny", more_fixtures() / "sparsetral-tiny"}) {
    compare_routing(folder, choices);
  }
  CAPTURE(choices.same, choices.all);
  CHECK(static_cast<double>(choices.same) >= (1 - moved_tokens) * static_cast<double>(choices.all));
}

}  // namespace caravan::tests
