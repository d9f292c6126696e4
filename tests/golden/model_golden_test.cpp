// SPDX-License-Identifier: Apache-2.0
// Logits and routing of the reference models, at every layout that the ranks allow.
#include <ATen/core/grad_mode.h>

#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"
#include "tests/support/model_on_grid.hpp"
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

template <typename Work>
void at_every_layout(const std::filesystem::path& folder, const Work& work) {
  const family::ModelSpec spec = family::read_model_spec(folder.string());
  const family::HuggingFaceSource source(folder.string(), spec);
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 2)) {
    if (!fits(spec, tp, ep)) continue;
    CAPTURE(folder.filename().string(), tp, ep);
    const ModelOnGrid model(spec, source, &source, tp, ep);
    work(model);
  }
}

void compare_logits(const std::filesystem::path& folder, const std::string& expected_file) {
  const io::SafetensorsFile expected(folder / expected_file);
  const at::Tensor ids = read_tensor(expected, "input_ids");
  const at::Tensor mask = expected.contains("attention_mask") ? read_tensor(expected, "attention_mask") : at::Tensor();
  const at::Tensor wanted = read_tensor(expected, "logits");
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

}  // namespace

TEST_CASE("A dense Llama gives the reference's logits", "[golden]") {
  compare_logits(fixtures() / "llama-tiny", "expected_logits.safetensors");
}

TEST_CASE("Camelidae gives the reference's logits", "[golden]") {
  compare_logits(fixtures() / "camelidae-tiny", "expected.safetensors");
}

TEST_CASE("Camelidae gives the reference's logits on a padded batch", "[golden]") {
  compare_logits(fixtures() / "camelidae-tiny", "expected_padded.safetensors");
}

TEST_CASE("Camelidae's routers choose the reference's experts", "[golden]") {
  const std::filesystem::path folder = fixtures() / "camelidae-tiny";
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

}  // namespace caravan::tests
